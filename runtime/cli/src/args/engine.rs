//! Words of `rb engine`.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueHint};
use rb_oci::Platform;
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
    /// Give a node of an engine nothing new
    Drain(EngineDrainArgs),
    /// Forget names of engines, and nodes
    #[command(visible_alias = "remove")]
    Rm(EngineRmArgs),
    /// Ask a daemon what it is
    Inspect(EngineInspectArgs),
}

/// `rb engine add`
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
The name goes into your config.toml, with its address: `[engines.\"NAME\"]`.
Nothing is connected to. With --append an engine has several nodes: each build
goes to the one that most likely has what it begins with, and on to another
where that fails.

Examples:
  rb engine add far ssh://me@build.example
  rb engine add farm tcp://build.example:1234 --certs ~/certs/farm
  rb engine add pod 'kube-pod://buildkit-0?namespace=ci'
  rb engine add --append farm tcp://arm.example:1234 --platform linux/arm64
  rb --engine far +image               one build there
  rb engine use far                    every build from now on")]
pub(crate) struct EngineAddArgs {
    /// Add a node to an engine that has this name
    #[arg(long)]
    pub(crate) append: bool,
    /// What the node is called [default: NAME0, NAME1, …]
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// What the node builds for [default: it is asked]
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    pub(crate) platform: Vec<Platform>,
    /// How much it takes beside others [default: 1]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) weight: Option<NonZeroU32>,
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

/// `rb engine drain`
#[derive(Debug, ClapArgs)]
pub(crate) struct EngineDrainArgs {
    /// Have it build again
    #[arg(long)]
    pub(crate) undo: bool,
    /// Nodes, as `rb engine ls` names them
    #[arg(value_name = "NAME/NODE", required = true)]
    pub(crate) nodes: Vec<String>,
}

/// `rb engine rm`
#[derive(Debug, ClapArgs)]
pub(crate) struct EngineRmArgs {
    /// Names of `rb engine ls`
    #[arg(value_name = "NAME[/NODE]", required = true)]
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
