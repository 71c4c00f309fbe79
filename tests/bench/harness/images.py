"""Base images and the registry they come from: Debian's `docker-registry` on a free port of loopback.

Images are made here, from busybox and seeded bytes; nothing is downloaded.
"""

import gzip
import hashlib
import io
import json
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.request
from pathlib import Path

from .measure import Failed

CONFIG = """\
version: 0.1
storage:
  filesystem:
    rootdirectory: {root}
  delete:
    enabled: true
http:
  addr: {address}
"""


class Registry:
    """A registry that lives as long as this does."""

    def __init__(self, work: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = "127.0.0.1:%d" % free.getsockname()[1]
        config = work / "registry.yml"
        config.write_text(CONFIG.format(root=work / "registry", address=self.address))
        with open(work / "registry.log", "wb") as log:
            self.server = subprocess.Popen(["docker-registry", "serve", config], stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"http://{self.address}/v2/")
                break
            except OSError:
                if self.server.poll() is not None or time.monotonic() > deadline:
                    raise Failed("docker-registry does not come up") from None
                time.sleep(0.1)

    def stop(self) -> None:
        self.server.terminate()
        self.server.wait()

    def push(self, name: str, layers: list, work: Path, own=None) -> str:
        """Pushes an image of layers, each a function that fills a tar; `own` gives its config by their diff ids. Returns its name."""
        layout = work / f"layout-{name}"
        blobs = layout / "blobs" / "sha256"
        blobs.mkdir(parents=True)

        def blob(data: bytes, kind: str) -> dict:
            digest = hashlib.sha256(data).hexdigest()
            (blobs / digest).write_bytes(data)
            return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

        descriptors, diffs = [], []
        for fill in layers:
            plain = io.BytesIO()
            with tarfile.open(fileobj=plain, mode="w") as archive:
                fill(archive)
            diffs.append("sha256:" + hashlib.sha256(plain.getvalue()).hexdigest())
            descriptors.append(blob(gzip.compress(plain.getvalue(), 6, mtime=0), "layer.v1.tar+gzip"))
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": own(diffs) if own else {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": diffs},
            "history": [{"created_by": "bench"}] * len(diffs),
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": blob(json.dumps(config).encode(), "config.v1+json"),
            "layers": descriptors,
        }
        described = blob(json.dumps(manifest).encode(), "manifest.v1+json")
        (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
        target = f"{self.address}/{name}:1"
        copy = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{layout}", f"docker://{target}"]
        subprocess.run(copy, check=True, stdin=subprocess.DEVNULL)
        shutil.rmtree(layout)
        return target


def busybox(archive: tarfile.TarFile) -> None:
    """Fills a layer with a static busybox, a link for each of its commands, and the places that runtimes mount something on."""
    binary = Path(shutil.which("busybox"))
    for folder in ("bin", "dev", "etc", "proc", "run", "sys", "tmp"):
        entry = tarfile.TarInfo(folder)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
        archive.addfile(entry)
    for file in ("etc/hosts", "etc/hostname", "etc/resolv.conf", "run/.containerenv"):
        archive.addfile(tarfile.TarInfo(file))
    entry = tarfile.TarInfo("bin/busybox")
    data = binary.read_bytes()
    entry.mode, entry.size = 0o755, len(data)
    archive.addfile(entry, io.BytesIO(data))
    for command in subprocess.check_output([binary, "--list"], text=True).split():
        if command != "busybox":
            link = tarfile.TarInfo(f"bin/{command}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)


def files(folder: str, count: int, size: int, dice) -> callable:
    """Returns what fills a layer with files, each half random bytes and half one byte."""

    def fill(archive: tarfile.TarFile) -> None:
        for number in range(count):
            entry = tarfile.TarInfo(f"{folder}/{number % 50}/{number}")
            data = dice.randbytes(size // 2) + b"x" * (size - size // 2)
            entry.mode, entry.size = 0o644, len(data)
            archive.addfile(entry, io.BytesIO(data))

    return fill
