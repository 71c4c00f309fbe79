"""The tools that are compared. Each builds the same folder: `rb` its Buildfile, if it has one, the others its Dockerfile.

A tool has a state of its own below the working folder. `reset` forgets all results, and keeps base images out of the measured
time only where the workload does not ask for them. `build` measures one build; `tree` writes its result as a tar and is not measured.
"""

import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from .measure import Daemon, Failed, Sample, run


@dataclass(frozen=True)
class Limit:
    """How many steps run at once; or what memory they may take together, of which so many steps fit into it."""

    jobs: int
    memory: int | None = None
    fits: int | None = None


class Tool:
    """A tool with its state below `work`."""

    name = ""
    title = ""

    def __init__(self, work: Path, registry: str):
        self.state = work / "state" / self.name
        self.registry = registry
        self.state.mkdir(parents=True, exist_ok=True)

    def version(self) -> str:
        raise NotImplementedError

    def reset(self) -> None:
        """Forgets everything."""
        shutil.rmtree(self.state, ignore_errors=True)
        self.state.mkdir(parents=True)

    def limit(self, limit: Limit | None) -> None:
        """Says what holds for the builds that follow; without a limit the tool's own default does."""

    def build(self, folder: Path, target: str, output: dict | None) -> Sample:
        """Builds a target; `output` is what `-o` of rb and of BuildKit take, as keys and values."""
        raise NotImplementedError

    def tree(self, folder: Path, target: str, path: Path) -> None:
        """Writes the result of a target as a tar."""
        self.build(folder, target, {"type": "tar", "dest": path})

    def stop(self) -> None:
        """Ends what the tool left running."""


def spelled(output: dict) -> str:
    """Writes the value of `-o`."""
    return ",".join(f"{key}={value}" for key, value in output.items())


class Rb(Tool):
    """`rb` itself: no daemon, nothing left running but what writes results through to the disk."""

    name = "rb"
    title = "rb"

    def __init__(self, work: Path, registry: str, binary: Path, buildkit: Path | None):
        super().__init__(work, registry)
        self.binary, self.limits = binary, []
        self.work, self.buildkit, self.engine = work, buildkit, None

    def version(self) -> str:
        return subprocess.check_output([self.binary, "--version"], text=True).strip()

    def elsewhere(self, wanted: bool) -> None:
        """Has it build on a BuildKit of its own from now on, or not."""
        if wanted and self.engine is None:
            if self.buildkit is None:
                raise Failed("there is no BuildKit")
            self.engine = Engine(self.work, self.registry, self.buildkit)
        if not wanted:
            self.stop()

    def stop(self) -> None:
        if self.engine is not None:
            self.engine.stop()
            self.engine = None

    def reset(self) -> None:
        self.rest()
        super().reset()
        if self.engine is not None:
            self.engine.reset()

    def run(self, words: list) -> Sample:
        if self.engine is None:
            return run(words, env={"RB_ROOT": str(self.state)})
        daemon = Daemon(self.engine.daemon.pid)
        sample = run(words, env={"RB_ROOT": str(self.state), "RB_ENGINE": self.engine.socket})
        return sample.plus(*daemon.since())

    def rest(self) -> None:
        """Waits for what still writes to the disk."""
        wanted = b"__sync\0" + bytes(self.state)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if not any(wanted in words for words in command_lines()):
                return
            time.sleep(0.05)

    def build(self, folder: Path, target: str, output: dict | None) -> Sample:
        out = [] if output is None else ["-o", spelled(output)]
        if not (folder / "Buildfile").exists():
            # As BuildKit, which without an output keeps what it built in its cache alone.
            out = out or ["-o", "type=cacheonly"]
            words = [self.binary, "build", "-q", *self.limits, *out, "--target", target, folder]
            return self.run(words)
        return self.run([self.binary, "-q", "--no-output", *self.limits, *out, f"{folder}+{target}"])

    def limit(self, limit: Limit | None) -> None:
        memory = [] if limit is None or limit.memory is None else [f"--memory-budget={limit.memory}"]
        self.limits = [] if limit is None else [f"--jobs={limit.jobs}", *memory]

    def call(self, words: list, folder: Path) -> Sample:
        """Measures a command in a folder."""
        return run([self.binary, *words], cwd=folder, env={"RB_ROOT": str(self.state)})


def command_lines():
    """Yields the words of each process, ended by NUL."""
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield process.read_bytes()
        except OSError:
            # It has ended meanwhile.
            continue


class BuildKit(Tool):
    """A buildkitd of its own, with its Dockerfile frontend, over `buildctl`."""

    name = "buildkit"
    title = "BuildKit"

    def __init__(self, work: Path, registry: str, folder: Path):
        super().__init__(work, registry)
        self.folder, self.socket, self.daemon = folder, f"unix://{work}/{self.name}.sock", None
        self.parallel = None
        self.log = open(work / f"{self.name}.log", "wb")
        self.start()

    def version(self) -> str:
        modules = subprocess.check_output(["go", "version", "-m", self.folder / "buildkitd"], text=True)
        module = next(line for line in modules.splitlines() if "\tgithub.com/moby/buildkit\t" in line)
        return "BuildKit " + module.split()[2]

    def start(self) -> None:
        config = self.state / "buildkitd.toml"
        parallel = "" if self.parallel is None else f"[worker.oci]\n  max-parallelism = {self.parallel}\n"
        # Two at once have a socket each for what others may tell them of their spans.
        spans = f'[otel]\n  socketPath = "{self.state}/spans.sock"\n'
        config.write_text(f'[registry."{self.registry}"]\n  http = true\n' + parallel + spans)
        daemon = [self.folder / "buildkitd", "--config", config, "--root", self.state / "root", "--addr", self.socket]
        self.daemon = subprocess.Popen(
            [*daemon, "--oci-worker-snapshotter", "overlayfs"], stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while subprocess.run(self.control("debug", "workers"), capture_output=True).returncode != 0:
            if self.daemon.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"buildkitd does not come up: see {self.log.name}")
            time.sleep(0.1)

    def limit(self, limit: Limit | None) -> None:
        parallel = None if limit is None else limit.fits
        if parallel != self.parallel:
            self.parallel = parallel
            self.stop()
            self.start()

    def control(self, *words) -> list:
        return [self.folder / "buildctl", "--addr", self.socket, *words]

    def reset(self) -> None:
        self.stop()
        super().reset()
        self.start()

    def stop(self) -> None:
        if self.daemon is not None:
            self.daemon.send_signal(signal.SIGTERM)
            self.daemon.wait()
            self.daemon = None

    def build(self, folder: Path, target: str, output: dict | None) -> Sample:
        out = [] if output is None else ["--output", spelled(output)]
        files = ["--local", f"context={folder}", "--local", f"dockerfile={folder}", "--opt", f"target={target}"]
        daemon = Daemon(self.daemon.pid)
        sample = run(self.control("build", "--progress=quiet", "--frontend", "dockerfile.v0", *files, *out))
        return sample.plus(*daemon.since())


class Engine(BuildKit):
    """The BuildKit on which `rb --engine` builds."""

    name = "engine"


class Buildah(Tool):
    """Buildah with its layers cached, all stages at once, overlayfs, and crun; runc where cgroups are of both versions, which crun refuses."""

    name = "buildah"
    title = "Buildah"
    runtime = "runc" if Path("/sys/fs/cgroup/unified").exists() else "crun"
    jobs = 0  # As many as there are.

    def version(self) -> str:
        words = subprocess.check_output(["buildah", "--version"], text=True).split()
        return f"Buildah {words[2]} with {self.runtime}"

    def reset(self) -> None:
        self.stop()
        super().reset()

    def stop(self) -> None:
        # A build that failed leaves its container mounted, and Buildah binds the folder of its layers onto itself.
        subprocess.run([*self.command(), "rm", "--all"], capture_output=True)
        subprocess.run(["umount", "--recursive", self.state / "root" / "overlay"], capture_output=True)

    def limit(self, limit: Limit | None) -> None:
        self.jobs = 0 if limit is None or limit.fits is None else limit.fits

    def command(self) -> list:
        return ["buildah", "--root", self.state / "root", "--runroot", self.state / "run", "--storage-driver", "overlay"]

    def build(self, folder: Path, target: str, output: dict | None) -> Sample:
        words = [*self.command(), "build", "--layers", "--quiet", "--isolation", "oci", "--runtime", self.runtime, "--network", "host"]
        words += ["--tls-verify=false", "--jobs", self.jobs, "--target", target, "--ignorefile", folder / ".dockerignore"]
        kind = None if output is None else output["type"]
        sample = run([*words, "--tag", "bench", folder])
        if kind in ("oci", "image"):
            to = f"oci-archive:{output['dest']}" if kind == "oci" else f"docker://{output['name']}"
            push = [*self.command(), "push", "--quiet", "--format", "oci", "--tls-verify=false"]
            plain = output["compression"] == "uncompressed"
            push += ["--disable-compression"] if plain else ["--compression-format", output["compression"]]
            written = run([*push, "bench", to])
            sample = Sample(sample.wall + written.wall, sample.cpu + written.cpu, max(sample.memory, written.memory))
        return sample

    def tree(self, folder: Path, target: str, path: Path) -> None:
        """As of every tool; the tar of its own `--output` lacks what a last RUN wrote that was cached."""
        self.build(folder, target, None)
        container = subprocess.check_output([*self.command(), "from", "--pull-never", "bench"], text=True).strip()
        mounted = subprocess.check_output([*self.command(), "mount", container], text=True).strip()
        subprocess.run(["tar", "--numeric-owner", "-cf", path, "-C", mounted, "."], check=True)
        subprocess.run([*self.command(), "rm", container], check=True, capture_output=True)


def chosen(names: list, work: Path, registry: str, rb: Path, buildkit: Path | None) -> tuple[list, list]:
    """Returns the tools that are here, and why others are not."""
    tools, absent = [Rb(work, registry, rb, buildkit if shutil.which("runc") else None)], []
    if "buildkit" in names:
        if buildkit and shutil.which("runc"):
            tools.append(BuildKit(work, registry, buildkit))
        else:
            absent.append("buildkit: needs runc, and Go to build tests/peers (or BUILDKIT with the folder of its programs)")
    if "buildah" in names:
        if shutil.which("buildah") and shutil.which(Buildah.runtime):
            tools.append(Buildah(work, registry))
        else:
            absent.append(f"buildah: Debian's packages buildah and {Buildah.runtime}")
    if os.geteuid() != 0:
        raise SystemExit("tests/bench/run needs root, since its peers do")
    return tools, absent
