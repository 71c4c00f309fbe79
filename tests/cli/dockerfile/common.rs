//! The commonest invocations of `docker build`, unchanged but for the first word.

use super::{config, project};
use crate::env::{Run, TestEnv};

/// A project as people have them, whose base comes from the image store under the name that its Dockerfile says.
fn app() -> Option<TestEnv> {
    let env = project()?;
    env.write("Dockerfile", "FROM base:1\nARG VERSION=dev\nENV VERSION=$VERSION\nWORKDIR /app\nCOPY . .\nRUN cat main > built && echo $VERSION >> built\nCMD [\"cat\", \"built\"]\nFROM scratch AS files\nCOPY --from=0 /app/built /\nFROM 0\n")
        .write("Dockerfile.prod", "FROM base:1\nCOPY main /prod\nCMD cat /prod\n")
        .write(".dockerignore", "base\nout\n*.tar\n")
        .write("main", "main\n");
    // `FROM 0` is no stage of docker's: the last stage is the first one's.
    let text = env
        .read("Dockerfile")
        .replace("FROM base:1\nARG", "FROM base:1 AS app\nARG")
        .replace("FROM 0", "FROM app");
    env.write("Dockerfile", text.replace("--from=0", "--from=app"));
    env.rb([
        "build",
        "-t",
        "base:1",
        "--build-context",
        "base=oci-layout://base",
        "-f",
        "base.Dockerfile",
        ".",
    ])
    .expect(2);
    env.write("base.Dockerfile", "FROM base\n");
    env.rb([
        "build",
        "-t",
        "base:1",
        "--build-context",
        "base=oci-layout://base",
        "-f",
        "base.Dockerfile",
        ".",
    ])
    .expect(0);
    Some(env)
}

/// Runs a line of docker's.
fn docker(env: &TestEnv, line: &str) -> Run {
    let words: Vec<&str> = line.strip_prefix("docker ").expect("docker's").split(' ').collect();
    env.rb(words)
}

/// What the program of an image says.
fn said(env: &TestEnv, image: &str) -> String {
    env.rb(["run", image]).expect(0).stdout
}

#[test]
fn the_ten_commonest() {
    let Some(env) = app() else { return };
    docker(&env, "docker build .").expect(0).says("without a name");
    docker(&env, "docker build -t app .").expect(0).says("image app:latest");
    assert_eq!(said(&env, "app"), "main\ndev\n");
    docker(&env, "docker build -t app:1.0 -t app:latest .").expect(0).says("nothing to do");
    docker(&env, "docker build -f Dockerfile.prod -t app:prod .").expect(0);
    assert_eq!(said(&env, "app:prod"), "main\n");
    docker(&env, "docker build --build-arg VERSION=2 -t app:2 .").expect(0);
    assert_eq!(said(&env, "app:2"), "main\n2\n");
    docker(&env, "docker build --target files -o out .").expect(0);
    assert_eq!(env.read("out/built"), "main\ndev\n");
    docker(&env, "docker build --no-cache --pull=false -t app .").expect(0).says("steps run");
    docker(
        &env,
        "docker build --platform linux/amd64,linux/arm64 --target files -t app:multi -f Dockerfile.prod .",
    )
    .expect(2)
    .says("files");
    let quiet = docker(&env, "docker build -q -t app .").expect(0);
    assert!(quiet.stdout.starts_with("sha256:") && quiet.stdout.lines().count() == 1, "{quiet:?}");
    docker(&env, "docker build --label org.opencontainers.image.revision=abc --rm --force-rm -t app .")
        .expect(0);
    assert_eq!(config(&env, "app")["config"]["Labels"]["org.opencontainers.image.revision"], "abc");
    docker(&env, "docker build --progress=plain --network=none -t app .").expect(0);
}

#[test]
fn what_is_built_again_is_there() {
    let Some(env) = app() else { return };
    docker(&env, "docker build -t app .").expect(0);
    docker(&env, "docker build -t app .").expect(0).says("nothing to do");
    env.write("main", "changed\n");
    docker(&env, "docker build -t app .").expect(0);
    assert_eq!(said(&env, "app"), "changed\ndev\n");
}
