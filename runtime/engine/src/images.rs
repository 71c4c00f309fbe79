//! The images of the store: list, look into, name, save, load, unpack, forget; and copy, from and to elsewhere.
//!
//! | module | idea |
//! | --- | --- |
//! | `assemble` | images of layers that are there, to where they belong |
//! | `content` | where documents and blobs lie: store, registry, layout |
//! | `tree` | all that an image consists of |
//! | `copy` | from one such place to another, in skopeo's words |
//! | `translate` | the same image in OCI's or Docker's media types |
//! | `layout_out` | an image more in a layout |
//! | `naming` | names, and when their images were made |

mod assemble;
pub(crate) mod content;
mod copy;
mod layout_out;
pub(crate) mod naming;
mod translate;
pub(crate) mod tree;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use rb_api::EventSink;
use rb_exec::Rootless;
use rb_exporters::{TreeOptions, TreeReport};
use rb_oci::index::is_index;
use rb_oci::{Descriptor, Digest, ImageConfig, ImageManifest, Platform, Reference};
use rb_snapshot::Tally;
use rb_sources::SourceError;
use rb_sources::bundle::{self, Bundled};
use rb_sources::layout::{self, LayoutImage};
use rb_store::ImageRow;

use crate::LocalEngine;
use crate::error::EngineError;
use crate::fetch::{self, Told};
use crate::pinned::{Origin, PinnedImage};
use crate::value::Tree;
pub use assemble::Delivery;
pub use copy::{Copied, Place, PlaceError};

/// What is known of one image.
#[derive(Debug, Clone)]
pub struct ImageDetails {
    /// All its names.
    pub names: Vec<String>,
    /// The index that it was found in, if its name stands for one.
    pub index: Option<Descriptor>,
    /// Platforms of that index.
    pub platforms: Vec<String>,
    /// Its manifest.
    pub manifest: Descriptor,
    /// Its config.
    pub config: ImageConfig,
    /// Its layers as stored, lowest first.
    pub layers: Vec<Descriptor>,
    /// What is said of it in that index: statements, each with its type among its annotations.
    pub attestations: Vec<Descriptor>,
}

/// How images are saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveFormat {
    /// An OCI layout as a folder.
    OciDirectory,
    /// An OCI layout as a tar file, which `docker load` and `podman load` read too.
    OciTar,
}

/// An image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The names it got; maybe none.
    pub names: Vec<String>,
    /// Its manifest or index.
    pub digest: Digest,
}

impl LocalEngine {
    /// Lists all images, by name.
    pub fn images(&self) -> Result<Vec<ImageRow>, EngineError> {
        Ok(self.parts.store.images()?)
    }

    /// Returns all names of an image.
    pub(crate) fn names_of(&self, image: &Descriptor) -> Result<Vec<String>, EngineError> {
        let rows = self.images()?.into_iter().filter(|row| row.descriptor.digest() == image.digest());
        Ok(rows.map(|row| row.name).collect())
    }

    /// Gives an image a further name.
    pub fn tag_image(&self, name: &str, further: &str) -> Result<(), EngineError> {
        let found = self.find_image(name)?;
        self.set_name(further, &found)
    }

    /// Gives an image of the store a name, in place of the image that had it.
    pub(crate) fn set_name(&self, name: &str, image: &Descriptor) -> Result<(), EngineError> {
        let reference: Result<Reference, _> = name.parse();
        let refused = |reason: String| EngineError::Image {
            what: format!("`{}`", name.chars().take(300).flat_map(char::escape_debug).collect::<String>()),
            reason,
            help: Some(
                "write `name`, `name:tag` or `registry/name:tag`, the name in small letters".to_owned(),
            ),
        };
        match reference {
            Ok(reference) if reference.digest().is_none() => {}
            Ok(_) => return Err(refused("holds a digest, which nobody can give to an image".to_owned())),
            Err(error) => return Err(refused(format!("cannot be given to an image: {error}"))),
        }
        let mut image = image.clone();
        image.set_annotations(None);
        naming::put(&self.parts.store, &full_name(name), &image)
    }

    /// Forgets a name, or with a digest the only name of an image; `force` takes all its names. The blobs stay until nothing
    /// needs them. Returns the names that are gone.
    pub fn remove_image(&self, name: &str, force: bool) -> Result<Vec<String>, EngineError> {
        let store = &self.parts.store;
        if store.remove_image(&full_name(name))? {
            return Ok(vec![full_name(name)]);
        }
        let names = self.names_of(&self.find_image(name)?)?;
        if names.is_empty() {
            return Err(self.no_such_image(name));
        }
        if names.len() > 1 && !force {
            return Err(EngineError::Image {
                what: format!("image `{name}`"),
                reason: format!("has several names: {}", names.join(", ")),
                help: Some("name one of them, or take all with `-f`".to_owned()),
            });
        }
        for name in &names {
            store.remove_image(name)?;
        }
        Ok(names)
    }

    /// Writes images to a file or folder; the destination is replaced whole or stays as it was. Its folder must be there.
    pub fn save_image(
        &self,
        names: &[String],
        format: SaveFormat,
        destination: &Path,
    ) -> Result<(), EngineError> {
        let images = self.named_images(names)?;
        refuse_missing_folder(destination)?;
        self.write_images(&images, format, destination)
    }

    /// Writes images as an archive to a stream.
    pub fn stream_image(&self, names: &[String], out: impl Write) -> Result<(), EngineError> {
        Ok(rb_exporters::write_oci_tar(
            &self.parts.store,
            &self.named_images(names)?,
            out,
            &Tally::default(),
        )?)
    }

    fn named_images(&self, names: &[String]) -> Result<Vec<(Option<String>, Descriptor)>, EngineError> {
        let named = |name: &String| {
            let found = self.find_image(name)?;
            let absent = crate::verify::absent_platforms(&self.parts.store, &found)?;
            if !absent.is_empty() {
                let help = format!(
                    "`rb image copy --platform OS/ARCH {name} oci-archive:FILE` saves one that is here"
                );
                return Err(tree::incomplete(format!("image `{name}`"), &absent, help));
            }
            // What was asked for by its digest has no name to carry along.
            let known = self.parts.store.image(&full_name(name))?.map(|row| row.name);
            Ok((known, found))
        };
        names.iter().map(named).collect()
    }

    pub(crate) fn write_images(
        &self,
        images: &[(Option<String>, Descriptor)],
        format: SaveFormat,
        destination: &Path,
    ) -> Result<(), EngineError> {
        let (store, tally) = (&self.parts.store, Tally::default());
        match format {
            SaveFormat::OciDirectory => rb_exporters::write_oci_layout(store, images, destination, &tally)?,
            SaveFormat::OciTar => rb_exporters::write_oci_tar_file(store, images, destination, &tally)?,
        }
        Ok(())
    }

    /// Loads the images of an archive, or of a layout in a folder, with the names they have there. `name` is one for an image
    /// that is alone. Nothing gets a name unless all of it proved true.
    pub fn load_archive(&self, from: &Path, name: Option<&str>) -> Result<Vec<Loaded>, EngineError> {
        let images = match fs::metadata(from) {
            Ok(metadata) if metadata.is_dir() => self.read_layout(from)?,
            _ => self.read_archive(from)?,
        };
        self.name_loaded(images, name)
    }

    /// Loads the images of an archive from a stream.
    pub fn load_stream(&self, input: impl Read, name: Option<&str>) -> Result<Vec<Loaded>, EngineError> {
        self.name_loaded(bundle::load(&self.parts.store, input)?, name)
    }

    fn name_loaded(&self, images: Vec<Bundled>, name: Option<&str>) -> Result<Vec<Loaded>, EngineError> {
        if name.is_some() && images.len() != 1 {
            return Err(EngineError::Image {
                what: "the archive".to_owned(),
                reason: format!("holds {} images, and only one can get the name", images.len()),
                help: None,
            });
        }
        let mut loaded = Vec::new();
        for Bundled { names, descriptor } in images {
            let names = name.map_or(names, |name| vec![name.to_owned()]);
            for name in &names {
                self.set_name(name, &descriptor)?;
            }
            let mut names: Vec<String> = names.iter().map(|name| full_name(name)).collect();
            names.sort();
            names.dedup();
            loaded.push(Loaded { names, digest: content::digest_of(&descriptor)? });
        }
        Ok(loaded)
    }

    /// Reads an archive into the store; nothing gets a name.
    pub(crate) fn read_archive(&self, file: &Path) -> Result<Vec<Bundled>, EngineError> {
        let opened = File::open(file).and_then(|opened| match opened.metadata()?.is_dir() {
            true => Err(io::ErrorKind::IsADirectory.into()),
            false => Ok(opened),
        });
        let opened =
            opened.map_err(|source| rb_sources::SourceError::Read { path: file.to_owned(), source })?;
        Ok(bundle::load(&self.parts.store, opened)?)
    }

    /// Writes the files of an image into a folder that is empty or not there, with owners and times where this process may
    /// give files away. Returns what was written.
    pub async fn unpack_image(
        &self,
        name: &str,
        platform: &Platform,
        destination: &Path,
        events: &EventSink,
    ) -> Result<TreeReport, EngineError> {
        let taken = match fs::read_dir(destination) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        if taken {
            return Err(EngineError::Image {
                what: format!("`{}`", destination.display()),
                reason: "is not an empty folder".to_owned(),
                help: Some("name one that is empty or not there".to_owned()),
            });
        }
        let engine = self.clone();
        let (found, platform) = (self.find_image(name)?, platform.clone());
        let image = content::run_blocking(move || {
            let manifest = engine.image_for(&found, &platform)?;
            let (_, image) = engine.read_image(&manifest)?;
            Ok(PinnedImage { origin: Origin::Store, ..PinnedImage::of_layout(image) })
        })
        .await?;
        let tree = match fetch::unpacked(&self.parts, &image)? {
            Some(tree) => tree,
            None => {
                let told = Told::begin(events, &image.name());
                let tree = fetch::tree(&self.parts, &image, &told.listener()).await;
                told.end(&tree);
                tree.map_err(EngineError::of)?
            }
        };
        let engine = self.clone();
        let destination = destination.to_owned();
        content::run_blocking(move || engine.write_files(&tree, &destination)).await
    }

    fn write_files(&self, tree: &Tree, destination: &Path) -> Result<TreeReport, EngineError> {
        let view = self.parts.snapshots.view(tree.snapshot)?;
        let options = TreeOptions {
            keep_times: true,
            keep_owner: self.parts.privileges.mode != Rootless::SingleId,
            keep_links: true,
            follow: true,
            merge: destination.exists(),
            precious: self.parts.precious.clone(),
            ..TreeOptions::default()
        };
        Ok(rb_exporters::write_tree(&view, "/", destination, &options)?)
    }

    /// Finds the manifest for a platform without a network; a manifest stands for itself.
    pub fn image_for(&self, root: &Descriptor, platform: &Platform) -> Result<Descriptor, EngineError> {
        if !is_index(root) {
            return Ok(root.clone());
        }
        let known = layout::known(self.parts.store.root(), root, platform).map_err(|error| match error {
            // The folder is the store's, of which nobody asked.
            SourceError::NoSuchImage { path: _, wanted: _, have } => {
                tree::no_platform(&platform.to_string(), &have)
            }
            error => error.into(),
        })?;
        match known {
            Some(image) => Ok(crate::names::document(&self.parts, &image.digest)?
                .ok_or(rb_store::StoreError::UnknownBlob(image.digest))?),
            None => Err(EngineError::Image {
                what: "the image".to_owned(),
                reason: format!("lacks what is for {platform}: its manifest or config is not here"),
                help: Some("build, pull or load it again".to_owned()),
            }),
        }
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
        match name.parse::<Digest>() {
            Ok(digest) => crate::names::document(&self.parts, &digest),
            Err(_) => Ok(None),
        }
    }

    /// Reads a layout of the user's into the store; nothing gets a name.
    fn read_layout(&self, folder: &Path) -> Result<Vec<Bundled>, EngineError> {
        Ok(bundle::load_folder(&self.parts.store, folder)?)
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

/// Refuses to write where no folder is: a name that was mistyped should not make folders.
fn refuse_missing_folder(destination: &Path) -> Result<(), EngineError> {
    match destination.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => Err(EngineError::Image {
            what: format!("`{}`", destination.display()),
            reason: "cannot be written: its folder does not exist".to_owned(),
            help: Some(format!("make it: `mkdir -p {}`", folder.display())),
        }),
        Some(_) | None => Ok(()),
    }
}

/// Returns a name as the store has it: with its tag, `:latest` where none is given, and without what docker fills in.
pub(crate) fn full_name(name: &str) -> String {
    if let Ok(reference) = name.parse::<Reference>() {
        return reference.familiar();
    }
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
    fn names_are_short_and_have_a_tag() {
        for (text, expected) in [
            ("hello", "hello:latest"),
            ("hello:1", "hello:1"),
            ("docker.io/library/hello:1", "hello:1"),
            ("index.docker.io/me/hello", "me/hello:latest"),
            ("localhost:5000/hello", "localhost:5000/hello:latest"),
            ("a/b@sha256:00", "a/b@sha256:00"),
        ] {
            assert_eq!(full_name(text), expected);
        }
    }
}
