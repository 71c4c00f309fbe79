//! Files of the web, from servers that are changed, cut, moved and hostile.

use rb_diag::ErrorKind;
use rb_oci::Digest;
use rb_registry::{RegistryError, Validators, WebAnswer, WebRequest};
use rb_session::Secret;

use crate::client::{anonymous, noise, plain};
use crate::resume::{Kept, ranged};
use crate::support::scripted::{Reply, Request, Scripted};

const SIZE: usize = 100_000;
const LIMIT: u64 = 1 << 20;

fn request(server: &Scripted) -> WebRequest {
    WebRequest {
        url: format!("http://{}/a/file.txt?signature=hunter2", server.host),
        ..WebRequest::default()
    }
}

async fn get(
    server: &Scripted,
    request: &WebRequest,
    kept: &[u8],
    expected: Option<Digest>,
) -> Result<Option<(Kept, Digest)>, RegistryError> {
    match anonymous(plain(&server.host)).web(request).await? {
        WebAnswer::Unchanged => Ok(None),
        WebAnswer::File(file) => {
            let sink = Kept { bytes: kept.to_vec(), restarts: 0 };
            let (sink, digest, size_bytes) = file.read(sink, LIMIT, expected).await?;
            assert_eq!(size_bytes, sink.bytes.len() as u64);
            assert_eq!(digest, Digest::of(&sink.bytes));
            Ok(Some((sink, digest)))
        }
    }
}

fn ranges(server: &Scripted) -> Vec<Option<String>> {
    server.asked().iter().map(|request| request.header("range").map(ToOwned::to_owned)).collect()
}

#[tokio::test]
async fn a_file_comes_and_is_asked_for_again_with_what_is_known_of_it() {
    let server = Scripted::start(|request, _| match request.header("if-none-match") {
        Some("\"one\"") => Reply::new(304, ""),
        _ => Reply::new(200, "hello")
            .with("ETag", "\"one\"")
            .with("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT"),
    });
    let WebAnswer::File(file) = anonymous(plain(&server.host)).web(&request(&server)).await.unwrap() else {
        panic!("nothing was known");
    };
    let known = file.head().validators.clone();
    assert_eq!(known.etag.as_deref(), Some("\"one\""));
    assert_eq!(known.last_modified.as_deref(), Some("Wed, 21 Oct 2015 07:28:00 GMT"));
    let known = WebRequest { known: Some(known), ..request(&server) };
    assert!(get(&server, &known, b"", None).await.unwrap().is_none());
    let other = Validators { etag: Some("\"two\"".to_owned()), last_modified: None };
    let other = WebRequest { known: Some(other), ..request(&server) };
    assert_eq!(get(&server, &other, b"", None).await.unwrap().unwrap().0.bytes, b"hello");
}

#[tokio::test]
async fn a_server_that_sends_what_is_known_all_the_same_is_not_read() {
    let server = Scripted::start(|_, _| Reply::new(200, "hello").with("ETag", "\"one\""));
    let known = Validators { etag: Some("\"one\"".to_owned()), last_modified: None };
    let known = WebRequest { known: Some(known), ..request(&server) };
    assert!(get(&server, &known, b"", None).await.unwrap().is_none());
}

#[tokio::test]
async fn a_cut_is_gone_on_with_where_the_server_says_it_is_the_same() {
    let bytes = noise(SIZE);
    let server = Scripted::start(move |request, number| {
        let reply = ranged(request, &bytes).with("ETag", "\"one\"");
        Reply { cut: (number < 2).then_some(30_000), ..reply }
    });
    let (got, _) = get(&server, &request(&server), b"", None).await.unwrap().unwrap();
    assert!(got.bytes == noise(SIZE) && got.restarts == 0);
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(ranges(&server), [None, some("bytes=30000-"), some("bytes=60000-")]);
    assert!(server.asked().iter().skip(1).all(|request| request.header("if-range") == Some("\"one\"")));
}

#[tokio::test]
async fn what_changed_meanwhile_comes_anew() {
    let server = Scripted::start(|_, number| match number {
        0 => Reply { cut: Some(30_000), ..Reply::new(200, noise(SIZE)).with("ETag", "\"one\"") },
        _ => Reply::new(200, "short").with("ETag", "\"two\""),
    });
    let (got, _) = get(&server, &request(&server), b"", None).await.unwrap().unwrap();
    assert_eq!((got.bytes.as_slice(), got.restarts), (b"short".as_slice(), 1));
}

#[tokio::test]
async fn without_a_version_or_a_digest_all_comes_anew() {
    let script = |request: &Request, number: usize| Reply {
        cut: (number == 0).then_some(30_000),
        ..ranged(request, &noise(SIZE))
    };
    let server = Scripted::start(script);
    let (got, digest) = get(&server, &request(&server), b"", None).await.unwrap().unwrap();
    assert!(got.bytes == noise(SIZE) && got.restarts == 1);
    assert_eq!(ranges(&server), [None, None]);
    // A digest proves the whole, whatever the pieces.
    let server = Scripted::start(script);
    let (got, _) = get(&server, &request(&server), b"", Some(digest)).await.unwrap().unwrap();
    assert_eq!(got.restarts, 0);
    assert_eq!(ranges(&server), [None, Some("bytes=30000-".to_owned())]);
}

#[tokio::test]
async fn what_is_here_of_an_earlier_time_is_gone_on_with_and_proved() {
    let script = |request: &Request, _: usize| ranged(request, &noise(SIZE));
    let server = Scripted::start(script);
    let digest = Digest::of(noise(SIZE));
    let (got, _) =
        get(&server, &request(&server), &noise(SIZE)[..40_000], Some(digest)).await.unwrap().unwrap();
    assert_eq!(got.restarts, 0);
    assert_eq!(ranges(&server), [None, Some("bytes=40000-".to_owned())]);
    // Where it is wrong, all comes once more before the server is blamed.
    let server = Scripted::start(script);
    let (got, _) = get(&server, &request(&server), &[7; 40_000], Some(digest)).await.unwrap().unwrap();
    assert_eq!(got.restarts, 1);
    let error = get(&server, &request(&server), b"", Some(Digest::of("other"))).await.err().unwrap();
    assert!(error.to_string().contains("its digest is") && error.kind() == ErrorKind::Input, "{error}");
}

#[tokio::test]
async fn what_is_shown_goes_to_its_own_server_alone() {
    let target = Scripted::start(|_, _| Reply::new(200, "there"));
    let to = format!("http://{}/there", target.host);
    let server = Scripted::start(move |request, _| match request.path.as_str() {
        "/home" => Reply::new(307, "").with("Location", &to),
        _ => Reply::new(302, "").with("Location", "/home"),
    });
    let shown = WebRequest { authorization: Some(Secret::new("Bearer hunter2")), ..request(&server) };
    assert_eq!(get(&server, &shown, b"", None).await.unwrap().unwrap().0.bytes, b"there");
    assert!(server.asked().iter().all(|request| request.header("authorization") == Some("Bearer hunter2")));
    assert_eq!(target.asked().iter().filter(|request| request.header("authorization").is_some()).count(), 0);
    assert_eq!(target.lines(), ["GET /there"]);
}

#[tokio::test]
async fn refusals_say_why_and_hide_what_may_be_secret() {
    type Case = (fn() -> Reply, &'static str);
    let cases: [Case; 5] = [
        (|| Reply::new(401, ""), "wants to know who asks for"),
        (|| Reply::new(404, ""), "not found: http://127.0.0.1"),
        (|| Reply::new(302, "").with("Location", "/again"), "redirects in circles"),
        (|| Reply::new(302, "").with("Location", "file:///etc/passwd"), "leads to a `file:` URL"),
        (
            || Reply { length: Some(LIMIT as usize + 1), ..Reply::new(200, "x") },
            "larger than the 1048576 bytes",
        ),
    ];
    for (reply, expected) in cases {
        let server = Scripted::start(move |_, _| reply());
        let error = get(&server, &request(&server), b"", None).await.err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    let server = Scripted::start(|_, number| Reply::new(if number == 0 { 503 } else { 200 }, "fine"));
    assert_eq!(get(&server, &request(&server), b"", None).await.unwrap().unwrap().0.bytes, b"fine");
}
