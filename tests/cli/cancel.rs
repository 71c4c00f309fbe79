//! Stopping: every process of every step ends, nothing stays mounted, the next build goes on.

use std::process::Child;
use std::time::{Duration, Instant};

use crate::env::TestEnv;

/// What is promised is a second; a machine that is busy with other tests is given some more. What would be wrong
/// sleeps for days.
const A_SECOND: Duration = Duration::from_secs(20);

/// A number of seconds to sleep that only this test process uses, so that its sleepers can be told from others'.
fn marker(offset: u32) -> String {
    format!("{}", 1_000_000 + std::process::id() % 100_000 * 10 + offset)
}

/// Counts the processes of this machine with `marker` among their arguments.
fn sleepers(marker: &str) -> usize {
    let processes = std::fs::read_dir("/proc").expect("lists /proc").filter_map(Result::ok);
    processes
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| line.split(|byte| *byte == 0).any(|word| word == marker.as_bytes()))
        .count()
}

fn wait_for(what: &str, limit: Duration, mut reached: impl FnMut() -> bool) {
    let started = Instant::now();
    while !reached() {
        assert!(started.elapsed() < limit, "{what} did not happen within {limit:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn signal(child: &Child, name: &str) {
    let status = std::process::Command::new("kill").args([name, &child.id().to_string()]).status();
    assert!(status.expect("kill starts").success());
}

fn sleeping(env: &TestEnv, marker: &str) -> Child {
    env.write(
        "Buildfile",
        format!(
            "VERSION 1\nall:\n    BUILD +a\n    BUILD +b\n\
             a:\n    FROM @host\n    RUN trap '' TERM INT; sleep {marker} & setsid sleep {marker} & sleep {marker}\n\
             b:\n    FROM @host\n    RUN sleep {marker}\n",
        ),
    );
    let child = env.spawn(["+all"]);
    wait_for("all steps running", Duration::from_secs(60), || sleepers(marker) >= 4);
    child
}

#[test]
fn ctrl_c_ends_every_process_within_a_second_and_leaves_nothing_mounted() {
    for (offset, name, code, said) in [
        (0, "-INT", 130, "stopping…, Ctrl-C again to end at once\n"),
        (1, "-TERM", 143, "stopping… (SIGTERM), again to end at once\n"),
        (4, "-HUP", 129, "stopping… (SIGHUP), again to end at once\n"),
    ] {
        let env = TestEnv::new();
        let marker = marker(offset);
        let child = sleeping(&env, &marker);
        let asked = Instant::now();
        signal(&child, name);
        let output = child.wait_with_output().expect("ends");
        assert!(asked.elapsed() < A_SECOND, "{:?}", asked.elapsed());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(said) && stderr.ends_with("interrupted\n"), "{stderr}");
        assert_eq!(sleepers(&marker), 0);
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("reads mounts");
        assert!(!mounts.contains(&*env.state().to_string_lossy()), "{mounts}");
    }
}

#[test]
fn a_killed_rb_takes_its_steps_along_and_the_next_build_is_right() {
    let env = TestEnv::new();
    let marker = marker(2);
    let child = sleeping(&env, &marker);
    signal(&child, "-KILL");
    child.wait_with_output().expect("ends");
    wait_for("the end of all steps", 2 * A_SECOND, || sleepers(&marker) == 0);
    env.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM @host\n    RUN echo fine > /out\n    SAVE ARTIFACT /out AS LOCAL out\n",
    );
    env.rb(["+t"]).expect(0);
    assert_eq!(env.read("out"), "fine\n");
}

#[test]
fn ctrl_c_ends_what_runs_on_this_machine_too() {
    let env = TestEnv::new();
    let marker = marker(3);
    env.write(
        "Buildfile",
        format!(
            "VERSION 1\nt:\n    LOCALLY\n    \
             RUN trap '' TERM INT; sleep {marker} & setsid sleep {marker} & sleep {marker}\n    RUN touch after\n",
        ),
    );
    let child = env.spawn(["+t"]);
    wait_for("all commands running", Duration::from_secs(60), || sleepers(&marker) >= 3);
    let asked = Instant::now();
    signal(&child, "-INT");
    let output = child.wait_with_output().expect("ends");
    assert!(asked.elapsed() < A_SECOND, "{:?}", asked.elapsed());
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(sleepers(&marker), 0);
    assert!(!env.has("after"));
}

#[test]
fn a_second_ctrl_c_ends_what_the_first_cannot() {
    let env = TestEnv::new();
    let marker = marker(5);
    env.write("Buildfile", format!("VERSION 1\nt:\n    FROM @host\n    RUN seq 100000; sleep {marker}\n"));
    // Nobody reads what it says: it cannot even say that it stops.
    let mut child = env.spawn(["--progress=plain", "+t"]);
    wait_for("the step running", Duration::from_secs(60), || sleepers(&marker) >= 1);
    signal(&child, "-INT");
    wait_for("the end of the step", Duration::from_secs(10), || sleepers(&marker) == 0);
    assert!(child.try_wait().expect("asks").is_none(), "it waits for its reader");
    signal(&child, "-INT");
    assert_eq!(child.wait().expect("ends").code(), Some(130));
}
