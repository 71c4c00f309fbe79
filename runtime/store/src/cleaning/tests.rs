use std::fs::File;
use std::path::Path;

use super::*;

fn count(directory: &Path) -> usize {
    fs::read_dir(directory).expect("lists").count()
}

/// Makes things of a process that is dead: its lock file is there and not held.
fn die_halfway(root: &Path) -> SnapshotId {
    let store = Store::open(root).expect("opens");
    let id = store.new_snapshot(None).expect("starts");
    fs::write(store.snapshot_dir(id).join("fs/file"), "half").expect("writes");
    fs::write(store.temp_path(), "half").expect("writes");
    fs::create_dir(store.temp_path()).expect("makes");
    let lock = root.join("locks").join(store.inner.lock.name());
    drop(store);
    File::create(lock).expect("is left as after a kill");
    id
}

#[test]
fn removes_what_the_dead_left() {
    let root = tempfile::tempdir().expect("temp dir");
    let id = die_halfway(root.path());
    let store = Store::open(root.path()).expect("opens");
    assert_eq!(store.snapshot(id).expect("reads"), None);
    store.wait_for_cleaning();
    for directory in ["tmp", "snapshots"] {
        assert_eq!(count(&root.path().join(directory)), 0, "{directory}");
    }
    assert_eq!(count(&root.path().join("locks")), 1);
}

#[test]
fn removes_what_an_owner_without_lock_file_left() {
    let root = tempfile::tempdir().expect("temp dir");
    let store = Store::open(root.path()).expect("opens");
    let id = store.new_snapshot(None).expect("starts");
    drop(store);
    for name in ["of-nobody", "...1", ".x", "a.b.c"] {
        fs::write(root.path().join("tmp").join(name), "x").expect("writes");
    }
    fs::create_dir(root.path().join("locks/other")).expect("makes");
    let store = Store::open(root.path()).expect("opens");
    assert_eq!(store.snapshot(id).expect("reads"), None);
    store.wait_for_cleaning();
    assert_eq!((count(&root.path().join("tmp")), count(&root.path().join("snapshots"))), (0, 0));
}

#[test]
fn leaves_the_living_alone() {
    let root = tempfile::tempdir().expect("temp dir");
    let living = Store::open(root.path()).expect("opens");
    let id = living.new_snapshot(None).expect("starts");
    let temporary = living.temp_path();
    fs::write(&temporary, "mine").expect("writes");
    die_halfway(root.path());
    let other = Store::open(root.path()).expect("opens");
    other.wait_for_cleaning();
    assert!(temporary.exists());
    assert!(living.snapshot_dir(id).join("fs").exists());
    assert!(matches!(other.delete_snapshot(id), Err(StoreError::NotActive(_))));
    assert!(matches!(other.commit_snapshot(id, 0, None), Err(StoreError::NotActive(_))));
    living.commit_snapshot(id, 0, None).expect("commits");
}

#[test]
fn a_snapshot_that_was_not_synced_is_not_served_after_a_boot() {
    let root = tempfile::tempdir().expect("temp dir");
    let store = Store::open(root.path()).expect("opens");
    let commit = |parent| {
        let id = store.new_snapshot(parent).expect("starts");
        store.commit_snapshot(id, 0, None).expect("commits")
    };
    let synced = commit(None);
    let lost = commit(None);
    store.sync_snapshots().expect("syncs");
    let late = commit(Some(synced));
    let later = commit(Some(late));
    let child_of_lost = commit(Some(lost));
    store.sync_snapshots().expect("syncs");
    for (id, is_synced) in [(late, false), (later, false)] {
        let change = |transaction: &Transaction<'_>| {
            transaction.execute("UPDATE snapshots SET synced = ? WHERE id = ?", (is_synced, id.to_sql()))?;
            Ok(())
        };
        store.inner.database.write(change).expect("writes");
    }
    let key = |text: &str| rb_oci::Digest::of(text);
    store.put_record(&key("kept"), b"1", &[synced]).expect("puts");
    store.put_record(&key("late"), b"2", &[synced, late]).expect("puts");
    // The machine goes down: a directory is lost with it, another one lost its row.
    fs::remove_dir_all(store.snapshot_dir(lost)).expect("removes");
    fs::create_dir(root.path().join("snapshots/777")).expect("makes");
    let reboot = |transaction: &Transaction<'_>| {
        transaction.execute("UPDATE meta SET value = 'earlier' WHERE name = 'boot'", [])?;
        Ok(())
    };
    store.inner.database.write(reboot).expect("writes");
    drop(store);

    let store = Store::open(root.path()).expect("opens");
    store.wait_for_cleaning();
    let there: Vec<_> = store.snapshots().expect("reads").into_iter().map(|row| row.id).collect();
    assert_eq!(there, [synced], "{lost} {late} {later} {child_of_lost}");
    assert_eq!(count(&root.path().join("snapshots")), 1);
    assert!(store.record(&key("kept")).expect("reads").is_some());
    assert!(store.record(&key("late")).expect("reads").is_none());
    let gone = |text| store.tombstone(&key(text)).expect("reads").map(|tombstone| tombstone.reason);
    assert_eq!((gone("kept"), gone("late")), (None, Some(GoneReason::Unsynced)));
}
