//! Words of `rb engine`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueHint};
use rb_remote::Address;

use crate::settings::engine::EngineName;

/// `rb engine`
#[derive(Debug, Subcommand)]
pub(crate) enum EngineCommand {
    /// Give a BuildKit daemon a name
    Add(EngineAddArgs),
    /// List engines by name; `*` marks who builds
    #[command(visible_alias = "list")]
    Ls(EngineLsArgs),
    /// Have an engine build whatever is built from now on
    Use(EngineUseArgs),
    /// Forget names of engines
    #[command(visible_alias = "remove")]
    Rm(EngineRmArgs),
    /// Ask a daemon what it is
    Inspect(EngineInspectArgs),
}

/// `rb engine add`
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
The name goes into your config.toml, with its address: `[engines.\"NAME\"]`. Nothing is connected to.

Examples:
  rb engine add far ssh://me@build.example
  rb engine add farm tcp://build.example:1234 --certs ~/certs/farm
  rb engine add pod 'kube-pod://buildkit-0?namespace=ci'
  rb --engine far +image               one build there
  rb engine use far                    every build from now on")]
pub(crate) struct EngineAddArgs {
    /// Folder with ca.pem, cert.pem and key.pem, for tcp://
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) certs: Option<PathBuf>,
    /// What it is to be called
    pub(crate) name: String,
    /// Where it is: unix://, tcp://, ssh://, docker-container://…
    pub(crate) address: Address,
}

/// `rb engine ls`
#[derive(Debug, ClapArgs)]
pub(crate) struct EngineLsArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `rb engine use`
#[derive(Debug, ClapArgs)]
pub(crate) struct EngineUseArgs {
    /// A name of `rb engine ls`; `here` is this machine
    #[arg(value_name = "NAME")]
    pub(crate) engine: EngineName,
}

/// `rb engine rm`
#[derive(Debug, ClapArgs)]
pub(crate) struct EngineRmArgs {
    /// Names of `rb engine ls`
    #[arg(value_name = "NAME", required = true)]
    pub(crate) engines: Vec<String>,
}

/// `rb engine inspect`
#[derive(Debug, ClapArgs)]
pub(crate) struct EngineInspectArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// A name or an address [default: who builds]
    #[arg(value_name = "NAME|ADDRESS")]
    pub(crate) engine: Option<EngineName>,
}
