//! Steps for another machine: run by an emulator of this machine's packages, or one that the user names.

use std::path::{Path, PathBuf};

use crate::env::{TestEnv, Who, is_root};

/// Tells the machine's name by uname(2), "aarch64": sub sp; uname(sp); write(1, sp + 260, 7); exit(0).
const WHO: [u32; 12] = [
    0xD106_83FF,
    0x9100_03E0,
    0xD280_1408,
    0xD400_0001,
    0xD280_0020,
    0x9104_13E1,
    0xD280_00E2,
    0xD280_0808,
    0xD400_0001,
    0xD280_0000,
    0xD280_0BA8,
    0xD400_0001,
];

/// Returns a program of arm64 of these instructions.
fn program(code: &[u32]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    let size = (64 + 56 + code.len() * 4) as u64;
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0\x01\0\0\0".to_vec();
    for long in [BASE + 120, 64, 0] {
        bytes.extend(long.to_le_bytes());
    }
    bytes.extend(b"\0\0\0\0\x40\0\x38\0\x01\0\0\0\0\0\0\0\x01\0\0\0\x05\0\0\0");
    for long in [0, BASE, BASE, size, size, 0x1000] {
        bytes.extend(long.to_le_bytes());
    }
    bytes.extend(code.iter().flat_map(|word| word.to_le_bytes()));
    bytes
}

/// A project with such a program, for whom an emulator may be missing.
fn project() -> TestEnv {
    project_of(Who::Tester)
}

fn project_of(who: Who) -> TestEnv {
    let env = TestEnv::of(who);
    env.write("who", program(&WHO));
    let path = env.project().join("who");
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("modes");
    env.write("Buildfile", "VERSION 1\nt:\n    FROM scratch\n    COPY who /who\n    RUN [\"/who\"]\n");
    env
}

/// QEMU's program for arm64, in Debian's package or in the folder that `RB_TEST_EMULATORS` names.
fn emulator() -> Option<PathBuf> {
    let named = std::env::vars_os()
        .find(|(name, _)| name == "RB_TEST_EMULATORS")
        .map(|(_, folder)| PathBuf::from(folder));
    let places = named.into_iter().chain([PathBuf::from("/usr/bin")]);
    let found = places.map(|place| place.join("qemu-aarch64-static")).find(|path| path.exists());
    if found.is_none() || !is_root() {
        eprintln!("stepping aside: this needs root and qemu-aarch64-static (Debian: qemu-user-static)");
    }
    found.filter(|_| is_root() && rb_oci::Platform::host().architecture != "arm64")
}

#[test]
fn a_step_for_another_machine_runs_by_the_emulator_that_is_named() {
    let Some(emulator) = emulator() else { return };
    let env = project();
    let config = env.project().join("config.toml");
    let config = config.to_str().expect("is text");
    env.write("config.toml", format!("[emulators]\narm64 = \"{}\"\n", emulator.display()));
    env.rb_with(&[("RB_CONFIG", config)], ["--platform=linux/arm64", "+t"]).expect(0).says("aarch64");
    // Who has its result needs no emulator.
    env.write("config.toml", "[emulators]\narm64 = \"/nowhere/qemu\"\n");
    env.rb_with(&[("RB_CONFIG", config)], ["--platform=linux/arm64", "+t"]).expect(0);
    let run = env.rb_with(&[("RB_CONFIG", config)], ["--no-cache", "--platform=linux/arm64", "+t"]);
    run.expect(2).says("/nowhere/qemu, cannot be read").says("linked statically");
    let doctor = env.rb_with(&[("RB_CONFIG", config)], ["doctor"]);
    assert!(doctor.stdout.contains("other platforms"), "{}", doctor.stdout);
    // Nothing of it is registered for the machine.
    let left = std::fs::read_dir("/proc/sys/fs/binfmt_misc").into_iter().flatten().flatten();
    assert!(!left.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("rb-")));
}

#[test]
fn an_ordinary_users_steps_are_emulated_too() {
    let Some(emulator) = emulator() else { return };
    for who in [Who::SubIds, Who::SingleId] {
        let env = project_of(who);
        env.write("config.toml", format!("[emulators]\narm64 = \"{}\"\n", emulator.display()));
        let config = env.project().join("config.toml");
        let with_file = [("RB_CONFIG", config.to_str().expect("is text"))];
        env.hand_over();
        env.rb_with(&with_file, ["--platform=linux/arm64", "+t"]).expect(0).says("aarch64");
        // Every program of the sandbox, also those that others start; what it sees of the machine is its own.
        env.write(
            "Buildfile",
            "VERSION 1\nt:\n    FROM oci-layout:./base:test\n    COPY who /who\n    RUN /who; echo .; ls /proc/sys/fs/binfmt_misc; id -u\n",
        );
        if env.busybox_layout("base") {
            env.hand_over();
            let run = env.rb_with(&with_file, ["--platform=linux/arm64", "+t"]).expect(0);
            run.says("aarch64").says("rb-aarch64");
        }
    }
    let left = std::fs::read_dir("/proc/sys/fs/binfmt_misc").into_iter().flatten().flatten();
    assert!(!left.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("rb-")));
}

#[test]
fn who_has_no_emulator_is_told_how_to_get_one() {
    let env = project();
    let foreign = "loong64";
    if Path::new("/usr/bin/qemu-loongarch64-static").exists() || !is_root() {
        eprintln!("stepping aside: this needs root and a machine without qemu-loongarch64-static");
        return;
    }
    let run = env.rb([format!("--platform=linux/{foreign}"), "+t".to_owned()]).expect(3);
    run.says("this machine has no emulator for loong64").says("qemu-user-static");
    env.write("config.toml", "[emulators]\narm46 = \"/x\"\n");
    let config = env.project().join("config.toml");
    let run = env.rb_with(&[("RB_CONFIG", config.to_str().expect("is text"))], ["+t"]);
    run.expect(2).says("arm64");
}
