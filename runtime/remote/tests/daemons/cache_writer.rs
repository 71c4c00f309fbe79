//! Daemons that write a cache into a folder of ours: what is not whole gets no name, and nothing stays of what was on its way.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rb_api::{
    CacheExport, CacheExtent, CachePlace, CacheTarget, CacheWritten, Engine as _, Root, SolveError,
    SolveRequest,
};
use rb_diag::ErrorKind;
use rb_oci::Digest;
use rb_session::LocalSession;
use rb_wire::content::content_client::ContentClient;
use rb_wire::content::{WriteAction, WriteContentRequest};
use serde_json::{Value, json};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::liar::{Daemon, Lie, definition, serve};
use crate::support::{Told, engine, options};

/// What is wrong with a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CacheLie {
    /// Nothing.
    None,
    /// It says that it is of layers, as older daemons do.
    Index,
    /// Two write the same at once.
    Twice,
    /// A blob is not ended.
    Halfway,
    /// A blob has another digest than it is called by.
    OtherBytes,
    /// More comes of a blob than was announced.
    More,
    /// It comes from far behind.
    FarBehind,
    /// A layer is announced that no disk has room for.
    Endless,
    /// A layer is not written at all.
    Missing,
    /// The manifest is longer than is told.
    Longer,
    /// So are layers, together beyond measure.
    BeyondMeasure,
    /// What is told is no manifest.
    Nonsense,
    /// It is written to another folder of this machine.
    Elsewhere,
}

/// How long a layer is that is beyond measure: two of them are more than a number may be.
const HALF: u64 = u64::MAX / 2 + 1;

fn described(bytes: &[u8], size: u64) -> Value {
    let digest = Digest::of(bytes).to_string();
    json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size })
}

/// A blob in three messages.
fn messages(bytes: &'static [u8]) -> Vec<WriteContentRequest> {
    messages_of(bytes.to_vec())
}

fn messages_of(bytes: Vec<u8>) -> Vec<WriteContentRequest> {
    let total = i64::try_from(bytes.len()).expect("is short");
    let message = |action: WriteAction, offset| WriteContentRequest {
        action: action.into(),
        r#ref: "a/../b".into(),
        total,
        expected: Digest::of(&bytes).to_string(),
        offset,
        ..WriteContentRequest::default()
    };
    let data = WriteContentRequest { data: bytes.clone().into(), ..message(WriteAction::Write, 0) };
    vec![message(WriteAction::Stat, 0), data, message(WriteAction::Commit, total)]
}

async fn write(channel: &Channel, store: &str, requests: Vec<WriteContentRequest>) -> Result<(), Status> {
    let mut request = Request::new(tokio_stream::iter(requests));
    let store = store.parse().map_err(|_| Status::internal("no header"))?;
    request.metadata_mut().insert("buildkit-attachable-store-id", store);
    let mut answers = ContentClient::new(channel.clone()).write(request).await?.into_inner();
    while answers.message().await?.is_some() {}
    Ok(())
}

impl Daemon {
    /// Writes a cache of two layers; returns what is told of it. What the client says to each layer is noted.
    pub(crate) async fn write_cache(
        &self,
        lie: CacheLie,
        dest: &str,
    ) -> Result<BTreeMap<String, String>, Status> {
        let channel = self.client().await?;
        let store = match lie {
            CacheLie::Elsewhere => "local:to-1/../../x".to_owned(),
            _ => format!("local:{dest}"),
        };
        let mut first = messages(b"layer");
        match lie {
            CacheLie::Halfway => drop(first.pop()),
            CacheLie::OtherBytes => first[1].data = "LAYER".into(),
            CacheLie::More => first[1].data = "layer of more".into(),
            CacheLie::FarBehind => first[1].offset = i64::MAX,
            CacheLie::Endless => first.iter_mut().for_each(|message| message.total = i64::MAX),
            _ => {}
        }
        let said = match lie {
            CacheLie::Missing => None,
            CacheLie::Twice => {
                let (one, other) = tokio::join!(
                    write(&channel, &store, first.clone()),
                    write(&channel, &store, first.clone())
                );
                // Who comes second may hear that it is there.
                Some(one.and(match other {
                    Err(status) if status.code() == Code::AlreadyExists => Ok(()),
                    other => other,
                }))
            }
            _ => Some(write(&channel, &store, first).await),
        };
        self.note(said.map_or(Code::Ok, |said| said.err().map_or(Code::Ok, |status| status.code())));
        let sizes = if lie == CacheLie::BeyondMeasure { [HALF; 2] } else { [5, 5] };
        let layers = [described(b"layer", sizes[0]), described(b"other", sizes[1])];
        let list = if lie == CacheLie::Index { "manifests" } else { "layers" };
        let manifest = json!({ "schemaVersion": 2, list: layers, "config": described(b"{}", 2) });
        let manifest = manifest.to_string().into_bytes();
        for requests in [messages(b"other"), messages(b"{}"), messages_of(manifest.clone())] {
            drop(write(&channel, &store, requests).await);
        }
        let size = manifest.len() as u64 + u64::from(lie == CacheLie::Longer);
        let told = match lie {
            CacheLie::Nonsense => "{}".to_owned(),
            _ => described(&manifest, size).to_string(),
        };
        Ok([("cache.manifest".to_owned(), told)].into())
    }
}

/// Has a daemon write a cache; says what it heard, too.
async fn tried(lie: CacheLie, folder: &Path) -> (Result<CacheWritten, SolveError>, Option<Code>) {
    let (socket, scratch, cache) = (folder.join("s"), folder.join("scratch"), folder.join("cache"));
    let daemon = serve(Lie::Cache(lie), &socket);
    let job =
        engine(&socket, &scratch).job(options(Arc::new(LocalSession::default())), Told::default().sink());
    let place = CachePlace::Folder { path: cache.clone(), tag: "latest".into(), digest: None };
    let wanted = CacheExport {
        roots: vec![0],
        target: CacheTarget::Place(place),
        extent: CacheExtent::Max,
        compression: None,
        force_compression: false,
        ignore_error: false,
        reset: false,
    };
    let root = Root { label: "+a".into(), definition: definition() };
    let request = SolveRequest { roots: vec![root], cache_to: vec![wanted], ..SolveRequest::default() };
    let solved = tokio::time::timeout(Duration::from_secs(30), job.solve(request)).await;
    let written = solved.expect("nothing waits for ever").map(|mut solved| solved.caches.remove(0));
    drop(job);
    // What came is gone with the job, whoever still wanted to write.
    let left = || std::fs::read_dir(&scratch).expect("is there").count();
    for _ in 0..200 {
        if left() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(left(), 0, "{lie:?}");
    for blob in std::fs::read_dir(cache.join("blobs/sha256")).into_iter().flatten().flatten() {
        let content = std::fs::read(blob.path()).expect("is a file");
        assert_eq!(Digest::of(content).hex(), blob.file_name().to_string_lossy(), "{lie:?}");
    }
    assert!(!folder.join("x").exists());
    (written, daemon.noted())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_is_whole_gets_its_name() {
    for lie in [CacheLie::None, CacheLie::Index, CacheLie::Twice] {
        let folder = tempfile::tempdir().expect("a folder");
        let (written, heard) = tried(lie, folder.path()).await;
        let digest = written.expect("is written").digest.expect("is told");
        assert_eq!(heard, Some(Code::Ok), "{lie:?}");
        let index = std::fs::read_to_string(folder.path().join("cache/index.json")).expect("is there");
        assert!(index.contains(&digest.to_string()), "{index}");
        let kept = std::fs::read_dir(folder.path().join("cache/blobs/sha256")).expect("lists").count();
        assert_eq!(kept, 4, "{lie:?}: two layers, a config and the manifest");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_is_not_gets_none() {
    for (lie, code, words) in [
        (CacheLie::Halfway, Code::Ok, "cannot read"),
        (CacheLie::OtherBytes, Code::FailedPrecondition, "cannot read"),
        (CacheLie::More, Code::OutOfRange, "cannot read"),
        (CacheLie::FarBehind, Code::OutOfRange, "cannot read"),
        (CacheLie::Endless, Code::ResourceExhausted, "cannot read"),
        (CacheLie::Missing, Code::Ok, "cannot read"),
        (CacheLie::Longer, Code::Ok, "were told"),
        (CacheLie::BeyondMeasure, Code::Ok, "were told"),
        (CacheLie::Nonsense, Code::Ok, "`cache.manifest`"),
        (CacheLie::Elsewhere, Code::PermissionDenied, "cannot read"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let (written, heard) = tried(lie, folder.path()).await;
        let error = written.expect_err("a lie is an error");
        assert_eq!(error.kind(), Some(ErrorKind::Environment), "{lie:?}: {error}");
        assert!(rb_diag::chain(&error).contains(words), "{lie:?}: {}", rb_diag::chain(&error));
        assert_eq!(heard, Some(code), "{lie:?}");
        assert!(!folder.path().join("cache/index.json").exists(), "{lie:?}: it has no name");
    }
}
