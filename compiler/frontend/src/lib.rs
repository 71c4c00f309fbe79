//! What a frontend is: a function of a [`World`] and options that says what is to be built.
//!
//! In: a [`BuildRequest`] and the two doors of [`World`]: [`Workspace`], the user's side, and [`Gateway`], the
//! engine's side. Out: a [`BuildPlan`] of LLB states and outputs, or diagnostics.
//! **Invariant:** a frontend never prints and never reads the clock, the environment or the disk; what it learns it
//! learns through a `World`, whose answers are stable within one job. A test is a world made of maps ([`MapWorld`]).

mod git;
mod host;
mod map_world;
mod output;
mod recording;
mod reference;
mod repository;
mod world;

pub use git::{GitFacts, co_authors};
pub use host::{HostCommand, HostOutcome};
pub use map_world::MapWorld;
pub use output::{
    BuildPlan, Effect, LocalOutput, PlannedOutput, SavedArtifact, SavedImage, TargetOutput, Untaken,
};
pub use recording::{Asked, FileReader, RecordingGateway};
pub use reference::{FunctionRef, ProjectRef, TargetKey, TargetRef};
pub use repository::{PinnedRepository, Repository, RepositoryError, RepositoryRequest};
pub use world::{
    Answer, FileDetails, FileKind, Gateway, ImageLocation, ImageRequest, Query, ResolvedImage, Workspace,
    WorkspaceEntry, World, WorldError,
};

use std::collections::BTreeMap;

use async_trait::async_trait;
use rb_diag::Diagnostics;
use rb_oci::Platform;

/// A target, or several by a pattern, as named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetRequest {
    /// Which.
    pub wanted: WantedTarget,
    /// Arguments given for it, and for each of several.
    pub args: BTreeMap<String, String>,
    /// The word that names it, as the user typed it: a near name is spelled alike.
    pub typed: Option<String>,
}

/// Which targets are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WantedTarget {
    /// This one.
    One(TargetRef),
    /// One of each folder that fits, has a build file and in it a target of that name.
    Each {
        /// The folder that the pattern starts from.
        project: ProjectRef,
        /// Path relative to it; its first part is the first with a `*`, `?` or `[`.
        glob: String,
        /// Name of the target.
        name: String,
    },
}

impl TargetRequest {
    /// Asks for one target.
    pub fn one(target: TargetRef, args: BTreeMap<String, String>) -> Self {
        Self { wanted: WantedTarget::One(target), args, typed: None }
    }
}

/// What the user asked a frontend to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRequest {
    /// The targets, in order. One that is named twice with the same arguments counts once.
    pub targets: Vec<TargetRequest>,
    /// What cannot be evaluated does not stop the others: it is told in the plan. What is wrong before anything is
    /// evaluated is an error all the same.
    pub keep_going: bool,
    /// Values from around the command line (`.arg`, `EARTHLY_BUILD_ARGS`): weaker than `args`, and nobody has to
    /// declare them.
    pub defaults: BTreeMap<String, String>,
    /// What the result is to run on: one of each; never empty.
    pub platforms: Vec<Platform>,
    /// What the user's own machine is: USERPLATFORM.
    pub user_platform: Platform,
    /// What the engine runs without emulation: NATIVEPLATFORM.
    pub native_platform: Platform,
    /// What the user allows and wants of the build as a whole.
    pub options: BuildOptions,
}

/// What the user allows and wants of a build as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BuildOptions {
    /// `--push`: images are pushed, `RUN --push` runs; EARTHLY_PUSH.
    pub push: bool,
    /// `--ci`: EARTHLY_CI.
    pub ci: bool,
    /// `--strict`: nothing runs outside a sandbox.
    pub strict: bool,
    /// `--allow-privileged`: steps may ask for all privileges.
    pub allow_privileged: bool,
    /// What targets save is not written: that two of them have one name or one place says nothing.
    pub withhold_outputs: bool,
    /// The folder that the user stands in, relative to the workspace's root: where targets of repositories elsewhere write
    /// what is `AS LOCAL`.
    pub here: String,
    /// The version of `rb`: EARTHLY_VERSION.
    pub version: String,
    /// The commit `rb` was built from: EARTHLY_BUILD_SHA.
    pub build_sha: String,
}

/// A language that describes builds: `Buildfile`, Dockerfile, buildpacks.
#[async_trait]
pub trait Frontend: Send + Sync {
    /// Decides the graph of all targets. All diagnostics of the request at once, where they can be told before anything
    /// runs.
    async fn plan(&self, world: &dyn World, request: &BuildRequest) -> Result<BuildPlan, Diagnostics>;
}
