//! `rb why`: each cause by its name, and nothing else.

use serde_json::Value;

use crate::env::{Run, TestEnv};
use crate::git::git_host::GitHost;

/// What `rb why` says, as JSON.
pub(crate) fn why(env: &TestEnv, words: &[&str]) -> Value {
    let run = env.rb(["why", "--json"].iter().chain(words)).expect(0);
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {}", run.stdout))
}

/// Panics unless there is just this reason, which says this.
#[track_caller]
pub(crate) fn only(told: &Value, cause: &str, words: &str) -> Value {
    let reasons = told["reasons"].as_array().expect("reasons");
    assert_eq!(reasons.len(), 1, "{told:#}");
    assert_eq!(reasons[0]["cause"], cause, "{told:#}");
    assert!(
        reasons[0]["text"].as_str().is_some_and(|text| text.contains(words)),
        "`{words}` is not in {told:#}"
    );
    reasons[0].clone()
}

const TEXT: &str = "VERSION 1\n\
t:\n    FROM @host\n    WORKDIR /w\n    COPY src src\n    RUN cat src/a > one\n    ARG WORD=first\n    RUN echo $WORD > two\n    \
ENV MODE=slow\n    RUN echo three > three\n";

fn env() -> TestEnv {
    let env = TestEnv::new();
    env.write("Buildfile", TEXT).write("src/a", "a\n").write("src/b.log", "b\n");
    env
}

/// Builds, and is built: nothing would run then.
fn built() -> TestEnv {
    let env = env();
    env.rb(["+t"]).expect(0);
    env
}

fn edit(env: &TestEnv, was: &str, now: &str) {
    let text = env.read("Buildfile");
    assert!(text.contains(was), "{text}");
    env.write("Buildfile", text.replace(was, now));
}

#[test]
fn never_built() {
    let env = env();
    let told = why(&env, &["+t"]);
    only(&told, "never_built", "never built before");
    // A build of another target is no build of this one.
    edit(&env, "t:\n", "u:\n    FROM @host\n    RUN true\nt:\n");
    env.rb(["+u"]).expect(0);
    only(&why(&env, &["+t"]), "never_built", "never built before");
}

#[test]
fn a_byte_of_a_file() {
    let env = built();
    env.write("src/a", "c\n");
    let told = why(&env, &["+t"]);
    let reason = only(&told, "file", "file `src/a` has changed: ");
    assert_eq!((&reason["path"], &reason["change"]), (&"src/a".into(), &"content".into()));
    assert_eq!((&reason["file"], &reason["line"]), (&"Buildfile".into(), &5.into()));
    assert_ne!(reason["was"], reason["now"]);
    // Each step that may run because of it is named, down from the first.
    let steps: Vec<&str> =
        reason["steps"].as_array().expect("steps").iter().filter_map(Value::as_str).collect();
    assert_eq!(steps.first(), Some(&"+t | COPY src src"));
    assert!(steps.contains(&"+t | RUN echo three > three"), "{steps:?}");
    // What `why` foretold, `--expect-cached` and `--dry-run` say too.
    let words = reason["text"].as_str().expect("text");
    env.rb(["--expect-cached", "+t"]).expect(1).says(words);
    let shown = env.rb(["--dry-run", "+t"]).expect(0).stdout;
    assert!(shown.contains(words), "{shown}");
    // And it is so afterwards, when nothing would run any more.
    env.rb(["+t"]).expect(0);
    let told = why(&env, &["+t"]);
    assert_eq!(told["compared"], "last");
    only(&told, "file", words);
    only(&why(&env, &["+t", "RUN cat"]), "file", words);
    env.rb(["why", "+t", "RUN dog"]).expect(2).says("no step has `RUN dog` in it");
}

#[test]
fn a_target_whose_steps_are_those_of_others() {
    let env = TestEnv::new();
    let text = "VERSION 1\na:\n    FROM @host\n    COPY f f\n    RUN cat f\nall:\n    BUILD +a\n";
    env.write("Buildfile", text).write("f", "1\n");
    env.rb(["+all"]).expect(0);
    assert_eq!(why(&env, &["+all"])["compared"], "last");
    env.write("f", "2\n");
    only(&why(&env, &["+all"]), "file", "file `f` has changed");
    env.rb(["--expect-cached", "+all"]).expect(1).says("file `f` has changed");
    env.rb(["+all"]).expect(0);
    only(&why(&env, &["--between", "@3", "@1", "+all"]), "file", "file `f` has changed");
}

#[test]
fn what_a_failed_build_saved_all_the_same() {
    let env = TestEnv::new();
    let text = "VERSION 1\nt:\n    FROM @host\n    WORKDIR /w\n    RUN echo x > r.txt; exit 8\n    RUN true\n    \
SAVE ARTIFACT --always r.txt AS LOCAL t.txt\n";
    env.write("Buildfile", text);
    env.rb(["+t"]).expect(1);
    only(&why(&env, &["+t"]), "failed", "it failed in the last build");
}

#[test]
fn a_file_that_two_statements_take() {
    let env = TestEnv::new();
    let text = "VERSION 1\nt:\n    FROM @host\n    COPY --chmod=0604 x /x\n    RUN true\n    \
RUN --mount=type=bind,source=x,target=/m cat /m\n";
    env.write("Buildfile", text).write("x", "1\n");
    env.rb(["+t"]).expect(0);
    env.write("x", "2\n");
    let reason = only(&why(&env, &["+t"]), "file", "file `x` has changed");
    assert_eq!((&reason["by"], &reason["line"]), (&"COPY --chmod=0604 x /x".into(), &4.into()));
}

#[test]
fn the_executable_bit() {
    let env = built();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(env.project().join("src/a"), mode).expect("modes");
    only(&why(&env, &["+t"]), "file", "the executable bit of `src/a` has changed: 0644 -> 0755");
}

#[test]
fn a_file_that_came_or_went() {
    let env = built();
    env.write("src/new", "new\n");
    only(&why(&env, &["+t"]), "file", "file `src/new` was added");
    std::fs::remove_file(env.project().join("src/new")).expect("removes");
    std::fs::remove_file(env.project().join("src/b.log")).expect("removes");
    only(&why(&env, &["+t"]), "file", "file `src/b.log` was removed");
}

#[test]
fn an_argument() {
    let env = built();
    let reason =
        only(&why(&env, &["+t", "--WORD=second"]), "part", "ARG `WORD` has changed: `first` -> `second`");
    assert_eq!((&reason["kind"], &reason["given_as"]), (&"arg".into(), &"`--WORD=second`".into()));
    assert_eq!(reason["line"], 7);
    edit(&env, "WORD=first", "WORD=third");
    let reason = only(&why(&env, &["+t"]), "part", "ARG `WORD` has changed: `first` -> `third`");
    assert_eq!((&reason["line"], &reason["given_as"]), (&7.into(), &Value::Null));
}

#[test]
fn a_variable_of_the_environment() {
    let env = built();
    edit(&env, "MODE=slow", "MODE=fast");
    let reason = only(&why(&env, &["+t"]), "part", "ENV `MODE` has changed: `slow` -> `fast`");
    assert_eq!((&reason["kind"], &reason["line"]), (&"env".into(), &9.into()));
    assert_eq!(reason["steps"], serde_json::json!(["+t | RUN echo three > three"]));
}

#[test]
fn the_text_of_a_command() {
    let env = built();
    edit(&env, "cat src/a >", "tac src/a >");
    let reason = only(&why(&env, &["+t"]), "part", "the command has changed: ");
    let text = reason["text"].as_str().expect("text");
    assert!(text.contains("cat src/a") && text.contains("tac src/a"), "{text}");
    assert_eq!((&reason["kind"], &reason["line"]), (&"command".into(), &6.into()));
}

#[test]
fn what_is_mounted() {
    let env = TestEnv::new();
    let text = |word: &str| {
        format!("VERSION 1\nt:\n    FROM @host\n    RUN <<EOF\n#!/bin/sh\necho {word}\nEOF\n    RUN true\n")
    };
    env.write("Buildfile", text("one"));
    env.rb(["+t"]).expect(0);
    env.write("Buildfile", text("two"));
    let reason =
        only(&why(&env, &["+t"]), "mount_content", "what is mounted at `/run/rb-script` has changed");
    assert_eq!(reason["line"], 4);
}

#[test]
fn an_ignore_rule() {
    let env = built();
    env.write(".rbignore", "# nothing\n*.log\n**/*.log\n");
    let reason = only(
        &why(&env, &["+t"]),
        "ignore_rule",
        "the ignore rule `**/*.log` was added, which leaves out `src/b.log`",
    );
    assert_eq!((&reason["file"], &reason["line"]), (&".rbignore".into(), &3.into()));
    env.rb(["+t"]).expect(0);
    env.write(".rbignore", "# nothing\n").write("src/c.log", "c\n");
    let words = "the ignore rule `**/*.log` was removed, which lets in `src/b.log`, `src/c.log`";
    only(&why(&env, &["+t"]), "ignore_rule", words);
}

#[test]
fn the_image_below() {
    let env = TestEnv::new();
    env.write("base/Buildfile", "VERSION 1\nbelow:\n    FROM scratch\n    COPY made /made\n")
        .write("base/made", "1\n");
    env.write("Buildfile", "VERSION 1\nt:\n    FROM oci-layout:./image:v1\n    COPY f /f\n")
        .write("f", "f\n");
    let made = || {
        let output = "type=oci,tar=false,dest=image,name=base:v1";
        env.rb(["-o", output, "./base+below"]).expect(0);
    };
    made();
    env.rb(["+t"]).expect(0);
    env.write("base/made", "2\n");
    std::fs::remove_dir_all(env.project().join("image")).expect("removes");
    made();
    let reason = only(&why(&env, &["+t"]), "image", "the image has changed: ");
    assert_ne!(reason["was"], reason["now"]);
    assert!(reason["now"].as_str().is_some_and(|now| now.contains("@sha256:")), "{reason}");
    assert_eq!(reason["line"], 3);
}

#[test]
fn the_platform() {
    let env = TestEnv::new();
    let Some(busybox) =
        ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| std::path::Path::new(path).exists())
    else {
        eprintln!("stepping aside: there is no busybox (Debian: busybox-static)");
        return;
    };
    env.write("busybox", std::fs::read(busybox).expect("reads busybox"));
    std::fs::set_permissions(
        env.project().join("busybox"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .expect("modes");
    let text = "VERSION 1\nt:\n    FROM scratch\n    COPY busybox /bin/busybox\n    RUN [\"/bin/busybox\", \"true\"]\n";
    env.write("Buildfile", text);
    env.rb(["+t"]).expect(0);
    let other = if cfg!(target_arch = "aarch64") { "linux/amd64" } else { "linux/arm64" };
    let told = why(&env, &["--platform", other, "+t"]);
    only(&told, "part", &format!("-> `{other}`"));
    assert_eq!(told["reasons"][0]["kind"], "platform");
}

#[test]
fn what_was_evicted() {
    let env = built();
    for entry in std::fs::read_dir(env.state().join("snapshots")).expect("lists") {
        std::fs::remove_dir_all(entry.expect("lists").path()).expect("removes");
    }
    let told = why(&env, &["+t"]);
    let reason = only(&told, "evicted", "its result was evicted");
    assert!(reason["text"].as_str().is_some_and(|text| text.contains(" at 20")), "{reason}");
    assert_eq!(reason["because"], "lost");
    // On demand, and with the records too: the time is known all the same.
    let env = built();
    env.rb(["cache", "prune", "--all"]).expect(0);
    let reason = only(&why(&env, &["+t"]), "evicted", "its result was evicted at 20");
    assert_eq!(reason["because"], "pruned");
    assert!(reason["text"].as_str().is_some_and(|text| text.contains("by `rb cache prune`")), "{reason}");
}

#[test]
fn what_failed_and_what_is_told_not_to_look() {
    let env = TestEnv::new();
    let text =
        "VERSION 1\nt:\n    FROM @host\n    RUN exit 3\nalways:\n    FROM @host\n    RUN --no-cache true\n";
    env.write("Buildfile", text);
    env.rb(["+t"]).expect(1);
    only(&why(&env, &["+t"]), "failed", "it failed in the last build");
    env.rb(["+always"]).expect(0);
    only(&why(&env, &["+always"]), "no_cache", "it was told not to use the cache");
}

#[test]
fn a_new_statement_and_one_that_is_gone() {
    let env = built();
    edit(&env, "    RUN cat", "    RUN true\n    RUN cat");
    only(&why(&env, &["+t"]), "new_step", "the step is new");
    env.write("Buildfile", TEXT);
    edit(&env, "    RUN cat src/a > one\n", "");
    only(&why(&env, &["+t"]), "step_gone", "the step `RUN cat src/a > one` before it is no longer there");
}

#[test]
fn two_causes_are_two_reasons_and_a_chain_leads_to_its_root() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\nlib:\n    FROM @host\n    COPY f /f\n    RUN cat /f > /made\n    SAVE ARTIFACT /made\n\
         app:\n    FROM @host\n    COPY +lib/made /made\n    COPY g /g\n    RUN cat /made /g\n",
    );
    env.write("f", "1").write("g", "1");
    env.rb(["+app"]).expect(0);
    env.write("f", "2");
    let reason = only(&why(&env, &["+app", "RUN cat /made"]), "file", "file `f` has changed");
    assert_eq!((&reason["by"], &reason["line"]), (&"COPY f /f".into(), &4.into()));
    env.write("g", "2");
    let told = why(&env, &["+app"]);
    let paths: Vec<_> =
        told["reasons"].as_array().expect("reasons").iter().map(|reason| &reason["path"]).collect();
    assert_eq!(paths, ["f", "g"], "{told:#}");
    let Run { stdout, .. } = env.rb(["why", "+app"]).expect(0);
    for line in
        ["file `f` has changed", "brought in by Buildfile:4: COPY f /f", "would run: +app | RUN cat /made /g"]
    {
        assert!(stdout.contains(line), "{line} is not in:\n{stdout}");
    }
}

#[test]
fn builds_are_compared_by_their_ids() {
    let env = built();
    edit(&env, "MODE=slow", "MODE=fast");
    env.rb(["+t"]).expect(0);
    edit(&env, "WORD=first", "WORD=second");
    env.rb(["+t"]).expect(0);
    let told = why(&env, &["--between", "@3", "@2", "+t"]);
    only(&told, "part", "ENV `MODE`");
    assert_eq!(told["compared"], "between");
    only(&why(&env, &["--last", "+t"]), "part", "ARG `WORD`");
    assert_eq!(why(&env, &["--since", "@3", "+t"])["reasons"].as_array().map(Vec::len), Some(2));
    let shown = env.rb(["why", "--since", "@1", "+t"]).expect(0).stdout;
    assert!(shown.starts_with("+t: no step differs"), "{shown}");
    env.rb(["why", "--since", "nothing", "+t"]).expect(2).says("there is no build `nothing`");
    env.rb(["why", "t"]).expect(2).says("`t` is not a target");
    env.rb(["why", "--last", "+gone"]).expect(2);
}

#[test]
fn no_secret_is_told() {
    let env = TestEnv::new();
    let text = "VERSION 1\nt:\n    FROM @host\n    ARG API_TOKEN=none\n    RUN --secret KEY echo \"$API_TOKEN $KEY\" | wc -c\n";
    env.write("Buildfile", text);
    let build = |token: &str| {
        env.rb(["--secret", "KEY=s3cret-value", "+t", &format!("--API_TOKEN={token}")]).expect(0);
    };
    build("t0ken-one");
    build("t0ken-two");
    let run = env.rb(["why", "--last", "+t"]).expect(0).hides("s3cret-value");
    assert!(run.stdout.contains("ARG `API_TOKEN` has changed: `*** ("), "{}", run.stdout);
}

/// Takes out of all records what an older rb did not keep.
fn age(env: &TestEnv) {
    for entry in std::fs::read_dir(env.state().join("builds")).expect("lists") {
        let path = entry.expect("lists").path();
        if path.extension().is_none_or(|ending| ending != "json") {
            continue;
        }
        let mut record: Value = serde_json::from_slice(&std::fs::read(&path).expect("reads")).expect("JSON");
        let all = record.as_object_mut().expect("an object");
        all.insert("format".to_owned(), 1.into());
        ["targets", "workspace", "parts"].iter().for_each(|name| drop(all.remove(*name)));
        for step in all["steps"].as_array_mut().expect("steps") {
            let step = step.as_object_mut().expect("an object");
            let later = ["inputs", "own", "about", "files", "place", "began_ms", "bytes"];
            later.iter().for_each(|name| drop(step.remove(*name)));
        }
        std::fs::write(&path, serde_json::to_vec(&record).expect("JSON")).expect("writes");
    }
}

#[test]
fn a_record_that_keeps_no_parts_is_told_of() {
    let env = built();
    age(&env);
    env.rb(["why", "+t"]).expect(2).says("keeps no parts");
    env.rb(["why", "--last", "+t"]).expect(2).says("keeps no parts");
    env.write("src/a", "c\n");
    only(&why(&env, &["+t"]), "no_parts", "that record, of an older rb, keeps no parts");
    env.rb(["--expect-cached", "+t"]).expect(1).says("keeps no parts");
    // The last one is that of what was expected.
    for words in [&["--since", "@2"][..], &["--between", "@2", "@2"]] {
        env.rb(["why"].iter().chain(words).chain(&["+t"])).expect(2).says("keeps no parts");
    }
    env.rb(["+t"]).expect(0);
    // With the next one there is one to compare with.
    only(&why(&env, &["+t"]), "no_parts", "keeps no parts");
    env.write("src/a", "d\n");
    only(&why(&env, &["+t"]), "file", "file `src/a` has changed");
    // What no record names was never built.
    edit(&env, "t:\n", "u:\n    FROM @host\n    RUN true\nt:\n");
    only(&why(&env, &["+u"]), "never_built", "never built before");
}

#[test]
fn a_tag_that_was_moved_is_one_reason() {
    let host = GitHost::start();
    let repository = host.repository("team/lib.git");
    repository.write(
        "Buildfile",
        "VERSION 1\nfile:\n    FROM scratch\n    COPY text /text\n    SAVE ARTIFACT /text\n",
    );
    repository.write("text", "one\n");
    let first = repository.commit();
    repository.git(&["tag", "v1"]);
    let env = TestEnv::new();
    let config = env.project().parent().expect("lies in a folder").join("home/.config/rb");
    std::fs::create_dir_all(&config).expect("makes folders");
    std::fs::write(
        config.join("config.toml"),
        format!("[git.'git.example']\nurl = 'http://{}'\n", host.host),
    )
    .expect("writes");
    env.write(
        "Buildfile",
        "VERSION 1\ncloned:\n    FROM scratch\n    GIT CLONE --branch=v1 https://git.example/team/lib.git /c\n\
         taken:\n    FROM scratch\n    COPY git.example/team/lib:v1+file/text /t\n",
    );
    env.rb(["+cloned", "+taken"]).expect(0);
    repository.write("text", "two\n");
    let second = repository.commit();
    repository.git(&["tag", "-f", "v1"]);
    for target in ["+cloned", "+taken"] {
        let told = why(&env, &[target]);
        let reason = only(&told, "part", "of the repository the `commit` has changed: ");
        let text = reason["text"].as_str().expect("text");
        assert!(text.contains(&first[..12]) && text.contains(&second[..12]), "{text}");
    }
}
