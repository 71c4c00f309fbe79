//! What a build at a daemon gives to its exporter: trees, and what the images made of them are.
//!
//! In: an export, and what its trees are called at the daemon. Out: the result of a gateway, in the words of BuildKit's own frontends.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use rb_api::{Export, PlatformImage, SolveError};
use rb_oci::{ImageConfig, Platform};
use rb_wire::gateway;

use crate::error::RemoteError;
use crate::exports::input;

/// Where the config of an image stands in the metadata of a result.
pub(crate) const CONFIG: &str = "containerimage.config";
/// Where that of its base stands: its layers and what is said of them keep their times, and layers of others so their digests.
pub(crate) const BASE: &str = "containerimage.base.config";

/// Puts trees together as what an export makes of them; `trees` are theirs at the daemon, in the order of [`Export::roots`].
pub(crate) fn result(
    export: &Export,
    trees: &[String],
    epoch_seconds: i64,
) -> Result<gateway::Result, SolveError> {
    let tree = |id: &String| gateway::Ref { id: id.clone(), def: None };
    let mut metadata = BTreeMap::new();
    let epoch = export.format().and_then(|format| format.epoch_seconds).unwrap_or(epoch_seconds);
    let images = export.images();
    let is_indexed = export.format().is_some_and(|format| format.index_of_one);
    if images.len() < 2 && !is_indexed {
        if let Some(image) = images.first() {
            describe(&mut metadata, &image.config, "", Some(epoch))?;
        }
        let tree = trees.first().map(tree).unwrap_or_default();
        return Ok(gateway::Result { result: Some(gateway::result::Result::Ref(tree)), metadata });
    }
    let platforms: Vec<Platform> = images.iter().map(platform_of).collect();
    let parts = images.iter().zip(&platforms).zip(trees);
    index(parts.map(|((image, platform), id)| (platform, &image.config, id)).collect(), Some(epoch))
}

/// Returns a result of images for these platforms, whose trees have these names at the daemon: an index, or one alone.
pub(crate) fn of_platforms(
    parts: Vec<(&Platform, &ImageConfig, &String)>,
    is_index: bool,
) -> Result<gateway::Result, SolveError> {
    match parts.as_slice() {
        [(_, config, tree)] if !is_index => {
            let mut metadata = BTreeMap::new();
            describe(&mut metadata, config, "", None)?;
            let tree = gateway::Ref { id: (*tree).clone(), def: None };
            Ok(gateway::Result { result: Some(gateway::result::Result::Ref(tree)), metadata })
        }
        _ => index(parts, None),
    }
}

fn index(
    parts: Vec<(&Platform, &ImageConfig, &String)>,
    epoch_seconds: Option<i64>,
) -> Result<gateway::Result, SolveError> {
    let mut metadata = BTreeMap::new();
    let mut refs = BTreeMap::new();
    let mut platforms = Vec::new();
    for (platform, config, id) in parts {
        let key = platform.to_string();
        if refs.insert(key.clone(), gateway::Ref { id: id.clone(), def: None }).is_some() {
            return Err(input(
                format!("two images of one index are for {key}"),
                "build one for each platform",
            ));
        }
        describe(&mut metadata, config, &format!("/{key}"), epoch_seconds)?;
        platforms.push(serde_json::json!({ "ID": key, "Platform": platform }));
    }
    let list = serde_json::json!({ "Platforms": platforms }).to_string();
    metadata.insert("refs.platforms".to_owned(), Bytes::from(list));
    let refs = gateway::result::Result::Refs(gateway::RefMap { refs });
    Ok(gateway::Result { result: Some(refs), metadata })
}

/// Returns a result of trees that are no images.
pub(crate) fn of_trees(trees: &[String]) -> gateway::Result {
    let tree = |id: &String| gateway::Ref { id: id.clone(), def: None };
    if let [one] = trees {
        let result = Some(gateway::result::Result::Ref(tree(one)));
        return gateway::Result { result, metadata: BTreeMap::new() };
    }
    // A daemon wants to be told what each is for.
    let host = Platform::host();
    let list =
        (0..trees.len()).map(|number| serde_json::json!({ "ID": number.to_string(), "Platform": host }));
    let list = serde_json::json!({ "Platforms": list.collect::<Vec<_>>() }).to_string();
    let refs = trees.iter().enumerate().map(|(number, id)| (number.to_string(), tree(id))).collect();
    gateway::Result {
        result: Some(gateway::result::Result::Refs(gateway::RefMap { refs })),
        metadata: [("refs.platforms".to_owned(), Bytes::from(list))].into(),
    }
}

pub(crate) fn platform_of(image: &PlatformImage) -> Platform {
    let config = &image.config;
    Platform {
        os: config.os.clone(),
        architecture: config.architecture.clone(),
        variant: config.variant.clone(),
    }
}

/// Says what an image is, and what of it is its base's: the config lists the layers that were there before any step.
fn describe(
    metadata: &mut BTreeMap<String, Bytes>,
    image: &ImageConfig,
    of_platform: &str,
    epoch_seconds: Option<i64>,
) -> Result<(), SolveError> {
    let config = config(image, epoch_seconds)?;
    if !image.rootfs.diff_ids.is_empty() {
        metadata.insert(format!("{BASE}{of_platform}"), config.clone());
    }
    metadata.insert(format!("{CONFIG}{of_platform}"), config);
    Ok(())
}

/// Writes a config; without a time it is the exporter's to say when it was made.
fn config(image: &ImageConfig, epoch_seconds: Option<i64>) -> Result<Bytes, SolveError> {
    let mut config = image.clone();
    config.created = epoch_seconds.map(|seconds| {
        let made = UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        humantime::format_rfc3339_seconds(made).to_string()
    });
    let bytes = serde_json::to_vec(&config).map_err(|error| RemoteError::answer(error.to_string()))?;
    Ok(bytes.into())
}
