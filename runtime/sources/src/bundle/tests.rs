//! Archives in memory, right and wrong.

use std::io::Write as _;

use rb_oci::ImageConfig;
use serde_json::json;

use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = Store::open(dir.path()).expect("opens");
    (dir, store)
}

fn tar_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *bytes).expect("in memory");
    }
    tar.into_inner().expect("in memory")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).expect("in memory");
    packed.finish().expect("in memory")
}

fn docker(layer: &[u8], diff_id: Digest) -> Vec<u8> {
    let config = json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    });
    let manifest = json!([{"Config": "c.json", "RepoTags": ["a/b:1", "c:2"], "Layers": ["l/layer.tar"]}]);
    tar_of(&[
        ("l/layer.tar", layer),
        ("l/VERSION", b"1.0"),
        ("c.json", config.to_string().as_bytes()),
        ("manifest.json", manifest.to_string().as_bytes()),
    ])
}

#[test]
fn dockers_layers_are_taken_however_they_are_packed() {
    let layer = tar_of(&[("file", b"text")]);
    let diff_id = Digest::of(&layer);
    let zstd = zstd::encode_all(&layer[..], 3).expect("in memory");
    for (packed, media_type) in [
        (layer.clone(), "application/vnd.oci.image.layer.v1.tar"),
        (gzip(&layer), "application/vnd.oci.image.layer.v1.tar+gzip"),
        (zstd, "application/vnd.oci.image.layer.v1.tar+zstd"),
    ] {
        let (_dir, store) = store();
        let archive = docker(&packed, diff_id);
        for bytes in [gzip(&archive), zstd::encode_all(&archive[..], 1).expect("in memory"), archive] {
            let images = load(&store, &bytes[..]).expect("loads");
            assert_eq!(images.len(), 1);
            assert_eq!(images[0].names, ["a/b:1", "c:2"]);
            let digest = crate::layout::digest_of(&images[0].descriptor).expect("sha256");
            let manifest: ImageManifest =
                serde_json::from_slice(&store.read_blob(&digest, 1 << 20).expect("is there"))
                    .expect("parses");
            assert_eq!(manifest.layers()[0].media_type().to_string(), media_type);
            assert_eq!(manifest.layers()[0].digest().to_string(), Digest::of(&packed).to_string());
            let (_, image) = crate::layout::load(store.root(), &images[0].descriptor).expect("is whole");
            let ImageConfig { rootfs, .. } = image.config;
            assert_eq!(rootfs.diff_ids, [diff_id]);
        }
        assert!(load(&store, &docker(&packed, Digest::of("other"))[..]).is_err());
    }
}

#[test]
fn an_index_must_lead_to_something() {
    let (_dir, store) = store();
    let entry = |digest: &str, size: u64, kind: &str| json!({"mediaType": format!("application/vnd.oci.image.{kind}.v1+json"), "digest": digest, "size": size});
    let layout = |entry: serde_json::Value, blobs: &[&[u8]]| {
        let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
        let names: Vec<String> =
            blobs.iter().map(|bytes| format!("blobs/sha256/{}", Digest::of(bytes).hex())).collect();
        let mut entries: Vec<(&str, &[u8])> =
            names.iter().map(String::as_str).zip(blobs.iter().copied()).collect();
        entries.push(("index.json", index.as_bytes()));
        tar_of(&entries)
    };
    let missing = Digest::of("missing").to_string();
    let refused = |bytes: &[u8]| load(&store, bytes).expect_err("is refused").to_string();
    assert!(refused(&layout(entry(&missing, 3, "manifest"), &[])).contains("missing in the archive"));
    let other = format!("sha512:{}", "0".repeat(128));
    assert!(refused(&layout(entry(&other, 3, "manifest"), &[])).contains("not a sha256"));
    // An index in an index in an index.
    let mut inner = json!({"schemaVersion": 2, "manifests": []}).to_string().into_bytes();
    let mut blobs = vec![inner.clone()];
    for _ in 0..INDEX_DEPTH + 1 {
        let digest = Digest::of(&inner).to_string();
        inner = json!({"schemaVersion": 2, "manifests": [entry(&digest, inner.len() as u64, "index")]})
            .to_string()
            .into_bytes();
        blobs.push(inner.clone());
    }
    let all: Vec<&[u8]> = blobs.iter().map(Vec::as_slice).collect();
    let top = entry(&Digest::of(&inner).to_string(), inner.len() as u64, "index");
    assert!(refused(&layout(top, &all)).contains("too deep"));
    // A manifest that calls itself an index.
    let manifest = json!({"schemaVersion": 2, "config": {}, "layers": []}).to_string();
    let top = entry(&Digest::of(&manifest).to_string(), manifest.len() as u64, "index");
    assert!(refused(&layout(top, &[manifest.as_bytes()])).contains("not what its media type says"));
}

#[test]
fn names_are_joined_within_the_archive() {
    for (folder, name, expected) in [
        ("", "a/b", Some("a/b")),
        ("", "./a//b/", Some("a/b")),
        ("a", "../b/c", Some("b/c")),
        ("a", "../../b", None),
        ("", "/a", None),
        ("", "..", None),
    ] {
        assert_eq!(joined(folder, name.as_bytes()).as_deref(), expected, "{folder} {name}");
    }
}
