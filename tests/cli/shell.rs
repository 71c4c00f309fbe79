//! `rb shell`: what a step that failed has left, opened with all that the step saw.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::env::{Run, TestEnv, Who, is_root};
use crate::run::Seat;

/// What an error says of how to look at the step.
const OPENS: &str = "opens a shell where it failed";

/// Runs a command to its end, with what it reads.
fn fed(command: &mut Command, input: &str) -> Run {
    let stdio = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut rb = stdio.spawn().expect("rb starts");
    // One that ends without reading breaks the pipe.
    rb.stdin.take().expect("is piped").write_all(input.as_bytes()).ok();
    let output = rb.wait_with_output().expect("rb ends");
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Feeds a shell in a failed step.
fn shell(env: &TestEnv, args: &[&str], input: &str) -> Run {
    fed(&mut env.command([&["shell"], args].concat()), input)
}

/// Has a build fail, and returns the number that its error names.
fn failed(env: &TestEnv, args: &[&str]) -> String {
    let run = fed(&mut env.command(args), "").expect(1).says(OPENS);
    let (_, rest) = run.stderr.split_once("rb shell ").expect("names the command");
    rest.chars().take_while(char::is_ascii_digit).collect()
}

const TEXT: &str = "VERSION 1\n\
    ground:\n    FROM @host\n    WORKDIR /there\n    COPY input .\n\
    t:\n    FROM +ground\n    ENV COLOUR=blue\n    CACHE /keeps\n    \
    RUN --mount=type=tmpfs,target=/memory echo half > made && echo kept > /keeps/file && echo gone > /memory/x && exit 3\n\
    other:\n    FROM @host\n    RUN echo other > /other && exit 4\n";

#[test]
fn a_failed_step_is_opened_as_it_was() {
    let env = TestEnv::new();
    env.write("Buildfile", TEXT).write("input", "from outside\n");
    let id = failed(&env, &["+t"]);
    let script =
        "pwd; cat made input /keeps/file; echo $COLOUR; ls -A /memory; echo changed > made; rm input; exit 7";
    for _ in 0..2 {
        // What is done there changes nothing of it.
        let run = shell(&env, &[&id], script).expect(7);
        assert_eq!(run.stdout, "/there\nhalf\nfrom outside\nkept\nblue\n");
    }
    // The last one, unless another is named; a command instead of a shell.
    failed(&env, &["+other"]);
    assert_eq!(shell(&env, &[], "cat /other").expect(0).stdout, "other\n");
    assert_eq!(env.rb(["shell", &id, "cat", "made"]).expect(0).stdout, "half\n");
    assert_eq!(env.rb(["shell", &id, "--", "cat", "made"]).expect(0).stdout, "half\n");
    assert_eq!(shell(&env, &[&id, "--"], "cat made").expect(0).stdout, "half\n");
    env.rb(["shell", &id, "no-such-program"]).expect(127);
    let list = env.rb(["shell", "--list"]).expect(0).stdout;
    assert!(list.contains("RUN echo other") && list.contains("exit code 3"), "{list}");
}

#[test]
fn what_is_not_kept_is_told() {
    let env = TestEnv::new();
    env.rb(["shell"]).expect(2).says("no failed step is kept");
    env.rb(["shell", "77"]).expect(2).says("no failed step `77` is kept").says("--list");
    env.rb(["shell", "busybox"]).expect(2).says("is not the number of a failed step");
    env.rb(["--keep-going", "shell"]).expect(2);
}

#[test]
fn a_step_that_failed_stands_for_no_result() {
    let env = TestEnv::new();
    // It fails the first time only: what it wrote then must not be there the second time.
    env.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM @host\n    CACHE /keeps\n    \
         RUN echo line >> /lines; test -e /keeps/flag || { touch /keeps/flag; exit 3; }\n    \
         SAVE ARTIFACT /lines AS LOCAL lines\n",
    );
    let id = failed(&env, &["+t"]);
    env.rb(["+t"]).expect(0);
    assert_eq!(env.read("lines"), "line\n");
    assert_eq!(shell(&env, &[&id], "cat /lines").expect(0).stdout, "line\n");
    env.rb(["cache", "verify"]).expect(0);
}

#[test]
fn the_newest_are_kept_and_a_retry_counts_once() {
    let env = TestEnv::new();
    let step =
        |number: usize| format!("t{number}:\n    FROM @host\n    RUN --retry=1 echo {number} > /n; exit 3\n");
    env.write("Buildfile", format!("VERSION 1\n{}", (0..6).map(step).collect::<String>()));
    let ids: Vec<String> = (0..6).map(|number| failed(&env, &[&format!("+t{number}")])).collect();
    env.rb(["shell", &ids[0], "true"]).expect(2).says("is kept");
    for (number, id) in ids.iter().enumerate().skip(1) {
        assert_eq!(env.rb(["shell", id, "cat", "/n"]).expect(0).stdout, format!("{number}\n"));
    }
}

#[test]
fn secrets_are_given_again_or_done_without() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM @host\n    RUN --secret TOKEN test -n \"$TOKEN\" && exit 3\n",
    );
    let id = failed(&env, &["--secret", "TOKEN=hunter2", "+t"]);
    let told = shell(&env, &[&id], "echo \"<$TOKEN>\"").expect(0).says("the secret `TOKEN`");
    assert_eq!(told.stdout, "<>\n");
    let told = shell(&env, &["--secret", "TOKEN=hunter3", &id], "echo \"<$TOKEN>\"").expect(0);
    assert_eq!((told.stdout.as_str(), told.stderr.as_str()), ("<hunter3>\n", ""));
    let database = std::fs::read(env.state().join("rb.db")).expect("reads");
    assert!(!database.windows(7).any(|bytes| bytes == b"hunter2"));
}

#[test]
fn ordinary_users_have_it_too() {
    if !is_root() {
        return;
    }
    for who in [Who::SingleId, Who::SubIds] {
        let env = TestEnv::of(who);
        env.write("Buildfile", TEXT).write("input", "from outside\n");
        env.hand_over();
        let id = failed(&env, &["+t"]);
        assert_eq!(shell(&env, &[&id], "cat made /keeps/file").expect(0).stdout, "half\nkept\n");
    }
}

#[test]
fn a_target_is_opened_in_its_last_state() {
    let env = TestEnv::new();
    if !env.busybox_layout("base") {
        return;
    }
    env.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM oci-layout:./base:test\n    WORKDIR /there\n    ENV COLOUR=red\n    \
         RUN echo made > file\n    ENTRYPOINT [\"false\"]\n    SAVE ARTIFACT file AS LOCAL file\n",
    );
    let run = shell(&env, &["+t"], "pwd; cat file; echo $COLOUR; exit 6").expect(6);
    assert_eq!(run.stdout, "/there\nmade\nred\n");
    assert!(!env.has("file"));
    assert_eq!(env.rb(["shell", "+t", "--", "cat", "file"]).expect(0).stdout, "made\n");
}

#[test]
fn a_target_on_the_host_is_opened_as_a_further_step() {
    let env = TestEnv::new();
    env.write("shown/file", "of the machine\n");
    let shown = env.project().join("shown");
    let text = format!(
        "VERSION 1\nt:\n    FROM @host --bind={}\n    WORKDIR /there\n    ENV COLOUR=red\n    \
         RUN echo made > file\n    SAVE ARTIFACT file AS LOCAL file\n",
        shown.display()
    );
    env.write("Buildfile", text);
    // What the target itself may not do, its shell may not.
    shell(&env, &["+t"], "").expect(2).says("--allow-bind");
    let bind = format!("--allow-bind={}", shown.display());
    let script = "pwd; cat file; echo $COLOUR; cat $SHOWN/file; touch $SHOWN/new 2>/dev/null || echo refused; echo x > more; exit 6";
    let script = script.replace("$SHOWN", &shown.to_string_lossy());
    let run = shell(&env, &[&bind, "+t"], &script).expect(6);
    assert_eq!(run.stdout, "/there\nmade\nred\nof the machine\nrefused\n");
    assert!(!env.has("file") && !env.has("shown/new"));
    // What is done there changes nothing of it.
    env.rb(["shell", &bind, "+t", "--", "test", "!", "-e", "more"]).expect(0);
}

#[test]
fn with_i_a_shell_is_opened_at_once() {
    let env = TestEnv::new();
    env.write("Buildfile", TEXT).write("input", "");
    let mut seat = Seat::take(&env, &["-i", "+t"]);
    seat.sees("exit code 3");
    seat.types("echo now $(cat made) at $PWD; exit 9\r");
    seat.sees("now half at /there");
    // The build failed all the same.
    assert_eq!(seat.code(), 1);
    env.rb(["-i", "+t"]).expect(2).says("not a terminal");
}
