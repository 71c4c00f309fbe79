//! What can go wrong with snapshots, and who has to act.

use std::io;
use std::path::{Path, PathBuf};

use rb_diag::ErrorKind;
use rb_path::BadPattern;
use rb_store::{SnapshotId, StoreError};

/// A snapshot could not be read, written or kept. Paths are as seen inside the tree unless said otherwise.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A file operation failed.
    #[error("cannot {action} /{}", path.display())]
    Io {
        /// What was tried, as a verb: `open`, `read`.
        action: &'static str,
        /// On what, relative to the root of the tree.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A directory of this machine, such as a layer, could not be used.
    #[error("cannot {action} {}", path.display())]
    Directory {
        /// What was tried, as a verb.
        action: &'static str,
        /// The directory on this machine.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The store failed.
    #[error("the snapshot store failed")]
    Store(#[from] StoreError),
    /// There is nothing at a path that must exist.
    #[error("/{} does not exist", path.display())]
    NotFound {
        /// The path as it was asked for.
        path: PathBuf,
    },
    /// Something that is not a directory stands where one is needed.
    #[error("/{} is not a directory", path.display())]
    NotADirectory {
        /// Where.
        path: PathBuf,
    },
    /// A directory stands where a file is to be written.
    #[error("/{} is a directory and cannot be replaced by a file", path.display())]
    IsADirectory {
        /// Where.
        path: PathBuf,
    },
    /// Something is there already.
    #[error("/{} exists already", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// A device, pipe or socket stands where file data is to be read or written.
    #[error("/{} is not a regular file", path.display())]
    NotAFile {
        /// Where.
        path: PathBuf,
    },
    /// Resolving a path took more than 40 symlinks.
    #[error("/{} goes through more than 40 symbolic links", path.display())]
    TooManyLinks {
        /// The path as it was asked for.
        path: PathBuf,
    },
    /// A path holds a NUL byte, or the root was named where something inside it is needed.
    #[error("`{}` cannot be used as a path here: {reason}", path.display())]
    BadPath {
        /// The path as it was given.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A pattern is malformed.
    #[error(transparent)]
    BadPattern(#[from] BadPattern),
    /// No file matched a pattern.
    #[error("nothing matches `{pattern}`")]
    NoMatch {
        /// The pattern.
        pattern: String,
    },
    /// A text is not a file mode.
    #[error("`{mode}` is not a file mode: {reason}")]
    BadMode {
        /// The text.
        mode: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A name is not in the tree's /etc/passwd or /etc/group.
    #[error("there is no {what} `{name}` in {file}")]
    UnknownOwner {
        /// `user` or `group`.
        what: &'static str,
        /// The name.
        name: String,
        /// The file that was read.
        file: &'static str,
    },
    /// An owner is not `user[:group]`.
    #[error("`{owner}` is not an owner: expected `user[:group]` with names or numbers")]
    BadOwner {
        /// The text.
        owner: String,
    },
    /// A source file is not what it was when the build looked at it first.
    #[error("/{} changed during the build", path.display())]
    ChangedDuringBuild {
        /// The file, relative to the source tree.
        path: PathBuf,
    },
    /// What a copy was going to take over from an earlier layer is not there as it was: all is to be copied.
    #[error("/{} of an earlier layer is not what it was when that layer was made", path.display())]
    EarlierChanged {
        /// Where.
        path: PathBuf,
    },
    /// A layer was written by an overlay with options whose diff cannot be read from its upper directory.
    #[error("/{} carries the overlay attribute `{attribute}`, so the layer does not hold the whole change", path.display())]
    Redirected {
        /// Where.
        path: PathBuf,
        /// Which attribute.
        attribute: String,
    },
    /// The store does not know the snapshot.
    #[error("there is no committed snapshot {0}")]
    UnknownSnapshot(SnapshotId),
}

impl SnapshotError {
    /// Returns who has to act.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } | Self::Directory { .. } | Self::EarlierChanged { .. } => ErrorKind::Environment,
            Self::Store(error) => error.kind(),
            Self::NotFound { .. }
            | Self::NotADirectory { .. }
            | Self::IsADirectory { .. }
            | Self::Exists { .. }
            | Self::NotAFile { .. }
            | Self::TooManyLinks { .. }
            | Self::BadPath { .. }
            | Self::BadPattern(_)
            | Self::NoMatch { .. }
            | Self::BadMode { .. }
            | Self::UnknownOwner { .. }
            | Self::BadOwner { .. }
            | Self::ChangedDuringBuild { .. } => ErrorKind::Input,
            Self::Redirected { .. } | Self::UnknownSnapshot(_) => ErrorKind::Internal,
        }
    }
}

/// The result of this crate's functions.
pub(crate) type Result<T, E = SnapshotError> = std::result::Result<T, E>;

/// Names the action and the path of a failed file operation.
pub(crate) trait Context<T> {
    /// Of a path inside a tree.
    fn within(self, action: &'static str, path: &Path) -> Result<T>;
    /// Of a directory of this machine.
    fn on_host(self, action: &'static str, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn within(self, action: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| {
            let (path, source) = (path.to_owned(), source.into());
            // Whoever gave the name has to act, not who runs this machine.
            if source.kind() == io::ErrorKind::InvalidFilename {
                let reason = "a name in it is longer than a file system takes";
                return SnapshotError::BadPath { path, reason };
            }
            SnapshotError::Io { action, path, source }
        })
    }

    fn on_host(self, action: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| SnapshotError::Directory {
            action,
            path: path.to_owned(),
            source: source.into(),
        })
    }
}
