use proptest::prelude::*;

use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let root = tempfile::tempdir().expect("temp dir");
    let store = Store::open(root.path()).expect("opens");
    (root, store)
}

fn temporary_files(store: &Store) -> usize {
    fs::read_dir(store.root().join("tmp")).expect("lists").count()
}

#[test]
fn reads_back_what_was_put() {
    let (_root, store) = store();
    let digest = store.put_blob(b"abc").expect("puts");
    assert_eq!(digest, Digest::of("abc"));
    assert_eq!(store.put_blob(b"abc").expect("puts again"), digest);
    assert_eq!(store.read_blob(&digest, 3).expect("reads"), b"abc");
    assert_eq!(store.blob_size(&digest).expect("stats"), Some(3));
    assert_eq!(fs::read(store.blob_path(&digest)).expect("reads"), b"abc");
    assert!(store.open_blob(&digest).expect("opens").is_some());
    assert!(store.remove_blob(&digest).expect("removes"));
    assert!(!store.remove_blob(&digest).expect("removes"));
    assert!(!store.has_blob(&digest).expect("stats"));
    assert!(store.open_blob(&digest).expect("opens").is_none());
    assert!(matches!(store.read_blob(&digest, 3), Err(StoreError::UnknownBlob(_))));
    assert_eq!(temporary_files(&store), 0);
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing() {
    let (_root, store) = store();
    let mut writer = store.blob_writer().expect("starts");
    writer.write_all(b"half").expect("writes");
    assert_eq!(temporary_files(&store), 1);
    drop(writer);
    assert_eq!(temporary_files(&store), 0);
}

#[test]
fn what_was_not_announced_is_not_kept() {
    let (_root, store) = store();
    let mut writer = store.blob_writer().expect("starts");
    writer.write_all(b"forged").expect("writes");
    let error = writer.commit(Some(Digest::of("true"))).expect_err("differs");
    assert!(matches!(error, StoreError::DigestMismatch { .. }), "{error}");
    assert!(!store.has_blob(&Digest::of("forged")).expect("stats"));
    assert_eq!(temporary_files(&store), 0);
}

#[test]
fn sizes_are_bounded() {
    let (_root, store) = store();
    let digest = store.put_blob(b"123456").expect("puts");
    assert!(matches!(store.read_blob(&digest, 5), Err(StoreError::TooLarge { size_bytes: 6, .. })));
}

#[test]
fn damage_is_found_and_the_blob_can_be_had_anew() {
    let (_root, store) = store();
    for damage in [&b"1234567890"[..], b"12345", b"", b"12345678901"] {
        let digest = store.put_blob(b"123456789x").expect("puts");
        fs::write(store.blob_path(&digest), damage).expect("damages");
        let error = store.read_blob(&digest, 100).expect_err("is damaged");
        assert!(matches!(error, StoreError::CorruptBlob { .. }), "{error}");
        assert!(!store.has_blob(&digest).expect("stats"));

        store.put_blob(b"123456789x").expect("puts");
        fs::write(store.blob_path(&digest), damage).expect("damages");
        let error = io::copy(&mut store.blob_reader(&digest).expect("opens"), &mut io::sink());
        assert_eq!(error.expect_err("is damaged").kind(), io::ErrorKind::InvalidData);
        assert!(!store.has_blob(&digest).expect("stats"));
    }
    let digest = store.put_blob(b"123456789x").expect("puts");
    let mut read = Vec::new();
    store.blob_reader(&digest).expect("opens").read_to_end(&mut read).expect("is well");
    assert_eq!(read, b"123456789x");
}

#[test]
fn damage_is_found_by_whoever_reads_as_many_bytes_as_there_are() {
    let (_root, store) = store();
    let digest = store.put_blob(b"abc").expect("puts");
    fs::write(store.blob_path(&digest), "abx").expect("damages");
    let error = store.blob_reader(&digest).expect("opens").read_exact(&mut [0; 3]).expect_err("is damaged");
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(!store.has_blob(&digest).expect("stats"));
    // One that somebody put in place of the damaged one meanwhile is whole and stays.
    store.put_blob(b"abc").expect("puts");
    fs::write(store.blob_path(&digest), "abx").expect("damages");
    let mut reader = store.blob_reader(&digest).expect("opens");
    let mut writer = store.blob_writer().expect("starts");
    writer.write_all(b"abc").expect("writes");
    writer.commit(Some(digest)).expect("heals");
    assert!(reader.read_exact(&mut [0; 3]).is_err());
    assert_eq!(store.read_blob(&digest, 3).expect("reads"), b"abc");
}

#[test]
fn a_commit_heals_a_damaged_blob() {
    let (_root, store) = store();
    let digest = store.put_blob(b"abc").expect("puts");
    fs::write(store.blob_path(&digest), "xyz").expect("damages");
    let mut writer = store.blob_writer().expect("starts");
    writer.write_all(b"abc").expect("writes");
    assert_eq!(writer.size_bytes(), 3);
    writer.commit(Some(digest)).expect("commits");
    assert_eq!(store.read_blob(&digest, 3).expect("reads"), b"abc");
}

#[test]
fn threads_that_write_the_same_blob_agree() {
    let (_root, store) = store();
    let bytes = vec![7; 300_000];
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| store.put_blob(&bytes).expect("puts"));
        }
    });
    assert_eq!(store.read_blob(&Digest::of(&bytes), 300_000).expect("reads"), bytes);
    assert_eq!(temporary_files(&store), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn any_pieces_make_the_blob_of_their_whole(pieces in proptest::collection::vec(any::<Vec<u8>>(), 0..8)) {
        let (_root, store) = store();
        let mut writer = store.blob_writer().expect("starts");
        pieces.iter().try_for_each(|piece| writer.write_all(piece)).expect("writes");
        let whole = pieces.concat();
        let (digest, size_bytes) = writer.commit(None).expect("commits");
        prop_assert_eq!((digest, size_bytes), (Digest::of(&whole), whole.len() as u64));
        prop_assert_eq!(store.read_blob(&digest, size_bytes).expect("reads"), whole);
    }
}
