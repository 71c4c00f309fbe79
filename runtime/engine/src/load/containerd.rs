//! containerd, by `ctr`: asked which blobs it has, and given an archive without those.
//!
//! In: images. Out: the same in containerd, by their whole names, and how many layers went. An archive may lack what
//! the content store has: blobs are looked for there when the image is put together. Where one was cleaned away
//! meanwhile, that fails, and containerd is given the whole archive. `ctr` itself reads CONTAINERD_ADDRESS and
//! CONTAINERD_NAMESPACE.
//! Sources: ctr, "images import", "content ls"; containerd images/archive/importer.go.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use rb_oci::{Descriptor, Digest, Reference};
use rb_snapshot::Tally;
use rb_sources::layout;

use super::{Given, Host, Layers, LoadedImage, Temporary, failed};
use crate::LocalEngine;
use crate::error::EngineError;

/// Where it listens.
const SOCKET: &str = "/run/containerd/containerd.sock";

/// Hands images to containerd.
pub(super) fn give(
    engine: &LocalEngine,
    images: &[LoadedImage],
    address: Option<&str>,
    host: Host<'_>,
) -> Result<Given, EngineError> {
    let address = address.unwrap_or(SOCKET);
    if !Path::new(address.strip_prefix("unix://").unwrap_or(address)).exists() {
        return Ok(Given::Absent);
    }
    let place = Temporary::new(engine)?;
    let Some(listed) = host.call(&place.path, &["ctr", "content", "ls", "--quiet"])? else {
        return Ok(Given::Absent);
    };
    let known: BTreeSet<Digest> = listed.lines().filter_map(|line| line.trim().parse().ok()).collect();
    let mut layers = BTreeSet::new();
    for image in images {
        let (manifest, _) = engine.read_image(&image.descriptor)?;
        layers.extend(manifest.layers().iter().map(layout::digest_of).collect::<Result<Vec<_>, _>>()?);
    }
    let there: BTreeSet<Digest> = layers.intersection(&known).copied().collect();
    let counts = |there: &BTreeSet<Digest>| -> Layers { (layers.len() - there.len(), there.len()) };
    match import(engine, images, &there, &place.path, host) {
        Err(error @ EngineError::Loading { .. }) if !there.is_empty() => {
            tracing::debug!(%error, "containerd is given what it said it had");
            let none = BTreeSet::new();
            import(engine, images, &none, &place.path, host)?;
            Ok(Given::Taken(Some(counts(&none))))
        }
        done => done.map(|()| Given::Taken(Some(counts(&there)))),
    }
}

/// Imports an archive of all images without the blobs that are `there`.
fn import(
    engine: &LocalEngine,
    images: &[LoadedImage],
    there: &BTreeSet<Digest>,
    place: &Path,
    host: Host<'_>,
) -> Result<(), EngineError> {
    // containerd knows whole names only.
    let whole = |name: &String| {
        name.parse::<Reference>().map_or_else(|_| name.clone(), |reference| reference.to_string())
    };
    let named = |image: &LoadedImage| -> Vec<(Option<String>, Descriptor)> {
        image.names.iter().map(|name| (Some(whole(name)), image.descriptor.clone())).collect()
    };
    let all: Vec<_> = images.iter().flat_map(named).collect();
    let archive = place.join("images.tar");
    let file = File::create(&archive).map_err(|source| failed("create", &archive, source))?;
    rb_exporters::write_oci_tar_without(&engine.parts.store, &all, there, file, &Tally::default())
        .map_err(|error| error.in_file(&archive))?;
    let from = archive.display().to_string();
    host.call(place, &["ctr", "images", "import", &from]).map(drop)
}
