//! Any messages as a cache that a daemon writes into a folder: what stays are blobs under their digests, and a name of one that is there.
//!
//! The first message is what it says of the cache, the others what it writes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let outer = tempfile::tempdir().expect("a folder");
    let folder = outer.path().join("cache");
    rb_remote::decoders::cache(&rb_fuzz::messages(bytes), outer.path(), &folder);
    // What was on its way is gone with its folder.
    let left = std::fs::read_dir(outer.path()).expect("is there").flatten();
    assert!(left.into_iter().all(|entry| entry.path() == folder));
});
