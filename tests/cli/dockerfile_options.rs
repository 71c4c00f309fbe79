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
