//! One blob of an image repository or a layout, as a tree of one file. Its digest is its name, so nobody is asked what
//! it is.
//!
//! Source: BuildKit's `docker-image+blob://` and `oci-layout+blob://`; they take the attributes of files of the web.

use std::path::PathBuf;
use std::sync::Arc;

use rb_llb::{SourceOp, attr};
use rb_oci::{Descriptor, Digest, MediaType, Reference};
use rb_solver::{Context, OpError};
use rb_sources::web::FileRequest;
use rb_sources::{SingleFile, SourceError, layout};
use serde_json::json;

use crate::error::EngineError;
use crate::fetch::{self, Listener};
use crate::job::JobContext;
use crate::pinned::Origin;

/// A blob, and where it is.
pub(super) struct BlobSource {
    pub(super) file: SingleFile,
    from: From,
}

enum From {
    Registry(Reference),
    Layout(PathBuf),
}

/// Reads a source.
pub(super) fn look(job: &JobContext, op: &SourceOp) -> Result<BlobSource, EngineError> {
    let (scheme, name) = op.scheme();
    let reference: Reference = name.parse()?;
    let Some(digest) = reference.digest() else {
        let reason = format!("source `{}` names no digest", op.identifier);
        return Err(EngineError::Definition { reason });
    };
    let file = FileRequest::parse(&op.attrs)?.named(digest.hex(), digest, 0);
    let from = if scheme.starts_with("oci-layout") {
        let familiar = name.split(['@', ':']).next().unwrap_or(name);
        let store = op.attrs.get(attr::OCI_STORE).map_or(familiar, String::as_str);
        let lent = job.session.oci_layout(store);
        From::Layout(lent.ok_or_else(|| SourceError::NotLent { name: store.to_owned() })?)
    } else {
        From::Registry(reference)
    };
    Ok(BlobSource { file, from })
}

/// Brings the blob into the store, unless it is there.
pub(super) async fn bring(cx: &Context, job: &Arc<JobContext>, source: &BlobSource) -> Result<(), OpError> {
    let digest = source.file.digest;
    let store = job.parts.store.clone();
    if crate::blocking(move || Ok(store.has_blob(&digest)?)).await? {
        return Ok(());
    }
    let bring = async {
        let listener = Listener::of(cx);
        let (origin, size_bytes) = match &source.from {
            From::Layout(folder) => {
                let path = layout::blob_path(folder, &digest);
                let size_bytes = crate::blocking(move || {
                    let metadata = std::fs::symlink_metadata(&path);
                    Ok(metadata.map_err(|source| SourceError::Read { path, source })?.len())
                });
                (Origin::Layout(folder.clone()), size_bytes.await?)
            }
            From::Registry(reference) => {
                let registry = job.parts.registry.watched(listener.registry_watch());
                let size_bytes = registry.blob_size(reference.repository(), &digest).await;
                let size_bytes = size_bytes.map_err(|error| crate::op_error(error.into()))?;
                (Origin::Registry(reference.repository().clone()), size_bytes)
            }
        };
        fetch::blob(&job.parts, &origin, &descriptor(&digest, size_bytes), &listener).await
    };
    tokio::select! {
        brought = bring => brought,
        () = cx.cancelled() => Err(OpError::cancelled()),
    }
}

fn descriptor(digest: &Digest, size_bytes: u64) -> Descriptor {
    let media_type = MediaType::Other("application/octet-stream".to_owned()).to_string();
    let value = json!({"mediaType": media_type, "digest": digest, "size": size_bytes});
    serde_json::from_value(value).expect("is a descriptor")
}
