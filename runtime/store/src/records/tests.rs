use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let root = tempfile::tempdir().expect("temp dir");
    let store = Store::open(root.path()).expect("opens");
    (root, store)
}

fn commit(store: &Store) -> SnapshotId {
    let id = store.new_snapshot(None).expect("starts");
    store.commit_snapshot(id, 0, None).expect("commits")
}

fn value(store: &Store, key: &str) -> Option<Vec<u8>> {
    store.record(&Digest::of(key)).expect("reads").map(|record| record.value)
}

fn results(store: &Store) -> i64 {
    let query = |connection: &rusqlite::Connection| {
        Ok(connection.query_row("SELECT count(*) FROM results", [], |row| row.get(0))?)
    };
    store.inner.database.read(query).expect("reads")
}

#[test]
fn a_record_is_what_was_put_last() {
    let (_root, store) = store();
    let (one, two) = (commit(&store), commit(&store));
    let key = Digest::of("key");
    store.put_record(&key, b"first", &[one]).expect("puts");
    store.put_record(&key, b"second", &[two, one]).expect("puts");
    let record = store.record(&key).expect("reads").expect("is there");
    assert_eq!((record.value.as_slice(), record.snapshots.as_slice()), (&b"second"[..], &[two, one][..]));
    assert_eq!(results(&store), 1);
    assert_eq!(value(&store, "other"), None);
}

#[test]
fn the_clock_stamps_records() {
    let root = tempfile::tempdir().expect("temp dir");
    let clock = crate::FixedClock(std::time::Duration::from_secs(1234));
    let store = Store::open_with(root.path(), std::sync::Arc::new(clock)).expect("opens");
    store.put_record(&Digest::of("k"), b"", &[]).expect("puts");
    assert_eq!(store.record(&Digest::of("k")).expect("reads").map(|record| record.created_unix), Some(1234));
}

#[test]
fn many_keys_share_a_result_until_the_last_goes() {
    let (_root, store) = store();
    let (a, b, c) = (Digest::of("a"), Digest::of("b"), Digest::of("c"));
    store.put_record(&a, b"value", &[]).expect("puts");
    store.link_record(&b, &a).expect("links");
    store.link_record(&b, &a).expect("links again");
    store.link_record(&a, &a).expect("links to itself");
    assert_eq!(value(&store, "b").as_deref(), Some(&b"value"[..]));
    assert!(store.remove_record(&a).expect("removes"));
    assert!(!store.remove_record(&a).expect("removes"));
    assert_eq!(value(&store, "b").as_deref(), Some(&b"value"[..]));
    store.put_record(&c, b"other", &[]).expect("puts");
    store.link_record(&b, &c).expect("links elsewhere");
    assert_eq!(results(&store), 1);
    assert!(matches!(store.link_record(&b, &a), Err(StoreError::UnknownRecord(_))));
    assert_eq!(value(&store, "b").as_deref(), Some(&b"other"[..]));
}

#[test]
fn a_record_never_names_a_snapshot_that_is_not_there() {
    let (_root, store) = store();
    let key = Digest::of("key");
    assert!(matches!(store.put_record(&key, b"", &[SnapshotId(7)]), Err(StoreError::UnknownSnapshot(_))));
    let active = store.new_snapshot(None).expect("starts");
    assert!(matches!(store.put_record(&key, b"", &[active]), Err(StoreError::UnknownSnapshot(_))));
    assert_eq!(value(&store, "key"), None);

    let (one, two) = (commit(&store), commit(&store));
    store.put_record(&key, b"v", &[one, two, one]).expect("puts");
    store.link_record(&Digest::of("alias"), &key).expect("links");
    store.put_record(&Digest::of("free"), b"v", &[one]).expect("puts");
    store.delete_snapshot(two).expect("removes");
    assert_eq!((value(&store, "key"), value(&store, "alias")), (None, None));
    assert!(value(&store, "free").is_some());
    assert_eq!(results(&store), 1);
}
