//! `rb pack build` beside the lifecycle's `creator`: the same layers, config, history and labels, byte for byte.
//!
//! `LIFECYCLE` names a folder with the reference's program; it runs as a step of `rb` and exports an OCI layout. What it made lies in
//! `pack_lifecycle.json` beside this file, with which ours is compared where there is no such program; `RB_UPDATE=1` writes it anew.
//! Left out is what may differ: the base's layers and names, and the version of the launcher.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::env::TestEnv;
use crate::pack::{PASS, Packed};
use crate::pack_creator::with_creator;

/// All that a layer can hold, and all that can be said of one.
const BUILD_ALL: &str = r#"#!/bin/sh
set -e
rm -rf "$1/all" "$1/unused"
mkdir -p "$1/all/bin" "$1/all/empty" "$1/all/env" "$1/all/env.launch/web" "$1/all/env.build" "$1/all/profile.d" "$1/all/exec.d/web"
cd "$1/all"
echo program > bin/program
chmod 4755 bin/program
ln -s ../bin/program "bin/a link"
ln -s /nowhere bin/dangling
ln bin/program bin/second
echo é > "umlaut é"
long=0123456789012345678901234567890123456789
mkdir -p "$long/$long/$long/$long"
echo deep > "$long/$long/$long/$long/$long$long.txt"
printf v > env/ALL.default
printf p > env/ALL.prepend
printf : > env/ALL.delim
printf w > env.launch/web/WEB
printf b > env.build/BUILD
echo 'export PROFILE=1' > profile.d/one.sh
printf '#!/bin/sh\n' > exec.d/web/hook
chmod 600 profile.d/one.sh
chmod 2755 empty
printf '[types]\nlaunch=true\nbuild=true\ncache=true\n[metadata]\nlist=[1,2,3]\n[metadata.table]\nb="<&>"\na=1.5\n' > "$1/all.toml"
mkdir "$1/unused" "$1/z"
printf '[types]\nlaunch=true\n' > "$1/z.toml"
printf '[types]\ncache=true\n' > "$1/unused.toml"
printf '{"of":"layer"}' > "$1/all.sbom.spdx.json"
printf '{"of":"launch"}' > "$1/launch.sbom.spdx.json"
printf '{"of":"build"}' > "$1/build.sbom.spdx.json"
cat > "$1/launch.toml" <<T
[[labels]]
key="made.by"
value="all of it <&> \"é\""
[[processes]]
type="web"
command=["program", "--fixed"]
args=["one", "two words"]
default=true
[[processes]]
type="worker.long-name_1"
command=["sh", "-c"]
working-dir="/tmp"
[[slices]]
paths=["static/*", "none/*"]
[[slices]]
paths=["deep/**", "*.md"]
T
printf '[metadata]\n"a key"="kept"\n' > "$1/store.toml"
"#;

/// Changes the app, and takes the default process over.
const BUILD_LAST: &str = r#"#!/bin/sh
set -e
[ "$BUILD" = b ]
[ "$ALL" = p:v ]
[ "$OF_USER" = "said by the user" ]
[ "$CNB_EXEC_ENV" = production ]
rm removed.txt
mkdir made
echo made > made/file
ln -s file made/link
mkdir "$1/tool"
printf '[types]\nbuild=true\n' > "$1/tool.toml"
printf '[[processes]]\ntype="web"\ncommand=["last"]\n[[processes]]\ntype="task"\ncommand=["true"]\ndefault=true\n' > "$1/launch.toml"
"#;

/// The order of the builder, as the lifecycle reads it.
const ORDER: &str = r#"[[order]]
[[order.group]]
id="test/all"
version="1.2.3"
[[order.group]]
id="test/never"
version="1.0"
optional=true
[[order.group]]
id="test/tests"
version="1"
optional=true
[[order.group]]
id="test/last"
version="2"
"#;

/// What the reference made.
const RECORDED: &str = "pack_lifecycle.json";

/// The app, and a builder of two modules.
fn packed() -> Option<Packed> {
    let packed = Packed::new()?;
    packed.buildpack("test_all", "1.2.3", "test/all", PASS, BUILD_ALL);
    packed.buildpack("test_last", "2", "test/last", PASS, BUILD_LAST);
    // Which is for tests alone, and no part of a build for production.
    packed.buildpack("test_tests", "1", "test/tests", PASS, "#!/bin/sh\nexit 1\n");
    for (folder, id, more) in [
        ("test_tests/1", "id=\"test/tests\"\nversion=\"1\"", "exec-env=[\"test\"]\n"),
        ("test_last/2", "id=\"test/last\"\nversion=\"2\"", ""),
    ] {
        let about = format!("api=\"0.12\"\n[buildpack]\n{id}\n{more}");
        packed.0.write(&format!("buildpacks/{folder}/buildpack.toml"), about);
    }
    packed.builder(&["test/all@1.2.3", "test/never@1.0?", "test/tests@1?", "test/last@2"]);
    let app = [
        ("static/a.css", "a"),
        ("static/sub/b.css", "b"),
        ("deep/one/two/three", "3"),
        ("readme.md", "read"),
        ("removed.txt", "x"),
        (".hidden", "h"),
        ("name with spaces & é", "s"),
    ];
    for (path, text) in app {
        packed.0.write(&format!("app/{path}"), text);
    }
    Some(packed)
}

/// Has the reference build the same; returns the config of its image.
fn of_lifecycle(env: &TestEnv, program: &Path) -> Value {
    std::fs::copy(program.join("lifecycle"), env.project().join("creator")).expect("copies the lifecycle");
    let (run, made) = ("layout/index.docker.io/library/run/1", "layout/index.docker.io/library/app/1");
    env.write("order.toml", ORDER)
        .write("run.toml", "[[images]]\nimage=\"run:1\"\n")
        .write("layout/none", "");
    std::fs::create_dir_all(env.project().join("layout/index.docker.io/library/run")).expect("makes folders");
    env.rb(["image", "save", "--format=oci-dir", "-o", run, "run:1"]).expect(0);
    let text = "VERSION 1\ncreator:\n    FROM builder:1\n    USER root\n    \
         RUN echo user:x:1000:1000::/root:/bin/sh >> /etc/passwd\n    \
         COPY --chmod=0755 creator /cnb/lifecycle/creator\n    COPY order.toml run.toml /cnb/\n    \
         COPY --chown=1000:1000 --dir layout /\n    COPY --chown=1000:1000 app/. /workspace/\n    \
         RUN printf 'said by the user' > /platform/env/OF_USER\n    \
         ENV CNB_EXPERIMENTAL_MODE=quiet\n    ENV CNB_PLATFORM_API=0.15\n    \
         RUN /cnb/lifecycle/creator -layout -layout-dir /layout -run-image run:1 -app /workspace -uid 1000 -gid 1000 \
         -skip-restore app:1\n    \
         SAVE ARTIFACT /layout AS LOCAL peer\n";
    env.write("Buildfile", text);
    env.rb(["+creator"]).expect(0);
    let place = env.project().join("peer").join(made.trim_start_matches("layout/"));
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:"));
        read(&place.join("blobs/sha256").join(digest.expect("a digest")))
    };
    blob(&blob(&read(&place.join("index.json"))["manifests"][0])["config"])
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("reads")).expect("is JSON")
}

/// Empties the first value of a key in JSON, which is a text.
fn without(text: &str, key: &str) -> String {
    let begin = format!("\"{key}\":\"");
    let (before, value) = text.split_once(&begin).unwrap_or_else(|| panic!("no {key}: {text}"));
    let (_, after) = value.split_once('"').expect("an end");
    format!("{before}{begin}\"{after}")
}

/// Returns what an image has above its base.
pub(crate) fn above(config: &Value, base: &Value) -> Value {
    let after = |image: &Value, place: &str| -> Vec<Value> {
        let all = |image: &Value| image.pointer(place).and_then(Value::as_array).cloned().unwrap_or_default();
        all(image).split_off(all(base).len())
    };
    let mut above = config["config"].clone();
    let labels = above["Labels"].as_object_mut().expect("labels");
    let metadata = "io.buildpacks.lifecycle.metadata";
    let text = labels[metadata].as_str().expect("a text");
    // How it is written counts, too: digests are of texts.
    let text = ["topLayer", "reference"].into_iter().fold(text.to_owned(), |text, key| without(&text, key));
    labels.insert(metadata.to_owned(), json!(text));
    let build = "io.buildpacks.build.metadata";
    let text =
        labels[build].as_str().expect("a text").replace(r#""version":"0.0.0""#, r#""version":"0.21.0""#);
    labels.insert(build.to_owned(), json!(text));
    let keys = ["architecture", "author", "created", "os", "variant"];
    let about: serde_json::Map<_, _> =
        keys.into_iter().map(|key| (key.to_owned(), config[key].clone())).collect();
    json!({
        "about": about, "config": above, "diff_ids": after(config, "/rootfs/diff_ids"), "history": after(config, "/history"),
    })
}

#[test]
fn an_image_is_what_the_lifecycle_makes() {
    let Some(packed) = packed() else { return };
    let base = packed.image("run:1");
    packed.pack("build", &["app:1", "-e", "OF_USER=said by the user"]).expect(0);
    let ours = above(&packed.image("app:1"), &base);
    assert_eq!(ours["config"]["Labels"]["io.buildpacks.exec-env"], "production");
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cli").join(RECORDED);
    let program = std::env::vars_os().find(|(name, _)| name == "LIFECYCLE");
    let theirs = match program {
        Some((_, program)) => above(&of_lifecycle(&packed.0, &PathBuf::from(program)), &base),
        None => read(&recorded),
    };
    if std::env::vars_os().any(|(name, _)| name == "RB_UPDATE") {
        let text = serde_json::to_string_pretty(&theirs).expect("is JSON");
        std::fs::write(&recorded, text + "\n").expect("writes");
    }
    assert_eq!(ours, theirs, "ours: {ours:#}\ntheirs: {theirs:#}");
}

#[test]
fn the_builders_own_lifecycle_makes_the_same_image() {
    let program = std::env::vars_os().find(|(name, _)| name == "LIFECYCLE");
    let Some((_, program)) = program else {
        eprintln!("not run: --lifecycle=builder with the reference; LIFECYCLE names a folder with it");
        return;
    };
    let Some(packed) = packed() else { return };
    std::fs::copy(Path::new(&program).join("lifecycle"), packed.0.project().join("creator")).expect("copies");
    with_creator(&packed);
    let base = packed.image("run:1");
    let build = |image: &str, more: &[&str]| {
        let words = ["pack", "build", "-B", "own:1", "-p", "app", "--progress=plain", image, "-e"];
        packed.0.rb(words.iter().chain(&["OF_USER=said by the user"]).chain(more)).expect(0)
    };
    build("ours:1", &["--sbom-output-dir", "ours"]);
    build(
        "theirs:1",
        &["--lifecycle=builder", "--sbom-output-dir", "theirs", "--report-output-dir", "theirs"],
    )
    .says("===> EXPORTING");
    let compare = || {
        let (ours, theirs) = (packed.image("ours:1"), packed.image("theirs:1"));
        assert_eq!(above(&ours, &base), above(&theirs, &base));
        let label = "io.buildpacks.lifecycle.metadata";
        assert_eq!(ours["config"]["Labels"][label], theirs["config"]["Labels"][label]);
        assert_eq!(ours["rootfs"], theirs["rootfs"]);
    };
    compare();
    let sbom = "sbom/launch/test_all/all/sbom.spdx.json";
    assert_eq!(packed.0.read(&format!("ours/{sbom}")), packed.0.read(&format!("theirs/{sbom}")));
    assert!(packed.0.read("theirs/report.toml").contains("digest = \"sha256:"));
    build("theirs:1", &["--lifecycle=builder"]).says("nothing to do: all");
    // The app changes: what was kept comes back.
    packed.0.write("app/readme.md", "anew");
    let more = ["--creation-time", "86400", "-D", "worker.long-name_1"];
    build("ours:1", &more);
    build("theirs:1", &[&more[..], &["--lifecycle=builder"]].concat())
        .says("Restoring data for \"test/all:all\"");
    compare();
    // Nothing kept, and nothing at hand.
    build("theirs:1", &[&more[..], &["--lifecycle=builder", "--clear-cache", "--network", "none"]].concat())
        .hides("Restoring data for");
    compare();
}
