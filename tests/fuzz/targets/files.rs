//! Any bytes as what a daemon tells of files and folders: what is told on are names.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| rb_remote::decoders::files(bytes));
