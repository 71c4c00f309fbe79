//! The user's own machine, for programs that a source needs of it: git, and the ssh that it starts.
//!
//! In: a command. Out: its output as it comes and how it ended. What lends it says where that is: outside of every
//! namespace of ours, as the user ([`Outside`]).

use std::fmt;

use rb_exec::{ExecError, ExitStatus, HostCommand, KillSwitch, Outside, Stream};

/// Runs programs on the user's own machine.
pub trait HostPrograms: fmt::Debug + Send + Sync {
    /// Runs one to its end; `kill` ends it from another thread.
    fn run(
        &self,
        command: &HostCommand,
        kill: &KillSwitch,
        sink: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<ExitStatus, ExecError>;
}

impl HostPrograms for Outside {
    fn run(
        &self,
        command: &HostCommand,
        kill: &KillSwitch,
        sink: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<ExitStatus, ExecError> {
        Self::run(self, command, kill, sink)
    }
}
