//! Merged trees and differences of trees, against a plain model: maps of paths, laid over one another by hand.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rb_snapshot::{
    ChangeKind, ContentKey, DriverKind, Editor, Follow, LayerEntry, LayerMetadata, Manifest, SnapshotId,
    Snapshots, View, diff,
};
use rb_store::{LayerRow, Store, Truth};

use crate::support::{Fixture, Node, cases, commit, content, names, on_both, tree_of};

/// What is done to a tree; fails where the tree does not allow it.
#[derive(Clone, Debug)]
enum Doing {
    Directory(String, u32),
    File(String, String, u32),
    Link(String, String),
    Pipe(String),
    SecondName(String, String),
    Remove(String),
    Touch(String),
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec("[abc]", 1..4).prop_map(|names| names.join("/"))
}

fn doing(links: bool) -> impl Strategy<Value = Doing> {
    let mode = || prop::sample::select(vec![0o755_u32, 0o700, 0o4755]);
    let second = if links { 2 } else { 0 };
    prop_oneof![
        4 => (path(), mode()).prop_map(|(path, mode)| Doing::Directory(path, mode)),
        6 => (path(), "[xyz]{0,2}", mode()).prop_map(|(path, text, mode)| Doing::File(path, text, mode)),
        1 => (path(), "[abc]").prop_map(|(path, target)| Doing::Link(path, target)),
        1 => path().prop_map(Doing::Pipe),
        second => (path(), path()).prop_map(|(path, target)| Doing::SecondName(path, target)),
        4 => path().prop_map(Doing::Remove),
        2 => path().prop_map(Doing::Touch),
    ]
}

fn layers(links: bool) -> impl Strategy<Value = Vec<Vec<Doing>>> {
    prop::collection::vec(prop::collection::vec(doing(links), 1..8), 1..4)
}

/// Makes trees, each file with a time of its own.
struct Maker<'a> {
    snapshots: &'a Snapshots,
    clock: i64,
}

type Committed = (SnapshotId, ContentKey);

impl Maker<'_> {
    fn layer(&mut self, below: Option<Committed>, doings: &[Doing]) -> Committed {
        let active = self.snapshots.prepare(below.map(|(id, _)| id)).unwrap();
        let editor = Editor::new(&active).unwrap();
        for doing in doings {
            self.clock += 1_000_000_000;
            self.perform(&editor, doing);
        }
        let diff = diff(&active).unwrap();
        active.keep_manifest(&Manifest::of(&diff, true)).unwrap();
        self.snapshots.commit(active, &diff, below.map_or(ContentKey::empty(), |(_, key)| key)).unwrap()
    }

    /// What cannot be done is left undone.
    fn perform(&self, editor: &Editor<'_>, doing: &Doing) {
        let owner = u32::try_from(self.clock / 1_000_000_000 % 3).unwrap();
        let owner = rustix::process::geteuid().is_root().then_some((owner, 0));
        let metadata = |mode: u32| LayerMetadata {
            mode,
            owner,
            modified_ns: self.clock,
            xattrs: [(OsString::from("user.rb"), mode.to_le_bytes().to_vec())].into(),
        };
        drop(match doing {
            Doing::Directory(path, mode) => {
                editor.apply(Path::new(path), LayerEntry::Directory, &metadata(*mode))
            }
            Doing::File(path, text, mode) => {
                editor.apply(Path::new(path), LayerEntry::File(&mut text.as_bytes()), &metadata(*mode))
            }
            Doing::Link(path, target) => editor.apply(
                Path::new(path),
                LayerEntry::Symlink(target.into()),
                &LayerMetadata { xattrs: BTreeMap::new(), ..metadata(0) },
            ),
            Doing::Pipe(path) => editor.apply(
                Path::new(path),
                LayerEntry::Fifo,
                &LayerMetadata { xattrs: BTreeMap::new(), ..metadata(0o600) },
            ),
            Doing::SecondName(path, target) => {
                editor.apply(Path::new(path), LayerEntry::HardLink(target.into()), &metadata(0))
            }
            Doing::Remove(path) => editor.remove(path, true, false),
            Doing::Touch(path) => editor.set_metadata(path, None, None, None),
        });
    }

    /// Returns each snapshot of a tree, lowest first.
    fn tree(&mut self, below: Option<Committed>, layers: &[Vec<Doing>]) -> Vec<Committed> {
        let mut made: Vec<Committed> = Vec::new();
        for layer in layers {
            made.push(self.layer(made.last().copied().or(below), layer));
        }
        made
    }
}

/// What stands at a path, with the time of what is no directory.
type Model = BTreeMap<PathBuf, (Node, Option<i64>)>;

fn model(view: &View) -> Model {
    let tree = tree_of(view);
    let times: BTreeMap<PathBuf, i64> = view
        .walk("")
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| !entry.metadata.is_directory())
        .map(|entry| (entry.path, entry.metadata.modified_ns))
        .collect();
    let mut model: Model =
        tree.into_iter().map(|(path, node)| (path.clone(), (node, times.get(&path).copied()))).collect();
    model.remove(Path::new(""));
    model
}

fn remove(tree: &mut Model, path: &Path) {
    tree.retain(|other, _| !other.starts_with(path));
}

/// Does to `tree` what made `after` of `before`.
fn lay(tree: &mut Model, before: &Model, after: &Model) {
    let is_directory = |model: &Model, path: &Path| model.get(path).is_some_and(|(_, time)| time.is_none());
    for path in before.keys().filter(|path| !after.contains_key(*path)) {
        let parent = path.parent().unwrap();
        // What went with its directory, or by what stands there now, needs no word of its own.
        if parent.as_os_str().is_empty() || is_directory(after, parent) {
            remove(tree, path);
            lead_to(tree, after, path);
        }
    }
    for (path, what) in after {
        if before.get(path) != Some(what) {
            lead_to(tree, after, path);
            put(tree, path, what);
        }
    }
}

fn put(tree: &mut Model, path: &Path, what: &(Node, Option<i64>)) {
    let merges = what.1.is_none() && tree.get(path).is_some_and(|(_, time)| time.is_none());
    if !merges {
        remove(tree, path);
    }
    tree.insert(path.to_owned(), what.clone());
}

/// The directories on the way to a change are part of it.
fn lead_to(tree: &mut Model, after: &Model, path: &Path) {
    let mut above: Vec<&Path> =
        path.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()).collect();
    above.reverse();
    for path in above {
        put(tree, path, &after[path]);
    }
}

fn models(snapshots: &Snapshots, below: Option<Committed>, tree: &[Committed]) -> Vec<Model> {
    let view = |id| model(&snapshots.view(id).unwrap());
    std::iter::once(view(below.map(|(id, _)| id))).chain(tree.iter().map(|(id, _)| view(Some(*id)))).collect()
}

/// Insists that no snapshot is other than it was.
fn all_true(snapshots: &Snapshots) {
    for row in snapshots.store().snapshots().unwrap() {
        assert_eq!(snapshots.is_true(&row).unwrap(), Truth::True, "{row:?}");
        assert!(
            snapshots.store().snapshot_by_content(&row.content_key.unwrap()).unwrap().is_some(),
            "{row:?}"
        );
    }
}

fn layers_of(snapshots: &Snapshots, id: SnapshotId) -> usize {
    snapshots.chain(Some(id)).unwrap().len()
}

fn top(tree: &[Committed]) -> Option<SnapshotId> {
    tree.last().map(|(id, _)| *id)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(48), ..ProptestConfig::default() })]

    #[test]
    fn merged_trees_are_what_a_model_says(trees in prop::collection::vec(layers(false), 1..4)) {
        let mut shown = Vec::new();
        for driver in [DriverKind::Overlay, DriverKind::Copy] {
            let fixture = Fixture::new();
            let snapshots = fixture.snapshots(driver);
            let mut maker = Maker { snapshots: &snapshots, clock: 0 };
            let made: Vec<Vec<Committed>> = trees.iter().map(|tree| maker.tree(None, tree)).collect();
            let tops: Vec<Option<SnapshotId>> = made.iter().map(|tree| top(tree)).collect();
            let (merged, key) = snapshots.merge(&tops).unwrap();
            let mut expected = Model::new();
            for tree in &made {
                for pair in models(&snapshots, None, tree).windows(2) {
                    lay(&mut expected, &pair[0], &pair[1]);
                }
            }
            prop_assert_eq!(&model(&snapshots.view(merged).unwrap()), &expected);
            prop_assert_eq!(snapshots.merge(&tops).unwrap(), (merged, key));
            // Merged in two steps it is the same tree.
            if let Some((last, first)) = tops.split_last() {
                let (first, _) = snapshots.merge(first).unwrap();
                prop_assert_eq!(snapshots.merge(&[first, *last]).unwrap(), (merged, key));
            }
            all_true(&snapshots);
            shown.push((expected, key));
        }
        prop_assert_eq!(&shown[0].0, &shown[1].0);
    }

    #[test]
    fn a_difference_merged_with_the_lower_tree_is_the_upper(
        below in layers(true), above in layers(true), apart in any::<bool>(),
    ) {
        for driver in [DriverKind::Overlay, DriverKind::Copy] {
            let fixture = Fixture::new();
            let snapshots = fixture.snapshots(driver);
            let mut maker = Maker { snapshots: &snapshots, clock: 0 };
            let lower = maker.tree(None, &below);
            let upper = maker.tree(lower.last().copied().filter(|_| !apart), &above);
            let (difference, _) = snapshots.difference(top(&lower), top(&upper)).unwrap();
            let (merged, _) = snapshots.merge(&[top(&lower), difference]).unwrap();
            let expected = model(&snapshots.view(top(&upper)).unwrap());
            prop_assert_eq!(model(&snapshots.view(merged).unwrap()), expected);
            // Alone it shows what it adds, and no mark of what it deletes: as it lies there, too.
            if let Some(id) = difference {
                let plain = View::of_directory(snapshots.directory(id));
                let marks = tree_of(&plain).into_values().filter(|node| node.body.starts_with("char"));
                prop_assert!(driver == DriverKind::Copy || marks.count() == 0 || layers_of(&snapshots, id) > 1);
            }
            all_true(&snapshots);
        }
    }

    #[test]
    fn a_difference_is_what_a_model_says(below in layers(false), above in layers(false), base in layers(false)) {
        for driver in [DriverKind::Overlay, DriverKind::Copy] {
            let fixture = Fixture::new();
            let snapshots = fixture.snapshots(driver);
            let mut maker = Maker { snapshots: &snapshots, clock: 0 };
            let (lower, base) = (maker.tree(None, &below), maker.tree(None, &base));
            let upper = maker.tree(lower.last().copied(), &above);
            let mut steps = models(&snapshots, lower.last().copied(), &upper);
            let (difference, _) = snapshots.difference(top(&lower), top(&upper)).unwrap();
            for onto in [None, top(&base)] {
                let mut expected = model(&snapshots.view(onto).unwrap());
                steps.windows(2).for_each(|pair| lay(&mut expected, &pair[0], &pair[1]));
                let (merged, _) = snapshots.merge(&[onto, difference]).unwrap();
                prop_assert_eq!(model(&snapshots.view(merged).unwrap()), expected);
            }
            // Of trees that do not stand on one another it is one step.
            let chain = |tree: &[Committed]| snapshots.chain(top(tree)).unwrap();
            if chain(&upper).starts_with(&chain(&base)) {
                continue;
            }
            steps = vec![model(&snapshots.view(top(&base)).unwrap()), steps.pop().unwrap()];
            let (difference, _) = snapshots.difference(top(&base), top(&upper)).unwrap();
            let mut expected = model(&snapshots.view(top(&lower)).unwrap());
            lay(&mut expected, &steps[0], &steps[1]);
            let (merged, _) = snapshots.merge(&[top(&lower), difference]).unwrap();
            prop_assert_eq!(model(&snapshots.view(merged).unwrap()), expected);
        }
    }
}

/// Writes files given as path and content; no content is a deletion.
fn tree(snapshots: &Snapshots, below: Option<Committed>, files: &[(&str, Option<&str>)]) -> Committed {
    commit(snapshots, below, |editor| {
        for (path, text) in files {
            let parent = Path::new(path).parent().unwrap();
            editor.mkdir(parent, 0o755, true, None, Some(0)).unwrap();
            match text {
                Some(text) => editor.mkfile(path, 0o644, text.as_bytes(), None, Some(7)).unwrap(),
                None => editor.remove(path, false, false).unwrap(),
            }
        }
    })
}

#[test]
fn files_are_linked_and_not_copied() {
    on_both(|snapshots| {
        let base = tree(snapshots, None, &[("base", Some("base"))]);
        let above = tree(snapshots, None, &[("d/file", Some("text"))]);
        let (merged, _) = snapshots.merge(&[Some(base.0), Some(above.0)]).unwrap();
        let inode = |id: SnapshotId| {
            use std::os::unix::fs::MetadataExt as _;
            std::fs::metadata(snapshots.directory(id).join("d/file")).unwrap().ino()
        };
        assert_eq!(inode(above.0), inode(merged.unwrap()));
        // Who writes to the merged tree writes to a file of its own.
        let changed = commit(snapshots, Some((merged.unwrap(), base.1)), |editor| {
            editor.mkfile("d/file", 0o644, b"other", None, None).unwrap();
        });
        assert_eq!(content(&snapshots.view(Some(above.0)).unwrap(), "d/file"), "text");
        assert_eq!(content(&snapshots.view(Some(changed.0)).unwrap(), "d/file"), "other");
        all_true_but(snapshots, changed.0);
    });
}

fn all_true_but(snapshots: &Snapshots, one: SnapshotId) {
    for row in snapshots.store().snapshots().unwrap().iter().filter(|row| row.id != one) {
        assert_eq!(snapshots.is_true(row).unwrap(), Truth::True, "{row:?}");
    }
}

#[test]
fn nothing_and_one_are_themselves() {
    on_both(|snapshots| {
        let one = tree(snapshots, None, &[("a", Some("a"))]);
        let nothing = (None, ContentKey::empty());
        assert_eq!(snapshots.merge(&[]).unwrap(), nothing);
        assert_eq!(snapshots.merge(&[None, None]).unwrap(), nothing);
        assert_eq!(snapshots.merge(&[None, Some(one.0), None]).unwrap(), (Some(one.0), one.1));
        assert_eq!(snapshots.difference(None, None).unwrap(), nothing);
        assert_eq!(snapshots.difference(None, Some(one.0)).unwrap(), (Some(one.0), one.1));
        assert_eq!(snapshots.difference(Some(one.0), Some(one.0)).unwrap(), nothing);
        let (gone, _) = snapshots.difference(Some(one.0), None).unwrap();
        assert_eq!(names(&snapshots.view(gone).unwrap()), Vec::<String>::new());
        let (merged, _) = snapshots.merge(&[Some(one.0), gone]).unwrap();
        assert_eq!(names(&snapshots.view(merged).unwrap()), Vec::<String>::new());
    });
}

#[test]
fn what_is_deleted_is_said_where_nothing_is_below() {
    on_both(|snapshots| {
        let base = tree(snapshots, None, &[("d/gone", Some("x")), ("d/stays", Some("y"))]);
        let changed = tree(snapshots, Some(base), &[("d/gone", None), ("d/new", Some("z"))]);
        let (difference, key) = snapshots.difference(Some(base.0), Some(changed.0)).unwrap();
        let id = difference.unwrap();
        assert_eq!(names(&snapshots.view(difference).unwrap()), ["d", "d/new"]);
        let kinds: Vec<(String, bool)> = snapshots
            .diff_of(id)
            .unwrap()
            .changes
            .iter()
            .map(|change| (change.path.display().to_string(), change.kind == ChangeKind::Whiteout))
            .collect();
        let said = [("d", false), ("d/gone", true), ("d/new", false)];
        assert_eq!(kinds, said.map(|(path, gone)| (path.to_owned(), gone)));
        // One that deletes something else is another one.
        let other = tree(snapshots, Some(base), &[("d/stays", None), ("d/new", Some("z"))]);
        let (_, other) = snapshots.difference(Some(base.0), Some(other.0)).unwrap();
        assert_ne!(key, other);
        // A list that is not whole is no list.
        std::fs::write(snapshots.store().snapshot_dir(id).join("deleted"), b"rb deleted 1\n").unwrap();
        assert!(snapshots.diff_of(id).is_err());
        assert_eq!(snapshots.store().snapshot_by_content(key.as_bytes()).unwrap(), None);
    });
}

#[test]
fn what_is_only_brought_up_changes_nothing_elsewhere() {
    on_both(|snapshots| {
        let base = tree(snapshots, None, &[("d/file", Some("x"))]);
        let touched = commit(snapshots, Some(base), |editor| {
            // As a step leaves it that made a file and removed it.
            editor.mkfile("d/other", 0o644, b"", None, None).unwrap();
            editor.remove("d/other", false, false).unwrap();
            editor.set_metadata("d/file", Some(0o644), None, Some(7)).unwrap();
        });
        let (difference, _) = snapshots.difference(Some(base.0), Some(touched.0)).unwrap();
        assert_eq!(difference, None);
    });
}

#[test]
fn a_difference_of_image_layers_is_those_layers() {
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let store: &Store = &fixture.store;
    let base = tree(&snapshots, None, &[("base", Some("x"))]);
    let first = tree(&snapshots, Some(base), &[("first", Some("1"))]);
    let second = tree(&snapshots, Some(first), &[("second", Some("2"))]);
    let row = |text: &str| {
        use std::io::Write as _;
        let mut blob = store.blob_writer().unwrap();
        blob.write_all(text.as_bytes()).unwrap();
        let (digest, size) = blob.commit(None).unwrap();
        let descriptor = serde_json::from_str(&format!(
            r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":{size}}}"#
        ));
        LayerRow { diff_id: digest, descriptor: descriptor.unwrap() }
    };
    let rows = [row("first"), row("second")];
    for (id, row) in [first.0, second.0].iter().zip(&rows) {
        store.put_layer(&Store::original_layer_key(*id), row).unwrap();
    }
    let other = tree(&snapshots, None, &[("other", Some("o"))]);
    let (difference, _) = snapshots.difference(Some(base.0), Some(second.0)).unwrap();
    let (merged, _) = snapshots.merge(&[Some(other.0), difference]).unwrap();
    let chain = snapshots.chain(merged).unwrap();
    let found: Vec<Option<LayerRow>> =
        chain.iter().map(|id| store.layer(&Store::original_layer_key(*id)).unwrap()).collect();
    assert_eq!(found, [None, Some(rows[0].clone()), Some(rows[1].clone())]);
    assert!(snapshots.view(merged).unwrap().lookup("base", Follow::No).unwrap().is_none());
}
