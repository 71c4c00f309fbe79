//! Results on their way back: the daemon calls, and who waits for them takes the stream.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rb_wire::filesend::file_send_server::FileSend;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::Fed;

/// Messages on their way.
const MESSAGES: usize = 64;

/// A stream that the daemon has opened. Dropping `outgoing` ends it well.
pub(crate) struct Exchange {
    pub(crate) incoming: Streaming<Bytes>,
    pub(crate) outgoing: mpsc::Sender<Result<Bytes, Status>>,
}

/// Where streams go that the daemon opens; nowhere, unless something is exported.
#[derive(Clone, Default)]
pub(crate) struct Arriving(Arc<Mutex<Option<mpsc::Sender<Exchange>>>>);

impl Arriving {
    /// Waits for the streams of one export from now on.
    pub(crate) fn expect(&self) -> mpsc::Receiver<Exchange> {
        let (sender, receiver) = mpsc::channel(1);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    /// Waits for no more: who waits hears that nothing came.
    pub(crate) fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

#[tonic::async_trait]
impl FileSend for Arriving {
    type DiffCopyStream = Fed<Bytes>;

    async fn diff_copy(&self, request: Request<Streaming<Bytes>>) -> Result<Response<Fed<Bytes>>, Status> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let waiting =
            waiting.ok_or_else(|| Status::failed_precondition("nothing is exported to this client"))?;
        let (outgoing, answers) = mpsc::channel(MESSAGES);
        let exchange = Exchange { incoming: request.into_inner(), outgoing };
        waiting.try_send(exchange).map_err(|_| Status::already_exists("one result is on its way already"))?;
        Ok(Response::new(Fed::new(answers)))
    }
}
