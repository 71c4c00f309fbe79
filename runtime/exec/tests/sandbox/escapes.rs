//! Known ways out of the sandboxes of others, tried on ours: a test for each CVE, which says how it works.
//!
//! Each makes the image, the step or the neighbour that the attack takes, and then looks at what the attack is after: a
//! file of this machine that must be neither read, written nor removed. Files of the kernel are opened and not written,
//! so that a sandbox that lets them be does no harm. CVE-2024-23653, steps without isolation that nobody allowed, is a
//! matter of the engine: `privileged` among its tests.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rb_exec::{Bind, ExecError, ExitStatus, ExtraMount, OverlayMount, RootMount, Spec};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::support::{Scratch, listing, output, shell, stepping_aside, try_spec, words};

/// What no sandbox may print.
const SECRET: &str = "hunter2";

/// A directory of this machine with something to read.
fn outside(scratch: &Scratch) -> PathBuf {
    let outside = scratch.directory("outside");
    fs::write(outside.join("secret"), SECRET).unwrap();
    outside
}

/// Exchanges two names without pause while `body` runs, as a neighbour with the same directory does.
fn while_exchanging(one: &Path, other: &Path, body: impl FnOnce()) {
    /// Ends the exchange even if the body panics.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let _stop = Stop(&stop);
        body();
    });
}

/// A script that says which files can be opened for writing; it writes and makes nothing.
fn openable(files: &[&str]) -> String {
    format!(
        "for file in {}; do [ -e $file ] && (: >> $file) 2>/dev/null && echo open $file; done; true",
        files.join(" ")
    )
}

/// Files through which one takes over the machine, or learns of it.
const KERNEL: [&str; 6] = [
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/vm/panic_on_oom",
    "/proc/sysrq-trigger",
    "/proc/kcore",
    "/proc/keys",
];

fn shared(root: &Path, selector: &str, target: &str) -> ExtraMount {
    let (root, selector, target) = (RootMount::shared(root), selector.to_owned(), target.to_owned());
    ExtraMount::Overlay(OverlayMount { root, selector, target, readonly: false })
}

fn bind(source: &Path, target: &str) -> ExtraMount {
    let (source, target) = (source.to_owned(), target.to_owned());
    ExtraMount::Bind(Bind { source, target, readonly: true, ..Bind::default() })
}

/// The runtime left a descriptor of a directory of the machine open, and an image whose working directory is
/// `/proc/self/fd/N` began in it, outside of its root.
#[test]
fn cve_2024_21626_no_working_directory_is_a_leaked_descriptor() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let (base, outside) = (scratch.busybox("root"), outside(&scratch));
    // As leaky as can be: several, and none closed on execution.
    let leaks: Vec<File> = (0..4).map(|_| File::open(&outside).unwrap()).collect();
    for leak in &leaks {
        rustix::io::fcntl_setfd(leak, rustix::io::FdFlags::empty()).unwrap();
    }
    let numbers: Vec<i32> = (3..24).chain(leaks.iter().map(File::as_raw_fd)).collect();
    let read = "cat secret ../secret ../outside/secret /proc/self/cwd/secret; ls . ..";
    for number in &numbers {
        fs::remove_file(base.join("work")).ok();
        symlink(format!("/proc/self/fd/{number}"), base.join("work")).unwrap();
        for cwd in [format!("/proc/self/fd/{number}"), format!("/proc/1/fd/{number}/.."), "/work".to_owned()]
        {
            let mut spec = shell(RootMount::directory(&base), read);
            spec.cwd.clone_from(&cwd);
            let ran = try_spec(&spec);
            assert!(matches!(ran, Err(ExecError::Cwd { .. })), "{cwd}: {ran:?}");
        }
    }
    // Nor is there any left once the command runs, in it or in what starts it.
    let script = "for at in /proc/[0-9]*/fd/* /proc/[0-9]*/cwd /proc/[0-9]*/root; do \
        cat $at/secret $at/../secret $at/../outside/secret; done 2>/dev/null; echo end";
    assert_eq!(output(&shell(RootMount::directory(&base), script)), "end\n");
    for number in numbers {
        let program = format!("/proc/self/fd/{number}/../root/bin/echo");
        let ran = try_spec(&Spec::new(RootMount::directory(&base), words(&[&program, "ran"])));
        assert!(!ran.is_ok_and(|ran| ran.stdout.contains("ran")), "{program}");
    }
}

/// Two steps share a cache; one exchanges the folder that the other is about to mount from it for a link, so that what
/// gets mounted is a folder of the machine.
#[test]
fn cve_2024_23651_no_race_for_a_part_of_a_cache_leads_out_of_it() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let (base, cache, outside) = (scratch.busybox("root"), scratch.directory("cache"), outside(&scratch));
    fs::create_dir(cache.join("part")).unwrap();
    fs::write(cache.join("part/secret"), "own").unwrap();
    symlink(&outside, cache.join("link")).unwrap();
    let other = scratch.directory("other");
    let mut seen = 0;
    while_exchanging(&cache.join("part"), &cache.join("link"), || {
        for round in 0..300 {
            let mut spec = shell(RootMount::directory(&base), "cat /m/secret; touch /m/touched");
            spec.mounts = match round % 3 {
                0 => vec![shared(&cache, "/part", "/m")],
                // A place to stand on is made, and found, in the cache.
                1 => vec![shared(&cache, "/", "/m"), bind(&other, "/m/part/made")],
                _ => vec![shared(&cache, "/part/secret", "/m/secret")],
            };
            match try_spec(&spec) {
                Ok(ran) => {
                    assert!(!ran.stdout.contains(SECRET), "{ran:?}");
                    seen += usize::from(ran.stdout == "own");
                }
                Err(
                    ExecError::MountPoint { .. } | ExecError::MountSource { .. } | ExecError::Step { .. },
                ) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    });
    assert!(seen > 0, "nobody ever saw the part itself");
    assert_eq!(listing(&outside), ["secret"]);
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), SECRET);
    assert_eq!(listing(&other), Vec::<String>::new());
}

/// What was made for a mount to stand on is removed when the step has ended; a step that puts a link in the place of its
/// folder had a file of the machine removed instead.
#[test]
fn cve_2024_23652_cleaning_up_removes_nothing_behind_a_link() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let base = scratch.busybox("root");
    let (outside, source) = (outside(&scratch), scratch.directory("source"));
    // Only empty things are ever removed, so that is what there is to lose.
    fs::write(outside.join("file"), "").unwrap();
    fs::create_dir(outside.join("folder")).unwrap();
    fs::write(source.join("file"), "x").unwrap();
    let before = listing(&outside);
    let target = outside.to_str().unwrap();
    let climb = format!("../../../../../../../../..{target}");
    let scripts = [
        format!("mv /a/b /a/moved && ln -s {target} /a/b"),
        format!("mv /a/b /a/moved && ln -s {climb} /a/b"),
        format!("mv /a /moved && mkdir /a && ln -s {target} /a/b"),
        format!("mv /a /moved && ln -s {} /a", outside.parent().unwrap().display()),
    ];
    // In the last, what was `b` goes by the name that the machine's folder has.
    for (number, script) in scripts.iter().enumerate() {
        let folder = if number == 3 { "/a/outside" } else { "/a/b" };
        let overlay = crate::support::Scratch::new();
        for root in [
            RootMount::directory(scratch.busybox(&format!("root{number}"))),
            RootMount::overlay(vec![base.clone()], Some(overlay.upper())),
        ] {
            let mut spec = shell(root, script);
            spec.mounts = vec![
                bind(&source.join("file"), &format!("{folder}/file")),
                bind(&source, &format!("{folder}/folder")),
            ];
            let ran = try_spec(&spec).unwrap();
            assert_eq!(
                ran.status,
                ExitStatus::Exited(0),
                "the attack fails for another reason: {script}: {ran:?}"
            );
            assert_eq!(listing(&outside), before, "{script}");
        }
    }
    assert_eq!(listing(&source), ["file"]);
}

/// The runtime hid files of `/proc` by binding the container's `/dev/null` over them; an image where that is a link had
/// another file bound there, open for writing, or nothing hidden.
#[test]
fn cve_2025_31133_what_hides_files_of_proc_is_not_the_images() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let script = format!(
        "{}; for name in kcore keys timer_list interrupts; do head -c 1 /proc/$name 2>/dev/null; done | wc -c",
        openable(&KERNEL)
    );
    let made = |name: &str, make: &dyn Fn(&Path)| {
        let base = scratch.busybox(name);
        make(&base);
        output(&shell(RootMount::directory(&base), &script))
    };
    for target in ["/proc/sys/kernel/core_pattern", "/proc/kcore", "/proc/self/exe", "nowhere"] {
        let name = format!("null{}", target.replace('/', "-"));
        let found = made(&name, &|base| {
            fs::create_dir(base.join("dev")).unwrap();
            symlink(target, base.join("dev/null")).unwrap();
        });
        assert_eq!(found, "0\n", "{target}");
    }
    for target in ["proc/sys/kernel", "/sys", "/tmp"] {
        let name = format!("dev{}", target.replace('/', "-"));
        let found = made(&name, &|base| symlink(target, base.join("dev")).unwrap());
        assert_eq!(found, "0\n", "{target}");
    }
    // A neighbour exchanges it meanwhile.
    let (base, dev) = (scratch.busybox("raced"), scratch.directory("dev"));
    fs::write(dev.join("null"), "").unwrap();
    symlink("/proc/sys/kernel/core_pattern", dev.join("link")).unwrap();
    while_exchanging(&dev.join("null"), &dev.join("link"), || {
        for _ in 0..60 {
            let mut spec = shell(RootMount::directory(&base), &script);
            spec.mounts = vec![shared(&dev, "/", "/dev")];
            // Where `/dev/null` leads to now is the step's own affair.
            let said = output(&spec);
            assert!(!said.contains("open") && said.ends_with("0\n"), "{said}");
        }
    });
}

/// The runtime bound a terminal over `/dev/console` before it hid files of `/proc`; an image where either is a link had
/// it bound over a file of `/proc` instead, so that this one could be written.
#[test]
fn cve_2025_52565_no_console_is_bound_through_a_link() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let script = format!("{}; ls -A /dev/pts; test ! -e /dev/console", openable(&KERNEL));
    let places: [(&str, &str); 5] = [
        ("dev/console", "/proc/sys/kernel/core_pattern"),
        ("dev/pts/0", "/proc/sys/kernel/core_pattern"),
        ("dev/pts/ptmx", "/proc/sysrq-trigger"),
        ("dev/ptmx", "/proc/sys/kernel/core_pattern"),
        ("dev/pts", "../proc/sys/kernel"),
    ];
    for (place, target) in places {
        let base = scratch.busybox(&place.replace('/', "-"));
        let place = base.join(place);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        symlink(target, &place).unwrap();
        assert_eq!(output(&shell(RootMount::directory(&base), &script)), "ptmx\n", "{}", place.display());
        // The link is what it was: nothing was made in its place.
        assert_eq!(fs::read_link(&place).unwrap(), Path::new(target));
    }
    let base = scratch.busybox("raced");
    fs::create_dir_all(base.join("dev/pts")).unwrap();
    symlink("/proc/sys/kernel", base.join("link")).unwrap();
    while_exchanging(&base.join("dev"), &base.join("link"), || {
        for _ in 0..60 {
            match try_spec(&shell(RootMount::shared(&base), &script)) {
                Ok(ran) => assert!(!ran.stdout.contains("open"), "{ran:?}"),
                Err(ExecError::MountPoint { .. } | ExecError::Step { .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    });
}

/// The runtime wrote to files of `/proc` (labels of the process, settings of the kernel) by their names; a neighbour
/// with a shared mount there made the names lead to others: labels were lost, or text went to the machine's settings.
#[test]
fn cve_2025_52881_nothing_is_written_by_names_in_a_mounted_proc() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let (base, outside, proc) = (scratch.busybox("root"), outside(&scratch), scratch.directory("proc"));
    let canary = outside.join("secret");
    let names = [
        "attr/exec",
        "attr/current",
        "attr/apparmor/exec",
        "oom_score_adj",
        "uid_map",
        "gid_map",
        "setgroups",
    ];
    for process in ["self", "thread-self", "1"] {
        for name in names {
            let place = proc.join(process).join(name);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            symlink(&canary, place).unwrap();
        }
    }
    for name in
        ["sys/kernel/hostname", "sys/net/ipv4/ping_group_range", "sys/kernel/domainname", "sysrq-trigger"]
    {
        let place = proc.join(name);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        symlink(&canary, place).unwrap();
    }
    symlink(&outside, proc.join("link")).unwrap();
    // A link is not mounted itself: what it leads to in its own tree is, or nothing.
    symlink("self", proc.join("inner")).unwrap();
    symlink("/../../../..", proc.join("up")).unwrap();
    for (selector, is_there) in [("/link", false), ("/link/secret", false), ("/inner", true), ("/up", true)] {
        for target in ["/proc", "/proc/self", "/proc/1/attr", "/proc/sys/kernel"] {
            let mut spec =
                shell(RootMount::directory(&base), "cat $0/secret $0/outside/secret 2>/dev/null; true");
            spec.args.push(target.to_owned());
            spec.mounts = vec![shared(&proc, selector, target)];
            match try_spec(&spec) {
                Ok(ran) => assert!(is_there && ran.stdout.is_empty(), "{selector} at {target}: {ran:?}"),
                // What is new in each `/proc` is no place to prepare a mount for.
                Err(ExecError::MountSource { .. }) => assert!(!is_there, "{selector} at {target}"),
                Err(ExecError::MountPoint { .. } | ExecError::Step { .. }) => assert_ne!(target, "/proc"),
                Err(other) => panic!("{selector} at {target}: {other:?}"),
            }
        }
    }
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    // Its limits hold although it sees no `/proc` of its own.
    let script = format!(
        "{}; hostname; mkdir -p /t; mount -t tmpfs x /t 2>/dev/null && echo mounted; hostname x 2>/dev/null && echo renamed; true",
        openable(&["/real/sys/kernel/core_pattern", canary.to_str().unwrap()]),
    );
    while_exchanging(&proc.join("self"), &proc.join("link"), || {
        for (round, target) in ["/proc", "/proc/self", "/proc/sys"].into_iter().cycle().take(60).enumerate() {
            let mut spec = shell(RootMount::directory(&base), &script);
            spec.hostname = format!("round{round}");
            let selector = if target == "/proc/sys" { "/sys" } else { "/" };
            spec.mounts = vec![shared(&proc, selector, target)];
            match try_spec(&spec) {
                Ok(ran) => assert_eq!(ran.stdout, format!("round{round}\n"), "{ran:?}"),
                Err(
                    ExecError::MountPoint { .. } | ExecError::MountSource { .. } | ExecError::Step { .. },
                ) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    });
    assert_eq!(fs::read_to_string(&canary).unwrap(), SECRET);
    assert_eq!(listing(&outside), ["secret"]);
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), hostname);
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), pattern);
}
