//! Words of `rb pack build` and `rb pack detect`.
//!
//! What pack has and this version does not do is taken and refused by name ([`PackBuild::refused`]); what says nothing here, such as
//! whom to trust, is taken: no credentials ever enter a step.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum, ValueHint};
use rb_oci::Platform;

use super::{PackPull, PackPulls};
use crate::args::dockerfile::StepVolume;
use crate::args::{BuildOptions, ProgressChoice, PullChoice, RegistryArgs};

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

/// What is built, and by whom: what building and detecting have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq, ClapArgs)]
pub(crate) struct PackChoices {
    /// Folder of the app
    #[arg(long, short, value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) path: PathBuf,
    /// Builder image [default: the one of project.toml]
    #[arg(id = "builder_image", long = "builder", short = 'B', value_name = "IMAGE")]
    pub(crate) builder: Option<String>,
    /// Buildpack, instead of the builder's order
    ///
    /// `ID[@VERSION]` of the builder, a folder, a .tgz, its address, `docker://IMAGE`, or `from=builder`: its order.
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
    /// What they change in it is forgotten.
    #[arg(long, value_name = "VOLUME")]
    pub(crate) volume: Vec<StepVolume>,
    /// Platform of the image [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,
    /// Execution environment, such as test
    #[arg(long, value_name = "NAME")]
    pub(crate) exec_env: Option<String>,
    /// Look nothing up that is known of these steps
    #[arg(long)]
    pub(crate) clear_cache: bool,
    #[command(flatten)]
    pub(crate) pulls: PackPulls,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// How to show progress
    #[arg(long, value_name = "HOW", value_enum)]
    pub(crate) progress: Option<ProgressChoice>,
    /// Show nothing but the digest
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Show more
    #[arg(long, short)]
    pub(crate) verbose: bool,
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
    /// Image whose kept layers are used [default: NAME]
    #[arg(long, value_name = "IMAGE")]
    pub(crate) previous_image: Option<String>,
    /// When the image was made: seconds since 1970, or now
    #[arg(long, value_name = "TIME")]
    pub(crate) creation_time: Option<String>,
    /// Where the app lies in the image
    #[arg(long, value_name = "PATH", default_value = "/workspace")]
    pub(crate) workspace: String,
    /// Write bills of materials into this folder
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) sbom_output_dir: Option<PathBuf>,
    /// Write `report.toml` into this folder
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) report_output_dir: Option<PathBuf>,
    #[command(flatten)]
    later: Later,
    /// Name of the image
    pub(crate) image: String,
}

/// What pack has and this version does not do.
#[derive(Clone, Debug, Default, ClapArgs)]
struct Later {
    #[arg(long, hide = true)]
    cache: Vec<String>,
    #[arg(long, hide = true)]
    cache_image: Option<String>,
    #[arg(long, hide = true)]
    lifecycle_image: Option<String>,
    #[arg(long, hide = true)]
    docker_host: Option<String>,
    #[arg(long, hide = true)]
    userns_host: Option<String>,
    #[arg(long, hide = true)]
    uid: Option<String>,
    #[arg(long, hide = true)]
    gid: Option<String>,
    #[arg(long, short = 'r', hide = true)]
    buildpack_registry: Option<String>,
    #[arg(long, hide = true)]
    interactive: bool,
    #[arg(long, hide = true)]
    sparse: bool,
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
            PackPull::IfNotPresent => PullChoice::Missing,
            PackPull::Never => PullChoice::Never,
        });
        BuildOptions {
            platform: self.platform.iter().cloned().collect(),
            pull,
            ca: self.registry.ca.clone(),
            allow_host_network: self.network == PackNetwork::Host,
            progress: self.progress,
            quiet: self.quiet,
            verbose: self.verbose,
            ..BuildOptions::default()
        }
    }
}

impl PackBuild {
    /// Returns what of its options builds have, too.
    pub(super) fn options(&self) -> BuildOptions {
        self.choices.options()
    }

    /// Returns the first option that this version does not do, and what to do instead.
    pub(crate) fn refused(&self) -> Option<(&'static str, &'static str)> {
        let Later {
            cache,
            cache_image,
            lifecycle_image,
            docker_host,
            userns_host,
            uid,
            gid,
            buildpack_registry,
            interactive,
            sparse,
        } = &self.later;
        let all = [
            (!cache.is_empty(), "--cache", "layers are kept in the state directory of rb"),
            (cache_image.is_some(), "--cache-image", "layers are kept in the state directory of rb"),
            (
                lifecycle_image.is_some(),
                "--lifecycle-image",
                "rb is the lifecycle; the launcher is the builder's",
            ),
            (docker_host.is_some(), "--docker-host", "rb needs no daemon"),
            (userns_host.is_some(), "--userns-host", "rb needs no daemon"),
            (uid.is_some(), "--uid", "the builder's CNB_USER_ID says whose files are"),
            (gid.is_some(), "--gid", "the builder's CNB_GROUP_ID says whose files are"),
            (
                buildpack_registry.is_some(),
                "--buildpack-registry",
                "name the buildpack's image: `-b docker://IMAGE`",
            ),
            (*interactive, "--interactive", "`rb status` tells what a build is at"),
            (*sparse, "--sparse", "`rb image save` writes layouts"),
        ];
        all.into_iter().find(|(given, ..)| *given).map(|(_, option, help)| (option, help))
    }
}

impl PackDetect {
    /// Returns what of its options builds have, too.
    pub(super) fn options(&self) -> BuildOptions {
        self.choices.options()
    }
}
