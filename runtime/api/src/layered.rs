//! Images whose layers are packed of parts of several trees, and whose config is known once they are: apps of buildpacks.
//!
//! Whoever asks for one says for each layer what its tar consists of; the engine packs it, and hands the diff ids to [`Finish`],
//! which makes the config. Names in such layers begin with `/`, and everything in them is of 1980-01-01T00:00:01Z.

use std::fmt;
use std::sync::Arc;

use rb_oci::{Digest, ImageConfig};

/// How an image is put together upon the layers of its root.
#[derive(Clone, Debug)]
pub struct Layered {
    /// The layers above, lowest first; each consists of these, in order.
    pub layers: Vec<Vec<LayerPart>>,
    /// Makes the config.
    pub finish: Finish,
}

/// Part of a layer's tar.
#[derive(Clone, Debug)]
pub enum LayerPart {
    /// A folder.
    Folder {
        /// Absolute name.
        path: String,
        /// Permission bits.
        mode: u32,
        /// User and group.
        owner: (u32, u32),
    },
    /// Part of a tree.
    Tree {
        /// Index of the root.
        root: usize,
        /// Absolute path in the tree.
        from: String,
        /// Absolute name.
        to: String,
        /// User and group of all; as in the tree if none.
        owner: Option<(u32, u32)>,
        /// Which of it.
        choice: PartChoice,
    },
    /// A file of a tree, which becomes root's.
    File {
        /// Index of the root.
        root: usize,
        /// Absolute path in the tree.
        from: String,
        /// Absolute name.
        to: String,
        /// Permission bits.
        mode: u32,
    },
    /// A file.
    Text {
        /// Absolute name.
        path: String,
        /// User and group.
        owner: (u32, u32),
        /// Content.
        text: String,
    },
    /// A symbolic link of root's.
    Link {
        /// Absolute name.
        path: String,
        /// Where it leads.
        target: String,
    },
}

/// Which files of a tree are packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartChoice {
    /// The folder itself alone.
    Alone,
    /// All, folder by folder.
    All,
    /// All, by the bytes of their paths.
    ByPath,
    /// These paths below it; the empty one is itself.
    These(Vec<String>),
}

impl LayerPart {
    /// Returns the root that it is of.
    pub fn root(&self) -> Option<usize> {
        match self {
            Self::Tree { root, .. } | Self::File { root, .. } => Some(*root),
            Self::Folder { .. } | Self::Text { .. } | Self::Link { .. } => None,
        }
    }
}

/// Makes a config of the diff ids of the base's layers and of those above; or says why it cannot be.
#[derive(Clone)]
pub struct Finish(Arc<FinishFn>);

type FinishFn = dyn Fn(&[Digest], &[Digest]) -> Result<ImageConfig, String> + Send + Sync;

impl Finish {
    /// Takes what makes it.
    pub fn new(
        make: impl Fn(&[Digest], &[Digest]) -> Result<ImageConfig, String> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(make))
    }

    /// Makes the config.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn config(&self, base: &[Digest], own: &[Digest]) -> Result<ImageConfig, String> {
        (self.0)(base, own)
    }
}

impl fmt::Debug for Finish {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Finish")
    }
}
