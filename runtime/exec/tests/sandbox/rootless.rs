//! Users other than root, by re-executing the example `sandbox` as one.
//!
//! Subordinate ids are given to a user that exists only in a private mount namespace, where copies of /etc/passwd,
//! /etc/subuid and /etc/subgid are bound over the real ones.

use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::{Scratch, example_within, listing, stepping_aside};

const UID: u32 = 61001;

fn own(path: &Path) {
    chown(path, Some(UID), Some(UID)).unwrap();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if !path.is_symlink() {
                own(&path);
            }
        }
    }
}

/// A root, an upper and a work directory of the user's, and the example where the user can reach it.
pub(crate) struct User {
    scratch: Scratch,
}

impl User {
    pub(crate) fn new() -> Self {
        let scratch = Scratch::new();
        example_within(&scratch);
        own(&scratch.busybox("base"));
        for name in ["top", "upper", "work"] {
            own(&scratch.directory(name));
        }
        Self { scratch }
    }

    pub(crate) fn path(&self) -> &Path {
        self.scratch.path()
    }

    pub(crate) fn overlay(&self) -> String {
        let path = |name: &str| self.scratch.path().join(name).display().to_string();
        format!("overlay:{}:{}:{}:{}", path("upper"), path("work"), path("base"), path("top"))
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let id = UID.to_string();
        Command::new("setpriv")
            .args(["--reuid", &id, "--regid", &id, "--clear-groups"])
            .arg(self.scratch.path().join("sandbox"))
            .args(arguments)
            .output()
            .unwrap()
    }

    /// As `run`, with subordinate ids, in a mount namespace that sees them.
    pub(crate) fn run_with_sub_ids(&self, arguments: &[&str]) -> Output {
        let directory = self.scratch.directory("etc");
        for (file, line) in [
            ("passwd", format!("rbtest:x:{UID}:{UID}::/nonexistent:/bin/sh\n")),
            ("subuid", "rbtest:200000:65536\n".to_owned()),
            ("subgid", "rbtest:200000:65536\n".to_owned()),
        ] {
            let mut text = std::fs::read_to_string(Path::new("/etc").join(file)).unwrap_or_default();
            text.push_str(&line);
            std::fs::write(directory.join(file), text).unwrap();
        }
        let script = "for file in passwd subuid subgid; do mount --bind \"$0/$file\" /etc/$file || exit 124; done; \
            exec setpriv --reuid 61001 --regid 61001 --clear-groups \"$@\"";
        Command::new("unshare")
            .args(["--mount", "--propagation", "private", "/bin/sh", "-c", script])
            .arg(&directory)
            .arg(self.scratch.path().join("sandbox"))
            .args(arguments)
            .output()
            .unwrap()
    }
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// What a program sees must not depend on who runs `rb`.
const LOOK: &str = "id -u; id -g; grep -E '^Cap(Eff|Bnd)' /proc/self/status; echo x > /made; stat -c '%u %g' /made; \
    cd /proc; for p in [0-9]*; do echo $p; done; mount -t tmpfs x /bin 2>/dev/null || echo refused; \
    rm -rf /bin/yes; ls /bin/yes 2>/dev/null; head -c 2 /dev/zero | wc -c; echo x > /dev/null && ls /dev/pts; hostname";
const SEEN: &str =
    "0\n0\nCapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\n0 0\n1\nrefused\n2\nptmx\nlocalhost\n";

#[test]
fn root_sees_what_others_see() {
    if stepping_aside() {
        return;
    }
    let user = User::new();
    let output = Command::new(crate::support::example())
        .args([&user.overlay(), "/bin/sh", "-c", LOOK])
        .output()
        .unwrap();
    let (stdout, stderr) = text(&output);
    assert_eq!(stdout, SEEN, "{stderr}");
    assert!(stderr.starts_with("mode: Root"), "{stderr}");
}

#[test]
fn a_single_id() {
    if stepping_aside() {
        return;
    }
    let user = User::new();
    let (stdout, stderr) = text(&user.run(&[&user.overlay(), "/bin/sh", "-c", LOOK]));
    assert!(stderr.starts_with("mode: SingleId") && stderr.contains("/etc/subuid"), "{stderr}");
    assert_eq!(stdout, SEEN, "{stderr}");
    assert_eq!(listing(&user.scratch.path().join("upper")), ["bin", "bin/yes", "made"]);
    // Other ids do not exist, and that is said.
    let output = user.run(&["--user", "1000", &user.overlay(), "/bin/true"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output).1.contains("user 1000 cannot be used here"), "{output:?}");
    let output = user.run(&["--network", &user.overlay(), "/bin/sh", "-c", "cat /etc/resolv.conf; exit 5"]);
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert_eq!(output.stdout, std::fs::read("/etc/resolv.conf").unwrap());
}

#[test]
fn subordinate_ids() {
    if stepping_aside() {
        return;
    }
    let user = User::new();
    let script = format!("{LOOK}; touch /other && chown 12:34 /other && stat -c '%u %g' /other");
    let (stdout, stderr) = text(&user.run_with_sub_ids(&[&user.overlay(), "/bin/sh", "-c", &script]));
    assert!(stderr.starts_with("mode: SubIds { count: 65537 }"), "{stderr}");
    assert_eq!(stdout, format!("{SEEN}12 34\n"), "{stderr}");
    use std::os::unix::fs::MetadataExt as _;
    let other = std::fs::metadata(user.scratch.path().join("upper/other")).unwrap();
    assert_eq!((other.uid(), other.gid()), (200_011, 200_033));
    let output =
        user.run_with_sub_ids(&["--user", "1000:1000", &user.overlay(), "/bin/sh", "-c", "id -u; id -G"]);
    assert_eq!(text(&output).0, "1000\n1000\n", "{output:?}");
    assert!(!std::fs::read_to_string("/etc/passwd").unwrap().contains("rbtest"));
}

#[test]
fn directories_and_stubs_without_root() {
    if stepping_aside() {
        return;
    }
    let user = User::new();
    let base = user.scratch.path().join("base");
    let before = listing(&base);
    let (stdout, stderr) =
        text(&user.run(&[&base.display().to_string(), "/bin/sh", "-c", "ls /etc; ls /sys | wc -l"]));
    assert!(stdout.starts_with("hosts\n"), "{stdout} {stderr}");
    assert_eq!(listing(&base), before);
}

#[test]
fn root_without_power_over_mounts_uses_a_user_namespace() {
    if stepping_aside() {
        return;
    }
    let user = User::new();
    let bounds = "-all,+setuid,+setgid,+setfcap,+dac_override,+chown,+fowner,+kill,+setpcap";
    let output = Command::new("setpriv")
        .args(["--bounding-set", bounds, "--inh-caps", "-all"])
        .arg(user.scratch.path().join("sandbox"))
        .args([&user.overlay(), "/bin/sh", "-c", "id -u; touch /x && chown 12:34 /x && stat -c '%u %g' /x"])
        .output()
        .unwrap();
    let (stdout, stderr) = text(&output);
    assert!(stderr.starts_with("mode: SubIds"), "{stderr}");
    assert_eq!(stdout, "0\n12 34\n", "{stderr}");
}

#[test]
fn probes_tell_what_there_is() {
    if stepping_aside() {
        return;
    }
    let user = User::new();
    let output = user.run(&["--probe", &user.overlay(), "/bin/true"]);
    let (stdout, stderr) = text(&output);
    assert!(stdout.contains("Limited subordinate ids: only one id exists"), "{stdout}{stderr}");
    for name in ["overlayfs", "private /proc", "private network", "system call filter"] {
        assert!(stdout.contains(&format!("Works {name}")), "{name}: {stdout}");
    }
}

#[test]
fn entering_with_threads_is_refused() {
    // The test harness has threads.
    let error = rb_exec::enter_runtime().unwrap_err();
    assert!(matches!(error, rb_exec::ExecError::Threads { count } if count > 1), "{error:?}");
}
