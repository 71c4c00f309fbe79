//! Commands in a chroot: what they see, what is left of them, and what they cannot do; also in a container as a pod has it.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rb_exec::{
    Bind, ExecError, ExitStatus, ExtraMount, FileMount, Forward, Hidden, Isolation, KillSwitch, Limits,
    Network, OverlayMount, RootMount, Size, Socket, SocketMount, Spec, Terminal, UserSpec, run,
};

use crate::support::{
    Scratch, example, example_within, install_busybox, listing, output, shell, stepping_aside, try_spec,
    words,
};

/// A script in a chroot.
fn in_chroot(root: &Path, script: &str) -> Spec {
    let mut spec = shell(RootMount::directory(root), script);
    spec.isolation = Isolation::Chroot;
    spec.network = Network::Host;
    spec
}

fn lent(directory: &Path, selector: &str, target: &str, readonly: bool) -> ExtraMount {
    let root = RootMount::shared(directory);
    ExtraMount::Overlay(OverlayMount { root, selector: selector.into(), target: target.into(), readonly })
}

fn secret(target: &str) -> ExtraMount {
    let content = Hidden::new("hunter2");
    ExtraMount::File(FileMount { content, target: target.into(), uid: 0, gid: 0, mode: 0o400 })
}

/// Everything below a directory with what can be seen of it, times of change aside.
fn looks(root: &Path) -> Vec<(String, u32, u64, i64, i64)> {
    let look = |path: &str| {
        let stat = std::fs::symlink_metadata(root.join(path)).unwrap();
        (path.to_owned(), stat.mode(), stat.len(), stat.mtime(), stat.mtime_nsec())
    };
    std::iter::once(String::new()).chain(listing(root)).map(|path| look(&path)).collect()
}

/// Whether anything of a run is left beside its root.
fn nothing_beside(root: &Path) {
    assert!(!PathBuf::from(format!("{}.aside", root.display())).exists());
}

#[test]
fn a_command_sees_what_it_needs_and_leaves_what_it_did() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let root = scratch.busybox("root");
    std::fs::create_dir_all(root.join("etc")).unwrap();
    std::fs::create_dir_all(root.join("dev/kept")).unwrap();
    std::fs::write(root.join("etc/hosts"), "the image's\n").unwrap();
    let before = looks(&root);
    let script = "grep -c localhost /etc/hosts; grep box /etc/hosts; test -e /etc/hostname || echo unnamed; echo x > /dev/null; head -c 3 /dev/zero | wc -c; ls /proc /sys; \
        ls /dev | sort | grep -v -E 'full|null|random|tty|zero'; touch /dev/gone /dev/shm/gone /proc/gone; pwd; id -u; umask; exit 3";
    let mut spec = in_chroot(&root, script);
    spec.hostname = "box".into();
    let ran = try_spec(&spec).unwrap();
    assert_eq!(ran.status, ExitStatus::Exited(3), "{ran:?}");
    let expected = "2\n127.0.0.1\tbox\nunnamed\n3\n/proc:\n\n/sys:\nfd\nmqueue\nptmx\npts\nshm\nstderr\nstdin\nstdout\n/\n0\n0022\n";
    assert_eq!(ran.stdout, expected, "{}", ran.stderr);
    assert_eq!(looks(&root), before, "what was put there is out again, times included");
    nothing_beside(&root);
    assert_eq!(output(&in_chroot(&root, "echo made > /etc/made; rm /bin/yes; cat /etc/made")), "made\n");
    let after = listing(&root);
    assert!(after.contains(&"etc/made".to_owned()) && !after.contains(&"bin/yes".to_owned()), "{after:?}");
    assert_eq!(std::fs::read_to_string(root.join("etc/hosts")).unwrap(), "the image's\n");
    // Users, and what they may not.
    let mut spec = in_chroot(&root, "id -u; id -g; touch /nobody 2>/dev/null || echo refused");
    spec.user = UserSpec("1000:1001".into());
    assert_eq!(output(&spec), "1000\n1001\nrefused\n");
    // What is not there.
    let mut missing = in_chroot(&root, "");
    missing.args = words(&["/bin/nothing"]);
    assert!(matches!(try_spec(&missing), Err(ExecError::NotFound { .. })));
    let mut nowhere = in_chroot(&root, "true");
    nowhere.cwd = "/nowhere".into();
    assert!(matches!(try_spec(&nowhere), Err(ExecError::Cwd { .. })));
    nothing_beside(&root);
}

#[test]
fn mounts_are_put_in_and_taken_out() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let root = scratch.busybox("root");
    let (cache, input) = (scratch.directory("cache"), scratch.directory("input"));
    std::fs::create_dir_all(cache.join("part")).unwrap();
    std::fs::write(input.join("file"), "input\n").unwrap();
    std::fs::create_dir_all(root.join("work")).unwrap();
    std::fs::write(root.join("work/covered"), "").unwrap();
    let before = looks(&root);
    let script = "ls /work; cat /in/file /one; echo kept > /work/c; echo part > /part/p; echo gone > /tmpfs/t; cat /run/secrets/key; \
        stat -c %a /run/secrets/key; cat /work/inner";
    let mut spec = in_chroot(&root, script);
    spec.mounts = vec![
        secret("/run/secrets/key"),
        secret("/work/inner"),
        lent(&cache, "", "/work", false),
        lent(&input, "", "/in", true),
        ExtraMount::Tmpfs { target: "/tmpfs".into(), size_bytes: None, mode: 0o1777 },
    ];
    let other = scratch.directory("other");
    std::fs::create_dir_all(other.join("sub")).unwrap();
    std::fs::write(other.join("one"), "one\n").unwrap();
    spec.mounts.push(lent(&other, "sub", "/part", false));
    let single = scratch.directory("single");
    std::fs::write(single.join("one"), "one\n").unwrap();
    spec.mounts.push(lent(&single, "one", "/one", true));
    let ran = try_spec(&spec).unwrap();
    let expected = "inner\npart\ninput\none\nhunter2400\nhunter2";
    assert_eq!((ran.status, ran.stdout.as_str()), (ExitStatus::Exited(0), expected), "{}", ran.stderr);
    assert_eq!(looks(&root), before);
    assert_eq!(listing(&cache), ["c", "part"], "what is nested is out of it again");
    assert_eq!((listing(&other), listing(&input)), (words(&["one", "sub", "sub/p"]), words(&["file"])));
    nothing_beside(&root);
}

#[test]
fn what_a_sandbox_forbids_is_noticed() {
    if stepping_aside() {
        return;
    }
    for (script, target, what) in [
        ("echo x > /in/file", "/in", "changed"),
        ("rm -r /in", "/in", "removed"),
        ("mv /in /moved", "/in", "removed"),
        ("echo x >> /etc/hosts", "/etc/hosts", "changed"),
        ("rm /etc/resolv.conf; echo x > /etc/resolv.conf", "/etc/resolv.conf", "removed"),
        ("ln /secret /other", "/secret", ""),
        ("mv /secret /other", "/secret", "removed"),
        ("rm -r /cache; ln -s / /cache", "/cache", "removed"),
        // Nor does it help to be killed.
        ("echo x > /in/file; kill -9 $$", "/in", "changed"),
    ] {
        let scratch = Scratch::new();
        let root = scratch.busybox("root");
        let (input, cache) = (scratch.directory("input"), scratch.directory("cache"));
        std::fs::write(input.join("file"), "input\n").unwrap();
        let mut spec = in_chroot(&root, script);
        spec.mounts =
            vec![secret("/secret"), lent(&input, "", "/in", true), lent(&cache, "", "/cache", false)];
        match try_spec(&spec) {
            Err(ExecError::Forbidden { target: told, what: done }) => {
                assert!(told == target && done.contains(what), "{script}: {told} {done}");
            }
            other => panic!("{script}: {other:?}"),
        }
        let other = root.join("other");
        assert!(!other.exists() || std::fs::read(&other).unwrap().is_empty(), "{script}: the secret is left");
        nothing_beside(&root);
    }
    let scratch = Scratch::new();
    let root = scratch.busybox("root");
    let mut spec = in_chroot(&root, "true");
    spec.readonly_root = true;
    spec.mounts = vec![lent(&scratch.directory("cache"), "", "/cache", false)];
    output(&spec);
    spec.args = words(&["/bin/sh", "-c", "echo x > /cache/x"]);
    output(&spec);
    spec.args = words(&["/bin/sh", "-c", "echo x > /x"]);
    assert!(matches!(try_spec(&spec), Err(ExecError::Forbidden { target, .. }) if target == "/"));
}

#[test]
fn one_directory_is_at_one_place() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let root = scratch.busybox("root");
    let cache = scratch.directory("cache");
    for part in ["one/deep", "two"] {
        std::fs::create_dir_all(cache.join(part)).unwrap();
    }
    symlink("one", cache.join("link")).unwrap();
    let mut spec = in_chroot(&root, "echo x > /a/x; echo y > /b/y");
    for (first, second) in
        [("", ""), ("", "two"), ("two", ""), ("one", "one"), ("one", "link"), ("one", "one/deep")]
    {
        spec.mounts = vec![lent(&cache, first, "/a", false), lent(&cache, second, "/b", false)];
        let told = try_spec(&spec).unwrap_err();
        assert!(matches!(told, ExecError::ChrootUnable { .. }), "{first} {second}: {told:?}");
        assert!(told.to_string().contains("at two places, `/a` and `/b`"), "{told}");
        assert_eq!(listing(&cache), ["link", "one", "one/deep", "two"]);
        nothing_beside(&root);
    }
    // Two parts of it are two.
    spec.mounts = vec![lent(&cache, "one", "/a", false), lent(&cache, "two", "/b", false)];
    output(&spec);
    assert_eq!(listing(&cache), ["link", "one", "one/deep", "one/x", "two", "two/y"]);
}

#[test]
fn what_is_written_to_stderr_by_name_is_output() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let root = scratch.busybox("root");
    // Also by others than its owner's, and after the command has closed its own.
    let script = "echo one > /dev/stderr; echo two >&2; exec 2>/dev/null; echo three > /dev/stderr; \
        stat -c '%F %a %u' /dev/stderr; (echo four; echo five) > /dev/stderr; readlink /dev/stdout";
    for user in ["", "1000:1000"] {
        let mut spec = in_chroot(&root, script);
        spec.user = UserSpec(user.into());
        let ran = try_spec(&spec).unwrap();
        assert_eq!(ran.stderr, "one\ntwo\nthree\nfour\nfive\n");
        let owner = if user.is_empty() { 0 } else { 1000 };
        assert_eq!(ran.stdout, format!("fifo 600 {owner}\n/proc/self/fd/1\n"));
    }
    // What cannot be had is not made up: a file of that name would swallow it.
    for name in ["stdout", "stdin", "fd/1"] {
        let ran = try_spec(&in_chroot(&root, &format!("echo x > /dev/{name}"))).unwrap();
        assert!(ran.status == ExitStatus::Exited(1) && ran.stderr.contains(name), "{ran:?}");
    }
    nothing_beside(&root);
}

#[test]
fn an_agents_socket_is_reached_while_the_command_runs() {
    use std::io::{Read as _, Write as _};
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let root = scratch.busybox("root");
    let place = scratch.path().join("socket");
    let (socket, listener) = Socket::listen_at(&place, 12, 34, 0o600).unwrap();
    let script = "stat -c '%F %a %u %g' /agent/s; touch /begun; while [ ! -e /go ]; do sleep 0.02; done";
    let mut spec = in_chroot(&root, script);
    spec.mounts = vec![ExtraMount::Socket(SocketMount { socket, target: "/agent/s".into() })];
    // Whatever goes wrong, it ends.
    spec.timeout = Some(Duration::from_secs(60));
    std::thread::scope(|scope| {
        scope.spawn(|| listener.accept().unwrap().0.write_all(b"answer").unwrap());
        let running = scope.spawn(|| output(&spec));
        while !root.join("begun").exists() && !running.is_finished() {
            std::thread::sleep(Duration::from_millis(10));
        }
        // The very file that the command sees.
        let mut answer = String::new();
        let mut stream = std::os::unix::net::UnixStream::connect(root.join("agent/s")).unwrap();
        stream.read_to_string(&mut answer).unwrap();
        std::fs::write(root.join("go"), "").unwrap();
        assert_eq!((answer.as_str(), running.join().unwrap().as_str()), ("answer", "socket 600 12 34\n"));
    });
    drop(spec);
    assert!(!place.exists() && !root.join("agent").exists());
}

/// Whether a process of a run still writes to a file.
fn still_beats(file: &Path) -> bool {
    let read = || std::fs::metadata(file).unwrap().len();
    let before = read();
    std::thread::sleep(Duration::from_millis(300));
    read() != before
}

/// Leaves a process of another session behind, without a parent, which writes for ever.
const LEAVE_BEHIND: &str = "setsid sh -c '(while true; do echo x >> /beats; sleep 0.02; done) &' & while [ ! -s /beats ]; do sleep 0.02; done; ";

#[test]
fn nothing_outlives_a_command() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let root = scratch.busybox("root");
    let beats = root.join("beats");
    assert_eq!(
        try_spec(&in_chroot(&root, &format!("{LEAVE_BEHIND} exit 4"))).unwrap().status,
        ExitStatus::Exited(4)
    );
    assert!(!still_beats(&beats));
    // By signal, by timeout, by the switch.
    let ran = try_spec(&in_chroot(&root, &format!("{LEAVE_BEHIND} kill -TERM $$"))).unwrap();
    assert_eq!(ran.status, ExitStatus::Signaled(15));
    let mut late = in_chroot(&root, &format!("{LEAVE_BEHIND} sleep 1000"));
    late.timeout = Some(Duration::from_secs(1));
    let outcome = run(&late, &KillSwitch::new(), &mut |_, _| {}).unwrap();
    assert!(outcome.timed_out && outcome.status == ExitStatus::Signaled(9), "{outcome:?}");
    late.timeout = None;
    std::fs::remove_file(&beats).unwrap();
    let kill = KillSwitch::new();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| run(&late, &kill, &mut |_, _| {}));
        let deadline = Instant::now() + Duration::from_secs(60);
        while !beats.exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        kill.kill();
        assert_eq!(running.join().unwrap().unwrap().status, ExitStatus::Signaled(9));
    });
    assert!(!still_beats(&beats));
    nothing_beside(&root);
}

#[test]
fn nothing_outlives_this_program() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let root = scratch.busybox("root");
    let beats = root.join("beats");
    let mut program = Command::new(example())
        .args(["--chroot"])
        .arg(&root)
        .args(["/bin/sh", "-c", &format!("{LEAVE_BEHIND} sleep 1000")])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !beats.exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    program.kill().unwrap();
    program.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while still_beats(&beats) {
        assert!(Instant::now() < deadline, "a process of the command is left");
    }
}

#[test]
fn ways_out_are_closed() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let root = scratch.busybox("root");
    std::fs::write(scratch.path().join("outside"), "outside\n").unwrap();
    symlink(scratch.path(), root.join("link")).unwrap();
    let script = format!(
        "busybox chroot / true 2>/dev/null && echo chroot
        busybox mknod /disk b 8 0 2>/dev/null && echo disk
        cat /../../outside {outside} /link/outside 2>/dev/null
        for i in 3 4 5 6 7 8 9; do (: <&$i) 2>/dev/null && echo descriptor $i; done
        busybox mount -t proc none /proc 2>/dev/null && echo proc
        busybox unshare -r true 2>/dev/null && echo namespace
        cd /..; pwd",
        outside = scratch.path().join("outside").display()
    );
    let mut spec = in_chroot(&root, &script);
    // A place that leads out by a link is one inside.
    spec.mounts = vec![secret("/link/key")];
    let ran = try_spec(&spec).unwrap();
    assert_eq!(ran.stdout, "/\n", "{ran:?}");
    assert_eq!(listing(scratch.path()).iter().filter(|path| path.contains("key")).count(), 0);
    // Others of the same user are out of reach of signals, where the kernel can do that.
    if rb_sys::landlock::version().is_some_and(|version| version.shields_from_signals()) {
        let script = format!(
            "kill -0 {} 2>/dev/null && echo reached; kill -9 $PPID 2>/dev/null && echo keeper; echo end",
            std::process::id()
        );
        assert_eq!(output(&in_chroot(&root, &script)), "end\n");
    }
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let root = scratch.busybox("root");
    type Change = fn(&mut Spec);
    let cases: [(&str, Change); 10] = [
        ("keep a command from the network", |spec| spec.network = Network::None),
        ("all privileges", |spec| spec.insecure = true),
        ("terminal", |spec| spec.terminal = Some(Terminal::new(Size { rows: 24, columns: 80 }))),
        ("init", |spec| spec.init = true),
        ("/dev/shm", |spec| spec.shm_bytes = Some(1)),
        ("limit the processes", |spec| spec.limits = Limits { pids: Some(9), ..Limits::default() }),
        ("forward ports", |spec| {
            spec.forwards = vec![Forward { listen: "127.0.0.1:0".parse().unwrap(), port: 1 }];
        }),
        ("of this machine at `/m`", |spec| {
            let bind = Bind { source: "/etc".into(), target: "/m".into(), ..Bind::default() };
            spec.mounts = vec![ExtraMount::Bind(bind)];
        }),
        ("bound the size", |spec| {
            spec.mounts = vec![ExtraMount::Tmpfs { target: "/m".into(), size_bytes: Some(1), mode: 0o755 }];
        }),
        ("not copied", |spec| spec.root = RootMount::overlay(vec![PathBuf::from("/")], None)),
    ];
    for (words, change) in cases {
        let mut spec = in_chroot(&root, "touch /ran");
        change(&mut spec);
        let error = try_spec(&spec).unwrap_err();
        assert!(matches!(error, ExecError::ChrootUnable { .. }), "{words}: {error:?}");
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
    assert!(!root.join("ran").exists());
}

/// What a container of Docker or containerd may do if its user is root.
const CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Runs a program of this machine in a container of runc, with the rights of a pod that has none beyond the usual ones: no mounts, no
/// namespaces, and clone3 hidden as by the usual filters, as is one more call. `None` if there is no runc.
fn in_pod(scratch: &Scratch, uid: u32, hidden: &str, words: &[&str]) -> Option<Output> {
    if !["/usr/sbin/runc", "/usr/bin/runc"].iter().any(|path| Path::new(path).exists()) {
        eprintln!("stepping aside: this needs runc");
        return None;
    }
    let names: Vec<String> = CAPABILITIES.iter().map(|name| format!("\"CAP_{name}\"")).collect();
    let held = if uid == 0 { names.join(",") } else { String::new() };
    let args: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    let config = format!(
        r#"{{"ociVersion":"1.0.2","root":{{"path":"rootfs","readonly":true}},"hostname":"pod",
        "process":{{"user":{{"uid":{uid},"gid":{uid}}},"args":[{args}],"env":["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],"cwd":"/",
        "capabilities":{{"bounding":[{held}],"effective":[{held}],"permitted":[{held}]}}}},
        "mounts":[{{"destination":"/proc","type":"proc","source":"proc","options":["nosuid","noexec","nodev"]}},
        {{"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","mode=755","size=65536k"]}},
        {{"destination":"{scratch}","type":"bind","source":"{scratch}","options":["rbind","rw"]}}],
        "linux":{{"namespaces":[{{"type":"pid"}},{{"type":"mount"}},{{"type":"ipc"}},{{"type":"uts"}},{{"type":"network"}}],
        "maskedPaths":["/proc/kcore","/proc/keys"],"readonlyPaths":["/proc/sys","/proc/bus"],
        "seccomp":{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {{"names":["clone3","{hidden}"],"action":"SCMP_ACT_ERRNO","errnoRet":38}},
        {{"names":["mount","umount2","unshare","setns","pivot_root","open_tree","move_mount","fsopen","fsmount","keyctl","sethostname"],"action":"SCMP_ACT_ERRNO","errnoRet":1}}]}}}}}}"#,
        args = args.join(","),
        scratch = scratch.path().display(),
    );
    let bundle = scratch.directory("bundle");
    std::fs::create_dir_all(bundle.join("rootfs")).unwrap();
    std::fs::write(bundle.join("config.json"), config).unwrap();
    let script = "mount --rbind / \"$0/rootfs\" && exec runc --root \"$0/state\" run --bundle \"$0\" \"$1\"";
    // Control groups whose names begin with `rb-` are swept away by every `rb` when they are empty, as runc's is at first.
    let name = format!("pod-{}", scratch.path().file_name().unwrap().to_string_lossy());
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(&bundle).arg(&name);
    Some(command.stdin(Stdio::null()).output().unwrap())
}

#[test]
fn a_pod_without_privileges_runs_commands() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let root = scratch.directory("root");
    install_busybox(&root);
    let program = example_within(&scratch).display().to_string();
    let place = root.display().to_string();
    let script = "id -u; echo x > /dev/null && touch /made && chown 12:34 /made && stat -c '%u %g' /made; (setsid sleep 1000 &); exit 6";
    let words = [program.as_str(), "--chroot", &place, "/bin/sh", "-c", script];
    let Some(ran) = in_pod(&scratch, 0, "clone3", &words) else { return };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&ran.stdout), text(&ran.stderr));
    assert_eq!((ran.status.code(), stdout.as_str()), (Some(6), "0\n12 34\n"), "{stderr}");
    assert_eq!(listing(&root).iter().filter(|path| !path.starts_with("bin")).collect::<Vec<_>>(), ["made"]);
    // Where a sandbox cannot be made.
    let ran = in_pod(&scratch, 0, "clone3", &[program.as_str(), &place, "/bin/true"]).unwrap();
    assert!(ran.status.code() == Some(125) && text(&ran.stderr).contains("user namespaces"), "{ran:?}");
    // Nor anything for somebody else.
    let ran = in_pod(&scratch, 1000, "clone3", &words).unwrap();
    assert!(ran.status.code() == Some(125) && text(&ran.stderr).contains("user 1000 is not root"), "{ran:?}");
    // Without Landlock a command can end its keeper: that is no result.
    let script = "(setsid sleep 1000 &); kill -9 $PPID; sleep 1000";
    let words = [program.as_str(), "--chroot", &place, "/bin/sh", "-c", script];
    let ran = in_pod(&scratch, 0, "landlock_create_ruleset", &words).unwrap();
    assert!(ran.status.code() == Some(125) && text(&ran.stderr).contains("watches over"), "{ran:?}");
}
