//! Faults: kills, full disks, torn databases, flipped bits, clocks that jump. The next build is right each time.
//!
//! Each test has a short form, which always runs, and a long one (`tests/soak faults`): `RB_FAULT_ROUNDS` says how many
//! rounds, `RB_FAULT_SEED` which ones. Every test prints its seed.
//!
//! All of them build the project of [`Project`], whose outputs the test can tell without building anything: parallel
//! branches, a cache that is used as `make` uses it, files, directories, an image and an OCI layout.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rb_oci::Digest;

use crate::env::{Run, TestEnv};

mod clock;
mod database;
mod disk;
mod flips;
mod kills;

/// Files of the project at the beginning.
const FILES: u64 = 60;

/// The recipe: about a dozen steps, and a cache whose objects are compared with their sources by time.
const BUILDFILE: &str = r#"VERSION 1

joined:
    FROM @host
    WORKDIR /w
    COPY src src
    RUN cat src/* > all

upper:
    FROM +joined
    RUN tr a-z A-Z < all > upper
    SAVE ARTIFACT upper AS LOCAL out/upper

count:
    FROM +joined
    RUN wc -c < all > count
    SAVE ARTIFACT count AS LOCAL out/count

objects:
    FROM @host
    WORKDIR /w
    COPY src src
    RUN --mount=type=cache,target=/cache cd src; for f in *; do \
            if [ ! -e /cache/$f ] || [ ! $f -ot /cache/$f ]; then sed s/^/o:/ $f > /cache/.new; mv /cache/.new /cache/$f; fi; \
        done; mkdir /o; for f in *; do cp /cache/$f /o/$f; done
    SAVE ARTIFACT /o objects

some:
    FROM @host
    COPY +objects/objects /o
    RUN mkdir /some; for f in /o/*1; do cat $f > /some/${f##*/}; done
    SAVE ARTIFACT /o AS LOCAL out/objects
    SAVE ARTIFACT /some AS LOCAL out/some

image:
    FROM scratch
    BUILD +some
    BUILD +upper
    BUILD +count
    COPY +upper/upper +count/count /
    COPY +objects/objects /objects
    ENTRYPOINT ["/upper"]
    SAVE IMAGE app:latest
"#;

/// Where the image is written beside the store.
const LAYOUT: [&str; 3] = ["-o", "type=oci,tar=false,dest=layout", "+image"];

/// What is written, each as a whole.
const OUTPUTS: [&str; 5] = ["out/upper", "out/count", "out/objects", "out/some", "layout"];

/// xorshift64*, so that a seed tells the whole story.
struct Dice(u64);

impl Dice {
    /// The dice of one test; says how to throw them again.
    fn of(test: &str) -> Self {
        let seed = number("RB_FAULT_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 16 | 1);
        eprintln!("{test}: RB_FAULT_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % bound.max(1)
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.below(of.len() as u64)).expect("fits")]
    }
}

#[expect(clippy::disallowed_methods, reason = "whoever runs the tests says how long")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// How many rounds: few, unless more are asked for.
fn rounds(few: u64) -> u64 {
    number("RB_FAULT_ROUNDS").unwrap_or(few)
}

/// A project that is edited and built, and what its outputs must be.
struct Project {
    env: TestEnv,
    sources: BTreeMap<String, String>,
    edits: u64,
}

impl Project {
    fn new() -> Self {
        let mut project = Self { env: TestEnv::new(), sources: BTreeMap::new(), edits: 0 };
        project.env.write("Buildfile", BUILDFILE);
        (0..FILES).for_each(|number| project.put(number, 0));
        project
    }

    /// Writes one source, always of the same length: a size tells nothing.
    fn put(&mut self, number: u64, edit: u64) {
        let (name, text) = (format!("f{number:03}"), format!("source {number:03} edit {edit:06}\n"));
        self.env.write(&format!("src/{name}"), &text);
        self.sources.insert(name, text);
    }

    /// Changes some files, takes one back to what it was, adds or removes one.
    fn edit(&mut self, dice: &mut Dice) {
        // A layout keeps the blobs of the image that it had.
        let layout = self.env.project().join("layout");
        if layout.exists() {
            fs::remove_dir_all(layout).expect("removes");
        }
        for _ in 0..=dice.below(3) {
            self.edits += 1;
            self.put(dice.below(FILES), self.edits);
        }
        self.put(dice.below(FILES), dice.below(self.edits));
        let extra = FILES + dice.below(10);
        let name = format!("f{extra:03}");
        match self.sources.remove(&name) {
            Some(_) => fs::remove_file(self.env.project().join("src").join(name)).expect("removes"),
            None => self.put(extra, self.edits),
        }
    }

    /// Builds everything, which has to work.
    #[track_caller]
    fn build(&self) -> Run {
        let run = self.env.rb(LAYOUT).expect(0);
        self.check();
        run
    }

    /// Panics unless the files that were written are those that the sources say.
    #[track_caller]
    fn check(&self) {
        let all: String = self.sources.values().map(String::as_str).collect();
        assert_eq!(self.env.read("out/upper"), all.to_uppercase(), "out/upper");
        assert_eq!(self.env.read("out/count").trim(), all.len().to_string(), "out/count");
        let object = |(name, text): (&String, &String)| (name.clone(), format!("o:{text}"));
        let objects: BTreeMap<String, String> = self.sources.iter().map(object).collect();
        assert_eq!(self.folder("out/objects"), objects, "out/objects");
        let some = objects.into_iter().filter(|(name, _)| name.ends_with('1')).collect();
        assert_eq!(self.folder("out/some"), some, "out/some");
    }

    /// Takes away what was written, so that the next build has to write it again.
    fn remove_outputs(&self) {
        for folder in ["out", "layout"] {
            fs::remove_dir_all(self.env.project().join(folder)).ok();
        }
    }

    fn folder(&self, path: &str) -> BTreeMap<String, String> {
        let names = names(&self.env.project().join(path)).into_iter();
        names.map(|name| (name.clone(), self.env.read(&format!("{path}/{name}")))).collect()
    }

    /// Panics unless a build in a fresh state directory writes the same, byte for byte.
    #[track_caller]
    fn check_against_fresh_state(&self) {
        let built = self.outputs();
        let fresh = tempfile::tempdir().expect("a temporary folder");
        fs::set_permissions(fresh.path(), fs::Permissions::from_mode(0o700)).expect("modes");
        let root = fresh.path().join("state");
        self.env.rb_with(&[("RB_ROOT", &root.to_string_lossy())], LAYOUT).expect(0);
        assert_eq!(built, self.outputs(), "a fresh state directory gives something else");
    }

    /// Returns a digest of each output, with all in it.
    fn outputs(&self) -> BTreeMap<&'static str, Digest> {
        let digest = |output| (output, digest_of(&self.env.project().join(output)));
        OUTPUTS.into_iter().map(digest).collect()
    }
}

/// Digests a file, a folder with all in it, or that there is nothing.
fn digest_of(path: &Path) -> Digest {
    let mut told = Vec::new();
    tell(path, "", &mut told);
    Digest::of(told)
}

fn tell(path: &Path, name: &str, told: &mut Vec<u8>) {
    let mode = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.permissions().mode(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return told.extend_from_slice(b"nothing");
        }
        Err(error) => panic!("{}: {error}", path.display()),
    };
    told.extend_from_slice(format!("{name} {mode:o} ").as_bytes());
    if path.is_dir() {
        names(path).iter().for_each(|name| tell(&path.join(name), name, told));
        told.extend_from_slice(b"end");
    } else {
        told.extend_from_slice(Digest::of(fs::read(path).expect("reads")).hex().as_bytes());
    }
}

/// Lists a folder in order; nothing where there is none.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("lists").file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

/// Returns all files below a folder, in order.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for name in names(folder) {
        let path = folder.join(name);
        if path.is_symlink() {
            continue;
        } else if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.is_file() {
            files.push(path);
        }
    }
    files
}

/// Panics if anything of dead processes is left: processes, mounts, half-made things in the state directory.
#[track_caller]
fn check_nothing_left(state: &Path) {
    wait_for_end(state);
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("reads mounts");
    assert!(!mounts.contains(&*state.to_string_lossy()), "{mounts}");
    for folder in ["locks", "claims"] {
        assert_eq!(names(&state.join(folder)), [""; 0], "left in {folder}");
    }
    for snapshot in names(&state.join("snapshots")) {
        let parts = names(&state.join("snapshots").join(&snapshot));
        assert!(parts.contains(&"fs".to_owned()), "snapshot {snapshot} has {parts:?}");
        assert!(!parts.contains(&"work".to_owned()), "snapshot {snapshot} is half made: {parts:?}");
    }
    let store = rb_store::Store::open(state).expect("opens");
    assert_eq!(store.warnings(), [""; 0]);
    // Large trees are removed in the background, and what a short run does not reach by the next one.
    store.wait_for_cleaning();
    assert_eq!(names(&state.join("tmp")), [""; 0], "left in tmp");
    let mut known: Vec<String> =
        store.snapshots().expect("reads").iter().map(|row| row.id.to_string()).collect();
    known.sort_unstable();
    assert_eq!(names(&state.join("snapshots")), known, "rows and directories differ");
    for row in store.snapshots().expect("reads") {
        assert_eq!(row.state, rb_store::SnapshotState::Committed, "{row:?}");
    }
}

/// Waits until no process has anything of a state directory; panics if one stays.
#[track_caller]
fn wait_for_end(state: &Path) {
    let started = Instant::now();
    // The kernel takes its time to end what a killed process had, and a build may have its files synced after its end.
    while let left = processes_of(state)
        && !left.is_empty()
    {
        assert!(started.elapsed() < Duration::from_secs(90), "these processes are left: {left:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Lists the processes that were started for a state directory, or that see one of its trees.
fn processes_of(state: &Path) -> Vec<String> {
    let state = state.to_string_lossy();
    let has = |path: PathBuf| {
        fs::read(path).is_ok_and(|text| text.windows(state.len()).any(|window| window == state.as_bytes()))
    };
    let all = fs::read_dir("/proc").expect("lists /proc").filter_map(Result::ok).map(|entry| entry.path());
    let left = all.filter(|process| {
        let number = process
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.parse::<u32>().is_ok());
        // One that syncs has the state directory as an argument and no environment.
        number && ["environ", "cmdline", "mountinfo"].iter().any(|what| has(process.join(what)))
    });
    left.map(|process| format!("{}: {:?}", process.display(), fs::read_to_string(process.join("comm"))))
        .collect()
}
