"""What a step costs without a build tool: its command alone, and runc and crun with a bundle that lies ready.

Both run what a step `RUN true` runs: the shell of a static busybox, which ends at once.
"""

import functools
import json
import shutil
import statistics
import subprocess
import tarfile
import time
from pathlib import Path

from .images import busybox

COMMAND = ["/bin/sh", "-c", "true"]


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
    """Says how long runc and crun take for the same command, beside its own time."""
    said = [f"{name} {bundled(name, work, runs)}" for name in ("runc", "crun") if shutil.which(name)]
    own = f"The command itself takes {command() * 1000:.1f} ms, which is taken off."
    return f"{own} A container of it alone, of a bundle that lies ready, takes {', '.join(said)}." if said else own


def bundled(name: str, work: Path, runs: int) -> str:
    """Measures a runtime with a bundle of its own."""
    bundle = work / f"bundle-{name}"
    root = bundle / "rootfs"
    root.mkdir(parents=True)
    layer = work / "layer.tar"
    with tarfile.open(layer, "w") as archive:
        busybox(archive)
    subprocess.run(["tar", "-xf", layer, "-C", root], check=True)
    subprocess.run([name, "spec"], cwd=bundle, check=True)
    spec = json.loads((bundle / "config.json").read_text())
    spec["process"]["args"], spec["process"]["terminal"] = COMMAND, False
    (bundle / "config.json").write_text(json.dumps(spec))
    samples = []
    for run in range(runs * 4 + 1):
        begun = time.monotonic()
        done = subprocess.run([name, "run", f"rb-bench-{name}-{run}"], cwd=bundle, capture_output=True, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            subprocess.run([name, "delete", "--force", f"rb-bench-{name}-{run}"], capture_output=True)
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            return "does not run here" + "".join(f" ({line})" for line in last)
        samples.append(time.monotonic() - begun)
    return f"{(statistics.median(samples[1:]) - command()) * 1000:.0f} ms"
