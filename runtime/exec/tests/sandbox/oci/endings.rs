//! How commands of other runtimes end: killed, at a limit, in a crowd, with us; and that nothing of them is left.

use super::*;

/// Runs it, and does something when it has said something.
fn disturbed(spec: &Spec, disturb: impl Fn(&KillSwitch)) -> ExecOutcome {
    let kill = KillSwitch::new();
    let mut said = String::new();
    let outcome = run(spec, &kill, &mut |_: Stream, bytes| {
        said.push_str(&String::from_utf8_lossy(bytes));
        if said.ends_with("ready\n") {
            disturb(&kill);
        }
    });
    outcome.unwrap_or_else(|error| panic!("{error:?}: {said}"))
}

#[test]
fn a_command_is_ended_with_all_its_processes() {
    let scratch = Scratch::new();
    for (name, runtime) in runtimes(&scratch) {
        let root = RootMount::directory(scratch.busybox(name));
        let spec = |script: &str| Spec { runtime: Some(runtime.clone()), ..shell(root.clone(), script) };
        let long = spec(&format!(
            "trap '' TERM INT; setsid sleep {0} & sleep {0} & echo ready; sleep {0}",
            long_time(1)
        ));
        assert_eq!(disturbed(&long, KillSwitch::kill).status, ExitStatus::Signaled(9), "{name}");
        assert!(!is_alive(&long_time(1)), "{name}");
        let timed =
            Spec { timeout: Some(Duration::from_secs(1)), ..spec(&format!("sleep {}", long_time(2))) };
        let outcome = run(&timed, &KillSwitch::new(), &mut |_, _| {}).unwrap();
        assert_eq!((outcome.status, outcome.timed_out), (ExitStatus::Signaled(9), true), "{name}");
        assert!(!is_alive(&long_time(2)), "{name}");
        // A signal means to the command what it means in our own sandbox.
        let deaf = disturbed(&spec(&format!("echo ready; sleep {}", long_time(3))), |kill| {
            kill.signal(Signal::TERM);
        });
        assert_eq!(deaf.status, ExitStatus::Signaled(15), "{name}");
        let heard = spec("trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done");
        let heard = disturbed(&heard, |kill| kill.signal(Signal::TERM));
        assert_eq!(heard.status, ExitStatus::Exited(7), "{name}");
        // What outlives the first process does not.
        let left = run(
            &spec(&format!("setsid sleep {} & exit 4", long_time(4))),
            &KillSwitch::new(),
            &mut |_, _| {},
        )
        .unwrap();
        assert_eq!(left.status, ExitStatus::Exited(4), "{name}");
        assert!(!is_alive(&long_time(4)), "{name}");
    }
    assert!(!scratch.path().join("place").exists() || listing(&scratch.path().join("place")).is_empty());
}

/// Seconds that nobody else sleeps for.
fn long_time(number: u32) -> String {
    format!("1{:07}{number}", std::process::id())
}

/// Whether somebody sleeps for so long.
fn is_alive(seconds: &str) -> bool {
    let wanted = format!("sleep\0{seconds}\0");
    let sleeps = |entry: std::fs::DirEntry| {
        std::fs::read(entry.path().join("cmdline")).is_ok_and(|command| command == wanted.as_bytes())
    };
    std::fs::read_dir("/proc").unwrap().flatten().any(sleeps)
}

/// The control groups of this name's beginning.
fn groups(at: &Path, beginning: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(beginning) {
                found.push(entry.path().display().to_string());
            }
            found.extend(groups(&entry.path(), beginning));
        }
    }
    found
}

#[test]
fn limits_hold_and_no_group_is_left() {
    let scratch = Scratch::new();
    for (name, runtime) in runtimes(&scratch) {
        let root = RootMount::directory(scratch.busybox(name));
        let crowd = "cat /proc/self/cgroup; for i in 1 2 3 4 5 6; do for j in 1 2 3 4 5 6 7 8; do sleep 1000 & done; done; wait";
        let mut spec = Spec { runtime: Some(runtime.clone()), ..shell(root, crowd) };
        // The runtime's own threads are in it, too.
        spec.limits = Limits { pids: Some(32), ..Limits::default() };
        let ran = match try_spec(&spec) {
            Err(error @ ExecError::Cgroup { .. }) => {
                eprintln!("stepping aside: this needs control groups that may be written: {error}");
                return;
            }
            ran => ran.unwrap(),
        };
        let is_within = ran.stdout.lines().any(|line| line.contains("pids:") && line.contains("/rb-"));
        let is_within =
            is_within || ran.stdout.lines().any(|line| line.starts_with("0::") && line.contains("/rb-"));
        assert!(is_within && ran.stderr.contains("fork"), "{name}: {ran:?}");
    }
    let own = format!("rb-{}-", std::process::id());
    let deadline = Instant::now() + PATIENCE;
    // Other tests of this process have groups for a while.
    while !groups(Path::new("/sys/fs/cgroup"), &own).is_empty() {
        assert!(Instant::now() < deadline, "{:?}", groups(Path::new("/sys/fs/cgroup"), &own));
        std::thread::sleep(Duration::from_millis(50));
    }
    // Those of the runtimes, had they made any, would be named after the container.
    assert_eq!(groups(Path::new("/sys/fs/cgroup"), "rb-step"), [""; 0]);
}

#[test]
fn a_network_that_leads_outside_is_the_same_one() {
    let scratch = Scratch::new();
    let runtimes = runtimes(&scratch);
    if runtimes.is_empty() {
        return;
    }
    let router = match Router::start() {
        Ok(router) => router,
        Err(error) => {
            eprintln!("stepping aside: this needs networks: {error}");
            return;
        }
    };
    same(&scratch, &runtimes, "outside", &|root| Spec {
        network: Network::Member(router.join().unwrap()),
        ..shell(
            root,
            "ls /sys/class/net; grep -c nameserver /etc/resolv.conf; ip route | head -n 1 | grep -o '^default'",
        )
    });
}

#[test]
fn many_at_once_share_a_place() {
    let scratch = Scratch::new();
    let base = scratch.path().join("base");
    for (name, runtime) in runtimes(&scratch) {
        let base = if base.exists() { base.clone() } else { scratch.busybox("base") };
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (scratch, base, runtime) = (&scratch, &base, &runtime);
                scope.spawn(move || {
                    for turn in 0..3 {
                        let name = format!("{name}-{number}-{turn}");
                        let said = seen(base, scratch, &name, Some(runtime), &|root| {
                            shell(root, &format!("echo {number} > /result; exit {number}"))
                        });
                        assert!(said.starts_with(&format!("Exited({number})")), "{said}");
                        assert!(said.contains("result 100644"), "{said}");
                    }
                });
            }
        });
    }
}

/// Whom it runs as, what it may, what it makes, and what it is given.
const LOOK: &str = "id -u; grep -E '^(Cap(Eff|Bnd)|Seccomp:)' /proc/self/status; echo x > /made; stat -c '%u %g' /made; rm /bin/yes; \
    cd /proc; for p in [0-9]*; do echo $p; done; mount -t tmpfs x /bin 2>/dev/null || echo refused; echo x > /dev/null; \
    hostname; ls /sys | wc -l; ls /sys/class/net; exit 5";

#[test]
fn without_root_a_runtime_does_the_same() {
    let scratch = Scratch::new();
    for (name, _) in runtimes(&scratch) {
        for with_sub_ids in [false, true] {
            let seen = |options: &[&str]| {
                let user = User::new();
                let overlay = user.overlay();
                let words = [options, &[&overlay, "/bin/sh", "-c", LOOK]].concat();
                let output = if with_sub_ids { user.run_with_sub_ids(&words) } else { user.run(&words) };
                let upper = listing(&user.path().join("upper"));
                let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
                let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
                (output.status.code(), stdout, stderr, upper)
            };
            let (own, other) = (seen(&[]), seen(&["--runtime", name]));
            assert_eq!(own, other, "{name}, with subordinate ids: {with_sub_ids}");
            assert_eq!(own.0, Some(5), "{own:?}");
        }
    }
}

#[test]
fn when_we_are_killed_nothing_is_left() {
    let scratch = Scratch::new();
    for (name, _) in runtimes(&scratch) {
        let root = scratch.busybox(name);
        let seconds = long_time(5);
        let mut child = Command::new(example())
            .args(["--runtime", name])
            .arg(&root)
            .args(["/bin/sh", "-c", &format!("setsid sleep {seconds} & echo started; sleep {seconds}")])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "started\n", "{name}");
        child.kill().unwrap();
        child.wait().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while is_alive(&seconds) {
            assert!(Instant::now() < deadline, "{name}: the command outlived its parent");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&scratch.path().display().to_string()));
}
