//! Words of `rb pack build` and `rb pack detect`.
//!
//! What pack has and this version does not do is taken and refused by name ([`PackBuild::refused`]); what says nothing here, such as
//! whom to trust, is taken: no credentials ever enter a step.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, ValueEnum, ValueHint};
use rb_oci::Platform;

use super::{PackBinding, PackPull, PackPulls};
use crate::args::dockerfile::{StepVolume, in_one_line};
use crate::args::{ArgsError, BuildOptions, ProgressChoice, PullChoice, RegistryArgs};
use crate::settings::engine::EngineName;

/// Which network programs of buildpacks see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum PackNetwork {
    /// One of their own.
    #[default]
    #[value(alias = "bridge")]
    Default,
    /// This machine's.
    Host,
    /// None.
    None,
}

/// Whose lifecycle builds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum PackLifecycle {
    /// Ours: each buildpack is a step of its own.
    #[default]
    Rb,
    /// The builder's: its `creator` is one step.
    Builder,
}

/// Whose launcher starts the image's processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum PackLauncher {
    /// The builder's.
    #[default]
    Builder,
    /// The one that `rb` has with it.
    Rb,
    /// One in a file.
    File(PathBuf),
}

impl std::str::FromStr for PackLauncher {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "builder" => Ok(Self::Builder),
            "rb" => Ok(Self::Rb),
            "" => Err("it is builder, rb, or a file".to_owned()),
            file => Ok(Self::File(file.into())),
        }
    }
}

/// A value of `--cache`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PackCache {
    /// What is kept under a name; its own if there is none.
    Volume(Option<String>),
    /// A folder of this machine.
    Bind(PathBuf),
    /// An image of a registry.
    Image(String),
    /// What says nothing here.
    Launch,
}

impl std::str::FromStr for PackCache {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut kind, mut format, mut name) = ("build", "volume", None);
        for field in text.split(';').filter(|field| !field.is_empty()) {
            let (key, value) =
                field.split_once('=').ok_or_else(|| format!("`{field}` is to be KEY=VALUE"))?;
            match key.to_ascii_lowercase().as_str() {
                "type" => kind = value,
                "format" => format = value,
                "name" | "source" => name = Some(value).filter(|value| !value.is_empty()),
                _ => return Err(format!("`{key}` is none of type, format, name and source")),
            }
        }
        let needed = |what: &str| name.map(ToOwned::to_owned).ok_or_else(|| format!("`{what}=…` is missing"));
        match (kind, format) {
            ("launch", "volume" | "bind" | "image") => Ok(Self::Launch),
            ("build", "volume") => Ok(Self::Volume(name.map(ToOwned::to_owned))),
            ("build", "bind") => Ok(Self::Bind(needed("source")?.into())),
            ("build", "image") => Ok(Self::Image(needed("name")?)),
            ("build" | "launch", _) => Err(format!("`{format}` is none of volume, image and bind")),
            _ => Err(format!("`{kind}` is none of build and launch")),
        }
    }
}

/// What is built, and by whom: what building and detecting have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq, ClapArgs)]
pub(crate) struct PackChoices {
    /// Folder or zip archive of the app [default: .]
    ///
    /// An archive (.zip, .jar, .war) is unpacked; a `project.toml` in it counts.
    #[arg(long, short, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) path: Option<PathBuf>,
    /// Builder image [default: project.toml's]
    ///
    /// Where neither names one, the one of `rb pack config default-builder`.
    #[arg(id = "builder_image", long = "builder", short = 'B', value_name = "IMAGE")]
    pub(crate) builder: Option<String>,
    /// Buildpack, instead of the builder's order
    ///
    /// `ID[@VERSION]` of the builder, a folder, a .tgz, its address, a .cnb file, `docker://IMAGE`, `urn:cnb:registry:ID[@VERSION]`, or
    /// `from=builder`: its order.
    #[arg(long, short, value_name = "BUILDPACK", value_delimiter = ',')]
    pub(crate) buildpack: Vec<String>,
    /// Buildpack before each group
    #[arg(long, value_name = "BUILDPACK", value_delimiter = ',')]
    pub(crate) pre_buildpack: Vec<String>,
    /// Buildpack after each group
    #[arg(long, value_name = "BUILDPACK", value_delimiter = ',')]
    pub(crate) post_buildpack: Vec<String>,
    /// Image extension, instead of the builder's
    #[arg(long, value_name = "EXTENSION", value_delimiter = ',')]
    pub(crate) extension: Vec<String>,
    /// Registry of buildpacks, by its name
    ///
    /// `rb pack config registries` knows them.
    #[arg(long, short = 'r', value_name = "NAME")]
    pub(crate) buildpack_registry: Option<String>,
    /// User that buildpacks run as [default: the builder's]
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u32).range(1..u32::MAX.into()))]
    pub(crate) uid: Option<u32>,
    /// Its group [default: the builder's]
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u32).range(1..u32::MAX.into()))]
    pub(crate) gid: Option<u32>,
    /// Leave out what the builder adds to each group
    #[arg(long)]
    pub(crate) disable_system_buildpacks: bool,
    /// Variable of the build; NAME alone passes this shell's on
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// File of such variables, one per line
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) env_file: Vec<PathBuf>,
    /// Project descriptor [default: project.toml of the app]
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) descriptor: Option<PathBuf>,
    /// The base of the image [default: the builder's]
    #[arg(long, value_name = "IMAGE")]
    pub(crate) run_image: Option<String>,
    /// Network that buildpacks see
    #[arg(long, value_name = "NETWORK", value_enum, default_value = "default")]
    pub(crate) network: PackNetwork,
    /// Folder or file that buildpacks see: `HOST:TARGET[:ro]`
    ///
    /// Its files are those of the user that buildpacks run as. What they change in it is forgotten.
    #[arg(long, value_name = "VOLUME")]
    pub(crate) volume: Vec<StepVolume>,
    /// Service that buildpacks are bound to: `NAME=DIR`
    ///
    /// They see its files below /platform/bindings/NAME. All but `type` and `provider` are secrets: they are in no layer, no log and
    /// nothing that rb keeps, and a step that is known is not run again because one of them changed.
    #[arg(long, value_name = "NAME=DIR", value_hint = ValueHint::DirPath)]
    pub(crate) binding: Vec<PackBinding>,
    /// Platform of the image [default: this machine's]
    ///
    /// Of several, separated by commas or given more than once, an image becomes an index.
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',')]
    pub(crate) platform: Vec<Platform>,
    /// Execution environment [default: production]
    #[arg(long, value_name = "NAME")]
    pub(crate) exec_env: Option<String>,
    /// Look nothing up that is known of these steps
    #[arg(long)]
    pub(crate) clear_cache: bool,
    #[command(flatten)]
    pub(crate) pulls: PackPulls,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// Build on a BuildKit daemon, by name or address
    ///
    /// As `rb --engine` in front of the command; `rb engine ls` lists names.
    #[arg(long, value_name = "NAME|ADDRESS")]
    pub(crate) engine: Option<EngineName>,
    /// How to show progress
    #[arg(long, value_name = "HOW", value_enum)]
    pub(crate) progress: Option<ProgressChoice>,
    /// Said to pack: the builder may see credentials
    #[arg(long, hide = true)]
    pub(crate) trust_builder: bool,
    /// Said to pack: further buildpacks may see credentials
    #[arg(long, hide = true)]
    pub(crate) trust_extra_buildpacks: bool,
}

/// `rb pack build`
#[derive(Clone, Debug, Default, ClapArgs)]
#[command(after_help = "\
The image goes into the image store of rb: `rb run NAME` runs it. Each buildpack is a step of its own: what is known of one is not \
run again, and layers that it caches are there when it is.

Examples:
  rb pack build app -B docker.io/me/builder
  rb pack build app -B my-builder -b my/node@1.2 -b ./mine -e MODE=test
  rb pack build app -B docker.io/me/builder --engine far
  rb pack build oci:layout -B my-builder --platform linux/amd64,linux/arm64
  rb pack build registry.example.com/app:1 -B my-builder --publish")]
pub(crate) struct PackBuild {
    #[command(flatten)]
    pub(crate) choices: PackChoices,
    /// Further names of the image
    #[arg(long, short, value_name = "NAME", value_delimiter = ',')]
    pub(crate) tag: Vec<String>,
    /// Process that the image starts [default: the buildpacks']
    #[arg(long, short = 'D', value_name = "TYPE")]
    pub(crate) default_process: Option<String>,
    /// Push the image, rather than keep it in the store
    #[arg(long)]
    pub(crate) publish: bool,
    /// Where steps are found again: `type=build;format=…`
    ///
    /// `format=volume;name=NAME` names whose kept layers are used, `format=bind;source=DIR` a folder, `format=image;name=IMAGE` an image of
    /// a registry, as --cache-image. `type=launch` says nothing here.
    #[arg(long, value_name = "CACHE")]
    pub(crate) cache: Vec<PackCache>,
    /// Image that steps are found in again; with --publish
    #[arg(long, value_name = "IMAGE", requires = "publish", conflicts_with = "cache")]
    pub(crate) cache_image: Option<String>,
    /// Image whose layers are used again [default: NAME]
    ///
    /// What this machine keeps of it comes first; beside that, layers that buildpacks leave as they are are taken from the image itself,
    /// in the store or the registry, and not fetched.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) previous_image: Option<String>,
    /// When the image was made: seconds since 1970, or now
    #[arg(long, value_name = "TIME")]
    pub(crate) creation_time: Option<String>,
    /// Where the app lies in the image
    #[arg(long, value_name = "PATH", default_value = "/workspace")]
    pub(crate) workspace: String,
    /// Whose lifecycle builds: rb's, or the builder's own
    ///
    /// The builder's is one step, its `creator`: all runs again when anything changes. It applies no extensions.
    #[arg(long, value_name = "WHOSE", value_enum, default_value = "rb")]
    pub(crate) lifecycle: PackLifecycle,
    /// Launcher of the image: builder, rb, or a file
    ///
    /// rb's starts processes as the lifecycle's does, and has 0.3 MB.
    #[arg(long, value_name = "LAUNCHER", default_value = "builder")]
    pub(crate) launcher: PackLauncher,
    /// Write bills of materials into this folder
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) sbom_output_dir: Option<PathBuf>,
    /// Write `report.toml` into this folder
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) report_output_dir: Option<PathBuf>,
    /// Leave the layers of the base out of `oci:DIR`
    ///
    /// Its manifest names them; who copies the image to where the base is needs no more.
    #[arg(long)]
    pub(crate) sparse: bool,
    /// Said to pack: where a daemon is, and which namespace of users it takes
    #[arg(long, hide = true)]
    docker_host: Option<String>,
    #[arg(long, hide = true)]
    userns_host: bool,
    #[command(flatten)]
    later: Later,
    /// Name of the image, or `oci:DIR`
    pub(crate) image: String,
    /// What stands behind `rb pack build`, as it was typed
    #[arg(skip)]
    pub(crate) words: Vec<String>,
}

/// What pack has and this version does not do.
#[derive(Clone, Debug, Default, ClapArgs)]
struct Later {
    #[arg(long, hide = true)]
    lifecycle_image: Option<String>,
    #[arg(long, hide = true)]
    interactive: bool,
}

/// `rb pack detect`
#[derive(Clone, Debug, Default, ClapArgs)]
#[command(after_help = "\
Every buildpack that is asked is a step of its own, known again as any other: a build after this asks none anew.

Examples:
  rb pack detect -B my-builder
  rb pack detect -B my-builder --explain     all that was tried, and why")]
pub(crate) struct PackDetect {
    #[command(flatten)]
    pub(crate) choices: PackChoices,
    /// Show each group that was tried, and why it was not chosen
    #[arg(long)]
    pub(crate) explain: bool,
}

impl PackChoices {
    fn options(&self) -> BuildOptions {
        let pull = self.pulls.pull_policy.map(|pull| match pull {
            PackPull::Always => PullChoice::Always,
            // An age is told the engine itself (`commands::pack::order`).
            PackPull::IfNotPresent | PackPull::Within(_) => PullChoice::Missing,
            PackPull::Never => PullChoice::Never,
        });
        BuildOptions {
            platform: self.platform.clone(),
            pull,
            ca: self.registry.ca.clone(),
            allow_host_network: self.network == PackNetwork::Host,
            progress: self.progress,
            engine: self.engine.clone(),
            ..BuildOptions::default()
        }
    }
}

/// `rb pack build` as `rb why` takes it: with words of a step behind the image.
#[derive(Debug, Parser)]
#[command(name = "rb pack build", no_binary_name = true, disable_help_flag = true)]
struct Asked {
    #[command(flatten)]
    build: PackBuild,
    step: Option<String>,
}

impl PackBuild {
    /// Reads what stands behind `rb why pack build`: the build, and words of a step.
    pub(crate) fn read(words: &[OsString]) -> Result<(Self, Option<String>), ArgsError> {
        let Asked { build, step } = Asked::try_parse_from(words)
            .map_err(|error| ArgsError::OfBuild { command: "pack build", message: in_one_line(&error) })?;
        Ok((build, step))
    }

    /// Returns what of its options builds have, too.
    pub(crate) fn options(&self) -> BuildOptions {
        self.choices.options()
    }

    /// Returns the first option that this version does not do, and what to do instead.
    pub(crate) fn refused(&self) -> Option<(&'static str, &'static str)> {
        let Later { lifecycle_image, interactive } = &self.later;
        let all = [
            (
                lifecycle_image.is_some(),
                "--lifecycle-image",
                "rb is the lifecycle; `--lifecycle=builder` takes the builder's own",
            ),
            (*interactive, "--interactive", "`rb status` tells what a build is at"),
        ];
        all.into_iter().find(|(given, ..)| *given).map(|(_, option, help)| (option, help))
    }
}

impl PackBuild {
    /// Returns what says nothing here, of what was typed.
    pub(crate) fn ignored(&self) -> Vec<&'static str> {
        let all = [(self.docker_host.is_some(), "--docker-host"), (self.userns_host, "--userns-host")];
        all.into_iter().filter(|(given, _)| *given).map(|(_, option)| option).collect()
    }
}

impl PackDetect {
    /// Returns what of its options builds have, too.
    pub(super) fn options(&self) -> BuildOptions {
        self.choices.options()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cache_is() {
        let read = |text: &str| text.parse::<PackCache>();
        for (text, cache) in [
            ("type=build;format=volume;name=x", PackCache::Volume(Some("x".to_owned()))),
            ("format=volume", PackCache::Volume(None)),
            ("type=build;format=bind;source=a/b", PackCache::Bind("a/b".into())),
            ("format=image;name=example.com/c;type=build;", PackCache::Image("example.com/c".to_owned())),
            ("type=launch;format=volume;name=x", PackCache::Launch),
        ] {
            assert_eq!(read(text), Ok(cache), "{text}");
        }
        for text in
            ["x", "type=kaniko", "format=tar", "format=bind", "type=build;format=image;name=", "size=1"]
        {
            read(text).expect_err(text);
        }
    }
}
