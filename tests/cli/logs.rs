//! What steps write, whole on the disk: `rb logs`.

use std::io::Read as _;
use std::time::{Duration, Instant};

use crate::env::TestEnv;

fn host(body: &str) -> String {
    format!("VERSION 1\nt:\n    FROM @host\n{body}")
}

/// The most memory a process had, in bytes.
fn peak_bytes(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
}

fn logged_bytes(env: &TestEnv) -> u64 {
    let builds = std::fs::read_dir(env.state().join("logs")).into_iter().flatten().filter_map(Result::ok);
    let files = builds.flat_map(|build| std::fs::read_dir(build.path()).into_iter().flatten());
    let files = files.filter_map(Result::ok).filter(|file| file.file_name() != "index");
    files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

#[test]
fn a_flood_is_whole_on_the_disk_while_nobody_reads_the_screen() {
    const BYTES: u64 = 100_000_000;
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        host(&format!("    RUN yes 'a line of thirty-two characters.' | head -c {BYTES}\n")),
    );
    let mut child = env.spawn(["--progress=plain", "+t"]);
    let began = Instant::now();
    let mut peak = 0;
    // Nobody reads stderr: a pipe holds 64 KiB.
    while logged_bytes(&env) < BYTES {
        assert!(began.elapsed() < Duration::from_secs(120), "{} bytes after two minutes", logged_bytes(&env));
        peak = peak.max(peak_bytes(child.id()).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut said = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("reads");
    assert!(child.wait().expect("ends").success(), "{said}");
    assert_eq!(logged_bytes(&env), BYTES);
    assert!(peak < 150 << 20, "{peak} bytes of memory");
    let skipped: Vec<&str> =
        said.lines().filter(|line| line.contains("not shown; `rb logs` has them")).collect();
    assert!(!skipped.is_empty() && (said.len() as u64) < BYTES, "{} bytes", said.len());
    let shown = said.lines().filter(|line| line.contains("thirty-two")).count();
    let left_out: usize = skipped
        .iter()
        .filter_map(|line| {
            line.split_once('…')?.1.split_once(" line")?.0.trim().replace(',', "").parse::<usize>().ok()
        })
        .sum();
    let all = usize::try_from(BYTES / 33).expect("fits");
    assert!((shown + left_out).abs_diff(all) <= 2 * skipped.len() + 2, "{shown} + {left_out} of {all}");
    let mut whole =
        env.command(["logs", "+t"]).stdout(std::process::Stdio::piped()).spawn().expect("rb starts");
    let mut count = 0_u64;
    let mut out = whole.stdout.take().expect("a pipe");
    let mut buffer = vec![0; 1 << 20];
    loop {
        match out.read(&mut buffer).expect("reads") {
            0 => break,
            length => count += length as u64,
        }
    }
    assert!(whole.wait().expect("ends").success());
    assert_eq!(count, BYTES);
}

#[test]
fn logs_are_found_by_build_step_and_target() {
    let env = TestEnv::new();
    env.rb(["logs"]).expect(2).says("there are no logs yet");
    env.write(
        "Buildfile",
        "VERSION 1\nall:\n    BUILD +one --X=1\n    BUILD +two\n\
         one:\n    FROM @host\n    ARG X\n    RUN printf 'of one\\n\\377raw'\n\
         two:\n    FROM @host\n    RUN echo of two; true\n\
         bad:\n    FROM @host\n    RUN echo so bad; exit 9\n",
    );
    env.rb(["+all"]).expect(0);
    env.rb(["+bad"]).expect(1).says("log: `rb logs --failed +bad` shows all it wrote (7 B)");
    env.rb(["+all"]).expect(0);
    assert_eq!(env.rb(["logs"]).expect(0).stdout, "so bad\n");
    assert_eq!(env.rb(["logs", "--failed"]).expect(0).stdout, "so bad\n");
    assert_eq!(env.rb(["logs", "+two"]).expect(0).stdout, "of two\n");
    assert_eq!(env.rb(["logs", "of two"]).expect(0).stdout, "of two\n");
    assert_eq!(env.rb(["logs", "+one"]).expect(0).stdout, "of one\n\u{fffd}raw");
    let both = env.rb(["logs", "@2"]).expect(0).stdout;
    assert!(both.contains("==> +two | RUN echo of two; true <==\nof two\n"), "{both}");
    assert!(both.contains("==> +one --X=1 | RUN"), "{both}");
    let list = env.rb(["logs", "--list"]).expect(0).stdout;
    assert!(list.contains("@1") && list.contains("rb +bad") && list.contains("failed"), "{list}");
    assert!(list.contains("@2") && list.contains("rb +all") && list.contains("done"), "{list}");
    env.rb(["logs", "+twoo"]).expect(2).says("did you mean `rb logs +two`?");
    env.rb(["logs", "@9"]).expect(2).says("no logs of build @9").says("rb logs --list");
    env.rb(["logs", "--failed", "+one"]).expect(2).says("no failed step");
    env.rb(["logs", "@zero"]).expect(2).says("names no build");
}

#[test]
fn secrets_are_hidden_and_others_cannot_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let env = TestEnv::new();
    env.write("Buildfile", host("    RUN --secret KEY echo \"it is $KEY\"\n"));
    env.rb(["--secret", "KEY=s3cret-value", "+t"]).expect(0).hides("s3cret-value");
    let run = env.rb(["logs"]).expect(0).hides("s3cret-value");
    assert_eq!(run.stdout, "it is ***\n");
    let build =
        std::fs::read_dir(env.state().join("logs")).expect("lists").next().expect("one").expect("lists");
    for path in [build.path(), build.path().join("1.log"), build.path().join("index")] {
        let mode = std::fs::metadata(&path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{path:?}");
    }
}

#[test]
fn what_runs_on_this_machine_has_a_log_too() {
    let env = TestEnv::new();
    env.write("Buildfile", "VERSION 1\nt:\n    LOCALLY\n    RUN echo here; exit 4\n");
    let run = env.rb(["--progress=quiet", "+t"]).expect(1);
    let told = run.stderr.lines().filter(|line| line.trim() == "here").count();
    assert_eq!(told, 1, "{}", run.stderr);
    assert_eq!(run.says("rb logs --failed +t").stdout, "");
    assert_eq!(env.rb(["logs", "--failed"]).expect(0).stdout, "here\n");
}

#[test]
fn a_build_that_runs_is_followed_and_a_killed_one_leaves_its_logs() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        format!(
            "VERSION 1\nt:\n    FROM @host --bind={d}\n    RUN echo first; while test -e {d}/go; do sleep 0.1; done; echo second\n",
            d = env.project().display()
        ),
    );
    env.write("go", "");
    let bind = format!("--allow-bind={}", env.project().display());
    let mut build = env.spawn([&*bind, "+t"]);
    let began = Instant::now();
    while env.rb(["logs"]).stdout != "first\n" {
        assert!(began.elapsed() < Duration::from_secs(60), "it writes nothing");
    }
    let follower = env.spawn(["logs", "-f"]);
    std::fs::remove_file(env.project().join("go")).expect("removes");
    let followed = follower.wait_with_output().expect("ends");
    let text = String::from_utf8_lossy(&followed.stdout).into_owned();
    assert!(text.contains("==> +t | RUN") && text.ends_with("first\nsecond\n"), "{text}");
    assert!(build.wait().expect("ends").success());
    env.write("go", "");
    let mut killed = env.spawn(["--no-cache", &bind, "+t"]);
    let began = Instant::now();
    while env.rb(["logs"]).stdout != "first\n" {
        assert!(began.elapsed() < Duration::from_secs(60), "it writes nothing");
    }
    killed.kill().expect("kills");
    killed.wait().expect("ends");
    assert_eq!(env.rb(["logs", "-f"]).expect(0).stdout.lines().last(), Some("first"));
}
