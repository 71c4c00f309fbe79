//! Image extensions in `rb pack build` and `FROM BUILDPACKS`: Dockerfiles that change the builder's image and the app's base.

use serde_json::Value;

use crate::env::Run;
use crate::pack::{PASS, Packed, is_known, runs};

/// Wants what an extension provides, and sees what it laid into the build image.
const DETECT: &str =
    "#!/bin/sh\nprintf '[[requires]]\\nname=\"tool\"\\n[requires.metadata]\\nmajor=\"7\"\\n' > \"$2\"\n";
const BUILD: &str = r#"#!/bin/sh
set -e
[ "$(cat /opt/tool)" = "tool 7 of test/made, from the extension" ]
[ "$CPATH" = /opt ]
[ "$(busybox id -u):$(busybox id -g)" = 1000:1000 ]
grep -q entries "$3" && exit 9
printf '[[processes]]\ntype="web"\ncommand=["true"]\ndefault=true\n' > "$1/launch.toml"
"#;

pub(crate) const PROVIDES: &str = "#!/bin/sh\nprintf '[[provides]]\\nname=\"tool\"\\n' > \"$2\"\n";
/// Looks at all that it is told, and generates both Dockerfiles.
pub(crate) const GENERATE: &str = r#"#!/bin/sh
set -e
[ "$1" = "$CNB_OUTPUT_DIR" ] && [ "$2" = "$CNB_PLATFORM_DIR" ] && [ "$3" = "$CNB_BP_PLAN_PATH" ]
[ -f "$CNB_EXTENSION_DIR/extension.toml" ] && [ -f app.txt ] && [ "$CNB_TARGET_OS" = linux ]
major=$(sed -n 's/.*major = "\(.*\)".*/\1/p' "$3")
mkdir "$1/context.build"
echo "from the extension" > "$1/context.build/text"
printf '[[build.args]]\nname="major"\nvalue="%s"\n' "$major" > "$1/extend-config.toml"
cat > "$1/build.Dockerfile" <<'END'
ARG base_image
FROM ${base_image}
ARG major
ARG user_id=0
ARG group_id=0
USER root
COPY text /opt/text
RUN echo "tool $major of test/made, $(cat /opt/text)" > /opt/tool
ENV CPATH=/opt
USER ${user_id}:${group_id}
END
cat > "$1/run.Dockerfile" <<'END'
ARG base_image
FROM ${base_image}
USER root
COPY app.txt /opt/of-app
RUN echo extended > /opt/extended
USER 1000
END
"#;

/// An app whose buildpack wants a tool, an extension that has it, and one that generates nothing by itself.
pub(crate) fn packed() -> Option<Packed> {
    let packed = Packed::new()?;
    packed.0.rb(["image", "rm", "builder:1"]).expect(0);
    packed.buildpack("test_sees", "1", "test/sees", DETECT, BUILD);
    packed.builder(&["test/sees@1"]);
    extension(&packed, "made", &[("bin/detect", PROVIDES), ("bin/generate", GENERATE)]);
    Some(packed)
}

pub(crate) fn extension(packed: &Packed, name: &str, files: &[(&str, &str)]) {
    let about = format!("api = \"0.10\"\n[extension]\nid = \"test/{name}\"\nversion = \"1\"\n");
    packed.0.write(&format!("extensions/{name}/extension.toml"), about);
    for (file, text) in files {
        let path = format!("extensions/{name}/{file}");
        packed.0.write(&path, text);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(packed.0.project().join(path), mode).expect("modes");
    }
}

fn build(packed: &Packed, more: &[&str]) -> Run {
    packed.pack("build", &[&["app:1", "--extension=./extensions/made"][..], more].concat())
}

fn lines(config: &Value) -> Vec<String> {
    let history = config["history"].as_array().expect("lines").iter();
    history.filter_map(|line| line["created_by"].as_str()).map(str::to_owned).collect()
}

#[test]
fn both_images_are_extended() {
    let Some(packed) = packed() else { return };
    let first = build(&packed, &[]).expect(0);
    for said in ["===> EXTENDING (RUN)\n", "===> EXTENDING (BUILD)\n", "test/made 1\ntest/sees 1\n"] {
        assert!(first.stderr.contains(said), "{said}: {}", first.stderr);
    }
    let first = first
        .says(&runs("generate test/made@1"))
        .says("[test/made@1 2/3] | --> RUN echo extended > /opt/extended");
    let cat = |path: &str| packed.0.rb(["run", "--entrypoint=cat", "app:1", path]).expect(0).stdout;
    assert_eq!((cat("/opt/extended").as_str(), cat("/opt/of-app").as_str()), ("extended\n", "world"));
    packed.0.rb(["run", "--entrypoint=cat", "app:1", "/opt/tool"]).expect(1);
    let (app, base) = (packed.image("app:1"), packed.image("run:1"));
    let labels = &app["config"]["Labels"];
    assert_eq!(labels["io.buildpacks.rebasable"], "false");
    let metadata: Value =
        serde_json::from_str(labels["io.buildpacks.lifecycle.metadata"].as_str().expect("a label"))
            .expect("JSON");
    let of_base = base["rootfs"]["diff_ids"].as_array().expect("layers");
    assert_eq!(metadata["runImage"]["topLayer"], *of_base.last().expect("a layer"));
    let built: Value =
        serde_json::from_str(labels["io.buildpacks.build.metadata"].as_str().expect("a label"))
            .expect("JSON");
    assert_eq!(built["extensions"][0]["id"], "test/made");
    let lines = lines(&app);
    let own: Vec<_> = lines.iter().filter(|line| line.ends_with("Created by extension: test/made")).collect();
    assert!(own.len() == 2 && own[0].contains("COPY app.txt") && own[1].contains("RUN"), "{lines:?}");
    assert_eq!(app["config"]["User"], "1000");
    // Nothing runs again, and the image is the same.
    let digest = |run: &Run| run.stdout.clone();
    let second = build(&packed, &[]).expect(0);
    let second = second.says(&is_known("generate test/made@1")).says(&is_known("build test/sees@1"));
    assert_eq!(digest(&first), digest(&second));
    // What it is put upon may change what no extension says.
    packed.0.rb(["pack", "rebase", "app:1", "--run-image", "run:1"]).expect(2).says("rebas");
}

#[test]
fn several_extensions_one_upon_the_other() {
    let Some(packed) = packed() else { return };
    let text = "ARG base_image\nFROM ${base_image}\nUSER root\nRUN echo still > /still\nLABEL io.buildpacks.rebasable=true\nUSER 1000\n";
    extension(&packed, "still", &[("generate/run.Dockerfile", text)]);
    packed.pack("build", &["app:1", "--extension=./extensions/made,./extensions/still"]).expect(0);
    let cat = |path: &str| packed.0.rb(["run", "--entrypoint=cat", "app:1", path]).expect(0).stdout;
    assert_eq!((cat("/still").as_str(), cat("/opt/extended").as_str()), ("still\n", "extended\n"));
    // Who is named later goes first.
    let app = packed.image("app:1");
    let lines = lines(&app);
    let of = |id: &str| lines.iter().position(|line| line.ends_with(id)).expect("a line");
    assert!(of("extension: test/still") < of("extension: test/made"), "{lines:?}");
    assert_eq!(
        app["config"]["Labels"]["io.buildpacks.rebasable"], "true",
        "it was set below, and nothing says no"
    );
}

#[test]
fn a_builder_has_extensions_and_build_files_go_on_from_them() {
    let Some(packed) = packed() else { return };
    let order = r#"[{"group":[{"id":"test/made","version":"1"}]}]"#;
    let layers =
        format!(r#"{{"test/made":{{"1":{{"api":"0.10","layerDiffID":"sha256:{}"}}}}}}"#, "0".repeat(64));
    packed.0.write(
        "Buildfile",
        format!(
            "VERSION 1\nbuilder:\n    FROM builder:1\n    USER root\n    COPY --dir extensions/made /cnb/extensions/test_made/\n    \
             RUN mv /cnb/extensions/test_made/made /cnb/extensions/test_made/1\n    USER 1000:1000\n    \
             LABEL io.buildpacks.buildpack.order-extensions='{order}'\n    LABEL io.buildpacks.extension.layers='{layers}'\n    \
             SAVE IMAGE builder:2\napp:\n    FROM BUILDPACKS --builder=builder:2 ./app\n    USER root\n    RUN cat /opt/extended > /said\n    \
             SAVE ARTIFACT /said AS LOCAL got/\n    SAVE IMAGE app:2\n"
        ),
    );
    packed.0.rb(["+builder"]).expect(0);
    let made =
        packed.0.rb(["pack", "build", "app:1", "-B", "builder:2", "-p", "app", "--progress=plain"]).expect(0);
    made.says("===> EXTENDING (RUN)");
    packed.0.rb(["+app"]).expect(0);
    assert_eq!(packed.0.read("got/said"), "extended\n");
    packed.0.rb(["--expect-cached", "+app"]).expect(0);
    packed.0.rb(["pack", "detect", "-B", "builder:2", "-p", "app", "--explain"]).expect(0);
}

#[test]
fn who_asks_for_the_build_id_runs_each_time() {
    let Some(packed) = packed() else { return };
    let text = "ARG base_image\nFROM ${base_image}\nARG build_id=0\nUSER root\nRUN echo \"id ${build_id}\" | tee /id\nUSER 1000\n";
    extension(&packed, "asks", &[("generate/build.Dockerfile", text)]);
    let build =
        || packed.pack("build", &["app:1", "--extension=./extensions/asks,./extensions/made"]).expect(0);
    let (first, second) = (build(), build());
    for run in [&first, &second] {
        assert!(run.stderr.lines().any(|line| line.contains("id ") && line.contains("-8")), "{}", run.stderr);
    }
    assert_eq!(first.stdout, second.stdout, "it is the same image all the same");
}

#[test]
fn a_base_of_the_extension() {
    let Some(packed) = packed() else { return };
    packed.0.write(
        "Buildfile",
        "VERSION 1\nother:\n    FROM run:1\n    RUN echo other > /other\n    SAVE IMAGE other:1\n",
    );
    packed.0.rb(["+other"]).expect(0);
    extension(&packed, "switch", &[("generate/run.Dockerfile", "FROM other:1\n")]);
    let run = packed.pack("build", &["app:1", "--extension=./extensions/switch,./extensions/made"]).expect(0);
    run.says("`other:1`, the new run image, is none");
    // What stands before the switch has no effect.
    let cat = |path: &str| packed.0.rb(["run", "--entrypoint=cat", "app:1", path]);
    assert_eq!(cat("/other").expect(0).stdout, "other\n");
    cat("/opt/extended").expect(1);
    let metadata = packed.image("app:1")["config"]["Labels"]["io.buildpacks.lifecycle.metadata"].clone();
    assert!(metadata.as_str().is_some_and(|text| text.contains("\"image\":\"other:1\"")), "{metadata}");
}

#[test]
fn what_extensions_may_not() {
    let Some(packed) = packed() else { return };
    let run = "ARG base_image\nFROM ${base_image}\n";
    let steps = |text: &str| format!("{run}{text}");
    for (file, text, said) in [
        ("generate/run.Dockerfile", steps("USER root\n"), "run image is root"),
        ("generate/build.Dockerfile", "FROM other:1\n".to_owned(), "does not begin with `ARG base_image`"),
        ("generate/run.Dockerfile", format!("{run}RUN x\nFROM x\n"), "several stages"),
        (
            "generate/run.Dockerfile",
            steps("NONSENSE\n"),
            "/cnb/extensions/test_bad/1/generate/run.Dockerfile of test/bad@1:3",
        ),
        ("generate/run.Dockerfile", steps("RUN exit 5\n"), "`[test/bad@1 1/2] RUN exit 5` failed"),
        ("generate/run.Dockerfile", steps("COPY nowhere /\n"), "nowhere"),
        (
            "generate/extend-config.toml",
            "[[run.args]]\nname='user_id'\n".to_owned(),
            "sets the argument `user_id`",
        ),
    ] {
        extension(&packed, "bad", &[(file, &text)]);
        let run = packed.pack("build", &["app:1", "--extension=./extensions/bad,./extensions/made"]);
        assert!(run.code != 0, "{text}: {}", run.stderr);
        run.says(said);
        std::fs::remove_dir_all(packed.0.project().join("extensions/bad")).expect("goes");
    }
    packed
        .pack("build", &["app:1", "--extension=test/nowhere"])
        .expect(2)
        .says("no extension `test/nowhere`");
    extension(
        &packed,
        "fails",
        &[("bin/detect", PASS), ("bin/generate", "#!/bin/sh\necho why not\nexit 4\n")],
    );
    packed
        .pack("build", &["app:1", "--extension=./extensions/fails,./extensions/made"])
        .expect(1)
        .says("why not")
        .says("generate test/fails@1");
}
