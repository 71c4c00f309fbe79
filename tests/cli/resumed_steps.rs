//! `rb resume`: a step goes on with what it left as it failed, and nothing that is made so is a result.

use crate::env::{Run, TestEnv, Who, is_root};

/// What a failure says of how to go on.
const GOES_ON: &str = "goes on from there";

/// What a build says of which a step was resumed.
const RESUMED: &str = "made by resuming";

/// Runs `rb` to its end, with all that it says.
fn rb(env: &TestEnv, args: &[&str]) -> Run {
    let output = env.command(args).output().expect("rb starts");
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Returns the numbers by which the errors of a build say that one can go on.
fn numbers(run: &Run) -> Vec<String> {
    let after = run.stderr.split("`rb resume ").skip(1);
    after.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect()).collect()
}

/// Has a build fail, and returns the number that its error names.
#[track_caller]
fn failed(env: &TestEnv, args: &[&str]) -> String {
    let run = rb(env, args).expect(1).says(GOES_ON);
    numbers(&run).pop().expect("names the command")
}

/// The second of three commands fails as long as the file says so; each notes that it ran.
const TEXT: &str = "VERSION 1\n\
    t:\n    FROM @host\n    WORKDIR /work\n    COPY input .\n    \
    RUN test -e one || { echo one >> made; touch one; }; echo two >> made; cat input > seen; grep -q good input; echo three >> made\n    \
    RUN cat made > after\n    \
    SAVE ARTIFACT after AS LOCAL made\n    SAVE ARTIFACT seen AS LOCAL seen\n";

fn project() -> TestEnv {
    let env = TestEnv::new();
    env.write("Buildfile", TEXT).write("input", "bad\n");
    env
}

#[test]
fn a_step_goes_on_with_what_it_left_and_is_run_clean_the_next_time() {
    let env = project();
    let id = failed(&env, &["+t"]);
    env.write("input", "good\n");
    rb(&env, &["resume", &id]).expect(0).says(RESUMED);
    // What was made the first time is there, and the mended file has come.
    assert_eq!(
        (env.read("made"), env.read("seen")),
        ("one\ntwo\ntwo\nthree\n".to_owned(), "good\n".to_owned())
    );
    // Neither the step nor what follows from it is a result.
    let run = rb(&env, &["--expect-cached", "+t"]);
    assert_eq!(run.code, 1, "{run:?}");
    rb(&env, &["+t"]).expect(0).hides(RESUMED);
    assert_eq!(env.read("made"), "one\ntwo\nthree\n");
    // Now it is: there is nothing to go on with.
    rb(&env, &["resume", &id]).expect(0).says("nothing was resumed").says("nothing to do");
    rb(&env, &["cache", "verify"]).expect(0);
}

#[test]
fn a_mended_command_is_found_and_another_may_run_this_once() {
    let env = project();
    let id = failed(&env, &["+t"]);
    env.write("Buildfile", TEXT.replace("grep -q good", "grep -q bad"));
    rb(&env, &["resume", &id]).expect(0).says(RESUMED);
    assert_eq!(env.read("made"), "one\ntwo\ntwo\nthree\n");
    rb(&env, &["resume", &id, "--", "sh", "-c", "echo other >> made"]).expect(0).says(RESUMED);
    assert_eq!(env.read("made"), "one\ntwo\nother\n");
    // Where that fails, it is what is told, not the line that it stands in for.
    rb(&env, &["resume", &id, "--", "sh", "-c", "exit 9"])
        .expect(1)
        .says("`sh -c 'exit 9'`, which ran instead, ended with exit code 9");
    // What is kept stays as it was, whatever went on with it.
    assert_eq!(rb(&env, &["shell", &id, "cat", "made"]).expect(0).stdout, "one\ntwo\n");
    rb(&env, &["+t"]).expect(0).hides(RESUMED);
    assert_eq!(env.read("made"), "one\ntwo\nthree\n");
}

#[test]
fn what_fails_again_can_be_gone_on_with_again() {
    let env = project();
    failed(&env, &["+t"]);
    env.write("input", "still bad\n");
    let second = failed(&env, &["resume"]);
    env.write("input", "worse\n");
    let third = failed(&env, &["resume", &second]);
    assert_ne!(second, third);
    env.write("input", "good\n");
    rb(&env, &["resume"]).expect(0).says(RESUMED);
    assert_eq!(
        (env.read("made"), env.read("seen")),
        ("one\ntwo\ntwo\ntwo\ntwo\nthree\n".to_owned(), "good\n".to_owned())
    );
    rb(&env, &["+t"]).expect(0).hides(RESUMED);
    assert_eq!(env.read("made"), "one\ntwo\nthree\n");
}

#[test]
fn files_that_changed_are_newer_than_what_was_made_of_them() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM @host\n    WORKDIR /work\n    COPY a b .\n    \
         RUN for i in a b; do test $i.o -nt $i || { cp $i $i.o; echo made $i >> made; }; done; cat a.o b.o > all; grep -q good all\n    \
         SAVE ARTIFACT made AS LOCAL made\n    SAVE ARTIFACT all AS LOCAL all\n",
    );
    env.write("a", "a\n").write("b", "b\n");
    let id = failed(&env, &["+t"]);
    // As an older one is put in its place.
    env.write("b", "good b\n");
    let file = std::fs::File::options().write(true).open(env.project().join("b")).expect("opens");
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000)).expect("sets");
    rb(&env, &["resume", &id]).expect(0).says(RESUMED);
    assert_eq!(
        (env.read("made"), env.read("all")),
        ("made a\nmade b\nmade b\n".to_owned(), "a\ngood b\n".to_owned())
    );
}

#[test]
fn of_several_failures_all_go_on_or_the_one_that_is_named() {
    let env = TestEnv::new();
    let target = |name: &str| {
        format!(
            "{name}:\n    FROM @host\n    COPY {name}.in /in\n    RUN echo {name} >> /made; grep -q good /in\n    \
             SAVE ARTIFACT /made AS LOCAL {name}\n"
        )
    };
    env.write("Buildfile", format!("VERSION 1\n{}{}", target("a"), target("b")));
    env.write("a.in", "bad").write("b.in", "bad");
    let run = rb(&env, &["-k", "+a", "+b"]).expect(1).says(GOES_ON);
    let ids = numbers(&run);
    assert_eq!(ids.len(), 2, "{run:?}");
    env.write("a.in", "good").write("b.in", "good");
    rb(&env, &["resume"]).expect(0).says("+a | RUN").says("+b | RUN");
    assert_eq!((env.read("a"), env.read("b")), ("a\na\n".to_owned(), "b\nb\n".to_owned()));
    // The other one is run clean, and that is a result.
    let run = rb(&env, &["resume", "-k", &ids[0]]).expect(0).says(RESUMED);
    assert_eq!(run.stderr.matches(RESUMED).count(), 1, "{run:?}");
    let made = [env.read("a"), env.read("b")].map(|text| text.lines().count());
    assert!(made == [2, 1] || made == [1, 2], "{made:?}");
    rb(&env, &["resume", &ids[0], "--", "true"]).expect(0);
    rb(&env, &["resume", &ids[0], &ids[1], "--", "true"]).expect(2).says("one failed step");
}

#[test]
fn secrets_are_not_kept() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM @host\n    ARG V\n    COPY input /input\n    \
         RUN --secret KEY test -n \"$KEY\" && echo $V >> /made && grep -q good /input\n    SAVE ARTIFACT /made AS LOCAL made\n",
    );
    env.write("input", "bad");
    let id = failed(&env, &["--secret", "KEY=hunter2", "+t", "--V=7"]);
    env.write("input", "good");
    rb(&env, &["resume", &id]).expect(2).says("there is no secret `KEY`");
    rb(&env, &["resume", "--secret", "KEY=hunter3", &id]).expect(0).says(RESUMED);
    assert_eq!(env.read("made"), "7\n7\n");
    env.write("input", "bad again");
    let id = failed(&env, &["--secret", "KEY=hunter2", "+t", "--V=8"]);
    env.write("input", "good again");
    rb(&env, &["resume", "--secret", "KEY=hunter3", &id, "+t", "--V=8"]).expect(0).says(RESUMED);
    assert_eq!(env.read("made"), "8\n8\n");
    let database = std::fs::read(env.state().join("rb.db")).expect("reads");
    for value in ["hunter2", "hunter3"] {
        assert!(!database.windows(value.len()).any(|bytes| bytes == value.as_bytes()), "{value}");
    }
}

#[test]
fn images_are_refused_unless_they_are_wanted_so() {
    let env = TestEnv::new();
    if !env.busybox_layout("base") {
        return;
    }
    env.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM oci-layout:./base:test\n    COPY input /input\n    \
         RUN echo run >> /runs; test \"$(cat /input)\" = good\n    SAVE IMAGE app\n    SAVE ARTIFACT /runs AS LOCAL runs\n",
    );
    env.write("input", "bad");
    let id = failed(&env, &["+t"]);
    env.write("input", "good");
    let run = rb(&env, &["resume", &id]).expect(2);
    // Before anything is run for it.
    run.says("the image `app").says("--with-images").hides("going on where");
    assert!(!env.rb(["image", "ls"]).expect(0).stdout.contains("app"));
    rb(&env, &["--push", "resume", &id]).expect(2).says("is not pushed");
    rb(&env, &["resume", "--no-output", &id]).expect(0).says(RESUMED);
    assert!(!env.has("runs"));
    rb(&env, &["resume", "--with-images", &id]).expect(0).says(RESUMED);
    assert_eq!(env.rb(["run", "app", "cat", "/runs"]).expect(0).stdout, "run\nrun\n");
    rb(&env, &["+t"]).expect(0);
    assert_eq!(env.rb(["run", "app", "cat", "/runs"]).expect(0).stdout, "run\n");
}

#[test]
fn what_cannot_be_gone_on_with_is_told() {
    let env = project();
    rb(&env, &["resume"]).expect(2).says("no failed step is kept");
    rb(&env, &["resume", "77"]).expect(2).says("no failed step `77` is kept").says("--list");
    rb(&env, &["resume", "make"]).expect(2).says("is not the number of a failed step");
    rb(&env, &["--keep-going", "resume"]).expect(2);
    let id = failed(&env, &["+t"]);
    env.write("sub/other", "");
    let elsewhere = env.rb_in("sub", ["resume", &id]).expect(2);
    elsewhere.says("failed in a build in").says("+TARGET");
    // A step that is gone is no step to go on with.
    env.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM @host\n    RUN echo new > /made\n    SAVE ARTIFACT /made AS LOCAL made\n",
    );
    rb(&env, &["resume", &id, "+t"]).expect(0).says("nothing was resumed");
    assert_eq!(env.read("made"), "new\n");
    // What did not fail in a build of targets names no command for it.
    env.write("Buildfile", TEXT);
    let run = rb(&env, &["--artifact", "+t/after"]).expect(1).hides(GOES_ON);
    assert_eq!(numbers(&run), Vec::<String>::new());
}

#[test]
fn ordinary_users_have_it_too() {
    if !is_root() {
        return;
    }
    for who in [Who::SingleId, Who::SubIds] {
        let env = TestEnv::of(who);
        env.write("Buildfile", TEXT).write("input", "bad\n");
        env.hand_over();
        let id = failed(&env, &["+t"]);
        env.write("input", "good\n");
        env.hand_over();
        rb(&env, &["resume", &id]).expect(0).says(RESUMED);
        assert_eq!(env.read("made"), "one\ntwo\ntwo\nthree\n");
    }
}
