//! Signals for the first process of a sandbox, which means to them what any process does.
//!
//! The kernel keeps from the first process of a namespace each signal for which that has no handler, so a program that
//! says nothing of SIGTERM would never end by it. Here such a signal has its usual effect: the sandbox ends, by that
//! signal. What the program handles, blocks or ignores it is sent, and makes of it what it will.
//! Source: pid_namespaces(7), signal(7), proc_pid_status(5), proc_pid_fdinfo(5).

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::process::{Signal, pidfd_send_signal};

/// What a signal came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The process got it.
    Delivered,
    /// It would have ended any other process, so this one was killed.
    Ended,
}

/// What a process does about signals: masks, bit 0 for signal 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Dispositions {
    blocked: u64,
    ignored: u64,
    caught: u64,
}

/// The signals that are the C library's own: no program can block them, so where they are, it has not begun yet.
const OF_THE_LIBRARY: u64 = bit(32) | bit(33);

/// Sends a signal to the first process of a sandbox.
pub(crate) fn send(process: &OwnedFd, signal: Signal) -> io::Result<Sent> {
    if is_kept(process, signal) {
        pidfd_send_signal(process, Signal::KILL)?;
        return Ok(Sent::Ended);
    }
    pidfd_send_signal(process, signal)?;
    Ok(Sent::Delivered)
}

/// Whether the kernel keeps a signal from the first process of a sandbox that would end any other.
pub(crate) fn is_kept(process: &OwnedFd, signal: Signal) -> bool {
    ends(signal) && dispositions(process).is_some_and(|found| found.leave_to_the_kernel(signal))
}

/// Whether a signal ends a process that does nothing about it. Source: signal(7), "Standard signals".
pub(crate) fn ends(signal: Signal) -> bool {
    [Signal::HUP, Signal::INT, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::TERM].contains(&signal)
}

impl Dispositions {
    fn leave_to_the_kernel(self, signal: Signal) -> bool {
        let begun = self.blocked & OF_THE_LIBRARY != OF_THE_LIBRARY;
        let own = self.ignored | self.caught | if begun { self.blocked } else { 0 };
        own & bit(signal.as_raw()) == 0
    }
}

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// Asks what a process does about signals. Where that cannot be told, the signal is just sent.
fn dispositions(process: &OwnedFd) -> Option<Dispositions> {
    let id = id(process)?;
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let mask = |name| u64::from_str_radix(field(&status, name)?, 16).ok();
    Some(Dispositions { blocked: mask("SigBlk:")?, ignored: mask("SigIgn:")?, caught: mask("SigCgt:")? })
}

/// Returns the id of a process that has not ended.
pub(crate) fn id(process: &OwnedFd) -> Option<i32> {
    let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd())).ok()?;
    field(&about, "Pid:")?.parse().ok().filter(|id| *id > 0)
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_nothing_of_has_its_usual_effect() {
        let term = bit(Signal::TERM.as_raw());
        let none = Dispositions::default();
        assert!(none.leave_to_the_kernel(Signal::TERM));
        for found in [
            Dispositions { blocked: term, ..none },
            Dispositions { ignored: term, ..none },
            Dispositions { caught: term, ..none },
            // All that a program can block.
            Dispositions { blocked: !OF_THE_LIBRARY, ..none },
        ] {
            assert!(!found.leave_to_the_kernel(Signal::TERM), "{found:?}");
        }
        assert!(Dispositions { caught: term, ..none }.leave_to_the_kernel(Signal::INT));
        // Between clone3(2) and the program.
        assert!(Dispositions { blocked: !0, ..none }.leave_to_the_kernel(Signal::TERM));
        assert!(ends(Signal::HUP) && !ends(Signal::WINCH) && !ends(Signal::CONT));
    }

    #[test]
    fn a_process_tells_what_it_does_about_signals() {
        let own =
            rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty());
        let found = dispositions(&own.unwrap()).unwrap();
        // Rust ignores it in every program.
        assert_ne!(found.ignored & bit(Signal::PIPE.as_raw()), 0, "{found:?}");
    }
}
