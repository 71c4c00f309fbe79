//! Images that are known but for their layers.

use std::path::PathBuf;
use std::sync::Arc;

use rb_exec::Rootless;
use rb_oci::{Descriptor, Digest, ImageConfig, Repository};
use rb_session::Bucket;
use rb_snapshot::ContentKey;
use rb_sources::layout::LayoutImage;
use rb_sources::unpack::{self, Ownership};

use crate::parts::Parts;

/// An image whose manifest and config are proven.
#[derive(Debug, Clone)]
pub(crate) struct PinnedImage {
    /// Digest of the manifest.
    pub(crate) digest: Digest,
    /// Its config.
    pub(crate) config: ImageConfig,
    /// Its layers, lowest first, each with the digest of its uncompressed tar.
    pub(crate) layers: Vec<(Descriptor, Digest)>,
    /// What the tree up to each layer is found by, of one that is no image but what a step gave; else its layers say.
    pub(crate) contents: Option<Vec<ContentKey>>,
    /// Where layers are that are not in the store.
    pub(crate) origin: Origin,
}

/// Where the layers of an image come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// An OCI layout of the client's.
    Layout(PathBuf),
    /// A registry.
    Registry(Repository),
    /// A bucket that a cache lies in.
    Bucket(Arc<Bucket>),
    /// Nowhere: they are in the store.
    Store,
}

impl PinnedImage {
    /// Takes an image of a layout.
    pub(crate) fn of_layout(image: LayoutImage) -> Self {
        let LayoutImage { folder, digest, config, layers } = image;
        Self { digest, config, layers, contents: None, origin: Origin::Layout(folder) }
    }

    /// Returns what people may know it by.
    pub(crate) fn name(&self) -> String {
        match &self.origin {
            Origin::Registry(repository) => format!("pull {}@{}", repository.familiar(), self.digest.short()),
            Origin::Bucket(bucket) => format!("pull {bucket}@{}", self.digest.short()),
            Origin::Layout(folder) => format!("unpack {}@{}", folder.display(), self.digest.short()),
            Origin::Store => format!("unpack {}", self.digest.short()),
        }
    }

    /// Leaves all layers but the lowest `limit` out.
    pub(crate) fn limited(mut self, limit: usize) -> Self {
        self.layers.truncate(limit);
        self.contents.iter_mut().for_each(|contents| contents.truncate(limit));
        self
    }

    /// Returns what the tree is found by, without having it.
    pub(crate) fn content(&self, parts: &Parts) -> ContentKey {
        self.contents(parts).last().copied().unwrap_or_else(ContentKey::empty)
    }

    /// Returns what the tree up to each layer is found by.
    pub(crate) fn contents(&self, parts: &Parts) -> Vec<ContentKey> {
        match &self.contents {
            Some(contents) => contents.clone(),
            None => unpack::content_keys(&self.layers, ownership(parts)),
        }
    }
}

/// How this process takes the owners of files over.
pub(crate) fn ownership(parts: &Parts) -> Ownership {
    match parts.privileges.mode {
        Rootless::SingleId => Ownership::RootOnly,
        Rootless::Root | Rootless::SubIds { .. } => Ownership::Kept,
    }
}
