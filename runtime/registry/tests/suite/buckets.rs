//! Blobs and documents in S3, Azure and the cache of GitHub Actions, from servers that check who asks, and from hostile ones.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rb_oci::{Descriptor, Digest};
use rb_registry::{BucketClient, Pushed, RegistryError};
use rb_session::{ActionsCache, AzureContainer, AzureKey, Bucket, ObjectNames, S3Bucket, Secret};

use crate::client::{anonymous, descriptor, noise, options};
use crate::objects::{AZURE_KEY, Objects, S3_KEY, TOKEN};
use crate::support::scripted::{Reply, Scripted};

fn names(names: &[&str]) -> ObjectNames {
    ObjectNames {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        prefix: "team/".to_owned(),
        blobs_prefix: "blobs/".to_owned(),
        manifests_prefix: "manifests/".to_owned(),
    }
}

fn s3(url: &str) -> S3Bucket {
    S3Bucket {
        bucket: "bucket".to_owned(),
        region: "eu-central-1".to_owned(),
        endpoint_url: Some(url.to_owned()),
        path_style: true,
        objects: names(&["main", "other"]),
        access_key_id: S3_KEY.0.to_owned(),
        secret_access_key: Secret::new(S3_KEY.1),
        session_token: Some(Secret::new("session hunter2")),
        parallelism: 4,
        touch_refresh: Duration::from_secs(3600),
    }
}

fn azure(url: &str) -> AzureContainer {
    AzureContainer {
        account_url: format!("{url}/account"),
        account: "account".to_owned(),
        container: "cache".to_owned(),
        objects: names(&["main"]),
        key: AzureKey::Shared(Secret::new(AZURE_KEY)),
    }
}

fn actions(url: &str) -> ActionsCache {
    ActionsCache {
        url: format!("{url}/"),
        token: Secret::new(TOKEN),
        scope: "main".to_owned(),
        timeout: Duration::from_secs(20),
    }
}

fn all(url: &str) -> [Bucket; 3] {
    [Bucket::S3(s3(url)), Bucket::Azure(azure(url)), Bucket::Actions(actions(url))]
}

fn client(bucket: &Bucket) -> BucketClient {
    anonymous(options()).bucket(bucket).unwrap()
}

/// One that waits for a server with much to do.
fn patient(bucket: &Bucket) -> BucketClient {
    let mut options = options();
    options.limits.stall_timeout = Duration::from_secs(30);
    anonymous(options).bucket(bucket).unwrap()
}

fn blob(bytes: &[u8]) -> (Descriptor, Arc<Bytes>) {
    (descriptor(bytes), Arc::new(Bytes::copy_from_slice(bytes)))
}

#[tokio::test]
async fn what_is_written_is_found_and_read() {
    for place in 0..3 {
        let server = Objects::start();
        let bucket = &all(&server.url())[place];
        let client = client(bucket);
        assert!(client.documents().await.unwrap().is_empty(), "{bucket}");
        for size in [0, 1000] {
            let (descriptor, source) = blob(&noise(size));
            let digest = Digest::of(noise(size));
            assert!(!client.has_blob(&digest).await.unwrap());
            assert_eq!(client.push_blob(&descriptor, source.clone()).await.unwrap(), Pushed::Uploaded);
            assert_eq!(client.push_blob(&descriptor, source).await.unwrap(), Pushed::Existed);
            assert!(client.has_blob(&digest).await.unwrap());
            assert_eq!(client.blob(&descriptor, Vec::new()).await.unwrap(), noise(size), "{bucket}");
        }
        let (lacking, _) = blob(b"lacking");
        let error = client.blob(&lacking, Vec::new()).await.unwrap_err();
        assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");
        for text in ["one", "two", "two"] {
            client.put_document(text.as_bytes().to_vec()).await.unwrap();
            assert_eq!(client.documents().await.unwrap()[0], text.as_bytes(), "{bucket}");
        }
        assert!(server.kept.lock().unwrap().refused.is_empty());
        let names = server.names();
        match place {
            0 => {
                let digest = Digest::of(noise(1000));
                assert!(names.contains(&format!("/bucket/team/blobs/{digest}")), "{names:?}");
                assert!(names.contains(&"/bucket/team/manifests/other".to_owned()), "{names:?}");
            }
            1 => assert!(names.contains(&"/account/cache/team/manifests/main".to_owned()), "{names:?}"),
            // What is the same is not written again, and nothing is written over.
            _ => assert_eq!(
                server.kept.lock().unwrap().entries[2..],
                ["rb-index-1-main#1", "rb-index-1-main#2"]
            ),
        }
    }
}

#[tokio::test]
async fn large_blobs_go_in_parts() {
    let bytes = noise(70 << 20);
    let (descriptor, source) = blob(&bytes);
    for place in 0..3 {
        let server = Objects::start();
        let client = patient(&all(&server.url())[place]);
        client.push_blob(&descriptor, source.clone()).await.unwrap();
        let sent = server.server.asked().into_iter().filter(|request| request.method == "PUT");
        let parts = sent.filter(|request| !request.body.is_empty()).map(|request| request.body.len()).max();
        assert!(parts.is_some_and(|largest| largest <= 32 << 20));
        assert!(client.blob(&descriptor, Vec::new()).await.unwrap() == bytes);
    }
}

#[tokio::test]
async fn an_old_blob_of_s3_is_touched() {
    for (age, touched) in [("Mon, 01 Jan 2024 10:00:00 GMT", true), ("Mon, 01 Jan 2024 11:59:00 GMT", false)]
    {
        let server = Scripted::start(move |_, _| {
            Reply::new(200, "x").with("Date", "Mon, 01 Jan 2024 12:00:00 GMT").with("Last-Modified", age)
        });
        let client = client(&Bucket::S3(s3(&format!("http://{}", server.host))));
        let (descriptor, source) = blob(b"x");
        assert_eq!(client.push_blob(&descriptor, source).await.unwrap(), Pushed::Existed);
        let asked = server.asked();
        assert_eq!(asked.len(), if touched { 2 } else { 1 });
        if touched {
            let copied = asked[1].header("x-amz-copy-source").unwrap();
            assert!(copied.starts_with("/bucket/team/blobs/sha256"), "{copied}");
            assert!(
                asked[1].path.contains("SignedHeaders=host%3Bx-amz-copy-source%3Bx-amz-metadata-directive")
            );
        }
    }
}

#[tokio::test]
async fn branches_of_a_repository_have_documents_of_their_own() {
    use base64::Engine as _;
    let server = Scripted::start(|_, _| Reply::new(200, r#"{"ok":false}"#));
    let branches =
        r#"[{"Scope":"refs/heads/work","Permission":3},{"Scope":"refs/heads/main","Permission":1}]"#;
    let claims = serde_json::json!({"ac": branches}).to_string();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims);
    let token = Secret::new(format!("e30.{claims}.x"));
    let place = ActionsCache { token, ..actions(&format!("http://{}", server.host)) };
    assert!(client(&Bucket::Actions(place)).documents().await.unwrap().is_empty());
    let asked: Vec<String> =
        server.asked().iter().map(|request| String::from_utf8_lossy(&request.body).into_owned()).collect();
    for (question, branch) in asked.iter().zip(["refs/heads/work", "refs/heads/main"]) {
        assert!(
            question.contains(&format!("rb-index-1-main-{}#", &Digest::of(branch).hex()[..16])),
            "{question}"
        );
    }
    assert_eq!(asked.len(), 2);
}

#[tokio::test]
async fn who_may_not_is_told_which_attributes_count_and_no_secret() {
    for place in 0..3 {
        let server = Objects::start();
        let mut bucket = all(&server.url())[place].clone();
        match &mut bucket {
            Bucket::S3(bucket) => bucket.secret_access_key = Secret::new("other-hunter2"),
            Bucket::Azure(container) => container.account = "other".to_owned(),
            Bucket::Actions(cache) => cache.token = Secret::new("other-hunter2"),
        }
        let client = client(&bucket);
        let (descriptor, source) = blob(b"x");
        let mut errors = vec![client.documents().await.unwrap_err()];
        errors.push(client.put_document(b"x".to_vec()).await.unwrap_err());
        errors.push(client.blob(&descriptor, Vec::new()).await.unwrap_err());
        errors.push(client.push_blob(&descriptor, source).await.unwrap_err());
        let attribute = ["secret_access_key", "account_url", "ACTIONS_RUNTIME_TOKEN"][place];
        for error in errors {
            let told = format!("{error} {error:?} {:?}", error.help());
            assert!(matches!(error, RegistryError::Object { status: 403, .. }), "{told}");
            assert!(told.contains(attribute), "{told}");
            for secret in ["hunter2", "X-Amz", "sig=", "Bearer"] {
                assert!(!told.contains(secret), "{told}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_busy_is_asked_again() {
    let server = Scripted::start(|request, number| match number {
        0 => Reply::new(503, "<Error><Code>SlowDown</Code></Error>"),
        1 => Reply::new(500, "<Error><Code>InternalError</Code></Error>"),
        _ if request.method == "HEAD" => Reply::new(404, ""),
        _ => Reply::new(200, ""),
    });
    let client = client(&Bucket::S3(s3(&format!("http://{}", server.host))));
    let (descriptor, source) = blob(b"x");
    assert_eq!(client.push_blob(&descriptor, source).await.unwrap(), Pushed::Uploaded);
    assert_eq!(server.asked().len(), 4);
    let server = Scripted::start(|_, _| Reply::new(503, "hunter2"));
    let error =
        self::client(&Bucket::S3(s3(&format!("http://{}", server.host)))).documents().await.unwrap_err();
    assert!(
        matches!(error, RegistryError::Busy { status: 503, .. }) && !error.to_string().contains("hunter2")
    );
}

#[tokio::test]
async fn nothing_that_is_wrong_is_believed() {
    let (descriptor, _) = blob(b"right");
    // Other bytes, more bytes, and a place elsewhere: of a call, that is followed nowhere.
    for place in 0..2 {
        for reply in [Reply::new(200, "wrong"), Reply::new(200, "right and more")] {
            let server = Scripted::start(move |_, _| reply.clone());
            let client = client(&all(&format!("http://{}", server.host))[place]);
            let error = client.blob(&descriptor, Vec::new()).await.unwrap_err();
            assert!(matches!(error, RegistryError::Content { .. }), "{error}");
        }
        let other = Scripted::start(|_, _| Reply::new(200, "{}"));
        let elsewhere = format!("http://{}/", other.host);
        let server = Scripted::start(move |_, _| Reply::new(307, "").with("Location", &elsewhere));
        let client = client(&all(&format!("http://{}", server.host))[place]);
        let error = client.documents().await.unwrap_err();
        assert!(matches!(error, RegistryError::Object { status: 307, .. }), "{error}");
        assert!(other.asked().is_empty());
    }
    // A document without an end.
    let server = Scripted::start(|_, _| Reply { length: Some(1 << 40), ..Reply::new(200, "x") });
    let error = client(&Bucket::S3(s3(&format!("http://{}", server.host)))).documents().await.unwrap_err();
    assert!(matches!(error, RegistryError::Content { .. }), "{error}");
    // Signed URLs that lead where nobody goes; answers that are none.
    for url in ["file:///etc/passwd", "http://a:b@127.0.0.1/", "", "//x"] {
        let text =
            serde_json::json!({"ok": true, "signed_download_url": url, "matched_key": "rb-index-1-main#1"});
        let server = Scripted::start(move |_, _| Reply::new(200, text.to_string()));
        let error = client(&Bucket::Actions(actions(&format!("http://{}", server.host)))).documents().await;
        assert!(matches!(error, Err(RegistryError::Content { .. })), "{url}");
    }
    for text in ["", "<html>", "{\"ok\":1}"] {
        let server = Scripted::start(move |_, _| Reply::new(200, text));
        let error = client(&Bucket::Actions(actions(&format!("http://{}", server.host)))).documents().await;
        assert!(matches!(error, Err(RegistryError::Content { .. })), "{text}");
    }
    // An upload without a name, and one that fails after it was said to go well.
    let large = noise(65 << 20);
    let (descriptor, source) = blob(&large);
    for (opened, ended) in [
        ("<UploadId></UploadId>", ""),
        ("<UploadId>u</UploadId>", "<Error><Code>InternalError</Code></Error>"),
    ] {
        let server = Scripted::start(move |request, _| match request.method.as_str() {
            "HEAD" => Reply::new(404, ""),
            "POST" if request.path.contains("uploads") => Reply::new(200, opened),
            "POST" => Reply::new(200, ended),
            _ => Reply::new(200, "").with("ETag", "\"e\""),
        });
        let client = patient(&Bucket::S3(s3(&format!("http://{}", server.host))));
        client.push_blob(&descriptor, source.clone()).await.unwrap_err();
        let is_ended = server.lines().iter().any(|line| line.starts_with("DELETE "));
        assert_eq!(is_ended, !ended.is_empty());
    }
}
