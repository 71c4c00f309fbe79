//! `--memory` and its like, `RUN --timeout` and `RUN --retry`: what a user sees of them.

use crate::env::{TestEnv, is_root};

/// An environment with a base of busybox and a target `t` of these lines.
fn project(lines: &str) -> Option<TestEnv> {
    let env = TestEnv::new();
    if !env.busybox_layout("base") {
        return None;
    }
    env.write("Buildfile", format!("VERSION 1\nt:\n    FROM oci-layout:./base:test\n{lines}"));
    Some(env)
}

#[test]
fn a_step_that_takes_too_long_is_stopped() {
    let Some(env) = project("    RUN --timeout=1s sleep 600\n") else { return };
    let run = env.rb(["+t"]).expect(1);
    run.says("it took longer than 1s").says("Buildfile:4");
}

#[test]
fn a_step_that_fails_is_tried_again() {
    let lines = "    RUN --retry=2 --mount=type=cache,target=/c echo x >> /c/n && test $(wc -l < /c/n) = 3\n";
    let Some(env) = project(lines) else { return };
    env.rb(["+t"]).expect(0).says("attempt 1 of 3").says("attempt 2 of 3");
    env.write("Buildfile", env.read("Buildfile").replace("--retry=2", "--retry=5 --timeout=10m"));
    // Its terms changed, and nothing else.
    env.rb(["--expect-cached", "+t"]).expect(0);
}

#[test]
fn a_step_that_is_killed_for_its_memory_says_so() {
    let Some(env) = project("    RUN x=x; while :; do x=$x$x$x$x; done\n") else { return };
    if !is_root() {
        eprintln!("stepping aside: this needs root");
        return;
    }
    let run = env.rb(["--memory=32m", "--cpus=1", "--pids-limit=50", "+t"]);
    if run.stderr.contains("control group") {
        eprintln!("stepping aside: this needs control groups: {}", run.stderr);
        return;
    }
    run.expect(1).says("memory limit of 32 MiB").says("--memory");
}

#[test]
fn limits_that_are_none_are_told() {
    let Some(env) = project("    RUN true\n") else { return };
    env.rb(["--memory=lots", "+t"]).expect(2).says("64m");
    env.rb(["--cpus=0", "+t"]).expect(2).says("number of processors");
    env.rb(["--ulimit=speed=1", "+t"]).expect(2).says("nofile");
    env.rb(["--ulimit=nofile=77:99", "--shm-size=1m", "+t"]).expect(0);
}
