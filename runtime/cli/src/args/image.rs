//! Words of `rb image`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum, ValueHint};
use rb_oci::Platform;

use super::{BuildOptions, RegistryArgs};

/// `rb image`
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// List images
    Ls(ImageLsArgs),
    /// Show the config and layers of an image, as JSON
    Inspect(ImageInspectArgs),
    /// Give an image a further name
    Tag {
        /// Name or digest
        image: String,
        /// The further name
        name: String,
    },
    /// Pull an image into the store, and print the digest of its manifest
    Pull(ImagePullArgs),
    /// Push an image to a registry, and print what it is there
    Push(ImagePushArgs),
    /// Copy an image between registries, layouts, archives and the store
    Copy(ImageCopyArgs),
    /// Write images to a file that docker, podman and skopeo load
    Save(ImageSaveArgs),
    /// Load images that docker, podman, skopeo or rb saved
    Load(ImageLoadArgs),
    /// Write the files of an image into a folder
    #[command(after_help = "\
Owners, times and hard links are kept; as a user without subordinate ids all files are that user's. Extended attributes are \
not kept.")]
    Unpack {
        /// Platform of the image [default: this machine's]
        #[arg(long, value_name = "OS/ARCH")]
        platform: Option<Platform>,
        /// Name or digest
        image: String,
        /// A folder that is empty or not there, or a link to such
        #[arg(value_hint = ValueHint::DirPath)]
        folder: PathBuf,
    },
    /// Remove names of images
    #[command(visible_alias = "remove")]
    Rm {
        /// Take all names of a digest, and pass over what is not there
        #[arg(long, short)]
        force: bool,
        /// Names or digests
        #[arg(required = true)]
        images: Vec<String>,
    },
}

impl ImageCommand {
    /// Returns what of a command's options builds have, too.
    pub(crate) fn options(&self) -> BuildOptions {
        let nobody = RegistryArgs::default();
        let (registry, quiet) = match self {
            Self::Pull(args) => (&args.registry, args.quiet),
            Self::Push(args) => (&args.registry, args.quiet),
            Self::Copy(args) => (&args.registry, args.quiet),
            Self::Inspect(args) => (&args.registry, false),
            Self::Load(args) => (&nobody, args.quiet),
            Self::Ls(_) | Self::Tag { .. } | Self::Save(_) | Self::Unpack { .. } | Self::Rm { .. } => {
                (&nobody, false)
            }
        };
        BuildOptions { ca: registry.ca.clone(), quiet, ..BuildOptions::default() }
    }
}

/// `rb image pull`
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  rb image pull debian:12
  rb run $(rb image pull -q ghcr.io/me/app:1)    what was pulled, by its digest")]
pub(crate) struct ImagePullArgs {
    /// Platform of the image [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// Print the digest alone
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Name, with a tag or a digest
    pub(crate) name: String,
}

/// `rb image ls`
#[derive(Debug, ClapArgs)]
// docker's `-a` is so anyway.
#[command(
    visible_alias = "list",
    arg(clap::Arg::new("all").short('a').long("all").action(clap::ArgAction::SetTrue).hide(true))
)]
pub(crate) struct ImageLsArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// `table` or `json`
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "table")]
    pub(crate) format: ListFormat,
    /// Print digests only
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Show whole digests
    #[arg(long, visible_alias = "no-trunc")]
    pub(crate) digests: bool,
    /// Only images whose name fits: `reference=PATTERN`
    #[arg(long, short, value_name = "WORD=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Only images whose name fits: `app`, `app:1*`, `ghcr.io/team/*`
    pub(crate) pattern: Option<String>,
}

/// `rb image inspect`
#[derive(Debug, ClapArgs)]
pub(crate) struct ImageInspectArgs {
    /// Ask the registry rather than the store; `docker://NAME` does so too
    #[arg(long)]
    pub(crate) remote: bool,
    /// Print the manifest or index as it is
    #[arg(long)]
    pub(crate) raw: bool,
    /// Of an index, the image for this platform [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,
    /// Always so.
    #[arg(long, hide = true)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// Names, digests, or places as `rb image copy` takes them
    #[arg(required = true)]
    pub(crate) images: Vec<String>,
}

/// `rb image push`
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Layers go before manifests and tags last; what the registry has is not sent.

Examples:
  rb image push ghcr.io/me/app:1                 under its own name
  rb image push app:1 ghcr.io/me/app:1           under another
  rb image push app:1 ghcr.io/me/app:1 ghcr.io/me/app:latest")]
pub(crate) struct ImagePushArgs {
    /// Of an index, only the image for this platform
    #[arg(long, value_name = "OS/ARCH", conflicts_with = "all_platforms")]
    pub(crate) platform: Option<Platform>,
    /// All platforms of an index (default); that one is not here is an error
    #[arg(long)]
    pub(crate) all_platforms: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// Print what it is there alone
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Name or digest in the store
    pub(crate) image: String,
    /// Names in registries [default: its own]
    pub(crate) names: Vec<String>,
}

/// `rb image copy`
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Places, as skopeo writes them:
  NAME                       an image of the store
  docker://NAME              an image of a registry
  oci:FOLDER[:NAME]          an image of an OCI layout
  oci-archive:FILE[:NAME]    an image of an archive
  docker-archive:FILE[:NAME] an image of what docker saved; both, if written
FILE may be `-`: a standard stream.

Examples:
  rb image copy docker://busybox docker://registry.example.com/busybox
  rb image copy --all docker://alpine:3 oci:mirror:alpine-3
  rb image copy docker-archive:app.tar docker://ghcr.io/me/app:1")]
pub(crate) struct ImageCopyArgs {
    /// Of an index, the image for this platform
    ///
    /// Unless given, that of this machine; an index of the store is copied whole, and that one of its platforms is not here is
    /// an error.
    #[arg(long, value_name = "OS/ARCH", conflicts_with = "all")]
    pub(crate) platform: Option<Platform>,
    /// The whole index, with all platforms
    #[arg(long, short, visible_alias = "all-platforms")]
    pub(crate) all: bool,
    /// Media types of the copy [default: as they are]
    ///
    /// In others it has another digest. umoci, and skopeo by name, find OCI's alone in a layout.
    #[arg(long, short, value_name = "TYPES", value_enum)]
    pub(crate) format: Option<TypesChoice>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// Print what it is there alone
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Where it is
    pub(crate) from: String,
    /// Where it goes
    pub(crate) to: String,
}

/// `rb image save`
#[derive(Debug, ClapArgs)]
pub(crate) struct ImageSaveArgs {
    /// File, or folder for `--format=oci-dir`; `-` is stdout
    #[arg(long, short, value_name = "PATH")]
    pub(crate) output: PathBuf,
    /// Format of the file
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "oci-archive")]
    pub(crate) format: SaveChoice,
    /// Names or digests
    #[arg(required = true)]
    pub(crate) images: Vec<String>,
}

/// `rb image load`
#[derive(Debug, ClapArgs)]
pub(crate) struct ImageLoadArgs {
    /// Archive, or folder of an OCI layout; `-` is stdin
    ///
    /// An archive may be packed with gzip or zstd.
    #[arg(long, short, value_name = "PATH", default_value = "-")]
    pub(crate) input: PathBuf,
    /// Name of an image that is alone, instead of those that the archive gives it
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Print names and digests alone
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// Formats of `rb image save`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SaveChoice {
    /// A tar file holding an OCI layout, which `docker load` reads too
    #[value(alias = "tar", alias = "oci")]
    OciArchive,
    /// An OCI layout as a folder
    OciDir,
    /// The same tar file: it holds Docker's manifest as well, as those of `docker save` hold both
    #[value(alias = "docker")]
    DockerArchive,
}

/// Media types of an image's documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TypesChoice {
    /// OCI's
    Oci,
    /// Docker's: manifests of version 2, schema 2
    #[value(alias = "v2s2")]
    Docker,
}

/// Formats of lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    /// For people
    Table,
    /// For programs
    Json,
}
