//! Blobs from registries that cut, lie, stall and lead astray.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rb_diag::ErrorKind;
use rb_registry::{HostOptions, Notice, Registry, RegistryError};

use crate::client::{Known, Notes, anonymous, descriptor, noise, options, plain, repository, with_host};
use crate::support::scripted::{Reply, Request, Scripted};

/// Answers a range as it should be.
fn ranged(request: &Request, bytes: &[u8]) -> Reply {
    let range = request
        .header("range")
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    match range {
        None => Reply::new(200, bytes),
        Some(start) => Reply::new(206, &bytes[start..])
            .with("Content-Range", format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len())),
    }
}

/// Pulls 100 kB from a server that answers so.
async fn pull(
    script: impl Fn(&Request, usize, &[u8]) -> Reply + Send + Sync + 'static,
) -> (Scripted, Result<(), RegistryError>) {
    let bytes = noise(100_000);
    let blob = descriptor(&bytes);
    let sent = bytes.clone();
    let server = Scripted::start(move |request, number| script(request, number, &sent));
    let got = anonymous(plain(&server.host)).blob(&repository(&server.host), &blob, Vec::new()).await;
    let done = got.map(|got| assert!(got == bytes));
    (server, done)
}

#[tokio::test]
async fn a_cut_blob_goes_on_where_it_was_cut() {
    let (server, done) = pull(|request, number, bytes| Reply {
        cut: (number < 4).then_some(20_000),
        ..ranged(request, bytes)
    })
    .await;
    done.unwrap();
    let ranges: Vec<_> =
        server.asked().iter().map(|request| request.header("range").map(ToOwned::to_owned)).collect();
    assert_eq!(ranges.len(), 5, "{ranges:?}");
    assert_eq!(ranges[0], None);
    assert_eq!(ranges[4].as_deref(), Some("bytes=80000-"));
}

#[tokio::test]
async fn a_server_without_ranges_is_read_over() {
    let (server, done) =
        pull(|_, number, bytes| Reply { cut: (number == 0).then_some(70_000), ..Reply::new(200, bytes) })
            .await;
    done.unwrap();
    assert_eq!(server.asked().len(), 2);
    let (server, done) = pull(|_, number, bytes| match number {
        0 => Reply { cut: Some(70_000), ..Reply::new(200, bytes) },
        1 => Reply::new(416, ""),
        _ => Reply::new(200, bytes),
    })
    .await;
    done.unwrap();
    assert_eq!(server.asked()[2].header("range"), None);
}

#[tokio::test]
async fn a_wrong_range_is_refused() {
    for range in ["bytes 0-99999/100000", "bytes 70000-99999/100001", "bytes 70000-80000/100000", "nonsense"]
    {
        let (server, done) = pull(move |_, number, bytes| match number {
            0 => Reply { cut: Some(70_000), ..Reply::new(200, bytes) },
            _ => Reply::new(206, &bytes[70_000..]).with("Content-Range", range),
        })
        .await;
        let error = done.unwrap_err();
        assert!(matches!(error, RegistryError::Content { .. }), "{error}");
        assert_eq!((server.asked().len(), error.kind()), (2, ErrorKind::Environment));
    }
}

#[tokio::test]
async fn more_fewer_or_other_bytes_are_refused() {
    let wrong: [fn(&[u8]) -> Reply; 5] = [
        |bytes| Reply::new(200, [bytes, b"!"].concat()),
        |bytes| Reply { chunked: true, ..Reply::new(200, [bytes, b"!"].concat()) },
        |bytes| Reply::new(200, &bytes[1..]),
        |bytes| Reply::new(200, [&bytes[1..], b"!"].concat()),
        |bytes| Reply { length: Some(1 << 40), ..Reply::new(200, bytes) },
    ];
    for wrong in wrong {
        let (server, done) = pull(move |_, _, bytes| wrong(bytes)).await;
        let error = done.unwrap_err();
        assert!(matches!(error, RegistryError::Content { .. }) && error.help().is_some(), "{error}");
        assert_eq!((server.asked().len(), error.kind()), (1, ErrorKind::Environment), "{error}");
    }
    // One that ends early, without having said how long it is, may have been cut.
    let (server, done) = pull(|_, _, bytes| Reply { chunked: true, ..Reply::new(200, &bytes[..10]) }).await;
    let error = done.unwrap_err();
    assert!(error.to_string().ends_with("ended after 10 of 100000 bytes"), "{error}");
    assert_eq!((server.asked().len(), error.kind()), (3, ErrorKind::Environment));
}

#[tokio::test]
async fn a_blob_that_stands_still_is_asked_for_again() {
    let (server, done) = pull(|request, number, bytes| Reply {
        stall: (number == 0).then_some((50_000, Duration::from_secs(2))),
        ..ranged(request, bytes)
    })
    .await;
    done.unwrap();
    assert_eq!(server.asked()[1].header("range"), Some("bytes=50000-"));
}

#[tokio::test]
async fn a_busy_registry_is_asked_again_when_it_wants() {
    let bytes = noise(10);
    let (sent, notes) = (bytes.clone(), Arc::new(Notes::default()));
    let server = Scripted::start(move |_, number| match number {
        0 => Reply::new(429, r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#)
            .with("Retry-After", 1),
        1 => Reply::new(503, ""),
        _ => Reply::new(200, sent.clone()),
    });
    let registry = anonymous(plain(&server.host)).watched(notes.clone());
    let began = std::time::Instant::now();
    registry.blob(&repository(&server.host), &descriptor(&bytes), Vec::new()).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    let notices = notes.notices.lock().unwrap();
    assert!(
        matches!(&notices[0], Notice::Again { reason, pause, .. } if *pause == Duration::from_secs(1)
            && reason.ends_with("was asked too often and wants to be left alone for 1 s; it says: toomanyrequests: slow down")),
        "{notices:?}"
    );
    assert_eq!((notices.len(), notes.bytes.lock().unwrap().as_slice()), (2, &[10][..]));
}

#[tokio::test]
async fn what_will_not_change_is_not_asked_again() {
    for (status, asked) in [(400, 1), (403, 1), (404, 1), (500, 3), (502, 3), (501, 1), (418, 1)] {
        let (server, done) = pull(move |_, _, _| Reply::new(status, "\u{1b}[2Jno\r\n")).await;
        let error = done.unwrap_err().to_string();
        assert_eq!(server.asked().len(), asked, "{status}: {error}");
        assert!(
            !error.contains(|letter: char| letter.is_control()) && error.ends_with("says: [2Jno"),
            "{error}"
        );
    }
    // Nobody waits an hour.
    let (server, done) = pull(|_, _, _| Reply::new(429, "").with("Retry-After", 3600)).await;
    assert!(done.unwrap_err().to_string().contains("3600 s"));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn redirects_carry_no_credentials_and_end() {
    let bytes = noise(1000);
    let sent = bytes.clone();
    let storage = Scripted::start(move |_, _| Reply::new(200, sent.clone()));
    let place = format!("http://{}/signed?secret=1", storage.host);
    let server = Scripted::start(move |request, _| match request.header("authorization") {
        None => Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""),
        Some(_) => Reply::new(307, "").with("Location", &place),
    });
    let registry = Registry::new(plain(&server.host), Known::password());
    registry.blob(&repository(&server.host), &descriptor(&bytes), Vec::new()).await.unwrap();
    assert_eq!(server.asked()[1].header("authorization"), Some("Basic cmI6c2VjcmV0"));
    let asked = storage.asked();
    assert_eq!((asked.len(), asked[0].header("authorization")), (1, None));

    for (location, reason) in [
        ("/v2/again", "redirects in circles"),
        ("ftp://x/y", "leads to a `ftp:` URL"),
        ("file:///etc/passwd", "leads to a `file:` URL"),
        ("http://user:pw@x/y", "a name or password"),
    ] {
        let (server, done) = pull(move |_, _, _| Reply::new(302, "").with("Location", location)).await;
        let error = done.unwrap_err();
        assert!(error.to_string().contains(reason) && !error.to_string().contains("pw"), "{error}");
        assert!(server.asked().len() <= 6);
    }
}

#[tokio::test]
async fn headers_and_errors_without_end_are_cut() {
    let (_, done) = pull(|_, _, _| Reply::new(400, "x".repeat(5_000_000))).await;
    assert!(done.unwrap_err().to_string().len() < 700);
    let (_, done) = pull(|_, _, _| Reply::new(200, "").with("X", "x".repeat(2_000_000))).await;
    assert_eq!(done.unwrap_err().kind(), ErrorKind::Environment);
}

#[tokio::test]
async fn mirrors_are_asked_first_and_the_registry_last() {
    let bytes = noise(50_000);
    let (half, whole) = (bytes.clone(), bytes.clone());
    let wrong = Scripted::start(|_, _| Reply::new(200, noise(50_000 - 1)).with("X", "wrong"));
    let broken = Scripted::start(move |request, _| match request.header("range") {
        None => Reply { cut: Some(20_000), ..Reply::new(200, half.clone()) },
        Some(_) => Reply::new(404, ""),
    });
    let origin = Scripted::start(move |request, _| ranged(request, &whole));
    let mirrors = vec![
        format!("http://{}", wrong.host),
        format!("http://{}/cache", broken.host),
        "http://127.0.0.1:1".into(),
    ];
    let options =
        with_host(&origin.host, HostOptions { mirrors, plain_http: true, ..HostOptions::default() });
    let notes = Arc::new(Notes::default());
    let registry = anonymous(options).watched(notes.clone());
    registry.blob(&repository(&origin.host), &descriptor(&bytes), Vec::new()).await.unwrap();
    assert!(broken.lines()[0].starts_with("GET /v2/cache/a/b/blobs/sha256:"), "{:?}", broken.lines());
    assert!(broken.lines()[0].contains("?ns=127.0.0.1"));
    assert_eq!(origin.asked()[0].header("range"), Some("bytes=20000-"));
    let skipped = notes
        .notices
        .lock()
        .unwrap()
        .iter()
        .filter(|notice| matches!(notice, Notice::MirrorSkipped { .. }))
        .count();
    assert_eq!(skipped, 2);
}

#[tokio::test]
async fn bytes_of_a_lying_mirror_are_taken_back() {
    let bytes = noise(30_000);
    let mut other = bytes.clone();
    other[7] ^= 1;
    let whole = bytes.clone();
    let mirror = Scripted::start(move |_, _| Reply::new(200, other.clone()));
    let origin = Scripted::start(move |request, _| ranged(request, &whole));
    let mirrors = vec![format!("http://{}", mirror.host)];
    let options =
        with_host(&origin.host, HostOptions { mirrors, plain_http: true, ..HostOptions::default() });
    let got =
        anonymous(options).blob(&repository(&origin.host), &descriptor(&bytes), Vec::new()).await.unwrap();
    assert!(got == bytes);
}

#[tokio::test]
async fn a_sink_that_fails_ends_it() {
    struct Full;
    impl rb_registry::BlobSink for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<()> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn restart(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let bytes = noise(100_000);
    let sent = bytes.clone();
    let server = Scripted::start(move |_, _| Reply::new(200, sent.clone()));
    let done =
        anonymous(plain(&server.host)).blob(&repository(&server.host), &descriptor(&bytes), Full).await;
    let Err(error) = done else { panic!("a full disk") };
    assert!(matches!(error, RegistryError::Local { .. }) && error.kind() == ErrorKind::Environment);
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn loopback_may_speak_plain_http() {
    let bytes = noise(10);
    let sent = bytes.clone();
    let server = Scripted::start(move |_, _| Reply::new(200, sent.clone()));
    let registry = anonymous(options());
    registry.blob(&repository(&server.host), &descriptor(&bytes), Vec::new()).await.unwrap();
    let nobody = repository("127.0.0.1:1");
    let error = registry.blob(&nobody, &descriptor(&bytes), Vec::new()).await.unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn plain_http_goes_through_its_proxy() {
    let bytes = noise(10);
    let sent = bytes.clone();
    let proxy = Scripted::start(move |_, _| Reply::new(200, sent.clone()));
    let mut options = plain("registry.invalid");
    options.proxies.http = Some(format!("http://rb:secret@{}", proxy.host));
    anonymous(options.clone())
        .blob(&repository("registry.invalid"), &descriptor(&bytes), Vec::new())
        .await
        .unwrap();
    assert!(proxy.lines()[0].starts_with("GET http://registry.invalid/v2/a/b/blobs/"), "{:?}", proxy.lines());
    assert_eq!(proxy.asked()[0].header("proxy-authorization"), Some("Basic cmI6c2VjcmV0"));
    assert!(!format!("{options:?}").contains("secret"));
    options.proxies.none = "registry.invalid".to_owned();
    let error =
        anonymous(options).blob(&repository("registry.invalid"), &descriptor(&bytes), Vec::new()).await;
    assert!(matches!(error, Err(RegistryError::Unreachable { .. })));
}

#[tokio::test]
async fn a_host_gets_few_transfers_at_once_and_dropping_ends_them() {
    static NOW: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let server = Scripted::start(|_, _| {
        MOST.fetch_max(NOW.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(50));
        NOW.fetch_sub(1, Ordering::SeqCst);
        Reply::new(200, noise(10))
    });
    let mut options = plain(&server.host);
    options.limits.transfers_per_host = 2;
    let registry = anonymous(options);
    let place = repository(&server.host);
    let mut pulls = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (registry, place) = (registry.clone(), place.clone());
        pulls.spawn(async move { registry.blob(&place, &descriptor(&noise(10)), Vec::new()).await });
    }
    while let Some(pull) = pulls.join_next().await {
        pull.unwrap().unwrap();
    }
    assert_eq!(MOST.load(Ordering::SeqCst), 2);

    // The sink of a pull that is dropped goes as well.
    struct Held(#[expect(dead_code, reason = "it is only counted")] Arc<()>);
    impl rb_registry::BlobSink for Held {
        fn write(&mut self, _: &[u8]) -> std::io::Result<()> {
            Ok(())
        }
        fn restart(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let held = Arc::new(());
    let blob = descriptor(&noise(10));
    let pull = registry.blob(&place, &blob, Held(held.clone()));
    assert!(tokio::time::timeout(Duration::from_millis(10), pull).await.is_err());
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if Arc::strong_count(&held) == 1 {
            return;
        }
    }
    panic!("the sink is still held");
}
