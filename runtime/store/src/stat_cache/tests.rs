use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::FixedClock;

const NOW_NS: i64 = 1_000_000_000_000;

fn store() -> (tempfile::TempDir, Store) {
    let root = tempfile::tempdir().expect("temp dir");
    let clock = FixedClock(Duration::from_nanos(NOW_NS.unsigned_abs()));
    let store = Store::open_with(root.path(), Arc::new(clock)).expect("opens");
    (root, store)
}

fn change(path: &[u8], inode: u64, changed_ns: i64) -> StatChange {
    let stamp = FileStamp { device: 1, inode, size_bytes: 3, modified_ns: 5, changed_ns };
    StatChange { path: path.to_vec(), stamp, digest: [u8::try_from(inode % 251).expect("fits"); 32] }
}

#[test]
fn remembers_until_the_stamp_differs() {
    let (_root, store) = store();
    let (one, two) = (change(b"dir/one", 1, 10), change(b"\xff\xfe", 2, 10));
    store.update_stat_cache("here", &[one.clone(), two.clone()], &[]).expect("writes");
    let cache = store.stat_cache("here").expect("loads");
    assert_eq!((cache.len(), cache.is_empty()), (2, false));
    assert_eq!(cache.get(&one.path, &one.stamp), Some(one.digest));
    assert_eq!(cache.get(&two.path, &two.stamp), Some(two.digest));
    for stamp in [
        FileStamp { device: 9, ..one.stamp },
        FileStamp { inode: 9, ..one.stamp },
        FileStamp { size_bytes: 9, ..one.stamp },
        FileStamp { modified_ns: 9, ..one.stamp },
        FileStamp { changed_ns: 9, ..one.stamp },
    ] {
        assert_eq!(cache.get(&one.path, &stamp), None);
    }
    assert!(store.stat_cache("elsewhere").expect("loads").is_empty());

    let newer = change(b"dir/one", 3, 10);
    let gone = cache.paths_without(|path| path == b"dir/one");
    store.update_stat_cache("here", std::slice::from_ref(&newer), &gone).expect("writes");
    let cache = store.stat_cache("here").expect("loads");
    assert_eq!((cache.len(), cache.get(&newer.path, &newer.stamp)), (1, Some(newer.digest)));
    assert!(!cache.contains(b"\xff\xfe"));
}

#[test]
fn after_another_boot_only_what_was_on_the_disk_by_then_is_trusted() {
    const MINUTE: i64 = 60_000_000_000;
    let root = tempfile::tempdir().expect("temp dir");
    let open = |minute: i64| {
        let clock = FixedClock(Duration::from_nanos((NOW_NS + minute * MINUTE).unsigned_abs()));
        Store::open_with(root.path(), Arc::new(clock)).expect("opens")
    };
    let (fresh, settled) = (change(b"fresh", 1, NOW_NS - MINUTE), change(b"settled", 2, NOW_NS - 3 * MINUTE));
    let store = open(0);
    store.update_stat_cache("here", &[fresh.clone(), settled.clone()], &[]).expect("writes");
    assert_eq!(store.stat_cache("here").expect("loads").len(), 2);
    let reboot = |transaction: &rusqlite::Transaction<'_>| {
        transaction.execute("UPDATE meta SET value = 'earlier' WHERE name = 'boot'", [])?;
        Ok(())
    };
    store.inner.database.write(reboot).expect("writes");
    drop(store);
    let store = open(1);
    let cache = store.stat_cache("here").expect("loads");
    assert_eq!(cache.get(b"fresh", &fresh.stamp), None);
    assert_eq!(cache.get(b"settled", &settled.stamp), Some(settled.digest));
    store.update_stat_cache("here", std::slice::from_ref(&fresh), &[]).expect("writes");
    assert_eq!(store.stat_cache("here").expect("loads").len(), 2);
}

#[test]
fn young_files_are_not_trusted() {
    let (_root, store) = store();
    let old = change(b"file", 1, 10);
    for changed_ns in [NOW_NS - 1_999_999_999, NOW_NS, NOW_NS + 1_000_000_000_000, i64::MAX] {
        store.update_stat_cache("here", std::slice::from_ref(&old), &[]).expect("writes");
        store.update_stat_cache("here", &[change(b"file", 1, changed_ns)], &[]).expect("writes");
        assert!(store.stat_cache("here").expect("loads").is_empty(), "{changed_ns}");
    }
    store.update_stat_cache("here", &[change(b"file", 1, NOW_NS - 2_000_000_000)], &[]).expect("writes");
    assert_eq!(store.stat_cache("here").expect("loads").len(), 1);
}

#[test]
fn what_was_hashed_later_than_now_is_not_trusted() {
    let (root, store) = store();
    let one = change(b"file", 1, 10);
    store.update_stat_cache("here", std::slice::from_ref(&one), &[]).expect("writes");
    drop(store);
    for (now_ns, known) in [(NOW_NS, 1), (NOW_NS - 1, 0), (NOW_NS + 1, 1)] {
        let clock = FixedClock(Duration::from_nanos(now_ns.unsigned_abs()));
        let store = Store::open_with(root.path(), Arc::new(clock)).expect("opens");
        assert_eq!(store.stat_cache("here").expect("loads").len(), known, "{now_ns}");
    }
}

#[test]
fn twenty_thousand_files_load_fast() {
    let (_root, store) = store();
    let changes: Vec<_> = (0..20_000)
        .map(|n| change(format!("source/package-{}/file-{n}.c", n % 100).as_bytes(), n, 10))
        .collect();
    let start = Instant::now();
    store.update_stat_cache("here", &changes, &[]).expect("writes");
    let written = start.elapsed();
    let start = Instant::now();
    let cache = store.stat_cache("here").expect("loads");
    let loaded = start.elapsed();
    assert!(changes.iter().all(|change| cache.get(&change.path, &change.stamp) == Some(change.digest)));
    eprintln!("20,000 files: written in {written:?}, loaded in {loaded:?}");
    assert!(loaded < Duration::from_secs(1), "{loaded:?}");
}

proptest! {
    #[test]
    fn rows_survive(numbers in any::<(u64, u64, u64, i64, i64, i64)>(), digest in any::<[u8; 32]>()) {
        let (device, inode, size_bytes, modified_ns, changed_ns, made_ns) = numbers;
        let stamp = FileStamp { device, inode, size_bytes, modified_ns, changed_ns };
        let bytes = encode(&stamp, made_ns, &digest);
        prop_assert_eq!(decode(&bytes), Some((stamp, made_ns, digest)));
        prop_assert_eq!(decode(&bytes[1..]), None);
    }
}
