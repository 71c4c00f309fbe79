//! One call to a service that keeps objects.
//!
//! In: a [`Call`]. Out: an [`Answer`] of a status that was expected, its body whole and bounded. What may help is tried again, as
//! with registries. **Invariant:** of a refusal nothing is told but its status and its code, a word: what a service says beyond that
//! may repeat what it was shown. Redirects are refusals.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{CONTENT_LENGTH, HeaderMap, HeaderValue};
use reqwest::{Method, Response, Url};

use super::Object;
use crate::endpoint::Endpoint;
use crate::transport::{Ask, Transport, Upload, read_bounded};
use crate::tries::retry_after;
use crate::upload::Part;
use crate::{Anonymous, Registry, RegistryError};

/// Most that is read of an answer which is not a document.
pub(super) const ANSWER_LIMIT_BYTES: u64 = 64 << 10;
/// How long is waited for the words of a refusal.
const WORDS: Duration = Duration::from_secs(10);
/// The longest code.
const CODE_BYTES: usize = 64;

/// The way to a service.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) registry: Registry,
    pub(super) attributes: &'static str,
}

/// What is asked.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    /// For errors.
    pub(super) name: &'a str,
    pub(super) headers: HeaderMap,
    pub(super) authorization: Option<HeaderValue>,
    pub(super) body: Option<Part>,
    pub(super) expected: &'a [u16],
    pub(super) limit_bytes: u64,
}

impl<'a> Call<'a> {
    pub(super) fn new(method: Method, url: Url, name: &'a str, expected: &'a [u16]) -> Self {
        let (headers, limit_bytes) = (HeaderMap::new(), ANSWER_LIMIT_BYTES);
        Self { method, url, name, headers, authorization: None, body: None, expected, limit_bytes }
    }

    /// Adds a header.
    pub(super) fn with(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sends bytes.
    pub(super) fn sending(mut self, body: Part) -> Self {
        self.body = Some(body);
        self
    }
}

/// What came.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// Returns the word that says what is wrong.
    pub(super) fn code(&self) -> String {
        code(&self.headers, &self.body)
    }
}

impl Line {
    /// Asks, as often as it may help.
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<Answer, RegistryError> {
        let endpoint = self.registry.endpoint_of(&call.url)?;
        let mut tries = self.registry.tries(&endpoint);
        loop {
            match self.once(&endpoint, call).await {
                Err(error) => tries.pause(error).await?,
                answer => return answer,
            }
        }
    }

    async fn once(&self, endpoint: &Endpoint, call: &Call<'_>) -> Result<Answer, RegistryError> {
        let inner = &self.registry.inner;
        let (options, roots, credentials) = (&inner.options, &inner.roots, &Anonymous);
        let limits = &self.registry.limits;
        let (watch, base) = (&*self.registry.watch, call.url.clone());
        let transport = Transport { options, limits, roots, credentials, endpoint, watch, base };
        let mut headers = call.headers.clone();
        let nothing = || Upload { body: Vec::new().into(), sent: Arc::default(), size: 0 };
        let part = call.body.as_ref().filter(|part| part.end > part.start);
        let body = part.map(|part| || part.body());
        let body: Option<&(dyn Fn() -> Upload + Send + Sync)> = match &body {
            Some(body) => Some(body),
            None if matches!(call.method, Method::POST | Method::PUT) => {
                headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
                Some(&nothing)
            }
            None => None,
        };
        let ask = Ask { headers, body, ..Ask::new(call.method.clone(), call.url.clone(), call.name) };
        let sent = transport.execute_once(&ask, call.authorization.as_ref(), None).await;
        let failure =
            part.and_then(|part| part.failure.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(failure) = failure {
            return Err(RegistryError::local("read", call.name, failure));
        }
        let response = sent?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let read = async |response: Response, limit_bytes: u64| {
            read_bounded(response, limit_bytes, limits, &endpoint.name, call.name).await
        };
        if call.expected.contains(&status) {
            let body = if call.method == Method::HEAD {
                Vec::new()
            } else {
                read(response, call.limit_bytes).await?
            };
            return Ok(Answer { status, headers, body });
        }
        // Without its words a refusal is one all the same.
        let words = tokio::time::timeout(WORDS, read(response, ANSWER_LIMIT_BYTES)).await;
        let code = code(&headers, &words.ok().and_then(Result::ok).unwrap_or_default());
        Err(match status {
            408 | 429 | 500 | 502..=504 => {
                let (host, retry_after) = (endpoint.name.clone(), retry_after(&headers));
                RegistryError::Busy { host, status, said: code, retry_after }
            }
            _ => self.refused(&endpoint.name, call.name, status, code),
        })
    }

    /// Returns the error of a refusal.
    pub(super) fn refused(&self, host: &str, name: &str, status: u16, code: String) -> RegistryError {
        let (host, name) = (host.to_owned(), name.to_owned());
        RegistryError::Object { host, name, status, code, attributes: self.attributes }
    }

    /// Takes what a service said out of an error.
    pub(super) fn blamed(&self, error: RegistryError) -> RegistryError {
        match error {
            RegistryError::Unauthorized { host, name, .. } => self.refused(&host, &name, 401, String::new()),
            RegistryError::Denied { host, name, .. } => self.refused(&host, &name, 403, String::new()),
            RegistryError::Refused { host, name, status, .. } => {
                self.refused(&host, &name, status, String::new())
            }
            RegistryError::Busy { host, status, retry_after, .. } => {
                RegistryError::Busy { host, status, said: String::new(), retry_after }
            }
            error => error,
        }
    }

    /// Returns bytes of an object as a body; the watch is told how far it is.
    pub(super) fn part(&self, object: &Object, start: u64, end: u64) -> Part {
        let (watch, digest, total) = (Arc::clone(&self.registry.watch), object.digest, object.size);
        let tell = Arc::new(move |done| watch.transferred(&digest, done, total));
        Part { source: Arc::clone(&object.source), start, end, failure: Arc::new(Mutex::new(None)), tell }
    }

    /// Returns a short text as a body.
    pub(super) fn text(text: String) -> Part {
        let (end, failure) = (text.len() as u64, Arc::default());
        let source = Arc::new(bytes::Bytes::from(text));
        Part { source, start: 0, end, failure, tell: Arc::new(|_| {}) }
    }
}

/// Finds the word that says what is wrong: in Azure's header, in XML, or in the JSON of Twirp.
fn code(headers: &HeaderMap, body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Twirp {
        code: String,
    }
    let header = headers.get("x-ms-error-code").and_then(|code| code.to_str().ok().map(ToOwned::to_owned));
    let found = header
        .or_else(|| element(body, "Code").map(ToOwned::to_owned))
        .or_else(|| serde_json::from_slice::<Twirp>(body).ok().map(|twirp| twirp.code));
    let is_word = |code: &String| {
        code.len() <= CODE_BYTES && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    found.filter(is_word).unwrap_or_default()
}

/// Returns the text of the first element of that name which has nothing but text in it.
pub(super) fn element<'a>(body: &'a [u8], name: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(body).ok()?;
    let rest = text.split_once(&format!("<{name}>"))?.1;
    let found = rest.split_once(&format!("</{name}>"))?.0.trim();
    (!found.is_empty() && !found.contains(['<', '>', '&'])).then_some(found)
}
