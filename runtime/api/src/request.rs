//! What a job is opened with, what it is asked for, and what comes of it.

use std::path::PathBuf;
use std::sync::Arc;

use rb_llb::Definition;
use rb_oci::{Digest, ImageConfig};
use rb_session::Session;

/// What holds for all of a job.
#[derive(Clone)]
pub struct JobOptions {
    /// Who answers for files.
    pub session: Arc<dyn Session>,
    /// Look nothing up; results are stored all the same.
    pub no_cache: bool,
    /// Steps may run without isolation (`security.insecure`); without it such a step is refused.
    pub allow_insecure: bool,
    /// Latest time that exported images show, in seconds since 1970 (SOURCE_DATE_EPOCH).
    pub epoch_seconds: i64,
}

/// One thing asked of a job.
#[derive(Clone, Debug, Default)]
pub struct SolveRequest {
    /// What must be made. Exports name roots by their index.
    pub roots: Vec<Root>,
    /// What is to be written once every root is made.
    pub exports: Vec<Export>,
}

/// A filesystem to make.
#[derive(Clone, Debug)]
pub struct Root {
    /// What to call it: `+app`.
    pub label: String,
    /// Its graph.
    pub definition: Definition,
}

/// One thing to write.
#[derive(Clone, Debug)]
pub enum Export {
    /// An image into the image store.
    Image {
        /// Index of the root.
        root: usize,
        /// Names it gets.
        names: Vec<String>,
        /// Config without layers; the exporter adds `rootfs`.
        config: ImageConfig,
    },
    /// Part of a tree onto the client's disk.
    Local {
        /// Index of the root.
        root: usize,
        /// Absolute path in the tree.
        path: String,
        /// Absolute path on the disk.
        destination: PathBuf,
        /// Put it into `destination` under its own name.
        into: bool,
        /// Of a folder, put each entry into `destination`, and leave what else is there.
        entries: bool,
        /// A folder at `destination` keeps what the tree does not have; otherwise it is replaced whole.
        merge: bool,
        /// Nothing at `path` is fine; then nothing is written.
        optional: bool,
        /// `destination` must lie below this folder, also through symlinks; anywhere if none.
        confine: Option<PathBuf>,
    },
    /// The tree as a plain tar file.
    Tar {
        /// Index of the root.
        root: usize,
        /// Absolute path of the file.
        destination: PathBuf,
    },
    /// An image as an OCI layout: a folder, or a tar file.
    OciLayout {
        /// Index of the root.
        root: usize,
        /// Name in the layout's index.
        name: Option<String>,
        /// Config without layers.
        config: ImageConfig,
        /// Absolute path of the folder or file.
        destination: PathBuf,
        /// A tar file instead of a folder.
        tar: bool,
    },
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SolveResult {
    /// Content key of each root's tree.
    pub roots: Vec<Digest>,
    /// What was written, in the order of the request.
    pub exports: Vec<ExportResult>,
    /// Counts of the whole job so far.
    pub summary: Summary,
}

/// What one export wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportResult {
    /// An image.
    Image {
        /// Its names; empty for a layout without one.
        names: Vec<String>,
        /// Digest of the manifest.
        digest: Digest,
        /// Sum of config and compressed layers.
        size_bytes: u64,
        /// Where, for a layout.
        destination: Option<PathBuf>,
    },
    /// Files.
    Local {
        /// Where.
        destination: PathBuf,
        /// How many files had to be written; the others already were as they should be.
        written: u64,
        /// How many were looked at.
        total: u64,
    },
    /// A tar file.
    Tar {
        /// Where.
        destination: PathBuf,
        /// Its size.
        size_bytes: u64,
    },
}

/// Vertices of a job by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Steps (exec and file operations) that ran.
    pub executed: usize,
    /// Steps whose result was there already.
    pub cached: usize,
    /// Steps nobody needed, because what follows was there.
    pub skipped: usize,
}
