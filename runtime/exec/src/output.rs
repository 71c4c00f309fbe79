//! The output of a sandbox, from its pipes to a log, while its time goes by.
//!
//! In: a child and the reading ends of what it writes to. Out: what it wrote, in pieces, handed to a log on the calling thread.
//! What always holds: the calling thread, by whose end the kernel ends the child (`PR_SET_PDEATHSIG`), reads from no pipe. Who
//! moves bytes into a pipe by splice(2) or sendfile(2) keeps its lock while they do not come, and who reads from it then sleeps
//! where no signal wakes it, SIGKILL included; so a thread does the reading that nobody needs to end before the child has.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rb_sys::child::Child;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::memory::Watch;
use crate::run::Stream;
use crate::spec::Spec;

const BUFFER_BYTES: usize = 64 << 10;

/// How many pieces wait for the log at most; then the command waits.
const PIECES: usize = 4;

/// What was read, or why no more can be.
type Piece = io::Result<(Stream, Vec<u8>)>;

/// When something is to be done while a command runs.
pub(crate) struct Clock {
    /// It is to end at the latest.
    end: Option<Instant>,
    is_up: bool,
    /// The line to a keeper, by which all that it keeps is ended.
    line: Option<Arc<OwnedFd>>,
    /// Its memory is looked at.
    watch: Option<Watch>,
}

impl Clock {
    /// Begins with this moment.
    pub(crate) fn of(spec: &Spec, line: Option<Arc<OwnedFd>>) -> Self {
        let end = spec.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Self { end, is_up: false, line, watch: spec.memory.as_ref().and_then(Watch::new) }
    }

    /// Whether the time was up before the command had ended.
    pub(crate) fn is_up(&self) -> bool {
        self.is_up
    }

    /// Returns how long to wait at most; looks at `child` when it is time to, and ends it when its time is up.
    fn left(&mut self, child: &Child) -> Option<Duration> {
        let next = self.watch.as_mut().map(|watch| watch.look(child));
        next.into_iter().chain(self.left_to_run(child)).min()
    }

    fn left_to_run(&mut self, child: &Child) -> Option<Duration> {
        let left = self.end?.saturating_duration_since(Instant::now());
        if left.is_zero() {
            self.is_up = true;
            self.end = None;
            match &self.line {
                // It may have ended by itself.
                Some(line) => drop(rustix::net::shutdown(line, rustix::net::Shutdown::Write)),
                None => child.kill(),
            }
            return None;
        }
        Some(left)
    }
}

/// Hands on output until the process ended, then what is left in the pipes.
///
/// All writers are processes of the sandbox and end with it, so what is left is complete; should a writer have been
/// handed out of the sandbox, it is not waited for.
pub(crate) fn carry(
    child: &Child,
    pipes: Vec<(Stream, OwnedFd)>,
    clock: &mut Clock,
    log: &mut dyn FnMut(Stream, &[u8]),
) -> io::Result<()> {
    let (send, pieces) = sync_channel(PIECES);
    let pidfd = Arc::clone(child.pidfd());
    let read = move || {
        let outcome = read_all(&pidfd, pipes, &send);
        drop(pidfd);
        if let Err(error) = outcome {
            // Who does not listen any more has an error of its own.
            send.send(Err(error)).ok();
        }
    };
    std::thread::Builder::new().name("output".to_owned()).spawn(read)?;
    while let Some(piece) = next(&pieces, child, clock) {
        let (stream, bytes) = piece?;
        log(stream, &bytes);
    }
    Ok(())
}

/// Returns the next piece; none when the child has ended and all is read.
fn next(pieces: &Receiver<Piece>, child: &Child, clock: &mut Clock) -> Option<Piece> {
    loop {
        let Some(left) = clock.left(child) else { return pieces.recv().ok() };
        match pieces.recv_timeout(left) {
            Ok(piece) => return Some(piece),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

/// Reads from `pipes` until the process ended and they are empty. That nobody listens any more is an error.
fn read_all(
    pidfd: &OwnedFd,
    mut pipes: Vec<(Stream, OwnedFd)>,
    pieces: &SyncSender<Piece>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let mut waited = vec![PollFd::new(pidfd, PollFlags::IN)];
        waited.extend(pipes.iter().map(|(_, pipe)| PollFd::new(pipe, PollFlags::IN)));
        match poll(&mut waited, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = waited.iter().map(|polled| !polled.revents().is_empty());
        let ended = ready.next().unwrap_or(false);
        let ready: Vec<bool> = ready.collect();
        let mut open = Vec::with_capacity(pipes.len());
        for ((stream, pipe), is_ready) in pipes.into_iter().zip(ready) {
            // Once ended, everything; before, one buffer each, so that both streams move.
            if !is_ready || read((stream, &pipe), ended, &mut buffer, pieces)? {
                open.push((stream, pipe));
            }
        }
        if ended {
            return Ok(());
        }
        pipes = open;
    }
}

/// Reads one buffer of a pipe, or `everything`; says whether more can come.
fn read(
    (stream, pipe): (Stream, &OwnedFd),
    everything: bool,
    buffer: &mut [u8],
    pieces: &SyncSender<Piece>,
) -> io::Result<bool> {
    loop {
        match rustix::io::read(pipe, &mut *buffer) {
            Ok(0) => return Ok(false),
            Ok(length) => {
                let bytes = buffer.get(..length).unwrap_or_default().to_vec();
                pieces.send(Ok((stream, bytes))).map_err(|_| io::ErrorKind::BrokenPipe)?;
            }
            Err(Errno::AGAIN) => return Ok(true),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if !everything {
            return Ok(true);
        }
    }
}
