//! What a build is given beside its files: arguments and secrets, and from where.

use crate::env::TestEnv;

/// A target that writes what its arguments are.
const ARGS: &str = "VERSION 0.8\nt:\n    FROM @host\n    ARG A=default\n    ARG B=default\n    ARG C=default\n    ARG D=default\n    \
                    RUN echo $A $B $C $D > /out\n    SAVE ARTIFACT /out AS LOCAL out\n";

#[test]
fn the_strongest_source_of_an_argument_wins() {
    let env = TestEnv::new();
    env.write("Buildfile", ARGS);
    let built = |variables: &[(&str, &str)], args: &[&str]| {
        env.rb_with(variables, args.iter().copied()).expect(0);
        env.read("out").trim().to_owned()
    };
    assert_eq!(built(&[], &["+t"]), "default default default default");
    env.write(".arg", "# remarks are fine\nA=file\nB=file\nC='file'\nUNUSED=1\n");
    assert_eq!(built(&[], &["+t"]), "file file file default");
    let shell = [("EARTHLY_BUILD_ARGS", "B=shell,C=shell")];
    assert_eq!(built(&shell, &["+t"]), "file shell shell default");
    assert_eq!(built(&shell, &["--build-arg", "C=option", "+t"]), "file shell option default");
    assert_eq!(
        built(&shell, &["--build-arg", "C=option", "+t", "--C=typed", "--D", "two words"]),
        "file shell typed two words"
    );
    assert_eq!(
        built(&[("D", "passed on"), ("RB_BUILD_ARGS", "A=ours")], &["--build-arg", "D", "+t"]),
        "ours file file passed on"
    );
    env.rb(["--build-arg", "NOT_SET_ANYWHERE", "+t"]).expect(2).says("your shell has no variable");
    // The same values from another place are the same build.
    env.rb_with(&[("EARTHLY_BUILD_ARGS", "A=ours,B=file,C=file,D=passed on")], ["+t"])
        .expect(0)
        .says("nothing to do");
}

#[test]
fn a_file_that_was_named_has_to_be_there_and_its_mistakes_have_lines() {
    let env = TestEnv::new();
    env.write("Buildfile", ARGS);
    env.rb(["--arg-file-path", "my.arg", "+t"])
        .expect(2)
        .says("`my.arg` cannot be read: there is no such file");
    env.rb_with(&[("EARTHLY_SECRET_FILE_PATH", "my.secret")], ["+t"]).expect(2).says("my.secret");
    env.write("my.arg", "A=mine\n");
    env.rb(["--arg-file-path", "my.arg", "+t"]).expect(0);
    assert_eq!(env.read("out"), "mine default default default\n");
    env.write(".arg", "A=1\nno value here\n");
    env.rb(["+t"]).expect(2).says("`.arg`, line 2: expected NAME=value").hides("no value here");
    // What builds nothing does not look at them.
    env.rb(["ls"]).expect(0);
    env.rb(["image", "ls"]).expect(0);
}

#[test]
fn an_env_file_sets_options_and_allows_nothing() {
    let env = TestEnv::new();
    env.write("Buildfile", "VERSION 0.8\nt:\n    FROM @host\n    RUN --push echo pushed > /out\n    RUN touch /out\n    SAVE ARTIFACT /out AS LOCAL out\n");
    env.write(".env", "EARTHLY_NO_OUTPUT=true\n");
    env.rb(["+t"]).expect(0);
    assert!(!env.has("out"));
    env.rb_with(&[("EARTHLY_NO_OUTPUT", "false")], ["+t"]).expect(0);
    assert_eq!(env.read("out"), "");
    env.write(".env", "EARTHLY_PUSH=true\nRB_SECRETS=HOME\nRB_ROOT=/tmp/elsewhere\nRB_ALLOW_PRIVILEGED=1\n");
    let run = env.rb(["+t"]).expect(0);
    for name in ["EARTHLY_PUSH", "RB_SECRETS", "RB_ROOT", "RB_ALLOW_PRIVILEGED"] {
        assert!(run.stderr.contains(&format!("does not set {name}")), "{name}: {}", run.stderr);
    }
    assert_eq!(env.read("out"), "");
    env.rb_with(&[("EARTHLY_PUSH", "true")], ["+t"]).expect(0);
    assert_eq!(env.read("out"), "pushed\n");
    env.write(".env", "PORT=80\nEARTHLY_STRCT=1\n");
    env.rb(["+t"]).expect(0).says("`.env` sets PORT and 1 more");
    env.write(".arg", "");
    env.rb(["+t"]).expect(0).says("`.env` sets EARTHLY_STRCT,").hides("PORT");
    env.write("other.env", "EARTHLY_STRICT=1\n")
        .write("Buildfile", "VERSION 0.8\nt:\n    LOCALLY\n    RUN true\n");
    env.rb(["+t"]).expect(0);
    env.rb(["--env-file-path=other.env", "+t"]).expect(2).says("LOCALLY");
}

#[test]
fn secrets_reach_the_step_and_nothing_else() {
    let env = TestEnv::new();
    env.write("Buildfile", "VERSION 0.8\nt:\n    FROM @host\n    \
        RUN --secret TOKEN --secret OTHER=npm/token --secret FILED --mount=type=secret,id=TOKEN,target=/run/t \
        test -n \"$FILED\" && echo \"says $TOKEN\" && printf '%s' \"$TOKEN$OTHER$FILED\" | wc -c > /out && cat /run/t | wc -c >> /out\n    \
        COPY . /context\n    RUN ls -A /context > /list\n    \
        SAVE ARTIFACT /out AS LOCAL out/out\n    SAVE ARTIFACT /list AS LOCAL out/list\n");
    env.rb(["+t"]).expect(2).says("there is no secret").says("--secret");
    env.write(".earthlyignore", "out\n")
        .write(".secret", "npm/token=swordfish\n")
        .write(".arg", "X=1\n")
        .write("token.txt", "squeamish");
    let run =
        env.rb(["--secret", "TOKEN=hunter2hunter2", "--secret-file", "FILED=token.txt", "+t"]).expect(0);
    run.says("says ***").hides("hunter2").hides("swordfish").hides("squeamish");
    assert_eq!(env.read("out/out").split_whitespace().collect::<Vec<_>>(), ["32", "14"]);
    assert_eq!(env.read("out/list"), ".earthlyignore\nBuildfile\n", "what holds secrets stays outside");
    // Another value is no other build: a secret enters no key.
    let variables = [("TOKEN", "correct horse"), ("EARTHLY_SECRET_FILES", "FILED=token.txt")];
    env.rb_with(&variables, ["--secret", "TOKEN", "+t"]).expect(0).hides("horse");
    env.rb(["--secret", "TOKEN=another", "--secret-file", "FILED=token.txt", "+t"])
        .expect(0)
        .says("nothing to do");
    env.rb(["--secret", "npm/token=hunter2", "+t"])
        .expect(2)
        .says("given twice, by --secret and by .secret")
        .hides("hunter2");
    env.rb(["--secret", "NOT_SET_ANYWHERE", "+t"]).expect(2).says("your shell has no variable");
    let state = std::process::Command::new("grep")
        .args(["-r", "-l", "-e", "hunter2", "-e", "swordfish", "-e", "squeamish"])
        .arg(env.state())
        .output();
    let found = state.expect("grep starts").stdout;
    assert!(found.is_empty(), "{}", String::from_utf8_lossy(&found));
}

#[test]
fn the_users_own_files_stay_out_of_copies_of_the_whole_folder() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 0.8\nt:\n    FROM @host\n    COPY . /all\n    COPY .env /named\n    COPY app /app\n    \
        RUN ls -A /all /app > /list; cat /named >> /list\n    SAVE ARTIFACT /list AS LOCAL out/list\n",
    );
    env.write(".env", "RB_JOBS=2\n")
        .write(".arg", "X=1\n")
        .write(".secret", "S=swordfish\n")
        .write("app/.env", "of the app\n");
    env.rb(["+t"]).expect(0);
    let list = env.read("out/list");
    assert_eq!(list, "/all:\nBuildfile\napp\n\n/app:\n.env\nRB_JOBS=2\n");
    env.write("Buildfile", "VERSION 0.8\nt:\n    FROM @host\n    COPY .secret /named\n");
    env.rb(["+t"])
        .expect(2)
        .says("`.secret` holds secrets and is not copied")
        .says("Buildfile:4")
        .hides("swordfish");
}
