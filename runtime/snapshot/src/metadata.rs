//! What a file is, apart from its content: type, mode, owner, times, and which extended attributes belong to it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use rustix::fs::{FileType as Type, Stat};

/// What kind of file stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileType {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// A file's metadata, as `lstat` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The type.
    pub file_type: FileType,
    /// The 12 mode bits: permissions, set-id bits, sticky.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Length of the content.
    pub size_bytes: u64,
    /// What it occupies on the disk.
    pub allocated_bytes: u64,
    /// Time of last modification, nanoseconds since 1970.
    pub modified_ns: i64,
    /// Time of last access, nanoseconds since 1970.
    pub accessed_ns: i64,
    /// Time of last change of content or metadata, nanoseconds since 1970.
    pub changed_ns: i64,
    /// The device that holds it.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// How many names it has.
    pub links: u64,
    /// Major and minor number, for devices.
    pub device_number: (u32, u32),
}

/// Extended attributes by name.
pub type ExtendedAttributes = BTreeMap<OsString, Vec<u8>>;

impl Metadata {
    /// Takes over what the kernel said.
    pub fn of(stat: &Stat) -> Self {
        let nanoseconds = |seconds: i64, rest: u64| {
            seconds.saturating_mul(1_000_000_000).saturating_add(i64::try_from(rest).unwrap_or(0))
        };
        let raw = stat.st_mode;
        #[allow(clippy::useless_conversion, reason = "it has 32 bits on arm64")]
        let links = u64::from(stat.st_nlink);
        Self {
            file_type: match Type::from_raw_mode(raw) {
                Type::Directory => FileType::Directory,
                Type::Symlink => FileType::Symlink,
                Type::Fifo => FileType::Fifo,
                Type::Socket => FileType::Socket,
                Type::CharacterDevice => FileType::CharDevice,
                Type::BlockDevice => FileType::BlockDevice,
                Type::RegularFile | Type::Unknown => FileType::File,
            },
            mode: raw & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size_bytes: u64::try_from(stat.st_size).unwrap_or(0),
            allocated_bytes: u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512),
            modified_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            accessed_ns: nanoseconds(stat.st_atime, stat.st_atime_nsec),
            changed_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
            device: stat.st_dev,
            inode: stat.st_ino,
            links,
            device_number: (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
        }
    }

    /// The root of an empty tree: a directory of root's, mode 0755.
    pub(crate) fn empty_root() -> Self {
        Self {
            file_type: FileType::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            size_bytes: 0,
            allocated_bytes: 0,
            modified_ns: 0,
            accessed_ns: 0,
            changed_ns: 0,
            device: 0,
            inode: 0,
            links: 2,
            device_number: (0, 0),
        }
    }

    /// Tells whether this is a directory.
    pub fn is_directory(&self) -> bool {
        self.file_type == FileType::Directory
    }

    /// Tells whether overlayfs takes this for a deleted name: the character device 0/0.
    pub(crate) fn is_whiteout(&self) -> bool {
        self.file_type == FileType::CharDevice && self.device_number == (0, 0)
    }

    /// Identifies the inode if it has other names.
    pub(crate) fn hard_link_group(&self) -> Option<(u64, u64)> {
        (self.links > 1 && self.file_type != FileType::Directory).then_some((self.device, self.inode))
    }

    /// The modes and owner that decide content, times left out.
    pub(crate) fn same_attributes(&self, other: &Self) -> bool {
        (self.file_type, self.mode, self.uid, self.gid) == (other.file_type, other.mode, other.uid, other.gid)
    }
}

/// The POSIX access rights of a file besides its mode.
pub(crate) const ACCESS_RIGHTS: &str = "system.posix_acl_access";
/// Those that a directory gives to whatever is created in it.
pub(crate) const DEFAULT_RIGHTS: &str = "system.posix_acl_default";

/// Tells whether an extended attribute belongs to the file rather than to the machine it lies on.
///
/// Overlay's own are how layers are kept. Of `security.*` only file capabilities travel: labels (SELinux, IMA, …) are
/// this machine's policy, set by its kernel on every new file, and would make keys differ between machines.
pub(crate) fn is_content_attribute(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    !(name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay."))
        && (!name.starts_with(b"security.") || name == b"security.capability")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_the_machine_stay_behind() {
        for (name, belongs) in [
            ("user.note", true),
            ("security.capability", true),
            ("system.posix_acl_access", true),
            ("trusted.other", true),
            ("security.selinux", false),
            ("trusted.overlay.opaque", false),
            ("user.overlay.opaque", false),
        ] {
            assert_eq!(is_content_attribute(OsStr::new(name)), belongs, "{name}");
        }
    }
}
