//! Resolve: names of targets become references, and every file they lead to is read.
//!
//! In: the target that was asked for and a `Workspace`. Out: a [`Program`] of `Buildfile<Resolved>`s, or all errors
//! of all files that the target reaches. How: read a file, settle all its references by their text, check those
//! that stay inside it, then follow what the reached recipes call; a reference with a `$` in it stays a word, and
//! evaluation settles it by the same function.
//! **Invariant:** in a program every settled call of a reached recipe leads to a target that exists, and no chain of
//! settled calls leads back to its start.

mod cycles;
mod reference;
mod tree;

pub(crate) use cycles::cycle;
pub(crate) use reference::{dividing_plus, parse_reference};

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use rb_diag::{Diagnostic, Diagnostics, Severity, SourceFile, Span, nearest};
use rb_frontend::{FileKind, ProjectRef, TargetRef, Workspace, WorldError};
use rb_syntax::{Base, Buildfile, Call, CopySource, Edition, Stage, Stmt, StmtKind, Word};

use crate::codes;

/// Name of the recipe above the first target.
pub(crate) const BASE: &str = "base";

/// As resolved: a reference is the target it means.
#[derive(Debug, Clone, PartialEq)]
pub enum Resolved {}

impl Stage for Resolved {
    type Target = Reference;
}

/// What stands where a target is called.
#[derive(Debug, Clone, PartialEq)]
pub enum Reference {
    /// Known before anything is evaluated.
    Settled {
        /// What it means.
        target: TargetRef,
        /// What was written.
        written: Word,
    },
    /// Has variables in it.
    Dynamic(Word),
}

/// One build file.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) project: ProjectRef,
    pub(crate) source: Arc<SourceFile>,
    pub(crate) edition: Edition,
    pub(crate) buildfile: Buildfile<Resolved>,
    /// Its text has errors, so what is missing in the tree may only be misread.
    broken: bool,
}

impl File {
    /// Returns the statements of a target, or of the base recipe.
    pub(crate) fn recipe(&self, name: &str) -> Option<&[Stmt<Resolved>]> {
        match name {
            BASE => Some(&self.buildfile.base),
            name => self.buildfile.target(name).map(|recipe| recipe.body.as_slice()),
        }
    }

    /// Returns what a recipe calls, as far as it is settled, and first the base recipe, which is below every target.
    fn needs(&self, name: &str) -> Vec<(TargetRef, Span)> {
        let base = self.buildfile.base.first().filter(|_| name != BASE);
        let base =
            base.map(|stmt| (TargetRef { project: self.project.clone(), name: BASE.to_owned() }, stmt.span));
        let calls = calls(self.recipe(name).unwrap_or_default()).filter_map(|call| match &call.target {
            Reference::Settled { target, .. } => Some((target.clone(), call.span)),
            Reference::Dynamic(_) => None,
        });
        base.into_iter().chain(calls).collect()
    }

    fn unknown_target(&self, target: &TargetRef, at: Option<Span>) -> Diagnostic {
        let names = self.buildfile.targets.iter().map(|recipe| recipe.name.value.as_str());
        let near = nearest(&target.name, names.clone())
            .map(|name| TargetRef { project: target.project.clone(), name: name.to_owned() }.to_string());
        let message = format!("there is no target `{}` in {}", target.name, self.source.name);
        let error = Diagnostic::error(codes::UNKNOWN_TARGET, message);
        let error = match at {
            Some(span) => error.with_label(span, "no such target"),
            None => error,
        };
        match near {
            Some(near) => error.with_help(format!("did you mean `{near}`?")),
            None => match names.take(8).map(|name| format!("`+{name}`")).collect::<Vec<_>>() {
                all if all.is_empty() => error.with_help("the file has no targets"),
                all => error.with_help(format!("it has {}", all.join(", "))),
            },
        }
    }
}

/// All files that a build has met so far.
pub(crate) struct Program<'w> {
    workspace: &'w dyn Workspace,
    files: Mutex<BTreeMap<ProjectRef, Arc<File>>>,
    /// Findings that do not stop the build.
    warnings: Mutex<Diagnostics>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}

/// Reads what `entry` reaches and checks it.
pub(crate) async fn resolve<'w>(
    workspace: &'w dyn Workspace,
    entry: &TargetRef,
) -> Result<Program<'w>, Diagnostics> {
    let program = Program { workspace, files: Mutex::default(), warnings: Mutex::default() };
    let mut errors = Vec::new();
    let mut reached = BTreeSet::new();
    let mut queue = VecDeque::from([(entry.clone(), None)]);
    // A project that could not be read is reported at each reference, but read once.
    let mut failed: BTreeMap<ProjectRef, Diagnostics> = BTreeMap::new();
    while let Some((target, at)) = queue.pop_front() {
        if let Some(known) = failed.get(&target.project) {
            errors.extend(known.iter().filter_map(|error| relocate(error, at)));
            continue;
        }
        let file = match program.load(&target.project, at).await {
            Ok((file, fresh)) => {
                errors.extend(fresh);
                file
            }
            Err(error) => {
                failed.insert(target.project.clone(), vec![error.clone()]);
                errors.push(error);
                continue;
            }
        };
        if file.recipe(&target.name).is_none() {
            // Inside one file every call was checked as it was read.
            let checked = at.is_some_and(|span| span.source == file.source.id);
            if !file.broken && !checked {
                errors.push(file.unknown_target(&target, at));
            }
            continue;
        }
        if reached.insert(target.clone()) {
            queue.extend(file.needs(&target.name).into_iter().map(|(target, at)| (target, Some(at))));
        }
    }
    errors.extend(cycles::find(&lock(&program.files), &reached));
    let (warnings, mut errors): (Vec<_>, Vec<_>) =
        errors.into_iter().partition(|found| found.severity == Severity::Warning);
    lock(&program.warnings).extend(warnings);
    if errors.is_empty() {
        return Ok(program);
    }
    errors.sort_by_key(|error| error.labels.first().map(|label| label.span));
    errors.dedup();
    Err(errors)
}

/// Says of another reference what was said of the first one.
fn relocate(error: &Diagnostic, at: Option<Span>) -> Option<Diagnostic> {
    let mut error = error.clone();
    error.labels.first_mut()?.span = at?;
    Some(error)
}

impl Program<'_> {
    /// Returns the build file of a project that evaluation came upon, reading it if it is new.
    async fn file(&self, project: &ProjectRef, at: Option<Span>) -> Result<Arc<File>, Diagnostic> {
        let (file, mut found) = self.load(project, at).await?;
        match found.iter().position(|found| found.severity == Severity::Error) {
            Some(first) => Err(found.swap_remove(first)),
            None => {
                lock(&self.warnings).extend(found);
                Ok(file)
            }
        }
    }

    /// Hands out the findings that do not stop the build.
    pub(crate) fn take_warnings(&self) -> Diagnostics {
        std::mem::take(&mut lock(&self.warnings))
    }

    /// Returns the file of a project that was read before.
    pub(crate) fn loaded(&self, project: &ProjectRef) -> Option<Arc<File>> {
        lock(&self.files).get(project).cloned()
    }

    /// Returns a target's file after checking that the target exists.
    pub(crate) async fn target_file(
        &self,
        target: &TargetRef,
        at: Option<Span>,
    ) -> Result<Arc<File>, Diagnostic> {
        let file = self.file(&target.project, at).await?;
        match file.recipe(&target.name) {
            Some(_) => Ok(file),
            None => Err(file.unknown_target(target, at)),
        }
    }

    /// Reads a file unless it was read before; what is found in its text comes along the first time.
    async fn load(
        &self,
        project: &ProjectRef,
        at: Option<Span>,
    ) -> Result<(Arc<File>, Diagnostics), Diagnostic> {
        if let Some(file) = self.loaded(project) {
            return Ok((file, Vec::new()));
        }
        let source = read(self.workspace, project, at).await?;
        let parse = rb_syntax::parse(&source);
        let broken = parse.diagnostics.iter().any(|found| found.severity == Severity::Error);
        let mut found = parse.diagnostics;
        let edition = edition(&parse.buildfile);
        let buildfile = tree::resolve(parse.buildfile, project, &mut found);
        let file = Arc::new(File { project: project.clone(), source, edition, buildfile, broken });
        if !broken {
            let recipes = file.buildfile.targets.iter().map(|recipe| recipe.body.as_slice());
            let all = std::iter::once(file.buildfile.base.as_slice()).chain(recipes).flat_map(calls);
            found.extend(all.filter_map(|call| match &call.target {
                Reference::Settled { target, .. } => {
                    let missing = target.project == *project && file.recipe(&target.name).is_none();
                    missing.then(|| file.unknown_target(target, Some(call.span)))
                }
                Reference::Dynamic(_) => None,
            }));
        }
        lock(&self.files).insert(project.clone(), Arc::clone(&file));
        Ok((file, found))
    }
}

/// Reads the text of a project's build file; `at` is the reference that leads there.
pub(crate) async fn read(
    workspace: &dyn Workspace,
    project: &ProjectRef,
    at: Option<Span>,
) -> Result<Arc<SourceFile>, Diagnostic> {
    match workspace.buildfile(project).await {
        Ok(source) => Ok(source),
        Err(cause) => Err(no_buildfile(workspace, project, &cause, at).await),
    }
}

async fn no_buildfile(
    workspace: &dyn Workspace,
    project: &ProjectRef,
    cause: &WorldError,
    at: Option<Span>,
) -> Diagnostic {
    let label = |error: Diagnostic| match at {
        Some(span) => error.with_label(span, "leads there"),
        None => error,
    };
    let help = match cause {
        WorldError::NotFound { help, .. } => help,
        WorldError::Failed { .. } | WorldError::Step { .. } => {
            return label(Diagnostic::error(codes::NO_BUILDFILE, cause.to_string()).with_kind(cause.kind()));
        }
    };
    let place = match project.dir() {
        "" => "here".to_owned(),
        dir => format!("in `{dir}`"),
    };
    let error = label(Diagnostic::error(codes::NO_BUILDFILE, format!("there is no Buildfile {place}")));
    match (near_folder(workspace, project).await, help) {
        (Some(near), _) => error.with_help(format!("did you mean `{near}`?")),
        (None, Some(help)) => error.with_help(help.clone()),
        (None, None) => {
            error.with_help("a Buildfile, an Earthfile or a build.earth makes a folder a project")
        }
    }
}

async fn near_folder(workspace: &dyn Workspace, project: &ProjectRef) -> Option<String> {
    let dir = project.dir();
    let (parent, name) = dir.rsplit_once('/').unwrap_or(("", dir));
    if name.is_empty() || name == ".." {
        return None;
    }
    let folder = ProjectRef::Local { dir: parent.to_owned() };
    let entries = workspace.list(&folder, "").await.unwrap_or_default();
    let folders = entries.iter().filter(|entry| entry.kind == FileKind::Directory);
    let near = nearest(name, folders.map(|entry| entry.name.as_str()))?;
    Some(folder.join(near).dir().to_owned())
}

/// The edition of a file; one without a VERSION line is read by our own rules.
pub(crate) fn edition<S: Stage>(buildfile: &Buildfile<S>) -> Edition {
    buildfile.version.as_ref().map_or(Edition::One, |version| version.edition)
}

/// Returns all calls of some statements, in order.
pub(crate) fn calls(body: &[Stmt<Resolved>]) -> impl Iterator<Item = &Call<Resolved>> {
    body.iter().flat_map(|stmt| -> Vec<&Call<Resolved>> {
        match &stmt.kind {
            StmtKind::From(Base::Target(call)) | StmtKind::Build(call) => vec![call],
            StmtKind::Copy(copy) => copy
                .sources
                .iter()
                .filter_map(|source| match source {
                    CopySource::Artifact { call, .. } => Some(call),
                    CopySource::Path(_) => None,
                })
                .collect(),
            StmtKind::From(Base::Scratch | Base::Image(_) | Base::Host { .. })
            | StmtKind::Run(_)
            | StmtKind::Arg(_)
            | StmtKind::Env { .. }
            | StmtKind::Workdir(_)
            | StmtKind::Entrypoint(_)
            | StmtKind::Cmd(_)
            | StmtKind::SaveArtifact(_)
            | StmtKind::SaveImage(_) => Vec::new(),
        }
    })
}
