//! What users see when something is wrong: the line, the cause, what to type, and the exit code.

use crate::env::TestEnv;

fn host(body: &str) -> String {
    format!("VERSION 1\nt:\n    FROM @host\n{body}")
}

#[test]
fn a_failing_command_underlines_its_line_and_tells_its_output_once() {
    let env = TestEnv::new();
    env.write("Buildfile", host("    RUN echo about to fail; echo on stderr >&2; exit 3\n"));
    let run = env.rb(["+t"]).expect(1).says("exit code 3").says("Buildfile:4");
    let told = run.stderr.lines().filter(|line| line.contains("on stderr") && !line.contains("RUN")).count();
    assert_eq!(told, 1, "{}", run.stderr);
}

#[test]
fn a_failure_in_a_function_names_the_calls_that_lead_there() {
    let env = TestEnv::new();
    let functions = "OUTER:\n    FUNCTION\n    ARG x\n    DO +INNER\nINNER:\n    FUNCTION\n    RUN exit 3\n";
    let told = ["called from DO +INNER, Buildfile:", "called from DO +OUTER --x=1, Buildfile:"];
    let wait = "    WAIT\n        DO +OUTER --x=1\n    END\n";
    // What fails while the build is planned, too; and each call once.
    for (body, inner, outer) in [("    DO +OUTER --x=1\n", 8, 4), (wait, 10, 5)] {
        env.write("Buildfile", host(body) + functions);
        let run = env
            .rb(["+t"])
            .expect(1)
            .says(&format!("{}{inner}", told[0]))
            .says(&format!("{}{outer}", told[1]));
        assert!(told.iter().all(|told| run.stderr.matches(told).count() == 1), "{}", run.stderr);
    }
    env.write("Buildfile", host("    DO +OUTER --x=1\n") + &functions.replace("RUN exit 3", "COPY none /"));
    env.rb(["+t"]).expect(2).says("in function `INNER`, called from DO +INNER, Buildfile:8");
}

#[test]
fn a_typo_in_a_target_names_the_nearest_before_anything_runs() {
    let env = TestEnv::new();
    env.write("Buildfile", host("    RUN true\n"));
    let run = env.rb(["+tt"]).expect(2).says("did you mean").says("`+t`");
    assert!(!run.stderr.contains("steps run"), "{}", run.stderr);
    env.write("Buildfile", "VERSION 1\nfirst:\n    FROM @host\n    RUN true\nall:\n    BUILD +frist\n");
    env.rb(["+all"]).expect(2).says("frist").says("first").says("Buildfile:6");
}

#[test]
fn a_near_target_is_spelled_as_the_word_that_was_typed() {
    let env = TestEnv::new();
    env.write("rb.toml", "")
        .write("app/Buildfile", "VERSION 1\nimage:\n    FROM scratch\n")
        .write("app/sub/x", "");
    env.write("plain/x", "").write("app/none/x", "");
    let says = |folder: &str, word: &str, near: &str| {
        let mut command = env.command([word]);
        let output = command.current_dir(env.project().join(folder)).output().expect("rb runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(near), "`{near}` is not in:\n{said}");
    };
    for (folder, word, near) in [
        ("app", "+imge", "did you mean `+image`?"),
        ("app/sub", "+imge", "did you mean `+image`?"),
        ("app/sub", "..+imge", "did you mean `..+image`?"),
        ("app/sub", "//app+imge", "did you mean `//app+image`?"),
        ("", "app+imge", "did you mean `app+image`?"),
    ] {
        says(folder, word, near);
    }
    // A folder without a build file is named as it is seen from here.
    says("app", "./none+t", "there is no Buildfile in `none`");
    says("app/sub", "../../plain+t", "there is no Buildfile in `../../plain`");
    says("plain", "+t", "there is no Buildfile here");
    std::fs::remove_file(env.project().join("rb.toml")).expect("removes");
    says("", "./plain+t", "there is no Buildfile in `plain`");
    env.rb(["ls", "plain"]).expect(2).says("there is no Buildfile in `plain`");
}

#[test]
fn a_failure_in_a_shared_function_names_the_calls_that_lead_there() {
    let env = TestEnv::new();
    let lib = "VERSION 1\nOUTER:\n    FUNCTION\n    DO +INNER\nINNER:\n    FUNCTION\n    RUN exit 3\n";
    let app = "VERSION 1\nIMPORT ../stdlib/thing\nt:\n    FROM @host\n    DO thing+OUTER\n";
    env.write("rb.toml", "").write("stdlib/thing/Buildfile", lib).write("app/Buildfile", app);
    // Each call with the file that it stands in, and the line that failed.
    env.rb(["./app+t"])
        .expect(1)
        .says("stdlib/thing/Buildfile:7")
        .says("called from DO +INNER, stdlib/thing/Buildfile:4")
        .says("called from DO thing+OUTER, app/Buildfile:5");
}

#[test]
fn a_missing_file_names_the_nearest_before_anything_runs() {
    let env = TestEnv::new();
    env.write("Buildfile", host("    RUN echo ran-first\n    COPY mian.c /\n")).write("main.c", "");
    let run = env.rb(["+t"]).expect(2).says("mian.c").says("main.c").says("Buildfile:5");
    assert!(!run.stderr.contains("| ran-first"), "{}", run.stderr);
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once() {
    let env = TestEnv::new();
    env.write("Buildfile", "VERSION 1\nt:\n    FRM scratch\n    COPPY a b\n    RUN --netwrok=none true\n");
    env.rb(["+t"]).expect(2).says("FRM").says("COPPY").says("netwrok").says("`FROM`").says("`COPY`");
}

#[test]
fn wrong_words_on_the_command_line_are_exit_2() {
    let env = TestEnv::new();
    env.write("Buildfile", host("    RUN true\n"));
    env.rb(["+t", "--UNKNOWN=1"]).expect(2).says("UNKNOWN");
    env.rb(["--no-cahce", "+t"]).expect(2).says("--no-cache");
    env.rb(["imgae"]).expect(2).says("image");
    env.rb(["./nowhere+t"]).expect(2).says("nowhere");
    env.rb(["--pull=never", "run", "no-such-image"]).expect(2).says("no-such-image");
    env.rb(["run", "--pull", "never", "no-such-image"]).expect(2).says("write `--pull=never`");
    env.rb(["--pull", "always", "+t"]).expect(2).says("write `--pull=always`");
    env.rb(["solve", "no-such-file.pb"]).expect(2);
    env.rb(["--help"]).expect(0);
    env.rb(["--version"]).expect(0);
}

#[test]
fn what_comes_later_is_refused_by_name() {
    let env = TestEnv::new();
    env.write("Buildfile", "VERSION 1\nt:\n    FROM @host\n    WITH DOCKER\n        RUN true\n    END\n");
    env.rb(["+t"]).expect(2).says("WITH DOCKER");
}

#[test]
fn a_host_tree_is_not_an_image_shows_no_private_folders_and_takes_no_files_of_its_own() {
    let env = TestEnv::new();
    env.write("Buildfile", host("    SAVE IMAGE leak:latest\n"));
    env.rb(["+t"]).expect(2).says("FROM scratch");
    env.write("Buildfile", "VERSION 1\nt:\n    FROM @host --bind=/root\n    RUN true\n");
    env.rb(["+t"]).expect(2).says("--allow-bind");
    env.write("f", "").write("Buildfile", host("    COPY f /bin/tool\n"));
    env.rb(["+t"]).expect(2).says("/bin/tool").says("shows this machine's own files").says("/work");
}

#[test]
fn binary_junk_is_told_as_a_mistake() {
    let env = TestEnv::new();
    env.write("Buildfile", b"\xff\xfe\x00junk\x01".as_slice());
    env.rb(["+t"]).expect(2);
    env.write("bad.pb", b"\x0a\xff\xff\xff\xff\x0f".as_slice());
    env.rb(["solve", "bad.pb"]).expect(2);
}
