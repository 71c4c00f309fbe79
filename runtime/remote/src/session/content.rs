//! Blobs of OCI layouts, of images of this machine and of caches; blobs that come to a cache ([`incoming`]); and what is sent once.
//!
//! **Invariant:** of a layout only blobs are read, by their digests.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rb_oci::{Digest, Reference};
use rb_wire::content::content_server::Content;
use rb_wire::content::{
    Info, InfoRequest, InfoResponse, ReadContentRequest, ReadContentResponse, WriteContentRequest,
    WriteContentResponse,
};
use rb_wire::upload::BytesMessage;
use rb_wire::upload::upload_server::Upload;
use tempfile::TempDir;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::{Fed, incoming, pieces, values};
use crate::caches::Folders;
use crate::error::RemoteError;

/// Answers for layouts.
pub(super) struct Layouts {
    pub(super) session: Arc<dyn rb_session::Session>,
    pub(super) images: Images,
    pub(super) caches: Folders,
}

/// Images of the store of this machine that are lent, by name: layouts in folders that go with the last of these.
#[derive(Clone, Default)]
pub(crate) struct Images(Arc<Mutex<Lent>>);

#[derive(Default)]
struct Lent {
    folders: BTreeMap<String, Arc<TempDir>>,
    /// By repository and tag: what is lent under it.
    names: BTreeMap<(String, Option<String>), LentImage>,
}

/// An image that is lent.
struct LentImage {
    /// Its manifest or index: that of the last, where several were lent under its name.
    root: Digest,
    /// What layouts are lent as, by their roots and the manifests that were taken of them.
    stores: BTreeMap<Digest, String>,
}

fn key(name: &Reference) -> (String, Option<String>) {
    (name.repository().to_string(), name.tag().map(ToOwned::to_owned))
}

/// What a layout lies under in its folder.
const LAYOUT: &str = "layout";

impl Images {
    /// Returns what an image is lent as, and the folder of its layout; `write` makes that where it is not lent yet.
    pub(crate) fn lend<E>(
        &self,
        digest: &Digest,
        scratch: &Path,
        write: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(String, PathBuf), E>
    where
        E: From<RemoteError>,
    {
        let store = format!("rb-image-{}", digest.hex());
        if let Some(folder) = self.folder(&store) {
            return Ok((store, folder));
        }
        let failed = |source| RemoteError::Disk { what: "an image that is lent".to_owned(), source };
        let folder = tempfile::Builder::new().prefix("image-").tempdir_in(scratch).map_err(failed)?;
        let layout = folder.path().join(LAYOUT);
        write(&layout)?;
        // Two that were made at once are equal.
        self.lock().folders.insert(store.clone(), Arc::new(folder));
        Ok((store, layout))
    }

    /// Notes under which name an image is lent, and a manifest that was taken of it.
    pub(crate) fn note(&self, name: &Reference, store: String, root: Digest, taken: Digest) {
        let mut lent = self.lock();
        let fresh = || LentImage { root, stores: BTreeMap::new() };
        let image = lent.names.entry(key(name)).or_insert_with(fresh);
        image.root = root;
        // What was taken of another before is still asked for.
        image.stores.insert(taken, store.clone());
        image.stores.insert(root, store);
    }

    /// Returns what is lent under a name: as what, and which manifest or index.
    pub(crate) fn lent_as(&self, name: &Reference) -> Option<(String, Digest)> {
        let lent = self.lock();
        let image = lent.names.get(&key(name))?;
        let digest = name.digest().unwrap_or(image.root);
        // One that was not lent is of a registry.
        Some((image.stores.get(&digest)?.clone(), digest))
    }

    fn folder(&self, store: &str) -> Option<PathBuf> {
        self.lock().folders.get(store).map(|folder| folder.path().join(LAYOUT))
    }

    fn lock(&self) -> MutexGuard<'_, Lent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Layouts {
    fn blob(&self, metadata: &MetadataMap, digest: &str) -> Result<PathBuf, Status> {
        let store = store_of(metadata)?;
        let digest: Digest = digest.parse().map_err(|_| Status::invalid_argument("no digest"))?;
        if let Some(path) = self.caches.blob(&store, &digest) {
            return Ok(path);
        }
        // So the daemon calls what a definition names.
        let store = store.strip_prefix("oci:").unwrap_or(&store);
        let folder = self.images.folder(store).or_else(|| self.session.oci_layout(store));
        let folder =
            folder.ok_or_else(|| Status::not_found(format!("no OCI layout is lent as `{store}`")))?;
        Ok(folder.join("blobs/sha256").join(digest.hex()))
    }
}

fn store_of(metadata: &MetadataMap) -> Result<String, Status> {
    Ok(values(metadata, "buildkit-attachable-store-id")?.into_iter().next().unwrap_or_default())
}

fn missing(error: &std::io::Error) -> Status {
    match error.kind() {
        std::io::ErrorKind::NotFound => Status::not_found("no such blob"),
        _ => Status::unavailable(error.to_string()),
    }
}

#[tonic::async_trait]
impl Content for Layouts {
    async fn info(&self, request: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let digest = request.get_ref().digest.clone();
        let path = self.blob(request.metadata(), &digest)?;
        let looked = tokio::task::spawn_blocking(move || std::fs::metadata(path)).await;
        let metadata =
            looked.map_err(|error| Status::internal(error.to_string()))?.map_err(|error| missing(&error))?;
        let size =
            i64::try_from(metadata.len()).map_err(|_| Status::out_of_range("a blob beyond measure"))?;
        Ok(Response::new(InfoResponse { info: Some(Info { digest, size, ..Info::default() }) }))
    }

    type ReadStream = Fed<ReadContentResponse>;

    async fn read(&self, request: Request<ReadContentRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let ReadContentRequest { digest, offset, size } = request.get_ref().clone();
        let path = self.blob(request.metadata(), &digest)?;
        let offset = u64::try_from(offset).map_err(|_| Status::out_of_range("before the first byte"))?;
        let opened = tokio::task::spawn_blocking(move || {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(offset))?;
            Ok(file)
        });
        let opened = opened.await.map_err(|error| Status::internal(error.to_string()))?;
        let file = opened.map_err(|error: std::io::Error| missing(&error))?;
        // Nothing said is all of it.
        let limit = u64::try_from(size).ok().filter(|size| *size > 0).unwrap_or(u64::MAX);
        let mut at = offset;
        Ok(Response::new(pieces(file.take(limit), move |data| {
            let offset = i64::try_from(at).unwrap_or(i64::MAX);
            at += data.len() as u64;
            ReadContentResponse { offset, data }
        })))
    }

    type WriteStream = Fed<WriteContentResponse>;

    async fn write(
        &self,
        request: Request<Streaming<WriteContentRequest>>,
    ) -> Result<Response<Self::WriteStream>, Status> {
        let store = store_of(request.metadata())?;
        let folder = self.caches.incoming(&store);
        let folder =
            folder.ok_or_else(|| Status::permission_denied(format!("nothing is written to `{store}`")))?;
        let caches = self.caches.clone();
        let known = move |digest: &Digest| caches.blob(&store, digest).is_some_and(|path| path.is_file());
        Ok(Response::new(incoming::take(request.into_inner(), folder, known)))
    }
}

/// Answers for what is sent once.
pub(super) struct Uploads {
    pub(super) session: Arc<dyn rb_session::Session>,
}

#[tonic::async_trait]
impl Upload for Uploads {
    type PullStream = Fed<BytesMessage>;

    async fn pull(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let path = values(request.metadata(), "urlpath")?.into_iter().next().unwrap_or_default();
        let id = path.trim_start_matches('/');
        let upload = self.session.upload(id);
        let upload = upload.ok_or_else(|| Status::not_found(format!("nothing is sent as `{id}`")))?;
        let reader = upload.take().ok_or_else(|| Status::failed_precondition("it was sent already"))?;
        Ok(Response::new(pieces(reader, |data| BytesMessage { data })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_lent_again_is_the_new_image() {
        let images = Images::default();
        let name: Reference = "app:1".parse().expect("a name");
        let [old, new, of_old, of_new, other] = ["old", "new", "of old", "of new", "other"].map(Digest::of);
        images.note(&name, "first".to_owned(), old, of_old);
        assert_eq!(images.lent_as(&name), Some(("first".to_owned(), old)));
        images.note(&name, "second".to_owned(), new, of_new);
        assert_eq!(images.lent_as(&name), Some(("second".to_owned(), new)));
        for (digest, store) in [(new, "second"), (of_new, "second"), (old, "first"), (of_old, "first")] {
            assert_eq!(images.lent_as(&name.pinned(digest)), Some((store.to_owned(), digest)));
        }
        assert_eq!(images.lent_as(&name.pinned(other)), None);
    }
}
