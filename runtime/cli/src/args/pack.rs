//! Words of `rb pack`: pack's commands and options, by pack's names.
//!
//! One enum of commands; each group has a file of its own below.

mod build;
mod config;
mod given;
mod image;
mod module;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use super::{BuildOptions, RegistryArgs};

pub(crate) use build::{
    PackBuild, PackCache, PackChoices, PackDetect, PackLauncher, PackLifecycle, PackNetwork,
};
pub(crate) use config::{
    AddRegistry, DefaultBuilder, DefaultRegistry, Experimental, Listed, Mirrors, PackConfig, PullPolicy,
    Registries, RegistryType, RunImageMirrors, TrustedBuilders,
};
pub(crate) use given::PackBinding;
use given::PackLabels;
pub(crate) use image::{PackInspect, PackRebase, PackSbom, PackSbomDownload};
pub(crate) use module::{
    BuilderCreate, BuilderInspect, ModuleInspect, ModuleNew, ModulePackage, ModulePull, ModuleTarget,
    PackBuilder, PackBuildpack, PackExtension, PackageFormat,
};

/// `rb pack`
#[derive(Debug, ClapArgs)]
pub(crate) struct PackArgs {
    #[command(flatten)]
    pub(crate) everywhere: PackEverywhere,
    #[command(subcommand)]
    pub(crate) command: PackCommand,
}

/// What every command of pack takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, ClapArgs)]
pub(crate) struct PackEverywhere {
    /// Show less: of a build nothing but the digest
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Show more
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
    /// Said to pack: no colours
    #[arg(long, global = true, hide = true, overrides_with = "force_color")]
    no_color: bool,
    /// Said to pack: colours
    #[arg(long, global = true, hide = true)]
    force_color: bool,
    /// Said to pack: lines begin with the time
    #[arg(long, global = true, hide = true)]
    pub(crate) timestamps: bool,
}

impl PackArgs {
    /// Returns what of its options builds have, too.
    pub(crate) fn options(&self) -> BuildOptions {
        let PackEverywhere { quiet, verbose, no_color, force_color, timestamps: _ } = self.everywhere;
        let colours = (no_color || force_color).then_some(!no_color);
        BuildOptions { quiet, verbose, colours, ..self.command.options() }
    }
}

/// The commands of `rb pack`
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
                Self::Buildpack(PackBuildpack::Pull(args)) => &args.registry,
                Self::Config(_)
                | Self::Builder(PackBuilder::Suggest)
                | Self::Buildpack(PackBuildpack::New(_))
                | Self::Extension(PackExtension::New(_)) => &nobody,
            };
        BuildOptions { ca: registry.ca.clone(), ..BuildOptions::default() }
    }
}

/// When a registry is asked for an image that is here, as pack writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum PackPull {
    /// Each time.
    Always,
    /// Where the image is not here.
    IfNotPresent,
    /// Not at all.
    Never,
    /// Where it was not asked for so many minutes.
    Within(u32),
}

/// Ages that have a name, in minutes.
const AGES: [(&str, u32); 3] = [("hourly", 60), ("daily", 24 * 60), ("weekly", 7 * 24 * 60)];

impl std::str::FromStr for PackPull {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = AGES.iter().find(|(name, _)| *name == text).map(|(_, minutes)| Self::Within(*minutes));
        let expected = "expected always, if-not-present, never, hourly, daily, weekly, or interval=…d…h…m";
        let wrong = || format!("`{text}` is no pull policy: {expected}");
        match (text, named) {
            ("always", _) => Ok(Self::Always),
            ("if-not-present" | "missing", _) => Ok(Self::IfNotPresent),
            ("never", _) => Ok(Self::Never),
            (_, Some(named)) => Ok(named),
            (_, None) => {
                let interval = text.strip_prefix("interval=").and_then(minutes);
                interval.map(Self::Within).ok_or_else(wrong)
            }
        }
    }
}

/// Reads days, hours and minutes, such as `1d12h`, each at most once and in this order.
fn minutes(text: &str) -> Option<u32> {
    let (mut rest, mut all) = (text, 0_u32);
    for (unit, of_unit) in [('d', 24 * 60), ('h', 60), ('m', 1)] {
        if let Some((number, after)) = rest.split_once(unit) {
            let number: u32 =
                number.parse().ok().filter(|_| number.bytes().all(|byte| byte.is_ascii_digit()))?;
            all = all.checked_add(number.checked_mul(of_unit)?)?;
            rest = after;
        }
    }
    (rest.is_empty() && !text.is_empty()).then_some(all)
}

impl TryFrom<String> for PackPull {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl std::fmt::Display for PackPull {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Always => out.write_str("always"),
            Self::IfNotPresent => out.write_str("if-not-present"),
            Self::Never => out.write_str("never"),
            Self::Within(minutes) => match AGES.iter().find(|(_, age)| age == minutes) {
                Some((name, _)) => out.write_str(name),
                None => {
                    let parts = [(minutes / (24 * 60), 'd'), (minutes / 60 % 24, 'h'), (minutes % 60, 'm')];
                    let said = parts.iter().filter(|(count, _)| *count > 0);
                    let said: String = said.map(|(count, unit)| format!("{count}{unit}")).collect();
                    write!(out, "interval={}", if said.is_empty() { "0m" } else { &said })
                }
            },
        }
    }
}

impl PackPull {
    /// Returns what the engine is told.
    pub(crate) fn policy(self) -> rb_api::PullPolicy {
        match self {
            Self::Always => rb_api::PullPolicy::Always,
            Self::IfNotPresent => rb_api::PullPolicy::Missing,
            Self::Never => rb_api::PullPolicy::Never,
            Self::Within(_) => rb_api::PullPolicy::Within(self.age().unwrap_or_default()),
        }
    }

    /// Returns how old an answer may be.
    pub(crate) fn age(self) -> Option<std::time::Duration> {
        match self {
            Self::Within(minutes) => Some(std::time::Duration::from_secs(u64::from(minutes) * 60)),
            Self::Always | Self::IfNotPresent | Self::Never => None,
        }
    }
}

/// How registries are asked, and when: what most commands of pack take.
#[derive(Clone, Debug, Default, PartialEq, Eq, ClapArgs)]
pub(crate) struct PackPulls {
    /// When registries are asked for images [default: if-not-present]
    ///
    /// always, if-not-present, never, hourly, daily, weekly, or an age such as interval=1d12h30m.
    #[arg(long, value_name = "WHEN")]
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
