//! Trees that share layers, as a cache has them.
//!
//! In: values of steps. Out: the table of a cache, and the layers that it names. What several trees stand on is in it once; a
//! layer is packed when the first tree needs it. **Invariant:** a tree is in it only if its layers hold all of it: not one that has
//! changed its root directory, or that has only what a layer cannot hold.

use std::collections::{BTreeMap, BTreeSet};

use rb_exporters::{Epoch, ExportError, Packing};
use rb_oci::cache::{CACHE_RECORDS, CACHE_TREES, CacheRecord, CacheTable, CacheTree};
use rb_oci::index::LAYERS;
use rb_oci::{Compression, Descriptor, Digest};
use rb_snapshot::{ChangeKind, Follow, Tally};
use rb_solver::keys::KEY_SCHEMA;
use rb_store::{SnapshotId, Store};

use super::survey::Surveyed;
use crate::error::EngineError;
use crate::images::content::digest_of;
use crate::parts::Parts;
use crate::pinned::{Origin, PinnedImage};
use crate::value::{Product, Root, Value};

/// How layers are packed.
#[derive(Clone, Copy)]
pub(super) struct Format {
    pub(super) compression: Compression,
    pub(super) force: bool,
    pub(super) epoch: Epoch,
}

/// Mode and owner of a root directory of which nothing was said.
const ROOT: (u32, u32, u32) = (0o755, 0, 0);

/// A layer, and where it is if it was never fetched.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) descriptor: Descriptor,
    pub(super) diff_id: Digest,
    pub(super) origin: Option<Origin>,
}

/// Trees and what finds them.
pub(super) struct Forest<'a> {
    parts: &'a Parts,
    format: Format,
    tally: &'a Tally,
    table: CacheTable,
    by_content: BTreeMap<Digest, usize>,
    layers: Vec<Held>,
    by_blob: BTreeMap<Digest, usize>,
    /// Snapshots that no layers hold, and whatever stands on one.
    unfit: BTreeSet<SnapshotId>,
    /// A layer that several trees have is in it once.
    has_each_once: bool,
    /// No layer is added any more.
    is_closed: bool,
    left_out: usize,
}

impl<'a> Forest<'a> {
    pub(super) fn new(parts: &'a Parts, format: Format, tally: &'a Tally) -> Self {
        Self {
            parts,
            format,
            tally,
            table: CacheTable { schema: KEY_SCHEMA, epoch: format.epoch.0, ..CacheTable::default() },
            by_content: BTreeMap::new(),
            layers: Vec::new(),
            by_blob: BTreeMap::new(),
            unfit: BTreeSet::new(),
            has_each_once: true,
            is_closed: false,
            left_out: 0,
        }
    }

    /// The forest of an image's own layers, in their order, to which none is added.
    pub(super) fn of_image(
        parts: &'a Parts,
        format: Format,
        tally: &'a Tally,
        root: &Root,
    ) -> Result<Self, EngineError> {
        let mut forest = Self::new(parts, format, tally);
        // An image may have one layer twice.
        forest.has_each_once = false;
        match root {
            Root::Tree(tree) => drop(forest.tree(tree.snapshot)?),
            Root::Image(image, _) => drop(forest.image(image)?),
        }
        forest.is_closed = true;
        Ok(forest)
    }

    /// Adds what a step gave, if layers hold it.
    pub(super) fn add(&mut self, step: &Surveyed) -> Result<(), EngineError> {
        let Surveyed { keys, parts, values } = step;
        if self.table.records.len() >= CACHE_RECORDS {
            self.left_out += 1;
            return Ok(());
        }
        let mut outputs = Vec::with_capacity(values.len());
        for value in values {
            let placed = match value {
                Product::Here(Value::Tree(tree)) => self.tree(tree.snapshot)?,
                Product::Image(image, _) => self.image(image)?,
                Product::Here(Value::Local(_)) | Product::Resumed(..) => None,
            };
            let Some(placed) = placed else {
                self.left_out += 1;
                return Ok(());
            };
            outputs.push(placed);
        }
        let record = CacheRecord { keys: keys.clone(), parts: parts.clone(), outputs };
        self.table.records.push(record);
        Ok(())
    }

    /// Returns the table, the layers that it names, and how many results there was no place for.
    pub(super) fn end(self) -> (CacheTable, Vec<Held>, usize) {
        (self.table, self.layers, self.left_out)
    }

    /// Finds a place for a tree: none of its own if it holds nothing.
    fn tree(&mut self, snapshot: Option<SnapshotId>) -> Result<Option<Option<usize>>, EngineError> {
        let mut on = None;
        let mut below = None;
        for id in self.parts.snapshots.layer_tops(snapshot)? {
            if self.unfit.contains(&id) {
                return Ok(None);
            }
            let placed = match self.content_of(id)? {
                None => None,
                Some(content) => match self.by_content.get(&content) {
                    Some(place) => Some(*place),
                    None => self.layer_of(id, below)?.and_then(|held| self.put(on, content, held)),
                },
            };
            let Some(place) = placed else {
                self.unfit.insert(id);
                return Ok(None);
            };
            (on, below) = (Some(place), Some(id));
        }
        Ok(Some(on))
    }

    /// The same, of one whose layers are known and perhaps not here.
    fn image(&mut self, image: &PinnedImage) -> Result<Option<Option<usize>>, EngineError> {
        let mut on = None;
        for ((descriptor, diff_id), content) in image.layers.iter().zip(image.contents(self.parts)) {
            let content = content.to_digest();
            let place = match self.by_content.get(&content) {
                Some(place) => *place,
                None => {
                    let (descriptor, origin) = (descriptor.clone(), Some(image.origin.clone()));
                    match self.put(on, content, Held { descriptor, diff_id: *diff_id, origin }) {
                        Some(place) => place,
                        None => return Ok(None),
                    }
                }
            };
            on = Some(place);
        }
        Ok(Some(on))
    }

    fn content_of(&self, id: SnapshotId) -> Result<Option<Digest>, EngineError> {
        Ok(self.parts.store.snapshot(id)?.and_then(|row| row.content_key).map(Digest::from_bytes))
    }

    /// Packs the layer that ends with a snapshot; none if it does not hold all that the snapshot changed.
    fn layer_of(&self, id: SnapshotId, below: Option<SnapshotId>) -> Result<Option<Held>, EngineError> {
        let Parts { store, snapshots, .. } = self.parts;
        let root_of = |view: rb_snapshot::View| -> Result<_, EngineError> {
            let root = view.lookup("/", Follow::No)?;
            Ok(root.map(|root| (root.metadata.mode & 0o7777, root.metadata.uid, root.metadata.gid)))
        };
        if self.is_closed {
            return Ok(None);
        }
        // Of an image the root is what its layers say, if they do.
        let is_unpacked = store.layer(&Store::original_layer_key(id))?.is_some();
        let was = match below {
            Some(_) => root_of(snapshots.view(below)?)?,
            None => Some(ROOT),
        };
        if !is_unpacked && root_of(snapshots.view(Some(id))?)? != was {
            return Ok(None);
        }
        let Format { compression, force, epoch } = self.format;
        let how = Packing { compression, force, cancelled: None, tally: Some(self.tally) };
        self.tally.begin_part(1, 1);
        if !is_unpacked
            && snapshots.diff_of(id)?.changes.iter().any(|change| change.kind == ChangeKind::Socket)
        {
            return Ok(None);
        }
        let packed = match rb_exporters::pack_layer(store, snapshots, id, epoch, how) {
            // A tar has no way to say it.
            Err(ExportError::Unrepresentable { .. }) => None,
            packed => packed?,
        };
        Ok(packed.map(|layer| Held { descriptor: layer.descriptor, diff_id: layer.diff_id, origin: None }))
    }

    /// Adds a tree; none if there is no room for it.
    fn put(&mut self, on: Option<usize>, content: Digest, held: Held) -> Option<usize> {
        let blob = digest_of(&held.descriptor).ok()?;
        let known = self.by_blob.get(&blob).filter(|_| self.has_each_once);
        let layer = match known {
            Some(layer) => *layer,
            None if self.is_closed || self.layers.len() >= LAYERS => return None,
            None => {
                self.layers.push(held);
                self.by_blob.insert(blob, self.layers.len() - 1);
                self.layers.len() - 1
            }
        };
        if self.is_closed || self.table.trees.len() >= CACHE_TREES {
            return None;
        }
        self.table.trees.push(CacheTree { on, layer, content });
        self.by_content.insert(content, self.table.trees.len() - 1);
        Some(self.table.trees.len() - 1)
    }
}
