//! What the frontend asks for while it plans: trees that it reads, and names of images.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use rb_api::AskedImage;
use rb_diag::SourceMap;
use rb_frontend::{
    Answer, Effect, Gateway, GitFacts, ImageLocation, ImageRequest, Query, RepositoryRequest, ResolvedImage,
    WorldError,
};
use rb_llb::{Definition, LlbError, State};

/// What was asked for so far.
#[derive(Default)]
pub(in crate::commands::dockerfile) struct Heard {
    read: Mutex<Vec<State>>,
    images: Mutex<Vec<AskedImage>>,
}

impl Heard {
    /// Notes that something of a tree is read.
    pub(in crate::commands::dockerfile) fn note(&self, state: &State) {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).push(state.clone());
    }

    /// Returns the graphs of what was read, and the images that were asked for.
    pub(super) fn said(&self, sources: &SourceMap) -> Result<(Vec<Definition>, Vec<AskedImage>), LlbError> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let read: Result<Vec<_>, _> = read.iter().map(|state| state.marshal(sources)).collect();
        Ok((read?, self.images.lock().unwrap_or_else(PoisonError::into_inner).clone()))
    }
}

/// A gateway whose questions are noted.
pub(in crate::commands::dockerfile) struct Listening<'a> {
    pub(in crate::commands::dockerfile) gateway: &'a dyn Gateway,
    pub(in crate::commands::dockerfile) heard: &'a Heard,
}

#[async_trait]
impl Gateway for Listening<'_> {
    async fn resolve_image(&self, request: &ImageRequest) -> Result<ResolvedImage, WorldError> {
        let resolved = self.gateway.resolve_image(request).await?;
        if let ImageLocation::Registry(name) = &request.location {
            let (name, platform, digest) = (name.clone(), request.platform.clone(), resolved.digest);
            let mut images = self.heard.images.lock().unwrap_or_else(PoisonError::into_inner);
            images.push(AskedImage { name, platform, digest });
        }
        Ok(resolved)
    }

    async fn glance_at_image(&self, request: &ImageRequest) -> Result<ResolvedImage, WorldError> {
        self.gateway.glance_at_image(request).await
    }

    async fn resolve_repository(&self, request: &RepositoryRequest) -> Result<GitFacts, WorldError> {
        self.gateway.resolve_repository(request).await
    }

    async fn query(&self, state: &State, query: Query) -> Result<Answer, WorldError> {
        self.heard.note(state);
        self.gateway.query(state, query).await
    }

    async fn settle(&self, effects: &[Effect]) -> Result<(), WorldError> {
        self.gateway.settle(effects).await
    }
}
