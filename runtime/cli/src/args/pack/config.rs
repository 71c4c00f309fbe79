//! Words of `rb pack config`: what holds for commands of pack that do not say otherwise.

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use super::PackPull;

/// `rb pack config`
#[derive(Debug, Subcommand)]
pub(crate) enum PackConfig {
    /// The builder of builds that name none
    DefaultBuilder(DefaultBuilder),
    /// When registries are asked for images
    PullPolicy(PullPolicy),
    /// Names of a run image that are tried first
    #[command(visible_alias = "run-image-mirror")]
    RunImageMirrors(Listed<RunImageMirrors>),
    /// Registries of buildpacks
    #[command(visible_alias = "registry")]
    Registries(Listed<Registries>),
    /// Builders that pack trusts; here it says nothing
    #[command(visible_alias = "trusted-builder")]
    TrustedBuilders(Listed<TrustedBuilders>),
    /// Taken for pack's sake: nothing here is experimental
    Experimental(Experimental),
    /// Not part of this version
    #[command(hide = true)]
    LifecycleImage(Refused),
    /// Not part of this version
    #[command(hide = true)]
    RegistryMirrors(Refused),
}

/// Commands of which none lists what there is.
#[derive(Debug, ClapArgs)]
pub(crate) struct Listed<C: Subcommand> {
    #[command(subcommand)]
    pub(crate) command: Option<C>,
}

/// What is taken and refused.
#[derive(Debug, ClapArgs)]
pub(crate) struct Refused {
    /// Words that are not looked at
    #[arg(allow_hyphen_values = true, trailing_var_arg = true)]
    words: Vec<String>,
}

/// `rb pack config default-builder`
#[derive(Debug, ClapArgs)]
pub(crate) struct DefaultBuilder {
    /// The builder; without one it is told
    #[arg(conflicts_with = "unset")]
    pub(crate) image: Option<String>,
    /// There is none any more
    #[arg(long, short)]
    pub(crate) unset: bool,
}

/// `rb pack config pull-policy`
#[derive(Debug, ClapArgs)]
pub(crate) struct PullPolicy {
    /// The policy; without one it is told
    ///
    /// always, if-not-present, never, hourly, daily, weekly, or an age such as interval=1d12h30m.
    #[arg(conflicts_with = "unset")]
    pub(crate) policy: Option<PackPull>,
    /// The usual one again: if-not-present
    #[arg(long, short)]
    pub(crate) unset: bool,
}

/// `rb pack config run-image-mirrors`
#[derive(Debug, Default, Subcommand)]
pub(crate) enum RunImageMirrors {
    /// List them
    #[default]
    List,
    /// Add names of a run image
    Add(Mirrors),
    /// Forget names of a run image; all without `-m`
    #[command(alias = "rm")]
    Remove(Mirrors),
}

/// Names of a run image.
#[derive(Debug, ClapArgs)]
pub(crate) struct Mirrors {
    /// The run image, as builders name it
    pub(crate) image: String,
    /// Another name of it
    #[arg(long, short, value_name = "NAME", value_delimiter = ',')]
    pub(crate) mirror: Vec<String>,
}

/// `rb pack config registries`
#[derive(Debug, Default, Subcommand)]
pub(crate) enum Registries {
    /// List them
    #[default]
    List,
    /// Add one: a git repository
    Add(AddRegistry),
    /// Forget one
    #[command(alias = "rm")]
    Remove {
        /// Its name
        name: String,
    },
    /// The one that is asked where none is named
    Default(DefaultRegistry),
}

/// `rb pack config registries add`
#[derive(Debug, ClapArgs)]
pub(crate) struct AddRegistry {
    /// Its name
    pub(crate) name: String,
    /// The address of its repository
    pub(crate) url: String,
    /// It is asked where none is named
    #[arg(long)]
    pub(crate) default: bool,
    /// How it is written to, which rb does not do
    #[arg(long, value_name = "TYPE", value_enum, default_value = "github")]
    pub(crate) r#type: RegistryType,
}

/// How pack writes to a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RegistryType {
    /// By issues.
    Github,
    /// By commits.
    Git,
}

/// `rb pack config registries default`
#[derive(Debug, ClapArgs)]
pub(crate) struct DefaultRegistry {
    /// Its name; without one it is told
    #[arg(conflicts_with = "unset")]
    pub(crate) name: Option<String>,
    /// There is none any more
    #[arg(long, short)]
    pub(crate) unset: bool,
}

/// `rb pack config trusted-builders`
#[derive(Debug, Default, Subcommand)]
pub(crate) enum TrustedBuilders {
    /// List them
    #[default]
    List,
    /// Trust one
    Add {
        /// The builder
        image: String,
    },
    /// Trust one no more
    #[command(alias = "rm")]
    Remove {
        /// The builder
        image: String,
    },
}

/// `rb pack config experimental`
#[derive(Debug, ClapArgs)]
pub(crate) struct Experimental {
    /// Whether it is on; without a word it is told
    pub(crate) on: Option<bool>,
}
