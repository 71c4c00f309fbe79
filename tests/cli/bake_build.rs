//! `rb bake` building: every target of bake files in one build.

use crate::env::{Run, TestEnv, ended};
use crate::registry::support::docker_registry::{DockerRegistry, Wants};

/// A project with a base image beside it; none where there is no busybox.
fn project() -> Option<TestEnv> {
    let env = TestEnv::new();
    env.busybox_layout("base").then_some(env)
}

fn bake(env: &TestEnv, words: &[&str]) -> Run {
    env.rb(["bake"].iter().chain(words))
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("is JSON")
}

#[test]
fn what_targets_share_is_made_once() {
    let Some(env) = project() else { return };
    env.write("Dockerfile", "FROM base AS tools\nRUN echo made >> /tools\nFROM tools AS app\nCOPY main /\nRUN cat /tools main > /app.txt\nFROM tools AS lib\nCOPY main /\nRUN cat /tools > /lib.txt\n")
        .write("main", "main\n")
        .write("docker-bake.hcl", r#"
            group "default" { targets = ["app", "lib"] }
            target "_all" { contexts = { base = "oci-layout://base" } }
            target "app" {
                inherits = ["_all"]
                target = "app"
                tags = ["app:1", "app:latest"]
                labels = { who = "me, and \"you\"" }
            }
            target "lib" {
                inherits = ["_all"]
                target = "lib"
                output = ["type=local,dest=out"]
            }
        "#);
    let run = bake(&env, &["--metadata-file", "meta.json"]).expect(0);
    // The stage that both are made of is one, and so is the COPY behind it; each has a RUN of its own.
    run.says("4 steps run").says("[app ").says("[lib ").says("image app:1, app:latest");
    assert_eq!(env.read("out/lib.txt"), "made\n");
    assert_eq!(env.rb(["run", "app", "cat", "/app.txt"]).expect(0).stdout, "made\nmain\n");
    let meta = json(&env.read("meta.json"));
    assert!(meta["app"]["buildx.build.ref"].is_string() && meta.get("buildx.build.warnings").is_none());
    assert!(meta["app"]["containerimage.digest"].as_str().is_some_and(|text| text.starts_with("sha256:")));
    assert!(meta["app"]["image.name"].as_str().is_some_and(|text| text.contains("app:1")));
    assert!(meta["lib"].is_object() && meta["lib"]["image.name"].is_null());
    let config = json(&env.rb(["image", "inspect", "app"]).expect(0).stdout);
    assert_eq!(config[0]["config"]["config"]["Labels"]["who"], "me, and \"you\"");
    bake(&env, &[]).expect(0).says("nothing to do");
    // As `rb build` makes it, so what one made the other finds.
    env.rb(["build", "--build-context", "base=oci-layout://base", "--target", "app", "."])
        .expect(0)
        .says("nothing to do");
}

#[test]
fn a_target_is_a_context_of_another() {
    let Some(env) = project() else { return };
    env.write("lib/Dockerfile", "FROM base\nENV LIB=yes\nCOPY own /lib\nRUN cat /lib >> /count\n")
        .write("lib/own", "of lib\n")
        .write("app/Dockerfile", "FROM lib AS app\nCOPY own /app\nRUN cat /count /app > /both; echo $LIB >> /both\nFROM scratch\nCOPY --from=app /both /\nCOPY --from=lib /lib /again\n")
        .write("app/own", "of app\n")
        .write("docker-bake.hcl", r#"
            target "default" {
                context = "app"
                contexts = { lib = "target:lib" }
                output = ["out"]
            }
            target "lib" {
                context = "lib"
                contexts = { base = "oci-layout://base" }
                tags = ["never:kept"]
            }
        "#);
    let run = bake(&env, &[]).expect(0).says("[lib ").says("[default ");
    assert_eq!(env.read("out/both"), "of lib\nof app\nyes\n");
    assert_eq!(env.read("out/again"), "of lib\n");
    run.hides("never:kept");
    env.rb(["image", "inspect", "never:kept"]).expect(2);
    // Asked for itself, it is kept, and still made once.
    env.write("lib/own", "changed\n");
    bake(&env, &["default", "lib"]).expect(0).says("image never:kept");
    assert_eq!(env.read("out/both"), "changed\nof app\nyes\n");
}

#[test]
fn contexts_of_several_targets_are_kept_apart() {
    let Some(env) = project() else { return };
    for name in ["a", "b"] {
        env.write(&format!("{name}/Dockerfile"), "FROM scratch\nCOPY own /\nCOPY --from=data f /data\n")
            .write(&format!("{name}/own"), name)
            .write(&format!("{name}-data/f"), format!("data of {name}"));
    }
    env.write(
        "docker-bake.hcl",
        r#"
        target "default" {
            matrix = { which = ["a", "b"] }
            name = which
            context = which
            contexts = { data = "./${which}-data" }
            output = ["type=local,dest=out/${which}"]
        }
        target "inline" {
            dockerfile-inline = "FROM scratch\nCOPY a/own /inline\n"
            output = ["type=local,dest=out"]
        }
    "#,
    );
    bake(&env, &["default", "inline"]).expect(0);
    assert_eq!((env.read("out/a/own"), env.read("out/b/own")), ("a".to_owned(), "b".to_owned()));
    assert_eq!(
        (env.read("out/a/data"), env.read("out/b/data")),
        ("data of a".to_owned(), "data of b".to_owned())
    );
    assert_eq!(env.read("out/inline"), "a");
}

#[test]
fn platforms_tags_and_registries() {
    let env = TestEnv::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(registry) = DockerRegistry::start(&folder.path().join("registry"), &Wants::default()) else {
        return;
    };
    env.write("Dockerfile", "FROM scratch\nCOPY main /\n").write("main", "main").write(
        "app/Dockerfile",
        "FROM lib\nARG TARGETARCH\nCOPY --from=lib main /again\nENV ARCH=$TARGETARCH\n",
    );
    let host = registry.host.clone();
    env.write(
        "docker-bake.hcl",
        format!(
            r#"
        target "_both" {{ platforms = ["linux/amd64", "linux/arm64"] }}
        target "lib" {{ inherits = ["_both"] }}
        target "app" {{
            inherits = ["_both"]
            context = "app"
            contexts = {{ lib = "target:lib" }}
            tags = ["{host}/app:1"]
        }}
    "#
        ),
    );
    bake(&env, &["app", "--push", "--metadata-file", "meta.json"]).expect(0).says("linux/amd64, linux/arm64");
    let digest = json(&env.read("meta.json"))["app"]["containerimage.digest"].clone();
    let told = env.rb(["image", "inspect", &format!("{host}/app:1")]).expect(0).stdout;
    assert!(told.contains(digest.as_str().expect("is a text")) && told.contains("arm64"), "{told}");
    // What goes to a registry needs a name.
    bake(&env, &["lib", "--push"]).expect(2).says("`lib`");
}

#[test]
fn what_fails_is_told_with_its_target() {
    let Some(env) = project() else { return };
    env.write("Dockerfile", "FROM base AS good\nRUN true\nFROM base AS bad\nRUN echo told; exit 3\n").write(
        "docker-bake.hcl",
        r#"
            group "default" { targets = ["good", "bad"] }
            target "good" { target = "good" }
            target "bad" { target = "bad" }
            target "none" { target = "none" }
            target "gone" { context = "nowhere" }
            target "host" { network = "host" }
            target "wrong" { output = ["type=moon"] }
            target "proved" { attest = ["type=moon"] }
        "#,
    );
    let with_base = ["--set", "*.contexts.base=oci-layout://base"];
    let run = |name: &str| bake(&env, &[&[name][..], &with_base].concat());
    run("default").expect(1).says("[bad ").says("exit code 3").says("Dockerfile:4");
    run("none").expect(2).says("none");
    run("gone").expect(2).says("`gone`: the context `nowhere` does not exist");
    run("host").expect(2).says("`host` asks for network.host").says("--allow network.host");
    run("wrong").expect(2).says("`wrong`: --output: type `moon` is unknown");
    run("proved").expect(2).says("`proved`: --attest");
    bake(&env, &["host", "--allow", "moon"]).expect(2).says("--allow moon");
    run("nope").expect(2).says("there is no target `nope`");
}

#[test]
fn secrets_are_lent_to_those_that_name_them() {
    let Some(env) = project() else { return };
    env.write(
        "Dockerfile",
        "FROM base\nRUN --mount=type=secret,id=token cat /run/secrets/token | wc -c > /n\n",
    )
    .write("one", "12345")
    .write("other", "123")
    .write(
        "docker-bake.hcl",
        r#"
            target "_all" {
                contexts = { base = "oci-layout://base" }
                output = ["out"]
                no-cache = true
            }
            target "a" {
                inherits = ["_all"]
                secret = ["id=token,src=one"]
            }
            target "b" {
                inherits = ["_all"]
                secret = ["id=token,src=other"]
            }
        "#,
    );
    bake(&env, &["a"]).expect(0);
    assert_eq!(env.read("out/n"), "5\n");
    bake(&env, &["b"]).expect(0).says("run");
    assert_eq!(env.read("out/n"), "3\n");
    bake(&env, &["a", "b"]).expect(2).says("the secret `token` is one thing in `a` and another in `b`");
    bake(&env, &["a", "b", "--set", "*.secrets=", "--set", "a.ssh=x=one", "--set", "b.ssh=x=other"])
        .expect(2)
        .says("the ssh agent `x` is one thing in `a` and another in `b`");
}

#[test]
fn targets_are_checked_in_place_of_a_build() {
    let env = TestEnv::new();
    env.write("Dockerfile", "from scratch AS one\nCOPY a /\nFROM scratch AS two\nARG WHAT=x\nCOPY b /\n").write(
        "docker-bake.hcl",
        "target \"one\" {\n  target = \"one\"\n  description = \"The first\"\n}\ntarget \"two\" { target = \"two\" }\n",
    );
    let run = bake(&env, &["--check", "one", "two"]).expect(1);
    assert!(run.stdout.contains("one: The first\n") && run.stdout.contains("two\n"), "{}", run.stdout);
    assert!(
        run.stdout.contains("FromAsCasing") || run.stdout.contains("ConsistentInstructionCasing"),
        "{run:?}"
    );
    let run = bake(&env, &["--call=targets,format=json", "one", "two"]).expect(0);
    assert!(json(&run.stdout)["one"]["targets"].is_array(), "{}", run.stdout);
    let run = bake(&env, &["--set", "one.call=check", "one", "two"]).expect(2);
    run.says("`two` is to be built and `one` to be asked");
}

#[test]
fn bake_files_come_by_pipes_and_end() {
    use std::process::Stdio;
    let env = TestEnv::new();
    env.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    // As a shell has it for `rb bake -f <(…)`.
    let (from, mut to) = std::io::pipe().expect("a pipe");
    std::io::Write::write_all(&mut to, b"target \"default\" { output = [\"type=local,dest=out\"] }\n")
        .expect("fits");
    drop(to);
    let mut command = env.command(["bake", "-f", "/dev/stdin"]);
    ended(command.stdin(Stdio::from(from))).expect(0);
    assert!(env.has("out/Dockerfile"));
    // Too long is an error, and not cut to what fits.
    let mut file = tempfile::tempfile().expect("a temporary file");
    let text = "target \"default\" {}\n".to_owned() + &"#".repeat(16 << 20);
    std::io::Write::write_all(&mut file, text.as_bytes()).expect("writes");
    std::io::Seek::rewind(&mut file).expect("is a file");
    let mut command = env.command(["bake", "-f", "-"]);
    ended(command.stdin(Stdio::from(file))).expect(2).says("larger than 16 MiB");
}

#[test]
fn a_tag_of_two_targets_is_told() {
    let env = TestEnv::new();
    env.write("Dockerfile", "FROM scratch\nARG WHO\nLABEL who=$WHO\n").write(
        "docker-bake.hcl",
        "target \"a\" { tags = [\"x:1\"] }\ntarget \"b\" {\n  args = { WHO = \"b\" }\n  tags = [\"x:1\", \"x:2\"]\n}\n",
    );
    bake(&env, &["a", "b"]).expect(0).says("the tag `x:1` is that of `a`, `b`");
    bake(&env, &["b"]).expect(0).hides("is that of");
}

#[test]
fn a_bake_goes_on_where_a_step_failed() {
    let Some(env) = project() else { return };
    let text =
        "FROM base AS good\nRUN echo good > /f\nFROM base AS bad\nRUN echo half > /f; test -e /fixed\n";
    env.write("Dockerfile", text).write(
        "docker-bake.hcl",
        r#"
        target "_all" { contexts = { base = "oci-layout://base" } }
        target "good" {
            inherits = ["_all"]
            target = "good"
            tags = ["good:1"]
        }
        target "bad" {
            inherits = ["_all"]
            target = "bad"
            output = ["type=local,dest=out"]
        }
    "#,
    );
    bake(&env, &["good", "bad"]).expect(1).says("exit code 1");
    env.write("Dockerfile", text.replace("echo half > /f; test -e /fixed", "test -e /f && echo whole >> /f"));
    let run = env.rb(["resume"]).expect(0).says("made by resuming").says("the next `rb bake` runs it clean");
    run.says("no image is written");
    assert_eq!(env.read("out/f"), "half\nwhole\n");
    env.rb(["image", "inspect", "good:1"]).expect(2);
    // Clean, it fails: what was resumed is no result.
    bake(&env, &["good", "bad"]).expect(1);
    env.rb(["resume", "--with-images", "1"]).expect(0);
    env.rb(["image", "inspect", "good:1"]).expect(0);
}

#[test]
fn compose_files_are_built_too() {
    let Some(env) = project() else { return };
    env.write("web/Dockerfile", "FROM base\nARG MODE\nRUN echo $MODE > /mode\n").write(
        "compose.yaml",
        "services:\n  web:\n    image: web:1\n    build:\n      context: web\n      args: {MODE: prod}\n      additional_contexts: [base=oci-layout://base]\n  db:\n    image: postgres\n",
    );
    bake(&env, &[]).expect(0).says("image web:1");
    assert_eq!(env.rb(["run", "web:1", "cat", "/mode"]).expect(0).stdout, "prod\n");
}
