//! Images between registries, layouts, archives and the store: copied, saved, loaded, unpacked.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::env::TestEnv;
use crate::push::{Place, digest_of, folder, skopeo};
use crate::registry::support::docker_registry::{DockerRegistry, Wants};

#[test]
fn images_are_copied_between_registries_layouts_and_archives() {
    let Some(place) = Place::new(&Wants::default()) else { return };
    let other = folder();
    let other = DockerRegistry::start(&other.path().join("registry"), &Wants::default()).expect("starts");
    place.saves("app");
    place.env.rb(["+image"]).expect(0);
    let first = format!("docker://{}", place.name("app:1"));
    let second = format!("docker://{}/mirror/app:1", other.host);
    let copy = |from: &str, to: &str| place.env.rb(["image", "copy", from, to]).expect(0);
    let pushed = digest_of(&copy("app", &first));
    copy(&first, &second).says("2 blobs sent");
    copy(&first, &second).says("2 blobs were there");
    assert_eq!(digest_of(&copy(&second, "oci:layout:v1")), pushed);
    copy("oci:layout:v1", "oci:layout:v2");
    let index: Value = serde_json::from_str(&place.env.read("layout/index.json")).expect("JSON");
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2));
    copy("oci:layout:v2", "oci-archive:app.tar:again:2");
    assert_eq!(digest_of(&copy("oci-archive:app.tar", "back:1")), pushed);
    let raw = place.env.rb(["image", "inspect", "--raw", &second]).expect(0).stdout;
    assert_eq!(rb_oci::Digest::of(&raw).to_string(), pushed);
    let inspected = place.env.rb(["image", "inspect", "back:1"]).expect(0).stdout;
    assert!(inspected.contains(&pushed), "{inspected}");
    // What is not there, and words that others have.
    let missing = format!("docker://{}", place.name("none:1"));
    place.env.rb(["image", "copy", &missing, "x"]).expect(2).says("not found");
    place.env.rb(["image", "copy", "docker-daemon:x", "y"]).expect(2).says("oci-archive:");
    place.env.rb(["image", "copy", "ap", "y"]).expect(2).says("did you mean `app`");
    let path = place.env.project();
    skopeo(&["inspect", &format!("oci:{}:v2", path.join("layout").display())]);
}

#[test]
fn a_layout_that_broke_off_is_finished_by_the_next_copy() {
    let env = TestEnv::new();
    env.write("Buildfile", "VERSION 1\nt:\n    FROM scratch\n    COPY f /f\n    SAVE IMAGE app:1\n");
    env.write("f", "f");
    env.rb(["+t"]).expect(0);
    // As a full disk leaves them.
    std::fs::create_dir_all(env.project().join("blobs-only/blobs/sha256")).expect("makes");
    env.write("no-index/oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
    for folder in ["blobs-only", "no-index"] {
        env.rb(["image", "copy", "app:1", &format!("oci:{folder}:1")]).expect(0);
        env.rb(["image", "inspect", &format!("oci:{folder}:1")]).expect(0);
    }
    env.write("other/blobs/of-mine", "");
    env.write("other/file", "");
    env.rb(["image", "copy", "app:1", "oci:other:1"]).expect(2).says("is no OCI layout");
    // What the disk says is of the disk.
    env.write("broken/blobs", "no folder");
    env.rb(["image", "copy", "app:1", "oci:broken:1"]).expect(3).says("cannot write");
}

#[test]
fn what_skopeo_saved_is_loaded_and_what_is_saved_comes_back_the_same() {
    let Some(place) = Place::new(&Wants::default()) else { return };
    place.saves("app:1");
    place.env.rb(["+image"]).expect(0);
    let project = place.env.project();
    place.env.rb(["image", "save", "app:1", "-o", "app.tar"]).expect(0);
    let digest = |env: &TestEnv, name: &str| {
        let text = env.rb(["image", "inspect", name]).expect(0).stdout;
        let value: Value = serde_json::from_str(&text).expect("JSON");
        value[0]["manifest"]["digest"].as_str().expect("text").to_owned()
    };
    let saved = digest(&place.env, "app:1");
    let other = TestEnv::new();
    let archive = project.join("app.tar").display().to_string();
    assert_eq!(other.rb(["image", "load", "-i", &archive]).expect(0).stdout, "app:1\n");
    assert_eq!(digest(&other, "app:1"), saved);
    // From a stream, and packed.
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&std::fs::read(&archive).expect("reads")).expect("in memory");
    other.write("app.tar.gz", packed.finish().expect("in memory"));
    let third = TestEnv::new();
    let packed = other.project().join("app.tar.gz").display().to_string();
    let loaded = third.rb(["image", "load", "--json", "-i", &packed, "--name", "mine"]).expect(0).stdout;
    assert!(loaded.contains(&saved) && loaded.contains("mine:latest"), "{loaded}");
    place.env.rb(["image", "tag", "app:1", "app:2"]).expect(0);
    let child = Command::new(env!("CARGO_BIN_EXE_rb"))
        .args(["image", "save", "app:1", "app:2", "-o", "-"])
        .env_clear()
        .env("HOME", place.env.state())
        .env("RB_ROOT", place.env.state())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .expect("rb starts");
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    third.write("stdout.tar", child.stdout);
    assert_eq!(third.rb(["image", "load", "-i", "stdout.tar"]).expect(0).stdout, "app:1\napp:2\n");

    let source = format!("oci-archive:{archive}");
    for kind in ["docker-archive", "oci-archive"] {
        let file = third.project().join(format!("{kind}.tar"));
        let to = format!("{kind}:{}:skopeo/app:{kind}", file.display());
        if skopeo(&["copy", &source, &to]).is_none() {
            return;
        }
        let name = format!("skopeo/app:{kind}");
        let file = file.display().to_string();
        assert_eq!(third.rb(["image", "load", "-i", &file]).expect(0).stdout, format!("{name}\n"));
        let unpacked = format!("unpacked-{kind}");
        third.rb(["image", "unpack", &name, &unpacked]).expect(0);
        let data = std::fs::read(third.project().join(&unpacked).join("data")).expect("is there");
        assert_eq!(data, std::fs::read(project.join("data")).expect("is there"));
        third.rb(["image", "unpack", &name, &unpacked]).expect(2).says("not an empty folder");
    }
}
