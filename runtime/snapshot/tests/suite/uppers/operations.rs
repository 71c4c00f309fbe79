//! Operations on a tree, done by the editor and by file calls in a mount.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rb_snapshot::{ContentDigest, CopyOptions, Editor, Reuse, View};
use rustix::fs::{CWD, FileType as Type, Mode, OFlags, ResolveFlags, XattrFlags};

use super::layers::{OLD_NS, everything, path, set_time, target};
use super::lines::attributes_on_disk;
use crate::kernel::Mounted;
use crate::support::through_a_link;

#[derive(Clone, Debug)]
pub(super) enum Operation {
    Mkdir {
        path: PathBuf,
        mode: u32,
        parents: bool,
        given: Given,
    },
    Mkfile {
        path: PathBuf,
        length: usize,
        given: Given,
    },
    Symlink {
        target: PathBuf,
        path: PathBuf,
        given: Given,
    },
    Remove {
        path: PathBuf,
        wildcard: bool,
    },
    Set {
        path: PathBuf,
        mode: Option<u32>,
        given: Given,
    },
    /// From the material, or from the tree itself.
    Copy {
        within: bool,
        from: PathBuf,
        to: PathBuf,
        contents: bool,
        replace: bool,
        link: bool,
        mode: Option<u32>,
        given: Given,
    },
    /// Removes what is there and makes something else of that name.
    Renew {
        path: PathBuf,
        directory: bool,
    },
}

/// Owner and time, where they are given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    pub(super) owner: Option<(u32, u32)>,
    pub(super) time: Option<i64>,
}

pub(super) fn given() -> impl Strategy<Value = Given> {
    (prop::option::weighted(0.3, (0..3_u32, 0..3_u32)), prop::option::weighted(0.3, 0..9_i64))
        .prop_map(|(owner, time)| Given { owner, time: time.map(|time| OLD_NS - time * 1_000_000_001) })
}

pub(super) fn operation() -> impl Strategy<Value = Operation> {
    let mode = prop::sample::select(vec![0o755_u32, 0o700, 0o711]);
    let any_mode = prop::option::of(prop::sample::select(vec![0o4755_u32, 0o2750, 0o1777, 0o640]));
    let copied_mode = prop::option::weighted(0.2, prop::sample::select(vec![0o4755_u32, 0o750]));
    let length = prop::sample::select(vec![0_usize, 2, 5000]);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    prop_oneof![
        3 => (path(), mode, any::<bool>(), given())
            .prop_map(|(path, mode, parents, given)| Operation::Mkdir { path, mode, parents, given }),
        4 => (path(), length, given()).prop_map(|(path, length, given)| Operation::Mkfile { path, length, given }),
        1 => (target(), path(), given())
            .prop_map(|(target, path, given)| Operation::Symlink { target, path, given }),
        4 => (path(), prop::bool::weighted(0.3))
            .prop_map(|(path, wildcard)| Operation::Remove { path, wildcard }),
        3 => (path(), any_mode, given()).prop_map(|(path, mode, given)| Operation::Set { path, mode, given }),
        6 => (flags, path(), path(), copied_mode, given()).prop_map(
            |((within, contents, replace, link), from, to, mode, given)| Operation::Copy {
                within, from, to, contents, replace, link, mode, given
            }
        ),
        2 => (path(), any::<bool>()).prop_map(|(path, directory)| Operation::Renew { path, directory }),
    ]
}

pub(super) struct World<'a> {
    pub(super) mounted: &'a Mounted,
    pub(super) material: PathBuf,
    pub(super) from: View,
    pub(super) reuse: &'a Reuse,
    pub(super) digests: &'a BTreeMap<PathBuf, ContentDigest>,
}

impl World<'_> {
    pub(super) fn by_editor(
        &self,
        editor: &Editor<'_>,
        operation: &Operation,
    ) -> Result<(), rb_snapshot::SnapshotError> {
        match operation {
            Operation::Mkdir { path, mode, parents, given } => {
                editor.mkdir(path, *mode, *parents, given.owner, given.time)
            }
            Operation::Mkfile { path, length, given } => {
                editor.mkfile(path, 0o640, &vec![b'm'; *length], given.owner, given.time)
            }
            Operation::Symlink { target, path, given } => {
                editor.symlink(target, path, given.owner, given.time)
            }
            Operation::Remove { path, wildcard: false } => editor.remove(path, false, false),
            Operation::Remove { path, wildcard: true } => {
                editor.remove(path.parent().unwrap().join("[ab]"), true, true)
            }
            Operation::Set { path, mode, given } => editor.set_metadata(path, *mode, given.owner, given.time),
            Operation::Copy { within, from, to, contents, replace, link, mode, given } => {
                let verify = |path: &Path| self.digests.get(path).copied();
                let linked = *link && !within;
                let options = CopyOptions {
                    create_dest_path: true,
                    dir_copy_contents: *contents,
                    always_replace: *replace,
                    mode: *mode,
                    owner: given.owner,
                    timestamp: given.time,
                    verify: linked.then_some(&verify),
                    reuse: linked.then_some(self.reuse),
                    ..CopyOptions::default()
                };
                let view = if *within { editor.view() } else { self.from.clone() };
                editor.copy(&view, from, to, &options).map(drop)
            }
            Operation::Renew { path, directory } => {
                editor.remove(path, false, false)?;
                if *directory {
                    editor.mkdir(path, 0o755, false, None, None)
                } else {
                    editor.mkfile(path, 0o640, b"renewed", None, None)
                }
            }
        }
    }

    /// The real path of `path` inside the mount; `None` if nothing is there.
    fn resolve(&self, path: &Path) -> Option<PathBuf> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let handle =
            rb_sys::resolve::open_resolved(self.mounted.root(), path, flags, ResolveFlags::IN_ROOT).ok()?;
        let shown = fs::read_link(format!("/proc/self/fd/{}", handle.as_raw_fd())).unwrap();
        Some(self.mounted.path().join(shown.strip_prefix("/").unwrap()))
    }

    /// The real path of what is there, links followed, or of a free name in a directory that is there.
    fn place(&self, path: &Path) -> Option<PathBuf> {
        if let Some(existing) = self.resolve(path) {
            return Some(existing);
        }
        let full = self.itself(path)?;
        fs::symlink_metadata(&full).is_err().then_some(full)
    }

    /// The real path of a name in a directory that is there, the name itself not followed.
    fn itself(&self, path: &Path) -> Option<PathBuf> {
        let parent = self.resolve(path.parent()?)?;
        parent.is_dir().then(|| parent.join(path.file_name().unwrap()))
    }

    /// The real path of something whose parents may be missing; `None` if anything else is in the way.
    fn reach(&self, path: &Path) -> Option<PathBuf> {
        match self.place(path) {
            Some(place) => Some(place),
            None => {
                let parent = self.reach(path.parent()?)?;
                (!parent.exists()).then(|| parent.join(path.file_name().unwrap()))
            }
        }
    }

    fn make_directories(&self, path: &Path, mode: u32, given: Given) {
        let mut missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
        for path in missing.iter().rev() {
            fs::create_dir(path).unwrap();
            own(path, given.owner);
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        missing.iter().for_each(|path| set_time(path, given.time));
        missing.clear();
    }

    /// Does by file calls what can be done by them as by the editor; tells whether it did.
    pub(super) fn by_kernel(&self, operation: &Operation) -> bool {
        self.try_by_kernel(operation).is_some()
    }

    fn try_by_kernel(&self, operation: &Operation) -> Option<()> {
        match operation {
            Operation::Mkdir { path, mode, parents, given } => {
                let place = if *parents { self.reach(path)? } else { self.place(path)? };
                if place.exists() {
                    return place.is_dir().then_some(());
                }
                self.make_directories(&place, *mode, *given);
            }
            Operation::Mkfile { path, length, given } => {
                let place = self.place(path)?;
                if place.exists() && !fs::symlink_metadata(&place).ok()?.is_file() {
                    return None;
                }
                write(&place, &vec![b'm'; *length]);
                own(&place, given.owner);
                set_time(&place, given.time);
            }
            Operation::Symlink { target, path, given } => {
                let place = self.place(path).filter(|place| fs::symlink_metadata(place).is_err())?;
                symlink(target, &place).unwrap();
                own(&place, given.owner);
                set_time(&place, given.time);
            }
            Operation::Remove { path, wildcard: false } => {
                let place = self.itself(path).filter(|place| fs::symlink_metadata(place).is_ok())?;
                remove(&place);
            }
            Operation::Remove { path, wildcard: true } => {
                // A name that is not text makes a path that is no pattern.
                path.parent()?.to_str()?;
                let parent = self.resolve(path.parent()?).filter(|parent| parent.is_dir())?;
                ["a", "b"].iter().for_each(|name| remove(&parent.join(name)));
            }
            Operation::Set { path, mode, given } => {
                let place = self.resolve(path)?;
                let metadata = fs::symlink_metadata(&place).unwrap();
                if !(metadata.is_file() || metadata.is_dir()) {
                    return None;
                }
                own(&place, given.owner);
                let mode = mode.unwrap_or(metadata.mode() & 0o7777);
                fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
                set_time(&place, given.time);
            }
            Operation::Copy { within, from, to, contents, replace, mode, given, .. } => {
                if !within && through_a_link(&self.material, from) {
                    return None;
                }
                let source = if *within { self.itself(from)? } else { self.material.join(from) };
                let kind = fs::symlink_metadata(&source).ok()?;
                if source.canonicalize().is_err() && !kind.is_symlink() {
                    return None;
                }
                let target = self.target(from, to, kind.is_dir(), *contents)?;
                let inside = |inner: &Path, outer: &Path| inner.starts_with(outer);
                if *within && (inside(&source, &target) || inside(&target, &source)) {
                    return None;
                }
                if !fits(&source, &target, *replace) {
                    return None;
                }
                // What is copied does not change meanwhile.
                let before = tempfile::tempdir().unwrap();
                let cloned = before.path().join("x");
                copy_tree(&source, &cloned, &Copying::default());
                let created = Given { owner: given.owner, time: given.time };
                let made = if kind.is_dir() && *contents { &*target } else { target.parent()? };
                let missing: Vec<PathBuf> =
                    made.ancestors().take_while(|path| !path.exists()).map(Path::to_owned).collect();
                // Parents get no more of it than mkdir(2) takes.
                self.make_directories(made, mode.map_or(0o755, |mode| mode & 0o777), created);
                let copying = Copying { mode: *mode, given: Some(*given) };
                copy_tree(&cloned, &target, &copying);
                missing.iter().for_each(|path| set_time(path, given.time));
            }
            Operation::Renew { path, directory } => {
                let place = self.itself(path)?;
                // A link, or a directory with links in it, may be on the way to itself: then the way goes with it.
                if !fs::symlink_metadata(&place).ok()?.is_file() && through_a_link(&self.mounted.path(), path)
                {
                    return None;
                }
                remove(&place);
                if *directory {
                    self.make_directories(&place, 0o755, Given { owner: None, time: None });
                } else {
                    write(&place, b"renewed");
                }
            }
        }
        Some(())
    }

    /// Where a copy goes; `None` where something that cannot be gone through is in the way.
    fn target(&self, from: &Path, to: &Path, is_directory: bool, contents: bool) -> Option<PathBuf> {
        let target = self.reach(to)?;
        let Ok(there) = fs::symlink_metadata(&target) else { return Some(target) };
        if is_directory && contents {
            return there.is_dir().then_some(target);
        }
        if there.is_dir() { Some(target.join(from.file_name()?)) } else { (!is_directory).then_some(target) }
    }
}

pub(super) fn fits(source: &Path, target: &Path, replace: bool) -> bool {
    let Ok(there) = fs::symlink_metadata(target) else { return true };
    // A whiteout that is listed.
    let Ok(here) = fs::symlink_metadata(source) else { return true };
    if !here.is_dir() {
        // A file that would be copied onto itself, or another name of itself.
        return (replace || !there.is_dir()) && (here.dev(), here.ino()) != (there.dev(), there.ino());
    }
    if !there.is_dir() {
        return replace;
    }
    fs::read_dir(source).unwrap().all(|entry| {
        let entry = entry.unwrap();
        fits(&entry.path(), &target.join(entry.file_name()), replace)
    })
}

pub(super) fn write(path: &Path, bytes: &[u8]) {
    let existed = path.exists();
    fs::write(path, bytes).unwrap();
    if !existed {
        fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
    }
}

pub(super) fn own(path: &Path, owner: Option<(u32, u32)>) {
    if let Some((uid, gid)) = owner {
        lchown(path, Some(uid), Some(gid)).unwrap();
    }
}

pub(super) fn remove(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

#[derive(Default)]
pub(super) struct Copying {
    pub(super) mode: Option<u32>,
    pub(super) given: Option<Given>,
}

/// Copies by file calls: directories are merged, hard links kept.
pub(super) fn copy_tree(source: &Path, target: &Path, copying: &Copying) {
    let mut groups: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut directories = Vec::new();
    for path in everything_at(source) {
        let (from, to) = (join(source, &path), join(target, &path));
        let metadata = fs::symlink_metadata(&from).unwrap();
        let owner = copying.given.and_then(|given| given.owner).unwrap_or((metadata.uid(), metadata.gid()));
        let time = copying.given.and_then(|given| given.time);
        let time = time.unwrap_or(metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec());
        let mode = fs::Permissions::from_mode(copying.mode.unwrap_or(metadata.mode() & 0o7777));
        let there = fs::symlink_metadata(&to);
        if metadata.is_dir() {
            let merged = there.as_ref().is_ok_and(fs::Metadata::is_dir);
            if !merged {
                remove(&to);
                fs::create_dir(&to).unwrap();
            }
            let attributes = attributes_on_disk(&from);
            let rights = attributes.get(&OsString::from("system.posix_acl_default")).cloned();
            if merged && path.as_os_str().is_empty() {
                directories.push((to.clone(), time, None));
                continue;
            }
            directories.push((to.clone(), time, rights));
            own(&to, Some(owner));
            fs::set_permissions(&to, mode).unwrap();
        } else {
            remove(&to);
            if metadata.nlink() > 1
                && let Some(first) = groups.get(&(metadata.dev(), metadata.ino()))
            {
                fs::hard_link(first, &to).unwrap();
                continue;
            }
            groups.insert((metadata.dev(), metadata.ino()), to.clone());
            let kind = metadata.file_type();
            if kind.is_symlink() {
                symlink(fs::read_link(&from).unwrap(), &to).unwrap();
                own(&to, Some(owner));
                set_time(&to, Some(time));
                continue;
            }
            if kind.is_file() {
                fs::write(&to, fs::read(&from).unwrap()).unwrap();
            } else {
                let kind = if kind.is_fifo() { Type::Fifo } else { Type::CharacterDevice };
                rustix::fs::mknodat(CWD, &to, kind, Mode::RUSR, metadata.rdev()).unwrap();
            }
            chown(&to, Some(owner.0), Some(owner.1)).unwrap();
            fs::set_permissions(&to, mode).unwrap();
        }
        for (name, value) in attributes_on_disk(&from) {
            // What a directory gives to what is made in it is set last: its copies are as they were.
            if !name.as_bytes().windows(9).any(|part| part == b".overlay.")
                && name != "system.posix_acl_default"
            {
                rustix::fs::setxattr(&to, &name, &value, XattrFlags::empty()).unwrap();
            }
        }
        set_time(&to, Some(time));
    }
    for (path, time, rights) in directories.iter().rev() {
        if let Some(rights) = rights {
            rustix::fs::setxattr(path, "system.posix_acl_default", rights, XattrFlags::empty()).unwrap();
        }
        set_time(path, Some(*time));
    }
}

pub(super) fn join(root: &Path, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { root.to_owned() } else { root.join(path) }
}

pub(super) fn everything_at(root: &Path) -> Vec<PathBuf> {
    if fs::symlink_metadata(root).unwrap().is_dir() { everything(root) } else { vec![PathBuf::new()] }
}
