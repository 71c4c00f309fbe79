//! Removing what is worth least, until what is left is little enough; and what people ask to be removed.
//!
//! In: a [`Goal`]. Out: what went. One process at a time decides what goes; each piece is had alone while it is taken out of
//! sight by one rename, and what somebody needs is passed over.
//! **Invariants:** nothing goes that a process holds, that somebody pinned or a named image needs, nor what stands under that. A process that is
//! killed on the way leaves what the next start removes: a row that says so, and things in `tmp/` of its name. A record that goes
//! leaves a tombstone.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

use super::inventory::{Entry, Inventory, with_ending};
use super::items::{Item, Kind};
use super::policy::Policy;
use super::worth::choose;
use crate::error::Context as _;
use crate::folder::named_entries;
use crate::leases::{Place, Remover};
use crate::tombstones::GoneReason;
use crate::{Result, Store, StoreError};

/// So often what is left is looked at again, where less was freed than thought.
const ROUNDS: usize = 4;

/// What is to be reached.
#[derive(Clone, Debug)]
pub(crate) enum Goal {
    /// No more than the policy wants, in all and of each kind, and no more than so many bytes.
    Within {
        /// What is wanted.
        policy: Policy,
        /// The bytes in all.
        most_bytes: u64,
    },
    /// What somebody asked for.
    Asked(Prune),
}

/// What somebody wants removed: all that is named by all that is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prune {
    /// Of these kinds.
    pub kinds: Vec<Kind>,
    /// These alone, if any are named.
    pub items: Vec<Item>,
    /// What was not used for so long.
    pub unused_for: Option<Duration>,
    /// No more than needed so that this is left in all; what is worth least goes.
    pub keep_bytes: Option<u64>,
    /// Only say what would go.
    pub dry_run: bool,
}

/// What went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The pieces and their sizes, in the order in which they went.
    pub items: Vec<(Item, u64)>,
    /// What is left.
    pub left_bytes: u64,
}

impl Removed {
    /// Returns what was freed.
    pub fn freed_bytes(&self) -> u64 {
        self.items.iter().map(|(_, bytes)| bytes).sum()
    }
}

impl Store {
    /// Removes what somebody asked for. Waits for another who removes things.
    pub fn prune(&self, wanted: Prune) -> Result<Removed> {
        self.collect(&Goal::Asked(wanted))
    }

    /// Removes things until the goal is reached, or nothing is left that may go.
    pub(crate) fn collect(&self, goal: &Goal) -> Result<Removed> {
        let remover = Remover::open(self.root())?;
        let _turn = remover.alone(Place::Collecting)?;
        let mut done = Removed::default();
        for _ in 0..ROUNDS {
            let seen = self.inventory()?;
            let (going, floor) = going(&seen, goal, self.now_unix(), self.floor()?);
            done.left_bytes = seen.all_bytes;
            let mut gone = Vec::new();
            let is_dry = matches!(goal, Goal::Asked(Prune { dry_run: true, .. }));
            let mut pins: BTreeSet<Item> = self.pins()?.into_iter().collect();
            for (item, reason) in going {
                let bytes = seen.entries.get(&item).map_or(0, |entry| entry.own_bytes);
                // Nobody is kept from pinning meanwhile.
                if !is_dry {
                    pins.extend(self.pins()?);
                }
                if is_dry || (!pins.contains(&item) && self.remove_piece(&remover, &item, reason)?) {
                    done.left_bytes = done.left_bytes.saturating_sub(bytes);
                    done.items.push((item.clone(), bytes));
                    gone.push(item);
                }
            }
            if is_dry {
                return Ok(done);
            }
            self.forget_uses(&gone, floor)?;
            self.set_occupied(done.left_bytes)?;
            let is_enough = match goal {
                Goal::Within { most_bytes, .. } => done.left_bytes <= *most_bytes,
                Goal::Asked(Prune { keep_bytes, .. }) => {
                    keep_bytes.is_none_or(|most| done.left_bytes <= most)
                }
            };
            // What is linked from several pieces goes with the last of them: that shows when it is looked at again.
            if gone.is_empty() || is_enough {
                break;
            }
        }
        Ok(done)
    }

    /// Removes a piece, if nobody needs it.
    fn remove_piece(&self, remover: &Remover, item: &Item, reason: GoneReason) -> Result<bool> {
        match item {
            Item::Layer(id) => {
                let Some(_alone) = remover.try_alone(Place::Snapshot(*id))? else { return Ok(false) };
                // A process that had it may have ended meanwhile, and kept it for who looks at a step that failed.
                if self.failed_snapshots()?.contains(id) {
                    return Ok(false);
                }
                match self.delete_snapshot_for(*id, reason) {
                    // Somebody builds on it, or writes it.
                    Err(StoreError::HasChildren { .. } | StoreError::NotActive(_)) => Ok(false),
                    removed => removed,
                }
            }
            Item::Blob(digest) => {
                let Some(_alone) = remover.try_alone(Place::Blob(*digest))? else { return Ok(false) };
                // An image may have got its name since, and who gave it needs its blobs no more.
                if self.image_blobs()?.contains_key(digest) {
                    return Ok(false);
                }
                match self.remove_blob(digest) {
                    Err(StoreError::BlobInUse { .. }) => Ok(false),
                    removed => removed,
                }
            }
            Item::Mount(path) => {
                let directory = self.caches_dir().join(path);
                let turn = directory.with_file_name("common.turn");
                let Some(_turn) = take(&turn)? else { return Ok(false) };
                let Some(_lock) = take(&with_ending(&directory, "lock"))? else { return Ok(false) };
                self.take_away(&directory)?;
                self.forget_beside(&directory)?;
                Ok(true)
            }
            Item::Git(name) => {
                let directory = self.root().join("git").join(name);
                let Some(_lock) = take(&with_ending(&directory, "lock"))? else { return Ok(false) };
                self.take_away(&directory)?;
                Ok(true)
            }
            Item::Log(name) => {
                self.take_away(&self.logs_dir().join(name))?;
                crate::remove_build(self.root(), &format!("{name}.json"))?;
                Ok(true)
            }
            Item::Download(name) => {
                Ok(crate::partial::remove(&self.root().join(crate::partial::FOLDER).join(name)))
            }
        }
    }

    /// Removes what is remembered of the files of a cache, which is gone. Locks stay.
    fn forget_beside(&self, directory: &std::path::Path) -> Result<()> {
        let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        for (beside, entry) in named_entries(directory.parent().unwrap_or(directory))? {
            let ending = beside.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'));
            if ending.is_some_and(|ending| !["lock", "turn"].contains(&ending)) {
                self.remove_tree(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes a tree so that nobody sees a part of it.
    fn take_away(&self, path: &std::path::Path) -> Result<()> {
        let mine: PathBuf = self.temp_path();
        match fs::rename(path, &mine) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(StoreError::io("rename", path, source)),
            Ok(()) => self.remove_tree(&mine),
        }
    }
}

/// Takes the lock of a file alone; none where somebody has it. A file that is not there excludes nobody yet.
fn take(path: &std::path::Path) -> Result<Option<Option<File>>> {
    let file = match File::options().write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Some(None)),
        Err(source) => return Err(StoreError::io("open", path, source)),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(Some(file))),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(source)) => Err(source).context("lock", path),
    }
}

/// Pieces that are to go, in order, each with why.
type Going = Vec<(Item, GoneReason)>;

/// Says what is to go, and what the last of it was worth.
fn going(seen: &Inventory, goal: &Goal, now_unix: i64, floor: f64) -> (Going, f64) {
    match goal {
        Goal::Within { policy, most_bytes } => within(seen, policy, *most_bytes, now_unix, floor),
        Goal::Asked(wanted) => {
            let goes = |item: &Item, entry: &Entry| wanted.names(item, entry, now_unix);
            let items = match wanted.keep_bytes {
                None => seen.all_that(goes),
                // People who clean up say nothing of what later ones are worth.
                Some(most) => least(seen, seen.all_bytes.saturating_sub(most), floor, goes).0,
            };
            (items.into_iter().map(|item| (item, GoneReason::Pruned)).collect(), floor)
        }
    }
}

impl Prune {
    fn names(&self, item: &Item, entry: &Entry, now_unix: i64) -> bool {
        let is_old = self.unused_for.is_none_or(|age| is_older(entry, age, now_unix));
        let is_named =
            if self.items.is_empty() { self.kinds.contains(&item.kind()) } else { self.items.contains(item) };
        is_old && is_named
    }
}

fn is_older(entry: &Entry, age: Duration, now_unix: i64) -> bool {
    u64::try_from(now_unix.saturating_sub(entry.used_unix)).is_ok_and(|unused| unused >= age.as_secs())
}

/// Chooses what is worth least of what may go.
fn least(
    seen: &Inventory,
    need_bytes: u64,
    floor: f64,
    may_go: impl Fn(&Item, &Entry) -> bool,
) -> (Vec<Item>, f64) {
    let (places, floor) = choose(&seen.weighed(may_go), need_bytes, floor);
    let items: Vec<&Item> = seen.entries.keys().collect();
    (places.into_iter().filter_map(|place| items.get(place).map(|item| Item::clone(item))).collect(), floor)
}

/// Ages first, then the bounds of kinds, then the whole.
fn within(seen: &Inventory, policy: &Policy, most_bytes: u64, now_unix: i64, mut floor: f64) -> (Going, f64) {
    let mut left = seen.clone();
    let mut all: Going = Vec::new();
    let mut leave = |left: &mut Inventory, items: Vec<Item>, reason| {
        for item in items {
            if let Some(entry) = left.entries.remove(&item) {
                left.all_bytes = left.all_bytes.saturating_sub(entry.own_bytes);
                all.push((item, reason));
            }
        }
    };
    let old = left.all_that(|item, entry| {
        policy.max_age(item.kind()).is_some_and(|age| is_older(entry, age, now_unix))
    });
    leave(&mut left, old, GoneReason::Age);
    for (kind, bounds) in &policy.kinds {
        let Some(most) = bounds.max_size else { continue };
        let need = left.bytes_of(*kind).saturating_sub(most.of(most_bytes));
        let (items, _) = least(&left, need, floor, |item, _| item.kind() == *kind);
        leave(&mut left, items, GoneReason::Quota);
    }
    let need = left.all_bytes.saturating_sub(most_bytes);
    let (items, worth) = least(&left, need, floor, |_, _| true);
    floor = floor.max(worth);
    leave(&mut left, items, GoneReason::Cap);
    (all, floor)
}

#[cfg(test)]
mod tests;
