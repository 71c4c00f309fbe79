//! A cache read from where it lies.
//!
//! In: a place. Out: what its manifests hold: one of a cache, or those of an image in whose configs caches lie, one for each
//! platform. Documents are proved by their digests, bounded in size and number, and checked before anything of them is used.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use rb_api::CachePlace;
use rb_exporters::Epoch;
use rb_oci::cache::{BUILDKIT_CACHE_CONFIG, BUILDKIT_CACHE_FIELD, CACHE_FIELD, CacheTable, CacheTableError};
use rb_oci::index::{DOCKER_MANIFEST, Document, JSON_LIMIT_BYTES, LAYERS};
use rb_oci::{Descriptor, Digest, ImageManifest, MediaType};
use rb_registry::RegistryError;
use rb_solver::keys::KEY_SCHEMA;
use rb_sources::{SourceError, layout};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Loaded, bucket};
use crate::error::EngineError;
use crate::fetch::Listener;
use crate::images::content::{Content, InLayout, InRegistry, What, digest_of, run_blocking};
use crate::images::tree::{manifests, parse};
use crate::parts::Parts;
use crate::pinned::Origin;

/// Manifests of one place that are read: of an image, one for each platform.
const FEW: usize = 64;

/// A place is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// It is not there, or cannot be read.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Nothing is there.
    #[error("there is no cache yet")]
    Nothing,
    /// It was written by BuildKit.
    #[error("it holds a cache of BuildKit's, which finds results by keys of its own; rb has no use for them")]
    BuildKit,
    /// It holds no cache.
    #[error("it is no cache, and no image that holds one (`--cache-to=type=inline` makes such images)")]
    NoCache,
    /// Its keys are of another schema.
    #[error("it was written by another version of rb, which recognised results in another way")]
    Schema,
    /// Its layers are not those that a build here would make.
    #[error(
        "it was written for another SOURCE_DATE_EPOCH ({theirs}, here it is {ours}), so its layers are not what is made here"
    )]
    Epoch {
        /// The one it was written for.
        theirs: i64,
        /// That of this build.
        ours: i64,
    },
    /// What it holds is wrong.
    #[error(transparent)]
    Table(#[from] CacheTableError),
}

/// Reads what a place holds.
pub(super) async fn load(
    parts: &Arc<Parts>,
    place: &CachePlace,
    epoch: Epoch,
    listener: &Listener,
) -> Result<Vec<Loaded>, LoadError> {
    match place {
        CachePlace::Registry(reference) => {
            let registry = parts.registry.for_hints().watched(listener.registry_watch());
            let root = registry.resolve(reference).await.map_err(|error| match error {
                RegistryError::NotFound { .. } => LoadError::Nothing,
                error => EngineError::from(error).into(),
            })?;
            let (repository, store) = (reference.repository().clone(), parts.store.clone());
            let content = InRegistry { registry, repository, store };
            read(&content, &root.descriptor, &Origin::Registry(reference.repository().clone()), epoch).await
        }
        CachePlace::Folder { path, tag, digest } => {
            if !path.join("index.json").is_file() {
                return Err(LoadError::Nothing);
            }
            let root = {
                let (path, tag, digest) = (path.clone(), tag.clone(), *digest);
                run_blocking(move || root_of(&path, &tag, digest)).await?
            };
            read(&InLayout { folder: path.clone() }, &root, &Origin::Layout(path.clone()), epoch).await
        }
        CachePlace::Bucket(bucket) => {
            let found = bucket::documents(parts, bucket, listener).await?;
            let origin = Origin::Bucket(Arc::clone(bucket));
            let (mut caches, mut why) = (Vec::new(), LoadError::Nothing);
            for root in &found.roots {
                if found.is_of_buildkit(root) {
                    why = LoadError::BuildKit;
                    continue;
                }
                match read(&found, root, &origin, epoch).await {
                    Ok(more) => caches.extend(more),
                    Err(error) => why = error,
                }
            }
            if caches.is_empty() { Err(why) } else { Ok(caches) }
        }
    }
}

/// Finds a manifest in a layout.
fn root_of(folder: &Path, tag: &str, digest: Option<Digest>) -> Result<Descriptor, EngineError> {
    let Some(digest) = digest else { return Ok(layout::entry(folder, Some(tag))?) };
    let path = layout::blob_path(folder, &digest);
    let unread = |source| SourceError::Read { path: path.clone(), source };
    let mut bytes = Vec::new();
    let file = File::open(&path).map_err(unread)?;
    file.take(JSON_LIMIT_BYTES).read_to_end(&mut bytes).map_err(unread)?;
    // What it says is read, and proved, as any other.
    let media_type = match Document::of(&bytes) {
        Ok(Document::Index) => MediaType::ImageIndex,
        Ok(Document::Manifest | Document::Schema1) | Err(_) => MediaType::ImageManifest,
    };
    let text = json!({"mediaType": media_type.to_string(), "digest": digest, "size": bytes.len()});
    serde_json::from_value(text).map_err(|error| EngineError::Worker { reason: error.to_string() })
}

async fn read(
    content: &dyn Content,
    root: &Descriptor,
    origin: &Origin,
    epoch: Epoch,
) -> Result<Vec<Loaded>, LoadError> {
    let mut found = Vec::new();
    let mut why = LoadError::NoCache;
    for manifest in manifests(content, root).await?.into_iter().take(FEW) {
        if manifest.media_type().to_string() == BUILDKIT_CACHE_CONFIG {
            return Err(LoadError::BuildKit);
        }
        if !is_manifest(&manifest) {
            continue;
        }
        match one(content, &manifest, origin).await {
            Ok(cache) if cache.table.epoch != epoch.0 => {
                why = LoadError::Epoch { theirs: cache.table.epoch, ours: epoch.0 };
            }
            Ok(cache) => found.push(cache),
            // Of an image with attestations not every manifest is one of a platform.
            Err(LoadError::NoCache) => {}
            Err(LoadError::Engine(error)) => return Err(error.into()),
            Err(error) => why = error,
        }
    }
    if found.is_empty() { Err(why) } else { Ok(found) }
}

fn is_manifest(descriptor: &Descriptor) -> bool {
    let is_attestation = descriptor
        .annotations()
        .as_ref()
        .is_some_and(|annotations| annotations.contains_key(rb_exporters::REFERENCE_TYPE.0));
    let media_type = descriptor.media_type();
    !is_attestation && (*media_type == MediaType::ImageManifest || media_type.to_string() == DOCKER_MANIFEST)
}

/// What is read of a config.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    rootfs: RootFs,
    #[serde(flatten)]
    other: std::collections::BTreeMap<String, Value>,
}

#[derive(Default, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

async fn one(content: &dyn Content, descriptor: &Descriptor, origin: &Origin) -> Result<Loaded, LoadError> {
    let digest = digest_of(descriptor)?;
    let manifest: ImageManifest =
        parse(content, &digest, &content.document(descriptor, What::Manifest).await?)?;
    if manifest.config().media_type().to_string() == BUILDKIT_CACHE_CONFIG {
        return Err(LoadError::BuildKit);
    }
    let layers = manifest.layers();
    if layers.len() > LAYERS {
        return Err(CacheTableError::TooMany { what: "layers" }.into());
    }
    let config = content.document(manifest.config(), What::Config).await?;
    let config: Config = parse(content, &digest_of(manifest.config())?, &config)?;
    let Some(table) = config.other.get(CACHE_FIELD) else {
        let is_theirs = config.other.contains_key(BUILDKIT_CACHE_FIELD);
        return Err(if is_theirs { LoadError::BuildKit } else { LoadError::NoCache });
    };
    // Of another schema all may be otherwise.
    if table.get("schema").and_then(Value::as_u64) != Some(u64::from(KEY_SCHEMA)) {
        return Err(LoadError::Schema);
    }
    let diff_ids = config.rootfs.diff_ids.unwrap_or_default();
    if diff_ids.len() != layers.len() {
        return Err(CacheTableError::Nowhere { what: "layer" }.into());
    }
    let table = CacheTable::read(table, layers.len())?;
    for layer in layers {
        digest_of(layer)?;
    }
    let layers = layers.iter().cloned().zip(diff_ids).collect();
    Ok(Loaded::new(digest, origin.clone(), layers, table))
}
