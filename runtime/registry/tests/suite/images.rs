//! Manifests and indexes of strangers.

use std::collections::BTreeMap;

use rb_oci::Digest;
use rb_registry::{ImageManifests, RegistryError};
use serde_json::{Value, json};

use crate::client::{anonymous, descriptor, plain, reference, repository, typed};
use crate::support::scripted::{Reply, Scripted};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What a registry holds: documents by tag and digest, blobs by digest.
#[derive(Default)]
struct Shelf(BTreeMap<String, (String, Vec<u8>)>);

impl Shelf {
    fn put(&mut self, media_type: &str, document: &Value) -> Value {
        let bytes = document.to_string().into_bytes();
        let digest = Digest::of(&bytes).to_string();
        let size = bytes.len();
        self.0.insert(digest.clone(), (media_type.to_owned(), bytes));
        json!({ "mediaType": media_type, "digest": digest, "size": size })
    }

    fn image(&mut self, architecture: &str) -> Value {
        let config = json!({ "os": "linux", "architecture": architecture, "rootfs": { "type": "layers", "diff_ids": [] } });
        let config = self.put("application/vnd.oci.image.config.v1+json", &config);
        self.put(
            MANIFEST,
            &json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [] }),
        )
    }

    fn index(&mut self, manifests: &[Value]) -> Value {
        self.put(INDEX, &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }))
    }

    /// Serves all, `root` as tag 1.
    fn serve(mut self, root: &Value) -> Scripted {
        let root = self.0[root["digest"].as_str().unwrap()].clone();
        self.0.insert("1".to_owned(), root);
        Scripted::start(move |request, _| match self.0.get(request.path.rsplit('/').next().unwrap()) {
            Some((media_type, bytes)) => Reply::new(200, bytes.clone()).with("Content-Type", media_type),
            None => Reply::new(404, ""),
        })
    }
}

fn on(manifest: &Value, platform: &str) -> Value {
    let mut parts = platform.split('/');
    let mut on = manifest.clone();
    on["platform"] = json!({ "os": parts.next(), "architecture": parts.next() });
    parts.next().into_iter().for_each(|variant| on["platform"]["variant"] = json!(variant));
    on
}

async fn image(server: &Scripted, platform: &str) -> Result<ImageManifests, RegistryError> {
    anonymous(plain(&server.host)).image(&reference(&server.host), &platform.parse().unwrap()).await
}

#[tokio::test]
async fn the_image_for_a_platform() {
    let mut shelf = Shelf::default();
    let (amd, arm) = (shelf.image("amd64"), shelf.image("arm"));
    let inner = shelf.index(&[on(&arm, "linux/arm/v6")]);
    let attestation = on(&arm, "unknown/unknown");
    let index = shelf.index(&[attestation, on(&amd, "linux/amd64"), inner]);
    let server = shelf.serve(&index);
    for (platform, expected) in [("linux/amd64", &amd), ("linux/amd64/v3", &amd), ("linux/arm/v7", &arm)] {
        let image = image(&server, platform).await.unwrap();
        assert_eq!(image.descriptor.digest().to_string(), expected["digest"], "{platform}");
        assert_eq!(image.root.digest().to_string(), index["digest"]);
        assert_eq!(image.root.media_type().to_string(), INDEX);
        assert_eq!(Digest::of(&image.manifest_bytes).to_string(), expected["digest"]);
    }
    let error = image(&server, "linux/s390x").await.unwrap_err().to_string();
    assert!(
        error.ends_with("a/b:1 has no image for linux/s390x; it has linux/amd64, linux/arm/v6"),
        "{error}"
    );
    let registry = anonymous(plain(&server.host));
    assert_eq!(registry.digest(&reference(&server.host)).await.unwrap().to_string(), index["digest"]);
}

#[tokio::test]
async fn indexes_that_do_not_end() {
    let mut shelf = Shelf::default();
    let mut index = shelf.image("amd64");
    for _ in 0..5 {
        index = shelf.index(&[index]);
    }
    let server = shelf.serve(&index);
    let error = image(&server, "linux/amd64").await.unwrap_err().to_string();
    assert!(error.contains("too deep"), "{error}");
    assert!(server.asked().len() <= 5);

    let mut shelf = Shelf::default();
    let many: Vec<_> = (0..1001).map(|number| json!({ "mediaType": MANIFEST, "size": 1, "digest": Digest::of(format!("{number}")).to_string() })).collect();
    let index = shelf.index(&many);
    let server = shelf.serve(&index);
    let error = image(&server, "linux/amd64").await.unwrap_err().to_string();
    assert!(error.contains("more than a thousand") && server.asked().len() == 1, "{error}");
}

#[tokio::test]
async fn documents_that_are_not_what_they_should_be() {
    let digest = Digest::of("x").to_string();
    let config = json!({ "mediaType": "x", "digest": digest, "size": 1 });
    for (document, reason) in [
        (json!({ "schemaVersion": 1, "fsLayers": [] }), "schema 1"),
        (json!({ "manifests": [], "config": config, "layers": [] }), "index and manifest in one"),
        (json!({ "mediaType": INDEX, "config": config, "layers": [] }), "calls itself"),
        (json!({}), "neither"),
        (json!([1]), "wrong manifest"),
        (json!({ "schemaVersion": 2, "config": config, "layers": vec![&config; 501] }), "no more than 500"),
        (
            json!({ "schemaVersion": 2, "config": { "mediaType": "x", "digest": digest, "size": 5 << 20 }, "layers": [] }),
            "too many",
        ),
        (
            json!({ "schemaVersion": 2, "config": { "mediaType": "x", "digest": format!("sha512:{}", "0".repeat(128)), "size": 5 }, "layers": [] }),
            "not a sha256",
        ),
    ] {
        let server = Scripted::start(move |_, _| Reply::new(200, document.to_string()));
        let error = image(&server, "linux/amd64").await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    let huge = Scripted::start(|_, _| Reply { chunked: true, ..Reply::new(200, " ".repeat((4 << 20) + 1)) });
    assert!(image(&huge, "linux/amd64").await.unwrap_err().to_string().contains("larger than 4194304"));
}

#[tokio::test]
async fn digests_decide() {
    let mut shelf = Shelf::default();
    let image = shelf.image("amd64");
    let bytes = shelf.0[image["digest"].as_str().unwrap()].1.clone();
    let served = bytes.clone();
    let server = Scripted::start(move |_, number| match number {
        0 => Reply::new(200, served.clone()).with("Docker-Content-Digest", Digest::of("other")),
        _ => Reply::new(200, served.clone()),
    });
    let (registry, tag) = (anonymous(plain(&server.host)), reference(&server.host));
    let error = registry.resolve(&tag).await.unwrap_err().to_string();
    assert!(error.contains("its digest is"), "{error}");
    registry.resolve(&tag.pinned(Digest::of(&bytes))).await.unwrap();
    let error = registry.resolve(&tag.pinned(Digest::of("other"))).await.unwrap_err().to_string();
    assert!(error.contains("its digest is"), "{error}");
    let longer = typed(MANIFEST, &[bytes.as_slice(), b" "].concat());
    assert!(registry.manifest(&repository(&server.host), &longer).await.is_err());
    assert!(matches!(registry.has_blob(&repository(&server.host), &descriptor(b"")).await, Ok(true)));
}
