use std::collections::BTreeMap as Map;
use std::fs;
use std::io::Read as _;

use rb_oci::MediaType;
use rb_snapshot::{
    ContentDigest, ContentKey, CopyOptions, DriverKind, Editor, Manifest, Xattrs, layer_diff, make_whiteout,
    mark_opaque,
};

use super::*;
use crate::testing::{Fixture, TarEntry, file, odd_tree, read_tar, touch};

const EPOCH: Epoch = Epoch(1_600_000_000);

/// The uncompressed tar of a layer.
fn tar_of(store: &Store, layer: &Layer) -> Vec<u8> {
    let digest = rb_store::descriptor_digest(&layer.descriptor).expect("is sha256");
    let mut tar = Vec::new();
    let blob = store.blob_reader(&digest).expect("is there");
    flate2::read::GzDecoder::new(blob).read_to_end(&mut tar).expect("is gzip");
    assert_eq!(Digest::of(&tar), layer.diff_id);
    assert_eq!(store.blob_size(&digest).expect("stats"), Some(layer.descriptor.size()));
    tar
}

fn names(tar: &[u8]) -> Vec<String> {
    read_tar(tar).iter().map(TarEntry::name).collect()
}

fn pack(fixture: &Fixture, id: SnapshotId) -> Option<Layer> {
    pack_layer(&fixture.store, &fixture.snapshots, id, EPOCH, Packing::default()).expect("packs")
}

#[test]
fn holds_everything_in_order() {
    let fixture = Fixture::new(DriverKind::Overlay);
    let id = fixture.commit(None, |root| {
        odd_tree(root, false);
        touch(&root.join("a-b"), 1_000_000_000);
        touch(&root.join("a.txt"), 1_900_000_000);
    });
    let layer = pack(&fixture, id).expect("is not empty");
    assert_eq!(layer.descriptor.media_type(), &MediaType::ImageLayerGzip);
    let tar = tar_of(&fixture.store, &layer);
    let long = format!("long/{}/", "d".repeat(120));
    let expected = [
        "a/",
        "a-b",
        "a.txt",
        "a/b",
        "a/big-too",
        "a/c/",
        "a/c/deep",
        "a/link",
        "big",
        "empty/",
        "far",
        "héllo/",
        "héllo/wörld",
        "long/",
        &long,
        &format!("{long}{}", "f".repeat(200)),
        "pipe",
        "setuid",
    ];
    assert_eq!(names(&tar), expected);

    let seen: Map<String, TarEntry> = read_tar(&tar).into_iter().map(|entry| (entry.name(), entry)).collect();
    let first = &seen["a/big-too"];
    assert_eq!((first.header.entry_type(), first.content.len()), (tar::EntryType::Regular, 2_800_000));
    let second = &seen["big"];
    assert_eq!(
        (second.header.entry_type(), second.link.as_deref()),
        (tar::EntryType::Link, Some(&b"a/big-too"[..]))
    );
    let header = &seen["a/b"].header;
    assert_eq!((header.mode().expect("number"), header.gid().expect("number")), (0o755, 12));
    assert_eq!(seen["a/b"].record("uid"), Some(&b"3000000"[..]));
    assert_eq!((seen["a-b"].modified(), seen["a.txt"].modified()), (1_000_000_000, 1_600_000_000));
    assert_eq!(seen["a.txt"].record("SCHILY.xattr.user.note"), Some(&b"\0v=\n\xff"[..]));
    assert_eq!(seen["far"].link.as_deref(), Some("/".repeat(150).as_bytes()));
    assert_eq!(seen["setuid"].header.mode().expect("number"), 0o4755);
    assert_eq!(seen["empty/"].header.mode().expect("number"), 0o1777);
    assert_eq!(seen["pipe"].header.entry_type(), tar::EntryType::Fifo);
}

#[test]
fn depends_on_the_tree_only() {
    let digests = |driver, shuffle, seconds, threads| {
        let fixture = Fixture::new(driver);
        let id = fixture.commit(None, |root| {
            odd_tree(root, shuffle);
            for name in ["a-b", "big", "a", "far", "empty"] {
                touch(&root.join(name), seconds);
            }
        });
        let diff = fixture.snapshots.diff_of(id).expect("reads");
        let view = View::of_directory(fixture.snapshots.directory(id));
        let layer =
            pack_diff(&fixture.store, &diff, &view, EPOCH, Packing::default(), threads).expect("packs");
        (layer.diff_id, layer.descriptor.digest().to_string())
    };
    let one = digests(DriverKind::Overlay, false, 1_700_000_000, 1);
    assert_eq!(digests(DriverKind::Overlay, true, 1_800_000_000, 2), one);
    assert_eq!(digests(DriverKind::Copy, true, 1_600_000_001, 5), one);
    assert_ne!(digests(DriverKind::Overlay, false, 1_500_000_000, 1), one, "times before the epoch are kept");
}

#[test]
fn deletions_are_whiteouts_under_either_driver() {
    let mut tars = Vec::new();
    for driver in [DriverKind::Overlay, DriverKind::Copy] {
        let fixture = Fixture::new(driver);
        let base = fixture.commit(None, |root| {
            for path in ["dir/one", "dir/two", "gone/file", "kept/file", "remade/old"] {
                file(root, path, "x", 0o644);
                touch(&root.join(path), 5);
            }
        });
        let top = fixture.commit(Some(base), |root| {
            if driver == DriverKind::Copy {
                fs::remove_file(root.join("dir/one")).expect("removes");
                fs::remove_dir_all(root.join("gone")).expect("removes");
                fs::remove_file(root.join("remade/old")).expect("removes");
                file(root, "remade/new", "x", 0o644);
                return;
            }
            let open = |path: &Path| fs::File::open(path).expect("opens");
            use std::os::fd::AsFd as _;
            make_whiteout(open(root).as_fd(), "gone".as_ref()).expect("deletes");
            fs::create_dir(root.join("dir")).expect("makes");
            make_whiteout(open(&root.join("dir")).as_fd(), "one".as_ref()).expect("deletes");
            file(root, "remade/new", "x", 0o644);
            mark_opaque(open(&root.join("remade")).as_fd(), Xattrs::Trusted).expect("marks");
        });
        let tar = tar_of(&fixture.store, &pack(&fixture, top).expect("is not empty"));
        assert_eq!(
            names(&tar),
            ["dir/", "dir/.wh.one", ".wh.gone", "remade/", "remade/new", "remade/.wh.old"]
        );
        tars.push(tar);
    }
    assert!(tars[0] == tars[1], "the drivers differ");
}

#[test]
fn an_opaque_directory_is_marked_before_its_content() {
    let fixture = Fixture::new(DriverKind::Overlay);
    let root = fixture.directory.path().join("layer");
    file(&root, "dir/a", "x", 0o644);
    use std::os::fd::AsFd as _;
    mark_opaque(fs::File::open(root.join("dir")).expect("opens").as_fd(), Xattrs::Trusted).expect("marks");
    let diff = layer_diff(&root).expect("reads");
    let view = View::of_directory(&root);
    let layer = pack_diff(&fixture.store, &diff, &view, EPOCH, Packing::default(), 1).expect("packs");
    let tar = tar_of(&fixture.store, &layer);
    assert_eq!(names(&tar), ["dir/", "dir/.wh..wh..opq", "dir/a"]);
    assert!(!String::from_utf8_lossy(&tar).contains("overlay"));
}

#[test]
fn nothing_changed_is_no_layer_and_nothing_is_packed_twice() {
    let fixture = Fixture::new(DriverKind::Overlay);
    let id = fixture.commit(None, |root| file(root, "file", "x", 0o644));
    let layer = pack(&fixture, id).expect("is not empty");
    // What is remembered is believed: the snapshot is not looked at again.
    fs::remove_file(fixture.snapshots.directory(id).join("file")).expect("removes");
    assert_eq!(pack(&fixture, id), Some(layer.clone()));
    // Another epoch, another layer.
    let empty =
        pack_layer(&fixture.store, &fixture.snapshots, id, Epoch(0), Packing::default()).expect("packs");
    assert_eq!(empty, None);
    let row = LayerRow { diff_id: Digest::of("original"), descriptor: layer.descriptor };
    fixture.store.put_layer(&Store::original_layer_key(id), &row).expect("puts");
    assert_eq!(pack(&fixture, id).map(|layer| layer.diff_id), Some(Digest::of("original")));
}

#[test]
fn a_name_that_means_deletion_is_refused() {
    let fixture = Fixture::new(DriverKind::Overlay);
    let id = fixture.commit(None, |root| file(root, "dir/.wh.file", "x", 0o644));
    let error = pack_layer(&fixture.store, &fixture.snapshots, id, EPOCH, Packing::default())
        .expect_err("cannot be said");
    assert!(matches!(error, ExportError::Unrepresentable { .. }), "{error}");
    assert_eq!(fs::read_dir(fixture.store.root().join("tmp")).expect("lists").count(), 0);
}

const ZSTD: Compression = Compression::Zstd { level: 3 };

/// Packs in some compression.
fn pack_as(fixture: &Fixture, id: SnapshotId, compression: Compression, force: bool) -> Layer {
    let packing = Packing { compression, force, ..Packing::default() };
    let packed = pack_layer(&fixture.store, &fixture.snapshots, id, EPOCH, packing);
    packed.expect("packs").expect("is not empty")
}

fn plain(store: &Store, layer: &Layer) -> Vec<u8> {
    let digest = rb_store::descriptor_digest(&layer.descriptor).expect("is sha256");
    let compression = Compression::of_media_type(layer.descriptor.media_type()).expect("is a layer");
    let blob = store.blob_reader(&digest).expect("is there");
    let mut bytes = Vec::new();
    decoder(compression, blob).expect("opens").read_to_end(&mut bytes).expect("reads");
    bytes
}

#[test]
fn one_tar_in_each_compression_and_none_is_made_twice() {
    let fixture = Fixture::new(DriverKind::Overlay);
    let write = |root: &Path| file(root, "file", "text ".repeat(100_000), 0o644);
    let id = fixture.commit(None, write);
    let all = [Compression::Uncompressed, Compression::Gzip { level: 1 }, Compression::default(), ZSTD];
    let layers = all.map(|compression| pack_as(&fixture, id, compression, false));
    let tar = plain(&fixture.store, &layers[0]);
    for (layer, compression) in layers.iter().zip(all) {
        assert_eq!((layer.diff_id, &plain(&fixture.store, layer)), (Digest::of(&tar), &tar));
        assert_eq!(*layer.descriptor.media_type(), compression.media_type(MediaTypes::Oci));
    }
    let digests: BTreeSet<String> =
        layers.iter().map(|layer| layer.descriptor.digest().to_string()).collect();
    assert_eq!(digests.len(), all.len());
    // Each is remembered: the snapshot is not looked at again.
    fs::remove_file(fixture.snapshots.directory(id).join("file")).expect("removes");
    for (layer, compression) in layers.iter().zip(all) {
        assert_eq!(pack_as(&fixture, id, compression, true), *layer);
    }
}

#[test]
fn what_came_otherwise_stays_so_unless_forced() {
    let fixture = Fixture::new(DriverKind::Overlay);
    let id = fixture.commit(None, |root| file(root, "file", "x", 0o644));
    let gzip = pack_as(&fixture, id, Compression::Gzip { level: 1 }, false);
    let row = LayerRow { diff_id: gzip.diff_id, descriptor: gzip.descriptor.clone() };
    fixture.store.put_layer(&Store::original_layer_key(id), &row).expect("puts");
    // Only the blob is left to be read.
    fs::remove_file(fixture.snapshots.directory(id).join("file")).expect("removes");
    assert_eq!(pack_as(&fixture, id, ZSTD, false), gzip);
    assert_eq!(
        pack_as(&fixture, id, Compression::default(), true),
        gzip,
        "another level is no other compression"
    );
    let zstd = pack_as(&fixture, id, ZSTD, true);
    assert_eq!((zstd.diff_id, plain(&fixture.store, &zstd)), (gzip.diff_id, plain(&fixture.store, &gzip)));
    assert_eq!(pack_as(&fixture, id, ZSTD, true), zstd);

    let lying = LayerRow { diff_id: Digest::of("another"), descriptor: gzip.descriptor };
    fixture.store.put_layer(&Store::original_layer_key(id), &lying).expect("puts");
    let packing = Packing { compression: ZSTD, force: true, ..Packing::default() };
    let error =
        pack_layer(&fixture.store, &fixture.snapshots, id, EPOCH, packing).expect_err("is another tar");
    assert!(matches!(error, ExportError::DiffId { .. }), "{error}");
}

#[test]
fn what_is_packed_is_counted_layer_by_layer() {
    let fixture = Fixture::new(DriverKind::Overlay);
    let base = fixture.commit(None, |root| file(root, "one", "12345", 0o644));
    let top = fixture.commit(Some(base), |root| file(root, "two", "123", 0o644));
    let tally = std::sync::Arc::new(rb_snapshot::Tally::default());
    let options = crate::ImageOptions { tally: Some(tally.clone()), ..Default::default() };
    let config = rb_oci::ImageConfig::scratch(&rb_oci::Platform::host());
    let export = || {
        crate::export_image(&fixture.store, &fixture.snapshots, Some(top), &config, EPOCH, &options)
            .expect("exports")
    };
    export();
    let last = rb_snapshot::Count { bytes: 3, all_bytes: 3, part: 2, all_parts: 2, ..Default::default() };
    assert_eq!(tally.look(), last);
    // What is stored is not packed.
    export();
    assert_eq!(tally.look(), rb_snapshot::Count { bytes: 0, all_bytes: 0, ..last });
}

#[test]
fn packing_that_is_no_longer_wanted_ends() {
    let fixture = Fixture::new(DriverKind::Overlay);
    let id = fixture.commit(None, |root| file(root, "file", "x", 0o644));
    let cancelled = AtomicBool::new(true);
    let packing = Packing { cancelled: Some(&cancelled), ..Packing::default() };
    let error = pack_layer(&fixture.store, &fixture.snapshots, id, EPOCH, packing).expect_err("is given up");
    assert!(matches!(error, ExportError::Cancelled), "{error}");
    assert_eq!(fs::read_dir(fixture.store.root().join("tmp")).expect("lists").count(), 0);
}

/// Of a layer that does not fit, only what is being compressed may be in memory.
#[test]
fn a_large_layer_is_packed_in_little_memory() {
    let fixture = Fixture::new(DriverKind::Overlay);
    let id = fixture.commit(None, |root| {
        let large = fs::File::create(root.join("large")).expect("makes");
        large.set_len(256 << 20).expect("is sparse");
    });
    let peak = || {
        let status = fs::read_to_string("/proc/self/status").expect("reads");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("has one");
        line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number") >> 10
    };
    let before = peak();
    for compression in [Compression::default(), ZSTD] {
        pack_as(&fixture, id, compression, false);
    }
    let after = peak();
    assert!(after - before < 150, "{before} MiB before, {after} MiB after");
}

/// A folder of the user's, in which `edits` were made.
fn folder(edits: &[fn(&Path)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("temp dir");
    for number in 0..60 {
        let path = format!("{}/{number}.txt", ["a", "a.b", "a/deep", "b"][number % 4]);
        file(folder.path(), &path, format!("{number}").repeat(number), 0o644);
    }
    edits.iter().for_each(|edit| edit(folder.path()));
    let mut directories = vec![folder.path().to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("lists") {
            let entry = entry.expect("lists");
            match entry.file_type().expect("looks").is_dir() {
                true => directories.push(entry.path()),
                false => touch(&entry.path(), 1_000_000_000),
            }
        }
        touch(&directory, 1_000_000_007);
    }
    folder
}

/// Copies it onto `parent`; of what an earlier copy left as much as possible is taken over.
fn copied(
    snapshots: &Snapshots,
    folder: &Path,
    parent: Option<SnapshotId>,
    earlier: Option<SnapshotId>,
) -> SnapshotId {
    let view = View::of_directory(folder);
    let digest = |path: &Path| {
        let entry = view.lookup(path, Follow::No).expect("looks")?;
        (entry.metadata.file_type == FileType::File)
            .then(|| ContentDigest::of(fs::read(folder.join(path)).expect("reads")))
    };
    let reuse = earlier.and_then(|earlier| snapshots.reuse_on(earlier, parent).expect("opens"));
    let options = CopyOptions {
        dir_copy_contents: true,
        create_dest_path: true,
        owner: Some((0, 0)),
        timestamp: Some(1_100_000_000_000_000_000),
        normalise_modes: true,
        verify: Some(&digest),
        reuse: reuse.as_ref(),
        ..CopyOptions::default()
    };
    let active = snapshots.prepare(parent).expect("prepares");
    Editor::new(&active).expect("opens").copy(&view, "/", "/src", &options).expect("copies");
    let diff = rb_snapshot::diff(&active).expect("compares");
    active.keep_manifest(&Manifest::of(&diff, false)).expect("writes");
    let salt = ContentKey::from_bytes([parent.map_or(0, |id| u8::try_from(id.0).expect("fits")); 32]);
    snapshots.commit(active, &diff, salt).expect("commits").0
}

#[test]
fn a_layer_in_two_parts_is_packed_as_one_byte_for_byte() {
    use std::os::unix::fs::symlink;
    let edits: [fn(&Path); 9] = [
        |root| file(root, "a/4.txt", "changed", 0o644),
        |root| file(root, "a/4.txt", "changed again", 0o755),
        |root| file(root, "new/one", "new", 0o644),
        |root| fs::remove_file(root.join("a.b/5.txt")).expect("removes"),
        |root| fs::remove_dir_all(root.join("new")).expect("removes"),
        |root| symlink("a/4.txt", root.join("link")).expect("links"),
        |root| fs::remove_file(root.join("b/3.txt")).expect("removes"),
        |root| file(root, "b/3.txt/inside", "", 0o600),
        |root| fs::create_dir(root.join("empty")).expect("makes"),
    ];
    let fixture = Fixture::new(DriverKind::Overlay);
    let base = |fixture: &Fixture| {
        fixture.commit(None, |root| {
            file(root, "src/b/other", "below", 0o600);
            for path in ["src/b/other", "src/b", "src", ""] {
                touch(&root.join(path), 900_000_000);
            }
        })
    };
    let config: rb_oci::ImageConfig = serde_json::from_value(serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] },
        "history": [{ "created_by": "base" }, { "created_by": "COPY" }],
    }))
    .expect("is a config");
    let export = |fixture: &Fixture, id| {
        let (store, snapshots) = (&fixture.store, &fixture.snapshots);
        let options = crate::ImageOptions::default();
        crate::export_image(store, snapshots, Some(id), &config, EPOCH, &options).expect("exports")
    };
    let parent = Some(base(&fixture));
    let mut last = copied(&fixture.snapshots, folder(&[]).path(), parent, None);
    for count in 1..=edits.len() {
        let folder = folder(&edits[..count]);
        last = copied(&fixture.snapshots, folder.path(), parent, Some(last));
        assert_eq!(fixture.snapshots.chain(Some(last)).expect("reads").len(), 3, "after {count} edits");
        let clean = Fixture::new(DriverKind::Overlay);
        let whole = copied(&clean.snapshots, folder.path(), Some(base(&clean)), None);
        assert_eq!(clean.snapshots.chain(Some(whole)).expect("reads").len(), 2);
        assert_eq!(pack(&fixture, last), pack(&clean, whole), "after {count} edits");
        assert_eq!(export(&fixture, last), export(&clean, whole), "after {count} edits");
    }
}
