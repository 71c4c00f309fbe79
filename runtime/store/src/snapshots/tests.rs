use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let root = tempfile::tempdir().expect("temp dir");
    let store = Store::open(root.path()).expect("opens");
    (root, store)
}

fn commit(store: &Store, parent: Option<SnapshotId>, content: Option<[u8; 32]>) -> SnapshotId {
    let id = store.new_snapshot(parent).expect("starts");
    store.commit_snapshot(id, 7, content).expect("commits")
}

#[test]
fn lives_from_active_to_gone() {
    let (_root, store) = store();
    let id = store.new_snapshot(None).expect("starts");
    let directory = store.snapshot_dir(id);
    assert!(directory.join("fs").is_dir() && directory.join("work").is_dir());
    assert_eq!(fs::metadata(directory.join("fs")).expect("stats").permissions().mode() & 0o7777, 0o755);
    let row = SnapshotRow {
        id,
        parent: None,
        state: SnapshotState::Active,
        size_bytes: 0,
        content_key: None,
        own_key: None,
        is_sealed: false,
        continues: false,
    };
    assert_eq!(store.snapshot(id).expect("reads"), Some(row.clone()));

    assert_eq!(store.commit_snapshot(id, 42, Some([1; 32])).expect("commits"), id);
    assert!(!directory.join("work").exists());
    let row =
        SnapshotRow { state: SnapshotState::Committed, size_bytes: 42, content_key: Some([1; 32]), ..row };
    assert_eq!(store.snapshot(id).expect("reads"), Some(row.clone()));
    assert_eq!(store.snapshots().expect("reads"), [row]);
    assert_eq!(store.snapshot_by_content(&[1; 32]).expect("reads"), Some(id));
    assert!(matches!(store.commit_snapshot(id, 0, None), Err(StoreError::NotActive(_))));

    assert!(store.delete_snapshot(id).expect("removes"));
    assert!(!directory.exists());
    assert_eq!(store.snapshot(id).expect("reads"), None);
    assert_eq!(store.snapshot_by_content(&[1; 32]).expect("reads"), None);
    assert!(!store.delete_snapshot(id).expect("removes"));
    assert_eq!(fs::read_dir(store.root().join("tmp")).expect("lists").count(), 0);
}

#[test]
fn ids_are_not_used_twice() {
    let (_root, store) = store();
    let first = commit(&store, None, None);
    store.delete_snapshot(first).expect("removes");
    assert!(commit(&store, None, None) > first);
}

#[test]
fn a_parent_is_committed_and_stays() {
    let (_root, store) = store();
    let active = store.new_snapshot(None).expect("starts");
    assert!(matches!(store.new_snapshot(Some(active)), Err(StoreError::UnknownSnapshot(_))));
    assert!(matches!(store.new_snapshot(Some(SnapshotId(999))), Err(StoreError::UnknownSnapshot(_))));
    let parent = store.commit_snapshot(active, 0, None).expect("commits");
    let child = commit(&store, Some(parent), None);
    assert_eq!(store.snapshot(child).expect("reads").and_then(|row| row.parent), Some(parent));
    assert!(matches!(store.delete_snapshot(parent), Err(StoreError::HasChildren { children: 1, .. })));
    assert!(store.snapshot_dir(parent).exists());
    store.delete_snapshot(child).expect("removes");
    store.delete_snapshot(parent).expect("removes");
}

#[test]
fn the_first_tree_with_a_content_stands_for_later_ones() {
    let (_root, store) = store();
    let first = commit(&store, None, Some([9; 32]));
    let second = store.new_snapshot(None).expect("starts");
    assert_eq!(store.commit_snapshot(second, 0, Some([9; 32])).expect("commits"), first);
    assert_eq!(store.snapshot(second).expect("reads").map(|row| row.state), Some(SnapshotState::Active));
    assert!(store.delete_snapshot(second).expect("removes"));
    assert!(!store.snapshot_dir(second).exists());
    // Two without content key are not the same.
    assert_ne!(commit(&store, None, None), commit(&store, None, None));
}

#[test]
fn threads_that_commit_the_same_content_get_one_snapshot() {
    let (_root, store) = store();
    let ids: Vec<SnapshotId> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| commit(&store, None, Some([3; 32])))).collect();
        threads.into_iter().map(|thread| thread.join().expect("commits")).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn a_directory_left_by_a_lost_row_is_no_obstacle() {
    let (root, store) = store();
    let id = store.new_snapshot(None).expect("starts");
    let next = root.path().join(format!("snapshots/{}", id.0 + 1));
    fs::create_dir_all(next.join("fs/old")).expect("makes");
    let id = store.new_snapshot(None).expect("starts");
    assert_eq!(store.snapshot_dir(id), next);
    assert!(!next.join("fs/old").exists());
}

#[test]
fn one_that_is_written_is_put_on_another_parent() {
    let (_root, store) = store();
    let parent = commit(&store, None, None);
    let id = store.new_snapshot(None).expect("starts");
    let unfinished = store.new_snapshot(None).expect("starts");
    let younger = commit(&store, None, None);
    for no_parent in [unfinished, younger, SnapshotId(99), id] {
        assert!(!store.move_onto(id, Some(no_parent), true).expect("asks"), "{no_parent}");
    }
    let row = |id| store.snapshot(id).expect("reads").expect("is there");
    assert_eq!((row(id).parent, row(id).continues), (None, false));
    assert!(store.move_onto(id, Some(parent), true).expect("moves"));
    assert_eq!((row(id).parent, row(id).continues), (Some(parent), true));
    assert!(matches!(store.delete_snapshot(parent), Err(StoreError::HasChildren { .. })));
    assert!(store.move_onto(id, None, false).expect("moves back"));
    assert_eq!((row(id).parent, row(id).continues), (None, false));
    store.commit_snapshot(id, 0, None).expect("commits");
    assert!(matches!(store.move_onto(id, Some(parent), true), Err(StoreError::NotActive(_))));
}
