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
            | Self::NoSuchImage { .. }
            | Self::NoCommand { .. }
            | Self::HostImage => ErrorKind::Input,
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
            | Self::Llb(_)
            | Self::Snapshot(_)
            | Self::Exec(_)
            | Self::Export(_)
            | Self::Worker { .. } => None,
        }
    }
}
