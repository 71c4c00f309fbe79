//! Programs of another machine, made by hand, run by QEMU where it is installed (qemu-user-static), or lies in the folder that
//! `RB_TEST_EMULATORS` names.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rb_exec::{
    Emulator, Emulators, ExecError, ExitStatus, ExtraMount, Machine, OverlayMount, RootMount, Running, Spec,
    UserSpec,
};

use crate::support::{Scratch, listing, output, shell, stepping_aside, try_spec, words};

/// Tells the machine's name by uname(2): "aarch64".
const WHO: [u32; 12] = [
    0xD106_83FF, // sub sp, sp, #416
    0x9100_03E0, // mov x0, sp
    0xD280_1408, // mov x8, #160: uname
    0xD400_0001, // svc #0
    0xD280_0020, // mov x0, #1
    0x9104_13E1, // add x1, sp, #260
    0xD280_00E2, // mov x2, #7
    0xD280_0808, // mov x8, #64: write
    0xD400_0001, // svc #0
    0xD280_0000, // mov x0, #0
    0xD280_0BA8, // mov x8, #93: exit
    0xD400_0001, // svc #0
];

/// Executes `/who`.
const OTHER: [u32; 10] = [
    0x1000_0100, // adr x0, name
    0xD100_43FF, // sub sp, sp, #16
    0xF900_03E0, // str x0, [sp]
    0xF900_07FF, // str xzr, [sp, #8]
    0x9100_03E1, // mov x1, sp
    0xD280_0002, // mov x2, #0
    0xD280_1BA8, // mov x8, #221: execve
    0xD400_0001, // svc #0
    0x6F68_772F, // name: "/who"
    0x0000_0000,
];

/// Returns a program of arm64 of these instructions.
fn program(code: &[u32]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + code.len() as u64 * 4;
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half = |bytes: &mut Vec<u8>, values: &[u16]| {
        values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
    };
    let word = |bytes: &mut Vec<u8>, values: &[u32]| {
        values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
    };
    let long = |bytes: &mut Vec<u8>, values: &[u64]| {
        values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
    };
    half(&mut bytes, &[2, 183]);
    word(&mut bytes, &[1]);
    long(&mut bytes, &[BASE + HEADERS, 64, 0]);
    word(&mut bytes, &[0]);
    half(&mut bytes, &[64, 56, 1, 0, 0, 0]);
    word(&mut bytes, &[1, 5]);
    long(&mut bytes, &[0, BASE, BASE, size, size, 0x1000]);
    word(&mut bytes, code);
    bytes
}

fn install(root: &Path) {
    for (name, code) in [("who", WHO.as_slice()), ("other", &OTHER)] {
        std::fs::write(root.join(name), program(code)).unwrap();
        std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// The emulator for arm64, or nothing after saying what is missing.
fn emulator() -> Option<Emulator> {
    // Named, it is used though the machine may have registered one for all.
    let named = std::env::vars_os().find(|(name, _)| name == "RB_TEST_EMULATORS");
    let folder = named.map_or_else(|| PathBuf::from("/usr/bin"), |(_, folder)| PathBuf::from(folder));
    let named = [("arm64".to_owned(), folder.join("qemu-aarch64-static"))];
    let emulators = Emulators { named: named.into() };
    match emulators.running("arm64") {
        Ok(Running::Emulated(emulator)) => Some(emulator),
        other => {
            eprintln!("stepping aside: this needs the package qemu-user-static: {other:?}");
            None
        }
    }
}

#[test]
fn an_emulator_runs_every_program_of_a_sandbox_and_nothing_else() {
    let Some(emulator) = emulator().filter(|_| !stepping_aside()) else { return };
    let scratch = Scratch::new();
    let base = scratch.busybox("base");
    install(&base);
    let root = RootMount::overlay(vec![base], Some(scratch.upper()));
    let with = |args: &[&str]| {
        let mut spec = Spec::new(root.clone(), words(args));
        spec.emulator = Some(emulator.clone());
        spec
    };
    assert_eq!(output(&with(&["/who"])), "aarch64");
    assert_eq!(output(&with(&["/other"])), "aarch64");
    // Programs of this machine, too, and those that they start.
    let script = "/who; echo; chown 1:2 /who; stat -c %u:%g /who; echo :x:E::y::/who: > \
        /proc/sys/fs/binfmt_misc/register; ls /proc/sys/fs/binfmt_misc; /other";
    let told = "aarch64\n1:2\nrb-aarch64\nregister\nstatus\naarch64";
    assert_eq!(output(&with(&["/bin/sh", "-c", script])), told);
    let mut user = with(&["/bin/sh", "-c", "id -u; /who"]);
    user.user = UserSpec("1000:1000".to_owned());
    assert_eq!(output(&user), "1000\naarch64");
    let mut insecure = with(&["/who"]);
    insecure.insecure = true;
    assert_eq!(output(&insecure), "aarch64");

    // The machine knows nothing of it, unless it knew before.
    if matches!(Emulators::default().running("arm64"), Ok(Running::Registered { .. })) {
        return;
    }
    let without = Spec::new(root.clone(), words(&["/who"]));
    assert!(matches!(try_spec(&without), Err(ExecError::NotExecutable { .. })), "{:?}", try_spec(&without));
    let left = std::fs::read_dir("/proc/sys/fs/binfmt_misc")
        .map(|entries| entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("rb-")));
    assert!(!left.unwrap_or(false));
    assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains("binfmt_misc"));
}

#[test]
fn rights_are_no_wider_with_an_emulator() {
    let Some(emulator) = emulator().filter(|_| !stepping_aside()) else { return };
    let scratch = Scratch::new();
    let root = RootMount::overlay(vec![scratch.busybox("base")], Some(scratch.upper()));
    let script = "grep -E '^(Cap(Prm|Eff|Bnd)|Seccomp):' /proc/self/status; mount -t tmpfs x /tmp; unshare -U true; \
                  mknod /dev/x c 1 3; kill -9 2147483647; exit 0";
    let plain = try_spec(&shell(root.clone(), script)).unwrap();
    let mut spec = shell(root, script);
    spec.emulator = Some(emulator);
    let emulated = try_spec(&spec).unwrap();
    assert_eq!(emulated.stdout, plain.stdout);
    assert!(emulated.stderr.contains("mount: ") && plain.stderr.contains("mount: "), "{emulated:?}");
}

#[test]
fn an_emulator_is_registered_where_proc_is_and_nowhere_else() {
    let Some(emulator) = emulator().filter(|_| !stepping_aside()) else { return };
    let scratch = Scratch::new();
    let base = scratch.busybox("base");
    install(&base);
    symlink("x/kernel", base.join("proc")).unwrap();
    let root = RootMount::overlay(vec![base], Some(scratch.upper()));
    let mut spec = shell(root, "/who; ls /x/kernel/sys/fs/binfmt_misc");
    spec.emulator = Some(emulator);
    assert_eq!(output(&spec), "aarch64rb-aarch64\nregister\nstatus\n");
    // Another's files stand over it, in which the way is a link that leads outside.
    let (outside, files) = (scratch.directory("outside"), scratch.directory("files"));
    std::fs::create_dir_all(files.join("sys")).unwrap();
    symlink(&outside, files.join("sys/fs")).unwrap();
    std::fs::create_dir_all(outside.join("binfmt_misc")).unwrap();
    for (selector, target) in [("/", "/proc"), ("/sys", "/proc/sys"), ("/", "/x/kernel")] {
        let root = RootMount::shared(&files);
        spec.mounts = vec![ExtraMount::Overlay(OverlayMount {
            root,
            selector: selector.into(),
            target: target.into(),
            readonly: false,
        })];
        let told = try_spec(&spec);
        assert!(
            matches!(&told, Err(ExecError::Step { step, .. }) if step.contains("binfmt_misc") || step.starts_with("register")),
            "{told:?}"
        );
        assert_eq!(listing(&outside), ["binfmt_misc"]);
    }
}

#[test]
fn an_emulator_that_is_none_is_told() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let base = scratch.busybox("base");
    install(&base);
    let mut spec = Spec::new(RootMount::overlay(vec![base], Some(scratch.upper())), words(&["/who"]));
    let machine = Machine::of("arm64").unwrap();
    if machine.is_native() {
        eprintln!("stepping aside: this is such a machine");
        return;
    }
    spec.emulator = Some(Emulator { program: PathBuf::from("/nowhere/qemu"), machine });
    let missing = try_spec(&spec);
    assert!(
        matches!(&missing, Err(ExecError::Open { path, .. }) if path == Path::new("/nowhere/qemu")),
        "{missing:?}"
    );
    spec.emulator = Some(Emulator { program: PathBuf::from("/etc/passwd"), machine });
    let refused = try_spec(&spec);
    assert!(!matches!(refused.as_ref().map(|ran| ran.status), Ok(ExitStatus::Exited(0))), "{refused:?}");
}
