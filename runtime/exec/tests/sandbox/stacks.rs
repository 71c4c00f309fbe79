//! Layers that the kernel is told of in one line, as before Linux 6.8: the same trees as one by one.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rb_exec::{ExtraMount, OverlayMount, RootDriver, RootMount, Upper};

use crate::support::{Scratch, example_within, listing, output, shell, stepping_aside};

/// The same root, in one line.
fn in_one_line(mut root: RootMount) -> RootMount {
    root.driver = RootDriver::OverlayInOneLine;
    root
}

/// What a directory holds, as far as a step can have an influence on it.
fn looks(directory: &Path) -> Vec<String> {
    let look = |name: String| {
        let path = directory.join(&name);
        let stat = std::fs::symlink_metadata(&path).unwrap();
        let content = match (stat.is_file(), stat.is_symlink()) {
            (true, _) => String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned(),
            (_, true) => std::fs::read_link(&path).unwrap().display().to_string(),
            _ => String::new(),
        };
        let mut opaque = [0; 8];
        let opaque = rustix::fs::lgetxattr(&path, "trusted.overlay.opaque", &mut opaque[..]).is_ok();
        let (uid, gid, device) = (stat.uid(), stat.gid(), stat.rdev());
        format!("{name} {:o} {uid}:{gid} {device} {opaque} {content}", stat.mode())
    };
    listing(directory).into_iter().map(look).collect()
}

#[test]
fn commands_change_the_same_either_way() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let (base, top) = (scratch.busybox("base"), scratch.directory("top"));
    for (path, text) in [("etc/a", "a"), ("etc/b", "b"), ("usr/x/y", "y"), ("usr/z", "z")] {
        let path = base.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    std::fs::create_dir(top.join("etc")).unwrap();
    std::fs::write(top.join("etc/b"), "over b").unwrap();
    symlink("b", top.join("etc/link")).unwrap();
    for script in [
        "true",
        "cat /etc/* > /all",
        "rm /etc/a && echo new > /etc/c",
        "rm -rf /usr && mkdir /usr && echo again > /usr/x",
        "chmod 600 /etc/b && chown 12:34 /etc/link /usr/z",
        "ln /etc/b /etc/d && mkdir -p /deep/er && ln -s ../x /deep/er/l",
        "rm /etc/link && mkdir /etc/link && : > /etc/link/f",
    ] {
        let run = |line: bool| {
            let place = Scratch::new();
            let upper = place.upper();
            let root = RootMount::overlay(vec![base.clone(), top.clone()], Some(upper.clone()));
            let root = if line { in_one_line(root) } else { root };
            let said = output(&shell(root, script));
            (said, looks(&upper.upper))
        };
        assert_eq!(run(true), run(false), "{script}");
    }
}

#[test]
fn directories_that_mounts_stand_in_have_the_time_the_command_gave_them() {
    if stepping_aside() {
        return;
    }
    let before = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    for (script, expected) in [
        ("chmod 600 /etc/passwd", Some(1_000_000)),
        ("chmod 700 /etc", Some(1_000_000)),
        ("touch -d @5 /etc", Some(5)),
        // Now, whenever that is.
        ("echo x > /etc/new", None),
        ("rm /etc/passwd", None),
    ] {
        for is_copied in [true, false] {
            let scratch = Scratch::new();
            let base = scratch.busybox("base");
            std::fs::create_dir(base.join("etc")).unwrap();
            std::fs::write(base.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
            std::fs::File::open(base.join("etc")).unwrap().set_modified(before).unwrap();
            let upper = scratch.upper();
            let (root, etc) = match is_copied {
                true => (RootMount::directory(&base), base.join("etc")),
                false => {
                    let layers = vec![base, scratch.directory("top")];
                    (RootMount::overlay(layers, Some(upper.clone())), upper.upper.join("etc"))
                }
            };
            // `/etc/hosts` and its like are shown there.
            output(&shell(root, &format!("cat /etc/hosts > /dev/null; {script}")));
            let seconds = std::fs::metadata(etc).unwrap().mtime();
            match expected {
                Some(expected) => assert_eq!(seconds, expected, "{script} {is_copied}"),
                None => assert!(seconds > 1_700_000_000, "{script} {is_copied}: {seconds}"),
            }
        }
    }
}

#[test]
fn as_many_layers_as_the_kernel_stacks_by_long_paths() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let mut layers = vec![scratch.busybox("base")];
    let far = format!("{}/{}", "a".repeat(200), "b".repeat(200));
    for number in 1..500 {
        let layer = scratch.directory(&format!("{far}/{number}"));
        std::fs::write(layer.join(format!("f{number}")), "").unwrap();
        std::fs::write(layer.join("who"), number.to_string()).unwrap();
        layers.push(layer);
    }
    let root = RootMount::overlay(layers, Some(scratch.upper()));
    let said =
        output(&shell(in_one_line(root), "ls / | grep -c '^f[0-9]'; cat /who; echo x > /who; cat /who"));
    assert_eq!(said, "499\n499x\n");
    assert_eq!(listing(&scratch.path().join("upper")), ["who"]);
}

#[test]
fn stacks_are_mounted_beside_one_another_and_their_parts() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let layer = |name: &str, file: &str| {
        let path = scratch.directory(name);
        std::fs::create_dir(path.join("part")).unwrap();
        std::fs::write(path.join("part").join(file), file).unwrap();
        path
    };
    let other: Vec<PathBuf> = vec![layer("one", "a"), layer("two", "b")];
    let base = scratch.busybox("base");
    let root = RootMount::overlay(vec![base, scratch.directory("top")], Some(scratch.upper()));
    let mut spec = shell(in_one_line(root), "cat /in/a /in/b; echo x > /in/a 2>/dev/null || echo refused");
    spec.mounts = vec![ExtraMount::Overlay(OverlayMount {
        root: in_one_line(RootMount::overlay(other, None)),
        selector: "/part".to_owned(),
        target: "/in".to_owned(),
        readonly: true,
    })];
    assert_eq!(output(&spec), "abrefused\n");
}

#[test]
fn many_at_once_leave_no_mount_behind() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let (base, top) = (scratch.busybox("base"), scratch.directory("top"));
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
    let before = mounts();
    std::thread::scope(|scope| {
        for number in 0..16 {
            let (base, top) = (base.clone(), top.clone());
            scope.spawn(move || {
                let place = Scratch::new();
                let upper: Upper = place.upper();
                let root = in_one_line(RootMount::overlay(vec![base, top], Some(upper.clone())));
                assert_eq!(
                    output(&shell(root, &format!("echo {number} > /n; cat /n"))),
                    format!("{number}\n")
                );
                assert_eq!(std::fs::read_to_string(upper.upper.join("n")).unwrap(), format!("{number}\n"));
            });
        }
    });
    assert_eq!(mounts(), before);
}

#[test]
fn somebody_without_rights_stacks_so_too() {
    if stepping_aside() {
        return;
    }
    const UID: u32 = 61_001;
    let scratch = Scratch::new();
    example_within(&scratch);
    scratch.busybox("base");
    for name in ["top", "upper", "work"] {
        scratch.directory(name);
    }
    let run = |program: &str, words: &[&str]| {
        let done = Command::new(program).args(words).current_dir(scratch.path()).output().unwrap();
        assert!(done.status.success(), "{program} {words:?}: {done:?}");
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    run("chown", &["-hR", &format!("{UID}:{UID}"), "."]);
    let id = UID.to_string();
    let here = scratch.path().display();
    let root = format!("line:{here}/upper:{here}/work:{here}/base:{here}/top");
    let user = ["--reuid", &id, "--regid", &id, "--clear-groups", "./sandbox"];
    let script = "rm -r /bin/yes && mkdir /bin/yes && echo x > /bin/yes/x && cat /bin/yes/x";
    let said = run("setpriv", &[&user[..], &[&root, "/bin/sh", "-c", script]].concat());
    assert_eq!(said, "x\n");
    assert_eq!(listing(&scratch.path().join("upper")), ["bin", "bin/yes", "bin/yes/x"]);
}
