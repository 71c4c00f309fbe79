//! What the outputs that are images have in common: compression, media types, annotations; and those of the store.

use std::collections::BTreeMap;
use std::str::FromStr;

use rb_api::{Annotations, Attached, ImageFormat, ImageName, Push};
use rb_oci::{Compression, MediaTypes, Platform};

use super::fields::{Fields, check_name, value_error};
use super::{OutputSpec, OutputSpecError};

/// Reads how an image is written; `is_oci` says whose media types it has where nothing is said.
pub(super) fn format(fields: &mut Fields, is_oci: bool) -> Result<ImageFormat, OutputSpecError> {
    let said = fields.flag("oci-mediatypes")?;
    let types = if said.unwrap_or(is_oci) { MediaTypes::Oci } else { MediaTypes::Docker };
    let compression = compression(fields)?;
    let force_compression = fields.flag("force-compression")?.unwrap_or(false);
    if fields.flag("rewrite-timestamp")? == Some(false) {
        let what = "rewrite-timestamp=false".to_owned();
        return Err(OutputSpecError::Unsupported { what, why: "times are never later than the epoch" });
    }
    // No layer is one that may not be handed on, and what is said of an image is always in it.
    fields.flag("prefer-nondist-layers")?;
    fields.flag("attestation-inline")?;
    let is_artifact = fields.flag("oci-artifact")?.unwrap_or(false);
    let attached = if is_artifact { Attached::Artifact } else { Attached::Manifest };
    let epoch_seconds = fields.epoch()?;
    let mut annotations = fields.take_all("annotation.");
    annotations.extend(fields.take_all("annotation-manifest."));
    let descriptor_annotations = fields.take_all("annotation-manifest-descriptor.");
    let index_annotations = fields.take_all("annotation-index.");
    let index_descriptor_annotations = fields.take_all("annotation-index-descriptor.");
    let mut of_platform = BTreeMap::<Platform, Annotations>::new();
    for (prefix, is_descriptor) in
        [("annotation[", false), ("annotation-manifest[", false), ("annotation-manifest-descriptor[", true)]
    {
        for (field, value) in fields.take_all(prefix) {
            let wrong = || OutputSpecError::Annotation { word: format!("{prefix}{field}") };
            let (platform, key) = field.split_once("].").ok_or_else(wrong)?;
            let own = of_platform.entry(platform.parse().map_err(|_| wrong())?).or_default();
            let own = if is_descriptor { &mut own.descriptor } else { &mut own.manifest };
            own.insert(key.to_owned(), value);
        }
    }
    // Nobody asked for Docker's types where the type of the output alone brings them.
    let has_none = annotations.is_empty() && index_annotations.is_empty() && of_platform.is_empty();
    let types = match (said, has_none) {
        (None, false) => MediaTypes::Oci,
        (Some(false), false) => {
            let what = format!("type={}", fields.kind());
            return Err(OutputSpecError::DockerAnnotations { what });
        }
        (None, true) | (Some(_), _) => types,
    };
    Ok(ImageFormat {
        compression,
        force_compression,
        types,
        attached,
        epoch_seconds,
        annotations,
        descriptor_annotations,
        index_annotations,
        index_descriptor_annotations,
        of_platform,
        index_of_one: false,
    })
}

pub(super) fn compression(fields: &mut Fields) -> Result<Compression, OutputSpecError> {
    const EXPECTED: &str = "uncompressed, gzip or zstd";
    let kind = fields.take("compression").unwrap_or_else(|| "gzip".to_owned());
    let level = fields.take("compression-level");
    let leveled = |most: u32, default: u32| match &level {
        None => Ok(default),
        Some(text) => text.parse().ok().filter(|level| *level <= most).ok_or_else(|| {
            value_error("compression-level", text.clone(), &format!("0 to {most} for {kind}"))
        }),
    };
    match kind.as_str() {
        "uncompressed" => Ok(Compression::Uncompressed),
        "gzip" => Ok(Compression::Gzip { level: leveled(9, Compression::GZIP_LEVEL)? }),
        // As zstd has it, 0 is the default.
        "zstd" => Ok(Compression::Zstd {
            level: match leveled(22, Compression::ZSTD_LEVEL)? {
                0 => Compression::ZSTD_LEVEL,
                level => level,
            },
        }),
        "estargz" | "nydus" => Err(OutputSpecError::Unsupported {
            what: format!("compression={kind}"),
            why: "layers are uncompressed, gzip or zstd",
        }),
        _ => Err(value_error("compression", kind, EXPECTED)),
    }
}

/// Reads `type=image` and `type=registry`.
pub(super) fn of_store(fields: &mut Fields) -> Result<OutputSpec, OutputSpecError> {
    let is_registry = fields.kind() == "registry";
    let names = fields.names()?;
    let prefix = fields.take("dangling-name-prefix");
    prefix.iter().try_for_each(|prefix| check_name("dangling-name-prefix", prefix, 0, prefix))?;
    let canonical = fields.flag("name-canonical")?.unwrap_or(false);
    let push = fields.flag("push")?.unwrap_or(is_registry);
    let by_digest = fields.flag("push-by-digest")?.unwrap_or(false);
    let is_kept = fields.flag("store")?.unwrap_or(true);
    if !is_kept && !push {
        let what = "store=false".to_owned();
        return Err(OutputSpecError::Unsupported { what, why: "an image that is not pushed is kept" });
    }
    // Images are unpacked when something is built on them or they are run.
    fields.flag("unpack")?;
    fields.refuse("registry.insecure", "config.toml says how a registry is reached: `rb help registries`")?;
    let format = format(fields, true)?;
    let mut all: Vec<ImageName> = names.iter().cloned().map(ImageName::Plain).collect();
    if canonical {
        all.extend(names.iter().map(|name| ImageName::Digest(without_tag(name).to_owned())));
    }
    match prefix {
        Some(prefix) if names.is_empty() => all.push(ImageName::Digest(prefix)),
        // Under its digest alone; there is no registry of such.
        None if names.is_empty() && push => return Err(fields.missing("name")),
        Some(_) | None => {}
    }
    Ok(OutputSpec::Image { names: all, format, push: push.then_some(Push { by_digest, ..Push::default() }) })
}

fn without_tag(name: &str) -> &str {
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    name[last..].find([':', '@']).map_or(name, |end| &name[..last + end])
}

/// What an annotation of `--annotation` is put on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AnnotationOf {
    /// The manifest.
    Manifest,
    /// Its descriptor.
    Descriptor,
    /// The index.
    Index,
    /// Its descriptor.
    IndexDescriptor,
}

/// One `--annotation`: what it is put on, of all platforms or of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Annotation {
    of: Vec<(AnnotationOf, Option<Platform>)>,
    key: String,
    value: String,
}

impl FromStr for Annotation {
    type Err = OutputSpecError;

    fn from_str(text: &str) -> Result<Self, OutputSpecError> {
        let malformed = || OutputSpecError::Annotation { word: text.to_owned() };
        let (key, value) = text.split_once('=').ok_or_else(malformed)?;
        let (of, key) = match key.split_once(':') {
            None => (vec![(AnnotationOf::Manifest, None)], key),
            Some((of, key)) => {
                let of = of.split(',').map(|of| annotated(of).ok_or_else(malformed));
                (of.collect::<Result<_, _>>()?, key)
            }
        };
        if key.is_empty() {
            return Err(malformed());
        }
        Ok(Self { of, key: key.to_owned(), value: value.to_owned() })
    }
}

/// Reads what is annotated: `manifest`, `manifest[linux/amd64]`; an index is of no one platform.
fn annotated(text: &str) -> Option<(AnnotationOf, Option<Platform>)> {
    let (of, platform) = match text.split_once('[') {
        Some((of, rest)) => (of, Some(rest.strip_suffix(']')?.parse().ok()?)),
        None => (text, None),
    };
    let of = match of {
        "manifest" => AnnotationOf::Manifest,
        "manifest-descriptor" => AnnotationOf::Descriptor,
        "index" if platform.is_none() => AnnotationOf::Index,
        "index-descriptor" if platform.is_none() => AnnotationOf::IndexDescriptor,
        _ => return None,
    };
    Some((of, platform))
}

impl Annotation {
    /// Adds it to what an image is written with; what the output itself says stays.
    pub(crate) fn add_to(&self, format: &mut ImageFormat) {
        for (of, platform) in &self.of {
            let map: &mut BTreeMap<String, String> = match (of, platform) {
                (AnnotationOf::Manifest, Some(platform)) => {
                    &mut format.of_platform.entry(platform.clone()).or_default().manifest
                }
                (AnnotationOf::Descriptor, Some(platform)) => {
                    &mut format.of_platform.entry(platform.clone()).or_default().descriptor
                }
                (AnnotationOf::Manifest, None) => &mut format.annotations,
                (AnnotationOf::Descriptor, None) => &mut format.descriptor_annotations,
                (AnnotationOf::Index, _) => &mut format.index_annotations,
                (AnnotationOf::IndexDescriptor, _) => &mut format.index_descriptor_annotations,
            };
            map.entry(self.key.clone()).or_insert_with(|| self.value.clone());
        }
    }
}
