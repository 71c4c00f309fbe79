//! Images handed to containerd, which is sent what it lacks.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::env::{TestEnv, is_root};
use crate::podman::{LARGE, spoil_largest_blob, two_layers};
use crate::push::noise;

const NAME: &str = "docker.io/library/app:1";

/// containerd with a store of its own; it ends with the test.
struct Containerd {
    daemon: Child,
    folder: tempfile::TempDir,
    address: String,
}

impl Containerd {
    fn start() -> Option<Self> {
        let there = |name: &str| {
            Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
        };
        if !is_root() || !there("containerd") || !there("ctr") {
            eprintln!("stepping aside: there is no containerd (Debian: containerd), or this is not root");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("rb-test-cd-").tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{}\"\n[ttrpc]\naddress = \"{}\"\n",
            at("root"),
            at("state"),
            at("c.sock"),
            at("t.sock")
        );
        std::fs::write(folder.path().join("config.toml"), config).expect("writes");
        let daemon = Command::new("containerd")
            .args(["--config", &at("config.toml")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("containerd starts");
        let address = at("c.sock");
        let started = Self { daemon, folder, address };
        let patience = Instant::now();
        while !started.ctr(&["version"]).status.success() {
            assert!(patience.elapsed() < Duration::from_secs(120), "containerd does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(started)
    }

    fn ctr(&self, words: &[&str]) -> std::process::Output {
        Command::new("ctr").args(["--address", &self.address]).args(words).output().expect("ctr starts")
    }

    fn load(&self, env: &TestEnv) -> crate::env::Run {
        env.rb_with(&[("CONTAINERD_ADDRESS", &self.address)], ["--load=containerd", "+image"])
    }

    /// Takes the image out again, whole, and checks its files.
    fn check(&self, small: &str) {
        let listed = self.ctr(&["images", "check"]);
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert!(listed.contains(NAME) && listed.contains("complete"), "{listed}");
        let archive = self.folder.path().join("out.tar").display().to_string();
        let exported = self.ctr(&["images", "export", &archive, NAME]);
        assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
        let env = TestEnv::new();
        env.rb(["image", "load", "-i", &archive]).expect(0);
        env.rb(["image", "unpack", "app:1", "files"]).expect(0);
        assert_eq!(env.read("files/small"), small);
        assert!(std::fs::read(env.project().join("files/large")).expect("reads") == noise(5, LARGE));
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // Without a panic in a panic: what cannot be ended is not ours any more.
        self.daemon.kill().ok();
        self.daemon.wait().ok();
    }
}

#[test]
fn containerd_is_sent_no_layer_that_it_has() {
    // containerd may refuse what lacks something, because it cleans up just then: all is sent in that case, and the spoiled
    // blob is noticed. That happens seldom, and not three times.
    for tries_left in [2, 1, 0] {
        let Some(containerd) = Containerd::start() else { return };
        let env = two_layers();
        containerd.load(&env).expect(0).says("loaded into containerd: layers sent 2, there before 0");
        containerd.check("1\n");
        env.write("small", "2\n");
        // Whoever read it would notice.
        spoil_largest_blob(&env);
        let again = containerd.load(&env);
        if again.code == 0 || tries_left == 0 {
            again.expect(0).says("layers sent 1, there before 1");
            containerd.check("2\n");
            return;
        }
    }
}

#[test]
fn what_containerd_has_lost_meanwhile_is_sent_all_the_same() {
    let Some(containerd) = Containerd::start() else { return };
    let env = two_layers();
    env.rb(["+image"]).expect(0);
    // It tells of all blobs there are.
    let blobs = env.state().join("blobs/sha256").display().to_string();
    env.write(
        "bin/ctr",
        format!(
            "#!/bin/sh\n[ \"$1\" = content ] && {{ ls {blobs} | sed 's/^/sha256:/'; exit; }}\nexec /usr/bin/ctr \"$@\"\n"
        ),
    );
    let program = env.project().join("bin/ctr");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("modes");
    let path = format!("{}:/usr/bin:/bin", env.project().join("bin").display());
    let variables = [("CONTAINERD_ADDRESS", containerd.address.as_str()), ("PATH", &path)];
    let run = env.rb_with(&variables, ["--load=containerd", "+image"]).expect(0);
    run.says("layers sent 2, there before 0");
    containerd.check("1\n");
}

#[test]
fn a_containerd_that_is_not_there_is_told() {
    let env = two_layers();
    let variables = [("CONTAINERD_ADDRESS", "/nonexistent/containerd.sock")];
    env.rb_with(&variables, ["--load=containerd", "+image"]).expect(3).says("there is no containerd");
}
