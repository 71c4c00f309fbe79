//! The client's ssh agents, as steps and sources may use them.
//!
//! In: a socket of the user's agent, or private keys that are kept here ([`SshKey`]). Out: a socket of ours
//! ([`SshAgent::serve`], [`SshAgent::listen`]) that lists the keys and signs with them. Whoever holds it can do nothing else to
//! the agent: what adds, removes, locks or extends is answered with a failure and never reaches it.
//! **Invariant:** no key is handed out or printed; when a [`LentAgent`] is dropped, nothing listens and all connections are
//! closed.
//! Source: draft-ietf-sshm-ssh-agent, sections 3 and 6.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::Shutdown;
use rustix::pipe::{PipeFlags, pipe_with};

mod keys;
mod wire;

pub use keys::{SshKey, SshKeyError};

/// The agent that is meant where none is named.
pub const DEFAULT_SSH: &str = "default";

/// Connections at once; further ones are closed as they come.
const MOST_CONNECTIONS: usize = 64;

/// An agent that the client lends. Clones are one agent.
#[derive(Clone, Debug)]
pub struct SshAgent(Arc<Behind>);

#[derive(Debug)]
enum Behind {
    Socket(PathBuf),
    Keys(Vec<SshKey>),
}

impl SshAgent {
    /// Returns the agent that listens at `socket`.
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Behind::Socket(socket.into())))
    }

    /// Returns an agent that has these keys and no others.
    pub fn of_keys(keys: Vec<SshKey>) -> Self {
        Self(Arc::new(Behind::Keys(keys)))
    }

    /// Tries whether there is an agent.
    ///
    /// # Errors
    /// Why its socket cannot be connected to.
    pub fn try_it(&self) -> io::Result<()> {
        match &*self.0 {
            Behind::Socket(path) => UnixStream::connect(path).map(drop),
            Behind::Keys(_) => Ok(()),
        }
    }

    /// Answers those who connect to `listener`, until what this returns is dropped.
    pub fn serve(&self, listener: UnixListener) -> io::Result<LentAgent> {
        listener.set_nonblocking(true)?;
        let (stopped, stop) = pipe_with(PipeFlags::CLOEXEC)?;
        let open = Arc::new(Connections::default());
        let (agent, connections) = (self.clone(), Arc::clone(&open));
        let accept = move || accept(&agent, &listener, &stopped, &connections);
        let thread = std::thread::Builder::new().name("ssh agent".to_owned()).spawn(accept)?;
        Ok(LentAgent { stop: Some(stop), thread: Some(thread), open, path: None })
    }

    /// Makes a socket at `path`, which only this user may connect to, and answers there until what this returns is dropped.
    pub fn listen(&self, path: &Path) -> io::Result<LentAgent> {
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        let mut lent = self.serve(listener)?;
        lent.path = Some(path.to_owned());
        Ok(lent)
    }

    /// Answers the requests of one connection until it ends.
    fn attend(&self, mut client: UnixStream, slot: &Slot) -> io::Result<()> {
        client.set_nonblocking(false)?;
        slot.hold(&client)?;
        let mut agent = None;
        while let Some(request) = wire::read(&mut client)? {
            let answer = match (request.first(), &*self.0) {
                (Some(&(wire::LIST | wire::SIGN)), Behind::Keys(keys)) => keys::answer(keys, &request),
                // Each connection has one of its own, so that answers do not cross.
                (Some(&(wire::LIST | wire::SIGN)), Behind::Socket(path)) => {
                    ask(&mut agent, path, &request, slot).unwrap_or_else(|_| vec![wire::FAILURE])
                }
                _ => vec![wire::FAILURE],
            };
            wire::write(&mut client, &answer)?;
        }
        Ok(())
    }
}

fn ask(agent: &mut Option<UnixStream>, path: &Path, request: &[u8], slot: &Slot) -> io::Result<Vec<u8>> {
    let stream = match agent {
        Some(stream) => stream,
        None => {
            let stream = UnixStream::connect(path)?;
            slot.hold(&stream)?;
            agent.insert(stream)
        }
    };
    wire::write(stream, request)?;
    wire::read(stream)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// A socket at work. Dropping it closes everything.
#[derive(Debug)]
pub struct LentAgent {
    /// Its end is what the thread waits for.
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    open: Arc<Connections>,
    /// A socket to remove.
    path: Option<PathBuf>,
}

impl Drop for LentAgent {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has no result; that it panicked was said by then.
            thread.join().ok();
        }
        self.open.close();
        if let Some(path) = &self.path {
            // Its folder may have been removed with it.
            std::fs::remove_file(path).ok();
        }
    }
}

fn accept(agent: &SshAgent, listener: &UnixListener, stopped: &OwnedFd, open: &Arc<Connections>) {
    loop {
        let mut polled = [PollFd::new(listener, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
        match poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
        let [of_listener, of_stop] = polled.map(|polled| polled.revents());
        if !of_stop.is_empty() {
            return;
        }
        if of_listener.is_empty() {
            continue;
        }
        match listener.accept() {
            Ok((client, _)) => {
                let Some(slot) = open.slot() else { continue };
                let agent = agent.clone();
                // A connection that fails is closed, which is all that its other end can be told. So is one without a thread.
                let attend = move || agent.attend(client, &slot).ok();
                std::thread::Builder::new().name("ssh agent".to_owned()).spawn(attend).ok();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Such as too many files: what waits is asked for again, after others have ended.
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// The connections there are.
#[derive(Debug, Default)]
struct Connections(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    closed: bool,
    next: u64,
    /// The streams of each: with who asks, and with the agent.
    streams: BTreeMap<u64, Vec<UnixStream>>,
}

/// Room for one connection, given back when it is dropped.
struct Slot {
    all: Arc<Connections>,
    id: u64,
}

impl Connections {
    fn slot(self: &Arc<Self>) -> Option<Slot> {
        let mut open = self.lock();
        if open.closed || open.streams.len() >= MOST_CONNECTIONS {
            return None;
        }
        let id = open.next;
        open.next += 1;
        open.streams.insert(id, Vec::new());
        Some(Slot { all: Arc::clone(self), id })
    }

    fn close(&self) {
        let mut open = self.lock();
        open.closed = true;
        for stream in open.streams.values().flatten() {
            // It may have ended by itself.
            rustix::net::shutdown(stream, Shutdown::Both).ok();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Every change is a single step, so a panicked holder leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Has a stream shut down when all are.
    fn hold(&self, stream: &UnixStream) -> io::Result<()> {
        let stream = stream.try_clone()?;
        let mut open = self.all.lock();
        if open.closed {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        open.streams.entry(self.id).or_default().push(stream);
        Ok(())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.all.lock().streams.remove(&self.id);
    }
}

#[cfg(test)]
mod tests;
