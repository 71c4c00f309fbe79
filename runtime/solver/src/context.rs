//! What an op is given while it works: when to stop, and whom to tell.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rb_oci::Digest;
use tokio::sync::watch;

use crate::events::{Event, Observer, Stream};

/// What one call of an op may ask and tell. Cheap to clone; may be used from any thread.
#[derive(Clone)]
pub struct Context {
    vertex: Digest,
    stop: watch::Receiver<bool>,
    audience: Arc<Audience>,
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

    /// Passes on what a command wrote, to every job that waits for it.
    pub fn log(&self, stream: Stream, bytes: Bytes) {
        self.audience.tell(&Event::Log { stream, bytes });
    }

    /// Tells how far the work is, in bytes.
    pub fn progress(&self, current: u64, total: Option<u64>) {
        self.audience.tell(&Event::Progress { current, total });
    }

    /// A context that nobody listens to and that is never cancelled, to call an op outside a solver.
    pub fn detached(vertex: Digest) -> Self {
        Work::new(vertex).context()
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

    /// Returns the op's end.
    pub(crate) fn context(&self) -> Context {
        Context { vertex: self.vertex, stop: self.stop.subscribe(), audience: self.audience.clone() }
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
