//! What was made only for mounts to stand on, and its removal.
//!
//! Where a mount's target is missing, a *stub* is made: an empty directory or file. It is made through the mount, so
//! that an overlay copies parents up as usual. Afterwards it is removed from the directory beneath (the overlay's upper
//! directory), where no whiteout comes of it, and every parent that nobody else touched is put back too: one that was
//! only copied up is removed again, any other gets its old modification time. One that the command touched keeps the time
//! that the command gave it, or, if it gave none, the one it had. So stubs never enter a diff.
//!
//! **Invariant:** only empty things are removed, and only by paths without symlinks beneath the directory.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rb_sys::resolve::open_resolved;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use crate::tree::Kind;

/// A directory that stubs are made in, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StubBase(usize);

#[derive(Debug)]
struct Base {
    directory: OwnedFd,
    /// Path of the mount's root in it.
    prefix: PathBuf,
}

#[derive(Debug)]
struct Stub {
    base: usize,
    path: PathBuf,
    kind: Kind,
    /// A whiteout was here; it hides something of a lower layer and has to come back.
    whiteout: bool,
}

#[derive(Debug)]
struct Parent {
    base: usize,
    path: PathBuf,
    /// As it was; `None` if the directory beneath did not have it.
    before: Option<Stat>,
    /// When it was modified, as the command was to see it, before a stub was made in it; `None` if none is.
    modified: Option<Timespec>,
    /// As it is when all stubs are made.
    after: Option<Stat>,
}

/// All stubs of a sandbox. Dropping it removes them.
#[derive(Debug, Default)]
pub(crate) struct Stubs {
    bases: Vec<Base>,
    stubs: Vec<Stub>,
    parents: Vec<Parent>,
    settled: bool,
    /// What becomes of each parent, if that was decided before the end.
    fates: Option<Vec<Fate>>,
}

impl Stubs {
    pub(crate) fn base(&mut self, directory: OwnedFd, prefix: PathBuf) -> StubBase {
        self.bases.push(Base { directory, prefix });
        StubBase(self.bases.len() - 1)
    }

    /// To be called before a stub is made at `path` of the mount, in a directory that looks like `above` there.
    pub(crate) fn remember(
        &mut self,
        StubBase(base): StubBase,
        path: &Path,
        kind: Kind,
        above: &Stat,
    ) -> io::Result<()> {
        self.remember_above(StubBase(base), path, above)?;
        let Some(at) = self.bases.get(base) else { return Ok(()) };
        let path = at.prefix.join(path);
        let parent = path.parent().unwrap_or(Path::new(""));
        let whiteout = match (open_directory(&at.directory, parent), path.file_name()) {
            (Ok(directory), Some(name)) => rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| is_whiteout(&stat)),
            _ => false,
        };
        self.stubs.push(Stub { base, path, kind, whiteout });
        Ok(())
    }

    /// To be called before something at `path` of the mount is put aside or made, in a directory that looks like `above` there.
    pub(crate) fn remember_above(
        &mut self,
        StubBase(base): StubBase,
        path: &Path,
        above: &Stat,
    ) -> io::Result<()> {
        let Some(at) = self.bases.get(base) else { return Ok(()) };
        let path = at.prefix.join(path);
        let parent = path.parent().unwrap_or(Path::new(""));
        for ancestor in parent.ancestors() {
            let known = self.parents.iter().any(|known| known.base == base && known.path == ancestor)
                || self.stubs.iter().any(|known| known.base == base && known.path == ancestor);
            if known {
                continue;
            }
            let before = match open_directory(&at.directory, ancestor) {
                Ok(directory) => Some(rustix::fs::fstat(&directory)?),
                Err(Errno::NOENT) => None,
                Err(error) => return Err(error.into()),
            };
            self.parents.push(Parent {
                base,
                path: ancestor.to_owned(),
                before,
                modified: None,
                after: None,
            });
        }
        let known = self.parents.iter_mut().find(|known| known.base == base && known.path == parent);
        if let Some(known) = known {
            known.modified.get_or_insert_with(|| modified(above));
        }
        Ok(())
    }

    /// The stub remembered last could not be made.
    pub(crate) fn forget(&mut self) {
        self.stubs.pop();
    }

    /// To be called when all stubs are made and before anything runs.
    pub(crate) fn settle(&mut self) {
        self.settled = true;
        for parent in &mut self.parents {
            let base = self.bases.get(parent.base);
            parent.after = base
                .and_then(|base| open_directory(&base.directory, &parent.path).ok())
                .and_then(|directory| rustix::fs::fstat(&directory).ok());
        }
    }

    /// Decides what becomes of the directories around stubs, as they are now: what is done to them from here on is not the
    /// command's doing.
    pub(crate) fn judge(&mut self) {
        if !self.settled {
            // Nothing ran, so everything is as we left it.
            self.settle();
        }
        let fates = self.parents.iter().map(|parent| self.fate(parent)).collect();
        self.fates.get_or_insert(fates);
    }

    fn remove(&mut self) -> io::Result<()> {
        // What is to become of each is decided before the removals, which touch.
        self.judge();
        let fates = self.fates.take().unwrap_or_default();
        for stub in self.stubs.iter().rev() {
            let Some(base) = self.bases.get(stub.base) else { continue };
            remove_stub(base, stub)?;
        }
        let mut parents: Vec<(&Parent, Fate)> = self.parents.iter().zip(fates).collect();
        // The deepest first: a parent empties when its children go.
        parents.sort_by_key(|(parent, _)| std::cmp::Reverse(parent.path.components().count()));
        for (parent, fate) in parents {
            let Some(base) = self.bases.get(parent.base) else { continue };
            match fate {
                Fate::Restored => restore(base, parent)?,
                Fate::Modified(time) => set_modified(base, &parent.path, time)?,
                Fate::Gone => {}
            }
        }
        Ok(())
    }

    fn fate(&self, parent: &Parent) -> Fate {
        let Some(base) = self.bases.get(parent.base) else { return Fate::Gone };
        let now = open_directory(&base.directory, &parent.path).and_then(rustix::fs::fstat);
        let (Ok(now), Some(after)) = (now, &parent.after) else { return Fate::Gone };
        let looks = |stat: &Stat| {
            (
                stat.st_ino,
                stat.st_mode,
                stat.st_uid,
                stat.st_gid,
                stat.st_nlink,
                stat.st_ctime,
                stat.st_ctime_nsec,
            )
        };
        if looks(&now) == looks(after) {
            return Fate::Restored;
        }
        // What is done to a file in it, as to have it copied up, changes it and not its time.
        let is_ours = now.st_ino == after.st_ino && modified(&now) == modified(after);
        Fate::Modified(parent.modified.filter(|_| is_ours).unwrap_or(modified(&now)))
    }
}

/// What becomes of a directory that stubs were made in.
#[derive(Debug)]
enum Fate {
    /// Nobody touched it: it is as it was.
    Restored,
    /// It was touched: it keeps this modification time.
    Modified(Timespec),
    /// It is not there any more.
    Gone,
}

fn modified(stat: &Stat) -> Timespec {
    Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ }
}

fn set_modified(base: &Base, path: &Path, time: Timespec) -> io::Result<()> {
    let directory = open_directory(&base.directory, path)?;
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: time,
    };
    Ok(rustix::fs::utimensat(&directory, ".", &times, AtFlags::empty())?)
}

impl Drop for Stubs {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            // The result is right all the same; it only holds an empty file or directory more.
            tracing::warn!(%error, "cannot remove the mount points of a sandbox");
        }
    }
}

fn remove_stub(base: &Base, stub: &Stub) -> io::Result<()> {
    let (Some(parent), Some(name)) = (stub.path.parent(), stub.path.file_name()) else { return Ok(()) };
    let directory = match open_directory(&base.directory, parent) {
        Ok(directory) => directory,
        // The command moved or removed it, or put something else in its place.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let stat = match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let flags = match (stub.kind, FileType::from_raw_mode(stat.st_mode)) {
        (Kind::Directory, FileType::Directory) => AtFlags::REMOVEDIR,
        (Kind::File, FileType::RegularFile) if stat.st_size == 0 => AtFlags::empty(),
        _ => return Ok(()),
    };
    match rustix::fs::unlinkat(&directory, name, flags) {
        Ok(()) => {}
        Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    if stub.whiteout {
        rustix::fs::mknodat(&directory, name, FileType::CharacterDevice, Mode::empty(), 0)?;
    }
    Ok(())
}

fn restore(base: &Base, parent: &Parent) -> io::Result<()> {
    match (&parent.before, parent.path.parent(), parent.path.file_name()) {
        (Some(before), ..) => set_modified(base, &parent.path, modified(before))?,
        (None, Some(above), Some(name)) => {
            let directory = open_directory(&base.directory, above)?;
            match rustix::fs::unlinkat(&directory, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        (None, ..) => {}
    }
    Ok(())
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn open_directory(base: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open_resolved(base, path, flags, resolve)
}
