//! Any packets as those of a daemon that is sent a folder: it is given the file that is in it, or an error.
//!
//! Packets follow each other behind their length, of two bytes.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().build().expect("starts"));

fuzz_target!(|bytes: &[u8]| RUNTIME.block_on(rb_remote::decoders::asked(packets(bytes))));

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
