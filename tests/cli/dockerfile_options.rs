//! Options of `rb build` that other builders have, and how what is wrong is told: with the Dockerfile's path as it was typed, what
//! the checks found, and docker's own words for what helps.

use crate::dockerfile::{build, project};
use crate::env::TestEnv;

#[test]
fn an_ignore_file_that_is_named_counts_alone() {
    let env = TestEnv::new();
    env.write("app/Dockerfile", "FROM scratch\nCOPY . /\n").write("app/.dockerignore", "a\n");
    env.write("app/Dockerfile.dockerignore", "b\n").write("rules", "c\nDockerfile*\n.dockerignore\n");
    for name in ["a", "b", "c"] {
        env.write(&format!("app/{name}"), name);
    }
    env.rb(["build", "--ignorefile", "rules", "-o", "out", "app"]).expect(0);
    assert_eq!(
        ["a", "b", "c", "Dockerfile"].map(|name| env.has(&format!("out/{name}"))),
        [true, true, false, false]
    );
    env.rb(["build", "--ignorefile", "nowhere", "app"]).expect(2).says("--ignorefile `nowhere`");
}

#[test]
fn what_a_registry_fails_at_is_tried_as_often_as_is_said() {
    let env = TestEnv::new();
    // Nobody listens there.
    env.write("Dockerfile", "FROM 127.0.0.1:1/a/b:1\n");
    env.rb(["build", "--retry", "0", "."]).expect(3).hides("tries again");
    let run = env.rb(["build", "--retry=2", "--retry-delay", "1ms", "."]).expect(3);
    run.says("try 2 of 3").says("try 3 of 3").hides("of 5");
    env.rb(["build", "--retry-delay", "soon", "."]).expect(2).says("soon");
}

#[test]
fn places_are_named_as_the_file_was() {
    let Some(env) = project() else { return };
    env.write("app/Dockerfile", "FROM base as x\nCOPYY a /\n")
        .write("app/prod.Dockerfile", "FROM base as x\nRUN false\n");
    build(&env, &["app"]).expect(2).says("app/Dockerfile:2:1").says("did you mean `COPY`?");
    build(&env, &["./app/"]).expect(2).says("[app/Dockerfile:2:1]");
    env.rb_in("app", ["build", "."]).expect(2).says("[Dockerfile:2:1]");
    build(&env, &["-f", "./app/prod.Dockerfile", "app"]).expect(1).says("app/prod.Dockerfile:2");
    let checked = build(&env, &["--check", "-f", "app/prod.Dockerfile", "app"]).expect(1);
    assert!(checked.stdout.contains("app/prod.Dockerfile:1\n---"), "{}", checked.stdout);
}

#[test]
fn what_the_checks_found_is_told_where_a_build_fails_too() {
    let Some(env) = project() else { return };
    for (text, code) in [("FROM base as x\nCOPYY a /\n", 2), ("FROM base as x\nRUN false\n", 1)] {
        env.write("app/Dockerfile", text);
        build(&env, &["app"]).expect(code).says("1 warning; --check shows more").says("FromAsCasing");
        build(&env, &["-q", "app"]).expect(code).hides("FromAsCasing");
    }
}

#[test]
fn secrets_that_help_are_named_in_dockers_way() {
    let Some(env) = project() else { return };
    env.write("app/Dockerfile", "FROM base\nRUN --mount=type=secret,id=npm,required cat /run/secrets/npm\n");
    build(&env, &["app"]).expect(2).says("`--secret id=npm,src=FILE`");
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let Some(env) = project() else { return };
    let text = "FROM base AS build\nRNU make\nFROM ${BASE} AS other\nFROM base\nCOPY --from=biuld /x /\nCOPY --from=9 /x /\n\
        EXPOSE eighty\nRUN --mount=type=bind,from=Build-,target=/b true\n";
    env.write("app/Dockerfile", text);
    let run = build(&env, &["app"]).expect(2);
    let lines: Vec<&str> = run
        .stderr
        .lines()
        .filter_map(|line| line.split_once("[app/Dockerfile:").map(|(_, place)| place.trim_end_matches(']')))
        .collect();
    assert_eq!(lines, ["2:1", "3:6", "5:13", "6:13", "7:8", "8:28"], "{}", run.stderr);
    run.says("did you mean `RUN`?").says("did you mean `build`?").says("stages are numbered from 0 to 2");
    // The registry need not answer for what is wrong in any case.
    env.write("app/Dockerfile", "FROM 127.0.0.1:1/a/b:1\nEXPOSE eighty\nSTOPSIGNAL x\n");
    let run = build(&env, &["--retry=0", "app"]).expect(2);
    run.says("eighty").says("invalid signal: x").hides("cannot reach");
}

#[test]
fn images_that_are_not_there_are_told_together() {
    let env = TestEnv::new();
    env.write("Dockerfile", "FROM 127.0.0.1:1/a:1 AS a\nFROM 127.0.0.1:1/b:1\nCOPY --from=a / /a\n");
    env.rb(["build", "--retry=0", "."]).expect(3).says("127.0.0.1:1/a:1").says("127.0.0.1:1/b:1");
}

#[test]
fn a_layout_is_added_to() {
    let env = TestEnv::new();
    env.write("Dockerfile", "FROM scratch\nARG V\nLABEL v=$V\n");
    let write = |name: &str, version: &str| {
        let output = format!("type=oci,tar=false,dest=layout,name={name}");
        env.rb(["build", "--build-arg", &format!("V={version}"), "-o", &output, "."]).expect(0);
    };
    let names = || {
        let index: serde_json::Value = serde_json::from_str(&env.read("layout/index.json")).expect("is JSON");
        let entries = index["manifests"].as_array().cloned().unwrap_or_default();
        let name = |entry: &serde_json::Value| {
            entry["annotations"]["io.containerd.image.name"].as_str().unwrap_or_default().to_owned()
        };
        entries.iter().map(name).collect::<Vec<_>>()
    };
    write("app:1", "1");
    write("app:2", "2");
    assert_eq!(names(), ["app:1", "app:2"]);
    write("app:1", "3");
    assert_eq!(names(), ["app:2", "app:1"]);
    env.write("layout/index.json", "{");
    let words = ["build", "-o", "type=oci,tar=false,dest=layout", "."];
    env.rb(words).expect(3).says("index.json");
    assert_eq!(env.read("layout/index.json"), "{");
}

#[test]
fn what_is_wrong_is_told_of_the_flag_that_was_typed() {
    let env = TestEnv::new();
    env.write("Dockerfile", "FROM scratch\n").write("v/f", "f");
    env.rb(["build", "-t", "Upper", "."]).expect(2).says("-t Upper: ").says("lower case: `upper`");
    env.rb(["build", "--cache-to=", "."]).expect(2).says("--cache-to: it is empty");
    let forgotten = "--volume v:/v: what steps change there is forgotten";
    env.rb(["build", "-v", "v:/v:rw", "-v", "v:/w:ro", "."]).expect(0).says(forgotten).hides("v:/w");
    env.rb(["build", "-v", "v:/v", "."]).expect(0).hides("is forgotten");
}
