//! Images of an export: a manifest for each platform, and an index where there are several.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rb_api::{Annotations, Attached, Attest, Export, ExportResult, ImageFormat, PlatformImage};
use rb_exporters::{Epoch, ExportError, ImageOptions, IndexOptions};
use rb_oci::index::{JSON_LIMIT_BYTES, config_platform};
use rb_oci::{Descriptor, Digest, ImageConfig, ImageManifest, MediaTypes, Platform};
use rb_snapshot::Tally;
use rb_sources::layout::digest_of;

use super::Said;
use super::attest::Attests;
use crate::error::EngineError;
use crate::parts::Parts;
use crate::progress::Gauge;
use crate::value::Root;

/// An image that is among the blobs, and has no name yet.
#[derive(Clone)]
pub(super) struct Made {
    /// Its manifest or index.
    pub(super) descriptor: Descriptor,
    digest: Digest,
    config: Option<Digest>,
    platforms: Vec<Platform>,
    size_bytes: u64,
    /// Layers that are left out of what is written.
    pub(super) left_out: BTreeSet<Digest>,
}

impl Made {
    /// Returns what is told of it.
    pub(super) fn result(&self, names: Vec<String>, destination: Option<PathBuf>) -> ExportResult {
        let Self { descriptor, digest, config, platforms, size_bytes, left_out: _ } = self.clone();
        ExportResult::Image { names, digest, descriptor, config, platforms, size_bytes, destination }
    }
}

/// Refuses what an export asks for in vain.
pub(crate) fn check(exports: &[Export], wishes: &BTreeMap<usize, Attest>) -> Result<(), EngineError> {
    let is_said = |export: &Export| export.roots().iter().any(|root| wishes.contains_key(root));
    for export in exports {
        let Some(format) = export.format() else { continue };
        let of_index = format.index_annotations.keys().chain(format.index_descriptor_annotations.keys());
        match of_index.into_iter().next() {
            Some(key) if export.images().len() < 2 && !format.index_of_one && !is_said(export) => {
                return Err(EngineError::Image {
                    what: format!("the annotation `{key}` of an index"),
                    reason: "has no place: an image of one platform has no index of its own".to_owned(),
                    help: Some("build it for several (`--platform=linux/amd64,linux/arm64`), or annotate its manifest".to_owned()),
                });
            }
            Some(_) | None => {}
        }
        let made: Vec<Platform> = export.images().iter().map(|image| platform_of(&image.config)).collect();
        if let Some(platform) = format.of_platform.keys().find(|platform| !made.contains(platform)) {
            return Err(EngineError::Image {
                what: format!("an annotation of {platform}"),
                reason: "has no place: no image of that platform is made".to_owned(),
                help: Some(format!("build it, too (`--platform={platform}`), or leave the annotation out")),
            });
        }
    }
    Ok(())
}

/// Packs what an export consists of.
pub(super) fn make(
    parts: &Parts,
    images: &[PlatformImage],
    roots: &[Root],
    Said { attests, layered, place }: Said<'_>,
    format: &ImageFormat,
    epoch: Epoch,
    gauge: &Gauge,
) -> Result<Made, EngineError> {
    refuse_docker(attests, images, format)?;
    let options = options(format, gauge.begin("packing"));
    let epoch = format.epoch_seconds.map_or(epoch, Epoch);
    let mut manifests = Vec::with_capacity(images.len());
    let mut made = Vec::with_capacity(images.len());
    let (mut attached, mut left_out) = (BTreeMap::new(), BTreeSet::new());
    for image in images {
        let platform = platform_of(&image.config);
        let options = options_of(&options, format.of_platform.get(&platform));
        let manifest = match layered.get(&image.root) {
            Some(how) => {
                let what = (image, how);
                super::layered::manifest(parts, roots, what, &options, epoch, &mut left_out)?
            }
            None => manifest(parts, super::root(roots, image.root)?, &image.config, &options, epoch)?,
        };
        made.push(described(parts, &manifest)?);
        let about = (&platform, &manifest);
        if let Some(found) = attests.about_image(parts, roots, (place, image.root), about, format)? {
            attached.insert(platform.clone(), found);
        }
        manifests.push((platform, manifest));
    }
    if images.len() < 2 && attached.is_empty() && !format.index_of_one {
        let reason = || EngineError::Definition { reason: "an export names no image".to_owned() };
        let made = made.pop().ok_or_else(reason)?;
        return Ok(Made { left_out, ..made });
    }
    let mut platforms: Vec<Platform> = manifests.iter().map(|(platform, _)| platform.clone()).collect();
    platforms.sort();
    platforms.dedup();
    let options = IndexOptions {
        types: format.types,
        annotations: format.index_annotations.clone(),
        descriptor_annotations: format.index_descriptor_annotations.clone(),
        // In the order of their images.
        attached: attached.into_values().collect(),
    };
    let descriptor = rb_exporters::export_index(&parts.store, manifests, &options)?;
    Ok(Made {
        digest: digest_of(&descriptor)?,
        descriptor,
        config: None,
        platforms,
        size_bytes: made.iter().map(|image| image.size_bytes).sum(),
        left_out,
    })
}

/// Refuses to say something of images with Docker's media types, which has no place for it.
fn refuse_docker(
    attests: &Attests,
    images: &[PlatformImage],
    format: &ImageFormat,
) -> Result<(), EngineError> {
    let is_said = format.attached != Attached::Nowhere && attests.has(images.iter().map(|image| image.root));
    if format.types == MediaTypes::Oci || !is_said {
        return Ok(());
    }
    Err(EngineError::Image {
        what: "an image with Docker's media types".to_owned(),
        reason: "has no attestations".to_owned(),
        help: Some("leave `oci-mediatypes=false` out, or say `--provenance=false --sbom=false`".to_owned()),
    })
}

/// Returns the platform that a config names; one that is none as it stands.
fn platform_of(config: &ImageConfig) -> Platform {
    config_platform(config).unwrap_or_else(|| Platform {
        os: config.os.clone(),
        architecture: config.architecture.clone(),
        variant: config.variant.clone(),
    })
}

fn described(parts: &Parts, manifest: &Descriptor) -> Result<Made, EngineError> {
    let digest = digest_of(manifest)?;
    let bytes = parts.store.read_blob(&digest, JSON_LIMIT_BYTES)?;
    let parsed: ImageManifest = serde_json::from_slice(&bytes)
        .map_err(|source| ExportError::Json { what: format!("manifest {digest}"), source })?;
    let layers: u64 = parsed.layers().iter().map(Descriptor::size).sum();
    Ok(Made {
        descriptor: manifest.clone(),
        digest,
        config: Some(digest_of(parsed.config())?),
        platforms: Vec::new(),
        size_bytes: parsed.config().size() + layers,
        left_out: BTreeSet::new(),
    })
}

/// Packs a tree as an image made at `epoch`: as all times in it, that of its making must not differ from build to build.
fn manifest(
    parts: &Parts,
    root: &Root,
    config: &ImageConfig,
    options: &ImageOptions,
    epoch: Epoch,
) -> Result<Descriptor, EngineError> {
    let mut config = config.clone();
    let made = UNIX_EPOCH + Duration::from_secs(u64::try_from(epoch.0).unwrap_or_default());
    config.created = Some(humantime::format_rfc3339_seconds(made).to_string());
    let store = &parts.store;
    match root {
        Root::Tree(tree) if tree.host.is_some() => Err(EngineError::HostImage),
        Root::Tree(tree) => {
            let snapshots = &parts.snapshots;
            Ok(rb_exporters::export_image(store, snapshots, tree.snapshot, &config, epoch, options)?)
        }
        Root::Image(image, _) => Ok(rb_exporters::export_layers(store, &image.layers, &config, options)?),
    }
}

/// Adds the annotations of one platform, which win over those of all.
fn options_of(options: &ImageOptions, own: Option<&Annotations>) -> ImageOptions {
    let mut options = options.clone();
    if let Some(Annotations { manifest, descriptor }) = own {
        options.annotations.extend(manifest.clone());
        options.descriptor_annotations.extend(descriptor.clone());
    }
    options
}

/// Returns how the exporter is to write an image; `tally` hears how far it is.
fn options(format: &ImageFormat, tally: Arc<Tally>) -> ImageOptions {
    let ImageFormat {
        compression,
        force_compression,
        types,
        attached: _,
        epoch_seconds: _,
        of_platform: _,
        annotations,
        descriptor_annotations,
        index_annotations: _,
        index_descriptor_annotations: _,
        index_of_one: _,
    } = format;
    ImageOptions {
        compression: *compression,
        force_compression: *force_compression,
        types: *types,
        annotations: annotations.clone(),
        descriptor_annotations: descriptor_annotations.clone(),
        tally: Some(tally),
    }
}
