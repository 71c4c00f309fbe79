//! Folders of the user's.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rb_diag::ErrorKind;
use rb_snapshot::{Follow, SnapshotError, Tally, View};
use rb_sources::SourceError;
use rb_sources::local::{Listed, ListedKind, LocalEntry, LocalRequest, LocalTree, Named, scan, scan_named};
use rb_store::{FixedClock, Store};
use tempfile::TempDir;

/// A folder to look at, and a store beside it whose clock is an hour ahead: nothing is too young for it.
struct Fixture {
    top: TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        Self::at(3600)
    }

    #[expect(clippy::disallowed_methods, reason = "files have the machine's time")]
    fn at(ahead_seconds: u64) -> Self {
        let top = tempfile::Builder::new().prefix("rb-local-").tempdir().unwrap();
        fs::create_dir(top.path().join("tree")).unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let clock = FixedClock(now + Duration::from_secs(ahead_seconds));
        let store = Store::open_with(&top.path().join("store"), Arc::new(clock)).unwrap();
        Self { top, store }
    }

    fn path(&self) -> PathBuf {
        self.top.path().join("tree")
    }

    fn write(&self, path: &str, content: &str) {
        write(&self.path(), path, content);
    }

    fn request(&self, include: &[&str], exclude: &[&str]) -> LocalRequest {
        let owned = |patterns: &[&str]| patterns.iter().map(|text| (*text).to_owned()).collect();
        LocalRequest {
            folder: self.path(),
            include: owned(include),
            exclude: owned(exclude),
            normalise_modes: true,
        }
    }

    fn look(&self, include: &[&str], exclude: &[&str]) -> LocalTree {
        scan(&self.store, &self.request(include, exclude), &Tally::default()).unwrap()
    }

    fn names(&self, include: &[&str], exclude: &[&str]) -> Vec<String> {
        let tree = self.look(include, exclude);
        // What is copied is what is in the key.
        let listed = View::of_listing(self.path(), tree.listing.clone());
        let listed = listed.walk("").unwrap().skip(1).map(|entry| entry.unwrap().path);
        assert!(listed.eq(tree.entries.keys().cloned()), "{include:?} {exclude:?}");
        let names = tree.entries.into_keys();
        names.map(|path| path.to_string_lossy().into_owned()).collect()
    }

    /// As many files as make the cache worth its while.
    fn fill(&self) {
        for number in 0..100 {
            self.write(&format!("many/{number}"), &format!("content {number}"));
        }
    }

    fn cached(&self) -> usize {
        self.store.stat_cache(&format!("{:?}", self.path())).unwrap().len()
    }
}

fn write(folder: &Path, path: &str, content: &str) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn patterns_choose() {
    let fixture = Fixture::new();
    for path in ["a/b/c.txt", "a/b/d.o", "a/e.txt", "f.txt", "g/h/i.txt"] {
        fixture.write(path, "");
    }
    for (include, exclude, expected) in [
        (
            &[][..],
            &[][..],
            &["a", "a/b", "a/b/c.txt", "a/b/d.o", "a/e.txt", "f.txt", "g", "g/h", "g/h/i.txt"][..],
        ),
        (&["a/b"], &[], &["a", "a/b", "a/b/c.txt", "a/b/d.o"]),
        (&["f.txt"], &[], &["f.txt"]),
        (&["**/*.txt"], &["g"], &["a", "a/b", "a/b/c.txt", "a/e.txt", "f.txt"]),
        (&["a/*.txt"], &[], &["a", "a/e.txt"]),
        (&[], &["a", "!a/b/c.txt"], &["a", "a/b", "a/b/c.txt", "f.txt", "g", "g/h", "g/h/i.txt"]),
        (&[], &["*", "!g/h"], &["g", "g/h", "g/h/i.txt"]),
        (&["a", "g"], &["**/*.o", "g/**"], &["a", "a/b", "a/b/c.txt", "a/e.txt", "g"]),
        (&["missing"], &[], &[]),
        (&["a/b/missing"], &[], &[]),
    ] {
        assert_eq!(fixture.names(include, exclude), expected, "{include:?} {exclude:?}");
    }
}

#[test]
fn all_is_named_and_some_has_content() {
    let fixture = Fixture::new();
    for path in ["a/b/c.txt", "a/b/d.o", "a/e.txt", "f.txt", "g/h/i.txt"] {
        fixture.write(path, path);
    }
    fs::hard_link(fixture.path().join("f.txt"), fixture.path().join("z.txt")).unwrap();
    symlink("f.txt", fixture.path().join("link")).unwrap();
    let look = |include: &[&str], content: &[&str]| {
        let content: Vec<String> = content.iter().map(|text| (*text).to_owned()).collect();
        let request = fixture.request(include, &[]);
        scan_named(&fixture.store, &request, &content, &Tally::default()).unwrap()
    };
    let names = |tree: &LocalTree| -> Vec<String> {
        tree.entries.keys().map(|path| path.display().to_string()).collect()
    };
    let (tree, named) = look(&[], &["a/**/*.txt", "!a/e.txt", "g/h"]);
    assert_eq!(names(&tree), ["a", "a/b", "a/b/c.txt", "g", "g/h", "g/h/i.txt"]);
    let listed: Vec<String> = named.iter().map(|named| named.listed.path.display().to_string()).collect();
    let all =
        ["a", "a/b", "a/b/c.txt", "a/b/d.o", "a/e.txt", "f.txt", "g", "g/h", "g/h/i.txt", "link", "z.txt"];
    assert_eq!(listed, all);
    let Named { listed: Listed { kind, modified_ns, .. }, same } = named.last().unwrap();
    assert_eq!((kind, same.as_deref()), (&ListedKind::File(5), Some(Path::new("f.txt"))));
    assert!(*modified_ns > 0);
    let (tree, named) = look(&["a/b"], &[]);
    assert!(tree.entries.is_empty());
    assert_eq!(named.len(), 4);
    let read = Tally::default();
    fixture.fill();
    scan_named(&fixture.store, &fixture.request(&[], &[]), &["f.txt".to_owned()], &read).unwrap();
    assert_eq!(read.look().files, 1);
}

#[test]
fn plain_patterns_do_not_walk_the_rest() {
    let fixture = Fixture::new();
    fixture.write("one/file", "x");
    fixture.write("rest/file", "x");
    // What would be an error, were it looked at.
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    let pipe = fixture.path().join("rest/pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert_eq!(fixture.names(&["one/file"], &[]), ["one", "one/file"]);
    assert_eq!(fixture.names(&[], &["rest", "!one/file"]), ["one", "one/file"]);
    assert_eq!(fixture.names(&[], &["*", "!one"]), ["one", "one/file"]);
    let error = scan(&fixture.store, &fixture.request(&[], &[]), &Tally::default()).unwrap_err();
    assert!(matches!(&error, SourceError::SpecialFile { path } if path == Path::new("rest/pipe")), "{error}");
    assert_eq!(error.kind(), ErrorKind::Input);
}

#[test]
fn kinds_are_kept_as_they_are() {
    let fixture = Fixture::new();
    fixture.write("dir/file", "x");
    symlink("dir", fixture.path().join("link")).unwrap();
    symlink("/etc/shadow", fixture.path().join("out")).unwrap();
    symlink("link-to-itself", fixture.path().join("link-to-itself")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(fixture.path().join("socket")).unwrap();
    let tree = fixture.look(&[], &[]);
    let link = |target: &str| LocalEntry::Symlink { target: target.into() };
    assert_eq!(tree.entries.len(), 5, "{tree:?}");
    assert_eq!(tree.entries[Path::new("link")], link("dir"));
    assert_eq!(tree.entries[Path::new("out")], link("/etc/shadow"));
    assert_eq!(tree.entries[Path::new("link-to-itself")], link("link-to-itself"));
    let digest = *blake3::hash(b"x").as_bytes();
    let file = LocalEntry::File { mode: 0o644, size_bytes: 1, digest };
    assert_eq!(tree.entries[Path::new("dir/file")], file);
}

#[test]
fn names_need_not_be_text() {
    let fixture = Fixture::new();
    for name in [b"line\nbreak".as_slice(), b"not \xff text", b"-", b" ", b"a\\b"] {
        fs::write(fixture.path().join(OsStr::from_bytes(name)), name).unwrap();
    }
    let tree = fixture.look(&[], &[]);
    assert_eq!(tree.entries.len(), 5);
    assert!(tree.entries.contains_key(Path::new(OsStr::from_bytes(b"not \xff text"))));
    assert_eq!(fixture.look(&["line*"], &[]).entries.len(), 1);
    // In a folder whose name is none either.
    let folder = fixture.top.path().join(OsStr::from_bytes(b"\xfe"));
    fs::rename(fixture.path(), &folder).unwrap();
    let moved =
        scan(&fixture.store, &LocalRequest { folder, ..fixture.request(&[], &[]) }, &Tally::default())
            .unwrap();
    assert_eq!(moved.content, tree.content);
}

#[test]
fn order_is_that_of_paths() {
    let fixture = Fixture::new();
    for path in ["a/b/e", "a.b", "a-b", "a!/x", "ab", "a/b.c/d", "b"] {
        fixture.write(path, "");
    }
    let names = fixture.look(&[], &[]).entries.into_keys().collect::<Vec<_>>();
    assert!(names.is_sorted());
    assert_eq!(names.len(), 11);
}

#[test]
fn keys_know_nothing_of_places_owners_times_and_umasks() {
    let key = |change: &dyn Fn(&Path), normalise_modes: bool| {
        let fixture = Fixture::new();
        fixture.write("dir/file", "x");
        fixture.write("run", "y");
        fs::set_permissions(fixture.path().join("run"), fs::Permissions::from_mode(0o755)).unwrap();
        change(&fixture.path());
        let request = LocalRequest { normalise_modes, ..fixture.request(&[], &[]) };
        scan(&fixture.store, &request, &Tally::default()).unwrap().content
    };
    let mode = |path: &'static str, mode: u32| {
        move |tree: &Path| fs::set_permissions(tree.join(path), fs::Permissions::from_mode(mode)).unwrap()
    };
    let nothing = |_: &Path| {};
    let base = key(&nothing, true);
    assert_eq!(base, key(&nothing, true));
    let times = |tree: &Path| {
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        fs::File::open(tree.join("run")).unwrap().set_modified(then).unwrap();
    };
    assert_eq!(base, key(&times, true));
    for (path, bits) in [("run", 0o700), ("dir/file", 0o600), ("dir/file", 0o664), ("dir", 0o2770)] {
        assert_eq!(base, key(&mode(path, bits), true), "{path} {bits:o}");
        assert_ne!(key(&nothing, false), key(&mode(path, bits), false), "{path} {bits:o}");
    }
    assert_ne!(base, key(&mode("dir/file", 0o744), true));
    if rustix::process::geteuid().is_root() {
        assert_eq!(
            base,
            key(&|tree| std::os::unix::fs::chown(tree.join("run"), Some(7), Some(8)).unwrap(), true)
        );
    } else {
        eprintln!("steps aside: changing owners takes root");
    }
    assert_ne!(base, key(&|tree| fs::rename(tree.join("run"), tree.join("ran")).unwrap(), true));
    assert_ne!(base, key(&|tree| fs::write(tree.join("run"), "z").unwrap(), true));
    assert_ne!(base, key(&|tree| fs::create_dir(tree.join("empty")).unwrap(), true));
    let link = |target: &'static str| move |tree: &Path| symlink(target, tree.join("l")).unwrap();
    assert_ne!(key(&link("a"), true), key(&link("b"), true));
}

/// Replaces what the cache says of a file, as if it had been hashed to something else.
fn poison(fixture: &Fixture, path: &str, digest: [u8; 32]) {
    use std::os::unix::fs::MetadataExt as _;
    let meta = fs::metadata(fixture.path().join(path)).unwrap();
    let stamp = rb_store::FileStamp {
        device: meta.dev(),
        inode: meta.ino(),
        size_bytes: meta.size(),
        modified_ns: meta.mtime() * 1_000_000_000 + meta.mtime_nsec(),
        changed_ns: meta.ctime() * 1_000_000_000 + meta.ctime_nsec(),
    };
    let change = rb_store::StatChange { path: path.as_bytes().to_vec(), stamp, digest };
    fixture.store.update_stat_cache(&format!("{:?}", fixture.path()), &[change], &[]).unwrap();
}

fn digest_of(tree: &LocalTree, path: &str) -> [u8; 32] {
    match &tree.entries[Path::new(path)] {
        LocalEntry::File { digest, .. } => *digest,
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_with_a_known_stamp_are_not_read() {
    let fixture = Fixture::new();
    fixture.fill();
    fixture.look(&[], &[]);
    assert_eq!(fixture.cached(), 100);
    // Were the file read, the poison would not show.
    poison(&fixture, "many/7", [7; 32]);
    assert_eq!(digest_of(&fixture.look(&[], &[]), "many/7"), [7; 32]);
    fixture.write("many/7", "content x");
    assert_eq!(digest_of(&fixture.look(&[], &[]), "many/7"), *blake3::hash(b"content x").as_bytes());
    assert_eq!(fixture.cached(), 100);
    // A few files are read, which is faster than the cache.
    poison(&fixture, "many/8", [8; 32]);
    assert_ne!(digest_of(&fixture.look(&["many/8"], &[]), "many/8"), [8; 32]);
}

#[test]
fn edits_within_one_second_are_seen() {
    let fixture = Fixture::at(0);
    fixture.fill();
    let mut keys = std::collections::BTreeSet::new();
    for round in 0..20 {
        fixture.write("many/7", &format!("content {round:02}"));
        assert!(keys.insert(fixture.look(&[], &[]).content), "{round}");
    }
    assert_eq!(fixture.cached(), 0);
}

/// Gives `path` the times of access and modification that `meta` has.
fn set_times(path: &Path, meta: &fs::Metadata) {
    let times =
        fs::FileTimes::new().set_accessed(meta.accessed().unwrap()).set_modified(meta.modified().unwrap());
    fs::File::open(path).unwrap().set_times(times).unwrap();
}

#[test]
fn other_content_of_the_same_size_under_the_same_time_is_seen() {
    let fixture = Fixture::new();
    fixture.fill();
    fixture.look(&[], &[]);
    let path = fixture.path().join("many/7");
    let before = fs::metadata(&path).unwrap();
    fixture.write("many/7", "CONTENT 7");
    set_times(&path, &before);
    assert_eq!(digest_of(&fixture.look(&[], &[]), "many/7"), *blake3::hash(b"CONTENT 7").as_bytes());
}

#[test]
fn another_file_with_the_same_inode_is_seen() {
    use std::os::unix::fs::MetadataExt as _;
    let fixture = Fixture::new();
    fixture.fill();
    fixture.look(&[], &[]);
    let path = fixture.path().join("many/7");
    let before = fs::metadata(&path).unwrap();
    // Most file systems give the number of the file that went last to the next one.
    for round in 0..50 {
        fs::remove_file(&path).unwrap();
        let content = format!("other {round:03}");
        fixture.write("many/7", &content);
        set_times(&path, &before);
        let now = fs::metadata(&path).unwrap();
        let seen = digest_of(&fixture.look(&[], &[]), "many/7");
        assert_eq!(seen, *blake3::hash(content.as_bytes()).as_bytes(), "{round}");
        if (now.ino(), now.size()) == (before.ino(), before.size()) {
            return;
        }
    }
    eprintln!("no inode number was given twice; the rest is tested all the same");
}

#[test]
fn after_the_clock_was_set_back_all_is_read_again() {
    let fixture = Fixture::at(7200);
    fixture.fill();
    fixture.look(&[], &[]);
    poison(&fixture, "many/7", [7; 32]);
    assert_eq!(digest_of(&fixture.look(&[], &[]), "many/7"), [7; 32]);
    let earlier = FixedClock(fixture.store.clock().now() - Duration::from_secs(3600));
    let store = Store::open_with(&fixture.top.path().join("store"), Arc::new(earlier)).unwrap();
    let look = || scan(&store, &fixture.request(&[], &[]), &Tally::default()).unwrap();
    assert_eq!(digest_of(&look(), "many/7"), *blake3::hash(b"content 7").as_bytes());
    // And from then on believed again.
    let fixture = Fixture { top: fixture.top, store };
    poison(&fixture, "many/7", [7; 32]);
    assert_eq!(digest_of(&fixture.look(&[], &[]), "many/7"), [7; 32]);
}

#[test]
fn a_hundred_thousand_files_in_one_folder() {
    let fixture = Fixture::new();
    let folder = fixture.path().join("many");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("0"), "x").unwrap();
    // Names are what counts here, and links are made faster than files; an inode takes only so many.
    for number in 1..100_000 {
        let name = folder.join(number.to_string());
        if number % 10_000 == 0 {
            fs::write(name, "x").unwrap();
        } else {
            fs::hard_link(folder.join((number / 10_000 * 10_000).to_string()), name).unwrap();
        }
    }
    let tree = fixture.look(&[], &[]);
    assert_eq!(tree.entries.len(), 100_001);
    assert_eq!(fixture.cached(), 100_000);
    assert_eq!(fixture.look(&[], &[]).entries, tree.entries);
}

#[test]
fn removed_files_leave_the_cache() {
    let fixture = Fixture::new();
    fixture.fill();
    fixture.write("other", "x");
    fixture.look(&[], &[]);
    assert_eq!(fixture.cached(), 101);
    fs::remove_file(fixture.path().join("many/7")).unwrap();
    // A look at a part knows nothing of the rest.
    fixture.look(&["many"], &[]);
    assert_eq!(fixture.cached(), 101);
    fixture.look(&[], &["other"]);
    assert_eq!(fixture.cached(), 100);
    fs::remove_file(fixture.path().join("other")).unwrap();
    fixture.look(&[], &[]);
    assert_eq!(fixture.cached(), 99);
}

#[test]
fn what_cannot_be_read_is_told() {
    let fixture = Fixture::new();
    let request = LocalRequest { folder: fixture.path().join("missing"), ..fixture.request(&[], &[]) };
    let error = scan(&fixture.store, &request, &Tally::default()).unwrap_err();
    assert!(matches!(&error, SourceError::Read { path, .. } if *path == request.folder), "{error}");
    assert_eq!(error.kind(), ErrorKind::Environment);
    let error = scan(&fixture.store, &fixture.request(&["["], &[]), &Tally::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input);
}

#[test]
fn depth_costs_no_stack() {
    let fixture = Fixture::new();
    let mut folder =
        rustix::fs::open(fixture.path(), rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
    for _ in 0..3000 {
        rustix::fs::mkdirat(&folder, "d", rustix::fs::Mode::RWXU).unwrap();
        let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        folder = rustix::fs::openat(&folder, "d", flags, rustix::fs::Mode::empty()).unwrap();
    }
    let error = scan(&fixture.store, &fixture.request(&[], &[]), &Tally::default()).unwrap_err();
    assert!(matches!(error, SourceError::Read { .. }), "{error}");
    drop(folder);
    fixture.store.remove_tree(&fixture.path()).unwrap();
}

#[test]
fn what_is_read_is_counted_and_what_is_known_is_not() {
    let fixture = Fixture::at(10);
    fixture.fill();
    let bytes: u64 = fs::read_dir(fixture.path().join("many"))
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    let look = || {
        let tally = Tally::default();
        scan(&fixture.store, &fixture.request(&[], &[]), &tally).unwrap();
        tally.look()
    };
    let first = look();
    assert_eq!((first.files, first.all_files, first.bytes, first.all_bytes), (100, 100, bytes, bytes));
    assert_eq!(look(), rb_snapshot::Count::default());
    fixture.write("many/7", "changed");
    let third = look();
    assert_eq!((third.files, third.all_files, third.bytes, third.all_bytes), (1, 0, 7, 0));
}

#[test]
fn the_key_of_a_part_is_that_of_what_is_taken_as_seen_from_there() {
    let fixture = Fixture::new();
    for path in ["d/a", "d/in/b", "d-/c", "d.x", "e/a", "e/in/b"] {
        fixture.write(path, "1");
    }
    let all = |_: &Path| true;
    let tree = fixture.look(&[], &[]);
    let part = |tree: &LocalTree, base: &str| tree.key_of_part(Path::new(base), all);
    assert_eq!(part(&tree, ""), tree.content);
    assert_eq!(part(&tree, "d"), part(&tree, "e"));
    assert_eq!(part(&tree, "d/a"), part(&tree, "d.x"));
    assert_ne!(part(&tree, "d"), part(&tree, "d-"));
    assert_ne!(part(&tree, "d"), tree.key_of_part(Path::new("d"), |path| !path.ends_with("b")));
    fixture.write("e/in/b", "2");
    let later = fixture.look(&[], &[]);
    assert_eq!(part(&later, "d"), part(&tree, "d"));
    assert_ne!(part(&later, "e"), part(&tree, "e"));
}

#[test]
fn what_was_listed_shows_as_it_was_looked_at() {
    let fixture = Fixture::new();
    for path in ["one/f", "two/f", "one/x.rs", "one/y.rs"] {
        fixture.write(path, path);
    }
    let link = fixture.path().join("link");
    symlink("one", &link).unwrap();
    let tree = fixture.look(&[], &[]);
    fs::remove_file(&link).unwrap();
    symlink("two", &link).unwrap();
    fs::remove_file(fixture.path().join("one/x.rs")).unwrap();
    fixture.write("one/z.rs", "");
    let view = View::of_listing(fixture.path(), tree.listing.clone());
    let led = view.lookup("link/f", Follow::No).unwrap().unwrap();
    assert_eq!(led.path, Path::new("one/f"));
    assert_eq!(view.glob("link/*.rs").unwrap(), [Path::new("one/x.rs"), Path::new("one/y.rs")]);
    let removed = view.lookup("one/x.rs", Follow::No).unwrap().unwrap();
    assert!(view.open(&removed).is_err());
    // Of a folder that is gone nobody is told that nothing was in it.
    fs::remove_dir_all(fixture.path().join("one")).unwrap();
    let view = View::of_listing(fixture.path(), tree.listing.clone());
    let gone = view.glob("*/*.rs").unwrap_err();
    assert!(
        matches!(&gone, SnapshotError::ChangedDuringBuild { path } if path == Path::new("one")),
        "{gone:?}"
    );
}
