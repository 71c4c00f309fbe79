"""A virtual machine that boots an image, runs what is in it, and ends.

Its disk is a new file each time. It has two serial lines: the console, and what the checks say.
"""

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from .packages import Unavailable

# The guest's second disk: a folder as a tar, since every kernel reads a tar by a program.
DISK_BYTES = 6 << 30

# How long a guest may do something without a word: on a busy machine, without help of the processor, a step takes a minute. And
# how long it may take at all, however much it says.
SILENT_SECONDS = 600
LONGEST_SECONDS = 7200


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


def boot(emulator: Emulator, work: Path, kernel: Path, image: Path, payload: Path, words: str) -> tuple[str, str]:
    """Boots, waits for the end, and returns what the console and the checks said."""
    disk, console, said = work / "disk", work / "console", work / "said"
    with disk.open("wb") as file:
        file.truncate(DISK_BYTES)
    # A processor that is played by a program may be too slow for what the kernel finds out about its clock; what the kernel does
    # against other programs on a real one only takes time there, as do a fifth level of tables and zeroes in all that is taken.
    # QEMU 7.2 gets the flags after cmpxchg16b wrong, by which Linux 6.12 does not boot.
    accelerated = can_accelerate()
    command = [
        *emulator.program, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        *(["-accel", "kvm"] if accelerated else []), "-accel", "tcg,thread=multi",
        "-cpu", "max" if accelerated else "max,la57=off,cx16=off",
        "-m", "4096", "-smp", "2" if accelerated else "1", "-kernel", kernel, "-initrd", image,
        "-append", f"console=ttyS0 no_timer_check mitigations=off init_on_alloc=0 quiet loglevel=4 panic=-1 rdinit=/init {words}",
        "-serial", f"file:{console}", "-serial", f"file:{said}",
        "-drive", f"file={disk},if=virtio,format=raw,cache=unsafe",
        "-drive", f"file={payload},if=virtio,format=raw,readonly=on",
        # A service that is not on the guest: who connects is told a word.
        "-netdev", "user,id=net,guestfwd=tcp:10.0.2.100:7-cmd:/bin/echo outside",
        "-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci",
    ]  # fmt: skip
    with subprocess.Popen(
        command, env=emulator.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as guest:
        try:
            why = silence(guest, [console, said])
        finally:
            guest.kill()
            disk.unlink()
        complaint = guest.stderr.read().strip()
    heard = [path.read_text(errors="replace") if path.exists() else "" for path in (console, said)]
    if why:
        heard[0] += f"\n{why}"
    elif guest.returncode != 0:
        raise Unavailable(f"QEMU: {complaint.splitlines()[-1:]}")
    return heard[0], heard[1]


def silence(guest: subprocess.Popen, lines: list[Path]) -> str | None:
    """Waits for the end of a guest, and returns why it is not waited for any longer."""
    start = last = time.monotonic()
    length = 0
    while guest.poll() is None:
        time.sleep(0.5)
        now = time.monotonic()
        heard = sum(path.stat().st_size for path in lines if path.exists())
        if heard != length:
            length, last = heard, now
        if now - last > SILENT_SECONDS:
            return f"it has said nothing for {SILENT_SECONDS} s"
        if now - start > LONGEST_SECONDS:
            return f"it did not end within {LONGEST_SECONDS} s"
    return None
