//! Evaluate: each target key once, statement by statement, into a [`TargetOutput`].
//!
//! In: a [`Program`] and the request. Out: a [`BuildPlan`], or the first error with the trail of how the build got
//! there. How: a target is evaluated in a [`Frame`] that starts from what the base recipe left; calls are evaluated
//! first and taken from the memo afterwards. What only a command or a file can tell is asked of the world where a word,
//! an IF or a FOR needs it.
//! **Invariant:** a [`TargetKey`] is evaluated at most once, and its output is a function of the arguments it read, the
//! files and the world's answers.

mod answers;
mod arguments;
mod attempt;
mod base;
mod binds;
mod buildpacks;
mod builtins;
mod caches;
mod call;
mod commands;
mod control;
mod copy;
mod dockerfile;
mod driver;
mod expand;
mod files;
mod found;
mod frame;
mod functions;
mod git_clone;
mod ignore;
mod inputs;
mod locally;
mod memo;
mod metadata;
mod owner;
mod plan;
mod run;
mod save;
mod scripts;
#[cfg(test)]
mod tests;
mod trust;
mod variables;
mod wait;

pub use builtins::builtin_arguments;
pub use functions::CALLED_FROM;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rb_diag::{Diagnostic, Diagnostics, ErrorKind, Span};
use rb_expression::Value;
use rb_frontend::{
    BuildPlan, BuildRequest, ProjectRef, TargetKey, TargetOutput, TargetRef, Untaken, World, WorldError,
};
use rb_llb::HostAddress;
use rb_oci::Platform;

use crate::project::ProjectConfig;
use crate::resolve::{BASE, Entry, File, Imports, Program};
use crate::{OUTSIDE_HELP, codes};
use driver::{Desk, Wish};
use frame::Frame;

type Fallible<T> = Result<T, Diagnostic>;

/// What evaluation of one key gives.
#[derive(Debug, Clone)]
struct Evaluated {
    output: Arc<TargetOutput>,
    /// Global ARGs, of a base recipe only.
    globals: BTreeMap<String, Value>,
    /// Aliases that the whole file has, of a base recipe only.
    imports: Imports,
    /// Arguments that were looked at.
    reads: BTreeSet<String>,
    /// Some FROM stood in it, so that statements can work on its filesystem.
    based: bool,
    /// It left out a `RUN --push`, its own or below, because nothing but BUILD pushes.
    silenced: bool,
    /// Names that steps on its filesystem know (HOST).
    hosts: Vec<HostAddress>,
    /// It ended in LOCALLY, in this folder.
    locally: Option<String>,
    /// Why something that it BUILDs or takes could not be evaluated, and the build goes on.
    lacks: Option<Arc<Diagnostic>>,
}

struct Evaluator<'w> {
    world: &'w dyn World,
    program: Program<'w>,
    config: ProjectConfig,
    request: &'w BuildRequest,
    /// What was asked for.
    targets: Vec<Entry>,
    desk: Mutex<Desk>,
    facts: Mutex<BTreeMap<ProjectRef, Arc<inputs::Facts>>>,
    answers: Mutex<answers::Known>,
    /// How often the user's tree was looked at anew.
    looks: AtomicUsize,
    /// How many statements were evaluated.
    statements: AtomicUsize,
    /// How many commands ran on the host.
    host_commands: AtomicUsize,
    /// Outputs that a WAIT has written.
    settled: Mutex<BTreeSet<plan::OutputId>>,
    /// Each `RUN --push` that was left out because the build does not push, in order, once.
    held: Mutex<Vec<String>>,
    warnings: Mutex<Diagnostics>,
    /// What went wrong while a failure was dealt with.
    aftermath: Mutex<Diagnostics>,
    /// What recipes BUILD that could not be evaluated themselves, and the build goes on.
    left: Mutex<Vec<Arc<TargetOutput>>>,
    /// CATCHes that nothing led to.
    untaken: Mutex<Vec<Untaken>>,
}

/// Evaluates what was asked for.
pub(crate) async fn evaluate(
    world: &dyn World,
    program: Program<'_>,
    config: ProjectConfig,
    request: &BuildRequest,
    targets: Vec<Entry>,
) -> Result<BuildPlan, Diagnostics> {
    Evaluator::new(world, program, config, request, targets).plan().await
}

impl<'w> Evaluator<'w> {
    fn new(
        world: &'w dyn World,
        program: Program<'w>,
        config: ProjectConfig,
        request: &'w BuildRequest,
        targets: Vec<Entry>,
    ) -> Self {
        Self {
            world,
            program,
            config,
            request,
            targets,
            desk: Mutex::default(),
            facts: Mutex::default(),
            answers: Mutex::default(),
            looks: AtomicUsize::new(0),
            statements: AtomicUsize::new(0),
            host_commands: AtomicUsize::new(0),
            settled: Mutex::default(),
            held: Mutex::default(),
            warnings: Mutex::default(),
            aftermath: Mutex::default(),
            left: Mutex::default(),
            untaken: Mutex::default(),
        }
    }
}

impl Evaluator<'_> {
    async fn plan(&self) -> Result<BuildPlan, Diagnostics> {
        let one = |error: Diagnostic| vec![error];
        let (mut keys, mut wrong): (Vec<TargetKey>, Diagnostics) = (Vec::new(), Vec::new());
        for (target, args) in &self.targets {
            let missing = || one(internal(&format!("the build file of {target} was not read")));
            let file = self.program.loaded(&target.project).ok_or_else(missing)?;
            wrong.extend(args.keys().filter_map(|name| self.check_argument(&file, target, name, None).err()));
            let args = self.request.defaults.clone().into_iter().chain(args.clone()).collect();
            let args = self.facts(&file).reaching(&target.name, args);
            for platform in &self.request.platforms {
                let trusted = self.trusts_asked(&target.project);
                let (target, args, platform) = (target.clone(), args.clone(), platform.clone());
                let key = TargetKey { target, args, platform, trusted };
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
        if !wrong.is_empty() {
            wrong.dedup();
            return Err(wrong);
        }
        let driven = self.drive(keys).await;
        let mut aftermath =
            std::mem::take(&mut *self.aftermath.lock().expect("no holder of this lock panics"));
        let driven =
            driven.map_err(|error| std::iter::once(error).chain(aftermath.drain(..)).collect::<Vec<_>>())?;
        let mut warnings = self.program.take_warnings();
        // Of a build that goes on, the failures themselves are told with it.
        warnings.append(&mut aftermath);
        warnings.append(&mut self.warnings.lock().expect("no holder of this lock panics"));
        let settled = self.settled.lock().expect("no holder of this lock panics");
        let held = std::mem::take(&mut *self.held.lock().expect("no holder of this lock panics"));
        let left = std::mem::take(&mut *self.left.lock().expect("no holder of this lock panics"));
        let untaken = std::mem::take(&mut *self.untaken.lock().expect("no holder of this lock panics"));
        plan::plan(driven, left, &settled, held, untaken, (warnings, self.request.options.withhold_outputs))
            .map_err(one)
    }

    fn warn(&self, warning: Diagnostic) {
        self.warnings.lock().expect("no holder of this lock panics").push(warning);
    }

    /// Returns whether there are more warnings than anybody reads.
    fn has_many_warnings(&self) -> bool {
        const MANY: usize = 200;
        self.warnings.lock().expect("no holder of this lock panics").len() >= MANY
    }

    /// Returns a name for looks at the user's tree since the last command on the host; none before the first.
    fn look_after_commands(&self) -> Option<String> {
        let commands = self.host_commands.load(Ordering::Relaxed);
        (commands > 0).then(|| format!("after-{commands}"))
    }

    /// Returns a name for a look at the user's tree that no other look of this build has.
    fn next_look(&self) -> String {
        format!("look-{}", self.looks.fetch_add(1, Ordering::Relaxed))
    }

    async fn recipe(&self, wish: Wish) -> Fallible<Evaluated> {
        let Wish { key, at, loud, handed: _ } = wish;
        let file = self.program.target_file(&key.target, at).await?;
        let mut frame = if key.target.name == BASE || file.buildfile.base.is_empty() {
            Frame::new(Arc::clone(&file), key.clone(), loud)
        } else {
            let args = self.facts(&file).of_base(key.args.clone());
            let base = self.base_of(&file, args.clone(), &key.platform, key.trusted, at).await?;
            Frame::on_base(Arc::clone(&file), key.clone(), loud, args, &base)
        };
        let done = match file.project.dockerfile() {
            Some(_) => self.stage(&mut frame).await,
            None => self.body(&mut frame, file.recipe(&key.target.name).unwrap_or_default()).await,
        };
        match done {
            Ok(()) => Ok(frame.finish()),
            Err(error) => {
                self.leave(&mut frame, 0);
                Err(error)
            }
        }
    }

    /// Takes the BUILDs of a recipe from one on, which go on without it: where the build does, they are made and written.
    fn leave(&self, frame: &mut Frame, from: usize) {
        let builds = frame.builds.drain(from..);
        if frame.loud && self.request.keep_going {
            self.left.lock().expect("no holder of this lock panics").extend(builds);
        }
    }

    /// Returns what the base recipe of a file leaves for some of its arguments.
    async fn base_of(
        &self,
        file: &File,
        args: arguments::Args,
        platform: &Platform,
        trusted: bool,
        at: Option<Span>,
    ) -> Fallible<Evaluated> {
        let target = TargetRef { project: file.project.clone(), name: BASE.to_owned() };
        let key = TargetKey { target, args, platform: platform.clone(), trusted };
        let base = self.targets(vec![Wish::new(key, at, false)]).await?.pop();
        base.map(|(base, _)| base).ok_or_else(|| internal("a base recipe was asked for and not evaluated"))
    }
}

/// Our own mistake.
fn internal(message: &str) -> Diagnostic {
    Diagnostic::error(codes::NESTING, message)
        .with_kind(ErrorKind::Internal)
        .with_help("this is a mistake of rb itself; please report it with the build file")
}

/// Says that the outside could not answer.
fn world_error(code: &'static str, error: &WorldError, at: Span) -> Diagnostic {
    let found = Diagnostic::error(code, error.to_string()).with_kind(error.kind()).with_label(at, "");
    match error {
        WorldError::NotFound { help: Some(help), .. } => found.with_help(help.clone()),
        WorldError::NotFound { help: None, what } => {
            found.with_help(format!("see whether the name is right: {what} was looked for as written"))
        }
        WorldError::Failed { kind: ErrorKind::Build, .. } | WorldError::Step { .. } => {
            found.with_help("what went wrong in it stands above")
        }
        WorldError::Failed { kind: ErrorKind::Input, .. } => {
            found.with_help("change what is named, and build again")
        }
        WorldError::Failed { .. } => found.with_help(OUTSIDE_HELP),
    }
}
