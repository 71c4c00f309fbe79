//! What is written down is what the program does: the reference, and the environment's one reader.

use std::path::{Path, PathBuf};

use crate::env::TestEnv;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// `RB_UPDATE=1` in front of the tests writes the file anew.
#[test]
fn the_reference_is_made_of_the_tables() {
    let made = TestEnv::new().rb(["help", "--markdown"]).expect(0).stdout;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("REFERENCE.md");
    if std::env::vars_os().any(|(name, _)| name == "RB_UPDATE") {
        std::fs::write(&file, &made).expect("writes");
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    let first = written.lines().zip(made.lines()).find(|(written, made)| written != made);
    assert!(
        written == made,
        "runtime/cli/REFERENCE.md is not what `rb help --markdown` prints, first at {first:?}; RB_UPDATE=1 writes it anew"
    );
}

#[test]
fn one_file_reads_the_environment() {
    fn files(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("lists") {
            let path = entry.expect("lists").path();
            if path.is_dir() {
                files(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    for half in ["compiler", "runtime"] {
        for entry in std::fs::read_dir(top().join(half)).expect("lists") {
            let package = entry.expect("lists").path();
            let sources = package.join("src");
            // A program of its own, whose environment is that of the process that it starts.
            if sources.is_dir() && !package.ends_with("launcher") {
                files(&sources, &mut found);
            }
        }
    }
    assert!(found.len() > 100, "only {} files were found", found.len());
    let reads = |path: &&PathBuf| {
        let text = std::fs::read_to_string(path).expect("reads");
        ["env::var", "env::home_dir", "env::temp_dir", "getenv("].iter().any(|call| text.contains(call))
    };
    let readers: Vec<_> =
        found.iter().filter(reads).map(|path| path.file_name().expect("has a name")).collect();
    assert_eq!(readers, ["environment.rs"]);
}
