"""Packages of Debian and Ubuntu: what they need, their files, and no script of theirs run.

In: an archive, and names of packages. Out: their files as members of one tar. Each file is what the archive's index says it is, by its
sha256; the index comes by HTTPS or is believed (this makes guests that are thrown away, not machines).
"""

import gzip
import hashlib
import lzma
import re
import subprocess
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path


class Unavailable(Exception):
    """Something that a host is made of cannot be had."""


@dataclass(frozen=True)
class Archive:
    """A distribution's archive: where it is, and which suites of it count, the last the most."""

    url: str
    suites: tuple[str, ...]
    components: tuple[str, ...] = ("main",)
    extra: str = ""
    extra_suites: tuple[str, ...] = ()

    def places(self):
        for url, suites in ((self.url, self.suites), (self.extra, self.extra_suites)):
            for suite in suites:
                for component in self.components:
                    yield url, suite, component


@dataclass(frozen=True)
class Package:
    name: str
    stanza: str
    url: str
    fields: dict


class Index:
    """All packages of an archive."""

    def __init__(self, archive: Archive, cache: Path):
        self.cache = cache
        self.packages: dict[str, Package] = {}
        self.provided: dict[str, str] = {}
        for url, suite, component in archive.places():
            for package in self.read(url, suite, component):
                self.packages[package.name] = package
                for name in names(package.fields.get("Provides", "")):
                    self.provided.setdefault(name[0], package.name)

    def read(self, url: str, suite: str, component: str):
        base = f"{url}/dists/{suite}/{component}/binary-amd64/Packages"
        kept = self.cache / "indices" / re.sub(r"[^\w.]", "_", base)
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            try:
                text = lzma.decompress(fetched(base + ".xz"))
            except Unavailable:
                text = gzip.decompress(fetched(base + ".gz"))
            kept.write_bytes(text)
        for stanza in kept.read_text().split("\n\n"):
            fields = dict(re.findall(r"^([A-Z][\w-]*): (.*)$", stanza, re.M))
            if "Package" in fields:
                yield Package(fields["Package"], stanza.strip(), f"{url}/{fields['Filename']}", fields)

    def find(self, name: str) -> Package | None:
        return self.packages.get(name) or self.packages.get(self.provided.get(name, ""))

    def newest(self, pattern: str) -> str:
        """Returns the last name that matches, by the numbers in it."""
        number = lambda name: [int(part) for part in re.findall(r"\d+", name)]
        found = sorted((name for name in self.packages if re.fullmatch(pattern, name)), key=number)
        if not found:
            raise Unavailable(f"the archive has no package {pattern}")
        return found[-1]

    def closure(self, wanted: list[str], without: frozenset[str] = frozenset()) -> list[Package]:
        """Returns packages and what they depend on; recommendations are not followed."""
        found: dict[str, Package] = {}
        todo = list(wanted)
        while todo:
            package = self.find(todo.pop())
            if package is None or package.name in found or package.name in without:
                continue
            found[package.name] = package
            for field in ("Pre-Depends", "Depends"):
                for choices in names(package.fields.get(field, "")):
                    todo.extend(name for name in choices[:1] if self.find(name)) or todo.extend(choices[1:])
        missing = [name for name in wanted if self.find(name) is None]
        if missing:
            raise Unavailable(f"the archive has no package {missing[0]}")
        return sorted(found.values(), key=lambda package: package.name)

    def file(self, package: Package) -> Path:
        kept = self.cache / "packages" / Path(package.url).name
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            content = fetched(package.url)
            if hashlib.sha256(content).hexdigest() != package.fields["SHA256"]:
                raise Unavailable(f"{package.url} is not what its index says")
            part = kept.with_suffix(".part")
            part.write_bytes(content)
            part.rename(kept)
        return kept


def names(field: str) -> list[list[str]]:
    """Reads a list of dependencies, each with its alternatives."""
    parts = [part for part in field.split(",") if part.strip()]
    return [[re.split(r"[ (:\[]", choice.strip())[0] for choice in part.split("|")] for part in parts]


def fetched(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.read()
    except OSError as error:
        raise Unavailable(f"{url}: {error}") from error


def members(file: Path):
    """Yields the members of a package with their content, below `usr` as in a merged tree."""
    unpacked = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", file], stdout=subprocess.PIPE)
    with tarfile.open(fileobj=unpacked.stdout, mode="r|") as archive:
        for member in archive:
            member.name = merged(member.name)
            if member.islnk():
                member.linkname = merged(member.linkname)
            yield member, archive.extractfile(member).read() if member.isreg() else b""
    if unpacked.wait() != 0:
        raise Unavailable(f"{file.name} cannot be unpacked")


MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


def merged(path: str) -> str:
    path = path.removeprefix("./").strip("/")
    top, _, below = path.partition("/")
    # The links themselves, which a package may bring, are there already.
    return f"usr/{path}" if top in MERGED and below else path
