//! Tags and referrers.

use rb_oci::Digest;

use crate::client::{anonymous, plain, repository};
use crate::support::scripted::{Reply, Scripted};

#[tokio::test]
async fn tags_come_in_pages_of_one_registry() {
    let server = Scripted::start(|_, number| match number {
        0 => Reply::new(200, r#"{"tags":["a","b"]}"#)
            .with("Link", "</v2/a/b/tags/list?n=1000&last=b>; rel=\"next\""),
        1 => Reply::new(200, r#"{"tags":["c"]}"#),
        2 => Reply::new(200, r#"{"tags":null}"#),
        3 => Reply::new(200, "{}").with("Link", "<http://127.0.0.1:1/>; rel=next"),
        4 => Reply::new(200, "{}").with("Link", "</v2/a/b/tags/list?n=1000>; rel=next"),
        number => Reply::new(200, r#"{"tags":["x"]}"#).with("Link", format!("<?last={number}>; rel=next")),
    });
    let registry = anonymous(plain(&server.host));
    let place = repository(&server.host);
    assert_eq!(registry.tags(&place).await.unwrap(), ["a", "b", "c"]);
    assert_eq!(server.lines()[1], "GET /v2/a/b/tags/list?n=1000&last=b");
    assert!(registry.tags(&place).await.unwrap().is_empty());
    for reason in ["on another host", "is itself", "does not end"] {
        let error = registry.tags(&place).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[tokio::test]
async fn referrers_are_listed_or_tagged() {
    let digest = Digest::of("subject");
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":7}}]}}"#
    );
    let tag = format!("/v2/a/b/manifests/sha256-{}", digest.hex());
    let answers = index.clone();
    let server =
        Scripted::start(move |request, number| match (number, request.path.contains("/referrers/")) {
            (0, true) => Reply::new(200, answers.clone()),
            (1, true) => Reply::new(404, "404 page not found"),
            (2, false) if request.path == tag => Reply::new(200, answers.clone()),
            _ => Reply::new(404, ""),
        });
    let registry = anonymous(plain(&server.host));
    let place = repository(&server.host);
    for expected in [1, 1, 0] {
        assert_eq!(registry.referrers(&place, &digest).await.unwrap().len(), expected);
    }
}
