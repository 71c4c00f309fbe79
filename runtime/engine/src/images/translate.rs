//! The same image in other media types: OCI's, or Docker's.
//!
//! In: an [`ImageTree`]. Out: one with the same blobs, whose documents call them by those types; so it has another
//! digest, but where nothing is called otherwise. Tools that read OCI layouts look for OCI's manifests, and old daemons
//! for Docker's. What is said of a manifest that becomes another is said of none there is, and is left out.
//! Sources: OCI image-spec media-types.md, "Compatibility Matrix"; Docker image manifest V2, schema 2; skopeo-copy(1),
//! `--format`.

use std::collections::{BTreeMap, BTreeSet};

use rb_oci::index::{DOCKER_INDEX, DOCKER_MANIFEST};
use rb_oci::{Compression, Descriptor, Digest, MediaType, MediaTypes};
use serde_json::Value;

use super::content::digest_of;
use super::tree::ImageTree;
use crate::error::EngineError;

/// Says whether documents of an image are of Docker's types.
pub(super) fn is_dockers(tree: &ImageTree) -> bool {
    let is_dockers = |media_type: &str| [DOCKER_INDEX, DOCKER_MANIFEST].contains(&media_type);
    tree.documents.iter().any(|(descriptor, _)| is_dockers(descriptor.media_type().as_ref()))
}

/// Translates an image.
pub(super) fn translated(tree: ImageTree, types: MediaTypes) -> Result<ImageTree, EngineError> {
    let ImageTree { documents, blobs } = tree;
    let mut made = BTreeMap::<Digest, Descriptor>::new();
    let mut translated: Vec<(Descriptor, Vec<u8>)> = Vec::with_capacity(documents.len());
    let mut stale = BTreeSet::new();
    for (mut descriptor, bytes) in documents {
        let before: Value = serde_json::from_slice(&bytes).map_err(|error| EngineError::Image {
            what: format!("manifest {}", descriptor.digest()),
            reason: format!("cannot be translated: {error}"),
            help: None,
        })?;
        let mut document = before.clone();
        let own_type = match document.get_mut("manifests").and_then(Value::as_array_mut) {
            Some(entries) => {
                entries.iter_mut().for_each(|entry| replace(entry, &made));
                let (about, others) =
                    std::mem::take(entries).into_iter().partition(|entry| is_stale(entry, &made));
                *entries = others;
                let about: Vec<Value> = about;
                stale
                    .extend(about.iter().filter_map(|entry| entry["digest"].as_str().map(ToOwned::to_owned)));
                types.index()
            }
            None => {
                if let Some(config) = document.get_mut("config") {
                    retype(config, |old| is_config(old).then(|| types.config()));
                }
                let layers = document.get_mut("layers").and_then(Value::as_array_mut);
                let layer =
                    |old: &str| Some(Compression::of_media_type(&MediaType::from(old))?.media_type(types));
                layers.into_iter().flatten().for_each(|part| retype(part, layer));
                types.manifest()
            }
        };
        let old = digest_of(&descriptor)?;
        // OCI's need not say what they are.
        if types == MediaTypes::Docker || !document["mediaType"].is_null() {
            document["mediaType"] = own_type.to_string().into();
        }
        let bytes = if document == before { bytes } else { document.to_string().into_bytes() };
        descriptor.set_media_type(own_type);
        descriptor.set_size(bytes.len() as u64);
        let digest = Digest::of(&bytes).to_string().parse();
        descriptor.set_digest(digest.expect("a sha256 digest is one of OCI's"));
        made.insert(old, descriptor.clone());
        translated.push((descriptor, bytes));
    }
    translated.retain(|(descriptor, _)| !stale.contains(&descriptor.digest().to_string()));
    Ok(ImageTree { documents: translated, blobs })
}

/// Gives an entry of an index what its manifest became.
fn replace(entry: &mut Value, made: &BTreeMap<Digest, Descriptor>) {
    let digest = entry["digest"].as_str().and_then(|text| text.parse::<Digest>().ok());
    if let Some(new) = digest.and_then(|digest| made.get(&digest)) {
        entry["mediaType"] = new.media_type().to_string().into();
        entry["digest"] = new.digest().to_string().into();
        entry["size"] = new.size().into();
    }
}

/// Says whether an entry of an index is about a manifest that became another.
fn is_stale(entry: &Value, made: &BTreeMap<Digest, Descriptor>) -> bool {
    let of = entry["annotations"][rb_exporters::REFERENCE_DIGEST].as_str();
    let Some(of) = of.and_then(|text| text.parse::<Digest>().ok()) else { return false };
    made.get(&of).is_some_and(|new| new.digest().to_string() != of.to_string())
}

/// Calls a part of a manifest by another type, where there is one.
fn retype(part: &mut Value, new: impl Fn(&str) -> Option<MediaType>) {
    if let Some(media_type) = part["mediaType"].as_str().and_then(new) {
        part["mediaType"] = media_type.to_string().into();
    }
}

/// Says whether a type is that of an image's config: those of other things have no other name.
fn is_config(media_type: &str) -> bool {
    [MediaTypes::Oci, MediaTypes::Docker].iter().any(|types| types.config().as_ref() == media_type)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A tree of an index and its manifest.
    fn tree(types: MediaTypes) -> ImageTree {
        let part = |media_type: MediaType, name: &str| json!({"mediaType": media_type.to_string(), "digest": Digest::of(name), "size": 1});
        let layers = [Compression::Uncompressed, Compression::default(), Compression::Zstd { level: 3 }];
        let manifest = json!({
            "schemaVersion": 2, "mediaType": types.manifest().to_string(),
            "config": part(types.config(), "config"),
            "layers": layers.map(|layer| part(layer.media_type(types), "layer")),
            "annotations": {"a": "b"},
        });
        let described = |media_type: MediaType, document: &Value| -> (Descriptor, Vec<u8>) {
            let bytes = document.to_string().into_bytes();
            let text = json!({
                "mediaType": media_type.to_string(), "digest": Digest::of(&bytes), "size": bytes.len(),
                "platform": {"os": "linux", "architecture": "arm64"},
            });
            (serde_json::from_value(text).expect("a descriptor"), bytes)
        };
        let manifest = described(types.manifest(), &manifest);
        let index = json!({
            "schemaVersion": 2, "mediaType": types.index().to_string(), "manifests": [manifest.0],
        });
        ImageTree { documents: vec![manifest, described(types.index(), &index)], blobs: BTreeMap::new() }
    }

    #[test]
    fn one_kind_becomes_the_other_and_back() {
        let (oci, docker) = (tree(MediaTypes::Oci), tree(MediaTypes::Docker));
        assert!(is_dockers(&docker) && !is_dockers(&oci));
        let same = |one: &ImageTree, two: &ImageTree| {
            let values = |tree: &ImageTree| -> Vec<(Value, String)> {
                let value = |(descriptor, bytes): &(Descriptor, Vec<u8>)| {
                    (serde_json::from_slice(bytes).expect("JSON"), descriptor.media_type().to_string())
                };
                tree.documents.iter().map(value).collect()
            };
            values(one) == values(two)
        };
        let to = |tree: &ImageTree, types| translated(tree.clone(), types).expect("translates");
        assert!(same(&to(&docker, MediaTypes::Oci), &oci));
        assert!(same(&to(&oci, MediaTypes::Docker), &docker));
        // What is called so already is the very same, byte for byte.
        assert_eq!(to(&oci, MediaTypes::Oci).documents, oci.documents);
        assert_eq!(to(&docker, MediaTypes::Docker).documents, docker.documents);
    }

    #[test]
    fn what_is_said_of_another_manifest_is_left_out() {
        let ImageTree { documents, blobs } = tree(MediaTypes::Oci);
        let [manifest, (index, bytes)] = documents.try_into().expect("two");
        let about = json!({ "schemaVersion": 2, "layers": [] }).to_string().into_bytes();
        let (kind, reference) = (MediaTypes::Oci.manifest(), manifest.0.digest().to_string());
        let entry = json!({
            "mediaType": kind.to_string(), "digest": Digest::of(&about), "size": about.len(),
            "annotations": { rb_exporters::REFERENCE_DIGEST: reference },
        });
        let mut document: Value = serde_json::from_slice(&bytes).expect("JSON");
        document["manifests"].as_array_mut().expect("a list").push(entry.clone());
        let about = (serde_json::from_value(entry).expect("a descriptor"), about);
        let tree =
            ImageTree { documents: vec![manifest, about, (index, document.to_string().into())], blobs };
        let count = |types| translated(tree.clone(), types).expect("translates").documents.len();
        assert_eq!((count(MediaTypes::Oci), count(MediaTypes::Docker)), (3, 2));
    }

    #[test]
    fn what_is_no_image_keeps_its_types() {
        let document = json!({
            "schemaVersion": 2,
            "config": {"mediaType": "application/vnd.example+json", "digest": Digest::of("c"), "size": 1},
            "layers": [{"mediaType": "text/plain", "digest": Digest::of("l"), "size": 1}],
        });
        let bytes = document.to_string().into_bytes();
        let descriptor = json!({
            "mediaType": MediaTypes::Oci.manifest().to_string(), "digest": Digest::of(&bytes), "size": bytes.len(),
        });
        let descriptor = serde_json::from_value(descriptor).expect("a descriptor");
        let tree = ImageTree { documents: vec![(descriptor, bytes.clone())], blobs: BTreeMap::new() };
        assert_eq!(translated(tree, MediaTypes::Oci).expect("translates").documents[0].1, bytes);
    }
}
