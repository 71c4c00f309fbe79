//! `rb why` of patterns and of targets of several folders: each is compared with its own last build.

use serde_json::Value;

use crate::env::TestEnv;
use crate::why::{only, why};

/// Three folders with a test each, which reads a file of its own.
fn services() -> TestEnv {
    let env = TestEnv::new();
    for name in ["a", "b", "c"] {
        let folder = format!("svc/{name}");
        env.write(
            &format!("{folder}/Buildfile"),
            "VERSION 1\ntest:\n    FROM @host\n    COPY f f\n    RUN cat f\n",
        );
        env.write(&format!("{folder}/f"), format!("{name}\n"));
    }
    env.write("rb.toml", "");
    env
}

/// The targets whose steps run because of a reason.
fn targets(reason: &Value) -> Vec<&str> {
    let steps = reason["steps"].as_array().expect("steps").iter().filter_map(Value::as_str);
    let mut targets: Vec<&str> = steps.filter_map(|step| step.split(" | ").next()).collect();
    targets.dedup();
    targets
}

#[test]
fn of_a_pattern_each_target_is_compared_with_its_own_last_build() {
    let env = services();
    const ALL: &str = "./svc/**+test";
    env.rb(["./svc/a+test", "./svc/b+test"]).expect(0);
    env.write("svc/b/f", "another b\n");
    env.rb(["./svc/b+test"]).expect(0);
    env.write("svc/a/f", "another a\n");
    let told = why(&env, &[ALL]);
    let reasons = told["reasons"].as_array().expect("reasons");
    assert_eq!(reasons.len(), 2, "{told:#}");
    for (cause, target) in [("file", "./svc/a+test"), ("never_built", "./svc/c+test")] {
        let reason = reasons.iter().find(|reason| reason["cause"] == cause).expect(cause);
        assert_eq!(targets(reason), [target], "{told:#}");
    }
    assert_eq!(told["others"].as_array().map(Vec::len), Some(1), "{told:#}");
    let foretold = env.rb(["--dry-run", ALL]).expect(0).stdout;
    assert!(
        foretold.contains("file `svc/a/f` has changed") || foretold.contains("file `f` has changed"),
        "{foretold}"
    );
    env.rb([ALL]).expect(0);
    // Where nothing would run, the last build is explained, by the builds before of each.
    for words in [&[ALL][..], &["--last", ALL]] {
        let told = why(&env, words);
        assert_eq!(told["compared"], "last", "{told:#}");
        assert_eq!(told["reasons"].as_array().map(Vec::len), Some(2), "{told:#}");
    }
    only(&why(&env, &["--between", "@3", "@2", "./svc/*+test"]), "file", "has changed");
    env.rb(["why", "--last", "./none*/**+test"]).expect(2);
    env.rb(["why", "--between", "@3", "@2", "./svc/*+none"]).expect(2).says("no step of `./svc/*+none`");
}

/// Folders of `svc`, each with a build file of its own.
fn folders(names: &[&str]) -> TestEnv {
    let env = TestEnv::new();
    for name in names {
        env.write(
            &format!("svc/{name}/Buildfile"),
            "VERSION 1\nt:\n    FROM @host\n    WORKDIR /w\n    COPY f f\n    RUN cat f > out\n",
        );
        env.write(&format!("svc/{name}/f"), "1\n");
    }
    env
}

#[test]
fn builds_of_a_pattern_are_found_from_every_folder() {
    let env = folders(&["a", "my b"]);
    env.rb(["./svc/*+t"]).expect(0);
    env.write("svc/my b/f", "2\n");
    let told = |folder: &str, words: &[&str]| {
        let run = env.rb_in(folder, ["why", "--json"].iter().chain(words)).expect(0);
        let told: Value = serde_json::from_str(&run.stdout).expect("JSON");
        let reason = only(&told, "file", "file `f` has changed");
        assert!(told["was"]["id"].is_string(), "{told:#}");
        reason["steps"][0].as_str().expect("a step").to_owned()
    };
    for (folder, word, step) in [
        ("", "./svc/*+t", "./my b+t | COPY f f"),
        ("", "./svc/my b+t", "+t | COPY f f"),
        ("svc", "./my b+t", "+t | COPY f f"),
        ("svc/my b", "+t", "+t | COPY f f"),
        ("svc/a", "../my b+t", "+t | COPY f f"),
    ] {
        assert_eq!(told(folder, &[word]), step, "{folder} {word}");
    }
    // So are its times.
    let plan = env.rb_in("svc/my b", ["plan", "+t"]).expect(0).stdout;
    assert!(!plan.contains("never timed"), "{plan}");
    // And a build of one folder is found by one of all.
    env.rb_in("svc/my b", ["+t"]).expect(0);
    env.write("svc/my b/f", "3\n");
    assert_eq!(told("", &["./svc/*+t"]), "./my b+t | COPY f f");
    assert_eq!(told("", &["--since", "@2", "./svc/*+t"]), "./my b+t | COPY f f");
    env.rb(["./svc/*+t"]).expect(0);
    assert_eq!(told("svc/my b", &["--between", "@2", "@1", "+t"]), "+t | COPY f f");
}

#[test]
fn what_was_never_built_begins_with_a_step_that_runs() {
    let env = folders(&["a"]);
    env.rb(["./svc/a+t"]).expect(0);
    let other = env.read("svc/a/Buildfile").replace("cat f", "wc f");
    env.write("svc/b/Buildfile", other).write("svc/b/f", "1\n");
    env.rb(["./svc/*+t"]).expect(0);
    let told = why(&env, &["./svc/*+t"]);
    let reason = only(&told, "never_built", "never built before");
    assert_eq!(reason["by"], "RUN wc f > out", "{told:#}");
    assert_eq!(reason["steps"], serde_json::json!(["./b+t | RUN wc f > out"]));
}

#[test]
fn that_nothing_would_run_is_no_mistake() {
    let env = folders(&["a"]);
    env.rb(["./svc/a+t"]).expect(0);
    env.write("Buildfile", "VERSION 1\nall:\n    BUILD ./svc/a+t\n");
    let run = env.rb(["why", "+all"]).expect(0);
    assert!(run.stdout.contains("nothing would run now, and no build of it is kept"), "{}", run.stdout);
    assert_eq!(why(&env, &["+all"])["reasons"], serde_json::json!([]));
    env.rb(["why", "--last", "+all"]).expect(2).says("no build of `+all` is kept");
    env.rb(["why", "./svc/*+nix"]).expect(2).says("no folder that fits `./svc/*`");
}
