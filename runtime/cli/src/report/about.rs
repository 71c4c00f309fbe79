//! What is known of a failure beside itself: how the build got there, and where the log is.

use std::collections::BTreeMap;

use rb_diag::ErrorKind;

use super::{Failure, place};
use crate::progress::human_bytes;

/// What is known of a failure beside itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct About {
    /// How the build got there: `called from +all`, innermost first.
    pub(crate) trail: Vec<String>,
    /// What the command that failed wrote.
    pub(crate) log: Option<FailedLog>,
}

/// The log of a step that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailedLog {
    /// What to type to see it.
    pub(crate) command: String,
    /// Its length.
    pub(crate) size_bytes: u64,
    /// Its last lines.
    pub(crate) tail: Vec<String>,
}

impl FailedLog {
    /// Says where all of it is.
    pub(super) fn whole(&self) -> String {
        format!("`{}` shows all it wrote ({})", self.command, human_bytes(self.size_bytes))
    }
}

impl Failure {
    /// Adds how the build got there.
    #[must_use]
    pub(crate) fn called_from(self, mut trail: Vec<String>) -> Self {
        match self {
            _ if trail.is_empty() => self,
            Self::With { failure, mut about } => {
                about.trail.append(&mut trail);
                Self::With { failure, about }
            }
            failure => Self::With { failure: Box::new(failure), about: About { trail, log: None } },
        }
    }

    /// Adds which targets had a failed step's target built; `callers` says who names whom in a BUILD.
    #[must_use]
    pub(crate) fn built_for(self, callers: &BTreeMap<String, String>) -> Self {
        match self {
            Self::Several(failures) => {
                Self::Several(failures.into_iter().map(|failure| failure.built_for(callers)).collect())
            }
            Self::Solve { ref error, ref definitions } => {
                let trail = place::builders(error, definitions, callers);
                self.called_from(trail)
            }
            other => other,
        }
    }

    /// Adds what the command that failed wrote.
    #[must_use]
    pub(crate) fn logged(self, log: Option<FailedLog>) -> Self {
        match self {
            _ if log.is_none() => self,
            Self::With { failure, about } => Self::With { failure, about: About { log, ..about } },
            failure => Self::With { failure: Box::new(failure), about: About { trail: Vec::new(), log } },
        }
    }

    /// Tells whether a command of the user's failed, and so may have said why.
    pub(crate) fn is_of_a_command(&self) -> bool {
        self.exit_code() == ErrorKind::Build.exit_code()
    }
}
