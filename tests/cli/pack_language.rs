//! `FROM BUILDPACKS` in build files: the app and the builder of `pack`.

use serde_json::Value;

use crate::env::Run;
use crate::pack::{FOR_ALL, PASS, Packed, runs};

/// A statement for the app in `app`, with the variables that its buildpacks want.
const FROM: &str = "FROM BUILDPACKS --builder=builder:1 --env FOR=tests --env USERS=all ./app";

impl Packed {
    fn rb(&self, words: &[&str]) -> Run {
        self.0.rb(["--progress=plain"].iter().chain(words))
    }

    fn buildfile(&self, text: &str) {
        self.0.write("Buildfile", format!("VERSION 1\n{text}"));
    }
}

#[test]
fn an_app_goes_on() {
    let Some(packed) = Packed::new() else { return };
    packed.buildfile(&format!(
        "app:\n    {FROM}\n    RUN cat /layers/test_one/greet/text > said && cat /layers/test_two/two/text built.txt >> said\n    \
         SAVE ARTIFACT said AS LOCAL got/\n    SAVE IMAGE app:1\n\
         copy:\n    FROM +app\n    COPY +app/said /other\n    RUN [ \"$(cat /other)\" = \"$(cat said)\" ]\n"
    ));
    let first = packed.rb(&["+app"]).expect(0);
    for step in
        ["detect test/one@1.0", "detect test/never@1.0", "build test/one@1.0", "keep layers of test/one@1.0"]
    {
        assert!(first.stderr.contains(&format!("+app | --> {step}")), "{step}: {}", first.stderr);
    }
    assert_eq!(packed.0.read("got/said"), "hello world\nvalue of one, all\nbuilt\n");
    assert_eq!(packed.0.rb(["run", "app:1"]).expect(0).stdout, "launched as web: hello world\n");
    packed.rb(&["--expect-cached", "+app"]).expect(0);
    packed.rb(&["+copy"]).expect(0);
    // Beside what names layers, the image says of itself what that of `rb pack build` says.
    packed.pack("build", &[&["plain:1"][..], &FOR_ALL].concat()).expect(0);
    let (mut own, mut plain) = (packed.image("app:1"), packed.image("plain:1"));
    let base = packed.image("run:1");
    assert_eq!(own["rootfs"]["diff_ids"][0], base["rootfs"]["diff_ids"][0]);
    let lines = |config: &Value| -> Vec<String> {
        let history = config["history"].as_array().expect("lines").iter();
        history.filter_map(|line| line["created_by"].as_str()).map(str::to_owned).collect()
    };
    let (of_own, of_plain) = (lines(&own), lines(&plain));
    let of_app = &of_plain[of_plain.len() - 7..];
    assert!(of_own.windows(of_app.len()).any(|lines| lines == of_app), "{of_own:?} {of_app:?}");
    let metadata = "io.buildpacks.lifecycle.metadata";
    assert!(plain["config"]["Labels"].as_object_mut().expect("labels").remove(metadata).is_some());
    assert_eq!(own["config"].take(), plain["config"].take());
    packed.0.rb(["pack", "rebase", "app:1", "--run-image", "run:1"]).expect(2).says(metadata);
}

#[test]
fn what_rb_pack_build_has_made_is_not_made_again() {
    let Some(packed) = Packed::new() else { return };
    packed.0.write("app/project.toml", "[_]\nschema-version=\"0.2\"\n[io.buildpacks]\nexclude=[\"*.log\"]\n");
    packed.pack("build", &[&["plain:1"][..], &FOR_ALL].concat()).expect(0).says(&runs("build test/one@1.0"));
    packed.buildfile(&format!("app:\n    {FROM}\n    SAVE IMAGE app:1\n"));
    let none_runs = |run: &Run| {
        for step in ["detect", "build"] {
            for module in ["test/one@1.0", "test/two@2.0"] {
                let known = format!("*cached* --> {step} {module}");
                assert!(run.stderr.contains(&known), "{known}: {}", run.stderr);
            }
        }
    };
    none_runs(&packed.rb(&["+app"]).expect(0));
    // And the other way round; what is kept is kept for each.
    packed.0.write("app/app.txt", "you");
    packed.rb(&["+app"]).expect(0).says("seen before: 1");
    none_runs(&packed.pack("build", &[&["plain:1"][..], &FOR_ALL].concat()).expect(0));
    packed.0.write("app/app.txt", "all");
    packed.rb(&["+app"]).expect(0).says("seen before: 2");
    packed.0.write("app/other.log", "left out");
    packed.rb(&["--expect-cached", "+app"]).expect(0);
    assert_eq!(packed.0.rb(["run", "app:1"]).expect(0).stdout, "launched as web: hello all\n");
}

#[test]
fn apps_and_buildpacks_of_targets_and_of_the_project() {
    let Some(packed) = Packed::new() else { return };
    // No file is in its slice.
    let build = "#!/bin/sh\necho \"mine for $NAME\" > mine.txt\n\
                 printf '[[processes]]\\ntype=\"mine\"\\ncommand=[\"true\"]\\n\
                 [[slices]]\\npaths=[\"static/*\"]\\n' > \"$1/launch.toml\"\n";
    packed.buildpack("test_mine", "1.0", "test/mine", PASS, build);
    packed.buildfile(
        "app:\n    ARG name=nobody\n    FROM BUILDPACKS --builder builder:1 --buildpack test/one \
         --buildpack (+made/mine --from=buildpacks) \
         --env NAME=$name --env FOR=x +source/app\n    SAVE ARTIFACT mine.txt AS LOCAL got/\n\
         own:\n    FROM BUILDPACKS --buildpack=//buildpacks/test_mine/1.0 ./app\n    SAVE ARTIFACT mine.txt AS LOCAL own/\n\
         source:\n    FROM scratch\n    COPY --dir app /\n    SAVE ARTIFACT /app\n\
         made:\n    ARG from\n    FROM scratch\n    COPY --dir $from/test_mine/1.0 /mine/\n    SAVE ARTIFACT /mine/1.0 mine\n",
    );
    packed.rb(&["+app", "--name=you"]).expect(0);
    assert_eq!(packed.0.read("got/mine.txt"), "mine for you\n");
    packed.0.write(
        "app/project.toml",
        "[_]\nschema-version=\"0.2\"\n[io.buildpacks]\nbuilder=\"builder:1\"\n[[io.buildpacks.build.env]]\nname=\"NAME\"\nvalue=\"all\"\n",
    );
    packed.rb(&["+own"]).expect(0);
    assert_eq!(packed.0.read("own/mine.txt"), "mine for all\n");
}

#[test]
fn what_is_wrong_is_told_at_the_line() {
    let Some(packed) = Packed::new() else { return };
    packed.0.write("empty/other", "").write("plain/x", "");
    packed.buildfile(
        "empty:\n    FROM BUILDPACKS --builder=builder:1 ./empty\n\
         folder:\n    FROM BUILDPACKS --builder=builder:1 ./emtpy\n\
         nobody:\n    FROM BUILDPACKS ./app\n\
         none:\n    FROM BUILDPACKS --builder=run:1 ./app\n\
         gone:\n    FROM BUILDPACKS --builder=gone.example.com/b:1 ./app\n\
         near:\n    FROM BUILDPACKS --builder=builder:1 --buildpack=test/oen ./app\n",
    );
    let empty = packed.rb(&["+empty"]).expect(1);
    for line in [
        "no group of buildpacks passed detection",
        "Buildfile:3:41",
        "group 1: a module that it needs did not pass",
        "test/one@1.0: failed (exit code 100)",
        "test/never@1.0 (optional): failed (exit code 100)",
        "in +empty",
    ] {
        assert!(empty.stderr.contains(line), "{line}: {}", empty.stderr);
    }
    for (target, place, message) in [
        ("+folder", "Buildfile:5:41", "did you mean `empty`?"),
        ("+nobody", "Buildfile:7:5", "there is no builder"),
        ("+none", "Buildfile:9:31", "`run:1` is no builder"),
        ("+near", "Buildfile:13:53", "did you mean `test/one`?"),
    ] {
        packed.rb(&[target]).expect(2).says(place).says(message);
    }
    packed.rb(&["+gone"]).says("Buildfile:11:31");
    // A step that fails is told at the line, too.
    packed.buildpack("test_two", "2.0", "test/two", PASS, "#!/bin/sh\necho it is no use; exit 9\n");
    packed.builder(&["test/two@2.0"]);
    packed.buildfile("app:\n    FROM BUILDPACKS --builder=builder:1 ./app\n");
    let failed = packed.rb(&["+app"]).expect(1);
    failed.says("it is no use").says("build test/two@2.0").says("Buildfile:3");
}

#[test]
fn plans_and_reasons_know_it() {
    let Some(packed) = Packed::new() else { return };
    packed.buildfile(&format!("# app is built by nobody we know.\napp:\n    {FROM}\n    RUN true\n"));
    let listed = packed.0.rb(["ls"]).expect(0).stdout;
    assert!(listed.contains("+app  is built by nobody we know.\n"), "{listed}");
    let before = packed.0.rb(["plan", "+app"]).expect(0).stdout;
    assert!(before.contains("detect test/one@1.0"), "{before}");
    packed.rb(&["+app"]).expect(0);
    packed.0.write("app/app.txt", "changed");
    packed.rb(&["+app"]).expect(0);
    let why = packed.0.rb(["why", "+app"]).expect(0).stdout;
    assert!(why.contains("app.txt"), "{why}");
    let tree = packed.0.rb(["ast", "."]).expect(0).stdout;
    assert!(tree.contains("Buildpacks"), "{tree}");
}
