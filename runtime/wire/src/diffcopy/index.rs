//! The list of a tree as it comes, checked entry by entry.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::entry::{Entry, Kind, compare};
use super::error::DiffCopyError;

/// How much is taken.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Entries of a tree.
    pub entries: usize,
    /// Bytes of all paths and targets.
    pub path_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 4_000_000, path_bytes: 1 << 29 }
    }
}

/// What the kernel takes of a path, without its NUL.
const PATH_BYTES: usize = 4095;
/// What the kernel takes of a name.
const NAME_BYTES: usize = 255;

/// A list under way.
pub(super) struct Index {
    limits: Limits,
    entries: Vec<Entry>,
    bytes: usize,
    /// The folders that the last entry lies in, outermost first, by their place.
    folders: Vec<usize>,
    /// Files that have a name already, where another name may follow.
    files: HashMap<String, u32>,
}

impl Index {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, entries: Vec::new(), bytes: 0, folders: Vec::new(), files: HashMap::new() }
    }

    /// Takes one more entry, or says what is wrong with it.
    pub(super) fn add(&mut self, entry: Entry) -> Result<(), DiffCopyError> {
        if self.entries.len() >= self.limits.entries.min(u32::MAX as usize) {
            return Err(DiffCopyError::TooMany {
                what: "entries in a tree",
                limit: self.limits.entries as u64,
            });
        }
        let target = match &entry.kind {
            Kind::HardLink { to } => to,
            Kind::Symlink { target } => target,
            Kind::Directory | Kind::File { .. } | Kind::Special => "",
        };
        self.bytes = self.bytes.saturating_add(entry.path.len() + target.len());
        if self.bytes > self.limits.path_bytes {
            return Err(DiffCopyError::TooMany {
                what: "bytes of paths",
                limit: self.limits.path_bytes as u64,
            });
        }
        check_path(&entry.path)?;
        if let Kind::Symlink { target } = &entry.kind
            && (target.is_empty() || target.len() > PATH_BYTES || target.contains('\0'))
        {
            return Err(DiffCopyError::entry(&entry.path, "no link can point where it does"));
        }
        if let Some(last) = self.entries.last()
            && compare(&last.path, &entry.path) != Ordering::Less
        {
            return Err(DiffCopyError::entry(&entry.path, "it is out of order"));
        }
        self.check_folder(&entry)?;
        let place = self.entries.len();
        match &entry.kind {
            Kind::Directory => self.folders.push(place),
            Kind::File { .. } => drop(self.files.insert(entry.path.clone(), place as u32)),
            Kind::HardLink { to } if !self.files.contains_key(to) => {
                return Err(DiffCopyError::entry(&entry.path, "the file whose name it shares was not told"));
            }
            Kind::HardLink { .. } | Kind::Symlink { .. } | Kind::Special => {}
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Looks whether the folder of an entry is there, and is one.
    fn check_folder(&mut self, entry: &Entry) -> Result<(), DiffCopyError> {
        let parent = entry.path.rsplit_once('/').map(|(parent, _)| parent);
        let entries = &self.entries;
        let is_above = |folder: &usize| {
            parent.is_some_and(|parent| {
                let rest = parent.strip_prefix(entries[*folder].path.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        while self.folders.last().is_some_and(|folder| !is_above(folder)) {
            self.folders.pop();
        }
        match (parent, self.folders.last()) {
            (None, _) => Ok(()),
            (Some(parent), Some(folder)) if self.entries[*folder].path == parent => Ok(()),
            (Some(_), _) => Err(DiffCopyError::entry(&entry.path, "its folder was not told, or is none")),
        }
    }

    pub(super) fn finish(self) -> Vec<Entry> {
        self.entries
    }
}

/// Refuses what is no way down from the top.
fn check_path(path: &str) -> Result<(), DiffCopyError> {
    let refuse = |reason| Err(DiffCopyError::entry(path, reason));
    if path.len() > PATH_BYTES {
        return refuse("its path is too long");
    }
    if path.contains('\0') {
        return refuse("its path holds a NUL");
    }
    for part in path.split('/') {
        match part {
            "" => return refuse("its path has a part without a name"),
            "." | ".." => return refuse("its path leads elsewhere"),
            _ if part.len() > NAME_BYTES => return refuse("a name in its path is too long"),
            _ => {}
        }
    }
    Ok(())
}
