//! Against Debian's `docker-registry`: what is pushed comes back, whatever it asks for and however bad the line is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rb_oci::{Digest, Repository};
use rb_registry::{HostOptions, Limits, Pushed, Registry, RegistryError, RegistryOptions};

use crate::client::{Known, anonymous, descriptor, noise, options, with_host};
use crate::support::docker_registry::{DockerRegistry, Wants};
use crate::support::faults::{Fault, FaultProxy};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Pushes an image of one blob and pulls it again.
async fn there_and_back(registry: &Registry, host: &str) {
    let place: Repository = format!("{host}/a/b").parse().unwrap();
    let (config, layer) = (noise(0), noise(300_000));
    let config_bytes = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}}"#;
    for bytes in [&config, &layer, &config_bytes.to_vec()] {
        let source = Arc::new(Bytes::from(bytes.clone()));
        let pushed = registry.push_blob(&place, &descriptor(bytes), source, &[]).await.unwrap();
        assert_eq!(pushed, Pushed::Uploaded);
    }
    let descriptor_of = |kind: &str, bytes: &[u8]| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{}","size":{}}}"#,
            Digest::of(bytes),
            bytes.len()
        )
    };
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{}]}}"#,
        descriptor_of("config.v1+json", config_bytes),
        descriptor_of("layer.v1.tar", &layer)
    );
    let name = place.with_tag("1").unwrap();
    let digest = registry.push_manifest(&name, MANIFEST, manifest.clone().into_bytes()).await.unwrap();
    assert_eq!(registry.tags(&place).await.unwrap(), ["1"]);
    assert_eq!(registry.digest(&name).await.unwrap(), digest);
    let image = registry.image(&name.pinned(digest), &"linux/amd64".parse().unwrap()).await.unwrap();
    assert_eq!((image.manifest_bytes, image.layers.len()), (manifest.into_bytes(), 1));
    let got = registry.blob(&place, &image.layers[0].0, Vec::new()).await.unwrap();
    assert!(got == layer);

    let other: Repository = format!("{host}/c/d").parse().unwrap();
    let source = Arc::new(Bytes::from(layer.clone()));
    let pushed = registry
        .push_blob(&other, &descriptor(&layer), source.clone(), std::slice::from_ref(&place))
        .await
        .unwrap();
    assert_eq!(pushed, Pushed::Mounted(place.clone()));
    assert_eq!(registry.push_blob(&other, &descriptor(&layer), source, &[]).await.unwrap(), Pushed::Existed);
    assert!(registry.referrers(&place, &digest).await.unwrap().is_empty());
    let missing = registry.resolve(&place.with_tag("2").unwrap()).await.unwrap_err();
    assert!(
        missing.to_string().starts_with(&format!("not found: {place}:2; it says: manifest_unknown")),
        "{missing}"
    );
}

/// Real programs may be slower than scripts.
fn patient(options: RegistryOptions) -> RegistryOptions {
    let limits = Limits { stall_timeout: Duration::from_secs(10), ..options.limits };
    RegistryOptions { limits, ..options }
}

#[tokio::test]
async fn plain_with_tls_and_with_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = DockerRegistry::start(&folder.path().join("plain"), &Wants::default()) else { return };
    there_and_back(&anonymous(patient(options())), &server.host).await;

    let wants = Wants { tls: true, password: true, realm: None };
    let server = DockerRegistry::start(&folder.path().join("tls"), &wants).unwrap();
    let with =
        |host_options| Registry::new(patient(with_host(&server.host, host_options)), Known::password());
    let trusting = with(HostOptions { ca: vec![server.ca()], ..HostOptions::default() });
    there_and_back(&trusting, &server.host).await;
    let place: Repository = format!("{}/a/b", server.host).parse().unwrap();
    with(HostOptions { skip_verify: true, ..HostOptions::default() }).tags(&place).await.unwrap();
    let error = with(HostOptions::default()).tags(&place).await.unwrap_err();
    assert!(error.to_string().contains("unknown authority"), "{error}");
    let nobody = with_host(&server.host, HostOptions { ca: vec![server.ca()], ..HostOptions::default() });
    let error = anonymous(patient(nobody)).tags(&place).await.unwrap_err();
    assert_eq!(error.help(), Some(format!("run `rb login {}`", server.host)));
}

#[tokio::test]
async fn with_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("registry");
    let (_service, realm) = DockerRegistry::token_service(&place);
    let wants = Wants { realm: Some(realm), ..Wants::default() };
    let Some(server) = DockerRegistry::start(&place, &wants) else { return };
    there_and_back(&Registry::new(patient(options()), Known::password()), &server.host).await;
    let repository: Repository = format!("{}/a/b", server.host).parse().unwrap();
    let error = anonymous(patient(options())).tags(&repository).await.unwrap_err();
    assert!(error.to_string().ends_with("incorrect username or password"), "{error}");
    assert!(matches!(error, RegistryError::Unauthorized { anonymous: true, .. }));

    // A registry on TLS does not send anybody to a token service on plain HTTP.
    let wants = Wants { tls: true, realm: Some("http://127.0.0.1:1/token".to_owned()), password: false };
    let server = DockerRegistry::start(&folder.path().join("tls"), &wants).unwrap();
    let trusting = with_host(&server.host, HostOptions { ca: vec![server.ca()], ..HostOptions::default() });
    let repository: Repository = format!("{}/a/b", server.host).parse().unwrap();
    let error = Registry::new(patient(trusting), Known::password()).tags(&repository).await.unwrap_err();
    assert!(error.to_string().contains("token service on plain HTTP"), "{error}");
}

#[tokio::test]
async fn over_a_bad_line() {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = DockerRegistry::start(&folder.path().join("registry"), &Wants::default()) else {
        return;
    };
    let line = FaultProxy::start(&server.host);
    let host_options = HostOptions { plain_http: true, ..HostOptions::default() };
    let registry = anonymous(patient(with_host(&line.host, host_options)));
    let place: Repository = format!("{}/a/b", line.host).parse().unwrap();
    let bytes = noise(8 << 20);
    let blob = descriptor(&bytes);
    let up = |count| Fault { cut_up: Some(count), ..Fault::default() };
    let down = |count| Fault { cut_down: Some(count), ..Fault::default() };
    line.script([up(3 << 20), up(3 << 20)]);
    registry.push_blob(&place, &blob, Arc::new(Bytes::from(bytes.clone())), &[]).await.unwrap();
    assert_eq!(line.left(), 0);
    line.script([down(3 << 20), down(1 << 20), Fault { delay: Duration::from_millis(1), ..down(2 << 20) }]);
    let got = registry.blob(&place, &blob, Vec::new()).await.unwrap();
    assert!(got == bytes && line.left() == 0);
}
