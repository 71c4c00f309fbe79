//! What is kept of each build: what ran, and why.

use serde_json::Value;

use crate::env::TestEnv;

/// The records, the oldest first.
fn records(env: &TestEnv) -> Vec<Value> {
    let mut paths: Vec<_> = std::fs::read_dir(env.state().join("builds"))
        .expect("lists")
        .map(|entry| entry.expect("lists").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| serde_json::from_slice(&std::fs::read(path).expect("reads")).expect("JSON"))
        .collect()
}

fn last(env: &TestEnv) -> Value {
    records(env).pop().expect("there is one")
}

/// Verdict and reason of the step whose name holds this.
fn told(record: &Value, name: &str) -> String {
    let steps = record["steps"].as_array().expect("steps");
    let step = steps.iter().find(|step| step["name"].as_str().is_some_and(|found| found.contains(name)));
    let step = step.unwrap_or_else(|| panic!("no `{name}` in {record:#}"));
    let (verdict, why, key) = (&step["verdict"], &step["miss"]["why"], &step["key"]);
    [verdict, why, key].map(|word| word.as_str().unwrap_or("-")).join(" ")
}

fn buildfile(word: &str) -> String {
    format!(
        "VERSION 1\nt:\n    FROM @host\n    WORKDIR /w\n    COPY f .\n    RUN cat f > one\n    RUN echo {word} > two\n"
    )
}

#[test]
fn each_step_of_each_build_says_why_it_ran() {
    let env = TestEnv::new();
    env.write("Buildfile", buildfile("a")).write("f", "1");
    env.rb(["+t", "--TAG=top-s3cret"]).code.ne(&0).then_some(()).expect("`TAG` is unknown");
    env.rb(["+t"]).expect(0);
    let record = last(&env);
    assert_eq!(told(&record, "RUN cat"), "ran never_seen -");
    assert_eq!((&record["outcome"], &record["exit_code"]), (&"done".into(), &0.into()));
    assert_eq!((&record["command"], &record["target"]), (&"build".into(), &"+t".into()));
    env.rb(["+t"]).expect(0);
    assert_eq!(told(&last(&env), "RUN echo"), "cached - fast");
    assert_eq!(told(&last(&env), "RUN cat"), "not_needed - -");
    env.write("Buildfile", buildfile("b"));
    env.rb(["+t"]).expect(0);
    assert_eq!(told(&last(&env), "RUN cat"), "cached - fast");
    assert_eq!(told(&last(&env), "RUN echo"), "ran never_seen -");
    env.write("f", "2");
    env.rb(["+t"]).expect(0);
    assert_eq!(told(&last(&env), "RUN cat"), "ran input_changed -");
    env.rb(["--no-cache", "+t"]).expect(0);
    assert_eq!(told(&last(&env), "RUN cat"), "ran ignore_cache -");
    // What somebody removed by hand is told as lost.
    for entry in std::fs::read_dir(env.state().join("snapshots")).expect("lists") {
        std::fs::remove_dir_all(entry.expect("lists").path()).expect("removes");
    }
    env.rb(["+t"]).expect(0);
    let record = last(&env);
    assert_eq!(told(&record, "RUN cat"), "ran gone -");
    let steps = record["steps"].as_array().expect("steps");
    let cat = steps.iter().find(|step| step["miss"]["because"] == "lost").expect("one was lost");
    assert!(cat["reason"].as_str().is_some_and(|words| words.contains("missing at 20")), "{cat}");
}

#[test]
fn a_build_that_fails_or_is_interrupted_is_kept_too_and_no_secret_is() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\nbad:\n    FROM @host\n    RUN --secret KEY echo \"$KEY\"; exit 3\nslow:\n    FROM @host\n    RUN sleep 60\n",
    );
    env.rb(["--secret", "KEY=s3cret-value", "+bad"]).expect(1);
    let record = last(&env);
    assert_eq!(told(&record, "exit 3"), "failed never_seen -");
    assert_eq!((&record["outcome"], &record["exit_code"]), (&"failed".into(), &1.into()));
    assert!(!record.to_string().contains("s3cret-value"), "{record}");
    let child = env.spawn(["+slow"]);
    let id = rustix::process::Pid::from_raw(i32::try_from(child.id()).expect("fits")).expect("is an id");
    let began = std::time::Instant::now();
    while !env.rb(["status"]).expect(0).stdout.contains("running, ") {
        assert!(began.elapsed().as_secs() < 30, "it never runs");
    }
    rustix::process::kill_process(id, rustix::process::Signal::INT).expect("interrupts");
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(130));
    let record = last(&env);
    assert_eq!(told(&record, "RUN sleep"), "cancelled never_seen -");
    assert_eq!((&record["outcome"], &record["exit_code"]), (&"interrupted".into(), &130.into()));
}

#[test]
fn progress_as_json_says_why_as_data() {
    let env = TestEnv::new();
    env.write("Buildfile", buildfile("a")).write("f", "1");
    let said = env.rb(["--progress=json", "+t"]).expect(0).stderr;
    let lines: Vec<Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let missed: Vec<&Value> = lines.iter().filter(|line| line["event"] == "missed").collect();
    assert!(!missed.is_empty(), "{said}");
    for line in missed {
        assert_eq!(
            (&line["miss"]["why"], &line["reason"]),
            (&"never_seen".into(), &"never built before".into())
        );
    }
}
