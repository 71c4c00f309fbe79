//! What an op is given while it works: when to stop, and whom to tell.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rb_oci::Digest;
use tokio::sync::{mpsc, oneshot, watch};

use crate::events::{Event, Observer, Progress, Stream};
use crate::machine::Ticket;

/// What one call of an op may ask and tell. Cheap to clone; may be used from any thread.
#[derive(Clone)]
pub struct Context {
    vertex: Digest,
    stop: watch::Receiver<bool>,
    audience: Arc<Audience>,
    /// Where a run gives its place back; absent for other calls.
    place: Option<(Ticket, mpsc::UnboundedSender<Aside>)>,
}

impl Context {
    /// Returns the digest of the vertex this is about.
    pub fn vertex(&self) -> Digest {
        self.vertex
    }

    /// Tells whether nobody wants the result any more.
    pub fn is_cancelled(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits until nobody wants the result any more; for ever, if that never happens.
    pub async fn cancelled(&self) {
        let mut stop = self.stop.clone();
        if stop.wait_for(|stopped| *stopped).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits for something that others have, without a place of [`Options::jobs`](crate::Options::jobs); when it is
    /// over, waits for a place again. What is ready at once keeps the place. Whoever is cancelled meanwhile waits for
    /// no place.
    pub async fn aside<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = std::future::ready(()) => {}
        }
        let Some((ticket, places)) = &self.place else { return work.await };
        let (back, granted) = oneshot::channel();
        // An error means that the solver is gone; then nobody counts places either. So below.
        places.send(Aside::Begin { ticket: *ticket }).ok();
        let guard = ComesBack { ticket: *ticket, places, back: Some(back) };
        let done = work.await;
        drop(guard);
        tokio::select! {
            _ = granted => {}
            () = self.cancelled() => {}
        }
        done
    }

    /// Passes on what a command wrote, to every job that waits for it.
    pub fn log(&self, stream: Stream, bytes: Bytes) {
        self.audience.tell(&Event::Log { stream, bytes });
    }

    /// Tells how far the work is.
    pub fn progress(&self, progress: Progress) {
        self.audience.tell(&Event::Progress(progress));
    }

    /// A context that nobody listens to and that is never cancelled, to call an op outside a solver.
    pub fn detached(vertex: Digest) -> Self {
        Work::new(vertex).context(None)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Context")
            .field("vertex", &self.vertex)
            .field("cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}

/// What a run, or the claim before it, says of its place.
pub(crate) enum Aside {
    /// Another process has what it claims: it waits for that one, and needs no place until the claim has ended.
    Held { ticket: Ticket, by: String },
    /// It waits for something and needs no place meanwhile.
    Begin { ticket: Ticket },
    /// It needs one again, and is told when it has it.
    End { ticket: Ticket, granted: oneshot::Sender<()> },
}

/// Asks for the place again, also when the waiting is given up half-way.
struct ComesBack<'a> {
    ticket: Ticket,
    places: &'a mpsc::UnboundedSender<Aside>,
    back: Option<oneshot::Sender<()>>,
}

impl Drop for ComesBack<'_> {
    fn drop(&mut self) {
        if let Some(granted) = self.back.take() {
            self.places.send(Aside::End { ticket: self.ticket, granted }).ok();
        }
    }
}

/// The solver's end of a [`Context`].
pub(crate) struct Work {
    vertex: Digest,
    stop: watch::Sender<bool>,
    audience: Arc<Audience>,
}

impl Work {
    /// Work on `vertex` that nobody listens to yet.
    pub(crate) fn new(vertex: Digest) -> Self {
        Self { vertex, stop: watch::Sender::new(false), audience: Arc::default() }
    }

    /// Returns the op's end; a run has a place to give back.
    pub(crate) fn context(&self, place: Option<(Ticket, mpsc::UnboundedSender<Aside>)>) -> Context {
        let (vertex, stop, audience) = (self.vertex, self.stop.subscribe(), self.audience.clone());
        Context { vertex, stop, audience, place }
    }

    /// Tells the op to stop.
    pub(crate) fn cancel(&self) {
        self.stop.send_replace(true);
    }

    /// Adds somebody who knows the work as `vertex`.
    pub(crate) fn follow(&self, follower: u64, vertex: Digest, observer: Arc<dyn Observer>) {
        self.audience.lock().push(Listener { follower, vertex, observer });
    }

    /// Takes that one away.
    pub(crate) fn unfollow(&self, follower: u64) {
        self.audience.lock().retain(|listener| listener.follower != follower);
    }
}

/// One who hears what a piece of work says.
struct Listener {
    follower: u64,
    /// The vertex it knows the work by.
    vertex: Digest,
    observer: Arc<dyn Observer>,
}

#[derive(Default)]
struct Audience(Mutex<Vec<Listener>>);

impl Audience {
    fn lock(&self) -> MutexGuard<'_, Vec<Listener>> {
        // A listener that panicked leaves the list as it was.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: &Event) {
        // Told under the lock, so that one who was taken away hears nothing more.
        for Listener { vertex, observer, .. } in self.lock().iter() {
            observer.event(*vertex, event.clone());
        }
    }
}
