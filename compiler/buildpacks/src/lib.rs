//! Buildpacks: the lifecycle as functions over data.
//!
//! In: the texts of files and labels, what modules' programs did, what lies beside layers. Out: which modules build and why,
//! what their programs see, what becomes of their layers, and the config and labels of the image. Nothing is read, run or
//! packed here; `frontend` asks the engine for what has to be read and run, and says what is to be packed.
//!
//! The walk: `builder`, `module`, `order`, `project`, `run_image`, `analyzed` (files and labels → data) → `detect`, `trials`
//! (→ group and plan, with `explain`) → `layer` (what is restored) → `environment` (what a program sees), `extend` (what an extension generated) → `outputs`, `sbom`,
//! `process` (what a buildpack left) → `metadata`, `slices`, `labels`, `export` (→ the image) → `rebase`.
//! `program` looks at a launcher that is given.
//! **Invariant:** for the same input the results are those of the reference lifecycle, down to the bytes of labels and of
//! `metadata.toml`, but for what the header of `detect` names. Everything from outside is bounded. Every error answers `exit()`
//! with the lifecycle's exit code.
//! Supported are Buildpack API 0.7 to 0.12 and Platform API 0.12 to 0.15; all that changes with them is a question to
//! [`BuildpackApi`] or [`PlatformApi`]. Where spec and lifecycle disagree, the lifecycle counts: later names first in paths,
//! `exec-env` as a list or as tables, `variant` and `arch-variant`, `/cnb/lifecycle` in `PATH`.
//! Sources: the buildpacks specs (buildpack, platform, distribution, project descriptor), lifecycle 0.21.

pub mod analyzed;
mod api;
pub mod builder;
pub mod decode;
pub mod detect;
pub mod distribution;
pub mod environment;
mod exit;
pub mod explain;
pub mod export;
pub mod extend;
pub mod frontend;
mod group;
pub mod json;
pub mod labels;
mod layer;
mod metadata;
mod module;
mod order;
mod outputs;
mod plan;
mod process;
pub mod program;
pub mod project;
pub mod rebase;
mod run_image;
pub mod sbom;
mod slices;
mod target;
pub mod trials;

pub use api::{ApiError, ApiVersion, BuildpackApi, PlatformApi};
pub use decode::DecodeError;
pub use exit::Exit;
pub use group::{Group, GroupElement};
pub use labels::{
    BuildpackLayers, CacheMetadata, LayerRecord, LifecycleMetadata, ProjectMetadata, RunImageNames,
};
pub use layer::{Exported, LayerFile, Restored, ReuseError, exported, restored};
pub use metadata::{BuildMetadata, LauncherCommit, LauncherMetadata, LauncherSource};
pub use module::{
    License, Module, ModuleError, ModuleInfo, ModuleKey, ModuleKind, Stack, escape_id, includes,
};
pub use order::{Order, OrderElement, OrderFile, OrderGroup, System, SystemBuildpacks};
pub use outputs::{BuildOutputs, Label, LaunchFile, LayersFolder, OutputError, parse_store, read_outputs};
pub use plan::{BuildPlan, BuildPlanError, BuildpackPlan, Plan, PlanEntry, PlanSections, Provide, Require};
pub use process::{Process, Processes};
pub use run_image::{RunFile, parse_stack};
pub use slices::{Slice, SliceError, slice};
pub use target::{BaseTarget, Distro, Target};
