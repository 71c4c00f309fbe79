//! One job at a daemon: a session, a build that stays open for questions, and a build for each export ([`writing`]).
//!
//! **Invariants:** a definition that the daemon could not solve is refused before anything is sent; one export is under way at a time, so
//! that what comes back is its own; dropping the job cancels all.

mod writing;

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{join_all, try_join_all};
use rb_api::{
    Course, Job, JobOptions, Outlook, ProcessRequest, Root, SolveError, SolveRequest, SolveResult, Summary,
};
use rb_diag::ErrorKind;
use rb_frontend::{Answer, GitFacts, ImageRequest, Query, RepositoryRequest, ResolvedImage, WorldError};
use rb_llb::Definition;
use rb_wire::control::{self, CacheOptionsEntry};
use rb_wire::gateway::{self, SolveRequest as Asked};
use tokio::sync::{Mutex, OnceCell};
use tonic::{Code, Status};

use crate::RemoteEngine;
use crate::build::{Build, Daemon, answered, random_name};
use crate::caches::{self, Folders};
use crate::error::{Failed, RemoteError, classify, failed_vertex, is_broken, is_of_machine, said};
use crate::prepare::{Prepared, Way, prepare};
use crate::session::{Images, Lending, Lent};
use crate::vertices::Vertices;
use crate::{query, resolve, statements};

/// How long it is waited for what the daemon tells of a vertex that failed.
const TELLING: Duration = Duration::from_millis(1_500);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long a daemon has to say that it is there.
const THERE: Duration = Duration::from_secs(3);

/// A job at a daemon.
pub(crate) struct RemoteJob {
    engine: RemoteEngine,
    options: JobOptions,
    vertices: Arc<Vertices>,
    /// What its folders are marked with; none where this machine gives no random numbers.
    mark: Option<String>,
    /// Images of this machine that are lent.
    images: Images,
    /// Folders of caches that are lent.
    caches: Folders,
    /// Where results are looked for that the daemon does not have.
    imports: OnceLock<Vec<CacheOptionsEntry>>,
    opened: OnceCell<Opened>,
    exporting: Mutex<()>,
    /// Why the daemon is lost, once it is.
    lost: OnceLock<String>,
    /// What was sent that is never sent again.
    once: OnceLock<&'static str>,
}

/// What of a job is not of any one daemon.
#[derive(Clone)]
pub(crate) struct Shared {
    options: JobOptions,
    vertices: Arc<Vertices>,
    mark: Option<String>,
    images: Images,
}

impl Shared {
    pub(crate) fn new(options: JobOptions, events: rb_api::EventSink) -> Self {
        let vertices = Arc::new(Vertices::new(events, Arc::clone(&options.session), options.no_cache));
        Self { options, vertices, mark: random_name().ok(), images: Images::default() }
    }

    pub(crate) fn vertices(&self) -> &Vertices {
        &self.vertices
    }
}

/// What is open as long as the job is.
struct Opened {
    daemon: Daemon,
    lent: Lent,
    build: Build,
}

impl Opened {
    /// Whether the daemon does not answer.
    async fn is_silent(&self) -> bool {
        !self.daemon.is_there(THERE).await
    }
}

impl RemoteJob {
    pub(crate) fn new(engine: RemoteEngine, shared: Shared) -> Self {
        let Shared { options, vertices, mark, images } = shared;
        Self {
            engine,
            options,
            vertices,
            mark,
            images,
            caches: Folders::default(),
            imports: OnceLock::new(),
            opened: OnceCell::new(),
            exporting: Mutex::default(),
            lost: OnceLock::new(),
            once: OnceLock::new(),
        }
    }

    async fn opened(&self) -> Result<&Opened, RemoteError> {
        let opened = self.opened.get_or_try_init(|| self.open()).await;
        if let Err(error) = &opened
            && error.is_infrastructure()
        {
            self.lost.get_or_init(|| rb_diag::chain(error));
        }
        opened
    }

    /// Connects, if it is not connected yet.
    pub(crate) async fn connected(&self) -> Result<(), RemoteError> {
        self.opened().await.map(drop)
    }

    /// Returns why the daemon is lost to this job, if it is; it is asked whether it is there. For a call that failed.
    pub(crate) async fn lost(&self) -> Option<String> {
        if let Some(why) = self.lost.get() {
            return Some(why.clone());
        }
        let opened = self.opened.get()?;
        if let Some(why) = opened.build.sick() {
            return Some(self.lost.get_or_init(|| why.to_owned()).clone());
        }
        let is_gone = opened.build.broke() || opened.lent.broken().is_some() || opened.is_silent().await;
        is_gone.then(|| self.lost.get_or_init(|| rb_diag::chain(&self.is_gone())).clone())
    }

    /// Returns what was sent that must not be sent again, to whomever.
    pub(crate) fn sent_once(&self) -> Option<&'static str> {
        self.once.get().copied()
    }

    fn is_gone(&self) -> RemoteError {
        RemoteError::Gone { address: self.engine.address().to_string(), running: self.vertices.running() }
    }

    async fn open(&self) -> Result<Opened, RemoteError> {
        let imports = self.options.cache_from.iter().map(|place| caches::import(place, &self.caches));
        let imports = imports.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?;
        self.imports.get_or_init(|| imports);
        let daemon = self.engine.daemon().await?;
        let lending = Lending {
            session: Arc::clone(&self.options.session),
            credentials: Arc::clone(&self.engine.options.credentials),
            scratch: self.engine.options.scratch.clone(),
            images: self.images.clone(),
            caches: self.caches.clone(),
            vertices: Arc::clone(&self.vertices),
        };
        let lent = Lent::open(&daemon, &lending)?;
        // What is asked while a graph is decided is no build that people look for.
        let request = control::SolveRequest { internal: true, ..self.request(&lent) };
        let build = Build::open(&daemon, request, &self.vertices).await?;
        self.is_open(&build, &lent).await?;
        Ok(Opened { daemon, lent, build })
    }

    /// Waits until a build is there.
    async fn is_open(&self, build: &Build, lent: &Lent) -> Result<(), RemoteError> {
        let pinged = async { build.ping().await.map(drop).map_err(|status| explained(lent, status)) };
        let opened = answered(self.engine.address(), "it did not begin a build", pinged).await;
        let opened = opened.map_err(|error| if build.broke() { self.is_gone() } else { error });
        if let Err(error) = &opened
            && error.is_infrastructure()
        {
            self.lost.get_or_init(|| rb_diag::chain(error));
        }
        opened
    }

    fn request(&self, lent: &Lent) -> control::SolveRequest {
        let JobOptions { allow_insecure, allow_host_network, allowed_devices, .. } = &self.options;
        let mut entitlements = Vec::new();
        let mut allow = |name: &str, allowed: bool| entitlements.extend(allowed.then(|| name.to_owned()));
        allow("security.insecure", *allow_insecure);
        allow("network.host", *allow_host_network);
        allow("device", allowed_devices.all);
        allowed_devices.names.iter().for_each(|name| allow(&format!("device={name}"), true));
        control::SolveRequest { session: lent.name.clone(), entitlements, ..control::SolveRequest::default() }
    }

    fn prepare(&self, definition: &Definition) -> Result<Prepared, SolveError> {
        if self.options.course == Course::Look {
            return Err(cannot_look());
        }
        let missing = || RemoteError::answer("this machine gives no random numbers");
        let mark = self.mark.as_ref().ok_or_else(missing)?;
        let way = Way { mark, no_cache: self.options.no_cache, images: &self.images };
        let prepared = prepare(definition, &way)?;
        self.vertices.expect(&prepared.graph, &prepared.sent);
        Ok(prepared)
    }

    /// Solves a definition in a build; returns what its tree is called there, nothing for that of scratch.
    async fn tree(&self, opened: &Opened, build: &Build, prepared: &Prepared) -> Result<String, SolveError> {
        if prepared.graph.is_empty() {
            return Ok(String::new());
        }
        let request = build.about(Asked {
            definition: Some(prepared.bytes.clone()),
            allow_result_return: true,
            allow_result_array_ref: true,
            evaluate: true,
            cache_imports: self.imports.get().cloned().unwrap_or_default(),
            ..Asked::default()
        });
        if prepared.pushes {
            self.once.get_or_init(|| "a `RUN --push` may have run");
        }
        let solved = build.work(async { build.bridge().solve(request).await }).await;
        let solved = match solved {
            Ok(solved) => solved,
            Err(status) => return Err(self.failure(opened, status, true).await),
        };
        match solved.result.and_then(|result| result.result) {
            Some(gateway::result::Result::Ref(tree)) => Ok(tree.id),
            Some(gateway::result::Result::Refs(_)) | None => {
                Err(RemoteError::answer("it made no single tree of a definition").into())
            }
        }
    }

    /// Finds out whether a call failed because the daemon went away: it is asked whether it is there where that may be so.
    async fn gone(&self, opened: &Opened, status: &Status) -> Option<RemoteError> {
        let may_be =
            matches!(status.code(), Code::Cancelled | Code::Unavailable | Code::Aborted | Code::Unknown);
        let is_gone =
            is_broken(status) || (may_be && failed_vertex(status).is_none() && opened.is_silent().await);
        is_gone.then(|| {
            let gone = self.is_gone();
            self.lost.get_or_init(|| rb_diag::chain(&gone));
            gone
        })
    }

    /// Says of a question that failed as its connection broke that the daemon is gone.
    fn told<E: Failed>(&self, opened: &Opened, error: E) -> E {
        if error.is_users() || !opened.build.broke() {
            return error;
        }
        let gone = self.is_gone();
        self.lost.get_or_init(|| rb_diag::chain(&gone));
        gone.into()
    }

    /// Says what a failed call means to the user.
    ///
    /// `is_there` says that what is wrong with a machine is wrong with that one.
    async fn failure(&self, opened: &Opened, status: Status, is_there: bool) -> SolveError {
        if let Some(gone) = self.gone(opened, &status).await {
            return gone.into();
        }
        let is_of_machine = is_of_machine(&status);
        if is_of_machine && is_there {
            self.lost.get_or_init(|| said(&status));
        }
        if status.code() == Code::Cancelled && opened.lent.broken().is_none() {
            return SolveError::Cancelled;
        }
        let Some(vertex) = failed_vertex(&status) else {
            return explained(&opened.lent, status).into();
        };
        // What it wrote and how it ended is told on another stream.
        let telling = async {
            while !self.vertices.has_failed(&vertex) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(TELLING, telling).await.ok();
        let words = said(&status);
        let (_, message) = classify(self.vertices.op(&vertex).as_ref(), &words);
        let failed = self.vertices.failed(&vertex, &message);
        let (kind, message) = classify(failed.op.as_ref(), &words);
        let kind = if is_of_machine { ErrorKind::Environment } else { kind };
        SolveError::Vertex {
            vertex: failed.vertex,
            name: failed.name,
            kind,
            message,
            help: None,
            log_tail: failed.tail,
        }
    }

    /// Makes all roots, in the order of the request.
    async fn make(&self, opened: &Opened, roots: &[Prepared]) -> Result<(), SolveError> {
        let each = || roots.iter().map(|root| self.tree(opened, &opened.build, root));
        if self.options.course != Course::KeepGoing {
            return try_join_all(each()).await.map(drop);
        }
        let mut failures: Vec<SolveError> = Vec::new();
        for failure in join_all(each()).await.into_iter().filter_map(Result::err) {
            let vertex = |error: &SolveError| match error {
                SolveError::Vertex { vertex, .. } => Some(*vertex),
                _ => None,
            };
            let is_known =
                vertex(&failure).is_some_and(|own| failures.iter().any(|known| vertex(known) == Some(own)));
            if !is_known {
                failures.push(failure);
            }
        }
        match failures.len() {
            0 => Ok(()),
            1 => Err(failures.remove(0)),
            _ => Err(SolveError::Several(failures)),
        }
    }
}

/// Whether an error only says that a stream ended, whose end has a reason of its own.
fn is_of_stream(error: &SolveError) -> bool {
    matches!(error, SolveError::Job { kind: ErrorKind::Environment, .. })
}

/// Adds to a failed call that the session broke, where it did.
fn explained(lent: &Lent, status: Status) -> RemoteError {
    match lent.broken() {
        Some(broken) if status.code() != Code::Unknown => RemoteError::Call(Box::new(broken)),
        Some(_) | None => RemoteError::Call(Box::new(status)),
    }
}

const LOOKING_HELP: &str = "plan, --dry-run, --expect-cached and why look at the cache of this machine: use them with \
    --engine=here";

/// Refuses what would look at a cache beforehand.
pub fn cannot_look() -> SolveError {
    SolveError::Job {
        kind: ErrorKind::Input,
        message: "an engine elsewhere does not tell beforehand what it would run".to_owned(),
        help: Some(LOOKING_HELP.to_owned()),
    }
}

pub(crate) fn no_containers() -> SolveError {
    SolveError::Job {
        kind: ErrorKind::Input,
        message: "containers of a frontend are not made on an engine elsewhere".to_owned(),
        help: Some("build it on this machine: --engine=here".to_owned()),
    }
}

#[async_trait]
impl Job for RemoteJob {
    async fn solve(&self, request: SolveRequest) -> Result<SolveResult, SolveError> {
        statements::check(&request.exports, &request.attests)?;
        if !request.layered.is_empty() {
            return Err(RemoteError::layered().into());
        }
        let prepared = request.roots.iter().map(|root| self.prepare(&root.definition));
        let roots = prepared.collect::<Result<Vec<_>, _>>()?;
        let opened = self.opened().await?;
        self.make(opened, &roots).await?;
        self.write(opened, &roots, &request).await
    }

    async fn query(&self, definition: Definition, query: Query) -> Result<Answer, SolveError> {
        let prepared = self.prepare(&definition)?;
        let opened = self.opened().await?;
        let tree = self.tree(opened, &opened.build, &prepared).await?;
        query::answer(&opened.build, &tree, query).await.map_err(|error| self.told(opened, error))
    }

    async fn resolve_image(&self, request: &ImageRequest) -> Result<ResolvedImage, WorldError> {
        let opened = self.opened().await?;
        let here = resolve::Here {
            session: self.options.session.as_ref(),
            store: self.engine.options.images.as_ref(),
            lent: &self.images,
            scratch: &self.engine.options.scratch,
        };
        let found = resolve::image(&opened.build, &here, self.options.pull, request).await;
        found.map_err(|error| self.told(opened, error))
    }

    async fn resolve_repository(&self, request: &RepositoryRequest) -> Result<GitFacts, WorldError> {
        let opened = self.opened().await?;
        let found = resolve::repository(&opened.build, request).await;
        found.map_err(|error| self.told(opened, error))
    }

    async fn process(&self, _request: ProcessRequest) -> Result<i32, SolveError> {
        Err(no_containers())
    }

    async fn look(&self, _roots: &[Root]) -> Result<Vec<Outlook>, SolveError> {
        Err(cannot_look())
    }

    fn summary(&self) -> Summary {
        self.vertices.summary()
    }
}

/// Where files are received, made if need be.
pub(crate) fn scratch(folder: &Path) -> Result<(), RemoteError> {
    let failed = |source| RemoteError::Disk { what: format!("`{}`", folder.display()), source };
    std::fs::create_dir_all(folder).map_err(failed)
}
