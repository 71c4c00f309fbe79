//! Where the documents and blobs of an image are: the store, a registry, an OCI layout.
//!
//! In: descriptors. Out: documents in memory, proven by their digests; blobs as what a registry's client sends. **Invariant:**
//! nothing is handed on that its digest does not prove, here or where it goes: whoever takes a blob's bytes hashes them.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rb_oci::index::JSON_LIMIT_BYTES;
use rb_oci::{Descriptor, Digest, Repository};
use rb_registry::{BlobSink, BlobSource, Registry, RegistryError};
use rb_sources::{SourceError, layout};
use rb_store::{PartialBlob, Store, StoreError};
use tokio::runtime::Handle;

use crate::error::EngineError;

/// A place that holds images.
#[async_trait]
pub(crate) trait Content: Send + Sync {
    /// Reads a manifest, index or config whole.
    async fn document(&self, descriptor: &Descriptor, what: What) -> Result<Vec<u8>, EngineError>;
    /// Returns where the bytes of a blob come from; nothing is read yet.
    fn blob(&self, descriptor: &Descriptor) -> Result<Arc<dyn BlobSource>, EngineError>;
    /// Says whether a blob is here, or is known to be elsewhere.
    fn has(&self, descriptor: &Descriptor) -> Result<bool, EngineError>;
    /// Repositories that may have a blob.
    fn known_in(&self, digest: &Digest) -> Result<Vec<Repository>, EngineError>;
    /// Says that a document is not what it should be, so that who has to act is told: who runs a registry, or whose image it is.
    fn wrong(&self, what: String, reason: String) -> EngineError {
        EngineError::Image { what, reason, help: None }
    }
    /// Puts a blob into the store, unless it is there.
    async fn keep(&self, store: &Store, descriptor: &Descriptor) -> Result<(), EngineError>;
    /// Says whether a blob is in the store. That it is not as long as its descriptor says is the descriptor's fault.
    fn is_kept(&self, store: &Store, descriptor: &Descriptor) -> Result<bool, EngineError> {
        let digest = digest_of(descriptor)?;
        match store.blob_size(&digest)? {
            Some(size) if size != descriptor.size() => {
                let reason = format!("is {size} bytes, its descriptor says {}", descriptor.size());
                Err(self.wrong(format!("blob {digest}"), reason))
            }
            size => Ok(size.is_some()),
        }
    }
}

/// What a document is: registries keep manifests and configs in different places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A manifest or index.
    Manifest,
    /// A config.
    Config,
}

/// Returns the digest of a descriptor.
pub(crate) fn digest_of(descriptor: &Descriptor) -> Result<Digest, EngineError> {
    Ok(layout::digest_of(descriptor)?)
}

/// The store. What of an image was never fetched is had from the registry that has it.
pub(crate) struct InStore {
    pub(crate) store: Store,
    pub(crate) registry: Registry,
}

impl InStore {
    fn elsewhere(&self, digest: &Digest) -> Result<Option<Repository>, EngineError> {
        Ok(self.known_in(digest)?.into_iter().next())
    }
}

#[async_trait]
impl Content for InStore {
    async fn document(&self, descriptor: &Descriptor, what: What) -> Result<Vec<u8>, EngineError> {
        let digest = digest_of(descriptor)?;
        match self.store.read_blob(&digest, JSON_LIMIT_BYTES) {
            Err(StoreError::UnknownBlob(_)) => match self.elsewhere(&digest)? {
                Some(repository) => read(&self.registry, &repository, descriptor, what).await,
                None => Err(StoreError::UnknownBlob(digest).into()),
            },
            read => Ok(read?),
        }
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Arc<dyn BlobSource>, EngineError> {
        let digest = digest_of(descriptor)?;
        if self.store.has_blob(&digest)? {
            return Ok(Arc::new(StoreBlob { store: self.store.clone(), digest }));
        }
        let repository = self.elsewhere(&digest)?.ok_or(StoreError::UnknownBlob(digest))?;
        Ok(Arc::new(Spool::new(self.registry.clone(), repository, descriptor.clone(), &self.store)))
    }

    fn has(&self, descriptor: &Descriptor) -> Result<bool, EngineError> {
        let digest = digest_of(descriptor)?;
        Ok(self.store.has_blob(&digest)? || self.elsewhere(&digest)?.is_some())
    }

    fn known_in(&self, digest: &Digest) -> Result<Vec<Repository>, EngineError> {
        Ok(self.store.origins(digest)?.iter().filter_map(|name| Repository::parse(name).ok()).collect())
    }

    async fn keep(&self, store: &Store, descriptor: &Descriptor) -> Result<(), EngineError> {
        let digest = digest_of(descriptor)?;
        match self.elsewhere(&digest)? {
            Some(repository) if !self.is_kept(store, descriptor)? => {
                fetch(&self.registry, &repository, descriptor, store).await
            }
            _ => Ok(()),
        }
    }
}

/// A repository of a registry.
pub(crate) struct InRegistry {
    pub(crate) registry: Registry,
    pub(crate) repository: Repository,
    pub(crate) store: Store,
}

#[async_trait]
impl Content for InRegistry {
    async fn document(&self, descriptor: &Descriptor, what: What) -> Result<Vec<u8>, EngineError> {
        read(&self.registry, &self.repository, descriptor, what).await
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Arc<dyn BlobSource>, EngineError> {
        let (registry, repository) = (self.registry.clone(), self.repository.clone());
        Ok(Arc::new(Spool::new(registry, repository, descriptor.clone(), &self.store)))
    }

    fn has(&self, _descriptor: &Descriptor) -> Result<bool, EngineError> {
        Ok(true)
    }

    fn known_in(&self, _digest: &Digest) -> Result<Vec<Repository>, EngineError> {
        Ok(vec![self.repository.clone()])
    }

    fn wrong(&self, what: String, reason: String) -> EngineError {
        let host = self.repository.host().to_owned();
        RegistryError::Content { host, what, reason: format!("it {reason}") }.into()
    }

    async fn keep(&self, store: &Store, descriptor: &Descriptor) -> Result<(), EngineError> {
        let digest = digest_of(descriptor)?;
        if !self.is_kept(store, descriptor)? {
            fetch(&self.registry, &self.repository, descriptor, store).await?;
        }
        store.put_origin(&digest, &self.repository.to_string())?;
        Ok(())
    }
}

/// An OCI layout in a folder.
pub(crate) struct InLayout {
    pub(crate) folder: PathBuf,
}

#[async_trait]
impl Content for InLayout {
    async fn document(&self, descriptor: &Descriptor, _what: What) -> Result<Vec<u8>, EngineError> {
        let digest = digest_of(descriptor)?;
        let wrong = |reason: String| SourceError::Blob { digest, reason };
        if descriptor.size() > JSON_LIMIT_BYTES {
            return Err(wrong(format!("{} bytes are too many for a manifest", descriptor.size())).into());
        }
        let mut bytes = Vec::new();
        let mut blob = layout::open_blob(&self.folder, descriptor)?;
        blob.read_to_end(&mut bytes).map_err(|error| wrong(error.to_string()))?;
        Ok(bytes)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Arc<dyn BlobSource>, EngineError> {
        Ok(Arc::new(LayoutBlob { folder: self.folder.clone(), descriptor: descriptor.clone() }))
    }

    fn has(&self, descriptor: &Descriptor) -> Result<bool, EngineError> {
        match layout::open_blob(&self.folder, descriptor) {
            Ok(_) => Ok(true),
            Err(SourceError::MissingBlob { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn known_in(&self, _digest: &Digest) -> Result<Vec<Repository>, EngineError> {
        Ok(Vec::new())
    }

    async fn keep(&self, store: &Store, descriptor: &Descriptor) -> Result<(), EngineError> {
        let digest = digest_of(descriptor)?;
        if self.is_kept(store, descriptor)? {
            return Ok(());
        }
        let (store, folder, descriptor) = (store.clone(), self.folder.clone(), descriptor.clone());
        run_blocking(move || {
            let mut writer = store.blob_writer()?;
            io::copy(&mut layout::open_blob(&folder, &descriptor)?, &mut writer).map_err(
                |error| match error.kind() {
                    io::ErrorKind::InvalidData => SourceError::Blob { digest, reason: error.to_string() },
                    _ => SourceError::Read { path: folder.clone(), source: error },
                },
            )?;
            writer.commit(Some(digest))?;
            Ok(())
        })
        .await
    }
}

/// Runs what may wait for a disk.
pub(crate) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| EngineError::Worker { reason: error.to_string() })?
}

async fn read(
    registry: &Registry,
    repository: &Repository,
    descriptor: &Descriptor,
    what: What,
) -> Result<Vec<u8>, EngineError> {
    Ok(match what {
        What::Manifest => registry.manifest(repository, descriptor).await?.bytes,
        What::Config => registry.small_blob(repository, descriptor).await?,
    })
}

/// Fetches a blob into the store; what an earlier process had of it is not fetched again.
async fn fetch(
    registry: &Registry,
    repository: &Repository,
    descriptor: &Descriptor,
    store: &Store,
) -> Result<(), EngineError> {
    let (digest, size, store) = (digest_of(descriptor)?, descriptor.size(), store.clone());
    let part = run_blocking(move || Ok(Part(store.partial_blob(&digest, size)?))).await?;
    let Part(blob) = registry.blob(repository, descriptor, part).await?;
    // The client has proven it.
    run_blocking(move || Ok(blob.commit(&digest)?)).await
}

/// What has come of a blob, on the disk for whoever wants it next.
pub(crate) struct Part(pub(crate) PartialBlob);

impl BlobSink for Part {
    fn kept(&mut self, tell: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
        self.0.read(tell)?;
        Ok(self.0.size_bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn restart(&mut self) -> io::Result<()> {
        self.0.restart()
    }
}

/// A blob of the store. Read from its beginning it proves itself; a damaged one is taken away.
struct StoreBlob {
    store: Store,
    digest: Digest,
}

impl BlobSource for StoreBlob {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        if offset == 0 {
            return Ok(Box::new(self.store.blob_reader(&self.digest).map_err(io::Error::other)?));
        }
        at(self.store.open_blob(&self.digest).map_err(io::Error::other)?, offset)
    }
}

fn at(file: Option<File>, offset: u64) -> io::Result<Box<dyn Read + Send>> {
    let mut file = file.ok_or(io::ErrorKind::NotFound)?;
    file.seek(SeekFrom::Start(offset))?;
    Ok(Box::new(file))
}

/// A blob of a layout.
struct LayoutBlob {
    folder: PathBuf,
    descriptor: Descriptor,
}

impl BlobSource for LayoutBlob {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut blob = layout::open_blob(&self.folder, &self.descriptor).map_err(io::Error::other)?;
        // Read over rather than sought: so all of it is proven, whatever was sent before.
        io::copy(&mut (&mut blob).take(offset), &mut io::sink())?;
        Ok(Box::new(blob))
    }
}

/// A blob of another registry, fetched into a file when it is wanted: it may have to be sent again, and from the middle. The
/// file stays until the blob is where it goes, so that whoever is ended before that fetches no byte twice.
struct Spool {
    registry: Registry,
    repository: Repository,
    descriptor: Descriptor,
    store: Store,
    here: Mutex<Option<PartialBlob>>,
    threads: Handle,
}

impl Spool {
    /// Must be made within a runtime.
    fn new(registry: Registry, repository: Repository, descriptor: Descriptor, store: &Store) -> Self {
        let (store, threads) = (store.clone(), Handle::current());
        Self { registry, repository, descriptor, store, here: Mutex::default(), threads }
    }

    fn here(&self) -> MutexGuard<'_, Option<PartialBlob>> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kept whole, the error says whoever sends the blob what really went wrong.
    fn fetch(&self) -> io::Result<PartialBlob> {
        let digest = digest_of(&self.descriptor).map_err(io::Error::other)?;
        let part = self.store.partial_blob(&digest, self.descriptor.size()).map_err(io::Error::other)?;
        let fetched = self.registry.blob(&self.repository, &self.descriptor, Part(part));
        Ok(self.threads.block_on(fetched).map_err(io::Error::other)?.0)
    }
}

impl BlobSource for Spool {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut here = self.here();
        if here.is_none() {
            *here = Some(self.fetch()?);
        }
        at(here.as_ref().map(PartialBlob::reader).transpose().map_err(io::Error::other)?, offset)
    }

    fn taken(&self) {
        if let Some(mut blob) = self.here().take()
            && let Err(error) = blob.restart()
        {
            tracing::debug!(%error, "a blob that is not needed any more stays for a while");
        }
    }
}

/// Returns what is behind the failure of a blob that was not to be had from where it came from.
pub(crate) fn unwrapped(error: RegistryError) -> EngineError {
    match &error {
        RegistryError::Local { source, .. } => behind(source).unwrap_or_else(|| error.into()),
        _ => error.into(),
    }
}

/// Returns the failure of a registry that an error of reading carries.
pub(crate) fn behind(error: &io::Error) -> Option<EngineError> {
    let error = error.get_ref()?.downcast_ref::<RegistryError>()?;
    Some(error.clone().into())
}
