//! A disk whose power can be cut: a real file system in a file, on a loop device, which loses at a word all that it had not
//! written (the ioctl that file systems have for tests of this kind, "shut down without flushing the log"); and a machine,
//! that is namespaces of processes and mounts, which dies with it and comes up under another boot id.
//!
//! A real file system rather than a model of one: what may be lost, and in which order, is as its journal has it. It is mounted so
//! that it writes late and orders little. Everything happens in a mount namespace that ends with the test's process,
//! and with it go mounts and loop devices.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// `cut DIR` cuts the power and says when; `scatter DIR SEED` writes some files through, or some of their data and not their
/// inode.
/// Source: linux/ext4.h, `EXT4_IOC_SHUTDOWN`; `XFS_IOC_GOINGDOWN` is the same number.
const HELPER: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
static int some(const char *path, const struct stat *st, int kind, struct FTW *at) {
    int dice = rand() % 100;
    if (kind == FTW_F && dice < 10) {
        int file = open(path, O_RDONLY);
        if (dice < 4) fsync(file);
        else if (dice < 8) sync_file_range(file, 0, 0, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
        else sync_file_range(file, 0, st->st_size / 2, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
        close(file);
    }
    return 0;
}
int main(int count, char **args) {
    if (!strcmp(args[1], "scatter")) {
        srand(atoi(args[3]));
        nftw(args[2], some, 20, FTW_PHYS);
        return 0;
    }
    uint32_t without_log = 2;
    int disk = open(args[2], O_RDONLY);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    printf("%lld", now.tv_sec * 1000000000LL + now.tv_nsec);
    return ioctl(disk, _IOR('X', 125, uint32_t), &without_log) != 0;
}
"#;

/// A file system in a file.
pub(crate) struct Disk {
    dir: tempfile::TempDir,
    options: &'static str,
    boots: u32,
}

/// Runs the ignored test `name` of this binary where it may mount; false, with the reason, where nobody may.
pub(crate) fn in_own_mounts(name: &str) -> bool {
    let tried = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg("command -v mkfs.ext4 losetup cc && test -r /dev/loop-control && test -w /dev/loop-control")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !tried.is_ok_and(|status| status.success()) {
        eprintln!("stepping aside: cutting the power needs root, loop devices, mkfs.ext4 and a C compiler");
        return false;
    }
    // Should this process be killed, the other one is, and all it has mounted goes with it.
    let status = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe().expect("has a path"))
        .args(["--exact", name, "--ignored", "--nocapture"])
        .status();
    assert!(status.expect("starts").success(), "see above");
    true
}

fn run(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}

impl Disk {
    /// Makes one with the options of its mount.
    pub(crate) fn new(size_mib: u64, kind: &str, options: &'static str) -> Self {
        let dir = tempfile::Builder::new().prefix("rb-power-").tempdir().expect("a temporary folder");
        let path = |name: &str| dir.path().join(name);
        fs::File::create(path("image"))
            .and_then(|file| file.set_len(size_mib << 20))
            .expect("makes an image");
        fs::create_dir(path("disk")).expect("makes a folder");
        fs::write(path("boot"), "0\n").expect("writes");
        fs::write(path("helper.c"), HELPER).expect("writes");
        assert!(run(Command::new("cc").arg("-o").arg(path("helper")).arg(path("helper.c"))), "cc failed");
        let mut make = Command::new(format!("mkfs.{kind}"));
        assert!(run(make.arg("-q").arg(path("image"))), "mkfs.{kind} failed");
        Self { dir, options, boots: 0 }
    }

    /// Returns where it is mounted.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    /// Returns a file that loses nothing, whose text is the boot id of the machine.
    pub(crate) fn boot_file(&self) -> PathBuf {
        self.dir.path().join("boot")
    }

    /// Mounts it, which replays its journal, under another boot id.
    pub(crate) fn mount(&mut self) {
        self.boots += 1;
        fs::write(self.boot_file(), format!("boot-{}\n", self.boots)).expect("writes");
        let mount = Command::new("mount")
            .args(["-o", &format!("loop,{}", self.options)])
            .args([self.dir.path().join("image"), self.root()])
            .status();
        assert!(mount.expect("mount starts").success(), "the disk cannot be mounted");
    }

    /// Writes through some of what lies below `folder`, at random.
    pub(crate) fn scatter(&self, folder: &Path, seed: u64) {
        let seed = (seed % 1_000_000).to_string();
        run(Command::new(self.dir.path().join("helper")).arg("scatter").arg(folder).arg(seed));
    }

    /// Cuts the power: what is not on the disk now will never be. Returns when, on the monotonic clock: processes
    /// live on for a moment, and who waits for the disk just then may be told that all is on it.
    pub(crate) fn cut(&self) -> Duration {
        let done = Command::new(self.dir.path().join("helper")).arg("cut").arg(self.root()).output();
        let done = done.expect("the helper starts");
        assert!(done.status.success(), "the power stays");
        let when = String::from_utf8_lossy(&done.stdout);
        Duration::from_nanos(when.parse().expect("is a number"))
    }

    /// Shows it in another place as well.
    pub(crate) fn bind(&self, place: &Path) {
        assert!(run(Command::new("mount").arg("--bind").arg(self.root()).arg(place)), "the disk stays");
    }

    /// Takes it off, in other `places` first, once nobody uses it any more.
    pub(crate) fn unmount(&self, places: &[&Path]) {
        let begun = Instant::now();
        let patience = |what: &str| {
            assert!(begun.elapsed() < Duration::from_secs(90), "{what}");
            std::thread::sleep(Duration::from_millis(5));
        };
        for place in places.iter().copied().chain([self.root().as_path()]) {
            while !run(Command::new("umount").arg(place).stderr(Stdio::null())) {
                patience("somebody keeps the disk");
            }
        }
        // Another namespace may have had it for a moment longer; two mounts of one image would ruin it.
        let loops = || Command::new("losetup").arg("-j").arg(self.dir.path().join("image")).output();
        while !loops().expect("losetup starts").stdout.is_empty() {
            patience("a loop device stays");
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // After a failure: the image goes, and whatever is mounted with this namespace.
        run(Command::new("umount").args(["--lazy", "--quiet"]).arg(self.root()).stderr(Stdio::null()));
    }
}

/// Processes that die together, as with their machine: a shell that does what it is told, and all that come of it.
pub(crate) struct Machine {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Machine {
    /// Starts one that sees the disk, which is mounted, and its boot id.
    pub(crate) fn boot(disk: &Disk) -> Self {
        let mut child = Command::new("unshare")
            .args([
                "--pid",
                "--fork",
                "--kill-child",
                "--mount",
                "--mount-proc",
                "--propagation",
                "private",
                "sh",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let input = child.stdin.take().expect("is piped");
        let output = BufReader::new(child.stdout.take().expect("is piped"));
        let mut machine = Self { child, input, output };
        let boot = disk.boot_file();
        machine.tell(&format!("mount --bind {} /proc/sys/kernel/random/boot_id; echo $?", boot.display()));
        assert_eq!(machine.answer(), "0");
        machine
    }

    /// Has it do something.
    pub(crate) fn tell(&mut self, command: &str) {
        writeln!(self.input, "{command}").expect("the machine listens");
    }

    /// Returns the next line that it says.
    pub(crate) fn answer(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the machine speaks");
        line.trim_end().to_owned()
    }

    /// Ends every process of it.
    pub(crate) fn die(mut self) {
        self.child.kill().expect("kills");
        self.child.wait().expect("ends");
    }
}
