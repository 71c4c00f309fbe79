//! What users' trees are made of: very many files, holes, pipes, long names, and files that change while they are copied.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rb_snapshot::{
    ContentDigest, ContentKey, CopyOptions, DriverKind, Editor, Follow, Listing, Manifest, View, diff,
};

use crate::support::{Error, Fixture, asked};

/// Copies all of `from` into a new snapshot, as the user's own files are copied.
fn contents<'a>(verify: rb_snapshot::Verify<'a>) -> CopyOptions<'a> {
    CopyOptions {
        dir_copy_contents: true,
        normalise_modes: true,
        owner: Some((0, 0)),
        verify: Some(verify),
        ..CopyOptions::default()
    }
}

/// Copies a folder of `count` files, then again over the first; returns how long all of it took.
fn folder_of(count: usize) -> std::time::Duration {
    let directory = tempfile::tempdir().unwrap();
    for number in 0..count {
        fs::File::create(directory.path().join(number.to_string())).unwrap();
    }
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let from = View::of_directory(directory.path());
    let empty = ContentDigest::of("");
    let verify = |_: &Path| Some(empty);

    let started = Instant::now();
    from.content_digest("", Follow::No).unwrap();
    let first = snapshots.prepare(None).unwrap();
    Editor::new(&first).unwrap().copy(&from, "/", "/", &contents(&verify)).unwrap();
    let changes = diff(&first).unwrap();
    assert_eq!(changes.changes.iter().filter(|change| !change.path.as_os_str().is_empty()).count(), count);
    first.keep_manifest(&Manifest::of(&changes, true)).unwrap();
    let (first, key) = snapshots.commit(first, &changes, ContentKey::empty()).unwrap();

    let reuse = snapshots.reuse(first).unwrap().unwrap();
    let second = snapshots.prepare(None).unwrap();
    let options = CopyOptions { reuse: Some(&reuse), ..contents(&verify) };
    Editor::new(&second).unwrap().copy(&from, "/", "/", &options).unwrap();
    assert!(fs::metadata(second.upper().join("0")).unwrap().nlink() > 1, "the second copy is linked");
    assert_eq!(diff(&second).unwrap().content_key(ContentKey::empty()), key);

    // Over files of the layer below, and away again.
    let third = snapshots.prepare(Some(first)).unwrap();
    let editor = Editor::new(&third).unwrap();
    editor.copy(&from, "/", "/", &contents(&verify)).unwrap();
    editor.remove("/*", false, true).unwrap();
    let gone = diff(&third).unwrap().changes;
    assert_eq!(gone.iter().filter(|change| !change.path.as_os_str().is_empty()).count(), count);
    started.elapsed()
}

/// `tests/soak many` asks for the 100,000 that a user may have.
#[test]
fn a_folder_of_very_many_files_costs_by_the_file() {
    let count = asked("RB_MANY_FILES").unwrap_or(6000);
    let few = folder_of(count / 8);
    let many = folder_of(count);
    eprintln!("{} files: {few:?}, {count} files: {many:?}", count / 8);
    // Were it quadratic, it would be 64 times as long.
    assert!(many < few * 30, "{few:?} {many:?}");
}

#[test]
fn holes_stay_holes_all_the_way() {
    let directory = tempfile::tempdir().unwrap();
    let file = fs::File::create(directory.path().join("sparse")).unwrap();
    file.write_all_at(b"begin", 0).unwrap();
    file.write_all_at(b"middle", 5 << 20).unwrap();
    file.set_len(32 << 20).unwrap();
    if file.metadata().unwrap().blocks() * 512 > 1 << 20 {
        eprintln!("stepping aside: this filesystem has no holes");
        return;
    }
    let bytes = fs::read(directory.path().join("sparse")).unwrap();
    let known = ContentDigest::of(&bytes);
    let from = View::of_directory(directory.path());
    for driver in [DriverKind::Overlay, DriverKind::Copy] {
        for checked in [false, true] {
            let fixture = Fixture::new();
            let snapshots = fixture.snapshots(driver);
            let active = snapshots.prepare(None).unwrap();
            let verify = |_: &Path| checked.then_some(known);
            Editor::new(&active).unwrap().copy(&from, "/", "/", &contents(&verify)).unwrap();
            let changes = diff(&active).unwrap();
            assert!(changes.size_bytes < 1 << 20, "{} bytes are counted", changes.size_bytes);
            let (id, _) = snapshots.commit(active, &changes, ContentKey::empty()).unwrap();
            // Brought up, cloned: a copy of the copy.
            let active = snapshots.prepare(Some(id)).unwrap();
            let editor = Editor::new(&active).unwrap();
            editor.set_metadata("/sparse", Some(0o600), None, None).unwrap();
            let made = active.upper().join("sparse");
            assert!(fs::metadata(&made).unwrap().blocks() * 512 < 1 << 20, "the holes were filled");
            assert!(fs::read(&made).unwrap() == bytes);
        }
    }
}

/// As BuildKit's file backend: pipes are pipes; what is left of a socket is its name.
#[test]
fn pipes_and_sockets_of_a_tree() {
    let directory = tempfile::tempdir().unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o640);
    let pipe = directory.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(directory.path().join("socket")).unwrap();
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let active = snapshots.prepare(None).unwrap();
    let from = View::of_directory(directory.path());
    let options = CopyOptions { dir_copy_contents: true, ..CopyOptions::default() };
    Editor::new(&active).unwrap().copy(&from, "/", "/", &options).unwrap();
    assert!(fs::symlink_metadata(active.upper().join("pipe")).unwrap().file_type().is_fifo());
    let socket = fs::symlink_metadata(active.upper().join("socket")).unwrap();
    assert!(socket.is_file() && socket.len() == 0);
}

#[test]
fn the_longest_names_and_deepest_folders_arrive() {
    let directory = tempfile::tempdir().unwrap();
    // 255 bytes a name, and a path longer than the kernel takes at once.
    let name = std::ffi::OsStr::from_bytes(&[&b"\n\xff"[..], &[b'x'; 253]].concat()).to_owned();
    let mut path = PathBuf::new();
    let mut at = rustix::fs::open(
        directory.path(),
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    for _ in 0..20 {
        rustix::fs::mkdirat(&at, &name, rustix::fs::Mode::RWXU).unwrap();
        at = rustix::fs::openat(
            &at,
            &name,
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
        path.push(&name);
    }
    assert!(path.as_os_str().len() > 4096);
    let create = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    rustix::fs::openat(&at, &name, create, rustix::fs::Mode::RUSR).unwrap();
    drop(at);
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let active = snapshots.prepare(None).unwrap();
    let from = View::of_directory(directory.path());
    let options = CopyOptions { dir_copy_contents: true, ..CopyOptions::default() };
    let editor = Editor::new(&active).unwrap();
    editor.copy(&from, "/", "/", &options).unwrap();
    assert!(editor.view().lookup(path.join(&name), Follow::No).unwrap().is_some());
    assert_eq!(
        diff(&active).unwrap().changes.iter().filter(|change| change.path.starts_with(&name)).count(),
        21
    );
    // The folder is too deep to be removed by its path alone.
    editor.remove(&name, false, false).unwrap();
    fixture.store.remove_tree(&directory.keep()).unwrap();
}

/// Says so when it is dropped, however that comes.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Somebody writes to a file, or makes something else of it, while it is copied: the copy is what the key says, or it
/// is told.
#[test]
fn a_file_that_changes_while_it_is_copied_is_never_under_a_wrong_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let (one, two) = (vec![b'1'; 300_000], vec![b'2'; 300_000]);
    fs::write(&path, &one).unwrap();
    let known = ContentDigest::of(&one);
    let verify = |_: &Path| Some(known);
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let ended = AtomicBool::new(false);
    let (mut copied, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0_usize;
            while !ended.load(Ordering::Relaxed) {
                round += 1;
                let other = directory.path().join("other");
                match round % 4 {
                    // In place: lengths and names stay.
                    0 => fs::File::options().write(true).open(&path).unwrap().write_all_at(&two, 0).unwrap(),
                    1 => {
                        std::os::unix::fs::symlink("/etc/hostname", &other).unwrap();
                        fs::rename(&other, &path).unwrap();
                    }
                    2 => {
                        let mode = rustix::fs::Mode::RUSR;
                        let kind = rustix::fs::FileType::Fifo;
                        rustix::fs::mknodat(rustix::fs::CWD, &other, kind, mode, 0).unwrap();
                        fs::rename(&other, &path).unwrap();
                    }
                    _ => {}
                }
                fs::write(&other, &one).unwrap();
                fs::rename(&other, &path).unwrap();
                if round.is_multiple_of(3) {
                    std::thread::yield_now();
                }
            }
        });
        let _ended = Ends(&ended);
        for _ in 0..150 {
            // The walk looked at the file when it was one; now it is copied.
            let Ok(Some(found)) = View::of_directory(directory.path()).lookup("file", Follow::No) else {
                continue;
            };
            let listing = Listing::new(vec![(PathBuf::from("file"), found.metadata)]);
            let from = View::of_listing(directory.path(), listing);
            let active = snapshots.prepare(None).unwrap();
            match Editor::new(&active).unwrap().copy(&from, "/", "/", &contents(&verify)) {
                Ok(_) => match fs::symlink_metadata(active.upper().join("file")) {
                    Ok(made) if made.is_file() => {
                        assert!(fs::read(active.upper().join("file")).unwrap() == one);
                        copied += 1;
                    }
                    made => panic!("{made:?} was copied for a file"),
                },
                Err(Error::ChangedDuringBuild { .. }) => refused += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
    });
    eprintln!("{copied} copied, {refused} refused");
    assert!(copied > 0);
}
