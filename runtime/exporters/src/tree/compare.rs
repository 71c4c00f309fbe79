//! What of a tree is at its destination already.
//!
//! In: entries of the tree and what lies at the destination. Out: for each whether it is the same, and how much was, was not,
//! and is there without being in the tree. Looks only: no link at the destination is followed, nothing is written.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rb_snapshot::{Entry, FileType};

use super::{TreeReport, TreeWriter, join, metadata_of};
use crate::Result;
use crate::error::Context as _;

/// What is to be done with one entry of a directory.
pub(super) struct Step {
    pub(super) entry: Entry,
    pub(super) relative: PathBuf,
    /// The same is there already.
    pub(super) is_same: bool,
}

impl TreeWriter<'_> {
    /// Compares the tree with the directory at `dest`; parents before what is in them.
    pub(super) fn compare(&self, top: &Entry, dest: &Path) -> Result<(Vec<Step>, TreeReport)> {
        let mut report = TreeReport::default();
        let mut steps = Vec::new();
        // Real directories at the destination: what lies below a link there is not looked at.
        let mut directories = BTreeSet::<PathBuf>::new();
        let is_written = |entry: &Entry| entry.metadata.file_type != FileType::Socket;
        let walked = self.view.walk(&top.path)?.filter(|entry| entry.as_ref().map_or(true, is_written));
        let entries = walked.collect::<std::result::Result<Vec<_>, _>>()?;
        self.expect(&entries);
        for entry in entries {
            let relative = entry.path.strip_prefix(&top.path).unwrap_or(&entry.path).to_owned();
            let reachable = relative.parent().is_none_or(|parent| directories.contains(parent));
            let old = if reachable { metadata_of(&join(dest, &relative))? } else { None };
            if old.as_ref().is_some_and(Metadata::is_dir) {
                directories.insert(relative.clone());
            }
            let is_same = self.is_same(&entry, &join(dest, &relative), old.as_ref())?;
            *(if is_same { &mut report.unchanged } else { &mut report.written }) += 1;
            if is_same && entry.metadata.file_type != FileType::Directory {
                self.count(1, 0);
            }
            steps.push(Step { entry, relative, is_same });
        }
        let kept: BTreeSet<&Path> = steps.iter().map(|step| step.relative.as_path()).collect();
        for directory in &directories {
            let path = join(dest, directory);
            for child in fs::read_dir(&path).context("list", &path)? {
                let name: OsString = child.context("list", &path)?.file_name();
                report.removed += u64::from(!kept.contains(directory.join(name).as_path()));
            }
        }
        Ok((steps, report))
    }

    /// Says whether type, mode, content and, where they are kept, owner and time are those of `entry`.
    pub(super) fn is_same(&self, entry: &Entry, path: &Path, old: Option<&Metadata>) -> Result<bool> {
        let Some(old) = old else { return Ok(false) };
        let new = &entry.metadata;
        let owner = !self.options.keep_owner || (old.uid(), old.gid()) == (new.uid, new.gid);
        let old_ns = old.mtime().saturating_mul(1_000_000_000).saturating_add(old.mtime_nsec());
        let time = !self.options.keep_times || old_ns == new.modified_ns;
        let mode = old.mode() & 0o7777 == self.mode_of(new);
        let kind = old.file_type();
        Ok(match new.file_type {
            FileType::Directory => kind.is_dir() && mode && owner,
            FileType::Symlink => {
                kind.is_symlink()
                    && owner
                    && fs::read_link(path).context("read", path)? == self.view.read_link(entry)?
            }
            FileType::File => {
                kind.is_file()
                    && mode
                    && owner
                    && time
                    && old.len() == new.size_bytes
                    && self.has_content_of(entry, path)?
            }
            FileType::Fifo | FileType::CharDevice | FileType::BlockDevice | FileType::Socket => false,
        })
    }

    fn has_content_of(&self, entry: &Entry, path: &Path) -> Result<bool> {
        let mut new = self.view.open(entry)?;
        let mut old = File::open(path).context("open", path)?;
        let (mut one, mut two) = (vec![0; 64 << 10], vec![0; 64 << 10]);
        let mut alike = 0;
        loop {
            let count = read_full(&mut new, &mut one).context("read", &entry.path)?;
            if count != read_full(&mut old, &mut two).context("read", path)? || one[..count] != two[..count] {
                // All of it is to be written.
                if let Some(tally) = &self.options.tally {
                    tally.take_back(alike);
                }
                return Ok(false);
            }
            if count == 0 {
                return Ok(true);
            }
            alike += count as u64;
            self.count(0, count as u64);
        }
    }
}

fn read_full(from: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match from.read(&mut buffer[count..]) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}
