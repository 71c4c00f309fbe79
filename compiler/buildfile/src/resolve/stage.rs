//! What a name is once it is resolved: the thing it means, or a word whose meaning variables decide.

use rb_frontend::{FunctionRef, ProjectRef, TargetRef};
use rb_syntax::{Stage, Word};
use serde::{Serialize, Serializer};

/// As resolved: a reference is what it means.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Resolved {}

impl Stage for Resolved {
    type Target = Reference;
    type Function = FunctionReference;
    type Project = ProjectReference;
}

/// What stands where a target is called.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reference {
    /// Known before anything is evaluated.
    Settled {
        /// What it means.
        #[serde(serialize_with = "shown")]
        target: TargetRef,
        /// Flags of the import whose alias was used.
        via: Via,
        /// What was written.
        written: Word,
    },
    /// One target of each folder that fits.
    Pattern {
        /// Which folders, which target.
        pattern: Pattern,
        /// What was written.
        written: Word,
    },
    /// Has variables in it, or an alias that variables decide.
    Dynamic(Word),
}

/// What stands where a function is called.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FunctionReference {
    /// Known before anything is evaluated.
    Settled {
        /// What it means.
        #[serde(serialize_with = "shown")]
        function: FunctionRef,
        /// Flags of the import whose alias was used.
        via: Via,
        /// What was written.
        written: Word,
    },
    /// Has variables in it, or an alias that variables decide.
    Dynamic(Word),
}

/// What stands where a project is imported.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProjectReference {
    /// Known before anything is evaluated.
    Settled {
        /// What it means.
        #[serde(serialize_with = "folder")]
        project: ProjectRef,
        /// What was written.
        written: Word,
    },
    /// Has variables in it.
    Dynamic(Word),
}

/// Flags of the IMPORT whose alias a reference used; all off where it used none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Via {
    /// `--pass-args`
    pub pass_args: bool,
    /// `--allow-privileged`
    pub allow_privileged: bool,
    /// The reference used an alias at all.
    pub imported: bool,
}

/// A reference that may mean a target in each of several folders: `./services/*+test`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Pattern {
    /// The folder that the pattern starts from.
    #[serde(serialize_with = "folder")]
    pub project: ProjectRef,
    /// Path relative to it; its first part is the first with a `*`, `?` or `[`.
    pub glob: String,
    /// Name of the target.
    pub name: String,
    /// Flags of the import whose alias was used.
    pub via: Via,
}

fn shown<S: Serializer>(name: &impl ToString, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&name.to_string())
}

fn folder<S: Serializer>(project: &ProjectRef, out: S) -> Result<S::Ok, S::Error> {
    match project {
        ProjectRef::Local { dir } => out.serialize_str(dir),
        ProjectRef::Remote { .. } | ProjectRef::Dockerfile { .. } => out.serialize_str(&project.to_string()),
    }
}
