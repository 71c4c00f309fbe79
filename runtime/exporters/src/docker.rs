//! Archives for a Docker daemon that has part of an image already.
//!
//! In: an image of the store, and which chains of layers the daemon has. Out: an archive for `docker load` whose known layers
//! are empty files: the daemon asks for a layer by its ChainID first and reads the file only where it has none.
//! Source: moby image/tarexport/load.go; OCI image-spec config.md, "Layer ChainID".

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use rb_oci::{Descriptor, Digest, ImageConfig};
use rb_store::Store;

use crate::layout::{DockerImage, blob_name, docker_image, put_blob, put_bytes, tagged};
use crate::tar_stream::TarStream;
use crate::{ExportError, Result};

/// Largest config.
const MAX_CONFIG_BYTES: u64 = 8 << 20;

/// What of an image went into an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Layers that are in it.
    pub sent: usize,
    /// Layers that were known.
    pub known: usize,
}

/// Returns the ChainIDs of a list of DiffIDs, lowest first.
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chains: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        chains.push(match chains.last() {
            None => *diff_id,
            Some(below) => Digest::of(format!("{below} {diff_id}")),
        });
    }
    chains
}

/// Writes an image with its names for `docker load`, without the content of layers whose ChainIDs are in `known`.
pub fn write_docker_tar(
    store: &Store,
    descriptor: &Descriptor,
    names: &[String],
    known: &BTreeSet<Digest>,
    out: impl Write,
) -> Result<Sent> {
    let mut report = Sent::default();
    let mut stream = TarStream::new(BufWriter::with_capacity(256 << 10, out));
    if let Some(mut image) = docker_image(store, descriptor)? {
        image.repo_tags = names.iter().filter_map(|name| tagged(name)).collect();
        let bytes = store.read_blob(&image.config_digest, MAX_CONFIG_BYTES)?;
        let config: ImageConfig = serde_json::from_slice(&bytes).map_err(|source| ExportError::Json {
            what: format!("config {}", image.config_digest),
            source,
        })?;
        let chains = chain_ids(&config.rootfs.diff_ids);
        // Of equal layers one is written; it is left out only where the daemon reads none of them.
        let mut wanted = BTreeMap::<Digest, bool>::new();
        for (place, layer) in image.layer_digests.iter().enumerate() {
            let is_known = chains.get(place).is_some_and(|chain| known.contains(chain));
            *(if is_known { &mut report.known } else { &mut report.sent }) += 1;
            *wanted.entry(*layer).or_default() |= !is_known;
        }
        for (layer, is_wanted) in wanted {
            if is_wanted {
                put_blob(&mut stream, store, &layer)?;
            } else {
                put_bytes(&mut stream, &PathBuf::from(blob_name(&layer)), &[])?;
            }
        }
        put_bytes(&mut stream, &PathBuf::from(blob_name(&image.config_digest)), &bytes)?;
        let manifest = serde_json::to_vec::<[&DockerImage]>(&[&image]).map_err(ExportError::Spec)?;
        put_bytes(&mut stream, "manifest.json".as_ref(), &manifest)?;
    }
    stream.finish()?.flush().map_err(ExportError::Write)?;
    Ok(report)
}

#[cfg(test)]
mod tests {
    use rb_oci::Platform;
    use rb_snapshot::DriverKind;

    use super::*;
    use crate::testing::{Fixture, file, read_tar};
    use crate::{Epoch, ImageOptions, export_image};

    #[test]
    fn known_layers_are_named_and_empty() {
        let fixture = Fixture::new(DriverKind::Overlay);
        let base = fixture.commit(None, |root| file(root, "one", "1", 0o644));
        let top = fixture.commit(Some(base), |root| file(root, "two", "2", 0o644));
        let config = ImageConfig::scratch(&Platform::host());
        let options = ImageOptions::default();
        let image = |root| {
            export_image(&fixture.store, &fixture.snapshots, Some(root), &config, Epoch(5), &options)
                .expect("exports")
        };
        let descriptor = image(top);
        let below = docker_image(&fixture.store, &image(base)).expect("reads").expect("is one");
        let bytes = fixture.store.read_blob(&below.config_digest, 1 << 20).expect("is there");
        let config: ImageConfig = serde_json::from_slice(&bytes).expect("parses");
        let known: BTreeSet<Digest> = chain_ids(&config.rootfs.diff_ids).into_iter().collect();
        let mut tar = Vec::new();
        let names = ["app".to_owned()];
        let sent = write_docker_tar(&fixture.store, &descriptor, &names, &known, &mut tar).expect("writes");
        assert_eq!(sent, Sent { sent: 1, known: 1 });
        let entries = read_tar(&tar);
        let at = |name: &str| &entries.iter().find(|entry| entry.name() == name).expect(name).content;
        let manifest: serde_json::Value = serde_json::from_slice(at("manifest.json")).expect("parses");
        assert_eq!(manifest[0]["RepoTags"], serde_json::json!(["app:latest"]));
        let layer = |place: usize| at(manifest[0]["Layers"][place].as_str().expect("is a path"));
        assert!(layer(0).is_empty() && !layer(1).is_empty());
        assert!(!at(manifest[0]["Config"].as_str().expect("is a path")).is_empty());
    }

    #[test]
    fn chains_are_those_of_the_specification() {
        let (a, b) = (Digest::of("a"), Digest::of("b"));
        assert_eq!(chain_ids(&[a, b]), [a, Digest::of(format!("{a} {b}"))]);
        assert!(chain_ids(&[]).is_empty());
    }
}
