//! What the processes over a state directory are at: each says it to whoever asks.
//!
//! ```text
//! status/<process>          a socket; who connects gets one JSON document, a [`ProcessStatus`], and its end
//! ```
//!
//! A process is named as by its lock in `locks/` ([`rb_store::living`]), so a socket without a lock is left by a dead one
//! and goes when the next process begins to serve. Sockets are bound and found through an open directory, since a
//! path to a socket has 108 bytes at most. One who asks waits for no more than [`PATIENCE`], and takes no more than
//! [`LIMIT_BYTES`].
//! **Invariant:** only the same user and root are answered, and only what they say is believed: the socket's mode sees to
//! that, and both sides look at who the other is. Source: unix(7), `SO_PEERCRED`.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rb_solver::Status;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::LocalEngine;
use crate::admission::MemoryStatus;
use crate::error::EngineError;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long a process looks for its answer, and for somebody to read it.
const HASTE: Duration = Duration::from_millis(200);

/// Largest document that is read.
const LIMIT_BYTES: u64 = 1 << 20;

/// So many vertices are told of, the first ones; of each so many causes, and a name of so many characters.
const MOST_VERTICES: usize = 400;
const MOST_CAUSES: usize = 16;
const LONGEST_NAME: usize = 200;

/// What a user id shows as that the own user namespace does not know. Source: user_namespaces(7), overflowuid.
const UNMAPPED: u32 = 65_534;

/// What one process is at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// Its id.
    pub process: u32,
    /// What it was asked for: `rb +app`. Arguments' values are left out.
    pub title: String,
    /// How long ago that was, in milliseconds.
    pub running_ms: u64,
    /// Vertices that are not told of, for there are too many.
    pub left_out: usize,
    /// What its steps have of their memory budget, if they have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryStatus>,
    /// What its solver is at.
    pub state: Status,
}

/// What came of asking a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What it is at.
    Status(Box<ProcessStatus>),
    /// It has not answered in time, or not at all.
    Silent,
    /// It belongs to another user, or something else poses as it.
    NotAsked {
        /// Who has the socket.
        user: u32,
    },
    /// What it said cannot be read: another version of the program, perhaps.
    Unreadable,
}

/// Asks every process that has the state directory at `root` open, by id. Blocks, for half a second for each at most.
pub fn ask_all(root: &Path) -> Result<Vec<(u32, Answer)>, EngineError> {
    let processes = rb_store::living(root)?;
    if processes.is_empty() {
        return Ok(Vec::new());
    }
    let directory = root.join("status");
    let directory = match open_directory(&directory) {
        Ok(directory) => Some(directory),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(EngineError::Status { path: directory, source }),
    };
    // All at once, so that several silent ones take no longer than one.
    Ok(std::thread::scope(|scope| {
        let asked: Vec<_> = processes
            .iter()
            .map(|process| {
                let directory = directory.as_ref();
                scope.spawn(move || match directory {
                    Some(directory) => ask(directory, &process.name).unwrap_or(Answer::Silent),
                    None => Answer::Silent,
                })
            })
            .collect();
        let answers = asked.into_iter().map(|asked| asked.join().unwrap_or(Answer::Silent));
        processes.iter().map(|process| process.id).zip(answers).collect()
    }))
}

/// Answers for this process until it is dropped.
#[derive(Debug)]
pub struct StatusServer {
    path: PathBuf,
    listener: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl LocalEngine {
    /// Begins to tell what this process is at; `title` is what it was asked for. To be called within a tokio runtime.
    pub fn serve_status(&self, title: String) -> Result<StatusServer, EngineError> {
        let root = self.store().root();
        let path = root.join("status").join(self.store().process_name());
        let failed = |source| EngineError::Status { path: path.clone(), source };
        sweep(root);
        let listener = listen(root, self.store().process_name()).map_err(failed)?;
        let ours = listener.try_clone().map_err(failed)?;
        let answers =
            Answers { engine: self.clone(), title, began: Instant::now(), handle: Handle::current() };
        let body = move || answers.serve(&UnixListener::from(ours));
        let thread = std::thread::Builder::new().name("rb-status".to_owned()).spawn(body).map_err(failed)?;
        Ok(StatusServer { path, listener, thread: Some(thread) })
    }
}

impl Drop for StatusServer {
    fn drop(&mut self) {
        // What stays is swept by the next one.
        fs::remove_file(&self.path).ok();
        // Ends the wait for the next one who asks.
        net::shutdown(&self.listener, Shutdown::Both).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// What the serving thread knows.
struct Answers {
    engine: LocalEngine,
    title: String,
    began: Instant,
    handle: Handle,
}

impl Answers {
    /// Answers one after the other, until the socket is shut down.
    fn serve(&self, listener: &UnixListener) {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    if let Err(error) = self.answer(&stream) {
                        tracing::debug!(%error, "one who asked for the status was not answered");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => return,
                Err(error) => {
                    tracing::debug!(%error, "the status is not served any more");
                    return;
                }
            }
        }
    }

    fn answer(&self, mut stream: &UnixStream) -> io::Result<()> {
        let peer = user_of(stream)?;
        // Real root, and nobody else whom the socket's mode lets in, may be unknown to this user namespace.
        if ![rustix::process::geteuid().as_raw(), 0, UNMAPPED].contains(&peer) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("user {peer} asks")));
        }
        let Some(state) = self.state() else { return Err(io::ErrorKind::TimedOut.into()) };
        stream.set_write_timeout(Some(HASTE))?;
        stream.write_all(&serde_json::to_vec(&self.document(state)).map_err(io::Error::other)?)
    }

    /// Asks the solver, without waiting long for it.
    fn state(&self) -> Option<Status> {
        let Some(solver) = self.engine.solver.get().cloned() else { return Some(Status::default()) };
        let (reply, answer) = mpsc::channel();
        self.handle.spawn(async move {
            // An error on either side means that this process is about to end.
            if let Ok(status) = solver.snapshot().await {
                reply.send(status).ok();
            }
        });
        answer.recv_timeout(HASTE).ok()
    }

    fn document(&self, mut state: Status) -> ProcessStatus {
        let left_out = state.vertices.len().saturating_sub(MOST_VERTICES);
        state.vertices.truncate(MOST_VERTICES);
        for vertex in &mut state.vertices {
            vertex.name = vertex.name.chars().take(LONGEST_NAME).collect();
            vertex.waits_for.truncate(MOST_CAUSES);
        }
        ProcessStatus {
            process: std::process::id(),
            title: self.title.clone(),
            running_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            left_out,
            memory: self.memory(),
            state,
        }
    }

    fn memory(&self) -> Option<MemoryStatus> {
        let mut memory = self.engine.parts.admission.as_ref()?.status();
        memory.waiting.truncate(MOST_VERTICES);
        Some(memory)
    }
}

/// Removes the sockets of processes that are gone. What cannot be removed is in nobody's way.
fn sweep(root: &Path) {
    for entry in fs::read_dir(root.join("status")).into_iter().flatten().flatten() {
        if !root.join("locks").join(entry.file_name()).exists() {
            fs::remove_file(entry.path()).ok();
        }
    }
}

fn open_directory(path: &Path) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    fs::OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Names a file of an open directory by a path that is short, wherever the directory lies.
fn address(directory: &File, name: &str) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))?)
}

fn listen(root: &Path, name: &str) -> io::Result<OwnedFd> {
    let path = root.join("status");
    DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
    let directory = open_directory(&path)?;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // On Linux this is the mode that the file is made with, so it is never anybody else's.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    net::bind(&socket, &address(&directory, name)?)?;
    net::listen(&socket, 16)?;
    Ok(socket)
}

/// Asks the process of this name. An error means that it does not answer.
fn ask(directory: &File, name: &str) -> io::Result<Answer> {
    let deadline = Instant::now() + PATIENCE;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let address = address(directory, name)?;
    while let Err(error) = net::connect(&socket, &address) {
        // Others ask too, and it is slow.
        if error != Errno::AGAIN || Instant::now() >= deadline {
            return Err(error.into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    let (user, own) = (user_of(&stream)?, rustix::process::geteuid().as_raw());
    if user != own && user != 0 && own != 0 {
        return Ok(Answer::NotAsked { user });
    }
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if bytes.len() as u64 > LIMIT_BYTES {
            return Ok(Answer::Unreadable);
        }
    }
    if bytes.is_empty() {
        return Ok(Answer::Silent);
    }
    Ok(serde_json::from_slice(&bytes).map_or(Answer::Unreadable, |status| Answer::Status(Box::new(status))))
}

/// Returns the user at the other end, as this user namespace knows it.
fn user_of(stream: &UnixStream) -> io::Result<u32> {
    Ok(net::sockopt::socket_peercred(stream.as_fd())?.uid.as_raw())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn status(title: &str) -> ProcessStatus {
        let state = Status::default();
        ProcessStatus { process: 7, title: title.to_owned(), running_ms: 1, left_out: 0, memory: None, state }
    }

    /// A socket that says this to the first who asks.
    fn posing(root: &Path, name: &str, words: Vec<u8>) -> JoinHandle<()> {
        let listener = UnixListener::from(listen(root, name).expect("listens"));
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("somebody asks");
            // One who has heard enough goes away.
            stream.write_all(&words).ok();
        })
    }

    fn asked(root: &Path, name: &str) -> Option<Answer> {
        ask(&open_directory(&root.join("status")).expect("opens"), name).ok()
    }

    #[test]
    fn a_document_is_read_however_deep_the_directory_lies() {
        let root = tempfile::tempdir().expect("temp dir");
        let deep = root.path().join("a-rather-long-name/".repeat(12));
        fs::create_dir_all(&deep).expect("makes");
        let words = serde_json::to_vec(&status("rb +app")).expect("plain data");
        let server = posing(&deep, "7-0", words);
        let mode = fs::metadata(deep.join("status/7-0")).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(asked(&deep, "7-0"), Some(Answer::Status(Box::new(status("rb +app")))));
        server.join().expect("ends");
        assert_eq!(asked(&deep, "7-0"), None, "nobody listens any more");
    }

    #[test]
    fn what_is_no_document_is_bounded() {
        let root = tempfile::tempdir().expect("temp dir");
        let endless = vec![b' '; usize::try_from(LIMIT_BYTES).expect("fits") * 2];
        for (name, words, answer) in [
            ("1-0", b"{}".to_vec(), Answer::Unreadable),
            ("2-0", endless, Answer::Unreadable),
            ("3-0", Vec::new(), Answer::Silent),
            ("4-0", vec![b'['; 100_000], Answer::Unreadable),
        ] {
            let server = posing(root.path(), name, words);
            assert_eq!(asked(root.path(), name), Some(answer), "{name}");
            server.join().expect("ends");
        }
    }

    #[test]
    fn one_that_says_nothing_is_left_in_time() {
        let root = tempfile::tempdir().expect("temp dir");
        let ended = AtomicBool::new(false);
        let listener = listen(root.path(), "1-0").expect("listens");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let began = Instant::now();
                assert_eq!(asked(root.path(), "1-0"), None);
                assert!(began.elapsed() >= PATIENCE);
                ended.store(true, Ordering::SeqCst);
            });
        });
        assert!(ended.load(Ordering::SeqCst));
        drop(listener);
    }

    #[test]
    fn sockets_of_the_dead_are_swept() {
        let root = tempfile::tempdir().expect("temp dir");
        fs::create_dir(root.path().join("locks")).expect("makes");
        fs::write(root.path().join("locks/2-0"), "").expect("writes");
        for name in ["1-0", "2-0"] {
            drop(listen(root.path(), name).expect("listens"));
        }
        sweep(root.path());
        assert!(!root.path().join("status/1-0").exists());
        assert!(root.path().join("status/2-0").exists());
    }
}
