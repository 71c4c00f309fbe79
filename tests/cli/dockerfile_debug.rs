//! After a RUN of a Dockerfile that failed: `rb shell`, `rb resume`, the log and the record.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::Value;

use crate::dockerfile::{build, project};
use crate::env::{Run, TestEnv, ended};
use crate::run::Seat;

/// A step that does some of its work, and fails.
const TEXT: &str = "FROM base AS made\nENV WHO=me\nWORKDIR /w\n\
    RUN --mount=type=cache,target=/c --mount=type=bind,source=src,target=/s echo half > half; touch /c/kept; cat /s/f; test -e fixed\n\
    RUN cat half > whole\nFROM scratch\nCOPY --from=made /w /\n";

fn failed(words: &[&str]) -> Option<TestEnv> {
    let env = project()?;
    env.write("app/Dockerfile", TEXT).write("app/src/f", "of the context\n");
    let raw =
        env.command(["build"].iter().chain(&crate::dockerfile::BASE).chain(words).chain(&["app"])).output();
    let raw = raw.expect("rb starts");
    let said = String::from_utf8_lossy(&raw.stderr).into_owned();
    assert_eq!(raw.status.code(), Some(1), "{said}");
    for text in ["`rb shell 1`", "app/Dockerfile:4", "[made 2/4] RUN"] {
        assert!(said.contains(text), "{text} is not in:\n{said}");
    }
    Some(env)
}

fn fed(env: &TestEnv, words: &[&str], stdin: &str) -> Run {
    use std::io::Seek as _;
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(stdin.as_bytes()).and_then(|()| file.rewind()).expect("writes");
    ended(env.command(words).stdin(Stdio::from(file)))
}

#[test]
fn a_shell_has_what_the_step_had() {
    let Some(env) = failed(&[]) else { return };
    let run = fed(&env, &["shell", "1"], "echo $WHO $PWD; cat half /s/f; ls /c\n").expect(0);
    assert_eq!(run.stdout, "me /w\nhalf\nof the context\nkept\n");
    let listed = env.rb(["shell", "--list"]).expect(0).stdout;
    assert!(listed.contains("[made 2/4] RUN"), "{listed}");
    assert_eq!(env.rb(["shell", "1", "cat", "half"]).expect(0).stdout, "half\n");
}

#[test]
fn a_mended_dockerfile_goes_on_where_the_step_failed() {
    let Some(env) = failed(&["-o", "out"]) else { return };
    // The command was mended; that it goes on is seen by what is there already.
    let text = TEXT.replace("echo half > half; ", "").replace("test -e fixed", "test -e half");
    env.write("app/Dockerfile", text);
    let run = env.rb(["resume"]).expect(0);
    run.says("going on where step 1 failed")
        .says("made by resuming: [made 2/4] RUN")
        .says("the next `rb build` runs it clean");
    assert_eq!((env.read("out/half"), env.read("out/whole")), ("half\n".into(), "half\n".into()));
    // Nothing of it is a result: clean, it fails.
    build(&env, &["-o", "out", "app"]).expect(1);
}

#[test]
fn what_was_mended_outside_of_the_step_is_found_too() {
    let Some(env) = failed(&["-t", "app:1"]) else { return };
    env.write("app/Dockerfile", TEXT.replace("test -e fixed", "true"));
    let run = env.rb(["resume", "1"]).expect(0).says("no image is written").says("made by resuming");
    run.hides("app:1  sha256");
    assert_eq!(env.rb(["image", "ls", "-q"]).expect(0).stdout, "");
    env.rb(["resume", "1", "--no-output"]).expect(2);
    env.rb(["resume", "--no-output", "1"]).expect(0);
    env.rb(["resume", "--with-images", "1"]).expect(0).says("image app:1");
    // With another command, this once.
    env.write("app/Dockerfile", TEXT);
    env.rb(["resume", "1", "--", "touch", "fixed"]).expect(0).says("made by resuming");
    env.rb_in("app", ["resume", "1"]).expect(2).says("failed in a build in");
}

#[test]
fn the_words_of_the_build_are_kept_with_the_step() {
    let Some(env) = project() else { return };
    env.write("app/other", "FROM base AS t\nARG V\nRUN --mount=type=secret,id=k test -s /run/secrets/k && echo $V > /v && test -e /fixed\nFROM base\nRUN false\n");
    env.write("k", "s3cret\n");
    let words =
        ["-f", "app/other", "--target=t", "--build-arg", "V=3", "--secret", "id=k,src=k", "-o", "out", "app"];
    build(&env, &words).expect(1);
    env.write("app/other", env.read("app/other").replace("test -e /fixed", "true"));
    env.rb(["resume"]).expect(0);
    assert_eq!(env.read("out/v"), "3\n");
    let shell = env.rb(["shell", "1", "true"]).expect(0);
    shell.says("the step had");
}

#[test]
fn a_shell_opens_at_once_where_a_step_failed() {
    let Some(env) = project() else { return };
    env.write("app/Dockerfile", TEXT).write("app/src/f", "of the context\n");
    let words = [&["build"], &crate::dockerfile::BASE[..], &["--interactive", "app"]].concat();
    // Without a terminal there is nobody to type.
    env.rb(&words).expect(2).says("terminal");
    let mut seat = Seat::take(&env, &words);
    seat.sees("exit code 1");
    seat.types("echo <$WHO> $PWD; cat half; exit 9\r");
    seat.sees("half\r\n");
    assert_eq!(seat.code(), 1);
    // One that does not fail opens none.
    env.write("app/Dockerfile", "FROM base\nRUN true\n");
    assert_eq!(Seat::take(&env, &words).code(), 0);
}

#[test]
fn what_came_by_stdin_is_not_there_again() {
    let Some(env) = project() else { return };
    crate::dockerfile::build_fed(&env, &["-"], b"FROM base\nRUN false\n").expect(1);
    env.rb(["resume"]).expect(2).says("read stdin");
}

#[test]
fn records_and_logs_name_the_build() {
    let Some(env) = failed(&["-f", "app/Dockerfile", "--target", "made"]) else { return };
    let listed = env.rb(["history", "ls"]).expect(0).stdout;
    assert!(
        listed.contains("rb build -f app/Dockerfile --target made app") && listed.contains("failed"),
        "{listed}"
    );
    let shown = env.rb(["history", "show", "@1"]).expect(0).stdout;
    for text in ["file     app/Dockerfile", "stage    made", "context  app", "[made 2/4] RUN"] {
        assert!(shown.contains(text), "{text} is not in:\n{shown}");
    }
    let told: Value =
        serde_json::from_str(&env.rb(["history", "ls", "--json"]).expect(0).stdout).expect("is JSON");
    let of = serde_json::json!({ "file": "app/Dockerfile", "target": "made", "context": "app" });
    assert_eq!(told["builds"][0]["dockerfile"], of);
    let logs = env.rb(["logs", "--list"]).expect(0).stdout;
    assert!(logs.contains("rb build -f app/Dockerfile --target made app"), "{logs}");
    assert_eq!(env.rb(["logs", "--failed"]).expect(0).stdout, "of the context\n");
    assert_eq!(env.rb(["logs", "made 2/4"]).expect(0).stdout, "of the context\n");
    // Elsewhere it is the same, without the folders of this machine.
    env.rb(["history", "export", "-o", "b.tar.zst", "@1"]).expect(0);
    let other = TestEnv::new();
    std::fs::copy(env.project().join("b.tar.zst"), other.project().join("b.tar.zst")).expect("copies");
    other.rb(["history", "import", "b.tar.zst"]).expect(0);
    let shown = other.rb(["history", "show", "--json", "@1"]).expect(0).stdout;
    assert!(shown.contains("\"file\": \"app/Dockerfile\""), "{shown}");
    assert!(!shown.contains(&env.project().display().to_string()), "{shown}");
}

#[test]
fn limits_are_given_again() {
    let Some(env) = project() else { return };
    env.write("app/Dockerfile", "FROM base\nRUN false\n");
    let run = build(&env, &["--memory", "900m", "app"]);
    if run.code != 1 {
        eprintln!("stepping aside: nothing can be limited here: {}", run.stderr);
        return;
    }
    env.write("app/Dockerfile", "FROM base\nRUN true\n");
    env.rb(["resume"]).expect(2).says("with limits").says("rb resume --memory");
    env.rb(["resume", "--memory", "900m"]).expect(0).says("made by resuming");
}
