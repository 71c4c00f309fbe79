//! File systems in memory that every sandbox gets: its `/dev`, and the files about names and addresses.

use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rb_sys::mount::{Attributes, set_attributes};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::roots::{file_system, tmpfs};
use crate::spec::{Network, Spec};

/// What the system call filter and Docker's device rules leave a container: name, major, minor.
pub(crate) const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 5] = [
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

/// Makes a file system of terminals that no one else sees.
pub(crate) fn terminals(tty_group_exists: bool) -> io::Result<OwnedFd> {
    // Every mount is an instance of its own (since Linux 4.7).
    let mut options = vec![("ptmxmode", "0666".to_owned()), ("mode", "0620".to_owned())];
    if tty_group_exists {
        options.push(("gid", TTY_GROUP.to_string()));
    }
    file_system("devpts", &options, Attributes::NOSUID.with(Attributes::NOEXEC))
}

/// Makes `/dev/shm`.
pub(crate) fn shared_memory() -> io::Result<OwnedFd> {
    let options = [("mode", "1777".to_owned()), ("size", "65536k".to_owned())];
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

/// Writes `/etc/hosts`, `/etc/hostname` and, if there is a network, a copy of this machine's `/etc/resolv.conf`.
pub(crate) fn generate(spec: &Spec, hostname: &str) -> io::Result<Generated> {
    let attributes = Attributes::NOSUID.with(Attributes::NODEV).with(Attributes::NOEXEC);
    let mount = tmpfs(&[("mode", "755".to_owned())], attributes)?;
    write_file(&mount, "blank", b"")?;
    make_directory(&mount, "empty")?;
    let mut names = vec!["hosts", "hostname"];
    write_file(&mount, "hosts", hosts(spec, hostname).as_bytes())?;
    write_file(&mount, "hostname", format!("{hostname}\n").as_bytes())?;
    if spec.network == Network::Host
        && let Ok(text) = std::fs::read("/etc/resolv.conf")
    {
        write_file(&mount, "resolv.conf", &text)?;
        names.push("resolv.conf");
    }
    Ok(Generated { mount, names })
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

fn write_file(directory: &OwnedFd, name: &str, mut bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    let file = rustix::fs::openat(directory, name, flags, mode)?;
    rustix::fs::fchmod(&file, mode)?;
    while !bytes.is_empty() {
        let written = rustix::io::write(&file, bytes)?;
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}

fn make_directory(directory: &OwnedFd, name: &str) -> io::Result<()> {
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
