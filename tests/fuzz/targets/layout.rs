//! Any bytes as the archive in which a daemon sends an image: what stays of it are blobs that are what they are called.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let outer = tempfile::tempdir().expect("a folder");
    let folder = outer.path().join("layout");
    std::fs::create_dir(&folder).expect("is made");
    rb_remote::decoders::unpacked(bytes, &folder);
    assert_eq!(std::fs::read_dir(outer.path()).expect("is there").count(), 1);
});
