//! Blobs of OCI layouts, and what is sent once.
//!
//! **Invariant:** of a layout only blobs are read, by their digests.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use rb_oci::Digest;
use rb_wire::content::content_server::Content;
use rb_wire::content::{Info, InfoRequest, InfoResponse, ReadContentRequest, ReadContentResponse};
use rb_wire::upload::BytesMessage;
use rb_wire::upload::upload_server::Upload;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::{Fed, pieces, values};

/// Answers for layouts.
pub(super) struct Layouts {
    pub(super) session: Arc<dyn rb_session::Session>,
}

impl Layouts {
    fn blob(&self, metadata: &MetadataMap, digest: &str) -> Result<PathBuf, Status> {
        let store = values(metadata, "buildkit-attachable-store-id")?.into_iter().next().unwrap_or_default();
        let folder = self.session.oci_layout(&store);
        let folder =
            folder.ok_or_else(|| Status::not_found(format!("no OCI layout is lent as `{store}`")))?;
        let digest: Digest = digest.parse().map_err(|_| Status::invalid_argument("no digest"))?;
        Ok(folder.join("blobs/sha256").join(digest.hex()))
    }
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
