use std::os::unix::fs::FileExt as _;

use super::*;
use crate::{SnapshotId, Store};

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

/// Opens the store, and again if it found damage only later; says how often it told of damage.
fn open_until_whole(root: &Path) -> (Store, usize) {
    let mut told = 0;
    loop {
        let opened = Store::open(root).and_then(|store| {
            for number in 0..200 {
                store.record(&rb_oci::Digest::of([number]))?;
                store.put_record(&rb_oci::Digest::of([7, number]), b"new", &[])?;
            }
            Ok(store)
        });
        match opened {
            Ok(store) => return (store, told),
            Err(error) => {
                assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
                assert!(error.help().is_some_and(|help| help.starts_with("try again: ")), "{error:?}");
                told += 1;
                assert!(told < 2, "does not heal: {error}");
            }
        }
    }
}

fn count(root: &Path, name: &str) -> usize {
    fs::read_dir(root.join(name)).expect("lists").count()
}

#[test]
fn a_damaged_database_is_put_aside_and_begun_anew() {
    let parent = tempfile::tempdir().expect("temp dir");
    let root = parent.path().join("it's here");
    let size = fill(&root);
    let path = root.join("rb.db");
    let whole = fs::read(&path).expect("reads");
    let cut = |length: u64| whole[..usize::try_from(length).expect("fits")].to_vec();
    let patched = |from: usize, to: usize, byte| {
        let mut patched = whole.clone();
        patched[from..to].fill(byte);
        patched
    };
    let end = whole.len();
    let cases = [
        cut(1),
        cut(100),
        cut(4096),
        cut(5000),
        cut(size / 2),
        cut(size - 4096),
        patched(100, end, 0xa5),
        patched(0, 4096, 0),
        patched(0, end, 0),
        // A table's root.
        patched(4096, 8192, 0xff),
    ];
    for (case, bytes) in cases.into_iter().enumerate() {
        drop(fs::remove_dir_all(&root));
        fill(&root);
        fs::write(&path, &bytes).expect("writes");
        let (store, told) = open_until_whole(&root);
        store.wait_for_cleaning();
        assert!(store.warnings().iter().any(|text| text.contains("damaged")), "{case}, told {told} times");
        assert_eq!(fs::read(root.join("rb.db.aside")).expect("is kept").len(), bytes.len(), "{case}");
        assert_eq!((count(&root, "snapshots"), count(&root, "tmp")), (0, 0), "{case}");
        assert!(store.new_snapshot(None).expect("starts").0 > 1, "the id may be known to somebody");
        drop(store);
        assert!(!mark_path(&path).exists());
        let store = Store::open(&root).expect("opens");
        assert_eq!(store.warnings(), [""; 0]);
    }
}

#[test]
fn what_never_was_a_database_is_named_and_left_alone() {
    let parent = tempfile::tempdir().expect("temp dir");
    let root = parent.path().join("it's here");
    fill(&root);
    let path = root.join("rb.db");
    let check = || {
        let error = Store::open(&root).expect_err("is no database");
        assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
        assert_eq!(error.kind(), rb_diag::ErrorKind::Environment);
        assert!(
            error.to_string().starts_with(&format!("the cache database {} is damaged: ", path.display()))
        );
        let help = error.help().expect("helps");
        let word = format!("'{}'", root.display().to_string().replace('\'', r"'\''"));
        assert!(help.contains(&format!("`rm -r {word}`")), "{help}");
    };
    fs::write(&path, vec![b'x'; 9000]).expect("writes");
    check();
    assert_eq!(fs::read(&path).expect("reads"), vec![b'x'; 9000]);
    fs::remove_file(&path).expect("removes");
    fs::create_dir(&path).expect("makes");
    check();
}

#[test]
fn a_database_without_our_tables_is_damaged() {
    for table in ["results", "meta"] {
        let root = tempfile::tempdir().expect("temp dir");
        fill(root.path());
        let connection = rusqlite::Connection::open(root.path().join("rb.db")).expect("opens");
        connection.execute_batch(&format!("PRAGMA foreign_keys = OFF; DROP TABLE {table};")).expect("drops");
        drop(connection);
        let (_store, told) = open_until_whole(root.path());
        // The one is used by each open, the other only when a record is asked for.
        assert_eq!(told, usize::from(table == "results"));
    }
}

#[test]
fn a_row_that_is_gone_while_others_name_it_is_damage() {
    let root = tempfile::tempdir().expect("temp dir");
    fill(root.path());
    let connection = rusqlite::Connection::open(root.path().join("rb.db")).expect("opens");
    let lose = "CREATE TRIGGER lose AFTER INSERT ON results BEGIN DELETE FROM results WHERE id = new.id; END";
    connection.execute_batch(lose).expect("adds");
    drop(connection);
    let store = Store::open(root.path()).expect("opens");
    let error = store.put_record(&rb_oci::Digest::of(b"key"), b"value", &[]).expect_err("names what is gone");
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    assert!(store.is_damaged());
    drop(store);
    let store = Store::open(root.path()).expect("opens");
    assert_eq!(store.warnings().len(), 1);
    store.put_record(&rb_oci::Digest::of(b"key"), b"value", &[]).expect("puts");
}

/// Overwrites a page that no open reads.
fn damage_far_page(root: &Path) {
    let connection = rusqlite::Connection::open(root.join("rb.db")).expect("opens");
    let page: u32 = connection
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'record_keys'", [], |row| row.get(0))
        .expect("has one");
    drop(connection);
    let file = fs::OpenOptions::new().write(true).open(root.join("rb.db")).expect("opens");
    file.write_all_at(&[0xee; 4096], u64::from(page - 1) * 4096).expect("writes");
}

#[test]
fn damage_is_looked_for_after_another_boot_and_after_a_killed_process() {
    for killed in [false, true] {
        let root = tempfile::tempdir().expect("temp dir");
        fill(root.path());
        if killed {
            File::create(root.path().join("locks/1-dead")).expect("is left as after a kill");
        } else {
            let connection = rusqlite::Connection::open(root.path().join("rb.db")).expect("opens");
            connection.execute("UPDATE meta SET value = 'earlier' WHERE name = 'boot'", []).expect("writes");
        }
        damage_far_page(root.path());
        if killed {
            // Nobody waits for it: what it finds, the next one acts on.
            let store = Store::open(root.path()).expect("opens");
            assert_eq!(store.warnings(), [""; 0]);
            store.wait_for_cleaning();
        }
        let store = Store::open(root.path()).expect("begins anew");
        assert!(store.warnings().iter().any(|text| text.contains("damaged")));
        store.wait_for_cleaning();
        assert_eq!(count(root.path(), "snapshots"), 0);
    }
    // In between nobody pays for looking.
    let root = tempfile::tempdir().expect("temp dir");
    fill(root.path());
    damage_far_page(root.path());
    assert_eq!(Store::open(root.path()).expect("opens").warnings(), [""; 0]);
}

#[test]
fn the_database_of_somebody_faster_is_not_moved() {
    let root = tempfile::tempdir().expect("temp dir");
    fill(root.path());
    let path = root.path().join("rb.db");
    let before = inode_of(&path).expect("is there");
    fs::copy(&path, root.path().join("copy")).expect("copies");
    fs::rename(root.path().join("copy"), &path).expect("replaces");
    fs::write(mark_path(&path), before.to_string()).expect("marks");
    assert!(!is_marked(&path), "the mark is that of another file");
    put_aside(root.path(), before).expect("does nothing");
    assert!(!root.path().join("rb.db.aside").exists());
    let store = Store::open(root.path()).expect("opens");
    assert!(store.record(&rb_oci::Digest::of([1])).expect("reads").is_some());
}

#[test]
fn a_log_cut_anywhere_loses_the_end_and_lies_about_nothing() {
    let root = tempfile::tempdir().expect("temp dir");
    let store = Store::open(root.path()).expect("creates");
    let mut ids = Vec::<SnapshotId>::new();
    for number in 0..20_u8 {
        let id = store.new_snapshot(ids.last().copied()).expect("starts");
        ids.push(store.commit_snapshot(id, 0, Some([number; 32])).expect("commits"));
        store.put_record(&rb_oci::Digest::of([number]), &[number; 900], &ids).expect("puts");
    }
    let gone = ids.pop().expect("has one");
    store.delete_snapshot(gone).expect("removes");
    let [database, log] = ["rb.db", "rb.db-wal"].map(|name| fs::read(root.path().join(name)).expect("reads"));
    assert!(log.len() > 100_000, "nothing went back into the database: {}", log.len());
    // The machine went down: snapshots are as they are, the log ends or is garbled somewhere.
    for (round, length) in (0..log.len()).step_by(log.len() / 23 + 7).enumerate() {
        let copy = tempfile::tempdir().expect("temp dir");
        drop(Store::open(copy.path()).expect("creates"));
        fs::write(copy.path().join("rb.db"), &database).expect("writes");
        let mut cut = log.clone();
        if round % 2 == 0 {
            cut.truncate(length);
        } else {
            cut[length..].fill(0x5a);
        }
        fs::write(copy.path().join("rb.db-wal"), cut).expect("writes");
        for id in &ids {
            fs::create_dir_all(copy.path().join(format!("snapshots/{id}/fs"))).expect("makes");
        }
        let store = Store::open(copy.path()).expect("opens");
        assert_eq!(store.warnings(), [""; 0], "{length}");
        store.wait_for_cleaning();
        for number in 0..20_u8 {
            let Some(record) = store.record(&rb_oci::Digest::of([number])).expect("reads") else { continue };
            assert_eq!(record.value, [number; 900]);
            for id in record.snapshots {
                let row = store.snapshot(id).expect("reads").expect("is there");
                assert_eq!(row.state, crate::SnapshotState::Committed);
                assert!(store.snapshot_dir(id).join("fs").is_dir());
            }
        }
        let id = store.new_snapshot(None).expect("starts");
        store.commit_snapshot(id, 0, None).expect("commits");
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
