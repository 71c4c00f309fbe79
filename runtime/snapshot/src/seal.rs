//! Seals: is a finished layer still what it was when it was committed?
//!
//! In: the directory of a snapshot. Out: a digest of what its files look like from outside: path, type, mode, owner, size, time
//! of last modification, target of a link, number of a device; whether a directory hides what is below it; of the files beside
//! `fs`, name and size. Other attributes stay outside: to ask for them costs as much again. No file is read,
//! so asking costs one call per file, and who went through a new layer anyhow tells what it saw ([`Telling`]). What somebody changed in place shows by its time or size. What a disk changed
//! behind the kernel's back does not: that is found by reading ([`Snapshots::is_true`](crate::Snapshots::is_true)).
//! Directories are read side by side, level by level: depth costs neither stack nor descriptors.
//!
//! **Invariants:** a seal does not depend on where the directory lies or on other names of its files: no
//! inode, no count of links, no time of change. Times and sizes of directories stay outside; they tell of
//! names, and names are in it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rb_store::Seal;

use crate::beneath;
use crate::metadata::{FileType, Metadata};
use crate::overlay;

/// Moves when the encoding below does; layers sealed before are made again then.
const SCHEMA: &[u8] = b"rb seal 1";

/// Files that one core looks at without a word to the others: to wake them costs as much as some dozen files.
const AT_ONCE: usize = 512;

/// As many directories of one level are looked at by one core.
const FEW: usize = 8;

/// What the files of a layer look like, without what stands beside them. Who went through all of them has it at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Looks(Vec<u8>);

/// Returns the seal of the snapshot at `directory`.
pub(crate) fn of_snapshot(directory: &Path) -> io::Result<Seal> {
    of_looks(directory, &of_tree(&directory.join("fs"))?)
}

/// As [`of_snapshot`], of one whose files were looked at already.
pub(crate) fn of_looks(directory: &Path, looks: &Looks) -> io::Result<Seal> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(SCHEMA);
    // What stands beside the layer says how it is read: whether it is whole, what its files are.
    let mut beside: Vec<(OsString, u64)> = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_file() {
            beside.push((entry.file_name(), metadata.len()));
        }
    }
    beside.sort_unstable();
    for (name, size_bytes) in beside {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(&size_bytes.to_le_bytes());
    }
    hasher.update(&looks.0);
    let mut seal = Seal::default();
    hasher.finalize_xof().fill(&mut seal);
    Ok(seal)
}

fn of_tree(directory: &Path) -> io::Result<Looks> {
    let root = beneath::open_host_directory(directory)?;
    let mut looks = Looks::of_root(&beneath::metadata_of(&root)?);
    let mut level = vec![PathBuf::new()];
    while !level.is_empty() {
        let look = |path: &PathBuf| Look::at(root.as_fd(), path);
        let level_looks: Vec<Look> = if level.len() <= FEW {
            level.iter().map(look).collect::<io::Result<_>>()?
        } else {
            level.par_iter().map(look).collect::<io::Result<_>>()?
        };
        let mut next = Vec::new();
        for (path, look) in level.iter().zip(level_looks) {
            looks.push(path, look.names, &look.digest);
            next.extend(look.directories.into_iter().map(|name| path.join(name)));
        }
        level = next;
    }
    Ok(looks)
}

impl Looks {
    fn of_root(root: &Metadata) -> Self {
        Self(root.mode.to_le_bytes().to_vec())
    }

    fn push(&mut self, path: &Path, names: u64, digest: &blake3::Hash) {
        let path = path.as_os_str().as_bytes();
        self.0.extend_from_slice(&(path.len() as u64).to_le_bytes());
        self.0.extend_from_slice(path);
        self.0.extend_from_slice(&names.to_le_bytes());
        self.0.extend_from_slice(digest.as_bytes());
    }
}

/// Makes [`Looks`] of what somebody who goes through a layer tells: each directory before what is inside, names sorted.
pub(crate) struct Telling {
    looks: Looks,
    directories: Vec<Told>,
}

/// What was told of one directory.
struct Told {
    depth: usize,
    path: PathBuf,
    names: u64,
    /// A mark whether it hides what is below, and its names.
    bytes: Vec<u8>,
}

impl Telling {
    pub(crate) fn new(root: &Metadata) -> Self {
        Self { looks: Looks::of_root(root), directories: Vec::new() }
    }

    /// Begins a directory, and returns a number for it.
    pub(crate) fn directory(&mut self, depth: usize, path: &Path, is_opaque: bool) -> usize {
        let bytes = vec![u8::from(is_opaque)];
        self.directories.push(Told { depth, path: path.to_owned(), names: 0, bytes });
        self.directories.len() - 1
    }

    /// Adds the next name in a directory; `target` is what it says, if it is a symlink.
    pub(crate) fn name(
        &mut self,
        directory: usize,
        name: &OsStr,
        metadata: &Metadata,
        target: Option<&Path>,
    ) {
        if let Some(told) = self.directories.get_mut(directory) {
            told.names += 1;
            encode(&mut told.bytes, name, metadata, target);
        }
    }

    pub(crate) fn finish(self) -> Looks {
        let Self { mut looks, mut directories } = self;
        // Level by level, and in each as they came: as a look at the disk meets them.
        directories.sort_by_key(|told| told.depth);
        for told in &directories {
            looks.push(&told.path, told.names, &blake3::hash(&told.bytes));
        }
        looks
    }
}

/// What is in one directory.
struct Look {
    digest: blake3::Hash,
    names: u64,
    /// Sorted.
    directories: Vec<OsString>,
}

impl Look {
    fn at(root: BorrowedFd<'_>, path: &Path) -> io::Result<Self> {
        let directory = beneath::open_directory_beneath(root, path)?;
        let mut names = beneath::names(directory.as_fd())?;
        names.sort_unstable();
        let look = |names: &[OsString]| piece(directory.as_fd(), names);
        let pieces: Vec<(Vec<u8>, Vec<OsString>)> = if names.len() <= AT_ONCE {
            vec![look(&names)?]
        } else {
            names.par_chunks(AT_ONCE).map(look).collect::<io::Result<_>>()?
        };
        let mut hasher = blake3::Hasher::new();
        // A copy that lost it shows what was deleted.
        hasher.update(&[u8::from(overlay::is_opaque(directory.as_fd())?)]);
        let mut directories = Vec::new();
        for (bytes, inner) in pieces {
            hasher.update(&bytes);
            directories.extend(inner);
        }
        Ok(Self { digest: hasher.finalize(), names: names.len() as u64, directories })
    }
}

/// Encodes some names of a directory, and returns which of them are directories.
fn piece(directory: BorrowedFd<'_>, names: &[OsString]) -> io::Result<(Vec<u8>, Vec<OsString>)> {
    let mut bytes = Vec::with_capacity(names.len() * 64);
    let mut directories = Vec::new();
    for name in names {
        let metadata = beneath::metadata_at(directory, name)?;
        let metadata = metadata.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let target = match metadata.file_type {
            FileType::Symlink => Some(beneath::link_target(directory, name)?),
            _ => None,
        };
        encode(&mut bytes, name, &metadata, target.as_deref());
        if metadata.is_directory() {
            directories.push(name.clone());
        }
    }
    Ok((bytes, directories))
}

/// Every field has its length or a fixed size, so that no two lists encode alike.
fn encode(bytes: &mut Vec<u8>, name: &OsStr, metadata: &Metadata, target: Option<&Path>) {
    let tag = match metadata.file_type {
        FileType::Directory => b'd',
        FileType::File => b'f',
        FileType::Symlink => b'l',
        FileType::Fifo => b'p',
        FileType::Socket => b's',
        FileType::CharDevice => b'c',
        FileType::BlockDevice => b'b',
    };
    bytes.extend_from_slice(&(name.len() as u64).to_le_bytes());
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(tag);
    bytes.extend_from_slice(&metadata.mode.to_le_bytes());
    bytes.extend_from_slice(&metadata.uid.to_le_bytes());
    bytes.extend_from_slice(&metadata.gid.to_le_bytes());
    if metadata.is_directory() {
        return;
    }
    bytes.extend_from_slice(&metadata.size_bytes.to_le_bytes());
    bytes.extend_from_slice(&metadata.modified_ns.to_le_bytes());
    if let Some(target) = target {
        bytes.extend_from_slice(&(target.as_os_str().len() as u64).to_le_bytes());
        bytes.extend_from_slice(target.as_os_str().as_bytes());
    }
    if let FileType::CharDevice | FileType::BlockDevice = metadata.file_type {
        let (major, minor) = metadata.device_number;
        bytes.extend_from_slice(&major.to_le_bytes());
        bytes.extend_from_slice(&minor.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, FileTimes, Permissions};
    use std::io::{Seek as _, Write as _};
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::time::{Duration, SystemTime};

    use super::*;

    const LONG_AGO: Duration = Duration::from_secs(1_000_000_000);

    /// A snapshot with one of each: its files are from long ago.
    fn snapshot() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let fs = directory.path().join("fs");
        fs::create_dir_all(fs.join("a/b")).unwrap();
        fs::create_dir(fs.join("empty")).unwrap();
        fs::write(directory.path().join("manifest"), "manifest").unwrap();
        for (path, text) in [("file", "text"), ("a/file", "text"), ("a/b/file", ""), ("a/-", "x")] {
            fs::write(fs.join(path), text).unwrap();
            age(&fs.join(path));
        }
        symlink("file", fs.join("a/link")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            fs.join("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        directory
    }

    fn age(path: &Path) {
        let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + LONG_AGO);
        File::options().write(true).open(path).unwrap().set_times(times).unwrap();
    }

    fn seal(snapshot: &tempfile::TempDir) -> Seal {
        of_snapshot(snapshot.path()).unwrap()
    }

    #[test]
    fn each_kind_of_change_is_seen() {
        let write = |path: &Path, text: &str| {
            let mut file = File::options().write(true).open(path).unwrap();
            file.seek(io::SeekFrom::Start(0)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        type Change<'a> = (&'a str, Box<dyn Fn(&Path)>);
        let changes: Vec<Change<'_>> = vec![
            ("flipped in place", Box::new(move |fs| write(&fs.join("a/file"), "tExt"))),
            ("flipped, in the deepest", Box::new(|fs| fs::write(fs.join("a/b/file"), "y").unwrap())),
            (
                "cut off, and aged",
                Box::new(|fs| {
                    File::options().write(true).open(fs.join("file")).unwrap().set_len(1).unwrap();
                    age(&fs.join("file"));
                }),
            ),
            ("missing", Box::new(|fs| fs::remove_file(fs.join("a/-")).unwrap())),
            ("missing directory", Box::new(|fs| fs::remove_dir(fs.join("empty")).unwrap())),
            (
                "one more, and aged",
                Box::new(|fs| {
                    fs::write(fs.join("empty/new"), "").unwrap();
                    age(&fs.join("empty/new"));
                }),
            ),
            ("another name", Box::new(|fs| fs::rename(fs.join("a/b/file"), fs.join("a/b/elif")).unwrap())),
            (
                "mode of a file",
                Box::new(|fs| fs::set_permissions(fs.join("file"), Permissions::from_mode(0o755)).unwrap()),
            ),
            (
                "mode of a directory",
                Box::new(|fs| fs::set_permissions(fs.join("a/b"), Permissions::from_mode(0o700)).unwrap()),
            ),
            (
                "mode of the root",
                Box::new(|fs| fs::set_permissions(fs, Permissions::from_mode(0o700)).unwrap()),
            ),
            ("owner", Box::new(|fs| std::os::unix::fs::chown(fs.join("a/file"), Some(7), None).unwrap())),
            (
                "mark that hides what is below",
                Box::new(|fs| {
                    let none = rustix::fs::XattrFlags::empty();
                    rustix::fs::setxattr(fs.join("a/b"), "user.overlay.opaque", b"y", none).unwrap();
                }),
            ),
            (
                "target of a link",
                Box::new(|fs| {
                    fs::remove_file(fs.join("a/link")).unwrap();
                    symlink("elif", fs.join("a/link")).unwrap();
                }),
            ),
            (
                "another type",
                Box::new(|fs| {
                    fs::remove_dir(fs.join("empty")).unwrap();
                    fs::write(fs.join("empty"), "").unwrap();
                }),
            ),
            (
                "manifest cut off",
                Box::new(|fs| fs::write(fs.parent().unwrap().join("manifest"), "mani").unwrap()),
            ),
            ("marked as whole", Box::new(|fs| fs::write(fs.parent().unwrap().join("whole"), "").unwrap())),
        ];
        for (what, change) in changes {
            let snapshot = snapshot();
            let before = seal(&snapshot);
            assert_eq!(seal(&snapshot), before);
            change(&snapshot.path().join("fs"));
            assert_ne!(seal(&snapshot), before, "{what}");
        }
    }

    #[test]
    fn who_goes_through_it_tells_what_a_look_shows() {
        let snapshot = snapshot();
        let fs = snapshot.path().join("fs");
        for path in ["a.b", "a-b", "a/b/c/d/e/f/g", "b/a"] {
            fs::create_dir_all(fs.join(path)).unwrap();
            fs::write(fs.join(path).join("file"), path).unwrap();
        }
        fs::set_permissions(&fs, Permissions::from_mode(0o711)).unwrap();
        let none = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(fs.join("a/b"), "user.overlay.opaque", b"y", none).unwrap();
        let directory = File::open(fs.join("a")).unwrap();
        // Not everybody may make one.
        overlay::make_whiteout(directory.as_fd(), OsStr::new("gone")).ok();
        let told = |diff: crate::Diff| diff.looks.expect("tells").clone();
        let looks = told(crate::layer_diff(&fs).unwrap());
        assert_eq!(looks, of_tree(&fs).unwrap());
        assert_eq!(of_looks(snapshot.path(), &looks).unwrap(), seal(&snapshot));
        let below = crate::View::new(vec![fs.join("a")]);
        assert_eq!(told(crate::diff::of_upper(&fs, &below, Default::default()).unwrap()), looks);
    }

    #[test]
    fn what_is_no_change_of_the_layer_is_none() {
        let snapshot = snapshot();
        let fs = snapshot.path().join("fs");
        let before = seal(&snapshot);
        // Another layer takes a file over, and lets it go.
        let other = tempfile::tempdir_in(snapshot.path().parent().unwrap()).unwrap();
        fs::hard_link(fs.join("file"), other.path().join("file")).unwrap();
        assert_eq!(seal(&snapshot), before);
        drop(other);
        // Times of directories.
        fs::write(fs.join("a/b/new"), "").unwrap();
        fs::remove_file(fs.join("a/b/new")).unwrap();
        assert_eq!(seal(&snapshot), before);
        // Read, and moved.
        fs::read(fs.join("file")).unwrap();
        let moved = tempfile::tempdir().unwrap();
        fs::rename(snapshot.path(), moved.path().join("moved")).unwrap();
        assert_eq!(of_snapshot(&moved.path().join("moved")).unwrap(), before);
        fs::rename(moved.path().join("moved"), snapshot.path()).unwrap();
    }

    #[test]
    fn many_files_and_deep_trees_are_no_obstacle() {
        let snapshot = tempfile::tempdir().unwrap();
        let fs = snapshot.path().join("fs");
        fs::create_dir(&fs).unwrap();
        for number in 0..AT_ONCE * 2 + 1 {
            fs::write(fs.join(number.to_string()), "").unwrap();
        }
        let mut current = beneath::open_host_directory(&fs).unwrap();
        // Longer in all than a path can be.
        let name = "deep".repeat(25);
        for _ in 0..60 {
            rustix::fs::mkdirat(&current, &name, rustix::fs::Mode::RWXU).unwrap();
            current = beneath::open_directory(current.as_fd(), OsStr::new(&name)).unwrap();
        }
        let before = seal(&snapshot);
        rustix::fs::mkdirat(&current, "deepest", rustix::fs::Mode::RWXU).unwrap();
        assert_ne!(seal(&snapshot), before);
        let root = beneath::open_host_directory(&fs).unwrap();
        beneath::remove_tree_at(root.as_fd(), OsStr::new(&name)).unwrap();
    }

    #[test]
    fn a_directory_that_is_gone_is_an_error() {
        let snapshot = snapshot();
        fs::remove_dir_all(snapshot.path().join("fs")).unwrap();
        assert_eq!(of_snapshot(snapshot.path()).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
