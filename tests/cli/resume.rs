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
        let found = std::fs::read_dir(self.env.state().join("partial")).ok()?.next()?;
        let entry = found.expect("lists");
        Some((entry.path(), entry.metadata().ok()?.len()))
    }

    /// Begins to pull, and ends that with a signal when some of it has come. Returns how much is kept.
    fn pull_a_part(&self, signal: &str) -> u64 {
        let enough = self.part().map_or(0, |(_, size)| size) + (1 << 20);
        self.line.script([Fault { delay: Duration::from_millis(8), ..Fault::default() }]);
        let mut pull = self.env.spawn(["image", "pull", &self.name()]);
        let patience = Instant::now();
        while self.part().is_none_or(|(_, size)| size < enough) {
            assert!(patience.elapsed() < Duration::from_secs(120), "nothing comes");
            assert!(pull.try_wait().expect("waits").is_none(), "it is faster than the line");
            std::thread::sleep(Duration::from_millis(5));
        }
        let process = pull.id().to_string();
        assert!(Command::new("kill").args([signal, &process]).status().expect("starts").success());
        let status = pull.wait().expect("ends");
        assert!(!status.success(), "{status}");
        self.line.script([]);
        let (_, kept) = self.part().expect("a part stays");
        assert!(kept < SIZE as u64, "{kept}");
        kept
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
