//! Bodies of uploads: a blob, or a part of it, read on a thread of its own.
//!
//! In: a [`BlobSource`], which can be opened as often as needed, and a range of it. Out: a request's body of exactly that
//! length. What cannot be read is kept aside, since an HTTP client says of it only that the body failed.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use crate::transport::Upload;

const PIECE_BYTES: usize = 128 << 10;
const PIECES: usize = 8;

/// Where the bytes of a blob that is pushed come from.
pub trait BlobSource: Send + Sync + 'static {
    /// Opens it at `offset`, on a thread that may block; more than once when something has to be sent again.
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>>;
    /// Nobody opens it any more: the blob is where it was to be. What was kept for another try may go.
    fn taken(&self) {}
}

impl BlobSource for Bytes {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let start = usize::try_from(offset).map_or(self.len(), |offset| offset.min(self.len()));
        Ok(Box::new(self.slice(start..).reader()))
    }
}

/// A file.
impl BlobSource for PathBuf {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut file = File::open(self)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }
}

/// Bytes `start..end` of a source, to be sent.
#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) source: Arc<dyn BlobSource>,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// What could not be read.
    pub(crate) failure: Arc<Mutex<Option<io::Error>>>,
    /// Is told how far the blob is sent.
    pub(crate) tell: Arc<dyn Fn(u64) + Send + Sync>,
}

impl Part {
    /// Starts to read, and returns the body.
    pub(crate) fn body(&self) -> Upload {
        let size = self.end - self.start;
        let sent = Arc::new(AtomicU64::new(0));
        let (sender, pieces) = mpsc::channel(PIECES);
        let part = self.clone();
        let read = move || {
            if let Err(error) = part.read(&sender) {
                let told = io::Error::new(error.kind(), "the blob cannot be read");
                *part.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                // Nobody may be listening any more.
                drop(sender.blocking_send(Err(told)));
            }
        };
        // It ends when it is done, or when nobody takes the pieces any more.
        drop(tokio::task::spawn_blocking(read));
        let body = Stream {
            pieces,
            left: size,
            offset: self.start,
            sent: Arc::clone(&sent),
            tell: Arc::clone(&self.tell),
        };
        Upload { body: reqwest::Body::wrap(body), sent, size }
    }

    fn read(&self, sender: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
        let mut left = self.end - self.start;
        let mut reader = self.source.open(self.start)?;
        while left > 0 {
            let mut piece = vec![0; PIECE_BYTES.min(usize::try_from(left).unwrap_or(usize::MAX))];
            let count = match reader.read(&mut piece) {
                Ok(0) => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        format!("{left} bytes are missing"),
                    ));
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            piece.truncate(count);
            left -= count as u64;
            if sender.blocking_send(Ok(piece.into())).is_err() {
                break;
            }
        }
        Ok(())
    }
}

struct Stream {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
    offset: u64,
    sent: Arc<AtomicU64>,
    tell: Arc<dyn Fn(u64) + Send + Sync>,
}

impl Body for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        this.pieces.poll_recv(context).map(|piece| {
            Some(piece?.map(|bytes| {
                let count = bytes.len() as u64;
                this.left = this.left.saturating_sub(count);
                let sent = this.sent.fetch_add(count, Ordering::Relaxed) + count;
                (this.tell)(this.offset + sent);
                Frame::data(bytes)
            }))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
