//! Words of `rb pack builder`, `buildpack` and `extension`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args as ClapArgs, Subcommand, ValueEnum, ValueHint};
use rb_oci::Platform;

use super::{PackFormat, PackLabels, PackPulls};
use crate::args::RegistryArgs;

/// `rb pack builder`
#[derive(Debug, Subcommand)]
pub(crate) enum PackBuilder {
    /// Make a builder from a `builder.toml`
    Create(Box<BuilderCreate>),
    /// Show what a builder has and tries
    Inspect(Box<BuilderInspect>),
    /// Name builders of others
    Suggest,
}

/// `rb pack builder create`
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Places of modules in `builder.toml`: a folder, a .tgz or .cnb, http(s)://, file://, docker://IMAGE or
urn:cnb:registry:ID[@VERSION].

Examples:
  rb pack builder create my-builder:1 -c builder.toml
  rb pack builder create --publish -c builder.toml registry.example.com/b:1")]
pub(crate) struct BuilderCreate {
    /// The `builder.toml`
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: PathBuf,
    /// Push it, rather than keep it in the store
    #[arg(long)]
    pub(crate) publish: bool,
    /// Systems to make it for: `linux/arm64`
    #[arg(long, short, value_name = "OS/ARCH", value_delimiter = ',')]
    pub(crate) target: Vec<ModuleTarget>,
    /// Put these into one layer: `ID@VERSION,ID@VERSION`
    #[arg(long, value_name = "IDS")]
    pub(crate) flatten: Vec<String>,
    /// Add labels: `NAME=VALUE,NAME=VALUE`
    #[arg(long, short, value_name = "LABEL")]
    pub(crate) label: Vec<PackLabels>,
    /// Further names
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) tag: Vec<String>,
    /// Of several systems, give each a tag of its own, too
    #[arg(long)]
    pub(crate) append_image_name_suffix: bool,
    /// Registry of buildpacks, by its name
    ///
    /// `rb pack config registries` knows them.
    #[arg(long, short = 'R', value_name = "NAME")]
    pub(crate) buildpack_registry: Option<String>,
    #[command(flatten)]
    pub(crate) pulls: PackPulls,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// Name of the builder
    pub(crate) name: String,
}

/// `rb pack builder inspect`
#[derive(Debug, ClapArgs)]
pub(crate) struct BuilderInspect {
    /// How deep orders are shown [default: whole]
    #[arg(long, short, value_name = "DEPTH", allow_negative_numbers = true)]
    pub(crate) depth: Option<i64>,
    /// In what form
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value = "human-readable")]
    pub(crate) output: PackFormat,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// Name of the builder
    pub(crate) name: String,
}

/// `rb pack buildpack`
#[derive(Debug, Subcommand)]
pub(crate) enum PackBuildpack {
    /// Make a package of a buildpack and those it names
    Package(Box<ModulePackage>),
    /// Show what is in a package or a folder of a buildpack
    Inspect(Box<ModuleInspect>),
    /// Write the files of a new buildpack
    New(Box<ModuleNew>),
    /// Fetch a package into the image store
    Pull(Box<ModulePull>),
}

/// `rb pack extension`
#[derive(Debug, Subcommand)]
pub(crate) enum PackExtension {
    /// Make a package of an extension
    Package(Box<ModulePackage>),
    /// Show what is in a package or a folder of an extension
    Inspect(Box<ModuleInspect>),
    /// Write the files of a new extension
    New(Box<ModuleNew>),
}

/// What a package is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum PackageFormat {
    /// An image.
    #[default]
    Image,
    /// A `.cnb` file.
    File,
}

/// `rb pack buildpack package`, `rb pack extension package`
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Without a config and a path, `package.toml` or the module of this folder is taken.

Examples:
  rb pack buildpack package my-buildpack:1 -p ./my-buildpack
  rb pack buildpack package my-buildpack.cnb -c package.toml --format file")]
pub(crate) struct ModulePackage {
    /// The `package.toml`
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Folder of the module, instead of a config
    #[arg(long, short, value_name = "DIR", value_hint = ValueHint::AnyPath)]
    pub(crate) path: Option<PathBuf>,
    /// An image, or a .cnb file
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value = "image")]
    pub(crate) format: PackageFormat,
    /// Push it, rather than keep it in the store
    #[arg(long)]
    pub(crate) publish: bool,
    /// Systems to make it for: `linux/arm64`
    #[arg(long, short, value_name = "OS/ARCH", value_delimiter = ',')]
    pub(crate) target: Vec<ModuleTarget>,
    /// Add labels: `NAME=VALUE,NAME=VALUE`
    #[arg(long, short, value_name = "LABEL")]
    pub(crate) label: Vec<PackLabels>,
    /// Further names
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) tag: Vec<String>,
    /// Put all into one layer
    #[arg(long)]
    pub(crate) flatten: bool,
    /// Of those, leave these out: `ID@VERSION`
    #[arg(long, short = 'e', value_name = "IDS", value_delimiter = ',', requires = "flatten")]
    pub(crate) flatten_exclude: Vec<String>,
    /// Of several systems, give each a tag of its own, too
    #[arg(long)]
    pub(crate) append_image_name_suffix: bool,
    /// Registry of buildpacks, by its name
    ///
    /// `rb pack config registries` knows them.
    #[arg(long, short = 'r', value_name = "NAME")]
    pub(crate) buildpack_registry: Option<String>,
    #[command(flatten)]
    pub(crate) pulls: PackPulls,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// Name of the image, or of the file
    pub(crate) name: String,
}

/// `rb pack buildpack inspect`, `rb pack extension inspect`
#[derive(Debug, ClapArgs)]
pub(crate) struct ModuleInspect {
    /// How deep orders are shown [default: whole]
    #[arg(long, short, value_name = "DEPTH", allow_negative_numbers = true)]
    pub(crate) depth: Option<i64>,
    /// Registry of buildpacks, by its name
    ///
    /// `rb pack config registries` knows them.
    #[arg(long = "registry", short = 'r', value_name = "NAME")]
    pub(crate) buildpack_registry: Option<String>,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// An image, a .cnb file, a folder or an id
    pub(crate) name: String,
}

/// `rb pack buildpack pull`
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  rb pack buildpack pull registry.example.com/bp:1
  rb pack buildpack pull urn:cnb:registry:example/node@1.0.0")]
pub(crate) struct ModulePull {
    /// Registry of buildpacks, by its name
    ///
    /// `rb pack config registries` knows them.
    #[arg(long, short = 'r', value_name = "NAME")]
    pub(crate) buildpack_registry: Option<String>,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// An image, or an id of the registry
    pub(crate) name: String,
}

/// `rb pack buildpack new`, `rb pack extension new`
#[derive(Debug, ClapArgs)]
pub(crate) struct ModuleNew {
    /// API that it speaks
    #[arg(long, short, value_name = "API", default_value = "0.10")]
    pub(crate) api: String,
    /// Folder to make [default: the last part of the id]
    #[arg(long, short, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) path: Option<PathBuf>,
    /// Its version
    #[arg(long, short = 'V', value_name = "VERSION", default_value = "1.0.0")]
    pub(crate) version: String,
    /// Systems that it is for: `linux/arm64:debian@12`
    #[arg(long, short, value_name = "TARGET", value_delimiter = ',')]
    pub(crate) targets: Vec<ModuleTarget>,
    /// Stacks that it is for, as older platforms want them
    #[arg(long, short, value_name = "STACK", value_delimiter = ',')]
    pub(crate) stacks: Vec<String>,
    /// Its id, such as `example/node`
    pub(crate) id: String,
}

/// A system that a module is for, as pack writes it: `[os][/arch][/variant]:[distro@version]…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModuleTarget {
    /// The system.
    pub(crate) platform: Platform,
    /// Distributions and their versions.
    pub(crate) distros: Vec<(String, String)>,
}

impl FromStr for ModuleTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let platform = parts.next().unwrap_or_default();
        let platform = platform.parse().map_err(|error| format!("{error}"))?;
        let distros = parts.map(|part| {
            let (name, version) = part.split_once('@').unwrap_or((part, ""));
            if name.is_empty() || version.contains('@') {
                return Err(format!("`{part}` is no distribution, such as `debian@12`"));
            }
            Ok((name.to_owned(), version.to_owned()))
        });
        Ok(Self { platform, distros: distros.collect::<Result<_, _>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_packs() {
        let target: ModuleTarget = "linux/arm64:debian@12:ubuntu".parse().expect("a target");
        assert_eq!(target.platform.to_string(), "linux/arm64");
        assert_eq!(
            target.distros,
            [("debian".to_owned(), "12".to_owned()), ("ubuntu".to_owned(), String::new())]
        );
        for text in ["", "linux/amd64:@1", "linux/amd64:a@b@c"] {
            assert!(text.parse::<ModuleTarget>().is_err(), "{text}");
        }
    }
}
