//! Images whose layers are packed of parts of several trees: apps of buildpacks.
//!
//! In: the roots of a request, and a [`Layered`]. Out: a manifest. The layers of the base stay as they came, and so do those that another
//! image has already.
//! **Invariant:** a layer is found again by the content keys of its trees and by what is taken of them, so a build that changes
//! nothing packs nothing.

use std::collections::{BTreeMap, BTreeSet};

use rb_api::{Export, Layered, PlatformImage};
use rb_exporters::cnb::pack_parts;
use rb_exporters::{Epoch, ImageOptions, Layer, Packing, export_layers, pack_chain};
use rb_oci::{Descriptor, Digest, Hasher, LayerPart};
use rb_store::descriptor_digest;

use crate::error::EngineError;
use crate::parts::Parts;
use crate::value::Root;

/// Tells whether an export packs something of a root's files.
pub(super) fn takes(exports: &[Export], layered: &BTreeMap<usize, Layered>, index: usize) -> bool {
    let images = exports.iter().flat_map(|export| export.images());
    let parts = images.filter_map(|image| layered.get(&image.root)).flat_map(|how| &how.layers).flatten();
    parts.filter_map(LayerPart::tree).any(|root| *root == index)
}

/// Tells whether the layers of a base are left out of what is written.
pub(super) fn leaves_base(layered: &BTreeMap<usize, Layered>, index: usize) -> bool {
    layered.get(&index).is_some_and(|how| how.without_base)
}

/// Packs an image upon a root. Adds to `left_out` which of its layers are not to be written.
pub(super) fn manifest(
    parts: &Parts,
    roots: &[Root],
    (image, how): (&PlatformImage, &Layered),
    options: &ImageOptions,
    epoch: Epoch,
    left_out: &mut BTreeSet<Digest>,
) -> Result<Descriptor, EngineError> {
    let store = &parts.store;
    let mut layers = match super::root(roots, image.root)? {
        Root::Tree(tree) if tree.host.is_some() => return Err(EngineError::HostImage),
        Root::Tree(tree) => pack_chain(store, &parts.snapshots, tree.snapshot, epoch, options)?,
        Root::Image(image, _) => image.layers.clone(),
    };
    if how.without_base {
        // What steps laid upon the base is not the base's.
        let of_base = |diff_id: &Digest| image.config.rootfs.diff_ids.contains(diff_id);
        for (layer, _) in layers.iter().filter(|(_, diff_id)| of_base(diff_id)) {
            left_out.insert(descriptor_digest(layer)?);
        }
    }
    let of_base: Vec<Digest> = layers.iter().map(|(_, diff_id)| *diff_id).collect();
    let packing = Packing {
        compression: options.compression,
        force: options.force_compression,
        cancelled: None,
        tally: options.tally.as_deref(),
    };
    for (place, wanted) in how.layers.iter().enumerate() {
        if let Some(tally) = packing.tally {
            tally.begin_part(place as u64 + 1, how.layers.len() as u64);
        }
        if let [LayerPart::Stored { descriptor, diff_id }] = wanted.as_slice() {
            layers.push(((**descriptor).clone(), *diff_id));
            continue;
        }
        let key = key(roots, wanted)?;
        let of = |index: usize| super::files(parts, roots, index);
        let own: Vec<_> = wanted.iter().map(|part| part.clone().try_map(of)).collect::<Result<_, _>>()?;
        let Layer { descriptor, diff_id } = pack_parts(store, &key, &own, packing)?;
        layers.push((descriptor, diff_id));
    }
    let own: Vec<Digest> = layers[of_base.len()..].iter().map(|(_, diff_id)| *diff_id).collect();
    let config = how.finish.config(&of_base, &own).map_err(|reason| EngineError::Image {
        what: "the image".to_owned(),
        reason: format!("has no config: {reason}"),
        help: None,
    })?;
    Ok(export_layers(store, &layers, &config, options)?)
}

/// Returns what stands for all that is in a layer.
fn key(roots: &[Root], parts: &[LayerPart<usize>]) -> Result<Digest, EngineError> {
    let mut hasher = Hasher::default();
    for part in parts {
        // The content of a root stands for it: its place says nothing from one build to the next.
        let part = part.clone().try_map(|root| Ok::<_, EngineError>(super::root(roots, root)?.key()))?;
        let text = format!("{part:?}");
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    Ok(hasher.finish().0)
}
