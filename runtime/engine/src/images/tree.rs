//! What an image consists of: indexes, manifests, configs, layers; all of it, or what is for one platform.
//!
//! In: a root and where it lies. Out: an [`ImageTree`]. Depths and counts are bounded, and nothing is read twice.

use std::collections::{BTreeMap, BTreeSet};

use rb_oci::index::{
    Document, INDEX_DEPTH, LAYERS, MANIFESTS, closest, config_platform, distance, is_index, named_platform,
};
use rb_oci::{Descriptor, Digest, ImageConfig, ImageIndex, ImageManifest, Platform};
use rb_sources::SourceError;
use rb_store::StoreError;
use serde::de::DeserializeOwned;

use super::content::{Content, What, digest_of};
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
            let digest = checked(content, &descriptor)?;
            if !seen.insert(digest) {
                continue;
            }
            if seen.len() > MANIFESTS {
                return Err(wrong(content, &digest, TOO_MANY));
            }
            let bytes = content.document(&descriptor, What::Manifest).await?;
            let document = Document::of(&bytes);
            match document.map_err(|error| wrong(content, &digest, &format!("is of no use: {error}")))? {
                Document::Index if depth == 0 => return Err(wrong(content, &digest, TOO_DEEP)),
                Document::Index => {
                    let index: ImageIndex = parse(content, &digest, &bytes)?;
                    open.push(Open::Leave(descriptor, bytes));
                    let inside = index.manifests().iter().rev();
                    open.extend(inside.map(|entry| Open::Enter(entry.clone(), depth - 1)));
                }
                Document::Manifest => {
                    let manifest: ImageManifest = parse(content, &digest, &bytes)?;
                    if manifest.layers().len() > LAYERS {
                        return Err(wrong(content, &digest, "has more layers than can be"));
                    }
                    for part in std::iter::once(manifest.config()).chain(manifest.layers()) {
                        tree.blobs.insert(checked(content, part)?, part.clone());
                    }
                    tree.documents.push((descriptor, bytes));
                }
                Document::Schema1 => {
                    return Err(wrong(content, &digest, "is of Docker's old schema 1"));
                }
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
    refuse_config_of_other(&config_of(content, manifest).await?, platform)
}

/// Reads the config of a manifest.
async fn config_of(content: &dyn Content, manifest: &Descriptor) -> Result<ImageConfig, EngineError> {
    let bytes = content.document(manifest, What::Manifest).await?;
    let parsed: ImageManifest = parse(content, &checked(content, manifest)?, &bytes)?;
    let config = content.document(parsed.config(), What::Config).await?;
    parse(content, &checked(content, parsed.config())?, &config)
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
    let manifests = manifests(content, root).await?;
    if let [only] = manifests.as_slice()
        && only.platform().is_none()
    {
        return Ok(only.clone());
    }
    let mut found = Vec::new();
    for manifest in manifests {
        let named = match manifest.platform() {
            Some(_) => named_platform(&manifest),
            None => config_platform(&config_of(content, &manifest).await?),
        };
        found.extend(named.map(|platform| (platform, manifest)));
    }
    let have: Vec<String> = found.iter().map(|(platform, _)| platform.to_string()).collect();
    closest(platform, found).ok_or_else(|| no_platform(&platform.to_string(), &have))
}

/// Tells that an index has nothing for a platform.
pub(crate) fn no_platform(wanted: &str, have: &[String]) -> EngineError {
    EngineError::Image {
        what: "the image".to_owned(),
        reason: format!("is not for {wanted}; it is for {}", have.join(", ")),
        help: Some("`--platform` names another".to_owned()),
    }
}

/// Returns the manifests that an index leads to, in its order.
pub(crate) async fn manifests(
    content: &dyn Content,
    root: &Descriptor,
) -> Result<Vec<Descriptor>, EngineError> {
    let mut manifests = Vec::new();
    let mut open = vec![(root.clone(), INDEX_DEPTH)];
    let mut left = MANIFESTS;
    while let Some((entry, depth)) = open.pop() {
        let digest = checked(content, &entry)?;
        left = left.checked_sub(1).ok_or_else(|| wrong(content, &digest, TOO_MANY))?;
        if !is_index(&entry) {
            manifests.push(entry);
            continue;
        }
        if depth == 0 {
            return Err(wrong(content, &digest, TOO_DEEP));
        }
        let index: ImageIndex = parse(content, &digest, &content.document(&entry, What::Manifest).await?)?;
        open.extend(index.manifests().iter().rev().map(|entry| (entry.clone(), depth - 1)));
    }
    Ok(manifests)
}

/// Reads all of an image. That something of an index is not here is an error that names for which platforms.
pub(crate) async fn whole(content: &dyn Content, root: &Descriptor) -> Result<ImageTree, EngineError> {
    let tree = ImageTree::of(content, root).await;
    let is_whole = match &tree {
        Ok(tree) => tree.is_complete(content)?,
        Err(error) => !is_missing(error),
    };
    // What a manifest alone lacks is told by whoever wants it.
    if is_whole || !is_index(root) {
        return tree;
    }
    let (mut here, mut missing) = (Vec::new(), Vec::new());
    for manifest in manifests(content, root).await? {
        let named = named_platform(&manifest).map(|platform| platform.to_string());
        let is_here = match ImageTree::of(content, &manifest).await {
            Ok(tree) => tree.is_complete(content)?,
            Err(error) if is_missing(&error) => false,
            Err(error) => return Err(error),
        };
        let named = named.unwrap_or_else(|| manifest.digest().to_string());
        (if is_here { &mut here } else { &mut missing }).push(named);
    }
    let help = match here.first() {
        Some(platform) => format!(
            "`--platform {platform}` takes what is here of it; `rb image copy --all docker://NAME NAME` gets the rest"
        ),
        None => "build, load or copy it again".to_owned(),
    };
    Err(incomplete("the image".to_owned(), &missing, help))
}

/// Tells that an index is not all here.
pub(crate) fn incomplete(what: String, missing: &[String], help: String) -> EngineError {
    let reason = format!("is an index, and not all of it is here: {} is missing", missing.join(", "));
    EngineError::Image { what, reason, help: Some(help) }
}

/// Says whether an error is that something is not where its image is.
fn is_missing(error: &EngineError) -> bool {
    matches!(
        error,
        EngineError::Store(StoreError::UnknownBlob(_)) | EngineError::Source(SourceError::MissingBlob { .. })
    )
}

const TOO_MANY: &str = "comes after a thousand others in the indexes of one image";
const TOO_DEEP: &str = "lies too deep in other indexes";

fn wrong(content: &dyn Content, digest: &Digest, reason: &str) -> EngineError {
    content.wrong(format!("manifest {digest}"), reason.to_owned())
}

/// Returns the digest of a descriptor that comes out of a document; those that cannot be checked are refused.
fn checked(content: &dyn Content, descriptor: &Descriptor) -> Result<Digest, EngineError> {
    digest_of(descriptor).map_err(|error| {
        content.wrong(
            "manifest of the image".to_owned(),
            format!("names a blob that cannot be checked: {error}"),
        )
    })
}

pub(crate) fn parse<T: DeserializeOwned>(
    content: &dyn Content,
    digest: &Digest,
    bytes: &[u8],
) -> Result<T, EngineError> {
    serde_json::from_slice(bytes).map_err(|error| wrong(content, digest, &format!("cannot be read: {error}")))
}
