//! Room under the cap: made before something is begun, and while it is written.
//!
//! In: a [`Policy`], once. Before a snapshot or a long blob, what is known to be occupied is added up (one query); where that and what the
//! latest snapshots needed might not fit, what is worth least goes. While snapshots are written a thread watches how the disk fills, and
//! looks at the whole when that matters: what a step writes is nobody's until it is committed. What a process leaves behind is
//! tidied by the process apart that also syncs ([`Store::is_tidying_due`]).
//! **Invariants:** a build is never refused for the cap, nor stopped: what it needs itself stays, and it is told if that is
//! more. Making room that fails is logged, and the disk's own limit still holds ([`Store::check_space`]).

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::collect::Goal;
use super::policy::{Disk, Policy};
use crate::database::from_sql;
use crate::error::Context as _;
use crate::sync::is_there;
use crate::{Result, Store};

/// How often the disk is looked at while something is written.
const WATCH_EVERY: Duration = Duration::from_millis(20);

/// Looking at everything may take one part of so many of a processor's time. Not of the time that passes: on a busy machine a look takes
/// long, and meanwhile others write.
const SHARE: u32 = 20;

/// Of so many snapshots the largest says what the next one may need.
const LATEST: u32 = 32;

/// Nothing is written faster than 2 GB a second.
const FASTEST_BYTES_PER_MS: u64 = 2_000_000;

/// The database's log grows to this before it is brought in.
const LOG_BYTES: u64 = 4 << 20;

/// At the latest after so long everything is looked at once more: what caches and repositories take shows only then.
const LOOK_EVERY_SECONDS: i64 = 15 * 60;

/// The same where there are ages, of which nothing else takes notice.
const LOOK_SOON_SECONDS: i64 = 60;

/// What a handle knows of the room that it may take.
#[derive(Default)]
pub(crate) struct Room {
    policy: OnceLock<Policy>,
    /// Snapshots of this handle that are being written.
    active: AtomicUsize,
    is_watched: AtomicBool,
    /// Before this, looking again brings nothing.
    rest_until: Mutex<Option<Instant>>,
    freed_bytes: AtomicU64,
    /// What was occupied at most when nothing more could go.
    beyond_bytes: AtomicU64,
}

/// What people should know of the cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpaceNote {
    /// For the first time in this state directory, things were removed to keep within it.
    FirstRemoval {
        /// How much.
        freed_bytes: u64,
        /// The cap.
        cap_bytes: u64,
    },
    /// This process needs more than it.
    Beyond {
        /// What is occupied.
        used_bytes: u64,
        /// The cap.
        cap_bytes: u64,
    },
}

impl Store {
    /// From now on things are removed to keep the state directory within `policy`. The first call counts.
    pub fn keep_within(&self, policy: Policy) {
        // A second one would be the same.
        let _first = self.inner.room.policy.set(policy);
    }

    /// Returns what is kept; nothing where nobody said.
    pub fn policy(&self) -> Option<&Policy> {
        self.inner.room.policy.get()
    }

    /// Returns how much the state directory may have, of which `used_bytes` are occupied.
    pub fn cap(&self, policy: &Policy, used_bytes: u64) -> Result<u64> {
        Ok(policy.cap(used_bytes, self.disk()?))
    }

    pub(super) fn disk(&self) -> Result<Disk> {
        let root = self.root();
        let disk = rustix::fs::statvfs(root).context("look at the file system of", root)?;
        Ok(Disk {
            size_bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
            free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
        })
    }

    /// Returns what people should know; each once.
    pub fn space_notes(&self) -> Result<Vec<SpaceNote>> {
        let room = &self.inner.room;
        let Some(policy) = room.policy.get() else { return Ok(Vec::new()) };
        let freed_bytes = room.freed_bytes.swap(0, Ordering::Relaxed);
        let used_bytes = room.beyond_bytes.swap(0, Ordering::Relaxed);
        let cap_bytes = self.cap(policy, self.occupied()?.unwrap_or(0))?;
        let mut notes = Vec::new();
        if freed_bytes > 0 && self.is_first_telling()? {
            notes.push(SpaceNote::FirstRemoval { freed_bytes, cap_bytes });
        }
        if used_bytes > cap_bytes {
            notes.push(SpaceNote::Beyond { used_bytes, cap_bytes });
        }
        Ok(notes)
    }

    /// Looks at the whole, and notes what it occupies.
    pub(crate) fn look_at_all(&self) -> Result<u64> {
        let bytes = super::measure::measure(self.root())?.all_bytes;
        self.set_occupied(bytes)?;
        Ok(bytes)
    }

    /// Makes room for what is begun now. What goes wrong is logged.
    pub(crate) fn admit(&self, wanted_bytes: u64) {
        if let Some(policy) = self.inner.room.policy.get()
            && let Err(error) = self.make_room(policy, wanted_bytes)
        {
            tracing::warn!(%error, "no room could be made");
        }
    }

    fn make_room(&self, policy: &Policy, wanted_bytes: u64) -> Result<()> {
        let taken_bytes = match self.occupied()? {
            Some(bytes) => bytes,
            None => self.look_at_all()?,
        };
        let used_bytes = taken_bytes.saturating_add(wanted_bytes);
        let cap_bytes = self.cap(policy, taken_bytes)?;
        // Most of the time there is far more than what is kept.
        if used_bytes <= cap_bytes / 4 * 3 {
            return Ok(());
        }
        let reserve_bytes = self.reserve()?.saturating_add(LOG_BYTES).min(cap_bytes / 4);
        if used_bytes.saturating_add(reserve_bytes) <= cap_bytes {
            return Ok(());
        }
        self.collect_now(policy, cap_bytes, wanted_bytes.saturating_add(reserve_bytes))
    }

    /// Returns what is yet to be written of what is being written, by anybody, judged by the latest.
    fn reserve(&self) -> Result<u64> {
        self.inner.database.read(|connection| {
            let largest: i64 = connection
                .prepare_cached(
                    "SELECT coalesce(max(size_bytes), 0) FROM
                     (SELECT size_bytes FROM snapshots WHERE state = 1 ORDER BY id DESC LIMIT ?)",
                )?
                .query_row([LATEST], |row| row.get(0))?;
            let active: i64 = connection
                .prepare_cached("SELECT count(*) FROM snapshots WHERE state <> 1")?
                .query_row([], |row| row.get(0))?;
            Ok(from_sql(largest).saturating_mul(from_sql(active).saturating_add(1)))
        })
    }

    /// Removes so much that `spare_bytes` fit under the cap; unless that was tried a moment ago.
    fn collect_now(&self, policy: &Policy, cap_bytes: u64, spare_bytes: u64) -> Result<()> {
        let room = &self.inner.room;
        let rest = || room.rest_until.lock().unwrap_or_else(PoisonError::into_inner);
        if rest().is_some_and(|until| Instant::now() < until) {
            return Ok(());
        }
        let begun = processor_time();
        // A little more than is asked for, so that the next one need not ask again.
        let most_bytes = cap_bytes.saturating_sub(spare_bytes).saturating_sub(cap_bytes / 32);
        let removed = self.collect(&Goal::Within { policy: policy.clone(), most_bytes })?;
        tracing::debug!(
            freed = removed.freed_bytes(),
            left = removed.left_bytes,
            cap = cap_bytes,
            "made room"
        );
        room.freed_bytes.fetch_add(removed.freed_bytes(), Ordering::Relaxed);
        if removed.left_bytes > cap_bytes {
            room.beyond_bytes.fetch_max(removed.left_bytes, Ordering::Relaxed);
        }
        if removed.left_bytes > most_bytes {
            // All that is left is needed: to look again brings nothing until somebody lets go.
            *rest() = Some(Instant::now() + pause_since(begun));
        }
        Ok(())
    }

    /// Notes that a snapshot is written from now on, and watches until none is.
    pub(crate) fn begin_writing(&self) {
        let room = &self.inner.room;
        room.active.fetch_add(1, Ordering::AcqRel);
        if room.policy.get().is_none() || room.is_watched.swap(true, Ordering::AcqRel) {
            return;
        }
        let inner = Arc::downgrade(&self.inner);
        let body = move || {
            let (mut looked, mut pause) = (Instant::now(), WATCH_EVERY);
            loop {
                std::thread::sleep(pause);
                let Some(inner) = inner.upgrade() else { return };
                let store = Self { inner };
                if store.inner.room.active.load(Ordering::Acquire) == 0 {
                    store.inner.room.is_watched.store(false, Ordering::Release);
                    return;
                }
                let (begun, now) = (processor_time(), Instant::now());
                match store.watch(looked.elapsed()) {
                    Ok(true) => looked = now,
                    Ok(false) => {}
                    Err(error) => tracing::warn!(%error, "it is not watched how the disk fills"),
                }
                pause = pause_since(begun);
            }
        };
        if let Err(error) = std::thread::Builder::new().name("rb-store-room".to_owned()).spawn(body) {
            room.is_watched.store(false, Ordering::Release);
            tracing::warn!(%error, "it is not watched how the disk fills");
        }
    }

    /// Notes that a snapshot is written no more.
    pub(crate) fn end_writing(&self) {
        let active = &self.inner.room.active;
        // One that was begun by an older handle is not counted here.
        let _unchanged = active.try_update(Ordering::AcqRel, Ordering::Acquire, |count| count.checked_sub(1));
    }

    /// Looks at the whole if what may have been written since the last look matters, and makes room. Says whether it looked.
    fn watch(&self, since: Duration) -> Result<bool> {
        let Some(policy) = self.inner.room.policy.get() else { return Ok(false) };
        let written_bytes =
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX).saturating_mul(FASTEST_BYTES_PER_MS);
        let used_bytes = self.occupied()?.unwrap_or(0);
        let cap_bytes = self.cap(policy, used_bytes)?;
        if used_bytes.saturating_add(written_bytes) <= cap_bytes / 4 * 3 {
            return Ok(false);
        }
        let measured_bytes = super::measure::measure(self.root())?.all_bytes;
        if measured_bytes > cap_bytes / 16 * 15 {
            self.collect_now(policy, cap_bytes, cap_bytes / 16)?;
        }
        Ok(true)
    }

    /// Says whether somebody should look at the whole when nobody waits: it was not done for long, or little room is left.
    pub fn is_tidying_due(&self) -> Result<bool> {
        let Some(policy) = self.inner.room.policy.get() else { return Ok(false) };
        let (Some(used_bytes), Some(looked_unix)) = (self.occupied()?, self.looked_unix()?) else {
            return Ok(true);
        };
        let mut kinds = policy.kinds.values();
        let every = match () {
            // What a kind has grown by shows only in the whole.
            () if kinds.clone().any(|bounds| bounds.max_size.is_some()) => 0,
            () if policy.max_age.is_some() || kinds.any(|bounds| bounds.max_age.is_some()) => {
                LOOK_SOON_SECONDS
            }
            () => LOOK_EVERY_SECONDS,
        };
        let is_old = self.now_unix().saturating_sub(looked_unix) >= every;
        Ok(is_old || used_bytes > self.cap(policy, used_bytes)? / 16 * 15)
    }

    /// Brings the state directory within its policy, and leaves room for what the latest snapshots needed.
    pub fn tidy(&self) -> Result<()> {
        let Some(policy) = self.inner.room.policy.get().filter(|_| self.is_tidying_due().unwrap_or(true))
        else {
            return Ok(());
        };
        let used_bytes = self.look_at_all()?;
        let cap_bytes = self.cap(policy, used_bytes)?;
        let reserve_bytes = self.reserve()?.saturating_add(LOG_BYTES).min(cap_bytes / 4);
        let most_bytes = cap_bytes.saturating_sub(reserve_bytes);
        self.collect(&Goal::Within { policy: policy.clone(), most_bytes }).map(drop)
    }
}

/// Returns how much of a processor this thread has had.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Returns how long not to look again after a look that began at this [`processor_time`].
fn pause_since(begun: Duration) -> Duration {
    (processor_time().saturating_sub(begun) * SHARE).max(WATCH_EVERY)
}

/// Brings the state directory at `root` within a policy, if one is `kept` and that is due. `directory` is it, open; where
/// another, or none, is in its place by now, nothing is done.
pub fn tidy_apart(root: &Path, directory: &File, kept: Option<Policy>) -> Result<()> {
    let Some(policy) = kept.filter(|_| is_there(root, directory)) else { return Ok(()) };
    let store = Store::open(root)?;
    store.keep_within(policy);
    store.tidy()
}

#[cfg(test)]
mod tests {
    use super::super::policy::Amount;
    use super::*;
    use crate::SnapshotId;

    fn small(cap_bytes: u64) -> Policy {
        Policy { max_size: Amount::Bytes(cap_bytes), ..Policy::default() }
    }

    fn commit(store: &Store, kilobytes: usize) -> SnapshotId {
        let id = store.new_snapshot(None).expect("starts");
        std::fs::write(store.snapshot_dir(id).join("fs/file"), vec![1; kilobytes * 1000]).expect("writes");
        store.commit_snapshot(id, kilobytes as u64 * 1000, None).expect("commits")
    }

    fn occupied(store: &Store) -> u64 {
        super::super::measure::measure(store.root()).expect("measures").all_bytes
    }

    /// Waits, on a busy machine for long: files of what is no longer known go a moment later, and what a store holds that was
    /// dropped is free once its last thread is gone. In between `again` is done.
    fn wait_until_within(store: &Store, cap_bytes: u64, again: impl Fn()) {
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while occupied(store) > cap_bytes {
            assert!(std::time::Instant::now() < end, "{} bytes", occupied(store));
            std::thread::sleep(Duration::from_millis(5));
            again();
        }
    }

    #[test]
    fn room_is_made_before_it_is_taken() {
        const CAP: u64 = 40_000_000;
        let root = tempfile::tempdir().expect("temp dir");
        for round in 0..30 {
            let store = Store::open(root.path()).expect("opens");
            store.keep_within(small(CAP));
            for _ in 0..2 {
                commit(&store, 3000);
                let used = occupied(&store);
                assert!(used <= CAP, "round {round}: {used}");
            }
        }
        let store = Store::open(root.path()).expect("opens");
        store.keep_within(small(CAP));
        assert!(store.snapshots().expect("reads").len() > 5, "what fits is kept");
        for _ in 0..12 {
            commit(&store, 3000);
        }
        let notes = store.space_notes().expect("says");
        let first = SpaceNote::FirstRemoval { freed_bytes: 0, cap_bytes: CAP };
        assert!(
            matches!(
                (notes.first(), first),
                (Some(SpaceNote::FirstRemoval { freed_bytes: 1.., cap_bytes: CAP }), _)
            ),
            "{notes:?}"
        );
        assert_eq!(store.space_notes().expect("says"), []);
    }

    #[test]
    fn one_that_needs_more_by_itself_goes_on_and_is_told() {
        let root = tempfile::tempdir().expect("temp dir");
        let store = Store::open(root.path()).expect("opens");
        store.keep_within(small(1_000_000));
        for _ in 0..8 {
            commit(&store, 300);
            // What is tried too often brings nothing: here each try is to be made.
            *store.inner.room.rest_until.lock().expect("is whole") = None;
        }
        assert_eq!(store.snapshots().expect("reads").len(), 8);
        let notes = store.space_notes().expect("says");
        assert!(
            notes
                .iter()
                .any(|note| matches!(note, SpaceNote::Beyond { used_bytes, .. } if *used_bytes > 1_000_000)),
            "{notes:?}"
        );
        drop(store);
        let store = Store::open(root.path()).expect("opens");
        store.keep_within(small(1_000_000));
        assert!(store.is_tidying_due().expect("asks"));
        store.tidy().expect("tidies");
        wait_until_within(&store, 1_000_000, || store.tidy().expect("tidies"));
        assert!(!store.is_tidying_due().expect("asks"));
    }

    #[test]
    fn what_is_written_is_seen_before_it_is_committed() {
        const CAP: u64 = 40_000_000;
        let root = tempfile::tempdir().expect("temp dir");
        let old = Store::open(root.path()).expect("opens");
        let last = commit(&old, 20_000);
        drop(old);
        let store = Store::open(root.path()).expect("opens");
        store.keep_within(small(CAP));
        let id = store.new_snapshot(None).expect("starts");
        let path = store.snapshot_dir(id).join("fs/file");
        std::fs::write(path, vec![1; 30_000_000]).expect("writes");
        // Nobody waits for the watcher but this test.
        while store.snapshot(last).expect("reads").is_some() {
            std::thread::sleep(Duration::from_millis(1));
        }
        wait_until_within(&store, CAP, || {});
    }

    #[test]
    fn what_a_kind_has_grown_by_is_looked_at_after_every_build() {
        use super::super::items::Kind;
        use super::super::policy::Bounds;
        let root = tempfile::tempdir().expect("temp dir");
        commit(&Store::open(root.path()).expect("opens"), 300);
        let caches = root.path().join("caches/ab/empty/common");
        std::fs::create_dir_all(&caches).expect("makes");
        std::fs::write(caches.join("file"), vec![1; 300_000]).expect("writes");
        let bounds = Bounds { max_size: Some(Amount::Bytes(100_000)), max_age: None };
        let kinds = [(Kind::Mounts, bounds)].into();
        let store = Store::open(root.path()).expect("opens");
        store.keep_within(Policy { kinds, ..Policy::default() });
        store.look_at_all().expect("looks");
        assert!(store.is_tidying_due().expect("asks"), "although that was a moment ago");
        store.tidy().expect("tidies");
        assert!(!caches.exists() && store.snapshots().expect("reads").len() == 1);
    }

    #[test]
    fn an_unknown_or_old_state_directory_is_looked_at() {
        let root = tempfile::tempdir().expect("temp dir");
        let store = Store::open(root.path()).expect("opens");
        assert!(!store.is_tidying_due().expect("asks"), "nobody said what to keep");
        store.keep_within(Policy::default());
        assert!(!store.is_tidying_due().expect("asks"), "a new one is known");
        store.set_occupied(0).expect("notes");
        store
            .inner
            .database
            .write(|transaction| Ok(transaction.execute("DELETE FROM meta WHERE name = 'space'", [])?))
            .expect("forgets");
        assert!(store.is_tidying_due().expect("asks"));
        store.tidy().expect("looks");
        assert!(store.occupied().expect("reads").is_some_and(|bytes| bytes > 0));
    }
}
