//! `rb pack`: builders, packages, what is in them; rebasing, and bills of materials.
//!
//! Digests of layers that stand here were made by Go's archive/tar and the TOML library that pack uses: `tests/peers/pack`.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use rb_oci::Digest;
use serde_json::Value;

use crate::env::{Run, TestEnv};
use crate::git::git_host::GitHost;
use crate::push::folder;
use crate::registry::support::docker_registry::{DockerRegistry, Wants};
use crate::registry::support::scripted::{Reply, Scripted};

/// Layers of the builder of this file, but for that of the lifecycle, whose programs are nobody's.
const DIRS: &str = "sha256:9cdceb9e55a28e52c26a64f948698b7259eb4f2f0951e90504be4e6e1b8aa62b";
const MODULE: &str = "sha256:2a24450ac6a942a7dec2554fd8525b3b20e780f45da8241c47ae57fdad3f78db";
const ORDER: &str = "sha256:6e73de054b2b2f1575324f787e3f9fa913b1d42360d2f6ab79981e77bb5af061";
const STACK: &str = "sha256:278caffebe55607fd95cb4eb3a574fcac98f7ecb5ecbd099c5f0ebe8fde2e79a";
const RUN: &str = "sha256:baf7d2cef75f28b54cbf57db1d04ccb7b9e1b66aba3d30de5eba80e7b9049843";
const NOTHING: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

const BUILDPACK: &str = "api = \"0.10\"\n[buildpack]\nid = \"x/one\"\nversion = \"1\"\n";
const LIFECYCLE: &str = "[lifecycle]\nversion = \"0.21.0\"\n[apis.buildpack]\nsupported = [\"0.10\"]\n[apis.platform]\n\
                         supported = [\"0.12\", \"0.13\"]\n";
const BUILDER: &str = "description = \"d\"\n[[buildpacks]]\nuri = \"one\"\n[[order]]\n[[order.group]]\nid = \"x/one\"\n[build]\n\
                       image = \"test/build:1\"\n[[run.images]]\nimage = \"test/run:1\"\n[lifecycle]\nuri = \"cycle\"\n";

/// A buildpack, a lifecycle, a `builder.toml`, and the two base images in the store.
fn place() -> TestEnv {
    let env = TestEnv::new();
    env.write("base/file", "base\n");
    env.write(
        "base/Dockerfile",
        "FROM scratch\nCOPY file /etc/file\nENV CNB_USER_ID=1000 CNB_GROUP_ID=1001\nUSER 1000:1001\n",
    );
    for name in ["test/build:1", "test/run:1"] {
        env.rb(["build", "-q", "-t", name, "base"]).expect(0);
    }
    buildpack(&env, "one", BUILDPACK);
    env.write("cycle/lifecycle.toml", LIFECYCLE);
    for name in ["detector", "restorer", "analyzer", "builder", "exporter", "launcher", "creator"] {
        program(&env, &format!("cycle/lifecycle/{name}"), name);
    }
    env.write("builder.toml", BUILDER);
    env
}

fn buildpack(env: &TestEnv, folder: &str, text: &str) {
    env.write(&format!("{folder}/buildpack.toml"), text);
    program(env, &format!("{folder}/bin/build"), "#!/bin/sh\n");
    program(env, &format!("{folder}/bin/detect"), "#!/bin/sh\nexit 0\n");
    env.write(&format!("{folder}/note"), "hello\n");
    symlink("bin/build", env.project().join(folder).join("link")).expect("links");
}

fn program(env: &TestEnv, path: &str, text: &str) {
    env.write(path, text);
    std::fs::set_permissions(env.project().join(path), std::fs::Permissions::from_mode(0o755))
        .expect("modes");
}

/// What `rb image inspect` says of one image.
fn inspected(env: &TestEnv, name: &str) -> Value {
    let told = env.rb(["image", "inspect", name]).expect(0).stdout;
    let told: Value = serde_json::from_str(&told).expect("is JSON");
    told[0].clone()
}

fn diff_ids(image: &Value) -> Vec<String> {
    let ids = image["config"]["rootfs"]["diff_ids"].as_array().expect("a list");
    ids.iter().map(|id| id.as_str().expect("a text").to_owned()).collect()
}

fn label(image: &Value, name: &str) -> Value {
    let text =
        image["config"]["config"]["Labels"][name].as_str().unwrap_or_else(|| panic!("no {name}: {image:#}"));
    serde_json::from_str(text).expect("is JSON")
}

fn create(env: &TestEnv, more: &[&str]) -> Run {
    let mut words = vec!["pack", "builder", "create", "test/builder:1", "-c", "builder.toml"];
    words.extend(more);
    env.rb(words)
}

#[test]
fn a_builder_is_that_of_pack_and_the_same_each_time() {
    let env = place();
    let other = if cfg!(target_arch = "x86_64") { "linux/arm64" } else { "linux/amd64" };
    create(&env, &["-t", other]).expect(2).says("`test/build:1` is for ").says(other);
    let digest = create(&env, &["-l", "own=label"]).expect(0).stdout;
    let image = inspected(&env, "test/builder:1");
    let ids = diff_ids(&image);
    assert_eq!(ids.len(), 8, "{ids:?}");
    assert_eq!(
        [&ids[1], &ids[3], &ids[4], &ids[5], &ids[6], &ids[7]],
        [DIRS, MODULE, ORDER, STACK, RUN, NOTHING]
    );
    let layers = label(&image, "io.buildpacks.buildpack.layers");
    assert_eq!(layers, serde_json::json!({"x/one": {"1": {"api": "0.10", "layerDiffID": MODULE}}}));
    let metadata = label(&image, "io.buildpacks.builder.metadata");
    assert_eq!(metadata["lifecycle"]["api"]["platform"], "0.12");
    assert_eq!(metadata["buildpacks"][0]["id"], "x/one");
    assert_eq!(metadata["images"][0]["image"], "test/run:1");
    // As it is written, without the version that `order.toml` has.
    assert_eq!(
        label(&image, "io.buildpacks.buildpack.order")[0]["group"][0],
        serde_json::json!({"id": "x/one"})
    );
    assert_eq!(image["config"]["config"]["Labels"]["own"], "label");
    assert_eq!(image["config"]["config"]["WorkingDir"], "/layers");
    assert_eq!(image["config"]["created"], "1980-01-01T00:00:01Z");

    env.rb(["image", "unpack", "test/builder:1", "root"]).expect(0);
    assert_eq!(env.read("root/cnb/lifecycle/launcher"), "launcher");
    assert_eq!(env.read("root/cnb/buildpacks/x_one/1/note"), "hello\n");
    assert!(env.read("root/cnb/order.toml").contains("version = \"1\""));

    // Another machine, other times of files.
    let other = place();
    assert_eq!(create(&other, &["-l", "own=label"]).expect(0).stdout, digest);

    let told = env.rb(["pack", "builder", "inspect", "test/builder:1", "-o", "json", "--depth", "1"]);
    let told: Value = serde_json::from_str(&told.expect(0).stdout).expect("is JSON");
    assert_eq!(told["local_info"]["detection_order"][0]["buildpacks"][0]["version"], "1");
    assert_eq!(told["remote_info"], Value::Null);
    let people = env.rb(["pack", "builder", "inspect", "test/builder:1"]).expect(0).stdout;
    assert!(people.contains("Group #1:") && people.contains("x/one@1"), "{people}");
}

#[test]
fn mistakes_in_a_file_have_their_place() {
    let env = place();
    env.write("builder.toml", BUILDER.replace("image = \"test/build:1\"", "imgae = \"test/build:1\""));
    create(&env, &[])
        .expect(2)
        .says("there is no key `imgae` in [build]")
        .says("did you mean `image`?")
        .says("builder.toml:8:1");
    env.write("builder.toml", BUILDER.replace("id = \"x/one\"", "id = \"x/two\""));
    create(&env, &[]).expect(2).says("`x/two`, which the builder does not have");
    env.write("builder.toml", BUILDER.replace("uri = \"one\"", "uri = \"urn:cnb:registry:a/b\""));
    create(&env, &[])
        .expect(2)
        .says("no registry of buildpacks is known here")
        .says("rb pack config registries add NAME URL --default");
    env.write("builder.toml", BUILDER.replace("uri = \"one\"", "uri = \"./gone\""));
    create(&env, &[]).expect(2).says("does not exist");
    env.write("builder.toml", BUILDER.replace("test/build:1", "test/run:1"));
    std::fs::remove_file(env.project().join("cycle/lifecycle/creator")).expect("removes");
    create(&env, &[]).expect(2).says("`creator`");
    env.rb(["pack", "manifest", "create"]).expect(2).says("there is no command `rb pack manifest`");
}

#[test]
fn a_package_as_a_file_and_as_an_image() {
    let env = place();
    let composite = "api = \"0.10\"\n[buildpack]\nid = \"x/all\"\nversion = \"2\"\n[[order]]\n[[order.group]]\nid = \"x/one\"\n\
                     version = \"1\"\n";
    env.write("all/buildpack.toml", composite);
    env.write("all/package.toml", "[buildpack]\nuri = \".\"\n[[dependencies]]\nuri = \"../one\"\n");
    let package = ["pack", "buildpack", "package", "all.cnb", "-c", "all/package.toml", "--format", "file"];
    let first = env.rb(package).expect(0).stdout;
    assert_eq!(env.rb(package).expect(0).stdout, first);
    let told = env.rb(["pack", "buildpack", "inspect", "all.cnb"]).expect(0).stdout;
    assert!(told.contains("buildpack: x/all@2") && told.contains("x/one@1"), "{told}");

    // Pack's own files have names that begin with `/`.
    rooted(&env, "all.cnb", "packs.cnb");
    let told = env.rb(["pack", "buildpack", "inspect", "packs.cnb"]).expect(0).stdout;
    assert!(told.contains("x/all@2"), "{told}");
    env.rb(["image", "load", "-i", "packs.cnb"]).expect(2).says("leads out of it");

    // The same as an image, in one layer.
    env.rb(["pack", "buildpack", "package", "test/all:1", "-c", "all/package.toml", "--flatten"]).expect(0);
    let image = inspected(&env, "test/all:1");
    assert_eq!(diff_ids(&image).len(), 1);
    assert_eq!(label(&image, "io.buildpacks.buildpackage.metadata")["stacks"][0]["id"], "*");

    // A builder takes both; the layer of the package is the very one of the folder.
    env.write("builder.toml", BUILDER.replace("uri = \"one\"", "uri = \"all.cnb\""));
    create(&env, &[]).expect(0);
    let image = inspected(&env, "test/builder:1");
    assert!(diff_ids(&image).contains(&MODULE.to_owned()));
    assert_eq!(label(&image, "io.buildpacks.builder.metadata")["buildpacks"][1]["id"], "x/one");
    env.write("builder.toml", BUILDER.replace("uri = \"one\"", "image = \"test/all:1\""));
    create(&env, &[]).expect(0);
    let people = env.rb(["pack", "builder", "inspect", "test/builder:1"]).expect(0).stdout;
    assert!(people.contains("x/all@2"), "{people}");

    env.write("all/package.toml", "[buildpack]\nuri = \".\"\n");
    env.rb(package).expect(2).says("x/all@2 names x/one@1, which is not there");
}

/// Copies an archive, with names that begin with `/`.
fn rooted(env: &TestEnv, from: &str, to: &str) {
    let from = std::fs::File::open(env.project().join(from)).expect("opens");
    let to = std::fs::File::create(env.project().join(to)).expect("creates");
    let (mut from, mut to) = (tar::Archive::new(from), tar::Builder::new(to));
    for entry in from.entries().expect("reads") {
        let entry = entry.expect("reads");
        let mut header = entry.header().clone();
        let name = [b"/", &*entry.path_bytes()].concat();
        let field = &mut header.as_ustar_mut().expect("ustar").name;
        field.fill(0);
        field[..name.len()].copy_from_slice(&name);
        header.set_cksum();
        to.append(&header, entry).expect("writes");
    }
    to.finish().expect("ends");
}

/// Packs a folder of the project as others do.
fn pack_folder(env: &TestEnv, folder: &str, file: &str) {
    let packed = std::fs::File::create(env.project().join(file)).expect("creates");
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(packed, flate2::Compression::fast()));
    tar.follow_symlinks(false);
    tar.append_dir_all(".", env.project().join(folder)).expect("packs");
    tar.into_inner().and_then(flate2::write::GzEncoder::finish).expect("ends");
}

#[test]
fn packed_folders_and_hostile_ones() {
    let env = place();
    pack_folder(&env, "one", "one.tgz");
    let package = ["pack", "buildpack", "package", "test/one:1", "-p", "one.tgz"];
    env.rb(package).expect(0);
    assert_eq!(
        label(&inspected(&env, "test/one:1"), "io.buildpacks.buildpack.layers")["x/one"]["1"]["api"],
        "0.10"
    );

    // From the web, which takes its time.
    let bytes = std::fs::read(env.project().join("one.tgz")).expect("reads");
    let server = Scripted::start(move |_, _| {
        std::thread::sleep(std::time::Duration::from_millis(5500));
        Reply::new(200, &bytes[..])
    });
    let url = format!("http://{}/one.tgz", server.host);
    let told = env.rb(["--progress=plain", "pack", "buildpack", "inspect", &url]).expect(0);
    let told = told.says(&format!("load {url} | ")).says("nothing came for 5 s");
    assert!(told.stdout.contains("x/one@1"));

    let one_entry = |name: &[u8], size: u64| {
        let mut header = tar::Header::new_ustar();
        header.as_ustar_mut().expect("ustar").name[..name.len()].copy_from_slice(name);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_cksum();
        env.write("one.tgz", [header.as_bytes().as_slice(), &[0; 1024]].concat());
    };
    one_entry(b"../../own", 0);
    env.rb(package).expect(2).says("`../../own` leads out");
    one_entry(b"buildpack.toml", (32 << 30) + 1);
    env.rb(package).expect(2).says("bytes of content than are taken of one archive: 34359738368");
    env.write("one.tgz", "no archive\n");
    env.rb(package).expect(2).says("one.tgz");
}

#[test]
fn files_of_a_new_module_make_a_package() {
    let env = TestEnv::new();
    env.rb(["pack", "buildpack", "new", "me/new", "--targets", "linux/amd64:debian@12"]).expect(0);
    assert!(env.read("new/buildpack.toml").contains("id = \"me/new\""));
    env.rb(["pack", "buildpack", "new", "me/new"]).expect(2).says("is there already");
    env.rb(["pack", "buildpack", "new", "a b"]).expect(2).says("cannot be the id of a module");
    assert!(!env.has("a b"));
    env.rb(["pack", "buildpack", "package", "test/new", "-p", "new"]).expect(0);
    env.rb(["pack", "extension", "new", "me/more", "-p", "ext"]).expect(0);
    env.rb(["pack", "extension", "package", "more.cnb", "-p", "ext", "-f", "file"]).expect(0);
    let told = env.rb(["pack", "extension", "inspect", "more.cnb"]).expect(0).stdout;
    assert!(told.contains("extension: me/more@1.0.0"), "{told}");
}

/// Makes an app's image on a run image that the store has.
fn app(env: &TestEnv, name: &str, run: &str) {
    let top = diff_ids(&inspected(env, run)).pop().expect("a layer");
    let metadata = format!(
        r#"io.buildpacks.lifecycle.metadata={{"app":[],"runImage":{{"topLayer":"{top}","reference":"old","image":"{run}"}}}}"#
    );
    let build = r#"io.buildpacks.build.metadata={"buildpacks":[{"id":"x/one","version":"1"}],"processes":[{"type":"web","command":["/app"],"args":["-v"],"direct":true}]}"#;
    env.write("app/main", "app\n");
    env.write("app/Dockerfile", format!("FROM {run}\nCOPY main /app\nENTRYPOINT [\"/cnb/process/web\"]\n"));
    env.rb(["build", "-q", "-t", name, "--label", &metadata, "--label", build, "app"]).expect(0);
}

#[test]
fn an_app_on_another_base() {
    let env = place();
    app(&env, "test/app:1", "test/run:1");
    let told = env.rb(["pack", "inspect", "test/app:1"]).expect(0).stdout;
    assert!(told.contains("web (default): /app -v") && told.contains("test/run:1"), "{told}");
    for (format, text) in
        [("yaml", "\"rebasable\": true"), ("toml", "rebasable = true"), ("json", "\"rebasable\": true")]
    {
        let told = env.rb(["pack", "inspect", "test/app:1", "--output", format]).expect(0).stdout;
        assert!(told.contains(text), "{told}");
    }
    let before = diff_ids(&inspected(&env, "test/app:1"));

    env.write("base/file", "newer\n");
    env.rb(["build", "-q", "-t", "test/run:1", "base"]).expect(0);
    let base = diff_ids(&inspected(&env, "test/run:1"));
    env.rb(["pack", "rebase", "test/app:2", "--previous-image", "test/app:1", "--report-output-dir", "."])
        .expect(0);
    let image = inspected(&env, "test/app:2");
    assert_eq!(diff_ids(&image), [&base[..], &before[1..]].concat());
    let said = &label(&image, "io.buildpacks.lifecycle.metadata")["runImage"];
    assert_eq!(said["topLayer"].as_str(), base.last().map(String::as_str));
    assert!(env.read("report.toml").contains("test/app:2"));
    assert_eq!(diff_ids(&inspected(&env, "test/app:1")), before);
    env.rb(["image", "unpack", "test/app:2", "root"]).expect(0);
    assert_eq!((env.read("root/etc/file"), env.read("root/app")), ("newer\n".to_owned(), "app\n".to_owned()));

    env.rb(["build", "-q", "-t", "test/other:1", "base"]).expect(0);
    let other = ["pack", "rebase", "test/app:1", "--run-image", "test/other:1"];
    env.rb(other).expect(2).says("none of the bases").says("--force");
    env.rb(other.into_iter().chain(["--force"])).expect(0).says("none of the bases");
    env.rb(["pack", "rebase", "test/run:1"]).expect(2).says("buildpacks did not build it");
}

#[test]
fn bills_of_materials() {
    let env = place();
    env.write("sbom/layers/sbom/launch/x_one/sbom.cdx.json", "{\"bom\":1}\n");
    env.write("sbom/Dockerfile", "FROM test/run:1\nCOPY layers /layers\n");
    env.rb(["build", "-q", "-t", "test/bom:0", "sbom"]).expect(0);
    let layer = diff_ids(&inspected(&env, "test/bom:0")).pop().expect("a layer");
    let metadata = format!(r#"io.buildpacks.lifecycle.metadata={{"sbom":{{"sha":"{layer}"}}}}"#);
    env.rb(["build", "-q", "-t", "test/bom:1", "--label", &metadata, "sbom"]).expect(0);
    env.rb(["pack", "sbom", "download", "test/bom:1", "-o", "out"]).expect(0);
    assert_eq!(env.read("out/layers/sbom/launch/x_one/sbom.cdx.json"), "{\"bom\":1}\n");
    env.rb(["pack", "sbom", "download", "test/bom:0"]).expect(2).says("has no bills of materials");
    env.rb(["pack", "sbom", "download", "test/gone"]).expect(2).says("--remote");
}

#[test]
fn on_a_registry() {
    let folder = folder();
    let Some(registry) = DockerRegistry::start(&folder.path().join("registry"), &Wants::default()) else {
        return;
    };
    let env = place();
    let name = |rest: &str| format!("{}/{rest}", registry.host);
    app(&env, "test/app:1", "test/run:1");
    for (image, to) in [("test/run:1", "run:1"), ("test/build:1", "build:1"), ("test/app:1", "app:1")] {
        env.rb(["image", "push", image, &name(to)]).expect(0);
    }
    env.write("base/file", "newer\n");
    env.rb(["build", "-q", "-t", "test/run:2", "base"]).expect(0);
    env.rb(["image", "push", "test/run:2", &name("run:2")]).expect(0);

    // Another machine: nothing of it is here, and nothing comes.
    let other = place();
    let (app, run) = (name("app:1"), name("run:2"));
    let words = ["pack", "rebase", "--publish", "--force", "--run-image", &run, &app];
    let done = other.rb(words).expect(0);
    assert!(done.stdout.starts_with("sha256:"), "{done:?}");
    let told = other.rb(["image", "inspect", "--remote", &app]).expect(0).stdout;
    let told: Value = serde_json::from_str(&told).expect("is JSON");
    let newer = diff_ids(&inspected(&env, "test/run:2"));
    assert_eq!(diff_ids(&told[0])[0], newer[0]);
    for layer in told[0]["layers"].as_array().expect("a list") {
        let digest: Digest = layer["digest"].as_str().expect("a text").parse().expect("a digest");
        let blob = other.state().join("blobs/sha256").join(digest.hex());
        assert!(!blob.exists(), "{digest} was fetched");
    }

    other.write(
        "builder.toml",
        BUILDER.replace("test/build:1", &name("build:1")).replace("test/run:1", &name("run:1")),
    );
    let words = [
        "pack",
        "builder",
        "create",
        &name("builder:1"),
        "-c",
        "builder.toml",
        "--publish",
        "--tag",
        &name("builder:2"),
    ];
    let digest = other.rb(words).expect(0).stdout;
    let told = env.rb(["image", "inspect", "--remote", &name("builder:2")]).expect(0).stdout;
    assert!(told.contains(digest.trim()), "{told}");
    let told = env.rb(["pack", "builder", "inspect", &name("builder:1"), "-o", "json"]).expect(0).stdout;
    let told: Value = serde_json::from_str(&told).expect("is JSON");
    assert_eq!(told["remote_info"]["buildpacks"][0]["id"], "x/one");
    assert_eq!(told["local_info"], Value::Null);
}

#[test]
fn ids_of_a_registry_of_buildpacks() {
    let folder = folder();
    let Some(registry) = DockerRegistry::start(&folder.path().join("registry"), &Wants::default()) else {
        return;
    };
    let env = place();
    let image = format!("{}/one", registry.host);
    let words = ["pack", "buildpack", "package", &image, "-p", "one", "--publish"];
    let digest = env.rb(words).expect(0).stdout.trim().to_owned();
    let host = GitHost::start();
    let index = host.repository("team/index");
    let line = format!(r#"{{"ns":"x","name":"one","version":"1","yanked":false,"addr":"{image}@{digest}"}}"#);
    index.write("3/on/x_one", &format!("{line}\n"));
    index.commit();
    let config = |words: &[&str]| drop(env.rb(["pack", "config"].iter().chain(words)).expect(0));
    config(&["registries", "add", "own", &host.url("team/index")]);
    let builder = |uri: &str| {
        env.write("builder.toml", BUILDER.replace("uri = \"one\"", &format!("uri = \"{uri}\"")));
    };

    // In a builder: by its URN, and, once one is the default, by the id alone.
    builder("urn:cnb:registry:x/one@1");
    create(&env, &[]).expect(2).says("no registry of buildpacks is known here");
    create(&env, &["-R", "none"]).expect(2).says("there is no registry of buildpacks `none`");
    create(&env, &["-R", "own"]).expect(0);
    let by_urn = inspected(&env, "test/builder:1");
    assert!(diff_ids(&by_urn).contains(&MODULE.to_owned()));
    config(&["registries", "default", "own"]);
    builder("x/one");
    create(&env, &[]).expect(0);
    assert_eq!(inspected(&env, "test/builder:1")["manifest"]["digest"], by_urn["manifest"]["digest"]);
    builder("urn:cnb:registry:x/one@2");
    create(&env, &[]).expect(2).says("the registry has no version 2 of buildpack `x/one`");

    // In a package, as a module to look into, and into the store.
    let composite = "api = \"0.10\"\n[buildpack]\nid = \"x/all\"\nversion = \"2\"\n[[order]]\n[[order.group]]\nid = \"x/one\"\n\
                     version = \"1\"\n";
    env.write("all/buildpack.toml", composite);
    env.write(
        "all/package.toml",
        "[buildpack]\nuri = \".\"\n[[dependencies]]\nuri = \"urn:cnb:registry:x/one\"\n",
    );
    env.rb(["pack", "buildpack", "package", "all.cnb", "-c", "all/package.toml", "-f", "file"]).expect(0);
    let told = env.rb(["pack", "buildpack", "inspect", "all.cnb"]).expect(0).stdout;
    assert!(told.contains("x/one@1"), "{told}");
    let told = env.rb(["pack", "buildpack", "inspect", "-r", "own", "x/one"]).expect(0).stdout;
    assert!(told.contains("buildpack: x/one@1"), "{told}");
    assert_eq!(
        env.rb(["pack", "buildpack", "pull", "urn:cnb:registry:x/one"]).expect(0).stdout.trim(),
        digest
    );
    env.rb(["image", "inspect", &format!("{image}@{digest}")]).expect(0);
    env.rb(["pack", "buildpack", "pull", &format!("docker://{image}:latest")]).expect(0);
    env.rb(["image", "inspect", &image]).expect(0);
    env.rb(["pack", "buildpack", "pull", "./one"]).expect(2).says("`./one` is no image");
}
