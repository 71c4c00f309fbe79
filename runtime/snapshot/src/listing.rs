//! What a walk found in an ordinary directory, kept so that nobody walks there again.
//!
//! In: paths relative to the directory, in their shortest form, with what was at each, and where links pointed. Out: the
//! same in order; what is at a path, in it, and below it. Nothing is looked at anew: what is there by now shows when it is opened.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::metadata::Metadata;

/// Entries of a directory, sorted as paths are; the directory itself is not among them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Listing(Arc<Listed>);

#[derive(Debug, Default)]
struct Listed {
    entries: Vec<(PathBuf, Metadata)>,
    targets: HashMap<PathBuf, PathBuf>,
}

impl Listing {
    /// Takes entries in any order; sorted ones at once.
    pub fn new(entries: Vec<(PathBuf, Metadata)>) -> Self {
        Self::with_targets(entries, HashMap::new())
    }

    /// As [`Self::new`], with where links among them point.
    pub fn with_targets(mut entries: Vec<(PathBuf, Metadata)>, targets: HashMap<PathBuf, PathBuf>) -> Self {
        if !entries.is_sorted_by(|(left, _), (right, _)| compare_paths(left, right).is_le()) {
            entries.sort_unstable_by(|(left, _), (right, _)| compare_paths(left, right));
        }
        Self(Arc::new(Listed { entries, targets }))
    }

    /// Returns what was at `path`.
    pub(crate) fn get(&self, path: &Path) -> Option<&Metadata> {
        let entries = &self.0.entries;
        let found = entries.binary_search_by(|(entry, _)| compare_paths(entry, path));
        found.ok().map(|index| &entries[index].1)
    }

    /// Returns where the link at `path` pointed, if that is known.
    pub(crate) fn target(&self, path: &Path) -> Option<&Path> {
        self.0.targets.get(path).map(PathBuf::as_path)
    }

    /// Returns the names in the directory at `path`, in order, with what was there.
    pub(crate) fn inside(&self, path: &Path) -> impl Iterator<Item = (&OsStr, &Metadata)> {
        let mut rest = self.below(path);
        std::iter::from_fn(move || {
            let ((entry, metadata), after) = rest.split_first()?;
            // What is in a directory comes right after it.
            rest = &after[after.partition_point(|(inner, _)| inner.starts_with(entry))..];
            Some((entry.file_name()?, metadata))
        })
    }

    /// Returns what was below `path`, in order.
    pub(crate) fn below(&self, path: &Path) -> &[(PathBuf, Metadata)] {
        let entries = &self.0.entries;
        if path.as_os_str().is_empty() {
            return entries;
        }
        // What is in a directory comes right after it.
        let from = entries.partition_point(|(entry, _)| compare_paths(entry, path).is_le());
        let count = entries[from..].partition_point(|(entry, _)| entry.starts_with(path));
        &entries[from..from + count]
    }
}

/// Orders relative paths in their shortest form as `Path` does, name by name, without taking them apart.
pub fn compare_paths(left: &Path, right: &Path) -> Ordering {
    let (left, right) = (left.as_os_str().as_bytes(), right.as_os_str().as_bytes());
    let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
    match left.iter().zip(right).find(|(left, right)| left != right) {
        Some((left, right)) => rank(*left).cmp(&rank(*right)),
        None => left.len().cmp(&right.len()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn metadata() -> Metadata {
        Metadata::empty_root()
    }

    fn paths() -> impl Strategy<Value = Vec<PathBuf>> {
        prop::collection::btree_set("[ab.\u{1}é]{1,2}(/[ab.\u{1}é]{1,2}){0,2}", 0..12).prop_map(|paths| {
            let proper = |path: &&String| !path.split('/').any(|name| matches!(name, "." | ".."));
            paths.iter().filter(proper).map(PathBuf::from).collect()
        })
    }

    proptest! {
        #[test]
        fn order_is_that_of_paths(left in paths(), right in paths()) {
            for left in &left {
                for right in &right {
                    prop_assert_eq!(compare_paths(left, right), left.cmp(right));
                }
            }
        }

        #[test]
        fn what_is_below_is_found(mut all in paths(), extra in paths()) {
            // As a walk finds them: the directories around are there too.
            let around: Vec<PathBuf> =
                all.iter().flat_map(|path| path.ancestors().map(Path::to_owned)).collect();
            all.extend(around);
            all.retain(|path| !path.as_os_str().is_empty());
            let listing = Listing::new(all.iter().map(|path| (path.clone(), metadata())).collect());
            all.sort();
            for path in all.iter().chain(&extra).chain(&[PathBuf::new()]) {
                let expected: Vec<&PathBuf> = {
                    let mut expected: Vec<_> =
                        all.iter().filter(|entry| entry.starts_with(path) && *entry != path).collect();
                    expected.dedup();
                    expected
                };
                let mut found: Vec<&PathBuf> = listing.below(path).iter().map(|(entry, _)| entry).collect();
                found.dedup();
                prop_assert_eq!(found, expected);
                prop_assert_eq!(listing.get(path).is_some(), all.contains(path));
                let mut expected: Vec<_> =
                    all.iter().filter(|entry| entry.parent() == Some(path)).filter_map(|entry| entry.file_name()).collect();
                expected.dedup();
                let mut names: Vec<_> = listing.inside(path).map(|(name, _)| name).collect();
                names.dedup();
                prop_assert_eq!(names, expected);
            }
        }
    }
}
