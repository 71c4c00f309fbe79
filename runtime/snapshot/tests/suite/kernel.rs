//! Real overlay mounts. They are never attached anywhere: they live as long as their descriptor, and this machine's
//! mount table does not see them.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rb_snapshot::Xattrs;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

/// A mounted overlay.
pub(crate) struct Mounted(OwnedFd);

impl Mounted {
    /// Mounts `lowers` (lowest first) under `upper`; `None`, with a word about it, where the kernel refuses.
    pub(crate) fn new(lowers: &[PathBuf], upper: Option<(&Path, &Path)>, xattrs: Xattrs) -> Option<Self> {
        match Self::mount(lowers, upper, xattrs) {
            Ok(mounted) => Some(mounted),
            Err(error) => {
                eprintln!("stepping aside: this machine mounts no overlay with lowerdir+ here: {error}");
                None
            }
        }
    }

    fn mount(lowers: &[PathBuf], upper: Option<(&Path, &Path)>, xattrs: Xattrs) -> rustix::io::Result<Self> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for lower in lowers.iter().rev() {
            fsconfig_set_string(&context, "lowerdir+", lower)?;
        }
        if let Some((upper, work)) = upper {
            fsconfig_set_string(&context, "upperdir", upper)?;
            fsconfig_set_string(&context, "workdir", work)?;
        }
        fsconfig_set_string(&context, "metacopy", "off")?;
        fsconfig_set_string(&context, "index", "off")?;
        match xattrs {
            Xattrs::Trusted => fsconfig_set_string(&context, "redirect_dir", "off")?,
            Xattrs::User => {
                fsconfig_set_flag(&context, "userxattr")?;
                fsconfig_set_string(&context, "redirect_dir", "nofollow")?;
            }
        }
        fsconfig_create(&context)?;
        Ok(Self(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?))
    }

    /// Where ordinary file calls find it.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/", self.0.as_raw_fd()))
    }

    pub(crate) fn root(&self) -> &OwnedFd {
        &self.0
    }
}
