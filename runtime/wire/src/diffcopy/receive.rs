//! The end that wants the tree.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tonic::Status;

use super::entry::{Entry, Kind};
use super::error::DiffCopyError;
use super::index::{Index, Limits};
use super::send::{failure, told};
use crate::files::Packet;
use crate::files::packet::Type;

/// Files that are asked for before earlier ones have come: it bounds how many are open.
const AHEAD: usize = 64;
/// Pieces that wait for the disk.
const PIECES: usize = 32;

/// Where content goes. Pieces of several files come in turn; those of one come in order.
pub trait Sink: Send + 'static {
    /// Takes the next piece of a file, by its place in the list.
    fn write(&mut self, place: usize, piece: &[u8]) -> io::Result<()>;
    /// Hears that a file is whole.
    fn end(&mut self, place: usize) -> io::Result<()>;
}

/// An exchange of which nothing is known yet.
pub struct Receiver<I> {
    incoming: I,
    outgoing: mpsc::Sender<Packet>,
}

impl<I: Stream<Item = Result<Packet, Status>> + Unpin + Send> Receiver<I> {
    /// Makes one of what comes and goes.
    pub fn new(incoming: I, outgoing: mpsc::Sender<Packet>) -> Self {
        Self { incoming, outgoing }
    }

    /// Takes the whole list, so that it can be decided what of it is wanted.
    pub async fn index(&mut self, limits: Limits) -> Result<Vec<Entry>, DiffCopyError> {
        let result = self.list(limits).await;
        self.tell(&result);
        result
    }

    /// Asks for files by their places in the list, in that order, and takes leave. Files without bytes are not asked for, and
    /// `sink` hears nothing of them.
    pub async fn fetch<S: Sink>(
        mut self,
        entries: &[Entry],
        wanted: &[usize],
        sink: S,
    ) -> Result<S, DiffCopyError> {
        let result = self.exchange(entries, wanted, sink).await;
        self.tell(&result);
        result
    }

    /// Ends the exchange, as this end cannot go on.
    pub fn refuse(self, why: &str) {
        // Who is gone need not hear it.
        self.outgoing.try_send(failure(&DiffCopyError::Told(why.to_owned()))).ok();
    }

    fn tell<T>(&self, result: &Result<T, DiffCopyError>) {
        if let Err(error) = result {
            self.outgoing.try_send(failure(error)).ok();
        }
    }

    async fn next(&mut self) -> Result<Packet, DiffCopyError> {
        let packet = self.incoming.next().await.ok_or(DiffCopyError::Ended)??;
        if packet.r#type() == Type::Err {
            return Err(told(&packet));
        }
        Ok(packet)
    }

    async fn send(&self, kind: Type, id: u32) -> Result<(), DiffCopyError> {
        let packet = Packet { r#type: kind.into(), id, ..Packet::default() };
        self.outgoing.send(packet).await.map_err(|_| DiffCopyError::Ended)
    }

    async fn list(&mut self, limits: Limits) -> Result<Vec<Entry>, DiffCopyError> {
        let mut index = Index::new(limits);
        loop {
            let packet = self.next().await?;
            if packet.r#type() != Type::Stat {
                return Err(DiffCopyError::protocol("something else came before the list had ended"));
            }
            let Some(stat) = packet.stat else { return Ok(index.finish()) };
            let path = stat.path.clone();
            let entry = Entry::of_stat(stat);
            index.add(entry.ok_or_else(|| DiffCopyError::entry(&path, "its length is below nothing"))?)?;
        }
    }

    async fn exchange<S: Sink>(
        &mut self,
        entries: &[Entry],
        wanted: &[usize],
        sink: S,
    ) -> Result<S, DiffCopyError> {
        let (pieces, thread) = writer(sink);
        let fetched = self.pieces(entries, wanted, &pieces).await;
        drop(pieces);
        // What the disk says explains why nobody takes pieces any more.
        let written = thread.await.map_err(|_| DiffCopyError::Thread)?;
        let sink = written.map_err(|(place, source)| {
            let path = entries.get(place).map(|entry| entry.path.clone()).unwrap_or_default();
            DiffCopyError::Write { path, source }
        })?;
        fetched?;
        self.send(Type::Fin, 0).await?;
        match self.next().await?.r#type() {
            Type::Fin => Ok(sink),
            _ => Err(DiffCopyError::protocol("something came after the last file")),
        }
    }

    async fn pieces(
        &mut self,
        entries: &[Entry],
        wanted: &[usize],
        pieces: &mpsc::Sender<(usize, Bytes)>,
    ) -> Result<(), DiffCopyError> {
        let size = |place: &usize| match entries.get(*place)?.kind {
            Kind::File { size_bytes } if size_bytes > 0 => Some((u32::try_from(*place).ok()?, size_bytes)),
            _ => None,
        };
        let mut to_ask = wanted.iter().filter_map(size);
        // What is still to come of each file that was asked for.
        let mut left: BTreeMap<u32, u64> = BTreeMap::new();
        loop {
            while left.len() < AHEAD
                && let Some((id, size_bytes)) = to_ask.next()
            {
                self.send(Type::Req, id).await?;
                left.insert(id, size_bytes);
            }
            if left.is_empty() {
                return Ok(());
            }
            let packet = self.next().await?;
            if packet.r#type() != Type::Data {
                return Err(DiffCopyError::protocol(
                    "something other than content came while files were asked for",
                ));
            }
            let id = packet.id;
            let rest = left.get_mut(&id);
            let rest =
                rest.ok_or(DiffCopyError::of_file("content came of a file that was not asked for", id))?;
            let length = packet.data.len() as u64;
            match (length, *rest) {
                (0, 0) => drop(left.remove(&id)),
                (0, _) => return Err(DiffCopyError::of_file("a file is shorter than was told", id)),
                (length, told) if length > told => {
                    return Err(DiffCopyError::of_file("a file is longer than was told", id));
                }
                (length, _) => *rest -= length,
            }
            if pieces.send((id as usize, packet.data)).await.is_err() {
                return Err(DiffCopyError::Thread);
            }
        }
    }
}

/// How a writer ended: with what it wrote to, or with the file that it could not write.
type Written<S> = Result<S, (usize, io::Error)>;

/// Starts a thread that writes what it is sent, so that a slow disk holds up no other stream.
fn writer<S: Sink>(mut sink: S) -> (mpsc::Sender<(usize, Bytes)>, tokio::task::JoinHandle<Written<S>>) {
    let (sender, mut pieces) = mpsc::channel::<(usize, Bytes)>(PIECES);
    let thread = tokio::task::spawn_blocking(move || {
        while let Some((place, piece)) = pieces.blocking_recv() {
            let done = if piece.is_empty() { sink.end(place) } else { sink.write(place, &piece) };
            done.map_err(|error| (place, error))?;
        }
        Ok(sink)
    });
    (sender, thread)
}
