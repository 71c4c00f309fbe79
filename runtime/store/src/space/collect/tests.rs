use std::sync::Arc;
use std::time::Duration;

use rb_oci::{Descriptor, Digest};

use super::*;
use crate::space::policy::{Amount, Bounds};
use crate::{FixedClock, GoneReason, SnapshotId, Tombstone};

const DAY: u64 = 24 * 3600;

fn open_at(root: &std::path::Path, day: u64) -> Store {
    Store::open_with(root, Arc::new(FixedClock(Duration::from_secs(day * DAY)))).expect("opens")
}

/// Commits a snapshot with a record under its name.
fn commit(store: &Store, parent: Option<SnapshotId>, name: &str, kilobytes: usize) -> SnapshotId {
    let id = store.new_snapshot(parent).expect("starts");
    fs::write(store.snapshot_dir(id).join("fs/file"), vec![1; kilobytes * 1000]).expect("writes");
    let id = store.commit_snapshot(id, kilobytes as u64 * 1000, None).expect("commits");
    store.put_record(&Digest::of(name), b"v", &[id]).expect("puts");
    id
}

fn everything() -> Prune {
    Prune { kinds: Kind::ALL.to_vec(), ..Prune::default() }
}

fn names(removed: &Removed) -> Vec<String> {
    removed.items.iter().map(|(item, _)| item.to_string()).collect()
}

fn du(root: &std::path::Path) -> u64 {
    crate::space::measure::measure(root).expect("measures").all_bytes
}

#[test]
fn what_a_process_has_stays_and_what_nobody_has_goes_with_its_records() {
    let root = tempfile::tempdir().expect("temp dir");
    let first = open_at(root.path(), 1);
    let base = commit(&first, None, "base", 100);
    let (left, right) = (commit(&first, Some(base), "left", 100), commit(&first, Some(base), "right", 100));
    drop(first);
    let user = open_at(root.path(), 2);
    assert!(user.record(&Digest::of("left")).expect("reads").is_some());
    let pruner = open_at(root.path(), 3);
    let would = pruner.prune(Prune { dry_run: true, ..everything() }).expect("looks");
    assert_eq!(names(&would), [format!("layer/{right}")]);
    let removed = pruner.prune(everything()).expect("prunes");
    assert_eq!(removed.items, would.items);
    assert!(removed.freed_bytes() >= 100_000 && !pruner.snapshot_dir(right).exists());
    let gone = Tombstone { reason: GoneReason::Pruned, gone_unix: 3 * DAY.cast_signed() };
    assert_eq!(pruner.tombstone(&Digest::of("right")).expect("reads"), Some(gone));
    assert!(user.record(&Digest::of("left")).expect("reads").is_some());
    assert!(user.snapshot_dir(left).is_dir() && user.snapshot_dir(base).is_dir());
    drop(user);
    assert_eq!(
        names(&pruner.prune(everything()).expect("prunes")),
        [left, base].map(|id| format!("layer/{id}"))
    );
    assert_eq!(pruner.snapshots().expect("reads"), []);
}

#[test]
fn what_is_written_or_built_on_right_now_stays() {
    let root = tempfile::tempdir().expect("temp dir");
    let first = open_at(root.path(), 1);
    let base = commit(&first, None, "base", 10);
    drop(first);
    let writer = open_at(root.path(), 1);
    let active = writer.new_snapshot(Some(base)).expect("starts");
    let pruner = open_at(root.path(), 2);
    assert_eq!(pruner.prune(everything()).expect("prunes").items, []);
    writer.commit_snapshot(active, 0, None).expect("commits");
    assert_eq!(pruner.prune(everything()).expect("prunes").items, []);
    drop(writer);
    assert_eq!(pruner.prune(everything()).expect("prunes").items.len(), 2);
}

#[test]
fn pinned_pieces_and_blobs_of_named_images_stay() {
    let root = tempfile::tempdir().expect("temp dir");
    let store = open_at(root.path(), 1);
    let layer = commit(&store, None, "pinned", 10);
    store.pin(&Item::Layer(layer)).expect("pins");
    let blob = |bytes: &[u8], kind: &str| {
        let digest = store.put_blob(bytes).expect("puts");
        serde_json::json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    };
    let config = blob(b"{}", "application/vnd.oci.image.config.v1+json");
    let packed = blob(&[7; 5000], "application/vnd.oci.image.layer.v1.tar");
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": [packed]}).to_string();
    let descriptor: Descriptor =
        serde_json::from_value(blob(manifest.as_bytes(), kind)).expect("is a descriptor");
    store.put_blob(b"nobody's").expect("puts");
    store.set_image("app:1", &descriptor, 0).expect("names");
    drop(store);
    let store = open_at(root.path(), 2);
    let nobodys = Item::Blob(Digest::of(b"nobody's")).to_string();
    assert_eq!(names(&store.prune(everything()).expect("prunes")), [nobodys]);
    assert!(store.remove_image("app:1").expect("takes") && store.unpin(&Item::Layer(layer)).expect("takes"));
    assert_eq!(store.prune(everything()).expect("prunes").items.len(), 4);
}

#[test]
fn kinds_ages_and_sizes_say_what_goes() {
    let root = tempfile::tempdir().expect("temp dir");
    for day in 1..=6 {
        commit(&open_at(root.path(), day), None, &format!("day {day}"), 100);
    }
    let store = open_at(root.path(), 7);
    let of_git = Prune { kinds: vec![Kind::Git], ..Prune::default() };
    assert_eq!(store.prune(of_git).expect("prunes").items, []);
    let old = Prune { unused_for: Some(Duration::from_secs(5 * DAY)), ..everything() };
    assert_eq!(names(&store.prune(old).expect("prunes")), ["layer/2", "layer/1"]);
    let named = Prune { items: vec![Item::Layer(SnapshotId(4))], ..Prune::default() };
    assert_eq!(names(&store.prune(named).expect("prunes")), ["layer/4"]);
    let most = du(root.path()) - 150_000;
    let removed = store.prune(Prune { keep_bytes: Some(most), ..everything() }).expect("prunes");
    assert_eq!(removed.items.len(), 2, "no more than is needed: {removed:?}");
    assert!(removed.left_bytes <= most && du(root.path()) <= most + 100_000);
}

#[test]
fn a_policy_bounds_all_and_each_kind_and_its_ages() {
    let root = tempfile::tempdir().expect("temp dir");
    for day in 1..=4 {
        let store = open_at(root.path(), day);
        commit(&store, None, &format!("day {day}"), 100);
        store.put_blob(&vec![day as u8; 100_000]).expect("puts");
    }
    let store = open_at(root.path(), 5);
    let bounds = Bounds { max_size: Some(Amount::Bytes(250_000)), max_age: None };
    let policy = Policy {
        max_age: Some(Duration::from_secs(4 * DAY)),
        kinds: [(Kind::Blobs, bounds)].into(),
        ..Policy::default()
    };
    let removed = store.collect(&Goal::Within { policy, most_bytes: u64::MAX }).expect("collects");
    let of = |kind: Kind| removed.items.iter().filter(|(item, _)| item.kind() == kind).count();
    assert_eq!((of(Kind::Layers), of(Kind::Blobs)), (1, 2), "{removed:?}");
    let reason = |day: u64| {
        store.tombstone(&Digest::of(format!("day {day}"))).expect("reads").map(|tombstone| tombstone.reason)
    };
    // What of the others goes first is a matter of what it took to make it.
    let count = |wanted: GoneReason| (2..=4).filter(|day| reason(*day) == Some(wanted)).count();
    assert_eq!((reason(1), reason(2), reason(3)), (Some(GoneReason::Age), None, None));
    let bounds = Bounds { max_size: Some(Amount::Bytes(250_000)), max_age: None };
    let policy = Policy { kinds: [(Kind::Layers, bounds)].into(), ..Policy::default() };
    store.collect(&Goal::Within { policy, most_bytes: u64::MAX }).expect("collects");
    assert_eq!((count(GoneReason::Quota), count(GoneReason::Cap)), (1, 0));
    let policy = Policy::default();
    let most_bytes = du(root.path()) - 250_000;
    let removed = store.collect(&Goal::Within { policy, most_bytes }).expect("collects");
    assert!(removed.items.len() >= 2 && removed.left_bytes <= most_bytes, "{removed:?}");
    assert!(count(GoneReason::Cap) > 0 && count(GoneReason::Quota) == 1);
    assert!(store.floor().expect("reads") > 0.0, "what comes later is compared with it");
}

#[test]
fn mounts_repositories_logs_and_downloads_go_unless_somebody_is_at_them() {
    let root = tempfile::tempdir().expect("temp dir");
    let store = open_at(root.path(), 1);
    let at = |path: &str| root.path().join(path);
    let logs = ["000000000000001-1-00", "000000000000002-1-00"];
    for folder in ["caches/ab/empty/common", "caches/ab/empty/1", "git/0123", "partial", "builds"] {
        fs::create_dir_all(at(folder)).expect("makes");
    }
    for name in logs {
        fs::create_dir_all(at(&format!("logs/{name}"))).expect("makes");
        fs::write(at(&format!("builds/{name}.json")), "{}").expect("writes");
    }
    for file in ["common.lock", "common.turn", "common.seen", "1.lock", "1.used"] {
        fs::write(at("caches/ab/empty").join(file), "").expect("writes");
    }
    fs::write(at("git/0123.lock"), "").expect("writes");
    fs::write(at("partial/abc"), "half").expect("writes");
    let held: Vec<File> = ["caches/ab/empty/1.lock", "git/0123.lock", "partial/abc"]
        .map(|path| {
            let file = File::open(at(path)).expect("opens");
            file.lock().expect("locks");
            file
        })
        .into();
    let gone = names(&store.prune(everything()).expect("prunes"));
    assert_eq!(gone, ["log/000000000000001-1-00", "mount/ab/empty/common"]);
    assert!(!at("builds/000000000000001-1-00.json").exists() && !at("logs").join(logs[0]).exists());
    assert!(!at("caches/ab/empty/common.seen").exists() && at("caches/ab/empty/common.lock").exists());
    assert!(at("caches/ab/empty/1.used").exists());
    drop(held);
    let gone = names(&store.prune(everything()).expect("prunes"));
    assert_eq!(gone, ["download/abc", "git/0123", "mount/ab/empty/1"]);
    assert_eq!(fs::read_dir(at("tmp")).expect("lists").count(), 0);
}

#[test]
fn who_builds_and_who_removes_at_once_do_each_other_no_harm() {
    const ROUNDS: usize = 60;
    let root = tempfile::tempdir().expect("temp dir");
    Store::open(root.path()).expect("opens");
    std::thread::scope(|threads| {
        let builders: Vec<_> = (0..3)
            .map(|number| {
                let root = root.path();
                threads.spawn(move || {
                    for round in 0..ROUNDS {
                        let store = Store::open(root).expect("opens");
                        let key = Digest::of(format!("{}", (number + round) % 5));
                        let found = store.record(&key).expect("reads");
                        let tree = match found.and_then(|record| record.snapshots.first().copied()) {
                            Some(tree) => tree,
                            None => {
                                let id = store.new_snapshot(None).expect("starts");
                                fs::write(store.snapshot_dir(id).join("fs/file"), "x").expect("writes");
                                let tree =
                                    store.commit_snapshot(id, 1, Some(*key.as_bytes())).expect("commits");
                                store.put_record(&key, b"v", &[tree]).expect("puts");
                                tree
                            }
                        };
                        // What one was told of is there until the end, and can be built on.
                        let on_it = store.new_snapshot(Some(tree)).expect("starts on it");
                        assert!(store.snapshot_dir(tree).join("fs/file").exists());
                        let blob = store.put_blob(key.hex().as_bytes()).expect("puts");
                        assert_eq!(store.read_blob(&blob, 100).expect("reads"), key.hex().as_bytes());
                        store.delete_snapshot(on_it).expect("drops");
                    }
                })
            })
            .collect();
        let store = Store::open(root.path()).expect("opens");
        while builders.iter().any(|builder| !builder.is_finished()) {
            store.prune(everything()).expect("prunes");
        }
        builders.into_iter().for_each(|builder| builder.join().expect("nothing went away under it"));
        store.prune(everything()).expect("prunes");
        assert_eq!(store.snapshots().expect("reads"), []);
    });
}
