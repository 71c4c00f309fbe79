//! Uploads to registries that forget, refuse and lead astray.

use std::sync::Arc;

use bytes::Bytes;
use rb_oci::Digest;
use rb_registry::{Pushed, Registry, RegistryError};

use crate::client::{Known, anonymous, descriptor, noise, plain, reference, repository};
use crate::support::scripted::{Reply, Request, Scripted};

async fn push(server: &Scripted, bytes: Vec<u8>) -> Result<Pushed, RegistryError> {
    let blob = descriptor(&bytes);
    anonymous(plain(&server.host))
        .push_blob(&repository(&server.host), &blob, Arc::new(Bytes::from(bytes)), &[])
        .await
}

fn method(request: &Request) -> &str {
    &request.method
}

#[tokio::test]
async fn an_upload_goes_on_with_what_was_kept() {
    let server = Scripted::start(|request, number| match (number, method(request)) {
        (_, "HEAD") => Reply::new(404, ""),
        (1, "POST") => Reply::new(202, "").with("Location", "/v2/u?state=1"),
        (2, "PUT") => Reply::new(502, ""),
        (4, "GET") => Reply::new(204, "").with("Location", "/v2/u?state=2").with("Range", "0-29999"),
        (5, "PATCH") => Reply::new(202, "").with("Location", "/v2/u?state=3").with("Range", "0-99999"),
        (6, "PUT") => Reply::new(201, ""),
        other => panic!("{other:?}"),
    });
    let bytes = noise(100_000);
    assert_eq!(push(&server, bytes.clone()).await.unwrap(), Pushed::Uploaded);
    let asked = server.asked();
    assert_eq!(asked[5].header("content-range"), Some("30000-99999"));
    assert!(asked[5].body == bytes[30_000..] && asked[6].body.is_empty());
    assert_eq!(
        asked[6].path,
        format!("/v2/u?state=3&digest={}", Digest::of(&bytes)).replace("sha256:", "sha256%3A")
    );
}

#[tokio::test]
async fn a_lost_answer_and_a_forgotten_upload() {
    let server = Scripted::start(|request, number| match (number, method(request)) {
        (0, "HEAD") => Reply::new(404, ""),
        (1, "POST") => Reply::new(202, "").with("Location", "/u"),
        (2, "PUT") => Reply::new(504, ""),
        (3, "HEAD") => Reply::new(200, ""),
        other => panic!("{other:?}"),
    });
    assert_eq!(push(&server, noise(10)).await.unwrap(), Pushed::Uploaded);

    let server = Scripted::start(|request, number| match (number, method(request)) {
        (_, "HEAD" | "GET") => Reply::new(404, ""),
        (_, "POST") => Reply::new(202, "").with("Location", format!("/u{number}")),
        (..4, "PUT") => Reply::new(503, ""),
        (_, "PUT") => Reply::new(201, ""),
        other => panic!("{other:?}"),
    });
    assert_eq!(push(&server, noise(10)).await.unwrap(), Pushed::Uploaded);
    assert_eq!(server.lines().iter().filter(|line| line.starts_with("POST")).count(), 2);
}

#[tokio::test]
async fn large_pieces_are_not_taken_everywhere() {
    let server = Scripted::start(|request, _| match method(request) {
        "HEAD" => Reply::new(404, ""),
        "POST" => Reply::new(202, "").with("Location", "/u"),
        "PUT" if request.body.len() > 16 << 20 => Reply::new(413, ""),
        "PATCH" => Reply::new(202, "").with("Location", "/u"),
        _ => Reply::new(201, ""),
    });
    assert_eq!(push(&server, noise(17 << 20)).await.unwrap(), Pushed::Uploaded);
    let sizes: Vec<_> = server
        .asked()
        .iter()
        .filter(|request| request.method == "PATCH")
        .map(|request| request.body.len())
        .collect();
    assert_eq!(sizes, [16 << 20, 1 << 20]);
}

#[tokio::test]
async fn an_upload_elsewhere_gets_no_credentials() {
    let storage = Scripted::start(|_, _| Reply::new(201, ""));
    let place = format!("http://{}/put", storage.host);
    let server =
        Scripted::start(move |request, _| match (request.header("authorization"), method(request)) {
            (None, _) => Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""),
            (_, "POST") => Reply::new(202, "").with("Location", &place),
            _ => Reply::new(404, ""),
        });
    let registry = Registry::new(plain(&server.host), Known::password());
    let bytes = Bytes::from(noise(10));
    registry.push_blob(&repository(&server.host), &descriptor(&bytes), Arc::new(bytes), &[]).await.unwrap();
    let asked = storage.asked();
    assert_eq!((asked.len(), asked[0].header("authorization")), (1, None));
    assert_eq!(asked[0].body, noise(10));

    for location in ["file:///etc/passwd", "gopher://x", "http://a:b@x/"] {
        let server = Scripted::start(move |request, _| match method(request) {
            "POST" => Reply::new(202, "").with("Location", location),
            _ => Reply::new(404, ""),
        });
        assert!(matches!(push(&server, noise(10)).await, Err(RegistryError::Misled { .. })), "{location}");
    }
}

#[tokio::test]
async fn blobs_are_mounted_where_that_works() {
    let server = Scripted::start(|request, _| match (method(request), request.path.contains("from=c%2Fd")) {
        ("POST", true) => Reply::new(201, ""),
        ("POST", false) if request.path.contains("mount=") => Reply::new(202, "").with("Location", "/u"),
        ("DELETE", _) => Reply::new(204, ""),
        _ => Reply::new(404, ""),
    });
    let registry = anonymous(plain(&server.host));
    let place = |path: &str| format!("{}/{path}", server.host).parse().unwrap();
    let bytes = Bytes::from(noise(10));
    let from = [place("b/a"), place("c/d"), "other.example/x/y".parse().unwrap(), place("a/b")];
    let pushed =
        registry.push_blob(&place("a/b"), &descriptor(&bytes), Arc::new(bytes), &from).await.unwrap();
    assert_eq!(pushed, Pushed::Mounted(place("c/d")));
    let methods: Vec<_> = server.asked().iter().map(|request| request.method.clone()).collect();
    assert_eq!(methods, ["HEAD", "POST", "DELETE", "POST"]);
}

#[tokio::test]
async fn a_source_that_fails_is_told_as_such() {
    struct Gone;
    impl rb_registry::BlobSource for Gone {
        fn open(&self, _: u64) -> std::io::Result<Box<dyn std::io::Read + Send>> {
            Err(std::io::ErrorKind::NotFound.into())
        }
    }
    let script = |request: &Request, _| match method(request) {
        "POST" => Reply::new(202, "").with("Location", "/u"),
        _ => Reply::new(404, ""),
    };
    let server = Scripted::start(script);
    let registry = anonymous(plain(&server.host));
    let place = repository(&server.host);
    let error = registry.push_blob(&place, &descriptor(b"x"), Arc::new(Gone), &[]).await.unwrap_err();
    assert!(matches!(error, RegistryError::Local { action: "read", .. }), "{error}");
    let short = Arc::new(Bytes::from_static(b"x"));
    let error = registry.push_blob(&place, &descriptor(b"xyz"), short, &[]).await.unwrap_err();
    assert!(matches!(error, RegistryError::Local { .. }), "{error}");
}

#[tokio::test]
async fn a_manifest_is_stored_as_it_is() {
    let server = Scripted::start(|request, number| match number {
        0 => Reply::new(503, ""),
        1 => Reply::new(201, "").with("Docker-Content-Digest", Digest::of(&request.body)),
        _ => Reply::new(201, "").with("Docker-Content-Digest", Digest::of("other")),
    });
    let registry = anonymous(plain(&server.host));
    let place = reference(&server.host);
    let digest = registry.push_manifest(&place, "application/x", b"{}".to_vec()).await.unwrap();
    assert_eq!(digest, Digest::of("{}"));
    assert_eq!(server.asked()[1].header("content-type"), Some("application/x"));
    assert!(registry.push_manifest(&place, "application/x", b"{}".to_vec()).await.is_err());
    assert!(
        registry
            .push_manifest(&place.pinned(Digest::of("other")), "application/x", b"{}".to_vec())
            .await
            .is_err()
    );
    assert_eq!(server.asked().len(), 3);
}
