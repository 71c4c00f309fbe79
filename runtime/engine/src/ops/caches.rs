//! Directories that outlive builds (cache mounts): who may use which, and when.
//!
//! In: the cache mounts of a step, and what they begin as. Out: a directory for each, held while the step runs.
//!
//! ```text
//! caches/<id>/name             the id as in the definition (the folder's name is a digest of it, and of the client's
//!                              workspace where the id begins with `//`: such a cache is not shared by two of them)
//! caches/<id>/<seed>/          those that began as one input; another input is another cache, as in BuildKit
//!     common/  common.lock     for `shared` (lock shared) and `locked` (lock alone)
//!     common.turn              held alone while one waits for `common.lock`, and while `common` is made
//!     1/ 1.lock  2/ 2.lock …   for `private`: the first that is free
//!     common.seen, 1.seen …    what `times` remembers of a cache's last step
//!     common.used, 1.used …    when its last step ended, likewise
//!     common.unwritten …       stands while its content may not be on the disk ([`marks`])
//! ```
//!
//! All locks are flock(2): they hold between processes and end with the one that has them, however it ends. Who waits
//! for `common` takes the turn first, so that sharers who come later do not overtake one who wants it alone; in one
//! process turns go in the order of arrival. A step takes its caches in the order of their paths and waits for the
//! common ones only, so steps never wait for each other in a circle. Who waits leaves its place among the running steps
//! to another, and waits for one again with what it has: those that run wait for nothing of it.
//!
//! **Invariants:** a directory appears by one rename, complete; what a step writes stays there whatever becomes of the step
//! and enters no key and no layer. Lock files are never removed.

pub(crate) mod marks;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use rb_exec::Isolation;
use rb_llb::{CacheSharing, ExecOp, Mount, MountKind};
use rb_oci::Digest;
use rb_snapshot::{CopyOptions, Editor, Follow};
use rb_solver::{Context, OpError, Stream};
use tokio::time::Instant;

use super::mounts;
use crate::error::EngineError;
use crate::parts::Parts;
use crate::value::Value;

/// How often a lock of another process is tried.
const POLL: Duration = Duration::from_millis(50);
/// How long one waits before it is told.
const SILENCE: Duration = Duration::from_secs(1);

/// Whose turn it is within this process: one queue for each common directory that somebody waits for.
#[derive(Default)]
pub(crate) struct Turns {
    queues: Mutex<BTreeMap<PathBuf, Weak<tokio::sync::Mutex<()>>>>,
    /// Whether any was used by this process.
    used: AtomicBool,
}

impl Turns {
    /// Says whether a step of this process has used a cache.
    pub(crate) fn were_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    fn queue(&self, folder: &Path) -> Arc<tokio::sync::Mutex<()>> {
        // Every change of the map is a single step, so a panicked holder leaves it whole.
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|_, queue| queue.strong_count() > 0);
        let known = queues.get(folder).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let queue = Arc::default();
            queues.insert(folder.to_owned(), Arc::downgrade(&queue));
            queue
        })
    }
}

/// The caches of one step, from before it runs until this is dropped.
#[derive(Default)]
pub(super) struct Held {
    /// The client's workspace.
    scope: String,
    leases: BTreeMap<Wanted, Lease>,
}

/// One directory that a step wants, however often it mounts it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    folder: PathBuf,
    private: bool,
}

/// A directory and the lock on it.
struct Lease {
    directory: PathBuf,
    lock: File,
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Closing would do too, but not at once if a child that is just being made holds a copy.
        self.lock.unlock().ok();
    }
}

impl Held {
    /// Gives the caches back. Returns the client's workspace.
    pub(super) fn let_go(&mut self) -> String {
        self.leases.clear();
        self.scope.clone()
    }

    /// Returns the directory of a cache mount of the step this was made for.
    pub(super) fn directory(&self, parts: &Parts, mount: &Mount, inputs: &[Value]) -> Option<&Path> {
        let (wanted, _) = wanted(parts, &self.scope, mount, inputs)?;
        self.leases.get(&wanted).map(|lease| lease.directory.as_path())
    }
}

/// What a mount wants, and whether alone; nothing if it is no cache mount.
fn wanted(parts: &Parts, scope: &str, mount: &Mount, inputs: &[Value]) -> Option<(Wanted, bool)> {
    let MountKind::Cache { id, sharing } = &mount.kind else { return None };
    let seed = mount.input.and_then(|index| inputs.get(index));
    let seed = seed.map_or_else(|| "empty".to_owned(), |value| name(&value.key()));
    // Digested apart, so that no id looks like one of another workspace.
    let scope = if id.starts_with("//") { scope } else { "" };
    let whole = [scope, id.as_str()].map(|part| Digest::of(part).hex()).concat();
    let folder = parts.store.caches_dir().join(name(&Digest::of(whole))).join(seed);
    // In a chroot it stands in one root at a time.
    let alone = *sharing == CacheSharing::Locked || parts.steps.isolation == Isolation::Chroot;
    Some((Wanted { folder, private: *sharing == CacheSharing::Private }, alone))
}

/// Half a digest is as good as a whole one here, and easier on the eye.
fn name(digest: &Digest) -> String {
    digest.hex().chars().take(32).collect()
}

/// Takes the caches of a step; waits for those that another has alone, until nobody wants the step any more.
pub(super) async fn hold(
    cx: &Context,
    op: &ExecOp,
    inputs: &[Value],
    parts: &Arc<Parts>,
    scope: String,
) -> Result<Held, OpError> {
    let mut all: BTreeMap<Wanted, (String, Option<Value>, String, bool)> = BTreeMap::new();
    for mount in &op.mounts {
        let (Some((wanted, alone)), MountKind::Cache { id, .. }) =
            (wanted(parts, &scope, mount, inputs), &mount.kind)
        else {
            continue;
        };
        let seed = mount.input.and_then(|index| inputs.get(index)).cloned();
        all.entry(wanted).or_insert((id.clone(), seed, mount.selector.clone(), false)).3 |= alone;
    }
    let mut held = Held { scope, leases: BTreeMap::new() };
    for (wanted, (id, seed, selector, alone)) in all {
        let maker = Maker { parts: Arc::clone(parts), folder: wanted.folder.clone(), id, seed, selector };
        let lease = if wanted.private {
            crate::blocking(move || maker.take_free()).await?
        } else {
            take_common(cx, maker, alone).await?
        };
        held.leases.insert(wanted, lease);
    }
    Ok(held)
}

async fn take_common(cx: &Context, maker: Maker, alone: bool) -> Result<Lease, OpError> {
    let maker = Arc::new(maker);
    let line = format!("waiting for the cache `{}`, which another step has alone\n", maker.id);
    let mut patience = Patience::new(cx, line);
    let queue = maker.parts.caches.queue(&maker.folder);
    let _first_here = patience.during(queue.lock()).await?;
    let turn = {
        let maker = Arc::clone(&maker);
        crate::blocking(move || maker.open("common.turn")).await?
    };
    let turn = Turn(turn);
    patience.during(polled(|| turn.0.try_lock())).await?.map_err(|error| maker.failed("lock", error))?;
    let (directory, lock) = {
        let maker = Arc::clone(&maker);
        let make = move || {
            let lock = maker.open("common.lock")?;
            Ok((maker.made("common", &lock)?, lock))
        };
        crate::blocking(make).await?
    };
    let taken = patience.during(polled(|| if alone { lock.try_lock() } else { lock.try_lock_shared() }));
    taken.await?.map_err(|error| maker.failed("lock", error))?;
    crate::blocking(move || maker.marked(Lease { directory, lock }, "common")).await
}

/// The turn among processes; given up like a [`Lease`].
struct Turn(File);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.unlock().ok();
    }
}

/// Tries until it works, or fails for another reason than that somebody has the lock.
async fn polled(attempt: impl Fn() -> Result<(), TryLockError>) -> io::Result<()> {
    loop {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(POLL).await,
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// One who waits: says so after a while, and stops when nobody wants the step any more.
pub(super) struct Patience<'a> {
    cx: &'a Context,
    line: String,
    tell_at: Option<Instant>,
}

impl<'a> Patience<'a> {
    /// One who says this line.
    pub(super) fn new(cx: &'a Context, line: String) -> Self {
        Self { cx, line, tell_at: Some(Instant::now() + SILENCE) }
    }

    /// Waits for what others have.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> Result<T, OpError> {
        // What others have must not keep those from running who need it not.
        let work = self.cx.aside(work);
        tokio::pin!(work);
        loop {
            let tell_at = self.tell_at;
            let silence = async move {
                match tell_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.cx.cancelled() => return Err(OpError::cancelled()),
                done = &mut work => return Ok(done),
                () = silence => {
                    self.tell_at = None;
                    self.cx.log(Stream::Stderr, Bytes::from(std::mem::take(&mut self.line)));
                }
            }
        }
    }
}

/// Makes the directories of one cache.
struct Maker {
    parts: Arc<Parts>,
    folder: PathBuf,
    id: String,
    seed: Option<Value>,
    /// What of the directory is shown.
    selector: String,
}

impl Maker {
    fn error(&self, action: &'static str, source: io::Error) -> EngineError {
        EngineError::Cache { action, id: self.id.clone(), source }
    }

    fn failed(&self, action: &'static str, source: io::Error) -> OpError {
        crate::op_error(self.error(action, source))
    }

    /// Opens a lock file, making it and the folder if they are missing.
    fn open(&self, name: &str) -> Result<File, EngineError> {
        let opened = || {
            std::fs::create_dir_all(&self.folder)?;
            if let Some(above) = self.folder.parent() {
                let label = above.join("name");
                if !label.exists() {
                    std::fs::write(label, &self.id)?;
                }
            }
            OpenOptions::new().write(true).create(true).truncate(false).open(self.folder.join(name))
        };
        opened().map_err(|error| self.error("open", error))
    }

    /// Takes the first private directory that nobody uses.
    fn take_free(&self) -> Result<Lease, EngineError> {
        for number in 1u32.. {
            let lock = self.open(&format!("{number}.lock"))?;
            match lock.try_lock() {
                Ok(()) => {
                    let name = number.to_string();
                    return self.marked(Lease { directory: self.made(&name, &lock)?, lock }, &name);
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(self.error("lock", error)),
            }
        }
        Err(self.error("lock", io::ErrorKind::QuotaExceeded.into()))
    }

    /// Notes that a cache is about to be written to.
    fn marked(&self, lease: Lease, name: &str) -> Result<Lease, EngineError> {
        let made = self.parts.store.temp_path();
        marks::mark(&self.folder, name, &made).map_err(|error| self.error("mark", error))?;
        self.parts.store.touch_cache(&lease.directory);
        self.parts.caches.used.store(true, Ordering::Relaxed);
        Ok(lease)
    }

    /// Returns a directory, making it from the input where it is missing or may be torn. Nobody else gets it meanwhile; `lock`
    /// is its lock, which may be held afterwards.
    fn made(&self, name: &str, lock: &File) -> Result<PathBuf, EngineError> {
        let directory = self.folder.join(name);
        let is_torn = marks::is_torn(&self.folder, name).map_err(|error| self.error("look at", error))?;
        // What somebody uses was not torn when that began: then the mark itself is damaged.
        let is_free = || match lock.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(self.error("lock", error)),
        };
        // A step sees it, and cannot remove it, but in a chroot, which takes it out of here while it runs.
        let shown = directory.join(self.selector.trim_start_matches('/'));
        let is_lost = directory.is_dir() && shown.symlink_metadata().is_err();
        if (is_torn || is_lost) && is_free()? {
            let why = if is_torn {
                "the machine went down before it was on the disk"
            } else {
                "it was lost in a chroot"
            };
            tracing::warn!(cache = self.id, "begins anew: {why}");
            let trash = self.parts.snapshots.prepare(None)?;
            match std::fs::rename(&directory, trash.upper().join("torn")) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(self.error("remove", error));
                }
                Ok(()) | Err(_) => {
                    marks::unmark(&self.folder, name).map_err(|error| self.error("mark", error))?;
                }
            }
        }
        if directory.is_dir() {
            return Ok(directory);
        }
        // Written as a snapshot that is never committed: a process that dies meanwhile leaves what the store cleans.
        let active = self.parts.snapshots.prepare(None)?;
        if let Some(seed) = &self.seed {
            let editor = Editor::new(&active)?;
            let options = CopyOptions { dir_copy_contents: true, ..CopyOptions::default() };
            mounts::copy_from(&editor, &self.parts, seed, "/", "/", options)?;
            if let Value::Tree(_) = seed
                && let Some(root) = mounts::view(&self.parts, seed)?.lookup("/", Follow::No)?
            {
                let owner = (root.metadata.uid, root.metadata.gid);
                editor.set_metadata("/", Some(root.metadata.mode), Some(owner), None)?;
            }
        }
        std::fs::rename(active.upper(), &directory).map_err(|error| self.error("make", error))?;
        Ok(directory)
    }
}
