"""Results, compared: trees as tars, images as layers.

In: what `-o type=tar` and `-o type=oci` of both write. Out: path → what stands there, with all that a tar can tell: kind, mode,
owner, content, link, device, attributes, which names are one file; times of what is older than the run.
"""

import gzip
import hashlib
import io
import json
import tarfile

XATTR = "SCHILY.xattr."


def tree(archive: tarfile.TarFile, before: float, of_layer: bool = False) -> dict:
    """Reads a tar; times from `before` on are of the run. BuildKit's layers have no attributes but capabilities."""
    found, first = {}, {}
    for entry in archive:
        name = entry.name.removeprefix("./").strip("/")
        if not name or name == ".":
            continue
        if entry.islnk():
            to = entry.linkname.removeprefix("./").strip("/")
            first[name] = first.get(to, to)
            found[name] = dict(found.get(to, {}))
            continue
        what = {"kind": entry.type.decode(), "owner": (entry.uid, entry.gid)}
        if not entry.issym():
            what["mode"] = oct(entry.mode & 0o7777)
        if entry.isreg():
            with archive.extractfile(entry) as file:
                data = file.read()
            what["content"] = data.decode() if len(data) < 80 and data.isascii() else hashlib.sha256(data).hexdigest()
        if entry.issym():
            what["link"] = entry.linkname
        if entry.isdev() and not entry.isfifo():
            what["device"] = (entry.devmajor, entry.devminor)
        wanted = XATTR + "security.capability" if of_layer else XATTR
        attributes = {key: value for key, value in entry.pax_headers.items() if key.startswith(wanted)}
        # What overlayfs notes for itself: BuildKit takes some of it into differences.
        attributes = {key: value for key, value in attributes.items() if not key.startswith(XATTR + "trusted.overlay.")}
        if attributes:
            what["attributes"] = attributes
        # What a step made, and a folder in which one made something, has the time of the run.
        if not entry.isdir() and not name.rsplit("/", 1)[-1].startswith(".wh."):
            what["time"] = "now" if entry.mtime >= before else int(entry.mtime)
        found[name] = what
    # One file has one set of names, whichever comes first.
    groups = {}
    for name, to in first.items():
        groups.setdefault(to, {to}).add(name)
    for names in groups.values():
        for name in names:
            if name in found:
                found[name]["names"] = sorted(names)
    return found


def of_tar(path, before: float) -> dict:
    with tarfile.open(path) as archive:
        return tree(archive, before)


def layers(path, before: float) -> list:
    """Reads the layers of an image in an archive of a layout, lowest first: each as a tree with its deletions."""
    with tarfile.open(path) as archive:

        def read(name: str) -> bytes:
            with archive.extractfile(name) as file:
                return file.read()

        def blob(descriptor: dict) -> bytes:
            return read("blobs/" + descriptor["digest"].replace(":", "/"))

        document = json.loads(read("index.json"))
        while "manifests" in document:
            images = [entry for entry in document["manifests"] if "vnd.docker.reference.type" not in entry.get("annotations", {})]
            document = json.loads(blob(images[0]))
        found = []
        for descriptor in document["layers"] or []:
            data = blob(descriptor)
            data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
            with tarfile.open(fileobj=io.BytesIO(data)) as layer:
                found.append(tree(layer, before, of_layer=True))
        # Of a step that changed nothing BuildKit keeps a layer that holds nothing.
        return [layer for layer in found if layer]


def difference(ours, theirs) -> str | None:
    """Names the first differences, or returns `None`."""
    if ours == theirs:
        return None
    if isinstance(ours, str) or isinstance(theirs, str):
        return f"rb: {shown(ours)}; BuildKit: {shown(theirs)}"
    if isinstance(ours, list):
        if len(ours) != len(theirs):
            return f"rb has {len(ours)} layers {[sorted(layer) for layer in ours]}, BuildKit {len(theirs)} {[sorted(layer) for layer in theirs]}"
        return "; ".join(f"layer {n}: {difference(a, b)}" for n, (a, b) in enumerate(zip(ours, theirs)) if a != b)
    told = []
    for path in sorted(ours.keys() | theirs.keys()):
        a, b = ours.get(path), theirs.get(path)
        if a != b:
            if a and b:
                a, b = ({key: side.get(key) for key in a.keys() | b.keys() if a.get(key) != b.get(key)} for side in (a, b))
            told.append(f"/{path}: rb {a}, BuildKit {b}")
    return "; ".join(told[:6]) + (f"; and {len(told) - 6} more" if len(told) > 6 else "")


def shown(result) -> str:
    return result if isinstance(result, str) else f"a tree of {len(result)}"
