//! The user's tree on this machine's disk, and the world made of it.
//!
//! In: a target as typed. Out: a [`Place`]: the workspace's root and the target in it; and [`SystemWorld`], the two
//! doors of a frontend. References such as `../lib+x` lead out of a root as far as they say; a symlink never does.
//! What lies in repositories elsewhere is asked of the engine (`elsewhere`).
//! **Invariant:** answers are stable within one job (build files are read once), nothing over 16 MiB is read, and
//! no answer holds an absolute path. Reads are short and local, so they are made in place; what runs on the user's machine
//! ([`Host`]) is waited for elsewhere.

mod disk;
mod elsewhere;
mod git;
mod host;
mod lent;
mod origin;
mod place;
mod read;
mod wanted;
mod withheld;

use std::sync::Arc;

use async_trait::async_trait;
use rb_diag::ErrorKind;
use rb_frontend::{
    Answer, Effect, Gateway, GitFacts, ImageRequest, Query, RepositoryRequest, ResolvedImage, Workspace,
    World, WorldError,
};
use rb_llb::State;

pub(crate) use disk::DiskWorkspace;
pub(crate) use host::Host;
pub(crate) use lent::{LentWorkspace, LentWorld, RootFile, RootTree};
pub(crate) use origin::scrub;
pub(crate) use place::{Place, bound, inside, normalise};
pub(crate) use read::{ReadError, read_regular};
pub(crate) use wanted::{dockerfile_in, elsewhere, wanted};
pub(crate) use withheld::Withheld;

/// Names of build files, in the order they are looked for.
pub(crate) const BUILDFILE_NAMES: [&str; 3] = ["Buildfile", "Earthfile", "build.earth"];

/// The engine's side where there is no engine, for what only reads.
pub(crate) struct NoEngine;

impl NoEngine {
    fn asked<T>(what: &str) -> Result<T, WorldError> {
        let message = format!("{what} needs an engine, and none is there");
        Err(WorldError::Failed { kind: ErrorKind::Internal, message })
    }
}

#[async_trait]
impl Gateway for NoEngine {
    async fn resolve_image(&self, _request: &ImageRequest) -> Result<ResolvedImage, WorldError> {
        Self::asked("an image")
    }

    async fn resolve_repository(&self, _request: &RepositoryRequest) -> Result<GitFacts, WorldError> {
        Self::asked("a repository")
    }

    async fn query(&self, _state: &State, _query: Query) -> Result<Answer, WorldError> {
        Self::asked("a query")
    }

    async fn settle(&self, _effects: &[Effect]) -> Result<(), WorldError> {
        Self::asked("an effect")
    }
}

/// The world of a build in this process: the disk and an engine's gateway.
pub(crate) struct SystemWorld {
    /// The user's side.
    pub(crate) workspace: Arc<DiskWorkspace>,
    /// The engine's side.
    pub(crate) gateway: Arc<dyn Gateway>,
}

impl World for SystemWorld {
    fn workspace(&self) -> &dyn Workspace {
        self.workspace.as_ref()
    }

    fn gateway(&self) -> &dyn Gateway {
        self.gateway.as_ref()
    }
}

#[cfg(test)]
mod tests;
