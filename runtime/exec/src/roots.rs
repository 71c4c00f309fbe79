//! Layers become one detached mount, which no path reaches until a sandbox takes it.
//!
//! In: a [`RootMount`]. Out: the mount and, if it can be written, the directory that receives the changes. How the kernel
//! is told of them is [`crate::stacking`]'s.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rb_sys::mount::{Attributes, set_attributes};
use rustix::fs::{AtFlags, CWD, Mode};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen, open_tree,
};

use crate::error::ExecError;
use crate::spec::{RootDriver, RootMount, Upper};
use crate::stacking::{MAX_LAYERS, Stacking, open_directory, stack};

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
        (RootDriver::Overlay | RootDriver::OverlayInOneLine, None, []) => Err(ExecError::NoRoot),
        // An overlay of a single directory is refused by the kernel; a bind shows the same.
        (RootDriver::Overlay | RootDriver::OverlayInOneLine, None, [only]) => {
            Ok(Detached { mount: bind(only, readonly)?, written: None })
        }
        (RootDriver::Overlay | RootDriver::OverlayInOneLine, Some(writable), []) => Ok(Detached {
            mount: bind(&writable.upper, attributes)?,
            written: Some(open_directory(&writable.upper)?),
        }),
        (driver @ (RootDriver::Overlay | RootDriver::OverlayInOneLine), writable, layers) => {
            if layers.len() > MAX_LAYERS {
                return Err(ExecError::TooManyLayers { count: layers.len(), limit: MAX_LAYERS });
            }
            let written = writable.as_ref().map(|writable| open_directory(&writable.upper)).transpose()?;
            let attributes = if written.is_some() { attributes } else { readonly };
            let mount = match driver {
                RootDriver::OverlayInOneLine => {
                    Stacking::OneLine.mount(layers, writable.as_ref(), attributes)?
                }
                RootDriver::Overlay | RootDriver::Directory(_) | RootDriver::Shared(_) => {
                    stack(layers, writable.as_ref(), attributes)?
                }
            };
            Ok(Detached { mount, written })
        }
    }
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

/// Makes a mount of one directory or file, without what is mounted beneath it.
fn bind(path: &Path, attributes: Attributes) -> Result<OwnedFd, ExecError> {
    let fail = |source: io::Error| ExecError::Open { path: path.to_owned(), source };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(CWD, path, flags).map_err(|error| fail(error.into()))?;
    set_attributes(mount.as_fd(), attributes, false).map_err(fail)?;
    Ok(mount)
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
