//! Indexes: the images of several platforms under one name.
//!
//! In: manifests among the blobs, each with its platform. Out: an index among the blobs, which lists them by operating system,
//! architecture and variant, whatever order they came in, and behind them what is attached to them. **Invariant:** one platform
//! is listed once.
//! Source: OCI image-spec image-index.md.

use std::collections::BTreeMap;

use rb_oci::{Descriptor, Digest, MediaType, MediaTypes, Platform};
use rb_store::{Store, descriptor_digest};
use serde::Serialize;

use crate::image::describe;
use crate::{ExportError, Result};

/// Operating system and architecture of what is for no platform.
const UNKNOWN: &str = "unknown";

/// How an index is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexOptions {
    /// Whose media type it has.
    pub types: MediaTypes,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Annotations of its descriptor.
    pub descriptor_annotations: BTreeMap<String, String>,
    /// Manifests of no platform, which stand behind the images, in this order.
    pub attached: Vec<Descriptor>,
}

/// An index as we write it; `oci-spec`'s own keeps annotations in no order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u32,
    media_type: MediaType,
    manifests: Vec<Entry>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: MediaType,
    digest: Digest,
    size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    platform: Platform,
}

/// Writes the index of some images. Returns its descriptor; the index is in the store, as the images must be.
///
/// `SamePlatform` means that two different images are for one platform.
pub fn export_index(
    store: &Store,
    images: impl IntoIterator<Item = (Platform, Descriptor)>,
    options: &IndexOptions,
) -> Result<Descriptor> {
    let (media_type, json) = index_document(images, options)?;
    let mut descriptor = describe(&media_type, &store.put_blob(&json)?, json.len() as u64)?;
    if !options.descriptor_annotations.is_empty() {
        descriptor.set_annotations(Some(options.descriptor_annotations.clone().into_iter().collect()));
    }
    Ok(descriptor)
}

/// Returns the index of some images, wherever they are, and its media type.
///
/// `SamePlatform` means that two different images are for one platform.
pub fn index_document(
    images: impl IntoIterator<Item = (Platform, Descriptor)>,
    options: &IndexOptions,
) -> Result<(MediaType, Vec<u8>)> {
    let mut entries = BTreeMap::<Platform, Entry>::new();
    for (platform, descriptor) in images {
        let entry = entry(&descriptor, platform.clone())?;
        match entries.get(&platform) {
            Some(first) if first.digest != entry.digest => {
                return Err(ExportError::SamePlatform { platform });
            }
            Some(_) => {}
            None => drop(entries.insert(platform, entry)),
        }
    }
    let media_type = options.types.index();
    let unknown = || Platform { os: UNKNOWN.to_owned(), architecture: UNKNOWN.to_owned(), variant: None };
    let attached = options.attached.iter().map(|descriptor| entry(descriptor, unknown()));
    let index = Index {
        schema_version: 2,
        media_type: media_type.clone(),
        manifests: entries.into_values().map(Ok).chain(attached).collect::<Result<_>>()?,
        annotations: &options.annotations,
    };
    let json = serde_json::to_vec(&index).map_err(ExportError::Spec)?;
    Ok((media_type, json))
}

fn entry(descriptor: &Descriptor, platform: Platform) -> Result<Entry> {
    Ok(Entry {
        media_type: descriptor.media_type().clone(),
        digest: descriptor_digest(descriptor)?,
        size: descriptor.size(),
        annotations: descriptor.annotations().clone().unwrap_or_default().into_iter().collect(),
        platform,
    })
}

#[cfg(test)]
mod tests {
    use rb_oci::ImageConfig;
    use rb_snapshot::DriverKind;

    use super::*;
    use crate::testing::Fixture;
    use crate::{Epoch, ImageOptions, export_image};

    fn platform(text: &str) -> Platform {
        text.parse().expect("a platform")
    }

    fn image(fixture: &Fixture, text: &str, author: &str) -> (Platform, Descriptor) {
        let platform = platform(text);
        let config = ImageConfig { author: Some(author.to_owned()), ..ImageConfig::scratch(&platform) };
        let options = ImageOptions {
            descriptor_annotations: BTreeMap::from([("of".to_owned(), text.to_owned())]),
            ..ImageOptions::default()
        };
        let image = export_image(&fixture.store, &fixture.snapshots, None, &config, Epoch(5), &options);
        (platform, image.expect("exports"))
    }

    #[test]
    fn platforms_are_listed_in_one_order_and_once() {
        let fixture = Fixture::new(DriverKind::Overlay);
        let names = ["linux/arm64", "linux/amd64/v3", "linux/arm/v6", "linux/arm/v7", "linux/amd64"];
        let images: Vec<_> = names.iter().map(|name| image(&fixture, name, "me")).collect();
        let options = IndexOptions {
            annotations: BTreeMap::from([("a".to_owned(), "1".to_owned())]),
            ..IndexOptions::default()
        };
        let index = |images: Vec<_>| export_index(&fixture.store, images, &options).expect("exports");
        let descriptor = index(images.clone());
        let twice = images.iter().rev().chain(&images).cloned().collect();
        assert_eq!(index(twice), descriptor);
        let digest = descriptor_digest(&descriptor).expect("a digest");
        let bytes = fixture.store.read_blob(&digest, 1 << 20).expect("is there");
        let read: serde_json::Value = serde_json::from_slice(&bytes).expect("parses");
        let listed: Vec<&str> = read["manifests"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|entry| entry["annotations"]["of"].as_str().expect("text"))
            .collect();
        assert_eq!(listed, ["linux/amd64", "linux/amd64/v3", "linux/arm/v6", "linux/arm/v7", "linux/arm64"]);
        assert_eq!(
            read["manifests"][2]["platform"],
            serde_json::json!({"os": "linux", "architecture": "arm", "variant": "v6"})
        );
        assert_eq!(
            (&read["mediaType"], &read["annotations"]["a"]),
            (&"application/vnd.oci.image.index.v1+json".into(), &"1".into(),)
        );
    }

    #[test]
    fn one_platform_is_one_image() {
        let fixture = Fixture::new(DriverKind::Overlay);
        let images = [image(&fixture, "linux/arm64/v8", "me"), image(&fixture, "linux/arm64", "you")];
        let error = export_index(&fixture.store, images, &IndexOptions::default()).expect_err("differ");
        assert!(
            matches!(&error, ExportError::SamePlatform { platform } if platform.to_string() == "linux/arm64")
        );
    }
}
