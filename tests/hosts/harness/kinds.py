"""The kinds of hosts: what each is made of, and what has to come of each check.

A check that is not named has to succeed. `Refused` says with which exit code and which words it may fail instead.
"""

from dataclasses import dataclass, field

from .packages import Archive, Index

DEBIAN = "https://deb.debian.org/debian"
SECURITY = "https://deb.debian.org/debian-security"
BOOKWORM = Archive(DEBIAN, ("bookworm", "bookworm-updates"), ("main",), SECURITY, ("bookworm-security",))
BACKPORTS = Archive(DEBIAN, ("bookworm-backports",))
BULLSEYE = Archive(DEBIAN, ("bullseye",), ("main",), SECURITY, ("bullseye-security",))
NOBLE = Archive("https://archive.ubuntu.com/ubuntu", ("noble", "noble-updates"), ("main", "universe"))

# What every guest has. The rest comes as dependencies.
PROGRAMS = [
    "busybox-static", "kmod", "dash", "coreutils", "sed", "grep", "tar", "findutils", "util-linux", "mount", "libc-bin", "uidmap", "git",
    "e2fsprogs", "iproute2", "dpkg", "hostname", "base-files", "debianutils",
]  # fmt: skip

# What they depend on and no guest uses.
UNUSED = frozenset({"debconf", "cdebconf", "perl", "perl-base", "libpam-runtime", "liberror-perl", "sensible-utils", "ubuntu-pro-client"})


@dataclass(frozen=True)
class Refused:
    """A check that ends with a code, and tells why."""

    code: int
    words: str


OUT_OF_MEMORY = Refused(1, "memory limit of 48 MiB")


@dataclass(frozen=True)
class Kind:
    about: str
    # Where programs come from, and where the kernel does.
    archive: Archive = BOOKWORM
    kernel: Archive = BOOKWORM
    kernel_package: str = r"linux-image-6\.1\.\d+-\d+-cloud-amd64"
    programs: tuple[str, ...] = ()
    words: str = ""
    # By who and check.
    expected: dict[tuple[str, str], Refused] = field(default_factory=dict)
    # Verdicts of `rb doctor` other than `ok`, by who and name: the verdict, and words of it.
    doctor: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)


BUILDS = ("tree", "image", "caches", "network", "none", "limits", "processors", "host", "owners")


def nothing_builds(who: str, words: str) -> dict[tuple[str, str], Refused]:
    """Returns what comes of all checks of somebody for whom no step can run, for a reason that is told."""
    refused = {(who, name): Refused(3, words) for name in BUILDS}
    return {**refused, (who, "doctor"): Refused(3, words), (who, "digest"): Refused(1, ""), (who, "again"): Refused(1, "")}


def nothing_opens(who: str, words: str) -> dict[tuple[str, str], Refused]:
    """Returns what comes of all checks of somebody who gets no identity to build with: not even what is kept is read."""
    return {**nothing_builds(who, words), **{(who, name): Refused(3, words) for name in ("images", "again", "verify")}}


def nobody(who: str, words: str, no_chroot: str = "only root may change its root") -> dict[tuple[str, str], tuple[str, str]]:
    """Returns what doctor says to that user."""
    return {(who, "identity"): ("missing", words), (who, "chroot"): ("missing", no_chroot)}


def no_limits(who: str) -> dict[tuple[str, str], Refused]:
    """Returns what comes of limits for somebody to whom no control groups are given."""
    return {(who, name): Refused(3, "control group") for name in ("limits", "processors")}


def unlimited(who: str) -> dict[tuple[str, str], tuple[str, str]]:
    """Returns what doctor says of that."""
    return {(who, "cgroups"): ("limited", "steps cannot be limited")}


# What a host need not name.
EVERYWHERE = {("root", "limits"): OUT_OF_MEMORY, ("ids", "limits"): OUT_OF_MEMORY, ("single", "limits"): OUT_OF_MEMORY, ("single", "owners"): Refused(1, "chown")}
USUAL = {
    **{(who, "other platforms"): ("limited", "no emulator for arm64") for who in ("root", "ids", "single")},
    ("single", "identity"): ("limited", "only root exists in builds"),
    ("single", "subordinate ids"): ("limited", "/etc/subuid gives no ids to user single"),
}

KINDS = {
    "debian-12": Kind("Linux 6.1, control groups of version 2 alone; steps by crun and runc, too", programs=("crun", "runc")),
    "linux-newest": Kind(
        "the newest Linux of Debian's backports", kernel=BACKPORTS, kernel_package=r"linux-image-6\.\d+\.\d+\+deb12-cloud-amd64"
    ),
    "cgroup-v1": Kind("control groups of version 1 alone", expected=no_limits("ids"), doctor=unlimited("ids")),
    "cgroup-hybrid": Kind("control groups of versions 1 and 2", expected=no_limits("single"), doctor=unlimited("single")),
    "no-user-namespaces": Kind(
        "user namespaces for root alone (kernel.unprivileged_userns_clone=0)",
        expected=nothing_opens("single", "kernel.unprivileged_userns_clone is 0"),
        doctor=nobody("single", "kernel.unprivileged_userns_clone is 0"),
    ),
    "no-overlay": Kind(
        "a kernel without overlayfs",
        doctor={("*", name): ("limited", "each step copies its root") for name in ("overlayfs", "layers there")},
    ),
    "linux-5.10": Kind(
        "Linux 5.10, too old for sandboxes: it says so, and has chroots",
        kernel=BULLSEYE,
        kernel_package=r"linux-image-5\.10\.0-\d+-cloud-amd64",
        expected=nothing_builds("*", "that takes Linux 5.12"),
        doctor={
            ("*", "kernel"): ("missing", "that takes Linux 5.12"),
            ("*", "overlayfs"): ("limited", "each step copies its root"),
            ("*", "layers there"): ("limited", "each step copies its root"),
            ("root", "chroot"): ("limited", "possible, by --isolation=chroot"),
            ("ids", "chroot"): ("missing", "not possible: /dev/null cannot be had"),
        },
    ),
    "apparmor-profile": Kind(
        "a profile of AppArmor around rb, by which nothing is mounted: it says so, and has chroots",
        programs=("apparmor",),
        words="apparmor=1 security=apparmor",
        expected=nothing_opens("*", "profile confined"),
        doctor={
            **nobody("*", "profile confined", ""),
            ("*", "security modules"): ("limited", "profile confined"),
            ("root", "chroot"): ("limited", "possible, by --isolation=chroot"),
        },
    ),
    "ubuntu-24.04": Kind(
        "Ubuntu 24.04, where AppArmor restricts user namespaces",
        archive=NOBLE,
        kernel=NOBLE,
        kernel_package=r"linux-image-6\.8\.0-\d+-generic",
        programs=("apparmor",),
        words="apparmor=1 security=apparmor",
        expected=nothing_builds("ids, before", "kernel.apparmor_restrict_unprivileged_userns is 1"),
        # The namespace is made there, and has no power.
        doctor=nobody("ids, before", "kernel.apparmor_restrict_unprivileged_userns is 1", "lacks the capabilities"),
    ),
    "selinux": Kind(
        "SELinux, enforcing Debian's policy",
        programs=("selinux-policy-default", "policycoreutils", "selinux-utils", "semodule-utils", "libselinux1"),
        words="security=selinux selinux=1 enforcing=1",
    ),
}


def kernel_packages(kind: Kind, index: Index) -> list[str]:
    """Returns the kernel's package, and that of its modules where it is one apart."""
    name = index.newest(kind.kernel_package)
    modules = name.replace("linux-image-", "linux-modules-")
    return [name, modules] if modules in index.packages else [name]
