//! What a frontend is: a function of a [`World`] and options that says what is to be built.
//!
//! In: a [`BuildRequest`] and the two doors of [`World`]: [`Workspace`], the user's side, and [`Gateway`], the
//! engine's side. Out: a [`BuildPlan`] of LLB states and outputs, or diagnostics.
//! **Invariant:** a frontend never prints and never reads the clock, the environment or the disk; what it learns it
//! learns through a `World`, whose answers are stable within one job. A test is a world made of maps ([`MapWorld`]).

mod map_world;
mod output;
mod reference;
mod world;

pub use map_world::MapWorld;
pub use output::{BuildPlan, LocalOutput, PlannedOutput, SavedArtifact, SavedImage, TargetOutput};
pub use reference::{ProjectRef, TargetKey, TargetRef};
pub use world::{
    Answer, FileKind, Gateway, ImageLocation, ImageRequest, Query, ResolvedImage, Workspace, WorkspaceEntry,
    World, WorldError,
};

use std::collections::BTreeMap;

use async_trait::async_trait;
use rb_diag::Diagnostics;
use rb_oci::Platform;

/// What the user asked a frontend to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRequest {
    /// The target.
    pub target: TargetRef,
    /// `--NAME=value` given behind the target on the command line.
    pub args: BTreeMap<String, String>,
    /// What the result is to run on.
    pub platform: Platform,
}

/// A language that describes builds: `Buildfile`, Dockerfile, buildpacks.
#[async_trait]
pub trait Frontend: Send + Sync {
    /// Decides the graph. All diagnostics of the request at once, where they can be told before anything runs.
    async fn plan(&self, world: &dyn World, request: &BuildRequest) -> Result<BuildPlan, Diagnostics>;
}
