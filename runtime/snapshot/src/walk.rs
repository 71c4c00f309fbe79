//! Going through a merged tree in order, however deep it is.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::directory::{Directory, Located};
use crate::error::{Context as _, Result, SnapshotError};
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
