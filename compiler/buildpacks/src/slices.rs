//! Slices: which files of the app go into which layer of the image.
//!
//! In: the paths of the app, and the slices of all buildpacks in order. Out: one list of paths for each slice, and one of what
//! is left. A path that a slice names is taken with all below it, once. Folders that lead to it come along; once nothing of
//! one is left, it is in no later layer.
//! **Invariant:** every file is in exactly one layer.
//! Source: buildpack spec, "launch.toml", `[[slices]]`; the lifecycle's slices.

use std::collections::{BTreeMap, BTreeSet};

use rb_path::{BadPattern, Dialect, Glob, clean};
use serde::{Deserialize, Serialize};

use crate::Exit;

/// How many slices and patterns there may be: each is held against each path.
const MOST: usize = 1000;

/// What a buildpack wants in a layer of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Slice {
    /// Patterns of paths.
    pub paths: Vec<String>,
}

/// The app cannot be sliced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SliceError {
    /// A pattern does not read.
    #[error("a slice of the app: {0}")]
    Pattern(#[from] BadPattern),
    /// There are too many.
    #[error("there are more than {MOST} slices of the app or patterns in them")]
    TooMany,
}

impl SliceError {
    /// Returns the lifecycle's exit code.
    pub fn exit(&self) -> Exit {
        Exit::Export
    }
}

/// Slices an app: `folders` and `files` are relative paths, all parents among the folders. The app's own folder is the empty
/// path in the result. Each list is sorted; the last is what is left, and an empty list is an empty layer.
pub fn slice(
    folders: &BTreeSet<String>,
    files: &BTreeSet<String>,
    slices: &[Slice],
) -> Result<Vec<Vec<String>>, SliceError> {
    if slices.len() + slices.iter().map(|slice| slice.paths.len()).sum::<usize>() > MOST {
        return Err(SliceError::TooMany);
    }
    let mut app = App::new(folders, files);
    let mut layers = Vec::with_capacity(slices.len() + 1);
    for slice in slices {
        let patterns = slice.paths.iter().map(|path| Glob::new(&clean(path), Dialect::Go));
        let patterns = patterns.collect::<Result<Vec<_>, _>>()?;
        layers.push(app.take(&patterns));
    }
    let left = app.taken.iter().filter(|(_, taken)| !**taken).map(|(path, _)| (*path).to_owned());
    layers.push(left.collect());
    Ok(layers)
}

struct App<'a> {
    /// Whether a path is in a layer. The app's own folder is the empty path.
    taken: BTreeMap<&'a str, bool>,
    children: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a> App<'a> {
    fn new(folders: &'a BTreeSet<String>, files: &'a BTreeSet<String>) -> Self {
        let mut app = Self { taken: BTreeMap::from([("", false)]), children: BTreeMap::new() };
        for path in folders.iter().chain(files).map(String::as_str).filter(|path| !path.is_empty()) {
            app.taken.insert(path, false);
            app.children.entry(parent(path)).or_default().push(path);
        }
        app
    }

    fn take(&mut self, patterns: &[Glob]) -> Vec<String> {
        let fits =
            |path: &&str| !path.is_empty() && patterns.iter().any(|pattern| pattern.matches(path.as_bytes()));
        let mut open: Vec<&str> = self.taken.keys().copied().filter(fits).collect();
        let mut own = BTreeSet::new();
        while let Some(path) = open.pop() {
            let Some(taken) = self.taken.get_mut(path).filter(|taken| !**taken) else { continue };
            *taken = true;
            own.insert(path);
            open.extend(self.children.get(path).into_iter().flatten());
        }
        let mut parents = BTreeSet::new();
        for path in &own {
            let mut path = *path;
            while !path.is_empty() {
                path = parent(path);
                if !own.contains(path) && !parents.insert(path) {
                    break;
                }
            }
        }
        // The deepest first: whether all of a folder is taken depends on the folders in it.
        let mut deepest: Vec<&str> = parents.iter().copied().collect();
        deepest
            .sort_by_key(|path| std::cmp::Reverse(path.split('/').filter(|part| !part.is_empty()).count()));
        for folder in deepest {
            let whole = self.children.get(folder).is_none_or(|all| all.iter().all(|one| self.taken[one]));
            self.taken.insert(folder, whole);
        }
        own.union(&parents).map(|path| (*path).to_owned()).collect()
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(all: &[&str]) -> BTreeSet<String> {
        all.iter().map(|one| (*one).to_owned()).collect()
    }

    fn of(all: &[&[&str]]) -> Vec<Slice> {
        all.iter()
            .map(|paths| Slice { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
            .collect()
    }

    #[test]
    fn a_file_is_taken_once_with_the_folders_that_lead_to_it() {
        let (folders, files) = (set(&["a", "a/b", "c"]), set(&["a/b/x", "a/y", "c/z", "top"]));
        let layers =
            slice(&folders, &files, &of(&[&["a/b"], &["c/*", "a/b/x"], &["nothing"]])).expect("slices");
        assert_eq!(layers[0], ["", "a", "a/b", "a/b/x"]);
        assert_eq!(layers[1], ["", "c", "c/z"]);
        assert!(layers[2].is_empty());
        assert_eq!(layers[3], ["", "a", "a/y", "top"]);
    }

    #[test]
    fn what_is_all_taken_is_not_left() {
        let layers = slice(&set(&["a"]), &set(&["a/x"]), &of(&[&["*"]])).expect("slices");
        assert_eq!(layers, [vec!["", "a", "a/x"], vec![]]);
        let layers = slice(&set(&[]), &set(&["x"]), &[]).expect("slices");
        assert_eq!(layers, [["", "x"]]);
        assert!(matches!(slice(&set(&[]), &set(&["x"]), &of(&[&["["]])), Err(SliceError::Pattern(_))));
        assert_eq!(slice(&set(&[]), &set(&[]), &vec![Slice::default(); MOST + 1]), Err(SliceError::TooMany));
    }

    proptest! {
        #[test]
        fn every_file_is_in_one_layer(
            files in prop::collection::btree_set("([ab]/){0,2}[x-z]", 0..8),
            slices in prop::collection::vec(prop::collection::vec("([ab*]/){0,2}[x-z*]|[ab]|[ab]/[ab]", 0..3), 0..4),
        ) {
            let mut folders = BTreeSet::new();
            for file in &files {
                let mut path = file.as_str();
                while !path.is_empty() {
                    path = parent(path);
                    folders.insert(path.to_owned());
                }
            }
            let slices: Vec<_> = slices.into_iter().map(|paths| Slice { paths }).collect();
            let layers = slice(&folders, &files, &slices).expect("slices");
            prop_assert_eq!(layers.len(), slices.len() + 1);
            for file in &files {
                prop_assert_eq!(layers.iter().filter(|layer| layer.contains(file)).count(), 1);
            }
            for layer in &layers[..slices.len()] {
                prop_assert!(layer.iter().all(|path| path.is_empty() || layer.iter().any(|one| one == parent(path))));
            }
        }
    }
}
