//! What a frontend asks while it decides the graph: images and repositories are pinned, files of solved trees are read.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use rb_api::{EventSink, SolveError};
use rb_diag::chain;
use rb_frontend::{
    Answer, FileDetails, FileKind, GitFacts, ImageLocation, ImageRequest, Query, RepositoryRequest,
    ResolvedImage, WorkspaceEntry, WorldError,
};
use rb_oci::{Platform, Reference};
use rb_snapshot::{Entry, ExtendedAttributes, FileType, Follow, SnapshotError, View};
use rb_solver::OpError;
use rb_sources::layout::{self, Wanted};

use crate::error::EngineError;
use crate::fetch::ToldLate;
use crate::job::JobContext;
use crate::names::NamedImage;
use crate::solve::job_error;

/// Name of every image that comes from a layout; which one it is, its digest says.
const LAYOUT_NAME: &str = "rb/layout";

fn failed(error: &OpError) -> WorldError {
    let help = error.get_ref().downcast_ref::<EngineError>().and_then(EngineError::help);
    let message = help.into_iter().fold(chain(error), |message, help| format!("{message} ({help})"));
    WorldError::Failed { kind: error.kind(), message }
}

/// Pins an image and returns its config.
pub(crate) async fn resolve_image(
    job: &JobContext,
    request: &ImageRequest,
    events: &EventSink,
) -> Result<ResolvedImage, WorldError> {
    let (store, shown, wanted) = match &request.location {
        ImageLocation::Registry(name) => return resolve_name(job, name, &request.platform, events).await,
        ImageLocation::OciLayout { project, path, tag } => {
            let store = project.join(path).dir().to_owned();
            let store = if store.is_empty() { ".".to_owned() } else { store };
            (store, format!("the folder `{path}`"), Wanted::Tag(tag.clone()))
        }
        ImageLocation::OciStore { store, digest } => {
            (store.clone(), format!("the OCI layout `{store}`"), Wanted::Digest(*digest))
        }
    };
    let missing = || WorldError::NotFound { what: shown, help: None };
    let folder = job.session.oci_layout(&store).ok_or_else(missing)?;
    let platform = request.platform.clone();
    let found = crate::blocking(move || Ok(layout::find(&folder, &wanted, &platform)?)).await;
    let image = found.map_err(|error| failed(&error))?;
    Ok(ResolvedImage {
        identifier: format!("oci-layout://{LAYOUT_NAME}@{}", image.digest),
        attrs: [(rb_llb::attr::OCI_STORE.to_owned(), store)].into(),
        digest: image.digest,
        config: image.config,
    })
}

/// Pins an image that has a name. The definition holds the digest of what the name stands for, an index perhaps, as
/// BuildKit's client has it.
async fn resolve_name(
    job: &JobContext,
    name: &str,
    platform: &Platform,
    events: &EventSink,
) -> Result<ResolvedImage, WorldError> {
    let reference: Reference =
        name.parse().map_err(|error| failed(&crate::op_error(EngineError::Reference(error))))?;
    let told = ToldLate::new(events, format!("look up {}", reference.familiar()));
    let found = job.images.find(&job.parts, &reference, platform, job.images.pull, &told.listener()).await;
    told.end(found.is_ok());
    let NamedImage { root, image } = found.map_err(|error| failed(&error))?;
    Ok(ResolvedImage {
        identifier: format!("docker-image://{}", reference.pinned(root)),
        attrs: Default::default(),
        digest: root,
        config: image.config.clone(),
    })
}

/// Finds the commit that a repository stands for, and brings it here.
pub(crate) async fn resolve_repository(
    job: &Arc<JobContext>,
    request: &RepositoryRequest,
    events: &EventSink,
) -> Result<GitFacts, WorldError> {
    let told = ToldLate::new(events, format!("look up {}", request.shown));
    let listener = told.listener();
    let found = crate::ops::repository::resolve(job, request, &listener).await;
    if let Ok(facts) = &found {
        listener.say(&format!("{} is at commit {}", request.shown, facts.hash));
    }
    told.end(found.is_ok());
    found.map_err(|error| failed(&error))
}

/// Reads one thing out of a tree, or of a folder as it was looked at; `is_lent` says that it is a folder of the user's.
pub(crate) async fn answer(view: View, query: Query, is_lent: bool) -> Result<Answer, SolveError> {
    match query {
        Query::Exists { path } => {
            let found = crate::blocking(move || Ok(view.lookup(&path, Follow::Yes)?.is_some())).await;
            found.map(Answer::Exists).map_err(|error| job_error(&error))
        }
        Query::Stat { path } => {
            let found = crate::blocking(move || {
                let entry = view.lookup(&path, Follow::No)?;
                Ok(entry.and_then(|entry| named(entry.path.file_name().unwrap_or_default(), &entry)))
            });
            found.await.map(Answer::Stat).map_err(|error| job_error(&error))
        }
        Query::List { path } => {
            let wanted = path.clone();
            let list = crate::blocking(move || {
                let folder = view.lookup(&wanted, Follow::Yes)?;
                if !folder.is_some_and(|entry| entry.metadata.is_directory()) {
                    return Ok(None);
                }
                let entries = view.read_dir(&wanted)?;
                Ok(Some(entries.iter().filter_map(|(name, entry)| named(name, entry)).collect()))
            });
            match list.await.map_err(|error| job_error(&error))? {
                Some(entries) => Ok(Answer::List(entries)),
                None => Err(SolveError::NoSuchFile { path }),
            }
        }
        Query::Details { path, inside } => {
            let wanted = path.clone();
            let found = crate::blocking(move || details(&view, &wanted, inside, is_lent));
            match found.await.map_err(|error| job_error(&error))? {
                Some(found) => Ok(Answer::Details(found)),
                None => Err(SolveError::NoSuchFile { path }),
            }
        }
        Query::Newest { path } => {
            let newest = crate::blocking(move || newest(&view, path.as_ref())).await;
            newest.map(Answer::Moment).map_err(|error| job_error(&error))
        }
        Query::ReadFile { path, limit_bytes } => {
            let wanted = path.clone();
            let read = crate::blocking(move || read_file(&view, wanted.as_ref(), limit_bytes)).await;
            match read.map_err(|error| job_error(&error))? {
                Some(bytes) => Ok(Answer::File(bytes)),
                None => Err(SolveError::NoSuchFile { path }),
            }
        }
        Query::ReadStart { path, length_bytes } => {
            let wanted = path.clone();
            let read = crate::blocking(move || read_start(&view, wanted.as_ref(), length_bytes)).await;
            match read.map_err(|error| job_error(&error))? {
                Some(bytes) => Ok(Answer::File(bytes)),
                None => Err(SolveError::NoSuchFile { path }),
            }
        }
    }
}

/// Returns when the newest file of a tree was changed, in seconds since 1970. What has no time has that of 1970.
fn newest(view: &View, path: &Path) -> Result<Option<i64>, EngineError> {
    if view.lookup(path, Follow::Yes)?.is_none() {
        return Ok(None);
    }
    let mut newest = 0;
    for entry in view.walk(path)? {
        let Entry { metadata, .. } = entry?;
        if metadata.file_type == FileType::File {
            newest = newest.max(metadata.modified_ns.div_euclid(1_000_000_000));
        }
    }
    Ok(Some(newest).filter(|newest| *newest > 0))
}

/// Returns an entry as a frontend sees it; none if no text can name it.
fn named(name: &std::ffi::OsStr, entry: &Entry) -> Option<WorkspaceEntry> {
    let kind = match entry.metadata.file_type {
        FileType::Directory => FileKind::Directory,
        FileType::File => FileKind::File,
        FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Other,
    };
    Some(WorkspaceEntry { name: name.to_str()?.to_owned(), kind })
}

/// Returns all that is known of what stands at a path, or of what is in a folder; none if there is nothing, or no folder.
fn details(
    view: &View,
    path: &str,
    inside: bool,
    is_lent: bool,
) -> Result<Option<Vec<FileDetails>>, EngineError> {
    let Some(found) = view.lookup(path, Follow::Yes)? else { return Ok(None) };
    if !inside {
        let name = found.path.file_name().unwrap_or_default().to_owned();
        return Ok(Some(detail(view, &name, &found, is_lent)?.into_iter().collect()));
    }
    if !found.metadata.is_directory() {
        return Ok(None);
    }
    let mut all = Vec::new();
    for (name, entry) in view.read_dir(path)? {
        all.extend(detail(view, &name, &entry, is_lent)?);
    }
    Ok(Some(all))
}

fn detail(
    view: &View,
    name: &std::ffi::OsStr,
    entry: &Entry,
    is_lent: bool,
) -> Result<Option<FileDetails>, EngineError> {
    let Some(named) = named(name, entry) else { return Ok(None) };
    let metadata = entry.metadata;
    let link = match named.kind {
        FileKind::Symlink => Some(view.read_link(entry)?.to_string_lossy().into_owned()),
        FileKind::File | FileKind::Directory | FileKind::Other => None,
    };
    // Who is the owner of a user's file, and how it is labelled, is nobody's business in a build.
    let attributes = if is_lent { ExtendedAttributes::new() } else { view.xattrs(entry)? };
    let attributes =
        attributes.into_iter().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let (uid, gid) = if is_lent { (0, 0) } else { (metadata.uid, metadata.gid) };
    Ok(Some(FileDetails {
        entry: named,
        mode: metadata.mode,
        uid,
        gid,
        size_bytes: if metadata.is_directory() { 0 } else { metadata.size_bytes },
        modified_ns: metadata.modified_ns,
        link,
        attributes: attributes.collect(),
    }))
}

/// Returns the bytes of a file; none if there is nothing at `path`.
fn read_file(view: &View, path: &Path, limit_bytes: u64) -> Result<Option<Vec<u8>>, EngineError> {
    let bytes = read_start(view, path, limit_bytes.saturating_add(1))?;
    if bytes.as_ref().is_some_and(|bytes| bytes.len() as u64 > limit_bytes) {
        return Err(EngineError::TooLarge { path: path.to_owned(), limit_bytes });
    }
    Ok(bytes)
}

/// Returns the first bytes of a file; none if there is nothing at `path`.
fn read_start(view: &View, path: &Path, length_bytes: u64) -> Result<Option<Vec<u8>>, EngineError> {
    let Some(entry) = view.lookup(path, Follow::Yes)? else { return Ok(None) };
    let file = view.open(&entry)?;
    let mut bytes = Vec::new();
    let read = file.take(length_bytes).read_to_end(&mut bytes);
    read.map_err(|source| SnapshotError::Io { action: "read", path: entry.path.clone(), source })?;
    Ok(Some(bytes))
}
