//! Images whose layers are packed of parts of several trees: apps of buildpacks.
//!
//! In: the roots of a request, and a [`Layered`]. Out: a manifest. The layers of the base stay as they came.
//! **Invariant:** a layer is found again by the content keys of its trees and by what is taken of them, so a build that changes
//! nothing packs nothing.

use std::collections::BTreeMap;

use rb_api::{Export, Layered};
use rb_exporters::cnb::pack_parts;
use rb_exporters::{Epoch, ImageOptions, Layer, Packing, export_layers, pack_chain};
use rb_oci::{Descriptor, Digest, Hasher, LayerPart};

use crate::error::EngineError;
use crate::parts::Parts;
use crate::value::Root;

/// Tells whether an export packs something of a root's files.
pub(super) fn takes(exports: &[Export], layered: &BTreeMap<usize, Layered>, index: usize) -> bool {
    let images = exports.iter().flat_map(|export| export.images());
    let parts = images.filter_map(|image| layered.get(&image.root)).flat_map(|how| &how.layers).flatten();
    parts.filter_map(LayerPart::tree).any(|root| *root == index)
}

/// Packs an image upon a root.
pub(super) fn manifest(
    parts: &Parts,
    roots: &[Root],
    (base, how): (usize, &Layered),
    options: &ImageOptions,
    epoch: Epoch,
) -> Result<Descriptor, EngineError> {
    let store = &parts.store;
    let mut layers = match super::root(roots, base)? {
        Root::Tree(tree) if tree.host.is_some() => return Err(EngineError::HostImage),
        Root::Tree(tree) => pack_chain(store, &parts.snapshots, tree.snapshot, epoch, options)?,
        Root::Image(image, _) => image.layers.clone(),
    };
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
