//! Any bytes as what a daemon says that names stand for: an image by the digest that was asked for, a commit, or a typed error.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| rb_remote::decoders::sources(bytes));
