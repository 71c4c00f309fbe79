//! Ending sandboxes from another thread.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Ends every run it was given to, now and later. Clones are one switch; usable from any thread.
#[derive(Clone, Debug, Default)]
pub struct KillSwitch {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    killed: bool,
    next: u64,
    running: BTreeMap<u64, Reach>,
}

/// How a run is ended.
#[derive(Debug)]
pub(crate) enum Reach {
    /// The descriptor of a sandbox's first process, which is killed.
    Process(Arc<OwnedFd>),
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
        for reach in state.running.values() {
            // It may have ended by itself; then there is nothing to do.
            let _ = match reach {
                Reach::Process(process) => {
                    rustix::process::pidfd_send_signal(process, rustix::process::Signal::KILL)
                }
                Reach::Line(line) => rustix::net::shutdown(line, rustix::net::Shutdown::Write),
            };
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
        state.running.insert(id, reach);
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

impl Drop for Registration {
    fn drop(&mut self) {
        self.switch.lock().running.remove(&self.id);
    }
}
