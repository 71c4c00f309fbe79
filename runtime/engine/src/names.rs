//! Names of images: which manifest one stands for, and who is asked.
//!
//! In: a reference, a platform, a [`PullPolicy`]. Out: a [`NamedImage`], complete but for its layers. A name that stands in
//! the image store is that image, as with docker; else its registry is asked, once per job and name. What comes (index,
//! manifest, config) is kept among the blobs and what a tag stood for is noted, so that it can be known without a network.
//! **Invariant:** a reference with a digest whose documents are here asks nobody; and nothing stands in silently for what
//! a registry could not be asked.
//! Source: docker's `--pull`; BuildKit's `image.resolvemode`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rb_api::PullPolicy;
use rb_diag::ErrorKind;
use rb_oci::index::{
    DOCKER_INDEX, DOCKER_MANIFEST, Document, JSON_LIMIT_BYTES, config_platform, distance, is_index,
};
use rb_oci::{Descriptor, Digest, MediaType, Platform, Reference};
use rb_registry::{ImageManifests, RegistryError};
use rb_solver::OpError;
use rb_sources::layout::{self, LayoutImage};
use rb_store::StoreError;
use serde_json::json;
use tokio::sync::OnceCell;

use crate::error::EngineError;
use crate::fetch::Listener;
use crate::parts::Parts;
use crate::pinned::{Origin, PinnedImage};

/// An image that a name stands for.
#[derive(Debug, Clone)]
pub(crate) struct NamedImage {
    /// Digest of what the name stands for: of an index, if it is one.
    pub(crate) root: Digest,
    /// The image for the platform.
    pub(crate) image: Arc<PinnedImage>,
}

type Answer = Arc<OnceCell<NamedImage>>;

/// What names stand for in one job.
#[derive(Default)]
pub(crate) struct Names {
    /// When a registry is asked.
    pub(crate) pull: PullPolicy,
    answers: Mutex<BTreeMap<(String, String), Answer>>,
}

impl Names {
    /// Finds an image; a name is asked for once.
    pub(crate) async fn find(
        &self,
        parts: &Arc<Parts>,
        reference: &Reference,
        platform: &Platform,
        pull: PullPolicy,
        listener: &Listener,
    ) -> Result<NamedImage, OpError> {
        let key = (format!("{reference} {pull:?}"), platform.to_string());
        let answer = {
            // Every change of the map is a single step.
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(answers.entry(key).or_default())
        };
        let found = answer.get_or_try_init(|| find(parts, reference, platform, pull, listener)).await?;
        Ok(found.clone())
    }
}

/// Finds an image, asking its registry where the policy says so.
pub(crate) async fn find(
    parts: &Arc<Parts>,
    reference: &Reference,
    platform: &Platform,
    pull: PullPolicy,
    listener: &Listener,
) -> Result<NamedImage, OpError> {
    let here = {
        let (parts, reference, platform) = (Arc::clone(parts), reference.clone(), platform.clone());
        crate::blocking(move || here(&parts, &reference, &platform, pull)).await?
    };
    let last = match here {
        Here::Found(image) => return Ok(image),
        Here::Asked { last } => last,
    };
    let asked = ask(parts, reference, platform, listener).await;
    asked.map_err(|error| match error {
        EngineError::Registry(source) if last && source.kind() == ErrorKind::Environment => {
            crate::op_error(EngineError::Unasked { name: reference.familiar(), source })
        }
        error => crate::op_error(error),
    })
}

/// What is known without a registry.
enum Here {
    Found(NamedImage),
    /// A registry is to be asked; `last` says that the answer of an earlier time would do for `--pull=missing`.
    Asked {
        last: bool,
    },
}

fn here(
    parts: &Parts,
    reference: &Reference,
    platform: &Platform,
    pull: PullPolicy,
) -> Result<Here, EngineError> {
    let pull = match pull {
        PullPolicy::Within(age) => within(parts, reference, platform, age)?,
        other => other,
    };
    let found = match reference.digest() {
        Some(digest) => stored(parts, reference, &digest, platform)?,
        None if pull == PullPolicy::Always => None,
        None => own(parts, reference, platform)?,
    };
    if let Some(found) = found {
        return Ok(Here::Found(found));
    }
    let last = match reference.digest() {
        Some(_) => None,
        None => remembered(parts, reference)?,
    };
    let last = last.map(|digest| stored(parts, reference, &digest, platform)).transpose()?.flatten();
    match (pull, last) {
        (PullPolicy::Missing | PullPolicy::Never, Some(last)) => Ok(Here::Found(last)),
        (PullPolicy::Never, None) => Err(EngineError::NotHere { name: reference.familiar() }),
        // `within` left none.
        (PullPolicy::Newest | PullPolicy::Always | PullPolicy::Missing | PullPolicy::Within(_), last) => {
            Ok(Here::Asked { last: last.is_some() })
        }
    }
}

/// Says what a policy of an age comes to: the registry is asked unless it was within that time. An image of this name that no registry
/// was ever asked for was made here, and stands.
fn within(
    parts: &Parts,
    reference: &Reference,
    platform: &Platform,
    age: Duration,
) -> Result<PullPolicy, EngineError> {
    let is_made_here = || -> Result<bool, EngineError> {
        Ok(asked_at(parts, reference)?.is_none() && own(parts, reference, platform)?.is_some())
    };
    let stands = asked_within(parts, reference, age)? || is_made_here()?;
    Ok(if stands { PullPolicy::Missing } else { PullPolicy::Always })
}

/// Tells whether a registry was asked for an image within a time.
pub(crate) fn asked_within(parts: &Parts, reference: &Reference, age: Duration) -> Result<bool, EngineError> {
    let now = parts.store.clock().now();
    Ok(asked_at(parts, reference)?.is_some_and(|asked| now.saturating_sub(asked) < age))
}

/// Asks the registry. A tag's digest alone is asked for first: where its documents are here, that is all.
async fn ask(
    parts: &Arc<Parts>,
    reference: &Reference,
    platform: &Platform,
    listener: &Listener,
) -> Result<NamedImage, EngineError> {
    let registry = parts.registry.watched(listener.registry_watch());
    let mut pinned = reference.clone();
    if reference.digest().is_none() {
        let digest = registry.digest(reference).await?;
        let known = {
            let (parts, reference, platform) = (Arc::clone(parts), reference.clone(), platform.clone());
            on_thread(move || {
                let known = stored(&parts, &reference, &digest, &platform)?;
                if known.is_some() {
                    remember(&parts, &reference, &digest)?;
                }
                Ok(known)
            })
            .await?
        };
        if let Some(known) = known {
            return Ok(known);
        }
        pinned = reference.pinned(digest);
    }
    let found = registry.image(&pinned, platform).await?;
    let (parts, reference) = (Arc::clone(parts), reference.clone());
    on_thread(move || keep(&parts, &reference, found)).await
}

async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| EngineError::Worker { reason: error.to_string() })?
}

/// Keeps what came: the documents are durable before anything names them.
fn keep(parts: &Parts, reference: &Reference, found: ImageManifests) -> Result<NamedImage, EngineError> {
    let store = &parts.store;
    let root = store.put_blob(&found.root_bytes)?;
    let digest = store.put_blob(&found.manifest_bytes)?;
    store.put_blob(&found.config_bytes)?;
    if reference.digest().is_none() {
        remember(parts, reference, &root)?;
    }
    let image = PinnedImage {
        digest,
        config: found.config,
        layers: found.layers,
        contents: None,
        origin: Origin::Registry(reference.repository().clone()),
    };
    Ok(NamedImage { root, image: Arc::new(image) })
}

/// Finds what has a name of its own in the image store, whichever way the name was written there.
fn own(parts: &Parts, reference: &Reference, platform: &Platform) -> Result<Option<NamedImage>, EngineError> {
    for name in [reference.familiar(), reference.to_string()] {
        let Some(row) = parts.store.image(&name)? else { continue };
        let Some(image) = layout::known(parts.store.root(), &row.descriptor, platform)? else {
            // Of an index not every image need be here. But nothing of that name elsewhere stands in for one that is lost.
            if is_index(&row.descriptor) {
                continue;
            }
            let reason = "is in the image store, and its manifest or config is lost".to_owned();
            let help = Some(format!("build or pull it again, or `rb image rm {name}`"));
            return Err(EngineError::Image { what: name, reason, help });
        };
        // Of a name that was pulled for another platform the registry may have more.
        let fits = config_platform(&image.config).is_none_or(|have| distance(platform, &have).is_some());
        if fits {
            let root = layout::digest_of(&row.descriptor)?;
            return Ok(Some(NamedImage { root, image: Arc::new(pinned(image, Origin::Store)) }));
        }
    }
    Ok(None)
}

/// Finds what a digest names among the blobs, complete but for layers.
fn stored(
    parts: &Parts,
    reference: &Reference,
    root: &Digest,
    platform: &Platform,
) -> Result<Option<NamedImage>, EngineError> {
    let Some(descriptor) = document(parts, root)? else { return Ok(None) };
    let found = match layout::known(parts.store.root(), &descriptor, platform) {
        // The registry's client tells it with the name.
        Err(rb_sources::SourceError::NoSuchImage { path: _, wanted: _, have }) => {
            let (name, wanted) = (reference.to_string(), platform.to_string());
            return Err(RegistryError::Platform { name, wanted, have }.into());
        }
        found => found?,
    };
    let origin = Origin::Registry(reference.repository().clone());
    Ok(found.map(|image| NamedImage { root: *root, image: Arc::new(pinned(image, origin)) }))
}

fn pinned(image: LayoutImage, origin: Origin) -> PinnedImage {
    let LayoutImage { folder: _, digest, config, layers } = image;
    PinnedImage { digest, config, layers, contents: None, origin }
}

/// Describes a manifest or index among the blobs; none if there is no such thing.
pub(crate) fn document(parts: &Parts, digest: &Digest) -> Result<Option<Descriptor>, EngineError> {
    let bytes = match parts.store.read_blob(digest, JSON_LIMIT_BYTES) {
        Ok(bytes) => bytes,
        // A damaged one was taken away and is fetched again.
        Err(StoreError::UnknownBlob(_) | StoreError::CorruptBlob { .. } | StoreError::TooLarge { .. }) => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let called = serde_json::from_slice::<serde_json::Value>(&bytes).ok();
    let called = called.as_ref().and_then(|value| value.get("mediaType")?.as_str());
    let media_type = match (Document::of(&bytes), called) {
        (Ok(Document::Index), Some(DOCKER_INDEX)) => DOCKER_INDEX.to_owned(),
        (Ok(Document::Index), _) => MediaType::ImageIndex.to_string(),
        (Ok(Document::Manifest), Some(DOCKER_MANIFEST)) => DOCKER_MANIFEST.to_owned(),
        (Ok(Document::Manifest), _) => MediaType::ImageManifest.to_string(),
        (Ok(Document::Schema1) | Err(_), _) => return Ok(None),
    };
    let text = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
    Ok(serde_json::from_value(text).ok())
}

/// Notes what a tag stands for.
fn remember(parts: &Parts, reference: &Reference, root: &Digest) -> Result<(), EngineError> {
    parts.store.put_record(&note_of(reference), root.as_bytes(), &[])?;
    let now = parts.store.clock().now().as_secs();
    Ok(parts.store.put_record(&time_of(reference), &now.to_be_bytes(), &[])?)
}

/// Returns when its registry was last asked what a tag stands for, since 1970.
fn asked_at(parts: &Parts, reference: &Reference) -> Result<Option<Duration>, EngineError> {
    let record = parts.store.record(&time_of(reference))?;
    let seconds = record.and_then(|record| Some(u64::from_be_bytes(record.value.try_into().ok()?)));
    Ok(seconds.map(Duration::from_secs))
}

/// Returns what a tag stood for when its registry was last asked.
fn remembered(parts: &Parts, reference: &Reference) -> Result<Option<Digest>, EngineError> {
    let record = parts.store.record(&note_of(reference))?;
    Ok(record.and_then(|record| Some(Digest::from_bytes(record.value.try_into().ok()?))))
}

fn time_of(reference: &Reference) -> Digest {
    Digest::of(format!("when it was asked what {reference} stands for"))
}

fn note_of(reference: &Reference) -> Digest {
    Digest::of(format!("what {reference} stands for"))
}
