//! The mounts a spec asks for.
//!
//! Each is made detached, its place is found, and what lies beneath another is attached after it. A part of a stack of
//! layers cannot be cut out of a detached mount on kernels before 6.15, so the child does it, from a mount aside.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rb_sys::child::{FileRef, Program};
use rb_sys::mount::Attributes;
use rb_sys::resolve::open_resolved;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

use super::{bind_open, clone, open, open_error, place, setup};
use crate::error::ExecError;
use crate::spec::{Bind, ExtraMount, FileMount, OverlayMount, SocketMount, Spec};
use crate::tree::{Kind, Place, Tree, file_type};
use crate::{files, identity, roots};

/// A mount of the spec, ready to be attached.
pub(super) struct Prepared {
    pub(super) source: Source,
    pub(super) place: Place,
    pub(super) target: String,
}

pub(super) enum Source {
    /// Already a mount of its own.
    Mount(FileRef),
    /// A path in a mount that is attached aside.
    Part { aside: FileRef, path: FileRef, attributes: Attributes },
}

/// Prepares all mounts of `spec`, in the order in which they are to be attached.
pub(super) fn prepare(
    spec: &Spec,
    nodev: Attributes,
    tree: &mut Tree,
    program: &mut Program,
) -> Result<Vec<Prepared>, ExecError> {
    let mut mounts: Vec<&ExtraMount> = spec.mounts.iter().collect();
    // What lies beneath a mount is mounted after it; equal depths stay in the order given.
    mounts.sort_by_key(|mount| depth(target_of(mount)));
    mounts.into_iter().map(|mount| extra_mount(mount, nodev, tree, program)).collect()
}

pub(super) fn target_of(mount: &ExtraMount) -> &str {
    match mount {
        ExtraMount::Bind(Bind { target, .. })
        | ExtraMount::Tmpfs { target, .. }
        | ExtraMount::Overlay(OverlayMount { target, .. })
        | ExtraMount::File(FileMount { target, .. })
        | ExtraMount::Socket(SocketMount { target, .. }) => target,
    }
}

pub(super) fn depth(target: &str) -> usize {
    target.split('/').filter(|name| !name.is_empty() && *name != ".").count()
}

fn extra_mount(
    mount: &ExtraMount,
    nodev: Attributes,
    tree: &mut Tree,
    program: &mut Program,
) -> Result<Prepared, ExecError> {
    let target = target_of(mount).to_owned();
    let problem = |problem| ExecError::Target { target: target.clone(), problem };
    if !target.starts_with('/') {
        return Err(problem("is not an absolute path"));
    }
    if depth(&target) == 0 {
        return Err(problem("is the root itself"));
    }
    let readonly_if = |readonly| if readonly { nodev.with(Attributes::RDONLY) } else { nodev };
    match mount {
        ExtraMount::Bind(Bind { source, readonly, recursive, nosuid, noexec, .. }) => {
            let mut attributes = readonly_if(*readonly);
            for (asked, attribute) in [(*nosuid, Attributes::NOSUID), (*noexec, Attributes::NOEXEC)] {
                attributes = if asked { attributes.with(attribute) } else { attributes };
            }
            let file = open(source)?;
            let kind = match file_type(&file).map_err(open_error(source))? {
                FileType::Directory => Kind::Directory,
                FileType::CharacterDevice | FileType::BlockDevice => {
                    // A device that is bound by name is meant to work.
                    attributes = files::DEVICE;
                    Kind::File
                }
                _ => Kind::File,
            };
            let mount = bind_open(&file, source, *recursive, attributes)?;
            let place = place(tree, &target, kind)?;
            tree.mount(&place, Some(clone(&mount)?), None);
            Ok(Prepared { source: Source::Mount(program.lend(mount)), place, target })
        }
        ExtraMount::Tmpfs { size_bytes, mode, .. } => {
            let mut options = vec![("mode", format!("{mode:o}"))];
            if let Some(size) = size_bytes {
                options.push(("size", size.to_string()));
            }
            let mount = roots::tmpfs(&options, nodev.with(Attributes::NOSUID))
                .map_err(setup(format!("make the file system for {target}")))?;
            let place = place(tree, &target, Kind::Directory)?;
            tree.mount(&place, Some(clone(&mount)?), None);
            Ok(Prepared { source: Source::Mount(program.lend(mount)), place, target })
        }
        ExtraMount::Overlay(OverlayMount { root, selector, readonly, .. }) => {
            let attributes = readonly_if(*readonly);
            let detached = roots::mount(root, attributes)?;
            let selected = match depth(selector) {
                0 => None,
                _ => Some(select_path(&detached.mount, selector, &target)?),
            };
            // A symlink may lead to the root itself.
            let Some((part, path)) = selected.filter(|(_, path)| path != Path::new(".")) else {
                let place = place(tree, &target, Kind::Directory)?;
                let base = detached.written.map(|written| (written, PathBuf::new()));
                tree.mount(&place, Some(clone(&detached.mount)?), base);
                return Ok(Prepared { source: Source::Mount(program.lend(detached.mount)), place, target });
            };
            let directory =
                file_type(&part).map_err(setup("look at a selected path"))? == FileType::Directory;
            let place = place(tree, &target, if directory { Kind::Directory } else { Kind::File })?;
            let base = detached.written.map(|written| (written, path));
            tree.mount(&place, Some(clone(&part)?), base);
            let source =
                Source::Part { aside: program.lend(detached.mount), path: program.lend(part), attributes };
            Ok(Prepared { source, place, target })
        }
        ExtraMount::File(file) => {
            identity::owner_exists(file.uid, file.gid)?;
            let aside = files::single(file).map_err(setup(format!("make the file for {target}")))?;
            single(aside, target, tree, program)
        }
        ExtraMount::Socket(SocketMount { socket, .. }) => {
            let aside = socket.mount().map_err(setup(format!("take the socket for {target}")))?;
            single(aside, target, tree, program)
        }
    }
}

/// Shows the only file of a mount in memory.
fn single(
    aside: OwnedFd,
    target: String,
    tree: &mut Tree,
    program: &mut Program,
) -> Result<Prepared, ExecError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let part = rustix::fs::openat(&aside, files::SINGLE, flags, Mode::empty())
        .map_err(|error| setup(format!("open the file for {target}"))(error.into()))?;
    let place = place(tree, &target, Kind::File)?;
    tree.mount(&place, Some(clone(&part)?), None);
    let (aside, path) = (program.lend(aside), program.lend(part));
    let source = Source::Part { aside, path, attributes: files::SINGLE_ATTRIBUTES };
    Ok(Prepared { source, place, target })
}

/// Opens `selector` in a mount or directory that is to stand at `target`, within it; also returns its path there, without symlinks.
pub(super) fn select_path(
    mount: &OwnedFd,
    selector: &str,
    target: &str,
) -> Result<(OwnedFd, PathBuf), ExecError> {
    let mut inside = Tree::new(clone(mount)?, None);
    let missing = |source| {
        let (target, selector) = (target.to_owned(), selector.to_owned());
        ExecError::MountSource { target, selector, source }
    };
    let place = inside.find(selector).map_err(missing)?;
    let place = place.ok_or_else(|| missing(rustix::io::Errno::NOENT.into()))?;
    let path = PathBuf::from(std::ffi::OsString::from(String::from_utf8_lossy(&place.path()).into_owned()));
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let file = open_resolved(mount, place.path(), flags, resolve);
    Ok((file.map_err(|error| missing(error.into()))?, path))
}
