//! The power goes at any instant: on a real file system that loses what was not written, as its journal has it.
//!
//! Twenty cuts; `tests/soak disk` makes many, `RB_POWER_SEED` for the same again,
//! `RB_POWER_DISK=xfs` for another file system. Needs root, loop devices and a C compiler. What a writer was told to be durable
//! is there after the cut, and what is served is whole, whether it was told or not.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a writer says what it did, and the test its seed"
)]

#[path = "../../../tests/cli/power/dice.rs"]
mod dice;
#[path = "../../../tests/cli/power/disk.rs"]
#[expect(dead_code, reason = "machines are for the tests of `rb`")]
mod disk;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dice::Dice;
use disk::Disk;
use rb_oci::Digest;
use rb_store::{SnapshotId, SnapshotState, Store};
use rustix::time::{ClockId, clock_gettime};

/// The content of the files of a snapshot: of many sizes, and never zeros.
fn content(name: &str, number: usize) -> Vec<u8> {
    let size = [10, 5_000, 70_000][number % 3];
    Digest::of(format!("{name} {number}")).hex().into_bytes().into_iter().cycle().take(size).collect()
}

const FILES: usize = 6;

/// The time that all processes share.
fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    now.try_into().expect("has begun at zero")
}

#[test]
#[ignore = "the other process of the test below"]
fn writes_until_the_power_goes() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("reads");
    let Some((seed, root)) = line.trim().split_once(' ') else { return };
    let mut dice = Dice(seed.parse().expect("is a number"));
    let store = Store::open(Path::new(root)).expect("opens");
    let mut committed = Vec::new();
    // Nobody removes anything, so what is durable once is so for ever.
    let mut waiting = Vec::new();
    for round in 0..u64::MAX {
        let name = format!("{seed}-{round}");
        match dice.below(10) {
            0..5 => {
                println!("t {name}");
                let parent = committed.get(dice.below(8) as usize).copied();
                let id = store.new_snapshot(parent).expect("starts");
                for number in 0..FILES {
                    let path = store.snapshot_dir(id).join("fs").join(format!("d{}", number % 2));
                    fs::create_dir_all(&path).expect("makes");
                    fs::write(path.join(number.to_string()), content(&name, number)).expect("writes");
                }
                let key = Digest::of(&name);
                let id = store.commit_snapshot(id, 1, Some(*key.as_bytes())).expect("commits");
                store.put_record(&key, name.as_bytes(), &[id]).expect("puts");
                committed.push(id);
                waiting.push(name);
            }
            5..8 => {
                let size = dice.below(200_000) as usize + 1;
                let bytes: Vec<u8> = name.bytes().cycle().take(size).collect();
                let digest = store.put_blob(&bytes).expect("puts");
                println!("b {} {digest}", now().as_nanos());
            }
            8 => {
                store.sync_snapshots().expect("syncs");
                let now = now().as_nanos();
                waiting.drain(..).for_each(|name| println!("s {now} {name}"));
            }
            _ => std::thread::sleep(Duration::from_millis(dice.below(5))),
        }
    }
}

fn spawn(root: &Path, seed: u64) -> Child {
    let mut child = Command::new(std::env::current_exe().expect("has a path"))
        .args(["--exact", "writes_until_the_power_goes", "--ignored", "--nocapture", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null()) // its disk fails under it
        .spawn()
        .expect("starts");
    writeln!(child.stdin.as_mut().expect("is piped"), "{seed} {}", root.display()).expect("writes");
    child
}

#[derive(Default)]
struct Said {
    tried: BTreeSet<String>,
    synced: BTreeSet<String>,
    blobs: BTreeSet<Digest>,
}

impl Said {
    /// Takes the whole lines of what a writer said until the power was `cut`.
    fn add(&mut self, text: &str, cut: Duration) {
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["t", name] => drop(self.tried.insert(name.to_owned())),
                [what @ ("s" | "b"), when, name] => {
                    let when = Duration::from_nanos(when.parse().expect("is a number"));
                    // No power was there to say that with.
                    if when >= cut {
                        continue;
                    }
                    match what {
                        "s" => drop(self.synced.insert(name.to_owned())),
                        _ => self.blobs.extend(name.parse::<Digest>()),
                    }
                }
                // What the test runner says.
                _ => {}
            }
        }
    }
}

fn is_whole(store: &Store, id: SnapshotId, name: &str) -> bool {
    (0..FILES).all(|number| {
        let path =
            store.snapshot_dir(id).join("fs").join(format!("d{}", number % 2)).join(number.to_string());
        fs::read(path).is_ok_and(|bytes| bytes == content(name, number))
    })
}

fn check(store: &Store, said: &Said, round: u64) -> usize {
    store.wait_for_cleaning();
    assert_eq!(store.warnings(), [""; 0], "round {round}");
    let mut served = 0;
    for name in &said.tried {
        let record = store.record(&Digest::of(name)).expect("reads");
        if let Some(record) = &record {
            served += 1;
            assert_eq!(record.value, name.as_bytes());
            assert!(
                record.snapshots.iter().all(|id| is_whole(store, *id, name)),
                "round {round}: {name} lies"
            );
        }
        assert!(
            record.is_some() || !said.synced.contains(name),
            "round {round}: {name} was durable and is lost"
        );
    }
    for blob in &said.blobs {
        store.read_blob(blob, 1 << 20).unwrap_or_else(|error| panic!("round {round}: {blob}: {error}"));
    }
    for entry in fs::read_dir(store.root().join("blobs/sha256")).expect("lists") {
        let entry = entry.expect("lists");
        let bytes = fs::read(entry.path()).expect("reads");
        assert_eq!(
            entry.file_name().to_string_lossy(),
            Digest::of(bytes).hex(),
            "round {round}: a blob lies"
        );
    }
    for row in store.snapshots().expect("reads") {
        assert_eq!(row.state, SnapshotState::Committed);
    }
    served
}

#[expect(clippy::disallowed_methods, reason = "whoever runs the tests says how long")]
fn text(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn number(name: &str, otherwise: u64) -> u64 {
    text(name).and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
#[ignore = "what the test below runs in mounts of its own"]
fn power_goes() {
    let seed = number("RB_POWER_SEED", u64::from(std::process::id()) << 16 | 1);
    println!("RB_POWER_SEED={seed}");
    let mut dice = Dice(seed);
    let rounds = number("RB_POWER_ROUNDS", 20);
    let kind = text("RB_POWER_DISK").unwrap_or_else(|| "ext4".to_owned());
    let modes: &[&str] = match kind.as_str() {
        "ext4" => &["data=writeback,noauto_da_alloc,commit=300", "data=ordered,commit=300"],
        _ => &["noatime"],
    };
    for mode in modes {
        let mut disk = Disk::new(512, &kind, mode);
        let boot = Command::new("mount")
            .arg("--bind")
            .arg(disk.boot_file())
            .arg("/proc/sys/kernel/random/boot_id")
            .status();
        assert!(boot.expect("mount starts").success(), "the boot id stays");
        let root = disk.root().join("state");
        let mut said = Said::default();
        let mut served = 0;
        for round in 0..rounds / modes.len() as u64 {
            disk.mount();
            let store = Store::open(&root).unwrap_or_else(|error| panic!("{mode}, round {round}: {error:?}"));
            served += check(&store, &said, round);
            drop(store);
            let mut children: Vec<Child> =
                (0..=dice.below(2)).map(|_| spawn(&root, dice.below(u64::MAX - 1) + 1)).collect();
            let mut text = String::new();
            let mut output = children[0].stdout.take().expect("is piped");
            let mut first = BufReader::with_capacity(1, &mut output);
            // Now and then while the store is being opened.
            while dice.below(8) != 0 && !text.contains("t ") && first.read_line(&mut text).expect("reads") > 0
            {
            }
            for _ in 0..dice.below(4) {
                std::thread::sleep(Duration::from_millis(dice.below(60)));
                disk.scatter(&root, dice.below(1 << 40));
            }
            std::thread::sleep(Duration::from_millis(dice.below(60)));
            let cut = disk.cut();
            for child in &mut children {
                child.kill().expect("kills");
                child.wait().expect("ends");
            }
            output.read_to_string(&mut text).expect("reads");
            said.add(&text, cut);
            for child in &mut children[1..] {
                text.clear();
                child.stdout.take().expect("is piped").read_to_string(&mut text).expect("reads");
                said.add(&text, cut);
            }
            disk.unmount(&[]);
        }
        let shown = Command::new("umount").arg("/proc/sys/kernel/random/boot_id").status();
        assert!(shown.expect("umount starts").success(), "the boot id stays");
        println!(
            "{kind}, {mode}: {} snapshots, {} of them durable, {} blobs; {served} times a record was served",
            said.tried.len(),
            said.synced.len(),
            said.blobs.len()
        );
        assert!(served > 0 && !said.blobs.is_empty(), "nothing was tried");
    }
}

#[test]
fn what_was_durable_outlives_the_power_and_nothing_that_lies_is_served() {
    disk::in_own_mounts("power_goes");
}
