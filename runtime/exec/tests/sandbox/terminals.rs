//! Commands with a terminal of their own.

use std::sync::atomic::{AtomicBool, Ordering};

use rb_exec::{ExitStatus, KillSwitch, RootMount, Size, Spec, Stream, Terminal, UserSpec, run};

use crate::support::{Scratch, output, shell, stepping_aside, try_spec};

fn in_terminal(scratch: &Scratch, script: &str) -> Spec {
    let mut spec = shell(RootMount::directory(scratch.busybox("root")), script);
    spec.terminal = Some(Terminal::new(Size { columns: 101, rows: 33 }));
    spec
}

#[test]
fn the_three_streams_are_the_controlling_terminal() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let script = "busybox tty; busybox stty size; for n in 0 1 2; do test -t $n && echo $n; done; echo x > /dev/tty; \
        echo y > /dev/console; echo z >&2; exit 7";
    let mut spec = in_terminal(&scratch, script);
    let ran = try_spec(&spec).unwrap();
    assert_eq!(ran.status, ExitStatus::Exited(7));
    let expected = "/dev/pts/0\r\n33 101\r\n0\r\n1\r\n2\r\nx\r\ny\r\nz\r\n";
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), (expected, ""));
    spec.terminal = None;
    let ran = try_spec(&spec).unwrap();
    assert!(ran.stdout.starts_with("not a tty"), "{ran:?}");
}

#[test]
fn the_terminal_is_the_users() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let mut spec =
        in_terminal(&scratch, "stat -L -c '%u %t' /dev/pts/0; echo x > /dev/tty; echo y > /dev/pts/0");
    spec.user = UserSpec("1234:1234".to_owned());
    assert_eq!(output(&spec), "1234 88\r\nx\r\ny\r\n");
}

#[test]
fn the_size_is_there_before_the_command() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let spec = in_terminal(&scratch, "busybox stty size");
    let terminal = spec.terminal.clone().unwrap();
    let is_over = AtomicBool::new(false);
    let said: Vec<_> = std::thread::scope(|scope| {
        // Whoever is busy with the terminal does not keep the size from it.
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    terminal.resize(Size { columns: 101, rows: 33 });
                }
            });
        }
        let said = (0..6).map(|_| try_spec(&spec).map(|ran| ran.stdout)).collect();
        is_over.store(true, Ordering::Relaxed);
        said
    });
    assert!(said.iter().all(|said| matches!(said.as_deref(), Ok("33 101\r\n"))), "{said:?}");
}

#[test]
fn a_new_size_is_told() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let script = "trap 'busybox stty size; exit 3' WINCH; echo ready; while :; do sleep 0.05; done";
    let spec = in_terminal(&scratch, script);
    let terminal = spec.terminal.clone().unwrap();
    let mut said = Vec::new();
    let outcome = run(&spec, &KillSwitch::new(), &mut |stream, bytes| {
        assert_eq!(stream, Stream::Stdout);
        said.extend_from_slice(bytes);
        if said.ends_with(b"ready\r\n") {
            terminal.resize(Size { columns: 60, rows: 20 });
        }
    });
    assert_eq!(outcome.unwrap().status, ExitStatus::Exited(3));
    assert_eq!(String::from_utf8_lossy(&said), "ready\r\n20 60\r\n");
}

#[test]
fn all_that_was_written_comes_out() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let said = output(&in_terminal(&scratch, "yes 0123456789 | head -n 20000"));
    assert_eq!(said.len(), 20000 * "0123456789\r\n".len());
}

#[test]
fn a_killed_command_lets_go_of_its_terminal() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let spec = in_terminal(&scratch, "echo ready; sleep 100");
    let kill = KillSwitch::new();
    let outcome = run(&spec, &kill, &mut |_, _| kill.kill());
    assert_eq!(outcome.unwrap().status, ExitStatus::Signaled(9));
    spec.terminal.unwrap().resize(Size::default());
}
