//! Sources: what a name in the graph stands for today, and its tree.

mod asked;
mod blob;
mod git;
pub(crate) mod http;
mod listed;
pub(crate) mod repository;
mod upload;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rb_api::{Course, FileEntry, FileKind, FileList, KeyPart, PartKind, PullPolicy};
use rb_exec::KillSwitch;
use rb_llb::{SourceOp, Vertex, attr, extension};
use rb_oci::{Digest, Hasher, Platform, Reference};
use rb_snapshot::{Active, ContentKey, Editor, Tally};
use rb_solver::{Context, OpError};
use rb_sources::host::{self, HostBase, HostContent};
use rb_sources::layout::{self, Wanted};
use rb_sources::local::{self, LocalEntry, LocalRequest, LocalTree};
use rb_sources::{SingleFile, SourceError};
use tokio::sync::OnceCell;

use super::{fingerprint, mounts, parts, unsupported};
use crate::error::EngineError;
use crate::fetch::{self, Listener};
use crate::job::JobContext;
use crate::names::NamedImage;
use crate::parts::Parts;
use crate::pinned::{PinnedImage, ownership};
use crate::progress::{self, Gauge};
use crate::value::{HostMounts, Product, Tree, Value};

pub(crate) use asked::Asked;

/// What a source was found to be; looked at once per job.
#[derive(Default)]
pub(crate) struct Pinned(OnceCell<Found>);

enum Found {
    Local(Arc<LocalTree>),
    Image(Arc<PinnedImage>, ContentKey),
    Host(Tree, Vec<KeyPart>),
    /// What a command left that failed, and a layer upon it, as long as which it stays.
    Left {
        tree: Tree,
        _upon: Active,
    },
    /// A folder of which names are wanted, and of some files the content.
    Listed(listed::ListedFolder),
    Web(http::WebSource),
    Blob(blob::BlobSource),
    Git(Box<git::GitSource>),
}

impl Pinned {
    /// Looks at the source and returns the digest that stands for it.
    pub(super) async fn pin(
        &self,
        cx: &Context,
        op: &SourceOp,
        vertex: &Vertex,
        job: &Arc<JobContext>,
    ) -> Result<Digest, OpError> {
        let found = self.0.get_or_try_init(|| look(cx, op, vertex, job)).await?;
        Ok(match found {
            Found::Local(tree) => tagged("local", tree.content.as_bytes()),
            Found::Listed(folder) => tagged("listed", folder.key().as_bytes()),
            Found::Image(_, content) => tagged("image", content.as_bytes()),
            Found::Host(tree, _) => tagged("host", tree.key().as_bytes()),
            Found::Left { tree, .. } => tagged("left", tree.key().as_bytes()),
            // One and the same file, wherever it comes from.
            Found::Web(source) => tagged("file", source.file.key().as_bytes()),
            Found::Blob(source) => tagged("file", source.file.key().as_bytes()),
            Found::Git(source) => tagged("git", source.key().as_bytes()),
        })
    }

    /// Returns what the digest is made of, what explains it and enters no key, and the files of a folder. Nothing of what was not
    /// looked at yet.
    pub(super) fn parts(&self, op: &SourceOp) -> (Vec<KeyPart>, Vec<KeyPart>, Option<FileList>) {
        let one = |kind, name: &str, value: String| vec![KeyPart::new(kind, name, value)];
        match self.0.get() {
            Some(Found::Local(tree)) => {
                let digest = tree.content.to_digest();
                let list = FileList::new(digest, {
                    let tree = Arc::clone(tree);
                    move || entries(&tree)
                });
                let name = one(PartKind::Directory, "", op.scheme().1.to_owned());
                let about = [name, parts::patterns(&op.attrs)].concat();
                (one(PartKind::Files, "", digest.to_string()), about, Some(list))
            }
            Some(Found::Listed(folder)) => {
                let name = one(PartKind::Directory, "", op.scheme().1.to_owned());
                (folder.parts(), [name, parts::patterns(&op.attrs)].concat(), None)
            }
            Some(Found::Image(image, content)) => {
                let name = op.scheme().1.split('@').next().unwrap_or_default();
                let about = one(PartKind::Image, name, image.digest.to_string());
                (one(PartKind::Layers, "", content.to_digest().to_string()), about, None)
            }
            Some(Found::Host(_, own)) => {
                let (binds, _) = extension::host_attributes(&op.attrs);
                let about = binds.into_iter().map(|bind| KeyPart::new(PartKind::Mount, bind, "shown"));
                (own.clone(), about.collect(), None)
            }
            Some(Found::Web(source)) => (file(&source.file), Vec::new(), None),
            Some(Found::Blob(source)) => (file(&source.file), Vec::new(), None),
            Some(Found::Git(source)) => (source.parts(), Vec::new(), None),
            // What works on it is done after a failure alone: records tell it by this.
            Some(Found::Left { .. }) => {
                let (scheme, vertex) = op.scheme();
                (Vec::new(), one(PartKind::Definition, scheme, vertex.to_owned()), None)
            }
            None => (Vec::new(), Vec::new(), None),
        }
    }

    /// Returns the tree; of an image that is not unpacked, what it takes to fetch it.
    pub(super) async fn make(
        &self,
        cx: &Context,
        op: &SourceOp,
        vertex: &Digest,
        job: &Arc<JobContext>,
    ) -> Result<Product, OpError> {
        match self.0.get() {
            // A look fetches nothing but what the frontend reads.
            Some(Found::Git(source)) if job.course == Course::Look && !job.asked.is_read(source.commit()) => {
                Err(OpError::withheld())
            }
            Some(Found::Web(_) | Found::Blob(_)) if job.course == Course::Look => Err(OpError::withheld()),
            Some(Found::Web(source)) => single(job, http::bring(cx, job, source).await?).await,
            Some(Found::Blob(source)) => {
                blob::bring(cx, job, source).await?;
                single(job, source.file.clone()).await
            }
            Some(Found::Git(source)) => Ok(Product::Here(Value::Tree(git::make(cx, job, source).await?))),
            Some(Found::Local(tree)) => Ok(Product::Here(Value::Local(Arc::clone(tree)))),
            Some(Found::Listed(folder)) => {
                let (job, folder) = (Arc::clone(job), folder.clone());
                let tree = crate::blocking(move || folder.write(&job.parts)).await?;
                Ok(Product::Here(Value::Tree(tree)))
            }
            Some(Found::Host(tree, _) | Found::Left { tree, .. }) => {
                Ok(Product::Here(Value::Tree(tree.clone())))
            }
            Some(Found::Image(image, content)) => {
                let (parts, pinned) = (Arc::clone(&job.parts), Arc::clone(image));
                let tree = crate::blocking(move || fetch::unpacked(&parts, &pinned)).await?;
                if tree.is_none() && job.course == Course::Look {
                    job.note_packed(*vertex, Arc::clone(image));
                }
                let fetched_later = || Product::Image(Arc::clone(image), *content);
                Ok(tree.map_or_else(fetched_later, |tree| Product::Here(Value::Tree(tree))))
            }
            None => {
                let reason = format!("source `{}` is made before it is pinned", op.identifier);
                Err(crate::op_error(EngineError::Worker { reason }))
            }
        }
    }
}

/// Makes the tree of one file, whose blob is in the store.
async fn single(job: &Arc<JobContext>, file: SingleFile) -> Result<Product, OpError> {
    let job = Arc::clone(job);
    let tree = crate::blocking(move || {
        let parts = &job.parts;
        let active = parts.snapshots.prepare(None)?;
        file.write(&parts.store, &Editor::new(&active)?, ownership(parts))?;
        let diff = rb_snapshot::diff(&active)?;
        let (snapshot, content) =
            mounts::commit_with_manifest(parts, active, &diff, ContentKey::empty(), true)?;
        Ok(Tree { snapshot: Some(snapshot), content, host: None })
    });
    Ok(Product::Here(Value::Tree(tree.await?)))
}

/// Returns the entries of a folder as they enter its key.
fn entries(tree: &LocalTree) -> Vec<FileEntry> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let entry = |(path, entry): (&PathBuf, &LocalEntry)| FileEntry {
        path: text(path),
        kind: match entry {
            LocalEntry::Directory { mode } => FileKind::Directory { mode: *mode },
            LocalEntry::File { mode, size_bytes, digest } => {
                FileKind::File { mode: *mode, size_bytes: *size_bytes, digest: *digest }
            }
            LocalEntry::Symlink { target } => FileKind::Symlink { target: text(target) },
        },
    };
    tree.entries.iter().map(entry).collect()
}

/// Returns the parts of one file; where it comes from is in no key, and its address may hold what nobody is to see.
fn file(file: &SingleFile) -> Vec<KeyPart> {
    let SingleFile { name, mode, owner: (user, group), modified_ns: _, digest } = file;
    vec![
        KeyPart::new(PartKind::Download, name, digest.to_string()),
        KeyPart::new(PartKind::Setting, "mode and owner", format!("{mode:04o} {user}:{group}")),
    ]
}

fn tagged(kind: &str, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(kind.as_bytes());
    hasher.update(&[0]);
    hasher.update(bytes);
    hasher.finish().0
}

async fn look(cx: &Context, op: &SourceOp, vertex: &Vertex, job: &Arc<JobContext>) -> Result<Found, OpError> {
    let (scheme, name) = op.identifier.split_once("://").unwrap_or((op.identifier.as_str(), ""));
    let (name, attrs, job) = (name.to_owned(), op.attrs.clone(), Arc::clone(job));
    let platform = vertex.platform.as_ref().map_or_else(Platform::host, Platform::from);
    match scheme {
        "local" => {
            let gauge = Gauge::new("reading");
            let tally = gauge.tally();
            let work = crate::blocking(move || look_local(&job, &name, &attrs, &tally));
            progress::told(&Listener::of(cx), &gauge, || true, work).await
        }
        "oci-layout" => crate::blocking(move || look_layout(&job, &name, &attrs, &platform)).await,
        extension::HOST_SCHEME => {
            let kill = KillSwitch::new();
            let work = {
                let kill = kill.clone();
                crate::blocking(move || look_host(&job, &attrs, &kill))
            };
            tokio::pin!(work);
            tokio::select! {
                done = &mut work => done,
                () = cx.cancelled() => {
                    kill.kill();
                    work.await
                }
            }
        }
        extension::LEFT_SCHEME => crate::blocking(move || look_left(&job, &name)).await,
        "docker-image" => look_image(cx, &job, &name, &attrs, &platform).await,
        "http" | "https" => http::look(cx, &job, op).await.map(Found::Web),
        "docker-image+blob" | "oci-layout+blob" => {
            blob::look(&job, op).map(Found::Blob).map_err(crate::op_error)
        }
        "git" => git::look(cx, &job, op).await.map(|source| Found::Git(Box::new(source))),
        other => Err(crate::op_error(unsupported(format!("a source `{other}://`"), None))),
    }
}

/// Finds the image of a name.
async fn look_image(
    cx: &Context,
    job: &JobContext,
    name: &str,
    attrs: &BTreeMap<String, String>,
    platform: &Platform,
) -> Result<Found, OpError> {
    let reference: Reference =
        name.parse().map_err(|error| crate::op_error(EngineError::Reference(error)))?;
    let pull = match (attrs.get(attr::IMAGE_RESOLVE_MODE).map(String::as_str), job.images.pull) {
        (Some("pull"), PullPolicy::Newest | PullPolicy::Missing) => PullPolicy::Always,
        (Some("local"), PullPolicy::Newest) => PullPolicy::Missing,
        (_, pull) => pull,
    };
    let listener = Listener::of(cx);
    let NamedImage { root, image } = tokio::select! {
        found = job.images.find(&job.parts, &reference, platform, pull, &listener) => found?,
        () = cx.cancelled() => return Err(OpError::cancelled()),
    };
    if let Some(wanted) = attrs.get(attr::IMAGE_CHECKSUM).filter(|wanted| **wanted != root.to_string()) {
        let reason = format!("has the digest {root}, and {wanted} is wanted");
        return Err(crate::op_error(EngineError::Image { what: reference.familiar(), reason, help: None }));
    }
    let image = (*image).clone();
    limited(job, image, attrs, attr::IMAGE_LAYER_LIMIT).map_err(crate::op_error)
}

/// Takes as many layers as the definition says.
fn limited(
    job: &JobContext,
    image: PinnedImage,
    attrs: &BTreeMap<String, String>,
    name: &str,
) -> Result<Found, EngineError> {
    let image = match attrs.get(name) {
        None => image,
        Some(text) => {
            let wrong = |error: std::num::ParseIntError| SourceError::Attribute {
                name: name.to_owned(),
                reason: error.to_string(),
            };
            image.limited(text.parse().map_err(wrong)?)
        }
    };
    let content = image.content(&job.parts);
    Ok(Found::Image(Arc::new(image), content))
}

fn look_local(
    job: &JobContext,
    name: &str,
    attrs: &BTreeMap<String, String>,
    tally: &Tally,
) -> Result<Found, EngineError> {
    let lent = job.session.local(name).ok_or_else(|| SourceError::NotLent { name: name.to_owned() })?;
    let mut include = patterns(attrs, attr::LOCAL_INCLUDE_PATTERNS)?;
    let followed = patterns(attrs, attr::LOCAL_FOLLOW_PATHS)?;
    if !followed.is_empty() {
        match rb_sources::follow(&lent.path, &followed)? {
            Some(found) => include.extend(found),
            // One of them leads to the folder itself.
            None => include.clear(),
        }
    }
    let mut exclude = patterns(attrs, attr::LOCAL_EXCLUDE_PATTERNS)?;
    let asked = |path: &String| include.contains(path);
    let hidden = lent.hidden.iter().filter(|hidden| !(hidden.by_name && asked(&hidden.path)));
    exclude.extend(hidden.filter_map(|hidden| rb_sources::literal(Path::new(&hidden.path))));
    let request = LocalRequest { folder: lent.path, include, exclude, normalise_modes: lent.normalise_modes };
    if listed::is_wanted(attrs)? {
        let content = patterns(attrs, attr::LOCAL_METADATA_TRANSFER_EXCLUDE)?;
        let (tree, named) = local::scan_named(&job.parts.store, &request, &content, tally)?;
        return Ok(Found::Listed(listed::ListedFolder::new(tree, named)?));
    }
    Ok(Found::Local(Arc::new(local::scan(&job.parts.store, &request, tally)?)))
}

fn patterns(attrs: &BTreeMap<String, String>, name: &str) -> Result<Vec<String>, EngineError> {
    let Some(text) = attrs.get(name) else { return Ok(Vec::new()) };
    serde_json::from_str(text)
        .map_err(|error| SourceError::Attribute { name: name.to_owned(), reason: error.to_string() }.into())
}

fn look_layout(
    job: &JobContext,
    name: &str,
    attrs: &BTreeMap<String, String>,
    platform: &Platform,
) -> Result<Found, EngineError> {
    let store = attrs.get(attr::OCI_STORE).map_or(name, String::as_str);
    let folder =
        job.session.oci_layout(store).ok_or_else(|| SourceError::NotLent { name: store.to_owned() })?;
    let wanted = match name.rsplit_once('@') {
        Some((_, digest)) => Wanted::Digest(digest.parse().map_err(|error| EngineError::Definition {
            reason: format!("source `oci-layout://{name}`: {error}"),
        })?),
        None => Wanted::Tag(name.rsplit_once(':').map(|(_, tag)| tag.to_owned())),
    };
    let image = PinnedImage::of_layout(layout::find(&folder, &wanted, platform)?);
    limited(job, image, attrs, attr::OCI_LAYER_LIMIT)
}

/// Finds what a command of this job left that failed.
fn look_left(job: &JobContext, name: &str) -> Result<Found, EngineError> {
    let tree = name.parse().ok().and_then(|vertex| job.left(&vertex)).ok_or_else(|| {
        let reason = format!("no command of this job left anything as `{name}`");
        EngineError::Definition { reason }
    })?;
    let upon = job.parts.snapshots.prepare(tree.snapshot)?;
    Ok(Found::Left { tree, _upon: upon })
}

/// Looks at this machine: its packages, what the statement binds, what its fingerprints say.
fn look_host(
    job: &JobContext,
    attrs: &BTreeMap<String, String>,
    kill: &KillSwitch,
) -> Result<Found, EngineError> {
    let (binds, fingerprints) = extension::host_attributes(attrs);
    let binds: Vec<PathBuf> = binds.into_iter().map(PathBuf::from).collect();
    let base = host::inspect("/".as_ref(), &binds, &job.allowed_binds, !fingerprints.is_empty())?;
    let (snapshot, content) = skeleton(&job.parts, &base)?;
    let host = HostMounts { key: base.digest, binds: base.binds };
    let mut tree = Tree { snapshot: Some(snapshot), content, host: Some(host) };
    let mut hasher = Hasher::default();
    hasher.update(base.digest.as_bytes());
    let mut own = vec![KeyPart::new(PartKind::Toolchain, "", base.digest.to_string())];
    for command in &fingerprints {
        let said = Digest::of(fingerprint::output_of(&job.parts, &tree, command, kill)?);
        hasher.update(Digest::of(command).as_bytes());
        hasher.update(said.as_bytes());
        own.push(KeyPart::new(PartKind::Fingerprint, command, said.to_string()));
    }
    if let Some(host) = &mut tree.host {
        host.key = hasher.finish().0;
    }
    Ok(Found::Host(tree, own))
}

/// Writes the small files of the base as a layer, or finds it written.
fn skeleton(parts: &Parts, base: &HostBase) -> Result<(rb_store::SnapshotId, ContentKey), EngineError> {
    let content = ContentKey::from_bytes(*tagged("host skeleton", base.digest.as_bytes()).as_bytes());
    if let Some(snapshot) = parts.store.snapshot_by_content(content.as_bytes())? {
        return Ok((snapshot, content));
    }
    let active = parts.snapshots.prepare(None)?;
    let editor = Editor::new(&active)?;
    for file in &base.files {
        let path = &file.path;
        if let Some(parent) = path.parent() {
            editor.mkdir(parent, 0o755, true, None, Some(0))?;
        }
        match &file.content {
            HostContent::Directory(mode) => {
                // As with `mkdir`, creating takes the nine permission bits; the sticky bit of /tmp is set after it.
                editor.mkdir(path, *mode, true, None, Some(0))?;
                editor.set_metadata(path, Some(*mode), None, Some(0))?;
            }
            HostContent::Symlink(target) => editor.symlink(target, path, None, Some(0))?,
            HostContent::File { executable, bytes } => {
                let mode = if *executable { 0o755 } else { 0o644 };
                editor.mkfile(path, mode, bytes, None, Some(0))?;
            }
        }
    }
    Ok((parts.snapshots.commit_as(active, content)?, content))
}
