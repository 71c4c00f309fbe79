//! How a command ended: well, or why not, and what may be behind it.
//!
//! In: the sandbox's word, and the last lines that the command wrote. Out: nothing, or the error that the user reads.

use rb_exec::{ExecError, ExecOutcome, ExitStatus, Rootless, Spec};
use rb_llb::ExecOp;
use rb_solver::Context;

use super::chroot;
use super::terms::Terms;
use crate::error::EngineError;
use crate::job::JobContext;
use crate::parts::Parts;

/// Tells what was wrong with how a command ended, if it did not end well.
pub(super) fn check(
    op: &ExecOp,
    outcome: &ExecOutcome,
    spec: &Spec,
    terms: &Terms,
    cx: &Context,
    job: &JobContext,
) -> Result<(), EngineError> {
    let status = outcome.status;
    let fine = match status {
        _ if outcome.timed_out => false,
        ExitStatus::Exited(code) if op.meta.valid_exit_codes.is_empty() => code == 0,
        ExitStatus::Exited(code) => op.meta.valid_exit_codes.contains(&code),
        ExitStatus::Signaled(_) => false,
    };
    if fine {
        return Ok(());
    }
    if cx.is_cancelled() {
        return Err(EngineError::Exec(ExecError::Cancelled));
    }
    let log_tail = job.take_tail(&cx.vertex());
    let (outcome, help) = terms.outcome(outcome, spec);
    let store = &job.parts.store;
    let left_bytes = rustix::fs::statvfs(store.root()).map_or(u64::MAX, |disk| disk.f_bavail * disk.f_frsize);
    if lacked_room(left_bytes, store.check_space().is_err(), &log_tail) {
        return Err(EngineError::NoRoom { outcome, root: store.root().to_owned(), log_tail });
    }
    let says = |words: &str| log_tail.iter().any(|line| line.contains(words));
    let help = help.or_else(|| chroot::hint(&job.parts.steps, says));
    let help = help.or_else(|| hint(status, &log_tail, &job.parts));
    Err(EngineError::Exit { outcome, log_tail, help })
}

/// Tells whether a command failed for want of room: there is none, or it said so and removed what it had begun.
fn lacked_room(left_bytes: u64, is_little: bool, log_tail: &[String]) -> bool {
    const NEARLY_NOTHING_BYTES: u64 = 1 << 20;
    let says = || log_tail.iter().any(|line| line.contains("No space left on device"));
    left_bytes < NEARLY_NOTHING_BYTES || (is_little && says())
}

/// What may be behind a failure that the command cannot know.
fn hint(status: ExitStatus, log_tail: &[String], parts: &Parts) -> Option<String> {
    let says = |words: &str| log_tail.iter().any(|line| line.contains(words));
    if parts.privileges.mode == Rootless::SingleId && says("Invalid argument") {
        let why = "without subordinate ids a build knows no user but root, so `chown` to another one fails";
        return Some(format!("{why}; `rb doctor` says how to get them"));
    }
    (status == ExitStatus::Exited(141)).then(|| {
        "141 means that a command wrote to a pipe that nobody read any more; RUN fails when any part of a pipe does".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_lacked_room_if_there_is_none_or_it_said_so() {
        let said = ["cc: fatal error: x.o: No space left on device".to_owned()];
        assert!(lacked_room(0, true, &[]));
        assert!(lacked_room(30 << 20, true, &said));
        assert!(!lacked_room(30 << 20, true, &[]));
        // It may have filled a disk of its own.
        assert!(!lacked_room(1 << 40, false, &said));
    }
}
