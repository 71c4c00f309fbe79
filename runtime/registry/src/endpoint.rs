//! Endpoints: a registry or mirror as it is reached, and what is known of it.
//!
//! In: the host of a repository and the options. Out: the endpoints to ask, mirrors first. An endpoint keeps what is
//! learnt once per process: whether it speaks TLS, how it wants to be shown who asks, tokens, and that it is down.
//! **Invariant:** plain HTTP is spoken only where the options say so, and with a loopback address that does not
//! speak TLS, as docker does.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rb_oci::Repository;
use reqwest::{Client, Url};
use rustls::RootCertStore;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::Instant;

use crate::auth::Auth;
use crate::{HostOptions, RegistryError, RegistryOptions, tls};

/// Where Docker Hub's registry really is.
const DOCKER_HUB: &str = "registry-1.docker.io";
/// How long a mirror that could not be reached is left alone.
const DOWN: Duration = Duration::from_secs(60);
/// How long it is not told again that a registry fails, unless it gets worse.
const QUIET: Duration = Duration::from_secs(10);

/// A registry or mirror.
pub(crate) struct Endpoint {
    /// The host as the user knows it, for credentials and errors.
    pub(crate) name: String,
    /// Whether something else can be asked instead.
    pub(crate) is_mirror: bool,
    /// Blobs under way.
    pub(crate) transfers: Semaphore,
    pub(crate) auth: Auth,
    /// For a mirror: repositories lie under this.
    prefix: String,
    authority: String,
    scheme: Option<&'static str>,
    settings: HostOptions,
    learnt_scheme: OnceCell<&'static str>,
    clients: OnceCell<Clients>,
    down_until: Mutex<Option<Instant>>,
    /// Which try was told of last, and until when that is news enough.
    told: Mutex<Option<(u32, Instant)>>,
}

struct Clients {
    own: Client,
    foreign: Client,
}

impl Endpoint {
    /// Makes the endpoint of a registry's host.
    pub(crate) fn registry(options: &RegistryOptions, host: &str) -> Self {
        Self::new(options, host, "", None, false)
    }

    /// Makes the endpoint of a mirror: `host[:port][/prefix]` or a URL.
    pub(crate) fn mirror(options: &RegistryOptions, text: &str) -> Result<Self, RegistryError> {
        let refused = || RegistryError::Options {
            option: "mirrors".to_owned(),
            reason: format!("`{}` is not host[:port][/prefix], nor a URL of such", crate::error::clean(text)),
        };
        let (scheme, rest) = match text.split_once("://") {
            Some(("https", rest)) => (Some("https"), rest),
            Some(("http", rest)) => (Some("http"), rest),
            Some(_) => return Err(refused()),
            None => (None, text),
        };
        let (host, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        // A prefix follows the rules of repositories; so does the host those of references.
        let name = format!("{host}/{}", if prefix.is_empty() { "x" } else { prefix });
        let ambiguous = !host.contains(['.', ':', '[']) && host != "localhost";
        if !ambiguous && name.parse::<Repository>().is_err() || host.is_empty() || host.contains('@') {
            return Err(refused());
        }
        Ok(Self::new(options, host, prefix, scheme, true))
    }

    fn new(
        options: &RegistryOptions,
        host: &str,
        prefix: &str,
        scheme: Option<&'static str>,
        is_mirror: bool,
    ) -> Self {
        Self {
            name: host.to_owned(),
            is_mirror,
            transfers: Semaphore::new(options.limits.transfers_per_host.max(1)),
            auth: Auth::default(),
            prefix: prefix.to_owned(),
            authority: if host == "docker.io" { DOCKER_HUB } else { host }.to_owned(),
            scheme,
            settings: options.hosts.get(host).cloned().unwrap_or_default(),
            learnt_scheme: OnceCell::new(),
            clients: OnceCell::new(),
            down_until: Mutex::new(None),
            told: Mutex::new(None),
        }
    }

    /// Returns what a repository is called here.
    pub(crate) fn path(&self, repository: &Repository) -> String {
        match self.prefix.as_str() {
            "" => repository.path().to_owned(),
            prefix => format!("{prefix}/{}", repository.path()),
        }
    }

    /// Returns the URL that everything of the endpoint begins with: `https://ghcr.io/v2/`.
    pub(crate) async fn base(&self, options: &RegistryOptions, roots: &Roots) -> Result<Url, RegistryError> {
        let scheme = self.scheme(options, roots).await?;
        Url::parse(&format!("{scheme}://{}/v2/", self.authority))
            .map_err(|error| RegistryError::misled(&self.name, format!("has no URL: {error}")))
    }

    /// Returns the client for the endpoint itself, or the one for others, which never shows our certificate.
    pub(crate) async fn client(
        &self,
        options: &RegistryOptions,
        roots: &Roots,
        own: bool,
    ) -> Result<&Client, RegistryError> {
        let make = || async {
            let roots = roots.get(options).await?;
            let own = tls::client(options, &self.settings, &roots, true)?;
            let foreign = match self.settings.client_certificate {
                Some(_) => tls::client(options, &self.settings, &roots, false)?,
                None => own.clone(),
            };
            Ok::<_, RegistryError>(Clients { own, foreign })
        };
        let clients = self.clients.get_or_try_init(make).await?;
        Ok(if own { &clients.own } else { &clients.foreign })
    }

    /// Whether anything may be tried that needs no trust in the line.
    pub(crate) fn skips_verification(&self) -> bool {
        self.settings.skip_verify
    }

    async fn scheme(&self, options: &RegistryOptions, roots: &Roots) -> Result<&'static str, RegistryError> {
        if let Some(scheme) = self.scheme {
            return Ok(scheme);
        }
        let either = match (self.settings.plain_http, self.settings.skip_verify) {
            (true, true) => true,
            (true, false) => return Ok("http"),
            (false, _) => is_loopback(&self.authority),
        };
        if !either {
            return Ok("https");
        }
        self.learnt_scheme.get_or_try_init(|| self.learn_scheme(options, roots)).await.copied()
    }

    /// Asks whether TLS is spoken.
    async fn learn_scheme(
        &self,
        options: &RegistryOptions,
        roots: &Roots,
    ) -> Result<&'static str, RegistryError> {
        let client = self.client(options, roots, true).await?;
        let url = format!("https://{}/v2/", self.authority);
        let asked = client.get(url).timeout(options.limits.stall_timeout).send().await;
        match asked {
            Ok(_) => Ok("https"),
            Err(error) if crate::transport::is_no_tls(&error) => Ok("http"),
            Err(error) => Err(crate::transport::failure(&self.name, &error)),
        }
    }

    /// Whether it is worth telling that a request failed for the `made`th time in a row and is made again after `pause`:
    /// not where as much was told of another request, or of this one before something came, a moment ago.
    pub(crate) fn tells_of(&self, made: u32, pause: Duration) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let known = told.is_some_and(|(told, until)| made <= told && now < until);
        if !known {
            *told = Some((made, now + pause.max(QUIET)));
        }
        !known
    }

    /// Whether it could not be reached a short while ago.
    pub(crate) fn is_down(&self) -> bool {
        let until = self.down_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// Leaves it alone for a while.
    pub(crate) fn mark_down(&self) {
        *self.down_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + DOWN);
    }
}

/// The authorities of the system, read when they are first needed.
#[derive(Default)]
pub(crate) struct Roots(OnceCell<Arc<RootCertStore>>);

impl Roots {
    async fn get(&self, options: &RegistryOptions) -> Result<Arc<RootCertStore>, RegistryError> {
        let load = || async {
            let options = options.clone();
            let loaded = tokio::task::spawn_blocking(move || tls::load_roots(&options)).await;
            loaded.expect("reading certificates does not panic").map(Arc::new)
        };
        self.0.get_or_try_init(load).await.cloned()
    }
}

/// Whether `host[:port]` is this machine by its very name.
fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_hosts_with_a_prefix() {
        let options = RegistryOptions::default();
        let repository: Repository = "busybox".parse().unwrap();
        for (text, path) in [
            ("mirror.example", "library/busybox"),
            ("http://mirror:5000/", "library/busybox"),
            ("https://core.harbor.example/proxy.docker.io", "proxy.docker.io/library/busybox"),
            ("mirror/a/b", "a/b/library/busybox"),
        ] {
            assert_eq!(
                Endpoint::mirror(&options, text).map(|mirror| mirror.path(&repository)).unwrap(),
                path
            );
        }
        for text in ["", "ftp://x", "https://user:pw@mirror.example", "mirror.example/../x", "m.example/a?b"]
        {
            assert!(Endpoint::mirror(&options, text).is_err(), "{text}");
        }
    }

    #[test]
    fn loopback_is_told_by_name_or_address() {
        for host in ["localhost", "localhost:5000", "127.0.0.1", "127.9.9.9:80", "[::1]:5000", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "10.0.0.1", "[2001:db8::1]", "127.0.0.1.example", "docker.io"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
