//! `rb pack build` and `rb pack detect`: an app, a builder made of busybox, buildpacks that are shell scripts.

use serde_json::{Value, json};

use crate::env::{Run, TestEnv};

/// Says under which name it was called, and what a layer holds.
const LAUNCHER: &str = "#!/bin/sh\necho \"launched as ${0##*/}: $(cat /layers/test_one/greet/text)\"\n";

const DETECT_ONE: &str = "#!/bin/sh\n[ -f app.txt ] || exit 100\n[ \"$CNB_PLATFORM_DIR\" = \"$1\" ] || exit 3\n\
printf '[[provides]]\\nname=\"one\"\\n[[requires]]\\nname=\"one\"\\n[requires.metadata]\\nfor=\"%s\"\\n' \"$FOR\" > \"$2\"\n";

/// Makes a layer for the image, one for later builds that is cached, a process and a store; counts its builds in the cache.
const BUILD_ONE: &str = r#"#!/bin/sh
set -e
layers=$1
[ "$layers" = "$CNB_LAYERS_DIR" ]
echo "plan: $(cat "$3")"
count=$(cat "$layers/tool/count" 2>/dev/null || echo 0)
echo "seen before: $count"
[ ! -e "$layers/tool.toml" ] || ! grep -q '\[types\]' "$layers/tool.toml"
mkdir -p "$layers/tool/bin" "$layers/tool/env"
echo $((count + 1)) > "$layers/tool/count"
# As caches of some package managers are.
[ -d "$layers/tool/fixed" ] || { mkdir "$layers/tool/fixed"; echo x > "$layers/tool/fixed/x"; chmod 555 "$layers/tool/fixed"; }
printf '#!/bin/sh\necho tooled\n' > "$layers/tool/bin/tool"
chmod 755 "$layers/tool/bin/tool"
printf 'value of one' > "$layers/tool/env/VALUE"
printf '[types]\nbuild=true\ncache=true\n' > "$layers/tool.toml"
if [ -f "$layers/greet.toml" ] && grep -q "hello $(cat app.txt)" "$layers/greet.toml"; then
  echo "greet is used again"
else
  [ ! -e "$layers/greet" ]
  mkdir "$layers/greet"
  echo "hello $(cat app.txt)" > "$layers/greet/text"
fi
printf '[types]\nlaunch=true\n[metadata]\ntext="hello %s"\n' "$(cat app.txt)" > "$layers/greet.toml"
printf '[[processes]]\ntype="web"\ncommand=["sh"]\ndefault=true\n[[processes]]\ntype="task"\ncommand=["true"]\n' > "$layers/launch.toml"
printf '[[labels]]\nkey="made.by"\nvalue="one"\n' >> "$layers/launch.toml"
printf '[metadata]\nkept="yes"\n' > "$layers/store.toml"
echo forgotten > /tmp/one
"#;

/// Sees what the first one made for builds, and not what it made for the image alone.
const BUILD_TWO: &str = r#"#!/bin/sh
set -e
[ "$(tool)" = tooled ]
[ "$VALUE" = "value of one" ]
[ ! -e /layers/test_one/greet ]
[ ! -e /tmp/one ]
! touch "$CNB_BUILDPACK_DIR/x" 2>/dev/null
mkdir "$1/two"
echo "$VALUE, $USERS" > "$1/two/text"
printf '[types]\nlaunch=true\n' > "$1/two.toml"
echo built > built.txt
"#;

/// Has a process of its own.
const BUILD_MINE: &str = r#"#!/bin/sh
printf '[[processes]]\ntype="mine"\ncommand=["true"]\n' > "$1/launch.toml"
echo mine > mine.txt
"#;

/// Makes a layer with a bill of materials, and asks for a slice; it wants a binding.
pub(crate) const BUILD_BESIDE: &str = r#"#!/bin/sh
set -e
mkdir "$1/lib"
printf '[types]\nlaunch=true\n' > "$1/lib.toml"
echo '{}' > "$1/lib.sbom.spdx.json"
printf '[[slices]]\npaths=["static/*"]\n' > "$1/launch.toml"
[ "$(cat /platform/bindings/db/user)" = me ]
"#;

pub(crate) const PASS: &str = "#!/bin/sh\nexit 0\n";

/// An app in `app`, a builder `builder:1`, a base `run:1`.
pub(crate) struct Packed(pub(crate) TestEnv);

impl Packed {
    pub(crate) fn new() -> Option<Self> {
        let env = TestEnv::new();
        if !env.busybox_layout("base") {
            return None;
        }
        let packed = Self(env);
        packed.buildpack("test_one", "1.0", "test/one", DETECT_ONE, BUILD_ONE);
        packed.buildpack("test_two", "2.0", "test/two", PASS, BUILD_TWO);
        packed.buildpack(
            "test_never",
            "1.0",
            "test/never",
            "#!/bin/sh\nprintf 'no thanks\\n\\033[2Jnot today\\n'\nexit 100\n",
            "exit 1\n",
        );
        packed.0.write("launcher", LAUNCHER).write("app/app.txt", "world").write("app/secret.log", "no");
        packed.builder(&["test/one@1.0", "test/never@1.0?", "test/two@2.0"]);
        Some(packed)
    }

    pub(crate) fn buildpack(&self, folder: &str, version: &str, id: &str, detect: &str, build: &str) {
        let place = format!("buildpacks/{folder}/{version}");
        let about = format!(
            "api = \"0.10\"\n[buildpack]\nid = \"{id}\"\nversion = \"{version}\"\nsbom-formats=[\"application/spdx+json\"]\n"
        );
        self.0.write(&format!("{place}/buildpack.toml"), about);
        for (name, text) in [("detect", detect), ("build", build)] {
            let path = format!("{place}/bin/{name}");
            self.0.write(&path, text);
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(self.0.project().join(path), mode).expect("modes");
        }
    }

    /// Makes the builder with an order of one group; `?` stands behind what is optional.
    pub(crate) fn builder(&self, group: &[&str]) {
        // Labels name the layer of the modules, which is known once there is one.
        self.builder_of(group, &format!("sha256:{}", "0".repeat(64)));
        let config = self.image("builder:1");
        let layers = config["rootfs"]["diff_ids"].as_array().expect("layers").clone();
        self.builder_of(group, layers.last().and_then(Value::as_str).expect("a layer"));
    }

    fn builder_of(&self, group: &[&str], layer: &str) {
        let mut layers = json!({});
        let elements: Vec<Value> = group
            .iter()
            .map(|word| {
                let (id, version) = word.trim_end_matches('?').split_once('@').expect("id and version");
                layers[id][version] = json!({"api": "0.10", "layerDiffID": layer});
                json!({"id": id, "version": version, "optional": word.ends_with('?')})
            })
            .collect();
        let metadata = json!({
            "images": [{"image": "run:1"}],
            "lifecycle": {"version": "0.21.0", "apis": {"platform": {"supported": ["0.12", "0.13", "0.14", "0.15"]}}},
        });
        let order = json!([{ "group": elements }]);
        let text = format!(
            "VERSION 1\nrun:\n    FROM oci-layout:./base:test\n    LABEL io.buildpacks.base.distro.name=busy\n    \
             SAVE IMAGE run:1\nbuilder:\n    FROM oci-layout:./base:test\n    \
             RUN mkdir -p /layers /workspace /cnb/lifecycle /platform/env && busybox chown 1000:1000 /layers /workspace && \
             for name in grep chmod rm mv printf; do busybox ln -s busybox /bin/$name; done && busybox chmod 1777 /tmp\n    \
             COPY --chmod=0755 launcher /cnb/lifecycle/launcher\n    COPY --dir buildpacks /cnb/\n    \
             ENV CNB_USER_ID=1000\n    ENV CNB_GROUP_ID=1000\n    USER 1000:1000\n    \
             LABEL io.buildpacks.builder.metadata='{metadata}'\n    LABEL io.buildpacks.buildpack.order='{order}'\n    \
             LABEL io.buildpacks.buildpack.layers='{layers}'\n    SAVE IMAGE builder:1\n"
        );
        self.0.write("Buildfile", text);
        self.0.rb(["+run", "+builder"]).expect(0);
    }

    pub(crate) fn pack(&self, command: &str, more: &[&str]) -> Run {
        self.0.rb(["pack", command, "-B", "builder:1", "-p", "app", "--progress=plain"].iter().chain(more))
    }

    fn inspect(&self, image: &str) -> Value {
        let text = self.0.rb(["image", "inspect", image]).expect(0).stdout;
        let all: Value = serde_json::from_str(&text).expect("JSON");
        all[0].clone()
    }

    /// The config of an image.
    pub(crate) fn image(&self, image: &str) -> Value {
        self.inspect(image)["config"].clone()
    }

    pub(crate) fn digest(&self, image: &str) -> String {
        self.inspect(image)["manifest"]["digest"].as_str().expect("a digest").to_owned()
    }
}

/// What says that a step ran, and that it did not.
pub(crate) fn runs(what: &str) -> String {
    format!("{what} | --> {what}")
}

pub(crate) fn is_known(what: &str) -> String {
    format!("{what} | *cached* --> {what}")
}

pub(crate) const FOR_ALL: [&str; 4] = ["-e", "FOR=tests", "-e", "USERS=all"];

#[test]
fn an_app_of_two_buildpacks() {
    let Some(packed) = Packed::new() else { return };
    let build = || packed.pack("build", &[&["app:1"][..], &FOR_ALL].concat()).expect(0);
    let first = build();
    let banners = [
        "===> ANALYZING\n",
        "===> DETECTING\n",
        "2 of 3 buildpacks participating\ntest/one 1.0\ntest/two 2.0\n",
    ];
    for line in banners.into_iter().chain([
        "===> BUILDING\n",
        "===> EXPORTING\n",
        "Successfully built image app:1\n",
        "| for = \"tests\"",
    ]) {
        assert!(first.stderr.contains(line), "{line}: {}", first.stderr);
    }
    assert_eq!(packed.0.rb(["run", "app:1"]).expect(0).stdout, "launched as web: hello world\n");
    let config = packed.image("app:1");
    let labels = &config["config"]["Labels"];
    let metadata: Value =
        serde_json::from_str(labels["io.buildpacks.lifecycle.metadata"].as_str().expect("a label"))
            .expect("JSON");
    // What the label says of layers is what the image has.
    let diff_ids = config["rootfs"]["diff_ids"].as_array().expect("layers");
    let said = [
        &metadata["runImage"]["topLayer"],
        &metadata["buildpacks"][0]["layers"]["greet"]["sha"],
        &metadata["buildpacks"][1]["layers"]["two"]["sha"],
        &metadata["sbom"]["sha"],
        &metadata["app"][0]["sha"],
        &metadata["launcher"]["sha"],
        &metadata["config"]["sha"],
        &metadata["process-types"]["sha"],
    ];
    assert_eq!(diff_ids.iter().collect::<Vec<_>>(), said);
    assert_eq!(metadata["buildpacks"][0]["store"]["metadata"]["kept"], "yes");
    assert_eq!(metadata["buildpacks"][0]["layers"].as_object().map(serde_json::Map::len), Some(1));
    assert_eq!(
        (&labels["made.by"], &labels["io.buildpacks.base.distro.name"]),
        (&json!("one"), &json!("busy"))
    );
    assert_eq!(config["config"]["Entrypoint"], json!(["/cnb/process/web"]));
    assert_eq!(
        (&config["config"]["WorkingDir"], &config["created"]),
        (&json!("/workspace"), &json!("1980-01-01T00:00:01Z"))
    );
    let environment = config["config"]["Env"].as_array().expect("variables");
    assert!(environment.contains(&json!("PATH=/cnb/process:/cnb/lifecycle:/bin")));
    assert!(environment.contains(&json!("CNB_PLATFORM_API=0.15")));
    // Nothing changed: nothing runs, and the image is the same one.
    let digest = packed.digest("app:1");
    build().says("nothing to do: all");
    assert_eq!(packed.digest("app:1"), digest);
    // So it is where nothing was known.
    let Some(other) = Packed::new() else { return };
    other.pack("build", &[&["app:1"][..], &FOR_ALL].concat()).expect(0).says(&runs("build test/one@1.0"));
    assert_eq!(other.digest("app:1"), digest);
}

#[test]
fn layers_are_kept_from_build_to_build() {
    let Some(packed) = Packed::new() else { return };
    let build = |more: &[&str]| packed.pack("build", &[&["app:1"][..], more].concat()).expect(0);
    build(&["-e", "FOR=a", "-e", "USERS=all"]).says("seen before: 0").hides("is used again");
    let first = packed.image("app:1");
    // The plan of the first one changes; of what it made it finds again what it cached, and that it made a layer for the image.
    build(&["-e", "FOR=b", "-e", "USERS=all"]).says("seen before: 1").says("greet is used again");
    let second = packed.image("app:1");
    assert_eq!(first["rootfs"]["diff_ids"][1], second["rootfs"]["diff_ids"][1]);
    assert_eq!(packed.0.rb(["run", "app:1"]).expect(0).stdout, "launched as web: hello world\n");
    // The app changes, and with it the layer.
    packed.0.write("app/app.txt", "you");
    build(&["-e", "FOR=b", "-e", "USERS=all"]).says("seen before: 2").hides("is used again");
    assert_eq!(packed.0.rb(["run", "app:1"]).expect(0).stdout, "launched as web: hello you\n");
    // Another image has its own, unless it is said to follow this one.
    let other = |more: &[&str]| packed.pack("build", &[&["other:1"][..], more].concat()).expect(0);
    other(&["-e", "FOR=c"]).says("seen before: 0");
    other(&["-e", "FOR=d", "--previous-image", "app:2"]).says("seen before: 3");
    build(&["-e", "FOR=b", "-e", "USERS=all", "--clear-cache"])
        .says("seen before: 0")
        .says(&runs("detect test/two@2.0"));
}

#[test]
fn only_what_changes_runs() {
    let Some(packed) = Packed::new() else { return };
    packed.0.write("app/project.toml", "[_]\nschema-version=\"0.2\"\n[io.buildpacks]\nexclude=[\"*.log\"]\n");
    let build = || packed.pack("build", &[&["app:1"][..], &FOR_ALL].concat()).expect(0);
    build();
    packed.0.write("app/secret.log", "changed").write("app/other.log", "more");
    build().says("nothing to do: all");
    // Another module of the builder: those that are not it are known.
    packed.buildpack(
        "test_never",
        "1.0",
        "test/never",
        "#!/bin/sh\necho never again\nexit 100\n",
        "exit 1\n",
    );
    packed.builder(&["test/one@1.0", "test/never@1.0?", "test/two@2.0"]);
    let again = build();
    for known in ["detect test/one@1.0", "detect test/two@2.0", "build test/one@1.0", "build test/two@2.0"] {
        assert!(again.stderr.contains(&is_known(known)), "{known}: {}", again.stderr);
    }
    assert!(again.stderr.contains(&runs("detect test/never@1.0")), "{}", again.stderr);
}

#[test]
fn another_base_runs_nothing() {
    let Some(packed) = Packed::new() else { return };
    let build = || packed.pack("build", &[&["app:1"][..], &FOR_ALL].concat()).expect(0);
    build();
    let first = packed.image("app:1");
    packed.0.write(
        "Buildfile",
        "VERSION 1\nrun:\n    FROM run:1\n    COPY app/app.txt /etc/newer\n    SAVE IMAGE run:1\n",
    );
    packed.0.rb(["+run"]).expect(0);
    let again = build();
    for known in ["detect test/one@1.0", "detect test/two@2.0", "build test/one@1.0", "build test/two@2.0"] {
        assert!(again.stderr.contains(&is_known(known)), "{known}: {}", again.stderr);
        assert!(!again.stderr.contains(&runs(known)), "{known}: {}", again.stderr);
    }
    let second = packed.image("app:1");
    let above = |image: &Value, base: usize| {
        image["rootfs"]["diff_ids"].as_array().expect("layers").iter().skip(base).cloned().collect::<Vec<_>>()
    };
    // The layers of the app are the same ones, upon one more.
    assert_eq!(above(&first, 1), above(&second, 2));
}

#[test]
fn why_nothing_was_chosen() {
    let Some(packed) = Packed::new() else { return };
    packed.0.write("empty/other", "");
    let none = packed
        .0
        .rb(["pack", "build", "app:1", "-B", "builder:1", "-p", "empty", "--progress=plain"])
        .expect(1);
    none.says("group 1: a module that it needs did not pass\n  test/one@1.0: failed (exit code 100)\n")
        .says("no group of buildpacks passed detection")
        .says("rb pack detect --explain");
    let explained = packed.0.rb(["pack", "detect", "-B", "builder:1", "-p", "empty", "--explain"]).expect(1);
    assert!(
        explained.stdout.contains("test/never@1.0 (optional): failed (exit code 100)\n"),
        "{}",
        explained.stdout
    );
    assert!(
        explained.stdout.contains("======== Output: test/never@1.0 ========\nno thanks\nnot today\n"),
        "{}",
        explained.stdout
    );
    let chosen = packed.pack("detect", &[]).expect(0);
    assert_eq!(chosen.stdout, "test/one 1.0\ntest/two 2.0\n");
    // One that ends with an error is told with what it wrote; what a step says that failed is told by itself.
    packed.buildpack("test_two", "2.0", "test/two", "#!/bin/sh\necho broken; exit 7\n", BUILD_TWO);
    packed.builder(&["test/one@1.0", "test/two@2.0"]);
    packed
        .pack("build", &["app:1"])
        .expect(1)
        .says("test/two@2.0: ended with an error (exit code 7)")
        .says("broken\n");
    packed.buildpack("test_two", "2.0", "test/two", PASS, "#!/bin/sh\necho it is no use; exit 9\n");
    packed.builder(&["test/one@1.0", "test/two@2.0"]);
    packed.pack("build", &["app:1"]).expect(1).says("build test/two@2.0").says("it is no use");
}

#[test]
fn an_app_lies_where_it_is_wanted_and_has_a_name_of_its_own() {
    let Some(packed) = Packed::new() else { return };
    let build = |image: &str, more: &[&str]| packed.pack("build", &[&[image][..], more, &FOR_ALL].concat());
    build("app:1", &["--workspace", "/srv/app"]).expect(0);
    assert_eq!(packed.image("app:1")["config"]["WorkingDir"], "/srv/app");
    assert_eq!(packed.0.rb(["run", "app:1"]).expect(0).stdout, "launched as web: hello world\n");
    let pinned = format!("app@sha256:{}", "0".repeat(64));
    build(&pinned, &[]).expect(2).says("leave `@sha256:…` out");
    build("app:1", &["-t", &pinned]).expect(2).says("leave `@sha256:…` out");
}

#[test]
fn buildpacks_of_the_users_own() {
    let Some(packed) = Packed::new() else { return };
    packed.buildpack("test_mine", "1.0", "test/mine", PASS, BUILD_MINE);
    std::fs::rename(packed.0.project().join("buildpacks/test_mine/1.0"), packed.0.project().join("mine"))
        .expect("moves");
    let build = |more: &[&str]| packed.pack("build", &[&["app:1"][..], more].concat());
    let labels = || {
        packed.image("app:1")["config"]["Labels"]["io.buildpacks.build.metadata"]
            .as_str()
            .expect("a label")
            .to_owned()
    };
    build(&["-b", "test/one", "-b", "./mine", "-D", "task"]).expect(0);
    assert!(
        labels().starts_with(
            r#"{"buildpacks":[{"id":"test/one","version":"1.0"},{"id":"test/mine","version":"1.0"}]"#
        ),
        "{}",
        labels()
    );
    assert_eq!(packed.image("app:1")["config"]["Entrypoint"], json!(["/cnb/process/task"]));
    packed.0.write(
        "app/project.toml",
        "[_]\nschema-version=\"0.2\"\n[io.buildpacks]\nbuilder=\"builder:1\"\n[[io.buildpacks.pre.group]]\nuri=\"../mine\"\n\
         [[io.buildpacks.post.group]]\nid=\"my/script\"\n[io.buildpacks.post.group.script]\napi=\"0.10\"\n\
         inline=\"echo said by $TELLS; cat mine.txt\"\n[[io.buildpacks.build.env]]\nname=\"TELLS\"\nvalue=\"a script\"\n",
    );
    let by_project = packed.0.rb(["pack", "build", "app:1", "-p", "app", "--progress=plain"]).expect(0);
    by_project.says("said by a script").says("my/script").says("| mine");
    for (words, message) in [
        (&["-b", "test/none"][..], "the builder has no buildpack `test/none`"),
        (&["-b", "test/one@9"], "the builder has no version 9 of buildpack `test/one`, but 1.0"),
        (&["-b", "urn:cnb:registry:a/b@1"], "no registry of buildpacks is known here"),
        (&["-D", "nothing"], "no process is of type `nothing`"),
        (&["--interactive"], "`--interactive` is not part of this version of rb"),
        (&["--sparse"], "--sparse leaves layers out of layouts alone"),
        (&["--workspace", "/layers/x"], "--workspace `/layers/x` lies in /layers"),
        (&["--creation-time", "soon"], "--creation-time `soon` is no time"),
    ] {
        build(words).expect(2).says(message);
    }
    packed
        .0
        .rb(["pack", "build", "app:1", "-B", "run:1", "-p", "app"])
        .expect(2)
        .says("`run:1` is no builder");
    packed
        .0
        .rb(["pack", "build", "app:1", "-B", "builder:1", "-p", "none"])
        .expect(2)
        .says("there is no folder or zip archive `none`");
}

#[test]
fn what_lies_beside_an_image() {
    let Some(packed) = Packed::new() else { return };
    packed.buildpack("test_two", "2.0", "test/two", PASS, BUILD_BESIDE);
    packed.builder(&["test/two@2.0"]);
    packed.0.write("app/static/a.css", "a").write("db/user", "me");
    let words = [
        "app:1",
        "-t",
        "app:2",
        "--sbom-output-dir",
        "out",
        "--report-output-dir",
        "out",
        "--creation-time",
        "86400",
        "--network",
        "none",
    ];
    packed.pack("build", &[&words[..], &["--volume", "db:/platform/bindings/db:ro"]].concat()).expect(0);
    assert_eq!(packed.0.read("out/sbom/launch/test_two/lib/sbom.spdx.json"), "{}\n");
    let report = packed.0.read("out/report.toml");
    assert!(report.contains(&format!("digest = \"{}\"", packed.digest("app:2"))), "{report}");
    assert_eq!(packed.digest("app:1"), packed.digest("app:2"));
    let config = packed.image("app:1");
    assert_eq!(config["created"], "1970-01-02T00:00:00Z");
    let history: Vec<_> = config["history"]
        .as_array()
        .expect("lines")
        .iter()
        .filter_map(|line| line["created_by"].as_str())
        .collect();
    assert!(
        history.contains(&"Application Slice: 1") && history.contains(&"Application Slice: 2"),
        "{history:?}"
    );
}
