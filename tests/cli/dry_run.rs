//! `--dry-run`: what would run and what would be written, and nothing is.

use crate::env::TestEnv;

const TEXT: &str = "VERSION 1\n\
    lib:\n    FROM @host\n    COPY lib /in\n    RUN cat /in > /made\n    SAVE ARTIFACT /made\n\
    app:\n    FROM @host\n    COPY +lib/made /made\n    COPY app /app\n    RUN cat /made /app > /out\n    RUN wc -l /out\n    \
    SAVE ARTIFACT /out AS LOCAL out/app\n\
    image:\n    FROM scratch\n    COPY +lib/made /made\n    SAVE IMAGE --push localhost:1/app:v1\n\
    asks:\n    FROM @host\n    COPY app /app\n    IF grep -q yes /app\n        RUN echo yes\n    ELSE\n        RUN echo no\n    END\n\
    here:\n    LOCALLY\n    RUN touch ran-here\n\
    waits:\n    WAIT\n        BUILD +app\n    END\n    FROM @host\n    RUN echo after\n";

fn env() -> TestEnv {
    let env = TestEnv::new();
    env.write("Buildfile", TEXT).write("lib", "lib\n").write("app", "app yes\n");
    env
}

fn steps(env: &TestEnv, words: &[&str]) -> Vec<String> {
    let run = env.rb(["--progress=json", "--dry-run"].iter().chain(words)).expect(0);
    let plan: serde_json::Value = serde_json::from_str(&run.stdout).expect("is JSON");
    let steps = plan["steps"].as_array().expect("steps").iter().filter(|step| step["step"] == true);
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    steps.map(|step| format!("{}: {}", text(&step["fate"]), text(&step["name"]))).collect()
}

#[test]
fn nothing_is_known_at_first_and_all_at_last() {
    let env = env();
    assert_eq!(
        steps(&env, &["+app"]),
        [
            "would_run: +lib | COPY lib /in",
            "unknown: +lib | RUN cat /in > /made",
            "unknown: +lib | SAVE ARTIFACT /made",
            "unknown: +app | COPY +lib/made /made",
            "unknown: +app | COPY app /app",
            "unknown: +app | RUN cat /made /app > /out",
            "unknown: +app | RUN wc -l /out",
            "unknown: +app | SAVE ARTIFACT /out AS LOCAL out/app",
        ]
    );
    let run = env.rb(["--dry-run", "+app", "+image"]).expect(0);
    for line in
        ["would run", "never built before", "would write out/app", "would save image localhost:1/app:v1"]
    {
        assert!(run.stdout.contains(line), "{line} is not in:\n{}", run.stdout);
    }
    assert!(!run.stdout.contains("would push"), "{}", run.stdout);
    let run = env.rb(["--dry-run", "--artifact", "+lib/made"]).expect(0);
    assert!(run.stdout.contains("would write made\n"), "{}", run.stdout);
    assert!(
        env.rb(["--dry-run", "--push", "+image"]).expect(0).stdout.contains("would push localhost:1/app:v1")
    );
    assert!(
        !env.has("out") && !env.state().join("builds").read_dir().is_ok_and(|mut all| all.next().is_some())
    );
    env.rb(["+app"]).expect(0);
    std::fs::remove_dir_all(env.project().join("out")).expect("removes");
    let known = steps(&env, &["+app"]);
    assert!(
        known.iter().all(|step| step.starts_with("cached: ") || step.starts_with("not_needed: ")),
        "{known:?}"
    );
    let run = env.rb(["--dry-run", "+app"]).expect(0);
    assert!(
        run.stdout.ends_with("dry run: 0 steps would run, 8 cached; no step was run, no output written\n"),
        "{}",
        run.stdout
    );
    assert!(!env.has("out"));
}

#[test]
fn a_change_says_what_it_reaches() {
    let env = env();
    env.rb(["+app"]).expect(0);
    env.write("app", "changed\n");
    let seen = steps(&env, &["+app"]);
    assert!(seen.contains(&"would_run: +app | COPY app /app".to_owned()), "{seen:?}");
    assert!(seen.contains(&"unknown: +app | RUN wc -l /out".to_owned()), "{seen:?}");
    assert!(
        seen.iter().filter(|step| step.contains("+lib |")).all(|step| !step.contains("would_run")),
        "{seen:?}"
    );
    let run = env.rb(["--dry-run", "+app"]).expect(0);
    assert!(run.stdout.contains("has changed"), "{}", run.stdout);
    // What was foretold comes true: nothing that was cached runs.
    let run = env.rb(["--progress=json", "+app"]).expect(0);
    assert!(!run.stderr.contains("\"event\":\"started\",\"name\":\"+lib"), "{}", run.stderr);
    assert!(steps(&env, &["--no-cache", "+app"]).iter().any(|step| step.starts_with("would_run")));
}

#[test]
fn a_question_is_answered_from_the_cache_alone() {
    let env = env();
    let run = env.rb(["--dry-run", "+asks", "+app"]).expect(0);
    assert!(run.stdout.contains("stops here: ") && run.stdout.contains("+asks"), "{}", run.stdout);
    assert!(run.stdout.contains("RUN wc -l /out"), "the other target is shown: {}", run.stdout);
    env.rb(["+asks"]).expect(0);
    let run = env.rb(["--dry-run", "+asks"]).expect(0);
    assert!(!run.stdout.contains("stops here") && run.stdout.contains("RUN echo yes"), "{}", run.stdout);
    env.write("app", "no\n");
    let run = env.rb(["--progress=json", "--dry-run", "+asks"]).expect(0);
    assert!(run.stdout.contains("\"complete\": false"), "{}", run.stdout);
}

#[test]
fn no_command_runs_on_this_machine_and_no_wait_writes() {
    let env = env();
    let run = env.rb(["--dry-run", "+here"]).expect(0);
    assert!(run.stdout.contains("would run on this machine"), "{}", run.stdout);
    assert!(!env.has("ran-here"));
    let run = env.rb(["--dry-run", "+waits"]).expect(0);
    assert!(
        run.stdout.contains("would write out/app") && run.stdout.contains("RUN echo after"),
        "{}",
        run.stdout
    );
    assert!(!env.has("out"));
}

#[test]
fn what_is_wrong_is_wrong() {
    let env = env();
    env.rb(["--dry-run", "+gone"]).expect(2).says("there is no target `gone`");
    env.rb(["--dry-run", "--expect-cached", "+app"]).expect(2);
    env.rb(["--dry-run", "ls"]).expect(2).says("are for targets alone");
    env.write("Buildfile", "VERSION 1\nt:\n    FROM @host\n    COPY nothing /x\n");
    env.rb(["--dry-run", "+t"]).expect(2).says("nothing");
}
