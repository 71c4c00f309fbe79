//! `rb plan`: what is foretold is what runs, and nothing is done for it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rb_oci::Platform;
use serde_json::Value;

use crate::env::TestEnv;
use crate::registry::Place;

const TEXT: &str = "VERSION 1\n\
lib:\n    FROM @host\n    WORKDIR /w\n    COPY lib lib\n    RUN cat lib/* > made\n    SAVE ARTIFACT made\n\
app:\n    FROM @host\n    WORKDIR /w\n    COPY +lib/made made\n    COPY src src\n    RUN cat src/* made > out\n    \
ARG WORD=first\n    RUN echo $WORD > word\n    ENV MODE=slow\n    RUN --secret KEY echo \"$KEY\" | wc -l > lines\n    \
RUN <<EOF\n#!/bin/sh\necho script > script\nEOF\n    RUN echo apart > apart\n    SAVE ARTIFACT out AS LOCAL out\n\
image:\n    FROM oci-layout:./image:v1\n    COPY conf /conf\n    SAVE ARTIFACT /conf AS LOCAL made-conf\n\
files:\n    ARG TARGETARCH\n    FROM scratch\n    COPY src /src-$TARGETARCH\n\
all:\n    BUILD +app\n    BUILD +image\n    BUILD +files\n";

/// All targets, and what their secrets are.
const ALL: [&str; 5] = ["--secret", "KEY=one", "--secret", "OTHER=two", "+all"];

/// The records of builds, the oldest first.
fn records(env: &TestEnv) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(env.state().join("builds")) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("lists").path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "json")).collect();
    paths.sort();
    paths
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The steps of a list that are so, by their vertices.
fn steps(value: &Value, field: &str, is: &str) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let steps = value["steps"].as_array().expect("steps").iter();
    let fitting = steps.filter(|step| step["step"] != false && step[field] == is);
    fitting.map(|step| (text(&step["vertex"]), text(&step["name"]))).collect()
}

/// Plans, and panics unless that is no build.
#[track_caller]
fn plan(env: &TestEnv, words: &[&str]) -> Value {
    let before = records(env);
    let told = json(&env.rb(["plan", "--json"].iter().chain(words)).expect(0).stdout);
    assert_eq!(records(env), before, "a plan is kept as a build");
    told
}

/// Plans and builds, and panics unless just that ran which was foretold. Returns the plan.
#[track_caller]
fn foretold(env: &TestEnv, case: &str, words: &[&str]) -> Value {
    let told = plan(env, words);
    let (will, may) = (steps(&told, "fate", "will_run"), steps(&told, "fate", "may_run"));
    env.rb(words).expect(0);
    let path = records(env).pop().expect("the build is kept");
    let record = json(&std::fs::read_to_string(path).expect("reads"));
    let ran = steps(&record, "verdict", "ran");
    for (vertex, name) in &ran {
        let is_told = will.contains_key(vertex) || may.contains_key(vertex);
        assert!(is_told, "{case}: `{name}` ran, and no word of it in {told:#}");
    }
    for (vertex, name) in &will {
        assert!(ran.contains_key(vertex), "{case}: `{name}` did not run: {told:#}");
    }
    let all = record["steps"].as_array().expect("steps").iter().filter(|step| step["step"] == true).count();
    let (summary, count) = (&told["summary"], |number: usize| Value::from(number));
    assert_eq!(told["complete"], true, "{case}: {told:#}");
    assert_eq!(
        (&summary["will_run"], &summary["may_run"]),
        (&count(will.len()), &count(may.len())),
        "{case}"
    );
    assert_eq!(summary["cached"], count(all - will.len() - may.len()), "{case}: {told:#}");
    told
}

/// Panics unless a step will run for this reason.
#[track_caller]
fn runs_for(told: &Value, case: &str, name: &str, why: &str) {
    let is_it = |step: &&Value| {
        step["fate"] == "will_run" && step["name"].as_str().is_some_and(|found| found.contains(name))
    };
    let step = told["steps"].as_array().expect("steps").iter().find(is_it);
    let step = step.unwrap_or_else(|| panic!("{case}: no `{name}` will run in {told:#}"));
    assert!(step["text"].as_str().is_some_and(|text| text.contains(why)), "{case}: no `{why}` in {step:#}");
}

/// How many steps will run, and may.
fn counts(told: &Value) -> (u64, u64) {
    let count = |name: &str| told["summary"][name].as_u64().expect("a number");
    (count("will_run"), count("may_run"))
}

/// Makes the image that a target stands on; its file is so.
fn base(env: &TestEnv, made: &str) {
    env.write("base/Buildfile", "VERSION 1\nbelow:\n    FROM scratch\n    COPY made /made\n")
        .write("base/made", made);
    if env.has("image") {
        std::fs::remove_dir_all(env.project().join("image")).expect("removes");
    }
    env.rb(["-o", "type=oci,tar=false,dest=image,name=base:v1", "./base+below"]).expect(0);
}

fn env() -> TestEnv {
    let env = TestEnv::new();
    env.write("Buildfile", TEXT).write("conf", "conf\n").write("lib/x", "x\n");
    env.write("src/a", "a\n").write("src/b", "b\n").write("src/c.log", "c\n");
    base(&env, "1\n");
    env
}

fn edit(env: &TestEnv, was: &str, now: &str) {
    let text = env.read("Buildfile");
    assert!(text.contains(was), "{text}");
    env.write("Buildfile", text.replace(was, now));
}

fn put(env: &TestEnv, path: &str, text: &str) {
    env.write(path, text);
}

fn rename(env: &TestEnv, from: &str, to: &str) {
    std::fs::rename(env.project().join(from), env.project().join(to)).expect("renames");
}

/// What is done to a project, and which step will run for it, and why; none where nothing will.
type Mutation<'a> = (&'a str, &'a dyn Fn(&TestEnv), Option<(&'a str, &'a str)>);

/// Does one thing after the other to a project that is built each time.
#[track_caller]
fn each(env: &TestEnv, mutations: &[Mutation<'_>]) {
    for (case, mutate, expected) in mutations {
        mutate(env);
        let told = foretold(env, case, &ALL);
        match expected {
            Some((name, why)) => runs_for(&told, case, name, why),
            None => assert_eq!(counts(&told), (0, 0), "{case}: {told:#}"),
        }
    }
}

#[test]
fn files_and_rules() {
    let env = env();
    let shown = env.rb(["plan"].iter().chain(&ALL)).expect(0).stdout;
    assert!(shown.contains("would write out\n") && shown.contains("would write made-conf\n"), "{shown}");
    assert!(!env.has("out") && !env.has("made-conf"), "a plan writes nothing");
    let remove = |env: &TestEnv, path: &str| std::fs::remove_file(env.project().join(path)).expect("removes");
    let mode = |env: &TestEnv, mode: u32| {
        let path = env.project().join("src/a");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("modes");
    };
    each(
        &env,
        &[
            ("never built", &|_| {}, Some(("WORKDIR /w", "never built before"))),
            ("nothing", &|_| {}, None),
            ("a byte", &|env| put(env, "src/a", "A\n"), Some(("COPY src src", "file `src/a` has changed"))),
            ("as it was", &|env| put(env, "src/a", "a\n"), None),
            ("written again", &|env| put(env, "src/a", "a\n"), None),
            ("a mode", &|env| mode(env, 0o755), Some(("COPY src src", "the executable bit of `src/a`"))),
            ("added", &|env| put(env, "src/n", "n\n"), Some(("COPY src src", "file `src/n` was added"))),
            ("removed", &|env| remove(env, "src/b"), Some(("COPY src src", "file `src/b` was removed"))),
            (
                "renamed",
                &|env| rename(env, "src/n", "src/m"),
                Some(("COPY src src", "file `src/m` was added")),
            ),
            ("not copied", &|env| put(env, "other", "o\n"), None),
            (
                "ignored",
                &|env| put(env, ".rbignore", "**/*.log\n"),
                Some(("COPY src src", "the ignore rule `**/*.log` was added")),
            ),
            ("ignored and changed", &|env| put(env, "src/c.log", "C\n"), None),
            (
                "no longer ignored",
                &|env| remove(env, ".rbignore"),
                Some(("COPY src src", "the ignore rule `**/*.log` was removed")),
            ),
        ],
    );
    // What comes out the same makes nothing above it run: that may be, and is not certain.
    rename(&env, "lib/x", "lib/y");
    let told = foretold(&env, "cut off", &ALL);
    runs_for(&told, "cut off", "COPY lib lib", "file `lib/y` was added");
    let after = |step: &&Value| step["name"] == "+app | COPY +lib/made made";
    let step = told["steps"].as_array().expect("steps").iter().find(after).expect("may run");
    assert_eq!((&step["fate"], &step["after"]), (&"may_run".into(), &"+lib | COPY lib lib".into()));
    let record = json(&std::fs::read_to_string(records(&env).pop().expect("one")).expect("reads"));
    assert!(!steps(&record, "verdict", "ran").values().any(|name| name.starts_with("+app")), "{record:#}");
}

#[test]
fn texts_arguments_and_images() {
    let env = env();
    let more = "more:\n    FROM @host\n    RUN echo more\n";
    each(
        &env,
        &[
            ("never built", &|_| {}, Some(("COPY conf /conf", "never built before"))),
            ("a comment", &|env| edit(env, "    ENV MODE", "    # So it is.\n\n    ENV MODE"), None),
            (
                "an argument",
                &|env| edit(env, "WORD=first", "WORD=third"),
                Some(("RUN echo $WORD", "ARG `WORD` has changed: `first` -> `third`")),
            ),
            (
                "a variable",
                &|env| edit(env, "MODE=slow", "MODE=fast"),
                Some(("RUN --secret=KEY", "ENV `MODE` has changed: `slow` -> `fast`")),
            ),
            (
                "a command",
                &|env| edit(env, "cat src/* made", "cat made src/*"),
                Some(("RUN cat made src", "the command has changed")),
            ),
            (
                "a script",
                &|env| edit(env, "echo script", "echo other"),
                Some(("RUN <<EOF", "what is mounted at `/run/rb-script` has changed")),
            ),
            (
                "a secret's id",
                &|env| edit(env, "--secret KEY echo \"$KEY\"", "--secret OTHER echo \"$OTHER\""),
                Some(("RUN --secret=OTHER", "secret")),
            ),
            (
                "a new step",
                &|env| edit(env, "    RUN echo apart", "    RUN true\n    RUN echo apart"),
                Some(("RUN true", "the step is new")),
            ),
            (
                "a step less",
                &|env| edit(env, "    RUN echo $WORD > word\n", ""),
                Some(("RUN --secret=OTHER", "before it is no longer there")),
            ),
            (
                "a target more",
                &|env| {
                    edit(env, "all:\n", &format!("{more}all:\n    BUILD +more\n"));
                },
                Some(("+more | RUN echo more", "never built before")),
            ),
            ("another image", &|env| base(env, "2\n"), Some(("COPY conf /conf", "the image has changed"))),
            ("the same image", &|env| base(env, "2\n"), None),
            (
                "two at once",
                &|env| {
                    edit(env, "echo apart", "echo Apart");
                    env.write("conf", "other\n");
                },
                Some(("COPY conf /conf", "file `conf` has changed")),
            ),
            (
                "all as it was",
                &|env| {
                    put(env, "Buildfile", TEXT);
                    put(env, "conf", "conf\n");
                },
                None,
            ),
        ],
    );
}

#[test]
fn what_is_typed_and_what_is_gone() {
    let env = env();
    foretold(&env, "never built", &ALL);
    let secrets = ["--secret", "KEY=another", "--secret", "OTHER=two", "+all"];
    assert_eq!(counts(&foretold(&env, "a secret's value", &secrets)), (0, 0));
    let words = ["--secret", "KEY=one", "+app", "--WORD=second"];
    let told = foretold(&env, "a given argument", &words);
    runs_for(&told, "a given argument", "RUN echo $WORD", "ARG `WORD` has changed: `first` -> `second`");
    let other = if Platform::host().architecture == "arm64" { "linux/amd64" } else { "linux/arm64" };
    let told = foretold(&env, "a platform", &["--platform", other, "+files"]);
    assert_eq!(counts(&told), (1, 0), "{told:#}");
    let told = foretold(&env, "no cache", &["--no-cache", "--secret", "KEY=one", "+app"]);
    runs_for(&told, "no cache", "RUN echo apart", "it was told not to use the cache");
    assert_eq!((counts(&told).1, &told["summary"]["cached"]), (0, &0.into()), "{told:#}");
    env.rb(["cache", "prune", "--all"]).expect(0);
    let told = foretold(&env, "evicted", &ALL);
    runs_for(&told, "evicted", "WORKDIR /w", "its result was evicted");
    for entry in std::fs::read_dir(env.state().join("snapshots")).expect("lists") {
        std::fs::remove_dir_all(entry.expect("lists").path()).expect("removes");
    }
    let told = foretold(&env, "lost", &ALL);
    runs_for(&told, "lost", "WORKDIR /w", "its result was evicted: a part of it was missing");
    assert_eq!(counts(&foretold(&env, "nothing", &ALL)), (0, 0));
}

#[test]
fn times_are_those_of_earlier_builds() {
    let env = TestEnv::new();
    let text = "VERSION 1\nt:\n    FROM @host\n    ARG N=1\n    COPY f /f\n    RUN sleep 0.3; cat /f > /g\n    RUN wc -l /g\n";
    env.write("Buildfile", text);
    let seconds = |told: &Value, name: &str| {
        let steps = told["steps"].as_array().expect("steps").iter();
        let mut found = steps.filter(|step| step["name"].as_str().is_some_and(|found| found.contains(name)));
        let step = found.next().unwrap_or_else(|| panic!("no `{name}` in {told:#}"));
        (step["seconds"].as_f64(), step["runs"].as_u64(), step["other_arguments"].clone())
    };
    env.write("f", "0\n");
    let told = plan(&env, &["+t"]);
    assert_eq!(seconds(&told, "RUN sleep"), (None, Some(0), false.into()));
    assert_eq!(
        (&told["summary"]["untimed"], &told["summary"]["work_seconds"]["most"]),
        (&3.into(), &0.0.into())
    );
    for number in ["0\n", "1\n"] {
        env.write("f", number).rb(["+t"]).expect(0);
    }
    env.write("f", "2\n");
    edit(&env, "wc -l /g", "wc -c /g");
    let told = plan(&env, &["-j", "3", "+t"]);
    let (took, runs, alike) = seconds(&told, "RUN sleep");
    assert!(took.is_some_and(|took| took >= 0.3), "{told:#}");
    assert_eq!((runs, alike), (Some(2), false.into()));
    // A command that was edited takes about as long as before.
    let (edited, runs, alike) = seconds(&told, "RUN wc -c");
    assert!(edited.is_some_and(|edited| edited > 0.0), "{told:#}");
    assert_eq!((runs, alike), (Some(2), true.into()));
    let summary = &told["summary"];
    assert_eq!((&summary["untimed"], &summary["jobs"]), (&0.into(), &3.into()));
    assert!(summary["elapsed_seconds"]["most"].as_f64() >= took, "{told:#}");
    assert_eq!(summary["chain"], serde_json::json!([0, 1, 2]), "{told:#}");
    let told = plan(&env, &["+t", "--N=2"]);
    assert_eq!(seconds(&told, "RUN sleep"), (took, Some(2), true.into()));
    let shown = env.rb(["plan", "+t", "--N=2"]).expect(0).stdout;
    for words in [
        "will run",
        "may run",
        " ~",
        "+t --N=2 | RUN wc",
        "steps  1 will run, 2 may run",
        "~ is the time with other arguments, or of what stood there before",
    ] {
        assert!(shown.contains(words), "`{words}` is not in:\n{shown}");
    }
}

#[test]
fn what_nobody_can_know_is_said() {
    let env = TestEnv::new();
    let text = "VERSION 1\nasks:\n    FROM @host\n    COPY f /f\n    IF grep -q yes /f\n        RUN echo yes\n    END\n\
        here:\n    LOCALLY\n    RUN touch ran-here\n";
    env.write("Buildfile", text).write("f", "yes\n");
    let told = plan(&env, &["+asks"]);
    assert_eq!(told["complete"], false, "{told:#}");
    assert!(env.rb(["plan", "+asks"]).expect(0).stdout.contains("stops here: "));
    env.rb(["+asks"]).expect(0);
    assert_eq!(counts(&foretold(&env, "asked", &["+asks"])), (0, 0));
    assert!(env.rb(["plan", "+here"]).expect(0).stdout.contains("would run on this machine"));
    assert!(!env.has("ran-here"));
}

#[test]
fn bytes_to_pull_are_those_of_layers_that_are_read() {
    let Some(place) = Place::new() else { return };
    let env = &place.env;
    let size = place.document("1")["layers"][0]["size"].as_u64().expect("a size");
    let name = format!("{}:1", place.name());
    let text = format!(
        "VERSION 1\nlib:\n    FROM scratch\n    COPY f /f\n    SAVE ARTIFACT /f\n\
         t:\n    FROM {name}\n    RUN echo x > /x\n    COPY f /f\n    RUN cat /f\n\
         late:\n    FROM {name}\n    COPY +lib/f /f\n\
         only:\n    FROM {name}\nsaved:\n    FROM {name}\n    SAVE IMAGE saved\n"
    );
    env.write("Buildfile", text).write("f", "1\n");
    let pulls = |words: &[&str]| {
        let told = plan(env, words);
        let bytes = &told["summary"]["pull_bytes"];
        (bytes["least"].as_u64().expect("a number"), bytes["most"].as_u64().expect("a number"))
    };
    let mut seen = 0;
    assert_eq!(pulls(&["+t"]), (size, size));
    assert_eq!(pulls(&["+late"]), (0, size), "the image is read once it is known what is copied");
    assert_eq!(pulls(&["+only"]), (0, 0), "nobody reads it");
    assert_eq!(pulls(&["+saved"]), (size, size), "it is written");
    assert_eq!(pulls(&["+t", "+late", "+saved"]), (size, size), "a layer comes once");
    let asked = place.asked(&mut seen);
    let layer = place.document("1")["layers"][0]["digest"].as_str().expect("text").replace("sha256:", "");
    assert!(!asked.iter().any(|path| path.contains(&layer[..8]) && path.contains("blobs")), "{asked:?}");
    let shown = env.rb(["plan", "+late"]).expect(0).stdout;
    assert!(shown.contains("pull   0 B to "), "{shown}");
    foretold(env, "pulled", &["+t"]);
    env.write("f", "2\n");
    assert_eq!(pulls(&["+t", "+late", "+saved"]), (0, 0), "it is here");
}

#[test]
fn what_is_wrong_is_wrong() {
    let env = env();
    env.rb(["plan", "app"]).expect(2).says("`app` is not a target");
    env.rb(["plan", "+gone"]).expect(2).says("there is no target `gone`");
    env.rb(["plan"]).expect(2);
    env.rb(["-o", "x", "plan", "+app"]).expect(2).says("say nothing to `rb plan`");
    env.rb(["--dry-run", "plan", "+app"]).expect(2);
    env.write("Buildfile", "VERSION 1\nt:\n    FROM @host\n    COPY nothing /x\n");
    env.rb(["plan", "+t"]).expect(2).says("nothing");
}
