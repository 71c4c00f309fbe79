//! Who is told what: passwords, tokens, and to whom they do not go.

use std::sync::Arc;

use rb_diag::ErrorKind;
use rb_registry::{Credential, Registry, RegistryError};
use rb_session::Secret;

use crate::client::{Known, anonymous, descriptor, noise, plain, repository};
use crate::support::scripted::{Reply, Scripted};

/// A registry that takes the token `good`, and sends for it to `realm`.
fn registry_of(realm: &str) -> Scripted {
    let challenge = format!(r#"Bearer realm="{realm}",service="reg",scope="repository:a/b:pull""#);
    Scripted::start(move |request, _| match request.header("authorization") {
        Some("Bearer good") => Reply::new(200, noise(10)),
        _ => Reply::new(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#)
            .with("WWW-Authenticate", &challenge),
    })
}

async fn pull(server: &Scripted, credentials: Arc<Known>) -> Result<Vec<u8>, RegistryError> {
    let registry = Registry::new(plain(&server.host), credentials);
    registry.blob(&repository(&server.host), &descriptor(&noise(10)), Vec::new()).await
}

#[tokio::test]
async fn a_token_is_fetched_once_and_used_for_all() {
    let service = Scripted::start(|_, _| Reply::new(200, r#"{"token":"good","expires_in":300}"#));
    let server = registry_of(&format!("http://{}/token?x=1", service.host));
    let known = Known::password();
    let registry = Registry::new(plain(&server.host), known.clone());
    let (place, blob) = (repository(&server.host), descriptor(&noise(10)));
    let pull = || registry.blob(&place, &blob, Vec::new());
    let (a, b, c) = tokio::join!(pull(), pull(), pull());
    assert!([a, b, c].iter().all(|got| got.as_ref().is_ok_and(|got| *got == noise(10))));
    let asked = service.asked();
    assert_eq!(asked.len(), 1, "{:?}", service.lines());
    assert_eq!(asked[0].path, "/token?x=1&service=reg&scope=repository%3Aa%2Fb%3Apull&account=rb");
    assert_eq!(asked[0].header("authorization"), Some("Basic cmI6c2VjcmV0"));
    assert_eq!(*known.asked.lock().unwrap(), *std::slice::from_ref(&server.host));
    assert!(
        server.asked().iter().all(|request| request.header("authorization") != Some("Basic cmI6c2VjcmV0"))
    );
}

#[tokio::test]
async fn anonymous_tokens_identity_tokens_and_registry_tokens() {
    let service = Scripted::start(|_, _| Reply::new(200, r#"{"access_token":"good"}"#));
    let server = registry_of(&format!("http://{}/token", service.host));
    pull(&server, Arc::default()).await.unwrap();
    assert_eq!(service.asked()[0].header("authorization"), None);

    let identity = Arc::new(Known {
        credential: Some(Credential::IdentityToken(Secret::new("refresh&me"))),
        ..Known::default()
    });
    pull(&server, identity.clone()).await.unwrap();
    let asked = &service.asked()[1];
    assert_eq!((asked.method.as_str(), asked.header("authorization")), ("POST", None));
    assert_eq!(
        String::from_utf8_lossy(&asked.body),
        "grant_type=refresh_token&service=reg&client_id=rb&scope=repository%3Aa%2Fb%3Apull&refresh_token=refresh%26me"
    );

    let old = Scripted::start(|request, _| match request.method.as_str() {
        "POST" => Reply::new(405, ""),
        _ => Reply::new(200, r#"{"token":"good"}"#),
    });
    pull(&registry_of(&format!("http://{}/token", old.host)), identity).await.unwrap();
    assert_eq!(old.asked().len(), 2);

    let ours = Arc::new(Known {
        credential: Some(Credential::RegistryToken(Secret::new("good"))),
        ..Known::default()
    });
    let server = registry_of("http://127.0.0.1:1/token");
    pull(&server, ours).await.unwrap();
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn who_is_not_known_is_told_what_to_do() {
    let service = Scripted::start(|_, _| Reply::new(200, r#"{"token":"bad"}"#));
    let server = registry_of(&format!("http://{}/token", service.host));
    let error = pull(&server, Arc::default()).await.unwrap_err();
    assert_eq!((server.asked().len(), service.asked().len(), error.kind()), (2, 1, ErrorKind::Input));
    assert!(error.to_string().ends_with("it says: unauthorized: authentication required"), "{error}");
    assert_eq!(error.help(), Some(format!("run `rb login {}`", server.host)));
    let error = pull(&server, Known::password()).await.unwrap_err();
    assert!(error.help().unwrap().contains("outdated"));
    assert!(!format!("{error:?} {error}").contains("secret"));

    // Basic, and wrong.
    let server = Scripted::start(|_, _| Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""));
    pull(&server, Known::password()).await.unwrap_err();
    assert_eq!(server.asked().len(), 2);
    // No way in at all.
    let server = Scripted::start(|_, _| Reply::new(401, "").with("WWW-Authenticate", "Negotiate"));
    pull(&server, Known::password()).await.unwrap_err();
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn an_outdated_token_is_replaced() {
    let service =
        Scripted::start(|_, number| Reply::new(200, format!(r#"{{"token":"t{number}","expires_in":0}}"#)));
    let realm = format!("http://{}/token", service.host);
    // It takes each token for two requests.
    let server = Scripted::start(move |request, number| match (request.header("authorization"), number) {
        (Some("Bearer t0"), ..3) | (Some("Bearer t1"), _) => Reply::new(200, noise(10)),
        _ => Reply::new(401, "").with("WWW-Authenticate", format!("Bearer realm=\"{realm}\"")),
    });
    let registry = anonymous(plain(&server.host));
    for _ in 0..4 {
        registry.blob(&repository(&server.host), &descriptor(&noise(10)), Vec::new()).await.unwrap();
    }
    assert_eq!(service.asked().len(), 2);
}

#[tokio::test]
async fn token_services_may_be_wrong_too() {
    for (reply, reason) in [
        (Reply::new(200, "<html>"), "not the JSON"),
        (Reply::new(200, "{}"), "missing"),
        (Reply::new(200, r#"{"token":"a\nb"}"#), "no header may have"),
        (Reply::new(200, format!(r#"{{"token":"{}"}}"#, "x".repeat(1 << 20))), "larger than"),
        (
            Reply::new(401, r#"{"details":"incorrect username or password"}"#),
            "incorrect username or password",
        ),
        (Reply::new(403, "no"), "wants to know who asks"),
        (Reply::new(307, "").with("Location", "http://127.0.0.1:1/steal"), "redirects who asks for a token"),
        (Reply::new(500, "oh"), "in trouble"),
    ] {
        let service = Scripted::start(move |_, _| reply.clone());
        let server = registry_of(&format!("http://{}/token", service.host));
        let error = pull(&server, Known::password()).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    for (realm, reason) in [("ftp://x/", "speaks `ftp`"), ("http://a:b@x/", "password in its URL")] {
        let error = pull(&registry_of(realm), Known::password()).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}
