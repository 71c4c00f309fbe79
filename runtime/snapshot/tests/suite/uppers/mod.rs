//! The upper directory itself, byte for byte: what the editor leaves behind is what a mount would have left.
//!
//! Random layers are written as they lie on the disk: whiteouts, opaque directories, links of both kinds, set-id bits,
//! owners, attributes, pipes, devices, holes, names of any bytes. Then random operations are done twice, by the editor and by
//! file calls in a real overlay mount, and compared after each: the merged trees as our view and as the kernel sees them
//! (names, types, modes, owners, lengths, contents, device numbers, attributes, which names are one file, times), and at
//! the end both upper directories as they lie there, and the keys of both diffs. `tests/soak uppers` asks for more cases.
//!
//! Equal up to these freedoms:
//! * an opaque mark on a directory below which nothing shows: the kernel sets it on every new directory, we where it matters;
//! * overlay's other attributes (`origin`, `impure`), which are its own notes, and whiteouts being links of one another;
//! * times of what is written now are "now"; every other time is equal. Times of last access are not compared;
//! * the names of whiteouts that the kernel lists in a directory that only one layer has: looked up, they are not there;
//! * the inode numbers, and how the blocks of a file lie on the disk.

mod layers;
mod lines;
mod operations;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use proptest::prelude::*;
use rb_snapshot::{
    ContentDigest, ContentKey, CopyOptions, DriverKind, Editor, Follow, Manifest, SnapshotId, Snapshots,
    View, Xattrs, diff, layer_diff,
};
use rustix::fs::XattrFlags;

use self::layers::{CAPABILITY, Lying, OLD_NS, RIGHTS, everything, lay, layer, set_time};
use self::lines::{lines_of, lines_of_upper, lines_on_disk};
use self::operations::{Operation, World, operation};
use crate::kernel::Mounted;
use crate::support::{Fixture, cases, is_real_root};

/// Commits a layer that was written to its directory.
fn committed(
    snapshots: &Snapshots,
    parent: Option<(SnapshotId, ContentKey)>,
    layer: &[Lying],
    xattrs: Xattrs,
) -> (SnapshotId, ContentKey) {
    let active = snapshots.prepare(parent.map(|(id, _)| id)).unwrap();
    lay(active.upper(), layer, xattrs, false);
    let changes = diff(&active).unwrap();
    snapshots.commit(active, &changes, parent.map_or(ContentKey::empty(), |(_, content)| content)).unwrap()
}

fn compare(
    xattrs: Xattrs,
    layers: &[Vec<Lying>],
    material: &[Lying],
    operations: &[Operation],
) -> Result<Option<usize>, TestCaseError> {
    let fixture = Fixture::new();
    let snapshots = Snapshots::with_xattrs(fixture.store.clone(), DriverKind::Overlay, xattrs);
    let directory = tempfile::tempdir().unwrap();
    lay(directory.path(), material, xattrs, true);
    let from = View::of_directory(directory.path());
    let mut digests = BTreeMap::new();
    for path in everything(directory.path()) {
        let full = directory.path().join(&path);
        if fs::symlink_metadata(&full).unwrap().is_file() {
            digests.insert(path, ContentDigest::of(fs::read(&full).unwrap()));
        }
    }

    // An earlier copy of the material, which later ones take over.
    let earlier = snapshots.prepare(None).unwrap();
    let verify = |path: &Path| digests.get(path).copied();
    let options = CopyOptions { dir_copy_contents: true, verify: Some(&verify), ..CopyOptions::default() };
    Editor::new(&earlier).unwrap().copy(&from, "/", "/", &options).unwrap();
    let changes = diff(&earlier).unwrap();
    earlier.keep_manifest(&Manifest::of(&changes, true)).unwrap();
    let (earlier, _) = snapshots.commit(earlier, &changes, ContentKey::empty()).unwrap();
    let reuse = snapshots.reuse(earlier).unwrap().unwrap();
    let untouched = layer_diff(&snapshots.directory(earlier)).unwrap();

    let mut parent = None;
    for layer in layers {
        parent = Some(committed(&snapshots, parent, layer, xattrs));
    }
    let (parent, content) = parent.unwrap();
    let (ours, theirs) = (snapshots.prepare(Some(parent)).unwrap(), snapshots.prepare(Some(parent)).unwrap());
    let lowers = View::new(ours.lowers().to_vec());
    let editor = Editor::new(&ours).unwrap();
    let Some(mounted) = Mounted::new(theirs.lowers(), Some((theirs.upper(), theirs.work())), xattrs) else {
        return Ok(None);
    };
    let world = World {
        mounted: &mounted,
        material: directory.path().to_owned(),
        from,
        reuse: &reuse,
        digests: &digests,
    };
    prop_assert_eq!(lines_on_disk(&mounted.path(), false), lines_of(&editor.view()), "the layers alone");

    let mut done = 0;
    for operation in operations {
        if !world.by_kernel(operation) {
            continue;
        }
        done += 1;
        if let Err(error) = world.by_editor(&editor, operation) {
            return Err(TestCaseError::fail(format!("{operation:?} is refused: {error:?}")));
        }
        prop_assert_eq!(
            lines_on_disk(&mounted.path(), false),
            lines_of(&editor.view()),
            "after {:?}",
            operation
        );
    }

    let (our_diff, their_diff) = (diff(&ours).unwrap(), diff(&theirs).unwrap());
    prop_assert_eq!(our_diff.content_key(content), their_diff.content_key(content));
    let expected = lines_on_disk(&mounted.path(), false);
    drop(mounted);
    prop_assert_eq!(lines_of_upper(theirs.upper(), &lowers), lines_of_upper(ours.upper(), &lowers));
    prop_assert_eq!(
        untouched,
        layer_diff(&snapshots.directory(earlier)).unwrap(),
        "what is linked was written to"
    );
    // And the kernel reads ours as it reads its own.
    if let Some(remounted) = Mounted::new(ours.lowers(), Some((ours.upper(), ours.work())), xattrs) {
        prop_assert_eq!(lines_on_disk(&remounted.path(), false), expected);
    }
    Ok(Some(done))
}

#[test]
fn random_layers_and_operations() {
    if !is_real_root() {
        return;
    }
    let config = ProptestConfig {
        cases: cases(64),
        failure_persistence: None,
        max_shrink_iters: 3000,
        ..ProptestConfig::default()
    };
    let strategy = (
        prop::collection::vec(layer(), 1..5),
        layer(),
        prop::collection::vec(operation(), 1..16),
        any::<bool>(),
    );
    let (done, given) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let started = Instant::now();
    let result = proptest::test_runner::TestRunner::new(config).run(
        &strategy,
        |(layers, material, operations, user)| {
            let xattrs = if user { Xattrs::User } else { Xattrs::Trusted };
            let count = compare(xattrs, &layers, &material, &operations)?;
            done.set(done.get() + count.unwrap_or(0));
            given.set(given.get() + operations.len());
            Ok(())
        },
    );
    let elapsed = started.elapsed();
    eprintln!("{} of {} operations in {elapsed:?}", done.get(), given.get());
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// A snapshot on a layer that `make` wrote, all of it long ago.
fn on_a_layer(make: impl FnOnce(&Path)) -> (Fixture, rb_snapshot::Active) {
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let active = snapshots.prepare(None).unwrap();
    make(active.upper());
    lay(active.upper(), &[], Xattrs::Trusted, false);
    let changes = diff(&active).unwrap();
    let (id, _) = snapshots.commit(active, &changes, ContentKey::empty()).unwrap();
    let active = snapshots.prepare(Some(id)).unwrap();
    (fixture, active)
}

#[test]
fn what_is_brought_up_leaves_the_times_around_it() {
    let (_fixture, active) = on_a_layer(|root| {
        fs::create_dir_all(root.join("usr/local/bin")).unwrap();
        fs::write(root.join("usr/file"), "x").unwrap();
    });
    let editor = Editor::new(&active).unwrap();
    editor.mkfile("/usr/local/bin/tool", 0o755, b"", None, None).unwrap();
    editor.set_metadata("/usr/file", Some(0o600), None, None).unwrap();
    let lines = lines_of(&editor.view());
    let is_new = |path: &str| lines[Path::new(path)].ends_with("now");
    assert_eq!(
        ["", "usr", "usr/local", "usr/local/bin"].map(is_new),
        [false, false, false, true],
        "{lines:#?}"
    );
}

#[test]
fn a_file_below_that_is_emptied_is_changed() {
    let (_fixture, active) = on_a_layer(|root| {
        fs::write(root.join("empty"), "").unwrap();
        set_time(&root.join("empty"), Some(OLD_NS));
        // Where capabilities cannot be set there is none to lose.
        rustix::fs::setxattr(root.join("empty"), "security.capability", CAPABILITY, XattrFlags::empty()).ok();
    });
    let editor = Editor::new(&active).unwrap();
    editor.mkfile("/empty", 0o644, b"", None, None).unwrap();
    let lines = lines_of(&editor.view());
    assert!(lines[Path::new("empty")].ends_with("0:0 now"), "{lines:#?}");
}

#[test]
fn rights_that_directories_give_reach_no_copies() {
    let give = |path: &Path| {
        let given = rustix::fs::setxattr(path, "system.posix_acl_default", RIGHTS, XattrFlags::empty());
        given.inspect_err(|error| eprintln!("stepping aside: no access control lists here: {error}")).is_ok()
    };
    let source = tempfile::tempdir().unwrap();
    fs::create_dir_all(source.path().join("d/s")).unwrap();
    fs::write(source.path().join("d/f"), "x").unwrap();
    if !give(&source.path().join("d")) {
        return;
    }
    let (_fixture, active) = on_a_layer(|root| {
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/f"), "x").unwrap();
        give(&root.join("a"));
    });
    let editor = Editor::new(&active).unwrap();
    let from = View::of_directory(source.path());
    editor.copy(&from, "/d", "/d", &CopyOptions::default()).unwrap();
    // Both are brought up into a directory that gives rights.
    editor.set_metadata("/a/b", Some(0o700), None, None).unwrap();
    editor.set_metadata("/a/f", Some(0o600), None, None).unwrap();
    let view = editor.view();
    let attributes =
        |path: &str| view.xattrs(&view.lookup(path, Follow::No).unwrap().unwrap()).unwrap().len();
    assert_eq!(["d", "d/s", "d/f", "a", "a/b", "a/f"].map(attributes), [1, 0, 0, 1, 0, 0]);
}
