//! Whose steps they are that another frontend makes: a target's, as all others.
//!
//! In: a frame, and trees that are named already. Out: [`Owner`], which gives trees their names, and is the engine's door under
//! which questions of that frontend have them, too. Digests stay.

use std::collections::BTreeMap;

use async_trait::async_trait;
use rb_frontend::{
    Answer, Effect, Gateway, GitFacts, ImageRequest, Query, RepositoryRequest, ResolvedImage, WorldError,
};
use rb_llb::State;

use super::frame::Frame;

/// A target as the owner of steps.
pub(super) struct Owner {
    /// The target, as shown.
    pub(super) label: String,
    calls: BTreeMap<String, String>,
    kept: Vec<State>,
}

impl Owner {
    /// Takes the target of a frame; what trees in `kept` are made of has its names.
    pub(super) fn of(frame: &Frame, kept: Vec<State>) -> Self {
        Self { label: frame.key.to_string(), calls: frame.calls(), kept }
    }

    /// Returns a tree whose steps are known by the target.
    pub(super) fn own(&self, state: &State) -> State {
        let kept: Vec<&State> = self.kept.iter().collect();
        let name = |step: &str| match step.starts_with("[internal]") {
            true => step.to_owned(),
            false => format!("{} | {step}", self.label),
        };
        state.renamed(&kept, name, &self.calls)
    }
}

/// The engine's door for a frontend that works for a target.
pub(super) struct OwnGateway<'a> {
    pub(super) owner: &'a Owner,
    pub(super) gateway: &'a dyn Gateway,
}

#[async_trait]
impl Gateway for OwnGateway<'_> {
    async fn resolve_image(&self, request: &ImageRequest) -> Result<ResolvedImage, WorldError> {
        self.gateway.resolve_image(request).await
    }

    async fn glance_at_image(&self, request: &ImageRequest) -> Result<ResolvedImage, WorldError> {
        self.gateway.glance_at_image(request).await
    }

    async fn resolve_repository(&self, request: &RepositoryRequest) -> Result<GitFacts, WorldError> {
        self.gateway.resolve_repository(request).await
    }

    async fn query(&self, state: &State, query: Query) -> Result<Answer, WorldError> {
        self.gateway.query(&self.owner.own(state), query).await
    }

    async fn settle(&self, effects: &[Effect]) -> Result<(), WorldError> {
        self.gateway.settle(effects).await
    }
}
