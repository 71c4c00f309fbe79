//! Repositories behind a real sshd: who it is, and who asks.
//!
//! Each connection gets an sshd of its own, in a mount namespace that is gone with it, so nothing of this machine changes.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::git_host::GitHost;
use crate::env::{TestEnv, Who, is_root};

const SSHD: &str = "/usr/sbin/sshd";

/// An sshd of the test's; it ends with the process.
pub(crate) struct Sshd {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) port: u16,
}

impl Sshd {
    /// Starts one; none where it cannot be had.
    pub(crate) fn start() -> Option<Self> {
        if !is_root() || !Path::new(SSHD).exists() {
            eprintln!("stepping aside: this needs root and sshd (Debian: openssh-server)");
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        for name in ["host", "own", "other"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", &path(name)])
                .status();
            assert!(made.expect("ssh-keygen runs").success());
        }
        std::fs::copy(path("own.pub"), path("authorized")).expect("copies");
        let config = format!(
            "HostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
             PermitRootLogin prohibit-password\nLogLevel QUIET\nUseDNS no\n",
            path("host"),
            path("authorized")
        );
        std::fs::write(path("config"), config).expect("writes");
        // What sshd wants of a machine: its folder, its user, and a root who may log in.
        let script = format!(
            "cp /etc/passwd {d}/passwd.$$ && (grep -q ^sshd: /etc/passwd || echo sshd:x:100:65534::/run/sshd:/bin/false >> {d}/passwd.$$) \
             && mount --bind {d}/passwd.$$ /etc/passwd && sed 's/^root:[^:]*:/root:*:/' /etc/shadow > {d}/shadow.$$ \
             && mount --bind {d}/shadow.$$ /etc/shadow && mount -t tmpfs none /run && mkdir /run/sshd \
             && exec {SSHD} -i -f {d}/config",
            d = folder.path().display(),
        );
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let port = listener.local_addr().expect("has an address").port();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let script = script.clone();
                std::thread::spawn(move || {
                    let line = OwnedFd::from(stream);
                    let other = line.try_clone().expect("a descriptor");
                    let served = Command::new("unshare")
                        .args(["--mount", "--propagation", "private", "sh", "-c", &script])
                        .stdin(Stdio::from(line))
                        .stdout(Stdio::from(other))
                        .stderr(Stdio::null())
                        .status();
                    // A client that goes away is no fault of the host's.
                    drop(served);
                });
            }
        });
        Some(Self { folder, port })
    }

    /// Writes who it is where a user's ssh looks.
    fn make_known(&self, env: &TestEnv, key: &str) {
        let key = std::fs::read_to_string(self.folder.path().join(key)).expect("reads");
        let home = env.project().parent().expect("lies in a folder").join("home/.ssh");
        std::fs::create_dir_all(&home).expect("makes folders");
        std::fs::write(home.join("known_hosts"), format!("[127.0.0.1]:{} {key}", self.port)).expect("writes");
        env.hand_over();
    }
}

/// A repository with a target, and where it is.
fn repository(host: &GitHost) -> PathBuf {
    let repository = host.repository("team/lib.git");
    repository.write(
        "Buildfile",
        "VERSION 1\nt:\n    FROM scratch\n    COPY text /\n    SAVE ARTIFACT /text AS LOCAL out\n",
    );
    repository.write("text", "by ssh\n");
    repository.commit();
    repository.path
}

#[test]
fn a_known_host_and_a_key_of_the_agent() {
    let Some(sshd) = Sshd::start() else { return };
    let host = GitHost::start();
    let path = repository(&host);
    let place = path.parent().and_then(Path::parent).expect("lies in a folder").display();
    // Its home is this environment's, so is what its ssh knows of hosts.
    let env = TestEnv::of(Who::SubIds);
    let config = env.project().parent().expect("lies in a folder").join("config.toml");
    let text = format!("[git.'git.example']\nurl = 'ssh://root@127.0.0.1:{}{place}'\n", sshd.port);
    std::fs::write(&config, text).expect("writes");
    // The keys are read by the user.
    let [own, other] = ["own", "other"].map(|name| {
        let copy = env.project().parent().expect("lies in a folder").join(name);
        std::fs::copy(sshd.folder.path().join(name), &copy).expect("copies");
        format!("default={}", copy.display())
    });
    env.hand_over();
    let config = config.to_str().expect("is text");
    let rb = |args: &[&str]| env.rb_with(&[("RB_CONFIG", config)], args);
    let target = "git.example/team/lib+t";
    rb(&[target]).expect(2).says("needs an ssh agent").says("--ssh default");
    rb(&["--ssh", &own, target]).expect(2).says("cannot be trusted").says("ssh-keyscan");
    sshd.make_known(&env, "other.pub");
    rb(&["--ssh", &own, target]).expect(2).says("cannot be trusted");
    sshd.make_known(&env, "host.pub");
    rb(&["--ssh", &other, target]).expect(2).says("does not take what was shown");
    rb(&["--ssh", &own, target]).expect(0);
    assert_eq!(env.read("out"), "by ssh\n");

    env.write(
        "Buildfile",
        format!(
            "VERSION 1\nt:\n    FROM scratch\n    GIT CLONE ssh://root@127.0.0.1:{}{} /app\n    SAVE ARTIFACT /app/text AS LOCAL cloned\n",
            sshd.port,
            path.display()
        ),
    );
    env.hand_over();
    env.rb(["--ssh", &own, "+t"]).expect(0);
    assert_eq!(env.read("cloned"), "by ssh\n");
}
