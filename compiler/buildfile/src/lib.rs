//! The language `Buildfile`: from its tree to a plan of LLB.
//!
//! In: a [`BuildRequest`] and a [`World`]. Out: a [`BuildPlan`], or diagnostics. In three steps, one module each:
//! [`resolve`] turns `Buildfile<Parsed>` into `Buildfile<Resolved>` and follows references into other files;
//! [`evaluate`] runs the statements of each target key once; [`lower`] makes LLB of what they mean.
//! **Invariant:** no file, variable, clock or terminal is touched but through `World`, so a plan is a function of
//! the request, the files and the world's answers. Resolving collects all errors; evaluation stops at the first.
//! The language is described in `grammar/LANGUAGE.md`; what Earthfiles mean is Earthly's to say.

mod codes;
mod describe;
mod evaluate;
mod lower;
mod needs;
mod project;
mod resolve;
mod shell;
mod summary;
mod word;

pub use codes::CODES;
pub use evaluate::{CALLED_FROM, builtin_arguments};
pub use lower::{dockerfile_context, local_name, repository_source, tree_elsewhere};
pub use needs::{TargetNeeds, needs_of};
pub use project::{Capabilities, ProjectConfig, load as load_project};
pub use resolve::{FunctionReference, Pattern, ProjectReference, Reference, Resolved, Via};
pub use summary::{
    ArgSummary, ArtifactSummary, ImageSummary, TargetSummary, list_functions, list_targets, source,
    summarise, summarise_dockerfile,
};

use async_trait::async_trait;
use rb_diag::Diagnostics;
pub(crate) use rb_expression::glob;
use rb_frontend::{BuildPlan, BuildRequest, Frontend, World};

/// Help where the disk or another program failed, and nothing in a build file is wrong.
pub(crate) const OUTSIDE_HELP: &str =
    "see to the cause that is named and build again; the build file is not at fault";

/// The frontend of `Buildfile`, `Earthfile` and `build.earth`.
#[derive(Debug, Clone, Copy, Default)]
pub struct BuildfileFrontend;

#[async_trait]
impl Frontend for BuildfileFrontend {
    async fn plan(&self, world: &dyn World, request: &BuildRequest) -> Result<BuildPlan, Diagnostics> {
        let config = load_project(world.workspace()).await?;
        let (program, targets) = resolve::resolve(world.workspace(), &request.targets).await?;
        evaluate::evaluate(world, program, config, request, targets).await
    }
}
