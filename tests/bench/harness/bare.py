"""What a step costs without a build tool: its command alone, rb's sandbox, and runc and crun with a bundle that lies ready.

All run what a step `RUN true` runs: the shell of a static busybox, which ends at once.
"""

import ctypes
import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from .images import busybox

COMMAND = ["/bin/sh", "-c", "true"]

# Where control groups of version 2 are beside those of version 1, with which crun does not start.
UNIFIED = Path("/sys/fs/cgroup/unified")

# A folder in memory.
MEMORY = "/dev/shm"

# Of the repository.
ROOT = Path(__file__).resolve().parent.parent.parent.parent


@functools.cache
def command() -> float:
    """Returns the seconds that the command itself takes: the median of some rounds of a hundred, started by a shell."""
    count, rounds = 100, []
    binary = shutil.which("busybox")
    script = f"i=0; while [ $i -lt {count} ]; do {binary} sh -c true; i=$((i+1)); done"
    for _ in range(5):
        begun = time.monotonic()
        subprocess.run([binary, "sh", "-c", script], check=True)
        rounds.append((time.monotonic() - begun) / count)
    return statistics.median(rounds)


def runtimes(work: Path, runs: int) -> str:
    """Says how long our sandbox, runc and crun take for the same command, beside its own time."""
    root = work / "rootfs"
    layer = work / "layer.tar"
    root.mkdir()
    with tarfile.open(layer, "w") as archive:
        busybox(archive)
    subprocess.run(["tar", "-xf", layer, "-C", root], check=True)
    said = [f"{name} {bundled(name, work, root, runs)}" for name in ("runc", "crun") if shutil.which(name)]
    own = f"The command itself takes {command() * 1000:.1f} ms, which is taken off."
    ours = sandbox(root, runs)
    theirs = f" A container of it alone, of a bundle that lies ready, takes {', '.join(said)}." if said else ""
    return f"{own} {ours}{theirs}"


def sandbox(root: Path, runs: int) -> str:
    """Measures rb's sandbox without its engine, by the example `cost` of rb-exec.

    It mounts a layer of its own over the root, which the others do not: in memory the sandbox is measured beside them, on the disk
    what a step pays.
    """
    if not shutil.which("cargo"):
        return "rb's sandbox alone was not measured: there is no cargo."
    build = ["cargo", "build", "--release", "--quiet", "--manifest-path", ROOT / "Cargo.toml", "-p", "rb-exec", "--example", "cost"]
    subprocess.run(build, check=True)
    cost = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "examples" / "cost"

    def measured(layer: str, *options: str) -> str:
        words = [cost, *options, "100", root, *COMMAND]
        rounds = [subprocess.check_output(words, text=True, env={**os.environ, "TMPDIR": layer}) for _ in range(runs)]
        return f"{statistics.median(float(text.split()[0]) for text in rounds) - command() * 1000:.1f} ms"

    disk = str(root.parent)
    return (
        f"rb's sandbox alone takes {measured(MEMORY)} with its layer in memory, {measured(disk)} with it on the disk, "
        f"{measured(disk, '--outside')} with a network that leads outside."
    )


def bundled(name: str, work: Path, root: Path, runs: int) -> str:
    """Measures a runtime with a bundle of its own."""
    bundle = work / f"bundle-{name}"
    bundle.mkdir()
    subprocess.run([name, "spec"], cwd=bundle, check=True)
    spec = json.loads((bundle / "config.json").read_text())
    spec["process"]["args"], spec["process"]["terminal"], spec["root"]["path"] = COMMAND, False, str(root)
    (bundle / "config.json").write_text(json.dumps(spec))
    if name == "crun" and UNIFIED.exists():
        return f"{apart(lambda: sampled([name, '--cgroup-manager=disabled'], bundle, runs))} (without a control group)"
    return sampled([name], bundle, runs)


def sampled(words: list, bundle: Path, runs: int) -> str:
    """Runs the bundle again and again."""
    samples = []
    for run in range(runs * 4 + 1):
        name = f"rb-bench-{words[0]}-{run}"
        begun = time.monotonic()
        done = subprocess.run([*words, "run", name], cwd=bundle, capture_output=True, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            subprocess.run([*words, "delete", "--force", name], capture_output=True)
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            return "does not run here" + "".join(f" ({line})" for line in last)
        samples.append(time.monotonic() - begun)
    return f"{(statistics.median(samples[1:]) - command()) * 1000:.0f} ms"


def apart(work) -> str:
    """Does `work` in a process that sees control groups of version 2 alone."""
    command()  # Once, for both.
    reader, writer = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            new_mounts, bind, recursive, private = 0x20000, 0x1000, 0x4000, 0x40000
            seen = libc.unshare(new_mounts) or libc.mount(None, b"/", None, recursive | private, None)
            seen = seen or libc.mount(bytes(UNIFIED), b"/sys/fs/cgroup", None, bind, None)
            os.write(writer, (f"does not run here ({os.strerror(ctypes.get_errno())})" if seen else work()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told:
        said = told.read()
    os.waitpid(child, 0)
    return said or "does not run here"
