//! Layers: `<layer>.toml`, and what becomes of layers between builds.
//!
//! In: what a buildpack wrote of a layer; what the previous image and the cache know of it. Out: its types; what is restored
//! before the next build ([`restored`]); whether export packs it or takes it from the previous image ([`exported`]).
//! Source: buildpack spec, "Layer Types"; the lifecycle's restorer and exporter.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::decode::{self, DecodeError};
use crate::{BuildpackLayers, Exit, LayerRecord, PlatformApi, json};

/// What a buildpack says of a layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerFile {
    /// Whether later buildpacks see it.
    pub build: bool,
    /// Whether it is in the image.
    pub launch: bool,
    /// Whether it is there again when the buildpack builds the next time.
    pub cache: bool,
    /// What the buildpack keeps of it for the next time.
    pub metadata: Option<toml::Value>,
}

impl LayerFile {
    /// Reads `<layer>.toml`, which `name` names in errors.
    pub fn parse(name: &str, text: &[u8]) -> Result<Self, DecodeError> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Types {
            build: bool,
            launch: bool,
            cache: bool,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct File {
            metadata: Option<toml::Value>,
            types: Types,
            build: Option<toml::Value>,
            launch: Option<toml::Value>,
            cache: Option<toml::Value>,
        }
        let file: File = decode::toml(name, text)?;
        if file.build.is_some() || file.launch.is_some() || file.cache.is_some() {
            let message = "`build`, `launch` and `cache` belong in the table `types`";
            return Err(decode::malformed(name, 0, 0, message));
        }
        let Types { build, launch, cache } = file.types;
        Ok(Self { build, launch, cache, metadata: file.metadata })
    }

    /// Returns the text that is restored before the next build: never the types, so that the buildpack has to say them
    /// again.
    pub fn restored_text(&self) -> Result<String, toml::ser::Error> {
        #[derive(Serialize)]
        struct File<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            metadata: Option<&'a toml::Value>,
        }
        toml::to_string(&File { metadata: self.metadata.as_ref() })
    }

    /// Whether it is of no type: its folder is set aside as `<layer>.ignore`.
    pub fn is_ignored(&self) -> bool {
        !self.build && !self.launch && !self.cache
    }

    /// Returns it with its diff id, as labels and caches keep it.
    pub fn record(&self, sha: impl Into<String>) -> Result<LayerRecord, json::JsonError> {
        let data = match &self.metadata {
            Some(value) => json::of_toml(value)?,
            None => serde_json::Value::Null,
        };
        Ok(LayerRecord { sha: sha.into(), data, build: self.build, launch: self.launch, cache: self.cache })
    }
}

/// A layer that is restored before a build.
#[derive(Clone, Debug, PartialEq)]
pub struct Restored {
    /// Its diff id.
    pub sha: String,
    /// The metadata of its TOML file.
    pub data: serde_json::Value,
    /// Whether its contents are restored from the cache, and not its metadata alone.
    pub contents: bool,
}

/// Says what is restored of a buildpack's layers, given what the previous image and the cache say of them.
///
/// Metadata comes from the image for launch layers that are cached, too, or that no build sees; and from the cache for layers
/// that are in it. Contents come from the cache alone, and only where they are what the metadata speaks of; a layer of which
/// they are not is not restored at all.
pub fn restored(
    previous: Option<&BuildpackLayers>,
    cache: Option<&BuildpackLayers>,
    platform: PlatformApi,
) -> BTreeMap<String, Restored> {
    let empty = BTreeMap::new();
    let previous = previous.map_or(&empty, |one| &one.layers);
    let cache = cache.map_or(&empty, |one| &one.layers);
    let cached = |name: &String| cache.get(name).filter(|layer| layer.cache);
    let mut all: BTreeMap<&String, &LayerRecord> = BTreeMap::new();
    for (name, layer) in previous.iter().filter(|(_, layer)| layer.launch) {
        let there = if layer.cache { cached(name).is_some() } else { !layer.build };
        if there {
            all.insert(name, layer);
        }
    }
    for (name, layer) in cache.iter().filter(|(_, layer)| layer.cache) {
        let of_image = layer.launch && (previous.contains_key(name) || !platform.launch_layers_from_cache());
        if !of_image {
            all.insert(name, layer);
        }
    }
    let restore = |(name, layer): (&String, &LayerRecord)| {
        let contents = cached(name);
        let same = contents.is_none_or(|cached| cached.sha == layer.sha);
        let restored =
            Restored { sha: layer.sha.clone(), data: layer.data.clone(), contents: contents.is_some() };
        same.then(|| (name.clone(), restored))
    };
    all.into_iter().filter_map(restore).collect()
}

/// What export does with a launch layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exported<'a> {
    /// Its folder is packed.
    Packed,
    /// It is taken from the previous image, where it has this diff id.
    Reused(&'a str),
}

/// A launch layer cannot be exported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReuseError {
    /// It is to be cached and has no folder.
    #[error("layer `{0}` is to be cached, but has no folder")]
    NothingToCache(String),
    /// It has no folder, and the previous image has no such layer.
    #[error("layer `{0}` has no folder, and the previous image has no such layer")]
    NothingToReuse(String),
}

impl ReuseError {
    /// Returns the lifecycle's exit code.
    pub fn exit(&self) -> Exit {
        Exit::Export
    }
}

/// Says what export does with a launch layer of a buildpack.
pub fn exported<'a>(
    name: &str,
    layer: &LayerFile,
    has_folder: bool,
    previous: Option<&'a BuildpackLayers>,
) -> Result<Exported<'a>, ReuseError> {
    if has_folder {
        return Ok(Exported::Packed);
    }
    if layer.cache {
        return Err(ReuseError::NothingToCache(name.to_owned()));
    }
    match previous.and_then(|previous| previous.layers.get(name)) {
        Some(record) => Ok(Exported::Reused(&record.sha)),
        None => Err(ReuseError::NothingToReuse(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn types_have_their_table() {
        let file = LayerFile::parse("a.toml", b"[types]\nlaunch=true\n[metadata]\nv='1'\n").expect("reads");
        assert!(file.launch && !file.build && !file.cache && !file.is_ignored());
        assert_eq!(file.restored_text().as_deref(), Ok("[metadata]\nv = \"1\"\n"));
        assert!(LayerFile::parse("a.toml", b"").expect("reads").is_ignored());
        for text in ["launch=true", "build=false", "cache='x'", "[types]\nlaunch=1"] {
            assert!(LayerFile::parse("a.toml", text.as_bytes()).is_err(), "{text}");
        }
    }

    fn layers(flags: &str, sha: &str) -> BuildpackLayers {
        let has = |flag| flags.contains(flag);
        let record = LayerRecord {
            sha: sha.into(),
            data: serde_json::Value::Null,
            build: has('b'),
            launch: has('l'),
            cache: has('c'),
        };
        BuildpackLayers { layers: BTreeMap::from([("x".to_owned(), record)]), ..Default::default() }
    }

    #[test]
    fn the_table_of_types() {
        // Flags in the image and in the cache; whether metadata and contents are restored.
        for (image, cache, metadata, contents) in [
            ("l", "", true, false),
            ("lb", "", false, false),
            ("lc", "", false, false),
            ("lc", "lc", true, true),
            ("lbc", "lbc", true, true),
            ("", "c", true, true),
            ("", "bc", true, true),
            ("", "lc", true, true),
            ("", "b", false, false),
            ("lb", "lbc", false, false),
        ] {
            let of = |flags: &str| (!flags.is_empty()).then(|| layers(flags, "s"));
            let all = restored(of(image).as_ref(), of(cache).as_ref(), PlatformApi::LATEST);
            assert_eq!(all.contains_key("x"), metadata, "{image} {cache}");
            assert_eq!(all.get("x").is_some_and(|one| one.contents), contents, "{image} {cache}");
        }
        assert!(restored(None, Some(&layers("lc", "s")), PlatformApi::OLDEST).is_empty());
        assert!(restored(Some(&layers("lc", "s")), Some(&layers("lc", "t")), PlatformApi::LATEST).is_empty());
    }

    #[test]
    fn what_has_no_folder_is_reused_or_refused() {
        let (launch, previous) = (LayerFile { launch: true, ..Default::default() }, layers("l", "s"));
        let cached = LayerFile { cache: true, ..launch.clone() };
        assert_eq!(exported("x", &cached, true, None), Ok(Exported::Packed));
        assert_eq!(exported("x", &launch, false, Some(&previous)), Ok(Exported::Reused("s")));
        assert_eq!(
            exported("x", &cached, false, Some(&previous)),
            Err(ReuseError::NothingToCache("x".into()))
        );
        assert_eq!(
            exported("y", &launch, false, Some(&previous)),
            Err(ReuseError::NothingToReuse("y".into()))
        );
    }

    proptest! {
        /// Contents come only from the cache and only where they are those of the metadata.
        #[test]
        fn contents_are_those_of_the_metadata(image in "[blc]{0,3}", cache in "[blc]{0,3}", same: bool, oldest: bool) {
            let (previous, cached) = (layers(&image, "s"), layers(&cache, if same { "s" } else { "t" }));
            let platform = if oldest { PlatformApi::OLDEST } else { PlatformApi::LATEST };
            for (name, one) in restored(Some(&previous), Some(&cached), platform) {
                let in_cache = &cached.layers[&name];
                prop_assert_eq!(one.contents, in_cache.cache);
                prop_assert!(!one.contents || one.sha == in_cache.sha);
            }
        }
    }
}
