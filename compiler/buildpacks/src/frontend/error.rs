//! Why an app cannot be built, who has to act, and what to do.

use rb_diag::{Diagnostics, ErrorKind};
use rb_frontend::WorldError;

use crate::builder::BuilderError;
use crate::detect::DetectError;
use crate::explain::Explanation;
use crate::export::ExportError;
use crate::extend::ExtendError;
use crate::json::JsonError;
use crate::{
    ApiError, DecodeError, Exit, ModuleError, ModuleKey, ModuleKind, OutputError, ReuseError, SliceError,
};

/// An app cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum FrontendError {
    /// A question was not answered; of a step that failed the engine has told.
    #[error(transparent)]
    World(#[from] WorldError),
    /// The builder is none.
    #[error("`{image}` is no builder: {source}")]
    Builder {
        /// Its name.
        image: String,
        /// Why.
        source: BuilderError,
    },
    /// An image is for another system than the one that is built for.
    #[error("`{image}` is for {is}, not for {wanted}")]
    Platform {
        /// Its name.
        image: String,
        /// What it is for.
        is: String,
        /// What is built for.
        wanted: String,
    },
    /// A buildpackage is none.
    #[error("`{image}` is no package of buildpacks: {source}")]
    Package {
        /// Its name.
        image: String,
        /// Why.
        source: BuilderError,
    },
    /// There is no API that both sides speak.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A module cannot be used.
    #[error("{place}: {source}")]
    Module {
        /// Where it lies.
        place: String,
        /// Why.
        source: ModuleError,
    },
    /// The builder has no module of this id.
    #[error("the builder has no {kind} `{id}`")]
    NoModule {
        /// What was looked for.
        kind: ModuleKind,
        /// The id.
        id: String,
        /// One of the builder that may be meant.
        near: Option<String>,
    },
    /// A buildpack was named of which there are others, or more than one.
    #[error("{0}")]
    Choice(String),
    /// A file of the build cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// No group passed.
    #[error("{error}")]
    Detect {
        /// Why.
        error: DetectError,
        /// All that was tried.
        explanation: Box<Explanation>,
        /// What those wrote that ended with an error.
        outputs: Vec<(ModuleKey, String)>,
    },
    /// What an extension generated cannot be used.
    #[error("extension {module}: {source}")]
    Generated {
        /// Which.
        module: ModuleKey,
        /// Why.
        source: ExtendError,
    },
    /// A Dockerfile that an extension generated cannot be built.
    #[error("{file} of extension {module} cannot be built")]
    Extension {
        /// Which extension.
        module: ModuleKey,
        /// Which of its Dockerfiles.
        file: &'static str,
        /// What is wrong with it.
        errors: Diagnostics,
    },
    /// What a buildpack left cannot be used.
    #[error("buildpack {module}: {source}")]
    Output {
        /// Which.
        module: ModuleKey,
        /// Why.
        source: OutputError,
    },
    /// A layer has no folder.
    #[error("buildpack {module}: {source}")]
    Reuse {
        /// Which.
        module: ModuleKey,
        /// Why.
        source: ReuseError,
    },
    /// The app cannot be sliced.
    #[error(transparent)]
    Slice(#[from] SliceError),
    /// The image cannot be put together.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A label or a bill of materials cannot be written.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A plan cannot be written.
    #[error("the plan of a buildpack cannot be written: {0}")]
    Plan(#[from] toml::ser::Error),
    /// The build image lacks what steps need.
    #[error("the builder `{image}` has no `{path}`")]
    Lacks {
        /// Its name.
        image: String,
        /// What it lacks.
        path: &'static str,
    },
    /// No base image is named.
    #[error("the builder `{0}` names no run image")]
    NoRunImage(String),
    /// The image would take the place of its own base.
    #[error("the image cannot be called `{name}`: that is the repository of its run image `{run_image}`")]
    OnItsBase {
        /// What it would be called.
        name: String,
        /// The base.
        run_image: String,
    },
    /// There is more than is looked at.
    #[error("{what} has more than {most} {of}")]
    TooMany {
        /// The folder.
        what: String,
        /// How many.
        most: usize,
        /// What of.
        of: &'static str,
    },
}

impl FrontendError {
    /// Returns the lifecycle's exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Builder { source, .. } | Self::Package { source, .. } => source.exit(),
            Self::Api(source) => source.exit(),
            Self::Module { source, .. } => source.exit(),
            Self::Detect { error, .. } => error.exit(),
            Self::Generated { source: ExtendError::Root, .. } | Self::Extension { .. } => Exit::Extend,
            Self::Generated { .. } => Exit::Generate,
            Self::Output { source, .. } => source.exit(),
            Self::Reuse { source, .. } => source.exit(),
            Self::Slice(source) => source.exit(),
            Self::Export(source) => source.exit(),
            Self::NoRunImage(_) => Exit::Analyze,
            Self::Plan(_) | Self::TooMany { .. } => Exit::Build,
            Self::World(_)
            | Self::NoModule { .. }
            | Self::Choice(_)
            | Self::OnItsBase { .. }
            | Self::Platform { .. }
            | Self::Decode(_)
            | Self::Json(_)
            | Self::Lacks { .. } => Exit::Failed,
        }
    }

    /// Returns who has to act.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::World(error) => error.kind(),
            other => other.exit().kind(),
        }
    }

    /// Returns what to do.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Detect { .. } => {
                "`rb pack detect --explain` runs detection alone; `-b ID` names the buildpacks yourself"
                    .to_owned()
            }
            Self::NoModule { near: Some(near), .. } => format!("did you mean `{near}`?"),
            Self::Builder { .. } => "`rb pack builder create` makes a builder".to_owned(),
            Self::Generated { .. } | Self::Extension { .. } => {
                "an extension is for its authors to mend; a builder without it does without".to_owned()
            }
            Self::Lacks { path: "/bin/sh", .. } => {
                "steps begin in a shell: put one into the build image".to_owned()
            }
            Self::Lacks { path: "/cnb/lifecycle/launcher", .. } => {
                "`rb pack build --launcher=rb` gives the image one of rb's own, `--launcher=FILE` any"
                    .to_owned()
            }
            Self::OnItsBase { .. } => "give the app a name of its own".to_owned(),
            Self::NoRunImage(_) => "name one: `--run-image IMAGE`".to_owned(),
            _ => return None,
        })
    }
}
