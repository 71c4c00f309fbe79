use rb_oci::Compression;
use rb_snapshot::DriverKind;

use super::*;
use crate::testing::{Fixture, file, odd_tree, touch};

fn packed(fixture: &Fixture, key: &str, parts: &[LayerPart<View>]) -> (Layer, Vec<u8>) {
    let packing = Packing { compression: Compression::Uncompressed, ..Packing::default() };
    let layer = pack_parts(&fixture.store, &Digest::of(key), parts, packing).expect("packs");
    let bytes = fixture.store.read_blob(&layer.diff_id, 1 << 30).expect("a plain tar is its own blob");
    (layer, bytes)
}

fn names(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().expect("a tar").map(|entry| {
        let entry = entry.expect("an entry");
        assert_eq!(entry.header().mtime().expect("a time"), crate::CNB_TIME as u64);
        String::from_utf8_lossy(&entry.path_bytes()).into_owned()
    });
    entries.collect()
}

#[test]
fn what_go_writes() {
    let fixture = Fixture::new(DriverKind::Copy);
    let parts = [
        LayerPart::Folder { path: "/cnb".into(), mode: 0o755, owner: (0, 0) },
        LayerPart::Text { path: "/cnb/a.toml".into(), owner: (1000, 1001), text: "x = 1\n".into() },
        LayerPart::Link { path: "/cnb/web".into(), target: "/cnb/lifecycle/launcher".into() },
    ];
    let (layer, tar) = packed(&fixture, "one", &parts);
    assert_eq!(tar.len(), 512 * 4 + 1024);
    // Of the same entries, by Go 1.26's archive/tar.
    let go = "sha256:c841c54b92bc4381ff90c7b4ad36174d0536f7be29de5d75c38d3dd5fa6d2143";
    assert_eq!(layer.diff_id.to_string(), go);
    assert_eq!(layer.diff_id, Digest::of(&tar));
    // What is known is not packed again.
    let (again, _) = packed(&fixture, "one", &[]);
    assert_eq!(again, layer);
}

#[test]
fn what_go_writes_where_a_header_does_not_do() {
    let fixture = Fixture::new(DriverKind::Copy);
    let divided = format!("/{}/{}", "d".repeat(90), "f".repeat(80));
    let long = format!("/layers/{}", "f".repeat(120));
    let far = format!("/{}", "t".repeat(120));
    let both = format!("/{}/{}", "x".repeat(98), "y".repeat(300));
    let content = "z".repeat(513);
    let parts = [
        LayerPart::Text { path: divided, owner: (1, 2), text: "split".into() },
        LayerPart::Text { path: long, owner: (3_000_000, 2), text: "long".into() },
        LayerPart::Folder { path: "/layers/wört".into(), mode: 0o755, owner: (1, 3_000_001) },
        LayerPart::Link { path: "/layers/link".into(), target: far },
        LayerPart::Text { path: both, owner: (1, 1), text: content },
    ];
    let (layer, _) = packed(&fixture, "hard", &parts);
    let go = "sha256:0bdd822ecc4cfdb5732ab2e800bb62257fe75e66596fafa7756cdcc1256d66fe";
    assert_eq!(layer.diff_id.to_string(), go);
}

#[test]
fn a_tree_in_both_orders() {
    let fixture = Fixture::new(DriverKind::Copy);
    let id = fixture.commit(None, |root| {
        for path in ["app/a/x", "app/a-b", "app/b"] {
            file(root, path, path, 0o640);
            touch(&root.join(path), 77);
        }
    });
    let view = || fixture.snapshots.view(Some(id)).expect("a view");
    let tree = |choice| LayerPart::Tree {
        tree: view(),
        from: "/app".into(),
        to: "/w".into(),
        owner: Some((7, 8)),
        choice,
    };
    let (_, tar) = packed(&fixture, "all", &[tree(Choice::All)]);
    assert_eq!(names(&tar), ["/w", "/w/a", "/w/a/x", "/w/a-b", "/w/b"]);
    let (_, tar) = packed(&fixture, "by path", &[tree(Choice::ByPath)]);
    assert_eq!(names(&tar), ["/w", "/w/a", "/w/a-b", "/w/a/x", "/w/b"]);
    let these = ["".to_owned(), "a".to_owned(), "a/x".to_owned()];
    let (_, tar) = packed(&fixture, "these", &[tree(Choice::These(these.to_vec()))]);
    assert_eq!(names(&tar), ["/w", "/w/a", "/w/a/x"]);
    let (_, tar) = packed(&fixture, "alone", &[tree(Choice::Alone)]);
    assert_eq!(names(&tar), ["/w"]);
    let missing = LayerPart::File { tree: view(), from: "/none".into(), to: "/x".into(), mode: 0o755 };
    let packing = Packing::default();
    let none = pack_parts(&fixture.store, &Digest::of("none"), &[missing], packing);
    assert!(matches!(none, Err(ExportError::NotFound(_))));
}

/// Everything that a layer can hold is read back by another library.
#[test]
fn others_read_it() {
    let fixture = Fixture::new(DriverKind::Copy);
    let id = fixture.commit(None, |root| odd_tree(root, false));
    let view = fixture.snapshots.view(Some(id)).expect("a view");
    let mut all = Vec::new();
    collect(&view, found(&view, "/", Follow::Yes).expect("a root"), b"/x".to_vec(), &mut all).expect("walks");
    let sockets = all.iter().filter(|(_, entry)| entry.metadata.file_type == FileType::Socket).count();
    let part =
        LayerPart::Tree { tree: view, from: "/".into(), to: "/x".into(), owner: None, choice: Choice::All };
    let (_, tar) = packed(&fixture, "odd", &[part]);
    let mut expected: Vec<String> =
        all.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
    let mut names = names(&tar);
    expected.sort();
    names.sort();
    assert_eq!(names.len() + sockets, expected.len());
    assert!(names.iter().all(|name| expected.contains(name)));
}

#[test]
fn a_packed_layer_keeps_its_tar() {
    let tar = [b"no tar, and nobody looks".repeat(1000), vec![0; 512]].concat();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&tar).and_then(|()| gz.try_finish()).expect("packs");
    let gz = gz.finish().expect("packs");
    let zstd = ::zstd::encode_all(tar.as_slice(), 1).expect("packs");
    let fixture = Fixture::new(DriverKind::Copy);
    let id = fixture.commit(None, |root| {
        for (name, bytes) in
            [("plain", &tar), ("gz", &gz), ("zstd", &zstd), ("torn", &gz[..gz.len() / 2].to_vec())]
        {
            std::fs::write(root.join(name), bytes).expect("writes");
        }
        std::os::unix::fs::symlink("plain", root.join("link")).expect("links");
    });
    let view = fixture.snapshots.view(Some(id)).expect("a view");
    let part = |name: &str| LayerPart::Packed { tree: view.clone(), from: format!("/{name}") };
    for name in ["plain", "gz", "zstd"] {
        let (layer, bytes) = packed(&fixture, name, &[part(name)]);
        assert_eq!((layer.diff_id, bytes), (Digest::of(&tar), tar.clone()), "{name}");
    }
    let packing = Packing { compression: Compression::Uncompressed, ..Packing::default() };
    for parts in
        [vec![part("torn")], vec![part("none")], vec![part("link")], vec![part("plain"), part("plain")]]
    {
        let key = Digest::of(format!("{parts:?}"));
        pack_parts(&fixture.store, &key, &parts, packing).expect_err("cannot be one");
    }
}
