"""A virtual machine that boots an image, runs what is in it, and ends.

Its disk is a new file each time. It has two serial lines: the console, and what the checks say.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .packages import Unavailable

# The guest's second disk: a folder as a tar, since every kernel reads a tar by a program.
DISK_BYTES = 6 << 30


@dataclass(frozen=True)
class Emulator:
    """QEMU, and what it is started with."""

    program: list[str]
    environment: dict[str, str]


def emulator(unpacked: Path | None) -> Emulator:
    """Finds QEMU on this machine, or below `unpacked`, where its packages lie unpacked."""
    found = shutil.which("qemu-system-x86_64")
    if found:
        return Emulator([found], dict(os.environ))
    if unpacked is None:
        raise Unavailable("there is no qemu-system-x86_64 (Debian: qemu-system-x86); --fetch-qemu unpacks one beside the images")
    libraries = f"{unpacked}/usr/lib/x86_64-linux-gnu:{unpacked}/lib/x86_64-linux-gnu"
    environment = dict(os.environ, LD_LIBRARY_PATH=libraries)
    program = [str(unpacked / "usr/bin/qemu-system-x86_64"), "-L", str(unpacked / "usr/share/qemu"), "-L", str(unpacked / "usr/share/seabios")]
    return Emulator(program, environment)


def can_accelerate() -> bool:
    """A machine that is a guest itself may have a /dev/kvm in which no kernel gets far: the processor has to say so, too."""
    flags = Path("/proc/cpuinfo").read_text().split()
    return os.access("/dev/kvm", os.R_OK | os.W_OK) and ("vmx" in flags or "svm" in flags)


def boot(emulator: Emulator, work: Path, kernel: Path, image: Path, payload: Path, words: str, seconds: int) -> tuple[str, str]:
    """Boots, waits for the end, and returns what the console and the checks said."""
    disk, console, said = work / "disk", work / "console", work / "said"
    with disk.open("wb") as file:
        file.truncate(DISK_BYTES)
    # A processor that is played by a program may be too slow for what the kernel finds out about its clock.
    command = [
        *emulator.program, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        *(["-accel", "kvm"] if can_accelerate() else []), "-accel", "tcg,thread=multi", "-cpu", "max",
        "-m", "4096", "-smp", "2" if can_accelerate() else "1", "-kernel", kernel, "-initrd", image,
        "-append", f"console=ttyS0 no_timer_check quiet loglevel=4 panic=-1 rdinit=/init {words}",
        "-serial", f"file:{console}", "-serial", f"file:{said}",
        "-drive", f"file={disk},if=virtio,format=raw,cache=unsafe",
        "-drive", f"file={payload},if=virtio,format=raw,readonly=on",
        # A service that is not on the guest: who connects is told a word.
        "-netdev", "user,id=net,guestfwd=tcp:10.0.2.100:7-cmd:/bin/echo outside",
        "-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, env=emulator.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        done = None
    finally:
        disk.unlink()
    heard = [path.read_text(errors="replace") if path.exists() else "" for path in (console, said)]
    if done is None:
        heard[0] += f"\nit did not end within {seconds} s"
    elif done.returncode != 0:
        raise Unavailable(f"QEMU: {done.stderr.strip().splitlines()[-1:]}")
    return heard[0], heard[1]
