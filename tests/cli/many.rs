//! Several targets and patterns on one command line.

use crate::env::{Run, TestEnv};

/// Three services over one library. Each notes outside of the cache how often the library was made.
fn monorepo() -> TestEnv {
    let env = TestEnv::new();
    env.write("rb.toml", "");
    env.write(
        "lib/Buildfile",
        "VERSION 1\nlib:\n    FROM @host\n    RUN echo lib > /made\n    SAVE ARTIFACT /made lib\n",
    );
    for name in ["api", "web"] {
        let text = format!(
            "VERSION 1\nimage:\n    ARG TAG=latest\n    FROM scratch\n    COPY ../../lib+lib/lib /lib\n    COPY me /me\n    \
             SAVE IMAGE {name}:$TAG\n    SAVE ARTIFACT /me AS LOCAL out/me\ntest:\n    FROM @host\n    RUN echo {name}\n"
        );
        env.write(&format!("svc/{name}/Buildfile"), text).write(&format!("svc/{name}/me"), name);
    }
    env.write("svc/tools/Buildfile", "VERSION 1\nother:\n    FROM scratch\n");
    env.write("svc/notes/readme", "");
    env
}

fn names(env: &TestEnv) -> Vec<String> {
    let listed = env.rb(["image", "ls", "--json"]).expect(0).stdout;
    let images: serde_json::Value = serde_json::from_str(&listed).expect("is JSON");
    let images = images.as_array().expect("a list").iter();
    images.map(|image| image["name"].as_str().expect("a name").to_owned()).collect()
}

fn summary(run: &Run) -> serde_json::Value {
    let lines = run.stderr.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut summaries = lines.filter(|line| line["event"] == "summary");
    let summary = summaries.next().unwrap_or_else(|| panic!("no summary in:\n{}", run.stderr));
    assert!(summaries.next().is_none(), "one build, one summary");
    summary
}

#[test]
fn targets_and_patterns_are_one_build() {
    let env = monorepo();
    let words =
        ["./svc/api+image", "--TAG=v1", "./svc/web+image", "./svc/**+test", "./svc/api+image", "--TAG=v1"];
    let run = env.rb(["--progress=json"].iter().chain(&words)).expect(0);
    let told = summary(&run);
    // The library, and what takes it, once; of each service its own copy, its artifact and its test.
    assert_eq!(told["executed"], 2 + 1 + 2 * 3, "{told}");
    assert_eq!(told["target"], "./svc/api+image ./svc/web+image ./svc/**+test and 1 more");
    assert_eq!(names(&env), ["api:v1", "web:latest"]);
    assert_eq!(env.read("svc/api/out/me") + &env.read("svc/web/out/me"), "apiweb");
    env.rb(words).expect(0).says("nothing to do");
    // From a folder in it as well.
    env.rb_in("svc", ["./*+image", "../lib+lib", "//svc/w*+test"]).expect(0).says("nothing to do");
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let env = monorepo();
    let run = env.rb(["./svc/api+imgae", "./svc/*+tset", "./none/*+image", "./lib+lib", "--X=1"]).expect(2);
    run.says("there is no target `imgae`")
        .says("no folder that fits `./svc/*` has a build file with a target `tset`")
        .says("(looked through 4 folders:")
        .says("`svc/api/Buildfile`,")
        .says("`svc/tools/Buildfile`, `svc/web/Buildfile`)")
        .says("no folder that fits `./none/*`");
    let run = env.rb(["./svc/api+image", "--TAGG=1", "./lib+lib", "--X=1"]).expect(2);
    run.says("./svc/api+image does not declare the argument `TAGG`")
        .says("does not declare the argument `X`");
    env.rb(["./gone+x", "./svc/gone+y"]).expect(2).says("folder `./gone`").says("folder `./svc/gone`");
    let run = env.rb(["./gone+x", "./svc/api+image", "./svc/webb+image"]).expect(2);
    run.says("there is no folder `gone`").says("did you mean `svc/web`?");
    env.rb(["./svc/a**+image"]).expect(2).says("is a pattern that is not supported");
    env.rb(["./lib+lib", "stray"]).expect(2).says("`stray` stands behind the target");
    env.rb(["./lib+lib", "--", "--MODE=x"]).expect(2).says("leave it out");
    env.rb(["--MODE=x", "./lib+lib"]).expect(2).says("`rb +TARGET --MODE=value`");
    env.write("other/rb.toml", "").write("other/Buildfile", "VERSION 1\nt:\n    FROM scratch\n");
    env.rb(["./lib+lib", "./other+t"]).expect(2).says("lie in two workspaces");
    assert!(names(&env).is_empty() && !env.has("svc/api/out"));
}

#[test]
fn what_is_for_one_target_is_refused_for_several() {
    let env = monorepo();
    for words in [
        &["-o", "type=oci,dest=a.tar", "./svc/api+image", "./svc/web+image"][..],
        &["-o", "type=local,dest=a", "./svc/*+image"],
        &["--iidfile", "id", "./svc/api+image", "./svc/web+image"],
    ] {
        env.rb(words).expect(2).says("is for one target");
    }
    env.rb(["-a", "./svc/*+image/me"]).expect(2).says("a pattern may mean several");
    // What follows the target is the program, which is not there.
    env.rb(["run", "./svc/api+image", "+x"]).expect(127);
    env.rb(["compile", "./svc/api+image", "./lib+lib"]).expect(2).says("one target at a time");
    assert!(!env.has("a.tar") && !env.has("a") && !env.has("id"));
}

#[test]
fn images_alone_of_several_and_what_others_are_told_of_them() {
    let env = monorepo();
    env.rb(["--image", "--metadata-file", "meta.json", "./svc/*+image"]).expect(0);
    assert_eq!(names(&env), ["api:latest", "web:latest"]);
    assert!(!env.has("svc/api/out"));
    let meta: serde_json::Value = serde_json::from_str(&env.read("meta.json")).expect("is JSON");
    assert_eq!(meta["rb.images"].as_array().map(Vec::len), Some(2));
    env.rb(["--image", "./svc/api+image", "./lib+lib"]).expect(2).says("`./lib+lib` saves no image");
    env.rb(["--ci", "./svc/*+image"]).expect(0);
    assert!(!env.has("svc/api/out"));
    let run = env.rb(["-q", "./svc/*+image"]).expect(0);
    assert_eq!(run.stdout.lines().filter(|line| line.starts_with("sha256:")).count(), 2, "{}", run.stdout);
}

#[test]
fn two_targets_do_not_write_different_things_to_one_place() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\na:\n    FROM @host\n    RUN touch /ran-a; echo a > /app\n    SAVE ARTIFACT /app AS LOCAL out/app\n\
         b:\n    FROM @host\n    RUN echo b > /app\n    SAVE ARTIFACT /app AS LOCAL out/\n\
         c:\n    FROM scratch\n    COPY +a/app /a\n    SAVE IMAGE same\nd:\n    FROM scratch\n    COPY +b/app /b\n    SAVE IMAGE same\n",
    );
    let run =
        env.rb(["+a", "+b"]).expect(2).says("`out/app` is written by +a and, with other content, by +b");
    assert!(!run.stderr.contains("| RUN") && !env.has("out"), "{}", run.stderr);
    env.rb(["+c", "+d"]).expect(2).says("two different images for").says("are named `same`");
    env.rb(["+a", "+c", "+a"]).expect(0);
    assert_eq!(env.read("out/app"), "a\n");
}

#[test]
fn folders_in_no_workspace_are_built_together() {
    let env = TestEnv::new();
    for name in ["one", "two"] {
        let text = format!(
            "VERSION 1\nt:\n    FROM @host\n    RUN echo {name} > /x\n    SAVE ARTIFACT /x AS LOCAL x\n"
        );
        env.write(&format!("{name}/Buildfile"), text);
    }
    env.rb(["./one+t", "./two+t"]).expect(0);
    assert_eq!(env.read("one/x") + &env.read("two/x"), "one\ntwo\n");
}

#[test]
fn the_first_failure_stops_all_and_writes_nothing() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\ngood:\n    FROM @host\n    RUN echo x > /x\n    SAVE ARTIFACT /x AS LOCAL x\nbad:\n    FROM @host\n    RUN exit 7\n",
    );
    env.rb(["+good", "+bad"]).expect(1).says("exit code 7");
    assert!(!env.has("x"));
}
