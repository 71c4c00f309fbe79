//! Where results go.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};

use crate::output_spec::{Annotation, OutputSpec};

/// Where results go.
#[derive(Debug, Default, Clone, PartialEq, Eq, ClapArgs)]
pub(crate) struct OutputOptions {
    /// Also write the target's files or image
    ///
    /// type=oci is an image as an archive (tar=false: a folder), type=docker one for `docker load` (without dest= loaded at
    /// once), type=image,name=NAME one in the store, type=tar and type=local are files; dest=- is stdout. Images take
    /// compression=gzip|zstd|uncompressed, compression-level=N, force-compression=true, oci-mediatypes=false,
    /// annotation.KEY=VALUE.
    #[arg(long, short, value_name = "type=TYPE,…", help_heading = "Output")]
    pub(crate) output: Vec<OutputSpec>,
    /// Hand images to Docker, podman or containerd
    ///
    /// To the first of these that is there, or to the one that is named.
    #[arg(
        long,
        value_name = "PROGRAM",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "auto",
        conflicts_with = "no_output",
        help_heading = "Output"
    )]
    pub(crate) load: Option<LoadChoice>,
    /// Annotate images
    ///
    /// `manifest-descriptor:KEY=VALUE` annotates what names them in a layout.
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Output")]
    pub(crate) annotation: Vec<Annotation>,
    /// Write digests and names of images, as JSON
    ///
    /// `-` is stdout.
    #[arg(long, value_name = "PATH", help_heading = "Output")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// Write the id of the image, as docker shows it
    ///
    /// That is the digest of its config. `-` is stdout.
    #[arg(long, value_name = "PATH", help_heading = "Output")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Save no image and write no local artifact
    ///
    /// --push counts all the same.
    #[arg(long, help_heading = "Output")]
    pub(crate) no_output: bool,
    /// Write artifacts: `rb -a +TARGET/PATH… [DEST]`
    ///
    /// And nothing else. One takes the name DEST, unless that is a folder or ends in `/`; several go into the folder DEST.
    #[arg(
        long,
        short,
        conflicts_with_all = ["output", "no_output", "image", "load", "annotation", "metadata_file", "iidfile"],
        help_heading = "Output"
    )]
    pub(crate) artifact: bool,
    /// Save the target's own images, nothing else
    #[arg(long, conflicts_with_all = ["output", "no_output"], help_heading = "Output")]
    pub(crate) image: bool,
    /// Earthly's `--output`: also what --ci would not put out.
    #[arg(long, hide = true, conflicts_with = "no_output")]
    pub(crate) force_output: bool,
}

/// Who may keep images beside `rb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LoadChoice {
    /// The first of these that is there
    Auto,
    /// Docker, by its socket (DOCKER_HOST)
    Docker,
    /// podman
    Podman,
    /// containerd, by `ctr` (CONTAINERD_ADDRESS)
    Containerd,
}
