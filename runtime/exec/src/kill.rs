//! Ending sandboxes from another thread, and signals for them.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::Signal;

use crate::oci;
use crate::signals::{self, Sent};

/// Ends every run it was given to, now and later. Clones are one switch; usable from any thread.
#[derive(Clone, Debug, Default)]
pub struct KillSwitch {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    killed: bool,
    next: u64,
    running: BTreeMap<u64, Running>,
    /// Signals for what is about to run.
    waiting: Vec<Signal>,
}

#[derive(Debug)]
struct Running {
    reach: Reach,
    /// The signal that it ended by, though it was killed.
    ended_by: Option<Signal>,
}

impl Running {
    fn end_by(&mut self, signal: Signal) {
        let (Reach::Process(process) | Reach::Runtime(process)) = &self.reach else { return };
        // It may have ended by itself; then there is nothing to do.
        if rustix::process::pidfd_send_signal(process, Signal::KILL).is_ok() {
            self.ended_by = Some(signal);
        }
    }

    /// Sends it a signal; tells whether it takes any.
    fn signal(&mut self, signal: Signal) -> bool {
        let first;
        let process = match &self.reach {
            Reach::Process(process) => &**process,
            Reach::Runtime(runtime) => match oci::first_process(runtime) {
                Some(found) => {
                    first = found;
                    &first
                }
                // The command has not begun, so it does nothing about signals.
                None => {
                    if signals::ends(signal) {
                        self.end_by(signal);
                    }
                    return true;
                }
            },
            Reach::Line(_) => return false,
        };
        // It may have ended by itself; then there is nothing to do.
        if signals::send(process, signal).is_ok_and(|sent| sent == Sent::Ended) {
            self.ended_by = Some(signal);
        }
        true
    }
}

/// How a run is ended.
#[derive(Debug)]
pub(crate) enum Reach {
    /// The descriptor of a sandbox's first process, which is killed.
    Process(Arc<OwnedFd>),
    /// The descriptor of another runtime, which is killed, and whose command is sent signals.
    Runtime(Arc<OwnedFd>),
    /// The line to who watches over a command outside; when it is hung up, the command is ended.
    Line(Arc<OwnedFd>),
}

impl KillSwitch {
    /// Returns a switch that has not been thrown.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends SIGKILL to the first process of each running sandbox, and so to all of them, and has commands outside
    /// ended. Later runs refuse to start.
    pub fn kill(&self) {
        let mut state = self.lock();
        state.killed = true;
        for running in state.running.values() {
            // It may have ended by itself; then there is nothing to do.
            let _ = match &running.reach {
                Reach::Process(process) | Reach::Runtime(process) => {
                    rustix::process::pidfd_send_signal(process, rustix::process::Signal::KILL)
                }
                Reach::Line(line) => rustix::net::shutdown(line, rustix::net::Shutdown::Write),
            };
        }
    }

    /// Sends a signal to the first process of each running sandbox, or else of the next. One that does nothing about it ends
    /// by it, if that is what the signal does to a process. Commands outside are sent none.
    pub fn signal(&self, signal: Signal) {
        let mut state = self.lock();
        let mut reached = false;
        for running in state.running.values_mut() {
            reached |= running.signal(signal);
        }
        if !reached {
            state.waiting.push(signal);
        }
    }

    /// Whether [`kill`](Self::kill) was called.
    pub fn is_killed(&self) -> bool {
        self.lock().killed
    }

    /// Keeps a run in reach until the guard drops. `None` if the switch was thrown before.
    pub(crate) fn register(&self, reach: Reach) -> Option<Registration> {
        let mut state = self.lock();
        if state.killed {
            return None;
        }
        let id = state.next;
        state.next += 1;
        let mut running = Running { reach, ended_by: None };
        let waiting = std::mem::take(&mut state.waiting);
        state.waiting = waiting.into_iter().filter(|signal| !running.signal(*signal)).collect();
        state.running.insert(id, running);
        drop(state);
        Some(Registration { switch: self.clone(), id })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is a single step, so a panicked holder leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One run known to a [`KillSwitch`].
#[derive(Debug)]
pub(crate) struct Registration {
    switch: KillSwitch,
    id: u64,
}

impl Registration {
    /// Ends the run as this signal does, which its first process does nothing about.
    pub(crate) fn end_by(&self, signal: Signal) {
        if let Some(running) = self.switch.lock().running.get_mut(&self.id) {
            running.end_by(signal);
        }
    }

    /// Returns the signal that stands for its being killed, if one does.
    pub(crate) fn ended_by(&self) -> Option<Signal> {
        self.switch.lock().running.get(&self.id).and_then(|running| running.ended_by)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.switch.lock().running.remove(&self.id);
    }
}
