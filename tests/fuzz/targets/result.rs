//! Any bytes as what a daemon says came of a build: an image, an answer to a question, or a typed error.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| rb_remote::decoders::result(bytes));
