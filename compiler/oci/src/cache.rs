//! Caches elsewhere: which results lie in which layers of a manifest.
//!
//! In: the config of a manifest. Out: [`CacheTable`], checked. A cache is an OCI manifest whose layers are those of the trees that
//! steps gave, each once, and whose config says in [`CACHE_FIELD`] what finds them: trees are chains of layers, records lead from
//! keys to trees. The config of an image may have the same field, for the image's own layers: an inline cache.
//! **Invariant:** a table that was read names only what is there: no chain leads in a circle or out of the manifest's layers, and
//! none is longer than an image may be. Keys and layers are digests; nothing in it is a path, a time or a secret.

use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::index::LAYERS;

/// Media type of the config of a manifest that is a cache and no image.
pub const CACHE_CONFIG: &str = "application/vnd.rb.cache.config.v2+json";
/// The field of a config that holds the table.
pub const CACHE_FIELD: &str = "rb.cache.v2";
/// Media type of BuildKit's caches, whose keys are of another kind.
pub const BUILDKIT_CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";
/// The field of an image's config that holds BuildKit's inline cache.
pub const BUILDKIT_CACHE_FIELD: &str = "moby.buildkit.cache.v0";
/// Trees of one cache; several may have one layer.
pub const CACHE_TREES: usize = 10_000;
/// Records of one cache.
pub const CACHE_RECORDS: usize = 50_000;
/// Keys of one kind of a record, and outputs.
pub const CACHE_FEW: usize = 64;

/// What a cache holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheTable {
    /// Number of the schema of its keys: others are never found.
    pub schema: u32,
    /// The latest time that its layers have in them, in seconds since 1970: for another one they would be packed otherwise.
    pub epoch: i64,
    /// Trees, each behind the one it stands on.
    pub trees: Vec<CacheTree>,
    /// What is found.
    pub records: Vec<CacheRecord>,
}

/// A tree: a layer on what is below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheTree {
    /// Which tree it stands on, by its place in the table; none for one of a single layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<usize>,
    /// Its uppermost layer, by the place among the manifest's.
    pub layer: usize,
    /// What it is found by once it is unpacked: its content key.
    pub content: Digest,
}

/// The outputs of one step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRecord {
    /// What finds it: by definitions, and by the whole content of its inputs.
    pub keys: Vec<Digest>,
    /// What finds it by the parts of its inputs that it reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Digest>,
    /// Its outputs, by their places among the trees; none for one that holds nothing.
    pub outputs: Vec<Option<usize>>,
}

/// A table is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheTableError {
    /// It is not what the field holds.
    #[error("its table of results cannot be read: {0}")]
    Json(String),
    /// It names what is not there.
    #[error("its table of results names a {what} that is not there")]
    Nowhere {
        /// What.
        what: &'static str,
    },
    /// There is too much of something.
    #[error("its table of results has more {what} than can be")]
    TooMany {
        /// What.
        what: &'static str,
    },
}

impl CacheTable {
    /// Reads the table of a manifest with so many layers.
    pub fn read(value: &serde_json::Value, layers: usize) -> Result<Self, CacheTableError> {
        let table = Self::deserialize(value).map_err(|error| CacheTableError::Json(error.to_string()))?;
        table.check(layers)?;
        Ok(table)
    }

    fn check(&self, layers: usize) -> Result<(), CacheTableError> {
        let too_many = |what| Err(CacheTableError::TooMany { what });
        let nowhere = |what| Err(CacheTableError::Nowhere { what });
        if self.trees.len() > CACHE_TREES {
            return too_many("trees");
        }
        if self.records.len() > CACHE_RECORDS {
            return too_many("records");
        }
        let mut depths: Vec<usize> = Vec::with_capacity(self.trees.len());
        for CacheTree { on, layer, content: _ } in &self.trees {
            if *layer >= layers {
                return nowhere("layer");
            }
            // A tree stands on one that comes before it, so that no chain is a circle.
            let below = match on {
                None => 0,
                Some(on) => match depths.get(*on) {
                    Some(depth) => *depth,
                    None => return nowhere("tree"),
                },
            };
            if below >= LAYERS {
                return too_many("layers in one tree");
            }
            depths.push(below + 1);
        }
        for CacheRecord { keys, parts, outputs } in &self.records {
            if keys.len().max(parts.len()).max(outputs.len()) > CACHE_FEW {
                return too_many("keys or outputs of one record");
            }
            if outputs.iter().flatten().any(|tree| *tree >= self.trees.len()) {
                return nowhere("tree");
            }
        }
        Ok(())
    }

    /// Returns the places of the trees that one stands on, and its own, lowest first.
    pub fn chain(&self, tree: usize) -> Vec<usize> {
        let mut chain = Vec::new();
        let mut next = Some(tree);
        while let Some(place) = next.filter(|_| chain.len() < LAYERS) {
            let Some(tree) = self.trees.get(place) else { break };
            chain.push(place);
            next = tree.on;
        }
        chain.reverse();
        chain
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tree(on: Option<usize>, layer: usize) -> CacheTree {
        CacheTree { on, layer, content: Digest::of(format!("{on:?} {layer}")) }
    }

    fn table(trees: Vec<CacheTree>, outputs: Vec<Option<usize>>) -> CacheTable {
        let record = CacheRecord { keys: vec![Digest::of("k")], parts: vec![Digest::of("p")], outputs };
        CacheTable { schema: 1, epoch: 0, trees, records: vec![record] }
    }

    fn read(table: &CacheTable, layers: usize) -> Result<CacheTable, CacheTableError> {
        CacheTable::read(&serde_json::to_value(table).expect("plain data"), layers)
    }

    #[test]
    fn what_was_written_is_read() {
        let table = table(
            vec![tree(None, 0), tree(Some(0), 1), tree(Some(0), 2), tree(Some(2), 1)],
            vec![Some(3), None],
        );
        assert_eq!(read(&table, 3), Ok(table.clone()));
        assert_eq!(table.chain(3), [0, 2, 3]);
        assert_eq!(table.chain(1), [0, 1]);
        assert!(table.chain(9).is_empty());
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let nowhere = |what| Err(CacheTableError::Nowhere { what });
        assert_eq!(read(&table(vec![tree(None, 1)], vec![]), 1), nowhere("layer"));
        assert_eq!(read(&table(vec![tree(Some(0), 0)], vec![]), 1), nowhere("tree"), "it stands on itself");
        let circle = vec![tree(Some(1), 0), tree(Some(0), 0)];
        assert_eq!(read(&table(circle, vec![]), 1), nowhere("tree"));
        assert_eq!(read(&table(vec![tree(None, 0)], vec![Some(1)]), 1), nowhere("tree"));
        for wrong in [
            json!(null),
            json!([]),
            json!({"schema": -1, "epoch": 0, "trees": [], "records": []}),
            // It does not say for which time it was packed.
            json!({"schema": 1, "trees": [], "records": []}),
        ] {
            assert!(matches!(CacheTable::read(&wrong, 9), Err(CacheTableError::Json(_))), "{wrong}");
        }
    }

    #[test]
    fn all_of_it_is_bounded() {
        let too_many = |what| Err(CacheTableError::TooMany { what });
        let tower: Vec<_> = (0..=LAYERS).map(|place| tree(place.checked_sub(1), 0)).collect();
        assert_eq!(read(&table(tower, vec![]), 1), too_many("layers in one tree"));
        assert_eq!(read(&table(vec![tree(None, 0); CACHE_TREES + 1], vec![]), 1), too_many("trees"));
        let outputs = vec![None; CACHE_FEW + 1];
        assert_eq!(read(&table(vec![], outputs), 1), too_many("keys or outputs of one record"));
        let records = vec![CacheRecord::default(); CACHE_RECORDS + 1];
        let table = CacheTable { schema: 1, epoch: 0, trees: Vec::new(), records };
        assert_eq!(read(&table, 0), too_many("records"));
    }
}
