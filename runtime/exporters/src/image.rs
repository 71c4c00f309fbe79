//! Images: a chain of snapshots and a config become a manifest among the blobs.
//!
//! Layers lowest first, each of one snapshot or of two that are one; those that change nothing are left out, and the history says so. Media types are all OCI's or all
//! Docker's, whatever a layer came with: the bytes are the same. Documents are compact JSON with fields and keys in a fixed order.
//! Source: OCI image-spec manifest.md, config.md.

use std::collections::BTreeMap;
use std::sync::Arc;

use rb_oci::{Compression, Descriptor, Digest, History, ImageConfig, MediaType, MediaTypes};
use rb_snapshot::{SnapshotId, Snapshots, Tally};
use rb_store::{Store, descriptor_digest};
use serde::Serialize;

use crate::layer::{Layer, Packing, pack_layer};
use crate::{Epoch, ExportError, Result};

/// A manifest as we write it; `oci-spec`'s own keeps annotations in no order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u32,
    media_type: MediaType,
    config: Part,
    layers: Vec<Part>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

/// A descriptor with nothing but what is needed to fetch it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    media_type: MediaType,
    digest: Digest,
    size: u64,
}

/// How an image is written.
#[derive(Clone, Debug, Default)]
pub struct ImageOptions {
    /// The compression of layers that are packed here.
    pub compression: Compression,
    /// Layers that came compressed in another way are compressed anew.
    pub force_compression: bool,
    /// Whose media types it has.
    pub types: MediaTypes,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// Annotations of the manifest's descriptor, which an index shows.
    pub descriptor_annotations: BTreeMap<String, String>,
    /// Is told of each layer that is packed, and how far that is.
    pub tally: Option<Arc<Tally>>,
}

/// Exports the tree of `root` (`None`: an image without files) with a config, whose `rootfs` is set here. Returns the
/// descriptor of the manifest; all blobs are in the store.
pub fn export_image(
    store: &Store,
    snapshots: &Snapshots,
    root: Option<SnapshotId>,
    config: &ImageConfig,
    epoch: Epoch,
    options: &ImageOptions,
) -> Result<Descriptor> {
    let packed = pack_all(store, snapshots, root, epoch, options)?;
    write_image(store, &packed, config, options)
}

/// Packs the layers of `root` as [`export_image`] does; returns those that change something, each with its DiffID, lowest first.
pub fn pack_chain(
    store: &Store,
    snapshots: &Snapshots,
    root: Option<SnapshotId>,
    epoch: Epoch,
    options: &ImageOptions,
) -> Result<Vec<(Descriptor, Digest)>> {
    let packed = pack_all(store, snapshots, root, epoch, options)?;
    Ok(packed.into_iter().flatten().map(|layer| (layer.descriptor, layer.diff_id)).collect())
}

fn pack_all(
    store: &Store,
    snapshots: &Snapshots,
    root: Option<SnapshotId>,
    epoch: Epoch,
    options: &ImageOptions,
) -> Result<Vec<Option<Layer>>> {
    let packing = Packing {
        compression: options.compression,
        force: options.force_compression,
        cancelled: None,
        tally: options.tally.as_deref(),
    };
    let mut packed = Vec::new();
    let chain = snapshots.layer_tops(root)?;
    for (place, id) in chain.iter().copied().enumerate() {
        if let Some(tally) = packing.tally {
            tally.begin_part(place as u64 + 1, chain.len() as u64);
        }
        packed.push(pack_layer(store, snapshots, id, epoch, packing)?);
    }
    Ok(packed)
}

/// Exports layers that are as they shall be, each with its DiffID, lowest first; their blobs are in the store. As
/// [`export_image`], without packing anything.
pub fn export_layers(
    store: &Store,
    layers: &[(Descriptor, Digest)],
    config: &ImageConfig,
    options: &ImageOptions,
) -> Result<Descriptor> {
    let layer = |(descriptor, diff_id): &(Descriptor, Digest)| {
        Some(Layer { descriptor: descriptor.clone(), diff_id: *diff_id })
    };
    let packed: Vec<Option<Layer>> = layers.iter().map(layer).collect();
    write_image(store, &packed, config, options)
}

/// Writes config and manifest for layers; none stands for a snapshot that changes nothing.
fn write_image(
    store: &Store,
    packed: &[Option<Layer>],
    config: &ImageConfig,
    options: &ImageOptions,
) -> Result<Descriptor> {
    let mut config = config.clone();
    config.history = settle_history(&config.history, &packed.iter().map(Option::is_some).collect::<Vec<_>>());
    config.rootfs.diff_ids = packed.iter().flatten().map(|layer| layer.diff_id).collect();
    let json = serde_json::to_vec(&config).map_err(ExportError::Spec)?;
    let types = options.types;
    let layers: Vec<Descriptor> = packed.iter().flatten().map(|layer| layer.descriptor.clone()).collect();
    let mut descriptor = write_manifest(store, &types.config(), &json, &layers, types, &options.annotations)?;
    if !options.descriptor_annotations.is_empty() {
        descriptor.set_annotations(Some(options.descriptor_annotations.clone().into_iter().collect()));
    }
    Ok(descriptor)
}

/// Writes a config, and a manifest that names it and layers.
pub(crate) fn write_manifest(
    store: &Store,
    config_type: &MediaType,
    config: &[u8],
    layers: &[Descriptor],
    types: MediaTypes,
    annotations: &BTreeMap<String, String>,
) -> Result<Descriptor> {
    let config =
        Part { media_type: config_type.clone(), digest: store.put_blob(config)?, size: config.len() as u64 };
    let layers = layers.iter().map(|layer| part(layer, types)).collect::<Result<_>>()?;
    let media_type = types.manifest();
    let manifest =
        Manifest { schema_version: 2, media_type: media_type.clone(), config, layers, annotations };
    let json = serde_json::to_vec(&manifest).map_err(ExportError::Spec)?;
    describe(&media_type, &store.put_blob(&json)?, json.len() as u64)
}

/// Makes a plain descriptor.
pub(crate) fn describe(media_type: &MediaType, digest: &Digest, size_bytes: u64) -> Result<Descriptor> {
    let part = Part { media_type: media_type.clone(), digest: *digest, size: size_bytes };
    serde_json::to_value(part).and_then(serde_json::from_value).map_err(ExportError::Spec)
}

fn part(layer: &Descriptor, types: MediaTypes) -> Result<Part> {
    let compression = Compression::of_media_type(layer.media_type());
    let media_type = compression.map_or_else(|| layer.media_type().clone(), |found| found.media_type(types));
    Ok(Part { media_type, digest: descriptor_digest(layer)?, size: layer.size() })
}

/// Makes the history agree with the layers: as many lines with a layer as there are layers. The last lines are those of the
/// last snapshots, and lines of empty snapshots are marked; layers below those, of a base without a history, get a line
/// that says nothing. Where there are more lines than snapshots, the last surplus ones are marked. A config without any history
/// stays so.
fn settle_history(history: &[History], is_kept: &[bool]) -> Vec<History> {
    if history.is_empty() {
        return Vec::new();
    }
    let lines = history.iter().filter(|line| !line.empty_layer).count();
    let count = |kept: &[bool]| kept.iter().filter(|kept| **kept).count();
    let told = is_kept.len().checked_sub(lines).map(|untold| is_kept.split_at(untold));
    let untold = told.map_or(0, |(untold, _)| count(untold));
    let mut settled = vec![History::default(); untold];
    settled.extend_from_slice(history);
    let with_layer = settled.iter_mut().skip(untold).filter(|line| !line.empty_layer);
    for (place, line) in with_layer.enumerate() {
        line.empty_layer = match told {
            Some((_, told)) => !told[place],
            None => place >= count(is_kept),
        };
    }
    settled
}

#[cfg(test)]
mod tests;
