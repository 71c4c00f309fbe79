//! Buckets: blobs and a few documents under names, where no registry is. What caches of builds lie in.
//!
//! In: a [`Bucket`]: S3, Azure's blob storage, the cache of GitHub Actions. Out: a [`BucketClient`]. What the three have in common is
//! here: blobs are called by their digests and proved by them, documents are bounded. What they have not is behind [`Objects`]:
//! what an object is called, where it is read, how it is sent. Connections, trust, proxies and pauses are those of registries.
//!
//! | module | idea |
//! | --- | --- |
//! | `line` | one call: tries, bounds, what a refusal says |
//! | `s3`, `azure`, `actions` | the services |
//!
//! **Invariant:** no key, token or signed URL is in an error, and none goes to another host than the one it is for: redirects of
//! calls are not followed.

mod actions;
mod azure;
mod line;
mod s3;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rb_oci::index::JSON_LIMIT_BYTES;
use rb_oci::{Descriptor, Digest};
use rb_session::Bucket;
use reqwest::{Method, Url};

use self::line::{Call, Line};
use crate::upload::BlobSource;
use crate::{BlobSink, Pushed, Registry, RegistryError, WebAnswer, WebRequest};

/// A service that keeps objects.
#[async_trait]
trait Objects: Send + Sync {
    /// What of the options is to be looked at where it refuses something.
    fn attributes(&self) -> &'static str;
    /// Returns what a blob is called.
    fn blob_key(&self, digest: &Digest) -> String;
    /// Says whether there is such an object.
    async fn has(&self, line: &Line, key: &str) -> Result<bool, RegistryError>;
    /// Says whether there is such an object, and sees to it that it stays: a cache that is written names it.
    async fn keep(&self, line: &Line, key: &str) -> Result<bool, RegistryError> {
        self.has(line, key).await
    }
    /// Returns where it is read; nothing where that is only said of what is there.
    async fn place(&self, line: &Line, key: &str) -> Result<Option<Url>, RegistryError>;
    /// Sends a blob.
    async fn put(&self, line: &Line, key: &str, object: &Object) -> Result<(), RegistryError>;
    /// Returns where the documents that are meant may be, the best first.
    async fn documents(&self, line: &Line) -> Result<Vec<Url>, RegistryError>;
    /// Puts a document under all names that are meant, in the place of what is there.
    async fn put_document(&self, line: &Line, document: &Object) -> Result<(), RegistryError>;
}

/// What is sent.
struct Object {
    source: Arc<dyn BlobSource>,
    size: u64,
    digest: Digest,
}

/// A client of one bucket. Clones are cheap.
#[derive(Clone)]
pub struct BucketClient {
    line: Line,
    objects: Arc<dyn Objects>,
    name: Arc<str>,
}

impl Registry {
    /// Makes a client of a bucket. What cannot be meant is an error that names the attribute; nothing is asked yet.
    pub fn bucket(&self, bucket: &Bucket) -> Result<BucketClient, RegistryError> {
        let objects: Arc<dyn Objects> = match bucket {
            Bucket::S3(bucket) => Arc::new(s3::S3::new(bucket)?),
            Bucket::Azure(container) => Arc::new(azure::Azure::new(container)?),
            Bucket::Actions(cache) => Arc::new(actions::Actions::new(cache)?),
        };
        let line = Line { registry: self.clone(), attributes: objects.attributes() };
        Ok(BucketClient { line, objects, name: bucket.to_string().into() })
    }
}

impl BucketClient {
    /// Returns the documents that are there under the names that are meant, the best first.
    pub async fn documents(&self) -> Result<Vec<Vec<u8>>, RegistryError> {
        let mut found = Vec::new();
        for url in self.objects.documents(&self.line).await? {
            let call = Call {
                limit_bytes: JSON_LIMIT_BYTES,
                ..Call::new(Method::GET, url, &self.name, &[200, 404])
            };
            let answer = self.line.call(&call).await?;
            if answer.status == 200 {
                found.push(answer.body);
            }
        }
        Ok(found)
    }

    /// Writes the document under all names that are meant.
    pub async fn put_document(&self, document: Vec<u8>) -> Result<(), RegistryError> {
        let (size, digest) = (document.len() as u64, Digest::of(&document));
        let object = Object { source: Arc::new(Bytes::from(document)), size, digest };
        self.objects.put_document(&self.line, &object).await
    }

    /// Says whether a blob is there.
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool, RegistryError> {
        self.objects.has(&self.line, &self.objects.blob_key(digest)).await
    }

    /// Sees to it that a blob which was found there stays there. That it is gone meanwhile is an error.
    pub async fn keep_blob(&self, digest: &Digest) -> Result<(), RegistryError> {
        if self.objects.keep(&self.line, &self.objects.blob_key(digest)).await? {
            return Ok(());
        }
        let name = format!("blob {digest} in {}", self.name);
        Err(RegistryError::NotFound { name, said: String::new() })
    }

    /// Sees to it that a blob is there.
    pub async fn push_blob(
        &self,
        descriptor: &Descriptor,
        source: Arc<dyn BlobSource>,
    ) -> Result<Pushed, RegistryError> {
        let digest = self.digest_of(descriptor)?;
        let key = self.objects.blob_key(&digest);
        if self.objects.keep(&self.line, &key).await? {
            return Ok(Pushed::Existed);
        }
        let object = Object { source, size: descriptor.size(), digest };
        self.objects.put(&self.line, &key, &object).await?;
        object.source.taken();
        Ok(Pushed::Uploaded)
    }

    /// Reads a blob into `sink`, which is returned only if the bytes are right. Dropping the future ends it, and the sink.
    pub async fn blob<S: BlobSink>(&self, descriptor: &Descriptor, sink: S) -> Result<S, RegistryError> {
        let digest = self.digest_of(descriptor)?;
        let name = || format!("blob {digest} in {}", self.name);
        let url = self.objects.place(&self.line, &self.objects.blob_key(&digest)).await?;
        let url = url.ok_or_else(|| RegistryError::NotFound { name: name(), said: String::new() })?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let request = WebRequest { url: url.into(), ..WebRequest::default() };
        let read = async {
            match self.line.registry.web(&request).await? {
                WebAnswer::File(file) => file.read(sink, descriptor.size(), Some(digest)).await,
                WebAnswer::Unchanged => Err(RegistryError::misled(&host, "sends nothing")),
            }
        };
        match read.await {
            Ok((sink, _, _)) => Ok(sink),
            Err(RegistryError::Changed { digest: actual, .. }) => {
                Err(RegistryError::content(&host, name(), format!("its bytes have digest {actual}")))
            }
            Err(RegistryError::NotFound { .. }) => {
                Err(RegistryError::NotFound { name: name(), said: String::new() })
            }
            Err(error) => Err(self.line.blamed(error)),
        }
    }

    /// Reads an object by its own name, of no more than `limit_bytes`. Returns it with its digest, which nothing proves.
    pub async fn object<S: BlobSink>(
        &self,
        key: &str,
        sink: S,
        limit_bytes: u64,
    ) -> Result<(S, Digest), RegistryError> {
        let missing = || RegistryError::NotFound { name: key.to_owned(), said: String::new() };
        let url = self.objects.place(&self.line, key).await?.ok_or_else(missing)?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let request = WebRequest { url: url.into(), ..WebRequest::default() };
        let read = async {
            match self.line.registry.web(&request).await? {
                WebAnswer::File(file) => file.read(sink, limit_bytes, None).await,
                WebAnswer::Unchanged => Err(RegistryError::misled(&host, "sends nothing")),
            }
        };
        match read.await {
            Ok((sink, digest, _)) => Ok((sink, digest)),
            Err(RegistryError::NotFound { .. }) => Err(missing()),
            Err(error) => Err(self.line.blamed(error)),
        }
    }

    /// The same client, telling `watch` what goes on.
    #[must_use]
    pub fn watched(&self, watch: Arc<dyn crate::Watch>) -> Self {
        let line = Line { registry: self.line.registry.watched(watch), attributes: self.line.attributes };
        Self { line, ..self.clone() }
    }

    fn digest_of(&self, descriptor: &Descriptor) -> Result<Digest, RegistryError> {
        let text = descriptor.digest().to_string();
        let wrong = |_| RegistryError::content(&self.name, "descriptor", format!("its digest is `{text}`"));
        text.parse().map_err(wrong)
    }
}

/// Joins parts of a path, each of which may have slashes around it.
fn joined(parts: &[&str]) -> String {
    let parts = parts.iter().map(|part| part.trim_matches('/')).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("/")
}

/// Reads a URL that a user gave: `http` or `https`, with a host, without a password.
fn read_url(option: &str, text: &str) -> Result<Url, RegistryError> {
    let unusable =
        |reason: &str| RegistryError::Options { option: option.to_owned(), reason: reason.to_owned() };
    let url: Url = text.parse().map_err(|_| unusable("it is no URL"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(unusable("it is neither http:// nor https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(unusable("it has a name or password in it"));
    }
    Ok(url)
}
