//! Dockerfiles as people write them, built by `rb` and by BuildKit: what comes of them is equal.
//!
//! Each file below `tests/corpus/cases` is a case ([`case`]). `BUILDKIT` names a folder with buildkitd and buildctl, as
//! `tests/peers` makes them; then each case is built by both. Without, `tests/corpus/recorded` says what BuildKit made: digests of files and
//! configs. `RB_UPDATE=1` beside `BUILDKIT` writes it anew. `CORPUS=web/` builds those whose names hold that.
//! What differs by choice names its row of the table at the top of `compiler/dockerfile`; then the record is of what `rb` makes.

mod bases;
mod case;
mod elsewhere;
mod outcome;
pub(crate) mod peer;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::env::{TestEnv, is_root};
use bases::Bases;
use case::Case;
use outcome::Outcome;
use peer::Peer;

/// How many are built at once.
const AT_ONCE: usize = 3;

/// What the folders of a run are, and who builds.
struct Run {
    env: TestEnv,
    peer: Option<Peer>,
    recorded: BTreeMap<String, String>,
    settings: PathBuf,
}

fn variable(wanted: &str) -> Option<String> {
    std::env::vars_os()
        .find(|(name, _)| name == wanted)
        .map(|(_, value)| value.to_string_lossy().into_owned())
}

#[test]
fn what_buildkit_makes_is_what_rb_makes() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus");
    if !is_root() || rb_oci::Platform::host().architecture != "amd64" {
        eprintln!("stepping aside: owners of all kinds need root, and what is recorded is of amd64");
        return;
    }
    let Some(bases) = Bases::start(&corpus) else { return };
    let chosen = variable("CORPUS");
    let cases = case::read_all(&corpus.join("cases"), chosen.as_deref().unwrap_or_default());
    let env = TestEnv::new();
    let settings = env.project().join("config.toml");
    fs::write(&settings, bases.settings()).expect("writes");
    let peer = Peer::start(&env.project().join("buildkit"), &bases.settings_of_buildkit());
    let text = fs::read_to_string(corpus.join("recorded")).unwrap_or_default();
    let split = |line: &str| line.split_once(' ').map(|(name, rest)| (name.to_owned(), rest.to_owned()));
    let run = Run { env, peer, recorded: text.lines().filter_map(split).collect(), settings };

    let (next, lines, wrong) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match run.check(case) {
                        Ok(line) => drop(lines.lock().expect("not poisoned").insert(case.name.clone(), line)),
                        Err(told) => {
                            wrong.lock().expect("not poisoned").push(format!("{}: {told}", case.name));
                        }
                    }
                }
            });
        }
    });
    let (lines, mut wrong) =
        (lines.into_inner().expect("not poisoned"), wrong.into_inner().expect("not poisoned"));
    if run.peer.is_some() && variable("RB_UPDATE").is_some() {
        let kept = run.recorded.into_iter().filter(|(name, _)| !cases.iter().any(|case| case.name == *name));
        let kept = kept.filter(|_| chosen.is_some());
        let all: BTreeMap<String, String> = kept.chain(lines).collect();
        let text: String = all.into_iter().map(|(name, line)| format!("{name} {line}\n")).collect();
        fs::write(corpus.join("recorded"), text).expect("writes");
    } else if chosen.is_none() {
        let gone = run.recorded.keys().filter(|name| !cases.iter().any(|case| case.name == **name));
        wrong.extend(gone.map(|name| format!("{name}: recorded, and no case")));
    }
    wrong.sort();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn differences_stand_in_the_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let table = fs::read_to_string(root.join("compiler/dockerfile/src/lib.rs")).expect("reads the table");
    for case in case::read_all(&root.join("tests/corpus/cases"), "") {
        for row in &case.differs {
            assert!(table.contains(&format!("//! | {row} |")), "{}: there is no row `{row}`", case.name);
        }
    }
}

impl Run {
    /// Builds a case and compares; returns its line of the record.
    fn check(&self, case: &Case) -> Result<String, String> {
        let folder = self.env.project().join("cases").join(case.name.replace('/', "-"));
        fs::create_dir_all(folder.parent().expect("lies in a folder")).expect("makes a folder");
        case.write(&folder);
        let result = self.compare(case, &folder);
        fs::remove_dir_all(&folder).expect("removes");
        result
    }

    fn compare(&self, case: &Case, folder: &Path) -> Result<String, String> {
        let ours = built(case, folder, "rb", |words, outputs| self.build(words, folder, outputs));
        let theirs = self
            .peer
            .as_ref()
            .map(|peer| built(case, folder, "BuildKit", |words, outputs| peer.build(words, folder, outputs)));
        let (ours, theirs) = match (ours, theirs) {
            (Ok(ours), None) => (ours, None),
            (Ok(ours), Some(Ok(theirs))) => (ours, Some(theirs)),
            (Err(told), Some(Ok(_))) => return Err(format!("BuildKit builds it\n{told}")),
            (Err(told), Some(Err(other))) => return Err(format!("{told}\n{other}")),
            (Err(told), None) | (Ok(_), Some(Err(told))) => return Err(told),
        };
        let line = ours.line();
        if let Some(theirs) = theirs {
            match (ours.difference(&theirs), case.differs.is_empty()) {
                (Some(told), true) => return Err(format!("\n{told}")),
                (None, false) => return Err("it is equal, and says that it differs".to_owned()),
                (Some(_), false) | (None, true) => {}
            }
            if variable("RB_UPDATE").is_some() {
                return Ok(line);
            }
        }
        match self.recorded.get(&case.name) {
            Some(recorded) if *recorded == line => Ok(line),
            Some(recorded) => Err(format!("{line} instead of {recorded}:\n{}", ours.shown())),
            None => Err("nothing is recorded of it".to_owned()),
        }
    }

    fn build(&self, words: &[String], folder: &Path, outputs: &[String]) -> Result<(), String> {
        self.build_on(None, words, folder, outputs)
    }

    /// Builds what was typed, here or on an engine elsewhere.
    fn build_on(
        &self,
        engine: Option<&str>,
        words: &[String],
        folder: &Path,
        outputs: &[String],
    ) -> Result<(), String> {
        let mut command = self.env.command(["-q", "build"]);
        command.args(engine.map(|address| format!("--engine={address}")));
        command.args(outputs.iter().map(|output| format!("--output={output}"))).args(words);
        let run = crate::env::ended(command.current_dir(folder).env("RB_CONFIG", &self.settings));
        if run.code == 0 { Ok(()) } else { Err(run.stderr) }
    }
}

/// Builds a case by one of the two, and reads what came of it.
///
/// A tar has the files of one platform: of several each is built again, alone.
fn built(
    case: &Case,
    folder: &Path,
    who: &str,
    build: impl Fn(&[String], &[String]) -> Result<(), String>,
) -> Result<Outcome, String> {
    let stem = folder.file_name().expect("has a name").to_string_lossy();
    let beside = |ending: &str| folder.with_file_name(format!("{stem}.{who}.{ending}"));
    let build = |words: &[String], outputs: &[String]| {
        build(words, outputs).map_err(|said| format!("{who} does not build it:\n{said}"))
    };
    let tar = |number: usize| beside(&format!("{number}.tar"));
    let written = |number: usize| format!("type=tar,dest={}", tar(number).display());
    let image = beside("oci");
    let mut outputs = vec![format!("type=oci,dest={}", image.display())];
    let platforms = case.platforms();
    if platforms.is_empty() {
        outputs.push(written(0));
    }
    build(&case.words, &outputs)?;
    for (number, words) in platforms.iter().enumerate() {
        build(words, &[written(number)])?;
    }
    let trees: Vec<PathBuf> = (0..platforms.len().max(1)).map(tar).collect();
    let with_times = case.words.iter().any(|word| word.starts_with("SOURCE_DATE_EPOCH="));
    let outcome = Outcome::read(&trees, &image, with_times);
    trees.iter().chain([&image]).try_for_each(fs::remove_file).expect("removes");
    Ok(outcome)
}
