"""Trees of results, compared before a time counts.

In: a tar that a tool wrote of its result. Out: path → (type, mode, owner, link, digest of the bytes). Times do not count: the tools
clamp them differently; nor does the file that tells programs of Buildah's where they are: Buildah takes it away after a step, also where
the base has it.
"""

import hashlib
import tarfile
from pathlib import Path

OF_BUILDAH = "run/.containerenv"


def read(path: Path) -> dict:
    """Reads the tree of a tar, whatever the order of its entries."""
    tree = {}
    with tarfile.open(path) as archive:
        for entry in archive:
            name = entry.name.removeprefix("./").strip("/")
            if not name or name in (".", OF_BUILDAH):
                continue
            digest = hashlib.sha256()
            if entry.isreg():
                with archive.extractfile(entry) as file:
                    while piece := file.read(1 << 20):
                        digest.update(piece)
            # A hard link is the file it leads to.
            if entry.islnk():
                tree[name] = tree[entry.linkname.removeprefix("./").strip("/")]
                continue
            mode = None if entry.issym() else entry.mode & 0o7777
            tree[name] = (entry.type, mode, entry.uid, entry.gid, entry.linkname, digest.hexdigest())
    return tree


def difference(ours: dict, theirs: dict) -> str | None:
    """Names the first difference of two trees, or returns `None`."""
    for path in sorted(ours.keys() | theirs.keys()):
        if ours.get(path) != theirs.get(path):
            return f"/{path}: {ours.get(path)} beside {theirs.get(path)}"
    return None
