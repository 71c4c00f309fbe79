//! What to do about an error: the one line of help below it.
//!
//! In: an error of the engine, with those of its parts within. Out: words for the user, where there is something that they can
//! do. **Invariant:** a disk without room is told wherever in an error it lies.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use rb_snapshot::SnapshotError;

use super::EngineError;

/// How a user lets all steps have this machine's network.
const STEPS_ON_HOST: &str = "`--step-network=host`";

/// What layers, caches and claims lie on.
const FULL: &str = "free space on the disk of the state directory or set RB_ROOT to another";

impl EngineError {
    /// Returns what to do about it, where that can be said.
    pub fn help(&self) -> Option<String> {
        self.own_help().or_else(|| is_full(self).then(|| FULL.to_owned()))
    }

    fn own_help(&self) -> Option<String> {
        match self {
            Self::Unsupported { help, .. }
            | Self::Exit { help, .. }
            | Self::Nested { help, .. }
            | Self::Loading { help, .. } => help.clone(),
            Self::NoSecret { id } => Some(format!("give it one: `--secret {id}=value`")),
            Self::NoAgent { id } => Some(format!(
                "lend yours: `--ssh {id}`, with an agent that runs (`ssh-add -l`); or a key: `--ssh {id}=KEYFILE`"
            )),
            Self::Emulation(error) => Some(error.help()),
            Self::InsecureStep => Some("allow it: `--allow-privileged` (`-P`)".to_owned()),
            Self::HostNetworkStep => Some("allow it: `--allow-host-network`".to_owned()),
            Self::DeviceStep { name } => Some(format!("allow it: `--allow-device={name}`")),
            Self::Device(error) => Some(error.help()),
            Self::Exec(rb_exec::ExecError::Network(error)) => Some(match error.remedy {
                Some(remedy) => format!("{remedy}; or let steps use this machine's network: {STEPS_ON_HOST}"),
                None => format!(
                    "`rb doctor` looks closer; to let steps use this machine's network: {STEPS_ON_HOST}"
                ),
            }),
            Self::Exec(error) => error.help(),
            Self::NoOverlay { .. } => Some(
                "let steps copy their roots: snapshotter = \"auto\" in config.toml, or RB_SNAPSHOTTER=auto; or another place: \
                 RB_ROOT=/some/dir"
                    .to_owned(),
            ),
            Self::NoSuchImage { nearest, .. } => Some(match nearest {
                Some(name) => format!("did you mean `{name}`?"),
                None => "`rb image ls` lists the images there are".to_owned(),
            }),
            Self::NoCommand { name } => Some(format!("name one: `rb run {name} COMMAND`")),
            Self::NoLoader { .. } => Some(
                "`rb run NAME` runs an image without them; `rb image save` writes it to a file".to_owned(),
            ),
            Self::Docker { source, .. } => Some(match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    "who may use the daemon is in the group `docker`: `sudo usermod -aG docker $USER`"
                        .to_owned()
                }
                _ => "start it, or name its socket: DOCKER_HOST=unix://PATH".to_owned(),
            }),
            Self::BelowHost { .. } => {
                Some("put it elsewhere, such as in /work; a program there may be in the `PATH`".to_owned())
            }
            Self::HostImage => Some("copy what was made into `FROM scratch` and save that".to_owned()),
            Self::Source(error) => error.help(),
            Self::Store(error) | Self::Snapshot(SnapshotError::Store(error)) => error.help(),
            Self::Export(error) => error.help(),
            Self::Registry(error) => error.help(),
            Self::Web { host, source } => web_help(host, source),
            Self::Bucket { source, .. } => source.help_for_bucket(),
            Self::Unasked { .. } => Some("`--pull=missing` takes what it was the last time".to_owned()),
            Self::NotKept { .. } => {
                Some("`rb shell --list` tells which are; they are kept for an hour".to_owned())
            }
            Self::ResumedImage { .. } => Some(crate::ops::INSTEAD_OF_IMAGES.to_owned()),
            Self::NotHere { name } => Some(format!("`rb image pull {name}` gets it")),
            Self::Push { source, .. } => match source.as_ref() {
                Self::Registry(error) => error.help_to_push(),
                source => source.own_help(),
            },
            Self::Image { help, .. } => help.clone(),
            Self::NoRoom { root, .. } => {
                Some(format!("free space on the disk of {} or set RB_ROOT to another", root.display()))
            }
            Self::Definition { .. }
            | Self::TooLarge { .. }
            | Self::Cache { .. }
            | Self::Claim { .. }
            | Self::Status { .. }
            | Self::Llb(_)
            | Self::Reference(_)
            | Self::Snapshot(_)
            | Self::Worker { .. } => None,
        }
    }
}

/// What to do about a file of the web.
fn web_help(host: &str, error: &rb_registry::RegistryError) -> Option<String> {
    use rb_registry::RegistryError::{Denied, Unauthorized, Unreachable};
    match error {
        Unauthorized { .. } | Denied { .. } => Some(format!("give a token: `--secret HTTP_AUTH_TOKEN_{host}=TOKEN`")),
        Unreachable { .. } => Some(
            "where only a proxy is reached: HTTPS_PROXY; a file whose checksum is named is not asked for again".to_owned(),
        ),
        other => other.help(),
    }
}

/// Tells whether a disk without room is behind an error.
fn is_full(error: &EngineError) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        let shared = || error.downcast_ref::<Arc<io::Error>>().map(|error| &**error);
        let kind = error.downcast_ref::<io::Error>().or_else(shared).map(io::Error::kind);
        if matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use rb_diag::ErrorKind;

    use super::*;

    #[test]
    fn a_full_disk_says_what_to_do_wherever_it_shows() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let copied = SnapshotError::Io { action: "write", path: "/a".into(), source: full() };
        let cache = EngineError::Cache { action: "make", id: "c".to_owned(), source: full() };
        let (what, source) = ("a blob".to_owned(), Arc::new(full()));
        let pulled = rb_registry::RegistryError::Local { action: "write", what, source };
        for error in [EngineError::from(copied), cache, EngineError::from(pulled)] {
            assert_eq!(
                (error.kind(), error.help().as_deref()),
                (ErrorKind::Environment, Some(FULL)),
                "{error}"
            );
        }
        let outcome = "the command ended with exit code 1".to_owned();
        let error = EngineError::NoRoom { outcome, root: "/state".into(), log_tail: Vec::new() };
        assert_eq!(error.kind(), ErrorKind::Environment);
        assert!(error.to_string().contains("/state is full") && error.help().is_some(), "{error}");
        let other =
            EngineError::Cache { action: "make", id: "c".to_owned(), source: io::ErrorKind::Other.into() };
        assert_eq!(other.help(), None);
    }

    #[test]
    fn a_push_is_helped_as_a_push() {
        let (host, reason) = ("registry.example".to_owned(), "no route".to_owned());
        let pulled = EngineError::Registry(rb_registry::RegistryError::Unreachable { host, reason });
        assert!(
            pulled.help().is_some_and(|help| help.contains("--pull=missing") && help.contains("mirrors"))
        );
        let (name, source) = ("registry.example/app:1".to_owned(), Box::new(pulled));
        let help = EngineError::Push { name, pushed: Vec::new(), source }.help().unwrap_or_default();
        assert!(help.contains("HTTPS_PROXY") && !help.contains("pull") && !help.contains("mirror"), "{help}");
    }
}
