//! Copying images between registries, layouts, archives and the store.
//!
//! In: two [`Place`]s, in skopeo's words. Out: the digest that the copy has: that of the original, whose documents are not
//! changed unless other media types are asked for. Nothing is unpacked. From and to registries and layouts, blobs go one by one and those that are there are
//! left out; archives go through the store, where their blobs stay as those of an image without a name.
//! Source: containers/image, "transports".

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use rb_api::{EventSink, PushedImage};
use rb_oci::{Descriptor, Digest, MediaTypes, Reference};
use rb_snapshot::Tally;
use rb_sources::{bundle, layout};
use tokio::task::JoinSet;

use super::content::{Content, InLayout, InRegistry, InStore, What, digest_of, run_blocking};
use super::tree::{ImageTree, parse};
use super::{SaveFormat, full_name, layout_out, translate};
use crate::LocalEngine;
use crate::error::EngineError;
use crate::push::{self, Naming, Platforms};

/// Blobs under way at once.
const AT_ONCE: usize = 4;

/// Where an image is, or goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A name in the store.
    Store(String),
    /// `docker://NAME`
    Registry(Reference),
    /// `oci:FOLDER[:NAME]`
    Layout {
        /// The layout.
        folder: PathBuf,
        /// Which image of it.
        name: Option<String>,
    },
    /// `oci-archive:FILE[:NAME]`, `docker-archive:FILE[:NAME]`
    Archive {
        /// The file; `-` is a standard stream.
        file: PathBuf,
        /// Which image of it.
        name: Option<String>,
    },
}

/// A text names no place.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlaceError {
    /// The name behind `docker://` is none.
    #[error(transparent)]
    Reference(#[from] rb_oci::ReferenceError),
    /// A word that others have.
    #[error(
        "`{0}:` is not part of this version of rb: there are docker://, oci:, oci-archive:, docker-archive: and names of the store"
    )]
    Unsupported(String),
    /// Nothing behind the colon.
    #[error("`{0}` names no file or folder")]
    Empty(String),
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        if let Some(name) = text.strip_prefix("docker://") {
            return Ok(Self::Registry(name.parse()?));
        }
        let Some((word, rest)) = text.split_once(':') else { return Ok(Self::Store(text.to_owned())) };
        let path = || {
            let (path, name) = match rest.split_once(':') {
                Some((path, name)) => (path, Some(name.to_owned()).filter(|name| !name.is_empty())),
                None => (rest, None),
            };
            if path.is_empty() {
                return Err(PlaceError::Empty(text.to_owned()));
            }
            Ok((PathBuf::from(path), name))
        };
        match word {
            "oci" => path().map(|(folder, name)| Self::Layout { folder, name }),
            "oci-archive" | "docker-archive" => path().map(|(file, name)| Self::Archive { file, name }),
            "docker-daemon" | "containers-storage" | "dir" | "ostree" | "sif" | "tarball" => {
                Err(PlaceError::Unsupported(word.to_owned()))
            }
            _ => Ok(Self::Store(text.to_owned())),
        }
    }
}

/// What came of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// What was copied: the manifest, or the index with `--all`.
    pub digest: Digest,
    /// Where a registry got it.
    pub pushed: Vec<PushedImage>,
    /// Whether it is of Docker's media types.
    pub is_dockers: bool,
}

/// An image, found.
struct Found {
    content: Arc<dyn Content>,
    root: Descriptor,
}

impl LocalEngine {
    /// Copies an image; in these media types, if some are named.
    pub async fn copy_image(
        &self,
        from: &Place,
        to: &Place,
        platforms: &Platforms,
        types: Option<MediaTypes>,
        events: &EventSink,
    ) -> Result<Copied, EngineError> {
        let Found { content, root } = self.place(from).await?;
        let tree = push::tree_for(&*content, &root, platforms).await?;
        let tree = match types {
            Some(types) => translate::translated(tree, types)?,
            None => tree,
        };
        let (digest, is_dockers) = (digest_of(tree.root())?, translate::is_dockers(&tree));
        let mut pushed = Vec::new();
        match to {
            Place::Registry(reference) => {
                let to = std::slice::from_ref(reference);
                pushed = push::tree_to(&self.parts, &content, &tree, to, Naming::Tags, events).await?;
            }
            Place::Store(name) => {
                self.keep(&content, &tree).await?;
                self.set_name(name, tree.root())?;
            }
            Place::Layout { folder, name } => {
                let (folder, name) = (folder.clone(), name.clone());
                run_blocking(move || layout_out::add(&*content, &tree, &folder, name.as_deref())).await?;
            }
            Place::Archive { file, name } => {
                self.keep(&content, &tree).await?;
                let images = vec![(name.as_deref().map(full_name), tree.root().clone())];
                let (engine, file) = (self.clone(), file.clone());
                run_blocking(move || {
                    if is_stream(&file) {
                        let (store, tally) = (&engine.parts.store, Tally::default());
                        return Ok(rb_exporters::write_oci_tar(store, &images, io::stdout(), &tally)?);
                    }
                    super::refuse_missing_folder(&file)?;
                    engine.write_images(&images, SaveFormat::OciTar, &file)
                })
                .await?;
            }
        }
        Ok(Copied { digest, pushed, is_dockers })
    }

    /// Finds an image, and what its blobs are read from.
    async fn place(&self, place: &Place) -> Result<Found, EngineError> {
        let store = self.parts.store.clone();
        let registry = self.parts.registry.clone();
        let in_store = || Arc::new(InStore { store: store.clone(), registry: registry.clone() });
        Ok(match place {
            Place::Store(name) => Found { root: self.find_image(name)?, content: in_store() },
            Place::Registry(reference) => {
                let found = registry.resolve(reference).await?;
                let repository = reference.repository().clone();
                Found {
                    root: found.descriptor,
                    content: Arc::new(InRegistry { registry, repository, store }),
                }
            }
            Place::Layout { folder, name } => {
                let (at, name) = (folder.clone(), name.clone());
                let root = run_blocking(move || Ok(layout::entry(&at, name.as_deref())?)).await?;
                Found { root, content: Arc::new(InLayout { folder: folder.clone() }) }
            }
            Place::Archive { file, name } => {
                let (engine, at) = (self.clone(), file.clone());
                let images = run_blocking(move || match is_stream(&at) {
                    true => Ok(bundle::load(&engine.parts.store, io::stdin().lock())?),
                    false => engine.read_archive(&at),
                })
                .await?;
                let wanted = name.as_deref().map(full_name);
                let fits = |names: &[String]| {
                    wanted.as_ref().is_none_or(|wanted| names.iter().any(|name| full_name(name) == *wanted))
                };
                let mut fitting = images.iter().filter(|image| fits(&image.names));
                let (first, second) = (fitting.next(), fitting.next());
                let (Some(image), None) = (first, second) else {
                    let have: Vec<_> = images.iter().flat_map(|image| image.names.clone()).collect();
                    return Err(EngineError::Image {
                        what: format!("`{}`", file.display()),
                        reason: if first.is_none() { "holds no such image" } else { "holds several images" }
                            .to_owned(),
                        help: Some(format!("name one of its images behind a colon: {}", have.join(", "))),
                    });
                };
                Found { root: image.descriptor.clone(), content: in_store() }
            }
        })
    }

    /// Puts an image into the store, without a name.
    pub(crate) async fn keep(&self, content: &Arc<dyn Content>, tree: &ImageTree) -> Result<(), EngineError> {
        let mut open = tree.blobs.values().filter(|blob| !super::tree::is_foreign(blob));
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() < AT_ONCE
                && let Some(blob) = open.next()
            {
                let (content, store, blob) = (Arc::clone(content), self.parts.store.clone(), blob.clone());
                under_way.spawn(async move { content.keep(&store, &blob).await });
            }
            let Some(joined) = under_way.join_next().await else { break };
            joined.map_err(|error| EngineError::Worker { reason: error.to_string() })??;
        }
        let (store, tree) = (self.parts.store.clone(), tree.clone());
        run_blocking(move || {
            for (descriptor, bytes) in &tree.documents {
                let digest = store.put_blob(bytes)?;
                if digest != digest_of(descriptor)? {
                    // Whoever read it has proven it.
                    return Err(EngineError::Worker {
                        reason: format!("{digest} is not what it was read as"),
                    });
                }
            }
            Ok(())
        })
        .await
    }

    /// Reads the manifest or index of an image as it is.
    pub async fn raw_image(&self, place: &Place) -> Result<Vec<u8>, EngineError> {
        let Found { content, root } = self.place(place).await?;
        content.document(&root, What::Manifest).await
    }

    /// Looks into an image, wherever it is.
    pub async fn details_of(
        &self,
        place: &Place,
        platform: &rb_oci::Platform,
    ) -> Result<super::ImageDetails, EngineError> {
        let Found { content, root } = self.place(place).await?;
        let manifest = super::tree::manifest_for(&*content, &root, platform).await?;
        let bytes = content.document(&manifest, What::Manifest).await?;
        let parsed: rb_oci::ImageManifest = parse(&*content, &digest_of(&manifest)?, &bytes)?;
        let config = content.document(parsed.config(), What::Config).await?;
        let (mut platforms, mut attestations) = (Vec::new(), Vec::new());
        if rb_oci::index::is_index(&root) {
            let bytes = content.document(&root, What::Manifest).await?;
            let index: rb_oci::ImageIndex = parse(&*content, &digest_of(&root)?, &bytes)?;
            let named = index.manifests().iter().filter_map(rb_oci::index::named_platform);
            platforms = named.map(|platform| platform.to_string()).collect();
            for entry in index.manifests().iter().filter(|entry| is_about(entry, &manifest)) {
                let bytes = content.document(entry, What::Manifest).await?;
                let about: rb_oci::ImageManifest = parse(&*content, &digest_of(entry)?, &bytes)?;
                attestations.extend(about.layers().iter().cloned());
            }
        }
        let names = match place {
            Place::Store(_) => self.names_of(&root)?,
            Place::Registry(reference) => vec![reference.familiar()],
            Place::Layout { .. } | Place::Archive { .. } => Vec::new(),
        };
        Ok(super::ImageDetails {
            names,
            index: rb_oci::index::is_index(&root).then_some(root),
            platforms,
            manifest,
            config: parse(&*content, &digest_of(parsed.config())?, &config)?,
            layers: parsed.layers().clone(),
            attestations,
        })
    }
}

/// Says whether an entry of an index holds what is said of a manifest.
fn is_about(entry: &Descriptor, manifest: &Descriptor) -> bool {
    let Some(annotations) = entry.annotations() else { return false };
    let (key, value) = rb_exporters::REFERENCE_TYPE;
    annotations.get(key).is_some_and(|found| found == value)
        && annotations
            .get(rb_exporters::REFERENCE_DIGEST)
            .is_some_and(|of| *of == manifest.digest().to_string())
}

/// Says whether an archive comes or goes by a standard stream.
fn is_stream(file: &Path) -> bool {
    file.as_os_str() == "-"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_places_are_skopeos() {
        let archive = |file: &str, name: Option<&str>| Place::Archive {
            file: file.into(),
            name: name.map(ToOwned::to_owned),
        };
        for (text, expected) in [
            ("hello", Place::Store("hello".to_owned())),
            ("localhost:5000/a/b:1", Place::Store("localhost:5000/a/b:1".to_owned())),
            ("docker://busybox", Place::Registry("busybox".parse().expect("a name"))),
            ("oci:dir", Place::Layout { folder: "dir".into(), name: None }),
            ("oci:/a/b:v1", Place::Layout { folder: "/a/b".into(), name: Some("v1".to_owned()) }),
            ("oci-archive:x.tar", archive("x.tar", None)),
            ("oci-archive:-:app:1", archive("-", Some("app:1"))),
            ("docker-archive:x.tar:a/b:1", archive("x.tar", Some("a/b:1"))),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in ["docker://A b", "oci:", "oci-archive::x", "docker-daemon:x", "dir:x"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}
