use super::*;

fn run(namespaces: Namespaces, steps: Vec<Step>) -> (Ended, Option<Failure>) {
    let mut program = Program::new();
    for step in steps {
        program.push(step);
    }
    let mut child = program.spawn(namespaces).unwrap();
    let ended = child.wait().unwrap();
    (ended, child.failure().unwrap())
}

fn execute(words: &[&str]) -> Step {
    let text = |word: &&str| CString::new(*word).unwrap();
    Step::Execute {
        candidates: vec![c"/nonexistent/sh".to_owned(), c"/bin/sh".to_owned()],
        arguments: words.iter().map(text).collect(),
        environment: vec![c"A=b".to_owned()],
        init: false,
    }
}

fn below_init(step: Step) -> Step {
    match step {
        Step::Execute { candidates, arguments, environment, init: _ } => {
            Step::Execute { candidates, arguments, environment, init: true }
        }
        other => other,
    }
}

#[test]
fn exit_codes_come_back() {
    assert_eq!(run(Namespaces::default(), vec![]), (Ended::Exited(0), None));
    assert_eq!(run(Namespaces::default(), vec![Step::Exit(7)]), (Ended::Exited(7), None));
    let steps = vec![execute(&["sh", "-c", "exit 9"])];
    assert_eq!(run(Namespaces::default(), steps), (Ended::Exited(9), None));
    let steps = vec![execute(&["sh", "-c", "kill -TERM $$"])];
    assert_eq!(run(Namespaces::default(), steps), (Ended::Signaled(15), None));
}

#[test]
fn a_failing_step_is_named() {
    let steps = vec![Step::Umask(0o22), Step::ChangeDirectory(c"/nonexistent".to_owned()), Step::Exit(0)];
    assert_eq!(run(Namespaces::default(), steps), (Ended::Exited(127), Some(Failure::Step(1, libc::ENOENT))));
    let steps = || {
        vec![Step::Execute {
            candidates: vec![c"/nonexistent".to_owned(), c"/etc/passwd".to_owned()],
            arguments: vec![c"x".to_owned()],
            environment: vec![],
            init: false,
        }]
    };
    let not_executed = (Ended::Exited(127), Some(Failure::Execute(libc::EACCES)));
    assert_eq!(run(Namespaces::default(), steps()), not_executed);
    assert_eq!(run(Namespaces::default(), steps().into_iter().map(below_init).collect()), not_executed);
}

#[test]
fn an_init_ends_as_its_child_does() {
    for (script, code) in [("exit 0", 0), ("exit 9", 9), ("kill -TERM $$", 143), ("kill -KILL $$", 137)] {
        let steps = vec![below_init(execute(&["sh", "-c", script]))];
        assert_eq!(run(Namespaces::default(), steps), (Ended::Exited(code), None), "{script}");
    }
    // The child leads a group of its own, in the same session, has its streams alone and no signal blocked.
    let script = "set -- $(cut -d' ' -f5 /proc/$$/stat) && test $1 = $$ && test \"$A\" = b && \
        test \"$(ls /proc/self/fd | wc -l)\" = 4 && grep -q '^SigBlk:\t0*$' /proc/self/status";
    let steps = vec![below_init(execute(&["sh", "-c", script]))];
    assert_eq!(run(Namespaces::default(), steps), (Ended::Exited(0), None));
}

#[test]
fn an_init_hands_signals_on() {
    let mut program = Program::new();
    let (ready, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let theirs = program.lend(theirs);
    program.push(Step::Duplicate { file: theirs, to: 1 });
    let script = "trap 'exit 7' USR1; echo ready; while :; do sleep 0.05; done";
    program.push(below_init(execute(&["sh", "-c", script])));
    let mut child = program.spawn(Namespaces::default()).unwrap();
    drop(program);
    assert!(rustix::io::read(&ready, &mut [0; 8]).unwrap() > 0);
    rustix::process::pidfd_send_signal(child.pidfd(), rustix::process::Signal::USR1).unwrap();
    assert_eq!(child.wait().unwrap(), Ended::Exited(7));
}

#[test]
fn only_streams_stay_open_and_no_magic_link_is_entered() {
    let script = "test \"$(ls /proc/self/fd | wc -l)\" = 4 && test \"$A\" = b"; // ls itself opens the fourth
    assert_eq!(run(Namespaces::default(), vec![execute(&["sh", "-c", script])]), (Ended::Exited(0), None));
    let steps = vec![Step::ChangeDirectory(c"/proc/self/cwd".to_owned())];
    assert_eq!(run(Namespaces::default(), steps).1, Some(Failure::Step(0, libc::ELOOP)));
}

#[test]
fn dropping_a_child_ends_it() {
    let mut program = Program::new();
    program.push(execute(&["sh", "-c", "sleep 100"]));
    let child = program.spawn(Namespaces::default()).unwrap();
    let pidfd = Arc::clone(child.pidfd());
    drop(child);
    assert!(rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL).is_err());
}

#[test]
fn ignored_signals_and_masks_do_not_pass() {
    let script = "grep -E '^Sig(Ign|Blk)' /proc/self/status | grep -v 0000000000000000 && exit 1; exit 0";
    assert_eq!(run(Namespaces::default(), vec![execute(&["sh", "-c", script])]), (Ended::Exited(0), None));
}

#[test]
fn a_directory_is_entered_through_climbing_links_however_much_is_renamed() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let scratch = tempfile::tempdir().unwrap();
    let inner = scratch.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    // From its folder up to the root and beyond, where `..` stays, and down again.
    let climb = scratch.path().join("climb");
    std::os::unix::fs::symlink(format!("../../../../../../../..{}", inner.display()), &climb).unwrap();
    let climb = CString::new(climb.into_os_string().into_encoded_bytes()).unwrap();
    let stop = AtomicBool::new(false);
    let answers: Vec<_> = std::thread::scope(|scope| {
        scope.spawn(|| crate::resolve::tests::rename_until(&stop, scratch.path()));
        let enter = || (0..500).map(|_| Step::ChangeDirectory(climb.clone())).collect();
        let answers = (0..40).map(|_| run(Namespaces::default(), enter())).collect();
        stop.store(true, Ordering::Relaxed);
        answers
    });
    for answer in answers {
        assert_eq!(answer, (Ended::Exited(0), None));
    }
}
