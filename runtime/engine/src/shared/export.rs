//! Results of a job written for others: into a place of their own, or into the configs of the images that are written.
//!
//! In: roots that were solved, and what is to be written of them. Out: a manifest with the layers of all trees, each once, and a
//! config that says which keys find which; pushed, or added to a layout. Layers are those that images have: what is packed for one
//! is there for the other. A layer that was found in a cache and never fetched is not fetched now where it lies already.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use rb_api::{CacheExport, CacheExtent, CachePlace, CacheTarget, CacheWritten, EventSink, Export};
use rb_diag::chain;
use rb_exporters::Epoch;
use rb_llb::Definition;
use rb_oci::cache::{CACHE_FIELD, CacheTable};
use rb_oci::{Descriptor, Digest};
use rb_session::Bucket;
use rb_snapshot::Tally;
use rb_solver::{JobHandle, OpError};
use serde_json::json;

use super::bucket;
use super::forest::{Forest, Format, Held};
use super::survey::{Survey, Surveyed};
use crate::error::EngineError;
use crate::fetch::{self, Listener, Told};
use crate::graph::Graphs;
use crate::ops::LlbOp;
use crate::packing;
use crate::parts::Parts;
use crate::pinned::Origin;
use crate::progress::{self, Gauge};
use crate::push::{self, Naming, Platforms, Target};
use crate::value::Root;

/// A job whose roots are solved, of which caches are written.
pub(crate) struct Caches<'a> {
    parts: &'a Arc<Parts>,
    epoch: Epoch,
    events: &'a EventSink,
    /// Its roots, in order.
    graphs: Graphs,
    survey: Survey,
}

/// What an inline cache holds, if an image takes it.
type Inline = Result<Option<CacheWritten>, OpError>;

/// Refuses places that cannot be written to, before anything is done.
pub(crate) fn check(parts: &Parts, exports: &[CacheExport]) -> Result<(), EngineError> {
    for export in exports {
        match &export.target {
            CacheTarget::Place(CachePlace::Folder { path, .. }) => rb_exporters::check_oci_layout(path)?,
            CacheTarget::Place(CachePlace::Bucket(bucket)) => drop(super::client(parts, bucket)?),
            CacheTarget::Place(CachePlace::Registry(_)) | CacheTarget::Inline => {}
        }
    }
    Ok(())
}

/// Refuses a cache that would take the place of an image which is pushed.
pub(crate) fn check_names(exports: &[CacheExport], targets: &[Option<Target>]) -> Result<(), EngineError> {
    for export in exports {
        if let CacheTarget::Place(CachePlace::Registry(reference)) = &export.target
            && targets.iter().flatten().any(|target| target.names(reference))
        {
            return Err(EngineError::Image {
                what: format!("the cache `{reference}`"),
                reason: "would take the place of the image that is pushed under that name".to_owned(),
                help: Some("another tag, or type=inline, which keeps it in the image".to_owned()),
            });
        }
    }
    Ok(())
}

impl<'a> Caches<'a> {
    /// Finds out what the roots that `exports` name have to be written.
    pub(crate) async fn survey(
        (parts, handle): (&'a Arc<Parts>, &JobHandle<LlbOp>),
        definitions: impl IntoIterator<Item = &Definition>,
        exports: &[CacheExport],
        epoch: Epoch,
        events: &'a EventSink,
    ) -> Result<Self, OpError> {
        let definitions = definitions.into_iter().filter(|_| !exports.is_empty());
        let graphs = Graphs::of(definitions).map_err(crate::op_error)?;
        let mut survey = Survey::default();
        let wanted: BTreeSet<usize> =
            exports.iter().flat_map(|export| export.roots.iter().copied()).collect();
        for graph in wanted.into_iter().filter_map(|root| graphs.all().get(root)) {
            survey.add(parts, handle, graph).await?;
        }
        Ok(Self { parts, epoch, events, graphs, survey })
    }

    /// Puts caches into the configs of images that are to be written, and takes those out that came with their bases. Returns what
    /// each inline cache of `exports` holds, or why it is not there: that stops no image, and is for [`Self::write`] to tell.
    pub(crate) async fn put_inline(
        &self,
        roots: &[Root],
        images: &mut [Export],
        exports: &[CacheExport],
    ) -> Vec<Inline> {
        let mut written: Vec<Inline> = exports.iter().map(|_| Ok(None)).collect();
        for image in images {
            let (Export::Image { images, format, .. } | Export::OciLayout { images, format, .. }) = image
            else {
                continue;
            };
            let packed = Format {
                compression: format.compression,
                force: format.force_compression,
                epoch: format.epoch_seconds.map_or(self.epoch, Epoch),
            };
            for image in images {
                // One that came with the base says nothing of this one.
                image.config.other.remove(CACHE_FIELD);
                let is_meant = |export: &&CacheExport| {
                    export.target == CacheTarget::Inline && export.roots.contains(&image.root)
                };
                let Some(place) = exports.iter().position(|export| is_meant(&export)) else { continue };
                let Some(root) = roots.get(image.root).cloned() else { continue };
                let steps = self.steps(image.root, CacheExtent::Min);
                let parts = Arc::clone(self.parts);
                let table = crate::blocking(move || {
                    let tally = Tally::default();
                    let mut forest = Forest::of_image(&parts, packed, &tally, &root)?;
                    steps.iter().try_for_each(|step| forest.add(step))?;
                    Ok(forest.end().0)
                });
                let table = match table.await {
                    Ok(table) => table,
                    Err(error) => {
                        written[place] = Err(error);
                        continue;
                    }
                };
                let records = table.records.len();
                let layers = table.trees.len();
                image.config.other.insert(CACHE_FIELD.to_owned(), json!(table));
                let Ok(sum) = &mut written[place] else { continue };
                let before = sum.take().and_then(|other| other.holds).unwrap_or_default();
                *sum = Some(CacheWritten {
                    place: CacheTarget::Inline.to_string(),
                    digest: None,
                    holds: Some((records + before.0, layers + before.1)),
                    failed: None,
                });
            }
        }
        written
    }

    /// Writes the caches that have places of their own; `inline` are the others.
    pub(crate) async fn write(
        &self,
        exports: &[CacheExport],
        images: &[Export],
        inline: Vec<Inline>,
    ) -> Result<Vec<CacheWritten>, OpError> {
        let mut written = Vec::with_capacity(exports.len());
        for (export, inline) in exports.iter().zip(inline) {
            let CacheTarget::Place(place) = &export.target else {
                match inline {
                    Err(error) if may_fail(export, &error) => written.push(failed(export, &error)),
                    inline => written.extend(inline?),
                }
                continue;
            };
            let told = Told::begin(self.events, &format!("cache | exporting to {place}"));
            let done = self.write_one(export, place, images, &told.listener()).await;
            match done {
                Err(error) if may_fail(export, &error) => {
                    told.end(&Ok(()));
                    written.push(failed(export, &error));
                }
                done => {
                    told.end(&done);
                    written.push(done?);
                }
            }
        }
        Ok(written)
    }

    async fn write_one(
        &self,
        export: &CacheExport,
        place: &CachePlace,
        images: &[Export],
        listener: &Listener,
    ) -> Result<CacheWritten, OpError> {
        let format = self.format(export, images);
        let mut seen = BTreeSet::new();
        let mut steps = Vec::new();
        for root in &export.roots {
            steps.extend(
                self.steps(*root, export.extent).into_iter().filter(|step| seen.insert(step.keys.clone())),
            );
        }
        let gauge = Gauge::new("packing");
        let (parts, tally) = (Arc::clone(self.parts), gauge.tally());
        let made = crate::blocking(move || {
            let mut forest = Forest::new(&parts, format, &tally);
            steps.iter().try_for_each(|step| forest.add(step))?;
            let (table, layers, left_out) = forest.end();
            let manifest = manifest(&parts, &table, &layers)?;
            Ok((manifest, table.records.len(), layers, left_out))
        });
        let (manifest, records, layers, left_out) = progress::told(listener, &gauge, || true, made).await?;
        if left_out > 0 {
            listener.say(&format!("{left_out} results are not written: layers do not hold all of them"));
        }
        if self.survey.left_out > 0 {
            let count = self.survey.left_out;
            listener
                .say(&format!("{count} results are not written: what they are made of cannot be looked at"));
        }
        self.bring(place, &layers, listener).await?;
        match place {
            CachePlace::Registry(reference) => {
                let to = [reference.clone()];
                let pushed =
                    push::image(self.parts, &manifest, &to, Naming::Tags, &Platforms::All, self.events);
                pushed.await.map_err(crate::op_error)?;
            }
            CachePlace::Folder { path, tag, digest: _ } => {
                let gauge = Gauge::new("writing");
                let (parts, tally) = (Arc::clone(self.parts), gauge.tally());
                let suspect = parts.shared.damaged();
                let (path, tag, manifest, reset) =
                    (path.clone(), tag.clone(), manifest.clone(), export.reset);
                let added = crate::blocking(move || {
                    let store = &parts.store;
                    Ok(rb_exporters::add_to_layout(store, &tag, &manifest, &path, &suspect, reset, &tally)?)
                });
                progress::told(listener, &gauge, || true, added).await?;
            }
            CachePlace::Bucket(place) => {
                let never_here =
                    layers.iter().filter(|held| held.origin.as_ref().is_some_and(|from| is_in(from, place)));
                let never_here = never_here.map(|held| held.descriptor.clone()).collect();
                let written = bucket::write(self.parts, place, &manifest, never_here, listener);
                written.await.map_err(crate::op_error)?;
            }
        }
        Ok(CacheWritten {
            place: place.to_string(),
            digest: rb_sources::layout::digest_of(&manifest).ok(),
            holds: Some((records, layers.len())),
            failed: None,
        })
    }

    /// Returns the steps of a root that are written.
    fn steps(&self, root: usize, extent: CacheExtent) -> Vec<Surveyed> {
        let Some(graph) = self.graphs.all().get(root) else { return Vec::new() };
        let vertices: Vec<Digest> = match extent {
            CacheExtent::Min => packing::chain(graph).into_iter().map(|(vertex, _)| vertex).rev().collect(),
            CacheExtent::Max => graph.vertices().map(|vertex| vertex.digest).collect(),
        };
        vertices.iter().filter_map(|vertex| self.survey.steps.get(vertex).cloned()).collect()
    }

    /// Returns how layers are packed: as those of the images of the same roots, where nothing else is said.
    fn format(&self, export: &CacheExport, images: &[Export]) -> Format {
        let is_same =
            |image: &&Export| image.images().iter().any(|platform| export.roots.contains(&platform.root));
        let of_image = images.iter().find(is_same).and_then(Export::format);
        let compression = of_image.map(|format| format.compression).unwrap_or_default();
        Format {
            compression: export.compression.unwrap_or(compression),
            force: export.force_compression,
            epoch: of_image.and_then(|format| format.epoch_seconds).map_or(self.epoch, Epoch),
        }
    }

    /// Fetches layers that were never fetched, unless they are where they go to, or go there from one registry to another.
    async fn bring(&self, place: &CachePlace, layers: &[Held], listener: &Listener) -> Result<(), OpError> {
        for Held { descriptor, diff_id: _, origin } in layers {
            let Some(origin) = origin else { continue };
            let (parts, layer) = (Arc::clone(self.parts), descriptor.clone());
            let (from, to) = (origin.clone(), place.clone());
            let is_settled = crate::blocking(move || settled(&parts, &layer, &from, &to));
            if !is_settled.await? {
                fetch::blob(self.parts, origin, descriptor, listener).await?;
            }
        }
        Ok(())
    }
}

/// Says whether a build goes on without a cache that it was to write.
fn may_fail(export: &CacheExport, error: &OpError) -> bool {
    export.ignore_error && !error.is_cancelled()
}

fn failed(export: &CacheExport, error: &OpError) -> CacheWritten {
    let (place, failed) = (export.target.to_string(), Some(chain(error)));
    CacheWritten { place, digest: None, holds: None, failed }
}

/// Says whether a layer need not be fetched.
fn settled(parts: &Parts, layer: &Descriptor, from: &Origin, to: &CachePlace) -> Result<bool, EngineError> {
    let digest = rb_sources::layout::digest_of(layer)?;
    if parts.store.has_blob(&digest)? {
        return Ok(true);
    }
    match (from, to) {
        (Origin::Registry(repository), CachePlace::Registry(_)) => {
            // Where it is pushed to asks for it there, if it lacks it.
            parts.store.put_origin(&digest, &repository.to_string())?;
            Ok(true)
        }
        (_, CachePlace::Folder { path, .. }) => Ok(rb_exporters::layout_has(Path::new(path), layer)?),
        (from, CachePlace::Bucket(place)) => Ok(is_in(from, place)),
        (Origin::Layout(_) | Origin::Bucket(_) | Origin::Store, CachePlace::Registry(_)) => Ok(false),
    }
}

/// Says whether what comes from there is in a bucket already.
fn is_in(from: &Origin, place: &Arc<Bucket>) -> bool {
    matches!(from, Origin::Bucket(bucket) if bucket == place)
}

/// Writes the manifest of a cache.
fn manifest(parts: &Parts, table: &CacheTable, layers: &[Held]) -> Result<Descriptor, EngineError> {
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id).collect();
    let config = json!({
        "architecture": "unknown",
        "os": "unknown",
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        CACHE_FIELD: table,
    });
    let layers: Vec<Descriptor> = layers.iter().map(|layer| layer.descriptor.clone()).collect();
    Ok(rb_exporters::export_cache(&parts.store, &layers, &config)?)
}
