//! Commands: how they start, what they say, how they end.

use std::time::{Duration, Instant};

use rb_exec::{ExecError, ExitStatus, KillSwitch, Rlimit, RootMount, Spec, Stream, UserSpec, run};

use crate::support::{Scratch, output, shell, stepping_aside, try_spec, words};

fn root(scratch: &Scratch) -> RootMount {
    RootMount::directory(scratch.busybox("root"))
}

#[test]
fn exit_codes_and_signals() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let root = root(&scratch);
    for (script, status) in [
        ("exit 0", ExitStatus::Exited(0)),
        ("exit 1", ExitStatus::Exited(1)),
        ("exit 255", ExitStatus::Exited(255)),
        ("exit 127", ExitStatus::Exited(127)),
        // The shell is the first process of its namespace, which cannot kill itself; its child can.
        ("sh -c 'kill -9 $$'; exit $?", ExitStatus::Exited(137)),
        ("kill -9 $$; exit 3", ExitStatus::Exited(3)),
    ] {
        assert_eq!(try_spec(&shell(root.clone(), script)).unwrap().status, status, "{script}");
    }
    assert_eq!(ExitStatus::Signaled(9).code(), 137);
}

#[test]
fn streams_are_apart_and_standard_input_is_empty() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let spec =
        shell(root(&scratch), "cat; echo out; echo err >&2; echo again > /dev/stdout; test -c /dev/stdin");
    let ran = try_spec(&spec).unwrap();
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("out\nagain\n", "err\n"));
    assert_eq!(ran.status, ExitStatus::Exited(0));
}

#[test]
fn output_arrives_while_the_command_runs() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let spec = shell(root(&scratch), "echo first; sleep 0.6; echo second");
    let (started, mut first) = (Instant::now(), None);
    run(&spec, &KillSwitch::new(), &mut |_, _| {
        first.get_or_insert(started.elapsed());
    })
    .unwrap();
    assert!(first.unwrap() + Duration::from_millis(300) < started.elapsed());
}

#[test]
fn fifty_megabytes_on_each_stream_arrive_whole() {
    if stepping_aside() {
        return;
    }
    const SIZE: usize = 50 << 20;
    let scratch = Scratch::new();
    let spec = shell(
        root(&scratch),
        "dd if=/dev/zero bs=1048576 count=50 2>/dev/null & dd if=/dev/zero bs=1048576 count=50 3>&2 2>/dev/null >&3; wait",
    );
    let mut sizes = [0; 2];
    let mut log = |stream: Stream, bytes: &[u8]| sizes[usize::from(stream == Stream::Stderr)] += bytes.len();
    assert_eq!(run(&spec, &KillSwitch::new(), &mut log).unwrap().status, ExitStatus::Exited(0));
    assert_eq!(sizes, [SIZE; 2]);
}

/// Runs `script`, throws the switch when it says `ready`, and returns how long the end took from then on.
fn kill_when_ready(script: &str) -> Duration {
    let scratch = Scratch::new();
    let spec = shell(root(&scratch), script);
    let switch = KillSwitch::new();
    let (ready, when) = std::sync::mpsc::channel::<()>();
    let killer = std::thread::spawn({
        let switch = switch.clone();
        move || {
            when.recv().unwrap();
            let killed = Instant::now();
            switch.kill();
            killed
        }
    });
    let outcome = run(&spec, &switch, &mut |_, bytes| {
        if bytes.starts_with(b"ready") {
            ready.send(()).unwrap();
        }
    })
    .unwrap();
    assert_eq!(outcome.status, ExitStatus::Signaled(9));
    killer.join().unwrap().elapsed()
}

#[test]
fn kill_ends_everything_within_a_second() {
    if stepping_aside() {
        return;
    }
    for script in [
        "echo ready; sleep 1003",
        "trap '' TERM INT HUP; echo ready; while :; do sleep 1003; done",
        "(trap '' TERM; sleep 1003) & (setsid sh -c 'trap \"\" TERM HUP; sleep 1003 & sleep 1003' &) ; echo ready; wait",
        "(setsid sleep 1003 >/dev/null 2>&1 &); (setsid sleep 1003 &); echo ready; sleep 1003",
        "echo ready; yes",
    ] {
        let took = kill_when_ready(script);
        // Some more than the second, for a machine that is busy with other tests.
        assert!(took < Duration::from_secs(60), "{took:?} for {script}");
    }
    // All sleeps of this test are ours; the pid namespaces are gone and with them every process in them.
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        assert_ne!(command, b"sleep\x001003\0", "{:?}", entry.path());
    }
}

#[test]
fn daemons_end_with_the_command_and_do_not_hold_it() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let started = Instant::now();
    let spec = shell(root(&scratch), "(setsid sh -c 'trap \"\" TERM HUP; sleep 1001' &) ; echo done");
    assert_eq!(output(&spec), "done\n");
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_thrown_switch_refuses() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let switch = KillSwitch::new();
    switch.kill();
    assert!(switch.is_killed());
    let spec = shell(root(&scratch), "echo never");
    let answer = run(&spec, &switch, &mut |_, _| panic!("nothing may run"));
    assert!(matches!(answer, Err(ExecError::Cancelled)), "{answer:?}");
}

#[test]
fn environment_is_exactly_that_of_the_spec() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let mut spec = Spec::new(root(&scratch), words(&["env"]));
    let environment = |spec: &Spec| {
        let mut lines: Vec<String> = output(spec).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(environment(&spec), ["HOME=/", path]);
    spec.env = words(&["A=1", "EMPTY=", "PATH=/nowhere:/bin", "SPACE=a b\tc"]);
    assert_eq!(environment(&spec), ["A=1", "EMPTY=", "HOME=/", "PATH=/nowhere:/bin", "SPACE=a b\tc"]);
}

#[test]
fn users_by_name_and_number() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let directory = scratch.busybox("root");
    std::fs::create_dir(directory.join("etc")).unwrap();
    std::fs::write(
        directory.join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n",
    )
    .unwrap();
    std::fs::write(directory.join("etc/group"), "root:x:0:\napp:x:1001:\nextra:x:1500:app\n").unwrap();
    let script = "echo $(id -u) $(id -g) $(id -G) $HOME; echo to-stdout > /dev/stdout; grep -E '^(CapEff|Groups)' /proc/self/status";
    for (user, expected, groups) in [
        ("", "0 0 0 /root", "0"),
        ("app", "1000 1001 1001 1500 /home/app", "1001 1500"),
        ("1000:1000", "1000 1000 1000 /home/app", "1000"),
        ("app:extra", "1000 1500 1500 /home/app", "1500"),
        ("4242", "4242 0 0 /", "0"),
    ] {
        let mut spec = shell(RootMount::directory(&directory), script);
        spec.user = UserSpec(user.to_owned());
        let capabilities = if user.is_empty() { "00000000a80425fb" } else { "0000000000000000" };
        assert_eq!(
            output(&spec),
            format!("{expected}\nto-stdout\nGroups:\t{groups} \nCapEff:\t{capabilities}\n"),
            "{user}"
        );
    }
    let mut spec = shell(RootMount::directory(&directory), "true");
    spec.user = UserSpec("nobody".to_owned());
    assert!(matches!(try_spec(&spec), Err(ExecError::UnknownUser { user }) if user == "nobody"));
}

#[test]
fn what_cannot_be_executed_is_told_apart() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let directory = scratch.busybox("root");
    std::fs::write(directory.join("bin/script"), "#!/no/such/interpreter\n").unwrap();
    std::fs::write(directory.join("bin/text"), "neither ELF nor #!\n").unwrap();
    std::fs::write(directory.join("bin/data"), "").unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    for name in ["script", "text"] {
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(directory.join("bin").join(name), mode).unwrap();
    }
    let attempt = |program: &str| {
        let error =
            try_spec(&Spec::new(RootMount::directory(&directory), words(&[program, "x"]))).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(program) || program.is_empty(), "{text}");
        error
    };
    for program in ["nonesuch", "/bin/nonesuch", "bin/nonesuch", "/bin/ls/x", ""] {
        let error = attempt(program);
        assert!(matches!(error, ExecError::NotFound { .. }), "{program}: {error:?}");
    }
    for program in ["script", "/bin/script"] {
        let error = attempt(program);
        assert!(matches!(error, ExecError::InterpreterNotFound { .. }), "{program}: {error:?}");
    }
    for program in ["text", "data", "/bin"] {
        let error = attempt(program);
        assert!(matches!(error, ExecError::NotExecutable { .. }), "{program}: {error:?}");
    }
    let spec = Spec::new(RootMount::directory(&directory), vec![]);
    assert!(matches!(try_spec(&spec), Err(ExecError::NoCommand)));
    let spec = Spec::new(RootMount::directory(&directory), words(&["/bin/echo", "a\0b"]));
    assert!(matches!(try_spec(&spec), Err(ExecError::Nul { .. })));
    // A program that exits like a shell that found nothing is a program that ran.
    let ran = try_spec(&shell(RootMount::directory(&directory), "exit 127")).unwrap();
    assert_eq!(ran.status, ExitStatus::Exited(127));
}

#[test]
fn working_directories() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let directory = scratch.busybox("root");
    std::fs::create_dir_all(directory.join("inner/deep")).unwrap();
    std::os::unix::fs::symlink("/inner", directory.join("link")).unwrap();
    std::os::unix::fs::symlink("../../../../inner", directory.join("climb")).unwrap();
    for (cwd, expected) in
        [("", "/"), ("/inner/deep", "/inner/deep"), ("/link/deep", "/inner/deep"), ("/climb", "/inner")]
    {
        let mut spec = shell(RootMount::directory(&directory), "/bin/readlink /proc/self/cwd");
        spec.cwd = cwd.to_owned();
        assert_eq!(output(&spec), format!("{expected}\n"), "{cwd}");
    }
    for cwd in ["/missing", "/bin/busybox", "/proc/self/fd/3", "/proc/1/cwd", "/proc/self/root"] {
        let mut spec = shell(RootMount::directory(&directory), "pwd");
        spec.cwd = cwd.to_owned();
        let error = try_spec(&spec).unwrap_err();
        assert!(matches!(&error, ExecError::Cwd { cwd: named, .. } if named == cwd), "{error:?}");
    }
    let mut spec = Spec::new(RootMount::directory(&directory), words(&["deep/../../bin/echo", "relative"]));
    spec.cwd = "/inner".to_owned();
    assert_eq!(output(&spec), "relative\n");
}

#[test]
fn a_climbing_working_directory_is_entered_while_others_rename_and_mount() {
    use std::sync::atomic::{AtomicBool, Ordering};
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let directory = scratch.busybox("root");
    std::fs::create_dir(directory.join("inner")).unwrap();
    std::os::unix::fs::symlink("../../../../inner/../inner", directory.join("climb")).unwrap();
    let (one, other, place) =
        (scratch.directory("one"), scratch.path().join("other"), scratch.directory("place"));
    let stop = AtomicBool::new(false);
    let running = || !stop.load(Ordering::Relaxed);
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        scope.spawn(|| {
            while running() {
                std::fs::rename(&one, &other).unwrap();
                std::fs::rename(&other, &one).unwrap();
            }
        });
        scope.spawn(|| {
            // Of this thread alone.
            rb_sys::process::enter_mount_namespace().unwrap();
            while running() {
                rustix::mount::mount_bind(&directory, &place).unwrap();
                rustix::mount::unmount(&place, rustix::mount::UnmountFlags::DETACH).unwrap();
            }
        });
        let mut spec = Spec::new(RootMount::directory(&directory), words(&["true"]));
        spec.cwd = "/climb".to_owned();
        let outcomes = (0..300).map(|_| try_spec(&spec).map(|ran| ran.status)).collect();
        stop.store(true, Ordering::Relaxed);
        outcomes
    });
    for outcome in outcomes {
        assert_eq!(outcome.unwrap(), ExitStatus::Exited(0));
    }
}

#[test]
fn small_things() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let mut spec = shell(
        root(&scratch),
        "umask; hostname; cat /etc/hostname; ulimit -c; ulimit -n; ulimit -Hn; echo $$; cat /etc/hosts | grep -c db",
    );
    spec.hostname = "builder".to_owned();
    spec.hosts = vec![("db".to_owned(), "10.1.2.3".parse().unwrap())];
    spec.rlimits = vec![Rlimit { name: "nofile".to_owned(), soft: 77, hard: 99 }];
    assert_eq!(output(&spec), "0022\nbuilder\n0\n77\n99\n1\n1\n");
    spec.hostname_file = true;
    assert_eq!(output(&spec), "0022\nbuilder\nbuilder\n0\n77\n99\n1\n1\n");
    spec.rlimits = vec![Rlimit { name: "nonsense".to_owned(), soft: 1, hard: 1 }];
    assert!(matches!(try_spec(&spec), Err(ExecError::UnknownRlimit { .. })));
}

#[test]
fn the_hostname_of_a_root_is_its_own_file() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let directory = scratch.busybox("root");
    std::fs::create_dir(directory.join("etc")).unwrap();
    let mut spec = shell(
        RootMount::directory(&directory),
        "echo $(hostname) > /etc/hostname; grep hostname /proc/mounts || echo unmounted",
    );
    spec.hostname = "builder".to_owned();
    assert_eq!(output(&spec), "unmounted\n");
    assert_eq!(std::fs::read_to_string(directory.join("etc/hostname")).unwrap(), "builder\n");
}

#[test]
fn a_program_that_is_being_written_is_waited_for() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let directory = scratch.busybox("root");
    let spec = Spec::new(RootMount::directory(&directory), words(&["/bin/busybox", "true"]));
    let open = || std::fs::File::options().append(true).open(directory.join("bin/busybox")).unwrap();
    let writer = open();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(60));
            drop(writer);
        });
        assert_eq!(try_spec(&spec).unwrap().status, ExitStatus::Exited(0));
    });
    let _writer = open();
    assert!(matches!(try_spec(&spec), Err(ExecError::NotExecutable { .. })));
}
