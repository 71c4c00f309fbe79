"""What is built. Each workload is a folder with a Buildfile and a Dockerfile that say the same, and the phases in which it is timed.

Bytes come from a seed, so that two runs build the same. `scale` makes the data larger or smaller.
"""

import contextlib
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import bare
from .images import Registry, busybox, files
from .measure import Together
from .tools import Limit


@dataclass(frozen=True)
class Phase:
    """One row of the table.

    `cold`: each tool forgets everything before each run. `built`: it forgets, then builds without being timed, so that the output
    alone is timed. Else each tool goes on from what the last run left. `change` alters the folder before each round, for all tools.
    `steps`: what is told is the time of one of so many steps beside its command; `without` is the target that lacks them. `call`: a
    command of rb's alone, no build. `elsewhere`: `rb` builds on a BuildKit of its own, beside BuildKit's client. `limit`: how many steps run at once, and what memory they may take together. `budget` is what `rb` may
    take, in seconds; `faster`, how many times as fast as BuildKit it is to be.
    """

    name: str
    target: str = "all"
    cold: bool = False
    built: bool = False
    change: Callable[[int], None] | None = None
    output: dict | None = None
    steps: int = 0
    without: str = ""
    call: list | None = None
    elsewhere: bool = False
    limit: Limit | None = None
    budget: float | None = None
    faster: float | None = None


class Workload:
    """A workload in its folder."""

    name = ""
    about = ""
    title = ""

    def __init__(self, folder: Path, registry: Registry, scale: float):
        self.folder, self.registry, self.scale = folder, registry, scale
        self.dice = random.Random(self.name)
        folder.mkdir()

    def make(self) -> None:
        """Writes the folder."""

    def phases(self) -> list:
        raise NotImplementedError

    def notes(self, runs: int) -> list:
        """Returns what else is to be said, each a sentence or two."""
        return []

    def watching(self, phase: Phase, tool) -> contextlib.AbstractContextManager:
        """Looks at what a tool does while it builds."""
        return contextlib.nullcontext()

    def write(self, buildfile: str, dockerfile: str) -> None:
        (self.folder / "Buildfile").write_text("VERSION 1\n" + buildfile)
        (self.folder / "Dockerfile").write_text(dockerfile)
        (self.folder / ".dockerignore").write_text("Dockerfile\n.dockerignore\nBuildfile\n")

    def fill(self, folder: str, count: int, size: int) -> None:
        """Writes files of random bytes, a hundred folders of them."""
        for number in range(count):
            path = self.folder / folder / str(number % 100) / str(number)
            if number < 100:
                path.parent.mkdir(parents=True)
            path.write_bytes(self.dice.randbytes(size))

    def touch(self, folder: str, numbers, run: int) -> None:
        """Changes the first bytes of some of these files."""
        for number in numbers:
            with open(self.folder / folder / str(number % 100) / str(number), "r+b") as file:
                file.write(b"run %d" % run)


class Start(Workload):
    name = "start"
    about = "commands that build nothing"

    def make(self) -> None:
        targets = "".join(f"t{number}:\n    FROM scratch\n    COPY Buildfile /\n" for number in range(20))
        self.write(targets, "FROM scratch AS t0\n")

    def phases(self) -> list:
        return [Phase("`rb --version`", call=["--version"], budget=0.010), Phase("`rb ls`, 20 targets", call=["ls"], budget=0.010)]


class Steps(Workload):
    name = "steps"
    about = "steps that do nothing, one after the other"
    title = "one RUN beside its command's own time"

    def make(self) -> None:
        self.count = max(int(40 * self.scale), 5)
        base = self.registry.push("steps", [busybox], self.folder)
        (self.folder / "file").write_text("x")
        # Each is another step: what is equal is run once.
        runs = [f"RUN true {number}\n" for number in range(self.count)]
        self.write(
            f"none:\n    FROM {base}\n    COPY file /file\nall:\n    FROM +none\n" + "".join(f"    {line}" for line in runs),
            f"FROM {base} AS none\nCOPY file /file\nFROM none AS all\n" + "".join(runs),
        )

    def phases(self) -> list:
        return [Phase("", steps=self.count, without="none", budget=0.010)]

    def notes(self, runs: int) -> list:
        return [bare.runtimes(self.folder, runs)]


class Unchanged(Workload):
    name = "unchanged"
    about = "60 instructions in 12 stages, tiny context"
    title = "60 instructions in 12 stages"

    def make(self) -> None:
        base = self.registry.push("unchanged", [busybox], self.folder)
        buildfile, dockerfile = "", ""
        for stage in range(11):
            (self.folder / f"in{stage}").write_text(str(stage))
            steps = f"WORKDIR /w\n{{}}COPY in{stage} .\n{{}}RUN cat in{stage} > a\n{{}}RUN cat a a > /out\n"
            buildfile += f"s{stage}:\n    FROM {base}\n    " + steps.replace("{}", "    ") + "    SAVE ARTIFACT /out\n"
            dockerfile += f"FROM {base} AS s{stage}\n" + steps.replace("{}", "")
        buildfile += f"all:\n    FROM {base}\n" + "".join(f"    COPY +s{stage}/out /out{stage}\n" for stage in range(11))
        dockerfile += f"FROM {base} AS all\n" + "".join(f"COPY --from=s{stage} /out /out{stage}\n" for stage in range(11))
        self.write(buildfile, dockerfile)

    def phases(self) -> list:
        return [Phase("all steps run", cold=True), Phase("nothing changed", budget=0.050)]


class Parallel(Workload):
    name = "parallel"
    about = "8 branches: 4 wait 2 s, 4 compute; then one that reads all"
    title = "8 branches, 4 of which wait for 2 s and 4 compute"

    def make(self) -> None:
        base = self.registry.push("parallel", [busybox], self.folder)
        buildfile, dockerfile = "", ""
        for branch in range(8):
            work = "sleep 2" if branch % 2 else "seq 400000 | md5sum"
            steps = f"RUN {work} > /dev/null\n{{}}RUN echo {branch} > /out\n"
            buildfile += f"b{branch}:\n    FROM {base}\n    " + steps.replace("{}", "    ") + "    SAVE ARTIFACT /out\n"
            dockerfile += f"FROM {base} AS b{branch}\n" + steps.replace("{}", "")
        buildfile += f"all:\n    FROM {base}\n" + "".join(f"    COPY +b{branch}/out /out{branch}\n" for branch in range(8))
        dockerfile += f"FROM {base} AS all\n" + "".join(f"COPY --from=b{branch} /out /out{branch}\n" for branch in range(8))
        self.write(buildfile, dockerfile)

    def phases(self) -> list:
        return [Phase("all steps run", cold=True)]


class Copy(Workload):
    name = "copy"
    about = "20,000 files of 10 kB each, copied"
    title = "20,000 files of 10 kB copied"

    def make(self) -> None:
        self.count = int(20_000 * self.scale)
        self.fill("src", self.count, 10_000)
        self.write("all:\n    FROM scratch\n    COPY src /src\n", "FROM scratch AS all\nCOPY src /src\n")

    def phases(self) -> list:
        some = range(0, self.count, 100)
        return [
            Phase("first build", cold=True),
            Phase("nothing changed", budget=0.120),
            Phase("one file changed", change=lambda run: self.touch("src", [7], run), faster=10),
            Phase("1 % of the files changed", change=lambda run: self.touch("src", some, run)),
        ]


class Context(Workload):
    name = "context"
    about = "100,000 files, 600 MB; the target needs 1,000 of them"
    title = "1,000 files copied of a folder of 100,000"

    def make(self) -> None:
        count = int(1_000 * self.scale)
        for part in range(100):
            self.fill(f"part{part}", count, 6_000)
        self.write("all:\n    FROM scratch\n    COPY part7 /src\n", "FROM scratch AS all\nCOPY part7 /src\n")

    def phases(self) -> list:
        return [
            Phase("first build", cold=True),
            Phase("nothing changed"),
            Phase("one file changed", change=lambda run: self.touch("part7", [7], run)),
        ]


class Export(Workload):
    name = "export"
    about = "6 layers, 600 MB, half incompressible"
    title = "6 layers, 600 MB, half incompressible"

    def make(self) -> None:
        words = b"".join(b"%08x the quick brown fox\n" % number for number in range(40_000))
        for layer in range(6):
            folder = self.folder / f"layer{layer}"
            folder.mkdir()
            for number in range(int(50 * self.scale)):
                (folder / f"noise{number}").write_bytes(self.dice.randbytes(1_000_000))
                (folder / f"words{number}").write_bytes((b"%d\n" % number + words)[:1_000_000])
        copies = "".join(f"{{}}COPY layer{layer} /layer{layer}\n" for layer in range(6))
        self.write(
            "all:\n    FROM scratch\n" + copies.replace("{}", "    ") + "    SAVE IMAGE bench:1\n",
            "FROM scratch AS all\n" + copies.replace("{}", ""),
        )

    def phases(self) -> list:
        def oci(compression: str) -> dict:
            return {"type": "oci", "dest": self.folder.parent / "exported.tar", "compression": compression}

        push = {"type": "image", "name": f"{self.registry.address}/{{tool}}/export:1", "push": "true", "compression": "gzip"}
        return [
            Phase("OCI archive, gzip", built=True, output=oci("gzip")),
            Phase("OCI archive, zstd", built=True, output=oci("zstd")),
            Phase("OCI archive, not compressed", built=True, output=oci("uncompressed")),
            Phase("OCI archive again, one layer changed", output=oci("gzip"), change=self.change),
            Phase("pushed again, one layer changed", output=push, change=self.change),
        ]

    def change(self, run: int) -> None:
        self.runs = getattr(self, "runs", 0) + 1
        (self.folder / "layer5" / "noise0").write_bytes(b"change %d" % self.runs)


class Many(Workload):
    name = "many"
    about = "60 targets over 10 libraries, 3,000 files"
    title = "60 targets over 10 libraries"

    def make(self) -> None:
        base = self.registry.push("many", [busybox], self.folder)
        buildfile, dockerfile = "", ""
        for library in range(10):
            self.fill(f"lib{library}", 100, 500)
            steps = f"COPY lib{library} /lib\n{{}}RUN cat /lib/*/* | md5sum > /out\n"
            buildfile += f"lib{library}:\n    FROM {base}\n    " + steps.replace("{}", "    ") + "    SAVE ARTIFACT /out\n"
            dockerfile += f"FROM {base} AS lib{library}\n" + steps.replace("{}", "")
        apps = max(int(60 * self.scale), 6)
        for app in range(apps):
            self.fill(f"app{app}", 33, 500)
            uses = [app % 10, (app // 10 + app) % 10]
            buildfile += f"app{app}:\n    FROM {base}\n    COPY app{app} /app\n"
            dockerfile += f"FROM {base} AS app{app}\nCOPY app{app} /app\n"
            for library in sorted(set(uses)):
                buildfile += f"    COPY +lib{library}/out /lib{library}\n"
                dockerfile += f"COPY --from=lib{library} /out /lib{library}\n"
            run = "RUN cat /app/*/* /lib?* | md5sum > /out\n"
            buildfile += f"    {run}    SAVE ARTIFACT /out\n"
            dockerfile += run
        copies = "".join(f"    COPY +app{app}/out /{app}\n" for app in range(apps))
        self.write(
            buildfile + "all:\n    FROM scratch\n" + copies,
            dockerfile + "FROM scratch AS all\n" + "".join(f"COPY --from=app{app} /out /{app}\n" for app in range(apps)),
        )
        (self.folder / "README").write_text("0")

    def phases(self) -> list:
        return [
            Phase("all steps run", cold=True),
            Phase("a README changed", change=lambda run: (self.folder / "README").write_text(str(run)) and None),
            Phase("one library changed", change=lambda run: self.touch("lib3", [5], run)),
        ]


class Base(Workload):
    name = "base"
    about = "a base of 12 layers, 600 MB, one of them most of it, from a registry"
    title = "a base of 12 layers, 600 MB, from a registry"

    def make(self) -> None:
        sizes = [360] + [20] * 10 + [40]
        layers = [files(f"layer{number}", int(size * self.scale), 1_000_000, self.dice) for number, size in enumerate(sizes)]
        base = self.registry.push("base", [busybox, *layers], self.folder)
        (self.folder / "file").write_text("x")
        steps = {"copy": "COPY file /file", "run": "RUN echo x > /file"}
        self.write(
            "".join(f"{name}:\n    FROM {base}\n    {step}\n" for name, step in steps.items()),
            "".join(f"FROM {base} AS {name}\n{step}\n" for name, step in steps.items()),
        )

    def phases(self) -> list:
        return [Phase("FROM and COPY", target="copy", cold=True), Phase("FROM and RUN", target="run", cold=True)]


class Budget(Workload):
    name = "budget"
    about = "8 steps that take 300 MB each for 4 s: at once, and under a memory budget of 1 GB"
    title = "8 steps of 300 MB, each for 4 s"
    count, seconds = 8, 4

    def make(self) -> None:
        self.bytes, self.budget = int(300e6 * self.scale), int(1e9 * self.scale)
        self.fits = self.budget // self.bytes
        # What each tool's steps had together, by phase and tool: in the runs that are measured, and in the one before them.
        self.peaks, self.unmeasured = {}, {}
        base = self.registry.push("budget", [busybox], self.folder)
        self.change(-1)
        # What reads the pipe sleeps first, so that what was read into memory stays there.
        hold = f"dd if=/dev/zero bs={self.bytes} count=1 2> /dev/null | (sleep {self.seconds}; cat > /dev/null)"
        buildfile, dockerfile = "", ""
        for step in range(self.count):
            steps = f"COPY run /run\n{{}}RUN {hold}; echo {step} > /out\n"
            buildfile += f"s{step}:\n    FROM {base}\n    " + steps.replace("{}", "    ") + "    SAVE ARTIFACT /out\n"
            dockerfile += f"FROM {base} AS s{step}\n" + steps.replace("{}", "")
        buildfile += f"all:\n    FROM {base}\n" + "".join(f"    COPY +s{step}/out /out{step}\n" for step in range(self.count))
        dockerfile += f"FROM {base} AS all\n" + "".join(f"COPY --from=s{step} /out /out{step}\n" for step in range(self.count))
        self.write(buildfile, dockerfile)

    def phases(self) -> list:
        best = -(-self.count // self.fits) * self.seconds
        under = Limit(jobs=self.count, memory=self.budget, fits=self.fits)
        # Not cold: what steps take rb knows from the build before, which is not measured.
        return [
            Phase("all at once", change=self.change, limit=Limit(jobs=self.count)),
            Phase("under 1 GB", change=self.change, limit=under, budget=1.3 * best),
        ]

    def change(self, run: int) -> None:
        self.run, self.runs = run, getattr(self, "runs", 0) + 1
        (self.folder / "run").write_text(str(self.runs))

    @contextlib.contextmanager
    def watching(self, phase: Phase, tool):
        together = Together(f"bs={self.bytes}")
        together.start()
        try:
            yield
        finally:
            key, peaks = (phase.name, tool.title), self.peaks if self.run > 0 else self.unmeasured
            peaks[key] = max(peaks.get(key, 0), together.end())

    def notes(self, runs: int) -> list:
        told = ", ".join(f"{title} {phase} {peak / 1e6:.0f} MB" for (phase, title), peak in self.peaks.items())
        first = self.unmeasured.get(("under 1 GB", "rb"), 0)
        return [
            f"The most memory that steps of {self.bytes / 1e6:.0f} MB had at one time, under {self.budget / 1e6:.0f} MB or without: {told}. "
            f"Of its first build under it, when it knows nothing of the steps, rb's had {first / 1e6:.0f} MB. For its budget BuildKit "
            f"was told to run {self.fits} steps at once (max-parallelism), so was Buildah (--jobs)."
        ]


ALL = {kind.name: kind for kind in (Start, Steps, Unchanged, Parallel, Many, Copy, Context, Export, Base, Budget)}


def remove(workload: Workload) -> None:
    """Removes a workload's folder."""
    shutil.rmtree(workload.folder)
