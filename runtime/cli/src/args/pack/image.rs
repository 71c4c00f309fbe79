//! Words of `rb pack rebase`, `inspect` and `sbom`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueHint};

use super::{PackFormat, PackPulls};
use crate::args::RegistryArgs;

/// `rb pack rebase`
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
The app's layers stay as they are; those of its base are replaced by those of the run image. On registries no layer is \
downloaded.

Examples:
  rb pack rebase app                                       an image of the store
  rb pack rebase --publish registry.example.com/app:1      one of a registry
  rb pack rebase --previous-image app:1 --run-image run:2 app:2")]
pub(crate) struct PackRebase {
    /// Read the image from its registry, and write it there
    #[arg(long)]
    pub(crate) publish: bool,
    /// The new base [default: the newest of what the image names]
    #[arg(long, value_name = "IMAGE")]
    pub(crate) run_image: Option<String>,
    /// Image to rebase [default: IMAGE itself]
    #[arg(long, value_name = "IMAGE")]
    pub(crate) previous_image: Option<String>,
    /// Do so even if the base is for another system
    #[arg(long)]
    pub(crate) force: bool,
    /// Write `report.toml` into this folder
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) report_output_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) pulls: PackPulls,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// Name of the image
    pub(crate) image: String,
}

/// `rb pack inspect`
#[derive(Debug, ClapArgs)]
pub(crate) struct PackInspect {
    /// Print the bills of materials that are in its labels
    #[arg(long)]
    pub(crate) bom: bool,
    /// In what form
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value = "human-readable")]
    pub(crate) output: PackFormat,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// Name of the image
    pub(crate) image: String,
}

/// `rb pack sbom`
#[derive(Debug, Subcommand)]
pub(crate) enum PackSbom {
    /// Write the bills of materials of an app's image into a folder
    Download(Box<PackSbomDownload>),
}

/// `rb pack sbom download`
#[derive(Debug, ClapArgs)]
pub(crate) struct PackSbomDownload {
    /// Ask the registry; of the image one layer is fetched
    #[arg(long)]
    pub(crate) remote: bool,
    /// Folder to write into
    #[arg(long, short, value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) output_dir: PathBuf,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// Name of the image
    pub(crate) image: String,
}
