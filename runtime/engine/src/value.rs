//! What flows along the edges of a solved graph: filesystems, and images that become some when they are read.
//!
//! A [`Value`] is a handle; the bytes stay in the store or in the user's tree. A [`Tree`] can be written into a
//! cache record and read back; a look at the user's folder cannot, since it is true only now.

use std::path::PathBuf;
use std::sync::Arc;

use rb_oci::{Digest, Hasher};
use rb_snapshot::ContentKey;
use rb_sources::local::LocalTree;
use rb_store::{SnapshotId, Store, StoreError};
use serde::{Deserialize, Serialize};

use crate::pinned::PinnedImage;

/// One output of a vertex.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// A filesystem in the store.
    Tree(Tree),
    /// A folder of the user's, as it was looked at; copied when a step wants it.
    Local(Arc<LocalTree>),
}

/// One output of a vertex, as the solver passes it on: an image is fetched by whom its files concern.
#[derive(Debug, Clone)]
pub(crate) enum Product {
    /// It can be read.
    Here(Value),
    /// An image of which some layers are not unpacked, and by what its tree is found once they are.
    Image(Arc<PinnedImage>, ContentKey),
    /// It can be read, and is what no build from the beginning gives: made by a step that went on where it had failed, or of
    /// what was. Its key is nobody else's, and no record holds it.
    Resumed(Value, Digest),
}

impl Product {
    /// Returns the content key; it does not change when the image is fetched.
    pub(crate) fn key(&self) -> Digest {
        match self {
            Self::Here(value) => value.key(),
            Self::Image(_, content) => content.to_digest(),
            Self::Resumed(_, key) => *key,
        }
    }

    /// Tells whether a step that went on where it had failed is behind it.
    pub(crate) fn is_resumed(&self) -> bool {
        matches!(self, Self::Resumed(..))
    }
}

/// A root of a request, ready to be exported.
#[derive(Debug, Clone)]
pub(crate) enum Root {
    /// A tree.
    Tree(Tree),
    /// An image that needs no tree, and by what that would be found.
    Image(Arc<PinnedImage>, ContentKey),
}

impl Root {
    /// Returns the content key.
    pub(crate) fn key(&self) -> Digest {
        match self {
            Self::Tree(tree) => tree.key(),
            Self::Image(_, content) => content.to_digest(),
        }
    }
}

/// A filesystem in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tree {
    /// Its uppermost layer; none for `scratch`.
    pub(crate) snapshot: Option<SnapshotId>,
    /// Equal keys mean equal trees. Does not say what the host shows through `host`.
    pub(crate) content: ContentKey,
    /// What of this machine shows in it.
    pub(crate) host: Option<HostMounts>,
}

/// What of this machine shows in a tree made with `FROM @host`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostMounts {
    /// Digest of the toolchain: packages, binds, fingerprints.
    pub(crate) key: Digest,
    /// Host folders shown at the same path, read-only.
    pub(crate) binds: Vec<PathBuf>,
}

impl Tree {
    /// Returns the empty filesystem.
    pub(crate) fn scratch() -> Self {
        Self { snapshot: None, content: ContentKey::empty(), host: None }
    }

    /// Returns the key that stands for all that a step can see in the tree.
    pub(crate) fn key(&self) -> Digest {
        match &self.host {
            None => self.content.to_digest(),
            Some(host) => {
                let mut hasher = Hasher::default();
                hasher.update(b"on host\0");
                hasher.update(host.key.as_bytes());
                hasher.update(self.content.as_bytes());
                hasher.finish().0
            }
        }
    }
}

impl Value {
    /// Returns the content key of the value.
    pub(crate) fn key(&self) -> Digest {
        match self {
            Self::Tree(tree) => tree.key(),
            Self::Local(local) => local.content.to_digest(),
        }
    }
}

/// A tree as a cache record keeps it.
#[derive(Debug, Serialize, Deserialize)]
struct StoredTree {
    snapshot: Option<u64>,
    content: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<HostMounts>,
}

/// Writes the outputs of a vertex as a record; `None` if one of them cannot be kept.
pub(crate) fn encode(values: &[Product]) -> Option<(Vec<u8>, Vec<SnapshotId>)> {
    let trees = values.iter().map(|value| match value {
        Product::Here(Value::Tree(tree)) => Some(tree),
        Product::Here(Value::Local(_)) | Product::Image(..) | Product::Resumed(..) => None,
    });
    let trees: Vec<&Tree> = trees.collect::<Option<_>>()?;
    let snapshots = trees.iter().filter_map(|tree| tree.snapshot).collect();
    let stored: Vec<StoredTree> = trees
        .iter()
        .map(|tree| StoredTree {
            snapshot: tree.snapshot.map(|id| id.0),
            content: tree.content.to_digest(),
            host: tree.host.clone(),
        })
        .collect();
    Some((serde_json::to_vec(&stored).expect("plain data serialises"), snapshots))
}

/// Says whether each tree of a record has the content that its snapshot was committed with: a database may rot too.
pub(crate) fn are_those_of(store: &Store, values: &[Product]) -> Result<bool, StoreError> {
    for value in values {
        if let Product::Here(Value::Tree(Tree { snapshot: Some(snapshot), content, .. })) = value
            && let Some(row) = store.snapshot(*snapshot)?
            && row.content_key.is_some_and(|key| key != *content.as_bytes())
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Reads a record; `None` if it is not one of ours.
pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<Product>> {
    let stored: Vec<StoredTree> = serde_json::from_slice(bytes).ok()?;
    let tree = |tree: StoredTree| {
        Product::Here(Value::Tree(Tree {
            snapshot: tree.snapshot.map(SnapshotId),
            content: ContentKey::from_bytes(*tree.content.as_bytes()),
            host: tree.host,
        }))
    };
    Some(stored.into_iter().map(tree).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip() {
        let host = HostMounts { key: Digest::of("gcc"), binds: vec!["/usr".into()] };
        let tree = Tree {
            snapshot: Some(SnapshotId(7)),
            content: ContentKey::from_bytes([3; 32]),
            host: Some(host),
        };
        let (bytes, snapshots) =
            encode(&[tree.clone(), Tree::scratch()].map(|tree| Product::Here(Value::Tree(tree))))
                .expect("trees");
        assert_eq!(snapshots, [SnapshotId(7)]);
        let values = decode(&bytes).expect("decodes");
        assert!(
            matches!(&values[..], [Product::Here(Value::Tree(first)), Product::Here(Value::Tree(second))] if *first == tree && *second == Tree::scratch())
        );
        assert!(decode(b"{}").is_none());
    }

    #[test]
    fn a_record_of_another_snapshot_is_noticed() {
        let root = tempfile::tempdir().expect("temp dir");
        let store = Store::open(root.path()).expect("opens");
        let commit = |key: [u8; 32]| {
            let id = store.new_snapshot(None).expect("starts");
            store.commit_snapshot(id, 0, Some(key)).expect("commits")
        };
        let (one, two) = (commit([1; 32]), commit([2; 32]));
        let of = |snapshot| {
            let tree =
                Tree { snapshot: Some(snapshot), content: ContentKey::from_bytes([1; 32]), host: None };
            [Product::Here(Value::Tree(tree))]
        };
        assert!(are_those_of(&store, &of(one)).expect("reads"));
        assert!(!are_those_of(&store, &of(two)).expect("reads"));
    }

    #[test]
    fn the_host_is_part_of_a_key() {
        let bare = Tree::scratch();
        let on = |key: &str| Tree {
            host: Some(HostMounts { key: Digest::of(key), binds: vec![] }),
            ..Tree::scratch()
        };
        assert_ne!(bare.key(), on("a").key());
        assert_ne!(on("b").key(), on("a").key());
    }
}
