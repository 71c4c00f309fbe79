use std::os::unix::fs::MetadataExt as _;

use rb_snapshot::DriverKind;

use super::*;
use crate::testing::{Fixture, file, odd_tree, read_tar, touch};

struct Place {
    root: tempfile::TempDir,
    source: PathBuf,
    dest: PathBuf,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("temp dir");
        let (source, dest) = (root.path().join("source"), root.path().join("project/out"));
        fs::create_dir_all(root.path().join("project")).expect("makes");
        fs::create_dir(&source).expect("makes");
        Self { root, source, dest }
    }

    fn write(&self, path: &str) -> Result<TreeReport> {
        let options =
            TreeOptions { within: Some(self.root.path().join("project")), ..TreeOptions::default() };
        write_tree(&View::of_directory(&self.source), path, &self.dest, &options)
    }

    /// Nothing but the destination is in its directory.
    fn is_clean(&self) -> bool {
        fs::read_dir(self.root.path().join("project")).expect("lists").count() <= 1
    }
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).expect("stats").ino()
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).expect("reads")
}

#[test]
fn a_file_is_written_once_and_replaced_when_it_differs() {
    let place = Place::new();
    file(&place.source, "bin/app", "one", 0o755);
    let report = place.write("bin/app").expect("writes");
    assert_eq!(report, TreeReport { written: 1, size_bytes: 3, ..TreeReport::default() });
    assert_eq!(read(&place.dest), "one");
    assert_eq!(fs::metadata(&place.dest).expect("stats").mode() & 0o7777, 0o755);
    let before = inode(&place.dest);
    assert_eq!(place.write("bin/app").expect("writes"), TreeReport { unchanged: 1, ..TreeReport::default() });
    assert_eq!(inode(&place.dest), before);
    for (content, mode) in [("two", 0o755), ("two", 0o644), ("three", 0o644)] {
        file(&place.source, "bin/app", content, mode);
        assert_eq!(place.write("bin/app").expect("writes").written, 1, "{content} {mode:o}");
        assert_eq!(read(&place.dest), content);
    }
    assert!(place.is_clean());
}

#[test]
fn a_link_at_the_destination_is_replaced_and_not_followed() {
    let place = Place::new();
    let precious = place.root.path().join("precious");
    file(&precious, "file", "precious", 0o644);
    file(&place.source, "app", "new", 0o644);
    file(&place.source, "dir/file", "new", 0o644);
    symlink(precious.join("file"), &place.dest).expect("links");
    place.write("app").expect("writes");
    assert!(fs::symlink_metadata(&place.dest).expect("stats").is_file());

    fs::remove_file(&place.dest).expect("removes");
    symlink(&precious, &place.dest).expect("links");
    place.write("dir").expect("writes");
    assert!(fs::symlink_metadata(&place.dest).expect("stats").is_dir());

    // The same, one level down.
    fs::remove_dir_all(&place.dest).expect("removes");
    fs::create_dir(&place.dest).expect("makes");
    file(&place.source, "deep/dir/file", "new", 0o644);
    symlink(&precious, place.dest.join("dir")).expect("links");
    place.write("deep").expect("writes");
    assert_eq!(read(place.dest.join("dir/file")), "new");
    assert_eq!(read(precious.join("file")), "precious");
    assert_eq!(fs::read_dir(&precious).expect("lists").count(), 1);
    assert!(place.is_clean());
}

#[test]
fn a_directory_replaces_a_directory_and_keeps_what_is_the_same() {
    let place = Place::new();
    for (path, content) in [("d/same", "same"), ("d/changed", "old"), ("d/sub/same", "x"), ("d/gone/a", "a")]
    {
        file(&place.source, path, content, 0o644);
    }
    symlink("same", place.source.join("d/link")).expect("links");
    let report = place.write("d").expect("writes");
    assert_eq!((report.written, report.unchanged, report.removed), (8, 0, 0));
    touch(&place.dest.join("same"), 1000);
    let inodes = [inode(&place.dest), inode(&place.dest.join("same")), inode(&place.dest.join("sub/same"))];

    let report = place.write("d").expect("writes");
    assert_eq!((report.written, report.unchanged, report.removed), (0, 8, 0));
    assert_eq!(inode(&place.dest), inodes[0]);

    fs::remove_dir_all(place.source.join("d/gone")).expect("removes");
    file(&place.source, "d/changed", "new", 0o644);
    file(&place.dest, "mine/own", "is replaced", 0o644);
    let report = place.write("d").expect("writes");
    assert_eq!((report.written, report.unchanged, report.removed), (1, 5, 2));
    assert_eq!(read(place.dest.join("changed")), "new");
    assert_eq!([inode(&place.dest.join("same")), inode(&place.dest.join("sub/same"))], inodes[1..]);
    assert_eq!(fs::metadata(place.dest.join("same")).expect("stats").mtime(), 1000);
    assert!(!place.dest.join("gone").exists() && !place.dest.join("mine").exists());
    assert_eq!(fs::read_link(place.dest.join("link")).expect("is a link"), Path::new("same"));
    assert!(place.is_clean());
}

#[test]
fn kinds_replace_one_another() {
    let place = Place::new();
    file(&place.source, "one/x/file", "x", 0o644);
    file(&place.source, "two/x", "now a file", 0o644);
    place.write("one").expect("writes");
    place.write("two").expect("writes");
    assert_eq!(read(place.dest.join("x")), "now a file");
    place.write("one").expect("writes");
    assert_eq!(read(place.dest.join("x/file")), "x");
    assert!(matches!(place.write("two/x"), Err(ExportError::IsDirectory(_))));
    assert!(matches!(place.write("three"), Err(ExportError::NotFound(_))));
    assert!(place.is_clean());
}

#[test]
fn read_only_directories_and_odd_modes_are_kept() {
    let place = Place::new();
    file(&place.source, "d/closed/file", "x", 0o400);
    fs::set_permissions(place.source.join("d/closed"), fs::Permissions::from_mode(0o555)).expect("chmods");
    fs::set_permissions(place.source.join("d"), fs::Permissions::from_mode(0o2750)).expect("chmods");
    place.write("d").expect("writes");
    let mode = |path: &str| fs::metadata(place.dest.join(path)).expect("stats").mode() & 0o7777;
    assert_eq!((mode("closed"), mode("closed/file"), mode(".")), (0o555, 0o400, 0o2750));
    file(&place.source, "d/more", "y", 0o644);
    place.write("d").expect("replaces");
    assert!(place.is_clean());
}

#[test]
fn owners_and_times_on_request() {
    let place = Place::new();
    file(&place.source, "d/file", "x", 0o4755);
    std::os::unix::fs::chown(place.source.join("d/file"), Some(12), Some(34)).expect("chowns");
    fs::set_permissions(place.source.join("d/file"), fs::Permissions::from_mode(0o4755)).expect("chmods");
    touch(&place.source.join("d/file"), 1000);
    touch(&place.source.join("d"), 2000);
    let view = View::of_directory(&place.source);
    let options = TreeOptions { keep_times: true, keep_owner: true, ..TreeOptions::default() };
    write_tree(&view, "d", &place.dest, &options).expect("writes");
    let metadata = fs::metadata(place.dest.join("file")).expect("stats");
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (12, 34, 0o4755));
    assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (1000, 123));
    assert_eq!(fs::metadata(&place.dest).expect("stats").mtime(), 2000);
    assert_eq!(write_tree(&view, "d", &place.dest, &options).expect("writes").written, 0);
    touch(&place.source.join("d/file"), 3000);
    assert_eq!(write_tree(&view, "d", &place.dest, &options).expect("writes").written, 1);
}

#[test]
fn the_destination_stays_in_the_project() {
    let place = Place::new();
    file(&place.source, "d/file", "x", 0o644);
    let project = place.root.path().join("project");
    let options = TreeOptions { within: Some(project.clone()), ..TreeOptions::default() };
    let view = View::of_directory(&place.source);
    for dest in [
        place.root.path().join("elsewhere"),
        project.join("../elsewhere"),
        project.clone(),
        place.root.path().to_owned(),
    ] {
        let error = write_tree(&view, "d", &dest, &options).expect_err("leads out");
        assert!(
            matches!(error, ExportError::Escapes { .. } | ExportError::NoName(_)),
            "{}: {error}",
            dest.display()
        );
    }
    assert_eq!(fs::read_dir(place.root.path()).expect("lists").count(), 2);
}

#[test]
fn an_odd_tree_arrives_whole() {
    let fixture = Fixture::new(DriverKind::Overlay);
    let id = fixture.commit(None, |root| odd_tree(root, false));
    let view = fixture.snapshots.view(Some(id)).expect("reads");
    let dest = fixture.directory.path().join("dest");
    let options = TreeOptions { keep_owner: true, ..TreeOptions::default() };
    write_tree(&view, "", &dest, &options).expect("writes");
    let arrived = View::of_directory(&dest);
    for path in ["a-b", "a/c", "héllo", "long", "far", "a/link", "pipe", "empty"] {
        let key = |view: &View| view.content_digest(path, Follow::No).expect("reads");
        assert_eq!(key(&view), key(&arrived), "{path}");
    }
}

#[test]
fn a_tar_has_the_subtree_under_relative_names() {
    let place = Place::new();
    file(&place.source, "d/sub/file", "content", 0o640);
    fs::hard_link(place.source.join("d/sub/file"), place.source.join("d/a")).expect("links");
    touch(&place.source.join("d/a"), 1000);
    let list = |path: &str, epoch| {
        let mut bytes = Vec::new();
        write_tar(&View::of_directory(&place.source), path, epoch, &mut bytes, &Tally::default())
            .expect("writes");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("is text");
        let entries = read_tar(&bytes).into_iter();
        entries
            .map(|entry| (entry.name(), entry.link.clone().map(text), entry.modified()))
            .collect::<Vec<_>>()
    };
    let names: Vec<_> = list("d", None).into_iter().map(|(name, link, _)| (name, link)).collect();
    let own = |text: &str| text.to_owned();
    assert_eq!(names, [(own("a"), None), (own("sub/"), None), (own("sub/file"), Some(own("a")))]);
    assert_eq!(
        list("d", Some(Epoch(500))).iter().map(|(_, _, time)| *time).collect::<Vec<_>>(),
        [500, 500, 500]
    );
    assert_eq!(list("d/sub/file", None), [(own("file"), None, 1000)]);
    assert!(matches!(
        write_tar(&View::of_directory(&place.source), "nothing", None, io::sink(), &Tally::default()),
        Err(ExportError::NotFound(_))
    ));
}

#[test]
fn merging_removes_nothing_and_follows_no_link() {
    let place = Place::new();
    let precious = place.root.path().join("precious");
    file(&precious, "f", "precious", 0o644);
    file(&place.source, "a/f", "new", 0o644);
    file(&place.source, "b/f", "new", 0o600);
    file(&place.dest, "mine", "stays", 0o644);
    file(&place.dest, "a/mine", "stays", 0o644);
    file(&place.dest, "a/f", "old", 0o644);
    symlink(&precious, place.dest.join("b")).expect("links");
    let options = TreeOptions { merge: true, ..TreeOptions::default() };
    let merge = || write_tree(&View::of_directory(&place.source), "/", &place.dest, &options);
    let report = merge().expect("writes");
    assert_eq!((report.removed, report.size_bytes), (0, 6));
    assert_eq!(read(place.dest.join("mine")) + &read(place.dest.join("a/mine")), "staysstays");
    assert_eq!(read(place.dest.join("a/f")) + &read(place.dest.join("b/f")), "newnew");
    assert_eq!(read(precious.join("f")), "precious");
    assert_eq!(merge().expect("writes").size_bytes, 0);
    fs::remove_file(place.dest.join("a/f")).expect("removes");
    fs::create_dir(place.dest.join("a/f")).expect("makes");
    assert!(matches!(merge(), Err(ExportError::IsDirectory(_))));
    // A file is not a directory to write into, and a look at it makes nothing.
    let taken = place.dest.join("mine");
    let view = View::of_directory(&place.source);
    let refused = [
        write_tree(&view, "/", &taken, &options).map(drop),
        check_tree(&view, "/", &taken, &options),
        check_tree(&view, "a/f", &place.dest, &options),
        check_tree(&view, "none", &place.dest, &options),
    ];
    assert!(matches!(
        refused,
        [
            Err(ExportError::IsFile(_)),
            Err(ExportError::IsFile(_)),
            Err(ExportError::IsDirectory(_)),
            Err(ExportError::NotFound(_)),
        ]
    ));
    assert_eq!(read(&taken), "stays");
    check_tree(&view, "/", &place.dest.join("new/folder"), &options).expect("may be made");
    assert!(!place.dest.join("new").exists());
}

#[test]
fn a_precious_directory_is_left_as_it_is() {
    let place = Place::new();
    file(&place.source, "d/f", "new", 0o644);
    let home = place.root.path().join("home");
    file(&home, "me/letter", "dear", 0o644);
    let options = TreeOptions {
        precious: Precious {
            directories: vec![(home.join("me"), "your home")],
            state: Some(home.join("state")),
        },
        ..TreeOptions::default()
    };
    let view = View::of_directory(&place.source);
    let write = |dest: &str| write_tree(&view, "d", &home.join(dest), &options);
    for dest in ["me", "../home", "state", "state/deep/er"] {
        let error = write(dest).expect_err(dest);
        assert!(matches!(error, ExportError::Precious { .. }), "{dest}: {error}");
    }
    assert_eq!(read(home.join("me/letter")), "dear");
    assert!(!home.join("state").exists(), "nothing is made on the way to a refusal");
    let error = write("../home").expect_err("holds it").to_string();
    assert!(error.contains("is not replaced: it holds your home, "), "{error}");
    // In it a directory may be replaced, and merging removes nothing.
    write("me/out").expect("writes");
    write_tree(&view, "d", &home.join("me"), &TreeOptions { merge: true, ..options.clone() })
        .expect("merges");
    assert_eq!(
        (read(home.join("me/letter")), read(home.join("me/f"))),
        ("dear".to_owned(), "new".to_owned())
    );
}

#[test]
fn a_link_that_a_user_named_is_followed_and_those_within_are_replaced() {
    let place = Place::new();
    let project = place.root.path().join("project");
    file(&place.source, "d/file", "new", 0o644);
    file(&place.source, "d/sub/file", "new", 0o644);
    let view = View::of_directory(&place.source);
    for (name, merge) in [("merged", true), ("replaced", false)] {
        let (real, link) = (project.join(name), project.join(format!("to-{name}")));
        file(&real, "own", "mine", 0o644);
        file(&project, &format!("{name}-else/keep"), "mine", 0o644);
        symlink(name, &link).expect("links");
        symlink(format!("../{name}-else"), real.join("sub")).expect("links");
        let options = TreeOptions { follow: true, merge, ..TreeOptions::default() };
        check_tree(&view, "d", &link, &options).expect("fits");
        write_tree(&view, "d", &link, &options).expect("writes");
        assert!(link.is_symlink() && real.join("sub").is_dir() && !real.join("sub").is_symlink(), "{name}");
        assert_eq!(read(real.join("file")), "new");
        assert_eq!(real.join("own").exists(), merge);
        assert_eq!(fs::read_dir(project.join(format!("{name}-else"))).expect("lists").count(), 1);
    }
    // A build file's is replaced, and what it leads to stays.
    let link = project.join("to-merged");
    write_tree(&view, "d", &link, &TreeOptions::default()).expect("writes");
    assert!(!link.is_symlink() && link.join("file").exists() && project.join("merged/own").exists());
    // What a link leads to is as dear as by its own name.
    let precious = Precious { directories: vec![(project.clone(), "the workspace")], state: None };
    symlink("project", place.root.path().join("home")).expect("links");
    let options = TreeOptions { follow: true, precious, ..TreeOptions::default() };
    let error = write_tree(&view, "d", &place.root.path().join("home"), &options).expect_err("is dear");
    assert!(matches!(error, ExportError::Precious { .. }), "{error}");
}

#[test]
fn what_is_compared_and_written_is_counted() {
    let place = Place::new();
    for (name, content) in [("a", "same"), ("b", "old!"), ("c/d", "more")] {
        file(&place.source, &format!("d/{name}"), content, 0o644);
    }
    symlink("a", place.source.join("d/link")).expect("links");
    let view = View::of_directory(&place.source);
    let write = |path: &str, merge: bool| {
        let tally = Arc::new(Tally::default());
        let options = TreeOptions { merge, tally: Some(Arc::clone(&tally)), ..TreeOptions::default() };
        write_tree(&view, path, &place.dest, &options).expect("writes");
        tally.look()
    };
    let all = rb_snapshot::Count { files: 4, all_files: 4, bytes: 12, all_bytes: 12, ..Default::default() };
    assert_eq!(write("d", false), all, "all is written");
    assert_eq!(write("d", false), all, "all is compared");
    for merge in [false, true] {
        file(&place.source, "d/b", if merge { "tsl!" } else { "new!" }, 0o644);
        assert_eq!(write("d", merge), all, "one is written, merged: {merge}");
    }
}
