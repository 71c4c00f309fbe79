//! Local artifacts: part of a tree becomes files of the user.
//!
//! A file replaces what is at its destination; a directory replaces the whole directory there, as Earthly's `SAVE
//! ARTIFACT … AS LOCAL` does. Both are made beside the destination and renamed. Files that are the same already keep their inode
//! and times (a new directory takes them over by hard link); where nothing differs, nothing is touched. Modes are
//! kept; owners and times on request; extended attributes are not. Links at the destination are replaced, never
//! followed, but for one at its top that a user named ([`TreeOptions::follow`]). Merging writes into a directory instead, file by
//! file, and removes nothing that the tree does not have.

mod compare;

use std::collections::{BTreeMap, btree_map};
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rb_snapshot::{Entry, FileType, Follow, Tally, View};
use rustix::fs::{AtFlags, CWD, Mode, Timespec, Timestamps};

use self::compare::Step;
use crate::error::Context as _;
use crate::layer::write_entry;
use crate::layout::put_bytes;
use crate::place::{self, Beside, Left, follow, settle};
use crate::tar_stream::TarStream;
use crate::{Epoch, ExportError, Precious, Result};

/// How to write a tree.
#[derive(Clone, Debug, Default)]
pub struct TreeOptions {
    /// The directory outside of which nothing may be written, symlinks resolved.
    pub within: Option<PathBuf>,
    /// Files written get the times they have in the tree, rather than the present.
    pub keep_times: bool,
    /// Files written get the owners they have in the tree, rather than the user.
    pub keep_owner: bool,
    /// Names of one file in the tree are names of one file here, too.
    pub keep_links: bool,
    /// A directory that is there keeps what the tree does not have.
    pub merge: bool,
    /// Directories that are not replaced.
    pub precious: Precious,
    /// A link at the destination is followed, as Docker does with `-o`; else it is replaced, as Earthly does.
    pub follow: bool,
    /// Hears how much there is to compare and write, and how far it is.
    pub tally: Option<Arc<Tally>>,
}

impl TreeOptions {
    /// Returns what a destination stands for.
    fn place(&self, dest: &Path) -> Result<PathBuf> {
        if self.follow { follow(dest) } else { Ok(dest.to_owned()) }
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeReport {
    /// Files, links and directories that were made or changed.
    pub written: u64,
    /// Those that were as they should be.
    pub unchanged: u64,
    /// Those that were in the directory and are not in the tree.
    pub removed: u64,
    /// Content of the files written.
    pub size_bytes: u64,
}

/// Makes `dest` what `path` in the view is: a file, a link or a directory with all in it. Parents are made.
pub fn write_tree(
    view: &View,
    path: impl AsRef<Path>,
    dest: &Path,
    options: &TreeOptions,
) -> Result<TreeReport> {
    let path = path.as_ref();
    let entry = view.lookup(path, Follow::No)?.ok_or_else(|| ExportError::NotFound(path.to_owned()))?;
    let dest = settle(&options.place(dest)?, options.within.as_deref(), &options.precious)?;
    let writer = TreeWriter { view, options };
    match how(&entry, &dest, options)? {
        How::Merge => writer.merge_directory(&entry, &dest),
        How::Replace => writer.write_directory(&entry, &dest),
        How::Single => writer.write_single(&entry, &dest),
    }
}

/// Refuses what [`write_tree`] refuses because of the place and of what is there, and writes nothing.
pub fn check_tree(view: &View, path: impl AsRef<Path>, dest: &Path, options: &TreeOptions) -> Result<()> {
    let path = path.as_ref();
    let entry = view.lookup(path, Follow::No)?.ok_or_else(|| ExportError::NotFound(path.to_owned()))?;
    let dest = place::check(&options.place(dest)?, options.within.as_deref(), &options.precious)?;
    how(&entry, &dest, options).map(drop)
}

/// What is done with what is at a destination.
enum How {
    /// A directory takes in what is new.
    Merge,
    /// A directory takes its place.
    Replace,
    /// A file or link takes its place.
    Single,
}

fn how(entry: &Entry, dest: &Path, options: &TreeOptions) -> Result<How> {
    let old = metadata_of(dest)?;
    let is_directory = old.as_ref().is_some_and(Metadata::is_dir);
    match entry.metadata.file_type {
        FileType::Directory if options.merge && is_directory => Ok(How::Merge),
        FileType::Directory if options.merge && old.is_some_and(|old| old.is_file()) => {
            Err(ExportError::IsFile(dest.to_owned()))
        }
        FileType::Directory => options.precious.check_replaced(dest).map(|()| How::Replace),
        _ if is_directory => Err(ExportError::IsDirectory(dest.to_owned())),
        _ => Ok(How::Single),
    }
}

/// Writes the subtree at `path` as a tar with names relative to it; a single file under its own name. With an epoch,
/// later times become that. `tally` hears how far it is.
pub fn write_tar(
    view: &View,
    path: impl AsRef<Path>,
    epoch: Option<Epoch>,
    out: impl Write,
    tally: &Tally,
) -> Result<()> {
    write_tar_with(view, path, epoch, &[], out, tally)
}

/// Writes the same, and behind it small files by their names.
pub fn write_tar_with(
    view: &View,
    path: impl AsRef<Path>,
    epoch: Option<Epoch>,
    files: &[(String, Vec<u8>)],
    out: impl Write,
    tally: &Tally,
) -> Result<()> {
    let path = path.as_ref();
    let top = view.lookup(path, Follow::No)?.ok_or_else(|| ExportError::NotFound(path.to_owned()))?;
    let epoch = epoch.unwrap_or(Epoch(i64::MAX));
    let mut entries = match top.metadata.file_type {
        FileType::Directory => view.walk(&top.path)?.collect::<std::result::Result<Vec<_>, _>>()?,
        _ => vec![top.clone()],
    };
    entries.sort_by(|a, b| a.path.as_os_str().cmp(b.path.as_os_str()));
    let base = match top.metadata.file_type {
        FileType::Directory => top.path.as_path(),
        _ => top.path.parent().unwrap_or(Path::new("")),
    };
    tally.expect(0, entries.iter().map(content_bytes).sum());
    let mut stream = TarStream::new(io::BufWriter::with_capacity(256 << 10, out)).counted(Some(tally));
    let mut leaders = Leaders::new();
    for entry in &entries {
        let name = entry.path.strip_prefix(base).unwrap_or(&entry.path);
        if name.as_os_str().is_empty() {
            continue;
        }
        let metadata = &entry.metadata;
        let mut leader = None;
        if metadata.links > 1 && metadata.file_type != FileType::Directory {
            match leaders.entry((metadata.device, metadata.inode)) {
                btree_map::Entry::Occupied(first) => leader = Some(first.get().clone()),
                btree_map::Entry::Vacant(place) => drop(place.insert(name.to_owned())),
            }
        }
        write_entry(&mut stream, view, entry, name, leader.as_deref(), &view.xattrs(entry)?, epoch)?;
    }
    for (name, bytes) in files {
        put_bytes(&mut stream, Path::new(name), bytes)?;
    }
    stream.finish()?.flush().map_err(ExportError::Write)
}

/// As [`write_tar_with`], of all of a tree into a file that its user named: see [`place::write_archive`]. Returns its size.
pub fn write_tar_file(
    view: &View,
    epoch: Epoch,
    files: &[(String, Vec<u8>)],
    dest: &Path,
    tally: &Tally,
) -> Result<u64> {
    place::write_archive(dest, |file| write_tar_with(view, "/", Some(epoch), files, file, tally))
}

/// Returns the length of a file's content; nothing of anything else.
fn content_bytes(entry: &Entry) -> u64 {
    if entry.metadata.file_type == FileType::File { entry.metadata.size_bytes } else { 0 }
}

/// Where files that have several names were made first, by device and inode.
type Leaders = BTreeMap<(u64, u64), PathBuf>;

struct TreeWriter<'a> {
    view: &'a View,
    options: &'a TreeOptions,
}

impl TreeWriter<'_> {
    fn write_single(&self, entry: &Entry, dest: &Path) -> Result<TreeReport> {
        let old = metadata_of(dest)?;
        self.expect(std::slice::from_ref(entry));
        if self.is_same(entry, dest, old.as_ref())? {
            self.count(1, 0);
            return Ok(TreeReport { unchanged: 1, ..TreeReport::default() });
        }
        let beside = Beside::new(dest)?;
        let size_bytes = self.make(entry, beside.path())?;
        beside.put()?;
        Ok(TreeReport { written: 1, size_bytes, ..TreeReport::default() })
    }

    fn write_directory(&self, top: &Entry, dest: &Path) -> Result<TreeReport> {
        let (steps, mut report) = self.compare(top, dest)?;
        if report.written == 0 && report.removed == 0 {
            return Ok(report);
        }
        let beside = Beside::new(dest)?;
        let mut leaders = Leaders::default();
        for Step { entry, relative, is_same } in &steps {
            let target = join(beside.path(), relative);
            if entry.metadata.file_type == FileType::Directory {
                fs::create_dir(&target).context("create", &target)?;
            } else if let Some(first) = self.leader(&mut leaders, entry, &target) {
                fs::hard_link(first, &target).context("link", &target)?;
            } else if !*is_same || fs::hard_link(dest.join(relative), &target).is_err() {
                // Where the file system has no more links, the file is written anew.
                report.size_bytes += self.make(entry, &target)?;
            }
        }
        // Only now: a directory may be read-only, and what is put into it changes its time.
        for Step { entry, relative, .. } in steps.iter().rev() {
            if entry.metadata.file_type == FileType::Directory {
                self.finish(entry, &join(beside.path(), relative))?;
            }
        }
        beside.put_directory()?;
        Ok(report)
    }

    /// Writes into the directory at `dest`, each file beside its place and renamed. A file gives way to a directory and
    /// a link to anything; a directory gives way to nothing. The mode of a directory that is there stays.
    fn merge_directory(&self, top: &Entry, dest: &Path) -> Result<TreeReport> {
        let (steps, mut report) = self.compare(top, dest)?;
        report.removed = 0;
        let (mut left, mut leaders) = (Left::default(), Leaders::default());
        let mut made = Vec::new();
        for Step { entry, relative, is_same } in &steps {
            let target = join(dest, relative);
            let old = metadata_of(&target)?;
            if entry.metadata.file_type == FileType::Directory {
                if old.as_ref().is_some_and(Metadata::is_dir) {
                    continue;
                }
                if old.is_some() {
                    fs::remove_file(&target).context("replace", &target)?;
                }
                fs::create_dir(&target).context("create", &target)?;
                made.push((entry, target));
            } else if !*is_same {
                if old.as_ref().is_some_and(Metadata::is_dir) {
                    return Err(ExportError::IsDirectory(target));
                }
                let beside = Beside::among(&target, &mut left)?;
                match self.leader(&mut leaders, entry, &target) {
                    Some(first) => fs::hard_link(first, beside.path()).context("link", &target)?,
                    None => report.size_bytes += self.make(entry, beside.path())?,
                }
                beside.put()?;
            }
        }
        made.iter().rev().try_for_each(|(entry, target)| self.finish(entry, target))?;
        Ok(report)
    }

    /// Returns where a file was made under another of its names; else this place becomes the one that others are linked to.
    fn leader<'a>(&self, leaders: &'a mut Leaders, entry: &Entry, target: &Path) -> Option<&'a Path> {
        let metadata = &entry.metadata;
        if !self.options.keep_links || metadata.links < 2 {
            return None;
        }
        match leaders.entry((metadata.device, metadata.inode)) {
            btree_map::Entry::Occupied(first) => {
                self.count(1, content_bytes(entry));
                Some(first.into_mut())
            }
            btree_map::Entry::Vacant(place) => {
                place.insert(target.to_owned());
                None
            }
        }
    }

    /// Returns the bits that a file gets: of files that become the user's own, none that lends its owner's rights.
    fn mode_of(&self, metadata: &rb_snapshot::Metadata) -> u32 {
        let lends = metadata.file_type == FileType::File && !self.options.keep_owner;
        if lends { metadata.mode & !0o6000 } else { metadata.mode }
    }

    /// Says what there is to be compared and written.
    fn expect(&self, entries: &[Entry]) {
        if let Some(tally) = &self.options.tally {
            let files = entries.iter().filter(|entry| entry.metadata.file_type != FileType::Directory);
            tally.expect(files.count() as u64, entries.iter().map(content_bytes).sum());
        }
    }

    fn count(&self, files: u64, bytes: u64) {
        if let Some(tally) = &self.options.tally {
            tally.add(files, bytes);
        }
    }

    /// Copies a file by pieces, so that a long one is seen to go on; returns its length.
    fn copy(&self, from: &mut File, to: &mut File) -> io::Result<u64> {
        const PIECE_BYTES: u64 = 16 << 20;
        let mut copied = 0;
        loop {
            let count = io::copy(&mut Read::take(&mut *from, PIECE_BYTES), to)?;
            copied += count;
            self.count(0, count);
            if count < PIECE_BYTES {
                return Ok(copied);
            }
        }
    }

    /// Makes a file, link or device where nothing is, and counts it. Returns the bytes of its content.
    fn make(&self, entry: &Entry, target: &Path) -> Result<u64> {
        let size_bytes = self.make_one(entry, target)?;
        self.count(1, 0);
        Ok(size_bytes)
    }

    fn make_one(&self, entry: &Entry, target: &Path) -> Result<u64> {
        let metadata = &entry.metadata;
        let (kind, device) = match metadata.file_type {
            FileType::Symlink => {
                let link = self.view.read_link(entry)?;
                symlink(link, target).context("link", target)?;
                self.finish(entry, target)?;
                return Ok(0);
            }
            FileType::File => {
                let mut file = File::create_new(target).context("create", target)?;
                let size_bytes =
                    self.copy(&mut self.view.open(entry)?, &mut file).context("write", target)?;
                self.finish(entry, target)?;
                return Ok(size_bytes);
            }
            FileType::CharDevice | FileType::BlockDevice if !self.options.keep_owner => {
                return Err(ExportError::Device { path: target.to_owned() });
            }
            FileType::Fifo => (rustix::fs::FileType::Fifo, (0, 0)),
            FileType::CharDevice => (rustix::fs::FileType::CharacterDevice, metadata.device_number),
            FileType::BlockDevice => (rustix::fs::FileType::BlockDevice, metadata.device_number),
            FileType::Directory | FileType::Socket => return Ok(0),
        };
        let number = rustix::fs::makedev(device.0, device.1);
        rustix::fs::mknodat(CWD, target, kind, Mode::RUSR | Mode::WUSR, number).context("create", target)?;
        self.finish(entry, target)?;
        Ok(0)
    }

    /// Sets owner, mode and times; in this order, since a new owner clears bits of the mode.
    fn finish(&self, entry: &Entry, target: &Path) -> Result<()> {
        let metadata = &entry.metadata;
        if self.options.keep_owner {
            std::os::unix::fs::lchown(target, Some(metadata.uid), Some(metadata.gid))
                .context("chown", target)?;
        }
        if metadata.file_type != FileType::Symlink {
            fs::set_permissions(target, fs::Permissions::from_mode(self.mode_of(metadata)))
                .context("chmod", target)?;
        }
        if self.options.keep_times {
            let time = Timespec {
                tv_sec: metadata.modified_ns.div_euclid(1_000_000_000),
                tv_nsec: metadata.modified_ns.rem_euclid(1_000_000_000),
            };
            let times = Timestamps { last_access: time, last_modification: time };
            rustix::fs::utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW)
                .context("set the time of", target)?;
        }
        Ok(())
    }
}

/// `Path::join` with an empty path would add a slash, which follows a link.
fn join(base: &Path, relative: &Path) -> PathBuf {
    if relative.as_os_str().is_empty() { base.to_owned() } else { base.join(relative) }
}

fn metadata_of(path: &Path) -> Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error).context("look at", path),
    }
}

#[cfg(test)]
mod tests;
