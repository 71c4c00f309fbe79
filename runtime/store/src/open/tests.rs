use std::os::unix::fs::MetadataExt as _;
use std::time::Instant;

use super::*;
use crate::Unsuitable;

#[test]
fn makes_what_is_documented_and_opens_it_again() {
    let parent = tempfile::tempdir().expect("temp dir");
    let root = parent.path().join("a/b");
    let store = Store::open(&root).expect("creates");
    assert_eq!(fs::read_to_string(root.join("format")).expect("reads"), "3\n");
    assert_eq!(fs::metadata(&root).expect("stats").mode() & 0o7777, 0o700);
    for name in
        ["blobs/sha256", "snapshots", "caches", "tmp", "locks", "logs", "rb.db", "oci-layout", "index.json"]
    {
        assert!(root.join(name).exists(), "{name}");
    }
    drop(store);
    assert_eq!(fs::read_dir(root.join("locks")).expect("lists").count(), 0);
    Store::open(&root).expect("opens");
}

#[test]
fn refuses_a_relative_root() {
    let error = Store::open(Path::new("state")).expect_err("is relative");
    assert!(matches!(error, StoreError::RelativeRoot(_)), "{error}");
    assert_eq!(error.kind(), rb_diag::ErrorKind::Input);
}

#[test]
fn refuses_a_newer_format_and_one_that_is_none() {
    let root = tempfile::tempdir().expect("temp dir");
    drop(Store::open(root.path()).expect("creates"));
    fs::write(root.path().join("format"), "4\n").expect("writes");
    let error = Store::open(root.path()).expect_err("is newer");
    assert!(error.to_string().contains("has format 4; this program knows formats up to 3"), "{error}");
    for text in ["", "x", "0", "-1"] {
        fs::write(root.path().join("format"), text).expect("writes");
        let error = Store::open(root.path()).expect_err("is no format");
        assert!(matches!(error, StoreError::BadFormat { .. }), "{text:?}: {error}");
    }
}

#[test]
fn refuses_somebody_elses_directory_and_leaves_it_alone() {
    let root = tempfile::tempdir().expect("temp dir");
    fs::write(root.path().join("thesis.tex"), "x").expect("writes");
    let error = Store::open(root.path()).expect_err("is foreign");
    assert!(matches!(error, StoreError::ForeignDirectory(_)), "{error}");
    assert_eq!(fs::read_dir(root.path()).expect("lists").count(), 1);
}

#[test]
fn finishes_what_was_half_created() {
    let root = tempfile::tempdir().expect("temp dir");
    drop(Store::open(root.path()).expect("creates"));
    fs::remove_file(root.path().join("format")).expect("removes");
    fs::remove_dir(root.path().join("tmp")).expect("removes");
    let store = Store::open(root.path()).expect("finishes");
    store.put_blob(b"x").expect("writes");
}

#[test]
fn many_threads_create_one_directory_at_once() {
    let parent = tempfile::tempdir().expect("temp dir");
    let root = parent.path().join("state");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let store = Store::open(&root).expect("opens");
                store.new_snapshot(None).expect("writes");
            });
        }
    });
}

#[test]
fn opening_is_cheap() {
    let root = tempfile::tempdir().expect("temp dir");
    drop(Store::open(root.path()).expect("creates"));
    let mut best = std::time::Duration::MAX;
    for _ in 0..20 {
        let start = Instant::now();
        let store = Store::open(root.path()).expect("opens");
        assert!(store.record(&rb_oci::Digest::of("x")).expect("reads").is_none());
        best = best.min(start.elapsed());
    }
    eprintln!("open and one look-up: {best:?}");
    assert!(best < std::time::Duration::from_millis(5), "{best:?}");
}

#[test]
fn makes_directories_that_somebody_removed() {
    for name in ["locks", "tmp", "blobs", "blobs/sha256", "snapshots", "caches", "logs"] {
        let root = tempfile::tempdir().expect("temp dir");
        let key = rb_oci::Digest::of("key");
        let store = Store::open(root.path()).expect("creates");
        let id = store.new_snapshot(None).expect("starts");
        store.commit_snapshot(id, 0, None).expect("commits");
        store.put_record(&key, b"x", &[id]).expect("puts");
        drop(store);
        fs::remove_dir_all(root.path().join(name)).expect("removes");

        let store = Store::open(root.path()).unwrap_or_else(|error| panic!("{name}: {error}"));
        store.put_blob(b"x").expect("writes");
        let there = store.record(&key).expect("reads").is_some();
        assert_eq!(there, name != "snapshots", "{name}");
        store.new_snapshot(None).expect("starts");
        assert!(root.path().join(name).is_dir());
    }
}

#[test]
fn refuses_a_folder_that_others_may_write_and_says_how_to_close_it() {
    let root = tempfile::tempdir().expect("temp dir");
    let mode = |mode| fs::set_permissions(root.path(), fs::Permissions::from_mode(mode)).expect("chmods");
    // Before it is a state directory, it is made ours.
    mode(0o777);
    drop(Store::open(root.path()).expect("creates"));
    assert_eq!(fs::metadata(root.path()).expect("stats").mode() & 0o7777, 0o700);
    for open in [0o770, 0o707, 0o1777] {
        mode(open);
        let error = Store::open(root.path()).expect_err("is open to others");
        let reason = Unsuitable::OthersMayWrite { mode: open };
        assert!(matches!(&error, StoreError::Unsuitable { reason: told, .. } if *told == reason), "{error}");
        assert_eq!(error.kind(), rb_diag::ErrorKind::Environment);
        assert!(error.help().is_some_and(|help| help.contains("`chmod go-w /")), "{error}");
    }
    mode(0o755);
    Store::open(root.path()).expect("opens");
}

#[test]
fn refuses_a_path_that_the_database_cannot_take() {
    let parent = tempfile::tempdir().expect("temp dir");
    let mut root = parent.path().to_owned();
    while root.as_os_str().len() < 460 {
        root.push("a".repeat(19));
    }
    let rest = 480 - root.as_os_str().len() - 1;
    Store::open(&root.join("b".repeat(rest))).expect("is just short enough");
    let error = Store::open(&root.join("b".repeat(rest + 1))).expect_err("is too long");
    let reason = Unsuitable::TooLong { bytes: 481, limit: 480 };
    assert!(matches!(&error, StoreError::Unsuitable { reason: told, .. } if *told == reason), "{error}");
    assert!(error.help().is_some_and(|help| help.contains("RB_ROOT")));
}

#[test]
fn a_database_of_the_first_version_gets_what_came_later_and_keeps_its_records() {
    let root = tempfile::tempdir().expect("temp dir");
    let key = rb_oci::Digest::of("key");
    let store = Store::open(root.path()).expect("creates");
    let id = store.new_snapshot(None).expect("starts");
    store.commit_snapshot(id, 0, None).expect("commits");
    store.put_record(&key, b"v", &[id]).expect("puts");
    drop(store);
    let connection = rusqlite::Connection::open(root.path().join("rb.db")).expect("opens");
    connection.execute_batch("DROP TABLE tombstones; DROP TABLE origins; DROP TABLE uses; DROP TABLE pins; DROP TABLE failure_snapshots; DROP TABLE failures; ALTER TABLE snapshots DROP COLUMN seal; ALTER TABLE snapshots DROP COLUMN own_key;
             ALTER TABLE snapshots DROP COLUMN continues;
             PRAGMA user_version = 0;").expect("goes back");
    drop(connection);
    fs::write(root.path().join("format"), "1\n").expect("writes");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let store = Store::open(root.path()).expect("adds it");
                assert!(store.record(&key).expect("reads").is_some());
            });
        }
    });
    // An older program stays away from now on.
    assert_eq!(fs::read_to_string(root.path().join("format")).expect("reads"), "3\n");
    let store = Store::open(root.path()).expect("opens");
    store.remove_record(&key).expect("removes");
    assert!(store.tombstone(&key).expect("reads").is_some());
    // What a newer program added is let be.
    drop(store);
    let connection = rusqlite::Connection::open(root.path().join("rb.db")).expect("opens");
    connection.execute_batch("PRAGMA user_version = 9;").expect("goes ahead");
    drop(connection);
    assert!(Store::open(root.path()).expect("opens").tombstone(&key).expect("reads").is_some());
}

#[test]
fn cleaners_that_are_done_are_not_kept() {
    let root = tempfile::tempdir().expect("temp dir");
    let store = Store::open(root.path()).expect("creates");
    let kept = || store.inner.cleaners.lock().expect("nobody panicked").len();
    for number in 0..20 {
        let tree = root.path().join("tmp").join(format!("tree{number}"));
        fs::create_dir(&tree).expect("makes folders");
        store.discard(vec![tree.clone()]);
        let deadline = Instant::now() + std::time::Duration::from_secs(60);
        let is_running = || {
            store.inner.cleaners.lock().expect("nobody panicked").iter().any(|cleaner| !cleaner.is_finished())
        };
        while is_running() {
            assert!(Instant::now() < deadline, "{tree:?} is not removed");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(!tree.exists());
        assert_eq!(kept(), 1, "after {number}");
    }
}
