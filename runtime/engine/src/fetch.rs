//! Layers of images, fetched and unpacked once something reads them.
//!
//! In: a [`PinnedImage`]. Out: its blobs in the store, or its tree. All layers that are missing are pulled at once, as many
//! as the registry's client allows; each is unpacked as soon as it and those below it are there. A layer whose tree is in
//! the store is not pulled.
//! Whoever pulls a blob or unpacks a layer holds a claim meanwhile, so that the steps of this process and of others wait
//! for it and find it done. Nobody waits for another claim while it holds one.
//! **Invariant:** dropping a future ends what it does: the pull at once, the unpacking at its next piece.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rb_api::{EventKind, EventSink, LogStream};
use rb_diag::chain;
use rb_oci::{Descriptor, Digest, Repository};
use rb_registry::{BlobSink, Notice};
use rb_snapshot::ContentKey;
use rb_solver::{Context, Event, OpError, Stream};
use rb_sources::SourceError;
use rb_sources::unpack::{self, PackedLayer};
use rb_store::{BlobWriter, SnapshotId, Store, StoreError};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::claims::{Claimed, Taken};
use crate::error::EngineError;
use crate::parts::Parts;
use crate::pinned::{Origin, PinnedImage, ownership};
use crate::value::Tree;

/// How often it is asked whether another has finished.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// Who is told of progress and of what takes long.
#[derive(Clone)]
pub(crate) struct Listener(Arc<dyn Fn(Event) + Send + Sync>);

impl Listener {
    /// Somebody who takes events as of a vertex.
    pub(crate) fn new(tell: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// Nobody.
    pub(crate) fn nobody() -> Self {
        Self::new(|_| {})
    }

    /// Those who wait for a vertex.
    pub(crate) fn of(cx: &Context) -> Self {
        let cx = cx.clone();
        Self::new(move |event| match event {
            Event::Log { stream, bytes } => cx.log(stream, bytes),
            Event::Progress { current, total } => cx.progress(current, total),
            _ => {}
        })
    }

    /// Returns what a client of registries tells while it looks for documents.
    pub(crate) fn registry_watch(&self) -> Arc<dyn rb_registry::Watch> {
        Arc::new(Progress::new(self.clone(), 0))
    }

    fn say(&self, line: &str) {
        (self.0)(Event::Log { stream: Stream::Stderr, bytes: Bytes::from(format!("{line}\n")) });
    }
}

/// Tells of work that is no vertex as if it were one.
pub(crate) struct Told {
    events: EventSink,
    vertex: Digest,
    began: Instant,
}

impl Told {
    /// Tells that it begins.
    pub(crate) fn begin(events: &EventSink, name: &str) -> Self {
        let told = Self { events: Arc::clone(events), vertex: Digest::of(name), began: Instant::now() };
        told.tell(EventKind::Added { name: name.to_owned(), step: false });
        told.tell(EventKind::Started);
        told
    }

    /// Returns who hears how far it is.
    pub(crate) fn listener(&self) -> Listener {
        let (events, vertex) = (Arc::clone(&self.events), self.vertex);
        Listener::new(move |event| {
            let kind = match event {
                Event::Progress { current, total } => EventKind::Progress { current, total },
                Event::Log { stream: _, bytes } => EventKind::Log { stream: LogStream::Stderr, bytes },
                _ => return,
            };
            events(rb_api::Event { vertex, kind });
        })
    }

    /// Tells how it ended.
    pub(crate) fn end<T>(self, ended: &Result<T, OpError>) {
        self.tell(match ended {
            Ok(_) => EventKind::Done { duration: self.began.elapsed() },
            Err(error) if error.is_cancelled() => EventKind::Cancelled,
            Err(error) => EventKind::Failed { message: chain(error) },
        });
    }

    fn tell(&self, kind: EventKind) {
        (self.events)(rb_api::Event { vertex: self.vertex, kind });
    }
}

/// Adds up what of several blobs has come.
struct Progress {
    listener: Listener,
    total: u64,
    state: Mutex<(BTreeMap<Digest, u64>, Option<Instant>)>,
}

impl Progress {
    fn new(listener: Listener, total: u64) -> Self {
        Self { listener, total, state: Mutex::default() }
    }
}

impl rb_registry::Watch for Progress {
    fn transferred(&self, blob: &Digest, done: u64, _total: u64) {
        if self.total == 0 {
            return;
        }
        let current: u64 = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let (blobs, told) = &mut *state;
            blobs.insert(*blob, done);
            let current = blobs.values().sum();
            let now = Instant::now();
            if current < self.total && told.is_some_and(|told| now - told < TELL_EVERY) {
                return;
            }
            *told = Some(now);
            current
        };
        (self.listener.0)(Event::Progress { current, total: Some(self.total) });
    }

    fn notice(&self, notice: &Notice) {
        self.listener.say(&notice.to_string());
    }
}

/// Brings the blobs of all layers into the store.
pub(crate) async fn blobs(
    parts: &Arc<Parts>,
    image: &PinnedImage,
    listener: &Listener,
) -> Result<(), OpError> {
    let wanted: Vec<&Descriptor> = image.layers.iter().map(|(descriptor, _)| descriptor).collect();
    let mut pulls = Pulls::start(parts, &image.origin, &wanted, listener).await?;
    while pulls.next().await?.is_some() {}
    Ok(())
}

/// Brings the tree into the store for a vertex. Cancelled, it returns once nothing of it is left.
pub(crate) async fn tree_for(cx: &Context, parts: &Arc<Parts>, image: &PinnedImage) -> Result<Tree, OpError> {
    let (alive, mut ended) = mpsc::channel(1);
    let listener = Listener::of(cx);
    let done = tokio::select! {
        done = try_all(parts, image, &listener, alive) => done,
        () = cx.cancelled() => Err(OpError::cancelled()),
    };
    // A thread that unpacks stops at its next piece.
    while ended.recv().await.is_some() {}
    done
}

/// Brings the tree into the store.
pub(crate) async fn tree(
    parts: &Arc<Parts>,
    image: &PinnedImage,
    listener: &Listener,
) -> Result<Tree, OpError> {
    try_all(parts, image, listener, mpsc::channel(1).0).await
}

/// Held by threads while they work.
type Alive = mpsc::Sender<Infallible>;

async fn try_all(
    parts: &Arc<Parts>,
    image: &PinnedImage,
    listener: &Listener,
    alive: Alive,
) -> Result<Tree, OpError> {
    let keys = unpack::content_keys(&image.layers, ownership(parts));
    let mut mended = BTreeSet::new();
    loop {
        match try_tree(parts, image, &keys, listener, &alive).await {
            // A damaged blob was taken away: it is fetched again, once.
            Err(error) if damaged(&error).is_some_and(|blob| mended.insert(blob)) => {
                tracing::warn!(error = chain(&error), "fetches a layer again");
            }
            done => return done,
        }
    }
}

async fn try_tree(
    parts: &Arc<Parts>,
    image: &PinnedImage,
    keys: &[ContentKey],
    listener: &Listener,
    alive: &Alive,
) -> Result<Tree, OpError> {
    let (below, mut parent) = {
        let (parts, keys) = (Arc::clone(parts), keys.to_vec());
        crate::blocking(move || highest(&parts.store, &keys)).await?
    };
    let above = &image.layers[below..];
    let wanted: Vec<&Descriptor> = above.iter().map(|(descriptor, _)| descriptor).collect();
    let mut pulls = Pulls::start(parts, &image.origin, &wanted, listener).await?;
    for ((descriptor, diff_id), content) in above.iter().zip(&keys[below..]) {
        pulls.until(&digest_of(descriptor)?).await?;
        let packed = PackedLayer { descriptor, diff_id: *diff_id, content: *content, parent };
        parent = Some(layer(parts, packed, alive.clone()).await?);
    }
    let content = keys.last().copied().unwrap_or_else(ContentKey::empty);
    Ok(Tree { snapshot: parent, content, host: None })
}

/// Returns how many layers are unpacked, and the snapshot of the uppermost of those.
fn highest(store: &Store, keys: &[ContentKey]) -> Result<(usize, Option<SnapshotId>), EngineError> {
    for (below, key) in keys.iter().enumerate().rev() {
        if let Some(snapshot) = store.snapshot_by_content(key.as_bytes())? {
            return Ok((below + 1, Some(snapshot)));
        }
    }
    Ok((0, None))
}

/// Returns the tree of an image that is unpacked; none otherwise. Asks nobody.
pub(crate) fn unpacked(parts: &Parts, image: &PinnedImage) -> Result<Option<Tree>, EngineError> {
    let content = image.content(parts);
    if image.layers.is_empty() {
        return Ok(Some(Tree { snapshot: None, content, host: None }));
    }
    let snapshot = parts.store.snapshot_by_content(content.as_bytes())?;
    Ok(snapshot.map(|snapshot| Tree { snapshot: Some(snapshot), content, host: None }))
}

/// Unpacks a layer, or waits for who does.
async fn layer(parts: &Arc<Parts>, packed: PackedLayer<'_>, alive: Alive) -> Result<SnapshotId, OpError> {
    let PackedLayer { descriptor, diff_id, content, parent } = packed;
    let claimed = claim(parts, Digest::of(format!("unpacking {}", content.to_digest()))).await?;
    let stop = Stop::default();
    let (stopped, parts, descriptor) = (Arc::clone(&stop.0), Arc::clone(parts), descriptor.clone());
    crate::blocking(move || {
        let _held = (claimed, alive);
        if let Some(snapshot) = parts.store.snapshot_by_content(content.as_bytes())? {
            return Ok(snapshot);
        }
        let packed = PackedLayer { descriptor: &descriptor, diff_id, content, parent };
        let stopped = || stopped.load(Ordering::Relaxed);
        Ok(unpack::layer(&parts.snapshots, packed, ownership(&parts), &stopped)?)
    })
    .await
}

/// Tells a thread, when dropped, that nobody waits for it.
#[derive(Default)]
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until a claim is ours.
async fn claim(parts: &Arc<Parts>, key: Digest) -> Result<Claimed, OpError> {
    loop {
        let claims = parts.claims.clone();
        match crate::blocking(move || claims.take(&key)).await? {
            Taken::Ours(claimed) => return Ok(claimed),
            Taken::Theirs { process: _ } => tokio::time::sleep(ASK_AGAIN).await,
        }
    }
}

/// Blobs on their way into the store. Dropped, they are given up.
struct Pulls {
    tasks: JoinSet<Result<Digest, OpError>>,
    waited: BTreeSet<Digest>,
}

impl Pulls {
    /// Starts to fetch what is missing.
    async fn start(
        parts: &Arc<Parts>,
        origin: &Origin,
        wanted: &[&Descriptor],
        listener: &Listener,
    ) -> Result<Self, OpError> {
        let missing = {
            let (parts, wanted) = (Arc::clone(parts), wanted.iter().copied().cloned().collect::<Vec<_>>());
            crate::blocking(move || missing(&parts.store, wanted)).await?
        };
        let total = missing.values().map(Descriptor::size).sum();
        let watch: Arc<dyn rb_registry::Watch> = Arc::new(Progress::new(listener.clone(), total));
        let mut pulls = Self { tasks: JoinSet::new(), waited: missing.keys().copied().collect() };
        for (digest, descriptor) in missing {
            let (parts, origin, watch) = (Arc::clone(parts), origin.clone(), Arc::clone(&watch));
            pulls.tasks.spawn(async move {
                bring(&parts, &origin, &descriptor, watch).await?;
                Ok(digest)
            });
        }
        Ok(pulls)
    }

    /// Waits for the next blob that is there; none once all are.
    async fn next(&mut self) -> Result<Option<Digest>, OpError> {
        let Some(done) = self.tasks.join_next().await else { return Ok(None) };
        let digest =
            done.map_err(|error| crate::op_error(EngineError::Worker { reason: error.to_string() }))??;
        self.waited.remove(&digest);
        Ok(Some(digest))
    }

    /// Waits for one blob; another that fails meanwhile is the error.
    async fn until(&mut self, digest: &Digest) -> Result<(), OpError> {
        while self.waited.contains(digest) && self.next().await?.is_some() {}
        Ok(())
    }
}

/// Returns what is not in the store, each once.
fn missing(store: &Store, wanted: Vec<Descriptor>) -> Result<BTreeMap<Digest, Descriptor>, EngineError> {
    let mut missing = BTreeMap::new();
    for descriptor in wanted {
        if !unpack::has_blob(store, &descriptor)? {
            missing.insert(rb_sources::layout::digest_of(&descriptor)?, descriptor);
        }
    }
    Ok(missing)
}

/// Brings one blob, or waits for who does.
async fn bring(
    parts: &Arc<Parts>,
    origin: &Origin,
    descriptor: &Descriptor,
    watch: Arc<dyn rb_registry::Watch>,
) -> Result<(), OpError> {
    let digest = digest_of(descriptor)?;
    let claimed = claim(parts, Digest::of(format!("fetching {digest}"))).await?;
    let store = parts.store.clone();
    let (known, folder) = {
        let (store, descriptor) = (store.clone(), descriptor.clone());
        let folder = match origin {
            Origin::Layout(folder) => Some(folder.clone()),
            Origin::Store => Some(store.root().to_owned()),
            Origin::Registry(_) => None,
        };
        let from = folder.clone();
        let known = crate::blocking(move || {
            if let Some(folder) = from {
                unpack::keep_blob(&store, &folder, &descriptor)?;
                return Ok(true);
            }
            Ok(unpack::has_blob(&store, &descriptor)?)
        });
        (known.await?, folder)
    };
    if let (false, None, Origin::Registry(repository)) = (known, folder, origin) {
        pull(parts, repository, descriptor, watch).await?;
    }
    drop(claimed);
    Ok(())
}

/// Pulls one blob into the store.
async fn pull(
    parts: &Parts,
    repository: &Repository,
    descriptor: &Descriptor,
    watch: Arc<dyn rb_registry::Watch>,
) -> Result<(), OpError> {
    let sink = {
        let (store, limit_bytes) = (parts.store.clone(), descriptor.size());
        crate::blocking(move || StoreSink::new(store, limit_bytes)).await?
    };
    let registry = parts.registry.watched(watch);
    let pulled = registry.blob(repository, descriptor, sink).await;
    let StoreSink { writer, .. } = pulled.map_err(|error| crate::op_error(error.into()))?;
    let digest = digest_of(descriptor)?;
    let (store, from) = (parts.store.clone(), repository.to_string());
    crate::blocking(move || {
        writer.commit(Some(digest))?;
        // Where it is pushed to may take it over from there.
        Ok(store.put_origin(&digest, &from)?)
    })
    .await
}

/// A blob of the store as the client of registries writes it.
struct StoreSink {
    store: Store,
    limit_bytes: u64,
    writer: BlobWriter,
}

impl StoreSink {
    fn new(store: Store, limit_bytes: u64) -> Result<Self, EngineError> {
        let writer = store.blob_writer()?.limit(limit_bytes);
        Ok(Self { store, limit_bytes, writer })
    }
}

impl BlobSink for StoreSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes)
    }

    fn restart(&mut self) -> io::Result<()> {
        self.writer = self.store.blob_writer().map_err(io::Error::other)?.limit(self.limit_bytes);
        Ok(())
    }
}

fn digest_of(descriptor: &Descriptor) -> Result<Digest, OpError> {
    rb_sources::layout::digest_of(descriptor).map_err(|error| crate::op_error(error.into()))
}

/// Returns the blob of the store that was found damaged, if that is the error.
fn damaged(error: &OpError) -> Option<Digest> {
    match error.get_ref().downcast_ref::<EngineError>()? {
        EngineError::Source(SourceError::Store(StoreError::CorruptBlob { expected, actual: _ })) => {
            Some(*expected)
        }
        _ => None,
    }
}
