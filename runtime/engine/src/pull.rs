//! Images pulled by name: `rb image pull`, and what `rb run` is asked to run and is not here.

use std::sync::Arc;

use rb_api::{EventSink, PullPolicy};
use rb_oci::{Descriptor, Digest, Platform, Reference};
use rb_solver::OpError;

use crate::LocalEngine;
use crate::error::EngineError;
use crate::fetch::{self, Told};
use crate::images::naming;
use crate::images::tree::refuse_config_of_other;
use crate::names::{self, NamedImage};

/// What was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledImage {
    /// Its name in the image store.
    pub name: String,
    /// Digest of its manifest.
    pub digest: Digest,
    /// What the registry calls it, pinned: by the digest of an index, where it is for several platforms.
    pub pinned: String,
}

impl LocalEngine {
    /// Pulls an image whole and gives it its name in the image store, in place of the image that had it. Without a platform it
    /// is the one for this machine, or the only one there is; with one, another is an error.
    ///
    /// `events` hears of it as of one vertex. To be called within a tokio runtime; dropping the future ends it.
    pub async fn pull_image(
        &self,
        name: &str,
        platform: Option<&Platform>,
        pull: PullPolicy,
        events: &EventSink,
    ) -> Result<PulledImage, EngineError> {
        let reference: Reference = name.parse()?;
        let told = Told::begin(events, &format!("pull {}", reference.familiar()));
        let pulled = self.pull(&reference, platform, pull, &told).await;
        told.end(&pulled);
        pulled.map_err(EngineError::of)
    }

    async fn pull(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
        pull: PullPolicy,
        told: &Told,
    ) -> Result<PulledImage, OpError> {
        let (parts, listener) = (&self.parts, told.listener());
        let wanted = platform.cloned().unwrap_or_else(Platform::host);
        let NamedImage { root, image } = names::find(parts, reference, &wanted, pull, &listener).await?;
        if let Some(platform) = platform {
            refuse_config_of_other(&image.config, platform).map_err(crate::op_error)?;
        }
        fetch::blobs(parts, &image, &listener).await?;
        let (parts, name, digest) = (Arc::clone(parts), reference.familiar(), image.digest);
        let pulled = PulledImage { name, digest, pinned: reference.pinned(root).to_string() };
        crate::blocking(move || {
            let no_manifest = || EngineError::NoSuchImage { name: digest.to_string(), nearest: None };
            let descriptor: Descriptor = names::document(&parts, &digest)?.ok_or_else(no_manifest)?;
            naming::put(&parts.store, &pulled.name, &descriptor)?;
            Ok(pulled)
        })
        .await
    }
}
