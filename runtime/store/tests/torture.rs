//! Writers that do whatever the store allows, in any order, and are killed at any instant, one or two at a time.
//!
//! Fifty kills; `tests/soak torture` makes many, `RB_TORTURE_SEED` for the same again. What a writer said it had
//! done must be there after it died, unless one of them said it would remove it.

#![allow(clippy::print_stdout, reason = "a writer says what it did, and the test its seed")]

#[path = "../../../tests/cli/power/dice.rs"]
mod dice;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dice::Dice;
use rb_oci::Digest;
use rb_store::{SnapshotId, SnapshotState, Store, StoreError, Truth};

fn content_path(store: &Store, id: SnapshotId) -> std::path::PathBuf {
    store.snapshot_dir(id).join("fs/a/file")
}

fn alias(key: &Digest) -> Digest {
    Digest::of(format!("alias {key}"))
}

/// What writers may do to one another, and nothing else.
fn allow<T>(done: Result<T, StoreError>) -> Option<T> {
    match done {
        Ok(value) => Some(value),
        Err(
            StoreError::HasChildren { .. }
            | StoreError::NotActive(_)
            | StoreError::UnknownSnapshot(_)
            | StoreError::UnknownRecord(_)
            | StoreError::UnknownBlob(_),
        ) => None,
        Err(error) => panic!("{error:?}"),
    }
}

fn make_snapshot(store: &Store, parent: Option<SnapshotId>, text: &str) {
    let Some(id) = allow(store.new_snapshot(parent)) else { return };
    let path = content_path(store, id);
    fs::create_dir_all(path.parent().expect("has one")).expect("makes");
    fs::write(&path, text).expect("writes");
    let key = Digest::of(text);
    let standing = store.commit_snapshot(id, 1, Some(*key.as_bytes())).expect("commits");
    if standing != id {
        store.delete_snapshot(id).expect("removes");
    }
    if allow(store.put_record(&key, text.as_bytes(), &[standing])).is_some() {
        println!("+ {key}");
        if allow(store.link_record(&alias(&key), &key)).is_some() {
            println!("+ {}", alias(&key));
        }
    }
}

/// Removes the youngest snapshots on which nothing builds; says what goes with them before it does.
fn remove_leaves(store: &Store, count: usize) {
    let rows = store.snapshots().expect("reads");
    let parents: BTreeSet<_> = rows.iter().filter_map(|row| row.parent).collect();
    let leaves = rows.iter().rev().filter(|row| !parents.contains(&row.id));
    for row in leaves.filter(|row| row.state == SnapshotState::Committed).take(count) {
        if let Ok(text) = fs::read(content_path(store, row.id)) {
            let key = Digest::of(&text);
            println!("- {key}\n- {}", alias(&key));
            allow(store.delete_snapshot(row.id));
        }
    }
}

#[test]
#[ignore = "the other process of the test below"]
fn writes_at_random() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("reads");
    let Some((seed, root)) = line.trim().split_once(' ') else { return };
    let seed = seed.parse().expect("is a number");
    let mut dice = Dice(seed);
    let store = Store::open(Path::new(root)).expect("opens");
    for round in 0..u64::MAX {
        let text = format!("{seed}-{round}");
        let snapshots = || store.snapshots().expect("reads");
        let pick = |dice: &mut Dice| -> Option<SnapshotId> {
            let committed: Vec<_> =
                snapshots().into_iter().filter(|row| row.state == SnapshotState::Committed).collect();
            let place = usize::try_from(dice.below(committed.len().max(1) as u64)).expect("fits");
            committed.get(place).map(|row| row.id)
        };
        match dice.below(12) {
            0..4 => {
                let parent = if dice.below(3) == 0 { None } else { pick(&mut dice) };
                make_snapshot(&store, parent, &text);
            }
            // The content of another one, which then stands for both.
            4 => {
                let old = pick(&mut dice).and_then(|id| fs::read_to_string(content_path(&store, id)).ok());
                make_snapshot(&store, None, &old.unwrap_or(text));
            }
            // Begun and left.
            5 => drop(store.new_snapshot(pick(&mut dice))),
            6 => {
                let blob = store.put_blob(text.as_bytes()).expect("puts");
                println!("b {blob}");
            }
            7 => {
                let mut writer = store.blob_writer().expect("starts");
                writer.write_all(&vec![7; 100_000]).expect("writes");
                if dice.below(2) == 0 {
                    drop(writer);
                } else {
                    println!("b {}", writer.commit(None).expect("commits").0);
                }
            }
            8 => {
                if let Some(id) = pick(&mut dice) {
                    let text = fs::read(content_path(&store, id)).unwrap_or_default();
                    println!("- {}", Digest::of(&text));
                    store.remove_record(&Digest::of(text)).expect("removes");
                }
            }
            9 => remove_leaves(&store, 1),
            _ if snapshots().len() > 60 => remove_leaves(&store, 10),
            _ => {}
        }
    }
}

fn spawn(root: &Path, seed: u64) -> Child {
    let binary = std::env::current_exe().expect("has a path");
    let mut child = Command::new(binary)
        .args(["--exact", "writes_at_random", "--ignored", "--nocapture", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    writeln!(child.stdin.as_mut().expect("is piped"), "{seed} {}", root.display()).expect("writes");
    child
}

#[derive(Default)]
struct Said {
    records: BTreeSet<Digest>,
    gone: BTreeSet<Digest>,
    blobs: BTreeSet<Digest>,
}

impl Said {
    /// Takes the whole lines of what a writer said.
    fn add(&mut self, text: &str) {
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let Some((word, digest)) = line.split_once(' ') else { continue };
            let Ok(digest) = digest.parse() else { continue };
            match word {
                "+" => self.records.insert(digest),
                "-" => self.gone.insert(digest),
                "b" => self.blobs.insert(digest),
                _ => continue,
            };
        }
    }
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).expect("lists");
    entries.map(|entry| entry.expect("lists").file_name().into_string().expect("is ours")).collect()
}

/// All that always holds, and all that was said.
fn check(store: &Store, said: &Said) {
    store.wait_for_cleaning();
    assert_eq!(store.warnings(), [""; 0]);
    let rows = store.snapshots().expect("reads");
    let ids: BTreeSet<String> = rows.iter().map(|row| row.id.to_string()).collect();
    assert_eq!(names(&store.root().join("snapshots")), ids);
    assert_eq!(names(&store.root().join("tmp")), BTreeSet::new());
    for row in &rows {
        assert_eq!(row.state, SnapshotState::Committed, "{row:?}");
        assert!(row.parent.is_none_or(|parent| ids.contains(&parent.to_string())), "{row:?}");
        assert_eq!(names(&store.snapshot_dir(row.id)), BTreeSet::from(["fs".to_owned()]));
    }
    let mut is_true = |row: &rb_store::SnapshotRow| -> Result<Truth, StoreError> {
        let text = fs::read(content_path(store, row.id));
        let is_true = text.is_ok_and(|text| Some(*Digest::of(&text).as_bytes()) == row.content_key);
        Ok(if is_true { Truth::True } else { Truth::False })
    };
    let verified = store.verify(&mut is_true, &mut |_| {}).expect("reads");
    assert_eq!((verified.damaged_blobs, verified.bad_snapshots), (vec![], vec![]));
    for blob in &said.blobs {
        assert!(store.has_blob(blob).expect("stats"), "{blob} is lost");
    }
    for key in &said.records {
        match store.record(key).expect("reads") {
            Some(record) => {
                let text = Digest::of(&record.value);
                assert!(text == *key || alias(&text) == *key);
                assert!(record.snapshots.iter().all(|id| ids.contains(&id.to_string())));
                assert_eq!(store.tombstone(key).expect("reads"), None);
            }
            None => {
                assert!(said.gone.contains(key), "{key} is lost");
                assert!(store.tombstone(key).expect("reads").is_some(), "{key} went without a word");
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "whoever runs the tests says how long")]
fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn killed_at_any_instant_the_store_is_whole_and_loses_nothing_that_was_done() {
    let root = tempfile::tempdir().expect("temp dir");
    let seed = number("RB_TORTURE_SEED", u64::from(std::process::id()) << 16 | 1);
    println!("RB_TORTURE_SEED={seed}");
    let mut dice = Dice(seed);
    let mut said = Said::default();
    for round in 0..number("RB_TORTURE_ROUNDS", 50) {
        let writers = 1 + dice.below(2);
        let mut children: Vec<Child> =
            (0..writers).map(|_| spawn(root.path(), dice.below(u64::MAX - 1) + 1)).collect();
        for child in &mut children {
            let mut output = child.stdout.take().expect("is piped");
            let mut text = String::new();
            // Every other one is seen to work; the others may die while they open the store and clean after the dead.
            if round % 2 == 0 {
                let mut first = BufReader::with_capacity(1, output);
                while !text.contains("+ ") && first.read_line(&mut text).expect("reads") > 0 {}
                output = first.into_inner();
            }
            std::thread::sleep(Duration::from_millis(dice.below(60)));
            child.kill().expect("kills");
            let status = child.wait().expect("ends");
            assert_eq!(status.signal(), Some(9), "round {round}: a writer failed: {status}");
            output.read_to_string(&mut text).expect("reads");
            said.add(&text);
        }
        let store = Store::open(root.path()).unwrap_or_else(|error| panic!("round {round}: {error:?}"));
        check(&store, &said);
    }
    println!(
        "{} records, {} of them removed, {} blobs",
        said.records.len(),
        said.gone.len(),
        said.blobs.len()
    );
}
