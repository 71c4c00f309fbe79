//! Caches elsewhere: where results of others are looked for, and where those of a job are written.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rb_oci::{Compression, Digest, Reference};
use rb_session::Bucket;

/// Where a cache lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CachePlace {
    /// In a registry, under a name of its own; or an image there that holds one.
    Registry(Reference),
    /// In an OCI layout on the client's disk.
    Folder {
        /// Absolute path.
        path: PathBuf,
        /// The name in the layout.
        tag: String,
        /// The manifest with this digest, whatever is called so.
        digest: Option<Digest>,
    },
    /// In S3, in Azure's blob storage, in the cache of GitHub Actions.
    Bucket(Arc<Bucket>),
}

impl fmt::Display for CachePlace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => out.write_str(&reference.familiar()),
            Self::Folder { path, tag, digest: None } if tag == Self::TAG => write!(out, "{}", path.display()),
            Self::Folder { path, tag, digest: None } => write!(out, "{}:{tag}", path.display()),
            Self::Folder { path, tag: _, digest: Some(digest) } => {
                write!(out, "{}@{}", path.display(), digest.short())
            }
            Self::Bucket(bucket) => bucket.fmt(out),
        }
    }
}

impl CachePlace {
    /// What a cache is called in a layout where nothing is said.
    pub const TAG: &str = "latest";
}

/// Where a cache is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheTarget {
    /// Into the configs of the images that are written.
    Inline,
    /// To a place of its own.
    Place(CachePlace),
}

impl fmt::Display for CacheTarget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline => out.write_str("the image"),
            Self::Place(place) => place.fmt(out),
        }
    }
}

/// How much of a job is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheExtent {
    /// The steps whose layers the result consists of.
    #[default]
    Min,
    /// All steps.
    Max,
}

/// One cache to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheExport {
    /// Indexes of the roots whose steps are written.
    pub roots: Vec<usize>,
    /// Where.
    pub target: CacheTarget,
    /// How much.
    pub extent: CacheExtent,
    /// How layers are compressed that are packed for it; as those of the images that are written, if nothing is said.
    pub compression: Option<Compression>,
    /// Layers that came compressed in another way are compressed anew.
    pub force_compression: bool,
    /// That it cannot be written is told, and no failure.
    pub ignore_error: bool,
    /// Of a layout, what else lies in it goes.
    pub reset: bool,
}

/// A cache that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheWritten {
    /// Where, for people.
    pub place: String,
    /// Digest of its manifest; none of one that lies in images.
    pub digest: Option<Digest>,
    /// Results that it holds, and the layers that they lie in; none where who wrote it does not tell.
    pub holds: Option<(usize, usize)>,
    /// Why it could not be written, where that is to be no failure.
    pub failed: Option<String>,
}
