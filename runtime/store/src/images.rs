//! Images: names for manifests and indexes among the blobs.

use std::collections::BTreeSet;
use std::path::Path;

use rb_oci::{Descriptor, Digest, ImageIndex, ImageManifest, MediaType};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, Transaction};

use crate::database::{from_sql, to_sql};
use crate::{Result, Store, StoreError};

/// Longest name: host, repository, tag and digest together stay far below.
const MAX_NAME_BYTES: usize = 1024;

/// Largest manifest or index, as registries bound them.
const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// A named image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRow {
    /// Its name, as it was set.
    pub name: String,
    /// Its manifest or index.
    pub descriptor: Descriptor,
    /// When the image was made, in seconds since 1970.
    pub created_unix: i64,
    /// Compressed size of config and layers; of all platforms whose manifests are here, for an index.
    pub size_bytes: u64,
}

/// Returns the names of the images of the state directory at `root`, sorted. It is not opened: nothing is made, cleaned or
/// waited for, and a database that cannot be read at once is an error.
pub fn image_names(root: &Path) -> Result<Vec<String>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(root.join("rb.db"), flags)?;
    let mut query = connection.prepare("SELECT name FROM images ORDER BY name")?;
    Ok(query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}

impl Store {
    /// Gives an image a name, in place of the image that had it. The manifest must be among the blobs.
    pub fn set_image(&self, name: &str, descriptor: &Descriptor, created_unix: i64) -> Result<()> {
        check_name(name)?;
        let digest = descriptor_digest(descriptor)?;
        let size_bytes = self.image_size(descriptor)?;
        let json = serde_json::to_string(descriptor)
            .map_err(|source| StoreError::Json { what: format!("descriptor of {name}"), source })?;
        self.inner.database.write(|transaction| {
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO images (name, blob, descriptor, created_unix, size_bytes)
                     VALUES (?, ?, ?, ?, ?)",
                )?
                .execute((name, digest.as_bytes(), json, created_unix, to_sql(size_bytes)))?;
            Ok(())
        })
    }

    /// Returns the image of a name.
    pub fn image(&self, name: &str) -> Result<Option<ImageRow>> {
        let found = self.inner.database.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT name, descriptor, created_unix, size_bytes FROM images WHERE name = ?",
            )?;
            Ok(query.query_row([name], read_row).optional()?)
        })?;
        found.map(parse_row).transpose()
    }

    /// Returns all images, sorted by name.
    pub fn images(&self) -> Result<Vec<ImageRow>> {
        let found = self.inner.database.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT name, descriptor, created_unix, size_bytes FROM images ORDER BY name",
            )?;
            Ok(query.query_map([], read_row)?.collect::<rusqlite::Result<Vec<_>>>()?)
        })?;
        found.into_iter().map(parse_row).collect()
    }

    /// Takes a name away; `false` where nothing had it. Blobs stay.
    pub fn remove_image(&self, name: &str) -> Result<bool> {
        self.inner.database.write(|transaction| {
            Ok(transaction.prepare_cached("DELETE FROM images WHERE name = ?")?.execute([name])? > 0)
        })
    }

    /// Returns the blobs that an image is made of, as far as they can be told from what is here.
    pub(crate) fn blobs_of(&self, descriptor: &Descriptor) -> Result<BTreeSet<Digest>> {
        let mut found = BTreeSet::new();
        let mut next = vec![descriptor.clone()];
        while let Some(descriptor) = next.pop() {
            let digest = descriptor_digest(&descriptor)?;
            if !found.insert(digest) || descriptor.size() > MAX_MANIFEST_BYTES {
                continue;
            }
            // What is not here, or not what it should be, names nothing.
            let json = || std::fs::read(self.blob_path(&digest)).ok();
            if is_index(descriptor.media_type()) {
                let index = json().and_then(|bytes| serde_json::from_slice::<ImageIndex>(&bytes).ok());
                next.extend(index.iter().flat_map(|index| index.manifests()).cloned());
            } else {
                let manifest = json().and_then(|bytes| serde_json::from_slice::<ImageManifest>(&bytes).ok());
                for part in manifest.iter().flat_map(|it| std::iter::once(it.config()).chain(it.layers())) {
                    // Parts that no registry gives have another kind of digest.
                    found.extend(descriptor_digest(part).ok());
                }
            }
        }
        Ok(found)
    }

    fn image_size(&self, descriptor: &Descriptor) -> Result<u64> {
        let digest = descriptor_digest(descriptor)?;
        let bytes = self.read_blob(&digest, MAX_MANIFEST_BYTES)?;
        let json = |source| StoreError::Json { what: format!("manifest {digest}"), source };
        if !is_index(descriptor.media_type()) {
            let manifest: ImageManifest = serde_json::from_slice(&bytes).map_err(json)?;
            let parts = std::iter::once(manifest.config()).chain(manifest.layers());
            return Ok(parts.fold(0, |sum, part| part.size().saturating_add(sum)));
        }
        let index: ImageIndex = serde_json::from_slice(&bytes).map_err(json)?;
        let mut sum = 0_u64;
        for manifest in index.manifests().iter().filter(|manifest| !is_index(manifest.media_type())) {
            if self.has_blob(&descriptor_digest(manifest)?)? {
                sum = sum.saturating_add(self.image_size(manifest)?);
            }
        }
        Ok(sum)
    }
}

/// Returns the digest that a descriptor names.
pub fn descriptor_digest(descriptor: &Descriptor) -> Result<Digest> {
    let text = descriptor.digest().to_string();
    text.parse().map_err(|_not_sha256| StoreError::UnsupportedDigest(text.chars().take(200).collect()))
}

/// Refuses to go on where an image is named after the blob.
pub(crate) fn refuse_if_named(transaction: &Transaction<'_>, digest: &Digest) -> Result<()> {
    let name: Option<String> = transaction
        .prepare_cached("SELECT name FROM images WHERE blob = ? LIMIT 1")?
        .query_row([digest.as_bytes()], |row| row.get(0))
        .optional()?;
    name.map_or(Ok(()), |image| Err(StoreError::BlobInUse { digest: *digest, image }))
}

fn is_index(media_type: &MediaType) -> bool {
    *media_type == MediaType::ImageIndex
        || media_type.as_ref() == "application/vnd.docker.distribution.manifest.list.v2+json"
}

fn check_name(name: &str) -> Result<()> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > MAX_NAME_BYTES {
        "it is longer than 1024 bytes"
    } else if name.chars().any(|letter| letter.is_control() || letter.is_whitespace()) {
        "it has white space or control characters"
    } else {
        return Ok(());
    };
    Err(StoreError::BadName { name: name.chars().take(80).collect(), reason })
}

type RawRow = (String, String, i64, i64);

fn read_row(row: &Row<'_>) -> rusqlite::Result<RawRow> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}

fn parse_row((name, descriptor, created_unix, size_bytes): RawRow) -> Result<ImageRow> {
    let descriptor = serde_json::from_str(&descriptor)
        .map_err(|source| StoreError::Json { what: format!("descriptor of {name}"), source })?;
    Ok(ImageRow { name, descriptor, created_unix, size_bytes: from_sql(size_bytes) })
}

#[cfg(test)]
mod tests;
