//! The frontend: source to image with no build file.
//!
//! In: a [`PackRequest`]: names of a builder and a base, the app as a tree, the user's choices; and the engine's door,
//! `Gateway`. Out: an [`AppImage`], or with [`detect_only`] the group and why; [`Told`] says on the way how far it is.
//! [`AppImage::tree`] is the same image as a tree that a build goes on from. `asked` reads what users write of it.
//! How, in order: `modules` (who may take part), `base` → a detection of each that [`crate::detect`] asks for, as steps that know
//! nothing of one another (`ground`, `steps`) → the images as extensions have them (`extensions`) → buildpacks one after the other,
//! each a step whose files decide the next (`course`) → `image`, what the layers consist of.
//! `creator` has the builder's own lifecycle do all of it in one step, where that is asked for.
//! **Invariant:** the same answers lead to the same image; no clock, no environment, no disk.
//! Deliberately unlike the lifecycle: a buildpack does not see what earlier ones wrote outside of the app and of layers that are for
//! builds, and launch layers alone are not shown to later ones.

mod app;
mod asked;
mod base;
mod binding;
mod choices;
mod course;
mod creator;
mod error;
mod extensions;
mod gate;
mod ground;
mod image;
mod launcher;
mod modules;
mod package;
mod previous;
mod registry;
mod scripts;
mod steps;
mod tree;
mod walk;

pub use app::{AppFilter, AppSource};
pub use asked::{BuildpackWord, WordError, user_variables};
pub use binding::{Binding, BindingFile, BindingText};
pub use creator::{Created, CreatedConfig, create};
pub use error::FrontendError;
pub use image::{AppImage, PlannedLayer, Unfinished};
pub use launcher::{LAUNCHER_BYTES, LauncherFault};
pub use modules::BuildpackChoice;
pub use previous::Previous;
pub use registry::{Registered, in_registry};
pub use steps::Volume;
pub use walk::{Chosen, Planned, detect_only, plan};

use std::collections::BTreeMap;

use rb_diag::Span;
use rb_llb::NetworkMode;
use rb_oci::{Platform, Reference};

use crate::environment::EnvironmentFiles;
use crate::extend::ImageKind;
use crate::{Group, LauncherMetadata, ModuleKey};

/// The execution environment of builds that name none, as the lifecycle has it.
pub const PRODUCTION: &str = "production";

/// What is to be built.
pub struct PackRequest {
    /// Name of the builder image.
    pub builder: String,
    /// Name of the base; the builder's own if none.
    pub run_image: Option<String>,
    /// Names of a base that are tried before its own, by the name that builders have for it.
    pub run_mirrors: BTreeMap<String, Vec<String>>,
    /// User and group that programs run as; the builder's where none is said.
    pub user: (Option<u32>, Option<u32>),
    /// The app as it is lent.
    pub app: AppSource,
    /// Where it is asked for, if a build file does.
    pub place: Option<Span>,
    /// What the image will be called: its registry's mirror of the base comes first.
    pub target: Option<Reference>,
    /// What else it will be called.
    pub tags: Vec<Reference>,
    /// Buildpacks in the place of the builder's order; that order if none.
    pub buildpacks: Vec<BuildpackChoice>,
    /// Before each group.
    pub pre: Vec<BuildpackChoice>,
    /// After each group.
    pub post: Vec<BuildpackChoice>,
    /// Extensions in the place of the builder's; those if none.
    pub extensions: Vec<BuildpackChoice>,
    /// The user's variables.
    pub environment: EnvironmentFiles,
    /// What it is for.
    pub platform: Platform,
    /// The execution environment, such as [`PRODUCTION`].
    pub execution_environment: String,
    /// The process that is the default; the buildpacks' if empty.
    pub process: String,
    /// Where the app lies.
    pub workspace: String,
    /// Which network programs see.
    pub network: NetworkMode,
    /// What programs see beside their own.
    pub volumes: Vec<Volume>,
    /// Services that programs are bound to.
    pub bindings: Vec<Binding>,
    /// By what layers that are kept are found again.
    pub namespace: String,
    /// Nothing that is known or kept is taken.
    pub afresh: bool,
    /// The builder adds no buildpacks to groups.
    pub without_system: bool,
    /// When the image was made, RFC 3339.
    pub created: String,
    /// The launcher of the image; the builder's if none.
    pub launcher: Option<GivenLauncher>,
}

/// A launcher that is not the builder's.
#[derive(Clone)]
pub struct GivenLauncher {
    /// The program, for the image's platform.
    pub program: Vec<u8>,
    /// What the image says that it is.
    pub metadata: LauncherMetadata,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// The images are looked at.
    Analyzing,
    /// Modules are asked whether they take part.
    Detecting,
    /// Some do: of so many that were in the group, these.
    Detected {
        /// How many were in the group.
        of: usize,
        /// Who takes part.
        group: Group,
    },
    /// An image is extended.
    Extending(ImageKind),
    /// What was kept comes back as buildpacks build.
    Restoring,
    /// Buildpacks build.
    Building,
    /// One does.
    Builds(ModuleKey),
    /// Something that the user should know.
    Warning(String),
    /// The image is put together.
    Exporting,
}

/// Hears how far it is.
pub type Teller<'a> = &'a (dyn Fn(Told) + Send + Sync);
