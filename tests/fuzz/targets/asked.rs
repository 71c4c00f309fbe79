//! Any packets as those of a daemon that is sent a folder: it is given the file that is in it, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rb_fuzz::{messages, wait};

fuzz_target!(|bytes: &[u8]| wait(rb_remote::decoders::asked(messages(bytes))));
