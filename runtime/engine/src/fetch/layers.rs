//! The layers of one image, unpacked at once.
//!
//! In: the layers that are missing, lowest first, and where their blobs are watched. Out: snapshots, one on the other. Each
//! layer is a task. It is unpacked aside as its blob comes; settled when those below it are; read; committed on the one
//! below. Unpacking and reading take long, and as many layers as steps may run do that at once; settling and committing
//! are short, and one at a time.
//! Whoever unpacks a layer holds a claim meanwhile. Who holds one waits for claims of layers below it alone, so that nobody
//! waits in a circle.
//! **Invariants:** nothing is settled before its blob is proven. The first error ends the others, and is returned when nothing
//! works any more.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rb_oci::{Descriptor, Digest};
use rb_snapshot::{ContentKey, Counted, Tally};
use rb_solver::OpError;
use rb_sources::unpack::{self, Aside, PackedLayer};
use rb_store::SnapshotId;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;

use super::arrivals::Arrival;
use super::{Alive, Waits, claim, digest_of};
use crate::claims::Claimed;
use crate::error::EngineError;
use crate::parts::Parts;
use crate::pinned::ownership;

/// Tasks of one image, of which the first that fails ends the others. Dropped, all end.
pub(super) struct Crew {
    pub(super) tasks: JoinSet<Result<(), OpError>>,
    pub(super) waits: Arc<Waits>,
    held: Held,
    ended: mpsc::Receiver<Infallible>,
    stop: Stop,
}

/// What threads hold while they work.
#[derive(Clone)]
struct Held {
    _caller: Alive,
    _crew: Alive,
}

/// Tells threads, when dropped, that nobody waits for them.
#[derive(Default)]
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Crew {
    /// A crew without work; its threads hold `alive`.
    pub(super) fn new(alive: Alive, waits: Waits) -> Self {
        let (crew, ended) = mpsc::channel(1);
        let held = Held { _caller: alive, _crew: crew };
        Self { tasks: JoinSet::new(), waits: Arc::new(waits), held, ended, stop: Stop::default() }
    }

    /// Waits for all, and for the threads of those that were ended.
    pub(super) async fn finish(self) -> Result<(), OpError> {
        let Self { mut tasks, waits: _, held, mut ended, stop } = self;
        let mut first = Ok(());
        while let Some(done) = tasks.join_next().await {
            let done = match done {
                Ok(done) => done,
                Err(error) if error.is_cancelled() => continue,
                Err(error) => Err(crate::op_error(EngineError::Worker { reason: error.to_string() })),
            };
            let Err(error) = done else { continue };
            // Who waited for another that failed was told nothing else, and may be told first.
            if first.as_ref().map_or_else(OpError::is_cancelled, |()| true) {
                first = Err(error);
                stop.0.store(true, Ordering::Relaxed);
                tasks.abort_all();
            }
        }
        drop((tasks, held));
        while ended.recv().await.is_some() {}
        first
    }
}

/// How far a layer is.
#[derive(Clone, Debug)]
enum Floor {
    Unbuilt,
    /// Its directory is as it stays, and will move.
    Settled(PathBuf),
    Committed(SnapshotId),
}

/// The layers that are written, on what was there before.
pub(super) struct Tower {
    base: Option<SnapshotId>,
    floors: Vec<watch::Sender<Floor>>,
    /// Held while a layer is settled or committed.
    turn: Mutex<()>,
}

impl Tower {
    /// Returns the uppermost snapshot.
    pub(super) fn top(&self) -> Option<SnapshotId> {
        match self.floors.last().map(|floor| floor.borrow().clone()) {
            None => self.base,
            Some(Floor::Committed(snapshot)) => Some(snapshot),
            Some(Floor::Unbuilt | Floor::Settled(_)) => None,
        }
    }

    /// Waits until all below a layer are settled.
    async fn settled_below(&self, number: usize) -> Result<(), OpError> {
        self.below(number, |floor| !matches!(floor, Floor::Unbuilt)).await.map(drop)
    }

    /// Waits until all below a layer are committed, and returns what it stands on.
    async fn committed_below(&self, number: usize) -> Result<Option<SnapshotId>, OpError> {
        match self.below(number, |floor| matches!(floor, Floor::Committed(_))).await? {
            Some(Floor::Committed(snapshot)) => Ok(Some(snapshot)),
            _ => Ok(self.base),
        }
    }

    async fn below(&self, number: usize, is: fn(&Floor) -> bool) -> Result<Option<Floor>, OpError> {
        let Some(floor) = number.checked_sub(1).and_then(|below| self.floors.get(below)) else {
            return Ok(None);
        };
        let mut floor = floor.subscribe();
        let found = floor.wait_for(is).await.map_err(|_| OpError::cancelled())?.clone();
        Ok(Some(found))
    }

    /// Returns the directories below a layer, lowest first. To be called in one's turn: directories move.
    fn directories(&self, parts: &Parts, number: usize) -> Result<Vec<PathBuf>, EngineError> {
        let mut settled = Vec::new();
        let mut committed = self.base;
        for floor in self.floors[..number].iter().rev() {
            match &*floor.borrow() {
                Floor::Settled(directory) => settled.push(directory.clone()),
                Floor::Committed(snapshot) => {
                    committed = Some(*snapshot);
                    break;
                }
                Floor::Unbuilt => {
                    return Err(EngineError::Worker { reason: "a layer is settled on nothing".to_owned() });
                }
            }
        }
        let mut directories = parts.snapshots.layers(committed)?;
        directories.extend(settled.into_iter().rev());
        Ok(directories)
    }

    fn becomes(&self, number: usize, floor: Floor) {
        self.floors[number].send_replace(floor);
    }
}

/// One layer to unpack.
struct Layer {
    parts: Arc<Parts>,
    tower: Arc<Tower>,
    number: usize,
    descriptor: Descriptor,
    diff_id: Digest,
    content: ContentKey,
    stopped: Arc<AtomicBool>,
    tally: Arc<Tally>,
    held: Held,
}

/// Starts to unpack `layers` onto `base`, a task for each; `tally` counts what is read of their blobs.
pub(super) fn start(
    parts: &Arc<Parts>,
    base: Option<SnapshotId>,
    layers: &[(Descriptor, Digest)],
    keys: &[ContentKey],
    arrivals: &super::arrivals::Arrivals,
    tally: &Arc<Tally>,
    crew: &mut Crew,
) -> Result<Arc<Tower>, OpError> {
    let floors = layers.iter().map(|_| watch::channel(Floor::Unbuilt).0).collect();
    let tower = Arc::new(Tower { base, floors, turn: Mutex::default() });
    for (number, ((descriptor, diff_id), content)) in layers.iter().zip(keys).enumerate() {
        let arrival = arrivals.get(&digest_of(descriptor)?).cloned();
        let layer = Layer {
            parts: Arc::clone(parts),
            tower: Arc::clone(&tower),
            number,
            descriptor: descriptor.clone(),
            diff_id: *diff_id,
            content: *content,
            stopped: Arc::clone(&crew.stop.0),
            tally: Arc::clone(tally),
            held: crew.held.clone(),
        };
        let waits = Arc::clone(&crew.waits);
        crew.tasks.spawn(async move { Arc::new(layer).run(arrival, &waits).await });
    }
    Ok(tower)
}

impl Layer {
    async fn run(
        self: Arc<Self>,
        arrival: Option<watch::Receiver<Arrival>>,
        waits: &Waits,
    ) -> Result<(), OpError> {
        let mut arrival = arrival;
        // Who is not there yet needs no claim and no room among those that work.
        until(&mut arrival, |arrival| !matches!(arrival, Arrival::Awaited)).await?;
        let unpacking = Digest::of(format!("unpacking {}", self.content.to_digest()));
        let claimed = Arc::new(claim(&self.parts, unpacking, waits).await?);
        let known = self
            .work(&claimed, |layer| Ok(layer.parts.store.snapshot_by_content(layer.content.as_bytes())?));
        if let Some(snapshot) = known.await? {
            self.tally.add(0, self.descriptor.size());
            self.tower.becomes(self.number, Floor::Committed(snapshot));
            return Ok(());
        }
        let aside = self.unpack(&claimed, &mut arrival).await?;
        until(&mut arrival, |arrival| matches!(arrival, Arrival::There)).await?;
        let settled = match aside {
            Some(aside) => self.settle(&claimed, aside).await?,
            None => None,
        };
        let Some(settled) = settled else { return self.unpack_onto(&claimed).await };
        let permit = self.permit().await;
        let examined = self.work(&claimed, move |_| Ok(settled.examine()?)).await?;
        drop(permit);
        let parent = self.tower.committed_below(self.number).await?;
        let _turn = self.tower.turn.lock().await;
        let snapshot =
            self.work(&claimed, move |layer| Ok(examined.commit(&layer.parts.snapshots, parent)?)).await?;
        self.tower.becomes(self.number, Floor::Committed(snapshot));
        Ok(())
    }

    /// Unpacks it on nothing, as its blob comes or from the store.
    async fn unpack(
        self: &Arc<Self>,
        claimed: &Arc<Claimed>,
        arrival: &mut Option<watch::Receiver<Arrival>>,
    ) -> Result<Option<Aside>, OpError> {
        let growing = arrival.as_ref().and_then(|arrival| match &*arrival.borrow() {
            Arrival::Growing(growth) => Some(Arc::clone(growth)),
            Arrival::Awaited | Arrival::There => None,
        });
        if let Some(growth) = growing {
            let permit = self.permit().await;
            let unpacked = self.work(claimed, move |layer| layer.aside(growth.reader())).await;
            drop(permit);
            match unpacked {
                Ok(aside) => return Ok(aside),
                Err(error) if error.is_cancelled() => return Err(error),
                Err(error) => {
                    // Why the blob did not come is known where it comes from. If it did all the same, it tells itself what
                    // is wrong with it.
                    tracing::debug!(error = rb_diag::chain(&error), "unpacks a layer again when it is there");
                    until(arrival, |arrival| matches!(arrival, Arrival::There)).await?;
                }
            }
        }
        let _permit = self.permit().await;
        self.work(claimed, |layer| {
            let digest = rb_sources::layout::digest_of(&layer.descriptor)?;
            layer.aside(layer.parts.store.blob_reader(&digest)?)
        })
        .await
    }

    fn aside(&self, blob: impl std::io::Read + Send + 'static) -> Result<Option<Aside>, EngineError> {
        let stopped = || self.stopped.load(Ordering::Relaxed);
        let blob = Counted::new(blob, Arc::clone(&self.tally));
        Ok(unpack::aside(&self.parts.snapshots, self.packed(), blob, ownership(&self.parts), &stopped)?)
    }

    async fn settle(
        self: &Arc<Self>,
        claimed: &Arc<Claimed>,
        aside: Aside,
    ) -> Result<Option<unpack::Settled>, OpError> {
        self.tower.settled_below(self.number).await?;
        let _turn = self.tower.turn.lock().await;
        let settled = self.work(claimed, move |layer| {
            Ok(aside.settle(layer.tower.directories(&layer.parts, layer.number)?)?)
        });
        let settled = settled.await?;
        if let Some(settled) = &settled {
            self.tower.becomes(self.number, Floor::Settled(settled.directory().to_owned()));
        }
        Ok(settled)
    }

    /// Unpacks it onto those below when all of them are committed.
    async fn unpack_onto(self: &Arc<Self>, claimed: &Arc<Claimed>) -> Result<(), OpError> {
        let parent = self.tower.committed_below(self.number).await?;
        let _permit = self.permit().await;
        let snapshot = self.work(claimed, move |layer| {
            let stopped = || layer.stopped.load(Ordering::Relaxed);
            let Parts { snapshots, .. } = &*layer.parts;
            Ok(unpack::layer(snapshots, layer.packed(), parent, ownership(&layer.parts), &stopped)?)
        });
        self.tower.becomes(self.number, Floor::Committed(snapshot.await?));
        Ok(())
    }

    fn packed(&self) -> PackedLayer<'_> {
        PackedLayer { descriptor: &self.descriptor, diff_id: self.diff_id, content: self.content }
    }

    /// Waits for room among those that work.
    async fn permit(&self) -> tokio::sync::SemaphorePermit<'_> {
        // Closed never: the semaphore lives as long as the engine.
        self.parts.unpacking.acquire().await.expect("nobody closes it")
    }

    /// Runs what takes long on a thread, which keeps the claim.
    async fn work<T: Send + 'static>(
        self: &Arc<Self>,
        claimed: &Arc<Claimed>,
        work: impl FnOnce(&Self) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, OpError> {
        let (layer, claimed) = (Arc::clone(self), Arc::clone(claimed));
        crate::blocking(move || {
            let _held = (&claimed, &layer.held);
            work(&layer)
        })
        .await
    }
}

/// Waits for a blob; one that is there is not watched.
async fn until(
    arrival: &mut Option<watch::Receiver<Arrival>>,
    is: fn(&Arrival) -> bool,
) -> Result<(), OpError> {
    if let Some(arrival) = arrival {
        // Who brings it has failed, and tells why.
        arrival.wait_for(is).await.map_err(|_| OpError::cancelled())?;
    }
    Ok(())
}
