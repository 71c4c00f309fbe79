//! `rb why` of a Dockerfile: each cause by its name, with the line of the Dockerfile, and nothing else.

use serde_json::Value;

use crate::dockerfile::{BASE, build, project};
use crate::env::TestEnv;

const TEXT: &str = "FROM base AS build\nWORKDIR /w\nCOPY src src\nRUN cat src/a > one\nARG WORD=first\nRUN echo $WORD > two\n\
    ENV MODE=slow\nRUN echo three > three\nFROM base\nCOPY --from=build /w /w\nRUN wc -l /w/one\n";

/// A project that is built: nothing would run then.
fn built() -> Option<TestEnv> {
    let env = project()?;
    env.write("app/Dockerfile", TEXT).write("app/src/a", "a\n").write("app/src/b.log", "b\n");
    build(&env, &["app"]).expect(0);
    Some(env)
}

/// What `rb why build` says, as JSON.
fn why(env: &TestEnv, words: &[&str]) -> Value {
    asked(env, &["why", "--json", "build"], &[&BASE[..], words].concat())
}

fn asked(env: &TestEnv, command: &[&str], words: &[&str]) -> Value {
    let run = env.rb(command.iter().chain(words)).expect(0);
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {}", run.stdout))
}

/// Panics unless there is just this reason, which says this, at this line of the Dockerfile.
#[track_caller]
fn only(told: &Value, cause: &str, words: &str, line: u32) -> Value {
    let reasons = told["reasons"].as_array().expect("reasons");
    assert_eq!(reasons.len(), 1, "{told:#}");
    let reason = &reasons[0];
    assert_eq!(reason["cause"], cause, "{told:#}");
    assert!(reason["text"].as_str().is_some_and(|text| text.contains(words)), "`{words}` is not in {told:#}");
    assert_eq!((&reason["file"], &reason["line"]), (&"app/Dockerfile".into(), &line.into()), "{told:#}");
    reason.clone()
}

fn steps(reason: &Value) -> Vec<&str> {
    reason["steps"].as_array().expect("steps").iter().filter_map(Value::as_str).collect()
}

fn edit(env: &TestEnv, was: &str, now: &str) {
    let text = env.read("app/Dockerfile");
    assert!(text.contains(was), "{text}");
    env.write("app/Dockerfile", text.replace(was, now));
}

#[test]
fn never_built() {
    let Some(env) = project() else { return };
    env.write("app/Dockerfile", TEXT).write("app/src/a", "a\n");
    env.rb(["why"]).expect(2).says("nothing was built from this folder");
    let reason = only(&why(&env, &["app"]), "never_built", "never built before", 2);
    assert_eq!(steps(&reason).first(), Some(&"[build 1/6] WORKDIR /w"));
    // A build of another Dockerfile is no build of this one.
    env.write("app/other", "FROM base\nRUN true\n");
    build(&env, &["-f", "app/other", "app"]).expect(0);
    only(&why(&env, &["app"]), "never_built", "never built before", 2);
}

#[test]
fn a_byte_of_a_file() {
    let Some(env) = built() else { return };
    env.write("app/src/a", "c\n");
    let reason = only(&why(&env, &["app"]), "file", "file `src/a` has changed: ", 3);
    let all = steps(&reason);
    assert_eq!(all.first(), Some(&"[build 2/6] COPY src src"));
    assert!(all.contains(&"[stage-1 1/3] COPY --from=build /w /w"), "{all:?}");
    let words = reason["text"].as_str().expect("text").to_owned();
    // Without words it is what was built last from here; and what is foretold elsewhere has the same words.
    only(&asked(&env, &["why", "--json"], &[]), "file", &words, 3);
    let run = build(&env, &["--expect-cached", "app"]).expect(1).says(&words).says("app/Dockerfile:3");
    run.says("would have to run");
    let shown = build(&env, &["--dry-run", "app"]).expect(0).stdout;
    assert!(shown.contains(&words) && shown.contains("[build 2/6] COPY src src"), "{shown}");
    // And it is so afterwards, when nothing would run any more.
    build(&env, &["app"]).expect(0);
    let told = why(&env, &["app"]);
    assert_eq!(told["compared"], "last");
    only(&told, "file", &words, 3);
    only(&why(&env, &["app", "RUN cat"]), "file", &words, 3);
    let text = env.rb(["why"]).expect(0).stdout;
    for line in [
        "rb build app: nothing would run now; 6 steps ran in build ",
        "file `src/a` has changed",
        "brought in by app/Dockerfile:3: COPY src src",
        "ran: [build 2/6] COPY src src",
    ] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
    env.rb(["why", "build", BASE[0], BASE[1], "app", "RUN dog"])
        .expect(2)
        .says("no step has `RUN dog` in it");
    env.rb(["why", "app"]).expect(2).says("`rb why build app`");
    env.rb(["why", "build", "--no-such", "app"]).expect(2).says("--no-such");
}

#[test]
fn a_file_that_came_or_went() {
    let Some(env) = built() else { return };
    env.write("app/src/new", "new\n");
    only(&why(&env, &["app"]), "file", "file `src/new` was added", 3);
    std::fs::remove_file(env.project().join("app/src/new")).expect("removes");
    std::fs::remove_file(env.project().join("app/src/b.log")).expect("removes");
    only(&why(&env, &["app"]), "file", "file `src/b.log` was removed", 3);
    // What nothing takes is no reason.
    env.write("app/src/b.log", "b\n").write("app/unused", "x\n");
    assert_eq!(why(&env, &["app"])["compared"], "last");
}

#[test]
fn an_argument() {
    let Some(env) = built() else { return };
    let told = why(&env, &["--build-arg", "WORD=second", "app"]);
    let reason = only(&told, "part", "ARG `WORD` has changed: `first` -> `second`", 5);
    assert_eq!((&reason["kind"], &reason["given_as"]), (&"arg".into(), &"`--build-arg WORD=second`".into()));
    assert_eq!(steps(&reason).first(), Some(&"[build 4/6] RUN echo second > two"));
    edit(&env, "WORD=first", "WORD=third");
    let reason = only(&why(&env, &["app"]), "part", "ARG `WORD` has changed: `first` -> `third`", 5);
    assert_eq!(reason["given_as"], Value::Null);
}

#[test]
fn a_variable_and_the_text_of_a_command() {
    let Some(env) = built() else { return };
    edit(&env, "MODE=slow", "MODE=fast");
    let reason = only(&why(&env, &["app"]), "part", "ENV `MODE` has changed: `slow` -> `fast`", 7);
    assert_eq!(steps(&reason).first(), Some(&"[build 5/6] RUN echo three > three"));
    edit(&env, "MODE=fast", "MODE=slow");
    edit(&env, "cat src/a >", "cat -u src/a >");
    let reason = only(&why(&env, &["app"]), "part", "the command has changed: ", 4);
    assert_eq!(reason["by"], "RUN cat -u src/a > one");
}

#[test]
fn a_new_instruction_and_one_that_is_gone() {
    let Some(env) = built() else { return };
    edit(&env, "RUN cat", "RUN true\nRUN cat");
    let reason = only(&why(&env, &["app"]), "new_step", "the step is new", 4);
    // Those behind it have other numbers now, and are the same.
    assert_eq!(steps(&reason)[..2], ["[build 3/7] RUN true", "[build 4/7] RUN cat src/a > one"]);
    env.write("app/Dockerfile", TEXT);
    edit(&env, "RUN cat src/a > one\n", "RUN : > one\n");
    build(&env, &["app"]).expect(0);
    edit(&env, "RUN : > one\n", "");
    edit(&env, "RUN wc -l /w/one\n", "RUN wc -l /w/two\n");
    let told = why(&env, &["app", "echo first"]);
    only(&told, "step_gone", "the step `RUN : > one` before it is no longer there", 5);
}

#[test]
fn the_image_below() {
    let Some(env) = project() else { return };
    env.write("app/Dockerfile", "FROM base\nRUN true\n").write("below/Dockerfile", "FROM base\nCOPY f /f\n");
    let made = |text: &str| {
        env.write("below/f", text);
        build(&env, &["-t", "below:1", "below"]).expect(0);
    };
    made("1\n");
    env.write("app/Dockerfile", "FROM below:1\nRUN true\n");
    build(&env, &["app"]).expect(0);
    made("2\n");
    let reason = only(&why(&env, &["app"]), "image", "the image has changed: ", 1);
    assert!(reason["now"].as_str().is_some_and(|now| now.contains("@sha256:")), "{reason}");
    assert_ne!(reason["was"], reason["now"]);
}

#[test]
fn an_ignore_rule() {
    let Some(env) = built() else { return };
    env.write("app/.dockerignore", "# nothing\n**/*.log\n");
    let told = why(&env, &["app"]);
    let reasons = told["reasons"].as_array().expect("reasons");
    assert_eq!(reasons.len(), 1, "{told:#}");
    let words = "the ignore rule `**/*.log` was added, which leaves out `src/b.log`";
    assert_eq!((&reasons[0]["cause"], &reasons[0]["text"]), (&"ignore_rule".into(), &words.into()));
    assert_eq!((&reasons[0]["file"], &reasons[0]["line"]), (&"app/.dockerignore".into(), &2.into()));
}

#[test]
fn what_was_evicted_and_what_is_told_not_to_look() {
    let Some(env) = built() else { return };
    env.rb(["cache", "prune", "--all"]).expect(0);
    let reason = only(&why(&env, &["app"]), "evicted", "its result was evicted at 20", 2);
    assert_eq!(reason["because"], "pruned");
    build(&env, &["app"]).expect(0);
    only(&why(&env, &["--no-cache", "app"]), "no_cache", "it was told not to use the cache", 2);
}

#[test]
fn what_failed() {
    let Some(env) = project() else { return };
    env.write("app/Dockerfile", "FROM base\nRUN exit 3\n");
    build(&env, &["app"]).expect(1);
    only(&why(&env, &["app"]), "failed", "it failed in the last build", 2);
    let told = asked(&env, &["why", "--json"], &[]);
    only(&told, "failed", "it failed in the last build", 2);
}

#[test]
fn the_same_stage_is_compared_and_builds_by_their_ids() {
    let Some(env) = built() else { return };
    build(&env, &["--target", "build", "app"]).expect(0);
    edit(&env, "MODE=slow", "MODE=fast");
    // With the build of the last stage, not with the newer one of another.
    let told = why(&env, &["app"]);
    only(&told, "part", "ENV `MODE`", 7);
    assert_eq!(told["was"]["id"], {
        let ids = env.rb(["history", "ls", "-q"]).expect(0).stdout;
        Value::from(ids.lines().nth(1).expect("two builds"))
    });
    build(&env, &["app"]).expect(0);
    let between =
        asked(&env, &["why", "--json", "--between", "@3", "@1", "build"], &[&BASE[..], &["app"]].concat());
    // The file may be another one by now: the step that saw it is named.
    only(&between, "part", "ENV `MODE`", 8);
    only(&asked(&env, &["why", "--json", "--last"], &[]), "part", "ENV `MODE`", 8);
    let shown = env.rb(["why", "--since", "@1"]).expect(0).stdout;
    assert!(shown.starts_with("rb build app: no step differs"), "{shown}");
}

#[test]
fn no_secret_is_told() {
    let Some(env) = project() else { return };
    env.write(
        "app/Dockerfile",
        "FROM base\nARG API_TOKEN=none\nRUN --mount=type=secret,id=k cat /run/secrets/k $API_TOKEN; true\n",
    );
    env.write("k", "s3cret-value\n");
    for token in ["t0ken-one", "t0ken-two"] {
        let argument = format!("API_TOKEN={token}");
        build(&env, &["--secret", "id=k,src=k", "--build-arg", &argument, "app"]).expect(0);
    }
    let run = env.rb(["why", "--last"]).expect(0).hides("s3cret-value");
    assert!(run.stdout.contains("ARG `API_TOKEN` has changed: `*** ("), "{}", run.stdout);
    let shown = env.rb(["history", "show", "--json", "@1"]).expect(0).stdout;
    let told: Value = serde_json::from_str(&shown).expect("is JSON");
    assert!(!told["dockerfile"].to_string().contains("t0ken-"), "{told:#}");
    assert_eq!(told["args"], serde_json::json!(["API_TOKEN"]));
}
