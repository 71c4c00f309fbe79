use rb_oci::Digest;

use super::*;

fn commit(store: &Store, parent: Option<SnapshotId>, content: u8) -> SnapshotId {
    let id = store.new_snapshot(parent).expect("starts");
    let id = store.commit_snapshot(id, 0, Some([content; 32])).expect("commits");
    store.put_record(&key(content), b"value", &[id]).expect("puts");
    id
}

fn key(content: u8) -> Digest {
    Digest::of([content])
}

fn ids(store: &Store) -> Vec<SnapshotId> {
    store.snapshots().expect("reads").into_iter().map(|row| row.id).collect()
}

fn served(store: &Store, content: u8) -> (bool, bool) {
    let by_record = store.record(&key(content)).expect("reads").is_some();
    (by_record, store.snapshot_by_content(&[content; 32]).expect("reads").is_some())
}

#[test]
fn a_lost_directory_takes_what_builds_on_it_along_and_leaves_the_rest() {
    for part in ["", "fs"] {
        for by_content in [false, true] {
            let root = tempfile::tempdir().expect("temp dir");
            let store = Store::open(root.path()).expect("opens");
            let base = commit(&store, None, 1);
            let lost = commit(&store, Some(base), 2);
            let child = commit(&store, Some(lost), 3);
            let sibling = commit(&store, Some(lost), 4);
            let other = commit(&store, Some(base), 5);
            fs::remove_dir_all(store.snapshot_dir(lost).join(part)).expect("removes");
            drop(store);

            let store = Store::open(root.path()).expect("opens");
            assert_eq!(served(&store, 1), (true, true));
            // Asked for the child alone, in either way.
            if by_content {
                assert_eq!(store.snapshot_by_content(&[3; 32]).expect("reads"), None);
            } else {
                assert_eq!(store.record(&key(3)).expect("reads"), None);
            }
            assert_eq!(ids(&store), [base, other], "{lost} {child} {sibling}");
            for content in [2, 3, 4] {
                assert_eq!(served(&store, content), (false, false), "{content}");
            }
            assert_eq!(served(&store, 5), (true, true));
            store.wait_for_cleaning();
            assert_eq!(fs::read_dir(root.path().join("snapshots")).expect("lists").count(), 2);
            assert_eq!(fs::read_dir(root.path().join("tmp")).expect("lists").count(), 0);
            // Made again, all is served again.
            let again = commit(&store, Some(base), 2);
            commit(&store, Some(again), 3);
            assert_eq!((served(&store, 2), served(&store, 3)), ((true, true), (true, true)));
        }
    }
}

#[test]
fn a_commit_does_not_yield_to_an_older_one_that_lost_its_directory() {
    let root = tempfile::tempdir().expect("temp dir");
    let store = Store::open(root.path()).expect("opens");
    let lost = commit(&store, None, 1);
    fs::remove_dir_all(store.snapshot_dir(lost)).expect("removes");
    let new = commit(&store, None, 1);
    assert_ne!(new, lost);
    assert_eq!(ids(&store), [new]);
    // On top of the lost one as well: that cannot be dropped while it is written on, and is not found either.
    let lost = commit(&store, None, 2);
    fs::remove_dir_all(store.snapshot_dir(lost)).expect("removes");
    let child = store.new_snapshot(Some(lost)).expect("starts");
    assert_eq!(store.commit_snapshot(child, 0, Some([2; 32])).expect("commits"), child);
    assert_eq!(served(&store, 2), (false, false));
    assert_eq!(ids(&store), [new]);
}

#[test]
fn what_another_process_writes_stays_its_own() {
    let root = tempfile::tempdir().expect("temp dir");
    let writer = Store::open(root.path()).expect("opens");
    let lost = commit(&writer, None, 1);
    let between = commit(&writer, Some(lost), 2);
    let leaf = commit(&writer, Some(between), 3);
    let active = writer.new_snapshot(Some(between)).expect("starts");
    fs::remove_dir_all(writer.snapshot_dir(lost)).expect("removes");

    let other = Store::open(root.path()).expect("opens");
    assert_eq!(served(&other, 2), (false, false));
    assert_eq!((served(&other, 1), served(&other, 3)), ((false, false), (false, false)));
    assert_eq!(ids(&other), [lost, between, active], "{leaf}");
    assert!(writer.snapshot_dir(between).join("fs").is_dir());
    assert!(writer.snapshot_dir(active).join("work").is_dir());
    assert_eq!(writer.commit_snapshot(active, 0, Some([4; 32])).expect("commits"), active);
    writer.put_record(&key(4), b"value", &[active]).expect("puts");
    assert_eq!(served(&other, 4), (false, false));
    assert_eq!(ids(&other), []);
}

#[test]
fn each_layer_is_looked_at_once() {
    let root = tempfile::tempdir().expect("temp dir");
    let store = Store::open(root.path()).expect("opens");
    let base = commit(&store, None, 1);
    let child = commit(&store, Some(base), 2);
    assert_eq!(served(&store, 2), (true, true));
    fs::remove_dir_all(store.snapshot_dir(base)).expect("removes");
    assert!(store.is_whole(child).expect("remembers"));
    assert!(!Store::open(root.path()).expect("opens").is_whole(child).expect("looks"));
}

/// Seals the length of the one file of a layer.
fn length_of_file(directory: &Path) -> io::Result<Seal> {
    Ok(u128::from(fs::metadata(directory.join("fs/file"))?.len()).to_le_bytes())
}

fn sealing(root: &Path) -> Store {
    let store = Store::open(root).expect("opens");
    store.seal_with(length_of_file);
    store
}

fn commit_file(store: &Store, parent: Option<SnapshotId>, content: u8) -> SnapshotId {
    let id = store.new_snapshot(parent).expect("starts");
    fs::write(store.snapshot_dir(id).join("fs/file"), [content]).expect("writes");
    let id = store.commit_snapshot(id, 0, Some([content; 32])).expect("commits");
    store.put_record(&key(content), b"value", &[id]).expect("puts");
    id
}

fn damage(store: &Store, id: SnapshotId) {
    fs::write(store.snapshot_dir(id).join("fs/file"), "longer").expect("writes");
}

#[test]
fn a_layer_that_does_not_fit_its_seal_goes_with_what_builds_on_it() {
    for by_content in [false, true] {
        let root = tempfile::tempdir().expect("temp dir");
        let store = sealing(root.path());
        let base = commit_file(&store, None, 1);
        let bad = commit_file(&store, Some(base), 2);
        commit_file(&store, Some(bad), 3);
        let other = commit_file(&store, Some(base), 4);
        damage(&store, bad);
        // Who cannot tell serves it; who can does not, and asks once in its life.
        assert_eq!(served(&Store::open(root.path()).expect("opens"), 3), (true, true));
        let store = sealing(root.path());
        if by_content {
            assert_eq!(store.snapshot_by_content(&[3; 32]).expect("reads"), None);
        } else {
            assert_eq!(store.record(&key(3)).expect("reads"), None);
        }
        let reason = |content| store.tombstone(&key(content)).expect("reads").map(|gone| gone.reason);
        assert_eq!((reason(2), reason(3)), (Some(GoneReason::Corrupt), Some(GoneReason::Corrupt)));
        assert_eq!(ids(&store), [base, other]);
        assert_eq!((served(&store, 1), served(&store, 4)), ((true, true), (true, true)));
        damage(&store, other);
        assert_eq!(served(&store, 4), (true, true));
        assert_eq!(served(&sealing(root.path()), 4), (false, false));
    }
}

#[test]
fn a_commit_does_not_yield_to_an_older_one_that_is_damaged() {
    let root = tempfile::tempdir().expect("temp dir");
    let store = sealing(root.path());
    let bad = commit_file(&store, None, 1);
    damage(&store, bad);
    let new = commit_file(&store, None, 1);
    assert_ne!(new, bad);
    assert_eq!(ids(&store), [new]);
}

#[test]
fn what_is_not_sealed_is_served_as_before() {
    let root = tempfile::tempdir().expect("temp dir");
    let old = Store::open(root.path()).expect("opens");
    let id = commit_file(&old, None, 1);
    damage(&old, id);
    assert_eq!(served(&sealing(root.path()), 1), (true, true));
}

#[test]
fn what_is_committed_on_a_damaged_one_that_could_not_go_is_not_served() {
    let root = tempfile::tempdir().expect("temp dir");
    let writer = sealing(root.path());
    let bad = commit_file(&writer, None, 1);
    let active = writer.new_snapshot(Some(bad)).expect("starts");
    fs::write(writer.snapshot_dir(active).join("fs/file"), "x").expect("writes");
    // It was found by reading, and what it looks like tells nothing.
    let reader = sealing(root.path());
    reader.forget_bad(bad, GoneReason::Corrupt).expect("forgets");
    assert_eq!(ids(&reader), [bad, active]);
    writer.commit_snapshot(active, 0, Some([2; 32])).expect("commits");
    writer.put_record(&key(2), b"value", &[active]).expect("puts");
    assert_eq!(served(&sealing(root.path()), 2), (false, false));
    assert_eq!(ids(&reader), []);
}
