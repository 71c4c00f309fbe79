//! Docker's archives: a `manifest.json` that names configs and layers by files, in use since Docker 1.10.
//!
//! A layer is taken as it lies there, packed or not; that its uncompressed bytes are what the config says is proven here.

use std::io;

use rb_oci::index::{LAYERS, MANIFESTS};
use rb_oci::{Compression, Descriptor, Digest, Hasher, ImageConfig, MediaType, MediaTypes};
use rb_store::Store;
use serde::{Deserialize, Serialize};

use super::{Bundled, Contents, Packing, document, refused, unpacking};
use crate::SourceError;

/// Most names of one image.
const NAMES: usize = 10_000;

/// The most bytes of a layer, unpacked.
const LAYER_BYTES: u64 = 1 << 40;

/// One image of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: MediaType,
    config: Part,
    layers: Vec<Part>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    media_type: MediaType,
    digest: Digest,
    size: u64,
}

/// Makes the images that `manifest.json` names.
pub(super) fn images(store: &Store, contents: &Contents, bytes: &[u8]) -> Result<Vec<Bundled>, SourceError> {
    let images: Vec<Image> =
        serde_json::from_slice(bytes).map_err(|error| refused(format!("`manifest.json`: {error}")))?;
    if images.len() > MANIFESTS {
        return Err(refused("it names more than a thousand images"));
    }
    images.iter().map(|image| one(store, contents, image)).collect()
}

fn one(store: &Store, contents: &Contents, image: &Image) -> Result<Bundled, SourceError> {
    let (digest, size) = contents.file(&image.config)?;
    let bytes = document(store, &digest)?;
    let config: ImageConfig = serde_json::from_slice(&bytes)
        .map_err(|error| SourceError::Blob { digest, reason: error.to_string() })?;
    let files = image.layers.as_deref().unwrap_or_default();
    let diff_ids = &config.rootfs.diff_ids;
    if files.len() != diff_ids.len() || files.len() > LAYERS {
        let (layers, named) = (files.len(), diff_ids.len());
        return Err(refused(format!("an image of it has {layers} layers and its config names {named}")));
    }
    let layers =
        files.iter().zip(diff_ids).map(|(file, diff_id)| layer(store, contents.file(file)?, diff_id));
    let manifest = Manifest {
        schema_version: 2,
        media_type: MediaTypes::Oci.manifest(),
        config: Part { media_type: MediaTypes::Oci.config(), digest, size },
        layers: layers.collect::<Result<_, _>>()?,
    };
    let json = serde_json::to_vec(&manifest).map_err(|error| refused(error.to_string()))?;
    let part =
        Part { media_type: manifest.media_type, digest: store.put_blob(&json)?, size: json.len() as u64 };
    let descriptor: Descriptor = serde_json::to_value(part)
        .and_then(serde_json::from_value)
        .map_err(|error| refused(error.to_string()))?;
    let names = image.repo_tags.clone().unwrap_or_default();
    if names.len() > NAMES {
        return Err(refused("an image of it has more than ten thousand names"));
    }
    Ok(Bundled { names, descriptor })
}

/// Proves a layer and tells how it is packed.
fn layer(store: &Store, (digest, size): (Digest, u64), diff_id: &Digest) -> Result<Part, SourceError> {
    let wrong = |reason: String| SourceError::Blob { digest, reason };
    let mut start = [0; 4];
    let mut blob = store.blob_reader(&digest)?;
    let count = io::Read::read(&mut blob, &mut start).map_err(|error| wrong(error.to_string()))?;
    let compression = match Packing::of(&start[..count]) {
        Packing::Plain => Compression::Uncompressed,
        Packing::Gzip => Compression::default(),
        Packing::Zstd => Compression::Zstd { level: Compression::ZSTD_LEVEL },
    };
    let found = if compression == Compression::Uncompressed {
        digest
    } else {
        let mut hasher = Hasher::default();
        let unpacked = unpacking(store.blob_reader(&digest)?);
        unpacked
            .and_then(|unpacked| io::copy(&mut io::Read::take(unpacked, LAYER_BYTES), &mut hasher))
            .map_err(|error| wrong(error.to_string()))?;
        hasher.finish().0
    };
    if found != *diff_id {
        return Err(wrong(format!("its content has diff id {found}, the image's config says {diff_id}")));
    }
    Ok(Part { media_type: compression.media_type(MediaTypes::Oci), digest, size })
}
