//! The entries of a layer, in orders that archives really have.

use std::path::{Path, PathBuf};

use rb_snapshot::{Active, ContentKey, Editor, LayerEntry, LayerMetadata, SnapshotId, Snapshots, diff};

use crate::refuses;
use crate::support::{Error, commit, content, names, on_both, tree_of};

fn metadata(mode: u32) -> LayerMetadata {
    LayerMetadata { mode, owner: Some((1, 2)), modified_ns: 5, ..LayerMetadata::default() }
}

fn file(editor: &Editor<'_>, path: &str, text: &str) {
    editor.apply(Path::new(path), LayerEntry::File(&mut text.as_bytes()), &metadata(0o644)).unwrap();
}

fn entry(editor: &Editor<'_>, path: &str, entry: LayerEntry<'_>) {
    editor.apply(Path::new(path), entry, &metadata(0o755)).unwrap();
}

fn base(snapshots: &Snapshots) -> (SnapshotId, ContentKey) {
    commit(snapshots, None, |editor| {
        for path in ["usr/lib/a", "d/old", "d/sub/old", "d/gone/old", "e/f"] {
            file(editor, path, "old");
        }
        entry(editor, "lib", LayerEntry::Symlink("usr/lib".into()));
        entry(editor, "out", LayerEntry::Symlink("/../../..".into()));
    })
}

fn active(snapshots: &Snapshots, parent: SnapshotId) -> Active {
    snapshots.prepare(Some(parent)).unwrap()
}

#[test]
fn an_opaque_directory_loses_what_is_below_in_any_order() {
    on_both(|snapshots| {
        let base = base(snapshots);
        let trees = [true, false].map(|first| {
            let active = active(snapshots, base.0);
            let editor = Editor::new(&active).unwrap();
            if first {
                entry(&editor, "d", LayerEntry::Opaque);
            }
            file(&editor, "d/new", "new");
            file(&editor, "d/sub/new", "new");
            if !first {
                entry(&editor, "d", LayerEntry::Opaque);
            }
            let inside: Vec<String> =
                names(&editor.view()).into_iter().filter(|name| name.starts_with("d/")).collect();
            assert_eq!(inside, ["d/new", "d/sub", "d/sub/new"], "{first}");
            diff(&active).unwrap().content_key(base.1)
        });
        assert_eq!(trees[0], trees[1]);
    });
}

#[test]
fn parents_are_followed_inside_the_tree() {
    on_both(|snapshots| {
        let base = base(snapshots);
        let active = active(snapshots, base.0);
        let editor = Editor::new(&active).unwrap();
        file(&editor, "lib/b", "new");
        file(&editor, "out/tmp/rb-test-escaped", "x");
        assert_eq!(content(&editor.view(), "usr/lib/b"), "new");
        assert_eq!(content(&editor.view(), "tmp/rb-test-escaped"), "x");
        assert!(!Path::new("/tmp/rb-test-escaped").exists());
        entry(&editor, "lib/a", LayerEntry::Whiteout);
        entry(&editor, "nowhere/x", LayerEntry::Whiteout);
        assert!(!names(&editor.view()).contains(&"usr/lib/a".to_owned()));
    });
}

#[test]
fn kinds_replace_one_another() {
    on_both(|snapshots| {
        let base = base(snapshots);
        let active = active(snapshots, base.0);
        let editor = Editor::new(&active).unwrap();
        file(&editor, "d", "a file now");
        entry(&editor, "e/f", LayerEntry::Directory);
        entry(&editor, "lib", LayerEntry::Directory);
        entry(&editor, "hard", LayerEntry::HardLink(PathBuf::from("usr/lib/a")));
        entry(&editor, "pipe", LayerEntry::Fifo);
        let tree = tree_of(&editor.view());
        let body = |path: &str| tree[Path::new(path)].body.clone();
        assert_eq!(body("d"), "file \"a file now\"");
        assert_eq!((body("e/f").as_str(), tree[Path::new("e/f")].owner), ("directory", (1, 2)));
        assert_eq!(body("lib"), "directory");
        assert_eq!(body("usr/lib/a"), "file \"old\" = hard");
        assert_eq!(tree[Path::new("pipe")].mode, 0o755);
        refuses!(editor.apply(Path::new("/"), LayerEntry::Fifo, &metadata(0)), Error::BadPath { .. });
    });
}

#[test]
fn marks_of_overlay_stay_outside() {
    on_both(|snapshots| {
        let base = base(snapshots);
        let active = active(snapshots, base.0);
        let editor = Editor::new(&active).unwrap();
        let mut metadata = metadata(0o755);
        for name in ["trusted.overlay.opaque", "user.overlay.opaque", "trusted.overlay.redirect", "user.note"]
        {
            metadata.xattrs.insert(name.into(), b"y".to_vec());
        }
        editor.apply(Path::new("d"), LayerEntry::Directory, &metadata).unwrap();
        let tree = tree_of(&editor.view());
        assert!(tree.contains_key(Path::new("d/old")));
        assert_eq!(tree[Path::new("d")].body, "directory user.note=[121]");
        diff(&active).unwrap();
    });
}
