//! Origins: from which repositories of which registries blobs are known, so that one that is pushed can be taken over
//! from there by the registry itself, and one that is not here can be fetched.
//!
//! Whoever pulled or pushed a blob notes it here. It is a hint: a registry may have lost the blob since.
//! **Invariant:** there are no more than so many notes, of one blob and in all; the newest stay.

use rb_oci::Digest;

use crate::{Result, Store};

/// Notes of one blob.
const PER_BLOB: u32 = 8;

/// Notes in all.
const IN_ALL: u32 = 100_000;

/// Longest name of a repository, with its host.
const MAX_BYTES: usize = 512;

impl Store {
    /// Notes that a repository (`ghcr.io/team/app`, as `Repository` shows itself) has these blobs. A text that cannot be
    /// the name of one is not noted.
    pub fn put_origins(&self, repository: &str, blobs: &[Digest]) -> Result<()> {
        let odd = |letter: char| letter.is_control() || letter.is_whitespace();
        if blobs.is_empty()
            || repository.is_empty()
            || repository.len() > MAX_BYTES
            || repository.contains(odd)
        {
            return Ok(());
        }
        self.inner.database.write(|transaction| {
            let mut put = transaction
                .prepare_cached("INSERT OR REPLACE INTO origins (blob, repository) VALUES (?, ?)")?;
            let mut forget = transaction.prepare_cached(
                "DELETE FROM origins WHERE blob = ?1 AND id NOT IN
                 (SELECT id FROM origins WHERE blob = ?1 ORDER BY id DESC LIMIT ?2)",
            )?;
            for blob in blobs {
                put.execute((blob.as_bytes(), repository))?;
                forget.execute((blob.as_bytes(), PER_BLOB))?;
            }
            transaction
                .prepare_cached("DELETE FROM origins WHERE id <= (SELECT max(id) FROM origins) - ?")?
                .execute([IN_ALL])?;
            Ok(())
        })
    }

    /// Notes that a repository has a blob.
    pub fn put_origin(&self, blob: &Digest, repository: &str) -> Result<()> {
        self.put_origins(repository, &[*blob])
    }

    /// Returns the repositories that have had a blob, the newest note first.
    pub fn origins(&self, blob: &Digest) -> Result<Vec<String>> {
        self.inner.database.read(|connection| {
            let mut query = connection
                .prepare_cached("SELECT repository FROM origins WHERE blob = ? ORDER BY id DESC")?;
            Ok(query.query_map([blob.as_bytes()], |row| row.get(0))?.collect::<rusqlite::Result<Vec<_>>>()?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_few_are_kept() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("opens");
        let (blob, other) = (Digest::of("blob"), Digest::of("other"));
        assert_eq!(store.origins(&blob).expect("reads"), Vec::<String>::new());
        for number in 0..10 {
            store.put_origin(&blob, &format!("host/{number}")).expect("notes");
        }
        store.put_origins("host/4", &[blob, other]).expect("notes");
        store.put_origin(&blob, "no name").expect("passes over");
        let names = ["host/4", "host/9", "host/8", "host/7", "host/6", "host/5", "host/3", "host/2"];
        assert_eq!(store.origins(&blob).expect("reads"), names);
        assert_eq!(store.origins(&other).expect("reads"), ["host/4"]);
    }
}
