//! What was evaluated, found again by the arguments that it read.
//!
//! Two keys of one target and platform that differ only in arguments nothing looked at are one evaluation.

use std::collections::{BTreeMap, BTreeSet};

use rb_frontend::{TargetKey, TargetRef};
use rb_oci::Platform;

use super::Evaluated;
use super::arguments::Args;

/// One evaluation and the values it saw.
struct Entry {
    #[cfg(test)]
    key: TargetKey,
    /// Each argument that was read, with its value if there was one.
    read: BTreeMap<String, Option<String>>,
    evaluated: Evaluated,
}

/// All that was evaluated so far.
#[derive(Default)]
pub(super) struct Memo {
    targets: BTreeMap<(TargetRef, Platform, bool), Vec<Entry>>,
    /// Shares nothing between two keys: what sharing is held against.
    #[cfg(test)]
    pub(super) exact: bool,
}

impl Memo {
    /// Finds what a key gives; for a caller that wants its outputs, one that left out nothing for want of such.
    pub(super) fn get(&self, key: &TargetKey, loud: bool) -> Option<&Evaluated> {
        let entries = self.targets.get(&kind_of(key))?;
        let same =
            |entry: &&Entry| entry.read.iter().all(|(name, value)| key.args.get(name) == value.as_ref());
        #[cfg(test)]
        let same = |entry: &&Entry| if self.exact { entry.key == *key } else { same(entry) };
        let whole = |entry: &&Entry| !(loud && entry.evaluated.silenced);
        entries.iter().filter(whole).find(same).map(|entry| &entry.evaluated)
    }

    /// Keeps what a key gave.
    pub(super) fn insert(&mut self, key: &TargetKey, evaluated: Evaluated) {
        let read = values(&key.args, &evaluated.reads);
        self.targets.entry(kind_of(key)).or_default().push(Entry {
            #[cfg(test)]
            key: key.clone(),
            read,
            evaluated,
        });
    }
}

/// Returns what two keys must have in common to be one evaluation.
fn kind_of(key: &TargetKey) -> (TargetRef, Platform, bool) {
    (key.target.clone(), key.platform.clone(), key.trusted)
}

fn values(args: &Args, reads: &BTreeSet<String>) -> BTreeMap<String, Option<String>> {
    reads.iter().map(|name| (name.clone(), args.get(name).cloned())).collect()
}
