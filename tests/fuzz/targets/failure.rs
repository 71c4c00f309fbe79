//! Any bytes as the details and words of a daemon's error: what a user is told is short, and moves no cursor.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| rb_remote::decoders::failure(bytes));
