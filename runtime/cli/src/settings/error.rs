//! What cannot be settled, and what to do about it.

use std::path::PathBuf;

use rb_diag::{Diagnostics, chain};
use rb_oci::Platform;
use rb_session::SshKeyError;

use super::{EPOCH_EXPECTED, engine, memory, steps};
use crate::env_file::Trouble;
use crate::sizes::{self, SizeError};
use crate::world::ReadError;

/// What cannot be settled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("the settings in a file are wrong")]
    Config { errors: Diagnostics },
    #[error("the working directory is gone")]
    WorkingDirectory { source: std::io::Error },
    #[error("no place for the state directory: neither RB_ROOT nor XDG_DATA_HOME nor HOME is set")]
    NoHome,
    #[error("the environment variable {name} has the value `{value}`")]
    Variable { name: &'static str, value: String },
    #[error("the environment variable {name} has the value `{value}`, which is not an absolute path")]
    Relative { name: &'static str, value: String },
    #[error("what is for {platform} does not run here")]
    Platform { platform: Platform },
    #[error("`{file}` cannot be read: {reason}")]
    Unreadable { file: String, reason: String, environment: bool },
    #[error("`{file}` is a link that leads out of the working directory")]
    LeadsAway { file: String, option: &'static str },
    #[error("`{file}`, line {line}: {trouble}")]
    Line { file: String, line: usize, trouble: Trouble },
    #[error("{option}: what is given has no name")]
    BadName { option: &'static str },
    #[error("{option} takes NAME=PATH, not `{word}`")]
    NotAPair { option: &'static str, word: String },
    #[error("{option}: your shell has no variable `{name}`")]
    NotInShell { option: &'static str, name: String },
    #[error("`{file}` {trouble}")]
    Authority { file: String, trouble: &'static str },
    #[error("the value of {name} is not valid UTF-8")]
    NotText { name: String },
    #[error("there is no ssh agent: SSH_AUTH_SOCK is not set")]
    NoAgent,
    #[error("no ssh agent answers at `{}`: {reason}", socket.display())]
    DeadAgent { socket: PathBuf, reason: String },
    #[error("the ssh agent `{id}` is given twice")]
    AgentTwice { id: String },
    #[error("`{file}` {problem}")]
    Key { file: String, problem: SshKeyError },
    #[error("steps in a chroot (--isolation=chroot) cannot have {other}")]
    WithChroot { other: String },
    #[error("there is no engine `{name}`")]
    NoEngine { name: String, help: String },
    #[error("the secret `{name}` is given twice, by {first} and by {second}")]
    SecretTwice { name: String, first: String, second: String },
}

impl SettingsError {
    pub(super) fn unreadable(file: String, error: ReadError) -> Self {
        let environment =
            matches!(&error, ReadError::Io(source) if source.kind() != std::io::ErrorKind::NotFound);
        let reason = match error {
            ReadError::Io(source) if source.kind() == std::io::ErrorKind::NotFound => {
                "there is no such file".to_owned()
            }
            ReadError::Io(source) => source.to_string(),
            other => format!("it {}", chain(&other)),
        };
        Self::Unreadable { file, reason, environment }
    }

    /// Returns whether disk or kernel are to blame, and not what was typed.
    pub(crate) fn is_environment(&self) -> bool {
        matches!(self, Self::WorkingDirectory { .. } | Self::Unreadable { environment: true, .. })
    }

    /// Returns what to do.
    pub(crate) fn help(&self) -> Option<String> {
        match self {
            Self::WorkingDirectory { .. } => Some("change into a folder that exists".to_owned()),
            Self::NoHome => Some("set RB_ROOT=/some/dir".to_owned()),
            Self::Variable { name, value } => Some(match *name {
                "RB_PROGRESS" | "BUILDKIT_PROGRESS" => {
                    "one of auto, plain, tty, json, rawjson, quiet".to_owned()
                }
                "RB_ENGINE" => engine::help(value),
                "RB_ISOLATION" => "one of sandbox, chroot".to_owned(),
                "RB_SNAPSHOTTER" => "one of auto, overlayfs, native".to_owned(),
                "RB_JOBS" => "a number, at least 1".to_owned(),
                "RB_CACHE_MAX_SIZE" => match sizes::disk(value) {
                    Err(error @ SizeError::PartOfAByte { .. }) => error.help(),
                    _ => "a size, such as `20GB`, or a part of the disk: `30%`".to_owned(),
                },
                "RB_MEMORY_BUDGET" => memory::help(value),
                "SOURCE_DATE_EPOCH" => EPOCH_EXPECTED.to_owned(),
                "RB_PLATFORMS" | "EARTHLY_PLATFORMS" => {
                    "platforms, such as `linux/amd64,linux/arm64`".to_owned()
                }
                _ => "true or false".to_owned(),
            }),
            Self::Relative { name: "RB_ROOT", value } => Some(format!(
                "a state directory that moves with the working directory is none: set RB_ROOT=\"$PWD/{value}\""
            )),
            Self::Relative { .. } => Some("set it to an absolute path, or set RB_ROOT=/some/dir".to_owned()),
            Self::Platform { .. } => {
                Some(format!("this machine is {}: name that, or none", Platform::host()))
            }
            Self::BadName { option } => {
                Some(format!("write `{option} NAME=value`, or `{option} NAME` for your shell's value"))
            }
            Self::LeadsAway { option, .. } => Some(format!("name it if it is meant: `{option} PATH`")),
            Self::NotInShell { option, name } => {
                Some(format!("set and export it, or write `{option} {name}=value`"))
            }
            Self::Authority { .. } => {
                Some("name a file of certificates in PEM, `-----BEGIN CERTIFICATE-----` and so on".to_owned())
            }
            Self::NoAgent | Self::DeadAgent { .. } => Some(
                "start one, `eval $(ssh-agent) && ssh-add`, or name a key: `--ssh default=KEYFILE`"
                    .to_owned(),
            ),
            Self::AgentTwice { id } => {
                Some(format!("several keys are one agent: `--ssh {id}=KEYFILE,KEYFILE`"))
            }
            Self::Key { file, problem } => Some(steps::help_with_key(file, *problem)),
            Self::WithChroot { .. } => Some("leave out one of them".to_owned()),
            Self::NoEngine { help, .. } => Some(help.clone()),
            Self::SecretTwice { first, .. } => Some(format!("keep one of them; {first} was read first")),
            Self::Config { .. }
            | Self::Unreadable { .. }
            | Self::Line { .. }
            | Self::NotAPair { .. }
            | Self::NotText { .. } => None,
        }
    }
}
