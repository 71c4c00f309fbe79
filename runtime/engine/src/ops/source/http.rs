//! Files of the web as sources.
//!
//! In: an `http://` or `https://` source. Out: the digest of what its URL stands for now, and a tree of that one file.
//! What came is kept among the blobs, with what its server tells it from other versions by: as long as it is the same,
//! only that is asked. With a checksum nobody is asked for what is here. What was cut off is gone on with, by this
//! process or another.
//! **Invariant:** neither the URL nor what was shown to its host is in a key, a record's value or an error.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rb_api::{Course, PullPolicy};
use rb_llb::{SourceOp, attr};
use rb_oci::Digest;
use rb_registry::{Notice, RegistryError, Validators, WebAnswer, WebFile, WebRequest};
use rb_solver::{Context, OpError, Progress};
use rb_sources::signature::{Moment, Signed};
use rb_sources::web::{FileRequest, host_of};
use rb_sources::{SingleFile, SourceError};
use serde::{Deserialize, Serialize};

use super::{unsupported, upload};
use crate::error::EngineError;
use crate::fetch::{self, Listener, Waits};
use crate::images::content::Part;
use crate::job::JobContext;
use crate::parts::Parts;

/// No file of the web is larger.
const LARGEST_BYTES: u64 = 1 << 40;
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// A file of the web, and how it is asked for.
pub(super) struct WebSource {
    pub(super) file: SingleFile,
    request: WebRequest,
    checksum: Option<Digest>,
}

/// What a URL stood for when its host was last asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Known {
    digest: Digest,
    validators: Validators,
    disposition: Option<String>,
}

/// Finds what a URL stands for.
pub(super) async fn look(cx: &Context, job: &Arc<JobContext>, op: &SourceOp) -> Result<WebSource, OpError> {
    let url = &op.identifier;
    let unknown = |name: &&String| {
        name.starts_with(attr::HTTP_SIGNATURE_PREFIX)
            && ![attr::HTTP_SIGNATURE_KEYS, attr::HTTP_SIGNATURE].contains(&name.as_str())
    };
    if let Some(name) = op.attrs.keys().find(unknown) {
        return Err(crate::op_error(unsupported(format!("the attribute `{name}`"), None)));
    }
    let wanted = FileRequest::parse(&op.attrs).map_err(|error| crate::op_error(error.into()))?;
    let source = found(cx, job, url, &wanted).await?;
    if let Some(signed) = wanted.signed {
        verify(cx, job, &source, signed).await?;
    }
    Ok(source)
}

/// Verifies the signature of a file. Before it has a key, so that no stored result stands in for one that is not signed.
async fn verify(
    cx: &Context,
    job: &Arc<JobContext>,
    source: &WebSource,
    signed: Signed,
) -> Result<(), OpError> {
    let (store, file) = (job.parts.store.clone(), source.file.clone());
    let digest = file.digest;
    if job.course == Course::Look {
        let store = store.clone();
        // A look fetches nothing.
        if !crate::blocking(move || Ok(store.has_blob(&digest)?)).await? {
            return Err(OpError::withheld());
        }
    } else {
        bring(cx, job, source).await?;
    }
    crate::blocking(move || {
        let mut open = || -> std::io::Result<Box<dyn std::io::Read>> {
            Ok(Box::new(store.blob_reader(&digest).map_err(std::io::Error::other)?))
        };
        let now = u64::try_from(store.now_unix()).unwrap_or_default();
        let verified = signed.verify(&mut open, Moment { now, reject_expired: false });
        Ok(verified.map_err(|source| SourceError::Signature { name: file.name, source })?)
    })
    .await
}

/// Finds the file that a URL stands for, be it signed or not.
async fn found(
    cx: &Context,
    job: &Arc<JobContext>,
    url: &String,
    wanted: &FileRequest,
) -> Result<WebSource, OpError> {
    let authorization = wanted
        .authorization(url, &*job.session)
        .map_err(|id| crate::op_error(EngineError::NoSecret { id }))?;
    let headers = wanted.headers.clone();
    let request = WebRequest { url: url.clone(), authorization, headers, known: None };
    if let Some(id) = upload::id_of(url) {
        let receive = async {
            let digest = upload::receive(job, id, Listener::of(cx)).await?;
            Ok(Known { digest, validators: Validators::default(), disposition: None })
        };
        let known = job.asked.files.get(cx.cancelled(), url.clone(), receive).await?;
        if let Some(expected) = wanted.checksum.filter(|expected| *expected != known.digest) {
            let reason = format!("has the digest {}, and {expected} is wanted", known.digest);
            let what = "what the client sends".to_owned();
            return Err(crate::op_error(EngineError::Image { what, reason, help: None }));
        }
        return Ok(WebSource { file: wanted.file(url, None, known.digest, 0), request, checksum: None });
    }
    if let Some(digest) = wanted.checksum {
        return Ok(WebSource { file: wanted.file(url, None, digest, 0), request, checksum: Some(digest) });
    }
    let question = format!("{url}\n{:?}\n{:?}", wanted.header_secret, wanted.headers);
    let known = job
        .asked
        .files
        .get(cx.cancelled(), question.clone(), Box::pin(ask(cx, job, &request, &question)))
        .await?;
    let modified_ns = modified_ns(&known.validators);
    let file = wanted.file(url, known.disposition.as_deref(), known.digest, modified_ns);
    Ok(WebSource { file, request, checksum: None })
}

/// Brings the file into the store, unless it is there.
pub(super) async fn bring(
    cx: &Context,
    job: &Arc<JobContext>,
    source: &WebSource,
) -> Result<SingleFile, OpError> {
    let digest = source.file.digest;
    let has = async || {
        let store = job.parts.store.clone();
        crate::blocking(move || Ok(store.has_blob(&digest)?)).await
    };
    if has().await? {
        return Ok(source.file.clone());
    }
    if let Some(id) = upload::id_of(&source.request.url) {
        // It came, and is gone: nobody can send it again.
        return Err(crate::op_error(SourceError::NotSent { name: id.to_owned() }.into()));
    }
    let bring = async {
        let listener = Listener::of(cx);
        let fetching = Digest::of(format!("fetching {digest}"));
        let claimed = fetch::claim(&job.parts, fetching, &Waits::new(&listener)).await?;
        if has().await? {
            return Ok(source.file.clone());
        }
        let answer = job.parts.registry.watched(Arc::new(Came::new(listener))).web(&source.request).await;
        let WebAnswer::File(file) = answer.map_err(|error| failed(&source.request, error))? else {
            let reason = "a file was asked for and said not to have changed".to_owned();
            return Err(crate::op_error(EngineError::Worker { reason }));
        };
        let expected = source.checksum.or(Some(digest));
        let known = receive(&job.parts, &source.request, *file, expected).await?;
        drop(claimed);
        Ok(SingleFile { modified_ns: modified_ns(&known.validators), ..source.file.clone() })
    };
    tokio::select! {
        brought = bring => brought,
        () = cx.cancelled() => Err(OpError::cancelled()),
    }
}

/// Asks what a URL stands for; what changed comes along.
async fn ask(
    cx: &Context,
    job: &Arc<JobContext>,
    request: &WebRequest,
    question: &str,
) -> Result<Known, OpError> {
    let parts = &job.parts;
    let note = Digest::of(format!("what the file {question} stands for"));
    // Who asks the same at once takes over what comes.
    let claimed = fetch::claim(parts, note, &Waits::new(&Listener::of(cx))).await?;
    let known = {
        let store = parts.store.clone();
        crate::blocking(move || {
            let record = store.record(&note)?;
            let known: Option<Known> = record.and_then(|record| serde_json::from_slice(&record.value).ok());
            let Some(known) = known else { return Ok(None) };
            Ok(store.has_blob(&known.digest)?.then_some(known))
        })
        .await?
    };
    match (job.images.pull, known.clone()) {
        (PullPolicy::Missing | PullPolicy::Never, Some(known)) => return Ok(known),
        (PullPolicy::Never, None) => {
            let reason = "is not here, and --pull=never asks nobody for it".to_owned();
            return Err(crate::op_error(EngineError::Image {
                what: shown(&request.url),
                reason,
                help: None,
            }));
        }
        _ => {}
    }
    let validators = known.as_ref().map(|known| known.validators.clone()).filter(Validators::is_any);
    let request = WebRequest { known: validators, ..request.clone() };
    let registry = parts.registry.watched(Arc::new(Came::new(Listener::of(cx))));
    let answer = registry.web(&request).await.map_err(|error| failed(&request, error))?;
    let file = match (answer, known) {
        (WebAnswer::Unchanged, Some(known)) => return Ok(known),
        (WebAnswer::Unchanged, None) => {
            let reason = "a file that nobody knew was said not to have changed".to_owned();
            return Err(crate::op_error(EngineError::Worker { reason }));
        }
        // A look fetches nothing.
        (WebAnswer::File(_), _) if job.course == Course::Look => return Err(OpError::withheld()),
        (WebAnswer::File(file), _) => file,
    };
    let known = receive(parts, &request, *file, None).await?;
    let value = serde_json::to_vec(&known).expect("plain data serialises");
    let store = parts.store.clone();
    crate::blocking(move || Ok(store.put_record(&note, &value, &[])?)).await?;
    drop(claimed);
    Ok(known)
}

/// Reads a file into the store.
async fn receive(
    parts: &Arc<Parts>,
    request: &WebRequest,
    file: WebFile,
    expected: Option<Digest>,
) -> Result<Known, OpError> {
    let head = file.head().clone();
    // What is begun of this version is gone on with; nothing else begins under the same name.
    let version = || Digest::of(format!("the file {} as {:?}", request.url, head.validators));
    let begun = expected.unwrap_or_else(version);
    let sink = {
        let store = parts.store.clone();
        crate::blocking(move || Ok(Part(store.partial_blob(&begun, LARGEST_BYTES)?))).await?
    };
    let read = file.read(sink, LARGEST_BYTES, expected).await;
    let (sink, digest, _) = read.map_err(|error| failed(request, error))?;
    crate::blocking(move || Ok(sink.0.commit_as(&digest)?)).await?;
    Ok(Known { digest, validators: head.validators, disposition: head.disposition })
}

fn modified_ns(validators: &Validators) -> i64 {
    validators.modified_unix().unwrap_or(0).saturating_mul(1_000_000_000)
}

fn failed(request: &WebRequest, source: RegistryError) -> OpError {
    let host = host_of(&request.url).unwrap_or_default().to_owned();
    crate::op_error(EngineError::Web { host, source })
}

/// Shows a URL without what may be secret in it.
pub(crate) fn shown(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = plain.split_once("://") else { return plain.to_owned() };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}/{path}")
}

/// Tells how much of a file came.
struct Came {
    listener: Listener,
    told: Mutex<Option<Instant>>,
}

impl Came {
    fn new(listener: Listener) -> Self {
        Self { listener, told: Mutex::default() }
    }
}

impl rb_registry::Watch for Came {
    fn transferred(&self, _: &Digest, done: u64, total: u64) {
        let now = Instant::now();
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if done != total && told.is_some_and(|told| now - told < TELL_EVERY) {
                return;
            }
            *told = Some(now);
        }
        let total_bytes = (total > 0).then_some(total);
        self.listener.tell(Progress { doing: "downloading".into(), bytes: done, total_bytes, files: None });
    }

    fn notice(&self, notice: &Notice) {
        self.listener.say(&notice.to_string());
    }
}
