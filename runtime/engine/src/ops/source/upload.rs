//! Files that the client sends: `http://buildkit-session/ID`.
//!
//! In: a source of the web at that host, which is nobody's. Out: what the session sends under that id, kept among the blobs like a
//! file of the web. It can be read once, so it is once a job; what takes long to come holds nobody up but who wants it.
//! Source: BuildKit's `session/upload`: how its clients give a Dockerfile or a tar on standard input to the engine.

use std::io::{self, Read, Write as _};
use std::sync::Arc;

use rb_oci::Digest;
use rb_solver::{OpError, Progress};
use rb_sources::SourceError;
use rb_store::Store;

use crate::error::EngineError;
use crate::fetch::Listener;
use crate::job::JobContext;

/// The host that stands for the client.
const HOST: &str = "buildkit-session";

/// How much is read at once, and how much comes between two words about it.
const CHUNK_BYTES: usize = 1 << 20;

/// Returns the id of what the client sends, if a URL stands for that.
pub(super) fn id_of(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))?;
    let (host, id) = rest.split_once('/')?;
    (host == HOST).then_some(id)
}

/// Reads what the client sends into the store.
pub(super) async fn receive(job: &Arc<JobContext>, id: &str, listener: Listener) -> Result<Digest, OpError> {
    let name = || SourceError::NotSent { name: id.to_owned() };
    let upload = job.session.upload(id).ok_or_else(|| crate::op_error(name().into()))?;
    let reader = upload.take().ok_or_else(|| crate::op_error(name().into()))?;
    let (store, id) = (job.parts.store.clone(), id.to_owned());
    crate::blocking(move || read(&store, reader, &id, &listener)).await
}

fn read(
    store: &Store,
    mut reader: Box<dyn Read + Send>,
    id: &str,
    listener: &Listener,
) -> Result<Digest, EngineError> {
    let failed = |source| SourceError::Sent { name: id.to_owned(), source };
    let mut writer = store.blob_writer()?;
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut told = 0;
    loop {
        let length = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error).into()),
        };
        writer.write_all(buffer.get(..length).unwrap_or_default()).map_err(failed)?;
        let bytes = writer.size_bytes();
        if bytes - told >= CHUNK_BYTES as u64 {
            told = bytes;
            listener.tell(Progress { doing: "receiving".into(), bytes, total_bytes: None, files: None });
        }
    }
    Ok(writer.commit(None)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_is_the_client() {
        assert_eq!(id_of("http://buildkit-session/context"), Some("context"));
        assert_eq!(id_of("https://buildkit-session/a/b"), Some("a/b"));
        for url in
            ["http://buildkit-session", "http://buildkit-session.example/x", "http://me@buildkit-session/x"]
        {
            assert_eq!(id_of(url), None, "{url}");
        }
    }
}
