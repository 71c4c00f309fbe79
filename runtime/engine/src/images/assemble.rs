//! Images put together of layers that are there, and brought to where they belong.
//!
//! In: images that were looked into, layers of the store, a config. Out: a manifest or index in the store, and the image under
//! its names: in the store, in registries, in a file. What lies in a registry stays there until somebody needs its bytes: a push
//! to the same registry takes it over, and what goes elsewhere is fetched then.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rb_api::{EventSink, PushedImage};
use rb_exporters::{ImageOptions, IndexOptions};
use rb_oci::{Descriptor, Digest, ImageConfig, Platform, Reference};
use rb_registry::{WebAnswer, WebRequest};
use rb_session::Bucket;
use rb_sources::{SourceError, bundle};

use super::content::{Content, InStore, digest_of, run_blocking};
use super::tree::ImageTree;
use super::{ImageDetails, Place, SaveFormat};
use crate::LocalEngine;
use crate::error::EngineError;
use crate::fetch::ToldLate;
use crate::names;
use crate::ops::source::http::shown;
use crate::push::{self, Naming, Platforms};

/// Where an image goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Into the store, under these names.
    Store(Vec<String>),
    /// To registries.
    Registry(Vec<Reference>),
    /// Into an archive of an OCI layout.
    File(PathBuf),
}

impl LocalEngine {
    /// Says whether the store has an image of this name.
    pub fn has_image(&self, name: &str) -> Result<bool, EngineError> {
        match self.find_image(name) {
            Ok(_) => Ok(true),
            Err(EngineError::NoSuchImage { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Tells whether a registry was asked for an image within a time.
    pub fn asked_within(&self, name: &Reference, age: Duration) -> Result<bool, EngineError> {
        names::asked_within(&self.parts, name, age)
    }

    /// Looks into an image whose layers are to be used: of one in a registry it is noted that they are there.
    pub async fn take_image(&self, place: &Place, platform: &Platform) -> Result<ImageDetails, EngineError> {
        let details = self.details_of(place, platform).await?;
        let (layers, named) = (details.layers.len(), details.config.rootfs.diff_ids.len());
        if layers != named {
            return Err(EngineError::Image {
                what: "the image".to_owned(),
                reason: format!("has {layers} layers, and its config names {named}"),
                help: None,
            });
        }
        if let Place::Registry(reference) = place {
            let layers = details.layers.iter().map(digest_of).collect::<Result<Vec<_>, _>>()?;
            let (store, repository) = (self.parts.store.clone(), reference.repository().to_string());
            run_blocking(move || Ok(store.put_origins(&repository, &layers)?)).await?;
        }
        Ok(details)
    }

    /// Opens a layer of an image that was looked into; it is fetched if it is not here. Reading proves it at the end.
    pub async fn open_layer(&self, layer: &Descriptor) -> Result<impl Read + Send + use<>, EngineError> {
        self.in_store().keep(&self.parts.store, layer).await?;
        Ok(self.parts.store.blob_reader(&digest_of(layer)?)?)
    }

    /// Writes the manifest and config of an image of these layers, each with its DiffID, lowest first.
    pub async fn put_image(
        &self,
        layers: Vec<(Descriptor, Digest)>,
        config: ImageConfig,
        options: ImageOptions,
    ) -> Result<Descriptor, EngineError> {
        let store = self.parts.store.clone();
        run_blocking(move || Ok(rb_exporters::export_layers(&store, &layers, &config, &options)?)).await
    }

    /// Writes an index of images.
    pub async fn put_index(&self, images: Vec<(Platform, Descriptor)>) -> Result<Descriptor, EngineError> {
        let store = self.parts.store.clone();
        run_blocking(move || Ok(rb_exporters::export_index(&store, images, &IndexOptions::default())?)).await
    }

    /// Brings an image of the store, of which layers may be elsewhere, to where it belongs.
    pub async fn deliver(
        &self,
        root: &Descriptor,
        to: &Delivery,
        events: &EventSink,
    ) -> Result<Vec<PushedImage>, EngineError> {
        match to {
            Delivery::Registry(names) => {
                push::image(&self.parts, root, names, Naming::Tags, &Platforms::All, events).await
            }
            Delivery::Store(names) => {
                self.bring(root).await?;
                names.iter().try_for_each(|name| self.set_name(name, root))?;
                Ok(Vec::new())
            }
            Delivery::File(path) => {
                self.bring(root).await?;
                let (engine, root, path) = (self.clone(), root.clone(), path.clone());
                run_blocking(move || {
                    super::refuse_missing_folder(&path)?;
                    engine.write_images(&[(None, root)], SaveFormat::OciTar, &path)
                })
                .await?;
                Ok(Vec::new())
            }
        }
    }

    /// Fetches what of an image is not here.
    async fn bring(&self, root: &Descriptor) -> Result<(), EngineError> {
        let content: Arc<dyn Content> = Arc::new(self.in_store());
        let tree = ImageTree::of(&*content, root).await?;
        self.keep(&content, &tree).await
    }

    /// Reads a package of buildpacks into the store, and looks into it.
    pub async fn take_package(
        &self,
        file: PathBuf,
        platform: &Platform,
    ) -> Result<ImageDetails, EngineError> {
        let store = self.parts.store.clone();
        let shown = file.display().to_string();
        let images = run_blocking(move || {
            let opened = File::open(&file);
            let opened = opened.map_err(|source| SourceError::Read { path: file.clone(), source })?;
            Ok(bundle::load_package(&store, opened)?)
        })
        .await?;
        let [image] = images.as_slice() else {
            let reason = format!("holds {} images, and a package is one", images.len());
            return Err(EngineError::Image { what: format!("`{shown}`"), reason, help: None });
        };
        self.take_image(&Place::Store(image.descriptor.digest().to_string()), platform).await
    }

    /// Reads a file of the web into `file`, which is empty. Returns its digest.
    pub async fn download(
        &self,
        url: &str,
        file: File,
        limit_bytes: u64,
        events: &EventSink,
    ) -> Result<Digest, EngineError> {
        let told = ToldLate::new(events, format!("load {}", shown(url)));
        let registry = self.parts.registry.watched(told.listener().registry_watch());
        let request = WebRequest { url: url.to_owned(), ..WebRequest::default() };
        let read = async {
            match registry.web(&request).await? {
                WebAnswer::File(found) => Ok(found.read(file, limit_bytes, None).await?.1),
                WebAnswer::Unchanged => {
                    Err(EngineError::Worker { reason: "nothing was known before".to_owned() })
                }
            }
        };
        let read = read.await;
        told.end(read.is_ok());
        read
    }

    /// Reads an object of a bucket into `file`, which is empty; `shown` is what is told of it where that takes long.
    pub async fn download_object(
        &self,
        (bucket, key): (&Bucket, &str),
        (file, limit_bytes): (File, u64),
        (shown, events): (&str, &EventSink),
    ) -> Result<(), EngineError> {
        let told = ToldLate::new(events, format!("load {shown}"));
        let client = self.parts.registry.bucket(bucket)?.watched(told.listener().registry_watch());
        let read = client.object(key, file, limit_bytes).await;
        told.end(read.is_ok());
        Ok(read.map(drop)?)
    }

    fn in_store(&self) -> InStore {
        InStore { store: self.parts.store.clone(), registry: self.parts.registry.clone() }
    }
}
