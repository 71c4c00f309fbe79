//! Layers of images, fetched and unpacked once something reads them.
//!
//! In: a [`PinnedImage`]. Out: its blobs in the store, or its tree. All layers that are missing are pulled at once, as many
//! as the registry's client allows (`arrivals`), and unpacked at once as they come (`layers`). A layer whose tree is in the
//! store is not pulled.
//! Whoever pulls a blob or unpacks a layer holds a claim meanwhile, so that the steps of this process and of others wait
//! for it and find it done.
//! **Invariant:** dropping a future ends what it does: the pull at once, the unpacking at its next piece.

mod arrivals;
mod layers;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rb_api::{EventKind, EventSink, LogStream};
use rb_diag::chain;
use rb_oci::{Descriptor, Digest};
use rb_registry::Notice;
use rb_snapshot::ContentKey;
use rb_solver::{Context, Event, OpError, Stream};
use rb_sources::SourceError;
use rb_store::{SnapshotId, Store, StoreError};
use tokio::sync::mpsc;

use crate::claims::{Claimed, Taken, name_of};
use crate::error::EngineError;
use crate::fetch::arrivals::Arrival;
use crate::fetch::layers::Crew;
use crate::parts::Parts;
use crate::pinned::{Origin, PinnedImage};
use crate::progress::{self, Gauge};
use crate::value::Tree;

/// How often it is asked whether another has finished.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How long one waits for another process before it is told.
const SILENCE: Duration = Duration::from_secs(1);
/// How often progress is told.
pub(crate) const TELL_EVERY: Duration = Duration::from_millis(100);

/// Who is told of progress and of what takes long.
#[derive(Clone)]
pub(crate) struct Listener(Arc<dyn Fn(Event) + Send + Sync>);

impl Listener {
    /// Somebody who takes events as of a vertex.
    pub(crate) fn new(tell: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// Those who wait for a vertex.
    pub(crate) fn of(cx: &Context) -> Self {
        let cx = cx.clone();
        Self::new(move |event| match event {
            Event::Log { stream, bytes } => cx.log(stream, bytes),
            Event::Progress(progress) => cx.progress(progress),
            _ => {}
        })
    }

    /// Returns what a client of registries tells while it looks for documents.
    pub(crate) fn registry_watch(&self) -> Arc<dyn rb_registry::Watch> {
        Arc::new(Progress::new(self.clone(), 0))
    }

    /// Returns what tells how much of so many bytes is sent.
    pub(crate) fn upload_watch(&self, total: u64) -> Arc<dyn rb_registry::Watch> {
        Arc::new(Progress { doing: "pushing", ..Progress::new(self.clone(), total) })
    }

    /// Tells how far it is.
    pub(crate) fn tell(&self, progress: rb_solver::Progress) {
        (self.0)(Event::Progress(progress));
    }

    /// Tells a line.
    pub(crate) fn say(&self, line: &str) {
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
        told.tell(EventKind::Added { name: name.to_owned(), step: false, inputs: Vec::new() });
        told.tell(EventKind::Started);
        told
    }

    /// Returns who hears how far it is.
    pub(crate) fn listener(&self) -> Listener {
        let (events, vertex) = (Arc::clone(&self.events), self.vertex);
        Listener::new(move |event| {
            let kind = match event {
                Event::Progress(progress) => crate::progress::event(progress),
                Event::Log { stream: _, bytes } => EventKind::Log { stream: LogStream::Stderr, bytes },
                _ => return,
            };
            events(rb_api::Event { vertex, kind });
        })
    }

    /// Tells how it ended.
    pub(crate) fn end<T>(&self, ended: &Result<T, OpError>) {
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

/// Tells of work that is mostly done at once, and then not worth a word: only when something is said of it.
pub(crate) struct ToldLate {
    events: EventSink,
    name: String,
    told: Arc<OnceLock<Told>>,
}

impl ToldLate {
    /// Of work that is to be called `name`.
    pub(crate) fn new(events: &EventSink, name: String) -> Self {
        Self { events: Arc::clone(events), name, told: Arc::default() }
    }

    /// Returns who hears what takes long.
    pub(crate) fn listener(&self) -> Listener {
        let (events, name, told) = (Arc::clone(&self.events), self.name.clone(), Arc::clone(&self.told));
        Listener::new(move |event| {
            let told = told.get_or_init(|| Told::begin(&events, &name));
            (told.listener().0)(event);
        })
    }

    /// Tells that it ended. Why it failed, who asked for it tells.
    pub(crate) fn end(&self, is_done: bool) {
        if let Some(told) = self.told.get() {
            let duration = told.began.elapsed();
            told.tell(if is_done { EventKind::Done { duration } } else { EventKind::Cancelled });
        }
    }
}

/// Adds up what of several blobs has come.
struct Progress {
    listener: Listener,
    doing: &'static str,
    total: u64,
    state: Mutex<(BTreeMap<Digest, u64>, Option<Instant>)>,
}

impl Progress {
    fn new(listener: Listener, total: u64) -> Self {
        Self { listener, doing: "fetching", total, state: Mutex::default() }
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
        let (doing, total_bytes) = (self.doing.into(), Some(self.total));
        self.listener.tell(rb_solver::Progress { doing, bytes: current, total_bytes, files: None });
    }

    fn notice(&self, notice: &Notice) {
        self.listener.say(&notice.to_string());
    }
}

/// Brings one blob into the store.
pub(crate) async fn blob(
    parts: &Arc<Parts>,
    origin: &Origin,
    descriptor: &Descriptor,
    listener: &Listener,
) -> Result<(), OpError> {
    let mut crew = Crew::new(mpsc::channel(1).0, Waits::new(listener));
    arrivals::start(parts, origin, &[descriptor], listener, &mut crew).await?;
    crew.finish().await
}

/// Brings the blobs of all layers into the store.
pub(crate) async fn blobs(
    parts: &Arc<Parts>,
    image: &PinnedImage,
    listener: &Listener,
) -> Result<(), OpError> {
    let wanted: Vec<&Descriptor> = image.layers.iter().map(|(descriptor, _)| descriptor).collect();
    let mut crew = Crew::new(mpsc::channel(1).0, Waits::new(listener));
    arrivals::start(parts, &image.origin, &wanted, listener, &mut crew).await?;
    crew.finish().await
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
    let keys = image.contents(parts);
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
    let (below, base) = {
        let (parts, keys) = (Arc::clone(parts), keys.to_vec());
        crate::blocking(move || highest(&parts.store, &keys)).await?
    };
    let above = &image.layers[below..];
    let wanted: Vec<&Descriptor> = above.iter().map(|(descriptor, _)| descriptor).collect();
    let mut crew = Crew::new(alive.clone(), Waits::new(listener));
    let arrivals = arrivals::start(parts, &image.origin, &wanted, listener, &mut crew).await?;
    let gauge = Gauge::new("unpacking");
    gauge.tally().expect(0, wanted.iter().map(|descriptor| descriptor.size()).sum());
    let tower = layers::start(parts, base, above, &keys[below..], &arrivals, &gauge.tally(), &mut crew)?;
    // Most of the time both go on at once, and what is waited for is what has yet to come.
    let is_here = || arrivals.values().all(|arrival| matches!(*arrival.borrow(), Arrival::There));
    progress::told(listener, &gauge, is_here, crew.finish()).await?;
    let content = keys.last().copied().unwrap_or_else(ContentKey::empty);
    Ok(Tree { snapshot: tower.top(), content, host: None })
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

/// Returns the layers of an image that bringing its tree would pull, with their sizes: those that are neither unpacked nor among
/// the blobs. Asks nobody.
pub(crate) fn absent(parts: &Parts, image: &PinnedImage) -> Result<BTreeMap<Digest, u64>, EngineError> {
    if matches!(image.origin, Origin::Layout(_) | Origin::Store) {
        return Ok(BTreeMap::new());
    }
    let missing = lacking(parts, image)?;
    Ok(missing.into_iter().map(|(digest, descriptor)| (digest, descriptor.size())).collect())
}

/// Returns the layers of an image that are neither unpacked nor among the blobs, wherever they are.
fn lacking(parts: &Parts, image: &PinnedImage) -> Result<BTreeMap<Digest, Descriptor>, EngineError> {
    let (below, _) = highest(&parts.store, &image.contents(parts))?;
    let above = image.layers.iter().skip(below).map(|(descriptor, _)| descriptor.clone()).collect();
    arrivals::missing(&parts.store, above)
}

/// Returns the layers of an image whose blobs are not in the store, unpacked or not.
pub(crate) fn without_blobs(
    parts: &Parts,
    image: &PinnedImage,
) -> Result<BTreeMap<Digest, Descriptor>, EngineError> {
    arrivals::missing(&parts.store, image.layers.iter().map(|(descriptor, _)| descriptor.clone()).collect())
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

/// Tells whom claims wait for: each once, however many blobs and layers of an image do.
pub(crate) struct Waits {
    listener: Listener,
    told: Mutex<BTreeSet<String>>,
}

impl Waits {
    pub(crate) fn new(listener: &Listener) -> Self {
        Self { listener: listener.clone(), told: Mutex::default() }
    }

    fn tell(&self, process: Option<u32>) {
        // One that is stopped meanwhile is told again, as its name says so.
        let by = name_of(process);
        if self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(by.clone()) {
            self.listener.say(&format!("waiting for {by}, which is bringing the same"));
        }
    }
}

/// Waits until a claim is ours, and tells whom it waits for if that takes long.
pub(crate) async fn claim(parts: &Arc<Parts>, key: Digest, waits: &Waits) -> Result<Claimed, OpError> {
    let began = Instant::now();
    loop {
        let claims = parts.claims.clone();
        match crate::blocking(move || claims.take(&key)).await? {
            Taken::Ours(claimed) => return Ok(claimed),
            Taken::Theirs { process } => {
                if began.elapsed() >= SILENCE {
                    waits.tell(process);
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
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
