//! Everything read and compared with what it should be; what is not that is dropped, and so made again.
//!
//! Blobs are hashed. Whether a snapshot still has the content of its key is the caller's knowledge: it defines these keys.
//! Costs as much as reading the whole state directory; nothing on a build's way calls it. Others may build meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use rb_oci::Digest;

use crate::error::Context as _;
use crate::lost::{Looked, shows_damage};
use crate::tombstones::GoneReason;
use crate::{Result, SnapshotId, SnapshotRow, SnapshotState, Store, StoreError};

/// What a pass over the store found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Blobs that were read.
    pub blobs: usize,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Those among them that were damaged, with their size; they are gone.
    pub damaged_blobs: Vec<(Digest, u64)>,
    /// Committed snapshots that were looked at.
    pub snapshots: usize,
    /// What their own files occupied when they were committed.
    pub snapshot_bytes: u64,
    /// Those among them of which it is not known what they should be.
    pub unknown_snapshots: usize,
    /// Those among them that were lost or changed; they are gone with all that was built on them.
    pub bad_snapshots: Vec<BadSnapshot>,
}

/// A snapshot that was not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSnapshot {
    /// Its name.
    pub id: SnapshotId,
    /// What was wrong.
    pub reason: GoneReason,
    /// What its own files occupied when it was committed.
    pub size_bytes: u64,
    /// How many were built on it, and dropped with it.
    pub children: usize,
    /// What they occupied.
    pub children_bytes: u64,
}

/// What the caller of [`Store::verify`] knows of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// Its files are those of its key.
    True,
    /// They are not.
    False,
    /// It is not recorded what they should be.
    Unknown,
}

/// How far [`Store::verify`] is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What was read of snapshots and blobs.
    pub read_bytes: u64,
    /// What there was to read when it began.
    pub all_bytes: u64,
}

impl Verified {
    /// Says whether nothing was damaged.
    pub fn is_sound(&self) -> bool {
        self.damaged_blobs.is_empty() && self.bad_snapshots.is_empty()
    }
}

impl Store {
    /// Reads the database, each committed snapshot through `compare`, and each blob; snapshots come before those that build
    /// on them. A damaged database is an error; it is put aside by the next open.
    pub fn verify<E: From<StoreError>>(
        &self,
        compare: &mut dyn FnMut(&SnapshotRow) -> Result<Truth, E>,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Verified, E> {
        self.inner.database.check()?;
        let mut found = Verified::default();
        let rows = self.snapshots()?;
        let sizes: BTreeMap<SnapshotId, u64> = rows.iter().map(|row| (row.id, row.size_bytes)).collect();
        let blobs = self.blobs()?;
        let all_bytes = sizes.values().chain(blobs.iter().map(|(_, size_bytes)| size_bytes)).sum();
        let mut progress = Progress { read_bytes: 0, all_bytes };
        for SnapshotRow { id, size_bytes, .. } in rows {
            tell(progress);
            progress.read_bytes += size_bytes;
            // One that went with its parent is gone by now, or hidden.
            let Some(row) = self.committed(id)?.filter(|row| row.content_key.is_some()) else { continue };
            found.snapshots += 1;
            found.snapshot_bytes += size_bytes;
            let reason = match self.look_at(id)? {
                Looked::Whole => match compare(&row)? {
                    Truth::True => continue,
                    Truth::Unknown => {
                        found.unknown_snapshots += 1;
                        continue;
                    }
                    Truth::False => GoneReason::Corrupt,
                },
                // What is under it was looked at, and is bad only if it became so meanwhile: then both are dropped.
                Looked::Bad(bad, reason) if bad == id => reason,
                Looked::Bad(bad, reason) => {
                    self.forget_bad(bad, reason)?;
                    reason
                }
                Looked::Unknown => continue,
            };
            if self.committed(id)?.is_none() {
                continue; // another process removed it while it was read
            }
            let gone = self.forget_bad(id, reason)?;
            let children = gone.iter().filter(|gone| **gone != id);
            found.bad_snapshots.push(BadSnapshot {
                id,
                reason,
                size_bytes,
                children: children.clone().count(),
                children_bytes: children.filter_map(|child| sizes.get(child)).sum(),
            });
        }
        for (digest, size_bytes) in blobs {
            tell(progress);
            progress.read_bytes += size_bytes;
            let mut reader = match self.blob_reader(&digest) {
                Err(StoreError::UnknownBlob(_)) => continue, // removed meanwhile
                reader => reader?,
            };
            found.blobs += 1;
            found.blob_bytes += size_bytes;
            match io::copy(&mut reader, &mut io::sink()) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    found.damaged_blobs.push((digest, size_bytes));
                }
                Err(error) => {
                    let path = self.blob_path(&digest);
                    if !shows_damage(&error) {
                        return Err(StoreError::io("read", &path, error).into());
                    }
                    // The disk itself gives no bytes for it any more.
                    fs::remove_file(&path).context("remove", &path)?;
                    found.damaged_blobs.push((digest, size_bytes));
                }
            }
        }
        tell(progress);
        Ok(found)
    }

    fn committed(&self, id: SnapshotId) -> Result<Option<SnapshotRow>> {
        Ok(self.snapshot(id)?.filter(|row| row.state == SnapshotState::Committed))
    }

    /// Returns all blobs with their sizes, sorted.
    fn blobs(&self) -> Result<Vec<(Digest, u64)>> {
        let directory = self.root().join("blobs/sha256");
        let mut blobs = Vec::new();
        for entry in fs::read_dir(&directory).context("list", &directory)? {
            let name = entry.context("list", &directory)?.file_name();
            let digest = name.to_str().and_then(|name| format!("sha256:{name}").parse::<Digest>().ok());
            let Some(digest) = digest else { continue };
            blobs.extend(self.stored_size(&digest)?.map(|size_bytes| (digest, size_bytes)));
        }
        blobs.sort_unstable();
        Ok(blobs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of these snapshots is the digest of their one file.
    fn compare(store: &Store) -> impl FnMut(&SnapshotRow) -> Result<Truth> {
        move |row| {
            let text = fs::read(store.snapshot_dir(row.id).join("fs/file"));
            let is_true = text.is_ok_and(|text| Some(*Digest::of(&text).as_bytes()) == row.content_key);
            Ok(if is_true { Truth::True } else { Truth::False })
        }
    }

    fn verify(store: &Store) -> Verified {
        let mut told = Progress::default();
        let found = store.verify(&mut compare(store), &mut |progress| told = progress).expect("reads");
        assert_eq!(told.read_bytes, told.all_bytes);
        found
    }

    fn commit(store: &Store, parent: Option<SnapshotId>, text: &str) -> SnapshotId {
        let id = store.new_snapshot(parent).expect("starts");
        fs::write(store.snapshot_dir(id).join("fs/file"), text).expect("writes");
        let key = Digest::of(text);
        let id = store.commit_snapshot(id, 10, Some(*key.as_bytes())).expect("commits");
        store.put_record(&key, b"v", &[id]).expect("puts");
        id
    }

    fn flip(path: &std::path::Path) {
        let mut bytes = fs::read(path).expect("reads");
        bytes[0] ^= 1;
        fs::write(path, bytes).expect("writes");
    }

    #[test]
    fn a_flipped_bit_is_found_and_what_it_touched_is_made_again() {
        let root = tempfile::tempdir().expect("temp dir");
        let store = Store::open(root.path()).expect("opens");
        let base = commit(&store, None, "base");
        let (bad, good) = (commit(&store, Some(base), "bad"), commit(&store, Some(base), "good"));
        commit(&store, Some(bad), "child");
        let lost = commit(&store, None, "lost");
        let blobs = [b"one", b"two"].map(|bytes| store.put_blob(bytes).expect("puts"));
        assert!(store.record(&Digest::of("child")).expect("reads").is_some());
        let all = |snapshots: usize| Verified {
            blobs: 2,
            blob_bytes: 6,
            snapshots,
            snapshot_bytes: 10 * snapshots as u64,
            ..Verified::default()
        };
        assert_eq!(verify(&store), all(5));
        assert!(all(5).is_sound());

        flip(&store.snapshot_dir(bad).join("fs/file"));
        flip(&store.blob_path(&blobs[0]));
        fs::remove_dir_all(store.snapshot_dir(lost)).expect("removes");
        drop(store);
        let store = Store::open(root.path()).expect("opens");
        let found = verify(&store);
        let gone = |id, reason, children: usize| BadSnapshot {
            id,
            reason,
            size_bytes: 10,
            children,
            children_bytes: 10 * children as u64,
        };
        let expected = Verified {
            damaged_blobs: vec![(blobs[0], 3)],
            bad_snapshots: vec![gone(bad, GoneReason::Corrupt, 1), gone(lost, GoneReason::Lost, 0)],
            ..all(4)
        };
        assert_eq!(found, expected);
        assert!(!found.is_sound());
        let left: Vec<_> = store.snapshots().expect("reads").into_iter().map(|row| row.id).collect();
        assert_eq!(left, [base, good]);
        for (text, reason) in
            [("bad", GoneReason::Corrupt), ("child", GoneReason::Corrupt), ("lost", GoneReason::Lost)]
        {
            let key = Digest::of(text);
            assert_eq!(store.record(&key).expect("reads"), None, "{text}");
            let gone = store.tombstone(&key).expect("reads").map(|tombstone| tombstone.reason);
            assert_eq!(gone, Some(reason), "{text}");
        }
        assert!(!store.has_blob(&blobs[0]).expect("stats"));
        commit(&store, Some(base), "bad");
        store.put_blob(b"one").expect("puts");
        assert_eq!(verify(&store), all(3));
    }

    #[test]
    fn what_nobody_can_compare_is_counted_and_stays() {
        let root = tempfile::tempdir().expect("temp dir");
        let store = Store::open(root.path()).expect("opens");
        let id = commit(&store, None, "old");
        let unknown = &mut |_: &SnapshotRow| -> Result<Truth> { Ok(Truth::Unknown) };
        let found = store.verify(unknown, &mut |_| {}).expect("reads");
        assert_eq!((found.snapshots, found.unknown_snapshots, found.is_sound()), (1, 1, true));
        assert!(store.snapshot(id).expect("reads").is_some());
    }
}
