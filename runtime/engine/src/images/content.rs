//! Where the documents and blobs of an image are: the store, a registry, an OCI layout.
//!
//! In: descriptors. Out: documents in memory, proven by their digests; blobs as what a registry's client sends. **Invariant:**
//! nothing is handed on that its digest does not prove, here or where it goes: whoever takes a blob's bytes hashes them.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rb_oci::index::{self, JSON_LIMIT_BYTES};
use rb_oci::{Descriptor, Digest, Repository};
use rb_registry::{BlobSink, BlobSource, Registry, RegistryError};
use rb_sources::{SourceError, layout};
use rb_store::{BlobWriter, Store, StoreError};
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
    /// Puts a blob into the store, unless it is there.
    async fn keep(&self, store: &Store, descriptor: &Descriptor) -> Result<(), EngineError>;
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
            Some(repository) if !store.has_blob(&digest)? => {
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

    async fn keep(&self, store: &Store, descriptor: &Descriptor) -> Result<(), EngineError> {
        let digest = digest_of(descriptor)?;
        if !store.has_blob(&digest)? {
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
        if store.has_blob(&digest)? {
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

/// Fetches a blob into the store.
async fn fetch(
    registry: &Registry,
    repository: &Repository,
    descriptor: &Descriptor,
    store: &Store,
) -> Result<(), EngineError> {
    let digest = digest_of(descriptor)?;
    let sink = StoreSink { store: store.clone(), writer: Some(store.blob_writer()?) };
    let sink = registry.blob(repository, descriptor, sink).await?;
    run_blocking(move || {
        if let Some(writer) = sink.writer {
            writer.commit(Some(digest))?;
        }
        Ok(())
    })
    .await
}

/// Writes what is pulled into the store.
struct StoreSink {
    store: Store,
    writer: Option<BlobWriter>,
}

impl BlobSink for StoreSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.writer {
            Some(writer) => io::Write::write_all(writer, bytes),
            None => Err(io::Error::other("the blob was not begun")),
        }
    }

    fn restart(&mut self) -> io::Result<()> {
        self.writer = None;
        self.writer = Some(self.store.blob_writer().map_err(io::Error::other)?);
        Ok(())
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

/// A blob of another registry, fetched into a file when it is wanted: it may have to be sent again, and from the middle.
struct Spool {
    registry: Registry,
    repository: Repository,
    descriptor: Descriptor,
    path: PathBuf,
    is_here: Mutex<bool>,
    threads: Handle,
}

impl Spool {
    /// Must be made within a runtime.
    fn new(registry: Registry, repository: Repository, descriptor: Descriptor, store: &Store) -> Self {
        let (path, threads) = (store.temp_path(), Handle::current());
        Self { registry, repository, descriptor, path, is_here: Mutex::new(false), threads }
    }
}

impl BlobSource for Spool {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut is_here = self.is_here.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_here {
            let file = File::create(&self.path)?;
            let fetched = self.registry.blob(&self.repository, &self.descriptor, file);
            // Kept whole, so that who sends the blob can say what really went wrong.
            self.threads.block_on(fetched).map_err(io::Error::other)?;
            *is_here = true;
        }
        at(Some(File::open(&self.path)?), offset)
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // It may not have been wanted; and a later start removes what stays.
        drop(std::fs::remove_file(&self.path));
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

/// Returns the digest of a descriptor that comes out of a document; those that cannot be checked are refused.
pub(crate) fn checked(descriptor: &Descriptor) -> Result<Digest, EngineError> {
    index::digest_of(descriptor).map_err(|error| EngineError::Image {
        what: "a manifest of the image".to_owned(),
        reason: format!("names a blob that cannot be checked: {error}"),
        help: None,
    })
}
