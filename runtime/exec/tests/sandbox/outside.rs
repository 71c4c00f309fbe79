//! Commands outside of sandboxes, by re-executing the example `outside`: a process that has no threads yet.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::Scratch;

const UID: u32 = 61003;

fn example() -> PathBuf {
    let tests = std::fs::read_link("/proc/self/exe").unwrap();
    let path = tests.parent().and_then(Path::parent).unwrap().join("examples/outside");
    assert!(path.exists(), "{} is missing: cargo build -p rb-exec --example outside", path.display());
    path
}

/// Whether the runtime cannot be entered here; most of what follows does not need it.
fn stay() -> bool {
    !rustix::process::geteuid().is_root()
}

fn outside(options: &[&str], script: &str) -> Command {
    let mut command = Command::new(example());
    if stay() {
        command.arg("--stay");
    }
    command.args(options).args(["/bin/sh", "-c", script]).stdin(Stdio::piped());
    command
}

fn ran(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

fn eventually(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Processes whose arguments hold `mark`, zombies aside.
fn processes(mark: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            line.windows(mark.len()).any(|window| window == mark.as_bytes())
        })
        .count()
}

#[test]
fn streams_codes_and_signals_come_through() {
    let (code, stdout, stderr) = ran(&mut outside(&[], "echo out; echo err >&2; exit 7"));
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (7, "out\n", "err\n"));
    assert_eq!(ran(&mut outside(&[], "kill -SEGV $$")).0, 128 + 11);
    // Standard input is empty, however long that of rb goes on.
    assert_eq!(ran(&mut outside(&[], "cat; readlink /proc/self/fd/0")).1, "/dev/null\n");
}

#[test]
fn a_command_has_the_users_environment_and_a_folder() {
    let scratch = Scratch::new();
    let cwd = scratch.path().canonicalize().unwrap();
    let shown = cwd.display().to_string();
    let script = "echo $HERE $THERE $PWD; pwd -P; umask; /bin/readlink /proc/self/cwd";
    let mut command = outside(&["--cwd", &shown, "--env", "THERE=new"], script);
    let (_, stdout, stderr) = ran(command.env("HERE", "kept").env("THERE", "old"));
    let umask = ran(Command::new("sh").args(["-c", "umask"])).1;
    assert_eq!(stdout, format!("kept new {shown}\n{shown}\n{umask}{shown}\n"), "{stderr}");
    let mut command = outside(&["--clear", "--env", "A=b c"], "/usr/bin/env | /usr/bin/sort");
    let stdout = ran(command.env("HERE", "gone")).1;
    assert!(stdout.contains("A=b c\n") && stdout.contains("PWD=/\n") && !stdout.contains("HERE"), "{stdout}");
}

#[test]
fn nothing_of_ours_leaks() {
    // Descriptor 7 is inherited by rb itself; the commands get three, and `ls` opens one.
    let mut command = Command::new("sh");
    command.args(["-c", "exec 7</etc/passwd; exec \"$@\"", "sh"]).arg(example());
    let (code, stdout, stderr) = ran(command.args(["--stay", "ls", "/proc/self/fd"]));
    assert_eq!((code, stdout.as_str()), (0, "0\n1\n2\n3\n"), "{stderr}");
    // The C library ignores two signals of its own, 32 and 33, in what it spawns.
    let masks = "sed -n 's/^Sig[BI][lg][kn]:.//p' /proc/self/status | tr 18 00 | uniq";
    let stdout = ran(&mut outside(&[], masks)).1;
    assert_eq!(stdout, "0000000000000000\n");
}

#[test]
fn much_output_arrives_whole() {
    let output =
        outside(&[], "head -c 50000000 /dev/zero; echo end >&2; head -c 1000 /dev/zero").output().unwrap();
    assert_eq!((output.stdout.len(), output.stderr.as_slice()), (50_001_000, &b"end\n"[..]));
    assert!(output.stdout.iter().all(|byte| *byte == 0));
}

#[test]
fn input_arrives_whole_beside_output_and_need_not_be_read() {
    let size = 5_000_000.to_string();
    // More than any pipe holds, both ways at once.
    let output = outside(&["--input", &size], "cat; cat; echo end >&2").output().unwrap();
    assert_eq!((output.stdout.len(), output.stderr.as_slice()), (5_000_000, &b"end\n"[..]));
    assert!(output.stdout.iter().all(|byte| *byte == b'i'));
    assert_eq!(ran(&mut outside(&["--input", "3"], "cat; test -p /dev/stdin && echo pipe")).1, "iiipipe\n");
    // Unread, closed, and left to a process that outlives the command.
    assert_eq!(
        ran(&mut outside(&["--input", &size], "echo done; exit 4")),
        (4, "done\n".into(), String::new())
    );
    assert_eq!(ran(&mut outside(&["--input", &size], "exec <&-; sleep 0.2; echo done")).1, "done\n");
    assert_eq!(ran(&mut outside(&["--input", &size], "sleep 0.3 & echo done")).1, "done\n");
    let (code, _, stderr) = ran(&mut outside(&["--input", &size, "--kill", "300"], "sleep 98.7605"));
    assert_eq!((code, processes("98.7605")), (128 + 9, 0), "{stderr}");
}

#[test]
fn many_run_at_once() {
    let began = Instant::now();
    let (code, stdout, stderr) = ran(&mut outside(&["--times", "20"], "sleep 3; echo $NUMBER"));
    let mut numbers: Vec<u32> = stdout.lines().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!((code, numbers), (0, (0..20).collect()), "{stderr}");
    assert!(began.elapsed() < Duration::from_secs(45), "{:?}", began.elapsed());
}

#[test]
fn what_cannot_start_says_why() {
    let scratch = Scratch::new();
    let file = |name: &str, text: &str, mode: u32| {
        let path = scratch.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let orphan = file("orphan", "#!/nonexistent/sh\n", 0o755);
    let plain = file("plain", "text", 0o644);
    for (arguments, said) in [
        (vec!["rb-no-such-program"], "NotFoundOutside { program: \"rb-no-such-program\" }"),
        (vec!["/nonexistent/program"], "NotFoundOutside"),
        (vec![orphan.as_str()], "InterpreterNotFound"),
        (vec![plain.as_str()], "NotExecutable"),
        (vec!["/"], "NotExecutable"),
        (vec!["--cwd", "/nonexistent", "true"], "Cwd { cwd: \"/nonexistent\", source: Os { code: 2"),
        (vec!["--cwd", "/etc/passwd", "true"], "Cwd { cwd: \"/etc/passwd\", source: Os { code: 20"),
        (vec!["--cwd", "etc", "true"], "Cwd { cwd: \"etc\""),
        // A keeper that is gone is missed, not waited for.
        (vec!["sh", "-c", "kill -KILL $PPID"], "Outside { source: Kind(UnexpectedEof) }"),
        (vec![], "NoCommand"),
        (vec![""], "NoCommand"),
    ] {
        let (code, _, stderr) = ran(Command::new(example()).arg("--stay").args(&arguments));
        assert_eq!(code, 125, "{arguments:?} {stderr}");
        assert!(stderr.starts_with(said), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_kill_takes_the_whole_tree() {
    // A child in the group, one in a session of its own, and one that lost its parent.
    let script = "sleep 98.7601 & setsid sleep 98.7601 & (setsid sh -c 'setsid sleep 98.7601 & exec true' &); \
        trap '' TERM INT HUP; echo ready; sleep 98.7601; sleep 98.7601";
    let began = Instant::now();
    let (code, stdout, stderr) = ran(&mut outside(&["--kill", "4000"], script));
    assert_eq!((code, stdout.as_str()), (128 + 9, "ready\n"), "{stderr}");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!(processes("98.7601"), 0);
}

#[test]
fn when_rb_dies_so_does_the_tree() {
    let script = "(setsid sh -c 'setsid sleep 98.7602 & exec true' &); sleep 98.7602; echo never";
    let mut command = outside(&[], script);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    eventually("both run", || processes("sleep\x0098.7602") == 2);
    child.kill().unwrap();
    child.wait().unwrap();
    // Neither the doorman nor a keeper holds on to our output.
    let mut rest = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
    eventually("all have ended", || processes("98.7602") == 0);
}

#[test]
fn what_is_left_running_is_left_and_makes_nobody_wait() {
    // With the command's output inherited, with a reader that is a pipeline, and an endless writer.
    let began = Instant::now();
    let script = "sleep 98.7603 & yes 98.7603 & echo $!";
    let (code, stdout, _) = ran(&mut outside(&[], script));
    assert_eq!(code, 0);
    assert!(stdout.lines().any(|line| line.parse::<u32>().is_ok()), "{} bytes", stdout.len());
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    // `yes` ended as nobody reads; `sleep` is there.
    eventually("the writer ends", || processes("yes\x0098.7603") == 0);
    assert_eq!(processes("sleep\x0098.7603"), 1);
    ran(Command::new("sh").args([
        "-c",
        "for p in /proc/[0-9]*; do if tr '\\0' ' ' <$p/cmdline 2>/dev/null | \
        grep -qx 'sleep 98.7603 '; then kill ${p#/proc/}; fi; done",
    ]));
    // What comes late by a process that is about to end arrives.
    let (_, stdout, _) = ran(&mut outside(&[], "(sleep 0.02; echo late) & echo early"));
    assert_eq!(stdout, "early\nlate\n");
}

#[test]
fn the_terminals_signals_do_not_arrive() {
    // A signal to the whole group of rb, as the terminal sends it; rb ignores it here, so it decides to go on.
    let script = "trap 'echo hit' INT; sleep 0.5; echo done; test -t 0 || (: </dev/tty) 2>/dev/null || echo no terminal";
    let wrapper = "trap '' INT; exec 3>&1; (sleep 0.2; kill -INT 0) & exec \"$@\"";
    let mut command = Command::new("setsid");
    command.args(["sh", "-c", wrapper, "sh"]).arg(example());
    let (code, stdout, stderr) = ran(command.args(["--stay", "/bin/sh", "-c", script]));
    assert_eq!((code, stdout.as_str()), (0, "done\nno terminal\n"), "{stderr}");
}

#[test]
fn root_changes_the_hosts_own_mounts() {
    if stay() {
        eprintln!("stepping aside: this needs root");
        return;
    }
    let scratch = Scratch::new();
    let place = scratch.directory("mount").display().to_string();
    // In a mount namespace of the test's, which stands for the host's.
    let script = "mount --make-rprivate /; \"$0\" mount -t tmpfs rb-outside \"$1\" && grep -c rb-outside /proc/self/mounts; \
        readlink /proc/self/ns/mnt; \"$0\" readlink /proc/self/ns/mnt";
    let (code, stdout, stderr) =
        ran(Command::new("unshare").args(["--mount", "sh", "-c", script]).arg(example()).arg(&place));
    let lines: Vec<&str> = stdout.lines().collect();
    let [count, host, seen] = lines.as_slice() else { panic!("{stdout} {stderr}") };
    assert_eq!((code, *count, host), (0, "1", seen), "{stderr}");
}

#[test]
fn other_users_stay_themselves() {
    if stay() {
        eprintln!("stepping aside: this needs root");
        return;
    }
    let scratch = Scratch::new();
    std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = scratch.path().join("outside");
    // By another process: a test that forks meanwhile would inherit the copy open for writing.
    assert!(Command::new("cp").arg(example()).arg(&program).status().unwrap().success());
    let user = |arguments: &[&str]| {
        let id = UID.to_string();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(&program).args(arguments);
        ran(&mut command)
    };
    let namespaces = "readlink /proc/self/ns/user /proc/self/ns/mnt";
    let (code, stdout, stderr) = user(&["sh", "-c", &format!("id -u; {namespaces}")]);
    if stderr.contains("UserNamespace") {
        eprintln!("stepping aside: {stderr}");
        return;
    }
    let here = ran(Command::new("sh").args(["-c", namespaces])).1;
    assert_eq!((code, stdout), (0, format!("{UID}\n{here}")), "{stderr}");
    // From within its user namespace, rb can still end what runs outside.
    let script = "(setsid sleep 98.7604 &); sleep 98.7604; sleep 98.7604";
    let (code, _, stderr) = user(&["--kill", "3000", "sh", "-c", script]);
    assert_eq!((code, processes("98.7604")), (128 + 9, 0), "{stderr}");
}

#[test]
fn it_is_too_late_with_threads() {
    // The test harness has threads.
    let error = rb_exec::Outside::start().unwrap_err();
    assert!(matches!(error, rb_exec::ExecError::Threads { count } if count > 1), "{error:?}");
}
