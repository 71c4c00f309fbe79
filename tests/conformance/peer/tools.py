"""The two that are compared: each solves a definition and writes what came of it."""

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path


# Seconds that a definition may take, on a busy machine.
PATIENCE = 90


class Refused(Exception):
    """It did not solve it, and said why."""


class Absent(Exception):
    """It cannot be run here."""


def solve(command: list, definition: bytes, env: dict) -> None:
    try:
        done = subprocess.run(command, input=definition, capture_output=True, env=os.environ | env, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise Refused("it does not end") from None
    if done.returncode != 0:
        said = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        raise Refused(" | ".join(said[-8:])[-600:])


class Rb:
    """`rb solve`."""

    def __init__(self, work: Path, binary: str, lent: dict, layouts: dict, engine: str):
        self.binary = binary
        self.env = {"RB_ROOT": str(work / "rb"), "RB_ENGINE": engine, "SOURCE_DATE_EPOCH": "4102444800"}
        self.lent = [f"--local={name}={folder}" for name, folder in lent.items()]
        self.lent += [f"--oci-layout={name}={folder}" for name, folder in layouts.items()]

    def solve(self, definition: bytes, kind: str, path: Path, fresh: bool) -> None:
        """`fresh`: with nothing from before. Times are in no key: what equals an older tree is that one, with its times."""
        with tempfile.TemporaryDirectory(prefix="rb-conformance-root-") as root:
            env = self.env | ({"RB_ROOT": root} if fresh else {})
            solve([self.binary, "-q", "solve", "-", *self.lent, "-o", f"type={kind},dest={path}"], definition, env)
            if fresh:
                subprocess.run([self.binary, "cache", "clean"], env=os.environ | env, capture_output=True)

    def stop(self) -> None:
        pass


class BuildKit:
    """A buildkitd of its own, with all that it keeps below `work`."""

    def __init__(self, work: Path, folder: Path, snapshotter: str, lent: dict, layouts: dict):
        self.folder, self.root, self.socket = folder, work / "buildkit", f"unix://{work}/buildkit.sock"
        self.lent = [word for name, at in lent.items() for word in ("--local", f"{name}={at}")]
        self.lent += [word for name, at in layouts.items() for word in ("--oci-layout", f"{name}={at}")]
        self.log = open(work / "buildkit.log", "wb")
        daemon = [folder / "buildkitd", "--root", self.root, "--addr", self.socket, "--config", "/dev/null"]
        daemon += ["--oci-worker-snapshotter", snapshotter, "--oci-worker-net", "host", "--containerd-worker=false"]
        self.daemon = subprocess.Popen(daemon, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while subprocess.run(self.control("debug", "workers"), capture_output=True).returncode != 0:
            if self.daemon.poll() is not None or time.monotonic() > deadline:
                self.stop()
                said = Path(self.log.name).read_text(errors="replace").splitlines()[-3:]
                raise Absent("buildkitd does not come up: " + " | ".join(said))
            time.sleep(0.1)

    def control(self, *words) -> list:
        return [self.folder / "buildctl", "--addr", self.socket, *words]

    def solve(self, definition: bytes, kind: str, path: Path, fresh: bool) -> None:
        command = self.control("build", "--progress=plain", *self.lent, "--output", f"type={kind},dest={path}")
        try:
            solve(command, definition, {})
        except Refused as refused:
            # Its client gives up early where the machine is busy.
            if "context deadline exceeded" not in str(refused):
                raise
            solve(command, definition, {})

    def stop(self) -> None:
        if self.daemon.poll() is None:
            self.daemon.send_signal(signal.SIGTERM)
            try:
                self.daemon.wait(30)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait()
        self.log.close()
        # What a killed daemon leaves mounted would keep its folder.
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):
            if line.split()[1].startswith(f"{self.root}/"):
                subprocess.run(["umount", "-l", line.split()[1]], check=False)
