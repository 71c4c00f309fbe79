//! Azure's blob storage: blobs by URLs that carry a signature.
//!
//! The signature is one that the user has, or is made of the account's key for an hour at a time. `put_blob` and `has_blob` take any
//! such URL: the cache of GitHub Actions hands out the same.
//! Source: Azure's "Create an account SAS", "Put Blob", "Put Block", "Put Block List", "Create Container".

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use rb_oci::Digest;
use rb_session::{AzureContainer, AzureKey, ObjectNames, Secret};
use reqwest::header::HeaderValue;
use reqwest::{Method, Url};
use ring::hmac;

use super::line::{Answer, Call, Line};
use super::{Object, Objects, joined, read_url};
use crate::RegistryError;

/// The version of the service that signatures are made for.
const VERSION: &str = "2021-12-02";
/// How long a signature is good.
const GOOD: SignedDuration = SignedDuration::from_hours(1);
/// Blobs up to this size are sent whole; larger ones in blocks of it, unless there would be more than [`BLOCKS`].
const BLOCK_BYTES: u64 = 32 << 20;
const BLOCKS: u64 = 50_000;

/// A container.
pub(super) struct Azure {
    /// Without a query.
    url: Url,
    account: String,
    container: String,
    objects: ObjectNames,
    key: Key,
}

/// What proves that we may.
enum Key {
    Shared(hmac::Key),
    Signature(Secret),
}

impl Azure {
    pub(super) fn new(place: &AzureContainer) -> Result<Self, RegistryError> {
        let unusable = |option: &str, reason: &str| RegistryError::Options {
            option: option.to_owned(),
            reason: reason.to_owned(),
        };
        let mut url = read_url("account_url", &place.account_url)?;
        url.set_query(None);
        url.set_fragment(None);
        if place.container.is_empty() || place.container.contains('/') {
            return Err(unusable("container", "it is no name of a container"));
        }
        let key = match &place.key {
            AzureKey::Shared(key) => {
                let bytes = STANDARD.decode(key.as_ref().trim_ascii());
                let bytes = bytes.map_err(|_| unusable("secret_access_key", "it is not base64"))?;
                Key::Shared(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
            }
            AzureKey::Signature(query) if std::str::from_utf8(query.as_ref()).is_ok() => {
                Key::Signature(query.clone())
            }
            AzureKey::Signature(_) => return Err(unusable("account_url", "its query is no text")),
        };
        let (account, container) = (place.account.clone(), place.container.clone());
        Ok(Self { url, account, container, objects: place.objects.clone(), key })
    }

    /// Returns the signed URL of something in the container, or of the container.
    fn signed(&self, key: &str, query: &[(&str, &str)]) -> Url {
        self.signed_at(Timestamp::now(), key, query)
    }

    pub(super) fn signed_at(&self, now: Timestamp, key: &str, query: &[(&str, &str)]) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push(&self.container);
            segments.extend(key.split('/').filter(|segment| !segment.is_empty()));
        }
        match &self.key {
            Key::Signature(given) => {
                let given = String::from_utf8_lossy(given.as_ref());
                url.set_query(Some(given.trim_start_matches('?')));
            }
            Key::Shared(shared) => {
                let ends = now.saturating_add(GOOD).unwrap_or(now).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
                // Blobs, containers and what is in them; reading, writing, making.
                let (permissions, services, kinds) = ("rwc", "b", "co");
                let protocols = if url.scheme() == "https" { "https" } else { "https,http" };
                // Between them, what is not said: when it begins, for which addresses; at its end, for which encryption.
                let text = format!(
                    "{}\n{permissions}\n{services}\n{kinds}\n\n{ends}\n\n{protocols}\n{VERSION}\n\n",
                    self.account
                );
                let signature = STANDARD.encode(hmac::sign(shared, text.as_bytes()));
                url.query_pairs_mut().extend_pairs([
                    ("sv", VERSION),
                    ("ss", services),
                    ("srt", kinds),
                    ("sp", permissions),
                    ("se", ends.as_str()),
                    ("spr", protocols),
                    ("sig", signature.as_str()),
                ]);
            }
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    fn document_key(&self, name: &str) -> String {
        joined(&[&self.objects.prefix, &self.objects.manifests_prefix, name])
    }

    /// Sends a blob, and makes the container first if that is what lacks.
    async fn send(&self, line: &Line, key: &str, object: &Object) -> Result<(), RegistryError> {
        let url = self.signed(key, &[]);
        let answer = put_blob(line, &url, key, object).await?;
        if is_taken(&answer) {
            return Ok(());
        }
        let host = self.url.host_str().unwrap_or_default();
        if answer.code() != "ContainerNotFound" {
            return Err(line.refused(host, key, answer.status, answer.code()));
        }
        let container = self.signed("", &[("restype", "container")]);
        line.call(&Call::new(Method::PUT, container, &self.container, &[200, 201, 409])).await?;
        match put_blob(line, &url, key, object).await? {
            answer if is_taken(&answer) => Ok(()),
            answer => Err(line.refused(host, key, answer.status, answer.code())),
        }
    }
}

#[async_trait]
impl Objects for Azure {
    fn attributes(&self) -> &'static str {
        "account_url, account_name, container and secret_access_key"
    }

    fn blob_key(&self, digest: &Digest) -> String {
        joined(&[&self.objects.prefix, &self.objects.blobs_prefix, &digest.to_string()])
    }

    async fn has(&self, line: &Line, key: &str) -> Result<bool, RegistryError> {
        let call = Call::new(Method::HEAD, self.signed(key, &[]), key, &[200, 404]);
        Ok(line.call(&call).await?.status == 200)
    }

    async fn place(&self, _line: &Line, key: &str) -> Result<Option<Url>, RegistryError> {
        Ok(Some(self.signed(key, &[])))
    }

    async fn put(&self, line: &Line, key: &str, object: &Object) -> Result<(), RegistryError> {
        self.send(line, key, object).await
    }

    async fn documents(&self, _line: &Line) -> Result<Vec<Url>, RegistryError> {
        Ok(self.objects.names.iter().map(|name| self.signed(&self.document_key(name), &[])).collect())
    }

    async fn put_document(&self, line: &Line, document: &Object) -> Result<(), RegistryError> {
        for name in &self.objects.names {
            self.send(line, &self.document_key(name), document).await?;
        }
        Ok(())
    }
}

/// Tells whether something that was sent is there now. Azure says 201, and who stands in for it may say 200.
pub(super) fn is_taken(answer: &Answer) -> bool {
    matches!(answer.status, 200 | 201)
}

/// Sends a blob to a signed URL: 201, or 404 where there is no container.
pub(super) async fn put_blob(
    line: &Line,
    url: &Url,
    key: &str,
    object: &Object,
) -> Result<Answer, RegistryError> {
    const EXPECTED: &[u16] = &[200, 201, 404];
    let kind = HeaderValue::from_static("BlockBlob");
    if object.size <= BLOCK_BYTES {
        let call = Call::new(Method::PUT, url.clone(), key, EXPECTED).with("x-ms-blob-type", kind);
        return line.call(&call.sending(line.part(object, 0, object.size))).await;
    }
    let size = BLOCK_BYTES.max(object.size.div_ceil(BLOCKS));
    let mut list = "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>".to_owned();
    let (mut start, mut number) = (0, 0_u32);
    while start < object.size {
        let end = object.size.min(start + size);
        // All of one length, as the service wants them.
        let id = STANDARD.encode(format!("{number:08}"));
        let mut block = url.clone();
        block.query_pairs_mut().append_pair("comp", "block").append_pair("blockid", &id);
        let call = Call::new(Method::PUT, block, key, EXPECTED).sending(line.part(object, start, end));
        let answer = line.call(&call).await?;
        if !is_taken(&answer) {
            return Ok(answer);
        }
        list.push_str(&format!("<Latest>{id}</Latest>"));
        (start, number) = (end, number + 1);
    }
    list.push_str("</BlockList>");
    let mut whole = url.clone();
    whole.query_pairs_mut().append_pair("comp", "blocklist");
    let call = Call::new(Method::PUT, whole, key, EXPECTED)
        .with("content-type", HeaderValue::from_static("application/xml"));
    line.call(&call.sending(Line::text(list))).await
}
