//! What a sandbox does not see and cannot do.

use rb_exec::{Bind, ExitStatus, ExtraMount, Network, RootMount, Spec, UserSpec};

use crate::support::{Scratch, output, shell, stepping_aside, try_spec, words};

fn root(scratch: &Scratch) -> RootMount {
    RootMount::directory(scratch.busybox("root"))
}

#[test]
fn no_process_and_no_mount_of_the_host_is_seen() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let spec =
        shell(root(&scratch), "cd /proc; for p in [0-9]*; do echo $p; done; echo; cat /proc/self/mountinfo");
    let text = output(&spec);
    let (processes, mounts) = text.split_once("\n\n").unwrap();
    assert_eq!(processes, "1");
    for line in mounts.lines() {
        let target = line.split(' ').nth(4).unwrap();
        let known =
            target == "/" || ["/proc", "/dev", "/sys", "/etc/"].iter().any(|start| target.starts_with(start));
        assert!(known, "{line}");
    }
    assert_eq!(mounts.lines().filter(|line| line.split(' ').nth(4) == Some("/")).count(), 1, "{mounts}");
    assert!(!mounts.contains("shared:") && !mounts.contains("master:"), "{mounts}");
}

#[test]
fn capabilities_are_those_of_docker() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let script = "grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status";
    let mut spec = shell(root(&scratch), script);
    let set = "00000000a80425fb";
    let none = "0000000000000000";
    assert_eq!(
        output(&spec),
        format!(
            "CapInh:\t{none}\nCapPrm:\t{set}\nCapEff:\t{set}\nCapBnd:\t{set}\nCapAmb:\t{none}\nNoNewPrivs:\t0\nSeccomp:\t2\n"
        )
    );
    spec.no_new_privileges = true;
    assert!(output(&spec).contains("NoNewPrivs:\t1"));
    spec.no_new_privileges = false;
    spec.insecure = true;
    let text = output(&spec);
    assert!(
        text.contains("CapEff:\t000001ffffffffff") || text.contains("CapEff:\t000001fffeffffff"),
        "{text}"
    );
    assert!(text.contains("Seccomp:\t0"), "{text}");
}

#[test]
fn setuid_programs_work_unless_forbidden() {
    if stepping_aside() {
        return;
    }
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new();
    let directory = scratch.busybox("root");
    let program = directory.join("bin/setuid");
    let source = "#include <stdio.h>\n#include <unistd.h>\nint main(void) { printf(\"%d\\n\", geteuid()); }";
    if !compile(&scratch, source, &program) {
        return;
    }
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o4755)).unwrap();
    let mut spec = Spec::new(RootMount::directory(&directory), words(&["setuid"]));
    spec.user = UserSpec("1000".to_owned());
    assert_eq!(output(&spec), "0\n");
    spec.no_new_privileges = true;
    assert_eq!(output(&spec), "1000\n");
}

/// Builds a static C program. `false`, and a word about it, if this machine cannot.
fn compile(scratch: &Scratch, source: &str, program: &std::path::Path) -> bool {
    let path = scratch.path().join("program.c");
    std::fs::write(&path, source).unwrap();
    let built = std::process::Command::new("cc").args(["-static", "-o"]).arg(program).arg(&path).status();
    let built = built.is_ok_and(|status| status.success());
    if !built {
        eprintln!("stepping aside: no C compiler with a static libc");
    }
    built
}

#[test]
fn forbidden_calls_fail() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let directory = scratch.busybox("root");
    for script in [
        "unshare -m true",
        "unshare -U true",
        "unshare -n true",
        "mount -t tmpfs none /bin",
        "umount /proc",
        "mount -o remount,rw /sys",
        "hostname other",
        "echo 1 > /proc/sys/kernel/panic",
        "echo b > /proc/sysrq-trigger",
        "echo x > /sys/power/state",
        "chmod 600 /dev/null",
        "chown 1 /dev/null",
        "mknod /dev/disk b 254 0 && cat /dev/disk",
        "mknod /disk b 254 0 && head -c 1 /disk",
        "mknod /console c 5 1 && echo x > /console",
        "head -c1 /proc/kcore | grep .",
        "ls /sys/firmware | grep .",
        "cat /proc/keys | grep .",
        "echo 0 > /etc/hosts",
        "rm /dev/null",
    ] {
        let ran = try_spec(&shell(RootMount::directory(&directory), script)).unwrap();
        assert_ne!(ran.status, ExitStatus::Exited(0), "{script}: {ran:?}");
    }
    for name in ["disk", "console"] {
        std::fs::remove_file(directory.join(name)).unwrap();
    }
    for script in
        ["chroot / /bin/true", "mknod /fifo p", "touch /f && chown 1234:5678 /f", "echo x > /dev/null"]
    {
        let ran = try_spec(&shell(RootMount::directory(&directory), &format!("busybox {script}"))).unwrap();
        assert!(script.starts_with("echo") || ran.status == ExitStatus::Exited(0), "{script}: {ran:?}");
    }
}

/// Calls the kernel directly, as busybox has no command for these.
#[test]
fn the_filter_answers_as_docker_does() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let directory = scratch.busybox("root");
    let source = r#"
        #define _GNU_SOURCE
        #include <errno.h>
        #include <stdio.h>
        #include <string.h>
        #include <sys/syscall.h>
        #include <unistd.h>
        static void show(const char *name, long answer) { printf("%s %d\n", name, answer < 0 ? errno : 0); }
        int main(void) {
            char args[128] = {0};
            show("keyctl", syscall(SYS_keyctl, 0, 0, 0));
            show("add_key", syscall(SYS_add_key, "user", "a", "b", 1, -2));
            show("bpf", syscall(SYS_bpf, 0, args, 0));
            show("clone3", syscall(SYS_clone3, args, 64));
            show("io_uring_setup", syscall(SYS_io_uring_setup, 1, args));
            show("userfaultfd", syscall(SYS_userfaultfd, 0));
            show("open_by_handle_at", syscall(SYS_open_by_handle_at, -1, args, 0));
            show("personality", syscall(SYS_personality, 0xffffffffL));
            show("personality_bad", syscall(SYS_personality, 0x0400000L));
            show("socket_inet", syscall(SYS_socket, 2, 1, 0));
            show("socket_vsock", syscall(SYS_socket, 40, 1, 0));
            show("socket_alg", syscall(SYS_socket, 38, 5, 0));
            show("new", syscall(900, 0));
            show("getpid", syscall(SYS_getpid));
        #ifdef __x86_64__
            show("x32_getpid", syscall(0x40000000 + 39));
            show("x32_keyctl", syscall(0x40000000 + 250));
            long answer;
            __asm__ volatile ("int $0x80" : "=a"(answer) : "a"(20L) : "memory"); /* i386 getpid */
            printf("i386_getpid %ld\n", answer > 0 ? 0 : -answer);
            __asm__ volatile ("int $0x80" : "=a"(answer) : "a"(288L), "b"(0L), "c"(0L), "d"(0L) : "memory"); /* keyctl */
            printf("i386_keyctl %ld\n", answer > 0 ? 0 : -answer);
            __asm__ volatile ("int $0x80" : "=a"(answer) : "a"(310L), "b"(0x10000000L) : "memory"); /* unshare */
            printf("i386_unshare %ld\n", answer > 0 ? 0 : -answer);
        #endif
            return 0;
        }
        "#;
    if !compile(&scratch, source, &directory.join("bin/calls")) {
        return;
    }
    let text = output(&Spec::new(RootMount::directory(&directory), words(&["calls"])));
    let answer = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name}: {text}")).parse::<i32>().unwrap()
    };
    const EPERM: i32 = 1;
    const ENOSYS: i32 = 38;
    let denied = "keyctl add_key bpf io_uring_setup userfaultfd open_by_handle_at personality_bad socket_vsock socket_alg";
    for name in denied.split_whitespace() {
        assert_eq!(answer(name), EPERM, "{name}");
    }
    for name in ["clone3", "new"] {
        assert_eq!(answer(name), ENOSYS, "{name}");
    }
    for name in ["personality", "socket_inet", "getpid"] {
        assert_eq!(answer(name), 0, "{name}");
    }
    if cfg!(target_arch = "x86_64") {
        // Kernels without the x32 or i386 ABI answer ENOSYS themselves.
        assert!([0, ENOSYS].contains(&answer("x32_getpid")));
        assert!([EPERM, ENOSYS].contains(&answer("x32_keyctl")));
        assert!([0, ENOSYS].contains(&answer("i386_getpid")));
        for name in ["i386_keyctl", "i386_unshare"] {
            assert!([EPERM, ENOSYS].contains(&answer(name)), "{name}");
        }
    }
}

#[test]
fn networks() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let directory = scratch.busybox("root");
    let script =
        "cat /proc/net/dev | wc -l; ip -o addr show lo | grep -c 127.0.0.1; readlink /proc/self/ns/net";
    let mut spec = shell(RootMount::directory(&directory), script);
    let alone = output(&spec);
    let host = std::fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    assert!(alone.starts_with("3\n1\n"), "{alone}");
    assert!(!alone.contains(&host));
    spec.args = words(&["test", "-e", "/etc/resolv.conf"]);
    assert_eq!(try_spec(&spec).unwrap().status, ExitStatus::Exited(1));
    spec.network = Network::Host;
    spec.args = words(&["sh", "-c", "readlink /proc/self/ns/net; cat /etc/resolv.conf"]);
    let resolv = std::fs::read_to_string("/etc/resolv.conf").unwrap();
    assert_eq!(output(&spec), format!("{host}\n{resolv}"));
}

#[test]
fn no_descriptor_reaches_the_command() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    // One that would be inherited by an ordinary child.
    let file = std::fs::File::open("/").unwrap();
    let leaky = rustix::io::fcntl_getfd(&file).unwrap();
    rustix::io::fcntl_setfd(&file, leaky.difference(rustix::io::FdFlags::CLOEXEC)).unwrap();
    let spec = shell(root(&scratch), "for f in /proc/self/fd/*; do readlink $f; done; true");
    let text = output(&spec);
    let lines: Vec<&str> = text.lines().collect();
    // readlink itself sees nothing but its streams.
    assert_eq!(lines.len(), 3, "{text}");
    assert_eq!(lines[0], "/dev/null");
    assert!(lines[1].starts_with("pipe:") && lines[2].starts_with("pipe:"), "{text}");
}

#[test]
fn our_binary_is_out_of_reach() {
    if stepping_aside() {
        return;
    }
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new();
    let directory = scratch.busybox("root");
    // The interpreter is whatever runs at this moment: were it ours, it would print a usage or run tests.
    std::fs::write(directory.join("bin/trap"), "#!/proc/self/exe\n").unwrap();
    std::fs::set_permissions(directory.join("bin/trap"), std::fs::Permissions::from_mode(0o755)).unwrap();
    for program in ["trap", "/proc/self/exe", "/proc/1/exe"] {
        let answer = try_spec(&Spec::new(RootMount::directory(&directory), words(&[program, "--list"])));
        let said = format!("{answer:?}");
        assert!(!said.contains("our_binary_is_out_of_reach"), "{program}: {said}");
        if let Ok(ran) = answer {
            assert_ne!(ran.status, ExitStatus::Exited(0), "{program}: {said}");
        }
    }
    let spec = shell(RootMount::directory(&directory), "readlink /proc/1/exe");
    assert_eq!(output(&spec), "/bin/busybox\n");
}

#[test]
fn devices_work_and_belong_to_nobody() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let before = std::fs::metadata("/dev/null").unwrap();
    let script = "head -c 3 /dev/zero | wc -c; head -c 5 /dev/urandom | wc -c; echo x > /dev/full || echo full; \
        echo gone > /dev/null; test -L /dev/fd && test -d /dev/shm && touch /dev/shm/x && ls /dev/pts; ls /dev | wc -l";
    let mut spec = shell(root(&scratch), script);
    assert_eq!(output(&spec), "3\n5\nfull\nptmx\n14\n");
    spec.args =
        words(&["sh", "-c", "chmod 777 /dev/null; chown 5 /dev/null; touch -d '2001-01-01 00:00' /dev/null"]);
    try_spec(&spec).unwrap();
    use std::os::unix::fs::MetadataExt as _;
    let after = std::fs::metadata("/dev/null").unwrap();
    assert_eq!((before.mode(), before.uid()), (after.mode(), after.uid()));
    // A device that is bound by name works although mounts forbid devices.
    spec.mounts = vec![ExtraMount::Bind(Bind {
        source: "/dev/zero".into(),
        target: "/zero".into(),
        readonly: true,
        ..Bind::default()
    })];
    spec.args = words(&["sh", "-c", "head -c 7 /zero | wc -c"]);
    assert_eq!(output(&spec), "7\n");
}
