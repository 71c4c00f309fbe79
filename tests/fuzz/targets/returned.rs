//! Any bytes as what a frontend of an image returns: trees that it has, or a typed error.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| rb_remote::decoders::returned(bytes));
