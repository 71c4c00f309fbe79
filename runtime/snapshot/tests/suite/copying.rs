//! Copy as BuildKit does it, case by case, on both drivers.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rb_snapshot::{ContentDigest, CopyOptions, Editor, Follow, View};

use crate::refuses;
use crate::support::{Error, content, names, on_both, source, tree_of};

/// Runs `copy` in an empty snapshot that holds `before`, under both drivers.
fn editing(before: &[(&str, &str)], copy: impl Fn(&Editor<'_>)) {
    on_both(|snapshots| {
        let (_directory, view) = source(before);
        let parent = crate::support::commit(snapshots, None, |editor| {
            editor.copy(&view, "/", "/", &CopyOptions::default()).unwrap();
        });
        let active = snapshots.prepare(Some(parent.0)).unwrap();
        copy(&Editor::new(&active).unwrap());
    });
}

fn create() -> CopyOptions<'static> {
    CopyOptions { create_dest_path: true, ..CopyOptions::default() }
}

fn contents() -> CopyOptions<'static> {
    CopyOptions { dir_copy_contents: true, ..create() }
}

fn wild() -> CopyOptions<'static> {
    CopyOptions { allow_wildcard: true, ..create() }
}

#[test]
fn where_a_source_lands() {
    let (_directory, from) = source(&[("f", "new"), ("d/x", "1"), ("d/s/y", "2")]);
    let cases: &[(&str, &str, CopyOptions<'_>, &[&str])] = &[
        // A file: into a directory, over a file, under a new name.
        ("f", "/old", create(), &["old", "old/f", "old/keep"]),
        ("f", "/old/keep", create(), &["old", "old/keep"]),
        ("f", "/old/", create(), &["old", "old/f", "old/keep"]),
        ("f", "/fresh/", create(), &["fresh", "fresh/f", "old", "old/keep"]),
        ("f", "/a/b", create(), &["a", "a/b", "old", "old/keep"]),
        ("/f", "a/b/.", create(), &["a", "a/b", "a/b/f", "old", "old/keep"]),
        ("./x/../f", "/../../up", create(), &["old", "old/keep", "up"]),
        // A directory: into one that exists, as one that does not, or only what is inside.
        ("d", "/old", create(), &["old", "old/d", "old/d/s", "old/d/s/y", "old/d/x", "old/keep"]),
        ("d", "/n", create(), &["n", "n/s", "n/s/y", "n/x", "old", "old/keep"]),
        ("d", "/n/", create(), &["n", "n/d", "n/d/s", "n/d/s/y", "n/d/x", "old", "old/keep"]),
        ("d", "/old", contents(), &["old", "old/keep", "old/s", "old/s/y", "old/x"]),
        ("d", "/n/m", contents(), &["n", "n/m", "n/m/s", "n/m/s/y", "n/m/x", "old", "old/keep"]),
        ("d/", "/", contents(), &["old", "old/keep", "s", "s/y", "x"]),
        ("/", "/n", create(), &["n", "n/d", "n/d/s", "n/d/s/y", "n/d/x", "n/f", "old", "old/keep"]),
        // Patterns.
        ("d/*", "/n/", wild(), &["n", "n/s", "n/s/y", "n/x", "old", "old/keep"]),
        (
            "?",
            "/old",
            CopyOptions { dir_copy_contents: true, ..wild() },
            &["old", "old/f", "old/keep", "old/s", "old/s/y", "old/x"],
        ),
        ("*/s/[x-z]", "/old/", wild(), &["old", "old/keep", "old/y"]),
    ];
    for (src, dst, options, expected) in cases {
        editing(&[("old/keep", "kept")], |editor| {
            editor.copy(&from, src, dst, options).unwrap();
            assert_eq!(names(&editor.view()), *expected, "{src} {dst}");
        });
    }
}

#[test]
fn what_is_not_there() {
    let (_directory, from) = source(&[("f", "x")]);
    editing(&[("file", "")], |editor| {
        refuses!(editor.copy(&from, "no", "/", &create()), Error::NotFound { .. });
        refuses!(editor.copy(&from, "n*", "/", &wild()), Error::NoMatch { .. });
        refuses!(editor.copy(&from, "no/*", "/", &wild()), Error::NoMatch { .. });
        refuses!(editor.copy(&from, "[", "/", &wild()), Error::BadPattern(_));
        let relaxed = CopyOptions { allow_empty_wildcard: true, ..wild() };
        assert_eq!(editor.copy(&from, "n*", "/", &relaxed).unwrap().files, 0);
        refuses!(editor.copy(&from, "f", "/no/x", &CopyOptions::default()), Error::NotFound { .. });
        refuses!(editor.copy(&from, "f", "/file/x", &create()), Error::NotADirectory { .. });
        let patterns = vec!["[".to_owned()];
        let bad = CopyOptions { include_patterns: patterns, ..create() };
        refuses!(editor.copy(&from, "f", "/", &bad), Error::BadPattern(_));
        let bad = CopyOptions { mode_str: Some("u?x".to_owned()), ..create() };
        refuses!(editor.copy(&from, "f", "/", &bad), Error::BadMode { .. });
    });
}

#[test]
fn what_is_in_the_way() {
    let (_directory, from) = source(&[("d/p/x", "1"), ("f", "new"), ("e/p", "file")]);
    let before = [("p", "file"), ("q/p/old", "deep"), ("link", "->q"), ("dangling", "->/made")];
    editing(&before, |editor| {
        refuses!(editor.copy(&from, "d", "/", &contents()), Error::NotADirectory { .. });
        refuses!(editor.copy(&from, "e", "/q", &contents()), Error::IsADirectory { .. });
        // A link at the destination is followed, a link inside is replaced.
        editor.copy(&from, "f", "/link", &create()).unwrap();
        assert_eq!(content(&editor.view(), "q/f"), "new");
        editor.copy(&from, "f", "/dangling", &create()).unwrap();
        assert_eq!(content(&editor.view(), "made"), "new");
        let replace = CopyOptions { always_replace: true, ..contents() };
        editor.copy(&from, "d", "/", &replace).unwrap();
        editor.copy(&from, "e", "/q", &replace).unwrap();
        assert_eq!(content(&editor.view(), "p/x"), "1");
        assert_eq!(content(&editor.view(), "q/p"), "file");
        // And back again: nothing of the old directory may show.
        editor.copy(&from, "d", "/q", &replace).unwrap();
        let shown: Vec<String> =
            names(&editor.view()).into_iter().filter(|name| name.starts_with("q/")).collect();
        assert_eq!(shown, ["q/f", "q/p", "q/p/x"]);
    });
}

#[test]
fn symlinks_in_the_source() {
    let (_directory, from) = source(&[
        ("real/x", "1"),
        ("l", "->real"),
        ("real/abs", "->/real/x"),
        ("d/l", "->../real"),
        ("out", "->/etc"),
    ]);
    editing(&[], |editor| {
        editor.copy(&from, "l", "/as-is", &create()).unwrap();
        editor.copy(&from, "d", "/d", &create()).unwrap();
        let follow = CopyOptions { follow_symlink: true, ..create() };
        editor.copy(&from, "l", "/followed", &follow).unwrap();
        editor.copy(&from, "l/abs", "/text", &follow).unwrap();
        editor.copy(&from, "l/abs", "/again", &create()).unwrap();
        refuses!(editor.copy(&from, "out", "/etc", &follow), Error::NotFound { .. });
        let shown = tree_of(&editor.view());
        let body = |path: &str| shown[Path::new(path)].body.clone();
        assert_eq!(body("as-is"), "link \"real\"");
        assert_eq!(body("d/l"), "link \"../real\"");
        assert_eq!(body("followed/x"), "file \"1\"");
        assert_eq!(body("text"), "file \"1\"");
        assert_eq!(body("again"), "link \"/real/x\"");
    });
}

#[test]
fn include_and_exclude() {
    let files = [("a/b/c.txt", ""), ("a/b/d.md", ""), ("a/e.txt", ""), ("f.md", ""), ("g/h/i", "")];
    let (directory, from) = source(&files);
    fs::set_permissions(directory.path().join("a"), fs::Permissions::from_mode(0o711)).unwrap();
    let cases: &[(&[&str], &[&str], &[&str])] = &[
        (&[], &["a"], &["f.md", "g", "g/h", "g/h/i"]),
        (&["**/*.txt"], &[], &["a", "a/b", "a/b/c.txt", "a/e.txt"]),
        (&["a/*/c.txt"], &[], &["a", "a/b", "a/b/c.txt"]),
        (&["a"], &["**/*.md"], &["a", "a/b", "a/b/c.txt", "a/e.txt"]),
        (&[], &["a", "!a/b/d.md"], &["a", "a/b", "a/b/d.md", "f.md", "g", "g/h", "g/h/i"]),
        (&[], &["*", "!g"], &["g", "g/h", "g/h/i"]),
        (&["nothing"], &[], &[]),
    ];
    for (include, exclude, expected) in cases {
        editing(&[], |editor| {
            let strings = |patterns: &[&str]| patterns.iter().map(|text| (*text).to_owned()).collect();
            let options = CopyOptions {
                include_patterns: strings(include),
                exclude_patterns: strings(exclude),
                ..contents()
            };
            editor.copy(&from, "/", "/", &options).unwrap();
            assert_eq!(names(&editor.view()), *expected, "{include:?} {exclude:?}");
            if let Some(entry) = editor.view().lookup("a", Follow::No).unwrap() {
                assert_eq!(entry.metadata.mode, 0o711);
            }
        });
    }
}

#[test]
fn the_highest_number_is_no_owner() {
    // As to chown(2), and so to BuildKit.
    let (_directory, from) = source(&[("d/f", "x")]);
    editing(&[], |editor| {
        let options = CopyOptions { owner: Some((u32::MAX, 7)), ..create() };
        editor.copy(&from, "d", "/n", &options).unwrap();
        for path in ["n", "n/f"] {
            let metadata = editor.view().lookup(path, Follow::No).unwrap().expect("is there").metadata;
            assert_eq!((metadata.uid, metadata.gid), (0, 7), "{path}");
        }
    });
}

#[test]
fn modes_owners_and_times() {
    let (directory, from) = source(&[("d/run", "x"), ("d/s/data", "y"), ("d/l", "->run")]);
    let set = |path: &str, mode| {
        fs::set_permissions(directory.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    set("d/run", 0o4764);
    set("d/s", 0o2700);
    set("d/s/data", 0o606);
    std::os::unix::fs::lchown(directory.path().join("d/run"), Some(11), Some(12)).unwrap();
    // A change of owner took the bit away.
    set("d/run", 0o4764);
    let run_time = fs::metadata(directory.path().join("d/run")).unwrap();
    type Modes = [(&'static str, u32); 3];
    let cases: &[(CopyOptions<'_>, Modes)] = &[
        (create(), [("n/run", 0o4764), ("n/s", 0o2700), ("n/s/data", 0o606)]),
        (
            CopyOptions { mode: Some(0o640), ..create() },
            [("n/run", 0o640), ("n/s", 0o640), ("n/s/data", 0o640)],
        ),
        (
            CopyOptions { mode_str: Some("go=u-w,+X".to_owned()), mode: Some(1), ..create() },
            [("n/run", 0o4755), ("n/s", 0o2755), ("n/s/data", 0o644)],
        ),
        (
            CopyOptions { normalise_modes: true, ..create() },
            [("n/run", 0o755), ("n/s", 0o755), ("n/s/data", 0o644)],
        ),
        (
            CopyOptions { normalise_modes: true, mode_str: Some("g+w".to_owned()), ..create() },
            [("n/run", 0o775), ("n/s", 0o775), ("n/s/data", 0o664)],
        ),
    ];
    for (options, expected) in cases {
        editing(&[], |editor| {
            editor.copy(&from, "d", "/n", options).unwrap();
            for (path, mode) in expected {
                let metadata = editor.view().lookup(path, Follow::No).unwrap().unwrap().metadata;
                assert_eq!(metadata.mode, *mode, "{path} is {:o}", metadata.mode);
            }
            let run = editor.view().lookup("n/run", Follow::No).unwrap().unwrap().metadata;
            assert_eq!((run.uid, run.gid), (11, 12));
            let expected = run_time.mtime() * 1_000_000_000 + run_time.mtime_nsec();
            assert_eq!(run.modified_ns, expected);
        });
    }
    editing(&[("old/x", "")], |editor| {
        let owned = CopyOptions { owner: Some((5, 6)), mode: Some(0o750), ..create() };
        editor.copy(&from, "d", "/old/more/n", &owned).unwrap();
        for path in ["old/more", "old/more/n", "old/more/n/run", "old/more/n/s", "old/more/n/l"] {
            let metadata = editor.view().lookup(path, Follow::No).unwrap().unwrap().metadata;
            assert_eq!((metadata.uid, metadata.gid), (5, 6), "{path}");
        }
        let old = editor.view().lookup("old", Follow::No).unwrap().unwrap().metadata;
        assert_eq!((old.uid, old.mode), (0, 0o755));
        let more = editor.view().lookup("old/more", Follow::No).unwrap().unwrap().metadata;
        assert_eq!(more.mode, 0o750);
    });
}

#[test]
fn directories_are_merged() {
    let (directory, from) = source(&[("d/s/new", "1")]);
    fs::set_permissions(directory.path().join("d"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(directory.path().join("d/s"), fs::Permissions::from_mode(0o711)).unwrap();
    editing(&[("t/s/old", "2")], |editor| {
        editor.copy(&from, "d", "/t", &contents()).unwrap();
        let mode = |path| editor.view().lookup(path, Follow::No).unwrap().unwrap().metadata.mode;
        // Where the copy starts, what exists stays as it is; further in it takes on the source's metadata.
        assert_eq!((mode("t"), mode("t/s")), (0o755, 0o711));
        assert_eq!(names(&editor.view()), ["t", "t/s", "t/s/new", "t/s/old"]);
    });
}

#[test]
fn verified_copies_notice_changes() {
    let (directory, from) = source(&[("a", "known"), ("sub/b", "also"), ("l", "->a"), ("unknown", "?")]);
    let known: BTreeMap<&Path, ContentDigest> = [("a", "known"), ("sub/b", "also"), ("l", "a")]
        .map(|(path, text)| (Path::new(path), ContentDigest::of(text)))
        .into();
    let lookup = |path: &Path| known.get(path).copied();
    let options = CopyOptions { verify: Some(&lookup), ..contents() };
    editing(&[], |editor| {
        assert_eq!(editor.copy(&from, "/", "/", &options).unwrap().size_bytes, 10);
        assert_eq!(content(&editor.view(), "sub/b"), "also");
    });
    fs::write(directory.path().join("sub/b"), "alsO").unwrap();
    editing(&[], |editor| match editor.copy(&from, "/", "/", &options) {
        Err(Error::ChangedDuringBuild { path }) => assert_eq!(path, Path::new("sub/b")),
        other => panic!("{other:?}"),
    });
    fs::write(directory.path().join("sub/b"), "also").unwrap();
    fs::remove_file(directory.path().join("l")).unwrap();
    std::os::unix::fs::symlink("b", directory.path().join("l")).unwrap();
    editing(&[], |editor| {
        refuses!(editor.copy(&from, "/", "/", &options), Error::ChangedDuringBuild { .. });
    });
}

#[test]
fn a_normalised_copy_is_what_git_would_check_out() {
    let (directory, from) = source(&[("a", "x")]);
    fs::hard_link(directory.path().join("a"), directory.path().join("b")).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(directory.path().join("a"), "user.note", b"1", flags).unwrap();
    editing(&[], |editor| {
        let options = CopyOptions { normalise_modes: true, owner: Some((0, 0)), ..contents() };
        editor.copy(&from, "/", "/", &options).unwrap();
        let tree = tree_of(&editor.view());
        assert_eq!(tree[Path::new("a")].body, "file \"x\"");
        assert_eq!(tree[Path::new("b")].body, "file \"x\"");
    });
}

#[test]
fn a_tree_can_be_copied_into_itself() {
    editing(&[("d/x", "1"), ("d/s/y", "2")], |editor| {
        let view = editor.view();
        editor.copy(&view, "/d", "/d/inner", &create()).unwrap();
        editor.copy(&view, "/d/x", "/d/x", &create()).unwrap();
        editor.mkfile("/d/x", 0o644, b"in the upper layer", None, None).unwrap();
        editor.copy(&view, "/d/x", "/d/x", &create()).unwrap();
        editor.copy(&view, "/", "/", &contents()).unwrap();
        assert_eq!(content(&editor.view(), "d/x"), "in the upper layer");
        let expected = ["d", "d/inner", "d/inner/s", "d/inner/s/y", "d/inner/x", "d/s", "d/s/y", "d/x"];
        assert_eq!(names(&editor.view()), expected);
    });
}

#[test]
fn names_need_not_be_text() {
    let (directory, from) = source(&[]);
    let odd = [&b"new\nline"[..], b"\xff\xfe", b".wh.file", b" ", b"-rf", b"*", b"\\"];
    for name in odd {
        fs::write(directory.path().join(std::ffi::OsStr::from_bytes(name)), "x").unwrap();
    }
    editing(&[], |editor| {
        assert_eq!(editor.copy(&from, "/", "/", &contents()).unwrap().files, odd.len() as u64);
        for name in odd {
            let path = Path::new(std::ffi::OsStr::from_bytes(name));
            assert!(editor.view().lookup(path, Follow::No).unwrap().is_some(), "{path:?}");
        }
        editor.copy(&from, "\\*", "/star", &CopyOptions { allow_wildcard: true, ..create() }).unwrap_err();
        editor.remove(std::ffi::OsStr::from_bytes(b"\xff\xfe"), false, false).unwrap();
    });
}

#[test]
fn many_files() {
    copy_many(20, 250);
}

fn copy_many(directories: u64, files: u64) {
    let directory = tempfile::tempdir().unwrap();
    for outer in 0..directories {
        let path = directory.path().join(format!("d{outer}"));
        fs::create_dir(&path).unwrap();
        for inner in 0..files {
            fs::write(path.join(format!("f{inner}")), "0123456789").unwrap();
        }
    }
    let from = View::of_directory(directory.path());
    let fixture = crate::support::Fixture::new();
    let snapshots = fixture.snapshots(rb_snapshot::DriverKind::Overlay);
    let active = snapshots.prepare(None).unwrap();
    let start = std::time::Instant::now();
    let copied = Editor::new(&active).unwrap().copy(&from, "/", "/", &contents()).unwrap();
    let copying = start.elapsed();
    let all = directories * files;
    assert_eq!((copied.files, copied.size_bytes), (all, all * 10));
    let diff = rb_snapshot::diff(&active).unwrap();
    eprintln!("{all} files copied in {copying:?}, diffed in {:?}", start.elapsed() - copying);
    assert_eq!(diff.changes.len() as u64, all + directories);
}
