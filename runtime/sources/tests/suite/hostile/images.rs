//! Documents and blobs of images that lie: each is refused by a typed error, and nothing is asked of anybody else.

use std::fs;
use std::io::ErrorKind as Io;
use std::net::TcpListener;

use rb_diag::ErrorKind;
use rb_oci::Digest;
use rb_snapshot::DriverKind;
use rb_sources::SourceError;
use rb_sources::layout::{self, Wanted};
use rb_sources::unpack::{self, Ownership};
use serde_json::{Value, json};

use super::tar;
use crate::suite::support::{INDEX, LAYER, Layout, MANIFEST, Machine, amd64, gzip, with};

/// Unpacks an image of one layer whose descriptor and config may lie.
pub(super) fn one_layer(blob: &[u8], diff_id: &Digest, media_type: &str) -> Result<(), SourceError> {
    let layout = Layout::new();
    let layer = layout.put(media_type, blob);
    take(&layout, &image(&layout, &[layer], &[diff_id.to_string()]))
}

fn config(layout: &Layout, diff_ids: &[String]) -> Value {
    let config =
        json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    layout.put_json("application/vnd.oci.image.config.v1+json", &config)
}

fn image(layout: &Layout, layers: &[Value], diff_ids: &[String]) -> Value {
    let config = config(layout, diff_ids);
    layout.put_json(MANIFEST, &json!({"schemaVersion": 2, "config": config, "layers": layers}))
}

fn take(layout: &Layout, manifest: &Value) -> Result<(), SourceError> {
    layout.index(std::slice::from_ref(manifest));
    let image = layout::find(layout.path(), &Wanted::Tag(None), &amd64())?;
    unpack::image(&Machine::new(DriverKind::Overlay).snapshots, &image, Ownership::Kept).map(drop)
}

/// The image is refused, by a typed error about the user's input with this in its text.
#[track_caller]
fn rejected(layout: &Layout, manifest: &Value, reason: &str) {
    let error = take(layout, manifest).unwrap_err();
    assert!(error.kind() == ErrorKind::Input && error.to_string().contains(reason), "{error:?}");
}

#[test]
fn manifests_are_bounded() {
    let layout = Layout::new();
    let layer = layout.put(LAYER, &gzip(&tar().end()));
    let id = Digest::of(tar().end()).to_string();
    let of = |count: usize| image(&layout, &vec![layer.clone(); count], &vec![id.clone(); count]);
    rejected(&layout, &of(10_000), "no more than 500");
    rejected(&layout, &layout.put(MANIFEST, &vec![b' '; 5 << 20]), "too many for a manifest");
    // A size that is small, and a blob that is not.
    let huge = layout.put(MANIFEST, &vec![b' '; 5 << 20]);
    rejected(&layout, &with(huge, "size", json!(1000)), "longer than its descriptor");
    for size in [json!(u64::MAX), json!(i64::MAX)] {
        rejected(&layout, &with(of(1), "size", size.clone()), "too many for a manifest");
        let lying = image(&layout, &[with(layer.clone(), "size", size)], std::slice::from_ref(&id));
        rejected(&layout, &lying, "early");
    }
    for size in [json!(-1), json!(1.5), json!("7"), json!(null), json!(1e300)] {
        rejected(&layout, &with(of(1), "size", size), "index.json");
    }
}

#[test]
fn a_part_is_of_its_kind() {
    let layout = Layout::new();
    let (plain, id) = (tar().end(), Digest::of(tar().end()).to_string());
    let layer = layout.put(LAYER, &gzip(&plain));
    let own = image(&layout, std::slice::from_ref(&layer), std::slice::from_ref(&id));
    let index = layout.put_index(std::slice::from_ref(&own));
    // An index or a manifest as the config, a manifest or config as a layer.
    for config in [&index, &own, &layer] {
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
        let error = take(&layout, &layout.put_json(MANIFEST, &manifest)).unwrap_err();
        assert!(matches!(error, SourceError::Blob { .. }), "{error:?}");
    }
    for media_type in [MANIFEST, INDEX, "application/x-sh", "", "text/html"] {
        let error = one_layer(&gzip(&plain), &Digest::of(&plain), media_type).unwrap_err();
        assert!(
            matches!(error, SourceError::MediaType { .. }) && error.kind() == ErrorKind::Input,
            "{error:?}"
        );
    }
    // What calls itself one thing and is another.
    rejected(&layout, &with(index.clone(), "mediaType", json!(MANIFEST)), "is an index");
    rejected(&layout, &with(own, "mediaType", json!(INDEX)), "is a manifest");
    rejected(&layout, &layout.put(INDEX, b"<html>"), "expected value");
}

#[test]
fn digests_are_sha256_in_small_letters() {
    let layout = Layout::new();
    let own = image(&layout, &[], &[]);
    let hex = own["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
    fs::write(layout.path().join("secret"), "{}").unwrap();
    for digest in [
        format!("sha256:{}", hex.to_uppercase()),
        format!("SHA256:{hex}"),
        format!("sha512:{hex}{hex}"),
        format!("md5:{}", &hex[..32]),
        format!("sha256:{}", &hex[..63]),
        format!("sha256:{hex}0"),
        "sha256:../../secret".to_owned(),
        format!("sha256:../../{}", "a".repeat(58)),
        format!("../sha256:{hex}"),
        hex.clone(),
        String::new(),
    ] {
        let wrong = with(own.clone(), "digest", json!(digest));
        let error = take(&layout, &wrong).unwrap_err();
        let typed = matches!(error, SourceError::Blob { .. } | SourceError::NotALayout { .. });
        assert!(typed && error.kind() == ErrorKind::Input, "{digest}: {error:?}");
        // The same in a manifest, and as a diff id.
        let manifest = json!({"schemaVersion": 2, "config": wrong, "layers": []});
        assert!(take(&layout, &layout.put_json(MANIFEST, &manifest)).is_err(), "{digest}");
        assert!(take(&layout, &image(&layout, std::slice::from_ref(&own), &[digest])).is_err());
    }
}

#[test]
fn nothing_is_fetched_or_taken_from_elsewhere() {
    let layout = Layout::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let plain = tar().file("a", "1").end();
    let packed = gzip(&plain);
    let file = layout.path().join("elsewhere");
    fs::write(&file, &packed).unwrap();
    let missing = |key: &str, value: Value| {
        let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        for media_type in [LAYER, foreign] {
            let layer = json!({"mediaType": media_type, "digest": Digest::of(&packed).to_string(), "size": packed.len()});
            let layer = with(layer, key, value.clone());
            let error =
                take(&layout, &image(&layout, &[layer], &[Digest::of(&plain).to_string()])).unwrap_err();
            let typed = matches!(error, SourceError::MissingBlob { .. } | SourceError::NotALayout { .. });
            assert!(typed && error.kind() == ErrorKind::Input, "{error:?}");
        }
    };
    missing("urls", json!([format!("http://{}/layer", server.local_addr().unwrap())]));
    missing("urls", json!([format!("file://{}", file.display())]));
    missing("urls", json!(["elsewhere", "../elsewhere", "/etc/passwd"]));
    // Content within the descriptor: not needed, so not believed either.
    missing("data", json!("e30="));
    assert_eq!(server.accept().unwrap_err().kind(), Io::WouldBlock, "somebody asked");
    // Where the blob is there, what disagrees with it says nothing.
    let layer = with(layout.put(LAYER, &packed), "data", json!("AAAA"));
    take(&layout, &image(&layout, &[layer], &[Digest::of(&plain).to_string()])).unwrap();
    let manifest = with(image(&layout, &[], &[]), "data", json!("e30="));
    take(&layout, &manifest).unwrap();
}

#[test]
fn json_says_one_thing() {
    let layout = Layout::new();
    let config = config(&layout, &[]).to_string();
    let other = image(&layout, &[], &[]).to_string();
    for (document, reason) in [
        (
            format!(r#"{{"schemaVersion":2,"config":{config},"config":{other},"layers":[]}}"#),
            "duplicate field",
        ),
        (
            format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"layers":[{other}]}}"#),
            "duplicate field",
        ),
        (
            format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"mediaType":"a","mediaType":"b"}}"#),
            "duplicate field",
        ),
        (format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}{{"manifests":[]}}"#), "trailing"),
        (
            format!(r#"{{"schemaVersion":2,"config":{config},"layers":{}}}"#, "[".repeat(1_000_000)),
            "expected value",
        ),
        (format!(r#"{{"schemaVersion":2,"config":{config},"layers":{}"#, "[".repeat(1_000_000)), "EOF"),
        (
            format!(
                r#"{{"schemaVersion":2,"config":{config},"layers":[{}"#,
                "{\"annotations\":".repeat(100_000)
            ),
            "EOF",
        ),
        (format!(r#"{{"x":{}"#, "{\"x\":".repeat(500_000)), "EOF"),
        ("\u{feff}{}".to_owned(), "expected value"),
        ("\0".repeat(100), "expected value"),
        (String::new(), "EOF"),
    ] {
        rejected(&layout, &layout.put(MANIFEST, document.as_bytes()), reason);
    }
    // However deep it lies, what nobody looks at is skipped without taking the stack.
    let (open, close) = ("[".repeat(500_000), "]".repeat(500_000));
    let deep = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"x":{open}1{close}}}"#);
    take(&layout, &layout.put(MANIFEST, deep.as_bytes())).unwrap();
    let deep = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"annotations":{open}1{close}}}"#);
    rejected(&layout, &layout.put(MANIFEST, deep.as_bytes()), "invalid type");
    let twice = r#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]},"rootfs":{"type":"layers","diff_ids":["x"]}}"#;
    let config = layout.put("application/vnd.oci.image.config.v1+json", twice.as_bytes());
    let manifest = layout.put_json(MANIFEST, &json!({"schemaVersion": 2, "config": config, "layers": []}));
    rejected(&layout, &manifest, "duplicate field");
}
