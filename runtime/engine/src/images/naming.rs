//! Names in the image store, each with when its image was made.

use std::time::UNIX_EPOCH;

use rb_oci::index::{INDEX_DEPTH, JSON_LIMIT_BYTES, is_index};
use rb_oci::{Descriptor, ImageConfig, ImageIndex, ImageManifest};
use rb_store::{Store, descriptor_digest};
use serde::de::DeserializeOwned;

use crate::error::EngineError;

/// Gives an image of the store a name, as [`super::full_name`] has it, in place of the image that had it.
pub(crate) fn put(store: &Store, name: &str, image: &Descriptor) -> Result<(), EngineError> {
    Ok(store.set_image(name, image, created(store, image, INDEX_DEPTH))?)
}

/// Returns when an image says it was made, in seconds since 1970; an index, when the last of its images was. What does not say,
/// or not here, is 0.
fn created(store: &Store, image: &Descriptor, depth: usize) -> i64 {
    if is_index(image) {
        let inside = read::<ImageIndex>(store, image).filter(|_| depth > 0);
        let inside = inside.iter().flat_map(|index| index.manifests());
        return inside.map(|image| created(store, image, depth - 1)).max().unwrap_or_default();
    }
    let manifest = read::<ImageManifest>(store, image);
    let config = manifest.and_then(|manifest| read::<ImageConfig>(store, manifest.config()));
    config.and_then(|config| seconds(&config.created?)).unwrap_or_default()
}

fn read<T: DeserializeOwned>(store: &Store, descriptor: &Descriptor) -> Option<T> {
    let bytes = store.read_blob(&descriptor_digest(descriptor).ok()?, JSON_LIMIT_BYTES).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Reads RFC 3339 in UTC, whichever way that is written.
fn seconds(text: &str) -> Option<i64> {
    let utc = text.strip_suffix("+00:00").map_or_else(|| text.to_owned(), |time| format!("{time}Z"));
    let since = humantime::parse_rfc3339(&utc).ok()?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn times_of_configs() {
        for (text, expected) in [
            ("2020-04-16T12:00:00Z", Some(1_587_038_400)),
            ("2020-04-16T12:00:00.123456789Z", Some(1_587_038_400)),
            ("2020-04-16T12:00:00+00:00", Some(1_587_038_400)),
            ("0001-01-01T00:00:00Z", None),
            ("yesterday", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
