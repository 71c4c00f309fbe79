//! Words of `rb pack`: pack's commands and options, by pack's names.
//!
//! One enum of commands; each group has a file of its own below.

mod build;
mod config;
mod image;
mod module;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use super::{BuildOptions, RegistryArgs};

pub(crate) use build::{PackBuild, PackCache, PackChoices, PackDetect, PackLifecycle, PackNetwork};
pub(crate) use config::{
    AddRegistry, DefaultBuilder, DefaultRegistry, Experimental, Mirrors, PackConfig, PullPolicy, Registries,
    RegistryType, RunImageMirrors, TrustedBuilders,
};
pub(crate) use image::{PackInspect, PackRebase, PackSbom, PackSbomDownload};
pub(crate) use module::{
    BuilderCreate, BuilderInspect, ModuleInspect, ModuleNew, ModulePackage, ModuleTarget, PackBuilder,
    PackBuildpack, PackExtension, PackageFormat,
};

/// `rb pack`
#[derive(Debug, Subcommand)]
pub(crate) enum PackCommand {
    /// Build an app's source into an image, with buildpacks
    Build(Box<PackBuild>),
    /// Tell which buildpacks would build an app
    Detect(Box<PackDetect>),
    /// Set what holds for commands of pack that do not say otherwise
    #[command(subcommand)]
    Config(PackConfig),
    /// Put the app of an image on a newer base, without building it
    Rebase(Box<PackRebase>),
    /// Show what an app's image is made of
    Inspect(Box<PackInspect>),
    /// Bills of materials of an app's image
    #[command(subcommand)]
    Sbom(PackSbom),
    /// Make builders, and look into them
    #[command(subcommand)]
    Builder(PackBuilder),
    /// Make buildpacks and their packages, and look into them
    #[command(subcommand)]
    Buildpack(PackBuildpack),
    /// Make extensions and their packages, and look into them
    #[command(subcommand)]
    Extension(PackExtension),
}

impl PackCommand {
    /// Returns what of a command's options builds have, too.
    pub(crate) fn options(&self) -> BuildOptions {
        let nobody = RegistryArgs::default();
        let registry =
            match self {
                Self::Build(args) => return args.options(),
                Self::Detect(args) => return args.options(),
                Self::Rebase(args) => &args.registry,
                Self::Inspect(args) => &args.registry,
                Self::Sbom(PackSbom::Download(args)) => &args.registry,
                Self::Builder(PackBuilder::Create(args)) => &args.registry,
                Self::Builder(PackBuilder::Inspect(args)) => &args.registry,
                Self::Buildpack(PackBuildpack::Package(args))
                | Self::Extension(PackExtension::Package(args)) => &args.registry,
                Self::Buildpack(PackBuildpack::Inspect(args))
                | Self::Extension(PackExtension::Inspect(args)) => &args.registry,
                Self::Config(_)
                | Self::Builder(PackBuilder::Suggest)
                | Self::Buildpack(PackBuildpack::New(_))
                | Self::Extension(PackExtension::New(_)) => &nobody,
            };
        BuildOptions { ca: registry.ca.clone(), ..BuildOptions::default() }
    }
}

/// When a registry is asked for an image that is here, as pack writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PackPull {
    /// Each time.
    Always,
    /// Where the image is not here.
    #[value(alias = "missing")]
    IfNotPresent,
    /// Not at all.
    Never,
}

/// How registries are asked, and when: what most commands of pack take.
#[derive(Clone, Debug, Default, PartialEq, Eq, ClapArgs)]
pub(crate) struct PackPulls {
    /// When registries are asked for images [default: if-not-present]
    #[arg(long, value_name = "WHEN", value_enum)]
    pub(crate) pull_policy: Option<PackPull>,
    /// Registries that are asked by http, not https
    #[arg(long, value_name = "HOST")]
    pub(crate) insecure_registry: Vec<String>,
}

/// In what form something is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum PackFormat {
    /// For people.
    #[default]
    HumanReadable,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// TOML.
    Toml,
}

/// A label, as `-l` takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PackLabel {
    /// Its name.
    pub(crate) name: String,
    /// Its value.
    pub(crate) value: String,
}

impl std::str::FromStr for PackLabel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                Ok(Self { name: name.to_owned(), value: value.to_owned() })
            }
            _ => Err("write NAME=VALUE".to_owned()),
        }
    }
}
