//! Questions in place of a build: what is unusual, what a target takes, which there are.

use serde_json::Value;

use crate::env::TestEnv;

const TEXT: &str = "# check=skip=JSONArgsRecommended\n\
    ARG BASE=scratch\n\
    # build makes the program\nFROM ${BASE} as build\n\
    # MODE is debug or release\nARG MODE=debug\nRUN --mount=type=secret,id=token,required echo $MODE\n\
    FROM build AS test\nRUN --mount=type=ssh true\n\
    FROM scratch\nCOPY --from=build /x /\nCMD /x\n";

fn project() -> TestEnv {
    let env = TestEnv::new();
    env.write("Dockerfile", TEXT);
    env
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_check_tells_what_is_unusual_and_builds_nothing() {
    let env = project();
    let run = env.rb(["build", "--check", "."]).expect(1);
    assert!(run.stdout.contains("FromAsCasing") && run.stdout.contains("Dockerfile:4"), "{run:?}");
    assert!(!run.stdout.contains("JSONArgs"), "{run:?}");
    let told = json(&env.rb(["build", "--call=check,format=json", "."]).expect(1).stdout);
    assert_eq!(told["warnings"][0]["ruleName"], "FromAsCasing");
    let told = json(&env.rb(["build", "--call", "lint,format=sarif", "."]).expect(1).stdout);
    assert_eq!(told["runs"][0]["results"][0]["ruleId"], "FromAsCasing");
    // The same beside a build, a line each.
    env.write("plain", "FROM scratch as x\nLABEL a=1\n");
    let built = env.rb(["build", "-f", "plain", "."]).expect(0);
    assert!(built.stderr.contains("1 warning; --check shows more:\n  FromAsCasing: "), "{built:?}");
    assert!(built.stderr.contains("(line 1)"), "{built:?}");
    env.rb(["build", "-q", "-f", "plain", "."]).expect(0).hides("FromAsCasing");
    let strict = ["build", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=error=true", "-f", "plain", "."];
    env.rb(strict).expect(2).says("lint violation");
    env.write("clean", "FROM scratch\nLABEL a=1\n");
    let clean = env.rb(["build", "--check", "-f", "clean", "."]).expect(0).stdout;
    assert_eq!(clean, "Check complete, no warnings found.\n");
    let clean = json(&env.rb(["build", "--call=check,format=json", "-f", "clean", "."]).expect(0).stdout);
    assert!(clean["warnings"].as_array().is_none_or(Vec::is_empty), "{clean}");
}

#[test]
fn what_is_wrong_is_told_with_what_is_unusual() {
    let env = TestEnv::new();
    env.write("Dockerfile", "FROM scratch as x\nCOPYY a /\n");
    env.rb(["build", "."]).expect(2).says("COPYY").says("COPY");
    let run = env.rb(["build", "--check", "."]).expect(2);
    assert!(run.stderr.contains("COPYY") && !run.stdout.contains("no warnings"), "{run:?}");
}

#[test]
fn targets_and_what_they_take_are_listed() {
    let env = project();
    let listed = env.rb(["build", "--call=targets", "."]).expect(0).stdout;
    assert!(listed.contains("build") && listed.contains("makes the program"), "{listed}");
    let told = json(&env.rb(["build", "--call=targets,format=json", "."]).expect(0).stdout);
    let names: Vec<&str> = told["targets"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|target| target["name"].as_str())
        .collect();
    assert_eq!(names[..2], ["build", "test"]);
    let outline =
        env.rb(["build", "--call=outline", "--target", "test", "--build-arg", "MODE=release", "."]).expect(0);
    for word in ["MODE", "release", "debug or release", "token", "default"] {
        assert!(outline.stdout.contains(word), "{word}: {outline:?}");
    }
    let told =
        json(&env.rb(["build", "--call=outline,format=json", "--target", "test", "."]).expect(0).stdout);
    assert!(told["secrets"].to_string().contains("token"), "{told}");
    // Nothing of it is a build: there is no image.
    let images = json(&env.rb(["image", "ls", "--json"]).expect(0).stdout);
    assert_eq!(images, serde_json::json!([]));
}
