//! Pulling blobs: streamed, proven as they come, resumed where they were cut.
//!
//! In: descriptors and a [`BlobSink`]. Out: the sink with the blob's bytes in it, proven. Hashing and writing happen
//! on a thread of their own beside the network. After a cut the rest alone is asked for; a source that sends everything
//! again is read over. One source may continue what another began, or what a sink has from an earlier time: the digest is
//! that of the whole. Where it is wrong then, the blob is asked for once more, all of it, before its source is blamed.
//! **Invariant:** a sink never takes more bytes than the descriptor says, and is returned only if they are right.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};

use bytes::Bytes;
use rb_oci::{Descriptor, Digest, Hasher, Repository};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Response};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::endpoint::Endpoint;
use crate::registry::pull_scope;
use crate::transport::{Ask, next_chunk, told_late};
use crate::{Registry, RegistryError};

/// Pieces between network and disk; they are as large as what came at once, some hundreds of kilobytes at most.
const PIECES: usize = 8;

/// Takes the bytes of a blob, in order, on a thread that may block.
pub trait BlobSink: Send + 'static {
    /// Tells the bytes that are there from an earlier time, from the blob's beginning, and returns how many those are.
    /// Asked once, before anything is written. Nothing has to be known of them: they are proven with the rest. What `tell`
    /// fails with is returned: nobody wants the blob any more.
    fn kept(&mut self, tell: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
        let _ = tell;
        Ok(0)
    }
    /// Takes the next bytes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Forgets all that was written: a source sent wrong bytes, and another is asked from the beginning.
    fn restart(&mut self) -> io::Result<()>;
}

impl BlobSink for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.clear();
        Ok(())
    }
}

/// Takes a file that is empty.
impl BlobSink for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn restart(&mut self) -> io::Result<()> {
        self.set_len(0)?;
        self.rewind()
    }
}

impl Registry {
    /// Reads a blob into `sink`. `urls` in the descriptor are not followed. Dropping the future ends it, and the sink.
    pub async fn blob<S: BlobSink>(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        sink: S,
    ) -> Result<S, RegistryError> {
        let digest = self.digest_of(repository, descriptor)?;
        let size = descriptor.size();
        let mut writer = Writer::start(sink, size);
        let received = writer.kept().await?;
        let mut pull =
            Pull { registry: self, repository, digest, size, received, of_others: received > 0, writer };
        let sources = self.sources(repository)?;
        for endpoint in &sources {
            match pull.from(endpoint).await {
                Ok(()) => break,
                // No other source would help.
                Err(error @ RegistryError::Local { .. }) => return Err(error),
                Err(error) if endpoint.is_mirror => self.skip_mirror(endpoint, &error),
                Err(error) => return Err(error),
            }
        }
        pull.writer.finish().await
    }

    /// Says whether the registry has a blob; mirrors are not asked.
    pub async fn has_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<bool, RegistryError> {
        let digest = self.digest_of(repository, descriptor)?;
        let endpoint = self.origin(repository);
        let mut tries = self.tries(&endpoint);
        let scopes = [pull_scope(&endpoint, repository)];
        loop {
            match self.head_blob(&endpoint, repository, &digest, &scopes).await {
                Ok(has) => return Ok(has),
                Err(error) => tries.pause(error).await?,
            }
        }
    }

    /// Returns how large a blob is; mirrors are not asked.
    pub async fn blob_size(&self, repository: &Repository, digest: &Digest) -> Result<u64, RegistryError> {
        let endpoint = self.origin(repository);
        let mut tries = self.tries(&endpoint);
        let scopes = [pull_scope(&endpoint, repository)];
        let ask = async || {
            let transport = self.transport(&endpoint).await?;
            let url = transport.url(repository, &format!("blobs/{digest}"));
            let name = format!("blob {repository}@{digest}");
            let ask = Ask { scopes: &scopes, ..Ask::new(Method::HEAD, url.clone(), &name) };
            let response = transport.send(ask).await?;
            let response = transport.expected(response, &Method::HEAD, &url, &name, &[200]).await?;
            // The body, which is none, has another length.
            let length =
                response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
            length.ok_or_else(|| RegistryError::content(&endpoint.name, name, "its length is not said"))
        };
        loop {
            match ask().await {
                Err(error) => tries.pause(error).await?,
                size => return size,
            }
        }
    }

    pub(crate) async fn head_blob(
        &self,
        endpoint: &Endpoint,
        repository: &Repository,
        digest: &Digest,
        scopes: &[String],
    ) -> Result<bool, RegistryError> {
        let transport = self.transport(endpoint).await?;
        let url = transport.url(repository, &format!("blobs/{digest}"));
        let name = format!("blob {repository}@{digest}");
        let ask = Ask { scopes, ..Ask::new(Method::HEAD, url.clone(), &name) };
        let response = transport.send(ask).await?;
        let response = transport.expected(response, &Method::HEAD, &url, &name, &[200, 404]).await?;
        Ok(response.status() == 200)
    }
}

/// A blob under way.
struct Pull<'a, S> {
    registry: &'a Registry,
    repository: &'a Repository,
    digest: Digest,
    size: u64,
    /// How much the writer has taken.
    received: u64,
    /// Some of that did not come from the source that is asked now.
    of_others: bool,
    writer: Writer<S>,
}

impl<S: BlobSink> Pull<'_, S> {
    /// Reads what is missing from one source, and proves the whole.
    async fn from(&mut self, endpoint: &Endpoint) -> Result<(), RegistryError> {
        // Closed never: the semaphore lives as long as its endpoint.
        let _permit = endpoint.transfers.acquire().await.expect("transfers are never closed");
        let mut tries = self.registry.tries(endpoint);
        self.of_others = self.received > 0;
        loop {
            let before = self.received;
            let done = if self.received < self.size { self.attempt(endpoint).await } else { Ok(()) };
            if self.received > before {
                tries.progressed();
            }
            match done {
                Ok(()) => {}
                Err(error) => {
                    tries.pause(error).await?;
                    continue;
                }
            }
            let actual = self.writer.digest().await?;
            if actual == self.digest {
                return Ok(());
            }
            // Only what another source began may be the fault of that one.
            let may_be_others = self.of_others;
            self.begin_anew().await?;
            if !may_be_others {
                let reason = format!("its bytes have digest {actual}");
                return Err(self.refused(endpoint, reason));
            }
        }
    }

    /// Forgets what there is.
    async fn begin_anew(&mut self) -> Result<(), RegistryError> {
        (self.received, self.of_others) = (0, false);
        self.writer.send(Piece::Restart).await
    }

    /// Makes one request and reads as much as comes.
    async fn attempt(&mut self, endpoint: &Endpoint) -> Result<(), RegistryError> {
        let transport = self.registry.transport(endpoint).await?;
        let url = transport.url(self.repository, &format!("blobs/{}", self.digest));
        let name = format!("blob {}@{}", self.repository, self.digest);
        let mut headers = HeaderMap::new();
        if self.received > 0 {
            let range = format!("bytes={}-", self.received);
            headers.insert(RANGE, HeaderValue::from_str(&range).expect("a range is ASCII"));
        }
        let scopes = [pull_scope(endpoint, self.repository)];
        let ask = Ask { scopes: &scopes, headers, ..Ask::new(Method::GET, url.clone(), &name) };
        let response = transport.send(ask).await?;
        // A range that is refused is asked for no more: everything comes again.
        if self.received > 0 && response.status() == 416 {
            self.begin_anew().await?;
            return Err(RegistryError::unreachable(&endpoint.name, "it does not continue the blob"));
        }
        let response = transport.expected(response, &Method::GET, &url, &name, &[200, 206]).await?;
        // Everything comes: no reason to hold on to what came from elsewhere.
        if self.of_others && response.status() == 200 {
            self.begin_anew().await?;
        }
        let skip = self.start_of(endpoint, &response)?;
        self.read(endpoint, response, skip).await
    }

    /// Returns how many bytes of a body are already there.
    fn start_of(&self, endpoint: &Endpoint, response: &Response) -> Result<u64, RegistryError> {
        // What comes, and how much of it the writer has.
        let coming = match response.status().as_u16() {
            206 => {
                let header = response.headers().get(CONTENT_RANGE).and_then(|text| text.to_str().ok());
                let range = header.and_then(parse_content_range);
                let fits = range.is_some_and(|(first, last, total)| {
                    first == self.received
                        && last + 1 == self.size
                        && total.is_none_or(|total| total == self.size)
                });
                if !fits {
                    let header = crate::error::clean(header.unwrap_or("nothing"));
                    return Err(
                        self.refused(endpoint, format!("asked for the rest, it sent the range `{header}`"))
                    );
                }
                self.size - self.received
            }
            _ => self.size,
        };
        if let Some(length) = response.content_length().filter(|length| *length != coming) {
            return Err(self.refused(endpoint, format!("{length} bytes come, and {coming} should")));
        }
        Ok(self.received - (self.size - coming))
    }

    async fn read(
        &mut self,
        endpoint: &Endpoint,
        response: Response,
        skip: u64,
    ) -> Result<(), RegistryError> {
        let stall = self.registry.limits.stall_timeout;
        let (mut response, mut skip) = (response, skip);
        loop {
            let chunk = next_chunk(&mut response, stall, &endpoint.name);
            let chunk = match told_late(chunk, endpoint, &*self.registry.watch).await {
                Ok(Some(chunk)) => chunk,
                _ if self.received == self.size => return Ok(()),
                Ok(None) => {
                    let (received, size) = (self.received, self.size);
                    let reason = format!("blob {} ended after {received} of {size} bytes", self.digest);
                    return Err(RegistryError::unreachable(&endpoint.name, reason));
                }
                Err(error) => return Err(error),
            };
            let over = skip.min(chunk.len() as u64);
            skip -= over;
            let chunk = chunk.slice(usize::try_from(over).unwrap_or(usize::MAX)..);
            if self.received + chunk.len() as u64 > self.size {
                return Err(self.refused(
                    endpoint,
                    format!("it is longer than the {} bytes of its descriptor", self.size),
                ));
            }
            if !chunk.is_empty() {
                self.received += chunk.len() as u64;
                self.writer.send(Piece::Bytes(chunk)).await?;
                self.registry.watch.transferred(&self.digest, self.received, self.size);
            }
        }
    }

    fn refused(&self, endpoint: &Endpoint, reason: impl Into<String>) -> RegistryError {
        RegistryError::content(&endpoint.name, format!("blob {}@{}", self.repository, self.digest), reason)
    }
}

/// Reads `bytes 5-9/10`: first, last, and the total, if it is known.
pub(crate) fn parse_content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse::<u64>().ok()?);
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    (first <= last && last < u64::MAX).then_some((first, last, total))
}

/// What the writing thread is told.
pub(crate) enum Piece {
    Bytes(Bytes),
    Restart,
    Digest(oneshot::Sender<Digest>),
}

/// A thread that hashes and writes. It owns the sink, and ends when nobody sends any more.
pub(crate) struct Writer<S> {
    pieces: mpsc::Sender<Piece>,
    kept: Option<oneshot::Receiver<u64>>,
    thread: JoinHandle<io::Result<S>>,
}

impl<S: BlobSink> Writer<S> {
    /// Starts it for a blob of `size` bytes.
    pub(crate) fn start(sink: S, size: u64) -> Self {
        let (pieces, mut receiver) = mpsc::channel(PIECES);
        let (sender, kept) = oneshot::channel();
        let thread = tokio::task::spawn_blocking(move || {
            let mut sink = sink;
            let mut hasher = Hasher::default();
            let mut count = sink.kept(&mut |bytes| {
                hasher.update(bytes);
                if receiver.is_closed() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
            })?;
            if count > size {
                (count, hasher) = (0, Hasher::default());
                sink.restart()?;
            }
            // Who asked may be gone.
            sender.send(count).ok();
            while let Some(piece) = receiver.blocking_recv() {
                match piece {
                    Piece::Bytes(bytes) => {
                        hasher.update(&bytes);
                        sink.write(&bytes)?;
                    }
                    Piece::Restart => {
                        hasher = Hasher::default();
                        sink.restart()?;
                    }
                    // Who asked may be gone.
                    Piece::Digest(answer) => drop(answer.send(hasher.clone().finish().0)),
                }
            }
            Ok(sink)
        });
        Self { pieces, kept: Some(kept), thread }
    }

    /// Returns how much the sink had from the start.
    pub(crate) async fn kept(&mut self) -> Result<u64, RegistryError> {
        match self.kept.take() {
            None => Ok(0),
            Some(kept) => match kept.await {
                Ok(kept) => Ok(kept),
                Err(_) => Err(self.failure().await),
            },
        }
    }

    pub(crate) async fn send(&mut self, piece: Piece) -> Result<(), RegistryError> {
        match self.pieces.send(piece).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.failure().await),
        }
    }

    /// Returns the digest of all that was sent since the last restart.
    pub(crate) async fn digest(&mut self) -> Result<Digest, RegistryError> {
        let (sender, answer) = oneshot::channel();
        self.send(Piece::Digest(sender)).await?;
        match answer.await {
            Ok(digest) => Ok(digest),
            Err(_) => Err(self.failure().await),
        }
    }

    /// Why the thread ended early.
    async fn failure(&mut self) -> RegistryError {
        let ended = (&mut self.thread).await;
        let error = ended.map_or_else(
            |error| io::Error::other(error.to_string()),
            |ended| match ended {
                Ok(_) => io::Error::other("the writing thread ended early"),
                Err(error) => error,
            },
        );
        RegistryError::local("write", "a blob", error)
    }

    pub(crate) async fn finish(mut self) -> Result<S, RegistryError> {
        drop(self.pieces);
        let ended = (&mut self.thread).await;
        let sink = ended.unwrap_or_else(|error| Err(io::Error::other(error.to_string())));
        sink.map_err(|error| RegistryError::local("write", "a blob", error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        assert_eq!(parse_content_range("bytes 5-9/10"), Some((5, 9, Some(10))));
        assert_eq!(parse_content_range("bytes 5-9/*"), Some((5, 9, None)));
        for text in [
            "",
            "bytes */10",
            "bytes 9-5/10",
            "items 5-9/10",
            "bytes -9/10",
            "bytes 0-18446744073709551615/*",
        ] {
            assert_eq!(parse_content_range(text), None, "{text}");
        }
    }
}
