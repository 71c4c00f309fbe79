//! Cache records: what stands under a key, opaque to the store.
//!
//! Several keys may lead to one result. A result lists the snapshots that it names; it can only be put while they are
//! committed, and it goes when one of them goes.

use rb_oci::Digest;
use rusqlite::{OptionalExtension as _, Transaction};

use crate::snapshots::{SnapshotId, is_committed, require_committed};
use crate::tombstones::{self, GoneReason};
use crate::{Result, Store, StoreError};

/// What was put under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The bytes as they were put.
    pub value: Vec<u8>,
    /// The snapshots that it names, in the order they were put. They are committed.
    pub snapshots: Vec<SnapshotId>,
    /// When it was put, in seconds since 1970.
    pub created_unix: i64,
}

impl Store {
    /// Returns what stands under `key`. A record that names a snapshot which is lost or damaged, or whose parents are, is
    /// forgotten.
    pub fn record(&self, key: &Digest) -> Result<Option<Record>> {
        let Some(record) = self.read_record(key)? else { return Ok(None) };
        for id in &record.snapshots {
            if !self.is_whole(*id)? {
                return Ok(None);
            }
        }
        Ok(Some(record))
    }

    /// As [`Self::record`], for who looks at each file of the snapshots that it takes: nobody does here.
    pub fn stored_record(&self, key: &Digest) -> Result<Option<Record>> {
        let Some(record) = self.read_record(key)? else { return Ok(None) };
        record.snapshots.iter().try_for_each(|id| self.hold(*id))?;
        // One may have gone before it was held.
        let are_there = self.inner.database.read(|connection| {
            for id in &record.snapshots {
                if !is_committed(connection, *id)? {
                    return Ok(false);
                }
            }
            Ok(true)
        });
        Ok(are_there?.then_some(record))
    }

    fn read_record(&self, key: &Digest) -> Result<Option<Record>> {
        self.inner.database.read(|connection| {
            // One read transaction, so that result and snapshots are of one moment.
            let transaction = connection.unchecked_transaction()?;
            let found: Option<(i64, Vec<u8>, i64)> = transaction
                .prepare_cached(
                    "SELECT results.id, value, created_unix FROM record_keys JOIN results ON results.id = result
                     WHERE key = ?",
                )?
                .query_row([key.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .optional()?;
            let Some((result, value, created_unix)) = found else { return Ok(None) };
            let snapshots = transaction
                .prepare_cached("SELECT snapshot FROM result_snapshots WHERE result = ? ORDER BY place")?
                .query_map([result], |row| Ok(SnapshotId::from_sql(row.get(0)?)))?
                .collect::<rusqlite::Result<_>>()?;
            Ok(Some(Record { value, snapshots, created_unix }))
        })
    }

    /// Puts `value` under `key`, in place of what stood there. Each of `snapshots` must be committed.
    pub fn put_record(&self, key: &Digest, value: &[u8], snapshots: &[SnapshotId]) -> Result<()> {
        self.inner.database.write(|transaction| {
            snapshots.iter().try_for_each(|id| require_committed(transaction, *id))?;
            transaction
                .prepare_cached("INSERT INTO results (value, created_unix) VALUES (?, ?)")?
                .execute((value, self.now_unix()))?;
            let result = transaction.last_insert_rowid();
            let mut insert = transaction
                .prepare_cached("INSERT INTO result_snapshots (result, place, snapshot) VALUES (?, ?, ?)")?;
            for (place, id) in snapshots.iter().enumerate() {
                insert.execute((result, place as i64, id.to_sql()))?;
            }
            point(transaction, key, result)
        })
    }

    /// Puts under `key` what stands under `existing`: one result, two keys.
    pub fn link_record(&self, key: &Digest, existing: &Digest) -> Result<()> {
        self.inner.database.write(|transaction| {
            let result = result_of(transaction, existing)?.ok_or(StoreError::UnknownRecord(*existing))?;
            point(transaction, key, result)
        })
    }

    /// Removes a key, and its result with the last key; `false` where there is none.
    pub fn remove_record(&self, key: &Digest) -> Result<bool> {
        self.inner.database.write(|transaction| {
            let Some(result) = result_of(transaction, key)? else { return Ok(false) };
            tombstones::bury(transaction, key, self.going(GoneReason::Removed))?;
            transaction.prepare_cached("DELETE FROM record_keys WHERE key = ?")?.execute([key.as_bytes()])?;
            drop_if_unnamed(transaction, result)?;
            Ok(true)
        })
    }
}

fn result_of(transaction: &Transaction<'_>, key: &Digest) -> Result<Option<i64>> {
    let mut query = transaction.prepare_cached("SELECT result FROM record_keys WHERE key = ?")?;
    Ok(query.query_row([key.as_bytes()], |row| row.get(0)).optional()?)
}

/// Lets `key` lead to `result`, and drops what it led to if no other key does.
fn point(transaction: &Transaction<'_>, key: &Digest, result: i64) -> Result<()> {
    let before = result_of(transaction, key)?;
    transaction
        .prepare_cached(
            "INSERT INTO record_keys (key, result) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET result = excluded.result",
        )?
        .execute((key.as_bytes(), result))?;
    tombstones::unbury(transaction, key)?;
    before.filter(|before| *before != result).map_or(Ok(()), |before| drop_if_unnamed(transaction, before))
}

fn drop_if_unnamed(transaction: &Transaction<'_>, result: i64) -> Result<()> {
    transaction
        .prepare_cached(
            "DELETE FROM results WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM record_keys WHERE result = ?1)",
        )?
        .execute([result])?;
    Ok(())
}

#[cfg(test)]
mod tests;
