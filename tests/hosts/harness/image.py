"""The file system of a guest, as the archive of an initial RAM disk (cpio, "newc").

In: packages, and files besides. Out: one file that a kernel unpacks. Owners and modes are those of the packages, and nobody needs to be
root for it. Hard links become files of their own.
Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
"""

import re
import stat
from pathlib import Path

from .packages import MERGED, Index, Package, Unavailable, members

# Of a distribution, what no test reads.
LEFT_OUT = re.compile(r"usr/share/(doc|man|info|locale|lintian|bug|zoneinfo)/.|usr/lib/(firmware|debug)/.|usr/lib/linux-image-.*/.")

# Of a kernel's modules, what no virtual machine of ours has use for.
NO_MODULES = re.compile(
    r"usr/lib/modules/[^/]*/kernel/(sound/|drivers/(?!block|virtio|net/(tun|veth|virtio_net|dummy|net_failover|loopback)|char/(virtio|hw)"
    r"|nvdimm|scsi/scsi_|cdrom|misc/|firmware)|net/(wireless|bluetooth|mac80211|can|nfc|rds|tipc|sctp|dccp|batman|sunrpc|ceph|rxrpc|ax25)"
    r"|fs/(xfs|btrfs|ocfs2|gfs2|nfs|ceph|cifs|smb|jfs|reiserfs|f2fs|ubifs|afs|coda|bcachefs|orangefs|nilfs2|ntfs))"
)


class Image:
    """A tree that is being gathered."""

    def __init__(self):
        self.entries: dict[str, tuple] = {}
        for name in MERGED:
            self.folder(f"usr/{name}")
            self.link(name, f"usr/{name}")
        for name in ("proc", "sys", "dev", "run", "root", "etc", "var", "mnt", "home", "work", "var/lib", "var/lib/dpkg"):
            self.folder(name)
        self.folder("tmp", 0o1777)
        self.folder("var/tmp", 0o1777)

    def add(self, path: str, mode: int, content: bytes = b"", uid: int = 0, gid: int = 0) -> None:
        parent = path.rpartition("/")[0]
        if parent and parent not in self.entries:
            self.add(parent, stat.S_IFDIR | 0o755)
        self.entries[path] = (mode, uid, gid, content)

    def folder(self, path: str, mode: int = 0o755) -> None:
        self.add(path, stat.S_IFDIR | mode)

    def link(self, path: str, target: str) -> None:
        self.add(path, stat.S_IFLNK | 0o777, target.encode())

    def file(self, path: str, content: bytes | str, mode: int = 0o644) -> None:
        self.add(path, stat.S_IFREG | mode, content.encode() if isinstance(content, str) else content)

    def packages(self, index: Index, packages: list[Package]) -> None:
        """Adds packages, and the list of them that a distribution keeps."""
        for package in packages:
            for member, content in members(index.file(package)):
                path = member.name
                if not path or path in MERGED or LEFT_OUT.match(path) or NO_MODULES.match(path):
                    continue
                if member.isdir():
                    if path not in self.entries:
                        self.add(path, stat.S_IFDIR | member.mode, b"", member.uid, member.gid)
                elif member.issym():
                    self.link(path, member.linkname)
                elif member.islnk():
                    if member.linkname in self.entries:
                        self.entries[path] = self.entries[member.linkname]
                elif member.isreg():
                    self.add(path, stat.S_IFREG | member.mode, content, member.uid, member.gid)
        status = "\n\n".join(
            package.stanza.replace("\n", "\nStatus: install ok installed\n", 1) for package in packages
        )
        self.file("var/lib/dpkg/status", status + "\n")

    def kernel(self) -> bytes:
        """Returns the kernel that a package brought."""
        found = [entry[3] for path, entry in self.entries.items() if path.startswith("boot/vmlinuz-")]
        if len(found) != 1:
            raise Unavailable("the packages bring no kernel")
        return found[0]

    def write(self, path: Path) -> None:
        with path.open("wb") as out:
            entries = sorted(self.entries.items())
            for number, (name, (mode, uid, gid, content)) in enumerate(entries, 1):
                if name.startswith("boot/"):
                    continue
                out.write(record(number, name, mode, uid, gid, content))
            # Before there is a /dev, the first process has this to speak to.
            out.write(record(len(entries) + 1, "dev/console", stat.S_IFCHR | 0o600, 0, 0, b"", (5, 1)))
            out.write(record(0, "TRAILER!!!", 0, 0, 0, b""))


def record(number: int, name: str, mode: int, uid: int, gid: int, content: bytes, device: tuple[int, int] = (0, 0)) -> bytes:
    fields = (number, mode, uid, gid, 1, 0, len(content), 0, 0, *device, len(name.encode()) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    pad = lambda data: data + b"\0" * (-len(data) % 4)
    return pad(head) + pad(content)
