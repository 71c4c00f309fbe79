//! What this client knows of nodes between its processes: which builds are at each, and which did not answer.
//!
//! In a folder of the state directory, by a digest of engine, node and address: a locked file per build that is there, and a note until
//! when a node counts as silent. **Invariants:** a lock ends with its process, so nothing has to be cleaned up after one that died; what
//! cannot be written or read counts as not there, and ends no build.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rb_oci::Digest;
use rustix::fs::FlockOperation;

use crate::build::random_name;

/// How long one that did not answer comes last.
const SILENT: Duration = Duration::from_secs(60);

/// So many files are looked at.
const MOST_FILES: usize = 10_000;

/// Tells the time since 1970.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The folder.
#[derive(Clone)]
pub(crate) struct Known {
    folder: PathBuf,
    clock: Clock,
}

/// A build that is at a node, for as long as this lives.
pub(crate) struct Held {
    path: PathBuf,
    _lock: File,
}

impl Drop for Held {
    fn drop(&mut self) {
        // Who counts next removes what stays.
        std::fs::remove_file(&self.path).ok();
    }
}

/// Returns what a node is called there.
pub(crate) fn key(engine: &str, node: &str, address: &str) -> String {
    Digest::of(format!("{engine}\n{node}\n{address}")).hex()[..24].to_owned()
}

impl Known {
    pub(crate) fn new(folder: PathBuf, clock: Clock) -> Self {
        Self { folder, clock }
    }

    /// Counts the builds at a node.
    pub(crate) fn count(&self, node: &str) -> usize {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return 0 };
        let prefix = format!("{node}.");
        let of_node = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(&prefix) && name.ends_with(".build"))
        };
        let files = entries.take(MOST_FILES).filter_map(|entry| Some(entry.ok()?.path())).filter(of_node);
        files.filter(|path| is_held(path)).count()
    }

    /// Says that a build is at a node.
    pub(crate) fn hold(&self, node: &str) -> Option<Held> {
        std::fs::create_dir_all(&self.folder).ok()?;
        let name = random_name().ok()?;
        let path = self.folder.join(format!("{node}.{name}.build"));
        // Who counts takes one that nobody holds for that of a process that died.
        let unlocked = self.folder.join(format!("{node}.{name}.new"));
        let file = File::create_new(&unlocked).ok()?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
        std::fs::rename(unlocked, &path).ok()?;
        Some(Held { path, _lock: file })
    }

    /// Notes that a node did not answer.
    pub(crate) fn is_silent_now(&self, node: &str) {
        let until = ((self.clock)() + SILENT).as_secs().to_string();
        let written = std::fs::create_dir_all(&self.folder)
            .and_then(|()| std::fs::write(self.folder.join(format!("{node}.silent")), until));
        if let Err(error) = written {
            tracing::debug!(%error, "it is not kept that a node is silent");
        }
    }

    /// Notes that it answers.
    pub(crate) fn answers(&self, node: &str) {
        std::fs::remove_file(self.folder.join(format!("{node}.silent"))).ok();
    }

    /// Whether a node did not answer a moment ago.
    pub(crate) fn is_silent(&self, node: &str) -> bool {
        let text = std::fs::read_to_string(self.folder.join(format!("{node}.silent"))).unwrap_or_default();
        let now = (self.clock)();
        // One from the future is of another clock.
        text.parse().is_ok_and(|until| now.as_secs() < until && until <= (now + SILENT).as_secs())
    }
}

/// Whether a build holds a file; one that nobody holds is removed.
fn is_held(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let is_free = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
    if is_free {
        std::fs::remove_file(path).ok();
    }
    !is_free
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn builds_are_counted_while_they_are_there_and_silence_ends() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let now: Arc<AtomicU64> = Arc::new(AtomicU64::new(1_000));
        let ticks = Arc::clone(&now);
        let clock: Clock = Arc::new(move || Duration::from_secs(ticks.load(Ordering::Relaxed)));
        let known = Known::new(folder.path().join("nodes"), clock);
        assert_eq!((known.count("a"), known.is_silent("a")), (0, false));
        let held = [known.hold("a").expect("holds"), known.hold("a").expect("holds")];
        let other = known.hold("b").expect("holds");
        // What a process left that died.
        std::fs::write(folder.path().join("nodes/a.dead.build"), "").expect("writes");
        assert_eq!((known.count("a"), known.count("b")), (2, 1));
        assert!(!folder.path().join("nodes/a.dead.build").exists());
        drop(held);
        drop(other);
        assert_eq!((known.count("a"), known.count("b")), (0, 0));
        known.is_silent_now("a");
        assert!(known.is_silent("a") && !known.is_silent("b"));
        now.store(1_000 + SILENT.as_secs(), Ordering::Relaxed);
        assert!(!known.is_silent("a"));
        now.store(10, Ordering::Relaxed);
        assert!(!known.is_silent("a"), "of another clock");
        now.store(1_000, Ordering::Relaxed);
        known.answers("a");
        assert!(!known.is_silent("a"));
    }
}
