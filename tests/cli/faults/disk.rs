//! Full disks: that of the state directory, and that of the outputs. What is full is told with what to do (exit code 3),
//! nothing hangs, and once there is room the next build is right.
//!
//! Each disk is a file with ext4 in it; that takes root and loop devices. `rb` begins no layer with less than 64 MiB
//! left, so the disks are larger than that, with holes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Dice, LAYOUT, Project, check_nothing_left, rounds};
use crate::env::{Run, TestEnv, is_root};

const MIB: u64 = 1 << 20;

/// A small file system of its own, unmounted when dropped.
struct Disk {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Disk {
    /// Makes a disk; says why where it cannot be made.
    fn new(size_mib: u64) -> Option<Self> {
        if !is_root() {
            eprintln!("stepping aside: mounting a small disk takes root");
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (image, path) = (dir.path().join("image"), dir.path().join("disk"));
        File::create(&image).and_then(|file| file.set_len(size_mib * MIB)).expect("makes a file");
        fs::create_dir(&path).expect("makes a folder");
        let run = |program: &str, args: &[&str], paths: &[&Path]| {
            let output = Command::new(program).args(args).args(paths).output();
            let failure = match output {
                Ok(output) if output.status.success() => return true,
                Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
                Err(error) => error.to_string(),
            };
            eprintln!("stepping aside: {program} cannot make a small disk: {failure}");
            false
        };
        let made = run("mkfs.ext4", &["-q", "-F", "-m", "0", "-O", "^has_journal"], &[&image])
            && run("mount", &["-o", "loop"], &[&image, &path]);
        made.then_some(Self { path, _dir: dir })
    }

    fn left_bytes(&self) -> u64 {
        let statistics = rustix::fs::statvfs(&self.path).expect("asks");
        statistics.f_bavail * statistics.f_frsize
    }

    /// Takes what is free but for so many bytes.
    fn fill(&self, left_bytes: u64) {
        use rustix::fs::FallocateFlags;
        let file = File::options().create(true).append(true).open(self.path.join("filler")).expect("opens");
        let mut piece = self.left_bytes();
        while piece >= 4096 && self.left_bytes() > left_bytes {
            piece = piece.min(self.left_bytes() - left_bytes);
            let end = file.metadata().expect("stats").len();
            if rustix::fs::fallocate(&file, FallocateFlags::empty(), end, piece).is_err() {
                // What counts the blocks takes blocks too.
                piece /= 2;
            }
        }
    }

    fn free(&self) {
        fs::remove_file(self.path.join("filler")).expect("removes");
    }

    fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    /// Runs `rb` with its state directory on this disk.
    #[track_caller]
    fn rb<const N: usize>(&self, env: &TestEnv, args: [&str; N]) -> Run {
        let started = Instant::now();
        let run = env.rb_with(&[("RB_ROOT", &self.state().to_string_lossy())], args);
        assert!(started.elapsed() < Duration::from_secs(100), "hung for {:?}", started.elapsed());
        run
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("--lazy").arg(&self.path).status();
        assert!(done.is_ok_and(|status| status.success()), "{} stays mounted", self.path.display());
    }
}

/// Panics unless a run ended because of the full disk, and said so.
#[track_caller]
fn expect_full(run: Run, place: &Path) -> Run {
    let run = run.expect(3);
    // Long paths are broken where the terminal ends.
    let text: String = run.stderr.split_whitespace().filter(|word| *word != "│").collect();
    let named = text.contains(&*place.to_string_lossy()) || text.contains("thediskofthestatedirectory");
    assert!(named && text.contains("help:freespace"), "{}", run.stderr);
    run
}

const PARTS: &str = "VERSION 1\n\
    step:\n    FROM @host\n    RUN dd if=/dev/zero of=/big bs=1M count=150\n    RUN wc -c < /big > /out\n    SAVE ARTIFACT /out AS LOCAL out\n\
    quiet:\n    FROM @host\n    RUN dd if=/dev/zero of=/big bs=1M count=150 2>/dev/null || true\n    RUN wc -c < /big > /out\n    SAVE ARTIFACT /out AS LOCAL out\n\
    copy:\n    FROM scratch\n    COPY large /large\n    SAVE ARTIFACT /large AS LOCAL out\n\
    noise:\n    FROM @host\n    RUN head -c 3000000 /dev/urandom > /noise\n    SAVE ARTIFACT /noise\n\
    image:\n    FROM scratch\n    COPY +noise/noise /noise\n    SAVE IMAGE noise:latest\n";

/// A project with a large file, and a disk for its state directory that has room for it.
fn parts() -> Option<(Disk, TestEnv)> {
    let disk = Disk::new(600)?;
    let env = TestEnv::new();
    env.write("Buildfile", PARTS).write("large", vec![b'x'; 70 * MIB as usize]);
    Some((disk, env))
}

#[test]
fn a_full_disk_is_told_wherever_it_shows_and_room_is_all_that_is_needed() {
    let Some((disk, env)) = parts() else { return };
    let big = (150 * MIB).to_string();
    let state = disk.state();
    // Nothing at all is left, not even for the state directory itself.
    disk.fill(0);
    expect_full(disk.rb(&env, ["+step"]), &state);
    disk.free();
    // Too little to begin.
    disk.rb(&env, ["--no-output", "+image"]).expect(0);
    disk.fill(20 * MIB);
    expect_full(disk.rb(&env, ["+step"]), &state).says("only");
    // Packing: the tree is there, its blob has no room.
    disk.free();
    disk.fill(2 * MIB);
    expect_full(disk.rb(&env, ["+image"]), &state);
    disk.free();
    disk.rb(&env, ["-o", "type=oci,dest=image.tar", "+image"]).expect(0);
    // While a step writes.
    disk.fill(80 * MIB);
    expect_full(disk.rb(&env, ["+step"]), &state).says("exit code 1");
    check_nothing_left(&state);
    // While a file is copied.
    disk.free();
    disk.fill(66 * MIB);
    expect_full(disk.rb(&env, ["+copy"]), &state);
    // The step ends well and takes all there is: its own files are fine, but what the store writes of it has no place.
    disk.free();
    disk.fill(80 * MIB);
    expect_full(disk.rb(&env, ["+quiet"]), &state);
    disk.free();
    assert!(!env.has("out"));
    disk.rb(&env, ["+step"]).expect(0);
    assert_eq!(env.read("out").trim(), big);
    disk.rb(&env, ["+copy"]).expect(0);
    assert!(fs::read(env.project().join("out")).expect("reads").iter().all(|byte| *byte == b'x'));
    check_nothing_left(&state);
}

#[test]
fn a_full_disk_of_outputs_leaves_what_was_there() {
    let Some(disk) = Disk::new(16) else { return };
    let env = TestEnv::new();
    env.write("Buildfile", PARTS);
    env.rb(["--no-output", "+image"]).expect(0);
    let place = disk.path.to_string_lossy().into_owned();
    let outputs: [&[&str]; 5] = [
        &["-a", "+noise/noise", &format!("{place}/noise")],
        &["-o", &format!("type=oci,dest={place}/image.tar"), "+image"],
        &["-o", &format!("type=oci,tar=false,dest={place}/layout"), "+image"],
        &["-o", &format!("type=tar,dest={place}/files.tar"), "+image"],
        &["-o", &format!("type=local,dest={place}/files"), "+image"],
    ];
    disk.fill(MIB);
    let before = super::digest_of(&disk.path);
    for args in outputs {
        expect_full(env.rb(args), &disk.path);
        assert_eq!(super::digest_of(&disk.path), before, "{args:?} leaves something");
        assert!(disk.left_bytes() > MIB / 2, "{args:?}");
    }
    disk.free();
    for args in &outputs[..3] {
        env.rb(*args).expect(0);
    }
}

#[test]
fn a_disk_that_fills_up_at_any_instant_leaves_the_next_build_right() {
    let Some(disk) = Disk::new(400) else { return };
    let mut dice = Dice::of("full disk");
    let mut project = Project::new();
    let started = Instant::now();
    disk.rb(&project.env, LAYOUT).expect(0);
    let whole = u64::try_from(started.elapsed().as_millis()).expect("is short");
    let mut refused = 0;
    for round in 0..rounds(1) {
        project.edit(&mut dice);
        project.remove_outputs();
        let (instant, left) = (dice.below(whole), *dice.pick(&[0, 0, MIB, 30 * MIB, 70 * MIB]));
        let run = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(instant));
                disk.fill(left);
            });
            disk.rb(&project.env, LAYOUT)
        });
        let told = format!("round {round}: {left} bytes left after {instant} ms");
        match run.code {
            0 => project.check(),
            3 => {
                refused += 1;
                expect_full(run, &disk.state());
            }
            _ => panic!("{told}: {run:?}"),
        }
        disk.free();
        let run = disk.rb(&project.env, LAYOUT);
        assert_eq!(run.code, 0, "{told}: {}", run.stderr);
        project.check();
        check_nothing_left(&disk.state());
    }
    eprintln!("full disk: {refused} builds were refused");
    project.check_against_fresh_state();
}
