//! File systems in memory that every sandbox gets: its `/dev`, and the files about names and addresses.
//!
//! `/etc/hosts` names both loopbacks, the sandbox and what was asked for; `/etc/resolv.conf` is the [`resolver`]'s.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rb_sys::mount::{Attributes, set_attributes};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::net::Member;
use crate::resolver;
use crate::roots::{file_system, tmpfs};
use crate::spec::{FileMount, Network, Spec};

/// What the system call filter and Docker's device rules leave a container: name, major, minor.
pub(crate) const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Names in `/dev` that lead elsewhere.
pub(crate) const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

const DIRECTORIES: [&str; 3] = ["pts", "shm", "mqueue"];

/// The group that owns terminals, in every distribution.
const TTY_GROUP: u32 = 5;

/// Makes the tree of `/dev`: empty files for the devices to stand on, directories and links. Device nodes made in it
/// later do not work unless `insecure`: only the bound ones do.
pub(crate) fn device_tree(insecure: bool) -> io::Result<OwnedFd> {
    let options = [("mode", "755".to_owned()), ("size", "65536k".to_owned())];
    let attributes = if insecure { Attributes::NOSUID } else { Attributes::NOSUID.with(Attributes::NODEV) };
    let tree = tmpfs(&options, attributes)?;
    for (name, ..) in DEVICES {
        write_file(&tree, name, b"")?;
    }
    for name in DIRECTORIES {
        make_directory(&tree, name)?;
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, &tree, name)?;
    }
    Ok(tree)
}

/// Attributes of a bound device. A read-only mount lets a device be written all the same, but not the owner and mode of
/// its node, which is this machine's own.
pub(crate) const DEVICE: Attributes = Attributes::NOSUID.with(Attributes::NOEXEC).with(Attributes::RDONLY);

/// Makes a mount of one of this machine's devices, and of nothing that only bears its name.
pub(crate) fn device(name: &str, major: u32, minor: u32) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(CWD, format!("/dev/{name}"), flags)?;
    let stat = rustix::fs::fstat(&mount)?;
    if stat.st_rdev != rustix::fs::makedev(major, minor) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("/dev/{name} is not that device")));
    }
    set_attributes(mount.as_fd(), DEVICE, false)?;
    Ok(mount)
}

/// Where this machine's devices for terminals, memory and messages are, of which a sandbox has its own.
const OWN: [&str; 8] = ["pts", "shm", "mqueue", "fd", "ptmx", "console", "tty", "hugepages"];

/// Makes nodes of all of this machine's devices in the tree of `/dev`, for a command without isolation.
///
/// A process without the right to make nodes (in a user namespace, or without `CAP_MKNOD`) makes none: see [`WITHOUT_NODES`].
pub(crate) fn all_devices(tree: &OwnedFd) -> io::Result<()> {
    copy_devices(Path::new("/dev"), tree, 0)
}

fn copy_devices(from: &Path, to: &OwnedFd, depth: usize) -> io::Result<()> {
    // Deeper there are only links by name.
    const DEEPEST: usize = 2;
    let Ok(entries) = std::fs::read_dir(from) else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let mut own = OWN.into_iter().chain(DEVICES.map(|(name, ..)| name));
        if depth == 0 && own.any(|own| OsStr::new(own) == name) {
            continue;
        }
        // It may be gone by now.
        let Ok(stat) = rustix::fs::lstat(entry.path()) else { continue };
        let kind = FileType::from_raw_mode(stat.st_mode);
        match kind {
            FileType::CharacterDevice | FileType::BlockDevice => {
                let mode = Mode::from_raw_mode(stat.st_mode & 0o777);
                match rustix::fs::mknodat(to, &name, kind, mode, stat.st_rdev) {
                    Ok(()) => {}
                    Err(Errno::PERM) => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
                let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
                rustix::fs::chownat(to, &name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
                rustix::fs::chmodat(to, &name, mode, AtFlags::empty())?;
            }
            FileType::Directory if depth < DEEPEST => {
                rustix::fs::mkdirat(to, &name, Mode::from_raw_mode(0o755))?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let inner = rustix::fs::openat(to, &name, flags, Mode::empty())?;
                copy_devices(&entry.path(), &inner, depth + 1)?;
                drop(inner);
                // One without devices is not shown.
                rustix::fs::unlinkat(to, &name, AtFlags::REMOVEDIR).ok();
            }
            _ => {}
        }
    }
    Ok(())
}

/// Devices that are of use to one who may not make nodes, where this machine has them: they are bound.
pub(crate) const WITHOUT_NODES: [&str; 3] = ["fuse", "kvm", "net/tun"];

/// Makes a mount of a device of this machine, whichever it is; nothing if there is none of this name.
pub(crate) fn any_device(name: &str) -> io::Result<Option<OwnedFd>> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = match open_tree(CWD, format!("/dev/{name}"), flags) {
        Ok(mount) => mount,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&mount)?.st_mode);
    if kind != FileType::CharacterDevice {
        return Ok(None);
    }
    set_attributes(mount.as_fd(), DEVICE, false)?;
    Ok(Some(mount))
}

/// Name of the only file in the mount of [`single`].
pub(crate) const SINGLE: &str = "file";

/// Attributes of a file made by [`single`].
pub(crate) const SINGLE_ATTRIBUTES: Attributes =
    Attributes::NOSUID.with(Attributes::NODEV).with(Attributes::NOEXEC).with(Attributes::RDONLY);

/// Makes a mount in memory with one file.
pub(crate) fn single(file: &FileMount) -> io::Result<OwnedFd> {
    let attributes = Attributes::NOSUID.with(Attributes::NODEV).with(Attributes::NOEXEC);
    let mount = tmpfs(&[("mode", "700".to_owned())], attributes)?;
    let made = create_file(&mount, SINGLE, Mode::from_raw_mode(0o600), file.content.bytes())?;
    rustix::fs::fchown(&made, Some(Uid::from_raw(file.uid)), Some(Gid::from_raw(file.gid)))?;
    rustix::fs::fchmod(&made, Mode::from_raw_mode(file.mode & 0o777))?;
    Ok(mount)
}

/// Makes a file system of terminals that no one else sees.
pub(crate) fn terminals(tty_group_exists: bool) -> io::Result<OwnedFd> {
    // Every mount is an instance of its own (since Linux 4.7).
    let mut options = vec![("ptmxmode", "0666".to_owned()), ("mode", "0620".to_owned())];
    if tty_group_exists {
        options.push(("gid", TTY_GROUP.to_string()));
    }
    file_system("devpts", &options, Attributes::NOSUID.with(Attributes::NOEXEC))
}

/// Makes `/dev/shm`, of 64 MiB unless told otherwise, as Docker does.
pub(crate) fn shared_memory(size_bytes: Option<u64>) -> io::Result<OwnedFd> {
    let size = size_bytes.unwrap_or(64 << 20).to_string();
    let options = [("mode", "1777".to_owned()), ("size", size)];
    tmpfs(&options, Attributes::NOSUID.with(Attributes::NODEV).with(Attributes::NOEXEC))
}

/// The generated files and what hides others.
#[derive(Debug)]
pub(crate) struct Generated {
    /// A mount of them; what is bound from it is to be made read-only.
    pub(crate) mount: OwnedFd,
    /// Their names in it and in `/etc`.
    pub(crate) names: Vec<&'static str>,
}

/// Name of an empty file in the mount of [`generate`].
pub(crate) const BLANK_FILE: &std::ffi::CStr = c"blank";
/// Name of an empty directory there.
pub(crate) const BLANK_DIRECTORY: &std::ffi::CStr = c"empty";

/// Writes `/etc/hosts`, `/etc/hostname` if it is asked for and, if there is a network, a copy of this machine's `/etc/resolv.conf`.
pub(crate) fn generate(spec: &Spec, hostname: &str) -> io::Result<Generated> {
    let attributes = Attributes::NOSUID.with(Attributes::NODEV).with(Attributes::NOEXEC);
    let mount = tmpfs(&[("mode", "755".to_owned())], attributes)?;
    write_file(&mount, "blank", b"")?;
    make_directory(&mount, "empty")?;
    let mut names = Vec::new();
    for (name, text) in texts(spec, hostname)? {
        write_file(&mount, name, &text)?;
        names.push(name);
    }
    Ok(Generated { mount, names })
}

/// Returns the generated files of `/etc`, by name.
pub(crate) fn texts(spec: &Spec, hostname: &str) -> io::Result<Vec<(&'static str, Vec<u8>)>> {
    let mut texts = vec![("hosts", hosts(spec, hostname).into_bytes())];
    if spec.hostname_file {
        texts.push(("hostname", format!("{hostname}\n").into_bytes()));
    }
    if !spec.network.is_none() {
        let own = resolver::of_this_machine(Path::new(resolver::FILE))?;
        let text = match spec.network {
            Network::Member(_) => resolver::asking(Member::resolver(), &own),
            Network::Host | Network::None => own,
        };
        texts.push(("resolv.conf", text));
    }
    Ok(texts)
}

fn hosts(spec: &Spec, hostname: &str) -> String {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    text.push_str(
        "fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    if hostname != "localhost" {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "127.0.0.1\t{hostname}");
    }
    for (name, address) in &spec.hosts {
        let _ = writeln!(text, "{address}\t{name}");
    }
    text
}

fn write_file(directory: &OwnedFd, name: &str, bytes: &[u8]) -> io::Result<()> {
    create_file(directory, name, Mode::from_raw_mode(0o644), bytes).map(drop)
}

pub(crate) fn create_file(directory: &OwnedFd, name: &str, mode: Mode, bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(directory, name, flags, mode)?);
    rustix::fs::fchmod(&file, mode)?;
    file.write_all(bytes)?;
    Ok(file.into())
}

pub(crate) fn make_directory(directory: &OwnedFd, name: &str) -> io::Result<()> {
    let mode = Mode::from_raw_mode(0o755);
    rustix::fs::mkdirat(directory, name, mode)?;
    Ok(rustix::fs::chmodat(directory, name, mode, AtFlags::empty())?)
}

/// Whether the group of terminals exists in this user namespace.
pub(crate) fn tty_group_exists() -> bool {
    crate::identity::is_mapped(&crate::identity::map("gid_map"), TTY_GROUP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::RootMount;

    #[test]
    fn hosts_name_the_sandbox_and_what_was_added() {
        let mut spec = Spec::new(RootMount::directory("/"), vec![]);
        spec.hosts.push(("db".into(), "10.0.0.7".parse().unwrap()));
        let text = hosts(&spec, "builder");
        assert!(text.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(text.ends_with("127.0.0.1\tbuilder\n10.0.0.7\tdb\n"), "{text}");
        assert!(!hosts(&spec, "localhost").contains("127.0.0.1\tlocalhost\n127"));
    }
}
