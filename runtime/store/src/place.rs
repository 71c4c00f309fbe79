//! May a folder hold a state directory?
//!
//! What can be found out by doing is done once, when the directory is made: renames, hard and symbolic links, modes, locks that
//! exclude, the attributes of overlayfs; that the database can have its log is seen when it is made. By name only those
//! file systems are refused where all of that seems to work and does not: on a share that several machines write,
//! neither locks nor the database's shared memory hold. Whose the folder is and who may write in it is looked at each
//! time.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::error::Context as _;
use crate::{Result, StoreError};

/// SQLite takes paths of 512 bytes; the names of its files below the root come off.
const MAX_ROOT_BYTES: usize = 480;

/// Why a folder cannot hold a state directory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsuitable {
    /// Its file system is shared between machines.
    #[error("it lies on {kind}, where the locks and the shared memory of a database do not hold")]
    Network {
        /// The file system's name.
        kind: &'static str,
    },
    /// Its file system cannot do something that layers or the database need.
    #[error("its file system has no {what}")]
    Lacks {
        /// What it cannot do, as a plural.
        what: &'static str,
    },
    /// Others than its owner may write in it, and so decide what is built.
    #[error("others than its owner may write in it (mode {mode:04o})")]
    OthersMayWrite {
        /// Its permission bits.
        mode: u32,
    },
    /// Its path is too long for the database.
    #[error("its path has {bytes} bytes, more than {limit}")]
    TooLong {
        /// Length of the path.
        bytes: usize,
        /// The most that is possible.
        limit: usize,
    },
}

fn unsuitable(root: &Path, reason: Unsuitable) -> StoreError {
    StoreError::Unsuitable { root: root.to_owned(), reason }
}

/// Refuses what can be refused before the folder is there.
pub(crate) fn check_path(root: &Path) -> Result<()> {
    let bytes = root.as_os_str().len();
    if bytes > MAX_ROOT_BYTES {
        return Err(unsuitable(root, Unsuitable::TooLong { bytes, limit: MAX_ROOT_BYTES }));
    }
    Ok(())
}

/// Refuses a folder of another user.
pub(crate) fn check_owner(root: &Path) -> Result<()> {
    let metadata = fs::metadata(root).context("stat", root)?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        let action = "use the state directory of another user,";
        return Err(StoreError::NoPermission { action, path: root.to_owned() });
    }
    Ok(())
}

/// Refuses a folder of another user, one that others may write, and one on a network. Two system calls.
pub(crate) fn check(root: &Path) -> Result<()> {
    let metadata = fs::metadata(root).context("stat", root)?;
    check_owner(root)?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(unsuitable(root, Unsuitable::OthersMayWrite { mode }));
    }
    let statistics = rustix::fs::statfs(root).context("look at the file system of", root)?;
    // The kernel's numbers have 32 bits; the sign that some get on the way does not matter.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
    match network_kind(statistics.f_type as u32) {
        Some(kind) => Err(unsuitable(root, Unsuitable::Network { kind })),
        None => Ok(()),
    }
}

/// Names a file system that several machines write at once. Source: statfs(2), linux/magic.h.
fn network_kind(magic: u32) -> Option<&'static str> {
    match magic {
        0x6969 => Some("NFS"),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => Some("SMB"),
        0x5346_414f | 0x6b41_4653 => Some("AFS"),
        0x7375_7245 => Some("Coda"),
        _ => None,
    }
}

/// Tries what layers and locks need in a fresh folder at `place`, and removes it again.
pub(crate) fn probe(root: &Path, place: &Path) -> Result<()> {
    DirBuilder::new().mode(0o700).create(place).context("create", place)?;
    let tried = try_all(root, place);
    let removed = fs::remove_dir_all(place).context("remove", place);
    tried.and(removed)
}

fn try_all(root: &Path, place: &Path) -> Result<()> {
    let lacks = |what| unsuitable(root, Unsuitable::Lacks { what });
    // A full or read-only disk is called that; any other refusal means that the file system does not know how.
    let need = |what, path: &Path, done: io::Result<()>| match done {
        Ok(()) => Ok(()),
        Err(error) => match StoreError::io("write", path, error) {
            StoreError::Io { .. } | StoreError::NoPermission { .. } => Err(lacks(what)),
            told => Err(told),
        },
    };
    let [file, renamed, linked, pointer] =
        ["file", "renamed", "linked", "pointer"].map(|name| place.join(name));
    fs::write(&file, "x").context("write", &file)?;
    fs::rename(&file, &renamed).context("rename", &file)?;
    need("hard links", &linked, fs::hard_link(&renamed, &linked))?;
    need("symbolic links", &pointer, symlink("file", &pointer))?;

    fs::set_permissions(&renamed, Permissions::from_mode(0o640)).context("chmod", &renamed)?;
    if fs::metadata(&renamed).context("stat", &renamed)?.mode() & 0o7777 != 0o640 {
        return Err(lacks("file modes"));
    }

    let open = || File::open(&renamed).context("open", &renamed);
    let (held, other) = (open()?, open()?);
    need("file locks", &renamed, held.lock())?;
    if !matches!(other.try_lock(), Err(TryLockError::WouldBlock)) {
        return Err(lacks("file locks that exclude others"));
    }

    // As root overlayfs keeps its marks under the one name, in a user namespace under the other.
    let mark = |name: &str| rustix::fs::setxattr(place, name, b"y", XattrFlags::empty());
    match mark("trusted.overlay.opaque").or_else(|_| mark("user.overlay.opaque")) {
        Ok(()) => Ok(()),
        Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::ROFS)) => Err(error).context("write", place),
        Err(_) => Err(lacks("extended attributes for this user")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_folder_passes_and_nothing_stays() {
        let root = tempfile::tempdir().expect("temp dir");
        check(root.path()).expect("is ours");
        probe(root.path(), &root.path().join("probe")).expect("can do all");
        assert_eq!(fs::read_dir(root.path()).expect("lists").count(), 0);
    }

    #[test]
    fn only_shares_are_refused_by_name() {
        for (magic, kind) in [(0x6969, "NFS"), (0xff53_4d42, "SMB"), (0x7375_7245, "Coda")] {
            assert_eq!(network_kind(magic), Some(kind));
        }
        // ext4, tmpfs, overlayfs, FUSE, 9p: these show by doing.
        for magic in [0xef53, 0x0102_1994, 0x794c_7630, 0x6573_5546, 0x0102_1997] {
            assert_eq!(network_kind(magic), None);
        }
    }
}
