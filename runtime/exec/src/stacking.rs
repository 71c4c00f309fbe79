//! Layers on one another, by overlayfs, which is told of them in one of two ways.
//!
//! In: directories, lowest first, and perhaps where changes go. Out: a mount that stands nowhere yet.
//! **One by one** (`lowerdir+`, Linux 6.8): neither number nor length of paths matters, up to the 500 layers that the kernel
//! stacks. **In one line**, as mount(2) always took them: the options of a mount are a page, so each directory is named by a
//! link of one to three figures in a file system in memory. A mount made so stands somewhere: that is in a mount
//! namespace of a thread that ends with it. fsconfig(2) is no way for a line: it takes 256 bytes of it.
//! Options keep diffs readable: no redirects, no data-less copies, no index.
//! **Invariant:** which way it is shows in nothing but the mount's options.
//! Source: Documentation/filesystems/overlayfs.rst; mount(2); clone_private_mount() wants the layers' mounts to be of the
//! namespace of who mounts.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rb_sys::mount::{Attributes, set_attributes};
use rb_sys::process::with_own_mounts;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, open_tree,
};

use crate::error::ExecError;
use crate::identity;
use crate::spec::Upper;

/// What overlayfs can stack.
pub(crate) const MAX_LAYERS: usize = 500;

/// Of one mount's options, in bytes; the last is a NUL.
const PAGE_BYTES: usize = 4096;

/// What is there on every machine, to mount over it where nobody else looks.
const ASIDE: &str = "/dev";

/// How overlayfs is told of its layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stacking {
    OneByOne,
    OneLine,
}

/// The way that this kernel was found to take.
static KNOWN: OnceLock<Stacking> = OnceLock::new();

/// Mounts `layers`, lowest first, of which there are two, or one and something to write to, in the way that this kernel takes.
pub(crate) fn stack(
    layers: &[PathBuf],
    writable: Option<&Upper>,
    attributes: Attributes,
) -> Result<OwnedFd, ExecError> {
    if let Some(known) = KNOWN.get() {
        return known.mount(layers, writable, attributes);
    }
    let (way, mounted) = match Stacking::OneByOne.mount(layers, writable, attributes) {
        Ok(mount) => (Stacking::OneByOne, mount),
        // It may be for the way, or for what is mounted.
        Err(_) if matches!(Stacking::probe(), Ok(Stacking::OneLine)) => {
            (Stacking::OneLine, Stacking::OneLine.mount(layers, writable, attributes)?)
        }
        Err(refused) => return Err(refused),
    };
    // Whoever was faster found the same.
    KNOWN.set(way).ok();
    Ok(mounted)
}

impl Stacking {
    /// Finds out which way this kernel takes, by stacking two directories in memory.
    pub(crate) fn probe() -> Result<Self, ExecError> {
        match try_in_memory(Self::OneByOne) {
            Ok(()) => Ok(Self::OneByOne),
            Err(refused) => match try_in_memory(Self::OneLine) {
                Ok(()) => Ok(Self::OneLine),
                // Where the first way is but unknown, the second one tells what is wrong.
                Err(last) if is_unknown(&refused) => Err(last),
                Err(_) => Err(refused),
            },
        }
    }

    /// As [`stack`], in this way.
    pub(crate) fn mount(
        self,
        layers: &[PathBuf],
        writable: Option<&Upper>,
        attributes: Attributes,
    ) -> Result<OwnedFd, ExecError> {
        if let Some(Upper { work, .. }) = writable {
            forget_volatile(work);
        }
        match self {
            Self::OneByOne => one_by_one(layers, writable, attributes),
            Self::OneLine => with_own_mounts(|| in_one_line(layers, writable, attributes))
                .map_err(failed("enter a mount namespace"))?,
        }
    }
}

/// What every mount is told beside its directories; with a value, or a flag.
fn options(writable: bool) -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
    let in_namespace = identity::in_user_namespace();
    let redirects = if in_namespace { "nofollow" } else { "off" };
    [
        Some(("metacopy", Some("off"))),
        Some(("index", Some("off"))),
        in_namespace.then_some(("userxattr", None)),
        Some(("redirect_dir", Some(redirects))),
        // Without it, each unmount writes out the whole file system beneath. The store knows when to sync.
        writable.then_some(("volatile", None)),
    ]
    .into_iter()
    .flatten()
}

fn one_by_one(
    layers: &[PathBuf],
    writable: Option<&Upper>,
    attributes: Attributes,
) -> Result<OwnedFd, ExecError> {
    let layers = layers.iter().map(|layer| open_directory(layer)).collect::<Result<Vec<_>, _>>()?;
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| refused(None, error))?;
    let configure = || -> Result<OwnedFd, Errno> {
        fsconfig_set_string(&context, "source", "rb")?;
        for (option, value) in options(writable.is_some()) {
            match value {
                Some(value) => fsconfig_set_string(&context, option, value)?,
                None => fsconfig_set_flag(&context, option)?,
            }
        }
        // From the top down.
        for layer in layers.iter().rev() {
            set_directory(&context, "lowerdir+", layer)?;
        }
        if let Some(Upper { upper, work }) = writable {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            set_directory(&context, "upperdir", &rustix::fs::open(upper, flags, Mode::empty())?)?;
            set_directory(&context, "workdir", &rustix::fs::open(work, flags, Mode::empty())?)?;
        }
        fsconfig_create(&context)?;
        let attributes = MountAttrFlags::from_bits_retain(attributes.0 as _);
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    configure().map_err(|error| refused(Some(&context), error))
}

/// To be called on a thread with mounts of its own.
fn in_one_line(
    layers: &[PathBuf],
    writable: Option<&Upper>,
    attributes: Attributes,
) -> Result<OwnedFd, ExecError> {
    // Opened in this namespace: those of another are no layers.
    let mut named: Vec<(String, OwnedFd)> = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        named.push((number.to_string(), open_directory(layer)?));
    }
    if let Some(Upper { upper, work }) = writable {
        named.push(("u".to_owned(), open_directory(upper)?));
        named.push(("w".to_owned(), open_directory(work)?));
    }
    let line = line(layers.len(), writable.is_some());
    let make = || -> Result<OwnedFd, Errno> {
        rustix::mount::mount("rb", ASIDE, "tmpfs", MountFlags::NOSUID, None::<&CStr>)?;
        rustix::process::chdir(ASIDE)?;
        for (name, directory) in &named {
            rustix::fs::symlink(path_of(directory), name)?;
        }
        rustix::fs::mkdir("m", Mode::RWXU)?;
        rustix::mount::mount("rb", "m", "overlay", MountFlags::empty(), line.as_c_str())?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mount = open_tree(CWD, "m", flags)?;
        // Now, and not in a moment when the namespace ends: whoever lets go of the mount has unmounted it then.
        rustix::mount::unmount("m", UnmountFlags::DETACH)?;
        Ok(mount)
    };
    let mount = make().map_err(|error| refused(None, error))?;
    set_attributes(mount.as_fd(), attributes, false).map_err(failed("set what the layers' mount allows"))?;
    Ok(mount)
}

/// Returns the options of a mount whose directories are links beside it.
fn line(layers: usize, writable: bool) -> CString {
    // From the top down.
    let lower = (0..layers).rev().map(|number| number.to_string()).collect::<Vec<_>>().join(":");
    let mut words = vec![format!("lowerdir={lower}")];
    if writable {
        words.extend(["upperdir=u".to_owned(), "workdir=w".to_owned()]);
    }
    words.extend(options(writable).map(|(option, value)| match value {
        Some(value) => format!("{option}={value}"),
        None => option.to_owned(),
    }));
    let line = words.join(",");
    debug_assert!(line.len() < PAGE_BYTES, "{layers} layers are too many");
    CString::new(line).expect("figures and names of options hold no NUL")
}

/// Stacks two empty directories where nobody sees it.
fn try_in_memory(stacking: Stacking) -> Result<(), ExecError> {
    let tried = with_own_mounts(|| {
        let prepare = || -> Result<Vec<PathBuf>, Errno> {
            rustix::mount::mount("rb", ASIDE, "tmpfs", MountFlags::NOSUID, None::<&CStr>)?;
            let layers = ["a", "b"].map(|name| Path::new(ASIDE).join(name));
            layers.iter().try_for_each(|layer| rustix::fs::mkdir(layer, Mode::RWXU))?;
            Ok(layers.into())
        };
        let layers = prepare().map_err(|error| failed("make a file system in memory")(error.into()))?;
        match stacking {
            Stacking::OneByOne => one_by_one(&layers, None, Attributes::RDONLY),
            Stacking::OneLine => in_one_line(&layers, None, Attributes::RDONLY),
        }
    });
    tried.map_err(failed("enter a mount namespace"))?.map(drop)
}

/// Gives a directory by descriptor, or, before Linux 6.13, by a path that leads to the descriptor.
fn set_directory(context: &OwnedFd, key: &str, directory: &OwnedFd) -> Result<(), Errno> {
    match fsconfig_set_fd(context, key, directory.as_fd()) {
        Err(Errno::INVAL | Errno::BADF) => set_directory_by_path(context, key, directory),
        other => other,
    }
}

fn set_directory_by_path(context: &OwnedFd, key: &str, directory: &OwnedFd) -> Result<(), Errno> {
    fsconfig_set_string(context, key, path_of(directory))
}

fn path_of(directory: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", directory.as_raw_fd())
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

fn failed(action: &'static str) -> impl FnOnce(io::Error) -> ExecError {
    move |source| ExecError::Setup { action: action.to_owned(), source }
}

/// Whether a mount failed since the kernel does not know what it was told: a word, or, before Linux 6.5, a descriptor.
fn is_unknown(error: &ExecError) -> bool {
    let ExecError::Setup { source, .. } = error else { return false };
    [Errno::INVAL, Errno::OPNOTSUPP]
        .iter()
        .any(|unknown| source.raw_os_error() == Some(unknown.raw_os_error()))
}

/// Opens a directory that layers are in.
pub(crate) fn open_directory(path: &Path) -> Result<OwnedFd, ExecError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|error| ExecError::Open { path: path.to_owned(), source: error.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_root() -> bool {
        let is_root = rustix::process::geteuid().is_root();
        if !is_root {
            eprintln!("stepping aside: this needs root");
        }
        is_root
    }

    #[test]
    fn as_many_layers_as_the_kernel_stacks_are_named_in_a_page() {
        let longest = line(MAX_LAYERS, true);
        assert!(longest.as_bytes_with_nul().len() <= PAGE_BYTES, "{}", longest.as_bytes().len());
        let short = line(3, true).into_string().unwrap();
        assert!(short.starts_with("lowerdir=2:1:0,upperdir=u,workdir=w,metacopy=off,index=off,"), "{short}");
        assert!(short.ends_with(",volatile"), "{short}");
        assert!(!line(2, false).into_string().unwrap().contains("upperdir"));
    }

    #[test]
    fn directories_by_path_work_as_by_descriptor() {
        if !is_root() {
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

    #[test]
    fn what_is_mounted_in_one_line_is_seen_by_nobody_else() {
        if !is_root() {
            return;
        }
        let count =
            || std::fs::read_to_string("/proc/self/mountinfo").unwrap().matches(" - overlay rb ").count();
        let scratch = tempfile::tempdir().unwrap();
        let [low, high, upper, work] = ["low", "high", "upper", "work"].map(|name| {
            let path = scratch.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        });
        std::fs::write(low.join("both"), "low").unwrap();
        std::fs::write(high.join("both"), "high").unwrap();
        let before = count();
        let writable = Upper { upper: upper.clone(), work };
        let mount = Stacking::OneLine.mount(&[low, high], Some(&writable), Attributes::NODEV).unwrap();
        assert_eq!(count(), before);
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&mount, "both", flags, Mode::empty()).unwrap();
        let mut text = [0; 8];
        assert_eq!(rustix::io::read(&file, &mut text).unwrap(), 4);
        assert!(text.starts_with(b"high"));
        drop(file);
        assert_eq!(std::fs::read(upper.join("both")).unwrap(), b"high", "it was copied up");
        let device = rustix::fs::mknodat(
            &mount,
            "null",
            rustix::fs::FileType::CharacterDevice,
            Mode::RUSR,
            rustix::fs::makedev(1, 3),
        );
        device.unwrap();
        let opened = rustix::fs::openat(&mount, "null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        assert_eq!(opened.unwrap_err(), Errno::ACCESS, "the mount's attributes are set");
    }

    #[test]
    fn a_layer_that_is_not_there_is_named_either_way() {
        if !is_root() {
            return;
        }
        let missing = [PathBuf::from("/nonexistent/a"), PathBuf::from("/nonexistent/b")];
        for way in [Stacking::OneByOne, Stacking::OneLine] {
            let error = way.mount(&missing, None, Attributes::RDONLY).unwrap_err();
            assert!(matches!(&error, ExecError::Open { path, .. } if *path == missing[0]), "{error:?}");
        }
    }

    #[test]
    fn this_kernel_takes_both_or_the_older_way() {
        if !is_root() {
            return;
        }
        let probed = Stacking::probe().expect("overlayfs is here");
        assert_eq!(try_in_memory(Stacking::OneByOne).is_ok(), probed == Stacking::OneByOne);
        try_in_memory(Stacking::OneLine).expect("every kernel takes it");
    }
}
