//! The kernel's overlayfs as the judge: what the editor writes is what a mount would have written.
//!
//! Random operations are done twice on the same two layers: by the editor, and by ordinary file calls in a real overlay
//! mount. The merged trees must be equal, as our view and as the kernel see them, and so must be the keys of both diffs.

use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rb_snapshot::{
    Active, ChangeKind, ContentKey, CopyOptions, DriverKind, Editor, Follow, Snapshots, View, Xattrs, diff,
};
use rustix::fs::{AtFlags, OFlags, ResolveFlags};

use crate::kernel::Mounted;
use crate::support::{Fixture, cases, commit, through_a_link, tree_of, tree_on_disk};

#[derive(Clone, Debug)]
enum Operation {
    Mkdir { path: String, mode: u32, parents: bool },
    Mkfile { path: String, data: String },
    Symlink { target: String, path: String },
    Remove { path: String },
    Chmod { path: String, mode: u32 },
    Copy { from: String, to: String, contents: bool },
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "d"]), 1..4)
        .prop_map(|names| names.join("/"))
}

fn operation() -> impl Strategy<Value = Operation> {
    let mode = prop::sample::select(vec![0o755_u32, 0o700, 0o711]);
    let target = prop_oneof![
        path(),
        path().prop_map(|path| format!("/{path}")),
        path().prop_map(|path| format!("../{path}")),
        Just("..".to_owned()),
    ];
    prop_oneof![
        3 => (path(), mode.clone(), any::<bool>())
            .prop_map(|(path, mode, parents)| Operation::Mkdir { path, mode, parents }),
        4 => (path(), "[xyz]{0,3}").prop_map(|(path, data)| Operation::Mkfile { path, data }),
        1 => (target, path()).prop_map(|(target, path)| Operation::Symlink { target, path }),
        4 => path().prop_map(|path| Operation::Remove { path }),
        1 => (path(), mode).prop_map(|(path, mode)| Operation::Chmod { path, mode }),
        3 => (path(), path(), any::<bool>())
            .prop_map(|(from, to, contents)| Operation::Copy { from, to, contents }),
    ]
}

/// What the copies come from.
fn material() -> (tempfile::TempDir, View) {
    crate::support::source(&[
        ("a/a", "1"),
        ("a/b/c", "22"),
        ("b", "333"),
        ("c/", ""),
        ("d/a", "4"),
        ("d/b/", ""),
        ("d/c/a/d", "55"),
        ("d/d", "->/a/b"),
    ])
}

fn by_editor(editor: &Editor<'_>, from: &View, operation: &Operation) -> bool {
    let options = |contents| CopyOptions {
        create_dest_path: true,
        dir_copy_contents: contents,
        ..CopyOptions::default()
    };
    match operation {
        Operation::Mkdir { path, mode, parents } => editor.mkdir(path, *mode, *parents, None, None).is_ok(),
        Operation::Mkfile { path, data } => editor.mkfile(path, 0o640, data.as_bytes(), None, None).is_ok(),
        Operation::Symlink { target, path } => editor.symlink(target, path, None, None).is_ok(),
        Operation::Remove { path } => editor.remove(path, false, false).is_ok(),
        Operation::Chmod { path, mode } => editor.set_metadata(path, Some(*mode), None, None).is_ok(),
        Operation::Copy { from: src, to, contents } => {
            editor.copy(from, src, to, &options(*contents)).is_ok()
        }
    }
}

/// The same by ordinary file calls in a mount. The kernel resolves every path, inside the mount. What the two sides may
/// answer differently (a path through a missing name, a dangling link) is refused here before anything is done.
struct ByKernel<'a> {
    mounted: &'a Mounted,
}

impl ByKernel<'_> {
    /// The real path of `path`, inside the mount; `None` if nothing is there.
    fn resolve(&self, path: &Path) -> Option<PathBuf> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let handle =
            rb_sys::resolve::open_resolved(self.mounted.root(), path, flags, ResolveFlags::IN_ROOT).ok()?;
        use std::os::fd::AsRawFd as _;
        // A detached mount shows paths from its own root.
        let shown = fs::read_link(format!("/proc/self/fd/{}", handle.as_raw_fd())).unwrap();
        Some(self.mounted.path().join(shown.strip_prefix("/").unwrap()))
    }

    /// The real path of a name that is free or taken by something that is no link, under a parent that exists.
    fn place(&self, path: &str) -> Option<PathBuf> {
        if let Some(existing) = self.resolve(Path::new(path)) {
            return Some(existing);
        }
        let path = Path::new(path);
        let parent = self.resolve(path.parent()?)?;
        let full = parent.join(path.file_name()?);
        (parent.is_dir() && fs::symlink_metadata(&full).is_err()).then_some(full)
    }

    fn can(&self, operation: &Operation, from: &Path) -> bool {
        match operation {
            Operation::Mkdir { path, parents: false, .. } => {
                self.place(path).is_some_and(|path| !is_file(&path))
            }
            Operation::Mkdir { path, .. } => self.all_places(path),
            Operation::Mkfile { path, .. } => self.place(path).is_some_and(|path| !path.is_dir()),
            Operation::Symlink { path, .. } => {
                self.place(path).is_some_and(|path| fs::symlink_metadata(path).is_err())
            }
            Operation::Remove { path } => {
                let path = Path::new(path);
                let parent = path.parent().and_then(|parent| self.resolve(parent));
                parent.is_some_and(|parent| {
                    fs::symlink_metadata(parent.join(path.file_name().unwrap())).is_ok()
                })
            }
            Operation::Chmod { path, .. } => self.resolve(Path::new(path)).is_some(),
            Operation::Copy { from: src, to, contents } => {
                // The editor resolves such a path inside the material, a file call here on this machine.
                if through_a_link(from, Path::new(src)) {
                    return false;
                }
                let source = from.join(src);
                let Ok(kind) = fs::symlink_metadata(&source) else { return false };
                // Nothing may be in the way of anything: compare kinds all the way down.
                self.all_places(to) && self.fits(&source, self.target(src, to, kind.is_dir(), *contents))
            }
        }
    }

    /// Whether every part of `path` is a directory, or nothing, so that it can be created.
    fn all_places(&self, path: &str) -> bool {
        let mut gone = false;
        Path::new(path).ancestors().collect::<Vec<_>>().into_iter().rev().all(|part| {
            if gone {
                return true;
            }
            match self.resolve(part) {
                Some(real) => real.is_dir(),
                None => {
                    gone = true;
                    self.place(part.to_str().unwrap()).is_some()
                }
            }
        })
    }

    /// Where a copy goes: a real path, or one whose parents are still to be made.
    fn target(&self, src: &str, to: &str, is_directory: bool, contents: bool) -> PathBuf {
        match self.resolve(Path::new(to)) {
            Some(existing) if is_directory && contents => existing,
            Some(existing) if is_directory || existing.is_dir() => {
                existing.join(Path::new(src).file_name().unwrap())
            }
            Some(existing) => existing,
            None => self.free(Path::new(to)),
        }
    }

    /// The real path of something whose parents may not exist.
    fn free(&self, path: &Path) -> PathBuf {
        match self.resolve(path) {
            Some(existing) => existing,
            None => self.free(path.parent().unwrap()).join(path.file_name().unwrap()),
        }
    }

    fn fits(&self, source: &Path, target: PathBuf) -> bool {
        let Ok(there) = fs::symlink_metadata(&target) else { return true };
        if !source.symlink_metadata().unwrap().is_dir() {
            return !there.is_dir();
        }
        there.is_dir()
            && fs::read_dir(source).unwrap().all(|entry| {
                let entry = entry.unwrap();
                self.fits(&entry.path(), target.join(entry.file_name()))
            })
    }

    fn perform(&self, operation: &Operation, from: &Path) {
        match operation {
            Operation::Mkdir { path, mode, .. } => self.make_directories(Path::new(path), *mode),
            Operation::Mkfile { path, data } => {
                let path = self.place(path).unwrap();
                let existed = path.exists();
                let mut file =
                    fs::File::options().write(true).create(true).truncate(true).open(&path).unwrap();
                file.write_all(data.as_bytes()).unwrap();
                if !existed {
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
                }
            }
            Operation::Symlink { target, path } => {
                std::os::unix::fs::symlink(target, self.place(path).unwrap()).unwrap();
            }
            Operation::Remove { path } => {
                let path = Path::new(path);
                let full = self.resolve(path.parent().unwrap()).unwrap().join(path.file_name().unwrap());
                if fs::symlink_metadata(&full).unwrap().is_dir() {
                    fs::remove_dir_all(full).unwrap();
                } else {
                    fs::remove_file(full).unwrap();
                }
            }
            Operation::Chmod { path, mode } => {
                let path = self.resolve(Path::new(path)).unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(*mode)).unwrap();
            }
            Operation::Copy { from: src, to, contents } => {
                let source = from.join(src);
                let is_directory = fs::symlink_metadata(&source).unwrap().is_dir();
                let target = self.target(src, to, is_directory, *contents);
                let existed = self.resolve(Path::new(to)).is_some();
                if is_directory && *contents && !existed {
                    fs::create_dir_all(&target).unwrap();
                } else {
                    fs::create_dir_all(target.parent().unwrap()).unwrap();
                }
                copy(&source, &target, true);
            }
        }
    }

    fn make_directories(&self, path: &Path, mode: u32) {
        if self.resolve(path).is_some() {
            return;
        }
        self.make_directories(path.parent().unwrap(), mode);
        let path = self.resolve(path.parent().unwrap()).unwrap().join(path.file_name().unwrap());
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn is_file(path: &Path) -> bool {
    path.exists() && !path.is_dir()
}

fn copy(source: &Path, target: &Path, start: bool) {
    let metadata = fs::symlink_metadata(source).unwrap();
    if metadata.is_dir() {
        let existed = target.exists();
        if !existed {
            fs::create_dir(target).unwrap();
        }
        if !existed || !start {
            fs::set_permissions(target, metadata.permissions()).unwrap();
        }
        for entry in fs::read_dir(source).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &target.join(entry.file_name()), false);
        }
        let times = fs::FileTimes::new().set_modified(metadata.modified().unwrap());
        fs::File::open(target).unwrap().set_times(times).unwrap();
        return;
    }
    if fs::symlink_metadata(target).is_ok() {
        fs::remove_file(target).unwrap();
    }
    if metadata.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(source).unwrap(), target).unwrap();
    } else {
        fs::copy(source, target).unwrap();
    }
}

fn mount(active: &Active) -> Option<Mounted> {
    // An overlay needs a layer below.
    Mounted::new(active.lowers(), Some((active.upper(), active.work())), active.xattrs())
}

fn two_layers(
    snapshots: &Snapshots,
    from: &View,
    layers: &[Vec<Operation>; 2],
) -> (rb_snapshot::SnapshotId, ContentKey) {
    let lowest = commit(snapshots, None, |editor| {
        editor.mkfile("/base", 0o644, b"", None, None).unwrap();
        for operation in &layers[0] {
            by_editor(editor, from, operation);
        }
    });
    commit(snapshots, Some(lowest), |editor| {
        editor.mkfile("/base", 0o644, b"changed", None, None).unwrap();
        for operation in &layers[1] {
            by_editor(editor, from, operation);
        }
    })
}

fn equals_a_mount(
    fixture: &Fixture,
    xattrs: Xattrs,
    layers: &[Vec<Operation>; 2],
    operations: &[Operation],
) -> Result<bool, TestCaseError> {
    let snapshots = Snapshots::with_xattrs(fixture.store.clone(), DriverKind::Overlay, xattrs);
    let (material_directory, from) = material();
    let (parent, content) = two_layers(&snapshots, &from, layers);

    let ours = snapshots.prepare(Some(parent)).unwrap();
    let theirs = snapshots.prepare(Some(parent)).unwrap();
    let whole = fixture.snapshots(DriverKind::Copy).prepare(Some(parent)).unwrap();
    let editor = Editor::new(&ours).unwrap();
    let whole_editor = Editor::new(&whole).unwrap();
    let Some(mounted) = mount(&theirs) else { return Ok(false) };
    let kernel = ByKernel { mounted: &mounted };
    // The kernel sees the two layers below as our view does.
    prop_assert_eq!(tree_on_disk(&mounted.path()), without_links(tree_of(&editor.view())));

    let mut done = 0;
    for operation in operations {
        if !kernel.can(operation, material_directory.path()) {
            continue;
        }
        done += 1;
        prop_assert!(by_editor(&editor, &from, operation), "refused: {:?}", operation);
        prop_assert!(by_editor(&whole_editor, &from, operation), "refused by copy: {:?}", operation);
        kernel.perform(operation, material_directory.path());
        let expected = tree_on_disk(&mounted.path());
        prop_assert_eq!(&expected, &without_links(tree_of(&editor.view())), "after {:?}", operation);
        prop_assert_eq!(
            &expected,
            &without_links(tree_of(&whole_editor.view())),
            "copy, after {:?}",
            operation
        );
    }

    let (our_diff, their_diff) = (diff(&ours).unwrap(), diff(&theirs).unwrap());
    let kinds = |diff: &rb_snapshot::Diff| -> Vec<_> {
        diff.changes.iter().map(|change| (change.path.clone(), change.kind.clone())).collect()
    };
    prop_assert_eq!(kinds(&our_diff), kinds(&their_diff));
    prop_assert_eq!(our_diff.content_key(content), their_diff.content_key(content));

    eprintln!("{done} of {} operations", operations.len());
    // A comparison of whole trees finds the same deletions.
    let deleted = |diff: &rb_snapshot::Diff| -> Vec<PathBuf> {
        let gone = diff.changes.iter().filter(|change| change.kind == ChangeKind::Whiteout);
        gone.map(|change| change.path.clone()).collect()
    };
    prop_assert_eq!(deleted(&our_diff), deleted(&diff(&whole).unwrap()));

    // The kernel reads our upper directory as it reads its own.
    let expected = tree_on_disk(&mounted.path());
    drop(mounted);
    let Some(remounted) = mount(&ours) else { return Ok(false) };
    prop_assert_eq!(tree_on_disk(&remounted.path()), expected);
    Ok(true)
}

/// Hard links are not written down on the other side.
fn without_links(mut tree: crate::support::Tree) -> crate::support::Tree {
    for node in tree.values_mut() {
        if let Some((body, _)) = node.body.split_once("\" = ") {
            node.body = format!("{body}\"");
        }
    }
    tree
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(96), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_operations(
        first in prop::collection::vec(operation(), 4..16),
        second in prop::collection::vec(operation(), 2..12),
        operations in prop::collection::vec(operation(), 1..24),
        user in any::<bool>(),
    ) {
        let fixture = Fixture::new();
        let xattrs = if user { Xattrs::User } else { Xattrs::Trusted };
        equals_a_mount(&fixture, xattrs, &[first, second], &operations)?;
    }
}

#[test]
fn deletions_and_replacements() {
    let mkdir = |path: &str| Operation::Mkdir { path: path.to_owned(), mode: 0o755, parents: true };
    let mkfile = |path: &str| Operation::Mkfile { path: path.to_owned(), data: "x".to_owned() };
    let remove = |path: &str| Operation::Remove { path: path.to_owned() };
    let copy =
        |from: &str, to: &str| Operation::Copy { from: from.to_owned(), to: to.to_owned(), contents: true };
    let first = vec![mkdir("a/b/c"), mkfile("a/b/c/f"), mkfile("a/f"), mkdir("d"), mkfile("d/f")];
    let second = vec![remove("a/b"), mkdir("a/b"), mkfile("a/b/new"), mkdir("d/e")];
    let cases = [
        vec![remove("a"), mkdir("a/b/c"), mkfile("a/b/c/f")],
        vec![remove("a"), mkfile("a"), remove("a"), mkdir("a/b")],
        vec![remove("d/f"), mkdir("d/f"), remove("d"), mkdir("d"), mkdir("d/e")],
        vec![remove("a/b/new"), remove("a/b"), remove("a/f"), remove("a")],
        vec![copy("d", "a"), remove("a/c"), copy("d", "a"), copy("d", "n/m")],
    ];
    let mut ran = 0;
    for xattrs in [Xattrs::Trusted, Xattrs::User] {
        for operations in &cases {
            let fixture = Fixture::new();
            let layers = [first.clone(), second.clone()];
            ran += usize::from(equals_a_mount(&fixture, xattrs, &layers, operations).unwrap());
        }
    }
    eprintln!("{ran} of {} compared with the kernel", 2 * cases.len());
}

#[test]
fn attributes_of_a_step_are_read_from_its_upper_directory() {
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let parent = commit(&snapshots, None, |editor| {
        editor.mkdir("/d", 0o755, true, None, None).unwrap();
        editor.mkfile("/d/a", 0o644, b"one", None, None).unwrap();
    });
    let active = snapshots.prepare(Some(parent.0)).unwrap();
    let Some(mounted) = mount(&active) else { return };
    let path = mounted.path();
    fs::hard_link(path.join("d/a"), path.join("d/b")).unwrap();
    fs::write(path.join("d/c"), "x").unwrap();
    std::os::unix::fs::chown(path.join("d/c"), Some(12), Some(13)).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path.join("d/c"), "user.note", b"n", flags).unwrap();
    rustix::fs::unlinkat(rustix::fs::CWD, path.join("d/a"), AtFlags::empty()).unwrap();
    let expected = tree_on_disk(&path);
    drop(mounted);
    let diff = diff(&active).unwrap();
    let said: Vec<String> =
        diff.changes.iter().map(|change| format!("{} {:?}", change.path.display(), change.kind)).collect();
    assert_eq!(said.len(), 4, "{said:?}");
    assert!(said[1].ends_with("Whiteout"), "{said:?}");
    let last = diff.changes[3].metadata.as_ref().unwrap();
    assert_eq!((last.uid, last.gid, last.xattrs.len()), (12, 13, 1));
    let (id, _) = snapshots.commit(active, &diff, parent.1).unwrap();
    let view = snapshots.view(Some(id)).unwrap();
    let names: Vec<PathBuf> = tree_of(&view).into_keys().collect();
    assert_eq!(names, expected.into_keys().collect::<Vec<_>>());
    let entry = view.lookup("d/b", Follow::No).unwrap().unwrap();
    assert_eq!(entry.metadata.size_bytes, 3);
    assert!(fs::metadata(active_path(&snapshots, id)).unwrap().nlink() >= 2);
    assert!(entry.path.as_os_str().as_bytes() == b"d/b");
}

fn active_path(snapshots: &Snapshots, id: rb_snapshot::SnapshotId) -> PathBuf {
    snapshots.directory(id)
}
