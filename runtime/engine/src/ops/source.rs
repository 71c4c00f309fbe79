//! Sources: what a name in the graph stands for today, and its tree.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rb_exec::{KillSwitch, Rootless};
use rb_llb::{SourceOp, Vertex, attr, extension};
use rb_oci::{Digest, Hasher, Platform};
use rb_snapshot::{ContentKey, Editor};
use rb_solver::{Context, OpError};
use rb_sources::SourceError;
use rb_sources::host::{self, HostBase, HostContent};
use rb_sources::layout::{self, LayoutImage, Wanted};
use rb_sources::local::{self, LocalRequest, LocalTree};
use rb_sources::unpack::{self, Ownership};
use tokio::sync::OnceCell;

use super::{exec, unsupported};
use crate::error::EngineError;
use crate::job::JobContext;
use crate::parts::Parts;
use crate::value::{HostMounts, Tree, Value};

/// What a source was found to be; looked at once per job.
#[derive(Default)]
pub(crate) struct Pinned(OnceCell<Found>);

enum Found {
    Local(Arc<LocalTree>),
    Layout(Arc<LayoutImage>),
    Host(Tree),
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
            Found::Layout(image) => tagged("oci-layout", image.digest.as_bytes()),
            Found::Host(tree) => tagged("host", tree.key().as_bytes()),
        })
    }

    /// Makes the tree.
    pub(super) async fn make(
        &self,
        _cx: &Context,
        op: &SourceOp,
        job: &Arc<JobContext>,
    ) -> Result<Value, OpError> {
        match self.0.get() {
            Some(Found::Local(tree)) => Ok(Value::Local(Arc::clone(tree))),
            Some(Found::Host(tree)) => Ok(Value::Tree(tree.clone())),
            Some(Found::Layout(image)) => {
                let (image, job) = (Arc::clone(image), Arc::clone(job));
                crate::blocking(move || unpacked(&job.parts, &image).map(Value::Tree)).await
            }
            None => {
                let reason = format!("source `{}` is made before it is pinned", op.identifier);
                Err(crate::op_error(EngineError::Worker { reason }))
            }
        }
    }
}

/// Tells whether making the tree is work, beyond looking at the source. An image is unpacked; the client's folder is
/// read where it is wanted, and this machine is there.
pub(super) fn is_dear(op: &SourceOp) -> bool {
    let scheme = op.identifier.split_once("://").map_or("", |(scheme, _)| scheme);
    !matches!(scheme, "local" | extension::HOST_SCHEME)
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
        "local" => crate::blocking(move || look_local(&job, &name, &attrs)).await,
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
        "docker-image" => Err(crate::op_error(no_registry(&name))),
        other => Err(crate::op_error(unsupported(format!("a source `{other}://`"), None))),
    }
}

/// The error for images of registries, which come later.
pub(crate) fn no_registry(name: &str) -> EngineError {
    let help = "use `FROM scratch`, `FROM @host`, or an image on disk: `FROM oci-layout:./folder:tag`";
    unsupported(format!("pulling `{name}` from a registry"), Some(help))
}

fn look_local(job: &JobContext, name: &str, attrs: &BTreeMap<String, String>) -> Result<Found, EngineError> {
    let lent = job.session.local(name).ok_or_else(|| SourceError::NotLent { name: name.to_owned() })?;
    let mut include = patterns(attrs, attr::LOCAL_INCLUDE_PATTERNS)?;
    if !include.is_empty() {
        include.extend(rb_sources::follow(&lent.path, &patterns(attrs, attr::LOCAL_FOLLOW_PATHS)?)?);
    }
    let mut exclude = patterns(attrs, attr::LOCAL_EXCLUDE_PATTERNS)?;
    let asked = |path: &String| include.contains(path);
    let hidden = lent.hidden.iter().filter(|hidden| !(hidden.by_name && asked(&hidden.path)));
    exclude.extend(hidden.filter_map(|hidden| rb_sources::literal(Path::new(&hidden.path))));
    let request = LocalRequest { folder: lent.path, include, exclude, normalise_modes: lent.normalise_modes };
    Ok(Found::Local(Arc::new(local::scan(&job.parts.store, &request)?)))
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
    Ok(Found::Layout(Arc::new(layout::find(&folder, &wanted, platform)?)))
}

/// Unpacks an image, or finds it unpacked. Its content key is its chain id: nothing is hashed again.
pub(crate) fn unpacked(parts: &Parts, image: &LayoutImage) -> Result<Tree, EngineError> {
    let ownership = match parts.privileges.mode {
        Rootless::SingleId => Ownership::RootOnly,
        Rootless::Root | Rootless::SubIds { .. } => Ownership::Kept,
    };
    let (snapshot, content) = unpack::image(&parts.snapshots, image, ownership)?;
    Ok(Tree { snapshot, content, host: None })
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
    for command in &fingerprints {
        let said = Digest::of(exec::output_of(&job.parts, &tree, command, kill)?);
        hasher.update(Digest::of(command).as_bytes());
        hasher.update(said.as_bytes());
    }
    if let Some(host) = &mut tree.host {
        host.key = hasher.finish().0;
    }
    Ok(Found::Host(tree))
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
    let size_bytes = rb_snapshot::diff(&active)?.size_bytes;
    Ok((parts.snapshots.commit_as(active, size_bytes, content)?, content))
}
