//! Signatures against what the services' own documents and kits say.

use jiff::Timestamp;
use rb_session::{AzureContainer, AzureKey, Bucket, ObjectNames, S3Bucket, Secret};

use super::azure::Azure;
use super::line::element;
use super::s3::S3;
use super::{joined, read_url};
use crate::{Anonymous, Registry, RegistryOptions};

fn objects() -> ObjectNames {
    ObjectNames {
        names: vec!["rb".to_owned()],
        prefix: String::new(),
        blobs_prefix: "blobs".to_owned(),
        manifests_prefix: "manifests".to_owned(),
    }
}

fn s3(bucket: &str, endpoint_url: Option<&str>) -> S3Bucket {
    S3Bucket {
        bucket: bucket.to_owned(),
        region: "us-east-1".to_owned(),
        endpoint_url: endpoint_url.map(ToOwned::to_owned),
        path_style: false,
        objects: objects(),
        access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
        secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        session_token: None,
        parallelism: 4,
        touch_refresh: std::time::Duration::ZERO,
    }
}

#[test]
fn a_url_of_s3_is_signed_as_amazon_documents_it() {
    // Amazon S3 API Reference, "Authenticating Requests: Using Query Parameters", its example.
    let s3 = S3::new(&s3("examplebucket", Some("https://s3.amazonaws.com"))).unwrap();
    let at: Timestamp = "2013-05-24T00:00:00Z".parse().unwrap();
    let url = s3.signed((&at, 86_400), (rusty_s3::Method::Get, "test.txt"), &[], &[]);
    assert_eq!(
        url.as_str(),
        "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=\
         AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&\
         X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=\
         aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    );
}

#[test]
fn a_bucket_is_in_the_host_unless_it_cannot_be() {
    let host = |bucket: &str, endpoint: Option<&str>| {
        let s3 = S3::new(&s3(bucket, endpoint)).unwrap();
        let at: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let url = s3.signed((&at, 60), (rusty_s3::Method::Get, "k"), &[], &[]);
        format!("{}{}", url.host_str().unwrap(), url.path())
    };
    assert_eq!(host("b", None), "b.s3.us-east-1.amazonaws.com/k");
    assert_eq!(host("b.c", None), "s3.us-east-1.amazonaws.com/b.c/k");
    assert_eq!(host("b", Some("http://127.0.0.1:9000")), "127.0.0.1/b/k");
    assert_eq!(host("b", Some("http://minio:9000")), "b.minio/k");
}

#[test]
fn a_url_of_azure_is_signed_as_its_own_kit_does() {
    let place = |url: &str| AzureContainer {
        account_url: url.to_owned(),
        account: "me".to_owned(),
        container: "c".to_owned(),
        objects: objects(),
        key: AzureKey::Shared(Secret::new("c2VjcmV0LWtleS1vZi10aGUtYWNjb3VudA==")),
    };
    // Recorded from Azure's SDK for Go, azblob 1.8.0, `sas.AccountSignatureValues`.
    for (account, expected) in [
        ("https://me.blob.core.windows.net", "tQ2I9gQ3D8QdKwOyU8XG51MLRiuVX37RoPbledctQEI%3D"),
        ("http://127.0.0.1:10000/me", "ySYV4SKKgOmsbc8xH%2Fnxja%2Fq7f0DOJG23C6T59QDbGo%3D"),
    ] {
        let azure = Azure::new(&place(account)).unwrap();
        let url = azure.signed_at("2026-01-02T03:04:05Z".parse().unwrap(), "a/b", &[]);
        let query = url.query().unwrap();
        assert!(query.contains("se=2026-01-02T04%3A04%3A05Z"), "{query}");
        assert!(query.ends_with(&format!("sig={expected}")), "{query}");
        assert!(url.path().ends_with("/c/a/b"), "{url}");
    }
    let given = AzureKey::Signature(Secret::new("sv=1&sig=a%2Bb"));
    let azure = Azure::new(&AzureContainer { key: given, ..place("https://me.example") }).unwrap();
    let url = azure.signed_at("2026-01-02T03:04:05Z".parse().unwrap(), "", &[("restype", "container")]);
    assert_eq!(url.as_str(), "https://me.example/c?sv=1&sig=a%2Bb&restype=container");
}

#[test]
fn what_cannot_be_meant_is_named() {
    let registry = Registry::new(RegistryOptions::default(), std::sync::Arc::new(Anonymous));
    let wrong = |bucket: S3Bucket| match registry.bucket(&Bucket::S3(bucket)) {
        Ok(_) => panic!("it is no bucket"),
        Err(error) => error.to_string(),
    };
    for (bucket, said) in [
        (S3Bucket { region: "us east".to_owned(), ..s3("b", None) }, "the option region cannot be used"),
        (s3("b", Some("ftp://x")), "the option endpoint_url cannot be used"),
        (s3("b", Some("http://me:hunter2@x")), "the option endpoint_url cannot be used"),
        (s3("a/b", None), "the option bucket cannot be used"),
        (s3("a:b", Some("http://minio")), "use_path_style=true"),
    ] {
        let error = wrong(bucket);
        assert!(error.contains(said) && !error.contains("hunter2"), "{error}");
    }
    assert!(read_url("url_v2", "file:///etc").is_err());
}

#[test]
fn names_and_answers() {
    assert_eq!(joined(&["/a/", "", "b", "c/d"]), "a/b/c/d");
    let body = b"<?xml version=\"1.0\"?><A xmlns=\"x\"><UploadId>id-1</UploadId></A>";
    assert_eq!(element(body, "UploadId"), Some("id-1"));
    for body in ["<UploadId></UploadId>", "<UploadId>a&amp;</UploadId>", "<UploadId>a", "\u{0}"] {
        assert_eq!(element(body.as_bytes(), "UploadId"), None, "{body}");
    }
}
