//! LLB against definitions that BuildKit's client library marshalled.

mod built;
mod hostile;
mod read;

use std::path::PathBuf;
use std::sync::LazyLock;

use rb_llb::Definition;

/// All golden definitions, by name.
static GOLDEN: LazyLock<Vec<Golden>> = LazyLock::new(read_golden);

/// One golden definition.
#[derive(Clone)]
struct Golden {
    name: String,
    bytes: Vec<u8>,
    json: serde_json::Value,
}

impl Golden {
    fn definition(&self) -> Definition {
        Definition::from_bytes(&self.bytes).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

fn golden() -> &'static [Golden] {
    &GOLDEN
}

/// Returns the golden definition called `name`.
fn named(name: &str) -> &'static Golden {
    golden().iter().find(|golden| golden.name == name).unwrap_or_else(|| panic!("no {name} in golden/llb"))
}

fn read_golden() -> Vec<Golden> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/llb");
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pb"))
        .collect();
    names.sort();
    assert_eq!(names.len(), 37);
    let read = |path: PathBuf| Golden {
        name: path.file_stem().unwrap().to_string_lossy().into_owned(),
        bytes: std::fs::read(&path).unwrap(),
        json: serde_json::from_slice(&std::fs::read(path.with_extension("json")).unwrap()).unwrap(),
    };
    names.into_iter().map(read).collect()
}
