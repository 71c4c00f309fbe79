//! The two doors through which a frontend meets the outside.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use rb_diag::{ErrorKind, SourceFile, SourceMap};
use rb_llb::State;
use rb_oci::{Digest, ImageConfig, Platform};

use crate::{
    Effect, GitFacts, HostCommand, HostOutcome, PinnedRepository, ProjectRef, Repository, RepositoryRequest,
};

/// All that a frontend may ask while it decides the graph.
pub trait World: Send + Sync {
    /// The user's side.
    fn workspace(&self) -> &dyn Workspace;
    /// The engine's side.
    fn gateway(&self) -> &dyn Gateway;
}

/// The user's tree. Paths are `/`-separated and relative to a project's folder; answers are stable within one job.
#[async_trait]
pub trait Workspace: Send + Sync {
    /// Returns the map that owns all texts handed out, and takes those that are made on the way.
    fn sources(&self) -> &SourceMap;
    /// Reads the build file of a project: `Buildfile`, else `Earthfile`, else `build.earth`. Where there is none, the error
    /// names `a Buildfile in …`, as the user knows the place. Of a project that is a Dockerfile it reads that.
    async fn buildfile(&self, project: &ProjectRef) -> Result<Arc<SourceFile>, WorldError>;
    /// Reads a file whole (at most 16 MiB).
    async fn read(&self, project: &ProjectRef, path: &str) -> Result<Vec<u8>, WorldError>;
    /// Returns what stands at a path, not following a symlink at its end; `None` where nothing does.
    async fn stat(&self, project: &ProjectRef, path: &str) -> Result<Option<WorkspaceEntry>, WorldError>;
    /// Lists a folder, sorted by name; "" is the project's own.
    async fn list(&self, project: &ProjectRef, dir: &str) -> Result<Vec<WorkspaceEntry>, WorldError>;
    /// Returns where a repository is fetched from that a recipe names by its address: there, unless the user says otherwise.
    fn git_address(&self, url: &str) -> String;
    /// Returns what a repository elsewhere stands for: in one build the same commit, however often it is named.
    async fn pin(&self, repository: &Repository) -> Result<Arc<PinnedRepository>, WorldError>;
    /// Returns what git knows of a project's folder; `None` where it lies in no repository.
    async fn git(&self, project: &ProjectRef) -> Result<Option<Arc<GitFacts>>, WorldError>;
    /// Runs a command on the user's own machine, outside every sandbox (LOCALLY). Its output is shown as it comes;
    /// an exit code other than 0 is an outcome, not an error.
    async fn run(&self, command: &HostCommand) -> Result<HostOutcome, WorldError>;
    /// Returns rb's own launcher of apps that buildpacks built, for the machine that rb was built for; `None` where it has none with it.
    fn launcher(&self) -> Option<Vec<u8>>;
}

/// One name in a folder of the user's tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkspaceEntry {
    /// Last part of the path.
    pub name: String,
    /// What it is.
    pub kind: FileKind,
}

/// All that is told of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDetails {
    /// Its name, and what it is.
    pub entry: WorkspaceEntry,
    /// The 12 mode bits: permissions, set-id bits, sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length of a file, or of what a symlink says.
    pub size_bytes: u64,
    /// When it was changed last, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// What a symlink says.
    pub link: Option<String>,
    /// Extended attributes, by name.
    pub attributes: BTreeMap<String, Vec<u8>>,
}

/// Kinds of files a frontend may care about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    /// Regular file.
    File,
    /// Folder.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Anything else.
    Other,
}

/// BuildKit's gateway seen from Rust. What is solved for an answer belongs to the same job and is reused.
#[async_trait]
pub trait Gateway: Send + Sync {
    /// Pins an image and returns its config.
    async fn resolve_image(&self, request: &ImageRequest) -> Result<ResolvedImage, WorldError>;
    /// Does the same where the answer only adds to what is told of mistakes: an outside that does not answer soon is not waited for.
    async fn glance_at_image(&self, request: &ImageRequest) -> Result<ResolvedImage, WorldError> {
        self.resolve_image(request).await
    }
    /// Finds the commit that a repository elsewhere stands for, brings it here, and returns what git knows of it.
    async fn resolve_repository(&self, request: &RepositoryRequest) -> Result<GitFacts, WorldError>;
    /// Solves a state and reads one thing out of it.
    async fn query(&self, state: &State, query: Query) -> Result<Answer, WorldError>;
    /// Settles effects: makes every filesystem, then writes what is to be written in the order given, and returns once
    /// all of it is done.
    async fn settle(&self, effects: &[Effect]) -> Result<(), WorldError>;
}

/// Which image, for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRequest {
    /// Where the image is.
    pub location: ImageLocation,
    /// Which of an index's images is meant.
    pub platform: Platform,
}

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageLocation {
    /// A reference such as `alpine:3.20`, as the user wrote it.
    Registry(String),
    /// An OCI layout in the user's tree.
    OciLayout {
        /// The project whose folder the path is relative to.
        project: ProjectRef,
        /// Path of the layout's folder.
        path: String,
        /// Name of the image in the layout's index; the only one where none is given.
        tag: Option<String>,
    },
    /// An OCI layout that the client lends as a store.
    OciStore {
        /// Name under which it is lent.
        store: String,
        /// Digest of a manifest or index in it.
        digest: Digest,
    },
}

/// A pinned image: what to put into a source op, and what its containers run with.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedImage {
    /// Identifier of the source op, with the manifest's digest.
    pub identifier: String,
    /// Attributes of the source op.
    pub attrs: std::collections::BTreeMap<String, String>,
    /// Digest of the manifest.
    pub digest: Digest,
    /// The image's config.
    pub config: ImageConfig,
}

/// What is to be read out of a solved state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// A file's bytes, at most `limit_bytes`.
    ReadFile {
        /// Absolute path.
        path: String,
        /// Largest size accepted.
        limit_bytes: u64,
    },
    /// A file's first bytes, fewer where it is shorter.
    ReadStart {
        /// Absolute path.
        path: String,
        /// How many.
        length_bytes: u64,
    },
    /// Whether a path exists (symlinks followed).
    Exists {
        /// Absolute path.
        path: String,
    },
    /// What stands at a path (a symlink at its end is not followed).
    Stat {
        /// Absolute path.
        path: String,
    },
    /// What is in a folder.
    List {
        /// Absolute path.
        path: String,
    },
    /// All that is known of what stands at a path, or of each thing in the folder there (a symlink at its end is followed).
    Details {
        /// Absolute path.
        path: String,
        /// What is in the folder is meant, not the folder.
        inside: bool,
    },
    /// When the newest file at or below a path was changed (a symlink at its end is followed).
    Newest {
        /// Absolute path.
        path: String,
    },
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Bytes of a file.
    File(Vec<u8>),
    /// Whether the path exists.
    Exists(bool),
    /// What stands there, if anything does.
    Stat(Option<WorkspaceEntry>),
    /// Names in the folder, sorted.
    List(Vec<WorkspaceEntry>),
    /// What stands there, or is in the folder, sorted by name; nothing where nothing is at the path.
    Details(Vec<FileDetails>),
    /// Seconds since 1970; none where there is no file, or nobody said when.
    Moment(Option<i64>),
}

/// The outside could not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WorldError {
    /// Nothing of that name.
    #[error("{what} does not exist")]
    NotFound {
        /// The thing, as the user knows it.
        what: String,
        /// What to do about it, such as a near name.
        help: Option<String>,
    },
    /// It exists but cannot be used.
    #[error("{message}")]
    Failed {
        /// Who has to act.
        kind: ErrorKind,
        /// Message with its causes.
        message: String,
    },
    /// A step that had to run for the answer failed; the engine has reported it.
    #[error("{message}")]
    Step {
        /// The vertex that failed.
        vertex: Digest,
        /// Who has to act.
        kind: ErrorKind,
        /// Message with its causes.
        message: String,
    },
}

impl WorldError {
    /// Returns who has to act.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::Input,
            Self::Failed { kind, .. } | Self::Step { kind, .. } => *kind,
        }
    }
}
