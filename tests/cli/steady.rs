//! Builds without end over one state directory: nothing of one is left for the next to find, and `rb` grows with none of them.
//! `RB_STEADY_MINUTES` says for how long (`tests/soak steady`); otherwise it is some seconds.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::counts::{alone, remove_groups};
use crate::env::{TestEnv, is_root};
use crate::tally::{Tally, memory, span};

const TEXT: &str = "VERSION 1\nFROM @host\nWORKDIR /w\n\
lib:\n    COPY src src\n    RUN --mount=type=cache,id=steady,target=/c cat src/* | cksum > lib; date > /c/used\n    SAVE ARTIFACT lib\n\
app:\n    ARG round=0\n    COPY +lib/lib lib\n    RUN echo $round > round; head -c 1000000 /dev/zero > bulk\n    SAVE ARTIFACT round AS LOCAL out/round\n\
side:\n    ARG round=0\n    IF test \"$(echo $round)\" != never\n        RUN echo side $round > side\n    END\n    SAVE ARTIFACT side AS LOCAL out/side\n\
fails:\n    ARG round=0\n    TRY\n        RUN echo $round > report; exit 3\n    FINALLY\n        SAVE ARTIFACT report AS LOCAL out/report\n    END\n\
slow:\n    ARG round=0\n    RUN echo $round > slow; sleep 600\n";

/// What the state directory may occupy: what is made in the loop is more than that soon.
const CAP: (&str, &str) = ("RB_CACHE_MAX_SIZE", "100MB");

/// One `rb` may need so much more memory at the end.
const SLACK_BYTES: u64 = 16 << 20;

/// So many rounds at least come before the first count.
const WARM_UP: usize = 5;

/// Builds what is new in each round; returns the peak of its memory, as far as it is seen from outside.
fn build(env: &TestEnv, limits: &[&str], number: usize) -> u64 {
    let round = format!("--round={number}");
    let words = ["-q", "+app", &round, "+side", &round];
    let mut command = env.command(limits.iter().chain(&words));
    command.env(CAP.0, CAP.1);
    let mut child = command.spawn().expect("rb starts");
    let (process, mut peak) = (child.id().to_string(), 0);
    let ended = loop {
        peak = peak.max(memory(&process, "VmHWM").unwrap_or_default());
        if let Some(ended) = child.try_wait().expect("waits") {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    assert!(ended.success(), "round {number}: {ended:?}");
    assert_eq!(env.read("out/round") + &env.read("out/side"), format!("{number}\nside {number}\n"));
    peak
}

/// A round: builds that go well, fail, go on, are ended by a signal and by force.
fn round(env: &TestEnv, limits: &[&str], number: usize) -> u64 {
    if number.is_multiple_of(3) {
        env.write("src/a", format!("{number}\n"));
    }
    let peak = build(env, limits, number);
    let round = format!("--round={number}");
    let rb = |words: &[&str]| env.rb_with(&[CAP], limits.iter().chain(words));
    if number.is_multiple_of(2) {
        rb(&["+fails", &round]).expect(1);
        assert_eq!(env.read("out/report"), format!("{number}\n"));
    }
    if number.is_multiple_of(3) {
        rb(&["-k", "+fails", &round, "+side", &round, "+app"]).expect(1);
    }
    if number.is_multiple_of(4) {
        let mut command = env.command(limits.iter().chain(&["-q", "+slow", &round]));
        let mut child =
            command.env(CAP.0, CAP.1).stderr(std::process::Stdio::null()).spawn().expect("rb starts");
        std::thread::sleep(Duration::from_millis(100));
        if number.is_multiple_of(8) {
            child.kill().expect("kills");
        } else {
            let process = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(process, rustix::process::Signal::INT).expect("interrupts");
        }
        child.wait().expect("ends");
    }
    peak
}

fn loops() {
    let env = TestEnv::new();
    env.write("Buildfile", TEXT).write("src/a", "a\n");
    let groups =
        env.project().parent().and_then(Path::file_name).expect("has one").to_string_lossy().into_owned();
    let parent = format!("--cgroup-parent=/{groups}");
    let limits = [parent.as_str(), "--pids-limit=200"];
    let has_groups = env.rb(limits.iter().chain(&["+side"])).code == 0;
    let limits: &[&str] = if has_groups { &limits } else { &[] };
    let (began, span) = (Instant::now(), span());
    let (mut number, mut peaks) = (0, Vec::new());
    let mut until = |end: Duration, least: usize| {
        while number < least || began.elapsed() < end {
            number += 1;
            peaks.push(round(&env, limits, number));
        }
        // The last left nothing, and what one that was killed left goes with the next: its lock, once those that it had begun are gone, too.
        Tally::at_rest(&env.state(), &groups);
        number += 1;
        build(&env, limits, number);
        let sum: u64 = peaks.iter().sum();
        let mean = sum / u64::try_from(peaks.len()).expect("fits");
        peaks.clear();
        (number, mean)
    };
    let (warm, first) = until(span / 10, WARM_UP);
    let before = Tally::at_rest(&env.state(), &groups);
    let (last, end) = until(span, warm + WARM_UP);
    let mut next = last;
    let after = Tally::back_to(&before, &env.state(), &groups, || {
        next += 1;
        build(&env, limits, next);
    });
    eprintln!(
        "steady: {} rounds in {:?} after {warm}; peak of one rb {} kB, then {} kB; before: {before}; after: {after}",
        last - warm,
        began.elapsed(),
        first >> 10,
        end >> 10
    );
    assert!(end <= first + first / 4 + SLACK_BYTES, "rb grew from {first} to {end} bytes");
    let verified = env.rb(["cache", "verify"]).expect(0);
    assert!(verified.stdout.contains("nothing is damaged"), "{}", verified.stdout);
    drop(env);
    remove_groups(&groups);
}

#[test]
fn builds_without_end_leave_nothing_behind() {
    if !is_root() {
        eprintln!("stepping aside: this needs root");
        return;
    }
    alone("steady::builds_without_end_leave_nothing_behind", loops);
}
