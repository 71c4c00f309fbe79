//! Questions to the engine, in the words of this frontend: what is read of trees, all of it bounded.

use std::collections::BTreeMap;

use rb_frontend::{Answer, FileKind, Gateway, ImageLocation, ImageRequest, Query, ResolvedImage, WorldError};
use rb_llb::{NodeMeta, State, attr};
use rb_oci::Platform;

use super::error::FrontendError;
use crate::decode;
use crate::environment::EnvironmentFiles;

/// How many names a folder may have that is looked at.
const NAMES: usize = 10_000;
/// How much of what a step wrote is told.
const LOG_BYTES: u64 = 16 << 10;

/// A tree, and a folder of it that stands for the whole.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    pub(super) state: State,
    /// Absolute.
    pub(super) path: String,
}

impl Folder {
    pub(super) fn new(state: State, path: impl Into<String>) -> Self {
        Self { state, path: path.into() }
    }

    /// Returns a folder below it.
    pub(super) fn below(&self, name: &str) -> Self {
        Self { state: self.state.clone(), path: format!("{}/{name}", self.path.trim_end_matches('/')) }
    }
}

/// Asks.
#[derive(Clone, Copy)]
pub(super) struct Gate<'a>(pub(super) &'a dyn Gateway);

impl Gate<'_> {
    /// Pins an image.
    pub(super) async fn image(&self, name: &str, platform: &Platform) -> Result<ResolvedImage, WorldError> {
        self.image_at(ImageLocation::Registry(name.to_owned()), platform).await
    }

    /// Pins an image, wherever it is.
    pub(super) async fn image_at(
        &self,
        location: ImageLocation,
        platform: &Platform,
    ) -> Result<ResolvedImage, WorldError> {
        self.0.resolve_image(&ImageRequest { location, platform: platform.clone() }).await
    }

    /// Reads a file that has to be there.
    pub(super) async fn read(&self, of: &Folder, name: &str) -> Result<Vec<u8>, WorldError> {
        let path = of.below(name).path;
        match self
            .0
            .query(&of.state, Query::ReadFile { path, limit_bytes: decode::FILE_BYTES as u64 })
            .await?
        {
            Answer::File(bytes) => Ok(bytes),
            _ => Ok(Vec::new()),
        }
    }

    /// Reads what a step wrote, as far as it is told.
    pub(super) async fn log(&self, of: &Folder, name: &str) -> Result<String, WorldError> {
        let path = of.below(name).path;
        match self.0.query(&of.state, Query::ReadStart { path, length_bytes: LOG_BYTES }).await? {
            Answer::File(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            _ => Ok(String::new()),
        }
    }

    /// Tells whether something is there.
    pub(super) async fn exists(&self, of: &Folder, name: &str) -> Result<bool, WorldError> {
        let path = of.below(name).path;
        Ok(self.0.query(&of.state, Query::Exists { path }).await? == Answer::Exists(true))
    }

    /// Lists a folder; nothing where there is none.
    pub(super) async fn list(&self, of: &Folder) -> Result<BTreeMap<String, FileKind>, FrontendError> {
        let query = Query::List { path: of.path.clone() };
        let entries = match self.0.query(&of.state, query).await {
            Ok(Answer::List(entries)) => entries,
            Ok(_) | Err(WorldError::NotFound { .. }) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        if entries.len() > NAMES {
            return Err(FrontendError::TooMany { what: of.path.clone(), most: NAMES, of: "names" });
        }
        Ok(entries.into_iter().map(|entry| (entry.name, entry.kind)).collect())
    }

    /// Reads the files of a folder that say how variables change; links count as what they lead to.
    pub(super) async fn variables(&self, of: &Folder) -> Result<EnvironmentFiles, FrontendError> {
        let mut files = EnvironmentFiles::default();
        for (name, kind) in self.list(of).await? {
            let is_file = match kind {
                FileKind::File => true,
                FileKind::Symlink => {
                    self.list(&of.below(&name)).await?.is_empty() && self.exists(of, &name).await?
                }
                FileKind::Directory | FileKind::Other => false,
            };
            if is_file {
                files.insert(&name, &self.read(of, &name).await?)?;
            }
        }
        Ok(files)
    }
}

/// Returns an image as a tree; of so many of its layers, lowest first, where that is said.
pub(super) fn tree_of(
    image: &ResolvedImage,
    layers: Option<usize>,
    platform: &Platform,
    name: &str,
) -> State {
    let mut attrs = image.attrs.clone();
    if let Some(layers) = layers {
        let limit = match image.identifier.starts_with("oci-layout://") {
            true => attr::OCI_LAYER_LIMIT,
            false => attr::IMAGE_LAYER_LIMIT,
        };
        attrs.insert(limit.to_owned(), layers.to_string());
    }
    State::source(image.identifier.clone(), attrs, Some(platform), NodeMeta::named(name))
}
