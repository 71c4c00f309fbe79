//! Files in another language: what `rb bake`, questions and plans make of a frontend that is a program of an image.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::engine::Tells as _;
use crate::env::{Run, TestEnv};
use crate::frontend::frontend_image;
use crate::guests::{frontend_of, program};

const BUILDFILE: &str = "\
# syntax=rb-frontend:latest
VERSION 1
# ground is what all begin with.
ground:
    FROM scratch
    COPY busybox /bin/sh
    WORKDIR /work
app:
    FROM +ground
    COPY src src
    ARG word=one
    RUN read line < src/a.txt; echo \"$line $word\" > out
    SAVE IMAGE made:1
";

/// Makes a project with a Buildfile that the frontend of an image reads; nothing where no base can be had.
fn project() -> Option<TestEnv> {
    let env = TestEnv::new();
    if !env.busybox_layout("base") {
        return None;
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| fs::read(path).ok());
    let busybox = busybox.expect("the layout has it");
    for folder in [".", "other"] {
        env.write(&format!("{folder}/busybox"), &busybox)
            .write(&format!("{folder}/src/a.txt"), format!("{folder}\n"));
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(env.project().join(folder).join("busybox"), mode).expect("sets");
        env.write(&format!("{folder}/Buildfile"), BUILDFILE);
    }
    frontend_image(&env);
    Some(env)
}

#[test]
fn questions_are_the_frontends_to_answer() {
    let Some(env) = project() else { return };
    let ask = |words: &[&str]| env.rb([&["build", "-f", "Buildfile"], words, &["."]].concat());
    let text = ask(&["--call=targets"]).expect(0).stdout;
    assert!(text.starts_with("TARGET") && text.contains("app (default)"), "{text}");
    assert!(text.contains("ground is what all begin with."), "{text}");
    let json = ask(&["--call=targets,format=json"]).expect(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect(&json);
    assert_eq!(json["targets"][2]["name"], "app", "{json}");
    ask(&["--call=outline,format=json"]).expect(0);
    // So are the file's faults.
    assert_eq!(ask(&["--check"]).expect(0).stdout, "Check complete, no warnings found.\n");
    env.write("Buildfile", BUILDFILE.replace("SAVE IMAGE made:1", "SAVE IMAGE"));
    let warned = ask(&["--check"]).expect(1).stdout;
    assert!(
        warned.starts_with(
            "Check complete, 1 warning has been found!\n\nWARNING: rb::evaluate::unnamed_image\n"
        ),
        "{warned}"
    );
    assert!(warned.contains("Buildfile:13\n") && warned.contains(">>>     SAVE IMAGE\n"), "{warned}");
    let json = ask(&["--call=check,format=json"]).expect(1).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect(&json);
    assert_eq!(json["warnings"][0]["location"]["ranges"][0]["start"]["line"], 13, "{json}");
    env.write("Buildfile", BUILDFILE.replace("COPY src src", "COPI src src"));
    ask(&["--check"]).expect(2).tells("Buildfile:10").tells("COPI");
    env.write("Buildfile", BUILDFILE);
    // What it does not know is told as that.
    ask(&["--call=check,format=sarif"]).expect(2).tells("as text and as JSON alone");
    // What is wrong with the file is told by it, too.
    ask(&["--call=targets", "--build-arg", "BUILDKIT_SYNTAX=nobody:1"]).expect(3).tells("nobody:1");
}

#[test]
fn a_bake_has_targets_in_other_languages() {
    let Some(env) = project() else { return };
    let bake = r#"
group "default" { targets = ["here", "there", "upon"] }
target "here" {
  dockerfile = "Buildfile"
  output = ["type=local,dest=out/here"]
}
target "there" {
  context = "other"
  dockerfile = "Buildfile"
  args = { word = "two" }
  output = ["type=local,dest=out/there"]
}
target "upon" {
  dockerfile-inline = "FROM app\nRUN echo more > more\n"
  contexts = { app = "target:there" }
  output = ["type=local,dest=out/upon"]
}
"#;
    env.write("docker-bake.hcl", bake);
    let run = env.rb(["bake", "--progress=plain"]).expect(0);
    assert_eq!(env.read("out/here/work/out"), ". one\n");
    assert_eq!(env.read("out/there/work/out"), "other two\n");
    assert_eq!(
        (env.read("out/upon/work/out"), env.read("out/upon/work/more")),
        ("other two\n".to_owned(), "more\n".to_owned())
    );
    assert!(run.stderr.contains("[there] | --> frontend rb-frontend:latest"), "{}", run.stderr);
    let again = env.rb(["bake"]).expect(0);
    assert!(again.stderr.contains("nothing to do"), "{}", again.stderr);
    let targets = env.rb(["bake", "here", "--call=targets"]).expect(0).stdout;
    assert!(targets.contains("app (default)"), "{targets}");
    // Who is wrong is told.
    env.rb(["bake", "there", "--set=there.target=nowhere"]).expect(2).tells("`there`").tells("nowhere");
}

#[test]
fn a_plan_shows_what_another_language_would_run() {
    let Some(env) = project() else { return };
    let plan = env.rb(["plan", "build", "-f", "Buildfile", "."]).expect(0);
    assert!(plan.stdout.contains("echo \"$line $word\""), "{}", plan.stdout);
    env.rb(["build", "-f", "Buildfile", "--expect-cached", "."]).expect(1);
    env.rb(["build", "-f", "Buildfile", "."]).expect(0);
    env.rb(["build", "-f", "Buildfile", "--expect-cached", "-o", "out", "."]).expect(0);
    assert_eq!(env.read("out/work/out"), ". one\n");
}

/// A file for BuildKit's own frontend, by another name.
const OTHER: &str = "\
# syntax=other:1
FROM base AS ground
ARG word=one
FROM ground AS build
ENV secret_token=x
COPY a.txt /
RUN --mount=type=secret,id=key,required=true test -e /a.txt
FROM ground
COPY --from=build /a.txt /
maintainer nobody
";

#[test]
fn another_program_answers_as_our_own_frontend_does() {
    let Some(program) = program("dockerfile-frontend") else { return };
    let env = TestEnv::new();
    if !env.busybox_layout("base") {
        return;
    }
    env.write("a.txt", "a\n");
    frontend_of(&env, &program, "other:1");
    let bake = r#"
target "base" {
  dockerfile-inline = "FROM scratch\nENV FROM_BASE=yes\nCOPY a.txt /base.txt\n"
}
target "app" {
  contexts = { base = "target:base" }
  secret = ["id=key,src=a.txt"]
  output = ["type=oci,dest=out.tar"]
  tags = ["app:1"]
  target = "ground"
}
"#;
    env.write("docker-bake.hcl", bake);
    let ask =
        |file: &str, words: &[&str]| env.write("Dockerfile", file).rb([&["bake", "app"], words].concat());
    let own = OTHER.replacen("# syntax=other:1", "# a comment", 1);
    for words in [&["--call=outline"][..], &["--call=targets"], &["--call=targets,format=json"], &["--check"]]
    {
        let (theirs, ours) = (ask(OTHER, words), ask(&own, words));
        // The file itself, as base64, has another first line.
        let plain = |run: &Run| {
            let lines = run.stdout.lines().filter(|line| !line.contains("sources") && line.len() < 200);
            lines.map(str::trim).collect::<Vec<_>>().join("\n")
        };
        assert_eq!((plain(&theirs), theirs.code), (plain(&ours), ours.code), "{words:?}: {}", theirs.stderr);
    }
    // What another target made is handed in, with its config.
    ask(OTHER, &[]).expect(0);
    assert_eq!(fs::read(env.project().join("out.tar")).expect("is there").len() % 512, 0);
    env.rb(["image", "load", "-i", "out.tar"]).expect(0);
    let inspected = env.rb(["image", "inspect", "app:1"]).expect(0).stdout;
    assert!(inspected.contains("FROM_BASE=yes"), "{inspected}");
}

#[test]
fn a_frontend_that_is_silent_is_named_soon() {
    let env = TestEnv::new();
    if !env.busybox_layout("base") {
        return;
    }
    env.write("slow/Dockerfile", "FROM base\nENTRYPOINT [\"sleep\", \"7\"]\n");
    let base = ["--build-context", "base=oci-layout://base"];
    env.rb(["build", "-t", "slow:1", "slow"].iter().chain(&base)).expect(0);
    env.write("Dockerfile", "# syntax=slow:1\nFROM nothing\n");
    let run = env.rb(["build", "."]);
    assert_ne!(run.code, 0, "{run:?}");
    run.says("slow:1: no answer after 5 s; it is waited for");
}
