//! An init of ours before the command: what it does for programs that are no good as the first process.

use rb_exec::{ExecError, ExitStatus, KillSwitch, RootMount, Spec, run};
use rustix::process::Signal;

use crate::support::{Scratch, shell, stepping_aside, try_spec};

fn below_init(root: &RootMount, script: &str) -> Spec {
    Spec { init: true, ..shell(root.clone(), script) }
}

/// Leaves a process behind by forking twice, as daemons do, and becomes a program that waits for none. Another one then ends the
/// orphan, says what becomes of it, and lets all end.
const ORPHAN: &str = "mknod /fifo p; main=$$; \
    ( sh -c 'echo $$ > /orphan.new; ln /orphan.new /orphan; exec sleep 1000' & ); ( \
    until test -e /orphan; do sleep 0.05; done; orphan=$(cat /orphan); \
    until test \"$(cat /proc/$main/comm)\" = cat; do sleep 0.05; done; kill -9 $orphan; \
    until ! test -d /proc/$orphan || grep -q '^State:.Z' /proc/$orphan/status; do sleep 0.05; done; \
    tries=0; while test -d /proc/$orphan && test $tries -lt 20; do sleep 0.1; tries=$((tries + 1)); done; \
    if test -d /proc/$orphan; then echo stays; else echo is gone; fi; : > /fifo ) & exec cat /fifo";

#[test]
fn orphans_are_waited_for() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let root = || RootMount::directory(scratch.busybox("root"));
    let ran = try_spec(&below_init(&root(), ORPHAN)).unwrap();
    assert_eq!((ran.stdout.as_str(), ran.status), ("is gone\n", ExitStatus::Exited(0)), "{}", ran.stderr);
    let other = Scratch::new();
    let ran = try_spec(&shell(RootMount::directory(other.busybox("root")), ORPHAN)).unwrap();
    assert_eq!((ran.stdout.as_str(), ran.status), ("stays\n", ExitStatus::Exited(0)), "{}", ran.stderr);
}

#[test]
fn it_is_the_first_process_and_ends_as_the_command_does() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let root = RootMount::directory(scratch.busybox("root"));
    for (script, code) in [
        ("exit 5", 5),
        ("test $$ != 1 && test \"$PPID\" = 1", 0),
        // It is not our own program, and can be read by nobody as such.
        ("head -c 4 /proc/1/exe | grep -q ELF && test $(wc -c < /proc/1/exe) -lt 2000", 0),
        // What is left when the command has ended ends with it.
        ("sleep 1000 & exit 0", 0),
        // A command that is not the first process can be ended by a signal.
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
    ] {
        assert_eq!(
            try_spec(&below_init(&root, script)).unwrap().status,
            ExitStatus::Exited(code),
            "{script}"
        );
    }
    let none = Spec { args: vec!["no-such-program".to_owned()], ..below_init(&root, "") };
    assert!(matches!(try_spec(&none), Err(ExecError::NotFound { .. })));
}

#[test]
fn signals_reach_the_command() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let root = RootMount::directory(scratch.busybox("root"));
    // One that says nothing of a signal ends by it, as outside; one that does decides.
    let trap = "trap 'echo heard; exit 7' TERM; echo ready; while :; do sleep 0.05; done";
    for (script, code) in [("echo ready; exec sleep 1000", 143), (trap, 7)] {
        let kill = KillSwitch::new();
        let mut said = Vec::new();
        let outcome = run(&below_init(&root, script), &kill, &mut |_, bytes| {
            if said.is_empty() {
                kill.signal(Signal::TERM);
            }
            said.extend_from_slice(bytes);
        });
        assert_eq!(outcome.unwrap().status, ExitStatus::Exited(code), "{script}");
    }
}
