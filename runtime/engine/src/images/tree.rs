//! What an image consists of: indexes, manifests, configs, layers; all of it, or what is for one platform.
//!
//! In: a root and where it lies. Out: an [`ImageTree`]. Depths and counts are bounded, and nothing is read twice.

use std::collections::{BTreeMap, BTreeSet};

use rb_oci::index::{
    Document, INDEX_DEPTH, LAYERS, MANIFESTS, closest, config_platform, distance, is_index, named_platform,
};
use rb_oci::{Descriptor, Digest, ImageConfig, ImageIndex, ImageManifest, Platform};
use serde::de::DeserializeOwned;

use super::content::{Content, What, checked};
use crate::error::EngineError;

/// All that one root leads to.
#[derive(Clone, Debug)]
pub(crate) struct ImageTree {
    /// Manifests and indexes with their bytes, each behind all that it names; the root is the last.
    pub(crate) documents: Vec<(Descriptor, Vec<u8>)>,
    /// Configs and layers.
    pub(crate) blobs: BTreeMap<Digest, Descriptor>,
}

enum Open {
    Enter(Descriptor, usize),
    Leave(Descriptor, Vec<u8>),
}

impl ImageTree {
    /// Reads all documents that lead from `root`.
    pub(crate) async fn of(content: &dyn Content, root: &Descriptor) -> Result<Self, EngineError> {
        let mut tree = Self { documents: Vec::new(), blobs: BTreeMap::new() };
        let mut seen = BTreeSet::new();
        let mut open = vec![Open::Enter(root.clone(), INDEX_DEPTH)];
        while let Some(next) = open.pop() {
            let (descriptor, depth) = match next {
                Open::Leave(descriptor, bytes) => {
                    tree.documents.push((descriptor, bytes));
                    continue;
                }
                Open::Enter(descriptor, depth) => (descriptor, depth),
            };
            let digest = checked(&descriptor)?;
            if !seen.insert(digest) {
                continue;
            }
            if seen.len() > MANIFESTS {
                return Err(wrong(&digest, "comes after a thousand others in the indexes of one image"));
            }
            let bytes = content.document(&descriptor, What::Manifest).await?;
            match Document::of(&bytes).map_err(|error| wrong(&digest, &format!("is of no use: {error}")))? {
                Document::Index if depth == 0 => {
                    return Err(wrong(&digest, "lies too deep in other indexes"));
                }
                Document::Index => {
                    let index: ImageIndex = parse(&digest, &bytes)?;
                    open.push(Open::Leave(descriptor, bytes));
                    let inside = index.manifests().iter().rev();
                    open.extend(inside.map(|entry| Open::Enter(entry.clone(), depth - 1)));
                }
                Document::Manifest => {
                    let manifest: ImageManifest = parse(&digest, &bytes)?;
                    if manifest.layers().len() > LAYERS {
                        return Err(wrong(&digest, "has more layers than can be"));
                    }
                    for part in std::iter::once(manifest.config()).chain(manifest.layers()) {
                        tree.blobs.insert(checked(part)?, part.clone());
                    }
                    tree.documents.push((descriptor, bytes));
                }
                Document::Schema1 => return Err(wrong(&digest, "is of Docker's old schema 1")),
            }
        }
        Ok(tree)
    }

    /// Returns the root.
    pub(crate) fn root(&self) -> &Descriptor {
        &self.documents.last().expect("a tree has a root").0
    }

    /// Says whether nothing of it is missing.
    pub(crate) fn is_complete(&self, content: &dyn Content) -> Result<bool, EngineError> {
        for blob in self.blobs.values().filter(|blob| !is_foreign(blob)) {
            if !content.has(blob)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Says whether a layer lies where its descriptor says, and may not be passed on.
pub(crate) fn is_foreign(descriptor: &Descriptor) -> bool {
    descriptor.urls().as_ref().is_some_and(|urls| !urls.is_empty())
}

/// Refuses a manifest whose config says that it is for another platform.
pub(crate) async fn refuse_other(
    content: &dyn Content,
    manifest: &Descriptor,
    platform: &Platform,
) -> Result<(), EngineError> {
    let bytes = content.document(manifest, What::Manifest).await?;
    let parsed: ImageManifest = parse(&checked(manifest)?, &bytes)?;
    let config = content.document(parsed.config(), What::Config).await?;
    refuse_config_of_other(&parse(&checked(parsed.config())?, &config)?, platform)
}

/// The same, of a config. One that names no platform fits all.
pub(crate) fn refuse_config_of_other(config: &ImageConfig, platform: &Platform) -> Result<(), EngineError> {
    match config_platform(config) {
        Some(have) if distance(platform, &have).is_none() => Err(EngineError::Image {
            what: "the image".to_owned(),
            reason: format!("is not for {platform}; it is for {have} alone"),
            help: Some(format!("leave `--platform` out, or name {have}")),
        }),
        Some(_) | None => Ok(()),
    }
}

/// Finds the manifest for a platform; a manifest that is all there is, is what the user means.
pub(crate) async fn manifest_for(
    content: &dyn Content,
    root: &Descriptor,
    platform: &Platform,
) -> Result<Descriptor, EngineError> {
    if !is_index(root) {
        return Ok(root.clone());
    }
    let mut manifests = Vec::new();
    let mut open = vec![(root.clone(), INDEX_DEPTH)];
    let mut left = MANIFESTS;
    while let Some((entry, depth)) = open.pop() {
        let digest = checked(&entry)?;
        left = match left.checked_sub(1) {
            Some(left) => left,
            None => return Err(wrong(&digest, "comes after a thousand others in the indexes of one image")),
        };
        if !is_index(&entry) {
            manifests.push(entry);
            continue;
        }
        if depth == 0 {
            return Err(wrong(&digest, "lies too deep in other indexes"));
        }
        let index: ImageIndex = parse(&digest, &content.document(&entry, What::Manifest).await?)?;
        open.extend(index.manifests().iter().rev().map(|entry| (entry.clone(), depth - 1)));
    }
    if let [only] = manifests.as_slice()
        && only.platform().is_none()
    {
        return Ok(only.clone());
    }
    let mut found = Vec::new();
    for manifest in manifests {
        let named = match manifest.platform() {
            Some(_) => named_platform(&manifest),
            None => {
                let digest = checked(&manifest)?;
                let bytes = content.document(&manifest, What::Manifest).await?;
                let parsed: ImageManifest = parse(&digest, &bytes)?;
                let config = content.document(parsed.config(), What::Config).await?;
                config_platform(&parse::<ImageConfig>(&checked(parsed.config())?, &config)?)
            }
        };
        found.extend(named.map(|platform| (platform, manifest)));
    }
    let have: Vec<String> = found.iter().map(|(platform, _)| platform.to_string()).collect();
    closest(platform, found).ok_or_else(|| EngineError::Image {
        what: "the image".to_owned(),
        reason: format!("is not for {platform}; it is for {}", have.join(", ")),
        help: Some("`--platform` names another, `--all-platforms` takes all of them".to_owned()),
    })
}

fn wrong(digest: &Digest, reason: &str) -> EngineError {
    EngineError::Image { what: format!("manifest {digest}"), reason: reason.to_owned(), help: None }
}

pub(crate) fn parse<T: DeserializeOwned>(digest: &Digest, bytes: &[u8]) -> Result<T, EngineError> {
    serde_json::from_slice(bytes).map_err(|error| wrong(digest, &format!("cannot be read: {error}")))
}
