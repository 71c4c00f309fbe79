//! What a caller says about registries: hosts, mirrors, proxies, trust and patience.
//!
//! In: values that the outermost crate read from files and the environment. Out: plain data; nothing is read here. The
//! terms are those of buildkitd.toml's `[registry."host"]`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Everything a client of registries is told.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// By host with port, as images name it (`ghcr.io`, `localhost:5000`) or as a mirror is named.
    pub hosts: BTreeMap<String, HostOptions>,
    /// Through whom hosts are reached.
    pub proxies: Proxies,
    /// PEM files of authorities that are trusted besides the system's, for every host.
    pub ca_files: Vec<PathBuf>,
    /// How we introduce ourselves.
    pub user_agent: String,
    /// How long and how often.
    pub limits: Limits,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            hosts: BTreeMap::new(),
            proxies: Proxies::default(),
            ca_files: Vec::new(),
            user_agent: concat!("rb/", env!("CARGO_PKG_VERSION")).to_owned(),
            limits: Limits::default(),
        }
    }
}

/// What is special about one registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostOptions {
    /// Asked first, in this order, for what is pulled: `host[:port][/prefix]`, or with `http://` or `https://` in front.
    pub mirrors: Vec<String>,
    /// buildkitd's `http`: plain HTTP. Together with `skip_verify`, HTTPS is tried first.
    pub plain_http: bool,
    /// buildkitd's `insecure`: any certificate is good.
    pub skip_verify: bool,
    /// PEM files of authorities that are trusted besides the system's.
    pub ca: Vec<PathBuf>,
    /// PEM files of a certificate, with its chain, and its key, to identify ourselves by. Never shown to other hosts.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
}

/// Proxies, as the variables of the same names say. Loopback is always reached directly.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// `http_proxy`: for plain HTTP.
    pub http: Option<String>,
    /// `https_proxy`: for HTTPS.
    pub https: Option<String>,
    /// `no_proxy`: hosts, domains, addresses and ranges that need none, between commas.
    pub none: String,
}

impl std::fmt::Debug for Proxies {
    /// Says whether there are some; a proxy's URL may hold a password.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (http, https) = (self.http.is_some(), self.https.is_some());
        out.debug_struct("Proxies")
            .field("http", &http)
            .field("https", &https)
            .field("none", &self.none)
            .finish()
    }
}

/// How long and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Blobs under way at once with one host; further ones wait.
    pub transfers_per_host: usize,
    /// How often something is tried in a row without any of it succeeding.
    pub tries: u32,
    /// Until a connection stands.
    pub connect_timeout: Duration,
    /// A connection on which nothing moves for so long is given up.
    pub stall_timeout: Duration,
    /// The pause before a second try; it doubles with each further one.
    pub first_pause: Duration,
    /// The longest pause. A registry that asks for a longer one (`Retry-After`) is not waited for.
    pub longest_pause: Duration,
}

impl Limits {
    /// Returns what is waited for something that is of use and not needed.
    pub(crate) fn for_hints(self) -> Self {
        let (tries, stall_timeout) = (self.tries.min(2), self.stall_timeout.min(Duration::from_secs(30)));
        Self { tries, stall_timeout, longest_pause: self.longest_pause.min(Duration::from_secs(10)), ..self }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            transfers_per_host: 6,
            tries: 5,
            connect_timeout: Duration::from_secs(20),
            stall_timeout: Duration::from_secs(60),
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(60),
        }
    }
}
