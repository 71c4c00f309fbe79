"""One command, measured: wall time, processor time and peak memory.

In: a command. Out: `Sample`. A tool with a daemon adds what the daemon used meanwhile (`Daemon`).
"""

import os
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A command did not succeed; its text says which and what it said."""


@dataclass(frozen=True)
class Sample:
    """Seconds of wall and processor time, and the peak of resident memory in bytes: of the process, and of its daemon."""

    wall: float
    cpu: float
    memory: int

    def plus(self, cpu: float, memory: int) -> "Sample":
        """Returns this with what a daemon used beside it."""
        return Sample(self.wall, self.cpu + cpu, self.memory + memory)


def run(command: list, cwd: Path | None = None, env: dict | None = None) -> Sample:
    """Runs a command to its end. Raises `Failed` with the last of its output where it fails."""
    reader, writer = os.pipe()
    begun = time.monotonic()
    child = subprocess.Popen(
        [str(word) for word in command],
        cwd=cwd,
        env=None if env is None else os.environ | env,
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=writer,
    )
    os.close(writer)
    peak = Peak(child.pid)
    peak.start()
    said = bytearray()
    try:
        with os.fdopen(reader, "rb") as output:
            while piece := output.read1(65536):
                said = (said + piece)[-8192:]
    except BaseException:
        # Nobody waits for it any more, and it would go on where its state is being removed.
        child.kill()
        child.wait()
        raise
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - begun
    peak.join()
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))} ended with {child.returncode}:\n{said.decode(errors='replace')}")
    return Sample(wall, usage.ru_utime + usage.ru_stime, peak.bytes)


class Peak(threading.Thread):
    """The peak of a process's resident memory, asked for until it ends.

    What wait4(2) says begins with the memory of the process that forked it, which is this one.
    """

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.status, self.bytes = Path(f"/proc/{pid}/status"), 0

    def run(self) -> None:
        while (found := high_water(self.status)) is not None:
            self.bytes = max(self.bytes, found)
            time.sleep(0.002)


def high_water(status: Path) -> int | None:
    """Returns the peak of resident memory in bytes, of a process that still has any."""
    try:
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return None
    return int(line.split()[1]) * 1024


class Together(threading.Thread):
    """The most memory that processes have at one time that have this among their words: what they do not share with files."""

    def __init__(self, word: str):
        super().__init__(daemon=True)
        self.word, self.bytes, self.over = word.encode(), 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.02):
            self.bytes = max(self.bytes, sum(map(self.held, Path("/proc").glob("[0-9]*"))))

    def held(self, process: Path) -> int:
        try:
            if self.word not in (process / "cmdline").read_bytes():
                return 0
            lines = (process / "status").read_text().splitlines()
        except OSError:
            # It has ended meanwhile.
            return 0
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))

    def end(self) -> int:
        """Ends the look and returns the most."""
        self.over.set()
        self.join()
        return self.bytes


class Daemon:
    """What a daemon and the children it has waited for use between two moments."""

    def __init__(self, pid: int):
        self.folder = Path(f"/proc/{pid}")
        self.before = self.cpu()
        # Makes the peak of resident memory begin anew.
        (self.folder / "clear_refs").write_text("5")

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        fields = (self.folder / "stat").read_text().rpartition(")")[2].split()
        return sum(int(field) for field in fields[11:15]) / TICKS

    def since(self) -> tuple[float, int]:
        """Returns the seconds of processor time and the peak of memory since this was made."""
        return self.cpu() - self.before, high_water(self.folder / "status") or 0
