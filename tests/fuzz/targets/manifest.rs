//! Any bytes as an index, manifest or config of a stranger's layout: an image or a typed error, within bounds.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rb_diag::ErrorKind;
use rb_oci::index::{Document, LAYERS};
use rb_oci::{Digest, ImageConfig, Platform};
use rb_sources::layout::{self, Wanted};

/// A layout below the working directory, written anew for each input.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::current_dir().expect("a working directory").join("layout");
    std::fs::create_dir_all(folder.join("blobs/sha256")).expect("makes folders");
    std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("writes");
    folder
});

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &[u8] = br#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}"#;

fuzz_target!(|bytes: &[u8]| {
    let config: Result<ImageConfig, _> = serde_json::from_slice(bytes);
    drop(config);
    if let (Ok(first), Ok(second)) = (Document::of(bytes), Document::of(bytes)) {
        assert_eq!(first, second);
    }
    // As the layout's own index, as what that leads to, and as the config of a manifest.
    find(bytes);
    let own = put(bytes);
    put(CONFIG);
    for media_type in [MANIFEST, INDEX] {
        find(&index(media_type, &own, bytes.len()));
    }
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{own}","size":{}}},"layers":[]}}"#,
        bytes.len()
    );
    find(&index(MANIFEST, &put(manifest.as_bytes()), manifest.len()));
    for digest in [own, Digest::of(&manifest)] {
        std::fs::remove_file(FOLDER.join("blobs/sha256").join(digest.hex())).expect("removes");
    }
});

fn put(bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    std::fs::write(FOLDER.join("blobs/sha256").join(digest.hex()), bytes).expect("writes");
    digest
}

fn index(media_type: &str, digest: &Digest, size: usize) -> Vec<u8> {
    let entry = format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#);
    format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#).into_bytes()
}

fn find(index: &[u8]) {
    std::fs::write(FOLDER.join("index.json"), index).expect("writes");
    let platform: Platform = "linux/amd64".parse().expect("a platform");
    match layout::find(&FOLDER, &Wanted::Tag(None), &platform) {
        Ok(image) => {
            assert!(image.layers.len() <= LAYERS && image.layers.len() == image.config.rootfs.diff_ids.len());
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::Input, "{error}"),
    }
}
