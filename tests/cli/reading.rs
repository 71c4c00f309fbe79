//! Reading build files: ls, doc, ast, and the help of a target.

use serde_json::Value;

use crate::env::TestEnv;

const TEXT: &str = "VERSION 1\n\n\
    # zebra is built last.\n# It has two lines.\nzebra:\n    FROM scratch\n    # mode says how\n    ARG mode: enum(fast, slow)=fast\n    ARG --required name\n    \
    # app:latest is what runs\n    SAVE IMAGE app:latest\n\nant:\n    FROM scratch\n\n# HELP helps.\nHELP:\n    FUNCTION\n    ARG with\n";

fn env() -> TestEnv {
    let env = TestEnv::new();
    env.write("sub/Buildfile", TEXT);
    env
}

#[test]
fn ls_is_sorted_with_base_first_and_functions_apart() {
    let env = env();
    let plain = env.rb_in("sub", ["ls"]).expect(0).stdout;
    assert_eq!(plain, "+base\n+ant\n+zebra  is built last.\n\n+HELP  helps.\n");
    let args = env.rb(["ls", "--args", "sub"]).expect(0).stdout;
    assert_eq!(args, "./sub+base\n./sub+ant\n./sub+zebra\n  --mode\n  --name\n\n./sub+HELP\n  --with\n");
    let long = env.rb(["ls", "--long", "sub"]).expect(0).stdout;
    assert!(long.contains("--mode: enum(fast, slow)=fast") && long.contains("--name  (required)"), "{long}");
    let json: Value =
        serde_json::from_str(&env.rb(["ls", "--json", "sub"]).expect(0).stdout).expect("is JSON");
    assert_eq!(json["targets"][1]["args"][0]["type"], "enum(fast, slow)");
    assert_eq!(json["functions"][0]["name"], "HELP");
    env.rb(["ls", "nowhere"]).expect(2).says("nowhere");
}

#[test]
fn doc_and_help_tell_of_a_target() {
    let env = env();
    let all = env.rb_in("sub", ["doc"]).expect(0).stdout;
    assert_eq!(all, "+zebra\n    is built last.\n    It has two lines.\n\n+HELP\n    helps.\n");
    let one = env.rb(["doc", "./sub+zebra"]).expect(0).stdout;
    let expected = "Usage: rb ./sub+zebra [--NAME=VALUE]...\n\n./sub+zebra\n    is built last.\n    It has two lines.\n    \
                    --mode: enum(fast, slow)=fast\n        says how\n    --name  (required)\n    saves image app:latest\n        is what runs\n";
    assert_eq!(one, expected);
    assert_eq!(env.rb(["./sub+zebra", "--help"]).expect(0).stdout, expected);
    assert_eq!(env.rb(["./sub+zebra", "--name=x", "-h"]).expect(0).stdout, expected);
    let base = env.rb(["./sub+base", "--help"]).expect(0).stdout;
    assert!(base.contains("every target begins with it"), "{base}");
    env.rb(["./sub+zebr", "--help"]).expect(2).says("did you mean `./sub+zebra`?");
    assert!(env.rb(["doc", "--long", "sub"]).expect(0).stdout.contains("./sub+ant\n"));
}

#[test]
fn ast_prints_the_tree_and_tells_what_is_wrong() {
    let env = env();
    for path in ["sub", "sub/Buildfile"] {
        let tree: Value = serde_json::from_str(&env.rb(["ast", path]).expect(0).stdout).expect("is JSON");
        assert_eq!(tree["buildfile"]["targets"][0]["name"]["value"], "zebra", "{path}");
    }
    env.write("bad.build", "VERSION 1\nt:\n    FRM scratch\n");
    let run = env.rb(["ast", "bad.build"]).expect(2).says("bad.build:3").says("`FROM`");
    let tree: Value = serde_json::from_str(&run.stdout).expect("is JSON all the same");
    assert_eq!(tree["diagnostics"][0]["severity"], "error");
    env.rb(["ast", "nothing"]).expect(3).says("nothing");
}

#[test]
fn options_are_documented_in_one_place() {
    let env = env();
    let help = env.rb(["--help"]).expect(0).stdout;
    for word in [
        "--push",
        "--ci",
        "--strict",
        "--no-output",
        "-P, --allow-privileged",
        "-s, --secret",
        "--secret-file",
        "--build-arg",
        "--arg-file-path",
        "-a, --artifact",
        "--image",
    ] {
        assert!(help.contains(word), "{word} is not in:\n{help}");
    }
    assert!(
        env.rb(["help", "EARTHLY_BUILD_ARGS"])
            .expect(0)
            .stdout
            .starts_with("RB_BUILD_ARGS, EARTHLY_BUILD_ARGS: ")
    );
    env.rb(["--push", "ls"]).expect(2).says("say nothing to `rb ls`");
    env.rb(["--artifact", "run", "+t"]).expect(2).says("say nothing to `rb run`");
}
