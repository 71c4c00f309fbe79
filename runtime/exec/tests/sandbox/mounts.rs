//! Roots, mounts and what they leave behind.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use rb_exec::{
    Bind, ExecError, ExitStatus, ExtraMount, FileMount, Hidden, OverlayMount, RootMount, Spec, Upper,
};

use crate::support::{Scratch, listing, output, shell, stepping_aside, try_spec, words};

fn bind(source: impl AsRef<Path>, target: &str, readonly: bool) -> ExtraMount {
    let source = source.as_ref().to_owned();
    ExtraMount::Bind(Bind { source, target: target.to_owned(), readonly, ..Bind::default() })
}

fn whiteout(path: &Path) {
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::empty(),
        0,
    )
    .unwrap();
}

#[test]
fn a_static_binary_from_scratch_leaves_its_root_as_it_was() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let upper = scratch.upper();
    std::fs::copy("/bin/busybox", upper.upper.join("echo")).unwrap();
    let before = std::fs::metadata(&upper.upper).unwrap();
    for root in [RootMount::overlay(vec![], Some(upper.clone())), RootMount::directory(&upper.upper)] {
        let spec = Spec::new(root, words(&["/echo", "from scratch"]));
        assert_eq!(output(&spec), "from scratch\n");
        assert_eq!(listing(&upper.upper), ["echo"]);
        let after = std::fs::metadata(&upper.upper).unwrap();
        assert_eq!((before.mtime(), before.mtime_nsec()), (after.mtime(), after.mtime_nsec()));
    }
    let nothing = Spec::new(RootMount::overlay(vec![], None), words(&["/hello"]));
    assert!(matches!(try_spec(&nothing), Err(ExecError::NoRoot)));
}

#[test]
fn only_what_the_command_wrote_is_in_the_upper_directory() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let base = scratch.busybox("base");
    for directory in ["etc", "usr/share"] {
        std::fs::create_dir_all(base.join(directory)).unwrap();
    }
    std::fs::write(base.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
    let cache = scratch.directory("cache");
    for (script, expected) in [
        ("true", &[][..]),
        ("ls /usr/share/doc/x >/dev/null", &[]),
        ("echo 1 > /etc/new", &["etc", "etc/new"]),
        ("chmod 700 /etc", &["etc"]),
        ("echo 1 > /cache/kept; echo 2 > /deep/er/beside", &["deep", "deep/er", "deep/er/beside"]),
        ("rm /etc/passwd", &["etc", "etc/passwd"]),
    ] {
        let upper = Upper { upper: scratch.directory("upper"), work: scratch.directory("work") };
        let mut spec = shell(RootMount::overlay(vec![base.clone()], Some(upper.clone())), script);
        spec.mounts = vec![
            bind(&cache, "/cache", false),
            bind(&cache, "/usr/share/doc/x", true),
            bind("/etc/os-release", "/deep/er/file", true),
        ];
        output(&spec);
        assert_eq!(listing(&upper.upper), expected, "{script}");
        std::fs::remove_dir_all(scratch.path().join("upper")).unwrap();
        std::fs::remove_dir_all(scratch.path().join("work")).unwrap();
    }
    assert_eq!(listing(&cache), ["kept"]);
    assert_eq!(listing(&base.join("etc")), ["passwd"]);
}

#[test]
fn a_whiteout_under_a_mount_point_comes_back() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let base = scratch.busybox("base");
    std::fs::create_dir(base.join("etc")).unwrap();
    std::fs::write(base.join("etc/hosts"), "of the image\n").unwrap();
    let upper = scratch.upper();
    std::fs::create_dir(upper.upper.join("etc")).unwrap();
    whiteout(&upper.upper.join("etc/hosts"));
    let spec = shell(
        RootMount::overlay(vec![base, scratch.directory("top")], Some(upper.clone())),
        "cat /etc/hosts",
    );
    assert!(output(&spec).contains("localhost"));
    assert_eq!(listing(&upper.upper), ["etc", "etc/hosts"]);
    let stat = rustix::fs::stat(upper.upper.join("etc/hosts")).unwrap();
    assert_eq!(
        (rustix::fs::FileType::from_raw_mode(stat.st_mode), stat.st_rdev),
        (rustix::fs::FileType::CharacterDevice, 0)
    );
}

#[test]
fn symlinks_in_an_image_lead_nowhere_outside() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let outside = scratch.directory("outside");
    std::fs::write(outside.join("passwd"), "evil:x:0:0::/evil:/bin/sh\n").unwrap();
    let base = scratch.busybox("root");
    std::fs::create_dir(base.join("tmp")).unwrap();
    symlink("/tmp/x", base.join("proc")).unwrap();
    symlink(&outside, base.join("etc")).unwrap();
    symlink("../../../../../../../../..", base.join("up")).unwrap();
    symlink("loop", base.join("loop")).unwrap();
    let inside = base.join(outside.strip_prefix("/").unwrap());
    for root in [RootMount::directory(&base), RootMount::overlay(vec![base.clone()], Some(scratch.upper()))] {
        let mut spec = shell(
            root,
            "cat /proc/self/status | head -n1; ls /tmp/x/self/status; cat /etc/hosts | head -n1; ls /tmp/climbed",
        );
        spec.mounts = vec![bind(&outside, "/up/tmp/climbed", true)];
        assert_eq!(output(&spec), "Name:\tcat\n/tmp/x/self/status\n127.0.0.1\tlocalhost\npasswd\n");
        // The users are those of the image, which has none.
        spec.user = rb_exec::UserSpec("evil".to_owned());
        assert!(matches!(try_spec(&spec), Err(ExecError::UnknownUser { .. })));
    }
    assert_eq!(listing(&outside), ["passwd"]);
    assert!(!inside.exists() && !Path::new("/tmp/x").exists() && !Path::new("/tmp/climbed").exists());
    assert_eq!(listing(&base.join("tmp")), Vec::<String>::new(), "{:?}", listing(&base));
    assert_eq!(listing(&scratch.path().join("upper")), Vec::<String>::new());
    let mut spec = shell(RootMount::directory(&base), "true");
    spec.mounts = vec![bind(&outside, "/loop/x", true)];
    assert!(matches!(try_spec(&spec), Err(ExecError::MountPoint { .. })));
}

#[test]
fn magic_links_are_no_mount_targets() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let base = scratch.busybox("root");
    let outside = scratch.directory("outside");
    symlink("/proc/self/fd/3", base.join("etc")).unwrap();
    for target in ["/proc/self/root/x", "/proc/self/cwd", "/proc/1/fd/4", "/etc/x"] {
        let mut spec = shell(RootMount::directory(&base), "true");
        spec.mounts = vec![bind(&outside, target, false)];
        assert!(try_spec(&spec).is_err(), "{target}");
    }
    assert_eq!(listing(&outside), Vec::<String>::new());
}

#[test]
fn binds_read_only_and_not() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let base = scratch.busybox("root");
    let (first, second) = (scratch.directory("first"), scratch.directory("second"));
    std::fs::write(first.join("file"), "one\n").unwrap();
    let mut spec = shell(
        RootMount::directory(&base),
        "cat /ro/file /file /rw/deep/file; echo x > /ro/file; echo x > /file; touch /ro/new; chmod 0 /ro; \
         echo two > /rw/new; mount -o remount,rw /ro; echo x > /ro/file; touch /rw/deep/no",
    );
    spec.mounts = vec![
        // Deeper ones first: the order is put right.
        bind(&first, "/rw/deep", true),
        bind(&first, "/ro", true),
        bind(&second, "/rw", false),
        bind(first.join("file"), "/file", true),
    ];
    let ran = try_spec(&spec).unwrap();
    assert_eq!(ran.stdout, "one\none\none\n");
    assert_eq!(ran.status, ExitStatus::Exited(1));
    assert_eq!(std::fs::read_to_string(first.join("file")).unwrap(), "one\n");
    assert_eq!(listing(&first), ["file"]);
    // A mount point in a bound directory belongs to it and stays.
    assert_eq!(listing(&second), ["deep", "new"]);
    let error = |mount: ExtraMount| {
        let mut spec = shell(RootMount::directory(&base), "true");
        spec.mounts = vec![mount];
        try_spec(&spec).unwrap_err()
    };
    assert!(matches!(error(bind("/nonexistent", "/x", true)), ExecError::Open { .. }));
    assert!(matches!(error(bind(&first, "x", true)), ExecError::Target { .. }));
    assert!(matches!(error(bind(&first, "/./", true)), ExecError::Target { .. }));
    assert!(matches!(error(bind(&first, "/bin/busybox", true)), ExecError::MountPoint { .. }));
    assert!(matches!(error(bind(first.join("file"), "/bin", true)), ExecError::MountPoint { .. }));
    assert!(matches!(error(bind(&first, "/bin/busybox/x", true)), ExecError::MountPoint { .. }));
}

#[test]
fn recursive_binds_show_what_is_mounted_beneath() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let base = scratch.busybox("root");
    for (recursive, expected) in [(true, "1\n"), (false, "0\n")] {
        let mut spec = shell(RootMount::directory(&base), "ls /host/self 2>/dev/null | grep -c status; true");
        spec.mounts = vec![ExtraMount::Bind(Bind {
            source: "/".into(),
            target: "/all".into(),
            readonly: true,
            recursive,
            ..Bind::default()
        })];
        spec.args = words(&["sh", "-c", "ls /all/proc/self 2>/dev/null | grep -c ^status$; true"]);
        assert_eq!(output(&spec).lines().next().map(|line| format!("{line}\n")).unwrap(), expected);
        spec.args = words(&["sh", "-c", "touch /all/dev/shm/x /all/tmp/x"]);
        assert_ne!(try_spec(&spec).unwrap().status, ExitStatus::Exited(0));
    }
}

#[test]
fn read_only_roots() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let base = scratch.busybox("base");
    let script = "touch /x 2>/dev/null && echo written; touch /tmp/y && echo tmp; true";
    let tmpfs = ExtraMount::Tmpfs { target: "/tmp".into(), size_bytes: Some(1 << 20), mode: 0o1777 };
    let roots = [
        RootMount::overlay(vec![base.clone(), scratch.directory("top")], Some(scratch.upper())),
        RootMount::directory(&base),
    ];
    for root in roots {
        let mut spec = shell(root, script);
        spec.mounts = vec![tmpfs.clone()];
        spec.readonly_root = true;
        assert_eq!(output(&spec), "tmp\n");
        spec.readonly_root = false;
        assert_eq!(output(&spec), "written\ntmp\n");
    }
    assert_eq!(listing(&scratch.path().join("upper")), ["x"]);
    // Without a writable directory nothing can be made, so what is needed must be there.
    let bare = RootMount::overlay(vec![scratch.busybox("bare")], None);
    assert!(matches!(try_spec(&shell(bare, "true")), Err(ExecError::MountPoint { .. })));
    let full = scratch.busybox("full");
    for directory in ["proc", "dev", "sys", "etc", "tmp"] {
        std::fs::create_dir(full.join(directory)).unwrap();
    }
    std::fs::write(full.join("etc/hosts"), "").unwrap();
    for layers in [vec![full.clone()], vec![full.clone(), scratch.directory("top")]] {
        let mut spec = shell(RootMount::overlay(layers, None), script);
        spec.mounts = vec![tmpfs.clone()];
        assert_eq!(output(&spec), "tmp\n");
    }
    assert!(!full.join("x").exists());
}

#[test]
fn tmpfs_has_its_size_and_mode() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let mut spec = shell(
        RootMount::directory(scratch.busybox("root")),
        "stat -c %a /t; dd if=/dev/zero of=/t/big bs=65536 count=64 2>/dev/null || echo full; cat /bin/busybox > /u/busybox; \
         chmod 755 /u/busybox && /u/busybox echo runs",
    );
    spec.mounts = vec![
        ExtraMount::Tmpfs { target: "/t".into(), size_bytes: Some(1 << 20), mode: 0o1750 },
        ExtraMount::Tmpfs { target: "/u".into(), size_bytes: None, mode: 0o755 },
    ];
    assert_eq!(output(&spec), "1750\nfull\nruns\n");
}

#[test]
fn many_layers() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let mut layers = vec![scratch.busybox("base")];
    for number in 1..500 {
        let layer = scratch.directory(&format!("a-rather-long-name-for-a-layer-{number}"));
        std::fs::write(layer.join(format!("f{number}")), "").unwrap();
        std::fs::write(layer.join("top"), format!("{number}")).unwrap();
        layers.push(layer);
    }
    for count in [1, 2, 30, 130, 500] {
        let upper = Upper { upper: scratch.directory("upper"), work: scratch.directory("work") };
        let root = RootMount::overlay(layers[..count].to_vec(), Some(upper));
        let expected = if count == 1 { "0\n".to_owned() } else { format!("{}\n{}", count - 1, count - 1) };
        assert_eq!(output(&shell(root, "ls / | grep -c '^f[0-9]'; cat /top 2>/dev/null; true")), expected);
    }
    layers.push(scratch.directory("one-more"));
    let root = RootMount::overlay(layers, Some(scratch.upper()));
    assert!(matches!(try_spec(&shell(root, "true")), Err(ExecError::TooManyLayers { count: 501, .. })));
}

#[test]
fn other_stacks_and_parts_of_them() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let base = scratch.busybox("base");
    let (low, high) = (scratch.directory("low"), scratch.directory("high"));
    std::fs::create_dir_all(low.join("src/sub")).unwrap();
    std::fs::write(low.join("src/a"), "low\n").unwrap();
    std::fs::write(low.join("src/b"), "b\n").unwrap();
    std::fs::create_dir_all(high.join("src")).unwrap();
    std::fs::write(high.join("src/a"), "high\n").unwrap();
    symlink("/src", high.join("link")).unwrap();
    symlink("/../../../etc", high.join("out")).unwrap();
    let mount = |selector: &str, target: &str, writable: Option<Upper>| {
        ExtraMount::Overlay(OverlayMount {
            root: RootMount::overlay(vec![low.clone(), high.clone()], writable.clone()),
            selector: selector.to_owned(),
            target: target.to_owned(),
            readonly: writable.is_none(),
        })
    };
    let upper = Upper { upper: scratch.directory("u2"), work: scratch.directory("w2") };
    let mut spec = shell(
        RootMount::overlay(vec![base], Some(scratch.upper())),
        "cat /all/src/a /part/a /part/b /one; touch /part/no && exit 9; touch /out/yes; cat /out/sub/nested/b; ls /out",
    );
    spec.mounts = vec![
        mount("/", "/all", None),
        mount("link", "/part", None),
        mount("/link/a", "/one", None),
        mount("/src", "/out", Some(upper.clone())),
        bind(low.join("src"), "/out/sub/nested", true),
    ];
    assert_eq!(output(&spec), "high\nhigh\nb\nhigh\nb\na\nb\nsub\nyes\n");
    assert_eq!(listing(&upper.upper), ["src", "src/yes"]);
    assert_eq!(listing(&scratch.path().join("upper")), Vec::<String>::new());
    for selector in ["/missing", "/out", "/out/passwd"] {
        spec.mounts = vec![mount(selector, "/x", None)];
        assert!(matches!(try_spec(&spec), Err(ExecError::MountSource { .. })), "{selector}");
    }
    // A link out of a tree leads to its root, and what is written there is the mount's.
    let third = Upper { upper: scratch.directory("u3"), work: scratch.directory("w3") };
    symlink("../../..", high.join("above")).unwrap();
    spec.mounts = vec![mount("/above", "/x", Some(third.clone()))];
    spec.args = shell(spec.root.clone(), "cat /x/src/a; touch /x/yes; ls /yes || true").args;
    assert_eq!(output(&spec), "high\n");
    assert_eq!(listing(&third.upper), ["yes"]);
    // Read-only although it could be written.
    let ExtraMount::Overlay(mut readonly) = mount("/src", "/x", Some(upper.clone())) else { panic!() };
    readonly.readonly = true;
    spec.mounts = vec![ExtraMount::Overlay(readonly)];
    spec.args = words(&["touch", "/x/no"]);
    assert_eq!(try_spec(&spec).unwrap().status, ExitStatus::Exited(1));
}

#[test]
fn one_upper_directory_can_be_used_again() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let layers = vec![scratch.busybox("base"), scratch.directory("top")];
    let root = RootMount::overlay(layers, Some(scratch.upper()));
    for number in 1..4 {
        let script = "echo x >> /log; cat /log | wc -l";
        assert_eq!(output(&shell(root.clone(), script)), format!("{number}\n"));
    }
}

#[test]
fn hidden_files_and_variables_are_seen_inside_alone() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let (base, upper) = (scratch.busybox("base"), scratch.upper());
    let script = "cat /run/key /etc/key; stat -c '%a %u %g' /run/key; echo x > /run/key; echo $WORD; env | grep -c WORD";
    let mut spec = shell(RootMount::overlay(vec![base], Some(upper.clone())), script);
    let file = |target: &str| {
        let (content, target) = (Hidden::new("hunter2\n"), target.to_owned());
        ExtraMount::File(FileMount { content, target, uid: 3, gid: 4, mode: 0o440 })
    };
    spec.mounts = vec![file("/run/key"), file("/etc/key")];
    spec.env = words(&["WORD=shadowed"]);
    spec.secret_env = vec![("WORD".to_owned(), Hidden::new("pass"))];
    assert_eq!(output(&spec), "hunter2\nhunter2\n440 3 4\npass\n1\n");
    assert_eq!(listing(&upper.upper), Vec::<String>::new());
    let shown = format!("{spec:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("pass\""), "{shown}");
}

#[test]
fn mount_points_in_a_shared_directory_stay() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let shared = scratch.directory("shared");
    let mount = |root: RootMount, target: &str| {
        let (selector, target) = (String::new(), target.to_owned());
        ExtraMount::Overlay(OverlayMount { root, selector, target, readonly: false })
    };
    let mut spec = shell(RootMount::directory(scratch.busybox("root")), "echo x > /c/inner/f; echo y > /c/g");
    spec.mounts = vec![
        mount(RootMount::shared(&shared), "/c"),
        mount(RootMount::directory(scratch.directory("other")), "/c/inner"),
    ];
    output(&spec);
    assert_eq!(listing(&shared), ["g", "inner"]);
    assert_eq!(listing(scratch.path().join("other").as_path()), ["f"]);
}
