//! Results on their way back: the daemon calls, and who waits for them takes the stream.
//!
//! **Invariant:** a stream that says nothing more holds nobody up once its build has ended.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use rb_wire::filesend::file_send_server::FileSend;
use tokio::sync::{mpsc, watch};
use tonic::{Request, Response, Status, Streaming};

use super::Fed;

/// Messages on their way.
const MESSAGES: usize = 64;

/// How long a stream may say nothing whose build has ended: all was sent by then.
const HALF_OPEN: Duration = Duration::from_secs(15);

/// What the daemon sends.
pub(crate) type Incoming = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send + Sync>>;

/// A stream that the daemon has opened. Dropping `outgoing` ends it well.
pub(crate) struct Exchange {
    pub(crate) incoming: Incoming,
    pub(crate) outgoing: mpsc::Sender<Result<Bytes, Status>>,
}

/// Who waits for streams, and how they hear that the build has ended.
struct Waiting {
    streams: mpsc::Sender<Exchange>,
    ended: watch::Sender<bool>,
}

/// Where streams go that the daemon opens; nowhere, unless something is exported.
#[derive(Clone, Default)]
pub(crate) struct Arriving(Arc<Mutex<Option<Waiting>>>);

impl Arriving {
    /// Waits for the streams of one export from now on.
    pub(crate) fn expect(&self) -> mpsc::Receiver<Exchange> {
        let (streams, receiver) = mpsc::channel(1);
        let waiting = Waiting { streams, ended: watch::Sender::new(false) };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(waiting);
        receiver
    }

    /// Waits for no more: who waits hears that nothing came, and that nothing more comes.
    pub(crate) fn close(&self) {
        if let Some(waiting) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            waiting.ended.send_replace(true);
        }
    }
}

/// Returns what comes of a stream; of one that has nothing to say once its build has ended, that it stopped.
fn bounded(incoming: Streaming<Bytes>, ended: watch::Receiver<bool>) -> Incoming {
    let next = |state: Option<(Streaming<Bytes>, watch::Receiver<bool>)>| async move {
        let (mut incoming, mut ended) = state?;
        let late = async {
            // Who told it is gone with the job.
            ended.wait_for(|ended| *ended).await.ok();
            tokio::time::sleep(HALF_OPEN).await;
        };
        tokio::select! {
            message = incoming.next() => message.map(|message| (message, Some((incoming, ended)))),
            () = late => {
                let words = "the build ended, and its stream stopped in the middle";
                Some((Err(Status::deadline_exceeded(words)), None))
            }
        }
    };
    Box::pin(futures_util::stream::unfold(Some((incoming, ended)), next))
}

#[tonic::async_trait]
impl FileSend for Arriving {
    type DiffCopyStream = Fed<Bytes>;

    async fn diff_copy(&self, request: Request<Streaming<Bytes>>) -> Result<Response<Fed<Bytes>>, Status> {
        let (outgoing, answers) = mpsc::channel(MESSAGES);
        let (streams, ended) = {
            let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let waiting = waiting
                .as_ref()
                .ok_or_else(|| Status::failed_precondition("nothing is exported to this client"))?;
            (waiting.streams.clone(), waiting.ended.subscribe())
        };
        let exchange = Exchange { incoming: bounded(request.into_inner(), ended), outgoing };
        streams.try_send(exchange).map_err(|_| Status::already_exists("one result is on its way already"))?;
        Ok(Response::new(Fed::new(answers)))
    }
}
