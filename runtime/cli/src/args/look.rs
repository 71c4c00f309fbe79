//! Words of the commands that only look: at Buildfiles, at other `rb`, at this machine, at `rb` itself.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueHint};

use crate::settings::engine::EngineName;

/// `rb ls`
#[derive(Debug, ClapArgs)]
pub(crate) struct LsArgs {
    /// Show the arguments of each target
    #[arg(long, short)]
    pub(crate) args: bool,
    /// Show the whole documentation, arguments and outputs of each target
    #[arg(long, short)]
    pub(crate) long: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Folder, or DIR:Dockerfile [default: here, or the nearest above]
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
}

/// `rb doc`
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  rb doc                                what the targets here are for
  rb doc ./services/api+image           one target, as --help behind it")]
pub(crate) struct DocArgs {
    /// Show arguments and outputs, too, and targets without a comment
    #[arg(long, short)]
    pub(crate) long: bool,
    /// What to describe [default: all targets here, or of the nearest Buildfile above]
    #[arg(value_name = "[DIR][+TARGET]")]
    pub(crate) word: Option<String>,
}

/// `rb ast`
#[derive(Debug, ClapArgs)]
pub(crate) struct AstArgs {
    /// A build file, or its folder
    #[arg(value_name = "FILE|DIR", default_value = ".")]
    pub(crate) path: PathBuf,
}

/// `rb status`
#[derive(Debug, ClapArgs)]
pub(crate) struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `rb doctor`
#[derive(Debug, ClapArgs)]
pub(crate) struct DoctorArgs {
    /// Try a BuildKit daemon, by name or address
    #[arg(long, value_name = "NAME|ADDRESS")]
    pub(crate) engine: Option<EngineName>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `rb config`
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Strongest first: what is typed, the environment, your config.toml, /etc/rb/config.toml, the default; a proxy in \
config.toml counts before the environment's. `rb help config` lists the keys.

Examples:
  rb config                             what is in force, and who says so
  rb config network.https_proxy         one value
  rb -j 2 config jobs                   also what would be typed counts")]
pub(crate) struct ConfigArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Print one value: `jobs`, `network.ca`, `registry.docker.io.mirrors`
    pub(crate) key: Option<String>,
}

/// `rb help`
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  rb help                               all commands and topics
  rb help image push                    a command, as `rb image push --help`
  rb help environment                   a topic
  rb help RB_JOBS                       a variable, or a key of config.toml
  rb help RUN                           a statement of Buildfiles
  rb help rb::resolve::cycle            the code of an error
  rb help +app                          a target, as `rb +app --help`
  rb help --man /usr/local/share/man    man pages: rb(1), rb-image-push(1), rb-environment(7)…")]
pub(crate) struct HelpArgs {
    /// Write man pages below this folder, into man1 and man7
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with_all = ["markdown", "words"])]
    pub(crate) man: Option<PathBuf>,
    /// Print the reference of all commands, keys and variables as Markdown
    #[arg(long, conflicts_with = "words")]
    pub(crate) markdown: bool,
    /// A command, topic, statement, setting, code of an error, or target
    #[arg(value_name = "WORD")]
    pub(crate) words: Vec<String>,
}

/// `rb completion`
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Completes commands, options and their values, targets, their arguments and artifacts, folders with a Buildfile, and \
images. Nothing is built for that.

Examples:
  echo 'source <(rb completion bash)' >> ~/.bashrc
  echo 'source <(rb completion zsh)' >> ~/.zshrc              behind compinit
  rb completion fish > ~/.config/fish/completions/rb.fish")]
pub(crate) struct CompletionArgs {
    /// Shell to complete in
    pub(crate) shell: clap_complete::Shell,
}
