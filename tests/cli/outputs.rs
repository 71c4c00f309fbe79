//! What of a target is put out: one artifact, its images, nothing, what is pushed.

use crate::env::TestEnv;

const TEXT: &str = "VERSION 0.8\n\
    t:\n    FROM @host\n    RUN mkdir -p /d/sub && echo app > /d/app && echo lib > /d/sub/lib\n    \
    SAVE ARTIFACT /d/app bin/app AS LOCAL out/app\n    SAVE ARTIFACT /d/sub lib\n\
    other:\n    FROM scratch\n    COPY +t/bin/app /app\n    SAVE IMAGE other:latest\n\
    image:\n    FROM scratch\n    COPY +t/bin/app /app\n    SAVE IMAGE --push app:latest\n    SAVE ARTIFACT /app AS LOCAL image-app\n    BUILD +other\n";

fn images(env: &TestEnv) -> Vec<String> {
    let listed = env.rb(["image", "ls", "--json"]).expect(0).stdout;
    let images: serde_json::Value = serde_json::from_str(&listed).expect("is JSON");
    let names = images
        .as_array()
        .expect("a list")
        .iter()
        .map(|image| image["name"].as_str().expect("a name").to_owned());
    names.collect()
}

#[test]
fn one_artifact_is_written_and_nothing_else() {
    let env = TestEnv::new();
    env.write("Buildfile", TEXT);
    env.rb(["--artifact", "+t/bin/app"]).expect(0);
    assert_eq!(env.read("app"), "app\n");
    assert!(!env.has("out"));
    env.rb(["-a", "+t/bin/app", "renamed"]).expect(0);
    assert_eq!(env.read("renamed"), "app\n");
    env.rb(["-a", "+t/bin/app", "into/"]).expect(0);
    assert_eq!(env.read("into/app"), "app\n");
    env.rb(["-a", "+t/lib", "into"]).expect(0);
    assert_eq!(env.read("into/lib/lib"), "lib\n");
    env.rb(["-a", "+t/*", "all"]).expect(0);
    assert!(env.has("all/bin/app") && env.has("all/lib/lib"));
    env.rb(["-a", "+t/bin/ap"]).expect(2).says("saves no artifact `bin/ap`").says("bin/app");
    env.rb(["-a", "+t"]).expect(2).says("names no artifact");
    env.rb(["-a", "--no-output", "+t/bin/app"]).expect(2);
    env.rb(["-a", "+t/lib", ".."]).expect(0);
    assert!(images(&env).is_empty());
}

#[test]
fn several_artifacts_go_into_a_folder() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\nof:\n    FROM @host\n    ARG v=1\n    RUN echo $v > /v && echo w > /w\n    SAVE ARTIFACT /v $v/v\n    SAVE ARTIFACT /w\n",
    );
    env.write("sub/Earthfile", TEXT).write("file", "");
    // Several targets, one of them in two ways; what they share is built once, and nothing else is written.
    let words = ["-a", "+of/1/v", "./sub+t/bin/app", "out", "+of/2", "--v=2"];
    env.rb(words).expect(0).says("wrote out/v").says("wrote out/app").says("wrote out/2");
    assert_eq!(
        (env.read("out/v"), env.read("out/app"), env.read("out/2/v")),
        ("1\n".into(), "app\n".into(), "2\n".into())
    );
    assert!(!env.has("sub/out"));
    env.rb(["--dry-run", "-a", "+of/w", "./sub+t/*", "new"]).expect(0);
    env.rb(["-k", "-a", "+of/w", "+of/1/v"]).expect(0);
    assert_eq!((env.read("w"), env.read("v")), ("w\n".into(), "1\n".into()));
    env.rb(["-a", "+of/w", "+of/w", "--v=3"])
        .expect(2)
        .says("`+of/w` and `+of --v=3/w`")
        .says("both be written to `./w`");
    env.rb(["-a", "./sub+t/*", "+of/*", "--v=lib", "x"]).expect(2).says("both be written to `x/lib`");
    env.rb(["-a", "+of/w", "+of/1/v", "file"]).expect(2).says("`file` is none");
    env.rb(["-a", "+of/w", "./sub+t/bin/ap", "x"]).expect(2).says("did you mean `./sub+t/bin/app`?");
    assert!(!env.has("x") && !env.has("new"));
    env.rb(["-a", "+of/w", "-"]).expect(2).says("`rb -o - [DIR]+TARGET`");
}

#[test]
fn what_an_artifacts_target_saves_besides_is_in_nobodys_way() {
    let env = TestEnv::new();
    env.write(
        "Buildfile",
        "VERSION 1\nb:\n    FROM scratch\n    ARG v=1\n    COPY file$v /v\n    SAVE ARTIFACT /v c$v AS LOCAL here\n    SAVE IMAGE app\n",
    );
    env.write("file1", "1\n").write("file2", "2\n");
    env.rb(["-a", "+b/c1", "+b/c2", "--v=2"]).expect(0);
    assert_eq!((env.read("c1"), env.read("c2")), ("1\n".into(), "2\n".into()));
    assert!(images(&env).is_empty() && !env.has("here"));
    // Where they are written, they are.
    env.rb(["+b", "+b", "--v=2"]).expect(2).says("with other content");
}

#[test]
fn two_files_of_an_answer_do_not_become_one() {
    let env = TestEnv::new();
    env.write("Buildfile", TEXT);
    let words = ["--metadata-file", "out", "-o", "type=oci,dest=./sub/../out", "+image"];
    env.rb(words).expect(2).says("`--metadata-file out` and `-o dest=./sub/../out` name one file");
    env.rb(["--metadata-file", "m", "--iidfile", "m", "+image"]).expect(2).says("name one file");
    assert!(!env.has("out") && !env.has("m"));
}

#[test]
fn images_alone_and_nothing_at_all() {
    let env = TestEnv::new();
    env.write("Buildfile", TEXT);
    env.rb(["--no-output", "+image"]).expect(0);
    env.rb(["--ci", "+image"]).expect(0);
    env.rb_with(&[("EARTHLY_CI", "true")], ["+image"]).expect(0);
    assert!(images(&env).is_empty() && !env.has("image-app"));
    env.rb(["--image", "+image"]).expect(0);
    assert_eq!(images(&env).len(), 1);
    assert!(!env.has("image-app"));
    env.rb(["--image", "+t"]).expect(2).says("saves no image");
    env.rb(["+image"]).expect(0);
    assert!(images(&env).len() == 2 && env.has("image-app"));
}

#[test]
fn a_name_that_cannot_be_pushed_to_is_refused_before_anything_is_built() {
    let env = TestEnv::new();
    env.write("Buildfile", TEXT.replace("app:latest", "localhost:99999/app:1"));
    let run = env.rb(["--push", "+image"]).expect(2).says("localhost:99999").says("Buildfile:14");
    assert!(!run.stderr.contains("--> RUN") && images(&env).is_empty(), "{}", run.stderr);
    env.rb(["--push", "--image", "+image"]).expect(2).says("localhost:99999");
    env.rb(["--push", "--no-output", "+image"]).expect(2).says("localhost:99999");
    env.rb(["--push", "+t"]).expect(0);
    env.write("Buildfile", "VERSION 0.8\nt:\n    WAIT\n        BUILD +image\n    END\nimage:\n    FROM scratch\n    SAVE IMAGE --push localhost:99999/app:1\n");
    env.rb(["--push", "+t"]).expect(2).says("localhost:99999");
    assert!(images(&env).is_empty());
}

#[test]
fn privileged_steps_need_a_word() {
    let env = TestEnv::new();
    env.write("Buildfile", "VERSION 0.8\nt:\n    FROM @host\n    RUN --privileged true\n");
    env.rb(["+t"]).expect(2).says("-P");
}

#[test]
fn called_earthly_it_takes_earthlys_words() {
    let env = TestEnv::new();
    env.write("Buildfile", TEXT);
    env.rb_called("earthly", ["--ci", "--output", "+t"]).expect(0);
    assert_eq!(env.read("out/app"), "app\n");
    let tree = env.rb_called("/usr/local/bin/earthly", ["debug", "ast", "Buildfile"]).expect(0).stdout;
    assert!(serde_json::from_str::<serde_json::Value>(&tree).is_ok());
    env.rb_called("earthly", ["--buildkit-host=tcp://x", "+t"]).expect(2).says("it comes later");
    // Nobody is there to type.
    env.rb(["--interactive", "+t"]).expect(2).says("not a terminal");
}
