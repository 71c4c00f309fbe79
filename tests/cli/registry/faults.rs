//! A real registry on a bad day: builds that need it end well, or say why not.

use std::time::Duration;

use super::support::docker_registry::{DockerRegistry, Wants};
use super::support::faults::{Fault, FaultProxy};
use super::support::scripted::{Reply, Scripted};
use crate::env::{Run, TestEnv};
use crate::push::{folder, noise};

const SIZE: usize = 3 << 20;

/// A registry with an image, which is reached only through what a test puts before it.
struct Place {
    registry: DockerRegistry,
    _folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Option<Self> {
        let folder = folder();
        let registry = DockerRegistry::start(&folder.path().join("registry"), &Wants::default())?;
        let env = TestEnv::new();
        env.write("data", noise(11, SIZE));
        let name = format!("{}/team/base:1", registry.host);
        let text = format!(
            "VERSION 1\nimage:\n    FROM scratch\n    COPY data /data\n    SAVE IMAGE --push {name}\n"
        );
        env.write("Buildfile", text);
        env.rb(["--push", "+image"]).expect(0);
        Some(Self { registry, _folder: folder })
    }
}

/// Builds on the image, from an empty store, and pushes the result, all through `host`.
fn build(host: &str) -> (TestEnv, Run) {
    let env = TestEnv::new();
    env.write("more", noise(12, SIZE));
    env.write(
        "Buildfile",
        format!(
            "VERSION 1\nimage:\n    FROM {host}/team/base:1\n    COPY more /more\n    SAVE ARTIFACT /data AS LOCAL out\n    \
             SAVE IMAGE --push {host}/team/top:1\n"
        ),
    );
    let run = env.rb(["--push", "+image"]);
    (env, run)
}

/// The build went well, and the registry has what was pushed.
fn is_well(place: &Place, env: &TestEnv, run: Run) -> Run {
    let run = run.expect(0);
    assert!(std::fs::read(env.project().join("out")).expect("reads") == noise(11, SIZE));
    let fresh = TestEnv::new();
    fresh.rb(["image", "pull", &format!("{}/team/top:1", place.registry.host)]).expect(0);
    run
}

#[test]
fn connections_that_are_cut_and_slow() {
    let Some(place) = Place::new() else { return };
    let line = FaultProxy::start(&place.registry.host);
    let down = |count| Fault { cut_down: Some(count), ..Fault::default() };
    let up = |count| Fault { cut_up: Some(count), ..Fault::default() };
    let slow = Fault { delay: Duration::from_millis(1), ..down(1 << 20) };
    line.script([down(1 << 20), slow, up(1 << 20), up(1 << 20)]);
    let (env, run) = build(&line.host);
    is_well(&place, &env, run).says("tries again in");
    assert_eq!(line.left(), 0);
}

#[test]
fn a_registry_that_wants_to_be_left_alone_for_a_moment_is() {
    let Some(place) = Place::new() else { return };
    let server = Scripted::before(&place.registry.host, |request, count| match count {
        // Asked too often for the manifest, for a blob, for an upload; and out of order once.
        2 | 5 | 8 => Some(Reply::new(429, "slow down").with("Retry-After", 1)),
        3 if request.method == "GET" => Some(Reply::new(500, "oh")),
        6 => Some(Reply::new(503, "")),
        _ => None,
    });
    let (env, run) = build(&server.host);
    is_well(&place, &env, run).says("tries again in 1.0 s (try 2 of 5)").says("slow down");
}

#[test]
fn what_does_not_get_better_is_told() {
    let Some(place) = Place::new() else { return };
    let often = Scripted::before(&place.registry.host, |request, _| {
        let is_blob = request.path.contains("/blobs/") && request.method == "GET";
        is_blob.then(|| Reply::new(429, "tomorrow").with("Retry-After", 86_400))
    });
    let (_, run) = build(&often.host);
    run.expect(3).says("86400 s").says("tomorrow").says(&often.host);

    let broken = Scripted::before(&place.registry.host, |request, _| {
        (request.method == "PATCH" || request.method == "PUT").then(|| Reply::new(507, "the disk is full"))
    });
    let (env, run) = build(&broken.host);
    run.expect(3).says("507").says("the disk is full");
    // What was built is kept.
    assert!(env.has("out"));

    // It hangs up before it has said anything.
    let line = FaultProxy::start(&place.registry.host);
    line.script(std::iter::repeat_n(Fault { cut_down: Some(100), ..Fault::default() }, 100));
    let (_, run) = build(&line.host);
    run.expect(3).says(&format!("cannot reach {}", line.host));
}
