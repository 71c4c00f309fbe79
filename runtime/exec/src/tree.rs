//! Paths inside a sandbox that does not exist yet.
//!
//! In: detached mounts, and where each will stand. Out: for a path inside, the place it leads to, free of symlinks, with
//! missing directories (and a file at the end, for files) made. The walk goes from descriptor to descriptor, follows
//! symlinks itself and never leaves the root; where a mount is planned it goes on in that mount.
//! **Invariant:** no path is ever given to the kernel whose middle could be a symlink.
//!
//! What is made for a mount to stand on is a [stub](crate::stubs) and vanishes afterwards.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::stubs::{StubBase, Stubs};

/// As many as the kernel follows.
const MAX_SYMLINKS: usize = 40;

/// How often, on one walk, somebody else may make what was about to be made. A neighbour who makes and removes one name
/// for ever does not keep us for ever.
const MAX_RACES: usize = 100;

/// What a mount needs to stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
}

/// A planned mount.
#[derive(Debug)]
struct Planned {
    /// Where it stands.
    at: Vec<OsString>,
    /// Its root; `None` if it will be made inside the sandbox, so that nothing of it can be seen now.
    top: Option<Rc<OwnedFd>>,
    /// Where stubs in it are remembered; `None` if they need not be removed.
    base: Option<StubBase>,
}

/// The mounts of a sandbox, seen from outside.
#[derive(Debug)]
pub(crate) struct Tree {
    // In this order: what is removed afterwards is removed when no descriptor holds the mounts any more.
    mounts: Vec<Planned>,
    stubs: Stubs,
}

/// A directory or file on a walk.
#[derive(Debug, Clone)]
struct Node {
    name: OsString,
    file: Option<Rc<OwnedFd>>,
    /// Index of the mount it is in, and its path there.
    mount: usize,
    path: PathBuf,
}

/// Where a path leads.
#[derive(Debug)]
pub(crate) struct Place {
    /// Its names from the root on, none a symlink.
    pub(crate) at: Vec<OsString>,
    /// What is there; `None` inside a mount that does not exist yet.
    file: Option<Rc<OwnedFd>>,
    /// Index of the mount it is in, and its path there.
    mount: usize,
    path: PathBuf,
}

impl Place {
    /// Returns the path from the root on, without a leading slash; `.` for the root itself.
    pub(crate) fn path(&self) -> Vec<u8> {
        join(&self.at)
    }

    /// Whether there is a directory; nothing inside a mount that does not exist yet.
    pub(crate) fn is_directory(&self) -> io::Result<Option<bool>> {
        let is_directory = |file: &Rc<OwnedFd>| Ok(file_type(file)? == FileType::Directory);
        self.file.as_ref().map(is_directory).transpose()
    }
}

/// Whether a place is another, or stands below it.
pub(crate) fn place_is_below(place: &Place, above: &Place) -> bool {
    place.at.starts_with(&above.at)
}

fn join(names: &[OsString]) -> Vec<u8> {
    if names.is_empty() {
        return b".".to_vec();
    }
    names.join(OsStr::new("/")).into_vec()
}

impl Tree {
    /// Begins with the root file system.
    pub(crate) fn new(root: OwnedFd, base: Option<OwnedFd>) -> Self {
        let mut tree = Self { mounts: Vec::new(), stubs: Stubs::default() };
        let base = base.map(|base| tree.stubs.base(base, PathBuf::new()));
        tree.mounts.push(Planned { at: Vec::new(), top: Some(Rc::new(root)), base });
        tree
    }

    /// Remembers that a mount will stand at `place`.
    ///
    /// `base` is the directory that receives what is made in the mount, and the path of the mount's root in it.
    pub(crate) fn mount(&mut self, place: &Place, top: Option<OwnedFd>, base: Option<(OwnedFd, PathBuf)>) {
        let base = base.map(|(directory, prefix)| self.stubs.base(directory, prefix));
        self.mounts.push(Planned { at: place.at.clone(), top: top.map(Rc::new), base });
    }

    /// Finds the place of `target`, making what is missing.
    pub(crate) fn place(&mut self, target: &str, kind: Kind) -> io::Result<Place> {
        let place = self.walk(Path::new(target), Some(kind))?.ok_or(Errno::NOENT)?;
        if let Some(file) = &place.file {
            let is_directory = file_type(file)? == FileType::Directory;
            match (kind, is_directory) {
                (Kind::Directory, false) => return Err(Errno::NOTDIR.into()),
                (Kind::File, true) => return Err(Errno::ISDIR.into()),
                _ => {}
            }
        }
        Ok(place)
    }

    /// Finds the place of `path`; nothing if it leads nowhere.
    pub(crate) fn find(&mut self, path: &str) -> io::Result<Option<Place>> {
        self.walk(Path::new(path), None)
    }

    /// Whether something exists at `path`.
    pub(crate) fn exists(&mut self, path: &str) -> io::Result<bool> {
        Ok(self.walk(Path::new(path), None)?.is_some())
    }

    /// Reads the regular file at `path`; nothing if there is none. At most `limit` bytes.
    pub(crate) fn read(&mut self, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        use io::Read as _;
        let Some(Place { file: Some(file), .. }) = self.walk(Path::new(path), None)? else { return Ok(None) };
        if file_type(&file)? != FileType::RegularFile {
            return Ok(None);
        }
        // The descriptor was opened with O_PATH; this opens the very same file for reading.
        let opened = reopen(&file, OFlags::RDONLY | OFlags::NOCTTY)?;
        let mut bytes = Vec::new();
        std::fs::File::from(opened).take(limit).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// To be called before what stands at `place` is put aside, in the directory `above`, for something else to stand there.
    pub(crate) fn put_aside(&mut self, place: &Place, above: &OwnedFd) -> io::Result<()> {
        match self.mounts.get(place.mount).and_then(|mount| mount.base) {
            // At its own place it is the mount that is put aside, which was remembered when that was put there.
            Some(base) if !place.path.as_os_str().is_empty() => {
                self.stubs.remember_above(base, &place.path, &rustix::fs::fstat(above)?)
            }
            _ => Ok(()),
        }
    }

    /// To be called when all has ended and before what was put aside comes back.
    pub(crate) fn judge(&mut self) {
        self.stubs.judge();
    }

    /// To be called when all places are made and before anything runs.
    pub(crate) fn settle(&mut self) {
        self.stubs.settle();
    }

    /// To be called when the sandbox has its mounts: lets go of those in `/dev`, in which no program is looked for.
    pub(crate) fn let_go_of_devices(&mut self) {
        self.mounts.retain(|mount| mount.at.first().is_none_or(|name| name != "dev"));
    }

    fn root(&self) -> Node {
        let (mount, planned) = self.planned_at(&[]).unwrap_or((0, None));
        Node { name: OsString::new(), file: planned, mount, path: PathBuf::new() }
    }

    /// The topmost mount that stands exactly at `at`.
    fn planned_at(&self, at: &[OsString]) -> Option<(usize, Option<Rc<OwnedFd>>)> {
        let index = self.mounts.iter().rposition(|mount| mount.at == at)?;
        let mount = self.mounts.get(index)?;
        Some((index, mount.top.clone()))
    }

    fn walk(&mut self, path: &Path, create: Option<Kind>) -> io::Result<Option<Place>> {
        let root = self.root();
        let mut stack: Vec<Node> = Vec::new();
        let mut queue: VecDeque<OsString> = names(path.as_os_str());
        let mut symlinks = 0;
        let mut races = 0;
        while let Some(name) = queue.pop_front() {
            if name == ".." {
                stack.pop();
                continue;
            }
            let current = stack.last().unwrap_or(&root);
            let mut at: Vec<OsString> = stack.iter().map(|node| node.name.clone()).collect();
            at.push(name.clone());
            if let Some((mount, file)) = self.planned_at(&at) {
                stack.push(Node { name, file, mount, path: PathBuf::new() });
                continue;
            }
            let (mount, path) = (current.mount, current.path.join(&name));
            let Some(directory) = current.file.clone() else {
                stack.push(Node { name, file: None, mount, path });
                continue;
            };
            match rustix::fs::statat(&*directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                    symlinks += 1;
                    if symlinks > MAX_SYMLINKS {
                        return Err(Errno::LOOP.into());
                    }
                    let target = rustix::fs::readlinkat(&*directory, &name, Vec::new())?;
                    let target = OsStr::from_bytes(target.to_bytes());
                    if target.as_bytes().starts_with(b"/") {
                        stack.clear();
                    }
                    for name in names(target).into_iter().rev() {
                        queue.push_front(name);
                    }
                    continue;
                }
                Ok(_) => {}
                Err(Errno::NOENT) => {
                    let Some(kind) = create else { return Ok(None) };
                    let kind = if queue.is_empty() { kind } else { Kind::Directory };
                    match self.create(mount, &directory, &name, &path, kind) {
                        Ok(()) => {}
                        // A directory that sandboxes share: another one was faster, with whatever it made.
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && races < MAX_RACES => {
                            races += 1;
                            queue.push_front(name);
                            continue;
                        }
                        Err(error) => return Err(error),
                    }
                }
                // A file stands where a directory should.
                Err(Errno::NOTDIR) if create.is_none() => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&*directory, &name, flags, Mode::empty())?;
            stack.push(Node { name, file: Some(Rc::new(file)), mount, path });
        }
        let Node { file, mount, path, .. } = stack.last().unwrap_or(&root).clone();
        Ok(Some(Place { at: stack.into_iter().map(|node| node.name).collect(), file, mount, path }))
    }

    fn create(
        &mut self,
        mount: usize,
        directory: &OwnedFd,
        name: &OsStr,
        path: &Path,
        kind: Kind,
    ) -> io::Result<()> {
        let base = self.mounts.get(mount).and_then(|mount| mount.base);
        if let Some(base) = base {
            self.stubs.remember(base, path, kind, &rustix::fs::fstat(directory)?)?;
        }
        let made = match kind {
            Kind::Directory => rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(0o755)),
            // Not opened: a descriptor open for writing would keep the mount from becoming read-only.
            Kind::File => {
                let mode = Mode::from_raw_mode(0o644);
                rustix::fs::mknodat(directory, name, FileType::RegularFile, mode, 0)
            }
        };
        if let Err(error) = made {
            if base.is_some() {
                self.stubs.forget();
            }
            return Err(error.into());
        }
        if kind == Kind::Directory {
            // Whatever the umask of this process: a command may come to keep files in it. By descriptor, since in a
            // directory that is shared a link may have taken its place by now.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = rustix::fs::openat(directory, name, flags, Mode::empty())?;
            rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))?;
        }
        Ok(())
    }
}

fn names(path: &OsStr) -> VecDeque<OsString> {
    path.as_bytes()
        .split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .map(|name| OsStr::from_bytes(name).to_owned())
        .collect()
}

/// Returns the type of an open file.
pub(crate) fn file_type(file: &OwnedFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode))
}

/// Opens the file of an O_PATH descriptor anew.
pub(crate) fn reopen(file: &OwnedFd, flags: OFlags) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd as _;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests;
