//! Reading all that is stored, and comparing it with what it should be: `rb cache verify`.
//!
//! In: the store. Out: what was damaged, which is dropped with all that builds on it, so that it is made again; and images
//! that have a name and lack something, of which only their user knows whether they are still wanted.

use std::collections::BTreeSet;

use rb_oci::index::{INDEX_DEPTH, JSON_LIMIT_BYTES, is_index, named_platform};
use rb_oci::{Descriptor, Digest, ImageIndex, ImageManifest};
use rb_snapshot::SnapshotError;
use rb_store::{Progress, Store, StoreError};
use serde::de::DeserializeOwned;

use crate::LocalEngine;
use crate::error::EngineError;
use crate::images::content::digest_of;
use crate::images::tree::is_foreign;

/// What a pass over everything found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// What the store found of its blobs and layers.
    pub stored: rb_store::Verified,
    /// Images of the store that cannot be used as they are, by name.
    pub broken_images: Vec<BrokenImage>,
    /// Platforms of indexes that were never here, by the image's name.
    pub absent_platforms: Vec<(String, String)>,
}

/// An image of which something is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenImage {
    /// Its name.
    pub name: String,
    /// What is gone: `manifest`, `config` and so on, and the digest.
    pub missing: Vec<(&'static str, Digest)>,
}

impl Verified {
    /// Says whether nothing is damaged or gone.
    pub fn is_sound(&self) -> bool {
        self.stored.is_sound() && self.broken_images.is_empty()
    }
}

impl LocalEngine {
    /// Reads database, layers and blobs, and drops what is damaged with all that builds on it, so that it is made again; then
    /// looks whether images lack something. `tell` hears how far that is. Takes as long as reading the state directory;
    /// blocking.
    pub fn verify(&self, tell: &mut dyn FnMut(Progress)) -> Result<Verified, EngineError> {
        let (store, snapshots) = (&self.parts.store, &self.parts.snapshots);
        let stored = store.verify::<SnapshotError>(&mut |row| snapshots.is_true(row), tell)?;
        let damaged = stored.damaged_blobs.iter().map(|(digest, _)| *digest).collect();
        let mut found = Verified { stored, ..Verified::default() };
        for row in self.images()? {
            let mut look = Look { store, damaged: &damaged, missing: Vec::new(), absent: Vec::new() };
            look.at(&row.descriptor, INDEX_DEPTH)?;
            let Look { missing, absent, .. } = look;
            found.absent_platforms.extend(absent.into_iter().map(|platform| (row.name.clone(), platform)));
            if !missing.is_empty() {
                found.broken_images.push(BrokenImage { name: row.name, missing });
            }
        }
        Ok(found)
    }
}

/// Returns the platforms that an index names and of which nothing is here, where there is something of others.
pub(crate) fn absent_platforms(store: &Store, image: &Descriptor) -> Result<Vec<String>, EngineError> {
    let damaged = BTreeSet::new();
    let mut look = Look { store, damaged: &damaged, missing: Vec::new(), absent: Vec::new() };
    look.at(image, INDEX_DEPTH)?;
    Ok(look.absent)
}

/// A look at one image.
struct Look<'a> {
    store: &'a Store,
    /// Blobs that were here until now.
    damaged: &'a BTreeSet<Digest>,
    missing: Vec<(&'static str, Digest)>,
    absent: Vec<String>,
}

impl Look<'_> {
    /// Looks at a manifest or index. Returns whether it is here itself.
    fn at(&mut self, document: &Descriptor, depth: usize) -> Result<bool, EngineError> {
        if !is_index(document) {
            let Some(manifest) = self.read::<ImageManifest>("manifest", document)? else { return Ok(false) };
            self.has("config", manifest.config())?;
            for layer in manifest.layers().iter().filter(|layer| !is_foreign(layer)) {
                self.has("layer", layer)?;
            }
            return Ok(true);
        }
        let Some(index) = self.read::<ImageIndex>("index", document)?.filter(|_| depth > 0) else {
            return Ok(false);
        };
        let (mut any, mut lacking) = (false, Vec::new());
        for entry in index.manifests() {
            let known = self.missing.len();
            if self.at(entry, depth - 1)? {
                any = true;
            } else if !self.damaged.contains(&digest_of(entry)?) {
                // Of an index that was loaded not all need ever have been here.
                lacking.push((entry, self.missing.split_off(known)));
            }
        }
        for (entry, missing) in lacking {
            match named_platform(entry) {
                Some(platform) if any => self.absent.push(platform.to_string()),
                // What nobody runs may be left out, as archives do.
                None if any => {}
                Some(_) | None => self.missing.extend(missing),
            }
        }
        Ok(true)
    }

    fn read<T: DeserializeOwned>(
        &mut self,
        what: &'static str,
        document: &Descriptor,
    ) -> Result<Option<T>, EngineError> {
        let digest = digest_of(document)?;
        let bytes = match self.store.read_blob(&digest, JSON_LIMIT_BYTES) {
            Err(StoreError::UnknownBlob(_) | StoreError::CorruptBlob { .. }) => None,
            read => Some(read?),
        };
        let read = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if read.is_none() {
            self.missing.push((what, digest));
        }
        Ok(read)
    }

    /// Looks for a part of an image. What a registry has need not be here.
    fn has(&mut self, what: &'static str, part: &Descriptor) -> Result<(), EngineError> {
        let digest = digest_of(part)?;
        if !self.store.has_blob(&digest)? && self.store.origins(&digest)?.is_empty() {
            self.missing.push((what, digest));
        }
        Ok(())
    }
}
