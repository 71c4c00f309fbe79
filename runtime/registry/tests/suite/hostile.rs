//! Registries that want what is not theirs: passwords and tokens of others, requests to others, time and memory.
//!
//! What else they try: `pull` (redirects, ranges, lengths, endless headers and errors), `auth` (token services), `push`
//! (uploads elsewhere), `lists` (pages without end, or on another host), `images` (documents, indexes, digests).

use std::sync::Arc;
use std::time::{Duration, Instant};

use rb_diag::ErrorKind;
use rb_oci::Digest;
use rb_registry::{HostOptions, Registry, RegistryError};
use serde_json::json;

use crate::client::{Known, anonymous, descriptor, noise, options, plain, reference, repository, with_host};
use crate::support::scripted::{Reply, Scripted};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What `rb` sends to a registry that knows it by password.
const PASSWORD: &str = "Basic cmI6c2VjcmV0";

async fn pull(registry: &Registry, server: &Scripted) -> Result<(), RegistryError> {
    let bytes = noise(10);
    registry
        .blob(&repository(&server.host), &descriptor(&bytes), Vec::new())
        .await
        .map(|got| assert!(got == bytes))
}

/// A server that is asked for nothing.
fn nobody() -> Scripted {
    Scripted::start(|_, _| Reply::new(200, noise(10)))
}

#[tokio::test]
async fn a_token_is_shown_to_its_registry_alone() {
    let service = Scripted::start(|_, _| Reply::new(200, r#"{"token":"good"}"#));
    let challenge = format!("Bearer realm=\"http://{}/token\",service=\"one\"", service.host);
    let of = |challenge: String, elsewhere: Option<String>| {
        Scripted::start(move |request, _| match (request.header("authorization"), &elsewhere) {
            (None, _) => Reply::new(401, "").with("WWW-Authenticate", &challenge),
            (Some(_), Some(place)) => Reply::new(307, "").with("Location", place),
            (Some(_), None) => Reply::new(200, noise(10)),
        })
    };
    let (one, stranger) = (of(challenge.clone(), None), nobody());
    let mut options = plain(&one.host);
    let known = HostOptions { plain_http: true, ..HostOptions::default() };
    options.hosts.insert(stranger.host.clone(), known.clone());
    // The same client, and so all that it remembers; then a redirect from where the token was shown.
    let leading = of(challenge, Some(format!("http://{}/v2/a/b/blobs/x", stranger.host)));
    options.hosts.insert(leading.host.clone(), known);
    let registry = Registry::new(options, Known::password());
    pull(&registry, &one).await.unwrap();
    pull(&registry, &stranger).await.unwrap();
    pull(&registry, &leading).await.unwrap();
    assert_eq!(one.asked()[1].header("authorization"), Some("Bearer good"));
    assert_eq!(stranger.asked().len(), 2);
    for request in stranger.asked() {
        for secret in ["authorization", "cookie", "proxy-authorization", "referer"] {
            assert_eq!(request.header(secret), None, "{request:?}");
        }
    }
}

#[tokio::test]
async fn no_realm_reads_files_or_gets_a_password_that_is_not_for_it() {
    for realm in
        ["file:///etc/passwd", "data:text/plain,%7B%22token%22:%22good%22%7D", "javascript:1", "unix:/run/x"]
    {
        let server = Scripted::start(move |_, _| {
            Reply::new(401, "").with("WWW-Authenticate", format!("Bearer realm=\"{realm}\""))
        });
        let error = pull(&Registry::new(plain(&server.host), Known::password()), &server).await.unwrap_err();
        assert!(matches!(error, RegistryError::Misled { .. }), "{realm}: {error:?}");
        assert!(!format!("{error:?}").contains("secret"));
    }
    // What is no URL, or comes a thousand times, is no way in.
    for challenge in
        ["Bearer realm=\"/token\"", "Bearer", "Bearer realm=", &"Bearer realm=\"x\", ".repeat(1000)]
    {
        let challenge = challenge.to_owned();
        let server = Scripted::start(move |_, _| Reply::new(401, "").with("WWW-Authenticate", &challenge));
        let error = pull(&Registry::new(plain(&server.host), Known::password()), &server).await.unwrap_err();
        assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error:?}");
        assert!(server.asked().iter().all(|request| request.header("authorization") != Some(PASSWORD)));
    }
    // A service that sends on who asks for a token sends nobody on.
    let thief = nobody();
    let place = format!("http://{}/steal", thief.host);
    for status in [301, 302, 303, 307, 308] {
        let place = place.clone();
        let service = Scripted::start(move |_, _| Reply::new(status, "").with("Location", &place));
        let realm = format!("Bearer realm=\"http://{}/\"", service.host);
        let server = Scripted::start(move |_, _| Reply::new(401, "").with("WWW-Authenticate", &realm));
        let error = pull(&Registry::new(plain(&server.host), Known::password()), &server).await.unwrap_err();
        assert!(matches!(error, RegistryError::Misled { .. }), "{status}: {error:?}");
    }
    assert!(thief.asked().is_empty());
}

#[tokio::test]
async fn manifests_from_elsewhere_are_proven_and_get_no_credentials() {
    let bytes = json!({ "schemaVersion": 2, "config": { "mediaType": "x", "digest": Digest::of("x").to_string(), "size": 1 }, "layers": [] }).to_string();
    let (served, digest) = (bytes.clone(), Digest::of(&bytes));
    let storage = Scripted::start(move |_, number| match number {
        0 => Reply::new(200, served.clone()).with("Content-Type", MANIFEST),
        _ => Reply::new(200, served.replace(":2", ":3")).with("Content-Type", MANIFEST),
    });
    let place = format!("http://{}/m", storage.host);
    let server = Scripted::start(move |request, _| match request.header("authorization") {
        None => Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""),
        Some(_) => Reply::new(302, "").with("Location", &place),
    });
    let registry = Registry::new(plain(&server.host), Known::password());
    let pinned = reference(&server.host).pinned(digest);
    registry.resolve(&pinned).await.unwrap();
    let error = registry.resolve(&pinned).await.unwrap_err();
    assert!(error.to_string().contains("its digest is") && error.kind() == ErrorKind::Environment, "{error}");
    assert!(storage.asked().iter().all(|request| request.header("authorization").is_none()));
}

#[tokio::test]
async fn nothing_is_unpacked_on_the_way() {
    // Ten thousand times as much, for a client that believes the header.
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut bomb, &vec![b' '; 1 << 24]).unwrap();
    let bomb = bomb.finish().unwrap();
    for encoding in ["gzip", "deflate", "br", "zstd"] {
        let sent = bomb.clone();
        let server = Scripted::start(move |request, _| {
            assert_eq!(request.header("accept-encoding"), Some("identity"));
            Reply::new(200, sent.clone()).with("Content-Encoding", encoding).with("Content-Type", MANIFEST)
        });
        let registry = anonymous(plain(&server.host));
        let error = registry.resolve(&reference(&server.host)).await.unwrap_err();
        assert!(matches!(error, RegistryError::Content { .. }), "{encoding}: {error:?}");
        // A blob is the very bytes.
        let blob = registry.blob(&repository(&server.host), &descriptor(&bomb), Vec::new()).await;
        assert!(blob.unwrap() == bomb);
    }
}

#[tokio::test]
async fn heads_and_bodies_end() {
    type Answer = Box<dyn Fn() -> Reply + Send + Sync>;
    let began = Instant::now();
    let many =
        || (0..20_000).fold(Reply::new(200, ""), |reply, number| reply.with(&format!("X-{number}"), "x"));
    let long =
        |name: &'static str| move || Reply::new(307, "").with(name, format!("/{}", "x".repeat(20_000)));
    let replies: [(&str, Answer); 5] = [
        ("headers", Box::new(many)),
        ("location", Box::new(long("Location"))),
        ("nowhere", Box::new(|| Reply::new(307, ""))),
        ("length", Box::new(|| Reply { length: Some(usize::MAX), ..Reply::new(200, "{}") })),
        ("document", Box::new(|| Reply { chunked: true, ..Reply::new(200, vec![b'['; 5 << 20]) })),
    ];
    for (what, reply) in replies {
        let server = Scripted::start(move |_, _| reply());
        let error = anonymous(plain(&server.host)).resolve(&reference(&server.host)).await.unwrap_err();
        assert!(error.to_string().len() < 1000 && error.kind() != ErrorKind::Internal, "{what}: {error:?}");
    }
    // A document that stops in the middle is not waited for.
    let server = Scripted::start(|_, _| Reply {
        stall: Some((10, Duration::from_secs(30))),
        ..Reply::new(200, vec![b' '; 100])
    });
    let error = anonymous(plain(&server.host)).resolve(&reference(&server.host)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Environment, "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_wait_that_nobody_can_read_is_not_waited() {
    for wait in ["99999999999999999999", "-1", "soon", "Fri, 31 Dec 9999 23:59:59 GMT", "1e9"] {
        let server = Scripted::start(move |_, _| Reply::new(503, "").with("Retry-After", wait));
        let began = Instant::now();
        pull(&anonymous(plain(&server.host)), &server).await.unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(10), "{wait}");
    }
}

#[tokio::test]
async fn a_registry_of_another_machine_is_not_asked_in_the_clear() {
    // Only this machine's own may speak without TLS unasked; a name that merely begins like it is another.
    for host in ["127.0.0.1.invalid:1", "localhost.invalid:1", "registry.invalid"] {
        let proxy = nobody();
        let mut options = options();
        options.proxies.http = Some(format!("http://{}", proxy.host));
        let registry = Registry::new(options, Arc::<Known>::default());
        let error = registry.blob(&repository(host), &descriptor(b"x"), Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Environment, "{error:?}");
        assert!(proxy.asked().is_empty(), "{host}: {:?}", proxy.lines());
    }
    // Nor a mirror, unless it is written so.
    let proxy = nobody();
    let mirrors = vec!["https://mirror.invalid".to_owned()];
    let mut options = with_host("registry.invalid", HostOptions { mirrors, ..HostOptions::default() });
    options.proxies.http = Some(format!("http://{}", proxy.host));
    anonymous(options)
        .blob(&repository("registry.invalid"), &descriptor(b"x"), Vec::new())
        .await
        .unwrap_err();
    assert!(proxy.asked().is_empty(), "{:?}", proxy.lines());
}
