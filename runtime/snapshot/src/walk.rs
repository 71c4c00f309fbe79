//! Going through a merged tree in order, however deep it is; or all of it at once, on all cores.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::directory::{Directory, Located};
use crate::error::{Context as _, Result, SnapshotError};
use crate::metadata::Metadata;
use crate::view::{Entry, View};

/// How many levels keep their directory open; further up they are opened anew when the walk comes back.
const OPEN_LEVELS: usize = 64;

/// Everything at and under a path: each directory before what is inside, names sorted. See [`View::walk`].
pub struct Walk {
    view: View,
    start: Option<Entry>,
    levels: Vec<Level>,
    /// The directory returned last, whose inside comes next.
    enter: Option<PathBuf>,
}

struct Level {
    path: PathBuf,
    directory: Option<Directory>,
    rest: std::collections::btree_map::IntoIter<OsString, Located>,
}

impl Walk {
    pub(crate) fn new(view: View, start: Entry) -> Self {
        Self { view, start: Some(start), levels: Vec::new(), enter: None }
    }

    /// Leaves out what is inside the directory returned last.
    pub fn skip_inside(&mut self) {
        self.enter = None;
    }

    fn descend(&mut self, path: PathBuf) -> Result<()> {
        let directory = match self.levels.last_mut() {
            Some(above) => {
                if above.directory.is_none() {
                    above.directory = self.view.directory(&above.path)?;
                }
                match (&above.directory, path.file_name()) {
                    (Some(above), Some(name)) => above.child_directory(name).within("open", &path)?,
                    _ => None,
                }
            }
            None => self.view.directory(&path)?,
        };
        // A directory that is none any more was changed under our hands.
        let directory = directory.ok_or_else(|| SnapshotError::ChangedDuringBuild { path: path.clone() })?;
        let rest = directory.list().within("list", &path)?.into_iter();
        if let Some(far_above) = self.levels.len().checked_sub(OPEN_LEVELS) {
            self.levels[far_above].directory = None;
        }
        self.levels.push(Level { path, directory: Some(directory), rest });
        Ok(())
    }

    fn returned(&mut self, entry: Entry) -> Entry {
        if entry.metadata.is_directory() {
            self.enter = Some(entry.path.clone());
        }
        entry
    }
}

/// How deep directories are listed side by side: each level takes stack, and descriptors on every core.
const PARALLEL_LEVELS: usize = 4;

/// In a tree of more layers each directory is many descriptors.
const FEW_LAYERS: usize = 3;

/// Returns what a [`Walk`] from `start` would; of a tree of few layers on all cores. Of many layers each directory is many
/// descriptors, and that on every core may be too many. Of a listed tree it is the list.
pub(crate) fn all(view: &View, start: Entry) -> Result<Vec<Entry>> {
    if !start.metadata.is_directory() || view.layers().len() > FEW_LAYERS {
        return Walk::new(view.clone(), start).collect();
    }
    if let Some(below) = view.told().and_then(|told| told.all_below(&start.path)) {
        let layer = start.layer;
        let entry =
            |(path, metadata): &(PathBuf, Metadata)| Entry { path: path.clone(), metadata: *metadata, layer };
        return Ok(std::iter::once(start.clone()).chain(below.iter().map(entry)).collect());
    }
    let path = start.path.clone();
    let directory = view.directory(&path)?;
    let inside = match directory {
        Some(directory) => inside(view, &path, &directory, 0)?,
        None => return Err(SnapshotError::ChangedDuringBuild { path }),
    };
    Ok(std::iter::once(start).chain(inside).collect())
}

/// Lists what is in the directory at `path`, with everything below.
fn inside(view: &View, path: &Path, directory: &Directory, level: usize) -> Result<Vec<Entry>> {
    let list = directory.list().within("list", path)?;
    let entries: Vec<(OsString, Entry)> = list
        .into_iter()
        .map(|(name, located)| {
            let entry = Entry::new(path.join(&name), located);
            (name, entry)
        })
        .collect();
    let directories: Vec<&(OsString, Entry)> =
        entries.iter().filter(|(_, entry)| entry.metadata.is_directory()).collect();
    let below = |(name, entry): &(OsString, Entry)| -> Result<Vec<Entry>> {
        if level >= PARALLEL_LEVELS {
            return Walk::new(view.clone(), entry.clone()).skip(1).collect();
        }
        let child = directory.child_directory(name).within("open", &entry.path)?;
        let child = child.ok_or_else(|| SnapshotError::ChangedDuringBuild { path: entry.path.clone() })?;
        inside(view, &entry.path, &child, level + 1)
    };
    let mut below = directories.into_par_iter().map(below).collect::<Result<Vec<Vec<Entry>>>>()?.into_iter();
    let mut all = Vec::with_capacity(entries.len());
    for (_, entry) in entries {
        let is_directory = entry.metadata.is_directory();
        all.push(entry);
        if is_directory {
            all.extend(below.next().into_iter().flatten());
        }
    }
    Ok(all)
}

impl Iterator for Walk {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(start) = self.start.take() {
            return Some(Ok(self.returned(start)));
        }
        if let Some(path) = self.enter.take()
            && let Err(error) = self.descend(path)
        {
            self.levels.clear();
            return Some(Err(error));
        }
        while let Some(level) = self.levels.last_mut() {
            if let Some((name, located)) = level.rest.next() {
                let path = level.path.join(name);
                return Some(Ok(self.returned(Entry::new(path, located))));
            }
            self.levels.pop();
        }
        None
    }
}
