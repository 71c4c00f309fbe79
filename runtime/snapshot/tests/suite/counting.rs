//! How far copies and digests are, as who watches them sees it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rb_snapshot::{
    ContentDigest, ContentKey, CopyOptions, Count, DriverKind, Editor, Follow, Manifest, Tally, View, diff,
};

use crate::support::Fixture;

/// A folder of five names: two files, one of them twice, a link and a file of holes.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("sub")).unwrap();
    fs::write(at("one"), "12345").unwrap();
    fs::write(at("sub/two"), "x".repeat(300_000)).unwrap();
    fs::hard_link(at("one"), at("sub/one-too")).unwrap();
    symlink("one", at("link")).unwrap();
    fs::File::create(at("holes")).unwrap().set_len(1 << 20).unwrap();
    folder
}

const BYTES: u64 = 5 + 300_000 + (1 << 20);

#[test]
fn all_that_is_copied_is_counted() {
    let folder = folder();
    let view = View::of_directory(folder.path());
    let fixture = Fixture::new();
    for driver in [DriverKind::Overlay, DriverKind::Copy] {
        let snapshots = fixture.snapshots(driver);
        let active = snapshots.prepare(None).unwrap();
        let tally = Tally::default();
        let options = CopyOptions { dir_copy_contents: true, tally: Some(&tally), ..CopyOptions::default() };
        let editor = Editor::new(&active).unwrap();
        let all = Count { files: 5, all_files: 5, bytes: BYTES, all_bytes: BYTES, ..Count::default() };
        editor.copy(&view, "/", "/", &options).unwrap();
        assert_eq!(tally.look(), all, "{driver:?}");
        // What more there is to do adds up; what is left out is not counted.
        let exclude_patterns = vec!["sub".to_owned(), "holes".to_owned()];
        editor
            .copy(
                &view,
                "/",
                "/again/",
                &CopyOptions { exclude_patterns, create_dest_path: true, ..options.clone() },
            )
            .unwrap();
        editor.copy(&view, "/one", "/single", &options).unwrap();
        let bytes = BYTES + 5 + 5;
        assert_eq!(
            tally.look(),
            Count { files: 8, all_files: 8, bytes, all_bytes: bytes, ..all },
            "{driver:?}"
        );
    }
}

#[test]
fn what_is_taken_over_from_an_earlier_layer_counts_as_done() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..9 {
        fs::write(folder.path().join(number.to_string()), "same").unwrap();
    }
    let view = View::of_directory(folder.path());
    let same = ContentDigest::of("same");
    let verify = |_: &Path| Some(same);
    let fixture = Fixture::new();
    let snapshots = fixture.snapshots(DriverKind::Overlay);
    let mut earlier = None;
    for _ in 0..2 {
        let active = snapshots.prepare(None).unwrap();
        let tally = Tally::default();
        let options = CopyOptions {
            dir_copy_contents: true,
            verify: Some(&verify),
            reuse: earlier.as_ref(),
            tally: Some(&tally),
            ..CopyOptions::default()
        };
        Editor::new(&active).unwrap().copy(&view, "/", "/", &options).unwrap();
        let all = Count { files: 9, all_files: 9, bytes: 36, all_bytes: 36, ..Count::default() };
        assert_eq!(tally.look(), all);
        let changes = diff(&active).unwrap();
        active.keep_manifest(&Manifest::of(&changes, true)).unwrap();
        let (snapshot, _) = snapshots.commit(active, &changes, ContentKey::empty()).unwrap();
        earlier = snapshots.reuse(snapshot).unwrap();
    }
}

#[test]
fn what_is_read_for_a_digest_is_counted_once() {
    let folder = folder();
    let tally = Tally::default();
    let view = View::of_directory(folder.path());
    let key = view.content_digest_counted("", Follow::No, &tally).unwrap();
    assert_eq!(tally.look(), Count { bytes: BYTES, all_bytes: BYTES, ..Count::default() });
    assert_eq!(key, view.content_digest("", Follow::No).unwrap());
}
