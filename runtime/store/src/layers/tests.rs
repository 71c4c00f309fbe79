use super::*;

fn row(store: &Store, bytes: &[u8]) -> LayerRow {
    let digest = store.put_blob(bytes).expect("puts");
    let json = format!(
        r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{digest}","size":{}}}"#,
        bytes.len()
    );
    LayerRow { diff_id: Digest::of("tar"), descriptor: serde_json::from_str(&json).expect("is a descriptor") }
}

#[test]
fn a_layer_is_remembered_while_its_blob_is_whole() {
    let root = tempfile::tempdir().expect("temp dir");
    let store = Store::open(root.path()).expect("opens");
    let key = Store::original_layer_key(SnapshotId(3));
    assert_ne!(key, Store::original_layer_key(SnapshotId(4)));
    assert_eq!(store.layer(&key).expect("reads"), None);
    let layer = row(&store, b"compressed");
    store.put_layer(&key, &layer).expect("puts");
    assert_eq!(store.layer(&key).expect("reads"), Some(layer.clone()));

    let digest = descriptor_digest(&layer.descriptor).expect("is sha256");
    std::fs::write(store.blob_path(&digest), "cut").expect("damages");
    assert_eq!(store.layer(&key).expect("reads"), None);
    assert!(matches!(store.put_layer(&key, &layer), Err(StoreError::UnknownBlob(_))));
    let again = row(&store, b"compressed");
    assert_eq!(store.layer(&key).expect("reads"), Some(again));

    store.remove_blob(&digest).expect("removes");
    store.put_blob(b"compressed").expect("puts");
    assert_eq!(store.layer(&key).expect("reads"), None, "the row went with the blob");
}

#[test]
fn a_damaged_row_is_none() {
    let root = tempfile::tempdir().expect("temp dir");
    let store = Store::open(root.path()).expect("opens");
    let key = Digest::of("key");
    store.put_layer(&key, &row(&store, b"compressed")).expect("puts");
    let damage = |transaction: &Transaction<'_>| {
        transaction.execute("UPDATE layers SET descriptor = replace(descriptor, 'digest', 'dioest')", [])?;
        Ok(())
    };
    store.inner.database.write(damage).expect("writes");
    assert_eq!(store.layer(&key).expect("reads"), None);
    store.put_layer(&key, &row(&store, b"compressed")).expect("puts");
    assert!(store.layer(&key).expect("reads").is_some());
}
