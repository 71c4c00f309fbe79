//! Why a repository cannot be read, and what to type.

use std::io;
use std::path::PathBuf;

use rb_diag::ErrorKind;
use rb_oci::Digest;

/// A repository cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no git.
    #[error("there is no git on this machine, which reads repositories")]
    NoGit,
    /// A text is no address.
    #[error("`{text}` is no address of a repository: {reason}")]
    Address {
        /// The text, without a password.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such repository, as far as we are told.
    #[error("there is no repository at {remote}{}", quoted(said))]
    NotFound {
        /// The address.
        remote: String,
        /// What its host said.
        said: String,
        /// Whether something was shown to it.
        known: bool,
    },
    /// Its host wants to know who asks.
    #[error("{remote} {}{}", if *known { "does not take what was shown to it" } else { "wants to know who asks" }, quoted(said))]
    Unauthorized {
        /// The address.
        remote: String,
        /// Its host, with the port that the address names.
        host: String,
        /// What it said.
        said: String,
        /// Whether something was shown to it.
        known: bool,
        /// Whether ssh spoke to it.
        ssh: bool,
    },
    /// Its host is not known, or another one than before.
    #[error("the host of {remote} cannot be trusted{}", quoted(said))]
    Untrusted {
        /// The address.
        remote: String,
        /// Its host.
        host: String,
        /// What is wrong.
        said: String,
        /// Whether ssh spoke to it.
        ssh: bool,
    },
    /// It moved, and what was shown to it may not go along.
    #[error("{remote} leads elsewhere, where what was shown to it may not go{}", quoted(said))]
    Moved {
        /// The address.
        remote: String,
        /// What its host said.
        said: String,
    },
    /// The client lends no agent.
    #[error("{remote} needs an ssh agent, and none is lent as `{id}`")]
    NoAgent {
        /// The address.
        remote: String,
        /// The agent's name.
        id: String,
    },
    /// A bundle is none, or not the one that is wanted.
    #[error("the bundle {digest} cannot be read: {reason}")]
    Bundle {
        /// Which.
        digest: Digest,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such branch, tag or commit.
    #[error("{remote} has no {what}")]
    NoReference {
        /// The address.
        remote: String,
        /// `branch or tag v2`, `commit 0123…`.
        what: String,
        /// Names that are near.
        near: Vec<String>,
    },
    /// A name that git does not take.
    #[error("`{name}` cannot be the name of a branch, tag or commit")]
    Name {
        /// The name.
        name: String,
    },
    /// It is another commit than the one that was wanted.
    #[error("{remote} has commit {found}{}, and {wanted} is wanted", if name.is_empty() { String::new() } else { format!(" as {name}") })]
    Checksum {
        /// The address.
        remote: String,
        /// Branch or tag.
        name: String,
        /// What it stands for.
        found: String,
        /// The beginning of what is wanted.
        wanted: String,
    },
    /// There is no such folder in it.
    #[error("{remote} has no folder `{}` at commit {commit}", folder.display())]
    NoFolder {
        /// The address.
        remote: String,
        /// The commit.
        commit: String,
        /// The folder.
        folder: PathBuf,
    },
    /// A submodule cannot be had.
    #[error("the submodule `{}` of {remote}", path.display())]
    Submodule {
        /// The address of the repository that holds it.
        remote: String,
        /// Where it is.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Box<Self>,
    },
    /// What it holds cannot be part of a tree.
    #[error("{remote} holds `{entry}`, which {reason}")]
    Entry {
        /// The address.
        remote: String,
        /// Path of what it holds.
        entry: String,
        /// Why it is refused.
        reason: String,
    },
    /// Its host cannot be reached, or not now.
    #[error("cannot reach {remote}{}", quoted(said))]
    Unreachable {
        /// The address.
        remote: String,
        /// What git said.
        said: String,
    },
    /// Git failed.
    #[error("`git {command}` failed with exit code {code} for {remote}{}", quoted(said))]
    Failed {
        /// The address.
        remote: String,
        /// The first words of the command.
        command: String,
        /// Exit code.
        code: i32,
        /// What it said.
        said: String,
    },
    /// Git cannot be run.
    #[error("git cannot be run")]
    Run(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The copy of a repository cannot be kept.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// Path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Nobody wants it any more.
    #[error("stopped")]
    Stopped,
}

impl GitError {
    /// Returns who has to act.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoGit
            | Self::Unreachable { .. }
            | Self::Failed { .. }
            | Self::Run(_)
            | Self::Io { .. }
            | Self::Stopped => ErrorKind::Environment,
            Self::Submodule { source, .. } => source.kind(),
            Self::Address { .. }
            | Self::NotFound { .. }
            | Self::Unauthorized { .. }
            | Self::Untrusted { .. }
            | Self::Moved { .. }
            | Self::NoAgent { .. }
            | Self::Bundle { .. }
            | Self::NoReference { .. }
            | Self::Name { .. }
            | Self::Checksum { .. }
            | Self::NoFolder { .. }
            | Self::Entry { .. } => ErrorKind::Input,
        }
    }

    /// Returns what to do about it, where that can be said.
    pub fn help(&self) -> Option<String> {
        const TOKEN: &str = "`--secret GIT_AUTH_TOKEN=TOKEN`";
        match self {
            Self::NoGit => {
                Some("install git: `apt install git`, `dnf install git`, `apk add git`".to_owned())
            }
            Self::NotFound { known: false, .. } => {
                Some(format!("look at the address; if it is private, give a token: {TOKEN}"))
            }
            Self::NotFound { known: true, .. } => {
                Some("look at the address, and at what the token or key may read".to_owned())
            }
            Self::Unauthorized { ssh: true, .. } => {
                Some("lend an agent that has a key for it: `ssh-add`, then `--ssh default`".to_owned())
            }
            Self::Unauthorized { known: false, host, .. } => Some(format!(
                "give a token: {TOKEN}, or for this host alone `--secret GIT_AUTH_TOKEN.{host}=TOKEN`"
            )),
            Self::Unauthorized { known: true, .. } => {
                Some("the token may be outdated, or not for this repository".to_owned())
            }
            Self::Untrusted { ssh: true, host, .. } => {
                Some(format!("if its key is the right one: `ssh-keyscan {host} >> ~/.ssh/known_hosts`"))
            }
            Self::Untrusted { ssh: false, .. } => Some(
                "if it is signed by an authority of your own, name that as `ca` in [network] of the settings"
                    .to_owned(),
            ),
            Self::Moved { .. } => Some("name the address that it leads to".to_owned()),
            Self::NoAgent { id, .. } => {
                Some(format!("lend one: `--ssh {id}`, or use an https:// address and a token"))
            }
            Self::NoReference { near, .. } if !near.is_empty() => {
                let near: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
                Some(format!("did you mean {}?", near.join(" or ")))
            }
            Self::NoReference { .. } => Some("a commit is named by all of its digits".to_owned()),
            Self::Checksum { .. } => {
                Some("the branch or tag moved: look at what changed before you take it".to_owned())
            }
            Self::Submodule { source, .. } => source.help(),
            Self::Unreachable { .. } => Some(
                "where only a proxy is reached: HTTPS_PROXY; a commit that is here already needs no network"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    /// Whether the same command may succeed when it is run again.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

fn quoted(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!("; git says: {said}") }
}
