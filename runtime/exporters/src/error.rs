//! What can go wrong on the way out, and who has to act.

use std::io;
use std::path::{Path, PathBuf};

use rb_diag::ErrorKind;
use rb_oci::{Digest, Platform};
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
    /// A blob is longer or shorter than what names it says.
    #[error("the blob {digest} has {actual} bytes, and {expected} were told")]
    Size {
        /// The blob.
        digest: Digest,
        /// What was told.
        expected: u64,
        /// What it has.
        actual: u64,
    },
    /// A cache has more results than its config may hold.
    #[error(
        "the list of its results would have {size_bytes} bytes, and registries take {limit_bytes}: write less with mode=min"
    )]
    LargeCache {
        /// Its length.
        size_bytes: u64,
        /// The most that is taken.
        limit_bytes: u64,
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
    /// A file is where a directory's files shall be.
    #[error("{} is a file, and a directory is to be written there", .0.display())]
    IsFile(PathBuf),
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
    /// A file of a layout that is added to says something else than a layout's does.
    #[error("{} is not that of an OCI layout: nothing is added to it; mend it, or name another place", .0.display())]
    NoLayout(PathBuf),
    /// The destination is, or leads to, a device, pipe or socket.
    #[error("{} is neither a file nor a directory", .0.display())]
    NoFile(PathBuf),
    /// The destination has no name of its own.
    #[error("`{}` does not name a file or directory to write", .0.display())]
    NoName(PathBuf),
    /// A layer that came from elsewhere cannot be decompressed.
    #[error("layer {digest} cannot be read")]
    Layer {
        /// The blob.
        digest: Digest,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A layer that came from elsewhere holds another tar than its image says.
    #[error("layer {layer} holds the tar {actual}, its image says {expected}")]
    DiffId {
        /// The blob.
        layer: Digest,
        /// The DiffID of the image.
        expected: Digest,
        /// That of the blob.
        actual: Digest,
    },
    /// Two images of an index are for one platform, and they differ.
    #[error("two different images of one name are for {platform}")]
    SamePlatform {
        /// The platform.
        platform: Platform,
    },
    /// It was told to stop.
    #[error("the export was given up")]
    Cancelled,
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
            | Self::Layer { .. }
            | Self::DiffId { .. }
            | Self::Cancelled
            | Self::Changed { .. }
            | Self::Size { .. }
            | Self::TooDeep(_) => ErrorKind::Environment,
            Self::NotFound(_)
            | Self::Escapes { .. }
            | Self::IsDirectory(_)
            | Self::IsFile(_)
            | Self::Precious { .. }
            | Self::Device { .. }
            | Self::InTheWay(_)
            | Self::NoLayout(_)
            | Self::NoFile(_)
            | Self::NoName(_)
            | Self::SamePlatform { .. }
            | Self::LargeCache { .. }
            | Self::Unrepresentable { .. } => ErrorKind::Input,
            Self::Spec(_) => ErrorKind::Internal,
        }
    }

    /// Returns what the user can do about it, where that is known.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Store(error) | Self::Snapshot(SnapshotError::Store(error)) => error.help(),
            Self::Io { path, source, .. } if is_full(source) => {
                let folder = path.parent().unwrap_or(path);
                Some(format!("free space on the disk of {} or write to another", folder.display()))
            }
            Self::Io { path, source, .. } if is_in_the_way(source) => {
                let file = path.ancestors().find(|above| above.exists() && !above.is_dir())?;
                Some(format!("{} is a file: remove it, or name another place", file.display()))
            }
            Self::NoFile(_) => {
                Some("name a file; `-` is the standard output where one can be written".to_owned())
            }
            Self::IsFile(_) => Some("remove it, or name another place".to_owned()),
            Self::SamePlatform { .. } => {
                Some("give each a name of its own, or build them for platforms that differ".to_owned())
            }
            // A blob of the store tells more of itself than that it cannot be written.
            Self::Write(source) => source
                .get_ref()
                .and_then(|error| error.downcast_ref::<StoreError>())
                .and_then(StoreError::help),
            _ => None,
        }
    }

    /// Tells which file the archive was to become, where it was one.
    #[must_use]
    pub fn in_file(self, path: &Path) -> Self {
        match self {
            Self::Write(source) => Self::Io { action: "write", path: path.to_owned(), source },
            other => other,
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Tells whether a file may stand where a folder is needed.
fn is_in_the_way(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named_with_what_to_do() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let error = ExportError::Write(full()).in_file(Path::new("/out/image.tar"));
        assert_eq!(error.kind(), ErrorKind::Environment);
        assert!(error.to_string().contains("/out/image.tar"), "{error}");
        assert_eq!(error.help().as_deref(), Some("free space on the disk of /out or write to another"));
        // The blob says what is full.
        let blob = StoreError::DiskFull { path: "/state/tmp/1".into(), left_bytes: None };
        let error = ExportError::Write(io::Error::new(io::ErrorKind::StorageFull, blob));
        assert!(error.help().expect("has one").contains("RB_ROOT"));
        assert_eq!(ExportError::Write(io::ErrorKind::BrokenPipe.into()).help(), None);
    }
}
