//! Flags one by one: what they do to steps, and which are refused.

use super::{build, project};
use crate::env::TestEnv;

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let env = TestEnv::new();
    env.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    for (flag, said) in [
        ("--provenance=mode=middle", "min or max"),
        (
            "--cache-from=type=s3",
            "--cache-from type=s3: type=s3 needs bucket=…, or AWS_BUCKET in the environment",
        ),
        ("--cache-to=type=inline,mode=max", "type=inline holds the steps of the image alone"),
        ("--sbom=generator=A B", "--sbom"),
        ("--attest=type=vuln", "--attest"),
        ("--builder=x", "no builder `x` found"),
        ("--volume=/a", "HOST:CONTAINER"),
        ("--volume=/no-such-folder:/b", "there is no `/no-such-folder`"),
        ("--cap-add=SYS_ADMIN", "--security=insecure"),
        ("--add-host=a:host-gateway", "steps do not reach the machine that builds"),
        ("--policy=filename=p.rego", "applies no policies"),
        ("--output=type=local,dest=o,attestation-prefix=x", "attestation-prefix=x"),
        ("--output=type=oci,dest=o,compatibility-version=20", "compatibility-version=20"),
        ("--output=type=registry,name=a,registry.insecure=true", "config.toml says"),
        ("--add-host=a", "NAME:IP"),
        ("--allow=everything", "network.host"),
        ("--network=mine", "mine"),
        ("--resource=disk=1", "memory"),
        ("--call=guess", "outline"),
        ("--isolation=hyperv", "sandbox"),
        ("--progress=fancy", "rawjson"),
        ("--no-such-flag", "--no-such-flag"),
    ] {
        env.rb(["build", flag, "."]).expect(2).says(said);
    }
    for flag in [
        "--provenance=false",
        "--sbom=false",
        "--rm=false",
        "--force-rm",
        "--compress",
        "--layers",
        "--isolation=default",
        "--policy=disabled=true",
        "--debug=false",
    ] {
        env.rb(["build", flag, "."]).expect(0).hides("DEBUG");
    }
    env.rb(["build", "-D", "."]).expect(0).says("DEBUG");
    // Who has rules for what is built is told that they do not count.
    env.write("Dockerfile.rego", "package docker\n");
    env.rb(["build", "."]).expect(0).says("Dockerfile.rego is not applied");
    env.rb(["build", "--policy=disabled=true", "."]).expect(0).hides("rego");
    env.rb(["build", "--cache-to=type=inline,image-manifest=false", "."]).expect(0).says("--cache-to");
    env.rb(["build", "--security-opt=seccomp=x", "."]).expect(0).says("changes nothing");
    env.rb(["build", "--secret=id=T,env=RB_NO_SUCH", "."]).expect(2).says("--secret");
    env.rb(["build"]).expect(2).says("needs a context");
    env.rb(["build", ".", "x"]).expect(2).says("one context");
    env.rb(["build", "+app"]).expect(2).says("`rb +app`");
    env.rb(["build", "nowhere"]).expect(2).says("`nowhere` does not exist");
    env.rb(["--ci", "build", "."]).expect(2).says("--ci");
    env.rb(["-o", "out", "build", "."]).expect(2);
}

#[test]
fn steps_see_what_flags_give_them() {
    let Some(env) = project() else { return };
    env.write(
        "app/Dockerfile",
        "FROM base AS b\nARG A\nARG B=default\n\
         RUN --mount=type=secret,id=token cat /run/secrets/token > /out\n\
         RUN --mount=type=secret,id=var,env=VAR echo $VAR >> /out\n\
         RUN echo $A $B >> /out\nRUN cat /etc/hosts >> /out\nRUN ulimit -n >> /out\n\
         FROM scratch\nCOPY --from=b /out /\n",
    );
    env.write("token", "t0ken\n").write("args", "A=file\nB=file\n");
    let words = [
        "--secret",
        "id=token,src=token",
        "--secret",
        "id=var,env=HOME",
        "--build-arg-file",
        "args",
        "--build-arg",
        "A=typed",
        "--add-host",
        "db:10.1.2.3",
        "--ulimit",
        "nofile=100:200",
        "-o",
        "out",
        "app",
    ];
    build(&env, &words).expect(0);
    let out = env.read("out/out");
    assert!(out.starts_with("t0ken\n/") && out.contains("typed file\n"), "{out}");
    assert!(out.contains("10.1.2.3\tdb") && out.ends_with("100\n"), "{out}");
}

#[test]
fn this_machine_has_a_name_where_steps_have_its_network() {
    let Some(env) = project() else { return };
    env.write(
        "app/Dockerfile",
        "FROM base AS b\nRUN grep host.docker /etc/hosts > /hosts\nFROM scratch\nCOPY --from=b /hosts /\n",
    );
    let name = "--add-host=host.docker.internal:host-gateway";
    build(&env, &["--network=host", name, "-o", "out", "app"]).expect(0);
    assert_eq!(env.read("out/hosts"), "127.0.0.1\thost.docker.internal\n");
    build(&env, &[name, "app"]).expect(2).says("--network=host");
}

#[test]
fn rights_are_given_by_name() {
    let Some(env) = project() else { return };
    env.write("app/Dockerfile", "FROM base\nRUN --network=host true\n");
    build(&env, &["app"]).expect(2).says("`--allow network.host`");
    build(&env, &["--allow", "network.host", "app"]).expect(0);
    env.write("app/Dockerfile", "FROM base\nRUN true\n");
    build(&env, &["--network", "host", "app"]).expect(0);
    env.write("app/Dockerfile", "FROM base\nRUN --security=insecure true\n");
    build(&env, &["app"]).expect(2).says("`--allow security.insecure`");
    build(&env, &["--allow", "security.insecure", "app"]).expect(0);
}

#[test]
fn volumes_are_seen_by_every_step_and_not_changed() {
    let Some(env) = project() else { return };
    env.write("app/Dockerfile", "FROM base AS b\nRUN cat /v/a > /one; echo more >> /v/a; test ! -e /v/.dockerignore -o -e /v/hidden\nRUN cat /v/a /file > /other\nFROM scratch\nCOPY --from=b /one /other /\n");
    env.write("data/a", "of data\n")
        .write("data/.dockerignore", "hidden\n")
        .write("data/hidden", "")
        .write("file", "a file\n");
    let words = ["--volume", "data:/v", "-v", "./file:/file:ro", "-o", "out", "app"];
    build(&env, &words).expect(0);
    assert_eq!(
        (env.read("out/one"), env.read("out/other")),
        ("of data\n".into(), "of data\na file\n".into())
    );
    // What steps wrote is forgotten; what is there decides whether they run.
    assert_eq!(env.read("data/a"), "of data\n");
    build(&env, &words).expect(0).says("nothing to do");
    env.write("data/a", "changed\n");
    build(&env, &words).expect(0).says("steps run");
    assert_eq!(env.read("out/other"), "changed\na file\n");
    env.write("app/Dockerfile", "FROM base\nRUN echo x > /file\n");
    build(&env, &["-v", "./file:/file:ro", "app"]).expect(1);
    // What lies elsewhere has to be allowed, however it is named.
    let elsewhere = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(elsewhere.path().join("a"), "elsewhere\n").expect("writes");
    std::os::unix::fs::symlink(elsewhere.path(), env.project().join("link")).expect("links");
    env.write("app/Dockerfile", "FROM base AS b\nRUN cat /v/a > /a\nFROM scratch\nCOPY --from=b /a /\n");
    let allowed = format!("fs.read={}", elsewhere.path().display());
    let volume = format!("{}:/v", elsewhere.path().display());
    for volume in [&*volume, "link:/v"] {
        build(&env, &["-v", volume, "-o", "out", "app"])
            .expect(2)
            .says("is not allowed")
            .says("--allow fs.read=");
        build(&env, &["-v", volume, "--allow", &allowed, "-o", "out", "app"]).expect(0);
        assert_eq!(env.read("out/a"), "elsewhere\n");
    }
}

#[test]
fn stages_are_chosen_and_made_again() {
    let Some(env) = project() else { return };
    env.write("app/Dockerfile", "FROM base AS a\nRUN echo a > /a\nFROM base AS b\nRUN echo b > /b\nFROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n");
    build(&env, &["-o", "out", "app"]).expect(0);
    build(&env, &["--no-cache-filter", "a", "-o", "out", "app"]).expect(0).says("1 step run");
    build(&env, &["--target", "b", "-o", "type=local,dest=b", "app"]).expect(0);
    assert!(env.has("b/b") && !env.has("b/a"));
    build(&env, &["--target", "c", "app"]).expect(2).says("c");
}

#[test]
fn a_step_that_fails_has_its_line() {
    let Some(env) = project() else { return };
    env.write("app/Dockerfile", "FROM base\nRUN echo working && \\\n    nonsense --now\n");
    let run = build(&env, &["app"]).expect(1).says("RUN echo working").says("exit code 127").says("nonsense");
    assert!(run.stderr.contains("Dockerfile"), "{}", run.stderr);
    env.rb(["history", "ls"]).expect(0);
    assert!(env.rb(["logs"]).expect(0).stdout.contains("working"));
}
