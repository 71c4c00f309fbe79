//! `rb pack` and `FROM BUILDPACKS` on a real buildkitd: the apps are those of the bundled runtime. `BUILDKIT` names a folder with one.

use serde_json::Value;

use crate::corpus::peer::{self, Peer};
use crate::engine::Tells as _;
use crate::env::{Run, is_root};
use crate::pack::{BUILD_BESIDE, FOR_ALL, PASS, Packed};
use crate::pack_creator::{CREATOR, with_creator};
use crate::pack_extensions;
use crate::registry::support::docker_registry::{DockerRegistry, Wants};

/// An app, and a daemon of its own; none where something is missing, which is told.
struct There {
    packed: Packed,
    engine: String,
    _daemon: Peer,
}

impl There {
    fn new(packed: Option<Packed>) -> Option<Self> {
        let packed = packed?;
        if !is_root() {
            eprintln!("stepping aside: buildkitd needs root");
            return None;
        }
        let folder = packed.0.state().with_file_name("buildkit");
        let settings = format!("[otel]\n  socketPath = {:?}\n", folder.join("otel"));
        let Some(daemon) = Peer::start(&folder, &settings) else {
            eprintln!("stepping aside: BUILDKIT names no folder with buildkitd");
            return None;
        };
        let engine = format!("--engine={}", peer::address(&folder));
        Some(Self { packed, engine, _daemon: daemon })
    }

    fn pack(&self, command: &str, more: &[&str]) -> Run {
        self.packed.pack(command, &[&[self.engine.as_str()], more].concat())
    }

    fn build(&self, image: &str, more: &[&str]) -> Run {
        self.pack("build", &[&[image], more].concat())
    }
}

#[test]
fn an_app_is_that_of_the_bundled_runtime() {
    let Some(there) = There::new(Packed::new()) else { return };
    let packed = &there.packed;
    packed.pack("build", &[&["here:1"][..], &FOR_ALL].concat()).expect(0);
    let first = there.build("there:1", &FOR_ALL).expect(0);
    for line in [
        "2 of 3 buildpacks participating\ntest/one 1.0\ntest/two 2.0\n",
        "===> EXPORTING\n",
        "Successfully built image there:1\n",
        "| seen before: 0",
    ] {
        assert!(first.stderr.contains(line), "{line}: {}", first.stderr);
    }
    assert_eq!(packed.image("there:1"), packed.image("here:1"));
    assert_eq!(packed.digest("there:1"), packed.digest("here:1"), "byte for byte");
    assert_eq!(packed.0.rb(["run", "there:1"]).expect(0).stdout, "launched as web: hello world\n");
    // Nothing changed: nothing runs.
    let again = there.build("there:1", &FOR_ALL).expect(0);
    assert!(again.stderr.contains("*cached* --> build test/one@1.0"), "{}", again.stderr);
    assert!(!again.stderr.contains("seen before"), "{}", again.stderr);
    assert_eq!(packed.digest("there:1"), packed.digest("here:1"));
    // What was kept comes back from a cache mount, and launch layers of the last time are used again.
    let changed = there.build("there:1", &["-e", "FOR=b", "-e", "USERS=all"]).expect(0);
    changed.says("seen before: 1").says("greet is used again");
    assert_eq!(
        packed.image("there:1")["rootfs"]["diff_ids"][1],
        packed.image("here:1")["rootfs"]["diff_ids"][1]
    );
    there
        .build("there:1", &["-e", "FOR=b", "-e", "USERS=all", "--clear-cache"])
        .expect(0)
        .says("seen before: 0");
    // Where the daemon keeps nothing, the last image in the store is what layers are used again of.
    let cold = ["-e", "FOR=c", "-e", "USERS=all", "--cache", "type=build;format=volume;name=none"];
    there.build("there:1", &cold).expect(0).says("seen before: 0").says("greet is used again");
    assert_eq!(packed.0.rb(["run", "there:1"]).expect(0).stdout, "launched as web: hello world\n");

    assert_eq!(there.pack("detect", &[]).expect(0).stdout, "test/one 1.0\ntest/two 2.0\n");
    let explained = there.pack("detect", &["--explain"]).expect(0).stdout;
    assert_eq!(explained, packed.pack("detect", &["--explain"]).expect(0).stdout);
}

#[test]
fn what_lies_beside_it_is_here_as_well() {
    let Some(there) = There::new(Packed::new()) else { return };
    let packed = &there.packed;
    packed.buildpack("test_two", "2.0", "test/two", PASS, BUILD_BESIDE);
    packed.builder(&["test/two@2.0"]);
    packed.0.write("app/static/a.css", "a").write("db/user", "me");
    let words = |name: &'static str, out: &'static str| {
        let words = ["--sbom-output-dir", out, "--report-output-dir", out, "--creation-time", "86400"];
        [&[name, "-t", "other:2"][..], &words, &["--volume", "db:/platform/bindings/db:ro"]].concat()
    };
    packed.pack("build", &words("here:1", "here")).expect(0);
    there.pack("build", &words("there:1", "there")).expect(0);
    assert_eq!(packed.digest("there:1"), packed.digest("here:1"));
    assert_eq!(packed.digest("other:2"), packed.digest("here:1"));
    let bill = "sbom/launch/test_two/lib/sbom.spdx.json";
    assert_eq!(packed.0.read(&format!("there/{bill}")), packed.0.read(&format!("here/{bill}")));
    let report = packed.0.read("there/report.toml").replace("there:1", "here:1");
    assert_eq!(report, packed.0.read("here/report.toml"));
    // What it cannot do is told before anything runs.
    for words in
        [["--cache", "type=build;format=bind;source=kept"], ["--publish", "--cache-image=example.com/c"]]
    {
        let refused = there.build("there:1", &words).expect(2);
        refused.tells("(--cache, --cache-image) on this machine").hides("===>");
    }
}

#[test]
fn an_app_goes_to_a_registry() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(registry) = DockerRegistry::start(&folder.path().join("registry"), &Wants::default()) else {
        return;
    };
    let Some(there) = There::new(Packed::new()) else { return };
    let name = |name: &str| format!("{}/{name}:1", registry.host);
    let told = |image: &str| -> Value {
        let told = there.packed.0.rb(["image", "inspect", "--remote", image]).expect(0).stdout;
        serde_json::from_str(&told).expect("is JSON")
    };
    there.packed.pack("build", &[&[name("here").as_str(), "--publish"][..], &FOR_ALL].concat()).expect(0);
    let first =
        there.build(&name("there"), &[&["--publish", "-t", &name("other")][..], &FOR_ALL].concat()).expect(0);
    let (here, far) = (told(&name("here"))[0].clone(), told(&name("there"))[0].clone());
    assert!(here["layers"].as_array().is_some_and(|layers| layers.len() > 3), "{here}");
    assert_eq!((&far["layers"], &far["manifest"]), (&here["layers"], &here["manifest"]), "byte for byte");
    assert_eq!(told(&name("other"))[0]["manifest"], here["manifest"]);
    // Data on stdout is what was pushed.
    let digest = here["manifest"]["digest"].as_str().expect("a digest");
    assert!(first.stdout.contains(digest) || first.stderr.contains(digest), "{first:?}");
    // It is in no store of this machine, and runs from there; its next build begins with what it has.
    let ran = there.packed.0.rb(["run", &name("there")]).expect(0);
    assert_eq!(ran.stdout, "launched as web: hello world\n");
    let changed = ["--publish", "-e", "FOR=b", "-e", "USERS=all"];
    there.build(&name("there"), &changed).expect(0).says("greet is used again");
    there.packed.0.write("app/app.txt", "moon");
    there.build(&name("there"), &changed).expect(0);
    assert_ne!(told(&name("there"))[0]["manifest"], here["manifest"]);
    assert_eq!(told(&name("here"))[0]["manifest"], here["manifest"]);
}

#[test]
fn an_app_upon_a_base_that_is_extended_there() {
    let Some(there) = There::new(pack_extensions::packed()) else { return };
    let packed = &there.packed;
    // BuildKit looks for names in /etc/passwd, which a base of busybox does not have.
    let generate = pack_extensions::GENERATE.replace("USER root", "USER 0:0");
    pack_extensions::extension(
        packed,
        "made",
        &[("bin/detect", pack_extensions::PROVIDES), ("bin/generate", &generate)],
    );
    packed.pack("build", &["here:1", "--extension=./extensions/made"]).expect(0);
    there.build("there:1", &["--extension=./extensions/made"]).expect(0).says("===> EXTENDING (RUN)");
    let cat = |path: &str| packed.0.rb(["run", "--entrypoint=cat", "there:1", path]).expect(0).stdout;
    assert_eq!((cat("/opt/extended").as_str(), cat("/opt/of-app").as_str()), ("extended\n", "world"));
    // Layers of extensions are BuildKit's, so these may have other diff ids; all else is the same.
    let (mut here, mut own) = (packed.image("here:1"), packed.image("there:1"));
    let ids = |config: &mut Value| -> Vec<Value> {
        config["rootfs"]["diff_ids"].take().as_array().expect("layers").clone()
    };
    let (of_here, of_own) = (ids(&mut here), ids(&mut own));
    let of_base = packed.image("run:1")["rootfs"]["diff_ids"].as_array().expect("layers").len();
    assert_eq!(of_here.len(), of_own.len());
    assert_eq!(of_here[..of_base], of_own[..of_base]);
    assert_eq!(of_here[of_base + 2..], of_own[of_base + 2..]);
    assert_eq!(own, here);
}

#[test]
fn the_builders_own_lifecycle_runs_there_too() {
    let Some(there) = There::new(Packed::new()) else { return };
    let packed = &there.packed;
    packed.0.write("creator", CREATOR);
    with_creator(packed);
    let build = |image: &str, more: &[&str]| {
        let words =
            ["pack", "build", "-B", "own:1", "-p", "app", "--progress=plain", "--lifecycle=builder", image];
        packed.0.rb(words.iter().chain(&FOR_ALL).chain(more))
    };
    build("here:1", &[]).expect(0);
    build("there:1", &[&there.engine]).expect(0).says("seen before: 0");
    // The stand-in's layer says when it was made; all else is the same.
    let (mut here, mut own) = (packed.image("here:1"), packed.image("there:1"));
    for config in [&mut here, &mut own] {
        assert!(config["rootfs"]["diff_ids"].as_array_mut().expect("layers").pop().is_some());
    }
    assert_eq!(own, here);
    let cat = packed.0.rb(["run", "--entrypoint=cat", "there:1", "/text"]).expect(0);
    assert_eq!(cat.stdout, "text of world\n");
    packed.0.write("app/app.txt", "you");
    build("there:1", &[&there.engine]).expect(0).says("seen before: 1");
}

#[test]
fn a_build_file_goes_on_from_an_app_there() {
    let Some(there) = There::new(Packed::new()) else { return };
    let packed = &there.packed;
    packed.0.write(
        "Buildfile",
        "VERSION 1\napp:\n    ARG word=here\n    \
         FROM BUILDPACKS --builder=builder:1 --env FOR=tests --env USERS=all ./app\n    \
         RUN cat /layers/test_one/greet/text > said && cat /layers/test_two/two/text built.txt >> said\n    \
         SAVE ARTIFACT said AS LOCAL got/\n    SAVE IMAGE $word:1\n",
    );
    packed.0.rb(["--progress=plain", &there.engine, "+app", "--word=there"]).expect(0);
    assert_eq!(packed.0.read("got/said"), "hello world\nvalue of one, all\nbuilt\n");
    packed.0.rb(["+app"]).expect(0);
    let (here, own) = (packed.image("here:1"), packed.image("there:1"));
    assert_eq!(own["config"], here["config"]);
    assert_eq!(packed.0.rb(["run", "there:1"]).expect(0).stdout, "launched as web: hello world\n");
    packed.0.write("app/app.txt", "you");
    packed.0.rb(["--progress=plain", &there.engine, "+app"]).expect(0).says("seen before: 1");
}
