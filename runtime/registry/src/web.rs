//! Files of the web: one URL, asked whether it changed, read once and resumed where it was cut.
//!
//! In: a [`WebRequest`]. Out: a [`WebAnswer`]: that nothing changed, or a [`WebFile`] whose head has come and whose body is read
//! into a [`BlobSink`]. Connections, trust, proxies, pauses and bounds are those of registries (`transport`, `tls`, `tries`);
//! credentials are not: nothing is looked up, what is shown is in the request.
//! **Invariant:** what is shown goes to the origin of the URL alone. What was received before a cut is gone on with only
//! where the server says that it is the same file, or where a digest proves the whole.
//! Source: RFC 9110, sections 8.8, 13 and 14.

use std::sync::Arc;

use rb_oci::Digest;
use rb_session::Secret;
use reqwest::header::{
    AUTHORIZATION, CONTENT_DISPOSITION, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
};
use reqwest::{Method, Response, StatusCode, Url};
use serde::{Deserialize, Serialize};

use crate::endpoint::Endpoint;
use crate::error::clean;
use crate::pull::{Piece, Writer, parse_content_range};
use crate::transport::{Ask, Transport, next_chunk, told_late};
use crate::{Anonymous, BlobSink, Registry, RegistryError};

/// As many as browsers and Go follow at least.
const REDIRECTS: usize = 10;
/// Longest value of a header that is kept.
const HEADER_BYTES: usize = 4 << 10;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct WebRequest {
    /// `http://…` or `https://…`.
    pub url: String,
    /// Value of `Authorization`.
    pub authorization: Option<Secret>,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// What is known of the file from an earlier time: if it is the same, its body does not come.
    pub known: Option<Validators>,
}

/// What a server tells its versions of a file apart by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    /// `ETag`
    pub etag: Option<String>,
    /// `Last-Modified`
    pub last_modified: Option<String>,
}

impl Validators {
    /// Tells whether the next version would be noticed.
    pub fn is_any(&self) -> bool {
        self.etag.is_some() || self.last_modified.is_some()
    }

    /// Returns when the file changed last, in seconds since 1970.
    pub fn modified_unix(&self) -> Option<i64> {
        let time = httpdate::parse_http_date(self.last_modified.as_deref()?).ok()?;
        let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
        i64::try_from(since.as_secs()).ok()
    }

    /// Returns what stands for the very bytes: a tag that is not weak, or else the time.
    fn strong(&self) -> Option<&str> {
        match &self.etag {
            Some(etag) => Some(etag.as_str()).filter(|etag| !etag.starts_with("W/")),
            None => self.last_modified.as_deref(),
        }
    }
}

/// What a server says of a file before it comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebHead {
    /// What tells this version from others.
    pub validators: Validators,
    /// How long it is, where that is said.
    pub size_bytes: Option<u64>,
    /// `Content-Disposition`
    pub disposition: Option<String>,
}

/// What comes of a request.
#[derive(Debug)]
pub enum WebAnswer {
    /// It is what was known.
    Unchanged,
    /// It comes.
    File(Box<WebFile>),
}

/// A file of which the head has come.
#[derive(Debug)]
pub struct WebFile {
    registry: Registry,
    asked: Asked,
    head: WebHead,
    response: Response,
}

/// A request, read.
struct Asked {
    url: Url,
    /// The URL for people: without what may be secret in it.
    name: String,
    endpoint: Arc<Endpoint>,
    authorization: Option<HeaderValue>,
    headers: HeaderMap,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Asked").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Registry {
    /// Asks for a file of the web.
    pub async fn web(&self, request: &WebRequest) -> Result<WebAnswer, RegistryError> {
        let asked = self.asked(request)?;
        let known = request.known.clone().unwrap_or_default();
        let mut headers = HeaderMap::new();
        match (&known.etag, &known.last_modified) {
            (Some(etag), _) => put(&mut headers, IF_NONE_MATCH, etag),
            (None, Some(time)) => put(&mut headers, IF_MODIFIED_SINCE, time),
            (None, None) => {}
        }
        let mut tries = self.tries(&asked.endpoint);
        let response = loop {
            match self.ask(&asked, headers.clone(), &[200, 304]).await {
                Ok(response) => break response,
                Err(error) => tries.pause(error).await?,
            }
        };
        let head = head_of(&response);
        // Some servers say what version it is and send it all the same.
        let same_tag = known.etag.is_some() && known.etag == head.validators.etag;
        match response.status() {
            StatusCode::NOT_MODIFIED if known.is_any() => Ok(WebAnswer::Unchanged),
            StatusCode::NOT_MODIFIED => Err(RegistryError::misled(
                &asked.endpoint.name,
                "says that what was never asked before did not change",
            )),
            _ if same_tag => Ok(WebAnswer::Unchanged),
            _ => Ok(WebAnswer::File(Box::new(WebFile { registry: self.clone(), asked, head, response }))),
        }
    }

    fn asked(&self, request: &WebRequest) -> Result<Asked, RegistryError> {
        let unusable = |reason: String| RegistryError::Options { option: "url".to_owned(), reason };
        let url: Url = request.url.parse().map_err(|error| unusable(format!("it is no URL: {error}")))?;
        let endpoint = self.endpoint_of(&url)?;
        let shown = |secret: &Secret| {
            let value = secret.as_ref().trim_ascii();
            let mut value = HeaderValue::from_bytes(value).map_err(|_| {
                unusable("what is to be shown has characters that no header may have".to_owned())
            })?;
            value.set_sensitive(true);
            Ok::<_, RegistryError>(value)
        };
        let authorization = request.authorization.as_ref().map(shown).transpose()?;
        let mut headers = HeaderMap::new();
        for (name, value) in &request.headers {
            let name = HeaderName::from_bytes(name.as_bytes());
            let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) else {
                return Err(unusable("one of its headers is none".to_owned()));
            };
            headers.insert(name, value);
        }
        Ok(Asked { name: name_of(&url), url, endpoint, authorization, headers })
    }

    /// Returns the endpoint of a URL, which is apart from the registry on the same host: that one knows who we are.
    pub(crate) fn endpoint_of(&self, url: &Url) -> Result<Arc<Endpoint>, RegistryError> {
        let host = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https"));
        let host = host.ok_or_else(|| RegistryError::Options {
            option: "url".to_owned(),
            reason: "it is neither http:// nor https://".to_owned(),
        })?;
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        self.endpoint((false, format!("{}://{host}", url.scheme())), || {
            Ok(Endpoint::registry(&self.inner.options, &host))
        })
    }

    /// Makes one request and follows where it leads.
    async fn ask(&self, asked: &Asked, more: HeaderMap, expected: &[u16]) -> Result<Response, RegistryError> {
        let mut headers = asked.headers.clone();
        headers.extend(more);
        let inner = &self.inner;
        let transport = Transport {
            options: &inner.options,
            limits: &self.limits,
            roots: &inner.roots,
            credentials: &Anonymous,
            endpoint: &asked.endpoint,
            watch: &*self.watch,
            base: asked.url.clone(),
        };
        let mut ask = Ask { headers, ..Ask::new(Method::GET, asked.url.clone(), &asked.name) };
        let (mut at_home, mut hops) = (true, 0);
        loop {
            let shown = asked.authorization.as_ref().filter(|_| at_home);
            let response = transport.execute_once(&ask, shown, None).await?;
            let Some(location) = transport.redirection(&ask, &response)? else {
                return transport.expect(response, &ask, expected).await;
            };
            hops += 1;
            if hops > REDIRECTS {
                return Err(transport.misled("redirects in circles"));
            }
            at_home &= transport.is_own(&location);
            ask.url = location;
        }
    }
}

impl WebFile {
    /// Returns what the server says of it.
    pub fn head(&self) -> &WebHead {
        &self.head
    }

    /// Reads it, all of it or what `sink` lacks. `limit_bytes` is the most that is taken; with `expected`, another digest is an
    /// error. Returns the sink, the digest of what is in it, and how much that is.
    pub async fn read<S: BlobSink>(
        self,
        sink: S,
        limit_bytes: u64,
        expected: Option<Digest>,
    ) -> Result<(S, Digest, u64), RegistryError> {
        let mut writer = Writer::start(sink, limit_bytes);
        let received = writer.kept().await?;
        let stall = self.registry.limits.stall_timeout;
        let Self { registry, asked, head, response } = self;
        let mut reading = Reading {
            registry,
            asked,
            head,
            expected,
            limit_bytes,
            received,
            stall,
            writer,
            of_earlier: received > 0,
        };
        let mut response = Some(response);
        if reading.received > 0 {
            if reading.resumes() {
                response = None;
            } else {
                reading.begin_anew().await?;
            }
        }
        loop {
            reading.all(response.take()).await?;
            let digest = reading.writer.digest().await?;
            match reading.expected {
                Some(expected) if expected != digest && reading.of_earlier => reading.begin_anew().await?,
                Some(expected) if expected != digest => {
                    return Err(RegistryError::Changed { url: reading.asked.name.clone(), digest, expected });
                }
                _ => {
                    let sink = reading.writer.finish().await?;
                    return Ok((sink, digest, reading.received));
                }
            }
        }
    }
}

/// A body under way.
struct Reading<S> {
    registry: Registry,
    asked: Asked,
    head: WebHead,
    expected: Option<Digest>,
    limit_bytes: u64,
    received: u64,
    stall: std::time::Duration,
    writer: Writer<S>,
    /// Some of it was there before.
    of_earlier: bool,
}

impl<S: BlobSink> Reading<S> {
    /// Tells whether one may go on behind what there is.
    fn resumes(&self) -> bool {
        self.expected.is_some() || self.head.validators.strong().is_some()
    }

    async fn begin_anew(&mut self) -> Result<(), RegistryError> {
        (self.received, self.of_earlier) = (0, false);
        self.writer.send(Piece::Restart).await
    }

    /// Reads to the end, over as many connections as it takes.
    async fn all(&mut self, response: Option<Response>) -> Result<(), RegistryError> {
        let endpoint = Arc::clone(&self.asked.endpoint);
        // Closed never: the semaphore lives as long as its endpoint.
        let _permit = endpoint.transfers.acquire().await.expect("transfers are never closed");
        let registry = self.registry.clone();
        let mut tries = registry.tries(&endpoint);
        let mut response = response;
        loop {
            let before = self.received;
            let done = match response.take() {
                Some(response) => self.take(response).await,
                None => self.attempt().await,
            };
            match done {
                Ok(()) => return Ok(()),
                Err(error) => {
                    if self.received > before {
                        tries.progressed();
                    }
                    tries.pause(error).await?;
                }
            }
        }
    }

    /// Asks for what is missing, and reads it.
    async fn attempt(&mut self) -> Result<(), RegistryError> {
        if self.received > 0 && !self.resumes() {
            self.begin_anew().await?;
        }
        let mut headers = HeaderMap::new();
        if self.received > 0 {
            put(&mut headers, RANGE, &format!("bytes={}-", self.received));
            if let Some(version) = self.head.validators.strong() {
                put(&mut headers, IF_RANGE, version);
            }
        }
        let response = self.registry.ask(&self.asked, headers, &[200, 206, 416]).await?;
        match response.status().as_u16() {
            206 => {
                let range = response.headers().get(CONTENT_RANGE).and_then(|text| text.to_str().ok());
                let range = range.and_then(parse_content_range);
                if range.is_none_or(|(first, ..)| first != self.received || self.received == 0) {
                    return Err(self.refused("asked for the rest, it sent another range"));
                }
            }
            416 if self.received > 0 => {
                self.begin_anew().await?;
                return Err(RegistryError::unreachable(
                    &self.asked.endpoint.name,
                    "it does not continue the file",
                ));
            }
            416 => return Err(self.refused("it has no such range")),
            _ => {
                self.head = head_of(&response);
                if self.received > 0 {
                    self.begin_anew().await?;
                }
            }
        }
        self.take(response).await
    }

    /// Reads one body.
    async fn take(&mut self, response: Response) -> Result<(), RegistryError> {
        let mut response = response;
        let end = response.content_length().map(|length| self.received.saturating_add(length));
        if end.is_some_and(|end| end > self.limit_bytes) {
            return Err(self.too_large());
        }
        let key = Digest::of(&self.asked.name);
        loop {
            let endpoint = &self.asked.endpoint;
            let chunk = next_chunk(&mut response, self.stall, &endpoint.name);
            let Some(chunk) = told_late(chunk, endpoint, &*self.registry.watch).await? else { break };
            if self.received + chunk.len() as u64 > self.limit_bytes {
                return Err(self.too_large());
            }
            self.received += chunk.len() as u64;
            self.writer.send(Piece::Bytes(chunk)).await?;
            self.registry.watch.transferred(&key, self.received, end.unwrap_or(0));
        }
        match end {
            Some(end) if self.received < end => {
                let reason = format!("{} ended after {} of {end} bytes", self.asked.name, self.received);
                Err(RegistryError::unreachable(&self.asked.endpoint.name, reason))
            }
            _ => Ok(()),
        }
    }

    fn too_large(&self) -> RegistryError {
        self.refused(format!("it is larger than the {} bytes allowed here", self.limit_bytes))
    }

    fn refused(&self, reason: impl Into<String>) -> RegistryError {
        RegistryError::content(&self.asked.endpoint.name, format!("file {}", self.asked.name), reason)
    }
}

/// Shows a URL without user, password and query, which may be a signature.
fn name_of(url: &Url) -> String {
    let mut url = url.clone();
    // Neither fails for URLs with a host.
    url.set_username("").ok();
    url.set_password(None).ok();
    url.set_query(None);
    url.set_fragment(None);
    clean(url.as_str())
}

fn head_of(response: &Response) -> WebHead {
    let text = |name: HeaderName| {
        let value = response.headers().get(name)?.to_str().ok()?.trim();
        (!value.is_empty() && value.len() <= HEADER_BYTES).then(|| value.to_owned())
    };
    WebHead {
        validators: Validators { etag: text(ETAG), last_modified: text(LAST_MODIFIED) },
        size_bytes: response.content_length(),
        disposition: text(CONTENT_DISPOSITION),
    }
}

/// Sets a header; a text that cannot be one is left out: without it, all comes again.
fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    debug_assert!(name != AUTHORIZATION);
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
