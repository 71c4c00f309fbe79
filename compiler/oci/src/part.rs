//! What a layer's tar consists of, where it is packed of parts of several trees: a layer of an app of buildpacks.
//!
//! `T` is what a tree is to whoever has the part: a state for who plans it, the place of a root for who asks for it, a view for who
//! packs it. Names begin with `/`; everything in such a layer is of 1980-01-01T00:00:01Z.

use crate::{Descriptor, Digest};

/// Part of a layer.
#[derive(Clone, Debug)]
pub enum LayerPart<T> {
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
        /// The tree.
        tree: T,
        /// Absolute path in the tree.
        from: String,
        /// Absolute name.
        to: String,
        /// User and group of all; as in the tree if none.
        owner: Option<(u32, u32)>,
        /// Which of it.
        choice: Choice,
    },
    /// A file of a tree, which becomes root's; a link is followed.
    File {
        /// The tree.
        tree: T,
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
    /// A whole layer that is packed already, plain or by gzip or zstd: the only part of its layer.
    Packed {
        /// The tree that its file is in.
        tree: T,
        /// Absolute path in the tree.
        from: String,
    },
    /// A whole layer as it is in an image that is there already: the only part of its layer. Its bytes may be in a registry alone.
    Stored {
        /// The layer.
        descriptor: Box<Descriptor>,
        /// The digest of its tar.
        diff_id: Digest,
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
pub enum Choice {
    /// The folder itself alone.
    Alone,
    /// All, folder by folder.
    All,
    /// All, by the bytes of their paths.
    ByPath,
    /// These paths below it, in this order; the empty one is itself.
    These(Vec<String>),
}

impl<T> LayerPart<T> {
    /// Returns the tree that it is of.
    pub fn tree(&self) -> Option<&T> {
        match self {
            Self::Tree { tree, .. } | Self::File { tree, .. } | Self::Packed { tree, .. } => Some(tree),
            Self::Folder { .. } | Self::Text { .. } | Self::Stored { .. } | Self::Link { .. } => None,
        }
    }

    /// Returns the same part of what `tree` makes of its tree.
    ///
    /// # Errors
    /// Those of `tree`.
    pub fn try_map<U, E>(self, tree: impl FnOnce(T) -> Result<U, E>) -> Result<LayerPart<U>, E> {
        Ok(match self {
            Self::Folder { path, mode, owner } => LayerPart::Folder { path, mode, owner },
            Self::Tree { tree: of, from, to, owner, choice } => {
                LayerPart::Tree { tree: tree(of)?, from, to, owner, choice }
            }
            Self::File { tree: of, from, to, mode } => LayerPart::File { tree: tree(of)?, from, to, mode },
            Self::Packed { tree: of, from } => LayerPart::Packed { tree: tree(of)?, from },
            Self::Text { path, owner, text } => LayerPart::Text { path, owner, text },
            Self::Stored { descriptor, diff_id } => LayerPart::Stored { descriptor, diff_id },
            Self::Link { path, target } => LayerPart::Link { path, target },
        })
    }
}
