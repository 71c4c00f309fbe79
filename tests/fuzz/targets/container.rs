//! Any bytes as what a frontend says of a container and of its process: one that may be, or a typed error.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| rb_remote::decoders::container(bytes));
