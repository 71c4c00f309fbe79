//! Pushing: an image of the store, or of another place, to registries.
//!
//! In: an [`ImageTree`], where it lies, and names. Out: what it took. For each repository: blobs first, several at once,
//! each looked for there before it is sent, and taken over from another repository of the same registry where one is known
//! to have it; then the manifests, those of platforms before their index; tags last. So a tag never names what is not there,
//! and a push that failed can be repeated at the price of what is missing.
//! **Invariant:** every name stands for the digest that is told, or there is an error; dropping the future ends it.
//! Source: OCI distribution-spec, "Pushing manifests"; docker push.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rb_api::{
    Event, EventKind, EventSink, Export, ExportResult, ImageName, LogStream, Progress, PushedImage,
};
use rb_oci::{Descriptor, Digest, Platform, Reference, Repository};
use rb_registry::{Notice, Pushed, Registry, Watch};
use rb_store::Store;
use tokio::task::JoinSet;

use crate::LocalEngine;
use crate::error::EngineError;
use crate::images::content::{Content, InStore, digest_of, run_blocking, unwrapped};
use crate::images::tree::{ImageTree, is_foreign, manifest_for, refuse_other, whole};
use crate::parts::Parts;

/// Blobs under way at once. Fewer than the client allows for one host: a blob may come from the registry that it goes to.
const AT_ONCE: usize = 4;

/// How often progress of a blob is told.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// Which platforms of an image are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Platforms {
    /// All; that one is not here is an error.
    #[default]
    All,
    /// The nearest to one; a manifest that is all there is, whatever it is for.
    Nearest(Platform),
    /// One; that there is only another is an error.
    One(Platform),
}

/// A way to name what is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// By the tags of the references.
    Tags,
    /// By digest alone.
    Digest,
}

impl LocalEngine {
    /// Pushes an image of the store to names.
    pub async fn push_image(
        &self,
        name: &str,
        to: &[Reference],
        platforms: &Platforms,
        events: &EventSink,
    ) -> Result<Vec<PushedImage>, EngineError> {
        let root = self.find_image(name)?;
        self::image(&self.parts, &root, to, Naming::Tags, platforms, events).await
    }

    /// Puts an index under names, whose registries have the images that it lists.
    pub async fn push_index(
        &self,
        to: &[Reference],
        media_type: &str,
        index: &[u8],
    ) -> Result<(), EngineError> {
        for name in to {
            self.parts.registry.push_manifest(name, media_type, index.to_vec()).await?;
        }
        Ok(())
    }
}

/// Pushes an image of the store.
pub(crate) async fn image(
    parts: &Parts,
    root: &Descriptor,
    to: &[Reference],
    naming: Naming,
    platforms: &Platforms,
    events: &EventSink,
) -> Result<Vec<PushedImage>, EngineError> {
    let content = InStore { store: parts.store.clone(), registry: parts.registry.clone() };
    let content: Arc<dyn Content> = Arc::new(content);
    let tree = tree_for(&*content, root, platforms).await?;
    tree_to(parts, &content, &tree, to, naming, events).await
}

/// What an export is to be pushed to.
pub(crate) struct Target {
    to: Vec<Reference>,
    naming: Naming,
}

impl Target {
    /// Tells whether this is one of its names.
    pub(crate) fn names(&self, reference: &Reference) -> bool {
        self.naming == Naming::Tags && self.to.contains(reference)
    }
}

/// Takes out of exports what is to be pushed once all of them are written. Names that cannot be pushed to are refused now.
pub(crate) fn take(exports: &mut [Export]) -> Result<Vec<Option<Target>>, EngineError> {
    exports.iter_mut().map(target).collect()
}

/// Pushes what was written, in the order of the exports; nothing is, if one of them failed.
pub(crate) async fn written(
    parts: &Parts,
    targets: &[Option<Target>],
    written: &[ExportResult],
    events: &EventSink,
) -> Result<Vec<PushedImage>, EngineError> {
    let mut pushed: Vec<PushedImage> = Vec::new();
    for (target, result) in targets.iter().zip(written) {
        let (Some(Target { to, naming }), ExportResult::Image { descriptor, .. }) = (target, result) else {
            continue;
        };
        let image = image(parts, descriptor, to, *naming, &Platforms::All, events).await;
        pushed.extend(image.map_err(|error| error.after(&pushed))?);
    }
    Ok(pushed)
}

/// Takes out of an export where it is to be pushed to.
fn target(export: &mut Export) -> Result<Option<Target>, EngineError> {
    let Export::Image { names, push, .. } = export else { return Ok(None) };
    let Some(push) = push.take() else { return Ok(None) };
    let mut naming = if push.by_digest { Naming::Digest } else { Naming::Tags };
    let mut to = Vec::new();
    for name in names.iter() {
        let name = match name {
            ImageName::Plain(name) => name,
            ImageName::Digest(name) => {
                naming = Naming::Digest;
                name
            }
        };
        let reference = name.parse::<Reference>();
        to.push(reference.map_err(|error| EngineError::Image {
            what: format!("`{name}`"),
            reason: format!("cannot be pushed to: {error}"),
            help: None,
        })?);
    }
    if push.only {
        names.clear();
    }
    Ok(Some(Target { to, naming }))
}

/// Reads what of an image is meant.
pub(crate) async fn tree_for(
    content: &dyn Content,
    root: &Descriptor,
    platforms: &Platforms,
) -> Result<ImageTree, EngineError> {
    let manifest = match platforms {
        Platforms::All => return whole(content, root).await,
        Platforms::Nearest(platform) => manifest_for(content, root, platform).await?,
        Platforms::One(platform) => {
            let manifest = manifest_for(content, root, platform).await?;
            refuse_other(content, &manifest, platform).await?;
            manifest
        }
    };
    ImageTree::of(content, &manifest).await
}

/// Pushes an image from wherever it lies.
pub(crate) async fn tree_to(
    parts: &Parts,
    content: &Arc<dyn Content>,
    tree: &ImageTree,
    to: &[Reference],
    naming: Naming,
    events: &EventSink,
) -> Result<Vec<PushedImage>, EngineError> {
    let root = digest_of(tree.root())?;
    let mut repositories: Vec<&Repository> = Vec::new();
    for reference in to {
        if let Some(digest) = reference.digest().filter(|digest| *digest != root) {
            return Err(EngineError::Image {
                what: format!("`{}`", reference.familiar()),
                reason: format!("cannot be pushed to: the image is {root}, and that is {digest}"),
                help: Some(
                    "a digest is what an image is; leave it out, or name the image that has it".to_owned(),
                ),
            });
        }
        if !repositories.contains(&reference.repository()) {
            repositories.push(reference.repository());
        }
    }
    let mut reports = Vec::new();
    for (place, repository) in repositories.iter().enumerate() {
        let names: Vec<&Reference> =
            to.iter().filter(|reference| reference.repository() == *repository).collect();
        let told = Told::new(names[0].familiar(), Arc::clone(events));
        let push = Push {
            store: &parts.store,
            registry: parts.registry.watched(Arc::new(told.clone())),
            content,
            tree,
            repository,
            // What was just pushed there is there.
            before: &repositories[..place],
        };
        let before = reports.len();
        if let Err(error) = push.all(&names, naming, &told, &mut reports).await {
            told.image(EventKind::Failed { message: rb_diag::chain(&error) });
            // Of the names of one repository, those before the one that failed are pushed.
            let name = names.get(reports.len() - before).unwrap_or(&names[0]).familiar();
            let error = EngineError::Push { name, pushed: Vec::new(), source: Box::new(error) };
            return Err(error.after(&reports));
        }
    }
    Ok(reports)
}

/// One image on its way to one repository.
struct Push<'a> {
    store: &'a Store,
    registry: Registry,
    content: &'a Arc<dyn Content>,
    tree: &'a ImageTree,
    repository: &'a Repository,
    before: &'a [&'a Repository],
}

impl Push<'_> {
    async fn all(
        &self,
        names: &[&Reference],
        naming: Naming,
        told: &Told,
        reports: &mut Vec<PushedImage>,
    ) -> Result<(), EngineError> {
        let began = Instant::now();
        told.begin();
        let pushed = self.blobs(told).await?;
        let root = digest_of(self.tree.root())?;
        let (last, others) = self.tree.documents.split_last().expect("a tree has a root");
        for (descriptor, bytes) in others {
            self.document(&self.repository.with_digest(digest_of(descriptor)?), descriptor, bytes).await?;
        }
        for (place, name) in names.iter().enumerate() {
            let target = match (naming, name.tag()) {
                (Naming::Digest, _) | (_, None) => self.repository.with_digest(root),
                (Naming::Tags, Some(_)) => (*name).clone(),
            };
            self.document(&target, &last.0, &last.1).await?;
            // The blobs went once, for the first name.
            let there = Counts { existed: self.tree.blobs.len(), ..Counts::default() };
            let counts = if place == 0 { &pushed } else { &there };
            reports.push(counts.report(target.familiar(), root));
        }
        told.image(EventKind::Done { duration: began.elapsed() });
        Ok(())
    }

    /// Sends blobs, several at once; dropped, it ends them all.
    async fn blobs(&self, told: &Told) -> Result<Counts, EngineError> {
        let mut open = self.tree.blobs.iter().filter(|(_, blob)| !is_foreign(blob));
        let mut under_way = JoinSet::new();
        let mut counts = Counts::default();
        loop {
            while under_way.len() < AT_ONCE
                && let Some((digest, descriptor)) = open.next()
            {
                let mut known = self.content.known_in(digest)?;
                known.extend(self.before.iter().map(|repository| (*repository).clone()));
                let (registry, repository) = (self.registry.clone(), self.repository.clone());
                let (descriptor, digest) = (descriptor.clone(), *digest);
                // Nothing is read of it before the registry is found to lack it.
                let source = self.content.blob(&descriptor)?;
                told.layer(&digest, descriptor.size());
                under_way.spawn(async move {
                    let began = Instant::now();
                    let done = registry.push_blob(&repository, &descriptor, source, &known).await;
                    (digest, descriptor.size(), done, began.elapsed())
                });
            }
            let Some(joined) = under_way.join_next().await else { break };
            let (digest, size, done, took) =
                joined.map_err(|error| EngineError::Worker { reason: error.to_string() })?;
            counts.add(done.map_err(unwrapped)?, size);
            told.done(&digest, took);
        }
        let (store, name) = (self.store.clone(), self.repository.to_string());
        let blobs: Vec<Digest> = self.tree.blobs.keys().copied().collect();
        run_blocking(move || Ok(store.put_origins(&name, &blobs)?)).await?;
        Ok(counts)
    }

    async fn document(
        &self,
        target: &Reference,
        descriptor: &Descriptor,
        bytes: &[u8],
    ) -> Result<(), EngineError> {
        let media_type = media_type(descriptor, bytes);
        self.registry.push_manifest(target, &media_type, bytes.to_vec()).await?;
        Ok(())
    }
}

/// Returns the media type of a document: what it says itself, as registries compare the two.
fn media_type(descriptor: &Descriptor, bytes: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Named {
        #[serde(rename = "mediaType")]
        media_type: Option<String>,
    }
    let named = serde_json::from_slice::<Named>(bytes).ok().and_then(|named| named.media_type);
    named.unwrap_or_else(|| descriptor.media_type().to_string())
}

#[derive(Debug, Default)]
struct Counts {
    sent: usize,
    sent_bytes: u64,
    mounted: usize,
    existed: usize,
}

impl Counts {
    fn add(&mut self, pushed: Pushed, size: u64) {
        match pushed {
            Pushed::Existed => self.existed += 1,
            Pushed::Mounted(_) => self.mounted += 1,
            Pushed::Uploaded => {
                self.sent += 1;
                self.sent_bytes += size;
            }
        }
    }

    fn report(&self, name: String, digest: Digest) -> PushedImage {
        let Self { sent, sent_bytes, mounted, existed } = *self;
        PushedImage { name, digest, sent, sent_bytes, mounted, existed }
    }
}

/// Tells of one push: the image as a step, its blobs as work within it.
#[derive(Clone)]
pub(crate) struct Told {
    name: String,
    events: EventSink,
    when: Arc<Mutex<BTreeMap<Digest, Instant>>>,
    layers: Arc<Mutex<BTreeSet<Digest>>>,
}

impl Told {
    pub(crate) fn new(name: String, events: EventSink) -> Self {
        Self { name, events, when: Arc::default(), layers: Arc::default() }
    }

    fn image(&self, kind: EventKind) {
        (self.events)(Event { vertex: Digest::of(format!("push {}", self.name)), kind });
    }

    fn begin(&self) {
        self.image(EventKind::Added {
            name: format!("push | {}", self.name),
            step: true,
            inputs: Vec::new(),
        });
        self.image(EventKind::Started);
    }

    fn vertex(&self, digest: &Digest) -> Digest {
        Digest::of(format!("push {} {digest}", self.name))
    }

    fn layer(&self, digest: &Digest, total: u64) {
        let vertex = self.vertex(digest);
        let name = format!("push | {} {}", self.name, digest.short());
        self.layers.lock().unwrap_or_else(PoisonError::into_inner).insert(*digest);
        for kind in [
            EventKind::Added { name, step: false, inputs: Vec::new() },
            EventKind::Started,
            EventKind::Progress(Progress::bytes("pushing", 0, Some(total))),
        ] {
            (self.events)(Event { vertex, kind });
        }
    }

    fn done(&self, digest: &Digest, duration: Duration) {
        (self.events)(Event { vertex: self.vertex(digest), kind: EventKind::Done { duration } });
    }
}

impl Watch for Told {
    fn transferred(&self, blob: &Digest, done: u64, total: u64) {
        let now = Instant::now();
        {
            let layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
            // What a blob is fetched from tells of it too.
            if !layers.contains(blob) {
                return;
            }
            let mut when = self.when.lock().unwrap_or_else(PoisonError::into_inner);
            if done < total && when.get(blob).is_some_and(|last| now - *last < TELL_EVERY) {
                return;
            }
            when.insert(*blob, now);
        }
        let kind = EventKind::Progress(Progress::bytes("pushing", done, Some(total)));
        (self.events)(Event { vertex: self.vertex(blob), kind });
    }

    fn notice(&self, notice: &Notice) {
        let bytes = Bytes::from(format!("{notice}\n"));
        self.image(EventKind::Log { stream: LogStream::Stderr, bytes });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_says_what_it_is() {
        let text = serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": Digest::of("x"), "size": 1,
        });
        let descriptor: Descriptor = serde_json::from_value(text).expect("a descriptor");
        assert_eq!(media_type(&descriptor, b"{}"), "application/vnd.oci.image.manifest.v1+json");
        assert_eq!(media_type(&descriptor, br#"{"mediaType":"a/b"}"#), "a/b");
    }
}
