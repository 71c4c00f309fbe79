//! Finished layers that somebody wrote to: noticed before they are served, or at the latest when they are read.

use std::fs::{self, File, FileTimes};
use std::path::Path;

use rb_snapshot::{ContentKey, DriverKind, Editor, Manifest, SnapshotId, Snapshots, diff};
use rb_store::{Store, Truth};

use crate::support::{Fixture, commit, on_both};

fn truth(snapshots: &Snapshots, id: SnapshotId) -> Truth {
    snapshots.is_true(&snapshots.store().snapshot(id).unwrap().unwrap()).unwrap()
}

/// Says whether another process would serve it.
pub(crate) fn is_served(snapshots: &Snapshots, content: ContentKey) -> bool {
    let other = Snapshots::new(Store::open(snapshots.store().root()).unwrap(), snapshots.driver()).unwrap();
    other.store().snapshot_by_content(content.as_bytes()).unwrap().is_some()
}

/// Changes a file and hides it.
fn rot(path: &Path) {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    fs::write(path, "other").unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(modified)).unwrap();
}

fn mkfile(editor: &Editor<'_>, path: &str, text: &str) {
    editor.mkdir("d", 0o755, true, None, Some(0)).unwrap();
    editor.mkfile(path, 0o644, text.as_bytes(), None, Some(0)).unwrap();
}

#[test]
fn what_is_as_it_was_is_served_and_true() {
    on_both(|snapshots| {
        let below = commit(snapshots, None, |editor| {
            mkfile(editor, "d/a", "below");
            mkfile(editor, "d/b", "below");
        });
        let above = commit(snapshots, Some(below), |editor| {
            mkfile(editor, "d/b", "above");
            editor.remove("d/a", false, false).unwrap();
            editor.symlink("b", "d/link", None, Some(0)).unwrap();
        });
        for (id, content) in [below, above] {
            assert_eq!(truth(snapshots, id), Truth::True);
            assert!(is_served(snapshots, content));
        }
    });
}

#[test]
fn a_change_that_shows_is_noticed_before_it_is_served() {
    on_both(|snapshots| {
        let below = commit(snapshots, None, |editor| mkfile(editor, "d/a", "below"));
        let above = commit(snapshots, Some(below), |editor| mkfile(editor, "d/b", "above"));
        fs::write(snapshots.directory(above.0).join("d/b"), "abOve").unwrap();
        assert!(!is_served(snapshots, above.1));
        assert!(is_served(snapshots, below.1));
        let again = commit(snapshots, Some(below), |editor| mkfile(editor, "d/b", "above"));
        assert_eq!((again.1, again.0 == above.0), (above.1, false));
        assert!(is_served(snapshots, above.1));
    });
}

#[test]
fn a_change_between_comparing_and_committing_is_noticed() {
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let active = snapshots.prepare(None).unwrap();
    mkfile(&Editor::new(&active).unwrap(), "d/a", "text");
    let diff = diff(&active).unwrap();
    fs::write(active.upper().join("d/a"), "tExt").unwrap();
    let (_, content) = snapshots.commit(active, &diff, ContentKey::empty()).unwrap();
    assert!(!is_served(&snapshots, content));
}

#[test]
fn a_change_that_does_not_show_is_noticed_when_it_is_read() {
    on_both(|snapshots| {
        let below = commit(snapshots, None, |editor| mkfile(editor, "d/a", "below"));
        let above = commit(snapshots, Some(below), |editor| mkfile(editor, "d/b", "above"));
        rot(&snapshots.directory(above.0).join("d/b"));
        assert!(is_served(snapshots, above.1));
        assert_eq!((truth(snapshots, below.0), truth(snapshots, above.0)), (Truth::True, Truth::False));
        fs::remove_file(snapshots.directory(below.0).join("d/a")).unwrap();
        assert_eq!(truth(snapshots, below.0), Truth::False);
        fs::remove_dir_all(snapshots.directory(below.0)).unwrap();
        assert_eq!(truth(snapshots, below.0), Truth::False);
    });
}

#[test]
fn a_layer_under_a_key_from_elsewhere_is_compared_with_its_own() {
    on_both(|snapshots| {
        let below = commit(snapshots, None, |editor| mkfile(editor, "d/a", "below"));
        let active = snapshots.prepare(Some(below.0)).unwrap();
        mkfile(&Editor::new(&active).unwrap(), "d/b", "above");
        let content = ContentKey::from_bytes([9; 32]);
        let id = snapshots.commit_as(active, content).unwrap();
        let child = commit(snapshots, Some((id, content)), |editor| mkfile(editor, "d/c", "child"));
        assert_eq!((truth(snapshots, id), truth(snapshots, child.0)), (Truth::True, Truth::True));
        rot(&snapshots.directory(id).join("d/b"));
        assert_eq!(truth(snapshots, id), Truth::False);
    });
}

#[test]
fn of_what_an_older_version_left_only_what_agrees_is_known() {
    let fixture = Fixture::new();
    // Nobody seals.
    let old = fixture.store.new_snapshot(None).unwrap();
    fs::write(fixture.store.snapshot_dir(old).join("fs/file"), "").unwrap();
    fixture.store.commit_snapshot(old, 0, Some([9; 32])).unwrap();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    assert_eq!(truth(&snapshots, old), Truth::Unknown);
}

#[test]
fn a_damaged_manifest_is_made_anew() {
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let active = snapshots.prepare(None).unwrap();
    mkfile(&Editor::new(&active).unwrap(), "d/a", "text");
    let diff = diff(&active).unwrap();
    let manifest = Manifest::of(&diff, true);
    active.keep_manifest(&manifest).unwrap();
    let (id, content) = snapshots.commit(active, &diff, ContentKey::empty()).unwrap();
    let path = fixture.store.snapshot_dir(id).join("manifest");
    let whole = fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    bytes[40] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(snapshots.manifest(id).unwrap(), Some(manifest));
    assert_eq!(fs::read(&path).unwrap(), whole);
    assert!(is_served(&snapshots, content));
    // One that is gone is not what was committed.
    fs::remove_file(&path).unwrap();
    assert!(!is_served(&snapshots, content));
}
