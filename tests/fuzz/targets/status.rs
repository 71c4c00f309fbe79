//! Any bytes as two pieces of what a daemon tells of its progress: vertices are told once, end once, and have names of one line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rb_remote::decoders;

fuzz_target!(|bytes: &[u8]| {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    decoders::status(first, second);
    decoders::status(bytes, bytes);
});
