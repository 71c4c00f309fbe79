//! Any bytes as the answer of Docker's daemon to who wants a connection: nothing but an answer 101 is one.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| rb_fuzz::wait(rb_remote::decoders::upgraded(bytes)));
