//! The engine's side of a build's world: a frontend's questions and effects, on the one job of the build.
//!
//! In: states and effects of a frontend. Out: answers; and for the end of the build what was written on the way
//! ([`BuildGateway::written`]) and the step that failed, if one did ([`BuildGateway::failure`]), as its report needs it.
//! **Invariant:** effects are solved and written by the code that writes the outputs at the end of a build, in the order
//! given.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use rb_api::{ExportResult, Job, PushedImage, SolveError, SolveRequest};
use rb_diag::{ErrorKind, SourceMap, chain};
use rb_frontend::{Answer, Effect, Gateway, ImageRequest, PlannedOutput, Query, ResolvedImage, WorldError};
use rb_llb::{Definition, LlbError, State};

use super::build::{refused_platforms, unpushable};
use super::exports::Wanted;
use crate::output_spec::Annotation;
use crate::report::Failure;

/// How far effects go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settling {
    /// Filesystems are made, outputs are written.
    Write,
    /// Filesystems are made.
    Make,
    /// Nothing happens: only the graph is wanted.
    Nothing,
}

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
    course: Mutex<Course>,
}

/// What came of it so far.
#[derive(Default)]
struct Course {
    written: Vec<ExportResult>,
    pushed: Vec<PushedImage>,
    /// Names marked `--push` in a build that does not push.
    held: Vec<String>,
    failure: Option<Failure>,
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

    /// Takes what effects have written and pushed, in order.
    pub(super) fn written(&self) -> (Vec<ExportResult>, Vec<PushedImage>) {
        let mut course = self.course();
        (std::mem::take(&mut course.written), std::mem::take(&mut course.pushed))
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

    /// Takes the failure of the first step that failed for an answer or an effect.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.course().failure.take()
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().expect("no holder of this lock panics")
    }

    /// Tells the frontend of a failure, and keeps that of a step for the report.
    fn failed(&self, error: SolveError, definitions: impl FnOnce() -> Vec<Definition>) -> WorldError {
        match &error {
            SolveError::Vertex { vertex, name: _, kind, message, help: _, log_tail: _ } => {
                let told = WorldError::Step { vertex: *vertex, kind: *kind, message: message.clone() };
                let failure = Failure::Solve { error: Box::new(error), definitions: definitions() };
                self.course().failure.get_or_insert(failure);
                told
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

fn malformed(error: &LlbError) -> WorldError {
    WorldError::Failed { kind: error.kind(), message: chain(error) }
}

#[async_trait]
impl Gateway for BuildGateway {
    async fn resolve_image(&self, request: &ImageRequest) -> Result<ResolvedImage, WorldError> {
        self.job.resolve_image(request).await
    }

    async fn query(&self, state: &State, query: Query) -> Result<Answer, WorldError> {
        let definition = state.marshal(&self.sources).map_err(|error| malformed(&error))?;
        let answer = self.job.query(definition, query).await;
        // Marshalled again for the report alone: most questions are answered.
        answer.map_err(|error| self.failed(error, || state.marshal(&self.sources).into_iter().collect()))
    }

    async fn settle(&self, effects: &[Effect]) -> Result<(), WorldError> {
        let outputs = effects.iter().filter_map(|effect| match effect {
            Effect::Write(output) => Some(output),
            Effect::Make { .. } | Effect::Place { .. } => None,
        });
        if self.settling != Settling::Nothing
            && let Some(found) = refused_platforms(outputs)
        {
            return Err(WorldError::Failed { kind: found.kind, message: found.message });
        }
        let mut wanted = Wanted::annotated(&self.annotations).pushing(self.pushing);
        for effect in effects {
            if self.pushing
                && self.settling != Settling::Nothing
                && let Effect::Write(output) = effect
                && let Some(found) = unpushable(output)
            {
                return Err(WorldError::Failed { kind: found.kind, message: found.message });
            }
            let added = match (effect, self.settling) {
                (_, Settling::Nothing) => return Ok(()),
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
        let Wanted { roots, exports, .. } = wanted;
        let request = SolveRequest { roots: roots.clone(), exports };
        let result = self.job.solve(request).await.map_err(|error| {
            self.failed(error, || roots.into_iter().map(|root| root.definition).collect())
        })?;
        let mut course = self.course();
        course.written.extend(result.exports);
        course.pushed.extend(result.pushed);
        drop(course);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
