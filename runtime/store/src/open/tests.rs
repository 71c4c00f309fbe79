use std::os::unix::fs::MetadataExt as _;
use std::time::Instant;

use super::*;

#[test]
fn makes_what_is_documented_and_opens_it_again() {
    let parent = tempfile::tempdir().expect("temp dir");
    let root = parent.path().join("a/b");
    let store = Store::open(&root).expect("creates");
    assert_eq!(fs::read_to_string(root.join("format")).expect("reads"), "1\n");
    assert_eq!(fs::metadata(&root).expect("stats").mode() & 0o7777, 0o700);
    for name in ["blobs/sha256", "snapshots", "tmp", "locks", "logs", "rb.db", "oci-layout", "index.json"] {
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
    fs::write(root.path().join("format"), "2\n").expect("writes");
    let error = Store::open(root.path()).expect_err("is newer");
    assert!(error.to_string().contains("has format 2; this program knows formats up to 1"), "{error}");
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
    for name in ["locks", "tmp", "blobs", "blobs/sha256", "snapshots", "logs"] {
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

/// Makes a store with enough rows for several pages; returns the size of its database.
fn fill(root: &Path) -> u64 {
    let store = Store::open(root).expect("creates");
    let id = store.new_snapshot(None).expect("starts");
    store.commit_snapshot(id, 0, Some([1; 32])).expect("commits");
    for number in 0..200 {
        store.put_record(&rb_oci::Digest::of([number]), &[number; 500], &[id]).expect("puts");
    }
    drop(store);
    fs::metadata(root.join("rb.db")).expect("stats").len()
}

#[test]
fn a_damaged_database_is_named_and_says_what_to_remove() {
    let parent = tempfile::tempdir().expect("temp dir");
    let root = parent.path().join("it's here");
    let size = fill(&root);
    let path = root.join("rb.db");
    let whole = fs::read(&path).expect("reads");
    let cut = |length: u64| whole[..usize::try_from(length).expect("fits")].to_vec();
    let mut patched = whole.clone();
    patched[100..].fill(0xa5);
    let cases =
        [cut(1), cut(100), cut(4096), cut(5000), cut(size / 2), cut(size - 4096), vec![b'x'; 9000], patched];
    for (case, bytes) in cases.into_iter().enumerate() {
        fs::write(&path, bytes).expect("writes");
        let error = Store::open(&root)
            .and_then(|store| {
                (0..200).try_for_each(|number| store.record(&rb_oci::Digest::of([number])).map(drop))
            })
            .err();
        let error = error.unwrap_or_else(|| panic!("{case} is damaged"));
        assert!(matches!(error, StoreError::Damaged { .. }), "{case}: {error:?}");
        assert_eq!(error.kind(), rb_diag::ErrorKind::Environment);
        assert!(
            error.to_string().starts_with(&format!("the cache database {} is damaged: ", path.display()))
        );
        let help = error.help().expect("helps");
        let word = format!("'{}'", root.display().to_string().replace('\'', r"'\''"));
        assert!(help.contains(&format!("`rm -r {word}`")), "{help}");
    }
    fs::remove_file(&path).expect("removes");
    fs::create_dir(&path).expect("makes");
    assert!(matches!(Store::open(&root), Err(StoreError::Damaged { .. })));
}

#[test]
fn a_database_without_our_tables_is_damaged() {
    let root = tempfile::tempdir().expect("temp dir");
    fill(root.path());
    for table in ["results", "meta"] {
        let connection = rusqlite::Connection::open(root.path().join("rb.db")).expect("opens");
        connection.execute_batch(&format!("PRAGMA foreign_keys = OFF; DROP TABLE {table};")).expect("drops");
        drop(connection);
        let error = Store::open(root.path())
            .and_then(|store| store.record(&rb_oci::Digest::of([1])))
            .expect_err("lacks a table");
        let text = error.to_string();
        assert!(text.contains(&format!("is damaged: no such table: {table}")), "{text}");
    }
}

#[test]
fn a_missing_or_empty_database_is_made_anew() {
    for empty in [false, true] {
        let root = tempfile::tempdir().expect("temp dir");
        fill(root.path());
        let path = root.path().join("rb.db");
        fs::remove_file(&path).expect("removes");
        if empty {
            File::create(&path).expect("makes");
        }
        fs::write(root.path().join("rb.db-wal"), "of the old one").expect("writes");
        let store = Store::open(root.path()).expect("starts anew");
        assert_eq!(store.snapshots().expect("reads"), []);
        store.wait_for_cleaning();
        for name in ["snapshots", "tmp"] {
            assert_eq!(fs::read_dir(root.path().join(name)).expect("lists").count(), 0, "{name}");
        }
        let id = store.new_snapshot(None).expect("starts");
        assert!(id.0 > 1, "{id} may be known to somebody");
        drop(store);
        assert!(!root.path().join("rb.db.new").exists());
        Store::open(root.path()).expect("opens");
    }
}

#[test]
fn a_database_made_anew_leaves_the_living_alone() {
    let root = tempfile::tempdir().expect("temp dir");
    fill(root.path());
    let living = Store::open(root.path()).expect("opens");
    let old = living.new_snapshot(None).expect("starts");
    fs::remove_file(root.path().join("rb.db")).expect("removes");
    let other = Store::open(root.path()).expect("starts anew");
    let new = other.new_snapshot(None).expect("starts");
    other.wait_for_cleaning();
    assert!(living.snapshot_dir(old).join("fs").is_dir());
    living.commit_snapshot(old, 0, None).expect("commits");
    living.new_snapshot(None).expect("starts");
    assert!(other.snapshot_dir(new).join("work").is_dir());
    other.commit_snapshot(new, 0, None).expect("commits");
}
