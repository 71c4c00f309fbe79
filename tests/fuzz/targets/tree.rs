//! Any packets as a tree that a daemon sends: it stays in its folder, and has folders, files and links alone.
//!
//! Packets follow each other behind their length, of two bytes.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().build().expect("starts"));

fuzz_target!(|bytes: &[u8]| {
    let outer = tempfile::tempdir().expect("a folder");
    let folder = outer.path().join("tree");
    std::fs::create_dir(&folder).expect("is made");
    std::fs::write(outer.path().join("file"), "mine").expect("is written");
    RUNTIME.block_on(rb_remote::decoders::tree(packets(bytes), &folder));
    assert_eq!(std::fs::read(outer.path().join("file")).expect("is there"), b"mine");
    assert_eq!(std::fs::read_dir(outer.path()).expect("is there").count(), 2);
});

fn packets(mut bytes: &[u8]) -> Vec<bytes::Bytes> {
    let mut found = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (packet, rest) = rest.split_at(length);
        found.push(packet.to_vec().into());
        bytes = rest;
    }
    found
}
