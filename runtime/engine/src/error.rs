//! Why the engine could not do something; the errors of its parts, with who has to act.

mod help;

use std::io;

use rb_diag::ErrorKind;

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
    /// A step asks for an ssh agent that the client does not lend.
    #[error("there is no ssh agent `{id}`")]
    NoAgent {
        /// Its id.
        id: String,
    },
    /// Nobody here runs the programs of a step.
    #[error(transparent)]
    Emulation(#[from] rb_exec::EmulationError),
    /// A step wants to run without isolation, and the job does not allow that.
    #[error("a step wants to run privileged, which this build does not allow")]
    InsecureStep,
    /// A step asks for this machine's network, and the job does not allow that.
    #[error("a step wants this machine's network, which this build does not allow")]
    HostNetworkStep,
    /// A step asks for a device of this machine, and the job does not allow that.
    #[error("a step wants the device `{name}`, which this build does not allow")]
    DeviceStep {
        /// Its whole name.
        name: String,
    },
    /// A device cannot be had.
    #[error(transparent)]
    Device(#[from] rb_exec::CdiError),
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
    /// Who waits for what cannot be told or asked.
    #[error("cannot use the socket `{}`", path.display())]
    Status {
        /// The socket, or its folder.
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
    /// Nothing is kept of a step that failed.
    #[error("no failed step `{id}` is kept")]
    NotKept {
        /// As asked for.
        id: u64,
    },
    /// An image was to hold what a resumed step makes.
    #[error("{what} would hold what a resumed step makes, which no clean build gives")]
    ResumedImage {
        /// The image.
        what: String,
    },
    /// A command failed while there was no room for what it writes.
    #[error("{outcome}: the disk of the state directory {} is full", root.display())]
    NoRoom {
        /// How it ended.
        outcome: String,
        /// The state directory, where all lies that steps write.
        root: std::path::PathBuf,
        /// Last lines of what it wrote.
        log_tail: Vec<String>,
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
    /// A file was to be put where `FROM @host` shows the machine's own: steps would not see it.
    #[error("`{}` lies in {}, where `FROM @host` shows this machine's own files", path.display(), bind.display())]
    BelowHost {
        /// Absolute path in the tree.
        path: std::path::PathBuf,
        /// The folder that is shown.
        bind: std::path::PathBuf,
    },
    /// No program that keeps images is here, or not the one that was asked for.
    #[error("{} to load the image into", match wanted {
        Some(loader) => format!("there is no {} on this machine", loader.name()),
        None => "neither Docker nor podman nor containerd is on this machine".to_owned(),
    })]
    NoLoader {
        /// The one that was asked for.
        wanted: Option<crate::Loader>,
    },
    /// The socket of a Docker daemon cannot be used.
    #[error("no Docker daemon answers at {}", socket.display())]
    Docker {
        /// Its socket.
        socket: std::path::PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A program did not take an image.
    #[error("{who} does not take the image: {reason}")]
    Loading {
        /// The program.
        who: String,
        /// What it said.
        reason: String,
        /// What may be behind it.
        help: Option<String>,
    },
    /// A vertex of a definition that a build operation read failed.
    #[error("{step}, a step of the definition `{file}`, failed")]
    Nested {
        /// The file that holds the definition.
        file: String,
        /// What the vertex is called.
        step: String,
        /// Last lines of what its command wrote.
        log_tail: Vec<String>,
        /// What to do about it.
        help: Option<String>,
        /// Why it failed.
        #[source]
        source: std::sync::Arc<rb_solver::OpError>,
    },
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
    /// Roots are to be made by overlayfs alone, which does not work.
    #[error("layers cannot be mounted on one another in {}", root.display())]
    NoOverlay {
        /// The state directory.
        root: std::path::PathBuf,
        /// What the kernel says.
        source: rb_exec::ExecError,
    },
    /// An export failed.
    #[error(transparent)]
    Export(#[from] rb_exporters::ExportError),
    /// A registry did not give or take something.
    #[error(transparent)]
    Registry(#[from] rb_registry::RegistryError),
    /// A file of the web cannot be had.
    #[error("cannot download from {host}")]
    Web {
        /// Its host.
        host: String,
        /// Why not.
        source: rb_registry::RegistryError,
    },
    /// A cache in a bucket cannot be read or written.
    #[error("cannot {action} the cache {place}")]
    Bucket {
        /// `read` or `write`.
        action: &'static str,
        /// Where it lies.
        place: String,
        /// Why not.
        source: rb_registry::RegistryError,
    },
    /// An image was to be pushed to a registry.
    #[error("cannot push {name}{}", match pushed.as_slice() {
        [] => String::new(),
        pushed => format!(" (pushed before it: {})", pushed.join(", ")),
    })]
    Push {
        /// Where to.
        name: String,
        /// What was pushed before it, and stays.
        pushed: Vec<String>,
        /// What the registry said, or why there is nothing to push.
        #[source]
        source: Box<Self>,
    },
    /// An image cannot be read from where it is said to be, or not written to where it is to be.
    #[error("{what} {reason}")]
    Image {
        /// The image or place.
        what: String,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        help: Option<String>,
    },
    /// A text is not the name of an image.
    #[error(transparent)]
    Reference(#[from] rb_oci::ReferenceError),
    /// A registry cannot be asked now, and it is known what it said an earlier time.
    #[error("cannot ask what {name} is")]
    Unasked {
        /// The image.
        name: String,
        /// Why not.
        #[source]
        source: rb_registry::RegistryError,
    },
    /// An image is not here, and nobody may be asked for it.
    #[error("{name} is not here, and --pull=never asks no registry")]
    NotHere {
        /// The image.
        name: String,
    },
    /// A thread of ours died.
    #[error("a worker thread died: {reason}")]
    Worker {
        /// What it said.
        reason: String,
    },
}

impl EngineError {
    /// Takes the error out of one that was wrapped for the solver.
    pub(crate) fn of(error: rb_solver::OpError) -> Self {
        if error.is_cancelled() {
            return Self::Exec(rb_exec::ExecError::Cancelled);
        }
        let kind = error.kind();
        match error.into_inner().downcast() {
            Ok(own) => *own,
            Err(other) => Self::Worker { reason: format!("{kind:?}: {other}") },
        }
    }

    /// Says of a push that failed what was pushed before it.
    pub(crate) fn after(mut self, images: &[rb_api::PushedImage]) -> Self {
        if let Self::Push { pushed, .. } = &mut self {
            pushed.splice(0..0, images.iter().map(|image| image.name.clone()));
        }
        self
    }

    /// Returns who has to act.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Exit { .. } => ErrorKind::Build,
            Self::Unsupported { .. }
            | Self::Definition { .. }
            | Self::NoSecret { .. }
            | Self::NoAgent { .. }
            | Self::InsecureStep
            | Self::HostNetworkStep
            | Self::DeviceStep { .. }
            | Self::NoSuchImage { .. }
            | Self::NoCommand { .. }
            | Self::TooLarge { .. }
            | Self::Image { .. }
            | Self::Reference(_)
            | Self::NotHere { .. }
            | Self::NotKept { .. }
            | Self::ResumedImage { .. }
            | Self::BelowHost { .. }
            | Self::HostImage => ErrorKind::Input,
            Self::Cache { .. }
            | Self::Claim { .. }
            | Self::Status { .. }
            | Self::NoRoom { .. }
            | Self::NoLoader { .. }
            | Self::Docker { .. }
            | Self::Loading { .. } => ErrorKind::Environment,
            Self::Nested { source, .. } => source.kind(),
            Self::Llb(error) => error.kind(),
            Self::Source(error) => error.kind(),
            Self::Snapshot(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Exec(error) | Self::NoOverlay { source: error, .. } => error.kind(),
            Self::Device(error) => error.kind(),
            Self::Emulation(error) => error.kind(),
            Self::Export(error) => error.kind(),
            Self::Registry(error)
            | Self::Unasked { source: error, .. }
            | Self::Web { source: error, .. }
            | Self::Bucket { source: error, .. } => error.kind(),
            Self::Push { source, .. } => source.kind(),
            Self::Worker { .. } => ErrorKind::Internal,
        }
    }
}
