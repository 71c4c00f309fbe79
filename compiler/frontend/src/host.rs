//! Commands on the user's own machine, outside every sandbox.

use crate::ProjectRef;

/// One command of a LOCALLY recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCommand {
    /// What to call it where its output is shown: `+deploy | RUN ./deploy`.
    pub label: String,
    /// Program and arguments.
    pub args: Vec<String>,
    /// `NAME=value`, over the user's own environment.
    pub env: Vec<String>,
    /// The project whose folder `cwd` starts from.
    pub project: ProjectRef,
    /// Working directory: absolute, or relative to the project's folder; "" is the folder itself.
    pub cwd: String,
    /// Whether standard output is wanted (at most 1 MiB); else it is shown.
    pub capture: bool,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostOutcome {
    /// Exit code; 128 and the signal's number where a signal ended it.
    pub exit_code: i32,
    /// Standard output, where it was wanted.
    pub stdout: Vec<u8>,
}
