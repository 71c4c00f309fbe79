//! The end that has the tree.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tonic::Status;

use super::entry::{Entry, Kind};
use super::error::DiffCopyError;
use crate::files::Packet;
use crate::files::packet::Type;

/// Files that are read at once.
const READERS: usize = 4;
/// Bytes of one piece.
const PIECE_BYTES: usize = 64 << 10;

/// Where the files of a tree are read.
pub trait Files: Send + Sync + 'static {
    /// Opens a file; called from threads that may wait.
    fn open(&self, entry: &Entry) -> io::Result<Box<dyn Read + Send>>;
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Entries that were told.
    pub entries: u64,
    /// Files that were asked for.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Sends a tree, whose entries are sorted ([`super::compare`]), to who asks for it. `outgoing` is to be bounded.
///
/// `Read` and `Changed` for what lies here, the rest for what the other side does; it is told, too.
pub async fn send<F: Files>(
    entries: Arc<[Entry]>,
    files: Arc<F>,
    incoming: impl Stream<Item = Result<Packet, Status>> + Unpin + Send,
    outgoing: mpsc::Sender<Packet>,
) -> Result<Sent, DiffCopyError> {
    let result = exchange(entries, files, incoming, &outgoing).await;
    if let Err(error) = &result {
        // Who is gone need not hear it.
        outgoing.try_send(failure(error)).ok();
    }
    result
}

/// Returns the packet that tells of an error.
pub(super) fn failure(error: &DiffCopyError) -> Packet {
    Packet { r#type: Type::Err.into(), data: error.to_string().into(), ..Packet::default() }
}

async fn exchange<F: Files>(
    entries: Arc<[Entry]>,
    files: Arc<F>,
    incoming: impl Stream<Item = Result<Packet, Status>> + Unpin + Send,
    outgoing: &mpsc::Sender<Packet>,
) -> Result<Sent, DiffCopyError> {
    // Each file is asked for once at most, so the list of the tree bounds it.
    let (queue, requests) = mpsc::unbounded_channel();
    let requests = Arc::new(Mutex::new(requests));
    let reader = || {
        let (entries, files) = (Arc::clone(&entries), Arc::clone(&files));
        let (requests, outgoing) = (Arc::clone(&requests), outgoing.clone());
        let thread =
            tokio::task::spawn_blocking(move || read(&entries, files.as_ref(), &requests, &outgoing));
        async move { thread.await.map_err(|_| DiffCopyError::Thread)? }
    };
    let readers = futures_util::future::try_join_all((0..READERS).map(|_| reader()));
    let is_told = AtomicBool::new(false);
    let tell = tell(&entries, &is_told, outgoing);
    let hear = hear(&entries, &is_told, incoming, queue);
    let ((), files, bytes) = tokio::try_join!(tell, hear, readers)?;
    let farewell = Packet { r#type: Type::Fin.into(), ..Packet::default() };
    outgoing.send(farewell).await.map_err(|_| DiffCopyError::Ended)?;
    Ok(Sent { entries: entries.len() as u64, files, bytes: bytes.into_iter().sum() })
}

async fn tell(
    entries: &[Entry],
    is_told: &AtomicBool,
    outgoing: &mpsc::Sender<Packet>,
) -> Result<(), DiffCopyError> {
    let stats = entries.iter().map(|entry| Some(entry.to_stat())).chain([None]);
    for stat in stats {
        let packet = Packet { r#type: Type::Stat.into(), stat, ..Packet::default() };
        is_told.store(packet.stat.is_none(), Ordering::Relaxed);
        outgoing.send(packet).await.map_err(|_| DiffCopyError::Ended)?;
    }
    Ok(())
}

/// Hears what is wanted until the farewell; returns how many files that were.
async fn hear(
    entries: &[Entry],
    is_told: &AtomicBool,
    mut incoming: impl Stream<Item = Result<Packet, Status>> + Unpin,
    queue: mpsc::UnboundedSender<u32>,
) -> Result<u64, DiffCopyError> {
    let mut is_asked = vec![false; entries.len()];
    let mut files = 0;
    while let Some(packet) = incoming.next().await {
        let packet = packet?;
        match packet.r#type() {
            Type::Req => {
                let id = packet.id;
                let asked = is_asked.get_mut(id as usize);
                let asked =
                    asked.ok_or(DiffCopyError::of_file("a file was asked for that was not told", id))?;
                if !matches!(entries[id as usize].kind, Kind::File { .. }) {
                    return Err(DiffCopyError::of_file("the content of what is no file was asked for", id));
                }
                if std::mem::replace(asked, true) {
                    return Err(DiffCopyError::of_file("a file was asked for twice", id));
                }
                files += 1;
                queue.send(id).map_err(|_| DiffCopyError::Thread)?;
            }
            Type::Fin if is_told.load(Ordering::Relaxed) => return Ok(files),
            Type::Fin => return Err(DiffCopyError::protocol("a farewell before the list had ended")),
            Type::Err => return Err(told(&packet)),
            Type::Stat | Type::Data => {
                return Err(DiffCopyError::protocol("who wants a tree does not tell of one"));
            }
        }
    }
    Err(DiffCopyError::Ended)
}

pub(super) fn told(packet: &Packet) -> DiffCopyError {
    let text = String::from_utf8_lossy(&packet.data);
    DiffCopyError::Told(text.chars().take(2_000).collect())
}

/// Reads the files that are wanted, until nothing more can be; returns their bytes.
fn read(
    entries: &[Entry],
    files: &dyn Files,
    requests: &Mutex<mpsc::UnboundedReceiver<u32>>,
    outgoing: &mpsc::Sender<Packet>,
) -> Result<u64, DiffCopyError> {
    let next = || requests.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
    let mut sum = 0;
    while let Some(id) = next() {
        let entry = &entries[id as usize];
        let failed = |source| DiffCopyError::Read { path: entry.path.clone(), source };
        let changed = || DiffCopyError::Changed { path: entry.path.clone() };
        let Kind::File { size_bytes } = entry.kind else { return Err(changed()) };
        let send = |data| {
            let packet = Packet { r#type: Type::Data.into(), id, data, ..Packet::default() };
            outgoing.blocking_send(packet).map_err(|_| DiffCopyError::Ended)
        };
        let mut file = files.open(entry).map_err(failed)?;
        let mut left = size_bytes;
        loop {
            let mut piece = BytesMut::zeroed(left.min(PIECE_BYTES as u64).max(1) as usize);
            let length = fill(&mut file, &mut piece).map_err(failed)?;
            if length as u64 > left || length == 0 && left > 0 {
                return Err(changed());
            }
            if length == 0 {
                break;
            }
            piece.truncate(length);
            left -= length as u64;
            send(piece.freeze())?;
        }
        sum += size_bytes;
        send(bytes::Bytes::new())?;
    }
    Ok(sum)
}

/// Reads until a piece is full or the file ends.
fn fill(file: &mut dyn Read, piece: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < piece.len() {
        match file.read(&mut piece[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
