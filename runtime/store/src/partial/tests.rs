use std::io::Read as _;
use std::time::UNIX_EPOCH;

use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let root = tempfile::tempdir().expect("temp dir");
    let store = Store::open(root.path()).expect("opens");
    (root, store)
}

fn names(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root.join(FOLDER)).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("lists").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn what_one_began_another_ends() {
    let (root, store) = store();
    let bytes = vec![7_u8; 200_000];
    let digest = Digest::of(&bytes);
    let mut begun = store.partial_blob(&digest, 200_000).expect("begins");
    assert_eq!(begun.size_bytes(), 0);
    begun.write_all(&bytes[..150_000]).expect("writes");
    drop(begun);
    assert!(!store.has_blob(&digest).expect("looks"));
    drop(store);

    let store = Store::open(root.path()).expect("opens");
    let mut going_on = store.partial_blob(&digest, 200_000).expect("goes on");
    let mut told = Vec::new();
    let mut tell = |bytes: &[u8]| {
        told.extend_from_slice(bytes);
        Ok(())
    };
    going_on.read(&mut tell).expect("reads");
    going_on.read(&mut |_| Err(io::ErrorKind::Interrupted.into())).expect_err("nobody listens");
    assert_eq!((told.len(), going_on.size_bytes()), (150_000, 150_000));
    let mut reader = going_on.reader().expect("opens");
    going_on.write_all(&bytes[150_000..]).expect("writes");
    going_on.write_all(b"!").expect_err("that is all");
    going_on.commit(&digest).expect("commits");
    assert_eq!(store.read_blob(&digest, 200_000).expect("reads"), bytes);
    assert!(names(root.path()).is_empty());
    let mut seen = Vec::new();
    reader.read_to_end(&mut seen).expect("reads");
    assert_eq!(seen, bytes, "who reads along sees all of it");
}

#[test]
fn wrong_bytes_get_no_name_and_can_be_forgotten() {
    let (root, store) = store();
    let digest = Digest::of("right");
    let mut wrong = store.partial_blob(&digest, 5).expect("begins");
    wrong.write_all(b"wrong").expect("writes");
    let error = wrong.commit(&Digest::of("wrong")).expect_err("is another");
    assert!(matches!(error, StoreError::DigestMismatch { .. }), "{error}");
    let mut again = store.partial_blob(&digest, 5).expect("begins");
    again.restart().expect("forgets");
    again.write_all(b"right").expect("writes");
    again.commit(&digest).expect("commits");
    assert!(store.has_blob(&digest).expect("looks") && names(root.path()).is_empty());
}

#[test]
fn a_few_bytes_are_not_kept() {
    let (root, store) = store();
    let mut begun = store.partial_blob(&Digest::of("x"), 1 << 20).expect("begins");
    begun.write_all(&[0; 1000]).expect("writes");
    assert_eq!(names(root.path()).len(), 1);
    drop(begun);
    assert!(names(root.path()).is_empty());
}

#[test]
fn one_at_a_time() {
    let (_root, store) = store();
    let digest = Digest::of("x");
    let mut first = store.partial_blob(&digest, 1 << 20).expect("begins");
    std::thread::scope(|threads| {
        let second = threads.spawn(|| store.partial_blob(&digest, 1 << 20).expect("waits").size_bytes());
        first.write_all(&[1; 100_000]).expect("writes");
        drop(first);
        // Whoever is faster: what the other sees is nothing or all.
        assert!([0, 100_000].contains(&second.join().expect("ends")));
    });
}

#[test]
fn what_nobody_came_back_for_goes_and_what_is_held_stays() {
    let (root, store) = store();
    let begin = |name: &str, age: Duration| {
        let mut begun = store.partial_blob(&Digest::of(name), 1 << 20).expect("begins");
        begun.write_all(&[1; 70_000]).expect("writes");
        let modified = UNIX_EPOCH + store.clock().now().checked_sub(age).expect("long after 1970");
        begun.file.set_modified(modified).expect("sets");
        begun
    };
    let days = |count: u64| Duration::from_secs(count * 24 * 3600);
    let held = begin("held", days(30));
    drop(begin("old", days(8)));
    for number in 0..70_u64 {
        drop(begin(&format!("new {number}"), days(1) + Duration::from_secs(number)));
    }
    drop(Store::open(root.path()).expect("opens"));
    let left = names(root.path());
    assert!(left.contains(&Digest::of("held").hex()) && !left.contains(&Digest::of("old").hex()));
    assert!(left.contains(&Digest::of("new 0").hex()) && !left.contains(&Digest::of("new 69").hex()));
    assert_eq!(left.len(), KEPT_FILES + 1);
    drop(held);
    drop(Store::open(root.path()).expect("opens"));
    assert_eq!(names(root.path()).len(), KEPT_FILES);
}

#[test]
fn what_was_begun_under_another_name_gets_that_of_its_digest() {
    let (root, store) = store();
    let mut begun = store.partial_blob(&Digest::of("a version of a file"), 100).expect("begins");
    begun.write_all(b"content").expect("writes");
    begun.commit_as(&Digest::of("content")).expect("commits");
    assert_eq!(store.read_blob(&Digest::of("content"), 100).expect("reads"), b"content");
    assert!(names(root.path()).is_empty());
}
