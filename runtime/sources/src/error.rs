//! Why a source cannot be had.

use std::io;
use std::path::PathBuf;

use rb_diag::ErrorKind;
use rb_oci::Digest;

/// A source cannot be had, and why.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A path of the user's tree or of the host cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The client lends nothing under this name.
    #[error("the client lends no folder called `{name}`")]
    NotLent {
        /// The name in the definition.
        name: String,
    },
    /// The client sends nothing under this name, or has sent it before.
    #[error("the client sends nothing called `{name}`")]
    NotSent {
        /// The name in the definition.
        name: String,
    },
    /// What the client sends broke off, or cannot be kept.
    #[error("cannot take over what the client sends as `{name}`")]
    Sent {
        /// The name in the definition.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A kind of file that a build context cannot hold.
    #[error("`{}` is neither file, folder nor symlink, so it cannot be part of a build", path.display())]
    SpecialFile {
        /// Path within the context.
        path: PathBuf,
    },
    /// A file became another one between being listed and being read.
    #[error("`{}` changed while it was read", path.display())]
    Changed {
        /// The path.
        path: PathBuf,
    },
    /// A pattern of the definition is malformed.
    #[error("`{pattern}` is not a pattern: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong.
        reason: String,
    },
    /// An attribute of the source op is malformed.
    #[error("the source's attribute `{name}` is malformed: {reason}")]
    Attribute {
        /// Name of the attribute.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A folder is not an OCI layout.
    #[error("`{}` is not an OCI image layout: {reason}", path.display())]
    NotALayout {
        /// The folder.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// A layout holds no such image.
    #[error("`{}` holds no image {wanted}; it has {}", path.display(), list(have))]
    NoSuchImage {
        /// The folder.
        path: PathBuf,
        /// What was asked for, in words.
        wanted: String,
        /// Names or platforms that are there.
        have: Vec<String>,
    },
    /// A layout holds several images that are meant alike.
    #[error("`{}` holds several images that could be meant: {}", path.display(), list(have))]
    SeveralImages {
        /// The folder.
        path: PathBuf,
        /// Their names.
        have: Vec<String>,
    },
    /// A blob is not what its descriptor says.
    #[error("blob {digest} is damaged: {reason}")]
    Blob {
        /// Digest in the descriptor.
        digest: Digest,
        /// What differs.
        reason: String,
    },
    /// A blob is not there.
    #[error("blob {digest} is missing in `{}`", folder.display())]
    MissingBlob {
        /// Its digest.
        digest: Digest,
        /// The layout.
        folder: PathBuf,
    },
    /// An archive is not one of images, or not as it should be.
    #[error("the archive cannot be used: {reason}")]
    Bundle {
        /// What is wrong.
        reason: String,
    },
    /// An archive is packed in a way that is not read here.
    #[error("the archive is packed with {packing}, and rb reads plain ones and those of gzip and zstd")]
    Packing {
        /// The program that packs so.
        packing: &'static str,
    },
    /// A layer holds something that must not be unpacked.
    #[error("layer {layer}: entry `{entry}` {reason}")]
    Entry {
        /// Digest of the layer.
        layer: Digest,
        /// Name in the archive.
        entry: String,
        /// Why it is refused.
        reason: String,
    },
    /// An archive that a copy is to unpack holds something that must not be, or is damaged.
    #[error("the archive `{}` cannot be unpacked: {reason}", path.display())]
    Archive {
        /// Where it lies in its tree.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A media type that this version does not unpack.
    #[error("layer {digest} has media type `{media_type}`, which this version cannot unpack")]
    MediaType {
        /// Digest of the layer.
        digest: Digest,
        /// The media type.
        media_type: String,
    },
    /// Nobody wants it any more.
    #[error("stopped")]
    Stopped,
    /// `FROM @host` has nothing to be recognised by.
    #[error(
        "this machine has no package database that `FROM @host` knows, so its toolchain cannot be recognised"
    )]
    NoPackageDatabase,
    /// `--bind` outside of the folders that hold software.
    #[error("`--bind={}` would show a folder that may hold secrets", path.display())]
    Bind {
        /// The path.
        path: PathBuf,
    },
    /// A repository of git cannot be read.
    #[error(transparent)]
    Git(#[from] crate::git::GitError),
    /// A file is not signed as it must be.
    #[error("the signature of `{name}` does not hold")]
    Signature {
        /// The file.
        name: String,
        /// Why.
        #[source]
        source: crate::signature::SignatureError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] rb_store::StoreError),
    /// A snapshot failed.
    #[error(transparent)]
    Snapshot(#[from] rb_snapshot::SnapshotError),
}

impl SourceError {
    /// Returns who has to act.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { .. } | Self::Sent { .. } | Self::Stopped => ErrorKind::Environment,
            Self::Git(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Snapshot(error) => error.kind(),
            Self::NotLent { .. }
            | Self::NotSent { .. }
            | Self::Signature { .. }
            | Self::SpecialFile { .. }
            | Self::Changed { .. }
            | Self::Pattern { .. }
            | Self::Attribute { .. }
            | Self::NotALayout { .. }
            | Self::Bundle { .. }
            | Self::Packing { .. }
            | Self::NoSuchImage { .. }
            | Self::SeveralImages { .. }
            | Self::Blob { .. }
            | Self::MissingBlob { .. }
            | Self::Archive { .. }
            | Self::Entry { .. }
            | Self::MediaType { .. }
            | Self::NoPackageDatabase
            | Self::Bind { .. } => ErrorKind::Input,
        }
    }

    /// Returns what to do about it, where that can be said.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::NoPackageDatabase => {
                Some("name the tools by a command: `FROM @host --fingerprint='cc --version'`".to_owned())
            }
            Self::Bind { path } => {
                Some(format!("if the build may read it, say so: `rb --allow-bind={} …`", path.display()))
            }
            Self::SeveralImages { .. } => {
                Some("name one of them behind a colon: `FROM oci-layout:./folder:name`".to_owned())
            }
            Self::Packing { packing } => {
                Some(format!("let `{packing}` unpack it: `{packing} -dc FILE | rb image load`"))
            }
            Self::Changed { .. } => Some("run the build again once nothing writes to the folder".to_owned()),
            Self::Git(error) => error.help(),
            Self::Store(error) | Self::Snapshot(rb_snapshot::SnapshotError::Store(error)) => error.help(),
            _ => None,
        }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
