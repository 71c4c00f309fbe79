//! A list of all that the state directory holds: how big, who needs it, when it was used, what it took.
//!
//! In: sizes, rows, leases, locks. Out: [`Entry`]s. Others may be at work meanwhile: it is true of the moment at which each thing
//! was looked at, so who removes something asks once more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::path::Path;

use rb_oci::Digest;

use super::holders::{Holder, Holders};
use super::items::{Item, Kind};
use super::measure::{Size, measure};
use super::uses::Use;
use super::worth::Weighed;
use crate::leases::{Place, Remover};
use crate::{FAILURE_KEPT, Result, SnapshotId, SnapshotState, Store, living, logs};

/// A piece, and why it is there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// What its removal frees.
    pub own_bytes: u64,
    /// What other pieces link too, counted with the first of them.
    pub shared_bytes: u64,
    /// What is known of it: the id of a cache mount, the address of a repository.
    pub about: Option<String>,
    /// When it was used last, in seconds since 1970.
    pub used_unix: i64,
    /// How many processes used it.
    pub uses: u64,
    /// What it takes to make it again.
    pub cost_ms: u64,
    /// That was measured as it was made, and not guessed from its size.
    pub is_measured: bool,
    /// A process needs it just now, or it is kept for what failed or was built last.
    pub in_use: bool,
    /// Those processes that need it, as far as they can be told.
    pub holders: Vec<Holder>,
    /// A step that failed left it, and is kept for a while.
    pub is_of_failure: bool,
    /// Somebody pinned it.
    pub is_pinned: bool,
    /// Named images that need it.
    pub images: Vec<String>,
    /// The layer that it stands on.
    pub parent: Option<SnapshotId>,
    /// How many layers stand on it.
    pub children: u64,
    /// What the last removed piece was worth when this one was used last.
    pub base: f64,
}

impl Entry {
    /// Says whether it stays, whatever else has to go.
    pub fn stays(&self) -> bool {
        self.in_use || self.is_pinned || !self.images.is_empty()
    }
}

/// All that is there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inventory {
    /// The pieces.
    pub entries: BTreeMap<Item, Entry>,
    /// All that the state directory occupies.
    pub all_bytes: u64,
}

impl Inventory {
    /// Returns what all pieces of a kind occupy.
    pub fn bytes_of(&self, kind: Kind) -> u64 {
        let of_kind = self.entries.iter().filter(|(item, _)| item.kind() == kind);
        of_kind.map(|(_, entry)| entry.own_bytes.saturating_add(entry.shared_bytes)).sum()
    }

    /// Weighs the pieces, in their order; those that `may_go` does not name stay.
    pub(crate) fn weighed(&self, may_go: impl Fn(&Item, &Entry) -> bool) -> Vec<Weighed> {
        let places: BTreeMap<&Item, usize> =
            self.entries.keys().enumerate().map(|(place, item)| (item, place)).collect();
        let weigh = |(item, entry): (&Item, &Entry)| Weighed {
            bytes: entry.own_bytes,
            cost_ms: entry.cost_ms,
            uses: entry.uses,
            base: entry.base,
            parent: entry.parent.and_then(|id| places.get(&Item::Layer(id)).copied()),
            stays: entry.stays() || !may_go(item, entry),
        };
        self.entries.iter().map(weigh).collect()
    }

    /// Returns the pieces that `goes` names and that may go, what stands on others before these; nothing under what stays.
    pub(crate) fn all_that(&self, goes: impl Fn(&Item, &Entry) -> bool) -> Vec<Item> {
        let mut kept_under: BTreeSet<SnapshotId> = BTreeSet::new();
        let mut going = Vec::new();
        // Layers have larger ids than those that they stand on.
        for (item, entry) in self.entries.iter().rev() {
            let is_under = matches!(item, Item::Layer(id) if kept_under.contains(id));
            if entry.stays() || is_under || !goes(item, entry) {
                kept_under.extend(entry.parent);
            } else {
                going.push(item.clone());
            }
        }
        going
    }
}

impl Store {
    /// Looks at everything. Costs a look at each file of the state directory.
    pub fn inventory(&self) -> Result<Inventory> {
        self.note_uses()?;
        let sizes = measure(self.root())?;
        let remover = Remover::open(self.root())?;
        let uses = self.uses()?;
        let pins: BTreeSet<Item> = self.pins()?.into_iter().collect();
        let images = self.image_blobs()?;
        let rows: BTreeMap<SnapshotId, _> = self.snapshots()?.into_iter().map(|row| (row.id, row)).collect();
        let mut children: BTreeMap<SnapshotId, u64> = BTreeMap::new();
        for parent in rows.values().filter_map(|row| row.parent) {
            *children.entry(parent).or_default() += 1;
        }
        let failed = self.failed_snapshots()?;
        let newest_log = logs(self.root())?.into_iter().next().map(|logs| logs.name);
        let alive: Vec<String> = living(self.root())?.into_iter().map(|process| process.name).collect();
        let (holders, owners) = (Holders::look(self.root())?, self.owners()?);
        let mut entries = BTreeMap::new();
        for (item, size) in sizes.items {
            let mut entry = entry(&item, size, uses.get(&item));
            entry.is_pinned = pins.contains(&item);
            match &item {
                Item::Layer(id) => {
                    let row = rows.get(id);
                    let is_kept = row.is_some_and(|row| row.state == SnapshotState::Committed);
                    entry.is_of_failure = failed.contains(id);
                    let is_held = entry.is_of_failure || remover.is_held(Place::Snapshot(*id))?;
                    entry.in_use = !is_kept || is_held;
                    entry.holders = holders.of_place(Place::Snapshot(*id));
                    if let Some(owner) = owners.get(id).filter(|_| !is_kept) {
                        entry.holders = holders.named(owner);
                    }
                    entry.parent = row.and_then(|row| row.parent);
                    entry.children = children.get(id).copied().unwrap_or(0);
                }
                Item::Blob(digest) => {
                    entry.in_use = remover.is_held(Place::Blob(*digest))?;
                    entry.holders = holders.of_place(Place::Blob(*digest));
                    entry.images = images.get(digest).cloned().unwrap_or_default();
                }
                Item::Mount(path) => {
                    let directory = self.caches_dir().join(path);
                    (entry.in_use, entry.holders) = locked(&holders, &with_ending(&directory, "lock"));
                    entry.about =
                        directory.ancestors().nth(2).and_then(|folder| first_line(&folder.join("name")));
                }
                Item::Git(name) => {
                    let directory = self.root().join("git").join(name);
                    (entry.in_use, entry.holders) = locked(&holders, &with_ending(&directory, "lock"));
                    entry.about = first_line(&directory.join("description"));
                }
                Item::Log(name) => {
                    let process = name.split_once('-').map_or("", |(_, process)| process);
                    entry.in_use =
                        Some(name) == newest_log.as_ref() || alive.iter().any(|name| name == process);
                    entry.holders = holders.named(process);
                }
                Item::Download(name) => {
                    let file = self.root().join(crate::partial::FOLDER).join(name);
                    (entry.in_use, entry.holders) = locked(&holders, &file);
                }
            }
            entries.insert(item, entry);
        }
        Ok(Inventory { entries, all_bytes: sizes.all_bytes })
    }

    /// Returns the snapshots that are kept for who looks at a step that failed.
    pub(crate) fn failed_snapshots(&self) -> Result<BTreeSet<SnapshotId>> {
        let kept = i64::try_from(FAILURE_KEPT.as_secs()).unwrap_or(i64::MAX);
        let since = self.now_unix().saturating_sub(kept);
        self.inner.database.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT snapshot FROM failure_snapshots JOIN failures ON failures.id = failure WHERE failed_unix > ?",
            )?;
            let rows = query.query_map([since], |row| Ok(SnapshotId::from_sql(row.get(0)?)))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Returns of each snapshot that is being written, or removed, whose it is.
    fn owners(&self) -> Result<BTreeMap<SnapshotId, String>> {
        self.inner.database.read(|connection| {
            let mut query =
                connection.prepare_cached("SELECT id, owner FROM snapshots WHERE owner IS NOT NULL")?;
            let rows = query.query_map([], |row| Ok((SnapshotId::from_sql(row.get(0)?), row.get(1)?)))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Returns the blobs that named images need, with their names.
    pub(crate) fn image_blobs(&self) -> Result<BTreeMap<Digest, Vec<String>>> {
        let mut all: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
        for image in self.images()? {
            for digest in self.blobs_of(&image.descriptor)? {
                all.entry(digest).or_default().push(image.name.clone());
            }
        }
        Ok(all)
    }
}

fn entry(item: &Item, size: Size, used: Option<&Use>) -> Entry {
    let Size { own_bytes, shared_bytes, modified_unix } = size;
    let measured_ms = used.map_or(0, |used| used.cost_ms);
    let guessed_ms = own_bytes / 1_000_000 * milliseconds_of_a_megabyte(item.kind());
    Entry {
        own_bytes,
        shared_bytes,
        used_unix: used.map_or(modified_unix, |used| used.used_unix),
        uses: used.map_or(1, |used| used.uses),
        cost_ms: if measured_ms > 0 { measured_ms } else { guessed_ms },
        is_measured: measured_ms > 0,
        base: used.map_or(0.0, |used| used.base),
        ..Entry::default()
    }
}

/// What it may take to make a megabyte again of which nobody measured it.
fn milliseconds_of_a_megabyte(kind: Kind) -> u64 {
    match kind {
        Kind::Layers => 20,
        // Packed, or fetched.
        Kind::Blobs | Kind::Git => 50,
        // What tools fill them with takes them longest.
        Kind::Mounts => 100,
        // Nobody waits for these.
        Kind::Logs | Kind::Downloads => 1,
    }
}

/// Returns the file beside a directory.
pub(crate) fn with_ending(directory: &Path, ending: &str) -> std::path::PathBuf {
    let mut name = directory.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// Says whether somebody has a file locked, shared or not. What is not there is not locked.
fn is_locked(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// Says whether somebody has a file locked, and who.
fn locked(holders: &Holders, path: &Path) -> (bool, Vec<Holder>) {
    (is_locked(path), holders.of_file(path))
}

fn first_line(path: &Path) -> Option<String> {
    const LONGEST: usize = 200;
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().next()?.trim();
    let plain: String = line.chars().filter(|letter| !letter.is_control()).take(LONGEST).collect();
    (!plain.is_empty()).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(store: &Store, parent: Option<SnapshotId>, bytes: usize) -> SnapshotId {
        let id = store.new_snapshot(parent).expect("starts");
        fs::write(store.snapshot_dir(id).join("fs/file"), vec![1; bytes]).expect("writes");
        store.commit_snapshot(id, bytes as u64, None).expect("commits")
    }

    #[test]
    fn everything_is_listed_with_why_it_stays() {
        let root = tempfile::tempdir().expect("temp dir");
        let store = Store::open(root.path()).expect("opens");
        let base = commit(&store, None, 100_000);
        let top = commit(&store, Some(base), 200_000);
        let blob = store.put_blob(&[3; 50_000]).expect("puts");
        fs::create_dir_all(root.path().join("caches/ab/empty/common")).expect("makes");
        fs::write(root.path().join("caches/ab/name"), "cargo\n").expect("writes");
        fs::write(root.path().join("caches/ab/empty/common.lock"), "").expect("writes");
        let mount = Item::Mount("ab/empty/common".to_owned());
        store.pin(&mount).expect("pins");
        let seen = store.inventory().expect("looks");
        let of = |item: &Item| seen.entries.get(item).cloned().expect("is listed");
        assert!(of(&Item::Layer(top)).in_use && of(&Item::Blob(blob)).in_use, "this handle has them");
        assert_eq!((of(&Item::Layer(top)).parent, of(&Item::Layer(base)).children), (Some(base), 1));
        assert!(of(&Item::Layer(top)).own_bytes >= 200_000);
        assert_eq!((of(&mount).about.as_deref(), of(&mount).is_pinned), (Some("cargo"), true));
        assert!(seen.all_bytes > 350_000 && seen.bytes_of(Kind::Layers) >= 300_000);
        drop(store);

        let store = Store::open(root.path()).expect("opens");
        let held = File::open(root.path().join("caches/ab/empty/common.lock")).expect("opens");
        held.lock_shared().expect("locks");
        store.unpin(&mount).expect("takes");
        let seen = store.inventory().expect("looks");
        let stays = |item: &Item| seen.entries.get(item).expect("is listed").stays();
        assert!(!stays(&Item::Layer(top)) && !stays(&Item::Blob(blob)) && stays(&mount));
        assert_eq!(seen.all_that(|_, _| true), [Item::Blob(blob), Item::Layer(top), Item::Layer(base)]);
        assert_eq!(seen.all_that(|item, _| *item != Item::Layer(top)), [Item::Blob(blob)]);
    }
}
