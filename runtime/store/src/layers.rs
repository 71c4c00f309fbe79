//! Layers: which blob holds a snapshot's own files, so that nothing is packed or compressed twice.

use rb_oci::{Descriptor, Digest};
use rusqlite::{OptionalExtension as _, Transaction};

use crate::images::descriptor_digest;
use crate::snapshots::SnapshotId;
use crate::{Result, Store, StoreError};

/// A layer that lies among the blobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerRow {
    /// The digest of its uncompressed tar.
    pub diff_id: Digest,
    /// The blob: media type, digest, size.
    pub descriptor: Descriptor,
}

impl Store {
    /// Returns the layer of a key, if its blob is still there.
    pub fn layer(&self, key: &Digest) -> Result<Option<LayerRow>> {
        let found: Option<([u8; 32], String)> = self.inner.database.read(|connection| {
            let mut query =
                connection.prepare_cached("SELECT diff_id, descriptor FROM layers WHERE key = ?")?;
            Ok(query.query_row([key.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
        })?;
        let Some((diff_id, descriptor)) = found else { return Ok(None) };
        let descriptor: Descriptor = match serde_json::from_str(&descriptor) {
            Ok(descriptor) => descriptor,
            Err(error) => {
                tracing::warn!(%key, %error, "what is known of a layer is damaged: it is packed again");
                return Ok(None);
            }
        };
        let there = self.blob_size(&descriptor_digest(&descriptor)?)? == Some(descriptor.size());
        Ok(there.then(|| LayerRow { diff_id: Digest::from_bytes(diff_id), descriptor }))
    }

    /// Remembers a layer under a key. Its blob must be there, whole.
    pub fn put_layer(&self, key: &Digest, layer: &LayerRow) -> Result<()> {
        let blob = descriptor_digest(&layer.descriptor)?;
        if self.blob_size(&blob)? != Some(layer.descriptor.size()) {
            return Err(StoreError::UnknownBlob(blob));
        }
        let json = serde_json::to_string(&layer.descriptor)
            .map_err(|source| StoreError::Json { what: format!("descriptor of layer {key}"), source })?;
        self.inner.database.write(|transaction| {
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO layers (key, diff_id, blob, descriptor) VALUES (?, ?, ?, ?)",
                )?
                .execute((key.as_bytes(), layer.diff_id.as_bytes(), blob.as_bytes(), json))?;
            Ok(())
        })
    }

    /// Returns the key of the layer that a snapshot was unpacked from: exported again it is that very blob.
    pub fn original_layer_key(snapshot: SnapshotId) -> Digest {
        Digest::of(format!("original layer of snapshot {snapshot}"))
    }
}

/// Removes the rows that name a blob.
pub(crate) fn forget_blob(transaction: &Transaction<'_>, digest: &Digest) -> Result<()> {
    transaction.prepare_cached("DELETE FROM layers WHERE blob = ?")?.execute([digest.as_bytes()])?;
    Ok(())
}

#[cfg(test)]
mod tests;
