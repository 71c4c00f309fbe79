//! Values of arguments whose names sound secret: in no title, record, plan, log of ours or failed step, while it is seen that they
//! changed. What a step writes itself is in its own log, and what a build makes of them is the user's.

use crate::dockerfile::{BASE, build, project};
use crate::env::{Run, TestEnv};

const VALUE: &str = "s3cr3t-v4lue";
const OTHER: &str = "0ther-v4lue";

/// Panics if a run says the value.
#[track_caller]
fn silent(run: Run) -> Run {
    run.hides(VALUE).hides(OTHER)
}

/// Panics if a file of the state directory holds the value, but for those whose names begin so.
fn check_state(env: &TestEnv, but: &[&str]) {
    let mut folders = vec![env.state()];
    let mut found = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("lists").flatten() {
            let path = entry.path();
            let name = path.strip_prefix(env.state()).expect("lies in it").to_string_lossy().into_owned();
            // What builds make is the user's.
            let is_result = ["blobs", "snapshots", "caches"].contains(&name.as_str());
            if is_result || but.iter().any(|but| name.starts_with(but)) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                let bytes = std::fs::read(&path).expect("reads");
                let is_in = |value: &str| bytes.windows(value.len()).any(|piece| piece == value.as_bytes());
                assert!(![VALUE, OTHER].into_iter().any(is_in), "the value is in {name}");
                found += 1;
            }
        }
    }
    assert!(found > 3, "there is nothing to look at");
}

/// Panics if anything that is told of past builds has the value.
fn check_past(env: &TestEnv, why: &[&[&str]]) {
    let history: [&[&str]; 4] = [
        &["history", "ls"],
        &["history", "show"],
        &["history", "show", "--json"],
        &["history", "export", "-o", "exported"],
    ];
    for words in history.iter().chain(why) {
        silent(env.rb(*words).expect(0));
    }
    let exported = std::fs::read(env.project().join("exported")).expect("reads");
    assert!(!String::from_utf8_lossy(&exported).contains(VALUE));
}

/// Why the last build ran what it did.
const WHY: [&[&str]; 2] = [&["why", "--last"], &["why", "--last", "--json"]];

const DOCKERFILE: &str = "FROM base\nARG API_TOKEN\nARG URL=https://example.com/?t=$API_TOKEN\nWORKDIR /w-$API_TOKEN\n\
    COPY f /x/$API_TOKEN/\nRUN test -n \"$API_TOKEN\" && : $URL\n";

#[test]
fn of_a_dockerfile() {
    let Some(env) = project() else { return };
    env.write("app/Dockerfile", DOCKERFILE).write("app/f", "f");
    let given = |value: &str| format!("API_TOKEN={value}");
    for mode in ["plain", "json", "rawjson", "tty"] {
        let progress = format!("--progress={mode}");
        let words =
            [&progress, "--no-cache", "--build-arg", &given(VALUE), "--metadata-file", "m.json", "app"];
        let run = silent(build(&env, &words).expect(0));
        assert!(mode == "tty" || run.stderr.contains("***"), "{}", run.stderr);
        assert!(!env.read("m.json").contains(VALUE));
    }
    let words = |value: &str| ["--build-arg".to_owned(), given(value), "app".to_owned()];
    for command in
        [&["plan", "build"][..], &["plan", "--json", "build"], &["why", "build"], &["why", "--json", "build"]]
    {
        let words = words(OTHER);
        let words = command.iter().chain(&BASE).copied().chain(words.iter().map(String::as_str));
        silent(env.rb(words).expect(0));
    }
    check_past(&env, &WHY);
    build(&env, &["--build-arg", &given(OTHER), "app"]).expect(0);
    let why = silent(env.rb(["why", "--last"]).expect(0)).stdout;
    assert!(why.contains("has changed"), "{why}");
    check_state(&env, &[]);
}

#[test]
fn of_a_step_that_fails_and_is_resumed() {
    let Some(env) = project() else { return };
    env.write("app/Dockerfile", "FROM base\nARG API_TOKEN\nRUN mkdir /w/$API_TOKEN\n");
    let argument = format!("API_TOKEN={VALUE}");
    // What the program says of it is its own: in its log alone.
    let run = build(&env, &["--progress=quiet", "--build-arg", &argument, "app"]).expect(1);
    assert!(run.stderr.contains("RUN mkdir /w/***"), "{}", run.stderr);
    // A shell in the step needs the step as it was, for an hour.
    check_state(&env, &["logs", "rb.db"]);
    env.rb(["resume"]).expect(2).says("the value of `API_TOKEN` is not kept").says("API_TOKEN=… rb resume");
    let again = env.rb_with(&[("API_TOKEN", VALUE)], ["resume", "1", "--", "mkdir", "-p", "/w"]);
    again.expect(0).says("made by resuming");
}

#[test]
fn of_a_target_of_a_buildfile() {
    let env = TestEnv::new();
    let text = "VERSION 1\ninner:\n    FROM scratch\n    ARG URL=none\n    COPY f /f\n    SAVE ARTIFACT /f f\n\
        t:\n    FROM scratch\n    ARG API_TOKEN=none\n    COPY f /x/$API_TOKEN\n    \
        COPY (+inner/f --URL=https://example.com/$API_TOKEN) /g\n    SAVE ARTIFACT /g AS LOCAL out\n";
    env.write("Buildfile", text).write("f", "f");
    let argument = format!("--API_TOKEN={VALUE}");
    for mode in ["plain", "json", "rawjson"] {
        let run = silent(env.rb([&format!("--progress={mode}"), "--no-cache", "+t", &argument]).expect(0));
        assert!(mode == "plain" || run.stderr.contains("--API_TOKEN=***"), "{}", run.stderr);
        assert!(mode == "plain" || run.stderr.contains("--URL=https://example.com/***"), "{}", run.stderr);
    }
    silent(env.rb(["plan", "+t", &format!("--API_TOKEN={OTHER}")]).expect(0));
    env.rb(["+t", &format!("--API_TOKEN={OTHER}")]).expect(0);
    check_past(&env, &[]);
    let why = silent(env.rb(["why", "--last", "+t"]).expect(0)).stdout;
    assert!(why.contains("has changed"), "{why}");
    check_state(&env, &[]);
}

#[test]
fn of_bake_files() {
    let Some(env) = project() else { return };
    env.write("Dockerfile", DOCKERFILE).write("f", "f").write(
        "docker-bake.hcl",
        "variable \"API_TOKEN\" { default = \"none\" }\ntarget \"default\" {\n  contexts = { base = \"oci-layout://base\" }\n  \
        args = { API_TOKEN = API_TOKEN }\n}\n",
    );
    for mode in ["plain", "rawjson"] {
        let words =
            ["bake", "--no-cache", "--allow=fs.read=..", "--progress", mode, "--metadata-file", "m.json"];
        silent(env.rb_with(&[("API_TOKEN", VALUE)], words).expect(0));
        let set = format!("default.args.API_TOKEN={VALUE}");
        silent(env.rb(words.iter().copied().chain(["--set", &set])).expect(0));
        assert!(!env.read("m.json").contains(VALUE));
    }
    // Of bake files only the last build is explained, by its parts.
    check_past(&env, &[]);
    check_state(&env, &[]);
}
