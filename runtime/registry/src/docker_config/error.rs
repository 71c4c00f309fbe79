//! What can go wrong with docker's configuration and its helpers. Nothing secret stands in any of these.

use std::io;
use std::path::PathBuf;

use rb_diag::{ErrorKind, chain};

use super::helper::HelperFailure;
use crate::CredentialError;

/// Credentials cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum DockerConfigError {
    /// There is no place for docker's file.
    #[error("no place for docker's configuration: neither DOCKER_CONFIG nor HOME is set")]
    NoPlace,
    /// A file is there and cannot be read.
    #[error("`{}` cannot be read", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("`{}` cannot be written", file.display())]
    Unwritable {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Somebody else writes a file, and goes on doing so.
    #[error("`{}` is being written by another process", file.display())]
    Busy {
        /// The file.
        file: PathBuf,
        /// What shows that.
        lock: PathBuf,
    },
    /// A file does not say what it should.
    #[error("{}:{line}:{column}: {trouble}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Byte in the line, from 1.
        column: usize,
        /// What is wrong.
        trouble: String,
    },
    /// A helper could not do its work.
    #[error("`{program}` cannot be asked: {failure}")]
    Helper {
        /// The program.
        program: String,
        /// Why not.
        failure: HelperFailure,
    },
    /// A helper did not do what it was asked for.
    #[error("`{program} {action}` failed: {said}")]
    Refused {
        /// The program.
        program: String,
        /// What it was to do.
        action: &'static str,
        /// What it said.
        said: String,
    },
    /// A helper answered something that is none.
    #[error("`{program} get` answered what is not a credential: {trouble}")]
    Answer {
        /// The program.
        program: String,
        /// What is wrong.
        trouble: &'static str,
    },
}

impl DockerConfigError {
    /// Returns who has to act.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Malformed { .. } | Self::NoPlace => ErrorKind::Input,
            Self::Unreadable { .. }
            | Self::Unwritable { .. }
            | Self::Busy { .. }
            | Self::Helper { .. }
            | Self::Refused { .. }
            | Self::Answer { .. } => ErrorKind::Environment,
        }
    }

    /// Returns what to do.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::NoPlace => Some("set DOCKER_CONFIG=/some/dir, which holds `config.json`".to_owned()),
            Self::Malformed { .. } => {
                Some("mend it, or move it aside: `rb login` and `docker login` write a new one".to_owned())
            }
            Self::Busy { lock, .. } => {
                Some(format!("wait for it; if nobody is there, remove `{}`", lock.display()))
            }
            Self::Helper { program, failure: HelperFailure::NotInstalled } => {
                let name = program.strip_prefix(super::helper::PREFIX).unwrap_or(program);
                Some(format!(
                    "install `{program}`, or take `{name}` out of `credsStore` or `credHelpers` in docker's config.json"
                ))
            }
            Self::Unreadable { .. }
            | Self::Unwritable { .. }
            | Self::Helper { .. }
            | Self::Refused { .. }
            | Self::Answer { .. } => None,
        }
    }

    /// Says it of a registry.
    pub(super) fn for_host(&self, host: &str) -> CredentialError {
        CredentialError { host: host.to_owned(), reason: chain(self), kind: self.kind(), help: self.help() }
    }
}
