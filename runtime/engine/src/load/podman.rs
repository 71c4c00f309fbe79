//! podman: shown the blobs of the store as an OCI layout, of which it reads what it lacks.
//!
//! In: images. Out: the same in podman's store, by their names. A layout names its layers before any is read, so that
//! podman looks for each by its digest first; an archive it would read from one end to the other. A podman that keeps
//! its images on another machine, or refuses the layout, is given archives as before.
//! Sources: podman-pull(1), "oci:"; podman-load(1); containers/image, "oci/layout".

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use rb_oci::Digest;
use rb_sources::layout;
use serde_json::json;

use super::{Given, Host, LoadedImage, Temporary, failed};
use crate::LocalEngine;
use crate::error::EngineError;

/// Hands images to podman.
pub(super) fn give(
    engine: &LocalEngine,
    images: &[LoadedImage],
    host: Host<'_>,
) -> Result<Given, EngineError> {
    let place = Temporary::new(engine)?;
    for (number, image) in images.iter().enumerate() {
        let taken = match show(engine, image, &place.path, number, host) {
            Err(error @ EngineError::Loading { .. }) => {
                tracing::debug!(%error, "podman takes no layout: it is given an archive");
                load(engine, image, &place.path, host)?
            }
            shown => shown?,
        };
        if !taken {
            return Ok(Given::Absent);
        }
    }
    Ok(Given::Taken(None))
}

/// Lets podman pull from a layout; false where there is no podman.
fn show(
    engine: &LocalEngine,
    image: &LoadedImage,
    place: &Path,
    number: usize,
    host: Host<'_>,
) -> Result<bool, EngineError> {
    // podman makes a name of the folder's, so that has to be one, and nobody else's.
    let folder = format!("rb-load-{}-{number}", std::process::id());
    lay_out(engine, image, &place.join(&folder))?;
    let pulled = host.call(place, &["podman", "pull", "--quiet", &format!("oci:{folder}")])?;
    let Some(id) = pulled.as_deref().map(|said| said.trim().rsplit('\n').next().unwrap_or_default()) else {
        return Ok(false);
    };
    // A digest is none that anybody gives.
    let names = image.names.iter().filter(|name| !name.contains('@')).map(String::as_str);
    let tag: Vec<&str> = ["podman", "tag", id].into_iter().chain(names).collect();
    if tag.len() > 3 {
        host.call(place, &tag)?;
    }
    let format = "{{range .RepoTags}}{{println .}}{{end}}";
    let has = host.call(place, &["podman", "image", "inspect", "--format", format, id])?.unwrap_or_default();
    let made = |name: &&str| name.rsplit('/').next().is_some_and(|last| last.starts_with(&folder));
    for name in has.lines().map(str::trim).filter(made) {
        host.call(place, &["podman", "untag", id, name])?;
    }
    Ok(true)
}

/// Makes a layout of one image out of the store's own files.
fn lay_out(engine: &LocalEngine, image: &LoadedImage, folder: &Path) -> Result<(), EngineError> {
    let (manifest, read) = engine.read_image(&image.descriptor)?;
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(|source| failed("create", &blobs, source))?;
    let mut digests = BTreeSet::from([read.digest]);
    for part in std::iter::once(manifest.config()).chain(manifest.layers()) {
        digests.insert(layout::digest_of(part)?);
    }
    digests.iter().try_for_each(|digest| link(engine, digest, &blobs.join(digest.hex())))?;
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": image.descriptor.media_type().to_string(),
            "digest": read.digest,
            "size": image.descriptor.size(),
        }],
    });
    for (name, text) in
        [("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#.to_owned()), ("index.json", index.to_string())]
    {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|source| failed("write", &path, source))?;
    }
    Ok(())
}

/// Gives a blob a place in the layout: by a link that keeps it from being cleaned away meanwhile, where there can be
/// one.
fn link(engine: &LocalEngine, digest: &Digest, to: &Path) -> Result<(), EngineError> {
    let blob = engine.parts.store.blob_path(digest);
    fs::hard_link(&blob, to).or_else(|_| symlink(&blob, to)).map_err(|source| failed("link", to, source))
}

/// Hands an image over as an archive; false where there is no podman.
fn load(
    engine: &LocalEngine,
    image: &LoadedImage,
    place: &Path,
    host: Host<'_>,
) -> Result<bool, EngineError> {
    let archive = place.join("image.tar");
    // An archive of docker's holds all names of an image; podman looks at one of an OCI archive's.
    let file = File::create(&archive).map_err(|source| failed("create", &archive, source))?;
    let LoadedImage { names, descriptor } = image;
    rb_exporters::write_docker_tar(&engine.parts.store, descriptor, names, &BTreeSet::new(), file)
        .map_err(|error| error.in_file(&archive))?;
    let from = archive.display().to_string();
    Ok(host.call(place, &["podman", "load", "--quiet", "--input", &from])?.is_some())
}
