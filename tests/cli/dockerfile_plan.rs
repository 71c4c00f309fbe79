//! `rb plan build`, `rb build --dry-run` and `--expect-cached`: what is foretold of a Dockerfile is what runs.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::dockerfile::{BASE, build, build_fed, project, tar_of};
use crate::env::TestEnv;
use crate::registry::Place;

const TEXT: &str = "FROM base AS build\nCOPY src src\nRUN cat src > one\nFROM base\nCOPY --from=build one /\nRUN wc -l /one\n";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn plan(env: &TestEnv, words: &[&str]) -> Value {
    let before = env.rb(["history", "ls", "-q"]).expect(0).stdout;
    let told = json(&env.rb(["plan", "--json", "build"].iter().chain(&BASE).chain(words)).expect(0).stdout);
    assert_eq!(env.rb(["history", "ls", "-q"]).expect(0).stdout, before, "a plan is kept as a build");
    told
}

fn names(told: &Value, field: &str, is: &str) -> BTreeSet<String> {
    let steps = told["steps"].as_array().expect("steps").iter();
    let fitting = steps.filter(|step| step["step"] != false && step[field] == is);
    fitting.filter_map(|step| step["name"].as_str().map(ToOwned::to_owned)).collect()
}

/// Plans and builds, and panics unless just that ran which was foretold. Returns the plan.
fn foretold(env: &TestEnv, words: &[&str]) -> Value {
    let told = plan(env, words);
    build(env, words).expect(0);
    let record = json(&env.rb(["history", "show", "--json", "@1"]).expect(0).stdout);
    let (ran, will) = (names(&record, "verdict", "ran"), names(&told, "fate", "will_run"));
    let may = names(&told, "fate", "may_run");
    assert!(ran.iter().all(|name| will.contains(name) || may.contains(name)), "{ran:?} {told:#}");
    assert!(will.is_subset(&ran), "{ran:?} {told:#}");
    assert_eq!(told["complete"], true, "{told:#}");
    told
}

#[test]
fn what_is_foretold_runs_and_nothing_else() {
    let Some(env) = project() else { return };
    env.write("app/Dockerfile", TEXT).write("app/src", "1\n");
    let told = foretold(&env, &["-t", "a", "app"]);
    let (sums, steps) = (&told["summary"], told["steps"].as_array().expect("steps"));
    assert!(sums["will_run"].as_u64() >= Some(1) && sums["cached"] == 0, "{told:#}");
    assert_eq!((&steps[0]["file"], &steps[0]["line"]), (&"app/Dockerfile".into(), &2.into()));
    assert_eq!(told["outputs"], serde_json::json!(["would save image a"]));
    let told = foretold(&env, &["-t", "a", "app"]);
    assert_eq!((told["steps"].as_array().map(Vec::len), &told["summary"]["cached"]), (Some(0), &4.into()));
    env.write("app/src", "2\n");
    let told = foretold(&env, &["-t", "a", "app"]);
    assert!(
        told["steps"][0]["text"].as_str().is_some_and(|text| text.contains("file `src` has changed")),
        "{told:#}"
    );
    assert_eq!(told["steps"][0]["runs"], 1, "{told:#}");
    let told = foretold(&env, &["--target", "build", "app"]);
    assert_eq!(told["summary"]["cached"], 2, "{told:#}");
}

#[test]
fn the_page_is_the_same_by_each_way_to_it() {
    let Some(env) = project() else { return };
    env.write("app/Dockerfile", TEXT).write("app/src", "1\n");
    build(&env, &["-t", "a", "app"]).expect(0);
    env.write("app/src", "2\n");
    let page = env.rb(["plan", "build"].iter().chain(&BASE).chain(&["-t", "a", "app"])).expect(0).stdout;
    for text in [
        "will run",
        "[build 1/3] COPY src src",
        "file `src` has changed",
        "would save image a",
        "pull   nothing",
    ] {
        assert!(page.contains(text), "{text} is not in:\n{page}");
    }
    assert_eq!(build(&env, &["--dry-run", "-t", "a", "app"]).expect(0).stdout, page);
    // What was built last from here.
    assert_eq!(env.rb(["plan"]).expect(0).stdout, page);
    let told = json(&build(&env, &["--dry-run", "--progress=json", "app"]).expect(0).stdout);
    assert_eq!(told["format"], 1);
    env.rb(["plan", "app"]).expect(2).says("`rb plan build app`");
    env.rb(["plan", "build", "nowhere"]).expect(2).says("`nowhere` does not exist");
    // What is wrong with the file is told as ever.
    env.write("app/wrong", "FROM base\nCOPYY a b\n");
    env.rb(["plan", "build", "-f", "app/wrong", "app"]).expect(2).says("COPYY").says("app/wrong:2");
}

#[test]
fn nothing_runs_unless_all_is_found() {
    let Some(env) = project() else { return };
    env.write("app/Dockerfile", TEXT).write("app/src", "1\n");
    let run = build(&env, &["--expect-cached", "-o", "out", "app"]).expect(1);
    run.says("never built before").says("app/Dockerfile:2").says("would have to run");
    assert!(!env.has("out"));
    build(&env, &["-o", "out", "app"]).expect(0);
    std::fs::remove_dir_all(env.project().join("out")).expect("removes");
    build(&env, &["--expect-cached", "-o", "out", "app"]).expect(0).says("nothing to do");
    assert_eq!(env.read("out/one"), "1\n");
    build(&env, &["--expect-cached", "--no-cache", "app"]).expect(2);
    build(&env, &["--expect-cached", "--dry-run", "app"]).expect(2);
}

#[test]
fn a_tar_in_place_of_a_folder() {
    let Some(env) = project() else { return };
    let tar = tar_of(&[("Dockerfile", "FROM base\nCOPY f /f\n"), ("f", "f\n")]);
    let page = build_fed(&env, &["--dry-run", "-"], &tar).expect(0).stdout;
    assert!(page.contains("[1/2] COPY f /f") && page.contains("1 will run"), "{page}");
    build_fed(&env, &["--expect-cached", "-"], &tar).expect(1).says("would have to run");
    build_fed(&env, &["-t", "a", "-"], &tar).expect(0);
    build_fed(&env, &["--expect-cached", "-t", "a", "-"], &tar).expect(0).says("nothing to do");
    // It is not there a second time.
    env.rb(["plan"]).expect(2).says("what it read is not kept");
}

#[test]
fn bytes_to_pull_are_those_of_layers_that_are_not_here() {
    let Some(place) = Place::new() else { return };
    let env = &place.env;
    let size = place.document("1")["layers"][0]["size"].as_u64().expect("a size");
    env.write("app/Dockerfile", format!("FROM {}:1\nRUN true\n", place.name()));
    let pulls = || {
        let told = json(&env.rb(["plan", "--json", "build", "app"]).expect(0).stdout);
        let bytes = &told["summary"]["pull_bytes"];
        (bytes["least"].as_u64(), bytes["most"].as_u64())
    };
    assert_eq!(pulls(), (Some(size), Some(size)));
    env.rb(["build", "app"]).expect(0);
    env.write("app/Dockerfile", format!("FROM {}:1\nRUN echo\n", place.name()));
    assert_eq!(pulls(), (Some(0), Some(0)));
}
