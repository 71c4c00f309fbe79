//! The previous image of an app: what its buildpacks may use again where nothing is kept of their last time.
//!
//! In: the config of an image and its layers as they are stored. Out: for each buildpack a text that recalls what the image says of its
//! layers, lent to the step as a secret, so that it is in no key and is looked at only by a step that runs; and the stored layer that
//! a diff id stands for, which goes into the next image as it is: its bytes are not fetched.
//! A text is words for the shell of the step ([`super::steps`]): `recall NAME DIFF-ID TEXT`, each in quotes, with all but plain letters
//! escaped, so that nothing of an image is ever a command.
//! **Invariant:** only layers that the image has are recalled, and those alone of which a buildpack needs no contents.
//! Source: platform spec, "Phase: analyze"; the lifecycle's restorer.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rb_llb::extension;
use rb_oci::{Descriptor, Digest, ImageConfig, Platform};

use crate::labels::LIFECYCLE_METADATA;
use crate::layer::restored;
use crate::sbom::FORMATS;
use crate::{BuildpackLayers, DecodeError, LayerFile, LifecycleMetadata, PlatformApi, escape_id, json};

/// More of one buildpack is not recalled: no engine takes larger secrets.
const MOST_BYTES: usize = 400 << 10;

/// An image whose layers may be used again.
#[derive(Clone, Debug)]
pub struct Previous {
    metadata: LifecycleMetadata,
    /// By their diff ids.
    layers: BTreeMap<String, (Descriptor, Digest)>,
    /// Its bills of materials, by their paths below the folder of all layers.
    sboms: BTreeMap<String, Vec<u8>>,
}

impl Previous {
    /// Takes an image with its layers, lowest first; nothing where it is not of buildpacks.
    ///
    /// # Errors
    /// Its label cannot be read.
    pub fn of_image(config: &ImageConfig, layers: &[Descriptor]) -> Result<Option<Self>, DecodeError> {
        let Some(label) = config.config.labels.get(LIFECYCLE_METADATA) else { return Ok(None) };
        let metadata = LifecycleMetadata::parse(label)?;
        let stored = config.rootfs.diff_ids.iter().zip(layers);
        let layers = stored.map(|(diff_id, layer)| (diff_id.to_string(), (layer.clone(), *diff_id)));
        Ok(Some(Self { metadata, layers: layers.collect(), sboms: BTreeMap::new() }))
    }

    /// Returns the layer that holds its bills of materials.
    pub fn sbom_layer(&self) -> Option<&Descriptor> {
        let layer = self.metadata.sbom.as_ref()?;
        self.layers.get(&layer.sha).map(|(descriptor, _)| descriptor)
    }

    /// Adds its bills of materials, by their paths below the folder of all layers: what is used again has those that it had.
    #[must_use]
    pub fn with_sboms(self, sboms: BTreeMap<String, Vec<u8>>) -> Self {
        Self { sboms, ..self }
    }

    /// Returns the bills of materials of a launch layer, each with its path below the folder of all layers.
    pub(super) fn sboms_of(&self, id: &str, layer: &str) -> impl Iterator<Item = (&String, &Vec<u8>)> {
        let folder = format!("sbom/launch/{}/{layer}", escape_id(id));
        FORMATS.iter().filter_map(move |(file, _)| self.sboms.get_key_value(&format!("{folder}/{file}")))
    }

    /// Returns the texts that recall it, each by the id under which it is lent.
    pub fn recalled(&self, platform: &Platform) -> Vec<(String, String)> {
        let of = |one: &BuildpackLayers| Some((recalled_as(platform, &one.id), self.text(one)?));
        self.metadata.buildpacks.iter().filter_map(of).collect()
    }

    /// Returns the layer of this diff id.
    pub(super) fn layer(&self, diff_id: &str) -> Option<&(Descriptor, Digest)> {
        self.layers.get(diff_id)
    }

    fn text(&self, of: &BuildpackLayers) -> Option<String> {
        let mut text = String::new();
        for (name, layer) in restored(Some(of), None, PlatformApi::LATEST) {
            let Some(file) = file_of(&layer.data) else { continue };
            if is_plain(&name) && self.layers.contains_key(&layer.sha) {
                recall(&mut text, &name, &layer.sha, &file);
            }
        }
        let store = of.store.as_ref().and_then(|store| file_of(&store.metadata));
        if let Some(store) = store.filter(|store| !store.is_empty()) {
            recall(&mut text, "store", "", &store);
        }
        (!text.is_empty() && text.len() <= MOST_BYTES).then_some(text)
    }
}

/// Returns the id under which a step finds what is recalled of a buildpack.
pub(super) fn recalled_as(platform: &Platform, id: &str) -> String {
    format!("{}previous/{platform}/{id}", extension::HINT_CACHE)
}

/// Returns a file with this metadata and no more; nothing if TOML cannot say it.
fn file_of(metadata: &serde_json::Value) -> Option<String> {
    let metadata = json::to_toml(metadata);
    LayerFile { metadata, ..LayerFile::default() }.restored_text().ok()
}

/// Whether a layer's name is one word for a shell.
fn is_plain(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(is_plain)
}

fn recall(all: &mut String, name: &str, sha: &str, text: &str) {
    let mut escaped = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b' ' | b'_' | b'.' | b'=' | b'/' | b':' => {
                escaped.push(char::from(byte));
            }
            other => write!(escaped, "\\0{other:03o}").unwrap_or_default(),
        }
    }
    writeln!(all, "recall '{name}' '{sha}' '{escaped}'").unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use rb_oci::MediaType;
    use serde_json::json;

    use super::*;

    fn previous(layers: &serde_json::Value) -> Previous {
        let (one, two) = (Digest::of("1"), Digest::of("2"));
        let label = json!({"buildpacks": [
            {"key": "a/b", "version": "1", "layers": layers, "store": {"metadata": {"n": [1, 2.5]}}},
            {"key": "c", "version": "1", "layers": {}},
        ]});
        let mut config = ImageConfig::default();
        config.config.labels.insert(LIFECYCLE_METADATA.to_owned(), label.to_string());
        config.rootfs.diff_ids = vec![one, two];
        let blob = |text: &str| {
            let digest = Digest::of(text).to_string();
            let layer =
                json!({"mediaType": MediaType::ImageLayerGzip.to_string(), "digest": digest, "size": 1});
            serde_json::from_value(layer).expect("a descriptor")
        };
        Previous::of_image(&config, &[blob("x"), blob("y")]).expect("reads").expect("is of buildpacks")
    }

    #[test]
    fn what_is_recalled_of_an_image() {
        let (one, two) = (Digest::of("1").to_string(), Digest::of("2").to_string());
        let flags = |sha: &str, launch: bool, build: bool, cache: bool| json!({"sha": sha, "data": {"it's": "$(x)"}, "launch": launch, "build": build, "cache": cache});
        let image = previous(&json!({
            "mine": flags(&one, true, false, false),
            "built": flags(&two, true, true, false),
            "cached": flags(&two, true, false, true),
            "gone": flags(&Digest::of("3").to_string(), true, false, false),
            "$(x)": flags(&two, true, false, false),
            "none": {"sha": two, "data": null, "launch": true},
        }));
        let platform: Platform = "linux/amd64".parse().expect("a platform");
        let all = image.recalled(&platform);
        let [(id, text)] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!(*id, recalled_as(&platform, "a/b"));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                format!(
                    "recall 'mine' '{one}' '\\0133metadata\\0135\\0012\\0042it\\0047s\\0042 = \\0042\\0044\\0050x\\0051\\0042\\0012'"
                ),
                format!("recall 'none' '{two}' ''"),
                "recall 'store' '' '\\0133metadata\\0135\\0012n = \\01331\\0054 2.5\\0135\\0012'".to_owned(),
            ]
        );
        assert!(image.sbom_layer().is_none());
        let paths = ["sbom/launch/a_b/mine/sbom.spdx.json", "sbom/launch/a_b/sbom.spdx.json", "sbom/build/x"];
        let image = image.with_sboms(paths.map(|path| (path.to_owned(), b"{}".to_vec())).into());
        assert_eq!(image.sboms_of("a/b", "mine").map(|(path, _)| path).collect::<Vec<_>>(), [paths[0]]);
        assert!(image.layer(&one).is_some() && image.layer("sha256:none").is_none());
        assert!(Previous::of_image(&ImageConfig::default(), &[]).expect("reads").is_none());
    }

    #[test]
    fn too_much_is_not_recalled() {
        let data = "x".repeat(MOST_BYTES);
        let image = previous(&json!({
            "mine": {"sha": Digest::of("1").to_string(), "data": {"long": data}, "launch": true},
        }));
        assert!(image.recalled(&Platform::host()).is_empty());
    }
}
