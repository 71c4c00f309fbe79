//! Why the engine could not do something; the errors of its parts, with who has to act.

use rb_diag::ErrorKind;
use rb_exporters::ExportError;
use rb_snapshot::SnapshotError;

/// Something the engine was asked for could not be done.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A definition asks for what this runtime does not do.
    #[error("{what} is not part of this version of rb")]
    Unsupported {
        /// The operation or option.
        what: String,
        /// What to use instead.
        help: Option<String>,
    },
    /// A definition is malformed.
    #[error("the definition is malformed: {reason}")]
    Definition {
        /// What is wrong.
        reason: String,
    },
    /// A step asks for a secret that the client does not lend.
    #[error("there is no secret `{id}`")]
    NoSecret {
        /// Its id.
        id: String,
    },
    /// A step wants to run without isolation, and the job does not allow that.
    #[error("a step wants to run privileged, which this build does not allow")]
    InsecureStep,
    /// A directory that outlives builds cannot be used.
    #[error("cannot {action} the cache `{id}`")]
    Cache {
        /// What was tried: `open`, `fill`.
        action: &'static str,
        /// Its name in the definition.
        id: String,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// It cannot be told whether another process runs the same step.
    #[error("cannot claim a step in `{}`", path.display())]
    Claim {
        /// The file, or the folder.
        path: std::path::PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// A file that a query asks for is larger than it allows.
    #[error("`{}` is larger than {limit_bytes} bytes", path.display())]
    TooLarge {
        /// Path in the tree.
        path: std::path::PathBuf,
        /// The most that is allowed.
        limit_bytes: u64,
    },
    /// A command ended with a code that means failure.
    #[error("{outcome}")]
    Exit {
        /// How it ended: `exit code 3`, `killed by signal 9`.
        outcome: String,
        /// Last lines of what it wrote.
        log_tail: Vec<String>,
        /// What may be behind it, where the runtime knows.
        help: Option<String>,
    },
    /// No image of this name or digest.
    #[error("there is no image `{name}`")]
    NoSuchImage {
        /// As asked for.
        name: String,
        /// A name that is near.
        nearest: Option<String>,
    },
    /// An image holds no command and none was given.
    #[error("image `{name}` names no command to run")]
    NoCommand {
        /// The image.
        name: String,
    },
    /// A tree made with `FROM @host` was to become an image.
    #[error("a tree that lies on `FROM @host` cannot become an image")]
    HostImage,
    /// The definition is not LLB.
    #[error(transparent)]
    Llb(#[from] rb_llb::LlbError),
    /// A source failed.
    #[error(transparent)]
    Source(#[from] rb_sources::SourceError),
    /// A snapshot failed.
    #[error(transparent)]
    Snapshot(#[from] rb_snapshot::SnapshotError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] rb_store::StoreError),
    /// The sandbox failed.
    #[error(transparent)]
    Exec(#[from] rb_exec::ExecError),
    /// An export failed.
    #[error(transparent)]
    Export(#[from] rb_exporters::ExportError),
    /// A thread of ours died.
    #[error("a worker thread died: {reason}")]
    Worker {
        /// What it said.
        reason: String,
    },
}

impl EngineError {
    /// Returns who has to act.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Exit { .. } => ErrorKind::Build,
            Self::Unsupported { .. }
            | Self::Definition { .. }
            | Self::NoSecret { .. }
            | Self::InsecureStep
            | Self::NoSuchImage { .. }
            | Self::NoCommand { .. }
            | Self::TooLarge { .. }
            | Self::HostImage => ErrorKind::Input,
            Self::Cache { .. } | Self::Claim { .. } => ErrorKind::Environment,
            Self::Llb(error) => error.kind(),
            Self::Source(error) => error.kind(),
            Self::Snapshot(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Exec(error) => error.kind(),
            Self::Export(error) => error.kind(),
            Self::Worker { .. } => ErrorKind::Internal,
        }
    }

    /// Returns what to do about it, where that can be said.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Unsupported { help, .. } | Self::Exit { help, .. } => help.clone(),
            Self::NoSecret { id } => Some(format!("give it one: `--secret {id}=value`")),
            Self::InsecureStep => Some("allow it: `--allow-privileged` (`-P`)".to_owned()),
            Self::NoSuchImage { nearest, .. } => Some(match nearest {
                Some(name) => format!("did you mean `{name}`?"),
                None => "`rb image ls` lists the images there are".to_owned(),
            }),
            Self::NoCommand { name } => Some(format!("name one: `rb run {name} COMMAND`")),
            Self::HostImage => Some("copy what was made into `FROM scratch` and save that".to_owned()),
            Self::Source(error) => error.help(),
            Self::Store(error) | Self::Snapshot(SnapshotError::Store(error)) => error.help(),
            Self::Export(ExportError::Store(error) | ExportError::Snapshot(SnapshotError::Store(error))) => {
                error.help()
            }
            Self::Definition { .. }
            | Self::TooLarge { .. }
            | Self::Cache { .. }
            | Self::Claim { .. }
            | Self::Llb(_)
            | Self::Snapshot(_)
            | Self::Exec(_)
            | Self::Export(_)
            | Self::Worker { .. } => None,
        }
    }
}
