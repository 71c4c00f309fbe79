//! Large layers take little memory, however large. The long form is `tests/bench/memory`.

use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use crate::env::TestEnv;
use crate::push::{folder, noise};
use crate::registry::support::docker_registry::{DockerRegistry, Wants};

const MEGABYTES: u64 = 200;
const LIMIT_BYTES: u64 = 150 << 20;

/// Runs `rb`, and returns the peak of its memory, as far as it is seen from outside.
fn peak(env: &TestEnv, args: &[&str]) -> u64 {
    let mut command = env.command(args);
    command
        .stdout(std::process::Stdio::null())
        .stderr(File::create(env.project().join("said")).expect("creates"));
    let mut child = command.spawn().expect("rb starts");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let ended = loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes: Option<u64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        peak = peak.max(kilobytes.unwrap_or(0) * 1024);
        if let Some(ended) = child.try_wait().expect("waits") {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(ended.success(), "{}", env.read("said"));
    assert!(peak > 0, "nothing was seen");
    peak
}

#[test]
fn a_large_layer_is_pushed_and_pulled_in_little_memory() {
    let folder = folder();
    let Some(registry) = DockerRegistry::start(&folder.path().join("registry"), &Wants::default()) else {
        return;
    };
    let name = format!("{}/a/large:1", registry.host);
    let pusher = TestEnv::new();
    let mut data = File::create(pusher.project().join("data")).expect("creates");
    for number in 0..MEGABYTES {
        // Half of it compresses.
        data.write_all(&noise(number, 500_000)).expect("writes");
        data.write_all(format!("line {number}\n").repeat(50_000).as_bytes()).expect("writes");
    }
    pusher.write(
        "Buildfile",
        format!("VERSION 1\nimage:\n    FROM scratch\n    COPY data /data\n    SAVE IMAGE --push {name}\n"),
    );
    let pushed = peak(&pusher, &["--push", "+image"]);
    drop(pusher);
    let puller = TestEnv::new();
    puller.write(
        "Buildfile",
        format!("VERSION 1\nt:\n    FROM {name}\n    COPY Buildfile /b\n    SAVE ARTIFACT /b AS LOCAL out\n"),
    );
    let pulled = peak(&puller, &["+t"]);
    eprintln!("pushed with {} MB, pulled with {} MB", pushed >> 20, pulled >> 20);
    assert!(pushed < LIMIT_BYTES && pulled < LIMIT_BYTES, "{pushed} and {pulled} bytes");
}
