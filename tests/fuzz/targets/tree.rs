//! Any packets as a tree that a daemon sends: it stays in its folder, and has folders, files and links alone.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rb_fuzz::{messages, wait};

fuzz_target!(|bytes: &[u8]| {
    let outer = tempfile::tempdir().expect("a folder");
    let folder = outer.path().join("tree");
    std::fs::create_dir(&folder).expect("is made");
    std::fs::write(outer.path().join("file"), "mine").expect("is written");
    wait(rb_remote::decoders::tree(messages(bytes), &folder));
    assert_eq!(std::fs::read(outer.path().join("file")).expect("is there"), b"mine");
    assert_eq!(std::fs::read_dir(outer.path()).expect("is there").count(), 2);
});
