//! Layers become one detached mount, which no path reaches until a sandbox takes it.
//!
//! In: a [`RootMount`]. Out: the mount and, if it can be written, the directory that receives the changes. Layers go to
//! the kernel one by one and by descriptor, so neither their number (up to 500) nor their paths' length matters.
//! Options keep diffs readable: no redirects, no data-less copies, no index.
//! Source: Documentation/filesystems/overlayfs.rst.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;

use rb_sys::mount::{Attributes, set_attributes};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_fd,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, open_tree,
};

use crate::error::ExecError;
use crate::identity;
use crate::spec::{RootDriver, RootMount, Upper};

/// What overlayfs can stack.
pub(crate) const MAX_LAYERS: usize = 500;

/// A mount that stands nowhere yet.
#[derive(Debug)]
pub(crate) struct Detached {
    pub(crate) mount: OwnedFd,
    /// The directory that receives changes, from which mount points are removed again; `None` if nothing can be
    /// written, or others have mounts there.
    pub(crate) written: Option<OwnedFd>,
}

/// Makes the mount of `root` with `attributes`.
pub(crate) fn mount(root: &RootMount, attributes: Attributes) -> Result<Detached, ExecError> {
    let readonly = attributes.with(Attributes::RDONLY);
    match (&root.driver, &root.writable, root.layers.as_slice()) {
        (RootDriver::Directory(directory), ..) => {
            Ok(Detached { mount: bind(directory, attributes)?, written: Some(open_directory(directory)?) })
        }
        (RootDriver::Shared(directory), ..) => {
            Ok(Detached { mount: bind(directory, attributes)?, written: None })
        }
        (RootDriver::Overlay, None, []) => Err(ExecError::NoRoot),
        // An overlay of a single directory is refused by the kernel; a bind shows the same.
        (RootDriver::Overlay, None, [only]) => Ok(Detached { mount: bind(only, readonly)?, written: None }),
        (RootDriver::Overlay, Some(writable), []) => Ok(Detached {
            mount: bind(&writable.upper, attributes)?,
            written: Some(open_directory(&writable.upper)?),
        }),
        (RootDriver::Overlay, writable, layers) => {
            if layers.len() > MAX_LAYERS {
                return Err(ExecError::TooManyLayers { count: layers.len(), limit: MAX_LAYERS });
            }
            let written = writable.as_ref().map(|writable| open_directory(&writable.upper)).transpose()?;
            let attributes = if written.is_some() { attributes } else { readonly };
            let layers = layers.iter().map(|layer| open_directory(layer)).collect::<Result<Vec<_>, _>>()?;
            Ok(Detached { mount: overlay(&layers, writable.as_ref(), attributes)?, written })
        }
    }
}

fn overlay(
    layers: &[OwnedFd],
    writable: Option<&Upper>,
    attributes: Attributes,
) -> Result<OwnedFd, ExecError> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| refused(None, error))?;
    let configure = || -> Result<OwnedFd, Errno> {
        fsconfig_set_string(&context, "source", "rb")?;
        for option in ["metacopy", "index"] {
            fsconfig_set_string(&context, option, "off")?;
        }
        if identity::in_user_namespace() {
            fsconfig_set_flag(&context, "userxattr")?;
            fsconfig_set_string(&context, "redirect_dir", "nofollow")?;
        } else {
            fsconfig_set_string(&context, "redirect_dir", "off")?;
        }
        // From the top down.
        for layer in layers.iter().rev() {
            set_directory(&context, "lowerdir+", layer)?;
        }
        if let Some(Upper { upper, work }) = writable {
            forget_volatile(work);
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            set_directory(&context, "upperdir", &rustix::fs::open(upper, flags, Mode::empty())?)?;
            set_directory(&context, "workdir", &rustix::fs::open(work, flags, Mode::empty())?)?;
            // Without it, each unmount writes out the whole file system beneath. The store knows when to sync.
            fsconfig_set_flag(&context, "volatile")?;
        }
        fsconfig_create(&context)?;
        let attributes = MountAttrFlags::from_bits_retain(attributes.0 as _);
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    configure().map_err(|error| refused(Some(&context), error))
}

/// Tries layers in the empty directory `place`: mounts two of its own on one another, writable, and does what leaves the marks of
/// overlayfs in the upper one. Leaves what it made there; below a millisecond on a disk.
pub(crate) fn try_in(place: &Path) -> Result<(), ExecError> {
    let failed = |action: &'static str| {
        move |source: io::Error| ExecError::Setup { action: format!("try layers: {action}"), source }
    };
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| place.join(name));
    for directory in [&lower, &lower.join("directory"), &upper, &work] {
        std::fs::create_dir(directory).map_err(failed("make a directory"))?;
    }
    std::fs::write(lower.join("file"), "x").map_err(failed("write a file"))?;
    let root =
        RootMount { driver: RootDriver::Overlay, layers: vec![lower], writable: Some(Upper { upper, work }) };
    let mounted = mount(&root, Attributes::default())?.mount;
    let used = || -> Result<(), Errno> {
        rustix::fs::unlinkat(&mounted, "file", AtFlags::empty())?;
        rustix::fs::unlinkat(&mounted, "directory", AtFlags::REMOVEDIR)?;
        rustix::fs::mkdirat(&mounted, "directory", Mode::from_raw_mode(0o755))
    };
    used().map_err(|error| failed("replace what lies below")(error.into()))
}

/// Gives a directory by descriptor, or, before Linux 6.13, by a path that leads to the descriptor.
fn set_directory(context: &OwnedFd, key: &str, directory: &OwnedFd) -> Result<(), Errno> {
    match fsconfig_set_fd(context, key, directory.as_fd()) {
        Err(Errno::INVAL | Errno::BADF) => set_directory_by_path(context, key, directory),
        other => other,
    }
}

fn set_directory_by_path(context: &OwnedFd, key: &str, directory: &OwnedFd) -> Result<(), Errno> {
    fsconfig_set_string(context, key, format!("/proc/self/fd/{}", directory.as_raw_fd()))
}

/// Removes the mark of an earlier volatile mount with the same work directory, which the kernel would refuse. What it
/// warns of, a power cut since then, is the store's business.
fn forget_volatile(work: &Path) {
    // Mostly there is none.
    std::fs::remove_dir_all(work.join("work/incompat")).ok();
}

/// Names what the kernel says in the context's log, which is more than its errno.
fn refused(context: Option<&OwnedFd>, error: Errno) -> ExecError {
    let mut action = "mount the layers with overlayfs".to_owned();
    if let Some(context) = context {
        let mut message = [0; 1024];
        if let Ok(length) = rustix::io::read(context, &mut message) {
            let text = String::from_utf8_lossy(message.get(..length).unwrap_or_default()).into_owned();
            action = format!("{action} ({})", text.trim_start_matches("e ").trim());
        }
    }
    ExecError::Setup { action, source: error.into() }
}

/// Makes a mount of one directory or file, without what is mounted beneath it.
fn bind(path: &Path, attributes: Attributes) -> Result<OwnedFd, ExecError> {
    let fail = |source: io::Error| ExecError::Open { path: path.to_owned(), source };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(CWD, path, flags).map_err(|error| fail(error.into()))?;
    set_attributes(mount.as_fd(), attributes, false).map_err(fail)?;
    Ok(mount)
}

fn open_directory(path: &Path) -> Result<OwnedFd, ExecError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|error| ExecError::Open { path: path.to_owned(), source: error.into() })
}

/// Makes the detached mount of a file system in memory.
pub(crate) fn tmpfs(options: &[(&str, String)], attributes: Attributes) -> io::Result<OwnedFd> {
    file_system("tmpfs", options, attributes)
}

/// Makes the detached mount of a new file system.
pub(crate) fn file_system(
    kind: &str,
    options: &[(&str, String)],
    attributes: Attributes,
) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", kind)?;
    for (key, value) in options {
        fsconfig_set_string(&context, *key, value)?;
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::from_bits_retain(attributes.0 as _);
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_by_path_work_as_by_descriptor() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("stepping aside: this needs root");
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let layers: Vec<OwnedFd> = ["a", "b"]
            .map(|name| {
                let path = scratch.path().join(name);
                std::fs::create_dir(&path).unwrap();
                std::fs::write(path.join(name), name).unwrap();
                open_directory(&path).unwrap()
            })
            .into();
        for by_path in [false, true] {
            let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
            for layer in &layers {
                let set = if by_path { set_directory_by_path } else { set_directory };
                set(&context, "lowerdir+", layer).unwrap();
            }
            fsconfig_create(&context).unwrap();
            let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap();
            for name in ["a", "b"] {
                assert!(
                    rustix::fs::statat(&mount, name, rustix::fs::AtFlags::empty()).is_ok(),
                    "{name} {by_path}"
                );
            }
        }
    }
}
