//! TRY, and `SAVE ARTIFACT --always`: what is done when a command fails.
//!
//! What may fail is made statement by statement, so that it is known which one failed, and what is there then: the
//! filesystem as the command that failed left it, or, where it is no command of this recipe, as it was before. CATCH, then
//! FINALLY work on that, and their outputs are written at once, for nothing comes after them: the build ends with what
//! failed first. A recipe with `SAVE ARTIFACT --always` is one that tries all above the last of these, and finally saves
//! what they name, as far as it is there.
//! **Invariant:** only commands that fail are dealt with; a mistake in a build file or a disk that is full is not.

use rb_diag::{Diagnostic, ErrorKind, Span};
use rb_frontend::{Effect, Untaken, WorldError};
use rb_llb::{NodeMeta, State};
use rb_syntax::{Stmt, StmtKind, Try};

use super::control::Work;
use super::frame::Frame;
use super::{Evaluator, Fallible, plan, world_error};
use crate::codes;
use crate::lower;
use crate::resolve::Resolved;

/// What was made of a recipe while something is tried.
pub(super) struct Trying {
    /// The filesystem: where something has failed, as that left it.
    state: State,
    /// How many artifacts.
    artifacts: usize,
    /// How many BUILDs.
    builds: usize,
}

/// What a recipe had before something was tried.
struct Before {
    images: usize,
    artifacts: usize,
    builds: usize,
    artifact_tree: State,
    nesting: usize,
    waiting: usize,
    trying: Option<Trying>,
}

/// Which statements are tried.
#[derive(Clone, Copy)]
enum Tried<'b> {
    /// Those of a block.
    Block(&'b [Stmt<Resolved>]),
    /// Those of a recipe down to its last `SAVE ARTIFACT --always`.
    Above(&'b [Stmt<Resolved>]),
}

impl Evaluator<'_> {
    /// `TRY … CATCH … FINALLY … END`
    pub(super) fn attempt<'f>(
        &'f self,
        frame: &'f mut Frame,
        at: Span,
        attempt: &'f Try<Resolved>,
    ) -> Work<'f> {
        Box::pin(self.attempted(frame, at, attempt))
    }

    async fn attempted(&self, frame: &mut Frame, at: Span, attempt: &Try<Resolved>) -> Fallible<()> {
        let Try { body, catch, finally } = attempt;
        let (catch, finally) = (catch.as_deref().unwrap_or_default(), finally.as_deref().unwrap_or_default());
        let made_before = (frame.artifacts.len(), frame.builds.len());
        let Some((failure, _)) = self.failure_of(frame, at, Tried::Block(body)).await? else {
            if !catch.is_empty() {
                self.pass_by(frame, made_before)?;
            }
            return self.body(frame, finally).await;
        };
        self.deal_with(frame, at, catch).await;
        self.deal_with(frame, at, finally).await;
        Err(failure)
    }

    /// Notes that a CATCH was not evaluated, with what was tried: `artifacts` and `builds` are those from before.
    fn pass_by(&self, frame: &Frame, (artifacts, builds): (usize, usize)) -> Fallible<()> {
        let mut tried = vec![frame.state.clone()];
        tried.extend(frame.artifacts.iter().skip(artifacts).map(|artifact| artifact.state.clone()));
        let mut names = plan::ImageNames::default();
        for target in plan::callees_first(frame.builds.get(builds..).unwrap_or_default()) {
            tried.extend(plan::outputs(target, &mut names)?.roots.into_iter().map(|(_, state)| state));
        }
        let vertices = tried.iter().filter_map(|state| state.digest().ok().flatten());
        let after = vertices.map(|edge| edge.vertex).collect();
        let one = Untaken { label: frame.key.to_string(), what: "CATCH".to_owned(), after };
        self.untaken.lock().expect("no holder of this lock panics").push(one);
        Ok(())
    }

    /// Evaluates the statements of a recipe down to its last `SAVE ARTIFACT --always`, and returns how many those are.
    pub(super) async fn always(&self, frame: &mut Frame, above: &[Stmt<Resolved>]) -> Fallible<usize> {
        let at = above.last().map_or_else(Span::default, |stmt| stmt.span);
        let Some((failure, failed)) = self.failure_of(frame, at, Tried::Above(above)).await? else {
            return Ok(above.len());
        };
        for (place, stmt) in above.iter().enumerate() {
            if is_always(stmt) {
                self.deal_with(frame, at, &[as_far_as_there(stmt)]).await;
            } else if place > failed && is_declaration(stmt) {
                // What is saved below may be named with it.
                self.deal_with(frame, at, std::slice::from_ref(stmt)).await;
            }
        }
        Err(failure)
    }

    /// Notes that a statement was evaluated: where something is tried, makes what that added.
    pub(super) async fn made(&self, frame: &mut Frame, at: Span) -> Fallible<()> {
        let Some(trying) = &frame.trying else { return Ok(()) };
        let mut effects = Vec::new();
        let mut names = plan::ImageNames::default();
        for target in plan::callees_first(frame.builds.get(trying.builds..).unwrap_or_default()) {
            let roots = plan::outputs(target, &mut names)?.roots;
            effects.extend(roots.into_iter().map(|(label, state)| Effect::Make { label, state }));
        }
        let label = || frame.key.to_string();
        if frame.locally.is_none() && !frame.state.is_scratch() && !is_same(&frame.state, &trying.state) {
            effects.push(Effect::Make { label: label(), state: frame.state.clone() });
        }
        for artifact in frame.artifacts.iter().skip(trying.artifacts) {
            effects.push(Effect::Make { label: label(), state: artifact.state.clone() });
        }
        let settled = if effects.is_empty() { Ok(()) } else { self.world.gateway().settle(&effects).await };
        let (artifacts, builds) = (frame.artifacts.len(), frame.builds.len());
        let state = match &settled {
            Ok(()) => frame.state.clone(),
            Err(error) => match left_by(error, &frame.state) {
                Some(state) => state,
                None => trying.state.clone(),
            },
        };
        frame.trying = Some(Trying { state, artifacts, builds });
        settled.map_err(|error| world_error(codes::EFFECT, &error, at))
    }

    /// Evaluates and makes what is tried. Returns why it failed, if it did, and of what stands above an `--always` also
    /// which statement; the recipe is then as that left it.
    async fn failure_of(
        &self,
        frame: &mut Frame,
        at: Span,
        tried: Tried<'_>,
    ) -> Fallible<Option<(Diagnostic, usize)>> {
        let before = Before {
            images: frame.images.len(),
            artifacts: frame.artifacts.len(),
            builds: frame.builds.len(),
            artifact_tree: frame.artifact_tree.clone(),
            nesting: frame.nesting,
            waiting: frame.waiting,
            trying: frame.trying.take(),
        };
        let (artifacts, builds) = (before.artifacts, before.builds);
        frame.trying = Some(Trying { state: State::scratch(), artifacts, builds });
        // What stands above is not tried.
        if let Err(error) = self.made(frame, at).await {
            frame.trying = before.trying;
            return Err(error);
        }
        let mut reached = 0;
        let tries = self.tries();
        let done = match tried {
            Tried::Block(body) => self.body(frame, body).await,
            Tried::Above(body) => Box::pin(self.each(frame, body, &mut reached)).await,
        };
        drop(tries);
        let made = frame.trying.take();
        let Err(failure) = done else {
            // What is made is made, also for what is tried around this.
            frame.trying = if before.trying.is_some() { made } else { None };
            return Ok(None);
        };
        frame.trying = before.trying;
        if failure.kind != ErrorKind::Build {
            return Err(failure);
        }
        if let Some(Trying { state, .. }) = made {
            // What is tried around this has failed, too, at the same place.
            if let Some(around) = &mut frame.trying {
                around.state.clone_from(&state);
            }
            frame.state = state;
        }
        frame.images.truncate(before.images);
        frame.artifacts.truncate(before.artifacts);
        self.leave(frame, before.builds);
        frame.artifact_tree = before.artifact_tree;
        (frame.nesting, frame.waiting) = (before.nesting, before.waiting);
        Ok(Some((failure, reached)))
    }

    /// Evaluates and makes statements in order; `reached` is the one that is next.
    async fn each(&self, frame: &mut Frame, body: &[Stmt<Resolved>], reached: &mut usize) -> Fallible<()> {
        while *reached < body.len()
            && let Some(work) = self.with_care(frame, body, (*reached, None))
        {
            *reached += work.await?;
        }
        Ok(())
    }

    /// Evaluates statements after a failure, and writes what they save. What goes wrong is told beside it, and leaves the
    /// filesystem as it was before them.
    async fn deal_with(&self, frame: &mut Frame, at: Span, body: &[Stmt<Resolved>]) {
        if body.is_empty() {
            return;
        }
        let (nesting, waiting) = (frame.nesting, frame.waiting);
        let (state, trying) = (frame.state.clone(), frame.trying.take());
        // A repository elsewhere writes nothing that nobody asked it for.
        let was_rescuing =
            std::mem::replace(&mut frame.rescuing, frame.key.target.project.repository().is_none());
        if let Err(error) = self.wait(frame, at, body).await {
            frame.state = state;
            self.aftermath.lock().expect("no holder of this lock panics").push(error);
        }
        (frame.nesting, frame.waiting, frame.trying) = (nesting, waiting, trying);
        frame.rescuing = was_rescuing;
    }
}

/// Returns the place of the last `SAVE ARTIFACT --always` among statements.
pub(super) fn last_always(body: &[Stmt<Resolved>]) -> Option<usize> {
    body.iter().rposition(is_always)
}

fn is_always(stmt: &Stmt<Resolved>) -> bool {
    matches!(&stmt.kind, StmtKind::SaveArtifact(save) if save.always)
}

fn is_declaration(stmt: &Stmt<Resolved>) -> bool {
    matches!(
        &stmt.kind,
        StmtKind::Arg(_) | StmtKind::Let(_) | StmtKind::Set(_) | StmtKind::Env(_) | StmtKind::Workdir(_)
    )
}

/// Returns a SAVE ARTIFACT that takes it as it comes that nothing is there.
fn as_far_as_there(stmt: &Stmt<Resolved>) -> Stmt<Resolved> {
    let mut stmt = stmt.clone();
    if let StmtKind::SaveArtifact(save) = &mut stmt.kind {
        (save.if_exists, save.always) = (true, false);
    }
    stmt
}

/// Returns what the last command of a filesystem has left, if that is what failed.
fn left_by(error: &WorldError, state: &State) -> Option<State> {
    let WorldError::Step { vertex, .. } = error else { return None };
    let last = state.digest().ok().flatten()?;
    (last.vertex == *vertex).then(|| lower::left(vertex, NodeMeta::named("[internal] what the step left")))
}

fn is_same(one: &State, other: &State) -> bool {
    let (one, other) = (one.digest().ok().flatten(), other.digest().ok().flatten());
    one.is_some() && one == other
}
