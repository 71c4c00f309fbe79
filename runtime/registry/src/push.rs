//! Pushing: blobs that are missing, then the manifests that name them.
//!
//! In: descriptors and sources. Out: what it took. A blob is looked for, then mounted from repositories of the same
//! registry, then sent in one piece. When that breaks, the registry is asked how much it kept, and the rest follows; where
//! a proxy takes no large pieces, small ones are sent.
//! Source: OCI distribution-spec, "Pushing blobs", "Mounting a blob from another repository", "Pushing manifests".

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use rb_oci::{Descriptor, Digest, Reference, Repository};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Response, Url};

use crate::endpoint::Endpoint;
use crate::manifests::digest_header;
use crate::registry::{pull_scope, push_scope};
use crate::transport::{Ask, Transport, Upload};
use crate::upload::{BlobSource, Part};
use crate::{Registry, RegistryError};

/// The pieces of a blob for who takes no large ones.
const CHUNK_BYTES: u64 = 16 << 20;
/// New beginnings when a registry forgets what it took.
const SESSIONS: u32 = 5;

/// How a blob came to be in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Existed,
    /// It was in another repository of the same registry.
    Mounted(Repository),
    /// It was sent.
    Uploaded,
}

impl Registry {
    /// Sees to it that a repository has a blob. `mount_from` are repositories that may have it.
    pub async fn push_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        source: Arc<dyn BlobSource>,
        mount_from: &[Repository],
    ) -> Result<Pushed, RegistryError> {
        let digest = self.digest_of(repository, descriptor)?;
        let endpoint = self.origin(repository);
        // Closed never: the semaphore lives as long as its endpoint.
        let _permit = endpoint.transfers.acquire().await.expect("transfers are never closed");
        let others: BTreeSet<&Repository> = mount_from
            .iter()
            .filter(|other| other.host() == repository.host() && *other != repository)
            .collect();
        let mut push = Push {
            registry: self,
            endpoint: &endpoint,
            repository,
            digest,
            size: descriptor.size(),
            source,
            name: format!("blob {repository}@{digest}"),
            scopes: vec![push_scope(&endpoint, repository)],
        };
        let mut tries = self.tries(&endpoint);
        loop {
            match self.head_blob(&endpoint, repository, &digest, &push.scopes).await {
                Ok(true) => return Ok(Pushed::Existed),
                Ok(false) => break,
                Err(error) => tries.pause(error).await?,
            }
        }
        let mut session = None;
        for other in others {
            // The one before has no use for it.
            if let Some(session) = session.take() {
                push.cancel(session).await;
            }
            match push.mount(other).await {
                Ok(None) => return Ok(Pushed::Mounted(other.clone())),
                Ok(Some(open)) => session = Some(open),
                // That it cannot be mounted means only that it has to be sent.
                Err(error) => tracing::debug!(%error, "a blob cannot be mounted"),
            }
        }
        push.upload(session).await?;
        push.source.taken();
        Ok(Pushed::Uploaded)
    }

    /// Stores a manifest or index under a tag, or under its digest where the reference has no tag.
    pub async fn push_manifest(
        &self,
        reference: &Reference,
        media_type: &str,
        bytes: Vec<u8>,
    ) -> Result<Digest, RegistryError> {
        let digest = Digest::of(&bytes);
        let name = reference.to_string();
        if let Some(expected) = reference.digest().filter(|expected| *expected != digest) {
            let reason = format!("its digest is {digest}, not {expected}");
            return Err(RegistryError::content("this client", format!("manifest {name}"), reason));
        }
        let endpoint = self.origin(reference.repository());
        let identifier = reference.tag().map_or_else(|| digest.to_string(), ToOwned::to_owned);
        let scopes = [push_scope(&endpoint, reference.repository())];
        let media_type = HeaderValue::from_str(media_type).map_err(|_| RegistryError::Options {
            option: "media type".to_owned(),
            reason: "it has characters that no header may have".to_owned(),
        })?;
        let bytes = bytes::Bytes::from(bytes);
        let whole = || Upload { body: bytes.clone().into(), sent: Arc::default(), size: 0 };
        let mut tries = self.tries(&endpoint);
        loop {
            let put = async {
                let transport = self.transport(&endpoint).await?;
                let url = transport.url(reference.repository(), &format!("manifests/{identifier}"));
                let headers = HeaderMap::from_iter([(CONTENT_TYPE, media_type.clone())]);
                let ask = Ask {
                    scopes: &scopes,
                    headers,
                    body: Some(&whole),
                    ..Ask::new(Method::PUT, url.clone(), &name)
                };
                let response = transport.send(ask).await?;
                transport.expected(response, &Method::PUT, &url, &name, &[201, 200]).await
            };
            match put.await {
                Ok(response) => match digest_header(response.headers()) {
                    Some(stored) if stored != digest => {
                        let reason = format!("it stored it as {stored}, and its digest is {digest}");
                        return Err(RegistryError::content(
                            &endpoint.name,
                            format!("answer for {name}"),
                            reason,
                        ));
                    }
                    _ => return Ok(digest),
                },
                Err(error) => tries.pause(error).await?,
            }
        }
    }
}

/// A blob on its way.
struct Push<'a> {
    registry: &'a Registry,
    endpoint: &'a Endpoint,
    repository: &'a Repository,
    digest: Digest,
    size: u64,
    source: Arc<dyn BlobSource>,
    name: String,
    scopes: Vec<String>,
}

/// What a registry keeps of an upload.
struct Session {
    location: Url,
    offset: u64,
}

impl Push<'_> {
    /// Asks for the blob of another repository; none if it is there now, or else the upload that was opened instead.
    async fn mount(&mut self, other: &Repository) -> Result<Option<Session>, RegistryError> {
        self.scopes = vec![push_scope(self.endpoint, self.repository), pull_scope(self.endpoint, other)];
        let from = self.endpoint.path(other);
        let digest = self.digest.to_string();
        let opened = self.open(&[("mount", &digest), ("from", &from)]).await;
        self.scopes.truncate(1);
        opened
    }

    /// Opens an upload.
    async fn open(&self, query: &[(&str, &str)]) -> Result<Option<Session>, RegistryError> {
        let transport = self.registry.transport(self.endpoint).await?;
        let mut url = transport.url(self.repository, "blobs/uploads/");
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let response =
            self.call(&transport, Method::POST, url.clone(), HeaderMap::new(), None, &[201, 202]).await?;
        if response.status() == 201 {
            return Ok(None);
        }
        Ok(Some(Session { location: transport.location(&response, &url)?, offset: 0 }))
    }

    /// Sends the blob, to where an upload is open already or to a new one.
    async fn upload(&self, session: Option<Session>) -> Result<(), RegistryError> {
        let mut session = session;
        let mut tries = self.registry.tries(self.endpoint);
        let mut chunk_bytes = u64::MAX;
        let mut sessions = 0;
        loop {
            let before = session.as_ref().map_or(0, |session| session.offset);
            let error = match self.step(&mut session, chunk_bytes).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let lost = session.is_some() && sessions < SESSIONS;
            match &error {
                RegistryError::Refused { status: 413, .. }
                    if chunk_bytes > CHUNK_BYTES && self.size > CHUNK_BYTES =>
                {
                    chunk_bytes = CHUNK_BYTES;
                    session = None;
                    continue;
                }
                // It forgot the upload, or counts its bytes otherwise than it said.
                RegistryError::NotFound { .. } | RegistryError::Refused { status: 416 | 400, .. }
                    if lost && before > 0 =>
                {
                    sessions += 1;
                    session = None;
                    continue;
                }
                _ => tries.pause(error).await?,
            }
            // The answer may be all that was lost.
            if self
                .registry
                .head_blob(self.endpoint, self.repository, &self.digest, &self.scopes)
                .await
                .unwrap_or(false)
            {
                return Ok(());
            }
            session = match session.take() {
                Some(open) => self.status(open).await,
                None => None,
            };
            if session.as_ref().is_some_and(|session| session.offset > before) {
                tries.progressed();
            }
        }
    }

    /// Sends what is missing, and closes the upload.
    async fn step(&self, session: &mut Option<Session>, chunk_bytes: u64) -> Result<(), RegistryError> {
        let transport = self.registry.transport(self.endpoint).await?;
        if session.is_none() {
            // A registry may find, meanwhile, that it has the blob.
            let Some(open) = self.open(&[]).await? else { return Ok(()) };
            *session = Some(open);
        }
        let open = session.as_mut().expect("an upload was just opened");
        let whole = open.offset == 0 && chunk_bytes >= self.size;
        while !whole && open.offset < self.size {
            let end = self.size.min(open.offset.saturating_add(chunk_bytes));
            let range = format!("{}-{}", open.offset, end - 1);
            let headers = HeaderMap::from_iter([
                (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
                (CONTENT_RANGE, HeaderValue::from_str(&range).expect("a range is ASCII")),
            ]);
            let part = self.part(open.offset, end);
            let response = self
                .call(
                    &transport,
                    Method::PATCH,
                    open.location.clone(),
                    headers,
                    Some(&part),
                    &[202, 201, 204],
                )
                .await?;
            open.location = transport.location(&response, &open.location)?;
            open.offset =
                kept(response.headers()).filter(|kept| *kept <= end && *kept > open.offset).unwrap_or(end);
        }
        let mut url = open.location.clone();
        url.query_pairs_mut().append_pair("digest", &self.digest.to_string());
        let part = self.part(if whole { 0 } else { self.size }, self.size);
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))]);
        self.call(&transport, Method::PUT, url, headers, Some(&part), &[201, 204]).await?;
        Ok(())
    }

    /// Asks how much of an upload was kept; none where it is better begun anew.
    async fn status(&self, session: Session) -> Option<Session> {
        let transport = self.registry.transport(self.endpoint).await.ok()?;
        let url = session.location;
        let answer =
            self.call(&transport, Method::GET, url.clone(), HeaderMap::new(), None, &[204, 200, 202]).await;
        let response = answer.inspect_err(|error| tracing::debug!(%error, "an upload cannot go on")).ok()?;
        // Where it leads nowhere else, the place stays.
        let location = transport.location(&response, &url).unwrap_or(url);
        let offset = kept(response.headers()).filter(|kept| *kept <= self.size)?;
        Some(Session { location, offset })
    }

    /// Says that an upload is not needed; nothing depends on whether that is heard.
    async fn cancel(&self, session: Session) {
        let Ok(transport) = self.registry.transport(self.endpoint).await else { return };
        let asked = self
            .call(&transport, Method::DELETE, session.location, HeaderMap::new(), None, &[204, 202])
            .await;
        if let Err(error) = asked {
            tracing::debug!(%error, "an upload cannot be cancelled");
        }
    }

    fn part(&self, start: u64, end: u64) -> Part {
        let (watch, digest, total) = (Arc::clone(&self.registry.watch), self.digest, self.size);
        let tell = Arc::new(move |done| watch.transferred(&digest, done, total));
        Part { source: Arc::clone(&self.source), start, end, failure: Arc::new(Mutex::new(None)), tell }
    }

    async fn call(
        &self,
        transport: &Transport<'_>,
        method: Method,
        url: Url,
        headers: HeaderMap,
        part: Option<&Part>,
        expected: &[u16],
    ) -> Result<Response, RegistryError> {
        let mut headers = headers;
        let nothing = || Upload { body: Vec::new().into(), sent: Arc::default(), size: 0 };
        let body = part.filter(|part| part.end > part.start).map(|part| || part.body());
        let body: Option<&(dyn Fn() -> Upload + Send + Sync)> = match &body {
            Some(body) => Some(body),
            // Some servers insist on being told that nothing comes.
            None if matches!(method, Method::POST | Method::PUT) => {
                headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
                Some(&nothing)
            }
            None => None,
        };
        let ask =
            Ask { scopes: &self.scopes, headers, body, ..Ask::new(method.clone(), url.clone(), &self.name) };
        let sent = transport.send(ask).await;
        let failure =
            part.and_then(|part| part.failure.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(failure) = failure {
            return Err(RegistryError::local("read", &self.name, failure));
        }
        transport.expected(sent?, &method, &url, &self.name, expected).await
    }
}

/// Reads how many bytes of an upload a registry has: `Range: 0-9` are ten. `0-0` is what some say of none.
fn kept(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(RANGE)?.to_str().ok()?;
    let (first, last) = text.strip_prefix("bytes=").unwrap_or(text).split_once('-')?;
    match (first.trim().parse::<u64>().ok()?, last.trim().parse::<u64>().ok()?) {
        (0, 0) => Some(0),
        (0, last) => last.checked_add(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_were_kept() {
        for (text, expected) in [
            ("0-9", Some(10)),
            ("bytes=0-9", Some(10)),
            ("0-0", Some(0)),
            ("5-9", None),
            ("x", None),
            ("0-18446744073709551615", None),
        ] {
            let headers = HeaderMap::from_iter([(RANGE, HeaderValue::from_static(text))]);
            assert_eq!(kept(&headers), expected, "{text}");
        }
    }
}
