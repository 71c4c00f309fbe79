//! Any bytes as what a daemon asks an ssh agent that is lent: it answers each message, and has no key to sign with.
#![no_main]

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rb_session::{LentAgent, SshAgent};
use tempfile::TempDir;

static AGENT: LazyLock<(TempDir, LentAgent)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let lent = SshAgent::of_keys(Vec::new()).listen(&folder.path().join("s")).expect("listens");
    (folder, lent)
});

/// That it does not do it, and that it has no keys.
const ANSWERS: [&[u8]; 2] = [&[5], &[12, 0, 0, 0, 0]];

fuzz_target!(|bytes: &[u8]| {
    let mut stream = UnixStream::connect(AGENT.0.path().join("s")).expect("connects");
    // It hangs up on what is no message.
    stream.write_all(bytes).ok();
    stream.shutdown(Shutdown::Write).ok();
    let mut told = Vec::new();
    stream.read_to_end(&mut told).ok();
    let mut rest = told.as_slice();
    while let Some((length, answer)) = rest.split_first_chunk() {
        let (answer, next) = answer.split_at(u32::from_be_bytes(*length) as usize);
        assert!(ANSWERS.contains(&answer), "{answer:?}");
        rest = next;
    }
});
