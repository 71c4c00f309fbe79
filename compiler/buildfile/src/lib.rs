//! The language `Buildfile`: from its tree to a plan of LLB.
//!
//! In: a [`BuildRequest`] and a [`World`]. Out: a [`BuildPlan`], or diagnostics. In three steps, one module each:
//! [`resolve`] turns `Buildfile<Parsed>` into `Buildfile<Resolved>` and follows references into other files;
//! [`evaluate`] runs the statements of each target key once; [`lower`] makes LLB of what they mean.
//! **Invariant:** no file, variable, clock or terminal is touched but through `World`, so a plan is a function of
//! the request, the files and the world's answers. Resolving collects all errors; evaluation stops at the first.
//! The language is described in `grammar/buildfile.pest`; what Earthfiles mean is Earthly's to say.

mod codes;
mod describe;
mod evaluate;
mod glob;
mod lower;
mod resolve;
mod summary;
mod word;

pub use codes::CODES;
pub use lower::local_name;
pub use resolve::{Reference, Resolved};
pub use summary::{ArgSummary, TargetSummary, list_targets};

use async_trait::async_trait;
use rb_diag::Diagnostics;
use rb_frontend::{BuildPlan, BuildRequest, Frontend, World};

/// The frontend of `Buildfile`, `Earthfile` and `build.earth`.
#[derive(Debug, Clone, Copy, Default)]
pub struct BuildfileFrontend;

#[async_trait]
impl Frontend for BuildfileFrontend {
    async fn plan(&self, world: &dyn World, request: &BuildRequest) -> Result<BuildPlan, Diagnostics> {
        let program = resolve::resolve(world.workspace(), &request.target).await?;
        evaluate::evaluate(world, program, request).await
    }
}
