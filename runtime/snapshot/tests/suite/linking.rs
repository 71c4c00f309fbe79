//! What a copy takes over from an earlier layer: the same tree as if all had been copied, and the earlier layer stays.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use rb_snapshot::{
    Active, Change, ContentDigest, ContentKey, CopyOptions, Diff, DriverKind, Editor, LayerEntry,
    LayerMetadata, Manifest, Reuse, SnapshotId, Snapshots, View, diff, layer_diff,
};

use crate::sealing::is_served;
use crate::support::Fixture;

/// A thing in the user's folder.
#[derive(Clone, Debug)]
enum Thing {
    File { content: u8, length: usize, mode: u32, seconds: u64, attribute: bool },
    Symlink(u8),
    HardLink(usize),
    Nothing,
}

/// In the middle one as long as a name can be.
const NAMES: [&[u8]; 9] =
    [b"a", b"b.c", b"d/e", b"d/f\n", &[b'n'; 255], b"d/g/\xff\xfe", b"d/g/h", b"x/y/z", b"x/.wh.q"];

fn thing() -> impl Strategy<Value = Thing> {
    let modes = prop::sample::select(vec![0o644, 0o755, 0o600, 0o4711]);
    let file = (0..3_u8, 0..3_usize, modes, 0..2_u64, prop::bool::weighted(0.2));
    prop_oneof![
        6 => file.prop_map(|(content, length, mode, seconds, attribute)| {
            Thing::File { content, length: length * 3000, mode, seconds, attribute }
        }),
        1 => (0..2_u8).prop_map(Thing::Symlink),
        1 => (0..NAMES.len()).prop_map(Thing::HardLink),
        2 => Just(Thing::Nothing),
    ]
}

fn things() -> impl Strategy<Value = Vec<Thing>> {
    prop::collection::vec(thing(), NAMES.len())
}

fn path(index: usize) -> &'static Path {
    Path::new(OsStr::from_bytes(NAMES[index]))
}

/// Makes the folder anew, so that no inode says anything.
fn make(things: &[Thing]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (index, thing) in things.iter().enumerate() {
        let at = folder.path().join(path(index));
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        match thing {
            Thing::File { content, length, mode, seconds, attribute } => {
                fs::write(&at, vec![*content; *length]).unwrap();
                fs::set_permissions(&at, fs::Permissions::from_mode(*mode)).unwrap();
                if *attribute {
                    let flags = rustix::fs::XattrFlags::empty();
                    // Where the file system has none, this is one case fewer.
                    rustix::fs::setxattr(&at, "user.note", &[*content], flags).ok();
                }
                let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds);
                File::open(&at).unwrap().set_times(FileTimes::new().set_modified(modified)).unwrap();
            }
            Thing::Symlink(target) => symlink(target.to_string(), &at).unwrap(),
            Thing::HardLink(other) => {
                let other = folder.path().join(path(*other));
                if fs::symlink_metadata(&other).is_ok_and(|metadata| metadata.is_file()) {
                    fs::hard_link(other, &at).unwrap();
                }
            }
            Thing::Nothing => {}
        }
    }
    for directory in ["d/g", "d", "x/y", "x", ""] {
        if let Ok(directory) = File::open(folder.path().join(directory)) {
            let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(7));
            directory.set_times(times).unwrap();
        }
    }
    folder
}

/// What the stat cache would say of a folder.
fn digests(folder: &Path) -> BTreeMap<PathBuf, ContentDigest> {
    let mut digests = BTreeMap::new();
    for index in 0..NAMES.len() {
        let at = folder.join(path(index));
        if fs::symlink_metadata(&at).is_ok_and(|metadata| metadata.is_file()) {
            digests.insert(path(index).to_owned(), ContentDigest::of(fs::read(at).unwrap()));
        }
    }
    digests
}

fn copied(active: &Active, folder: &Path, like: &CopyOptions<'_>, reuse: Option<&Reuse>) {
    let digests = digests(folder);
    let verify = |path: &Path| digests.get(path).copied();
    let options = CopyOptions {
        dir_copy_contents: true,
        create_dest_path: true,
        verify: Some(&verify),
        reuse,
        ..like.clone()
    };
    let view = View::of_directory(folder);
    Editor::new(active).unwrap().copy(&view, "/", "/top/in", &options).unwrap();
}

/// All that decides the tree, without the root and the time of the directory that nobody gives one.
fn changes(diff: &Diff) -> Vec<Change> {
    let mut changes = diff.changes.clone();
    changes.retain(|change| !change.path.as_os_str().is_empty());
    for change in changes.iter_mut().filter(|change| change.path.ends_with("top")) {
        change.metadata.as_mut().unwrap().modified_ns = 0;
    }
    changes
}

fn kept(snapshots: &Snapshots, active: Active) -> (SnapshotId, Reuse) {
    let diff = diff(&active).unwrap();
    active.keep_manifest(&Manifest::of(&diff, true)).unwrap();
    let (id, _) = snapshots.commit(active, &diff, ContentKey::empty()).unwrap();
    (id, snapshots.reuse(id).unwrap().expect("has a manifest"))
}

/// Says whether another process finds a snapshot as it was committed.
fn is_whole(snapshots: &Snapshots, id: SnapshotId) -> bool {
    let key = snapshots.store().snapshot(id).unwrap().unwrap().content_key.unwrap();
    is_served(snapshots, ContentKey::from_bytes(key))
}

/// How many files of an upper directory are those of another layer.
fn linked(active: &Active) -> usize {
    let entries = View::of_directory(active.upper()).walk("").unwrap();
    let inodes = entries.map(Result::unwrap).filter(|entry| !entry.metadata.is_directory());
    let mut names: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for entry in inodes {
        names.entry(entry.metadata.inode).or_insert((entry.metadata.links, 0)).1 += 1;
    }
    names.into_values().filter(|(links, here)| links > here).count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_linked_tree_is_the_copied_tree(
        before in things(),
        after in things(),
        keep in prop::collection::vec(any::<bool>(), NAMES.len()),
        normalise_modes in any::<bool>(),
        timestamp in prop::option::of(Just(1_500_000_000_000_000_000)),
        owner in prop::option::of(Just((0, 0))),
        mode in prop::option::of(Just(0o640)),
    ) {
        let after: Vec<Thing> = before.iter().zip(after).zip(keep)
            .map(|((before, after), keep)| if keep { before.clone() } else { after }).collect();
        let fixture = Fixture::new();
        let snapshots = fixture.snapshots(DriverKind::Overlay);
        let like = CopyOptions { normalise_modes, timestamp, owner, mode, ..CopyOptions::default() };
        let (old, new) = (make(&before), make(&after));
        let first = snapshots.prepare(None).unwrap();
        copied(&first, old.path(), &like, None);
        let (first, reuse) = kept(&snapshots, first);
        prop_assert!(is_whole(&snapshots, first));
        let untouched = layer_diff(&snapshots.directory(first)).unwrap();

        let (linking, copying) = (snapshots.prepare(None).unwrap(), snapshots.prepare(None).unwrap());
        copied(&linking, new.path(), &like, Some(&reuse));
        copied(&copying, new.path(), &like, None);
        let known = diff(&linking).unwrap();
        let expected = changes(&layer_diff(copying.upper()).unwrap());
        prop_assert_eq!(changes(&known), expected.clone());
        // What the editor knows is what is there.
        prop_assert_eq!(changes(&diff(&copying).unwrap()), expected.clone());
        prop_assert_eq!(changes(&layer_diff(linking.upper()).unwrap()), expected);
        prop_assert_eq!(
            known.content_key(ContentKey::empty()),
            diff(&copying).unwrap().content_key(ContentKey::empty())
        );
        prop_assert_eq!(linked(&copying), 0);

        // A third layer takes over what the second took over.
        let (second, reuse) = kept(&snapshots, linking);
        prop_assert!(is_whole(&snapshots, second));
        let third = snapshots.prepare(None).unwrap();
        copied(&third, new.path(), &like, Some(&reuse));
        prop_assert_eq!(changes(&diff(&third).unwrap()), changes(&layer_diff(third.upper()).unwrap()));
        // The first goes; what it shared stays.
        if second != first {
            let before = layer_diff(&snapshots.directory(second)).unwrap();
            prop_assert_eq!(&untouched, &layer_diff(&snapshots.directory(first)).unwrap());
            snapshots.remove(first).unwrap();
            prop_assert_eq!(before, layer_diff(&snapshots.directory(second)).unwrap());
        }
    }
}

fn file(content: u8) -> Thing {
    Thing::File { content, length: 100, mode: 0o644, seconds: 0, attribute: false }
}

/// A layer of files, and a second one that took all but the first of them over.
fn two_layers(snapshots: &Snapshots) -> (SnapshotId, Active) {
    let like = CopyOptions { normalise_modes: true, owner: Some((0, 0)), ..CopyOptions::default() };
    let mut things = vec![file(1); NAMES.len()];
    let active = snapshots.prepare(None).unwrap();
    copied(&active, make(&things).path(), &like, None);
    let (first, reuse) = kept(snapshots, active);
    things[0] = file(2);
    let active = snapshots.prepare(None).unwrap();
    copied(&active, make(&things).path(), &like, Some(&reuse));
    (first, active)
}

#[test]
fn what_is_unchanged_is_one_file_with_the_earlier_layer() {
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let (_, active) = two_layers(&snapshots);
    assert_eq!(linked(&active), NAMES.len() - 1);
    // Of two names in different layers, the diff of one layer knows only its own.
    assert!(
        diff(&active)
            .unwrap()
            .changes
            .iter()
            .all(|change| !matches!(change.kind, rb_snapshot::ChangeKind::HardLink { .. }))
    );
    // Under a view of both, too.
    let id = kept(&snapshots, active).0;
    let view = snapshots.view(Some(id)).unwrap();
    let whole =
        View::new([snapshots.layers(Some(id)).unwrap(), snapshots.layers(Some(id)).unwrap()].concat());
    let key = |view: &View| view.content_digest("/top/in", rb_snapshot::Follow::No).unwrap();
    assert_eq!(key(&view), key(&whole));
}

#[test]
fn no_editor_writes_to_a_file_of_another_layer() {
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let metadata =
        LayerMetadata { mode: 0o600, owner: Some((3, 4)), modified_ns: 9, xattrs: BTreeMap::new() };
    type Write<'a> = &'a dyn Fn(&Editor<'_>);
    let writers: [(&str, Write<'_>); 8] = [
        ("mkfile", &|editor| editor.mkfile("/top/in/b.c", 0o600, b"new", Some((1, 2)), Some(5)).unwrap()),
        ("metadata", &|editor| {
            editor.set_metadata("/top/in/b.c", Some(0o600), Some((1, 2)), Some(5)).unwrap();
        }),
        ("times", &|editor| editor.set_metadata("/top/in/b.c", None, None, Some(5)).unwrap()),
        ("remove", &|editor| editor.remove("/top/in/b.c", false, false).unwrap()),
        ("through a link", &|editor| {
            editor.symlink("in/b.c", "/top/l", None, None).unwrap();
            editor.mkfile("/top/l", 0o600, b"new", None, None).unwrap();
        }),
        ("a layer's file", &|editor| {
            editor.apply(Path::new("top/in/b.c"), LayerEntry::File(&mut &b"new"[..]), &metadata).unwrap();
        }),
        ("a layer's link", &|editor| {
            let link = LayerEntry::HardLink("top/in/b.c".into());
            editor.apply(Path::new("top/in/other"), link, &metadata).unwrap();
            editor.mkfile("/top/in/other", 0o600, b"new", None, Some(5)).unwrap();
        }),
        ("a copy", &|editor| {
            let from = make(&[Thing::Nothing, file(9)]);
            let options = CopyOptions { owner: Some((1, 2)), ..CopyOptions::default() };
            editor.copy(&View::of_directory(from.path()), "/b.c", "/top/in/b.c", &options).unwrap();
        }),
    ];
    for (name, write) in writers {
        let (first, active) = two_layers(&snapshots);
        let directory = snapshots.directory(first);
        let before = layer_diff(&directory).unwrap();
        write(&Editor::new(&active).unwrap());
        assert_eq!(layer_diff(&directory).unwrap(), before, "{name}");
        let changed = fs::symlink_metadata(active.upper().join("top/in/b.c"));
        let theirs = fs::metadata(directory.join("top/in/b.c")).unwrap();
        assert!(changed.is_err() || changed.unwrap().ino() != theirs.ino(), "{name}");
        // What was known of it is not answered any more.
        assert_eq!(changes(&diff(&active).unwrap()), changes(&layer_diff(active.upper()).unwrap()), "{name}");
        drop(active);
        snapshots.remove(first).unwrap();
    }
}

#[test]
fn a_copy_of_the_file_it_is_linked_with_is_a_copy() {
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let (first, active) = two_layers(&snapshots);
    let options = CopyOptions { owner: Some((5, 6)), timestamp: Some(1), ..CopyOptions::default() };
    let earlier = snapshots.view(Some(first)).unwrap();
    Editor::new(&active).unwrap().copy(&earlier, "/top/in/b.c", "/top/in/b.c", &options).unwrap();
    let made = fs::metadata(active.upper().join("top/in/b.c")).unwrap();
    assert_eq!((made.uid(), made.gid(), made.mtime(), made.nlink()), (5, 6, 0, 1));
}

#[test]
fn what_cannot_be_linked_is_copied() {
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let (first, active) = two_layers(&snapshots);
    drop(active);
    let reuse = snapshots.reuse(first).unwrap().unwrap();
    // Somebody else removes it while its files are taken over.
    fs::remove_dir_all(snapshots.directory(first).join("top/in/d")).unwrap();
    fs::remove_file(snapshots.directory(first).join("top/in/a")).unwrap();
    let like = CopyOptions { normalise_modes: true, owner: Some((0, 0)), ..CopyOptions::default() };
    let active = snapshots.prepare(None).unwrap();
    copied(&active, make(&vec![file(1); NAMES.len()]).path(), &like, Some(&reuse));
    assert_eq!(linked(&active), NAMES.len() - 5);
    assert_eq!(changes(&diff(&active).unwrap()), changes(&layer_diff(active.upper()).unwrap()));
}

#[test]
fn a_file_with_as_many_names_as_it_can_have_is_copied() {
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let (first, active) = two_layers(&snapshots);
    drop(active);
    let reuse = snapshots.reuse(first).unwrap().unwrap();
    let file_of_many = snapshots.directory(first).join("top/in/b.c");
    let names = tempfile::tempdir_in(fixture.store.root().join("tmp")).unwrap();
    // ext4 takes 65,000; others take more, and then it is linked.
    for number in 0..65_001 {
        if fs::hard_link(&file_of_many, names.path().join(number.to_string())).is_err() {
            break;
        }
    }
    let like = CopyOptions { normalise_modes: true, owner: Some((0, 0)), ..CopyOptions::default() };
    let active = snapshots.prepare(None).unwrap();
    copied(&active, make(&vec![file(1); NAMES.len()]).path(), &like, Some(&reuse));
    assert!(linked(&active) >= NAMES.len() - 1);
    assert_eq!(changes(&diff(&active).unwrap()), changes(&layer_diff(active.upper()).unwrap()));
    assert_eq!(fs::read(active.upper().join("top/in/b.c")).unwrap(), [1; 100]);
}

#[test]
fn a_changed_file_of_the_store_is_read_again() {
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let (first, active) = two_layers(&snapshots);
    drop(active);
    let reuse = snapshots.reuse(first).unwrap().unwrap();
    fs::write(snapshots.directory(first).join("top/in/b.c"), "by hand").unwrap();
    let like = CopyOptions { normalise_modes: true, owner: Some((0, 0)), ..CopyOptions::default() };
    let active = snapshots.prepare(None).unwrap();
    copied(&active, make(&vec![file(1); NAMES.len()]).path(), &like, Some(&reuse));
    assert_eq!(linked(&active), NAMES.len() - 1);
    assert_eq!(fs::read(active.upper().join("top/in/b.c")).unwrap(), [1; 100]);
    assert_eq!(changes(&diff(&active).unwrap()), changes(&layer_diff(active.upper()).unwrap()));
}

#[test]
fn what_is_gone_or_unreadable_is_not_taken_over() {
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let (first, active) = two_layers(&snapshots);
    drop(active);
    let manifest = snapshots.directory(first).with_file_name("manifest");
    let bytes = fs::read(&manifest).unwrap();
    fs::write(&manifest, &bytes[1..]).unwrap();
    assert!(snapshots.reuse(first).unwrap().is_none());
    fs::write(&manifest, bytes).unwrap();
    assert!(snapshots.reuse(first).unwrap().is_some());
    fs::remove_dir_all(snapshots.directory(first)).unwrap();
    assert!(snapshots.reuse(first).unwrap().is_none());
}

#[test]
fn what_is_mounted_is_looked_at_again() {
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let active = snapshots.prepare(None).unwrap();
    copied(&active, make(&[file(1)]).path(), &CopyOptions::default(), None);
    let before = diff(&active).unwrap();
    // As somebody would who writes through a mount, and hides it.
    assert!(active.work().is_dir());
    let path = active.upper().join("top/in/a");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, [2; 100]).unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    let after = diff(&active).unwrap();
    assert_ne!(after, before);
    assert_eq!(changes(&after), changes(&layer_diff(active.upper()).unwrap()));
}

#[test]
fn the_copy_driver_takes_nothing_over() {
    let fixture = Fixture::new();
    let (overlay, copy) = (fixture.snapshots(DriverKind::Overlay), fixture.snapshots(DriverKind::Copy));
    let (first, active) = two_layers(&overlay);
    drop(active);
    assert!(copy.reuse(first).unwrap().is_none());
    let whole = copy.prepare(Some(first)).unwrap();
    whole.keep_manifest(&Manifest::default()).unwrap();
    let content = ContentKey::from_bytes([9; 32]);
    let id = copy.commit_as(whole, content).unwrap();
    assert!(overlay.reuse(id).unwrap().is_none());
}
