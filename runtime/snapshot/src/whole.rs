//! What a whole tree, as the copy driver keeps it, changed against its parent: by comparing the two. So any two trees are
//! compared that do not stand on one another.
//!
//! In: the tree, what lies below. Out: the changes, as an upper directory would name them. What is alike in its metadata is
//! read on both sides, unless it is the same file.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::content::ContentDigest;
use crate::diff::{Diff, occupied, read_changes, with_deletions};
use crate::error::{Context as _, Result};
use crate::metadata::FileType;
use crate::view::{Entry, Follow, View};

/// Compares a whole tree with its parent's.
pub(crate) fn of_whole(directory: &Path, below: &View) -> Result<Diff> {
    compare(&View::new(vec![directory.to_owned()]), below)
}

/// Compares two trees: what makes `whole` of `below`.
pub(crate) fn compare(whole: &View, below: &View) -> Result<Diff> {
    let mut gone = Vec::new();
    let mut entries = Vec::new();
    // Candidates: both there, alike as far as metadata tells.
    let mut alike: Vec<(usize, Entry)> = Vec::new();
    let mut changed: HashSet<usize> = HashSet::new();
    // Names below of the directories on the way down.
    let mut levels: Vec<(usize, BTreeMap<OsString, Entry>)> = Vec::new();
    for entry in whole.walk("")? {
        let entry = entry?;
        let depth = entry.path.iter().count();
        while levels.last().is_some_and(|(level, _)| *level >= depth)
            && let Some((_, left)) = levels.pop()
        {
            gone.extend(left.into_values().map(|entry| entry.path));
        }
        let index = entries.len();
        let old = match entry.path.file_name() {
            None => below.lookup("", Follow::No)?,
            Some(name) => levels.last_mut().and_then(|(_, names)| names.remove(name)),
        };
        let was_directory = old.as_ref().is_some_and(|old| old.metadata.is_directory());
        match old {
            Some(old) if same_metadata(&entry, &old) => alike.push((index, old)),
            _ => {
                changed.insert(index);
            }
        }
        if entry.metadata.is_directory() {
            let names = if was_directory { below.read_dir(&entry.path)? } else { BTreeMap::new() };
            levels.push((depth, names));
        }
        entries.push(entry);
    }
    gone.extend(levels.into_iter().flat_map(|(_, left)| left.into_values().map(|entry| entry.path)));
    let differing = alike
        .par_iter()
        .map(|(index, old)| Ok((*index, !same_content(whole, &entries[*index], below, old)?)))
        .collect::<Result<Vec<_>>>()?;
    changed.extend(differing.into_iter().filter(|(_, differs)| *differs).map(|(index, _)| index));
    let changed = with_groups_and_parents(&entries, changed, &gone);
    let size_bytes = occupied(&entries);
    let entries: Vec<Entry> = entries
        .into_iter()
        .enumerate()
        .filter(|(index, _)| changed.contains(index))
        .map(|(_, entry)| entry)
        .collect();
    let changes = with_deletions(read_changes(whole, &entries, None)?, gone);
    Ok(Diff { changes, size_bytes, looks: None, continuing: None })
}

/// Adds all names of a changed file, and the directories above what changed.
fn with_groups_and_parents(entries: &[Entry], changed: HashSet<usize>, gone: &[PathBuf]) -> HashSet<usize> {
    let groups: HashSet<(u64, u64)> =
        changed.iter().filter_map(|index| entries[*index].metadata.hard_link_group()).collect();
    let mut all = changed;
    for (index, entry) in entries.iter().enumerate() {
        if entry.metadata.hard_link_group().is_some_and(|group| groups.contains(&group)) {
            all.insert(index);
        }
    }
    let mut above: HashSet<&Path> = HashSet::new();
    let parents =
        gone.iter().map(PathBuf::as_path).chain(all.iter().map(|index| entries[*index].path.as_path()));
    for path in parents {
        for parent in path.ancestors().skip(1) {
            if parent.as_os_str().is_empty() || !above.insert(parent) {
                break;
            }
        }
    }
    let parents: Vec<usize> = entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| above.contains(entry.path.as_path()))
        .map(|(index, _)| index)
        .collect();
    all.extend(parents);
    all
}

/// Whether the metadata says that nothing happened. The root's times say nothing: every change of a name moves them.
fn same_metadata(new: &Entry, old: &Entry) -> bool {
    let (new_is, old_is) = (&new.metadata, &old.metadata);
    let is_root = new.path.as_os_str().is_empty();
    new_is.same_attributes(old_is)
        && (is_root || new_is.modified_ns == old_is.modified_ns)
        && (new_is.is_directory() || new_is.size_bytes == old_is.size_bytes)
        && new_is.device_number == old_is.device_number
}

/// Whether two entries with equal metadata are equal in the rest: attributes, bytes, link target.
pub(crate) fn same_content(whole: &View, new: &Entry, below: &View, old: &Entry) -> Result<bool> {
    let inode = |entry: &Entry| (entry.metadata.device, entry.metadata.inode);
    if !new.metadata.is_directory() && inode(new) == inode(old) {
        return Ok(true);
    }
    if whole.xattrs(new)? != below.xattrs(old)? {
        return Ok(false);
    }
    match new.metadata.file_type {
        FileType::File => {
            let (new_file, old_file) = (whole.open(new)?, below.open(old)?);
            let digest = |file| ContentDigest::of_file(file).within("read", &new.path);
            Ok(digest(&new_file)? == digest(&old_file)?)
        }
        FileType::Symlink => Ok(whole.read_link(new)? == below.read_link(old)?),
        FileType::Directory
        | FileType::Fifo
        | FileType::Socket
        | FileType::CharDevice
        | FileType::BlockDevice => Ok(true),
    }
}
