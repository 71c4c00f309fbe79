//! rb by kaniko's name, with kaniko's flags.

use std::os::unix::process::CommandExt as _;

use crate::dockerfile::tar_of;
use crate::env::{Run, TestEnv, ended};
use crate::registry::objects::{Objects, S3_KEY};
use crate::registry::support::docker_registry::{DockerRegistry, Wants};

fn kaniko(env: &TestEnv, words: &[&str]) -> Run {
    env.rb_called("/kaniko/executor", words)
}

fn project() -> TestEnv {
    let env = TestEnv::new();
    env.write("app/Dockerfile", "FROM scratch\nARG MODE=none\nCOPY main /\nLABEL mode=$MODE\n")
        .write("app/main", "main");
    env
}

#[test]
fn an_image_is_pushed_and_digests_are_written() {
    let env = project();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(registry) = DockerRegistry::start(&folder.path().join("registry"), &Wants::default()) else {
        return;
    };
    let host = &registry.host;
    let (one, other) = (format!("{host}/me/app:1"), format!("{host}/me/app:other"));
    let run = kaniko(
        &env,
        &[
            "--context=dir://app",
            "--dockerfile=Dockerfile",
            &format!("--destination={one}"),
            "-d",
            &other,
            "--build-arg=MODE=prod",
            "--label",
            "who=me",
            "--cache=true",
            &format!("--cache-repo={host}/me/cache"),
            "--snapshotMode=redo",
            "--single-snapshot",
            "--cleanup",
            "--force",
            "--digest-file=digest",
            "--image-name-with-digest-file=names",
            "--image-name-tag-with-digest-file=tags",
        ],
    )
    .expect(0)
    .says("these change nothing here");
    for name in ["--snapshot-mode", "--single-snapshot", "--cleanup", "--force"] {
        assert_eq!(run.stderr.matches(name).count(), 1, "{name}: {}", run.stderr);
    }
    assert!(run.stderr.contains(&format!("cache  {host}/me/cache:rb  1 result in")), "{}", run.stderr);
    let digest = env.read("digest");
    assert!(digest.starts_with("sha256:") && !digest.ends_with('\n'), "{digest}");
    assert_eq!(env.read("names"), format!("{host}/me/app@{digest}\n").repeat(2));
    assert_eq!(env.read("tags"), format!("{one}@{digest}\n{other}@{digest}\n"));
    let told = env.rb(["image", "pull", &format!("{host}/me/app@{digest}")]).expect(0);
    drop(told);
    let told = env.rb(["image", "inspect", &one]).expect(0).stdout;
    assert!(told.contains("prod") && told.contains("\"who\": \"me\""), "{told}");
    assert!(told.contains("application/vnd.docker.distribution.manifest.v2+json"), "{told}");
}

#[test]
fn an_image_is_written_where_it_is_not_pushed() {
    let env = project();
    kaniko(&env, &["-c", "app", "--no-push", "-d", "app:1", "--tarPath", "app.tar", "--reproducible"])
        .expect(0);
    kaniko(&env, &["-c", "app", "--no-push", "--oci-layout-path=layout", "-f", "Dockerfile"]).expect(0);
    assert!(env.has("layout/index.json") && env.has("layout/oci-layout"));
    let tar = std::fs::read(env.project().join("app.tar")).expect("reads");
    let mut archive = tar::Archive::new(&tar[..]);
    let names: Vec<String> = archive
        .entries()
        .expect("is a tar")
        .map(|entry| entry.expect("is whole").path().expect("a path").display().to_string())
        .collect();
    assert!(names.contains(&"manifest.json".to_owned()), "{names:?}");
    // A tar in place of a folder.
    let tar = crate::dockerfile::tar_of(&[("Dockerfile", "FROM scratch\nCOPY a /\n"), ("a", "of a tar")]);
    env.write("context.tar", tar);
    kaniko(&env, &["--context=tar://context.tar", "--no-push", "--digest-file", "digest"]).expect(0);
    assert!(env.read("digest").starts_with("sha256:"));
}

#[test]
fn what_would_come_out_otherwise_is_refused() {
    let env = project();
    let run = |words: &[&str]| kaniko(&env, &[&["-c", "app"], words].concat()).expect(2);
    run(&[]).says("you must provide --destination, or use --no-push");
    run(&["--no-push", "--insecure-pull"])
        .says("`--insecure-pull` of kaniko")
        .says("--insecure-registry HOST");
    run(&["--no-push", "--moon"]).says("--moon");
    run(&["--no-push", "--digest-file=https://host/x"]).says("files of this machine");
    kaniko(&env, &["-c", "s3://bucket/x", "--no-push"]).expect(2).says("s3://");
    kaniko(&env, &["-c", "dir://gone", "--no-push"]).expect(2).says("there is no folder `gone`");
    let version = kaniko(&env, &["version"]).expect(0);
    assert!(version.stdout.contains("rb "), "{version:?}");
    let help = kaniko(&env, &["--help"]).expect(0);
    assert!(
        help.stdout.contains("--oci-layout-path") && help.stdout.contains("rb help kaniko"),
        "{}",
        help.stdout
    );
    let told = env.rb(["help", "kaniko"]).expect(0);
    assert!(told.stdout.contains("--use-new-run"), "{}", told.stdout);
}

#[test]
fn a_context_lies_in_a_bucket() {
    let env = TestEnv::new();
    let server = Objects::start();
    let tar = tar_of(&[("Dockerfile", "FROM scratch\nCOPY main /\n"), ("main", "of the bucket\n")]);
    server.kept.lock().unwrap().objects.insert("/bucket/ci/context.tar".to_owned(), tar);
    let variables = [
        ("S3_ENDPOINT", server.url()),
        ("S3_FORCE_PATH_STYLE", "true".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", S3_KEY.0.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", S3_KEY.1.to_owned()),
    ];
    let run = |context: &str, variables: &[(&str, String)]| {
        let words = ["--context", context, "--no-push", "--tar-path=out.tar", "-d", "app:1"];
        let mut command = env.command(words);
        command.arg0("executor").envs(variables.iter().map(|(name, value)| (*name, value)));
        ended(&mut command)
    };
    run("s3://bucket/ci/context.tar", &variables).expect(0).hides(S3_KEY.1).hides("X-Amz");
    env.rb(["image", "load", "-i", "out.tar"]).expect(0);
    let out = env.rb(["image", "inspect", "app:1"]).expect(0).stdout;
    assert!(out.contains("COPY main /"), "{out}");
    let missing = run("s3://bucket/ci/other.tar", &variables).expect(2);
    missing.says("s3://bucket/ci/other.tar cannot be fetched: not found: ci/other.tar");
    run("s3://bucket/ci/context.tar", &variables[..3]).expect(2).says("AWS_ACCESS_KEY_ID is not set");
    run("s3:///x", &variables).expect(2).says("names no bucket");
    run("gs://bucket/x.tar", &variables).expect(2).says("rb fetches nothing from there");
}
