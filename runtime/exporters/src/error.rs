//! What can go wrong on the way out, and who has to act.

use std::io;
use std::path::{Path, PathBuf};

use rb_diag::ErrorKind;
use rb_oci::Digest;
use rb_snapshot::SnapshotError;
use rb_store::StoreError;

/// An export failed; what was at the destination before is still there, unless said otherwise.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A snapshot cannot be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The archive or blob cannot be written.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
    /// A tar of a layer has no way to say this.
    #[error("`{}` cannot be part of a layer: {what}", path.display())]
    Unrepresentable {
        /// The file.
        path: PathBuf,
        /// What of it cannot be said.
        what: &'static str,
    },
    /// A file grew or shrank while it was packed: something writes into an immutable snapshot.
    #[error("{} changed from {expected} to {actual} bytes while it was read", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// Its size before.
        expected: u64,
        /// What could be read.
        actual: u64,
    },
    /// A stored document does not parse.
    #[error("{what} is not what its descriptor says")]
    Json {
        /// Which one.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A value of the image cannot be expressed in an OCI document.
    #[error("cannot describe the image")]
    Spec(#[source] serde_json::Error),
    /// Nothing is at the path to save.
    #[error("there is no `{}` to save", .0.display())]
    NotFound(PathBuf),
    /// A place outside the destination would be written.
    #[error("`{}` leads out of {}", path.display(), root.display())]
    Escapes {
        /// What was asked for.
        path: PathBuf,
        /// Where it had to stay.
        root: PathBuf,
    },
    /// A directory is where a file shall be.
    #[error("{} is a directory, and a file is to be written there", .0.display())]
    IsDirectory(PathBuf),
    /// What would be replaced is, or holds, a directory that nobody wants to lose.
    #[error("{} is not replaced: {}", path.display(), held(path, precious, what))]
    Precious {
        /// The destination.
        path: PathBuf,
        /// What is dear.
        precious: PathBuf,
        /// What it is to people.
        what: &'static str,
    },
    /// A device would be made on the user's disk, where whoever may read it reads what lies behind.
    #[error("`{}` would be a device", path.display())]
    Device {
        /// The destination.
        path: PathBuf,
    },
    /// Something that is not ours to replace is at the destination.
    #[error("{} is there and is not an OCI layout: remove it, or name another place", .0.display())]
    InTheWay(PathBuf),
    /// The destination has no name of its own.
    #[error("`{}` does not name a file or directory to write", .0.display())]
    NoName(PathBuf),
    /// An index leads to no manifest, or to itself.
    #[error("image {0} is nested too deeply")]
    TooDeep(Digest),
}

impl ExportError {
    /// Returns who has to act.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Snapshot(error) => error.kind(),
            Self::Io { .. }
            | Self::Write(_)
            | Self::Json { .. }
            | Self::Changed { .. }
            | Self::TooDeep(_) => ErrorKind::Environment,
            Self::NotFound(_)
            | Self::Escapes { .. }
            | Self::IsDirectory(_)
            | Self::Precious { .. }
            | Self::Device { .. }
            | Self::InTheWay(_)
            | Self::NoName(_)
            | Self::Unrepresentable { .. } => ErrorKind::Input,
            Self::Spec(_) => ErrorKind::Internal,
        }
    }
}

fn held(path: &Path, precious: &Path, what: &str) -> String {
    if path == precious {
        format!("it is {what}")
    } else if path.starts_with(precious) {
        format!("it lies in {what}, {}", precious.display())
    } else {
        format!("it holds {what}, {}", precious.display())
    }
}

/// Names the action and the path of a failed file operation.
pub(crate) trait Context<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, ExportError>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, ExportError> {
        self.map_err(|source| ExportError::Io { action, path: path.to_owned(), source: source.into() })
    }
}
