//! Layouts, most of them from a stranger.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use rb_diag::ErrorKind;
use rb_oci::Digest;
use rb_sources::SourceError;
use rb_sources::layout::{self, LayoutImage, Wanted};
use serde_json::{Value, json};

use super::support::{INDEX, LAYER, Layout, MANIFEST, amd64, named, on, with};

fn find(layout: &Layout, tag: Option<&str>) -> Result<LayoutImage, SourceError> {
    layout::find(layout.path(), &Wanted::Tag(tag.map(ToOwned::to_owned)), &amd64())
}

fn find_on(layout: &Layout, platform: &str) -> Result<String, SourceError> {
    let image = layout::find(layout.path(), &Wanted::Tag(None), &platform.parse().unwrap())?;
    let variant = image.config.variant.map(|variant| format!("/{variant}")).unwrap_or_default();
    Ok(format!("{}/{}{variant}", image.config.os, image.config.architecture))
}

/// The layout's one image is refused because of a blob.
fn refused(layout: &Layout, descriptor: Value, reason: &str) {
    layout.index(&[descriptor]);
    let error = find(layout, None).unwrap_err();
    assert!(
        matches!(error, SourceError::Blob { .. } | SourceError::MissingBlob { .. })
            && error.to_string().contains(reason),
        "{error}"
    );
    assert_eq!(error.kind(), ErrorKind::Input);
}

fn digest(descriptor: &Value) -> Digest {
    descriptor["digest"].as_str().unwrap().parse().unwrap()
}

fn pipe(path: &std::path::Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

#[test]
fn the_only_image_needs_no_name() {
    let layout = Layout::new();
    let image = layout.put_image("linux/amd64", &[]);
    layout.index(std::slice::from_ref(&image));
    assert_eq!(find(&layout, None).unwrap().digest, digest(&image));
    let error = find(&layout, Some("x")).unwrap_err();
    assert!(matches!(error, SourceError::NoSuchImage { .. }), "{error}");
    layout.index(&[]);
    assert!(matches!(find(&layout, None), Err(SourceError::NoSuchImage { .. })));
}

#[test]
fn names_choose_and_several_are_told() {
    let layout = Layout::new();
    let one = layout.put_image("linux/amd64", &[]);
    let two = layout.put_image("linux/arm64", &[]);
    layout.index(&[named(one.clone(), "one"), named(two.clone(), "registry.example/app:two")]);
    assert_eq!(find(&layout, Some("one")).unwrap().digest, digest(&one));
    assert_eq!(find(&layout, Some("two")).unwrap().digest, digest(&two));
    let error = find(&layout, None).unwrap_err();
    assert!(matches!(&error, SourceError::SeveralImages { have, .. } if have.len() == 2), "{error}");
    // As Docker saves two images with the same tag.
    let docker = |descriptor: &Value, name: &str| {
        let names = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": "latest"});
        with(descriptor.clone(), "annotations", names)
    };
    layout.index(&[docker(&one, "docker.io/library/a:latest"), docker(&two, "docker.io/library/b:latest")]);
    assert!(matches!(find(&layout, Some("latest")), Err(SourceError::SeveralImages { .. })));
    assert_eq!(find(&layout, Some("docker.io/library/b:latest")).unwrap().digest, digest(&two));
    // Two names of one image are no question.
    layout.index(&[named(one.clone(), "a"), named(one.clone(), "b")]);
    assert_eq!(find(&layout, None).unwrap().digest, digest(&one));
}

#[test]
fn platforms_choose() {
    let layout = Layout::new();
    let image = |platform: &str| layout.put_image(platform, &[]);
    let attestation = on(layout.put_json(MANIFEST, &json!({"schemaVersion": 2})), "unknown", "unknown", None);
    let index = layout.put_index(&[
        attestation,
        on(image("linux/arm/v6"), "linux", "arm", Some("v6")),
        on(image("linux/arm/v7"), "linux", "arm", Some("v7")),
        on(image("linux/arm64"), "linux", "arm64", Some("v8")),
        on(image("linux/amd64/v3"), "linux", "amd64", Some("v3")),
        on(image("linux/amd64"), "linux", "amd64", None),
    ]);
    layout.index(&[index]);
    for (wanted, found) in [
        ("linux/amd64", "linux/amd64"),
        ("linux/amd64/v2", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/amd64/v4", "linux/amd64/v3"),
        ("linux/arm64", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/arm/v8", "linux/arm/v7"),
    ] {
        assert_eq!(find_on(&layout, wanted).unwrap(), found, "{wanted}");
    }
    for wanted in ["linux/arm/v5", "linux/riscv64", "windows/amd64", "linux/arm64/x"] {
        let error = find_on(&layout, wanted).unwrap_err();
        let SourceError::NoSuchImage { have, .. } = &error else { panic!("{error}") };
        assert_eq!(have.len(), 5, "{error}");
    }
}

#[test]
fn where_no_platform_is_named_the_config_tells() {
    let layout = Layout::new();
    let (arm, amd) = (layout.put_image("linux/arm64", &[]), layout.put_image("linux/amd64", &[]));
    layout.index(&[layout.put_index(&[arm.clone(), amd])]);
    assert_eq!(find_on(&layout, "linux/amd64").unwrap(), "linux/amd64");
    assert!(find_on(&layout, "linux/s390x").is_err());
    // The only one is the one that is meant.
    layout.index(std::slice::from_ref(&arm));
    assert_eq!(find_on(&layout, "linux/amd64").unwrap(), "linux/arm64");
    layout.index(&[on(arm, "linux", "arm64", None)]);
    assert!(find_on(&layout, "linux/amd64").is_err());
}

#[test]
fn digests_find_images_behind_indexes() {
    let layout = Layout::new();
    let image = layout.put_image("linux/arm64", &[]);
    let index = layout.put_index(&[layout.put_index(&[on(image.clone(), "linux", "arm64", None)])]);
    layout.index(&[named(layout.put_image("linux/amd64", &[]), "a"), named(index.clone(), "b")]);
    let pinned = |digest: Digest, platform: &str| {
        layout::find(layout.path(), &Wanted::Digest(digest), &platform.parse().unwrap())
    };
    assert_eq!(pinned(digest(&image), "linux/arm64").unwrap().digest, digest(&image));
    assert_eq!(pinned(digest(&index), "linux/arm64").unwrap().digest, digest(&image));
    assert!(matches!(pinned(Digest::of("x"), "linux/arm64"), Err(SourceError::NoSuchImage { .. })));
}

#[test]
fn indexes_in_indexes_end() {
    let layout = Layout::new();
    let mut index = layout.put_index(&[layout.put_image("linux/amd64", &[])]);
    for _ in 0..4 {
        index = layout.put_index(&[index]);
    }
    refused(&layout, index, "too deep");
    // Each names the one below a thousand times: read as a tree they would never end.
    let mut index = layout.put_index(&[]);
    for level in 0..3 {
        index =
            layout.put_index(&vec![with(index, "annotations", json!({"level": level.to_string()})); 1000]);
    }
    layout.index(&[index]);
    let started = Instant::now();
    assert!(matches!(find(&layout, None), Err(SourceError::NoSuchImage { .. })));
    let missing = Wanted::Digest(Digest::of("x"));
    assert!(layout::find(layout.path(), &missing, &amd64()).is_err());
    assert!(started.elapsed() < Duration::from_secs(20));
    // An index that names itself cannot be; one that says so is not what its name says.
    let own = Digest::of("guess");
    let descriptor = json!({"mediaType": INDEX, "digest": own.to_string(), "size": 200});
    fs::write(
        layout.blob(&own),
        serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [descriptor]})).unwrap(),
    )
    .unwrap();
    refused(&layout, descriptor, "bytes early");
    let many: Vec<Value> = (0..1100)
        .map(|number: u32| json!({"mediaType": MANIFEST, "digest": Digest::of(number.to_string()).to_string(), "size": 1}))
        .collect();
    refused(&layout, layout.put_index(&many), "a thousand others");
}

#[test]
fn blobs_are_what_their_descriptors_say() {
    let layout = Layout::new();
    let image = layout.put_image("linux/amd64", &[]);
    refused(&layout, with(image.clone(), "size", json!(1)), "longer");
    refused(&layout, with(image.clone(), "size", json!(10_000)), "early");
    refused(&layout, with(image.clone(), "size", json!(5 << 20)), "too many");
    refused(&layout, with(image.clone(), "digest", json!(Digest::of("x").to_string())), "missing");
    let sha512 = format!("sha512:{}", "0".repeat(128));
    refused(&layout, with(image.clone(), "digest", json!(sha512)), "sha256");
    let path = layout.blob(&digest(&image));
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, bytes.iter().map(|byte| byte ^ 1).collect::<Vec<u8>>()).unwrap();
    refused(&layout, image.clone(), "other bytes");
    fs::write(&path, "").unwrap();
    refused(&layout, image, "early");
}

#[test]
fn blobs_are_regular_files() {
    let layout = Layout::new();
    let image = layout.put_image("linux/amd64", &[]);
    let path = layout.blob(&digest(&image));
    let moved = layout.path().join("moved");
    fs::rename(&path, &moved).unwrap();
    let put: [(&str, &dyn Fn()); 4] = [
        ("link", &|| symlink(&moved, &path).unwrap()),
        ("pipe", &|| pipe(&path)),
        ("device", &|| symlink("/dev/zero", &path).unwrap()),
        ("folder", &|| fs::create_dir(&path).unwrap()),
    ];
    for (what, put) in put {
        put();
        refused(&layout, image.clone(), "not a regular file");
        if what == "folder" { fs::remove_dir(&path).unwrap() } else { fs::remove_file(&path).unwrap() }
    }
    fs::rename(&moved, &path).unwrap();
    assert!(find(&layout, None).is_ok());
}

#[test]
fn a_folder_is_a_layout_or_not() {
    let not_a_layout = |layout: &Layout, reason: &str| {
        let error = find(layout, None).unwrap_err();
        assert!(
            matches!(error, SourceError::NotALayout { .. }) && error.to_string().contains(reason),
            "{error}"
        );
    };
    let layout = Layout::new();
    let at = |name: &str| layout.path().join(name);
    not_a_layout(&layout, "no file `index.json`");
    fs::write(at("index.json"), "{").unwrap();
    not_a_layout(&layout, "index.json");
    fs::write(at("index.json"), vec![b' '; 5 << 20]).unwrap();
    not_a_layout(&layout, "larger than 4 MiB");
    fs::remove_file(at("index.json")).unwrap();
    pipe(&at("index.json"));
    not_a_layout(&layout, "not a regular file");
    fs::write(at("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    not_a_layout(&layout, "2.0.0");
    fs::remove_file(at("oci-layout")).unwrap();
    symlink("/etc/passwd", at("oci-layout")).unwrap();
    not_a_layout(&layout, "not a regular file");
    fs::remove_file(at("oci-layout")).unwrap();
    not_a_layout(&layout, "no file `oci-layout`");
}

#[test]
fn manifests_and_configs_agree() {
    let layout = Layout::new();
    let config = |diff_ids: usize| {
        let diff_ids = vec![Digest::of("").to_string(); diff_ids];
        let config = json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        layout.put_json("application/vnd.oci.image.config.v1+json", &config)
    };
    let manifest = |config: Value, layers: usize| {
        let layers = vec![layout.put(LAYER, b""); layers];
        layout.put_json(MANIFEST, &json!({"schemaVersion": 2, "config": config, "layers": layers}))
    };
    refused(&layout, manifest(config(1), 2), "2 layers and its config names 1");
    refused(&layout, manifest(config(0), 1), "1 layers and its config names 0");
    refused(&layout, manifest(config(501), 501), "no more than 500");
    refused(&layout, manifest(layout.put("application/json", b"{}"), 0), "architecture");
    // What is index to one reader and manifest to another.
    let both = json!({"schemaVersion": 2, "config": config(0), "layers": [], "manifests": []});
    refused(&layout, layout.put_json(MANIFEST, &both), "index and manifest in one");
    refused(&layout, layout.put_json(INDEX, &both), "index and manifest in one");
    layout.index(&[manifest(config(2), 2)]);
    assert_eq!(find(&layout, None).unwrap().layers.len(), 2);
}

#[test]
fn one_manifest_may_stand_for_several_platforms() {
    let layout = Layout::new();
    let image = layout.put_image("linux/amd64", &[]);
    let everywhere =
        ["amd64", "arm64", "s390x"].map(|architecture| on(image.clone(), "linux", architecture, None));
    layout.index(&[layout.put_index(&everywhere)]);
    for platform in ["linux/amd64", "linux/arm64", "linux/s390x"] {
        assert_eq!(find_on(&layout, platform).unwrap(), "linux/amd64", "{platform}");
    }
}

#[test]
fn lists_of_docker_are_indexes() {
    let layout = Layout::new();
    let image = layout.put_image("linux/amd64", &[]);
    let list = "application/vnd.docker.distribution.manifest.list.v2+json";
    let body = json!({"schemaVersion": 2, "mediaType": list, "manifests": [on(image.clone(), "linux", "amd64", None)]});
    layout.index(&[layout.put_json(list, &body)]);
    assert_eq!(find(&layout, None).unwrap().digest, digest(&image));
}
