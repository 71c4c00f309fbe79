//! Compression on all cores, with output that does not depend on how many there are.
//!
//! In: bytes. Out: what a [`Codec`] makes of them, in order. The input is cut into blocks of one size; each is compressed by
//! itself, given the end of the block before it, by whichever thread is free.
//! **Invariants:** what comes out is a function of the bytes and the codec alone. At most two blocks per thread are in flight.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// A format whose blocks can be compressed apart.
pub(crate) trait Codec: Copy + Send + 'static {
    /// What the end of the stream says of all that comes before it.
    type Note: Default + Send;

    /// Bytes of input per block.
    const BLOCK_BYTES: usize;

    /// How much of the block before is known to one; nothing where that is 0.
    const WINDOW_BYTES: usize;

    /// Returns how many threads are worth their memory.
    fn most_threads(&self) -> usize;

    /// Compresses one block. A function of its arguments alone.
    fn compress(&self, block: &[u8], dictionary: &[u8]) -> io::Result<(Vec<u8>, Self::Note)>;

    /// Returns what stands before the first block.
    fn head(&self) -> Vec<u8>;

    /// Adds the note of the next block to that of all before it.
    fn add(all: &mut Self::Note, next: &Self::Note);

    /// Returns what stands behind the last block.
    fn tail(&self, all: &Self::Note) -> io::Result<Vec<u8>>;
}

/// Compresses what is written to it into `out`. Needs [`Blocks::finish`].
pub(crate) struct Blocks<C: Codec, W: Write> {
    codec: C,
    out: W,
    note: C::Note,
    threads: usize,
    block: Vec<u8>,
    dictionary: Arc<[u8]>,
    workers: Option<Sender<Job<C>>>,
    pending: VecDeque<Receiver<io::Result<Done<C>>>>,
    started: bool,
}

struct Job<C: Codec> {
    block: Vec<u8>,
    dictionary: Arc<[u8]>,
    reply: SyncSender<io::Result<Done<C>>>,
}

struct Done<C: Codec> {
    compressed: Vec<u8>,
    note: C::Note,
    /// The input buffer, to be used again.
    block: Vec<u8>,
}

impl<C: Codec, W: Write> Blocks<C, W> {
    /// Starts a stream. Threads are started when the second block is.
    pub(crate) fn new(codec: C, out: W, threads: usize) -> Self {
        Self {
            threads: threads.clamp(1, codec.most_threads()),
            codec,
            out,
            note: C::Note::default(),
            block: Vec::new(),
            dictionary: Arc::new([]),
            workers: None,
            pending: VecDeque::new(),
            started: false,
        }
    }

    /// Writes what is left and the end. Returns the output.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        if !self.block.is_empty() {
            let block = std::mem::take(&mut self.block);
            let done = compress(self.codec, block, &self.dictionary);
            self.drain(0)?;
            self.write_block(done?)?;
        }
        self.drain(0)?;
        self.start()?;
        self.out.write_all(&self.codec.tail(&self.note)?)?;
        Ok(self.out)
    }

    /// Hands the full block to a worker.
    fn dispatch(&mut self) -> io::Result<()> {
        let block = std::mem::take(&mut self.block);
        let tail = Arc::from(&block[block.len().saturating_sub(C::WINDOW_BYTES)..]);
        let dictionary = std::mem::replace(&mut self.dictionary, tail);
        if self.threads == 1 {
            let done = compress(self.codec, block, &dictionary)?;
            return self.write_block(done);
        }
        let (reply, answer) = sync_channel(1);
        self.pending.push_back(answer);
        let workers = self.workers.get_or_insert_with(|| start_workers(self.codec, self.threads));
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

    fn write_block(&mut self, done: Done<C>) -> io::Result<()> {
        self.start()?;
        self.out.write_all(&done.compressed)?;
        C::add(&mut self.note, &done.note);
        if self.block.capacity() == 0 {
            self.block = done.block;
            self.block.clear();
        }
        Ok(())
    }

    fn start(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.started, true) {
            self.out.write_all(&self.codec.head())?;
        }
        Ok(())
    }
}

impl<C: Codec, W: Write> Write for Blocks<C, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(C::BLOCK_BYTES - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        if self.block.len() == C::BLOCK_BYTES {
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
fn start_workers<C: Codec>(codec: C, threads: usize) -> Sender<Job<C>> {
    let (sender, jobs) = channel::<Job<C>>();
    let jobs = Arc::new(Mutex::new(jobs));
    for _ in 0..threads {
        let jobs = Arc::clone(&jobs);
        let work = move || {
            loop {
                let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(Job { block, dictionary, reply }) = job else { return };
                // Nobody listens any more when the export was given up.
                drop(reply.send(compress(codec, block, &dictionary)));
            }
        };
        // With fewer threads than wanted it takes longer; with none, `send` fails.
        drop(thread::Builder::new().name("rb-compress".to_owned()).spawn(work));
    }
    sender
}

fn compress<C: Codec>(codec: C, block: Vec<u8>, dictionary: &[u8]) -> io::Result<Done<C>> {
    let (compressed, note) = codec.compress(&block, dictionary)?;
    Ok(Done { compressed, note, block })
}
