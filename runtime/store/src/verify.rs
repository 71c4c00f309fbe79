//! Everything read and compared with what it should be; what is not that is dropped, and so made again.
//!
//! Blobs are hashed. Whether a snapshot still has the content of its key is the caller's knowledge: it defines these keys.
//! Costs as much as reading the whole state directory; nothing on a build's way calls it.

use std::fs;
use std::io;

use rb_oci::Digest;

use crate::error::Context as _;
use crate::tombstones::GoneReason;
use crate::{Result, SnapshotId, SnapshotRow, SnapshotState, Store, StoreError};

/// What a pass over the store found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Blobs that were read.
    pub blobs: usize,
    /// Those among them that were damaged, and are gone.
    pub damaged_blobs: Vec<Digest>,
    /// Committed snapshots that were looked at.
    pub snapshots: usize,
    /// Those among them that were lost or changed; they are gone with all that was built on them.
    pub bad_snapshots: Vec<SnapshotId>,
}

impl Store {
    /// Reads the database, each blob, and each committed snapshot through `is_true`, which compares its files with its content
    /// key; snapshots come before those that build on them. A damaged database is an error; it is put aside by the next open.
    pub fn verify(&self, is_true: &mut dyn FnMut(&SnapshotRow) -> bool) -> Result<Verified> {
        self.inner.database.check()?;
        let mut found = Verified::default();
        for row in self.snapshots()? {
            // One that went with its parent is gone by now.
            let row = self.snapshot(row.id)?.filter(|row| row.state == SnapshotState::Committed);
            let Some(row) = row else { continue };
            found.snapshots += 1;
            if !self.is_whole(row.id)? {
                found.bad_snapshots.push(row.id);
            } else if !is_true(&row) {
                self.forget_bad(row.id, GoneReason::Corrupt)?;
                found.bad_snapshots.push(row.id);
            }
        }
        let directory = self.root().join("blobs/sha256");
        for entry in fs::read_dir(&directory).context("list", &directory)? {
            let name = entry.context("list", &directory)?.file_name();
            let digest = name.to_str().and_then(|name| format!("sha256:{name}").parse::<Digest>().ok());
            let Some(digest) = digest else { continue };
            let mut reader = match self.blob_reader(&digest) {
                Err(StoreError::UnknownBlob(_)) => continue, // removed meanwhile
                reader => reader?,
            };
            found.blobs += 1;
            match io::copy(&mut reader, &mut io::sink()) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => found.damaged_blobs.push(digest),
                Err(error) => return Err(error).context("read", &self.blob_path(&digest)),
            }
        }
        found.damaged_blobs.sort_unstable();
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of these snapshots is the digest of their one file.
    fn is_true(store: &Store) -> impl FnMut(&SnapshotRow) -> bool {
        move |row| {
            let text = fs::read(store.snapshot_dir(row.id).join("fs/file"));
            text.is_ok_and(|text| Some(*Digest::of(&text).as_bytes()) == row.content_key)
        }
    }

    fn commit(store: &Store, parent: Option<SnapshotId>, text: &str) -> SnapshotId {
        let id = store.new_snapshot(parent).expect("starts");
        fs::write(store.snapshot_dir(id).join("fs/file"), text).expect("writes");
        let key = Digest::of(text);
        let id = store.commit_snapshot(id, 0, Some(*key.as_bytes())).expect("commits");
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
        let all = Verified { blobs: 2, snapshots: 5, ..Verified::default() };
        assert_eq!(store.verify(&mut is_true(&store)).expect("reads"), all);

        flip(&store.snapshot_dir(bad).join("fs/file"));
        flip(&store.blob_path(&blobs[0]));
        fs::remove_dir_all(store.snapshot_dir(lost)).expect("removes");
        drop(store);
        let store = Store::open(root.path()).expect("opens");
        let found = store.verify(&mut is_true(&store)).expect("reads");
        let expected = Verified {
            blobs: 2,
            damaged_blobs: vec![blobs[0]],
            snapshots: 4,
            bad_snapshots: vec![bad, lost],
        };
        assert_eq!(found, expected);
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
        let all = Verified { blobs: 2, snapshots: 3, ..Verified::default() };
        assert_eq!(store.verify(&mut is_true(&store)).expect("reads"), all);
    }
}
