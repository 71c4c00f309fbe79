//! One request to an endpoint: credentials, redirects, and what answers mean.
//!
//! In: an [`Ask`]. Out: the response, or an error in the user's words. No retries: who asks decides about those.
//! **Invariant:** after the first hop to another origin neither credentials nor our certificate go along; nothing leads
//! from TLS to plain HTTP; redirects, headers and the bodies of errors are bounded.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rb_oci::Repository;
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, WWW_AUTHENTICATE};
use reqwest::{Body, Method, Response, StatusCode, Url};

use crate::challenge::parse_challenges;
use crate::endpoint::{Endpoint, Roots};
use crate::error::{clean, said};
use crate::tries::retry_after;
use crate::watch::{Notice, Watch};
use crate::{Credentials, Limits, RegistryError, RegistryOptions};

const REDIRECTS: usize = 5;
const URL_LIMIT_BYTES: usize = 16 << 10;
const ERROR_LIMIT_BYTES: u64 = 16 << 10;
/// How much longer than elsewhere a registry may think once it has all of an upload.
const DIGESTING: u32 = 5;

/// What is asked for.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// For errors.
    pub(crate) name: &'a str,
    /// What a token has to allow; none means that no credentials are sent.
    pub(crate) scopes: &'a [String],
    pub(crate) headers: HeaderMap,
    /// Makes the body, for each time it is sent.
    pub(crate) body: Option<&'a (dyn Fn() -> Upload + Send + Sync)>,
}

/// A body, and how far it is sent.
pub(crate) struct Upload {
    pub(crate) body: Body,
    pub(crate) sent: Arc<AtomicU64>,
    pub(crate) size: u64,
}

impl<'a> Ask<'a> {
    pub(crate) fn new(method: Method, url: Url, name: &'a str) -> Self {
        Self { method, url, name, scopes: &[], headers: HeaderMap::new(), body: None }
    }
}

/// The way to an endpoint.
pub(crate) struct Transport<'a> {
    pub(crate) options: &'a RegistryOptions,
    pub(crate) limits: &'a Limits,
    pub(crate) roots: &'a Roots,
    pub(crate) credentials: &'a dyn Credentials,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) watch: &'a dyn Watch,
    /// What everything of the endpoint begins with.
    pub(crate) base: Url,
}

impl Transport<'_> {
    /// Returns the URL of something in a repository; `rest` is known to be safe in a path.
    pub(crate) fn url(&self, repository: &Repository, rest: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{}/{rest}", self.endpoint.path(repository)));
        if self.endpoint.is_mirror {
            url.query_pairs_mut().append_pair("ns", repository.host());
        }
        url
    }

    pub(crate) fn limits(&self) -> &Limits {
        self.limits
    }

    /// Makes a request, answers a challenge, follows redirects. Any other status is returned as it is.
    pub(crate) async fn send(&self, ask: Ask<'_>) -> Result<Response, RegistryError> {
        let mut ask = ask;
        let mut at_home = self.is_own(&ask.url);
        let mut may_answer = true;
        let mut authorization = self.authorization(ask.scopes).await?;
        let mut hops = 0;
        loop {
            let shown = authorization.as_ref().filter(|_| at_home);
            let response = self.execute_once(&ask, shown, None).await?;
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED && at_home {
                let headers = response.headers().get_all(WWW_AUTHENTICATE);
                let challenge = parse_challenges(headers.iter().filter_map(|header| header.to_str().ok()));
                let answer = match challenge.filter(|_| may_answer) {
                    Some(challenge) => self.challenged(challenge, ask.scopes, authorization.as_ref()).await?,
                    None => None,
                };
                let Some(answer) = answer else {
                    return Err(self.unauthorized(ask.name, self.error_body(response).await));
                };
                (authorization, may_answer) = (Some(answer), false);
                continue;
            }
            let Some(location) = self.redirection(&ask, &response)? else { return Ok(response) };
            hops += 1;
            if hops > REDIRECTS {
                return Err(self.misled("redirects in circles"));
            }
            at_home &= self.is_own(&location);
            ask.url = location;
        }
    }

    /// Where a response leads, if it does; the place is checked.
    pub(crate) fn redirection(
        &self,
        ask: &Ask<'_>,
        response: &Response,
    ) -> Result<Option<Url>, RegistryError> {
        let follows = match response.status().as_u16() {
            301..=303 => matches!(ask.method, Method::GET | Method::HEAD),
            307 | 308 => true,
            _ => false,
        };
        if !follows {
            return Ok(None);
        }
        self.location(response, &ask.url).map(Some)
    }

    /// Reads `Location`: relative or absolute, HTTP only, and never less safe than where it stands.
    pub(crate) fn location(&self, response: &Response, base: &Url) -> Result<Url, RegistryError> {
        let text = response.headers().get(LOCATION).and_then(|text| text.to_str().ok());
        let text = text.ok_or_else(|| self.misled("leads elsewhere without saying where"))?;
        if text.len() > URL_LIMIT_BYTES {
            return Err(self.misled("leads to a URL of more than 16 KiB"));
        }
        let mut url =
            base.join(text).map_err(|error| self.misled(format!("leads to what is no URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(self.misled(format!("leads to a `{}:` URL", clean(url.scheme()))));
        }
        if !url.username().is_empty() || url.password().is_some() || url.host_str().is_none() {
            return Err(self.misled("leads to a URL with a name or password in it"));
        }
        if base.scheme() == "https" && url.scheme() == "http" {
            // Registries behind a proxy that speaks TLS for them often do not know of it.
            let same = url.host_str() == base.host_str() && (url.port() == base.port());
            if same {
                url.set_scheme("https").expect("from http to https");
            } else if !self.endpoint.skips_verification() {
                let host = clean(url.host_str().unwrap_or_default());
                return Err(self.misled(format!("leads from TLS to plain HTTP, on `{host}`")));
            }
        }
        Ok(url)
    }

    /// Sends one request and waits for the head of its answer.
    pub(crate) async fn execute_once(
        &self,
        ask: &Ask<'_>,
        authorization: Option<&HeaderValue>,
        text: Option<String>,
    ) -> Result<Response, RegistryError> {
        // Our certificate is for the endpoint itself.
        let own = self.is_own(&ask.url);
        let client = self.endpoint.client(self.options, self.roots, own).await?;
        let mut request = client.request(ask.method.clone(), ask.url.clone()).headers(ask.headers.clone());
        // Blobs are taken as they are; nobody shall compress them on the way.
        request = request.header(ACCEPT_ENCODING, "identity");
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let upload = ask.body.map(|body| body());
        let watched = upload.as_ref().map(|upload| (Arc::clone(&upload.sent), upload.size));
        request = match (upload, text) {
            (Some(upload), _) => request.body(upload.body),
            (None, Some(text)) => request.body(text),
            (None, None) => request,
        };
        let host = self.host_of(&ask.url);
        let is_sent = watched.is_none();
        let answer = async {
            match is_sent {
                true => told_late(request.send(), self.endpoint, self.watch).await,
                // What is sent takes its time.
                false => request.send().await,
            }
        };
        tokio::pin!(answer);
        let stall = self.limits().stall_timeout;
        let mut before = 0;
        let mut patience = 1;
        loop {
            match tokio::time::timeout(stall, &mut answer).await {
                Ok(answer) => return answer.map_err(|error| failure(&host, &error)),
                Err(_) => {
                    let (sent, size) =
                        watched.as_ref().map_or((0, 0), |(sent, size)| (sent.load(Ordering::Relaxed), *size));
                    let complete = size > 0 && sent >= size;
                    if sent == before && (!complete || patience >= DIGESTING) {
                        return Err(stalled(&host, stall));
                    }
                    patience = if sent == before { patience + 1 } else { 1 };
                    before = sent;
                }
            }
        }
    }

    /// Takes a response of one of the statuses, and makes the error of every other.
    pub(crate) async fn expect(
        &self,
        response: Response,
        ask: &Ask<'_>,
        expected: &[u16],
    ) -> Result<Response, RegistryError> {
        self.expected(response, &ask.method, &ask.url, ask.name, expected).await
    }

    /// See [`Transport::expect`]; for who no longer has the [`Ask`].
    pub(crate) async fn expected(
        &self,
        response: Response,
        method: &Method,
        asked: &Url,
        name: &str,
        expected: &[u16],
    ) -> Result<Response, RegistryError> {
        let status = response.status().as_u16();
        if expected.contains(&status) {
            return Ok(response);
        }
        let host = self.host_of(asked);
        let name = name.to_owned();
        let after = retry_after(response.headers());
        let said = self.error_body(response).await;
        let again = match status {
            408 | 429 | 502 | 503 | 504 => true,
            500 => matches!(*method, Method::GET | Method::HEAD),
            _ => false,
        };
        Err(match status {
            _ if again => RegistryError::Busy { host, status, said, retry_after: after },
            401 => self.unauthorized(&name, said),
            403 => RegistryError::Denied { host, name, said },
            404 => RegistryError::NotFound { name, said },
            _ => RegistryError::Refused { host, name, status, said },
        })
    }

    /// Reads what an error says, as far as it comes soon and is short.
    async fn error_body(&self, response: Response) -> String {
        let mut response = response;
        let mut body = Vec::new();
        let read = async {
            while let Ok(Some(chunk)) = response.chunk().await {
                let room = usize::try_from(ERROR_LIMIT_BYTES).unwrap_or(usize::MAX) - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() >= room {
                    break;
                }
            }
        };
        // What has come by then is shown.
        drop(tokio::time::timeout(self.limits().stall_timeout.min(Duration::from_secs(10)), read).await);
        said(&body)
    }

    pub(crate) fn misled(&self, reason: impl Into<String>) -> RegistryError {
        RegistryError::misled(&self.endpoint.name, reason)
    }

    /// The host for errors: the name people know where it is the endpoint itself.
    fn host_of(&self, url: &Url) -> String {
        if self.is_own(url) { self.endpoint.name.clone() } else { clean(url.host_str().unwrap_or_default()) }
    }

    pub(crate) fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }
}

/// Reads a body that has to be short, whole.
pub(crate) async fn read_bounded(
    response: Response,
    limit_bytes: u64,
    limits: &Limits,
    host: &str,
    what: &str,
) -> Result<Vec<u8>, RegistryError> {
    let too_large = || RegistryError::content(host, what, format!("it is larger than {limit_bytes} bytes"));
    if response.content_length().is_some_and(|length| length > limit_bytes) {
        return Err(too_large());
    }
    let mut response = response;
    let mut body = Vec::new();
    let read = async {
        while let Some(chunk) = next_chunk(&mut response, limits.stall_timeout, host).await? {
            if (body.len() + chunk.len()) as u64 > limit_bytes {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(())
    };
    // Nobody needs that long for so little, unless to keep us.
    let patience = limits.stall_timeout * DIGESTING;
    tokio::time::timeout(patience, read).await.map_err(|_| stalled(host, patience))??;
    Ok(body)
}

/// How long a host may say nothing before that is told.
const LATE: Duration = Duration::from_secs(5);

/// Waits for something of an endpoint, and tells once if it takes long.
pub(crate) async fn told_late<T>(work: impl Future<Output = T>, endpoint: &Endpoint, watch: &dyn Watch) -> T {
    tokio::pin!(work);
    match tokio::time::timeout(LATE, &mut work).await {
        Ok(done) => done,
        Err(_) => {
            if endpoint.tells_of(0, Duration::ZERO) {
                watch.notice(&Notice::Silent { host: endpoint.name.clone(), after: LATE });
            }
            work.await
        }
    }
}

/// Reads the next bytes of a body; none at its end.
pub(crate) async fn next_chunk(
    response: &mut Response,
    stall: Duration,
    host: &str,
) -> Result<Option<bytes::Bytes>, RegistryError> {
    match tokio::time::timeout(stall, response.chunk()).await {
        Ok(chunk) => chunk.map_err(|error| failure(host, &error)),
        Err(_) => Err(stalled(host, stall)),
    }
}

fn stalled(host: &str, after: Duration) -> RegistryError {
    RegistryError::unreachable(host, format!("nothing came for {} s", after.as_secs_f64()))
}

/// Makes the error of a failed request; its URL, which may be signed, is left out.
pub(crate) fn failure(host: &str, error: &reqwest::Error) -> RegistryError {
    let causes = causes(error);
    for cause in &causes {
        if let Some(rustls::Error::InvalidCertificate(reason)) = cause.downcast_ref() {
            return RegistryError::Untrusted { host: host.to_owned(), reason: certificate_reason(reason) };
        }
    }
    let reason = match causes.last() {
        _ if error.is_timeout() && error.is_connect() => "no connection in time".to_owned(),
        Some(cause) => clean(&cause.to_string()),
        None if error.is_body() || error.is_decode() => "the connection broke".to_owned(),
        None => "the request failed".to_owned(),
    };
    RegistryError::unreachable(host, reason)
}

/// Whether a TLS handshake failed since the other side speaks something else: it hung up, or what it said is no TLS.
pub(crate) fn is_no_tls(error: &reqwest::Error) -> bool {
    error.is_connect()
        && causes(error).iter().any(|cause| {
            let tls = cause.downcast_ref::<rustls::Error>();
            let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
            tls.is_some_and(|error| matches!(error, rustls::Error::InvalidMessage(_)))
                || io.is_some_and(|kind| {
                    matches!(
                        kind,
                        io::ErrorKind::UnexpectedEof
                            | io::ErrorKind::ConnectionReset
                            | io::ErrorKind::BrokenPipe
                    )
                })
        })
}

/// The causes of an error, outermost first. An `io::Error` hides what it wraps from `source`.
fn causes(error: &reqwest::Error) -> Vec<&(dyn std::error::Error + 'static)> {
    let mut found: Vec<&(dyn std::error::Error + 'static)> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        found.push(cause);
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next =
            wrapped.map(|wrapped| wrapped as &(dyn std::error::Error + 'static)).or_else(|| cause.source());
    }
    found
}

fn certificate_reason(error: &rustls::CertificateError) -> String {
    use rustls::CertificateError as Reason;
    match error {
        Reason::UnknownIssuer => "its certificate is signed by an unknown authority".to_owned(),
        Reason::Expired | Reason::ExpiredContext { .. } => "its certificate is expired".to_owned(),
        Reason::NotValidYet | Reason::NotValidYetContext { .. } => {
            "its certificate is not valid yet".to_owned()
        }
        Reason::NotValidForName | Reason::NotValidForNameContext { .. } => {
            "its certificate is for another name".to_owned()
        }
        Reason::BadSignature => {
            "its certificate is signed by another authority than the one of that name that is trusted"
                .to_owned()
        }
        Reason::Revoked => "its certificate is revoked".to_owned(),
        other => clean(&format!("its certificate is not valid: {other:?}")),
    }
}
