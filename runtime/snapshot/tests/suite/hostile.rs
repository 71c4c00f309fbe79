//! Trees made to break out: no path leads to this machine's files, and nothing runs without end.

use std::fs;
use std::path::{Path, PathBuf};

use rb_snapshot::{CopyOptions, DriverKind, Editor, Follow, View, Xattrs, diff};

use crate::kernel::Mounted;
use crate::refuses;
use crate::support::{Error, Fixture, is_real_root, names, on_both, source, tree_of, tree_on_disk};

#[test]
fn links_never_leave_the_tree() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let absolute = format!("->{}", outside.path().display());
    let up = format!("->../../../../../../../..{}", outside.path().display());
    let (directory, view) = source(&[
        ("abs", &absolute),
        ("up", &up),
        ("d/dots", "->../../.."),
        ("magic", "->/proc/self/root"),
        ("d/f", "x"),
    ]);
    for view in [view, View::new(vec![directory.path().to_owned()])] {
        for path in
            ["abs/secret", "up/secret", "magic/etc/passwd", "../../../etc/passwd", "d/dots/etc/passwd"]
        {
            assert_eq!(view.lookup(path, Follow::Yes).unwrap(), None, "{path}");
        }
        let dots = view.lookup("d/dots", Follow::Yes).unwrap().unwrap();
        assert_eq!(dots.path, Path::new(""));
        assert_eq!(
            view.lookup("d/dots/d/dots/d/../d/f", Follow::Yes).unwrap().unwrap().path,
            Path::new("d/f")
        );
        assert_eq!(view.glob("abs/*").unwrap(), Vec::<PathBuf>::new());
    }
}

#[test]
fn writes_never_leave_the_tree() {
    let outside = tempfile::tempdir().unwrap();
    let (_directory, from) = source(&[("payload", "x"), ("dir/deep", "y")]);
    on_both(|snapshots| {
        let active = snapshots.prepare(None).unwrap();
        let editor = Editor::new(&active).unwrap();
        let target = outside.path();
        editor.symlink(target, "/abs", None, None).unwrap();
        editor
            .symlink(
                Path::new("../../../../../../..").join(target.strip_prefix("/").unwrap()),
                "/up",
                None,
                None,
            )
            .unwrap();
        let options = CopyOptions { create_dest_path: true, ..CopyOptions::default() };
        for link in ["abs", "up"] {
            editor.mkdir(format!("{link}/made"), 0o755, true, None, None).unwrap();
            editor.mkfile(format!("{link}/file"), 0o644, b"x", None, None).unwrap();
            editor.copy(&from, "payload", format!("/{link}/"), &options).unwrap();
            editor.copy(&from, "dir", format!("/{link}/copied"), &options).unwrap();
            editor.remove(format!("{link}/file"), false, false).unwrap();
        }
        editor.mkfile("../../../../../../../../tmp/escaped-rb-test", 0o644, b"", None, None).unwrap();
        assert!(!Path::new("/tmp/escaped-rb-test").exists());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        // All of it went to the same path inside.
        let inside = target.strip_prefix("/").unwrap().join("made");
        assert!(editor.view().lookup(&inside, Follow::No).unwrap().is_some());
        // Removing a link removes the link.
        editor.remove("/abs", false, false).unwrap();
        assert!(outside.path().exists());
    });
}

#[test]
fn loops_end() {
    let mut links = vec![("self", "->self"), ("a", "->b"), ("b", "->a"), ("d/up", "->../d/up/x")];
    let chain: Vec<(String, String)> =
        (0..60).map(|index| (format!("c{index}"), format!("->c{}", index + 1))).collect();
    links.extend(chain.iter().map(|(name, target)| (name.as_str(), target.as_str())));
    links.push(("c60", "end"));
    let (_directory, view) = source(&links);
    for path in ["self", "a", "b/x", "d/up", "c0"] {
        refuses!(view.lookup(path, Follow::Yes), Error::TooManyLinks { .. });
        assert!(view.lookup(path.split('/').next().unwrap(), Follow::No).unwrap().is_some());
    }
    assert_eq!(view.lookup("c20", Follow::Yes).unwrap().unwrap().path, Path::new("c60"));
    on_both(|snapshots| {
        let active = snapshots.prepare(None).unwrap();
        let editor = Editor::new(&active).unwrap();
        editor.copy(&view, "/", "/", &CopyOptions::default()).unwrap();
        refuses!(editor.mkdir("/self/x", 0o755, true, None, None), Error::TooManyLinks { .. });
        refuses!(editor.copy(&view, "c60", "/a/", &CopyOptions::default()), Error::TooManyLinks { .. });
        editor.remove("/self", false, false).unwrap();
    });
}

#[test]
fn pipes_and_devices_are_not_opened() {
    let (directory, view) = source(&[]);
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    rustix::fs::mkfifoat(rustix::fs::CWD, directory.path().join("fifo"), mode).unwrap();
    on_both(|snapshots| {
        let active = snapshots.prepare(None).unwrap();
        let editor = Editor::new(&active).unwrap();
        editor.copy(&view, "/", "/", &CopyOptions::default()).unwrap();
        // Either would wait for ever for somebody at the other end.
        let entry = editor.view().lookup("fifo", Follow::No).unwrap().unwrap();
        refuses!(editor.view().open(&entry), Error::NotAFile { .. });
        refuses!(editor.mkfile("/fifo", 0o644, b"x", None, None), Error::NotAFile { .. });
        diff(&active).unwrap();
    });
}

#[test]
fn deep_trees() {
    let directory = tempfile::tempdir().unwrap();
    let mut current =
        rustix::fs::open(directory.path(), rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    // Beyond what the kernel takes in one path.
    let depth = 700;
    for _ in 0..depth {
        rustix::fs::mkdirat(&current, "deeper", rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
        current =
            rustix::fs::openat(&current, "deeper", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())
                .unwrap();
    }
    rustix::fs::mknodat(&current, "leaf", rustix::fs::FileType::RegularFile, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    drop(current);
    let view = View::of_directory(directory.path());
    on_both(|snapshots| {
        let active = snapshots.prepare(None).unwrap();
        let editor = Editor::new(&active).unwrap();
        editor.copy(&view, "/", "/", &CopyOptions::default()).unwrap();
        let found = diff(&active).unwrap();
        assert_eq!(found.changes.len(), depth + 1);
        let key = view.content_digest("/deeper", Follow::No).unwrap();
        assert_eq!(editor.view().content_digest("/deeper", Follow::No).unwrap(), key);
        drop(editor);
        let content = rb_snapshot::ContentKey::empty();
        let (id, _) = snapshots.commit(active, &found, content).unwrap();
        let above = snapshots.prepare(Some(id)).unwrap();
        let editor = Editor::new(&above).unwrap();
        let leaf: PathBuf = std::iter::repeat_n("deeper", depth).chain(["leaf"]).collect();
        editor.remove(&leaf, false, false).unwrap();
        assert_eq!(editor.view().lookup(&leaf, Follow::No).unwrap(), None);
        editor.remove("/deeper", false, false).unwrap();
        assert_eq!(names(&editor.view()), Vec::<String>::new());
        assert_eq!(diff(&above).unwrap().changes.len(), 1);
    });
    rb_remove(directory);
}

/// Too deep for what the test library does on its own.
fn rb_remove(directory: tempfile::TempDir) {
    let path = directory.keep();
    let fixture = Fixture::new();
    fixture.store.remove_tree(&path).unwrap();
}

#[test]
fn markers_in_a_source_are_not_carried_over() {
    if !is_real_root() {
        return;
    }
    let (directory, view) = source(&[("d/f", "x")]);
    let flags = rustix::fs::XattrFlags::empty();
    for name in ["trusted.overlay.opaque", "user.overlay.opaque", "trusted.overlay.redirect"] {
        rustix::fs::setxattr(directory.path().join("d"), name, b"y", flags).unwrap();
    }
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let active = snapshots.prepare(None).unwrap();
    let editor = Editor::new(&active).unwrap();
    editor.copy(&view, "/", "/", &CopyOptions::default()).unwrap();
    diff(&active).unwrap();
    // Left by an overlay mounted with options that we do not use, it is refused.
    rustix::fs::setxattr(active.upper().join("d"), "trusted.overlay.redirect", b"x", flags).unwrap();
    refuses!(diff(&active), Error::Redirected { .. });
}

#[test]
fn newer_whiteouts_are_read() {
    if !is_real_root() {
        return;
    }
    let lower = tempfile::tempdir().unwrap();
    let upper = tempfile::tempdir().unwrap();
    for directory in [&lower, &upper] {
        fs::create_dir(directory.path().join("d")).unwrap();
        fs::write(directory.path().join("d/gone"), "").unwrap();
        fs::write(directory.path().join("d/empty"), "").unwrap();
    }
    fs::write(lower.path().join("d/kept"), "x").unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    let layers = vec![lower.path().to_owned(), upper.path().to_owned()];
    rustix::fs::setxattr(upper.path().join("d/gone"), "trusted.overlay.whiteout", b"", flags).unwrap();
    assert_eq!(names(&View::new(layers.clone())), ["d", "d/empty", "d/kept"]);
    // The kernel lists such a name, though nothing is there, unless the directory is marked.
    rustix::fs::setxattr(upper.path().join("d"), "trusted.overlay.opaque", b"x", flags).unwrap();
    if let Some(mounted) = Mounted::new(&layers, None, Xattrs::Trusted) {
        assert_eq!(tree_on_disk(&mounted.path()), tree_of(&View::new(layers)));
    }
}
