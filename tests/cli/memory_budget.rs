//! `--memory-budget`: steps run at once only as far as what they took before fits.

use std::io::Read as _;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::env::TestEnv;

/// Targets `t0` to `tN`, whose steps take 40 MB each for two seconds, and say when.
fn project(count: usize) -> Option<TestEnv> {
    let env = TestEnv::new();
    if !env.busybox_layout("base") {
        return None;
    }
    let mut text = "VERSION 1\nall:\n".to_owned();
    for number in 0..count {
        text += &format!("    BUILD +t{number}\n");
    }
    for number in 0..count {
        text += &format!(
            "t{number}:\n    FROM oci-layout:./base:test\n    RUN cat /proc/uptime > /times; \
             busybox dd if=/dev/zero bs=40M count=1 2> /dev/null | (sleep 2; cat > /dev/null); \
             cat /proc/uptime >> /times; echo {number} > /number\n    SAVE ARTIFACT /times AS LOCAL out/{number}\n"
        );
    }
    env.write("Buildfile", text);
    Some(env)
}

/// How many of the steps were at work at once, as they said themselves.
fn most_at_once(env: &TestEnv, count: usize) -> usize {
    let seconds = |line: &str| line.split(' ').next().and_then(|word| word.parse::<f64>().ok());
    let times: Vec<Vec<f64>> = (0..count)
        .map(|number| env.read(&format!("out/{number}")).lines().filter_map(seconds).collect())
        .collect();
    let spans: Vec<(f64, f64)> = times.iter().map(|times| (times[0], times[1])).collect();
    let at_work = |at: f64| spans.iter().filter(|(began, ended)| *began <= at && at < *ended).count();
    spans.iter().map(|(began, _)| at_work(*began)).max().unwrap_or_default()
}

/// Asks until the answer holds all of this.
#[track_caller]
fn status_until(env: &TestEnv, texts: &[&str]) {
    let began = Instant::now();
    loop {
        let said = env.rb(["status"]).expect(0).stdout;
        if texts.iter().all(|text| said.contains(text)) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "no {texts:?} in:\n{said}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits for its end, and returns the code and what was said.
fn ended(mut child: Child) -> (Option<i32>, String) {
    let mut said = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("reads");
    (child.wait().expect("ends").code(), said)
}

#[test]
fn the_second_build_knows_what_steps_take_and_runs_as_many_as_fit() {
    const COUNT: usize = 6;
    let Some(env) = project(COUNT) else { return };
    env.rb(["--jobs=6", "--memory-budget=100m", "+all"]).expect(0);
    let child = env.spawn(["--jobs=6", "--memory-budget=100m", "--no-cache", "--progress=plain", "+all"]);
    status_until(&env, &["of 100.0 MiB of memory taken", "waits for memory", "of 6 places taken"]);
    let (code, said) = ended(child);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(most_at_once(&env, COUNT), 2, "{said}");
    assert!(said.contains("waiting for memory: it may take 4"), "{said}");
    assert!(!said.contains("alone"), "{said}");
    // Without a budget nobody waits.
    let free = env.rb(["--jobs=6", "--memory-budget=none", "--no-cache", "--progress=plain", "+all"]);
    free.expect(0).hides("waiting for memory");
}

#[test]
fn what_is_larger_than_the_budget_runs_alone_and_says_so_once() {
    const COUNT: usize = 3;
    let Some(env) = project(COUNT) else { return };
    let build = ["--jobs=3", "--no-cache", "--progress=plain", "+all"];
    let budget = [("RB_MEMORY_BUDGET", "20m")];
    env.rb_with(&budget, build).expect(0);
    let second = env.rb_with(&budget, build).expect(0);
    assert_eq!(most_at_once(&env, COUNT), 1);
    let of_each = second.stderr.matches("and the memory budget is 20 MiB: it runs alone").count();
    assert_eq!(of_each, COUNT, "{}", second.stderr);
}

#[test]
fn who_waits_for_memory_stops_when_told_to() {
    let Some(env) = project(3) else { return };
    env.rb(["--jobs=3", "--memory-budget=50m", "+all"]).expect(0);
    let child = env.spawn(["--jobs=3", "--memory-budget=50m", "--no-cache", "+all"]);
    status_until(&env, &["waits for memory"]);
    let stopped = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(stopped.expect("kill starts").success());
    let (code, said) = ended(child);
    assert_eq!(code, Some(130), "{said}");
    // What was learnt holds, and nothing is held by who is gone.
    env.rb(["--jobs=3", "--memory-budget=50m", "--no-cache", "+all"]).expect(0);
    assert_eq!(most_at_once(&env, 3), 1);
}

#[test]
fn budgets_that_are_none_are_told() {
    let env = TestEnv::new();
    env.write("Buildfile", "VERSION 1\nt:\n    FROM scratch\n");
    env.rb(["--memory-budget=lots", "+t"]).expect(2).says("`4g` or `80%`");
    env.rb_with(&[("RB_MEMORY_BUDGET", "1.5")], ["+t"]).expect(2).says("RB_MEMORY_BUDGET").says("1.5GB");
    env.rb(["--memory-budget=4", "+t"]).expect(2).says("`4` is 4 bytes").says("did you mean `4g`?");
    env.rb_with(&[("RB_MEMORY_BUDGET", "100k")], ["+t"]).expect(2).says("`100g` or `100m`");
    env.rb(["--memory-budget=80%", "+t"]).expect(0);
    env.write("own.toml", "[steps]\nmemory_budget = \"3g\"\n");
    let config = |words: &[&str]| env.rb_with(&[("RB_CONFIG", "own.toml")], words).expect(0).stdout;
    assert_eq!(config(&["config", "steps.memory_budget"]), "3221225472\n");
    assert_eq!(config(&["--memory-budget=none", "config", "steps.memory_budget"]), "none\n");
}
