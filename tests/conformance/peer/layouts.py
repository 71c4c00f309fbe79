"""What cases begin with: images as OCI layouts, the user's folders, archives. Nothing is downloaded."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

TIME = 1_500_000_000
CAPABILITY = bytes([1, 0, 0, 2, 0, 0x20] + [0] * 14).decode("latin-1")


class Tar:
    """A tar that is being written."""

    def __init__(self):
        self.bytes = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.bytes, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8")

    def add(self, name: str, kind: bytes = tarfile.REGTYPE, text: str = "", mode: int = 0o644, link: str = "", **more):
        entry = tarfile.TarInfo(name)
        data = text.encode()
        entry.type, entry.mode, entry.linkname, entry.mtime = kind, mode, link, more.get("mtime", TIME)
        entry.uid, entry.gid = more.get("owner", (0, 0))
        entry.devmajor, entry.devminor = more.get("device", (0, 0))
        entry.size = len(data) if kind == tarfile.REGTYPE else 0
        entry.pax_headers = {f"SCHILY.xattr.{key}": value for key, value in more.get("xattrs", {}).items()}
        self.tar.addfile(entry, io.BytesIO(data) if kind == tarfile.REGTYPE else None)

    def folder(self, name: str, mode: int = 0o755, **more):
        self.add(name, tarfile.DIRTYPE, mode=mode, **more)

    def symlink(self, name: str, target: str, **more):
        self.add(name, tarfile.SYMTYPE, mode=0o777, link=target, **more)

    def done(self) -> bytes:
        self.tar.close()
        return self.bytes.getvalue()


def rich() -> list:
    """One of everything, in two layers."""
    first, second = Tar(), Tar()
    first.folder("d", 0o751, owner=(3, 4), mtime=TIME + 1)
    first.add("d/file", text="text of file", mtime=TIME + 2)
    first.add("d/deleted", text="only in the first layer")
    first.folder("d/deep")
    first.folder("d/deep/er", 0o700)
    first.add("d/deep/er/file", text="deep")
    first.folder("empty", 0o711)
    first.folder("opaque")
    first.add("opaque/below", text="hidden by the second layer")
    first.folder("etc")
    first.add("etc/passwd", text="root:x:0:0::/root:/bin/sh\nweb:x:33:44::/:/bin/sh\n")
    first.add("etc/group", text="root:x:0:\nstaff:x:50:web\n")
    first.folder("links")
    first.add("links/one", text="of two names")
    first.add("links/two", tarfile.LNKTYPE, link="links/one")
    first.symlink("links/to-file", "../d/file", owner=(5, 6))
    first.symlink("links/to-file-absolute", "/d/file")
    first.symlink("links/to-folder", "/d")
    first.symlink("links/dangling", "/new/a")
    first.symlink("links/loop", "loop")
    first.folder("special")
    first.add("special/pipe", tarfile.FIFOTYPE, mode=0o640, owner=(9, 9))
    first.add("special/null", tarfile.CHRTYPE, mode=0o666, device=(1, 3))
    first.folder("attributes", xattrs={"user.folder": "f"})
    first.add("attributes/file", text="a", xattrs={"user.rb": "value", "user.empty": ""})
    first.add("attributes/capable", text="c", mode=0o755, xattrs={"security.capability": CAPABILITY})
    first.folder("owned", owner=(33, 44))
    first.add("owned/file", text="o", owner=(33, 50))
    first.folder("owned/inner", 0o2770, owner=(1000, 1000))
    first.add("owned/inner/file", text="i", owner=(1000, 1001))
    first.folder("modes")
    for name, mode in [("setuid", 0o4755), ("setgid", 0o2711), ("none", 0), ("all", 0o777), ("script", 0o755)]:
        first.add(f"modes/{name}", text=name, mode=mode)
    first.folder("modes/sticky", 0o1777)
    first.add("modes/sticky/file", text="s", mode=0o600)
    first.folder("odd")
    for name in ["*", "[x]", "a b", "ünï", "-", "new\nline", "#", "!"]:
        first.add(f"odd/{name}", text=name)
    first.folder("kinds")
    first.folder("kinds/folder", 0o700)
    first.add("kinds/folder/file", text="in rich")
    first.add("kinds/file", text="in rich")
    first.symlink("kinds/link", "file")
    first.folder("kinds/with-link")
    first.symlink("kinds/with-link/x", "/d")
    first.folder("kinds/with-folder")
    first.folder("kinds/with-folder/x")
    first.add("kinds/with-folder/x/file", text="in rich")
    second.add("d/.wh.deleted")
    second.add("d/second", text="of the second layer", mtime=TIME + 3)
    second.folder("opaque", 0o700)
    second.add("opaque/.wh..wh..opq")
    second.add("opaque/above", text="seen")
    return [first.done(), second.done()]


def other() -> list:
    """A tree that has some of the same paths."""
    first, second = Tar(), Tar()
    first.folder("d", 0o700, owner=(11, 12), xattrs={"user.other": "x"})
    first.add("d/file", text="in other", mode=0o600)
    first.add("d/only", text="only in other")
    first.folder("same")
    first.folder("same/file")
    first.folder("opaque")
    first.add("opaque/other", text="in other")
    first.folder("owned", 0o711)
    first.add("owned/other", text="in other")
    first.folder("kinds")
    first.add("kinds/folder", text="a file in other")
    first.folder("kinds/file", 0o711)
    first.add("kinds/file/inner", text="in other")
    first.folder("kinds/link")
    first.add("kinds/link/inner", text="in other")
    first.folder("kinds/with-link")
    first.folder("kinds/with-link/x")
    first.add("kinds/with-link/x/kept", text="in other")
    first.folder("kinds/with-folder")
    first.symlink("kinds/with-folder/x", "/d")
    first.folder("links")
    first.add("links/one", text="in other")
    first.add("links/two", tarfile.LNKTYPE, link="links/one")
    first.symlink("links/to-file", "../d/file")
    first.symlink("links/to-folder", "/d")
    first.symlink("links/dangling", "/nowhere")
    second.add("d/later", text="of the second layer")
    return [first.done(), second.done()]


def devices() -> list:
    """A block device: BuildKit writes those into a tar as what they are not."""
    layer = Tar()
    layer.add("block", tarfile.BLKTYPE, mode=0o660, device=(7, 200))
    return [layer.done()]


def busybox() -> list:
    """A static busybox, a link for each of its commands, and the places that runtimes mount something on."""
    layer, binary = Tar(), Path(shutil.which("busybox"))
    for folder in ("bin", "dev", "etc", "proc", "run", "sys", "t", "w"):
        layer.folder(folder)
    layer.folder("tmp", 0o1777)
    for file in ("etc/hosts", "etc/hostname", "etc/resolv.conf", "run/.containerenv"):
        layer.add(file)
    layer.add("etc/passwd", text="root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/w:/bin/sh\n")
    layer.add("etc/group", text="root:x:0:\napp:x:1000:\n")
    entry, data = tarfile.TarInfo("bin/busybox"), binary.read_bytes()
    entry.mode, entry.size, entry.mtime = 0o755, len(data), TIME
    layer.tar.addfile(entry, io.BytesIO(data))
    for command in subprocess.check_output([binary, "--list"], text=True).split():
        if command != "busybox":
            layer.symlink(f"bin/{command}", "busybox")
    return [layer.done()]


def layout(folder: Path, layers: list) -> str:
    """Writes an image; returns its digest."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes, kind: str) -> dict:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers]},
        "history": [{"created_by": "test"}] * len(layers),
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(config).encode(), "config.v1+json"),
        "layers": [blob(gzip.compress(layer, 6, mtime=0), "layer.v1.tar+gzip") for layer in layers],
    }
    described = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    return described["digest"]


def user_folder(folder: Path) -> None:
    """A folder of the user's."""
    (folder / "folder" / "inner").mkdir(parents=True)
    (folder / "file").write_text("of the user")
    (folder / "folder" / "run").write_text("#!/bin/sh\n")
    (folder / "folder" / "run").chmod(0o755)
    (folder / "folder" / "inner" / "private").write_text("p")
    (folder / "folder" / "inner" / "private").chmod(0o600)
    (folder / "folder" / "inner").chmod(0o700)
    (folder / "link").symlink_to("folder/run")
    (folder / "dangling").symlink_to("/nowhere")
    (folder / "empty").mkdir()
    for path in folder.rglob("*"):
        os.utime(path, (TIME, TIME), follow_symlinks=False)


def archives(folder: Path) -> None:
    """Archives, good and bad."""
    folder.mkdir()

    def put(name: str, data: bytes) -> None:
        (folder / name).write_bytes(data)

    def tar(fill) -> bytes:
        made = Tar()
        fill(made)
        return made.done()

    everything = rich()[0]
    put("all.tar", everything)
    put("all.tar.gz", gzip.compress(everything, mtime=0))
    put("all.tar.bz2", bz2.compress(everything))
    put("all.tar.xz", lzma.compress(everything))
    put("all.tar.zst", subprocess.run(["zstd", "-q", "-c"], input=everything, check=True, capture_output=True).stdout)
    half = len(everything) // 2
    put("two-streams.tar.gz", gzip.compress(everything[:half], mtime=0) + gzip.compress(everything[half:], mtime=0))
    put("text", b"no archive")
    put("text.gz", gzip.compress(b"no archive", mtime=0))
    put("empty", b"")
    put("empty.tar", bytes(1024))
    put("cut.tar", everything[: half + 100])
    packed = gzip.compress(everything, mtime=0)
    put("cut.tar.gz", packed[: len(packed) - 100])
    put("flipped.tar.gz", packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:])
    put("climbing.tar", tar(lambda made: (made.add("a"), made.add("../../climbed", text="x"))))
    put("absolute.tar", tar(lambda made: made.add("/abs/file", text="x")))
    put("implied.tar", tar(lambda made: made.add("no/folders/named", text="x", owner=(5, 5))))
    put("names.tar", tar(lambda made: [made.add(name, text=name) for name in ("./dot", "a//b", "c/./d", "*", "e/", "x" * 200)]))
    put("whiteouts.tar", tar(lambda made: (made.add("f"), made.add(".wh.f", text="w"), made.add("g/.wh..wh..opq"))))
    put("root.tar", tar(lambda made: (made.folder("./", 0o700, owner=(5, 5)), made.add("./f", text="x"))))
    put("link-out.tar", tar(lambda made: made.add("l", tarfile.LNKTYPE, link="../../etc/passwd")))
    put("link-missing.tar", tar(lambda made: made.add("l", tarfile.LNKTYPE, link="not-there")))
    put("replacing.tar", tar(lambda made: (
        made.folder("a"), made.add("a/b", text="1"), made.add("a", text="2"), made.folder("c"), made.add("c", text="x"),
        made.folder("c", 0o700), made.add("c/d", text="3"), made.symlink("e", "c"), made.add("e", text="4"))))
    put("through-own-link.tar", tar(lambda made: (made.folder("c"), made.symlink("l", "c"), made.add("l/f", text="x"))))
    put("onto.tar", tar(lambda made: (
        made.folder("d", 0o755), made.add("d/file", text="unpacked"), made.add("kinds/folder/in", text="unpacked"),
        made.add("kinds/file", text="unpacked"), made.add("links/to-folder/in", text="through"),
        made.add("links/two", text="unpacked"))))
    comment = tarfile.TarInfo("pax_global_header")
    comment.type = tarfile.XGLTYPE
    body = b"21 comment=commented\n"
    comment.size = len(body)
    block = comment.tobuf(tarfile.USTAR_FORMAT) + body + bytes(512 - len(body))
    put("global.tar", block + tar(lambda made: made.add("f", text="x")))
    put("t1.tar", tar(lambda made: made.add("one", text="1")))
    (folder / "link-to-all").symlink_to("all.tar")
    (folder / "folder").mkdir()
    put("folder/all.tar", everything)
    for path in folder.rglob("*"):
        os.utime(path, (TIME, TIME), follow_symlinks=False)
