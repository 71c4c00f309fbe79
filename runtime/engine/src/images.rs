//! The images of the store: list, look into, save, forget.

use std::path::Path;

use rb_oci::{Descriptor, Digest, ImageConfig, ImageManifest, MediaType};
use rb_sources::layout::{self, LayoutImage};
use rb_store::ImageRow;
use serde_json::json;

use crate::LocalEngine;
use crate::error::EngineError;

/// What is known of one image.
#[derive(Debug, Clone)]
pub struct ImageDetails {
    /// All its names.
    pub names: Vec<String>,
    /// Its manifest.
    pub manifest: Descriptor,
    /// Its config.
    pub config: ImageConfig,
    /// Its layers as stored, lowest first.
    pub layers: Vec<Descriptor>,
}

/// How an image is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveFormat {
    /// An OCI layout as a folder.
    OciDirectory,
    /// An OCI layout as a tar file, which `docker load` and `podman load` read too.
    OciTar,
}

impl LocalEngine {
    /// Lists all images, by name.
    pub fn images(&self) -> Result<Vec<ImageRow>, EngineError> {
        Ok(self.parts.store.images()?)
    }

    /// Finds an image by name, digest, or the beginning of a digest (at least 6 digits).
    pub fn inspect_image(&self, name_or_digest: &str) -> Result<ImageDetails, EngineError> {
        let found = self.find_image(name_or_digest)?;
        let names = self.images()?.into_iter().filter(|row| row.descriptor.digest() == found.digest());
        let (manifest, image) = self.read_image(&found)?;
        Ok(ImageDetails {
            names: names.map(|row| row.name).collect(),
            manifest: found,
            config: image.config,
            layers: manifest.layers().clone(),
        })
    }

    /// Forgets a name. The blobs stay until nothing needs them.
    pub fn remove_image(&self, name: &str) -> Result<(), EngineError> {
        if self.parts.store.remove_image(&full_name(name))? { Ok(()) } else { Err(self.no_such_image(name)) }
    }

    /// Writes images as an OCI layout; the destination is replaced whole or stays as it was.
    pub fn save_image(
        &self,
        names: &[String],
        format: SaveFormat,
        destination: &Path,
    ) -> Result<(), EngineError> {
        let named = |name: &String| Ok((Some(full_name(name)), self.find_image(name)?));
        let images = names.iter().map(named).collect::<Result<Vec<_>, EngineError>>()?;
        match format {
            SaveFormat::OciDirectory => {
                rb_exporters::write_oci_layout(&self.parts.store, &images, destination)?;
            }
            SaveFormat::OciTar => rb_exporters::write_oci_tar_file(&self.parts.store, &images, destination)?,
        }
        Ok(())
    }

    pub(crate) fn find_image(&self, name: &str) -> Result<Descriptor, EngineError> {
        if let Some(row) = self.parts.store.image(&full_name(name))? {
            return Ok(row.descriptor);
        }
        let digits = name.strip_prefix("sha256:").unwrap_or(name);
        let is_digest = digits.len() >= 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let begins =
            |row: &ImageRow| row.descriptor.digest().to_string().starts_with(&format!("sha256:{digits}"));
        let found = self.images()?.into_iter().find(|row| is_digest && begins(row));
        if let Some(row) = found {
            return Ok(row.descriptor);
        }
        self.nameless(name)?.ok_or_else(|| self.no_such_image(name))
    }

    /// Finds an image that has no name, such as one that was built only to be run: by its whole digest.
    fn nameless(&self, name: &str) -> Result<Option<Descriptor>, EngineError> {
        let store = &self.parts.store;
        let Ok(digest) = name.parse::<Digest>() else { return Ok(None) };
        let Some(size) = store.blob_size(&digest)? else { return Ok(None) };
        let bytes = store.read_blob(&digest, 4 << 20)?;
        if serde_json::from_slice::<ImageManifest>(&bytes).is_err() {
            return Ok(None);
        }
        let text = json!({"mediaType": MediaType::ImageManifest, "digest": digest, "size": size});
        Ok(serde_json::from_value(text).ok())
    }

    /// Reads and verifies manifest and config; the store's own folder is an OCI layout.
    pub(crate) fn read_image(
        &self,
        descriptor: &Descriptor,
    ) -> Result<(ImageManifest, LayoutImage), EngineError> {
        Ok(layout::load(self.parts.store.root(), descriptor)?)
    }

    fn no_such_image(&self, name: &str) -> EngineError {
        let names: Vec<String> = self.images().unwrap_or_default().into_iter().map(|row| row.name).collect();
        let short = names.iter().map(|name| name.strip_suffix(":latest").unwrap_or(name));
        let nearest = rb_diag::nearest(name, short).map(ToOwned::to_owned);
        EngineError::NoSuchImage { name: name.to_owned(), nearest }
    }
}

/// Returns a name with its tag: `:latest` where none is given, as everywhere in the field.
pub(crate) fn full_name(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) || last.parse::<Digest>().is_ok() {
        name.to_owned()
    } else {
        format!("{name}:latest")
    }
}

#[cfg(test)]
mod tests {
    use super::full_name;

    #[test]
    fn names_without_a_tag_are_latest() {
        assert_eq!(full_name("hello"), "hello:latest");
        assert_eq!(full_name("hello:1"), "hello:1");
        assert_eq!(full_name("localhost:5000/hello"), "localhost:5000/hello:latest");
        assert_eq!(full_name("a/b@sha256:00"), "a/b@sha256:00");
    }
}
