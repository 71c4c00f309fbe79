//! Gzip on all cores, with output that does not depend on how many there are.
//!
//! The input is cut into blocks of 1 MiB. Each is deflated by itself with the last 32 KiB of the block before it as
//! dictionary and ends with a sync flush, so the blocks make one deflate stream, about as small as a serial one. The checksums
//! of the blocks are combined. At most two blocks per thread are in flight.
//! Source: RFC 1951, RFC 1952; the scheme is pigz's.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// Bytes of input per block.
const BLOCK_BYTES: usize = 1 << 20;

/// How far back deflate looks.
const WINDOW_BYTES: usize = 32 << 10;

/// zlib's default level: what `gzip` and BuildKit use.
pub(crate) const LEVEL: u32 = 6;

/// Magic, deflate, no flags, no time, no hint, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// An empty last block with fixed codes.
const END: [u8; 2] = [0x03, 0x00];

/// Compresses what is written to it into `out`. Needs [`ParallelGzip::finish`].
pub(crate) struct ParallelGzip<W: Write> {
    out: W,
    threads: usize,
    block: Vec<u8>,
    dictionary: Arc<[u8]>,
    workers: Option<Sender<Job>>,
    pending: VecDeque<Receiver<io::Result<Done>>>,
    checksum: Crc,
    started: bool,
}

struct Job {
    block: Vec<u8>,
    dictionary: Arc<[u8]>,
    reply: SyncSender<io::Result<Done>>,
}

struct Done {
    compressed: Vec<u8>,
    checksum: Crc,
    /// The input buffer, to be used again.
    block: Vec<u8>,
}

impl<W: Write> ParallelGzip<W> {
    /// Starts a stream. Threads are started when the second block is.
    pub(crate) fn new(out: W, threads: usize) -> Self {
        Self {
            out,
            threads: threads.max(1),
            block: Vec::new(),
            dictionary: Arc::new([]),
            workers: None,
            pending: VecDeque::new(),
            checksum: Crc::new(),
            started: false,
        }
    }

    /// Writes what is left and the trailer. Returns the output.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        if !self.block.is_empty() {
            let done = compress(std::mem::take(&mut self.block), &self.dictionary);
            self.drain(0)?;
            self.write_block(done?)?;
        }
        self.drain(0)?;
        self.start()?;
        self.out.write_all(&END)?;
        self.out.write_all(&self.checksum.sum().to_le_bytes())?;
        self.out.write_all(&self.checksum.amount().to_le_bytes())?;
        Ok(self.out)
    }

    /// Hands the full block to a worker.
    fn dispatch(&mut self) -> io::Result<()> {
        let block = std::mem::take(&mut self.block);
        let tail = Arc::from(&block[block.len().saturating_sub(WINDOW_BYTES)..]);
        let dictionary = std::mem::replace(&mut self.dictionary, tail);
        if self.threads == 1 {
            let done = compress(block, &dictionary)?;
            return self.write_block(done);
        }
        let (reply, answer) = sync_channel(1);
        self.pending.push_back(answer);
        let workers = self.workers.get_or_insert_with(|| start_workers(self.threads));
        workers
            .send(Job { block, dictionary, reply })
            .map_err(|_| io::Error::other("no compressor is left"))?;
        self.drain(self.threads * 2)
    }

    /// Writes finished blocks, in order, until at most `keep` are in flight.
    fn drain(&mut self, keep: usize) -> io::Result<()> {
        while self.pending.len() > keep {
            let Some(answer) = self.pending.pop_front() else { break };
            let done = answer.recv().map_err(|_| io::Error::other("a compressor died"))??;
            self.write_block(done)?;
        }
        Ok(())
    }

    fn write_block(&mut self, done: Done) -> io::Result<()> {
        self.start()?;
        self.out.write_all(&done.compressed)?;
        self.checksum.combine(&done.checksum);
        if self.block.capacity() == 0 {
            self.block = done.block;
            self.block.clear();
        }
        Ok(())
    }

    fn start(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.started, true) {
            self.out.write_all(&HEADER)?;
        }
        Ok(())
    }
}

impl<W: Write> Write for ParallelGzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(BLOCK_BYTES - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        if self.block.len() == BLOCK_BYTES {
            self.dispatch()?;
        }
        Ok(count)
    }

    /// Does nothing: where blocks end must not depend on the writer.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Threads that end when the sender is dropped.
fn start_workers(threads: usize) -> Sender<Job> {
    let (sender, jobs) = channel::<Job>();
    let jobs = Arc::new(Mutex::new(jobs));
    for _ in 0..threads {
        let jobs = Arc::clone(&jobs);
        let work = move || {
            loop {
                let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(Job { block, dictionary, reply }) = job else { return };
                // Nobody listens any more when the export was given up.
                drop(reply.send(compress(block, &dictionary)));
            }
        };
        // With fewer threads than wanted it takes longer; with none, `send` fails.
        drop(thread::Builder::new().name("rb-gzip".to_owned()).spawn(work));
    }
    sender
}

/// Deflates one block to a byte boundary. A fresh compressor each time, so that the result is a function of the block and
/// the dictionary alone.
fn compress(block: Vec<u8>, dictionary: &[u8]) -> io::Result<Done> {
    let mut checksum = Crc::new();
    checksum.update(&block);
    let mut deflate = Compress::new(Compression::new(LEVEL), false);
    if !dictionary.is_empty() {
        deflate.set_dictionary(dictionary)?;
    }
    let mut compressed = Vec::with_capacity(block.len() / 2 + 4096);
    loop {
        let consumed = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX).min(block.len());
        let status = deflate.compress_vec(&block[consumed..], &mut compressed, FlushCompress::Sync)?;
        // Room left in the output: all is consumed and flushed.
        if status == Status::BufError || compressed.len() < compressed.capacity() {
            break;
        }
        compressed.reserve(compressed.capacity() / 2);
    }
    Ok(Done { compressed, checksum, block })
}

#[cfg(test)]
mod tests;
