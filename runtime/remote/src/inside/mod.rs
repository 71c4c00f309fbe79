//! A frontend inside of a daemon: the answers that a build's frontend gets, and how its own is told.
//!
//! The daemon starts the frontend's image and speaks with it on its standard streams, where the frontend is the client. In: those
//! streams, and what the build's client has said ([`Given`]). Out: a [`Gateway`] for compilers, and at the end one answer: trees with
//! their configs ([`Inside::give`]), data ([`Inside::tell`]), or what was wrong, with the lines that it is about ([`Inside::refuse`]).
//! **Invariant:** the daemon hears one answer; of a step that failed it is the daemon's own error, which names lines and vertex.

mod place;
mod refusal;
mod standard;

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::try_join_all;
use hyper_util::rt::TokioIo;
use rb_api::{PullPolicy, SolveError};
use rb_diag::{ErrorKind, SourceMap};
use rb_frontend::{
    Answer, Effect, Gateway, GitFacts, ImageLocation, ImageRequest, PlannedOutput, Query, RepositoryRequest,
    ResolvedImage, WorldError,
};
use rb_llb::{Definition, State};
use rb_oci::{ImageConfig, Platform};
use rb_wire::control;
use rb_wire::gateway::{self, InputsRequest, ReturnRequest, SolveRequest, WarnRequest};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::Status;
use tonic::transport::Endpoint;

use crate::build::{Build, Daemon};
use crate::error::{RemoteError, classify, failed_vertex, said};
use crate::{query, resolve, results};

pub use place::{Given, Ground};
pub use refusal::Refusal;

/// Much is on its way at once.
const WINDOW_BYTES: u32 = 4 << 20;
/// What names an image in the place of another.
const IMAGE_SCHEME: &str = "docker-image://";

/// A build whose frontend this process is.
pub struct Inside {
    build: Build,
    sources: SourceMap,
    given: OnceLock<Given>,
    images: OnceLock<Images>,
    /// The daemon's error about the first step that failed for an answer.
    failed: Mutex<Option<Status>>,
}

/// What the build's client says of images and caches.
#[derive(Clone, Debug, Default)]
pub struct Images {
    /// Images that others stand for, by name: `docker-image://…`.
    pub named: BTreeMap<String, String>,
    /// Where images are looked for.
    pub pull: PullPolicy,
    /// Where results of others are looked for: kind and options.
    pub caches: Vec<(String, BTreeMap<String, String>)>,
}

/// One tree that was asked for.
pub struct Made {
    /// What it is for.
    pub platform: Platform,
    /// The tree.
    pub state: State,
    /// What its containers run with.
    pub config: ImageConfig,
}

impl Inside {
    /// Speaks with the daemon that is at the other end of the standard streams. Texts of files are in `sources`.
    pub async fn open_standard(sources: SourceMap) -> Result<Self, RemoteError> {
        let failed = |source| RemoteError::Disk { what: "a pair of sockets".to_owned(), source };
        Self::open(standard::streams().map_err(failed)?, sources).await
    }

    /// The same of any streams.
    pub async fn open<S>(streams: S, sources: SourceMap) -> Result<Self, RemoteError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let streams = Mutex::new(Some(TokioIo::new(streams)));
        let dial = tower::service_fn(move |_| {
            // There is one connection, and no second one where that broke.
            let taken = streams.lock().unwrap_or_else(PoisonError::into_inner).take();
            async move { taken.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected)) }
        });
        let failed = |error: tonic::transport::Error| RemoteError::Connect {
            address: "the standard streams".to_owned(),
            reason: rb_diag::chain(&error),
            is_bare: false,
        };
        let endpoint = Endpoint::from_static("http://localhost")
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
        let channel = endpoint.connect_with_connector(dial).await.map_err(failed)?;
        Ok(Self {
            build: Build::of_frontend(Daemon { channel, docker: None }),
            sources,
            given: OnceLock::new(),
            images: OnceLock::new(),
            failed: Mutex::default(),
        })
    }

    /// Asks what the daemon runs steps on, its own platform first.
    pub async fn platforms(&self) -> Result<Vec<Platform>, RemoteError> {
        let pong = self.build.ping().await?;
        Ok(pong.workers.iter().flat_map(|worker| &worker.platforms).map(resolve::platform_of).collect())
    }

    /// Asks for the names of trees that another build has made for this one.
    pub async fn inputs(&self) -> Result<Vec<String>, RemoteError> {
        let request = self.build.about(InputsRequest {});
        let inputs = self.build.call(async { self.build.bridge().inputs(request).await }).await?;
        Ok(inputs.definitions.into_keys().collect())
    }

    /// Says where files come from; the first word counts.
    pub fn ground(&self, given: Given, images: Images) {
        self.given.get_or_init(|| given);
        self.images.get_or_init(|| images);
    }

    fn images(&self) -> &Images {
        self.images.get_or_init(Images::default)
    }

    /// Returns the daemon's error about a step that failed for an answer.
    pub fn failed(&self) -> Option<Refusal> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.as_ref().map(Refusal::of_status)
    }

    /// Solves a tree; returns what it is called at the daemon, nothing for that of scratch.
    async fn tree(&self, state: &State) -> Result<String, Unsolved> {
        let malformed = |error: &dyn std::error::Error| RemoteError::answer(rb_diag::chain(error));
        let definition = state.marshal(&self.sources).map_err(|error| malformed(&error))?;
        if definition.is_empty() {
            return Ok(String::new());
        }
        let placed = place::place(&definition, self.given.get_or_init(Given::default))?;
        let caches = self.images().caches.iter();
        let request = self.build.about(SolveRequest {
            definition: Some(placed.to_bytes().into()),
            allow_result_return: true,
            allow_result_array_ref: true,
            evaluate: true,
            cache_imports: caches
                .map(|(kind, attrs)| control::CacheOptionsEntry {
                    r#type: kind.clone(),
                    attrs: attrs.clone(),
                })
                .collect(),
            ..SolveRequest::default()
        });
        let solved = self.build.call(async { self.build.bridge().solve(request).await }).await;
        let solved = solved.map_err(|status| Unsolved::Call(Box::new(status), placed))?;
        match solved.result.and_then(|result| result.result) {
            Some(gateway::result::Result::Ref(tree)) => Ok(tree.id),
            Some(gateway::result::Result::Refs(_)) | None => {
                Err(RemoteError::answer("it made no single tree of a definition").into())
            }
        }
    }

    /// The same for an answer.
    async fn asked(&self, state: &State) -> Result<String, WorldError> {
        self.tree(state).await.map_err(|unsolved| match unsolved {
            Unsolved::Own(error) => match &error {
                RemoteError::OnlyHere { vertex, help, .. } => WorldError::Step {
                    vertex: *vertex,
                    kind: error.kind(),
                    message: format!("{} ({help})", rb_diag::chain(&error)),
                },
                _ => world(&error),
            },
            Unsolved::Call(status, placed) => {
                let Some(vertex) = failed_vertex(&status) else { return world(&RemoteError::Call(status)) };
                let graph = placed.graph().ok();
                let op = graph.as_ref().and_then(|graph| graph.get(&vertex)).map(|vertex| &vertex.op);
                let (kind, message) = classify(op, &said(&status));
                self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(*status);
                WorldError::Step { vertex, kind, message }
            }
        })
    }

    /// Makes these trees, and then gives the daemon those that were asked for. Of several there is one for each platform.
    pub async fn give(&self, needed: &[State], made: &[Made], is_index: bool) -> Result<(), Refusal> {
        let all = needed.iter().map(|state| self.tree(state));
        try_join_all(all).await.map_err(Unsolved::refusal)?;
        let trees = try_join_all(made.iter().map(|made| self.tree(&made.state))).await;
        let trees = trees.map_err(Unsolved::refusal)?;
        let named = made.iter().zip(&trees).map(|(made, tree)| (&made.platform, &made.config, tree));
        let result = results::of_platforms(named.collect(), is_index)
            .map_err(|error| Refusal::new(ErrorKind::Internal, rb_diag::chain(&error)))?;
        self.end(ReturnRequest { result: Some(result), error: None }).await
    }

    /// Tells what is unusual, beside the first of these trees that is not empty. A daemon that takes no warnings is none the worse.
    pub async fn warn(&self, beside: impl Iterator<Item = &State>, words: Vec<String>) {
        let given = self.given.get_or_init(Given::default);
        let root = |state: &State| {
            let definition = state.marshal(&self.sources).ok()?;
            place::place(&definition, given).ok()?.graph().ok()?.root()
        };
        let Some(root) = beside.filter(|state| !state.is_scratch()).find_map(root) else { return };
        for short in words {
            let warning = WarnRequest {
                digest: root.vertex.to_string(),
                level: 1,
                short: short.into(),
                ..WarnRequest::default()
            };
            let request = self.build.about(warning);
            if let Err(status) = self.build.call(async { self.build.bridge().warn(request).await }).await {
                tracing::debug!(%status, "a warning is not taken");
            }
        }
    }

    /// Answers a question with data alone.
    pub async fn tell(&self, metadata: BTreeMap<String, Bytes>) -> Result<(), Refusal> {
        let result = gateway::result::Result::Ref(gateway::Ref::default());
        let result = gateway::Result { result: Some(result), metadata };
        self.end(ReturnRequest { result: Some(result), error: None }).await
    }

    /// Says what was wrong.
    pub async fn refuse(&self, refusal: Refusal) -> Result<(), Refusal> {
        self.end(ReturnRequest { result: None, error: Some(refusal.into_status()) }).await
    }

    async fn end(&self, request: ReturnRequest) -> Result<(), Refusal> {
        let request = self.build.about(request);
        let ended = self.build.call(async { self.build.bridge().r#return(request).await }).await;
        ended.map(drop).map_err(|status| Refusal::of_status(&status))
    }
}

/// Why a tree was not made.
enum Unsolved {
    Own(RemoteError),
    /// The daemon's error, and what it is about.
    Call(Box<Status>, Definition),
}

impl From<RemoteError> for Unsolved {
    fn from(error: RemoteError) -> Self {
        Self::Own(error)
    }
}

impl Unsolved {
    fn refusal(self) -> Refusal {
        match self {
            Self::Own(error) => Refusal::of_error(&error),
            Self::Call(status, _) => Refusal::of_status(&status),
        }
    }
}

fn world(error: &RemoteError) -> WorldError {
    let message = match error.help() {
        Some(help) => format!("{} ({help})", rb_diag::chain(error)),
        None => rb_diag::chain(error),
    };
    WorldError::Failed { kind: error.kind(), message }
}

fn of_query(error: SolveError) -> WorldError {
    match error {
        SolveError::NoSuchFile { path } => WorldError::NotFound { what: format!("`{path}`"), help: None },
        error => WorldError::Failed {
            kind: error.kind().unwrap_or(ErrorKind::Environment),
            message: rb_diag::chain(&error),
        },
    }
}

#[async_trait]
impl Gateway for Inside {
    async fn resolve_image(&self, request: &ImageRequest) -> Result<ResolvedImage, WorldError> {
        let ImageLocation::Registry(name) = &request.location else {
            let message =
                "an OCI layout in the build's folder cannot be an image at another builder".to_owned();
            return Err(WorldError::Failed { kind: ErrorKind::Input, message });
        };
        let input = |message: String| WorldError::Failed { kind: ErrorKind::Input, message };
        let stands_for = match self.images().named.get(name) {
            None => name,
            Some(other) => other.strip_prefix(IMAGE_SCHEME).ok_or_else(|| {
                input(format!("`{name}` is the context `{other}`; in a Buildfile only `{IMAGE_SCHEME}` ones stand for images"))
            })?,
        };
        let reference =
            stands_for.parse().map_err(|error: rb_oci::ReferenceError| input(error.to_string()))?;
        resolve::named(&self.build, &reference, self.images().pull, &request.platform).await
    }

    async fn resolve_repository(&self, request: &RepositoryRequest) -> Result<GitFacts, WorldError> {
        resolve::repository(&self.build, request).await
    }

    async fn query(&self, state: &State, query: Query) -> Result<Answer, WorldError> {
        let tree = self.asked(state).await?;
        query::answer(&self.build, &tree, query).await.map_err(of_query)
    }

    async fn settle(&self, effects: &[Effect]) -> Result<(), WorldError> {
        for effect in effects {
            match effect {
                Effect::Make { label: _, state } => drop(self.asked(state).await?),
                // What is written is the build's one result, which its client asks for.
                Effect::Write(PlannedOutput::Image { label: _, image }) => {
                    drop(self.asked(&image.state).await?);
                }
                Effect::Write(PlannedOutput::Artifact { label: _, artifact }) => {
                    drop(self.asked(&artifact.state).await?);
                }
                Effect::Place { label, .. } => {
                    let message = format!("`{label}` needs files on the machine of who builds (LOCALLY)");
                    return Err(WorldError::Failed { kind: ErrorKind::Input, message });
                }
            }
        }
        Ok(())
    }
}
