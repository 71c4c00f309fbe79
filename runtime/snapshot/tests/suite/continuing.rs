//! Layers that continue the one below: the tree, its key, its changes and its manifest are those of a copy of everything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use rb_snapshot::{
    Active, Change, ChangeKind, ContentDigest, ContentKey, CopyOptions, Diff, DriverKind, Editor, Follow,
    Manifest, Reuse, SnapshotError, SnapshotId, Snapshots, View, diff,
};
use rb_store::Truth;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use crate::sealing::is_served;
use crate::support::Fixture;

/// A thing in the user's folder.
#[derive(Clone, Debug, PartialEq)]
enum Thing {
    File { content: u8, mode: u32, seconds: u64 },
    Symlink(u8),
    HardLink,
    Directory { mode: u32, seconds: u64 },
}

/// What may be there; of two that cannot be together the first one is.
const NAMES: [&str; 14] =
    ["a", "b", "d/e", "d/f", "d/g/h", "d/g", "k", "k/v", "k/w/x", "l/m/n", "l/m/o", "l/m", "l", "empty"];

type Things = BTreeMap<usize, Thing>;

fn thing() -> impl Strategy<Value = Thing> {
    let file = |content: u8, mode, seconds| Thing::File { content, mode, seconds };
    prop_oneof![
        8 => (0..3_u8, prop::sample::select(vec![0o644, 0o755]), 0..2_u64)
            .prop_map(move |(content, mode, seconds)| file(content, mode, seconds)),
        1 => (0..2_u8).prop_map(Thing::Symlink),
        1 => Just(Thing::HardLink),
        2 => (prop::sample::select(vec![0o755, 0o750]), 0..2_u64)
            .prop_map(|(mode, seconds)| Thing::Directory { mode, seconds }),
    ]
}

fn things(size: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Things> {
    prop::collection::btree_map(0..NAMES.len(), thing(), size)
}

/// Makes a few of them anew, or takes them away.
fn edit() -> impl Strategy<Value = Vec<(usize, Option<Thing>)>> {
    prop::collection::vec((0..NAMES.len(), prop::option::weighted(0.7, thing())), 0..3)
}

fn at_seconds(path: &Path, seconds: u64) {
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds);
    File::open(path).unwrap().set_times(FileTimes::new().set_modified(modified)).unwrap();
}

/// Writes them to a folder, with so many others that a few are little.
fn make(things: &Things) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..20 {
        let path = folder.path().join(format!("many/{}/{number}", number % 3));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, [number]).unwrap();
        at_seconds(&path, 0);
    }
    let mut modes = Vec::new();
    for (index, thing) in things {
        let path = folder.path().join(NAMES[*index]);
        if fs::create_dir_all(path.parent().unwrap()).is_err() || fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        match thing {
            Thing::File { content, mode, seconds } => {
                fs::write(&path, vec![*content; 100]).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
                at_seconds(&path, *seconds);
            }
            Thing::Symlink(target) => {
                symlink(target.to_string(), &path).unwrap();
                let time = Timespec { tv_sec: 9, tv_nsec: 0 };
                let times = Timestamps { last_access: time, last_modification: time };
                rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            }
            Thing::HardLink => fs::hard_link(folder.path().join("many/0/0"), &path).unwrap(),
            Thing::Directory { mode, seconds } => {
                fs::create_dir(&path).unwrap();
                modes.push((path, *mode, *seconds));
            }
        }
    }
    let mut directories = vec![folder.path().to_owned()];
    while let Some(directory) = directories.pop() {
        at_seconds(&directory, 7);
        let entries = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
        directories.extend(entries.filter(|path| path.is_dir() && !path.is_symlink()));
    }
    for (path, mode, seconds) in modes {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        at_seconds(&path, seconds);
    }
    folder
}

/// What the stat cache would say of a folder.
fn digests(folder: &Path) -> BTreeMap<PathBuf, ContentDigest> {
    let entries = View::of_directory(folder).walk("").unwrap().map(|entry| entry.unwrap().path);
    let files = entries.filter(|path| fs::symlink_metadata(folder.join(path)).unwrap().is_file());
    files.map(|path| (path.clone(), ContentDigest::of(fs::read(folder.join(path)).unwrap()))).collect()
}

fn copy(
    active: &Active,
    things: &Things,
    like: &CopyOptions<'_>,
    reuse: Option<&Reuse>,
) -> Result<(), SnapshotError> {
    let folder = make(things);
    let digests = digests(folder.path());
    let verify = |path: &Path| digests.get(path).copied();
    let options = CopyOptions {
        dir_copy_contents: true,
        create_dest_path: true,
        verify: Some(&verify),
        reuse,
        ..like.clone()
    };
    let view = View::of_directory(folder.path());
    Editor::new(active).unwrap().copy(&view, "/", "/top/in", &options).map(drop)
}

/// What every copy lies on.
fn base(snapshots: &Snapshots, things: Option<&Things>) -> (Option<SnapshotId>, ContentKey) {
    let Some(things) = things else { return (None, ContentKey::empty()) };
    let active = snapshots.prepare(None).unwrap();
    copy(&active, things, &CopyOptions::default(), None).unwrap();
    let diff = diff(&active).unwrap();
    let (id, content) = snapshots.commit(active, &diff, ContentKey::empty()).unwrap();
    (Some(id), content)
}

/// All that decides the tree, without the time of the directory that nobody gives one.
fn changes(diff: &Diff) -> Vec<Change> {
    let mut changes = diff.changes.clone();
    for change in changes.iter_mut().filter(|change| change.path == Path::new("top")) {
        change.metadata.as_mut().unwrap().modified_ns = 0;
    }
    changes
}

/// Commits what was copied, with its manifest.
fn keep(snapshots: &Snapshots, active: Active, diff: &Diff, below: ContentKey) -> (SnapshotId, ContentKey) {
    active.keep_manifest(&Manifest::of(diff, true)).unwrap();
    snapshots.commit(active, diff, below).unwrap()
}

fn continues(snapshots: &Snapshots, id: SnapshotId) -> bool {
    snapshots.store().snapshot(id).unwrap().unwrap().continues
}

fn truth(snapshots: &Snapshots, id: SnapshotId) -> Truth {
    snapshots.is_true(&snapshots.store().snapshot(id).unwrap().unwrap()).unwrap()
}

fn files(manifest: &Manifest) -> Vec<(PathBuf, ContentDigest, i64)> {
    manifest.files().map(|(path, digest, modified)| (path.to_owned(), digest, modified)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::support::cases(64), ..ProptestConfig::default() })]

    #[test]
    fn a_continued_tree_is_the_copied_tree(
        below in prop::option::of(things(0..6)),
        before in things(4..NAMES.len()),
        edits in prop::collection::vec(edit(), 1..5),
        normalise_modes in any::<bool>(),
        always_replace in any::<bool>(),
        timestamp in prop::option::of(Just(1_500_000_000_000_000_000)),
    ) {
        let like = CopyOptions {
            normalise_modes, always_replace, timestamp, owner: Some((0, 0)), ..CopyOptions::default()
        };
        let fixture = Fixture::new();
        let snapshots = fixture.snapshots(DriverKind::Overlay);
        let (parent, parent_content) = base(&snapshots, below.as_ref());
        let mut now = before;
        let mut last: Option<SnapshotId> = None;
        for edit in std::iter::once(Vec::new()).chain(edits) {
            for (index, thing) in edit {
                match thing {
                    Some(thing) => drop(now.insert(index, thing)),
                    None => drop(now.remove(&index)),
                }
            }
            // As a first build would, which nobody keeps.
            let clean = snapshots.prepare(parent).unwrap();
            let copied = copy(&clean, &now, &like, None);
            let active = snapshots.prepare(parent).unwrap();
            let reuse = last.and_then(|last| snapshots.reuse_on(last, parent).unwrap());
            prop_assert_eq!(reuse.is_some(), last.is_some());
            let taken = copy(&active, &now, &like, reuse.as_ref());
            prop_assert_eq!(copied.is_ok(), taken.is_ok());
            if copied.is_err() {
                continue;
            }
            let expected = diff(&clean).unwrap();
            let told = diff(&active).unwrap();
            prop_assert_eq!(changes(&told), changes(&expected));
            // To ask again changes nothing.
            prop_assert_eq!(&diff(&active).unwrap(), &told);
            let own = active.id;
            let (id, content) = keep(&snapshots, active, &told, parent_content);
            prop_assert_eq!(content, expected.content_key(parent_content));
            prop_assert_eq!(truth(&snapshots, id), Truth::True);
            prop_assert!(is_served(&snapshots, content));
            let layers = [snapshots.layers(parent).unwrap(), vec![clean.upper().to_owned()]].concat();
            let key = |view: View| view.content_digest("/", Follow::No).unwrap();
            prop_assert_eq!(key(snapshots.view(Some(id)).unwrap()), key(View::new(layers)));
            let tops = snapshots.layer_tops(Some(id)).unwrap();
            prop_assert_eq!(tops, [parent, Some(id)].into_iter().flatten().collect::<Vec<_>>());
            if id == own {
                prop_assert_eq!(changes(&snapshots.diff_of(id).unwrap()), changes(&expected));
                let manifest = snapshots.manifest(id).unwrap().unwrap();
                prop_assert_eq!(files(&manifest), files(&Manifest::of(&expected, true)));
            }
            last = Some(id);
        }
    }
}

fn like() -> CopyOptions<'static> {
    CopyOptions { normalise_modes: true, owner: Some((0, 0)), ..CopyOptions::default() }
}

fn file(content: u8) -> Thing {
    Thing::File { content, mode: 0o644, seconds: 0 }
}

fn things_of(content: u8) -> Things {
    [0, 1, 3, 4, 7].map(|index| (index, file(content))).into()
}

/// A whole layer, and one copied like it of the first file of which the content is 2.
fn whole_and_edited(snapshots: &Snapshots) -> (SnapshotId, Active) {
    let active = snapshots.prepare(None).unwrap();
    copy(&active, &things_of(1), &like(), None).unwrap();
    let diff = diff(&active).unwrap();
    let (whole, _) = keep(snapshots, active, &diff, ContentKey::empty());
    (whole, edited(snapshots, whole, 2))
}

fn edited(snapshots: &Snapshots, earlier: SnapshotId, content: u8) -> Active {
    let mut things = things_of(1);
    things.insert(0, file(content));
    let reuse = snapshots.reuse_on(earlier, None).unwrap().unwrap();
    let active = snapshots.prepare(None).unwrap();
    copy(&active, &things, &like(), Some(&reuse)).unwrap();
    active
}

fn commit(snapshots: &Snapshots, active: Active) -> SnapshotId {
    let diff = diff(&active).unwrap();
    keep(snapshots, active, &diff, ContentKey::empty()).0
}

#[test]
fn each_edit_continues_the_whole_layer() {
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let (whole, active) = whole_and_edited(&snapshots);
    let first = commit(&snapshots, active);
    let second = commit(&snapshots, edited(&snapshots, first, 3));
    for id in [first, second] {
        assert!(continues(&snapshots, id));
        assert_eq!(snapshots.chain(Some(id)).unwrap(), [whole, id]);
        assert_eq!(snapshots.layer_tops(Some(id)).unwrap(), [id]);
        let entries = View::of_directory(snapshots.directory(id)).walk("").unwrap().map(Result::unwrap);
        let files: Vec<PathBuf> =
            entries.filter(|entry| !entry.metadata.is_directory()).map(|entry| entry.path).collect();
        assert_eq!(files, [Path::new("top/in/a")]);
    }
    // Back to what the whole layer is.
    assert_eq!(commit(&snapshots, edited(&snapshots, second, 1)), whole);
    assert!(!continues(&snapshots, whole));
    // What an edit brought is taken over from there.
    let mut things = things_of(1);
    things.insert(0, file(3));
    things.insert(1, file(4));
    let reuse = snapshots.reuse_on(second, None).unwrap().unwrap();
    let active = snapshots.prepare(None).unwrap();
    copy(&active, &things, &like(), Some(&reuse)).unwrap();
    let third = commit(&snapshots, active);
    let inode = |id| fs::metadata(snapshots.directory(id).join("top/in/a")).unwrap().ino();
    assert_eq!(inode(third), inode(second));
    // One that lies on something else links.
    let active = snapshots.prepare(Some(first)).unwrap();
    let reuse = snapshots.reuse_on(second, Some(first)).unwrap().unwrap();
    copy(&active, &things, &like(), Some(&reuse)).unwrap();
    let diff = diff(&active).unwrap();
    let (other, _) = keep(&snapshots, active, &diff, ContentKey::from_bytes([1; 32]));
    assert!(!continues(&snapshots, other));
    assert_eq!(snapshots.layer_tops(Some(other)).unwrap(), [first, other]);
}

#[test]
fn many_edits_make_a_whole_layer() {
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let (whole, active) = whole_and_edited(&snapshots);
    drop(active);
    let reuse = snapshots.reuse_on(whole, None).unwrap().unwrap();
    let active = snapshots.prepare(None).unwrap();
    let mut things = things_of(2);
    things.extend([(8, file(2)), (9, file(2))]);
    copy(&active, &things, &like(), Some(&reuse)).unwrap();
    let id = commit(&snapshots, active);
    assert!(!continues(&snapshots, id));
    // The others are names of the same files.
    assert_eq!(fs::metadata(snapshots.directory(id).join("top/in/many/0/0")).unwrap().nlink(), 2);
    snapshots.remove(whole).unwrap();
    assert_eq!(truth(&snapshots, id), Truth::True);
}

#[test]
fn who_edits_what_was_copied_sees_all_of_it() {
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let (whole, active) = whole_and_edited(&snapshots);
    let read = |active: &Active| fs::read(active.upper().join("top/in/many/0/0"));
    assert!(read(&active).is_err());
    let in_between = diff(&active).unwrap();
    Editor::new(&active).unwrap().mkfile("/top/in/many/0/0", 0o644, b"new", None, Some(0)).unwrap();
    assert_eq!(read(&active).unwrap(), b"new");
    assert_eq!(fs::read(snapshots.directory(whole).join("top/in/many/0/0")).unwrap(), [0]);
    let after = diff(&active).unwrap();
    assert_eq!(after.changes.len(), in_between.changes.len());
    let id = commit(&snapshots, active);
    assert!(!continues(&snapshots, id));
    assert_eq!(snapshots.chain(Some(id)).unwrap(), [id]);
    assert_eq!(truth(&snapshots, id), Truth::True);
}

#[test]
fn what_is_deleted_is_gone_and_the_directories_keep_their_times() {
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let (whole, active) = whole_and_edited(&snapshots);
    drop(active);
    let mut things = things_of(1);
    things.remove(&0);
    things.remove(&4);
    let reuse = snapshots.reuse_on(whole, None).unwrap().unwrap();
    let active = snapshots.prepare(None).unwrap();
    copy(&active, &things, &like(), Some(&reuse)).unwrap();
    let id = commit(&snapshots, active);
    assert!(continues(&snapshots, id));
    let view = snapshots.view(Some(id)).unwrap();
    for path in ["top/in/a", "top/in/d/g"] {
        assert_eq!(view.lookup(path, Follow::No).unwrap(), None, "{path}");
    }
    let paths: BTreeSet<PathBuf> =
        snapshots.diff_of(id).unwrap().changes.into_iter().map(|change| change.path).collect();
    assert!(paths.contains(Path::new("top/in/d/f")) && !paths.contains(Path::new("top/in/d/g/h")));
    let modified = |path| view.lookup(path, Follow::No).unwrap().unwrap().metadata.modified_ns;
    assert_eq!([modified("top/in"), modified("top/in/d")], [1_000_007_000_000_000; 2]);
    let listed = snapshots.manifest(id).unwrap().unwrap();
    assert!(listed.files().all(|(path, ..)| paths.contains(path)));
    // It comes back.
    let back = commit(&snapshots, edited(&snapshots, id, 5));
    assert_eq!(snapshots.chain(Some(back)).unwrap(), [whole, back]);
}

#[test]
fn what_lies_below_and_shows_again_is_not_hidden() {
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let below: Things = [(0, file(9))].into();
    let (parent, content) = base(&snapshots, Some(&below));
    let active = snapshots.prepare(parent).unwrap();
    copy(&active, &things_of(1), &like(), None).unwrap();
    let whole_diff = diff(&active).unwrap();
    let (whole, _) = keep(&snapshots, active, &whole_diff, content);
    let mut things = things_of(1);
    things.remove(&0);
    let reuse = snapshots.reuse_on(whole, parent).unwrap().unwrap();
    let active = snapshots.prepare(parent).unwrap();
    copy(&active, &things, &like(), Some(&reuse)).unwrap();
    let told = diff(&active).unwrap();
    assert!(told.changes.iter().all(|change| change.kind != ChangeKind::Whiteout));
    let (id, _) = keep(&snapshots, active, &told, content);
    assert!(!continues(&snapshots, id));
    let view = snapshots.view(Some(id)).unwrap();
    let entry = view.lookup("top/in/a", Follow::No).unwrap().unwrap();
    assert_eq!(ContentDigest::of_file(&view.open(&entry).unwrap()).unwrap(), ContentDigest::of([9; 100]));
}

#[test]
fn a_damaged_layer_goes_with_what_continues_it() {
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let (whole, active) = whole_and_edited(&snapshots);
    let diff = diff(&active).unwrap();
    let (id, content) = keep(&snapshots, active, &diff, ContentKey::empty());
    assert!(is_served(&snapshots, content));
    // In its own files, which its key does not tell.
    let own = snapshots.directory(id).join("top/in/a");
    let modified = fs::metadata(&own).unwrap().modified().unwrap();
    let write = |content: u8| {
        fs::write(&own, [content; 100]).unwrap();
        File::options().write(true).open(&own).unwrap().set_modified(modified).unwrap();
    };
    write(7);
    assert_eq!(truth(&snapshots, id), Truth::False);
    write(2);
    assert_eq!(truth(&snapshots, id), Truth::True);
    fs::write(snapshots.directory(whole).join("top/in/b"), "by hand").unwrap();
    assert!(!is_served(&snapshots, content));
    assert_eq!(snapshots.store().snapshot(whole).unwrap(), None);
}

#[test]
fn a_layer_that_was_changed_is_not_continued() {
    let fixture = Fixture::new();
    for (what, spoil) in [
        ("changed", (|path: &Path| fs::write(path, "by hand").unwrap()) as fn(&Path)),
        ("gone", |path: &Path| fs::remove_file(path).unwrap()),
    ] {
        let snapshots = fixture.snapshots(DriverKind::Overlay);
        let (whole, active) = whole_and_edited(&snapshots);
        let other = fs::read(snapshots.directory(whole).join("top/in/b")).unwrap();
        assert_eq!(other, [1; 100]);
        spoil(&snapshots.directory(whole).join("top/in/b"));
        let error = diff(&active).expect_err("cannot be linked either");
        assert!(matches!(error, SnapshotError::EarlierChanged { .. }), "{what}: {error}");
        assert_eq!(snapshots.store().snapshot(whole).unwrap(), None, "{what}");
    }
}

#[test]
fn a_manifest_that_is_damaged_or_older_is_no_layer_to_continue() {
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let (whole, active) = whole_and_edited(&snapshots);
    let id = commit(&snapshots, active);
    let told = snapshots.manifest(id).unwrap();
    let path = fixture.store.snapshot_dir(id).join("manifest");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(snapshots.manifest(id).unwrap(), told);
    assert_eq!(fs::read(&path).unwrap(), bytes);
    fs::remove_file(fixture.store.snapshot_dir(whole).join("manifest")).unwrap();
    assert!(snapshots.reuse_on(id, None).unwrap().is_none());
}

#[test]
fn in_a_high_stack_a_layer_of_two_parts_is_one_directory() {
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let (_, active) = whole_and_edited(&snapshots);
    let mut top = commit(&snapshots, active);
    let expected = snapshots.view(Some(top)).unwrap().content_digest("/top", Follow::No).unwrap();
    for number in 0..400_u32 {
        assert_eq!(
            snapshots.layers(Some(top)).unwrap().len(),
            if number < 399 { number + 2 } else { 400 } as usize
        );
        let active = snapshots.prepare(Some(top)).unwrap();
        fs::write(active.upper().join("number"), number.to_string()).unwrap();
        let mut key = [0; 32];
        key[..4].copy_from_slice(&(number + 1).to_le_bytes());
        top = snapshots.commit_as(active, ContentKey::from_bytes(key)).unwrap();
    }
    assert_eq!(snapshots.chain(Some(top)).unwrap().len(), 402);
    // Several ask for it at once, and one of them makes it.
    let later = snapshots.chain(Some(top)).unwrap()[1];
    fs::remove_dir_all(fixture.store.snapshot_dir(later).join("joined")).unwrap();
    let asked = || snapshots.layers(Some(top)).unwrap();
    let told: Vec<Vec<PathBuf>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(asked)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let layers = asked();
    assert!(told.iter().all(|told| *told == layers));
    assert_eq!(layers.len(), 401);
    assert_eq!(snapshots.layers(Some(top)).unwrap(), layers);
    let view = snapshots.view(Some(top)).unwrap();
    assert_eq!(view.content_digest("/top", Follow::No).unwrap(), expected);
    let modified = |view: &View| view.lookup("top/in/d", Follow::No).unwrap().unwrap().metadata.modified_ns;
    assert_eq!(modified(&view), 1_000_007_000_000_000);
    // It is no part of what is sealed.
    let key = snapshots.store().snapshot(top).unwrap().unwrap().content_key.unwrap();
    assert!(is_served(&snapshots, ContentKey::from_bytes(key)));
}
