//! What flows along the edges of a solved graph: filesystems.
//!
//! A [`Value`] is a handle; the bytes stay in the store or in the user's tree. A [`Tree`] can be written into a
//! cache record and read back; a look at the user's folder cannot, since it is true only now.

use std::path::PathBuf;
use std::sync::Arc;

use rb_oci::{Digest, Hasher};
use rb_snapshot::ContentKey;
use rb_sources::local::LocalTree;
use rb_store::SnapshotId;
use serde::{Deserialize, Serialize};

/// One output of a vertex.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// A filesystem in the store.
    Tree(Tree),
    /// A folder of the user's, as it was looked at; copied when a step wants it.
    Local(Arc<LocalTree>),
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
pub(crate) fn encode(values: &[Value]) -> Option<(Vec<u8>, Vec<SnapshotId>)> {
    let trees = values.iter().map(|value| match value {
        Value::Tree(tree) => Some(tree),
        Value::Local(_) => None,
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

/// Reads a record; `None` if it is not one of ours.
pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<Value>> {
    let stored: Vec<StoredTree> = serde_json::from_slice(bytes).ok()?;
    let tree = |tree: StoredTree| {
        Value::Tree(Tree {
            snapshot: tree.snapshot.map(SnapshotId),
            content: ContentKey::from_bytes(*tree.content.as_bytes()),
            host: tree.host,
        })
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
            encode(&[Value::Tree(tree.clone()), Value::Tree(Tree::scratch())]).expect("trees");
        assert_eq!(snapshots, [SnapshotId(7)]);
        let values = decode(&bytes).expect("decodes");
        assert!(
            matches!(&values[..], [Value::Tree(first), Value::Tree(second)] if *first == tree && *second == Tree::scratch())
        );
        assert!(decode(b"{}").is_none());
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
