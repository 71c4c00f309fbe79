//! The engine's side of a build's world: a frontend's questions and effects, on the one job of the build.
//!
//! In: states and effects of a frontend. Out: answers; and for the end of the build what was written on the way
//! ([`BuildGateway::written`]) and the steps that failed, each once ([`BuildGateway::failures`]), as their report needs
//! it. Where the build only looks, effects wait for its end ([`BuildGateway::looked`]), and what the cache does not answer
//! is withheld.
//! **Invariant:** effects are solved and written by the code that writes the outputs at the end of a build, in the order
//! given.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use rb_api::{ExportResult, Job, PushedImage, SolveError, SolveResult};
use rb_diag::{ErrorKind, SourceMap, chain};
use rb_frontend::{
    Answer, Effect, Gateway, GitFacts, ImageRequest, PlannedOutput, Query, RepositoryRequest, ResolvedImage,
    SavedImage, WorldError,
};
use rb_llb::{Definition, LlbError, State};

use super::build::unpushable;
use super::exports::{Asked, Wanted};
use super::units::add_failures;
use crate::output_spec::Annotation;
use crate::report::Failure;
use crate::world::Withheld;

/// How long an answer is waited for that only adds to what is told of mistakes.
const GLANCE: Duration = Duration::from_secs(2);

/// How far effects go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settling {
    /// Filesystems are made, outputs are written.
    Write,
    /// Filesystems are made.
    Make,
    /// Nothing happens: only the graph is wanted.
    Nothing,
    /// Nothing happens yet: effects are kept in order.
    Later,
}

/// Changes what the steps of a graph are called.
pub(super) type Naming = Arc<dyn Fn(&mut Definition) + Send + Sync>;

/// Answers for one build.
pub(super) struct BuildGateway {
    job: Arc<dyn Job>,
    sources: SourceMap,
    /// The workspace's root: what outputs are relative to.
    root: PathBuf,
    settling: Settling,
    /// Images marked `--push` are to be pushed.
    pushing: bool,
    /// What images are annotated with.
    annotations: Vec<Annotation>,
    /// What steps are called, where several builds share the job.
    naming: Option<Naming>,
    /// Words for what was not run for an answer.
    withheld: Arc<Withheld>,
    course: Mutex<Course>,
}

/// What came of it so far.
#[derive(Default)]
struct Course {
    written: Vec<ExportResult>,
    pushed: Vec<PushedImage>,
    /// Images that were saved, with their targets.
    saved: Vec<(String, SavedImage)>,
    /// Names marked `--push` in a build that does not push.
    held: Vec<String>,
    failures: Vec<Failure>,
    /// Effects that wait.
    looked: Vec<Effect>,
    /// Graphs of what was asked and not answered.
    unanswered: Vec<Definition>,
}

impl BuildGateway {
    /// Makes the gateway of a build whose texts are in `sources`.
    pub(super) fn new(job: Arc<dyn Job>, sources: SourceMap, root: PathBuf, settling: Settling) -> Self {
        Self {
            job,
            sources,
            root,
            settling,
            pushing: false,
            annotations: Vec::new(),
            naming: None,
            withheld: Arc::default(),
            course: Mutex::default(),
        }
    }

    /// Says whether images are to be pushed.
    pub(super) fn pushing(self, pushing: bool) -> Self {
        Self { pushing, ..self }
    }

    /// Says what images are annotated with.
    pub(super) fn annotating(self, annotations: Vec<Annotation>) -> Self {
        Self { annotations, ..self }
    }

    /// Says what steps are called.
    pub(super) fn naming(self, naming: Option<Naming>) -> Self {
        Self { naming, ..self }
    }

    /// Says where words for what is not run go.
    pub(super) fn withholding(self, withheld: Arc<Withheld>) -> Self {
        Self { withheld, ..self }
    }

    /// Takes the effects that wait, in order.
    pub(super) fn looked(&self) -> Vec<Effect> {
        std::mem::take(&mut self.course().looked)
    }

    /// Takes the graphs of questions that the cache does not answer.
    pub(super) fn unanswered(&self) -> Vec<Definition> {
        std::mem::take(&mut self.course().unanswered)
    }

    /// Takes what effects have written and pushed, in order.
    pub(super) fn written(&self) -> (Vec<ExportResult>, Vec<PushedImage>) {
        let mut course = self.course();
        (std::mem::take(&mut course.written), std::mem::take(&mut course.pushed))
    }

    /// Notes what was written for effects that had waited.
    pub(super) fn note_written(&self, result: SolveResult) {
        let mut course = self.course();
        course.written.extend(result.exports);
        course.pushed.extend(result.pushed);
    }

    /// Returns the images that effects have saved, in order.
    pub(super) fn saved(&self) -> Vec<(String, SavedImage)> {
        self.course().saved.clone()
    }

    /// Notes that images are saved.
    pub(super) fn note_saved<'a>(&self, outputs: impl Iterator<Item = &'a PlannedOutput>) {
        self.course().saved.extend(outputs.filter_map(|output| match output {
            PlannedOutput::Image { label, image } => Some((label.clone(), image.clone())),
            PlannedOutput::Artifact { .. } => None,
        }));
    }

    /// Says whether effects have made an index of several platforms.
    pub(super) fn has_index(&self) -> bool {
        let is_index = |export: &ExportResult| matches!(export, ExportResult::Image { platforms, .. } if !platforms.is_empty());
        self.course().written.iter().any(is_index)
    }

    /// Notes which of these images would be pushed, if this build did.
    pub(super) fn hold_back<'a>(&self, outputs: impl IntoIterator<Item = &'a PlannedOutput>) {
        if self.pushing {
            return;
        }
        let mut course = self.course();
        for output in outputs {
            let PlannedOutput::Image { label: _, image } = output else { continue };
            for name in image.names.iter().filter(|_| image.push) {
                if !course.held.contains(name) {
                    course.held.push(name.clone());
                }
            }
        }
    }

    /// Takes the names that were not pushed.
    pub(super) fn held_back(&self) -> Vec<String> {
        std::mem::take(&mut self.course().held)
    }

    /// Takes the failures of the steps that failed for an answer or an effect, each once, the first one first.
    pub(super) fn failures(&self) -> Vec<Failure> {
        std::mem::take(&mut self.course().failures)
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().expect("no holder of this lock panics")
    }

    /// Tells the frontend of a failure, and keeps that of a step for the report.
    fn failed(&self, error: SolveError, definitions: &dyn Fn() -> Vec<Definition>) -> WorldError {
        match &error {
            SolveError::Vertex { vertex, name: _, kind, message, help: _, log_tail: _ } => {
                let told = WorldError::Step { vertex: *vertex, kind: *kind, message: message.clone() };
                let known = definitions();
                add_failures(&mut self.course().failures, Failure::of_solve(error, &known));
                told
            }
            SolveError::Several(errors) => {
                let each = errors.iter().map(|error| self.failed(error.clone(), definitions));
                let none = WorldError::Failed { kind: ErrorKind::Internal, message: error.to_string() };
                each.reduce(|first, _| first).unwrap_or(none)
            }
            SolveError::Withheld { vertex, .. } => {
                let message = self.withheld.note(error.to_string());
                let asked = definitions();
                self.course().unanswered.extend(asked);
                WorldError::Step { vertex: *vertex, kind: ErrorKind::Build, message }
            }
            SolveError::NoSuchFile { path } => WorldError::NotFound { what: format!("`{path}`"), help: None },
            SolveError::Job { kind, message, help } => {
                let message =
                    help.as_ref().map_or_else(|| message.clone(), |help| format!("{message} ({help})"));
                WorldError::Failed { kind: *kind, message }
            }
            SolveError::Cancelled => {
                WorldError::Failed { kind: ErrorKind::Environment, message: error.to_string() }
            }
        }
    }
}

/// Returns what the last step of a graph is called.
fn question(definition: &Definition) -> Option<String> {
    let graph = definition.graph().ok()?;
    let root = graph.root()?.vertex;
    graph.meta(&root).name().map(ToOwned::to_owned)
}

fn malformed(error: &LlbError) -> WorldError {
    WorldError::Failed { kind: error.kind(), message: chain(error) }
}

#[async_trait]
impl Gateway for BuildGateway {
    async fn resolve_image(&self, request: &ImageRequest) -> Result<ResolvedImage, WorldError> {
        self.job.resolve_image(request).await
    }

    async fn glance_at_image(&self, request: &ImageRequest) -> Result<ResolvedImage, WorldError> {
        let silent = |_| WorldError::Failed {
            kind: ErrorKind::Environment,
            message: format!("no answer within {} seconds", GLANCE.as_secs()),
        };
        tokio::time::timeout(GLANCE, self.job.resolve_image(request)).await.map_err(silent)?
    }

    async fn resolve_repository(&self, request: &RepositoryRequest) -> Result<GitFacts, WorldError> {
        self.job.resolve_repository(request).await
    }

    async fn query(&self, state: &State, query: Query) -> Result<Answer, WorldError> {
        let mut definition = state.marshal(&self.sources).map_err(|error| malformed(&error))?;
        if let Some(naming) = &self.naming {
            naming(&mut definition);
        }
        let answer = match self.job.query(definition, query).await {
            // What is not answered is the question, whatever of it would be the first to run.
            Err(SolveError::Withheld { vertex, reason, name }) => {
                let asked = state.marshal(&self.sources).ok();
                let name = asked.as_ref().and_then(question).unwrap_or(name);
                Err(SolveError::Withheld { vertex, name, reason })
            }
            answer => answer,
        };
        // Marshalled again for the report alone: most questions are answered.
        answer.map_err(|error| self.failed(error, &|| state.marshal(&self.sources).into_iter().collect()))
    }

    async fn settle(&self, effects: &[Effect]) -> Result<(), WorldError> {
        if self.settling == Settling::Later {
            self.course().looked.extend(effects.iter().cloned());
            return Ok(());
        }
        let mut wanted = Wanted::annotated(&self.annotations).pushing(self.pushing).after(self.saved());
        for effect in effects {
            if self.pushing
                && self.settling != Settling::Nothing
                && let Effect::Write(output) = effect
                && let Some(found) = unpushable(output)
            {
                return Err(WorldError::Failed { kind: found.kind, message: found.message });
            }
            let added = match (effect, self.settling) {
                (_, Settling::Nothing | Settling::Later) => return Ok(()),
                (Effect::Make { label, state }, Settling::Make | Settling::Write) => {
                    wanted.root(label, state, &self.sources).map(drop)
                }
                (Effect::Write(output), Settling::Make) => {
                    self.hold_back([output]);
                    wanted
                        .root_of(output, &self.sources)
                        .and_then(|_| wanted.pushed_alone(output, &self.sources))
                }
                (Effect::Write(output), Settling::Write) => {
                    self.hold_back([output]);
                    wanted.planned(output, &self.root, &self.sources)
                }
                (Effect::Place { label, artifact }, Settling::Make | Settling::Write) => {
                    let output = PlannedOutput::Artifact { label: label.clone(), artifact: artifact.clone() };
                    wanted.planned(&output, &self.root, &self.sources)
                }
            };
            added.map_err(|error| malformed(&error))?;
        }
        let Asked { request, loads: _, notes: _ } = wanted.asked();
        let roots = request.roots.clone();
        let result = self.job.solve(request).await.map_err(|error| {
            self.failed(error, &|| roots.iter().map(|root| root.definition.clone()).collect())
        })?;
        self.note_saved(effects.iter().filter_map(|effect| match effect {
            Effect::Write(output) => Some(output),
            Effect::Make { .. } | Effect::Place { .. } => None,
        }));
        self.note_written(result);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
