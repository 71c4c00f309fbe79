//! Repositories of git as sources.
//!
//! In: a `git://` source. Out: the commit that it stands for now, and its files, or a bundle of it. A branch or tag is asked about
//! once a job; a commit is not asked about at all. A bundle that commits come from is a blob like others, and is fetched where it
//! is read. Git runs on the user's machine (`host`), in a thread, and ends when nobody wants it.
//! **Invariant:** tokens are in the environment of git alone; what a definition brings of known hosts and this machine
//! of authorities lies in files that go with the op.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rb_api::{Course, KeyPart, PartKind, PullPolicy};
use rb_exec::{ExecError, HostCommand, KillSwitch};
use rb_llb::SourceOp;
use rb_oci::Digest;
use rb_snapshot::{ContentKey, Editor};
use rb_solver::{Context, OpError, Progress};
use rb_sources::SourceError;
use rb_sources::git::{
    self, BundleFile, Call, Connection, GitError, GitRequest, Pinned, ProgramError, Programs, Stream, Told,
};
use rb_store::Store;
use serde::{Deserialize, Serialize};

use super::super::authorities::system_bundle;
use super::super::mounts;
use super::blob::{self, BlobSource};
use super::unsupported;
use crate::error::EngineError;
use crate::fetch::Listener;
use crate::host::HostPrograms;
use crate::job::JobContext;
use crate::network::variables;
use crate::parts::Parts;
use crate::pinned::ownership;
use crate::value::Tree;

/// What of a repository is wanted, and which commit that is.
pub(super) struct GitSource {
    request: GitRequest,
    pinned: Pinned,
    /// What the commits come from, if not from the repository's host.
    bundle: Option<BlobSource>,
}

impl GitSource {
    /// Returns what the tree is recognised by.
    pub(super) fn key(&self) -> Digest {
        self.request.key(&self.pinned)
    }

    /// Returns the commit.
    pub(super) fn commit(&self) -> &str {
        &self.pinned.commit
    }

    /// Returns what that is made of.
    pub(super) fn parts(&self) -> Vec<KeyPart> {
        let GitRequest { subdir, keep_git_dir, skip_submodules, as_bundle, .. } = &self.request;
        let mut parts = vec![KeyPart::new(PartKind::Repository, "commit", &self.pinned.commit)];
        let mut add = |name: &str, value: String| parts.push(KeyPart::new(PartKind::Repository, name, value));
        add("folder", subdir.display().to_string());
        add("submodules", (!skip_submodules).to_string());
        add(".git", keep_git_dir.to_string());
        if *as_bundle {
            add("bundle", as_bundle.to_string());
        }
        // With `.git` the address and the branch count too; an address may hold what nobody is to see.
        add("key", self.key().to_string());
        parts
    }
}

/// What a name stood for when its host was last asked.
#[derive(Serialize, Deserialize)]
struct Known {
    commit: String,
    reference: Option<String>,
}

/// Finds the commit that a source stands for.
pub(super) async fn look(cx: &Context, job: &Arc<JobContext>, op: &SourceOp) -> Result<GitSource, OpError> {
    let identifier = op.scheme().1;
    let request = GitRequest::parse(identifier, &op.attrs).map_err(|error| crate::op_error(error.into()))?;
    let bundle = request.bundle.as_ref().map(|name| blob::look(job, &name.source));
    let bundle = bundle.transpose().map_err(crate::op_error)?;
    let pinned = match &bundle {
        Some(bundle) => pin_in(cx, job, &request, bundle).await?,
        None => pin(Who::Vertex(cx), job, &request).await?,
    };
    if request.signed.is_some() {
        // A look fetches nothing.
        if job.course == Course::Look {
            return Err(OpError::withheld());
        }
        bring(cx, job, bundle.as_ref()).await?;
        // Before it has a key, so that no stored result stands in for one that is not signed.
        let (wanted, found) = (request.clone(), pinned.clone());
        with_git(Who::Vertex(cx), job, &request, move |job, connection| {
            let now = u64::try_from(job.parts.store.now_unix()).unwrap_or_default();
            Ok(git::verify(connection, &wanted, &found, now)?)
        })
        .await?;
    }
    Ok(GitSource { request, pinned, bundle })
}

/// Brings the bundle here that a repository is read from, if it is from one.
async fn bring(cx: &Context, job: &Arc<JobContext>, bundle: Option<&BlobSource>) -> Result<(), OpError> {
    match bundle {
        Some(bundle) => blob::bring(cx, job, bundle).await,
        None => Ok(()),
    }
}

/// Finds the commit that a request stands for in a bundle; nobody else is asked.
async fn pin_in(
    cx: &Context,
    job: &Arc<JobContext>,
    request: &GitRequest,
    bundle: &BlobSource,
) -> Result<Pinned, OpError> {
    let named = git::pinned(request).map_err(|error| crate::op_error(SourceError::Git(error).into()))?;
    if let Some(pinned) = named {
        return Ok(pinned);
    }
    let (store, digest) = (job.parts.store.clone(), bundle.file.digest);
    // A look fetches nothing.
    if job.course == Course::Look && !crate::blocking(move || Ok(store.has_blob(&digest)?)).await? {
        return Err(OpError::withheld());
    }
    bring(cx, job, Some(bundle)).await?;
    let asked = request.clone();
    with_git(Who::Vertex(cx), job, request, move |_, connection| {
        Ok(git::ask(connection, &asked).map_err(SourceError::Git)?)
    })
    .await
}

/// Finds the commit that a request stands for in this job.
pub(super) async fn pin(
    who: Who<'_>,
    job: &Arc<JobContext>,
    request: &GitRequest,
) -> Result<Pinned, OpError> {
    let named = git::pinned(request).map_err(|error| crate::op_error(SourceError::Git(error).into()))?;
    if let Some(pinned) = named {
        return Ok(pinned);
    }
    let GitRequest { remote, reference, checksum, header_secret, token_secret, .. } = request;
    let question = format!("{remote}#{reference}\n{checksum:?}\n{header_secret:?}\n{token_secret:?}");
    job.asked.commits.get(who.cancelled(), question.clone(), ask(who, job, request, &question)).await
}

/// Who wants something of a repository.
#[derive(Clone, Copy)]
pub(super) enum Who<'a> {
    /// A vertex.
    Vertex(&'a Context),
    /// A frontend that decides the graph; who drops its call takes it back.
    Frontend(&'a Listener),
}

impl Who<'_> {
    fn listener(self) -> Listener {
        match self {
            Self::Vertex(cx) => Listener::of(cx),
            Self::Frontend(listener) => listener.clone(),
        }
    }

    async fn cancelled(self) {
        match self {
            Self::Vertex(cx) => cx.cancelled().await,
            Self::Frontend(_) => std::future::pending().await,
        }
    }
}

async fn ask(
    who: Who<'_>,
    job: &Arc<JobContext>,
    request: &GitRequest,
    question: &str,
) -> Result<Pinned, OpError> {
    let note = Digest::of(format!("what {question} stands for"));
    let known = {
        let store = job.parts.store.clone();
        crate::blocking(move || {
            let record = store.record(&note)?;
            Ok(record.and_then(|record| serde_json::from_slice::<Known>(&record.value).ok()))
        })
        .await?
    };
    match (job.images.pull, known) {
        (PullPolicy::Missing | PullPolicy::Never, Some(Known { commit, reference })) => {
            return Ok(Pinned { commit, reference });
        }
        (PullPolicy::Never, None) => {
            let reason = "is not known here, and --pull=never asks nobody about it".to_owned();
            let what = format!("{}#{}", request.remote, request.reference);
            return Err(crate::op_error(EngineError::Image { what, reason, help: None }));
        }
        _ => {}
    }
    let asked = request.clone();
    with_git(who, job, request, move |job, connection| {
        let pinned = git::ask(connection, &asked).map_err(SourceError::Git)?;
        let Pinned { commit, reference } = pinned.clone();
        let value = serde_json::to_vec(&Known { commit, reference }).expect("plain data serialises");
        job.parts.store.put_record(&note, &value, &[])?;
        Ok(pinned)
    })
    .await
}

/// Makes the tree; what is not here of the repository is fetched.
pub(super) async fn make(cx: &Context, job: &Arc<JobContext>, source: &GitSource) -> Result<Tree, OpError> {
    bring(cx, job, source.bundle.as_ref()).await?;
    let (request, pinned) = (source.request.clone(), source.pinned.clone());
    with_git(Who::Vertex(cx), job, &source.request, move |job, connection| {
        let parts = &job.parts;
        let active = parts.snapshots.prepare(None)?;
        let editor = Editor::new(&active)?;
        git::write(connection, &request, &pinned, &parts.store, &editor, ownership(parts))?;
        let diff = rb_snapshot::diff(&active)?;
        let (snapshot, content) =
            mounts::commit_with_manifest(parts, active, &diff, ContentKey::empty(), true)?;
        Ok(Tree { snapshot: Some(snapshot), content, host: None })
    })
    .await
}

/// Does work with a connection, in a thread. Cancelled, it returns once nothing of it is left; dropped, it ends it.
pub(super) async fn with_git<T: Send + 'static>(
    who: Who<'_>,
    job: &Arc<JobContext>,
    request: &GitRequest,
    work: impl FnOnce(&JobContext, &Connection<'_>) -> Result<T, EngineError> + Send + 'static,
) -> Result<T, OpError> {
    let ends = Ends::default();
    let _dropped = EndOnDrop(ends.clone());
    let listener = who.listener();
    let done = {
        let (job, request, ends) = (Arc::clone(job), request.clone(), ends.clone());
        crate::blocking(move || connected(&job, &request, &ends, &listener, work))
    };
    tokio::pin!(done);
    tokio::select! {
        done = &mut done => done,
        () = who.cancelled() => {
            ends.stop();
            // Why it ended is known.
            drop(done.await);
            Err(OpError::cancelled())
        }
    }
}

fn connected<T>(
    job: &JobContext,
    request: &GitRequest,
    ends: &Ends,
    listener: &Listener,
    work: impl FnOnce(&JobContext, &Connection<'_>) -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    let parts = &job.parts;
    let Some(host) = parts.host.get() else {
        return Err(unsupported("git where no programs of this machine are lent", None));
    };
    let folder = parts.store.root().join("git");
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(|source| GitError::Io { action: "create", path: folder.clone(), source })
        .map_err(SourceError::Git)?;
    let ssh_command = request.ssh_command(&*job.session);
    let lent = request.ssh.as_ref().filter(|_| request.remote.is_ssh());
    let lent = lent.map(|id| (id, job.session.ssh(id)));
    let agent = match lent {
        // The user's own command may know keys itself.
        Some((_, None)) if ssh_command.is_some() => None,
        Some((id, agent)) => {
            let remote = request.remote.to_string();
            let agent =
                agent.ok_or_else(|| SourceError::Git(GitError::NoAgent { remote, id: id.clone() }))?;
            let path = parts.store.temp_path();
            let lent = agent.listen(&path);
            let failed = |source| {
                SourceError::Git(GitError::Io { action: "lend an agent at", path: path.clone(), source })
            };
            Some((lent.map_err(failed)?, path.clone()))
        }
        None => None,
    };
    let known_hosts = request.known_hosts.as_ref().map(|text| Written::new(&parts.store, text.as_bytes()));
    let known_hosts = known_hosts.transpose()?;
    let authorities = authorities(parts)?;
    let mut env: Vec<(String, String)> =
        variables(&parts.network.proxies).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    env.extend(authorities.as_ref().map(|file| ("GIT_SSL_CAINFO".to_owned(), file.0.display().to_string())));
    let store = parts.store.clone();
    let bundle = request.bundle.as_ref().map(|name| (name.digest, store.blob_path(&name.digest)));
    let tell = |told| match told {
        Told::Bytes(current) => listener.tell(Progress {
            doing: "fetching".into(),
            bytes: current,
            total_bytes: None,
            files: None,
        }),
        Told::Line(line) => listener.say(&line),
    };
    let connection = Connection {
        programs: &Lent { host: &**host, ends },
        folder: &folder,
        authorization: request.authorization(&*job.session),
        agent: agent.as_ref().map(|(_, path)| path.as_path()),
        bundle: bundle.as_ref().map(|(digest, path)| BundleFile { digest, path }),
        known_hosts: known_hosts.as_ref().map(|file| file.0.as_path()),
        ssh_command,
        env: &env,
        tell: &tell,
        room: &|| match store.check_space() {
            Ok(()) => Ok(()),
            Err(error) => Err(GitError::Io {
                action: "add to",
                path: store.root().to_owned(),
                source: std::io::Error::new(std::io::ErrorKind::StorageFull, error),
            }),
        },
    };
    work(job, &connection)
}

/// Writes the authorities that git is to trust: those of the system, and those that only this machine's settings name.
fn authorities(parts: &Parts) -> Result<Option<Written>, EngineError> {
    let own = &parts.network.authorities;
    if own.trim_ascii().is_empty() {
        return Ok(None);
    }
    let mut all = system_bundle();
    all.push(b'\n');
    all.extend_from_slice(own);
    Written::new(&parts.store, &all).map(Some)
}

/// A small file of ours, gone when dropped.
struct Written(PathBuf);

impl Written {
    fn new(store: &Store, bytes: &[u8]) -> Result<Self, EngineError> {
        let file = Self(store.temp_path());
        let write = |path: &Path| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(bytes)
        };
        let failed =
            |source| SourceError::Git(GitError::Io { action: "write", path: file.0.clone(), source });
        write(&file.0).map_err(failed)?;
        Ok(file)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // What stays is cleaned when this process is dead.
        drop(std::fs::remove_file(&self.0));
    }
}

/// Ends what runs, and what would run after it.
#[derive(Clone, Default)]
struct Ends {
    kill: KillSwitch,
    stopped: Arc<AtomicBool>,
}

impl Ends {
    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.kill.kill();
    }
}

/// Ends it when dropped.
struct EndOnDrop(Ends);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// The user's machine, as sources of git see it.
struct Lent<'a> {
    host: &'a dyn HostPrograms,
    ends: &'a Ends,
}

impl Programs for Lent<'_> {
    fn run(
        &self,
        call: &Call,
        take: &mut dyn FnMut(Stream, &[u8]) -> ControlFlow<()>,
    ) -> Result<i32, ProgramError> {
        let command = HostCommand {
            args: call.args.clone(),
            env: call.env.clone(),
            cwd: call.cwd.clone(),
            ..HostCommand::default()
        };
        let mut broken = false;
        let ended = self.host.run(&command, &self.ends.kill, &mut |stream, bytes| {
            let stream = match stream {
                rb_exec::Stream::Stdout => Stream::Stdout,
                rb_exec::Stream::Stderr => Stream::Stderr,
            };
            if !broken && take(stream, bytes).is_break() {
                broken = true;
                self.ends.kill.kill();
            }
        });
        match ended {
            _ if broken || self.is_stopped() => Err(ProgramError::Stopped),
            Ok(status) => Ok(status.code()),
            Err(ExecError::Cancelled) => Err(ProgramError::Stopped),
            Err(error) => Err(ProgramError::Failed(Box::new(error))),
        }
    }

    fn is_stopped(&self) -> bool {
        self.ends.stopped.load(Ordering::Acquire)
    }
}
