use std::collections::BTreeMap as Map;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use rb_oci::ImageConfig;
use rb_snapshot::{DriverKind, Follow, SnapshotId, View};

use super::*;
use crate::testing::{Fixture, file, odd_tree, read_tar};
use crate::{Epoch, ImageOptions, export_image};

fn image(fixture: &Fixture, root: Option<SnapshotId>) -> Descriptor {
    let mut config = ImageConfig::scratch(&Platform::host());
    config.config.env = vec!["A=1".to_owned()];
    export_image(
        &fixture.store,
        &fixture.snapshots,
        root,
        &config,
        Epoch(1_600_000_000),
        &ImageOptions::default(),
    )
    .expect("exports")
}

/// An image of two layers, the upper one of which deletes.
fn sample(fixture: &Fixture) -> (SnapshotId, Descriptor) {
    let base = fixture.commit(None, |root| {
        odd_tree(root, false);
        file(root, "gone/file", "x", 0o644);
    });
    let top = fixture.commit(Some(base), |root| {
        use std::os::fd::AsFd as _;
        let directory = File::open(root).expect("opens");
        rb_snapshot::make_whiteout(directory.as_fd(), "gone".as_ref()).expect("deletes");
        file(root, "a/new", "y", 0o640);
    });
    (top, image(fixture, Some(top)))
}

/// Runs a tool; `None`, with a word, where it is missing.
fn run(tool: &str, arguments: &[&str]) -> Option<String> {
    let output = match Command::new(tool).args(arguments).output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("steps aside: there is no {tool}: {error}");
            return None;
        }
    };
    assert!(output.status.success(), "{tool} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).expect("is text"))
}

#[test]
fn a_layout_holds_what_its_index_names() {
    let fixture = Fixture::new(DriverKind::Overlay);
    let (_, descriptor) = sample(&fixture);
    let dest = fixture.directory.path().join("out/layout");
    let images = [
        (Some("docker.io/library/app:1".to_owned()), descriptor.clone()),
        (Some("localhost:5000/app".to_owned()), descriptor.clone()),
        (None, image(&fixture, None)),
    ];
    write_oci_layout(&fixture.store, &images, &dest, &Tally::default()).expect("writes");
    assert_eq!(fs::read(dest.join("oci-layout")).expect("reads"), LAYOUT);
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(dest.join("index.json")).expect("reads")).expect("parses");
    let annotation =
        |place: usize, key: &str| index["manifests"][place]["annotations"][key].as_str().map(str::to_owned);
    assert_eq!(annotation(0, "io.containerd.image.name").as_deref(), Some("docker.io/library/app:1"));
    assert_eq!(annotation(0, "org.opencontainers.image.ref.name").as_deref(), Some("1"));
    assert_eq!(annotation(1, "io.containerd.image.name").as_deref(), Some("localhost:5000/app"));
    assert_eq!(annotation(1, "org.opencontainers.image.ref.name").as_deref(), Some("latest"));
    assert!(index["manifests"][2].get("annotations").is_none());
    // Two manifests, two configs, two layers.
    let mut count = 0;
    for blob in fs::read_dir(dest.join("blobs/sha256")).expect("lists") {
        let blob = blob.expect("lists");
        let digest = Digest::of(fs::read(blob.path()).expect("reads"));
        assert_eq!(blob.file_name().to_str(), Some(digest.hex().as_str()));
        count += 1;
    }
    assert_eq!(count, 6);

    // Written again it is the same, to the byte; what is no layout is left alone.
    let before = fs::read(dest.join("index.json")).expect("reads");
    write_oci_layout(&fixture.store, &images, &dest, &Tally::default()).expect("adds");
    assert_eq!(fs::read(dest.join("index.json")).expect("reads"), before);
    assert_eq!(fs::read_dir(dest.join("blobs/sha256")).expect("lists").count(), 6);
    assert_eq!(
        fs::read_dir(dest.parent().expect("has one")).expect("lists").count(),
        1,
        "a temporary file stayed"
    );
    let precious = fixture.directory.path().join("precious");
    file(&precious, "thesis", "x", 0o644);
    let error =
        write_oci_layout(&fixture.store, &images, &precious, &Tally::default()).expect_err("is in the way");
    assert!(matches!(error, ExportError::InTheWay(_)), "{error}");
    assert!(precious.join("thesis").exists());
}

#[test]
fn a_missing_or_damaged_blob_stops_the_export_and_leaves_nothing() {
    let fixture = Fixture::new(DriverKind::Overlay);
    let (_, descriptor) = sample(&fixture);
    let images = [(None, descriptor.clone())];
    let out = fixture.directory.path().join("out");
    fs::create_dir(&out).expect("makes");
    let mut blobs = BTreeSet::new();
    collect(&fixture.store, &descriptor, MAX_DEPTH, &BTreeSet::new(), &mut blobs).expect("is whole");
    let layer =
        blobs.iter().max_by_key(|digest| fixture.store.blob_size(digest).expect("stats")).expect("has blobs");
    let path = fixture.store.blob_path(layer);
    let mut bytes = fs::read(&path).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).expect("damages");
    write_oci_tar_file(&fixture.store, &images, &out.join("x.tar"), &Tally::default())
        .expect_err("is damaged");
    let error = write_oci_layout(&fixture.store, &images, &out.join("x"), &Tally::default())
        .expect_err("is missing by now");
    assert!(matches!(error, ExportError::Store(rb_store::StoreError::UnknownBlob(_))), "{error}");
    assert_eq!(fs::read_dir(&out).expect("lists").count(), 0);
    // Who has it, does without.
    let known = BTreeSet::from([*layer]);
    for _new_and_added_to in 0..2 {
        write_oci_layout_without(&fixture.store, &images, &known, &out.join("x"), &Tally::default())
            .expect("does without");
        let found = fs::read_dir(out.join("x/blobs/sha256")).expect("lists");
        assert_eq!(found.count(), blobs.len() - 1);
    }
}

#[test]
fn an_archive_is_sorted_and_the_same_each_time() {
    let fixture = Fixture::new(DriverKind::Overlay);
    let (_, descriptor) = sample(&fixture);
    let images = [(Some("app:1".to_owned()), descriptor.clone()), (Some("app:2".to_owned()), descriptor)];
    let write = || {
        let mut bytes = Vec::new();
        write_oci_tar(&fixture.store, &images, &mut bytes, &Tally::default()).expect("writes");
        bytes
    };
    let bytes = write();
    assert!(write() == bytes);
    let dest = fixture.directory.path().join("app.tar");
    fs::write(&dest, "old").expect("writes");
    write_oci_tar_file(&fixture.store, &images, &dest, &Tally::default()).expect("writes");
    assert!(fs::read(&dest).expect("reads") == bytes);
    let error = write_oci_tar_file(&fixture.store, &images, fixture.directory.path(), &Tally::default())
        .expect_err("is a directory");
    assert!(matches!(error, ExportError::IsDirectory(_)), "{error}");

    let documents: Map<_, _> =
        read_tar(&bytes).into_iter().map(|entry| (entry.name(), entry.content)).collect();
    let docker: serde_json::Value = serde_json::from_slice(&documents["manifest.json"]).expect("parses");
    assert_eq!(docker.as_array().map(Vec::len), Some(1));
    assert_eq!(docker[0]["RepoTags"], serde_json::json!(["app:1", "app:2"]));
    for path in docker[0]["Layers"].as_array().into_iter().flatten().chain([&docker[0]["Config"]]) {
        assert!(documents.contains_key(path.as_str().expect("is text")), "{path}");
    }
}

#[test]
fn an_index_is_followed_so_far() {
    let fixture = Fixture::new(DriverKind::Overlay);
    let mut descriptor = image(&fixture, None);
    for depth in 0..5 {
        let json = serde_json::json!({"schemaVersion": 2, "manifests": [descriptor]}).to_string();
        let digest = fixture.store.put_blob(json.as_bytes()).expect("puts");
        descriptor =
            crate::image::describe(&MediaType::ImageIndex, &digest, json.len() as u64).expect("describes");
        let result =
            write_oci_tar(&fixture.store, &[(None, descriptor.clone())], io::sink(), &Tally::default());
        if depth < 3 {
            result.expect("writes");
        } else {
            assert!(matches!(result, Err(ExportError::TooDeep(_))));
        }
    }
}

#[test]
fn tags_and_digests() {
    assert_eq!(tagged("app").as_deref(), Some("app:latest"));
    assert_eq!(tagged("localhost:5000/app").as_deref(), Some("localhost:5000/app:latest"));
    assert_eq!(tagged("localhost:5000/app:2").as_deref(), Some("localhost:5000/app:2"));
    assert_eq!(tagged("app@sha256:00"), None);
    assert_eq!(tagged("app:1@sha256:00"), None);
}

#[test]
fn skopeo_reads_and_copies_both_forms() {
    let fixture = Fixture::new(DriverKind::Overlay);
    let (_, descriptor) = sample(&fixture);
    let images = [(Some("docker.io/library/app:1".to_owned()), descriptor.clone())];
    let at = |name: &str| fixture.directory.path().join(name).display().to_string();
    write_oci_layout(&fixture.store, &images, Path::new(&at("layout")), &Tally::default()).expect("writes");
    write_oci_tar_file(&fixture.store, &images, Path::new(&at("app.tar")), &Tally::default())
        .expect("writes");
    let policy = at("policy.json");
    fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).expect("writes");
    for source in [
        format!("oci:{}:1", at("layout")),
        format!("oci-archive:{}:1", at("app.tar")),
        format!("docker-archive:{}:app:1", at("app.tar")),
    ] {
        let Some(text) = run("skopeo", &["--tmpdir", &at(""), "inspect", &source]) else { return };
        let seen: serde_json::Value = serde_json::from_str(&text).expect("is JSON");
        assert_eq!(seen["Layers"].as_array().map(Vec::len), Some(2), "{source}");
        assert_eq!(seen["Env"], serde_json::json!(["A=1"]), "{source}");
        if !source.starts_with("docker") {
            assert_eq!(seen["Digest"].as_str(), Some(descriptor.digest().to_string().as_str()), "{source}");
        }
        let copy = at("copy");
        let dest = format!("oci:{copy}:x");
        run("skopeo", &["--tmpdir", &at(""), "--policy", &policy, "copy", "--quiet", &source, &dest]);
        fs::remove_dir_all(copy).expect("was copied");
    }
}

/// What `umoci` unpacks must be the tree of the snapshot.
#[test]
fn umoci_unpacks_the_same_tree() {
    let fixture = Fixture::new(DriverKind::Overlay);
    let (top, descriptor) = sample(&fixture);
    let layout = fixture.directory.path().join("layout");
    write_oci_layout(&fixture.store, &[(Some("app:1".to_owned()), descriptor)], &layout, &Tally::default())
        .expect("writes");
    let bundle = fixture.directory.path().join("bundle");
    let reference = format!("{}:1", layout.display());
    if run("umoci", &["unpack", "--image", &reference, &bundle.display().to_string()]).is_none() {
        return;
    }
    let ours = fixture.snapshots.view(Some(top)).expect("reads");
    let theirs = View::of_directory(bundle.join("rootfs"));
    let list = |view: &View| -> Vec<_> {
        view.walk("").expect("lists").map(|entry| entry.expect("lists")).collect()
    };
    // The root directory itself is not part of a layer.
    let ours_list: Vec<_> = list(&ours).into_iter().skip(1).collect();
    let theirs_list: Vec<_> = list(&theirs).into_iter().skip(1).collect();
    assert_eq!(
        ours_list.iter().map(|entry| &entry.path).collect::<Vec<_>>(),
        theirs_list.iter().map(|entry| &entry.path).collect::<Vec<_>>()
    );
    for (one, two) in ours_list.iter().zip(&theirs_list) {
        let (a, b) = (&one.metadata, &two.metadata);
        assert_eq!(
            (a.file_type, a.mode, a.uid, a.gid),
            (b.file_type, b.mode, b.uid, b.gid),
            "{:?}",
            one.path
        );
        assert_eq!(
            b.modified_ns / 1_000_000_000,
            (a.modified_ns / 1_000_000_000).min(1_600_000_000),
            "{:?}",
            one.path
        );
        assert_eq!(ours.xattrs(one).expect("reads"), theirs.xattrs(two).expect("reads"), "{:?}", one.path);
        let key = |view: &View, entry: &rb_snapshot::Entry| {
            view.content_digest(&entry.path, Follow::No).expect("reads")
        };
        if a.file_type != rb_snapshot::FileType::Directory {
            assert_eq!(key(&ours, one), key(&theirs, two), "{:?}", one.path);
        }
    }
    let rootfs = bundle.join("rootfs");
    let inode = |name: &str| fs::metadata(rootfs.join(name)).expect("stats").ino();
    assert_eq!(inode("big"), inode("a/big-too"));
}

#[test]
fn a_link_to_a_layout_is_followed_its_mode_stays_and_blobs_are_counted() {
    use std::os::unix::fs::PermissionsExt as _;
    let fixture = Fixture::new(DriverKind::Overlay);
    let (_, descriptor) = sample(&fixture);
    let images = [(Some("app:1".to_owned()), descriptor)];
    let at = |name: &str| fixture.directory.path().join(name);
    fs::create_dir(at("real")).expect("makes");
    fs::set_permissions(at("real"), fs::Permissions::from_mode(0o700)).expect("chmods");
    std::os::unix::fs::symlink("real", at("link")).expect("links");
    let tally = Tally::default();
    write_oci_layout(&fixture.store, &images, &at("link"), &tally).expect("writes");
    assert!(at("link").is_symlink() && at("real/oci-layout").exists());
    assert_eq!(fs::metadata(at("real")).expect("stats").mode() & 0o777, 0o700);
    let blobs = fs::read_dir(at("real/blobs/sha256")).expect("lists");
    let size_bytes: u64 = blobs.map(|blob| blob.and_then(|blob| blob.metadata()).expect("stats").len()).sum();
    assert_eq!((tally.look().bytes, tally.look().all_bytes), (size_bytes, size_bytes));
}

/// Returns the names of a layout with the digests that they stand for.
fn names(dest: &Path) -> Vec<(String, String)> {
    let bytes = fs::read(dest.join("index.json")).expect("reads");
    let index: serde_json::Value = serde_json::from_slice(&bytes).expect("parses");
    let entries = index["manifests"].as_array().cloned().unwrap_or_default();
    let name = |entry: &serde_json::Value| {
        let name = entry["annotations"]["io.containerd.image.name"].as_str().unwrap_or_default();
        (name.to_owned(), entry["digest"].as_str().unwrap_or_default().to_owned())
    };
    entries.iter().map(name).collect()
}

#[test]
fn a_layout_that_is_there_is_added_to_and_a_name_moves() {
    let fixture = Fixture::new(DriverKind::Overlay);
    let (_, one) = sample(&fixture);
    let two = image(&fixture, None);
    let dest = fixture.directory.path().join("layout");
    let write = |name: Option<&str>, image: &Descriptor| {
        let images = [(name.map(ToOwned::to_owned), image.clone())];
        write_oci_layout(&fixture.store, &images, &dest, &Tally::default())
    };
    let digest = |image: &Descriptor| image.digest().to_string();
    write(Some("app:1"), &one).expect("writes");
    // What others wrote of their images is kept as it is.
    let index = dest.join("index.json");
    let text = fs::read_to_string(&index).expect("reads").replacen("\"size\"", "\"x-own\":[1],\"size\"", 1);
    fs::write(&index, text).expect("writes");
    write(Some("app:2"), &two).expect("adds");
    write(None, &one).expect("adds");
    let told = |name: &str, image: &Descriptor| (name.to_owned(), digest(image));
    assert_eq!(names(&dest), [told("app:1", &one), told("app:2", &two), told("", &one)]);
    assert!(fs::read_to_string(&index).expect("reads").contains("x-own"));
    write(Some("app:1"), &two).expect("moves it");
    write(None, &two).expect("moves it");
    assert_eq!(names(&dest), [told("app:2", &two), told("app:1", &two), told("", &two)]);
    let left = fs::read_dir(&dest).expect("lists").map(|entry| entry.expect("lists").file_name());
    let mut left: Vec<_> = left.collect();
    left.sort();
    assert_eq!(left, ["blobs", "index.json", "oci-layout"]);
}

#[test]
fn a_damaged_layout_is_told_and_nothing_of_it_is_lost() {
    let fixture = Fixture::new(DriverKind::Overlay);
    let (_, one) = sample(&fixture);
    let dest = fixture.directory.path().join("layout");
    let images = [(Some("app:1".to_owned()), one.clone())];
    let write = || write_oci_layout(&fixture.store, &images, &dest, &Tally::default());
    write().expect("writes");
    let whole = fs::read(dest.join("index.json")).expect("reads");
    for (file, text) in [
        ("index.json", "{"),
        ("index.json", "[]"),
        ("index.json", r#"{"schemaVersion":1,"manifests":[]}"#),
        ("index.json", r#"{"schemaVersion":2,"manifests":[{"digest":"x"}]}"#),
        ("oci-layout", r#"{"imageLayoutVersion":"9.0.0"}"#),
        ("oci-layout", ""),
    ] {
        fs::write(dest.join("index.json"), &whole).expect("writes");
        fs::write(dest.join("oci-layout"), LAYOUT).expect("writes");
        fs::write(dest.join(file), text).expect("writes");
        let error = write().expect_err(text);
        assert!(rb_diag::chain(&error).contains(file), "{error}");
        assert_eq!(fs::read_to_string(dest.join(file)).expect("reads"), text);
    }
    fs::write(dest.join("oci-layout"), LAYOUT).expect("writes");
    fs::remove_file(dest.join("index.json")).expect("removes");
    write().expect_err("has no index");
    fs::write(dest.join("index.json"), &whole).expect("writes");
    // A damaged blob is written again.
    let blob = dest.join(blob_name(&descriptor_digest(&one).expect("has one")));
    let manifest = fs::read(&blob).expect("reads");
    fs::write(&blob, vec![b' '; manifest.len()]).expect("writes");
    write().expect("mends it");
    assert_eq!(fs::read(&blob).expect("reads"), manifest);
}

#[test]
fn those_who_add_at_once_lose_nothing() {
    let fixture = Fixture::new(DriverKind::Overlay);
    let (_, one) = sample(&fixture);
    let dest = fixture.directory.path().join("layout");
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (store, one, dest) = (&fixture.store, one.clone(), &dest);
            scope.spawn(move || {
                let images = [(Some(format!("app:{number}")), one)];
                write_oci_layout(store, &images, dest, &Tally::default()).expect("writes");
            });
        }
    });
    let mut found: Vec<String> = names(&dest).into_iter().map(|(name, _)| name).collect();
    found.sort();
    assert_eq!(found, (0..8).map(|number| format!("app:{number}")).collect::<Vec<_>>());
}
