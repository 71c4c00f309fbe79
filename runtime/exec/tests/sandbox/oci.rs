//! Other runtimes: a command sees and makes the same as in our own sandbox, ends as there, and leaves nothing behind.

mod endings;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rb_exec::{
    Bind, ExecError, ExecOutcome, ExitStatus, ExtraMount, FileMount, Hidden, Hook, KillSwitch, Limits,
    Moment, Network, OverlayMount, Rlimit, RootMount, Router, Runtime, Spec, Stream, Upper, UserSpec, run,
};
use rustix::process::Signal;

use crate::rootless::User;
use crate::support::{Scratch, example, listing, shell, stepping_aside, try_spec};

/// After so long something does not come any more, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(600);

/// The runtimes of this machine, which see their bundles in a directory of `scratch`; says which there are not.
fn runtimes(scratch: &Scratch) -> Vec<(&'static str, Runtime)> {
    if stepping_aside() {
        return Vec::new();
    }
    let place = scratch.directory("place");
    let named = ["crun", "runc"].map(|name| (name, Runtime::named(name, &place)));
    let is_there = |(name, runtime): &(&str, Runtime)| {
        let is_there = runtime.program().is_absolute();
        if !is_there {
            eprintln!("stepping aside: this needs {name}");
        }
        is_there
    };
    named.into_iter().filter(is_there).collect()
}

/// What a root has below, with owners, modes and contents.
fn tree(directory: &Path) -> Vec<String> {
    let about = |path: String| {
        let at = directory.join(&path);
        let found = std::fs::symlink_metadata(&at).unwrap();
        let content = if found.is_file() { std::fs::read(&at).unwrap() } else { Vec::new() };
        let (mode, uid, gid) = (found.mode(), found.uid(), found.gid());
        format!("{path} {mode:o} {uid}:{gid} {:x} {}", found.rdev(), String::from_utf8_lossy(&content))
    };
    listing(directory).into_iter().map(about).collect()
}

/// One script in a root of its own; its end, what it said and what it made, or why it did not start.
fn seen(
    base: &Path,
    scratch: &Scratch,
    name: &str,
    runtime: Option<&Runtime>,
    made: &dyn Fn(RootMount) -> Spec,
) -> String {
    let directory = |kind: &str| scratch.directory(&format!("{kind}-{name}"));
    let (upper, work) = (directory("upper"), directory("work"));
    let root = RootMount::overlay(vec![base.to_owned()], Some(Upper { upper: upper.clone(), work }));
    let spec = Spec { runtime: runtime.cloned(), ..made(root) };
    let said = match try_spec(&spec) {
        Ok(ran) => format!("{:?}\n{}--\n{}--", ran.status, ran.stdout, ran.stderr),
        Err(error) => error.to_string(),
    };
    format!("{said}\n{}", tree(&upper).join("\n"))
}

/// Runs it with each runtime and expects what our own sandbox gives, which is returned.
#[track_caller]
fn same(
    scratch: &Scratch,
    runtimes: &[(&str, Runtime)],
    name: &str,
    made: &dyn Fn(RootMount) -> Spec,
) -> String {
    let base = scratch.path().join("base");
    let base = if base.exists() { base } else { scratch.busybox("base") };
    let own = seen(&base, scratch, &format!("{name}-own"), None, made);
    for (runtime, value) in runtimes {
        let other = seen(&base, scratch, &format!("{name}-{runtime}"), Some(value), made);
        assert_eq!(own, other, "{name}: rb's own sandbox, then {runtime}");
    }
    assert_eq!(listing(&scratch.path().join("place")), [""; 0], "{name}");
    own
}

/// A program that tells in a file of this machine that it was started, and what it heard of the container.
fn hook(scratch: &Scratch, moment: Moment, name: &str) -> Hook {
    let said = scratch.path().join("hooks").display().to_string();
    let script = format!("read state; case $state in *'\"bundle\"'*) echo {name} $X >> {said};; esac");
    let args = ["sh", "-c", &script].map(ToOwned::to_owned).to_vec();
    Hook { moment, path: "/bin/sh".into(), args, env: vec!["X=x".to_owned()], timeout_seconds: None }
}

#[test]
fn hooks_are_started_around_a_command() {
    let scratch = Scratch::new();
    let base = scratch.busybox("base");
    for (name, runtime) in runtimes(&scratch) {
        let said = scratch.path().join("hooks");
        drop(std::fs::remove_file(&said));
        let moments = [Moment::CreateRuntime, Moment::CreateContainer, Moment::Poststart, Moment::Poststop];
        let names = ["runtime", "container", "started", "stopped"];
        let hooks: Vec<Hook> =
            moments.into_iter().zip(names).map(|(moment, name)| hook(&scratch, moment, name)).collect();
        let made = |root| Spec { hooks: hooks.clone(), ..shell(root, "echo hello; test ! -e /bin/bash") };
        let seen = seen(&base, &scratch, &format!("hooked-{name}"), Some(&runtime), &made);
        assert!(seen.contains("hello"), "{name}: {seen}");
        let told = std::fs::read_to_string(&said).unwrap();
        assert_eq!(told, "runtime x\ncontainer x\nstarted x\nstopped x\n", "{name}");
        // One that fails fails the step, which does not run.
        let mut failing = hook(&scratch, Moment::CreateRuntime, "x");
        failing.args = ["sh", "-c", "exit 7"].map(ToOwned::to_owned).to_vec();
        let made = |root| Spec { hooks: vec![failing.clone()], ..shell(root, "touch /ran") };
        let failed = self::seen(&base, &scratch, &format!("failing-{name}"), Some(&runtime), &made);
        assert!(failed.contains("hook") && !failed.contains("ran "), "{name}: {failed}");
    }
}

#[test]
fn a_command_sees_the_same_as_in_our_own_sandbox() {
    let scratch = Scratch::new();
    let runtimes = runtimes(&scratch);
    if runtimes.is_empty() {
        return;
    }
    for (name, script) in [
        ("ids", "id; id -G"),
        ("rights", "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status"),
        ("environment", "env | sort; pwd; umask"),
        ("limits", "cat /proc/self/limits"),
        ("names", "cat /etc/hosts /etc/hostname; hostname; ls /etc"),
        ("processes", "cd /proc; for p in [0-9]*; do echo $p; done; echo $$; cat /proc/self/cgroup"),
        ("network", "ls /sys/class/net; ip addr show lo; cat /etc/resolv.conf 2>/dev/null || echo none"),
        (
            "devices",
            "ls /dev; echo x > /dev/null; head -c 2 /dev/zero | wc -c; echo out > /dev/stdout; echo x > /dev/shm/y",
        ),
        (
            "nodes",
            "mknod /dev/disk b 8 0 && head -c 1 /dev/disk; mknod /disk b 8 0; head -c 1 /disk; echo $?",
        ),
        (
            "hidden",
            "cat /proc/kcore /proc/keys | wc -c; ls -A /sys/firmware; echo x > /proc/sys/kernel/hostname",
        ),
        (
            "calls",
            "unshare -U true; echo $?; unshare -m true; echo $?; mount -t tmpfs x /bin; echo $?; touch /sys/x",
        ),
        ("input", "cat; cat /dev/stdin; echo out; echo err >&2"),
        ("codes", "sh -c 'kill -9 $$'; echo $?; kill -9 $$; exit 3"),
        ("code", "exit 255"),
        (
            "files",
            "mkdir -p /a/b; echo hello > /a/b/c; chmod 4750 /a/b/c; chown 12:34 /a; ln -s c /a/b/d; mknod /a/p p; rm /bin/yes; \
             touch /bin/ls; echo more >> /bin/sh-made; umask 077; touch /private",
        ),
    ] {
        same(&scratch, &runtimes, name, &|root| shell(root, script));
    }
}

#[test]
fn what_a_spec_asks_for_is_given_by_all() {
    let scratch = Scratch::new();
    let runtimes = runtimes(&scratch);
    if runtimes.is_empty() {
        return;
    }
    let rights = "id; grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status";
    // One that lies in the root works as little as one that is made.
    let node = scratch.busybox("base").join("node");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &node,
        rustix::fs::FileType::BlockDevice,
        rustix::fs::Mode::from_raw_mode(0o666),
        rustix::fs::makedev(8, 0),
    )
    .unwrap();
    let user =
        |name: &'static str| move |root| Spec { user: UserSpec(name.to_owned()), ..shell(root, rights) };
    let of_user = same(&scratch, &runtimes, "user", &user("1000:1001"));
    assert!(
        of_user.contains("uid=1000 gid=1001") && of_user.contains("CapEff:\t0000000000000000"),
        "{of_user}"
    );
    let insecure = same(&scratch, &runtimes, "insecure", &|root| Spec {
        insecure: true,
        ..shell(
            root,
            "grep -E '^(Cap|Seccomp:)' /proc/self/status; mount -t tmpfs x /bin && echo mounted; ls /sys/fs/cgroup",
        )
    });
    assert!(insecure.contains("Seccomp:\t0") && insecure.contains("mounted"), "{insecure}");
    same(&scratch, &runtimes, "no-more", &|root| Spec { no_new_privileges: true, ..shell(root, rights) });
    let readonly = same(&scratch, &runtimes, "readonly", &|root| Spec {
        readonly_root: true,
        ..shell(
            root,
            "touch /x; touch /dev/x && echo there; head -c 1 /node; grep -c ' / .*nodev' /proc/mounts",
        )
    });
    assert!(readonly.contains("Read-only") && readonly.contains("there"), "{readonly}");
    assert!(readonly.contains("/node: Permission denied"), "{readonly}");
    same(&scratch, &runtimes, "readonly-insecure", &|root| Spec {
        readonly_root: true,
        insecure: true,
        ..shell(root, "touch /x; head -c 1 /node; grep -c ' / .*nodev' /proc/mounts")
    });
    same(&scratch, &runtimes, "hosts", &|root| Spec {
        hostname: "builder".to_owned(),
        hosts: vec![("db".to_owned(), [10, 0, 0, 7].into())],
        env: vec!["A=b c".to_owned(), "PATH=/bin".to_owned()],
        secret_env: vec![("TOKEN".to_owned(), Hidden::new("hunter2".as_bytes()))],
        cwd: "/bin".to_owned(),
        rlimits: vec![Rlimit { name: "nofile".to_owned(), soft: 77, hard: 99 }],
        shm_bytes: Some(1 << 20),
        ..shell(
            root,
            "cat /etc/hosts; hostname; env | sort; pwd; grep files /proc/self/limits; grep shm /proc/mounts | head -n 1",
        )
    });
    let host = same(&scratch, &runtimes, "host", &|root| Spec {
        network: Network::Host,
        ..shell(root, "readlink /proc/self/ns/net; cat /etc/resolv.conf")
    });
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert!(host.contains(&own.display().to_string()), "{host}");
}

#[test]
fn mounts_are_those_of_our_own_sandbox() {
    let scratch = Scratch::new();
    let runtimes = runtimes(&scratch);
    if runtimes.is_empty() {
        return;
    }
    let (shown, layer) = (scratch.directory("shown"), scratch.directory("layer/part"));
    std::fs::write(shown.join("file"), "of outside").unwrap();
    std::fs::write(layer.join("x"), "of a layer").unwrap();
    let made = |root: RootMount| {
        let mut spec = shell(
            root,
            "for f in /shown/file /part/x /run/secret; do cat $f; echo; stat -c '%a %u %g' $f; touch $f; done; ls /link/",
        );
        let bind = |source: &Path, target: &str, readonly| {
            ExtraMount::Bind(Bind {
                source: source.to_owned(),
                target: target.to_owned(),
                readonly,
                recursive: false,
                nosuid: false,
                noexec: false,
            })
        };
        spec.mounts = vec![
            bind(&shown, "/shown", true),
            // A link of the root leads where it would in the sandbox.
            bind(&shown, "/link/inner", false),
            ExtraMount::Overlay(OverlayMount {
                root: RootMount::overlay(vec![scratch.path().join("layer")], None),
                selector: "/part".to_owned(),
                target: "/part".to_owned(),
                readonly: true,
            }),
            ExtraMount::Tmpfs { target: "/run".to_owned(), size_bytes: Some(1 << 20), mode: 0o1777 },
            ExtraMount::File(FileMount {
                content: Hidden::new("hunter2".as_bytes()),
                target: "/run/secret".to_owned(),
                uid: 5,
                gid: 6,
                mode: 0o400,
            }),
        ];
        spec
    };
    std::os::unix::fs::symlink("/linked", scratch.busybox("base").join("link")).unwrap();
    let said = same(&scratch, &runtimes, "mounts", &made);
    assert!(said.contains("of outside") && said.contains("of a layer") && said.contains("400 5 6"), "{said}");
    // Where something is mounted, and of which type; how a path is hidden differs.
    let points = |name: &str, runtime: Option<&Runtime>| -> BTreeSet<String> {
        let listed = seen(&scratch.path().join("base"), &scratch, name, runtime, &|root| Spec {
            args: shell(root.clone(), "cat /proc/mounts").args,
            ..made(root)
        });
        let lines = listed.lines().skip(1).take_while(|line| *line != "--");
        let point = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            let hides = words[1].starts_with("/proc/") || words[1].starts_with("/sys/");
            if hides { words[1].to_owned() } else { format!("{} {}", words[1], words[2]) }
        };
        lines.map(point).collect()
    };
    let own = points("points-own", None);
    assert!(own.contains("/run/secret tmpfs") && own.contains("/dev/mqueue mqueue"), "{own:?}");
    for (name, runtime) in &runtimes {
        assert_eq!(own, points(&format!("points-{name}"), Some(runtime)), "{name}");
    }
}

#[test]
fn what_cannot_start_is_told_alike() {
    let scratch = Scratch::new();
    let runtimes = runtimes(&scratch);
    if runtimes.is_empty() {
        return;
    }
    let base = scratch.busybox("base");
    for (name, content, mode) in
        [("plain", "x", 0o644), ("garbage", "garbage", 0o755), ("lost", "#!/nowhere\n", 0o755)]
    {
        std::fs::write(base.join(name), content).unwrap();
        std::fs::set_permissions(base.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    for (program, text) in [
        ("no-such-program", "was not found"),
        ("/plain", "cannot be executed"),
        ("/garbage", "cannot be executed"),
        ("/lost", "its interpreter"),
    ] {
        let said = same(&scratch, &runtimes, program.trim_start_matches('/'), &|root| {
            Spec::new(root, vec![program.to_owned()])
        });
        assert!(said.contains(text), "{said}");
    }
    let said =
        same(&scratch, &runtimes, "cwd", &|root| Spec { cwd: "/nowhere".to_owned(), ..shell(root, "true") });
    assert!(said.contains("/nowhere"), "{said}");
    std::os::unix::fs::symlink("/bin", base.join("to-bin")).unwrap();
    let said =
        same(&scratch, &runtimes, "linked", &|root| Spec { cwd: "/to-bin".to_owned(), ..shell(root, "pwd") });
    assert!(said.contains("/bin\n"), "{said}");
    std::os::unix::fs::symlink("/proc/self/fd/7/..", base.join("leads")).unwrap();
    // What a runtime cannot do is refused, with its name.
    for (name, runtime) in &runtimes {
        let tmpfs = ExtraMount::Tmpfs { target: "/proc/x".to_owned(), size_bytes: None, mode: 0o755 };
        let root = || RootMount::overlay(vec![base.clone()], None);
        for spec in [
            Spec { init: true, ..shell(root(), "true") },
            Spec { mounts: vec![tmpfs], ..shell(root(), "true") },
            Spec { cwd: "/proc/self/fd/7".to_owned(), ..shell(root(), "pwd") },
            Spec { cwd: "/leads/out".to_owned(), ..shell(root(), "pwd") },
        ] {
            let error = try_spec(&Spec { runtime: Some(runtime.clone()), ..spec }).unwrap_err();
            let is_named = matches!(&error, ExecError::RuntimeUnable { runtime, .. } if runtime == name);
            assert!(is_named || matches!(error, ExecError::MountPoint { .. }), "{error:?}");
        }
    }
}
