//! The engine's door for frontends: images are pinned, states are solved, their files are read.

use std::io::Read as _;
use std::sync::Arc;

use async_trait::async_trait;
use rb_api::{EventSink, SolveError};
use rb_diag::{ErrorKind, SourceMap, chain};
use rb_frontend::{Answer, Gateway, ImageLocation, ImageRequest, Query, ResolvedImage, WorldError};
use rb_llb::State;
use rb_session::Session;
use rb_snapshot::Follow;
use rb_sources::layout::{self, Wanted};

use crate::LocalEngine;
use crate::error::EngineError;
use crate::ops::no_registry;
use crate::value::Tree;

/// Name of every image that comes from a layout; which one it is, its digest says.
const LAYOUT_NAME: &str = "rb/layout";

/// Answers for one job.
pub(crate) struct LocalGateway {
    engine: LocalEngine,
    session: Arc<dyn Session>,
    events: EventSink,
}

impl LocalGateway {
    pub(crate) fn new(engine: LocalEngine, session: Arc<dyn Session>, events: EventSink) -> Self {
        Self { engine, session, events }
    }
}

fn failed(error: &EngineError) -> WorldError {
    WorldError::Failed { kind: error.kind(), message: with_help(chain(error), error.help()) }
}

fn with_help(message: String, help: Option<String>) -> String {
    help.into_iter().fold(message, |message, help| format!("{message} ({help})"))
}

#[async_trait]
impl Gateway for LocalGateway {
    async fn resolve_image(&self, request: &ImageRequest) -> Result<ResolvedImage, WorldError> {
        let (project, path, tag) = match &request.location {
            ImageLocation::Registry(name) => return Err(failed(&no_registry(name))),
            ImageLocation::OciLayout { project, path, tag } => (project, path, tag),
        };
        let store = project.join(path).dir().to_owned();
        let store = if store.is_empty() { ".".to_owned() } else { store };
        let missing = || WorldError::NotFound { what: format!("the folder `{path}`"), help: None };
        let folder = self.session.oci_layout(&store).ok_or_else(missing)?;
        let (wanted, platform) = (Wanted::Tag(tag.clone()), request.platform.clone());
        let found = crate::blocking(move || Ok(layout::find(&folder, &wanted, &platform)?)).await;
        let image =
            found.map_err(|error| WorldError::Failed { kind: error.kind(), message: chain(&error) })?;
        Ok(ResolvedImage {
            identifier: format!("oci-layout://{LAYOUT_NAME}@{}", image.digest),
            attrs: [(rb_llb::attr::OCI_STORE.to_owned(), store)].into(),
            digest: image.digest,
            config: image.config,
        })
    }

    async fn query(&self, state: &State, query: Query) -> Result<Answer, WorldError> {
        let definition = state.marshal(&SourceMap::default()).map_err(|error| failed(&error.into()))?;
        let solved =
            self.engine.solve_trees(vec![definition], &self.session, false, Arc::clone(&self.events)).await;
        let tree = match solved {
            Ok((trees, _)) => trees.into_iter().next().unwrap_or_else(Tree::scratch),
            Err(SolveError::Vertex { vertex, kind, message, .. }) => {
                return Err(WorldError::Step { vertex, kind, message });
            }
            Err(error) => {
                let kind = error.kind().unwrap_or(ErrorKind::Build);
                return Err(WorldError::Failed { kind, message: error.to_string() });
            }
        };
        let view = self.engine.parts.snapshots.view(tree.snapshot).map_err(|error| failed(&error.into()))?;
        let read = move || match query {
            Query::Exists { path } => Ok(Answer::Exists(view.lookup(path, Follow::Yes)?.is_some())),
            Query::ReadFile { path, limit_bytes } => {
                let reason = |what: &str| EngineError::Definition { reason: format!("`{path}` {what}") };
                let entry = view.lookup(&path, Follow::Yes)?.ok_or_else(|| reason("does not exist"))?;
                let mut bytes = Vec::new();
                let file = view.open(&entry)?;
                file.take(limit_bytes + 1)
                    .read_to_end(&mut bytes)
                    .map_err(|error| reason(&error.to_string()))?;
                if bytes.len() as u64 > limit_bytes {
                    return Err(reason("is larger than the query allows"));
                }
                Ok(Answer::File(bytes))
            }
        };
        crate::blocking(read)
            .await
            .map_err(|error| WorldError::Failed { kind: error.kind(), message: chain(&error) })
    }
}
