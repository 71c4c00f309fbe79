//! What both drivers owe: the same trees, the same keys, the same life of a snapshot.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rb_snapshot::{
    ChangeKind, ContentKey, CopyOptions, Diff, DriverKind, Editor, Follow, SnapshotId, Snapshots, View, diff,
    layer_diff,
};

use crate::refuses;
use crate::support::{Error, Fixture, commit, content, is_real_root, names, on_both, source, tree_of};

type Committed = (SnapshotId, ContentKey);
type Change = fn(&Editor<'_>);

fn base(snapshots: &Snapshots) -> Committed {
    commit(snapshots, None, |editor| {
        editor.mkdir("/etc/app", 0o750, true, Some((3, 4)), Some(5_000_000_000)).unwrap();
        editor.mkfile("etc/app/config", 0o640, b"one", Some((1, 2)), None).unwrap();
        editor.mkfile("/etc/hosts", 0o644, b"localhost", None, None).unwrap();
        editor.mkdir("/var/log", 0o755, true, None, None).unwrap();
        editor.mkfile("/var/log/old", 0o644, b"old", None, None).unwrap();
        editor.symlink("/etc/app", "/app", None, None).unwrap();
    })
}

#[test]
fn writes_are_seen_in_the_merged_tree() {
    on_both(|snapshots| {
        let base = base(snapshots);
        let (id, _) = commit(snapshots, Some(base), |editor| {
            editor.mkfile("/app/config", 0o600, b"two", None, Some(7)).unwrap();
            editor.mkfile("/app/more", 0o600, b"more", None, None).unwrap();
            editor.remove("/var/log/old", false, false).unwrap();
            editor.set_metadata("/etc/hosts", Some(0o600), Some((8, 9)), Some(1)).unwrap();
            assert_eq!(content(&editor.view(), "/etc/app/config"), "two");
        });
        let view = snapshots.view(Some(id)).unwrap();
        let expected =
            ["app", "etc", "etc/app", "etc/app/config", "etc/app/more", "etc/hosts", "var", "var/log"];
        assert_eq!(names(&view), expected);
        let config = view.lookup("/app/config", Follow::Yes).unwrap().unwrap();
        assert_eq!(config.path, Path::new("etc/app/config"));
        assert_eq!((config.metadata.mode, config.metadata.uid, config.metadata.modified_ns), (0o640, 1, 7));
        let hosts = view.lookup("etc/hosts", Follow::No).unwrap().unwrap().metadata;
        assert_eq!(
            (hosts.mode, hosts.uid, hosts.gid, hosts.modified_ns, hosts.size_bytes),
            (0o600, 8, 9, 1, 9)
        );
        let directory = view.lookup("etc/app", Follow::No).unwrap().unwrap().metadata;
        assert_eq!((directory.mode, directory.uid, directory.gid), (0o750, 3, 4));
        // The parent is as it was.
        let before = snapshots.view(Some(base.0)).unwrap();
        assert_eq!(content(&before, "etc/app/config"), "one");
        assert_eq!(content(&before, "var/log/old"), "old");
    });
}

#[test]
fn early_cutoff_returns_the_first_tree() {
    on_both(|snapshots| {
        let base = base(snapshots);
        let write = |data: &'static [u8]| {
            move |editor: &Editor<'_>| editor.mkfile("/new", 0o644, data, None, None).unwrap()
        };
        let first = commit(snapshots, Some(base), write(b"x"));
        let again = commit(snapshots, Some(base), write(b"x"));
        let other = commit(snapshots, Some(base), write(b"y"));
        assert_eq!(first, again);
        assert_ne!(first, other);
        // Nothing is left of the one that was dropped.
        assert_eq!(snapshots.store().snapshots().unwrap().len(), 3);
        // A step that changes nothing is its parent.
        assert_eq!(commit(snapshots, Some(base), |_| {}), base);
        // One that only touches a file is not: what follows looks at times.
        let touched = commit(snapshots, Some(base), |editor| {
            editor.set_metadata("/etc/hosts", None, None, Some(1_000)).unwrap();
        });
        assert_ne!(touched.0, base.0);
    });
}

#[test]
fn both_drivers_agree_on_diffs_and_keys() {
    let changes: &[(&str, Change)] = &[
        ("create", |editor| editor.mkfile("/etc/app/new", 0o644, b"new", None, Some(1)).unwrap()),
        ("overwrite", |editor| editor.mkfile("/etc/hosts", 0o644, b"other", None, None).unwrap()),
        ("delete a file", |editor| editor.remove("/etc/hosts", false, false).unwrap()),
        ("delete a directory", |editor| editor.remove("/etc", false, false).unwrap()),
        ("replace a directory", |editor| {
            editor.remove("/etc", false, false).unwrap();
            editor.mkdir("/etc/app", 0o700, true, None, None).unwrap();
            editor.mkfile("/etc/app/config", 0o640, b"fresh", None, None).unwrap();
        }),
        ("replace a tree", |editor| {
            editor.remove("/var", false, false).unwrap();
            editor.mkdir("/var/log", 0o755, true, None, None).unwrap();
        }),
        ("a file for a directory", |editor| {
            editor.remove("/var", false, false).unwrap();
            editor.mkfile("/var", 0o644, b"", None, None).unwrap();
        }),
        ("change the mode", |editor| editor.set_metadata("/etc", Some(0o711), None, Some(3)).unwrap()),
        ("change the root", |editor| editor.set_metadata("/", Some(0o700), None, None).unwrap()),
        ("link", |editor| editor.symlink("nowhere", "/var/log/link", Some((5, 6)), None).unwrap()),
    ];
    for (name, change) in changes {
        let results = [DriverKind::Overlay, DriverKind::Copy].map(|driver| {
            let fixture = Fixture::new();
            let snapshots = fixture.snapshots(driver);
            let base = base(&snapshots);
            let active = snapshots.prepare(Some(base.0)).unwrap();
            change(&Editor::new(&active).unwrap());
            let diff = diff(&active).unwrap();
            let (id, content) = snapshots.commit(active, &diff, base.1).unwrap();
            assert_eq!(snapshots.diff_of(id).unwrap().changes, diff.changes, "{name} {driver:?}");
            let view = snapshots.view(Some(id)).unwrap();
            let kinds: Vec<_> = diff.changes.into_iter().map(|change| (change.path, change.kind)).collect();
            (kinds, content, tree_of(&view), view.content_digest("/", Follow::Yes).unwrap(), base.1)
        });
        assert_eq!(results[0], results[1], "{name}");
    }
}

#[test]
fn a_diff_says_what_changed() {
    on_both(|snapshots| {
        let base = base(snapshots);
        let active = snapshots.prepare(Some(base.0)).unwrap();
        let editor = Editor::new(&active).unwrap();
        editor.mkfile("/etc/app/.wh.odd", 0o644, b"", None, None).unwrap();
        editor.remove("/var/log", false, false).unwrap();
        editor.remove("/etc/hosts", false, false).unwrap();
        let diff = diff(&active).unwrap();
        let said: Vec<_> = diff
            .changes
            .iter()
            .map(|change| (change.path.to_str().unwrap(), change.kind == ChangeKind::Whiteout))
            .collect();
        let expected = [
            ("etc", false),
            ("etc/app", false),
            ("etc/app/.wh.odd", false),
            ("etc/hosts", true),
            ("var", false),
            ("var/log", true),
        ];
        assert_eq!(said, expected);
        assert!(diff.size_bytes > 0);
        let unfit: Vec<_> = diff.changes.iter().filter(|change| !change.fits_a_layer()).collect();
        assert_eq!(unfit.len(), 1);
    });
}

#[test]
fn a_whiteout_of_nothing_says_nothing() {
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let base = base(&snapshots);
    let active = snapshots.prepare(Some(base.0)).unwrap();
    let upper = fs::File::open(active.upper()).unwrap();
    rb_snapshot::make_whiteout(upper.as_fd(), "nothing".as_ref()).unwrap();
    assert_eq!(diff(&active).unwrap().changes, []);
    // Without what lies below there is no telling.
    assert_eq!(layer_diff(active.upper()).unwrap().changes.len(), 2);
}

#[test]
fn a_layer_alone_shows_its_opaque_directories() {
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let base = base(&snapshots);
    let active = snapshots.prepare(Some(base.0)).unwrap();
    let editor = Editor::new(&active).unwrap();
    editor.remove("/var", false, false).unwrap();
    editor.mkdir("/var/log", 0o755, true, None, None).unwrap();
    let kinds = |diff: Diff| -> Vec<_> {
        diff.changes.into_iter().map(|change| (change.path.display().to_string(), change.kind)).collect()
    };
    let said = kinds(layer_diff(active.upper()).unwrap());
    let root = ("".to_owned(), ChangeKind::Dir);
    let opaque = ("var".to_owned(), ChangeKind::OpaqueDir);
    assert_eq!(said, [root, opaque, ("var/log".to_owned(), ChangeKind::Dir)]);
    let said = kinds(diff(&active).unwrap());
    let gone = ("var/log/old".to_owned(), ChangeKind::Whiteout);
    let directory = |path: &str| (path.to_owned(), ChangeKind::Dir);
    assert_eq!(said, [directory("var"), directory("var/log"), gone]);
}

#[test]
fn a_comparison_looks_beyond_size_and_time() {
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Copy);
    let base = base(&snapshots);
    let active = snapshots.prepare(Some(base.0)).unwrap();
    assert_eq!(diff(&active).unwrap().changes, []);
    let hosts = active.upper().join("etc/hosts");
    let modified = fs::metadata(&hosts).unwrap().modified().unwrap();
    fs::write(&hosts, "LOCALHOST").unwrap();
    fs::File::options().write(true).open(&hosts).unwrap().set_modified(modified).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(active.upper().join("var/log/old"), "user.note", b"1", flags).unwrap();
    let changed: Vec<_> = diff(&active).unwrap().changes.into_iter().map(|change| change.path).collect();
    assert_eq!(changed, ["etc", "etc/hosts", "var", "var/log", "var/log/old"].map(Path::new));
}

#[test]
fn hard_links_stay_together() {
    on_both(|snapshots| {
        let (directory, view) = source(&[("a", "same"), ("sub/c", "other")]);
        fs::hard_link(directory.path().join("a"), directory.path().join("sub/b")).unwrap();
        let copy = |editor: &Editor<'_>| {
            let copied = editor.copy(&view, "/", "/", &CopyOptions::default()).unwrap();
            assert_eq!(copied.files, 3);
        };
        let first = commit(snapshots, None, copy);
        let tree = tree_of(&snapshots.view(Some(first.0)).unwrap());
        assert!(tree[Path::new("sub/b")].body.ends_with(" = a"), "{tree:?}");
        // The copy driver keeps them through a copy of the whole tree.
        let second = commit(snapshots, Some(first), |editor| {
            editor.mkfile("/new", 0o644, b"", None, None).unwrap();
        });
        let tree = tree_of(&snapshots.view(Some(second.0)).unwrap());
        assert!(tree[Path::new("sub/b")].body.ends_with(" = a"), "{tree:?}");
        let links = |id| -> Vec<_> {
            snapshots.diff_of(id).unwrap().changes.into_iter().map(|change| change.kind).collect()
        };
        assert!(links(first.0).contains(&ChangeKind::HardLink { to: "a".into() }));
        assert_eq!(links(second.0).len(), 1);
        // Unlinked twins have another key.
        fs::remove_file(directory.path().join("sub/b")).unwrap();
        fs::write(directory.path().join("sub/b"), "same").unwrap();
        let apart = commit(snapshots, None, copy);
        assert_ne!(apart.1, first.1);
    });
}

#[test]
fn special_files_and_attributes_survive() {
    if !is_real_root() {
        return;
    }
    on_both(|snapshots| {
        let (directory, view) = source(&[("file", "x"), ("dir/", ""), ("link", "->file")]);
        let path = directory.path();
        rustix::fs::mkfifoat(rustix::fs::CWD, path.join("fifo"), rustix::fs::Mode::from_raw_mode(0o640))
            .unwrap();
        let device = rustix::fs::makedev(1, 3);
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path.join("null"),
            rustix::fs::FileType::CharacterDevice,
            mode,
            device,
        )
        .unwrap();
        drop(std::os::unix::net::UnixListener::bind(path.join("socket")).unwrap());
        fs::set_permissions(path.join("null"), PermissionsExt::from_mode(0o666)).unwrap();
        fs::set_permissions(path.join("fifo"), PermissionsExt::from_mode(0o640)).unwrap();
        let set = |name: &str, attribute: &str, value: &[u8]| {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::lsetxattr(path.join(name), attribute, value, flags).unwrap();
        };
        set("file", "user.note", b"hello");
        set("dir", "user.kept", b"1");
        set("link", "trusted.note", b"of a link");
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        set("file", "security.capability", &capability);
        set("dir", "trusted.overlay.opaque", b"y");
        fs::set_permissions(path.join("file"), PermissionsExt::from_mode(0o4755)).unwrap();

        let first = commit(snapshots, None, |editor| {
            editor.copy(&view, ".", "/", &CopyOptions::default()).unwrap();
        });
        let second = commit(snapshots, Some(first), |editor| {
            editor.mkfile("new", 0o644, b"", None, None).unwrap();
        });
        for id in [first.0, second.0] {
            let view = snapshots.view(Some(id)).unwrap();
            let tree = tree_of(&view);
            let body = |name: &str| tree[Path::new(name)].body.clone();
            assert!(body("file").contains("user.note=[104"), "{}", body("file"));
            assert!(body("file").contains("security.capability"), "{}", body("file"));
            assert_eq!(tree[Path::new("file")].mode, 0o4755);
            assert_eq!(body("dir"), "directory user.kept=[49]");
            assert!(body("link").contains("trusted.note"), "{}", body("link"));
            assert_eq!((body("fifo").as_str(), tree[Path::new("fifo")].mode), ("fifo", 0o640));
            assert_eq!((body("null").as_str(), tree[Path::new("null")].mode), ("char (1, 3)", 0o666));
            assert_eq!(body("socket"), "file \"\"");
        }
    });
}

#[test]
fn abandoned_snapshots_go() {
    on_both(|snapshots| {
        let active = snapshots.prepare(None).unwrap();
        let directory = active.upper().parent().unwrap().to_owned();
        assert!(directory.exists());
        drop(active);
        assert!(!directory.exists());
        assert!(snapshots.store().snapshots().unwrap().is_empty());
        refuses!(snapshots.layers(Some(SnapshotId(77))), Error::UnknownSnapshot(_));
        refuses!(snapshots.remove(SnapshotId(77)), Error::UnknownSnapshot(_));
        let base = base(snapshots);
        snapshots.remove(base.0).unwrap();
        refuses!(snapshots.chain(Some(base.0)), Error::UnknownSnapshot(_));
    });
}

#[test]
fn the_root_keeps_its_metadata() {
    on_both(|snapshots| {
        let base = commit(snapshots, None, |editor| {
            editor.set_metadata("/", Some(0o711), Some((7, 7)), None).unwrap();
        });
        let (id, _) = commit(snapshots, Some(base), |editor| {
            editor.mkfile("/x", 0o644, b"", None, None).unwrap();
        });
        let root = snapshots.view(Some(id)).unwrap().lookup("/", Follow::No).unwrap().unwrap().metadata;
        assert_eq!((root.mode, root.uid, root.gid), (0o711, 7, 7));
        let changed: Vec<_> =
            snapshots.diff_of(id).unwrap().changes.into_iter().map(|change| change.path).collect();
        assert_eq!(changed, [Path::new("x")]);
    });
}

#[test]
fn the_drivers_may_follow_one_another() {
    let fixture = Fixture::new();
    let (overlay, copy) = (fixture.snapshots(DriverKind::Overlay), fixture.snapshots(DriverKind::Copy));
    let first = base(&overlay);
    let second = commit(&copy, Some(first), |editor| editor.remove("/var", false, false).unwrap());
    let third = commit(&overlay, Some(second), |editor| {
        editor.mkfile("/app/config", 0o600, b"three", None, None).unwrap();
    });
    assert_eq!(copy.layers(Some(second.0)).unwrap().len(), 1);
    assert_eq!(overlay.layers(Some(third.0)).unwrap().len(), 2);
    let view = overlay.view(Some(third.0)).unwrap();
    assert_eq!(names(&view), ["app", "etc", "etc/app", "etc/app/config", "etc/hosts"]);
    assert_eq!(content(&view, "app/config"), "three");
    let changes = overlay.diff_of(second.0).unwrap().changes;
    assert_eq!(changes.len(), 1, "{changes:?}");
}

#[test]
fn operations_fail_as_they_should() {
    on_both(|snapshots| {
        let base = base(snapshots);
        let active = snapshots.prepare(Some(base.0)).unwrap();
        let editor = Editor::new(&active).unwrap();
        refuses!(editor.mkdir("/no/such", 0o755, false, None, None), Error::NotFound { .. });
        refuses!(editor.mkdir("/etc/hosts/x", 0o755, true, None, None), Error::NotADirectory { .. });
        refuses!(editor.mkfile("/no/file", 0o644, b"", None, None), Error::NotFound { .. });
        refuses!(editor.mkfile("/etc", 0o644, b"", None, None), Error::IsADirectory { .. });
        refuses!(editor.symlink("x", "/etc/hosts", None, None), Error::Exists { .. });
        refuses!(editor.remove("/no", false, false), Error::NotFound { .. });
        refuses!(editor.remove("/", true, false), Error::BadPath { .. });
        refuses!(editor.remove("/a[", true, true), Error::BadPattern(_));
        editor.remove("/no", true, false).unwrap();
        editor.remove("/no*", false, true).unwrap();
        editor.mkdir("/etc", 0o700, false, None, None).unwrap();
        editor.remove("/*/*o*", false, true).unwrap();
        assert_eq!(names(&editor.view()), ["app", "etc", "etc/app", "etc/app/config", "var"]);
    });
}

#[test]
fn timestamps_reach_everything_that_is_created() {
    on_both(|snapshots| {
        let active = snapshots.prepare(None).unwrap();
        let editor = Editor::new(&active).unwrap();
        let time = Some(1_600_000_000_123_456_789);
        editor.mkdir("/a/b/c", 0o755, true, None, time).unwrap();
        editor.mkfile("/a/b/f", 0o644, b"", None, time).unwrap();
        editor.symlink("f", "/a/b/l", None, time).unwrap();
        let (_directory, view) = source(&[("d/x", "1"), ("d/e/y", "2"), ("d/l", "->x")]);
        let options = CopyOptions { create_dest_path: true, timestamp: time, ..CopyOptions::default() };
        editor.copy(&view, "d", "/new/deep/", &options).unwrap();
        for path in
            ["a/b/c", "a/b/f", "a/b/l", "new", "new/deep/d", "new/deep/d/e/y", "new/deep/d/e", "new/deep/d/l"]
        {
            let metadata = editor.view().lookup(path, Follow::No).unwrap().unwrap().metadata;
            assert_eq!(Some(metadata.modified_ns), time, "{path}");
        }
    });
}

#[test]
fn content_digests_see_everything_but_times() {
    let files = [("dir/a", "1"), ("dir/b", "2"), ("dir/l", "->a")];
    let digest = |change: &dyn Fn(&Path)| {
        let (directory, view) = source(&files);
        change(directory.path());
        view.content_digest("dir", Follow::Yes).unwrap()
    };
    let plain = digest(&|_| {});
    let retimed = digest(&|path| {
        let file = fs::File::options().write(true).open(path.join("dir/a")).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    });
    assert_eq!(plain, retimed);
    let changes: [&dyn Fn(&Path); 6] = [
        &|path| fs::write(path.join("dir/a"), "x").unwrap(),
        &|path| fs::rename(path.join("dir/a"), path.join("dir/c")).unwrap(),
        &|path| {
            fs::set_permissions(path.join("dir/a"), PermissionsExt::from_mode(0o755)).unwrap();
        },
        &|path| std::os::unix::fs::lchown(path.join("dir/l"), Some(1), None).unwrap(),
        &|path| fs::remove_file(path.join("dir/b")).unwrap(),
        &|path| {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(path.join("dir/a"), "user.x", b"", flags).unwrap();
        },
    ];
    for (index, change) in changes.iter().enumerate() {
        assert_ne!(plain, digest(change), "{index}");
    }
    refuses!(View::new(Vec::new()).content_digest("x", Follow::No), Error::NotFound { .. });
}
