//! Caches in buckets: a manifest under a name, its config and layers beside it by their digests.
//!
//! In: a [`Bucket`]. Out: what lies there as [`Content`], or a manifest of the store written there: blobs first, several at once, each
//! looked for before it is sent; then the manifest, in one step. What is read has no digest that somebody else said: the manifest is what
//! the place says it is, and everything below is proved by it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use rb_oci::index::JSON_LIMIT_BYTES;
use rb_oci::{Descriptor, Digest, MediaType, Repository};
use rb_registry::{BlobSource, BucketClient, RegistryError};
use rb_session::Bucket;
use rb_store::{Store, StoreError};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::task::JoinSet;

use crate::error::EngineError;
use crate::fetch::Listener;
use crate::images::content::{Content, InStore, What, digest_of, unwrapped};
use crate::images::tree::ImageTree;
use crate::parts::Parts;

/// Makes a client of a bucket.
pub(crate) fn client(parts: &Parts, bucket: &Bucket) -> Result<BucketClient, EngineError> {
    parts.registry.bucket(bucket).map_err(|source| failed("use", bucket, source))
}

/// Makes one for what is asked and not needed.
pub(super) fn reader(parts: &Parts, bucket: &Bucket) -> Result<BucketClient, EngineError> {
    parts.registry.for_hints().bucket(bucket).map_err(|source| failed("use", bucket, source))
}

/// Returns the error of a cache that could not be read.
pub(crate) fn unread(bucket: &Bucket, source: RegistryError) -> EngineError {
    failed("read", bucket, source)
}

fn failed(action: &'static str, bucket: &Bucket, source: RegistryError) -> EngineError {
    EngineError::Bucket { action, place: bucket.to_string(), source }
}

/// What lies in a bucket.
pub(super) struct InBucket {
    bucket: Arc<Bucket>,
    client: BucketClient,
    documents: BTreeMap<Digest, Vec<u8>>,
    /// Its manifests, the best first.
    pub(super) roots: Vec<Descriptor>,
}

/// Reads the manifests that are there.
pub(super) async fn documents(
    parts: &Parts,
    bucket: &Arc<Bucket>,
    listener: &Listener,
) -> Result<InBucket, EngineError> {
    let client = reader(parts, bucket)?.watched(listener.registry_watch());
    // Who is told of it knows where it was looked for.
    let found = client.documents().await?;
    let (mut documents, mut roots) = (BTreeMap::new(), Vec::new());
    for bytes in found {
        let digest = Digest::of(&bytes);
        let text =
            json!({"mediaType": MediaType::ImageManifest.to_string(), "digest": digest, "size": bytes.len()});
        let root = serde_json::from_value(text);
        roots.push(root.map_err(|error| EngineError::Worker { reason: error.to_string() })?);
        documents.insert(digest, bytes);
    }
    Ok(InBucket { bucket: Arc::clone(bucket), client, documents, roots })
}

impl InBucket {
    /// Says whether a document is one of BuildKit's, which has no config.
    pub(super) fn is_of_buildkit(&self, root: &Descriptor) -> bool {
        #[derive(Deserialize)]
        struct Theirs {
            config: Option<IgnoredAny>,
            records: Option<IgnoredAny>,
        }
        let bytes = digest_of(root).ok().and_then(|digest| self.documents.get(&digest));
        let theirs = bytes.and_then(|bytes| serde_json::from_slice::<Theirs>(bytes).ok());
        theirs.is_some_and(|theirs| theirs.records.is_some() && theirs.config.is_none())
    }
}

#[async_trait]
impl Content for InBucket {
    async fn document(&self, descriptor: &Descriptor, _what: What) -> Result<Vec<u8>, EngineError> {
        let digest = digest_of(descriptor)?;
        if let Some(bytes) = self.documents.get(&digest) {
            return Ok(bytes.clone());
        }
        if descriptor.size() > JSON_LIMIT_BYTES {
            let reason = format!("is {} bytes, too many for a document", descriptor.size());
            return Err(self.wrong(format!("blob {digest}"), reason));
        }
        Ok(self.client.blob(descriptor, Vec::new()).await?)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Arc<dyn BlobSource>, EngineError> {
        // Layers come by `fetch`, when something reads them.
        Err(StoreError::UnknownBlob(digest_of(descriptor)?).into())
    }

    fn has(&self, _descriptor: &Descriptor) -> Result<bool, EngineError> {
        Ok(true)
    }

    fn known_in(&self, _digest: &Digest) -> Result<Vec<Repository>, EngineError> {
        Ok(Vec::new())
    }

    fn wrong(&self, what: String, reason: String) -> EngineError {
        let host = self.bucket.to_string();
        RegistryError::Content { host, what, reason: format!("it {reason}") }.into()
    }

    async fn keep(&self, _store: &Store, descriptor: &Descriptor) -> Result<(), EngineError> {
        Err(StoreError::UnknownBlob(digest_of(descriptor)?).into())
    }
}

/// Writes a manifest of the store, and what it names; `there` are layers that were found in the bucket and are not here.
pub(super) async fn write(
    parts: &Parts,
    bucket: &Bucket,
    manifest: &Descriptor,
    there: Vec<Descriptor>,
    listener: &Listener,
) -> Result<(), EngineError> {
    let unwritten = |source| failed("write", bucket, source);
    let content = InStore { store: parts.store.clone(), registry: parts.registry.clone() };
    let tree = ImageTree::of(&content, manifest).await?;
    let there = there.iter().map(digest_of).collect::<Result<BTreeSet<_>, _>>()?;
    let blobs = tree.blobs.iter().filter(|(digest, _)| !there.contains(digest));
    let mut open = Vec::new();
    for (_, descriptor) in blobs {
        open.push((descriptor.clone(), content.blob(descriptor)?));
    }
    let client = client(parts, bucket)?.watched(listener.registry_watch());
    for digest in &there {
        client.keep_blob(digest).await.map_err(unwritten)?;
    }
    let total = open.iter().map(|(descriptor, _)| descriptor.size()).sum();
    let client = client.watched(listener.upload_watch(total));
    let (mut open, mut under_way) = (open.into_iter(), JoinSet::new());
    loop {
        while under_way.len() < bucket.parallelism()
            && let Some((descriptor, source)) = open.next()
        {
            let client = client.clone();
            under_way.spawn(async move { client.push_blob(&descriptor, source).await });
        }
        let Some(joined) = under_way.join_next().await else { break };
        let pushed = joined.map_err(|error| EngineError::Worker { reason: error.to_string() })?;
        // What of the store cannot be read is told as such.
        pushed.map_err(|error| match error {
            RegistryError::Local { .. } => unwrapped(error),
            error => unwritten(error),
        })?;
    }
    let (_, document) = tree.documents.last().expect("a tree has a root");
    client.put_document(document.clone()).await.map_err(unwritten)
}
