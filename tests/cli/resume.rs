//! Downloads that go on where another process was ended.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rb_oci::Digest;

use crate::env::TestEnv;
use crate::push::{folder, noise};
use crate::registry::support::docker_registry::{DockerRegistry, Wants};
use crate::registry::support::faults::{Fault, FaultProxy};

const SIZE: usize = 6 << 20;

/// An image with one large layer in a real registry behind a line that is slow on demand.
struct Place {
    env: TestEnv,
    line: FaultProxy,
    _registry: DockerRegistry,
    _folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Option<Self> {
        let folder = folder();
        let registry = DockerRegistry::start(&folder.path().join("registry"), &Wants::default())?;
        let pusher = TestEnv::new();
        pusher.write("data", noise(7, SIZE));
        pusher.write(
            "Buildfile",
            format!(
                "VERSION 1\nimage:\n    FROM scratch\n    COPY data /data\n    SAVE IMAGE --push {}/a/b:1\n",
                registry.host
            ),
        );
        pusher.rb(["--push", "+image"]).expect(0);
        let line = FaultProxy::start(&registry.host);
        Some(Self { env: TestEnv::new(), line, _registry: registry, _folder: folder })
    }

    fn name(&self) -> String {
        format!("{}/a/b:1", self.line.host)
    }

    /// The beginning of the layer, if there is one.
    fn part(&self) -> Option<(PathBuf, u64)> {
        let found = std::fs::read_dir(self.env.state().join("partial")).ok()?.flatten();
        let sized = found.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.len())));
        // The config beside it is small.
        sized.max_by_key(|(_, size)| *size).filter(|(_, size)| *size > ELSE_BYTES)
    }

    /// Begins to pull, and ends that with a signal when some of it has come. Returns how much is kept.
    fn pull_a_part(&self, signal: &str) -> u64 {
        let enough = self.part().map_or(0, |(_, size)| size) + (1 << 20);
        self.line.script([Fault { delay: Duration::from_millis(8), ..Fault::default() }]);
        let kept = self.end_at(&["image", "pull", &self.name()], enough, signal);
        self.line.script([]);
        assert!(kept < SIZE as u64, "{kept}");
        kept
    }

    /// Begins something, and ends it with a signal when so much has come. Returns how much is kept.
    fn end_at(&self, args: &[&str], enough: u64, signal: &str) -> u64 {
        let mut begun = self.env.spawn(args);
        let patience = Instant::now();
        while self.part().is_none_or(|(_, size)| size < enough) {
            assert!(patience.elapsed() < Duration::from_secs(120), "nothing comes");
            assert!(begun.try_wait().expect("waits").is_none(), "it is faster than the line");
            std::thread::sleep(Duration::from_millis(5));
        }
        let process = begun.id().to_string();
        assert!(Command::new("kill").args([signal, &process]).status().expect("starts").success());
        let status = begun.wait().expect("ends");
        assert!(!status.success(), "{status}");
        self.part().expect("a part stays").1
    }

    /// Copies the image to the end, and returns how many bytes the registry sent.
    fn copy(&self, to: &str) -> u64 {
        let before = self.line.down();
        self.env.rb(["image", "copy", &format!("docker://{}", self.name()), to]).expect(0);
        assert_eq!(self.part(), None);
        (self.line.down() - before) as u64
    }

    /// Pulls to the end, and returns how many bytes the registry sent.
    fn pull_the_rest(&self) -> u64 {
        let before = self.line.down();
        let digest = self.env.rb(["image", "pull", &self.name()]).expect(0).stdout;
        assert!(digest.trim().parse::<Digest>().is_ok(), "{digest}");
        let sent = (self.line.down() - before) as u64;
        assert_eq!(self.part(), None);
        self.env.write(
            "Buildfile",
            format!("VERSION 1\nt:\n    FROM {}\n    SAVE ARTIFACT /data AS LOCAL out\n", self.name()),
        );
        self.env.rb(["+t"]).expect(0);
        assert!(std::fs::read(self.env.project().join("out")).expect("reads") == noise(7, SIZE));
        sent
    }
}

/// What else than the layer is sent: manifest, config, heads.
const ELSE_BYTES: u64 = 64 << 10;

#[test]
fn a_killed_pull_goes_on_where_it_was() {
    let Some(place) = Place::new() else { return };
    let kept = place.pull_a_part("-KILL");
    let sent = place.pull_the_rest();
    assert!(sent <= SIZE as u64 - kept + ELSE_BYTES, "{sent} bytes came, {kept} were there");
}

#[test]
fn so_does_one_after_ctrl_c() {
    let Some(place) = Place::new() else { return };
    let first = place.pull_a_part("-INT");
    let kept = place.pull_a_part("-INT");
    assert!(kept > first, "the second one went on from {first}, and has {kept}");
    let sent = place.pull_the_rest();
    assert!(sent <= SIZE as u64 - kept + ELSE_BYTES, "{sent} bytes came, {kept} were there");
}

#[test]
fn what_is_torn_is_fetched_anew() {
    let Some(place) = Place::new() else { return };
    place.pull_a_part("-KILL");
    let (part, kept) = place.part().expect("a part");
    // As after a power failure: the length is there, the bytes are not.
    let mut bytes = std::fs::read(&part).expect("reads");
    bytes[500_000..600_000].fill(0);
    std::fs::write(&part, bytes).expect("writes");
    let sent = place.pull_the_rest();
    let all = SIZE as u64;
    assert!(
        sent >= all && sent <= all + (all - kept) + 2 * ELSE_BYTES,
        "{sent} bytes came, {kept} were there"
    );
}

#[test]
fn so_does_a_copy_wherever_it_goes() {
    let Some(mut place) = Place::new() else { return };
    let folder = folder();
    let other = DockerRegistry::start(&folder.path().join("registry"), &Wants::default()).expect("starts");
    let from = format!("docker://{}", place.name());
    for to in ["copied:1".to_owned(), "oci:layout:1".to_owned(), format!("docker://{}/c/d:1", other.host)] {
        place.env = TestEnv::new();
        place.line.script([Fault { delay: Duration::from_millis(8), ..Fault::default() }]);
        let kept = place.end_at(&["image", "copy", &from, &to], 1 << 20, "-KILL");
        place.line.script([]);
        assert!(kept < SIZE as u64, "{to}: {kept}");
        let sent = place.copy(&to);
        assert!(sent <= SIZE as u64 - kept + ELSE_BYTES, "{to}: {sent} bytes came, {kept} were there");
        let reader = TestEnv::new();
        let unpacked = reader.project().join("files").display().to_string();
        if to == "copied:1" {
            place.env.rb(["image", "unpack", &to, &unpacked]).expect(0);
        } else {
            let to = to.replace("oci:", &format!("oci:{}/", place.env.project().display()));
            reader.rb(["image", "copy", &to, "back:1"]).expect(0);
            reader.rb(["image", "unpack", "back:1", &unpacked]).expect(0);
        }
        assert!(std::fs::read(reader.project().join("files/data")).expect("reads") == noise(7, SIZE), "{to}");
    }
}

#[test]
fn what_came_and_was_not_sent_on_comes_no_second_time() {
    let Some(place) = Place::new() else { return };
    let folder = folder();
    let other = DockerRegistry::start(&folder.path().join("registry"), &Wants::default()).expect("starts");
    let line = FaultProxy::start(&other.host);
    let to = format!("docker://{}/c/d:1", line.host);
    line.script([Fault { delay: Duration::from_millis(20), ..Fault::default() }]);
    let from = format!("docker://{}", place.name());
    let kept = place.end_at(&["image", "copy", &from, &to], SIZE as u64, "-KILL");
    line.script([]);
    assert!(kept >= SIZE as u64, "{kept}");
    let sent = place.copy(&to);
    assert!(sent <= ELSE_BYTES, "{sent} bytes came, {kept} were there");
    place.env.rb(["image", "inspect", &to]).expect(0);
}
