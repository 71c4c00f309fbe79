//! Images to registries: what is sent, what is not, and what cannot be.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::env::{Run, TestEnv};
use crate::registry::support::docker_registry::{DockerRegistry, Wants};
use crate::registry::support::faults::{Fault, FaultProxy};
use crate::registry::support::scripted::{Reply, Request, Scripted};

/// A project whose image is one file of 3 MB that does not compress, and a registry.
pub(crate) struct Place {
    pub(crate) env: TestEnv,
    pub(crate) registry: DockerRegistry,
    _folder: tempfile::TempDir,
}

pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("rb-test-registry-").tempdir().expect("a temporary folder")
}

/// Bytes that do not compress.
pub(crate) fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(count);
    while bytes.len() < count {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state >> 32).to_le_bytes()[..4]);
    }
    bytes
}

impl Place {
    pub(crate) fn new(wants: &Wants) -> Option<Self> {
        let folder = folder();
        let registry = DockerRegistry::start(&folder.path().join("registry"), wants)?;
        let env = TestEnv::new();
        env.write("data", noise(u64::from(std::process::id()), 3 << 20));
        Some(Self { env, registry, _folder: folder })
    }

    /// Makes `+image` save these names.
    pub(crate) fn saves(&self, names: &str) {
        self.env.write(
            "Buildfile",
            format!("VERSION 1\nimage:\n    FROM scratch\n    COPY data /data\n    SAVE IMAGE {names}\n"),
        );
    }

    pub(crate) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.registry.host)
    }

    /// Returns a server that hands everything on to the registry; `instead` answers first.
    pub(crate) fn behind(
        &self,
        instead: impl Fn(&Request, usize) -> Option<Reply> + Send + Sync + 'static,
    ) -> Scripted {
        Scripted::before(&self.registry.host, instead)
    }
}

pub(crate) fn skopeo(args: &[&str]) -> Option<String> {
    let Ok(output) = Command::new("skopeo").arg("--insecure-policy").args(args).output() else {
        eprintln!("stepping aside: there is no skopeo");
        return None;
    };
    assert!(output.status.success(), "skopeo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Counts requests that send parts of blobs.
fn uploads(server: &Scripted) -> usize {
    server
        .asked()
        .iter()
        .filter(|request| !request.body.is_empty() && request.path.contains("/blobs/"))
        .count()
}

pub(crate) fn digest_of(run: &Run) -> String {
    run.stdout.trim().rsplit('@').next().expect("a digest").to_owned()
}

#[test]
fn a_build_pushes_when_it_is_told_to_and_what_is_there_is_not_sent() {
    let Some(place) = Place::new(&Wants::default()) else { return };
    let server = place.behind(|_, _| None);
    let names = format!("--push {0}/team/app:1 {0}/team/app:2", server.host);
    place.saves(&names);
    let run = place.env.rb(["+image"]).expect(0);
    run.says(&format!("not pushed: {0}/team/app:1, {0}/team/app:2; give --push", server.host));
    assert_eq!(server.asked().len(), 0);
    assert!(place.env.rb(["image", "ls"]).expect(0).stdout.contains("team/app:2"));

    let run = place.env.rb(["--push", "+image"]).expect(0);
    let run = run.says(&format!("pushed {}/team/app:1", server.host)).says("2 blobs sent");
    assert!(!run.stderr.contains("not pushed"), "{}", run.stderr);
    assert_eq!(uploads(&server), 2);
    // Tags come last.
    let lines = server.lines();
    let put = |line: &&String| line.starts_with("PUT ");
    let last: Vec<&String> = lines.iter().filter(put).rev().take(2).collect();
    assert!(last.iter().all(|line| line.contains("/manifests/")), "{lines:?}");

    let before = server.asked().len();
    place.env.rb(["--push", "+image"]).expect(0).says("2 blobs were there");
    assert_eq!(uploads(&server), 2, "{:?}", &server.lines()[before..]);

    let name = place.name("team/app:2");
    let Some(text) = skopeo(&["inspect", "--tls-verify=false", &format!("docker://{name}")]) else { return };
    let seen: Value = serde_json::from_str(&text).expect("JSON");
    let listed = place.env.rb(["image", "ls", "--json", "--filter", "reference=*/team/app:2"]).expect(0);
    let listed: Value = serde_json::from_str(&listed.stdout).expect("JSON");
    assert_eq!(seen["Digest"], listed[0]["digest"]);
    let copy = place.env.project().join("copied");
    let to = format!("dir:{}", copy.display());
    skopeo(&["copy", "--src-tls-verify=false", &format!("docker://{name}"), &to]);
    assert!(copy.join("manifest.json").exists());
}

#[test]
fn nothing_is_pushed_unless_all_went_well() {
    let Some(place) = Place::new(&Wants::default()) else { return };
    let server = place.behind(|_, _| None);
    let text = format!(
        "VERSION 1\nall:\n    BUILD +image\n    BUILD +bad\nimage:\n    FROM scratch\n    COPY data /data\n    \
         SAVE IMAGE --push {}/app:1\nbad:\n    FROM @host\n    RUN false\n",
        server.host
    );
    place.env.write("Buildfile", text);
    place.env.rb(["--push", "+all"]).expect(1);
    assert_eq!(server.asked().len(), 0);
    // Without an output of its own, a push counts all the same; nothing gets a name here.
    place.env.rb(["--push", "--no-output", "+image"]).expect(0).says("pushed");
    assert!(!place.env.rb(["image", "ls"]).expect(0).stdout.contains("/app:1"));
    place.env.rb(["image", "inspect", &format!("docker://{}/app:1", server.host)]).expect(0);
    // What a WAIT waits for is pushed at its end.
    let text = format!(
        "VERSION 0.8\nall:\n    FROM @host\n    WAIT\n        BUILD +image\n    END\n    RUN false\nimage:\n    \
         FROM scratch\n    COPY data /data\n    SAVE IMAGE --push {}/waited:1\n",
        server.host
    );
    place
        .env
        .write("Earthfile", text.replace("@host", "scratch").replace("    RUN false\n", "    COPY none /\n"));
    std::fs::remove_file(place.env.project().join("Buildfile")).expect("removes");
    let failed = place.env.rb(["--push", "+all"]);
    assert_ne!(failed.code, 0);
    // It stays, so it is told.
    let failed = failed
        .says("done before the failure:\n")
        .says(&format!("\n  pushed {}/waited:1  sha256:", server.host));
    assert!(!failed.stderr.contains("built +all"), "{}", failed.stderr);
    let failed = place.env.rb(["--push", "--progress=json", "+all"]);
    let events =
        failed.stderr.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let told = events.filter(|event| event["event"] == "before_failure").collect::<Vec<_>>();
    assert_eq!(told.len(), 1, "{}", failed.stderr);
    assert_eq!(told[0]["pushed"][0]["name"].as_str(), Some(&*format!("{}/waited:1", server.host)));
    place.env.rb(["image", "inspect", &format!("docker://{}/waited:1", server.host)]).expect(0);
    // As docker's builder has it.
    place.saves("app");
    std::fs::remove_file(place.env.project().join("Earthfile")).expect("removes");
    let output = format!("type=registry,name={}/output:1", server.host);
    place.env.rb(["-o", &output, "+image"]).expect(0).says("pushed");
    place.env.rb(["image", "inspect", &format!("docker://{}/output:1", server.host)]).expect(0);
    place.env.rb(["--push", "+image"]).expect(0);
    place.saves("--push localhost:1/Bad");
    place.env.rb(["--push", "+image"]).expect(2);
}

#[test]
fn the_registry_takes_over_what_another_of_its_repositories_has() {
    let Some(place) = Place::new(&Wants::default()) else { return };
    let server = place.behind(|_, _| None);
    place.saves("app");
    place.env.rb(["+image"]).expect(0);
    let (one, two) = (format!("{}/one/app:1", server.host), format!("{}/two/app:1", server.host));
    let pushed = place.env.rb(["image", "push", "app", &one]).expect(0).says("2 blobs sent");
    let sent = uploads(&server);
    let mounted = place.env.rb(["image", "push", "app", &two]).expect(0).says("2 blobs taken over");
    assert_eq!(uploads(&server), sent);
    assert_eq!(digest_of(&pushed), digest_of(&mounted));
    let mounts = server.lines().iter().filter(|line| line.contains("mount=sha256")).count();
    assert_eq!(mounts, 2);
}

#[test]
fn who_is_not_known_is_told_what_to_do() {
    let wants = Wants { password: true, ..Wants::default() };
    let Some(place) = Place::new(&wants) else { return };
    place.saves("app");
    place.env.rb(["+image"]).expect(0);
    let name = place.name("app:1");
    let host = &place.registry.host;
    let run = place.env.rb(["image", "push", "app", &name]).expect(2).says(host);
    run.says(&format!("rb login {host}")).says(&format!("cannot push {name}"));
    let config = |password: &str| {
        use base64::Engine as _;
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("rb:{password}"));
        let file = place.env.project().join("docker/config.json");
        place.env.write("docker/config.json", json!({"auths": {host: {"auth": auth}}}).to_string());
        file.parent().expect("has one").display().to_string()
    };
    let folder = config("wrong");
    let variables = [("DOCKER_CONFIG", folder.as_str())];
    let run = place.env.rb_with(&variables, ["image", "push", "app", &name]).expect(2);
    run.says(&format!("rb login {host}")).hides("wrong").hides("cmI6");
    config("secret");
    place.env.rb_with(&variables, ["image", "push", "app", &name]).expect(0);
    place.env.rb_with(&variables, ["image", "inspect", "--remote", "--raw", &name]).expect(0);
}

#[test]
fn a_digest_that_is_not_the_images_is_refused_before_anything_is_sent() {
    let Some(place) = Place::new(&Wants::default()) else { return };
    let server = place.behind(|_, _| None);
    place.saves("app");
    place.env.rb(["+image"]).expect(0);
    let other = rb_oci::Digest::of("another").to_string();
    for to in [format!("{}/app@{other}", server.host), format!("{}/app:1@{other}", server.host)] {
        place.env.rb(["image", "push", "app", &to]).expect(2).says("cannot be pushed to").says(&other);
        place.env.rb(["image", "copy", "app", &format!("docker://{to}")]).expect(2).says(&other);
    }
    assert_eq!(server.asked().len(), 0);
    let digest = digest_of(&place.env.rb(["image", "push", "app", &place.name("app:1")]).expect(0));
    let pushed = place.env.rb(["image", "push", "app", &format!("{}/by@{digest}", server.host)]).expect(0);
    assert_eq!(digest_of(&pushed), digest);
    place.env.rb(["image", "pull", "-q", &format!("{}/by@{digest}", server.host)]).expect(0);
}

#[test]
fn a_bad_line_and_a_busy_registry_do_not_stop_a_push() {
    let Some(place) = Place::new(&Wants::default()) else { return };
    place.saves("app");
    place.env.rb(["+image"]).expect(0);
    let proxy = FaultProxy::start(&place.registry.host);
    proxy.script([
        Fault { cut_up: Some(1_000_000), ..Fault::default() },
        Fault { cut_up: Some(500_000), ..Fault::default() },
    ]);
    place.env.rb(["image", "push", "app", &format!("{}/cut/app:1", proxy.host)]).expect(0);
    assert_eq!(proxy.left(), 0);

    let busy = Mutex::new(vec![
        ("HEAD", Reply::new(429, "").with("Retry-After", 1)),
        ("HEAD", Reply::new(500, "oops")),
        ("POST", Reply::new(502, "")),
        ("PUT", Reply::new(503, "")),
    ]);
    let server = place.behind(move |request, _| {
        let mut busy = busy.lock().expect("no holder panics");
        let at = busy.iter().position(|(method, _)| *method == request.method)?;
        Some(busy.remove(at).1)
    });
    place.env.rb(["image", "push", "app", &format!("{}/busy/app:1", server.host)]).expect(0);

    // One that never answers well is an error that names it.
    let broken = place.behind(|request, _| (request.method == "PUT").then(|| Reply::new(400, "no")));
    let run = place.env.rb(["image", "push", "app", &format!("{}/broken/app:1", broken.host)]).expect(2);
    run.says("cannot push").says(&broken.host);
}

#[test]
fn ctrl_c_ends_a_push_within_a_second() {
    let Some(place) = Place::new(&Wants::default()) else { return };
    place.saves("app");
    place.env.rb(["+image"]).expect(0);
    let asked = Arc::new(Mutex::new(false));
    let seen = Arc::clone(&asked);
    let server = place.behind(move |request, _| {
        if request.method == "PUT" || request.method == "PATCH" {
            *seen.lock().expect("no holder panics") = true;
            std::thread::sleep(Duration::from_secs(20));
        }
        None
    });
    let child = place.env.spawn(["image", "push", "app", &format!("{}/slow/app:1", server.host)]);
    let began = Instant::now();
    while !*asked.lock().expect("no holder panics") {
        assert!(began.elapsed() < Duration::from_secs(60), "the push did not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
    let signalled = Instant::now();
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill starts");
    let output = child.wait_with_output().expect("ends");
    assert!(signalled.elapsed() < Duration::from_secs(18), "{:?}", signalled.elapsed());
    assert_eq!(output.status.code(), Some(130));
}
