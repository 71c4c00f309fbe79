//! What can go wrong in the store, and who has to act.

use std::io;
use std::path::{Path, PathBuf};

use rb_diag::ErrorKind;
use rb_oci::Digest;

use crate::place::Unsuitable;
use crate::{SnapshotId, damage};

/// The store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb: `open`, `rename`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The database failed.
    #[error("the database `rb.db` of the state directory failed")]
    Database(#[from] rusqlite::Error),
    /// The database is not what this program wrote.
    #[error("the cache database {} is damaged: {reason}", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no room, or so little that work which needs more is not begun.
    #[error("{}", no_room(path, *left_bytes))]
    DiskFull {
        /// What was, or was to be, written.
        path: PathBuf,
        /// What is left, where that was asked before writing; else the disk itself refused.
        left_bytes: Option<u64>,
    },
    /// The folder, or its file system, cannot hold a state directory.
    #[error("{} cannot hold a state directory: {reason}", root.display())]
    Unsuitable {
        /// The folder.
        root: PathBuf,
        /// Why not.
        reason: Unsuitable,
    },
    /// Nothing can be written there.
    #[error("cannot write {}: its file system is read-only", path.display())]
    ReadOnly {
        /// What was to be written.
        path: PathBuf,
    },
    /// This user may not do that.
    #[error("no permission to {action} {}", path.display())]
    NoPermission {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
    },
    /// The root is not an absolute path.
    #[error("the state directory must be an absolute path, not `{}`", .0.display())]
    RelativeRoot(PathBuf),
    /// The directory was written by a newer program.
    #[error("the state directory {} has format {found}; this program knows formats up to {known}: use a newer `rb`, or another directory", root.display())]
    NewerFormat {
        /// The state directory.
        root: PathBuf,
        /// Its format number.
        found: u64,
        /// The newest one we know.
        known: u64,
    },
    /// The format file holds no number.
    #[error("{} does not hold a format number, so {} is not a state directory of `rb`", path.display(), path.parent().unwrap_or(Path::new("/")).display())]
    BadFormat {
        /// The format file.
        path: PathBuf,
    },
    /// The directory holds other things.
    #[error("{} is not empty and not a state directory of `rb`: name another one", .0.display())]
    ForeignDirectory(PathBuf),
    /// There is no such blob.
    #[error("the store has no blob {0}")]
    UnknownBlob(Digest),
    /// A blob's bytes are not those of its name.
    #[error("blob {expected} is damaged: its content has digest {actual}")]
    CorruptBlob {
        /// What the bytes should hash to.
        expected: Digest,
        /// What they hash to.
        actual: Digest,
    },
    /// What was written is not what was announced.
    #[error("expected content with digest {expected}, got {actual}")]
    DigestMismatch {
        /// The announced digest.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// A blob is larger than the caller wants to hold.
    #[error("blob {digest} is {size_bytes} bytes, more than the {limit_bytes} allowed here")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its size.
        size_bytes: u64,
        /// The bound.
        limit_bytes: u64,
    },
    /// An image is named after this blob.
    #[error("blob {digest} is the manifest of image `{image}`")]
    BlobInUse {
        /// The blob.
        digest: Digest,
        /// The image.
        image: String,
    },
    /// There is no such committed snapshot.
    #[error("the store has no committed snapshot {0}")]
    UnknownSnapshot(SnapshotId),
    /// The snapshot is not one that this store handle is writing.
    #[error("snapshot {0} is not being written")]
    NotActive(SnapshotId),
    /// Other snapshots build on this one.
    #[error("snapshot {id} still has {children} snapshots on top of it")]
    HasChildren {
        /// The snapshot.
        id: SnapshotId,
        /// How many.
        children: u64,
    },
    /// There is no record under this key.
    #[error("there is no cache record {0}")]
    UnknownRecord(Digest),
    /// A name is not one that the store keeps.
    #[error("`{name}` cannot be an image name: {reason}")]
    BadName {
        /// The name, shortened.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A descriptor's digest is not a sha256.
    #[error("`{0}` is not a sha256 digest, the only kind the store keeps")]
    UnsupportedDigest(String),
    /// JSON in the store does not parse.
    #[error("{what} is not what it should be")]
    Json {
        /// Which document.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl StoreError {
    /// Returns who has to act.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::RelativeRoot(_) | Self::ForeignDirectory(_) | Self::BadName { .. } => ErrorKind::Input,
            Self::Io { .. }
            | Self::Database(_)
            | Self::Damaged { .. }
            | Self::DiskFull { .. }
            | Self::Unsuitable { .. }
            | Self::ReadOnly { .. }
            | Self::NoPermission { .. }
            | Self::NewerFormat { .. }
            | Self::BadFormat { .. }
            | Self::CorruptBlob { .. }
            | Self::DigestMismatch { .. }
            | Self::TooLarge { .. }
            | Self::UnsupportedDigest(_)
            | Self::UnknownBlob(_)
            | Self::Json { .. } => ErrorKind::Environment,
            Self::BlobInUse { .. }
            | Self::UnknownSnapshot(_)
            | Self::NotActive(_)
            | Self::HasChildren { .. }
            | Self::UnknownRecord(_) => ErrorKind::Internal,
        }
    }

    /// Returns what the user can do about it, where that is known.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Damaged { path, .. } if damage::is_marked(path) => Some(
                "try again: the next start puts the damaged database aside and begins with an empty one"
                    .to_owned(),
            ),
            Self::Damaged { path, .. } => Some(format!(
                "remove the state directory with `rm -r {}`: that forgets everything in it and breaks nothing",
                shell_word(&root_of(path))
            )),
            Self::Unsuitable { root, reason: Unsuitable::OthersMayWrite { .. } } => Some(format!(
                "if nobody else wrote in it: `chmod go-w {}`; otherwise set RB_ROOT to another directory",
                shell_word(root)
            )),
            Self::Unsuitable { root, .. } => Some(format!(
                "set RB_ROOT to a directory other than {}, on a local disk such as ext4, xfs or btrfs",
                root.display()
            )),
            Self::DiskFull { path, .. } => Some(format!(
                "free space on the disk of {} (`rb cache du` shows what is kept there), or set RB_ROOT to another",
                root_of(path).display()
            )),
            Self::ReadOnly { path } => Some(format!(
                "make the file system of {} writable or set RB_ROOT to a directory on another",
                root_of(path).display()
            )),
            Self::NoPermission { path, .. } => Some(format!(
                "run as the user who owns {} or set RB_ROOT to a directory of your own",
                root_of(path).display()
            )),
            Self::UnknownBlob(_) => Some("build or pull the image again".to_owned()),
            _ => None,
        }
    }

    /// Tells a failed file operation, in the most telling variant that there is for its cause.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        // What one of our own streams said goes along.
        let source = match source.downcast::<Self>() {
            Ok(own) => return own,
            Err(source) => source,
        };
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { path, left_bytes: None }
            }
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            io::ErrorKind::PermissionDenied => Self::NoPermission { action, path },
            _ => Self::Io { action, path, source },
        }
    }
}

/// Names the action and the path of a failed file operation.
pub(crate) trait Context<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::io(action, path, source.into()))
    }
}

/// Tells of a disk that is full, or almost.
fn no_room(path: &Path, left_bytes: Option<u64>) -> String {
    const MIB: f64 = (1 << 20) as f64;
    match left_bytes {
        Some(left) => format!("the disk of the state directory has only {:.1} MiB left", left as f64 / MIB),
        None => format!("no space is left for {}: its disk or quota is full", path.display()),
    }
}

/// Returns the state directory that `path` lies in; `path` itself where none is seen.
fn root_of(path: &Path) -> PathBuf {
    let root = path.ancestors().find(|ancestor| ancestor.join("format").is_file());
    root.unwrap_or(path).to_owned()
}

/// Writes a path so that a shell takes it as one word.
fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%".contains(&byte);
    if text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
