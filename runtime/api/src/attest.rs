//! What is said of a result beside it: where it came from, and what is in it.
//!
//! In: what the client was asked for, and what its frontend read on the way. The engine adds what it alone knows: what sources
//! stood for, layers, times. **Invariant:** no value of a secret is in here; names and ids are.

use std::collections::BTreeMap;

use rb_llb::Definition;
use rb_oci::{Digest, Platform};

/// What is said of one root, in images and beside files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attest {
    /// Where it came from.
    pub provenance: Option<Provenance>,
    /// What a scanner found in it.
    pub scan: Option<Scan>,
}

/// The wish for a statement of where a result came from. Source: SLSA provenance v0.2 and v1; BuildKit's `attest:provenance`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// In which form.
    pub version: ProvenanceVersion,
    /// How much is told.
    pub detail: Detail,
    /// Who is said to have built it.
    pub builder_id: String,
    /// The user says that building again gives the same.
    pub is_reproducible: bool,
    /// It goes into images, and not beside files.
    pub inline_only: bool,
    /// Name of its file beside other files.
    pub file_name: String,
    /// That not every source can be told is an error.
    pub complete_materials: bool,
    /// What was asked for.
    pub asked: AskedBuild,
}

/// Form of a statement of where a result came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProvenanceVersion {
    /// `https://slsa.dev/provenance/v0.2`.
    V02,
    /// `https://slsa.dev/provenance/v1`.
    #[default]
    V1,
}

/// How much is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// Sources and times; nothing that was given to the build.
    Min,
    /// Arguments, the graph, the text that it was written in, layers.
    #[default]
    Max,
}

/// What a client asked a frontend for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AskedBuild {
    /// Name of the frontend.
    pub frontend: String,
    /// Its options.
    pub args: BTreeMap<String, String>,
    /// Graphs that it read files of.
    pub read: Vec<Definition>,
    /// Images that it asked for.
    pub images: Vec<AskedImage>,
    /// What all of the build is for, and this root of it.
    pub platforms: Vec<Platform>,
    /// What this root is for.
    pub platform: Option<Platform>,
    /// Folders that are lent under other names than those that the user knows, by those.
    pub folders: BTreeMap<String, String>,
}

/// An image that a frontend asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedImage {
    /// Its name as it was written.
    pub name: String,
    /// What it is for.
    pub platform: Platform,
    /// What the name stood for.
    pub digest: Digest,
}

/// What a scanner wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Index of the root that holds its statements, a file each.
    pub root: usize,
}

/// How attestations are in an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attached {
    /// As a manifest with a config, in the index of the image.
    #[default]
    Manifest,
    /// As an artifact whose subject is the image, in the index of the image.
    Artifact,
    /// Not at all.
    Nowhere,
}
