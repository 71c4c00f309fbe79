//! Images of registries: pulled when they are needed, once, and not before; and what happens when one cannot be.

#![allow(clippy::unwrap_used, reason = "servers of tests share their state under locks that nobody poisons")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rb_oci::Digest;
use serde_json::{Value, json};

use crate::env::TestEnv;

mod faults;
mod layers;
mod lies;
mod secured;

#[path = "../../runtime/registry/tests/support/objects.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
pub(crate) mod objects;
#[path = "../../runtime/registry/tests/support/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
pub(crate) mod support;

use support::docker_registry::{DockerRegistry, Wants};
use support::scripted::{Reply, Request, Scripted};

type Blobs = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A registry that has busybox, a project that is built from it, and what is asked.
pub(crate) struct Place {
    pub(crate) env: TestEnv,
    server: Scripted,
    /// By tag and by digest.
    documents: Blobs,
    blobs: Blobs,
    /// What is answered instead, by the beginning of a path; each once.
    instead: Arc<Mutex<Vec<(String, Reply)>>>,
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

impl Place {
    /// None where there is no busybox to build from.
    pub(crate) fn new() -> Option<Self> {
        let env = TestEnv::new();
        if !env.busybox_layout("base") {
            return None;
        }
        let (documents, blobs) = (Blobs::default(), Blobs::default());
        let instead = Arc::<Mutex<Vec<(String, Reply)>>>::default();
        let server = {
            let (documents, blobs, instead) = (documents.clone(), blobs.clone(), instead.clone());
            Scripted::start(move |request, _| answer(request, &documents, &blobs, &instead))
        };
        let place = Self { env, server, documents, blobs, instead };
        let layout = place.env.project().join("base");
        for entry in std::fs::read_dir(layout.join("blobs/sha256")).expect("lists") {
            place.put(&std::fs::read(entry.expect("lists").path()).expect("reads"));
        }
        place.tag("1", &place.base());
        std::fs::remove_dir_all(layout).expect("removes");
        Some(place)
    }

    /// The manifest of the layout's image.
    fn base(&self) -> Vec<u8> {
        let index = self.env.read("base/index.json");
        let index: Value = serde_json::from_str(&index).expect("JSON");
        self.blobs.lock().unwrap()[index["manifests"][0]["digest"].as_str().expect("text")].clone()
    }

    fn put(&self, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes).to_string();
        self.blobs.lock().unwrap().insert(digest.clone(), bytes.to_vec());
        json!({"digest": digest, "size": bytes.len()})
    }

    fn tag(&self, tag: &str, document: &[u8]) {
        let mut documents = self.documents.lock().unwrap();
        documents.insert(tag.to_owned(), document.to_vec());
        documents.insert(Digest::of(document).to_string(), document.to_vec());
    }

    pub(crate) fn document(&self, tag: &str) -> Value {
        serde_json::from_slice(&self.documents.lock().unwrap()[tag]).expect("JSON")
    }

    /// Gives the image of tag 1 another config.
    fn retag(&self, change: impl FnOnce(&mut Value)) {
        let mut manifest = self.document("1");
        let config =
            &self.blobs.lock().unwrap()[manifest["config"]["digest"].as_str().expect("text")].clone();
        let mut config: Value = serde_json::from_slice(config).expect("JSON");
        change(&mut config);
        let described = self.put(config.to_string().as_bytes());
        manifest["config"]["digest"] = described["digest"].clone();
        manifest["config"]["size"] = described["size"].clone();
        self.tag("1", manifest.to_string().as_bytes());
    }

    fn layer(&self) -> String {
        self.document("1")["layers"][0]["digest"].as_str().expect("text").to_owned()
    }

    pub(crate) fn name(&self) -> String {
        format!("{}/lib/busybox", self.server.host)
    }

    /// Writes a target that begins with `from` and goes on with `rest`.
    fn target(&self, from: &str, rest: &str) {
        self.env.write("Buildfile", format!("VERSION 1\nt:\n    FROM {from}\n{rest}"));
    }

    fn instead(&self, path: &str, replies: impl IntoIterator<Item = Reply>) {
        let mut instead = self.instead.lock().unwrap();
        instead.extend(replies.into_iter().map(|reply| (path.to_owned(), reply)));
    }

    /// Returns what was asked since the last time, shortly.
    pub(crate) fn asked(&self, seen: &mut usize) -> Vec<String> {
        let asked = self.server.asked();
        let short = |request: &Request| {
            let path = request.path.trim_start_matches("/v2/lib/busybox/");
            let what = path.split("sha256:").collect::<Vec<_>>().join("");
            let end = what.char_indices().nth(16).map_or(what.len(), |(end, _)| end);
            format!("{} {}", request.method, &what[..end])
        };
        let new = asked.iter().skip(*seen).filter(|request| request.path != "/v2/").map(short).collect();
        *seen = asked.len();
        new
    }

    fn has_blob(&self, digest: &str) -> bool {
        self.env.state().join("blobs").join(digest.replace(':', "/")).exists()
    }

    fn snapshots(&self) -> usize {
        std::fs::read_dir(self.env.state().join("snapshots")).map_or(0, Iterator::count)
    }
}

fn answer(
    request: &Request,
    documents: &Blobs,
    blobs: &Blobs,
    instead: &Mutex<Vec<(String, Reply)>>,
) -> Reply {
    {
        let mut instead = instead.lock().unwrap();
        if let Some(found) = instead.iter().position(|(path, _)| request.path.contains(path.as_str())) {
            return instead.remove(found).1;
        }
    }
    if request.path == "/v2/" {
        return Reply::new(200, "{}");
    }
    let (kind, name) = request.path.rsplit_once('/').unwrap_or_default();
    let from = if kind.ends_with("/manifests") { documents } else { blobs };
    let Some(bytes) = from.lock().unwrap().get(name).cloned() else {
        return Reply::new(404, r#"{"errors":[{"code":"NOT_FOUND","message":"no"}]}"#);
    };
    let parsed = serde_json::from_slice::<Value>(&bytes).ok();
    let is_index = parsed.is_some_and(|document| document.get("manifests").is_some());
    let media_type = if is_index { INDEX } else { MANIFEST };
    Reply::new(200, bytes.clone()).with("Docker-Content-Digest", Digest::of(&bytes)).with(
        "Content-Type",
        if kind.ends_with("/manifests") { media_type } else { "application/octet-stream" },
    )
}

const RUN: &str =
    "    RUN test \"$FROM_BASE\" = yes && echo ran > /out\n    SAVE ARTIFACT /out AS LOCAL out\n";

#[test]
fn an_image_is_pulled_once_and_then_only_its_tag_is_asked_for() {
    let Some(place) = Place::new() else { return };
    place.target(&format!("{}:1", place.name()), RUN);
    place.env.rb(["+t"]).expect(0);
    assert_eq!(place.env.read("out"), "ran\n");
    let mut seen = 0;
    let first = place.asked(&mut seen);
    assert_eq!(first.iter().filter(|line| line.contains("blobs")).count(), 2, "{first:?}");
    place.env.rb(["+t"]).expect(0);
    assert_eq!(place.asked(&mut seen), ["HEAD manifests/1"]);

    // By its digest nobody is asked, whatever else is built on it.
    let digest = Digest::of(&place.documents.lock().unwrap()["1"]);
    place.target(&format!("{}:1@{digest}", place.name()), RUN);
    place.env.rb(["+t"]).expect(0);
    place.target(&format!("{}@{digest}", place.name()), "    RUN echo more > /more\n");
    place.env.rb(["+t"]).expect(0);
    assert_eq!(place.asked(&mut seen), [""; 0]);
}

#[test]
fn the_definition_pins_what_the_tag_stands_for() {
    let Some(place) = Place::new() else { return };
    place.target(&format!("{}:1", place.name()), RUN);
    let digest = Digest::of(&place.documents.lock().unwrap()["1"]);
    let text = place.env.rb(["compile", "+t"]).expect(0).stdout;
    assert!(text.contains(&format!("docker-image://{}:1@{digest}", place.name())), "{text}");
    assert!(!place.has_blob(&place.layer()));
}

#[test]
fn layers_that_nobody_reads_stay_where_they_are() {
    let Some(place) = Place::new() else { return };
    let name = format!("{}:1", place.name());
    place.target(&name, "    ENV A=1\n");
    place.env.rb(["+t"]).expect(0);
    assert!(!place.has_blob(&place.layer()) && place.snapshots() == 0);
    // An image on top of it takes the layer as it is, and unpacks nothing.
    place.target(&name, "    ENV A=1\n    CMD [\"echo\", \"hello\"]\n    SAVE IMAGE top:latest\n");
    place.env.rb(["+t"]).expect(0);
    assert!(place.has_blob(&place.layer()) && place.snapshots() == 0);
    let details: Value =
        serde_json::from_str(&place.env.rb(["image", "inspect", "top"]).expect(0).stdout).unwrap();
    assert_eq!(details[0]["layers"][0]["digest"], place.layer().as_str());
    place.env.rb(["image", "save", "top", "-o", "top.tar"]).expect(0);
    assert_eq!(place.env.rb(["run", "top"]).expect(0).stdout, "hello\n");
}

#[test]
fn a_step_is_recognised_by_the_layers_below_it_without_having_them() {
    let Some(place) = Place::new() else { return };
    place.target(&format!("{}:1", place.name()), RUN);
    place.env.rb(["+t"]).expect(0);
    let layer = place.layer();
    std::fs::remove_file(place.env.state().join("blobs").join(layer.replace(':', "/"))).expect("removes");
    place.retag(|config| config["config"]["Labels"] = json!({"new": "label"}));
    let mut seen = place.server.asked().len();
    place.env.rb(["+t"]).expect(0).says("ached");
    let asked = place.asked(&mut seen);
    assert!(asked.len() == 3 && !place.has_blob(&layer), "{asked:?}");
}

#[test]
fn when_registries_are_asked() {
    let Some(place) = Place::new() else { return };
    let name = format!("{}:1", place.name());
    place.target(&name, RUN);
    place.env.rb(["--pull=never", "+t"]).expect(2).says("rb image pull");
    place.env.rb(["--pull=missing", "+t"]).expect(0);
    let mut seen = place.server.asked().len();
    for policy in ["--pull=missing", "--pull=never"] {
        place.env.rb([policy, "+t"]).expect(0);
        assert_eq!(place.asked(&mut seen), [""; 0], "{policy}");
    }
    // The store's own name wins, unless it shall not.
    let digest = place.env.rb(["image", "pull", &name]).expect(0).stdout;
    assert_eq!(digest.trim_end(), Digest::of(&place.documents.lock().unwrap()["1"]).to_string());
    place.retag(|config| config["config"]["Env"] = json!(["PATH=/bin", "FROM_BASE=no"]));
    seen = place.server.asked().len();
    place.env.rb(["+t"]).expect(0);
    assert_eq!(place.asked(&mut seen), [""; 0]);
    place.env.rb(["--pull", "+t"]).expect(1);
    assert_eq!(place.asked(&mut seen).first().map(String::as_str), Some("HEAD manifests/1"));
}

#[test]
fn a_registry_that_is_away_is_no_matter_for_what_is_known() {
    let Some(place) = Place::new() else { return };
    place.target(&format!("{}:1", place.name()), RUN);
    place.env.rb(["+t"]).expect(0);
    let down = || std::iter::repeat_with(|| Reply::new(503, "")).take(40);
    place.instead("/v2/", down());
    place.env.rb(["+t"]).expect(3).says("--pull=missing").says("503");
    place.env.rb(["--pull=missing", "+t"]).expect(0);
}

#[test]
fn an_image_that_is_to_run_and_is_not_here_is_pulled() {
    let Some(place) = Place::new() else { return };
    let name = format!("{}:1", place.name());
    place.env.rb(["run", "--pull=never", &name, "echo", "hi"]).expect(2);
    assert_eq!(place.env.rb(["run", &name, "echo", "hi"]).expect(0).stdout, "hi\n");
    let mut seen = place.server.asked().len();
    assert_eq!(place.env.rb(["run", &name, "echo", "hi"]).expect(0).stdout, "hi\n");
    assert_eq!(place.asked(&mut seen), [""; 0]);
    assert!(place.env.rb(["image", "ls"]).expect(0).stdout.contains(&name));
}

#[test]
fn a_bad_line_is_overcome_and_bad_bytes_are_told() {
    let Some(place) = Place::new() else { return };
    place.target(&format!("{}:1", place.name()), RUN);
    let layer = place.layer();
    let bytes = place.blobs.lock().unwrap()[&layer].clone();
    let cut = Reply { cut: Some(100_000), ..Reply::new(200, bytes.clone()) };
    place.instead(
        &format!("/blobs/{layer}"),
        [Reply::new(500, ""), cut, Reply::new(429, "").with("Retry-After", 1)],
    );
    place.env.rb(["+t"]).expect(0);

    let other = Place { env: TestEnv::new(), ..place };
    other.target(&format!("{}:1", other.name()), RUN);
    let mut tampered = bytes;
    tampered[1000] ^= 1;
    other.blobs.lock().unwrap().insert(layer.clone(), tampered);
    let run = other.env.rb(["+t"]);
    assert!(run.code == 3 && run.stderr.contains("sent a wrong blob"), "{run:?}");
    assert!(!other.has_blob(&layer) && other.snapshots() == 0);
}

#[test]
fn of_an_index_the_image_for_this_machine_is_taken() {
    let Some(place) = Place::new() else { return };
    let base = place.documents.lock().unwrap()["1"].clone();
    let described = |architecture: &str, bytes: &[u8]| {
        json!({
            "mediaType": MANIFEST, "digest": Digest::of(bytes), "size": bytes.len(),
            "platform": {"os": "linux", "architecture": architecture},
        })
    };
    let host = rb_oci::Platform::host().architecture;
    let foreign = described("s390x", b"not here");
    let index = |manifests: Value| json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    place.tag("all", index(json!([foreign.clone(), described(&host, &base)])).to_string().as_bytes());
    place.tag("none", index(json!([foreign])).to_string().as_bytes());
    place.target(&format!("{}:all", place.name()), RUN);
    place.env.rb(["+t"]).expect(0);
    let mut seen = place.server.asked().len();
    place.env.rb(["+t"]).expect(0);
    assert_eq!(place.asked(&mut seen), ["HEAD manifests/all"]);
    place.target(&format!("{}:none", place.name()), RUN);
    place.env.rb(["+t"]).expect(2).says("linux/s390x");
}

#[test]
fn a_real_registry_and_layers_of_zstd() {
    let Some(place) = Place::new() else { return };
    place.env.busybox_layout("layout");
    let folder = place.env.project().parent().expect("has one").join("registry");
    let Some(registry) = DockerRegistry::start(&folder, &Wants::default()) else { return };
    let copy = |options: &[&str], name: &str| {
        let to = format!("docker://{}/{name}", registry.host);
        let copied = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--dest-tls-verify=false"])
            .args(options)
            .args(["oci:layout:test", &to])
            .current_dir(place.env.project())
            .env("HOME", Path::new("/nonexistent"))
            .output();
        match copied {
            Ok(output) => {
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                true
            }
            Err(_) => {
                eprintln!("stepped aside: needs the program `skopeo`");
                false
            }
        }
    };
    if !copy(&[], "app/gzip:1") || !copy(&["--dest-compress-format", "zstd"], "app/zstd:1") {
        return;
    }
    for kind in ["zstd", "gzip"] {
        let env = TestEnv::new();
        let from = format!("VERSION 1\nt:\n    FROM {}/app/{kind}:1\n{RUN}", registry.host);
        env.write("Buildfile", from);
        env.rb(["+t"]).expect(0);
        assert_eq!(env.read("out"), "ran\n");
    }
}

#[test]
fn two_builds_at_once_pull_a_layer_once() {
    let Some(place) = Place::new() else { return };
    let name = format!("{}:1", place.name());
    place.env.write(
        "Buildfile",
        format!(
            "VERSION 1\na:\n    FROM {name}\n    RUN echo a > /a\nb:\n    FROM {name}\n    RUN echo b > /b\n"
        ),
    );
    let layer = place.layer();
    let bytes = place.blobs.lock().unwrap()[&layer].clone();
    let slow = Reply { stall: Some((100_000, Duration::from_secs(2))), ..Reply::new(200, bytes) };
    place.instead(&format!("/blobs/{layer}"), [slow]);
    let builds = ["+a", "+b"].map(|target| place.env.spawn([target]));
    for build in builds {
        let output = build.wait_with_output().expect("ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let pulls = place.server.asked().iter().filter(|request| request.path.ends_with(&layer)).count();
    assert_eq!(pulls, 1);
}

#[test]
fn ctrl_c_ends_a_pull_within_a_second() {
    let Some(place) = Place::new() else { return };
    place.target(&format!("{}:1", place.name()), RUN);
    let layer = place.layer();
    let bytes = place.blobs.lock().unwrap()[&layer].clone();
    let stands = Reply { stall: Some((100_000, Duration::from_secs(60))), ..Reply::new(200, bytes) };
    place.instead(&format!("/blobs/{layer}"), [stands]);
    let mut build = place.env.spawn(["+t"]);
    let asked = || place.server.asked().iter().any(|request| request.path.ends_with(&layer));
    let patience = Instant::now();
    while !asked() && patience.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    assert!(Command::new("kill").args(["-INT", &build.id().to_string()]).status().expect("starts").success());
    let status = build.wait().expect("ends");
    // A second, and what a busy machine takes to end a process.
    assert!(began.elapsed() < Duration::from_secs(45), "{:?}", began.elapsed());
    assert_eq!(status.code(), Some(130));
    assert!(!place.has_blob(&layer));
    // Nothing of it is in the way of the next build.
    place.env.rb(["+t"]).expect(0);
}

#[test]
fn an_image_of_another_platform_can_be_copied_from() {
    let Some(place) = Place::new() else { return };
    place.retag(|config| config["architecture"] = json!("s390x"));
    let name = format!("{}:1", place.name());
    place.env.write(
        "Buildfile",
        format!(
            "VERSION 1\nother:\n    FROM --platform=linux/s390x {name}\n    SAVE ARTIFACT /etc/passwd\n\
             t:\n    FROM scratch\n    COPY --platform=linux/s390x +other/passwd /p\n    SAVE ARTIFACT /p AS LOCAL p\n"
        ),
    );
    place.env.rb(["+t"]).expect(0);
    assert_eq!(place.env.read("p"), "root:x:0:0:root:/root:/bin/sh\n");
}
