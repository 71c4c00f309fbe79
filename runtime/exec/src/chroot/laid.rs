//! What is put into a root for one run, in place of mounts, and taken out again.
//!
//! In: a root, and what is [wanted](Wanted) where. What stands there is put aside, beside the root and on its file system; what is lent is
//! renamed into its place, what is made is made aside first. Out: the root as a sandbox would leave it, and an error if the
//! command did what a sandbox would not have let it do. Everything is held by descriptor: whatever the command renames
//! around it, it goes back to where it came from.
//! **Invariants:** when this is gone, so is all that was made, also after a failure; a secret is emptied before it is removed, so
//! that no other name of it holds anything.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rb_sys::resolve::open_resolved;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Uid};

use super::look::{Look, let_settle};
use crate::error::ExecError;
use crate::spec::Hidden;
use crate::tree::{Kind, Tree};

/// What is to stand somewhere.
pub(crate) enum Wanted<'a> {
    /// An empty directory, which is filled before it is shown.
    Directory { mode: u32, fill: fn(&OwnedFd) -> io::Result<()> },
    /// A file that nobody changes.
    File { content: &'a [u8], owner: (u32, u32), mode: u32 },
    /// The same, of which nothing may be left.
    Secret { content: &'a Hidden, owner: (u32, u32), mode: u32 },
    /// A file or directory of outside, by the directory it is in; nobody changes it if it is `readonly`.
    Lent { directory: OwnedFd, name: OsString, kind: Kind, readonly: bool },
}

/// A root with all that was put into it. Dropping it takes that out.
#[derive(Debug)]
pub(crate) struct Laid {
    root: OwnedFd,
    aside: Aside,
    placed: Vec<Placed>,
    /// How the root looks, if nobody may change it.
    root_before: Option<Look>,
    // Last: its stubs are removed when all else is out.
    pub(crate) tree: Tree,
}

/// Where things lie meanwhile.
#[derive(Debug)]
struct Aside {
    path: PathBuf,
    directory: OwnedFd,
}

#[derive(Debug)]
struct Placed {
    target: String,
    /// Where it stands: its directory, its name there, and its names from the root on.
    directory: OwnedFd,
    name: OsString,
    at: Vec<OsString>,
    /// Device and inode.
    is: (u64, u64),
    came: Came,
    readonly: bool,
    before: Option<Look>,
}

/// Where something came from.
#[derive(Debug)]
enum Came {
    From {
        directory: OwnedFd,
        name: OsString,
    },
    Made,
    /// A secret, open for writing.
    Secret(File),
}

/// What a command did that a sandbox would not have let it do.
type Forbidden = (String, &'static str);

impl Laid {
    /// Begins with the directory `root`.
    pub(crate) fn begin(root: &Path) -> Result<Self, ExecError> {
        let open_error = |source: io::Error| ExecError::Open { path: root.to_owned(), source };
        let directory = open_directory(root).map_err(open_error)?;
        let mut path = root.as_os_str().to_owned();
        path.push(".aside");
        let path = PathBuf::from(path);
        let made = std::fs::create_dir(&path).and_then(|()| open_directory(&path));
        let aside = Aside { directory: made.map_err(setup("put things aside"))?, path };
        let clone = || directory.try_clone().map_err(setup("duplicate a descriptor"));
        let tree = Tree::new(clone()?, Some(clone()?));
        Ok(Self { root: directory, aside, placed: Vec::new(), root_before: None, tree })
    }

    /// Returns the root.
    pub(crate) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Puts something at `target`, a path inside.
    pub(crate) fn put(&mut self, target: &str, wanted: Wanted<'_>) -> Result<(), ExecError> {
        let failed = |source: io::Error| ExecError::MountPoint { target: target.to_owned(), source };
        let kind = match &wanted {
            Wanted::Directory { .. } => Kind::Directory,
            Wanted::File { .. } | Wanted::Secret { .. } => Kind::File,
            Wanted::Lent { kind, .. } => *kind,
        };
        let readonly = match &wanted {
            Wanted::Directory { .. } => false,
            Wanted::File { .. } | Wanted::Secret { .. } => true,
            Wanted::Lent { readonly, .. } => *readonly,
        };
        let place = self.tree.place(target, kind).map_err(failed)?;
        let Some((name, above)) = place.at.split_last() else {
            return Err(ExecError::Target { target: target.to_owned(), problem: "is the root itself" });
        };
        let directory = self.open_inside(above).map_err(failed)?;
        self.tree.put_aside(&place, &directory).map_err(failed)?;
        let number = self.placed.len();
        let (from, from_name, came) = self.make(number, wanted).map_err(failed)?;
        let stays = aside_name(number);
        rename(&directory, name, &self.aside.directory, &stays).map_err(failed)?;
        if let Err(error) = rename(&from, &from_name, &directory, name) {
            // As it was; the first error tells.
            rename(&self.aside.directory, &stays, &directory, name).ok();
            return Err(failed(error));
        }
        let came = came.unwrap_or(Came::From { directory: from, name: from_name });
        let is_lent = matches!(came, Came::From { .. });
        self.placed.push(Placed {
            target: target.to_owned(),
            directory,
            name: name.clone(),
            at: place.at.clone(),
            is: (0, 0),
            came,
            readonly,
            before: None,
        });
        let Some(placed) = self.placed.last_mut() else { return Ok(()) };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || -> io::Result<OwnedFd> {
            Ok(rustix::fs::openat(&placed.directory, &placed.name, flags, Mode::empty())?)
        };
        let top = open().map_err(failed)?;
        let stat = rustix::fs::fstat(&top).map_err(|error| failed(error.into()))?;
        placed.is = (stat.st_dev, stat.st_ino);
        // Of what is thrown away nothing has to be removed.
        let base = (is_lent && kind == Kind::Directory).then(open).transpose().map_err(failed)?;
        self.tree.mount(&place, Some(top), base.map(|base| (base, PathBuf::new())));
        Ok(())
    }

    /// Opens the directory that was put at `target` last.
    pub(crate) fn open(&self, target: &str) -> Result<OwnedFd, ExecError> {
        let failed = |source: io::Error| ExecError::MountPoint { target: target.to_owned(), source };
        let placed = self.placed.iter().rfind(|placed| placed.target == target);
        let placed = placed.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&placed.directory, &placed.name, flags, Mode::empty())
            .map_err(|error| failed(error.into()))
    }

    /// To be called when all is in place and before anything runs. `readonly` says that nobody may change the root either.
    pub(crate) fn settle(&mut self, readonly: bool) -> Result<(), ExecError> {
        self.tree.settle();
        let looked = (|| {
            for number in 0..self.placed.len() {
                let look = self.look_at(number)?;
                if let Some(placed) = self.placed.get_mut(number) {
                    placed.before = look;
                }
            }
            self.root_before = if readonly { Some(self.look_at_root()?) } else { None };
            Ok(())
        })();
        looked.map_err(setup("look at what a command may not change"))?;
        let_settle();
        Ok(())
    }

    /// Takes everything out.
    ///
    /// # Errors
    /// `Forbidden` if the command did what a sandbox would not have let it do; everything is out then, too.
    pub(crate) fn take_out(mut self) -> Result<(), ExecError> {
        match self.undo().map_err(setup("take out of the root what was put there"))? {
            None => Ok(()),
            Some((target, what)) => Err(ExecError::Forbidden { target, what }),
        }
    }

    fn undo(&mut self) -> io::Result<Option<Forbidden>> {
        self.tree.judge();
        let mut forbidden = None;
        let mut note = |target: &str, what| {
            forbidden.get_or_insert_with(|| (target.to_owned(), what));
        };
        // All looks come first: what is taken out changes what it stood in.
        for (number, placed) in self.placed.iter().enumerate() {
            if !placed.stands() {
                note(&placed.target, "removed, renamed or replaced");
            } else if placed.before.is_some() && self.look_at(number)? != placed.before {
                note(&placed.target, "changed");
            }
        }
        let root_before = self.root_before.take();
        if root_before.is_some() && root_before != self.look_at_root().ok() {
            note("/", "changed");
        }
        let mut failure = None;
        for (number, placed) in std::mem::take(&mut self.placed).into_iter().enumerate().rev() {
            match self.aside.put_back(number, placed) {
                Ok(None) => {}
                Ok(Some((target, what))) => note(&target, what),
                // The others are taken out all the same.
                Err(error) => failure = Some(error),
            }
        }
        if let Err(error) = std::fs::remove_dir_all(&self.aside.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            failure = Some(error);
        }
        failure.map_or(Ok(forbidden), Err)
    }

    /// Makes what is not there; returns where it is.
    fn make(&self, number: usize, wanted: Wanted<'_>) -> io::Result<(OwnedFd, OsString, Option<Came>)> {
        let aside = &self.aside.directory;
        let name = OsString::from(format!("new-{number}"));
        let came = match wanted {
            Wanted::Lent { directory, name, .. } => return Ok((directory, name, None)),
            Wanted::Directory { mode, fill } => {
                let mode = Mode::from_raw_mode(mode);
                rustix::fs::mkdirat(aside, &name, mode)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = rustix::fs::openat(aside, &name, flags, Mode::empty())?;
                // Whatever the umask.
                rustix::fs::fchmod(&made, mode)?;
                fill(&made)?;
                Came::Made
            }
            Wanted::File { content, owner, mode } => {
                write_file(aside, &name, content, owner, mode)?;
                Came::Made
            }
            Wanted::Secret { content, owner, mode } => {
                Came::Secret(write_file(aside, &name, content.bytes(), owner, mode)?)
            }
        };
        Ok((aside.try_clone()?, name, Some(came)))
    }

    fn look_at(&self, number: usize) -> io::Result<Option<Look>> {
        let Some(placed) = self.placed.get(number).filter(|placed| placed.readonly) else { return Ok(None) };
        let others = self.placed.iter().enumerate().filter(|(other, _)| *other != number);
        let below = others.filter_map(|(_, other)| {
            other.at.strip_prefix(placed.at.as_slice()).filter(|path| !path.is_empty()).map(<[_]>::to_vec)
        });
        Look::at(&placed.directory, &placed.name, &below.collect::<Vec<_>>()).map(Some)
    }

    fn look_at_root(&self) -> io::Result<Look> {
        let excluded: Vec<Vec<OsString>> = self.placed.iter().map(|placed| placed.at.clone()).collect();
        Look::at(&self.root, OsStr::new("."), &excluded)
    }

    /// Opens a directory inside, whose names are no links.
    fn open_inside(&self, names: &[OsString]) -> io::Result<OwnedFd> {
        let path = match names {
            [] => b".".to_vec(),
            names => names.join(OsStr::new("/")).into_vec(),
        };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(open_resolved(&self.root, path, flags, resolve)?)
    }
}

impl Drop for Laid {
    fn drop(&mut self) {
        if let Err(error) = self.undo() {
            // The root is thrown away, since its run has failed; what was lent is missing where it came from.
            tracing::warn!(%error, "cannot take out of a root what was put there");
        }
    }
}

impl Placed {
    /// Whether it stands where it was put.
    fn stands(&self) -> bool {
        let found = rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        found.is_ok_and(|stat| (stat.st_dev, stat.st_ino) == self.is)
    }
}

impl Aside {
    /// Takes one thing out, and puts back what stood there before.
    fn put_back(&self, number: usize, placed: Placed) -> io::Result<Option<Forbidden>> {
        let mut forbidden = None;
        let stands = placed.stands();
        let Placed { target, directory, name, came, .. } = placed;
        if let Came::Secret(file) = &came {
            // First, and wherever it stands by now.
            file.set_len(0)?;
            if rustix::fs::fstat(file)?.st_nlink > 1 {
                forbidden = Some((target, "gave another name to"));
            }
        }
        match came {
            Came::From { directory: home, name: home_name } if stands => {
                rename(&directory, &name, &home, &home_name)?;
            }
            // Ours or not, what stands there goes.
            _ => match rename(&directory, &name, &self.directory, &OsString::from(format!("old-{number}"))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            },
        }
        match rename(&self.directory, &aside_name(number), &directory, &name) {
            // The directory around it was removed, or it was undone before.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(forbidden),
            done => done.map(|()| forbidden),
        }
    }
}

fn aside_name(number: usize) -> OsString {
    OsString::from(number.to_string())
}

fn rename(from: &OwnedFd, name: &OsStr, to: &OwnedFd, new_name: &OsStr) -> io::Result<()> {
    Ok(rustix::fs::renameat(from, name, to, new_name)?)
}

/// Writes a file that is there for nobody else before it is as it is to be.
fn write_file(
    directory: &OwnedFd,
    name: &OsStr,
    content: &[u8],
    owner: (u32, u32),
    mode: u32,
) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o600))?);
    file.write_all(content)?;
    rustix::fs::fchown(&file, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o777))?;
    Ok(file)
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn setup(action: &'static str) -> impl FnOnce(io::Error) -> ExecError {
    move |source| ExecError::Setup { action: action.to_owned(), source }
}
