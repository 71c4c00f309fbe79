//! HTTP clients: whom we trust, through whom we go, who we are.
//!
//! In: options. Out: a `reqwest` client for one registry. It follows no redirects, keeps no cookies, unpacks nothing and
//! reads no environment of its own; only where the system keeps its authorities is the platform's business (which
//! `SSL_CERT_FILE` may name). rustls with ring, so that no C toolchain beyond a compiler is needed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::Client;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::{HostOptions, RegistryError, RegistryOptions};

/// Reads the authorities of the system and of the options; takes milliseconds.
pub(crate) fn load_roots(options: &RegistryOptions) -> Result<RootCertStore, RegistryError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "an authority of the system cannot be read");
    }
    roots.add_parsable_certificates(found.certs);
    add_roots(&mut roots, "ca_files", &options.ca_files)?;
    Ok(roots)
}

/// Makes the client for a registry; `identify` says whether it may show our certificate.
pub(crate) fn client(
    options: &RegistryOptions,
    host: &HostOptions,
    roots: &RootCertStore,
    identify: bool,
) -> Result<Client, RegistryError> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("TLS", &error))?;
    let config = if host.skip_verify {
        config.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else {
        let mut roots = roots.clone();
        add_roots(&mut roots, "ca", &host.ca)?;
        config.with_root_certificates(roots)
    };
    let config = match host.client_certificate.as_ref().filter(|_| identify) {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates("client_certificate", certificate)?;
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| unusable(&format!("client_certificate {}", key.display()), &error))?;
            config
                .with_client_auth_cert(chain, key)
                .map_err(|error| unusable(&format!("client_certificate {}", certificate.display()), &error))?
        }
    };
    let limits = &options.limits;
    let mut builder = Client::builder()
        .tls_backend_preconfigured(config)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .connect_timeout(limits.connect_timeout)
        .pool_max_idle_per_host(limits.transfers_per_host.max(1))
        .user_agent(&options.user_agent)
        .http1_only();
    let direct = format!("localhost,127.0.0.0/8,::1,{}", options.proxies.none);
    let proxies = [("http_proxy", &options.proxies.http), ("https_proxy", &options.proxies.https)];
    for (name, url) in proxies {
        let Some(url) = url.as_deref().filter(|url| !url.is_empty()) else { continue };
        let proxy = if name == "http_proxy" { reqwest::Proxy::http(url) } else { reqwest::Proxy::https(url) };
        // The URL may hold a password: only that it is wrong is said.
        let proxy = proxy.map_err(|_| unusable(name, &"it is not the URL of a proxy"))?;
        builder = builder.proxy(proxy.no_proxy(reqwest::NoProxy::from_string(&direct)));
    }
    builder.build().map_err(|error| unusable("user_agent", &error.without_url()))
}

fn add_roots(roots: &mut RootCertStore, option: &str, files: &[PathBuf]) -> Result<(), RegistryError> {
    for file in files {
        for certificate in certificates(option, file)? {
            roots
                .add(certificate)
                .map_err(|error| unusable(&format!("{option} {}", file.display()), &error))?;
        }
    }
    Ok(())
}

fn certificates(option: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, RegistryError> {
    let refused = |error: &dyn std::fmt::Display| unusable(&format!("{option} {}", file.display()), error);
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(file).and_then(Iterator::collect).map_err(|error| refused(&error));
    found
        .and_then(|found| if found.is_empty() { Err(refused(&"it holds no certificate")) } else { Ok(found) })
}

fn unusable(option: &str, reason: &dyn std::fmt::Display) -> RegistryError {
    RegistryError::Options { option: option.to_owned(), reason: reason.to_string() }
}

/// Takes any certificate, for `skip_verify`; signatures by its key are still checked.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
