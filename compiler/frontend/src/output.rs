//! What evaluating targets gives: filesystems, artifacts, images.

use std::collections::BTreeSet;
use std::sync::Arc;

use rb_diag::{Diagnostics, Span};
use rb_llb::State;
use rb_oci::{Digest, ImageConfig, Platform};

use crate::TargetKey;

/// One evaluated target.
#[derive(Clone, Debug)]
pub struct TargetOutput {
    /// What was evaluated.
    pub key: TargetKey,
    /// The filesystem after the last statement.
    pub state: State,
    /// What later statements and images inherit.
    pub config: ImageConfig,
    /// What it runs on.
    pub platform: Platform,
    /// All `SAVE ARTIFACT`s so far as one tree: artifact names are paths in it.
    pub artifact_tree: State,
    /// What was saved, in order.
    pub artifacts: Vec<SavedArtifact>,
    /// Images, in order.
    pub images: Vec<SavedImage>,
    /// Targets reached by `BUILD`, in order; their outputs are wanted too.
    pub builds: Vec<Arc<Self>>,
    /// The tree lies on `FROM @host`: it can neither be saved as an image nor leave this machine.
    pub on_host: bool,
    /// Something that it BUILDs, or that it takes, could not be evaluated, and the build goes on: nothing of it is to be
    /// written.
    pub incomplete: bool,
}

/// One `SAVE ARTIFACT`.
#[derive(Clone, Debug)]
pub struct SavedArtifact {
    /// Path in the artifact tree, absolute; may be a directory or, where `many`, the directory they go to.
    pub path: String,
    /// The source had globs: what lies in `path` are the artifacts, each under its own name.
    pub many: bool,
    /// `--if-exists`: there may be nothing at `path`.
    pub optional: bool,
    /// A tree that holds just this artifact at `path`'s place.
    pub state: State,
    /// `AS LOCAL`.
    pub local: Option<LocalOutput>,
    /// The statement.
    pub span: Span,
}

/// Where on the user's disk an artifact goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalOutput {
    /// `/`-separated path relative to the workspace's root (absolute only with `--force`).
    pub path: String,
    /// The path ends in `/` or `.`: the artifact goes into it under its own name.
    pub into: bool,
}

/// One `SAVE IMAGE`.
#[derive(Clone, Debug)]
pub struct SavedImage {
    /// Names as written; never empty.
    pub names: Vec<String>,
    /// `--push`
    pub push: bool,
    /// The filesystem at that statement.
    pub state: State,
    /// The config at that statement.
    pub config: ImageConfig,
    /// The statement.
    pub span: Span,
}

/// What a frontend wants of the engine.
#[derive(Clone, Debug, Default)]
pub struct BuildPlan {
    /// The targets that were asked for, in order, each once for each platform; none that could not be evaluated.
    pub targets: Vec<Arc<TargetOutput>>,
    /// How many targets were asked for, each counted once for each platform.
    pub asked: usize,
    /// What targets BUILD that could not be evaluated themselves, where the build keeps going; else nothing.
    pub beside: Vec<Arc<TargetOutput>>,
    /// Filesystems that must be made even where nothing is exported from them: every target asked for or reached by
    /// BUILD, with a label such as `+test`.
    pub roots: Vec<(String, State)>,
    /// What is to be written, in the order of evaluation: what a target BUILDs comes before its own.
    pub outputs: Vec<PlannedOutput>,
    /// Steps that were left out because the build does not push, as people know them: `+app: RUN --push ./release`.
    pub held: Vec<String>,
    /// Findings that do not stop the build.
    pub warnings: Diagnostics,
    /// What could not be evaluated, where the build keeps going; else nothing.
    pub failures: Diagnostics,
    /// What is evaluated only once something fails.
    pub untaken: Vec<Untaken>,
}

/// Statements that were not evaluated, as what leads to them did not fail.
#[derive(Clone, Debug)]
pub struct Untaken {
    /// The target, as shown.
    pub label: String,
    /// Which statements.
    pub what: String,
    /// The vertices of which one has to fail.
    pub after: BTreeSet<Digest>,
}

impl BuildPlan {
    /// Returns the target that was asked for first.
    ///
    /// # Panics
    /// If none could be evaluated, which only a build that keeps going gives a plan of.
    pub fn target(&self) -> &Arc<TargetOutput> {
        self.targets.first().expect("a plan without failures has all that was asked for")
    }
}

/// One thing to write.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a plan has few outputs, and most are images")]
pub enum PlannedOutput {
    /// An image into the image store.
    Image {
        /// Target, as shown.
        label: String,
        /// The image.
        image: SavedImage,
    },
    /// An artifact onto the user's disk.
    Artifact {
        /// Target, as shown.
        label: String,
        /// The artifact; its `local` is set.
        artifact: SavedArtifact,
    },
}

/// Something that has to have happened before a build goes on (WAIT).
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "few at a time, and most are outputs")]
pub enum Effect {
    /// A filesystem is made, all its steps included.
    Make {
        /// Target, as shown.
        label: String,
        /// The filesystem.
        state: State,
    },
    /// An output is written.
    Write(PlannedOutput),
    /// Files are put where later commands on the host find them: a step, and no output that a user could do without.
    Place {
        /// Target, as shown.
        label: String,
        /// The files; `local` is set.
        artifact: SavedArtifact,
    },
}
