//! Nothing stays: no descriptor, mount, process or file.

use std::path::Path;
use std::sync::Mutex;

use rb_exec::{ExitStatus, KillSwitch, RootMount, Upper, run};

use crate::support::{Scratch, listing, shell, stepping_aside, try_spec};

/// What other tests of this binary, which run at the same time, also change; so this runs in a process of its own. What others
/// mount meanwhile is theirs: ours lies below `scratch` or is made of it.
fn count(scratch: &Path) -> (usize, Vec<String>, usize) {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let ours = scratch.to_str().unwrap();
    let mounts = mounts.lines().filter(|line| line.contains(ours)).map(ToOwned::to_owned).collect();
    let me = std::process::id().to_string();
    let children = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)) == Some(me.as_str())
        })
        .count();
    (descriptors, mounts, children)
}

fn many_runs() {
    let scratch = Scratch::new();
    let layers = vec![scratch.busybox("base"), scratch.directory("middle")];
    let work = |number: usize| {
        let name = |kind: &str| scratch.directory(&format!("{kind}{number}"));
        RootMount::overlay(layers.clone(), Some(Upper { upper: name("upper"), work: name("work") }))
    };
    // What is made once and kept, such as the trampoline, is made now.
    try_spec(&shell(work(1000), "true")).unwrap();
    let before = count(scratch.path());
    let numbers = Mutex::new(0..200usize);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let Some(number) = numbers.lock().unwrap().next() else { return };
                    let script =
                        format!("echo {number} > /result; (sleep 100 &); test $$ = 1 && exit {}", number % 7);
                    match try_spec(&shell(work(number), &script)) {
                        Ok(ran) if ran.status == ExitStatus::Exited((number % 7) as i32) => {}
                        other => failures.lock().unwrap().push(format!("{number}: {other:?}")),
                    }
                }
            });
        }
    });
    assert_eq!(*failures.lock().unwrap(), Vec::<String>::new());
    for number in 0..200 {
        assert_eq!(listing(&scratch.path().join(format!("upper{number}"))), ["result"], "{number}");
    }
    // Failing starts leave nothing either.
    for _ in 0..20 {
        let mut spec = shell(work(0), "true");
        spec.cwd = "/missing".to_owned();
        try_spec(&spec).unwrap_err();
        spec.cwd = String::new();
        spec.mounts.push(rb_exec::ExtraMount::Tmpfs {
            target: "relative".into(),
            size_bytes: None,
            mode: 0o755,
        });
        try_spec(&spec).unwrap_err();
    }
    assert_eq!(before, count(scratch.path()));
    // A log that panics ends the sandbox.
    let panicked = std::panic::catch_unwind(|| {
        let spec = shell(work(0), "echo x; sleep 1000");
        run(&spec, &KillSwitch::new(), &mut |_, _| panic!("on purpose")).unwrap();
    });
    assert!(panicked.is_err());
    assert_eq!(listing(&scratch.path().join("upper0")), ["result"]);
    // The thread that read the output closes its pipes a moment later.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(2);
    while count(scratch.path()) != before && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(before, count(scratch.path()));
}

#[test]
fn two_hundred_runs_eight_at_a_time_leave_nothing() {
    if stepping_aside() {
        return;
    }
    const ALONE: &str = "RB_EXEC_TEST_ALONE";
    if std::env::vars_os().any(|(name, _)| name == ALONE) {
        return many_runs();
    }
    let output = std::process::Command::new("/proc/self/exe")
        .args(["leaks::two_hundred", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Starts the example with a command that says `started`, and waits for that.
fn started(root: &Path, command: &[&str]) -> std::process::Child {
    let mut child = std::process::Command::new(crate::support::example())
        .arg(root)
        .args(command)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line)
        .unwrap();
    assert_eq!(line, "started\n");
    child
}

#[test]
fn a_killed_parent_takes_the_sandbox_along() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let root = scratch.busybox("root");
    let mut child = started(&root, &["/bin/sh", "-c", "echo started; sleep 4711"]);
    child.kill().unwrap();
    child.wait().unwrap();
    let alive = || {
        std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            std::fs::read(entry.path().join("cmdline")).is_ok_and(|command| command == b"sleep\x004711\0")
        })
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(2);
    while alive() {
        assert!(std::time::Instant::now() < deadline, "the sandbox outlived its parent");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Copies the machine's perl, and what it is linked with, into a root.
fn install_perl(root: &Path) {
    let linked = std::process::Command::new("ldd").arg("/usr/bin/perl").output().unwrap();
    let linked = String::from_utf8(linked.stdout).unwrap();
    let files = linked.split_whitespace().filter(|word| word.starts_with('/')).chain(["/usr/bin/perl"]);
    for file in files {
        let to = root.join(file.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        // By another process: a test that forks meanwhile would inherit the copy open for writing ("text file busy").
        assert!(std::process::Command::new("cp").args(["-L", file]).arg(&to).status().unwrap().success());
    }
}

/// Says a word half a second after it started, then keeps the lock of the pipe while it waits for bytes that never come.
const KEEP_THE_LOCK: &str = r#"
    socketpair(my $from, my $to, 1, 1, 0) or die;
    syswrite(STDOUT, "started\n");
    select(undef, undef, undef, 0.5);
    syswrite(STDOUT, "locked\n");
    syscall($ARGV[0] + 0, fileno($from), 0, 1, 0, 4096, 0);
"#;

#[test]
fn a_killed_parent_ends_though_its_sandbox_keeps_the_lock_of_a_pipe() {
    use std::time::{Duration, Instant};
    if stepping_aside() {
        return;
    }
    if !Path::new("/usr/bin/perl").exists() {
        eprintln!("stepping aside: this needs perl");
        return;
    }
    let splice = if cfg!(target_arch = "x86_64") { "275" } else { "76" };
    let scratch = Scratch::new();
    let root = scratch.busybox("root");
    install_perl(&root);
    let mut child = started(&root, &["/usr/bin/perl", "-e", KEEP_THE_LOCK, splice]);
    let signal = |signal| {
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, signal).unwrap();
    };
    // Stopped, it cannot read what comes before the lock is taken.
    signal(rustix::process::Signal::STOP);
    std::thread::sleep(Duration::from_millis(1000));
    signal(rustix::process::Signal::CONT);
    std::thread::sleep(Duration::from_millis(200));
    signal(rustix::process::Signal::KILL);
    let deadline = Instant::now() + Duration::from_secs(5);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "it cannot be killed: its sandbox keeps it");
        std::thread::sleep(Duration::from_millis(10));
    }
}
