//! Resolve: names of targets, functions and projects become references, and every file they lead to is read.
//!
//! In: the targets that were asked for and a `Workspace`. Out: a [`Program`] of `Buildfile<Resolved>`s, or all errors
//! of all files that the target reaches. How: read a file, settle all its references by their text and the aliases
//! at that place, then follow what the reached recipes call; a reference that variables decide stays a word, and
//! evaluation settles it by the same functions.
//! What counts: errors of a file's text always. In `VERSION 1` every recipe of a file is checked as far as the file
//! itself tells, and what a reached recipe calls is followed, from IF and FOR too. In Earthfiles only what is sure to be
//! evaluated is looked at; the rest is for evaluation to say, if it comes there.
//! **Invariant:** in a program every settled call that is sure to be made leads to a recipe that exists, and no chain
//! of such calls leads back to its start.

mod always;
mod cycles;
pub(crate) mod dockerfile;
mod file;
mod imports;
mod pattern;
mod read;
mod reference;
mod stage;
mod tree;
mod uses;
mod walk;

pub(crate) use cycles::cycle;
pub(crate) use file::{File, edition};
pub(crate) use imports::{Imported, Imports};
pub(crate) use read::{near_folder, read};
pub(crate) use reference::{
    Meaning, ReferenceError, default_alias, dividing_plus, parse_function, parse_project, parse_reference,
};
pub use stage::{FunctionReference, Pattern, ProjectReference, Reference, Resolved, Via};
pub(crate) use walk::{calls, statements};

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use rb_diag::{Diagnostic, Diagnostics, Severity, Span, nearest};
use rb_frontend::{FunctionRef, ProjectRef, TargetRef, TargetRequest, WantedTarget, Workspace, WorldError};
use rb_syntax::Word;

use crate::{OUTSIDE_HELP, codes};
use cycles::{Graph, Node};
use file::{Callee, like, needs};
use tree::{Refusal, Trouble};

/// Name of the recipe above the first target.
pub(crate) const BASE: &str = "base";

/// All files that a build has met so far.
pub(crate) struct Program<'w> {
    workspace: &'w dyn Workspace,
    files: Mutex<BTreeMap<ProjectRef, Arc<File>>>,
    /// What patterns mean that were looked at before.
    patterns: Mutex<BTreeMap<Pattern, Vec<TargetRef>>>,
    /// Findings that do not stop the build.
    warnings: Mutex<Diagnostics>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}

/// A target that was asked for, with the arguments given for it.
pub(crate) type Entry = (TargetRef, BTreeMap<String, String>);

/// The same, and the word that names it, where that is no pattern.
type Asked = (Entry, Option<String>);

/// Reads what the targets that were asked for reach, and checks it. Returns what patterns among them mean, too.
pub(crate) async fn resolve<'w>(
    workspace: &'w dyn Workspace,
    requests: &[TargetRequest],
) -> Result<(Program<'w>, Vec<Entry>), Diagnostics> {
    let program = Program {
        workspace,
        files: Mutex::default(),
        patterns: Mutex::default(),
        warnings: Mutex::default(),
    };
    let mut walk = Walk {
        program: &program,
        errors: Vec::new(),
        reached: BTreeSet::new(),
        failed: BTreeMap::new(),
        graph: Graph::new(),
    };
    let asked = walk.asked(requests).await;
    let first = |((target, _), typed): &Asked| {
        let node = Node::Target(target.clone());
        Step { node, from: None, typed: typed.clone() }
    };
    let mut queue: VecDeque<Step> = asked.iter().map(first).collect();
    while let Some(step) = queue.pop_front() {
        queue.extend(walk.step(step).await);
    }
    let mut errors = walk.errors;
    errors.extend(cycles::find(&walk.graph));
    errors.extend(uses::check(&lock(&program.files)));
    errors.extend(
        lock(&program.files).values().filter(|file| !file.broken).flat_map(|file| always::check(file)),
    );
    let (warnings, mut errors): (Vec<_>, Vec<_>) =
        errors.into_iter().partition(|found| found.severity == Severity::Warning);
    lock(&program.warnings).extend(warnings);
    if errors.is_empty() {
        return Ok((program, asked.into_iter().map(|(entry, _)| entry).collect()));
    }
    errors.sort_by_key(|error| error.labels.first().map(|label| label.span));
    errors.dedup();
    Err(errors)
}

/// The way through all that is reached.
struct Walk<'p, 'w> {
    program: &'p Program<'w>,
    errors: Diagnostics,
    reached: BTreeSet<Node>,
    /// A project that could not be read is reported at each reference, but read once.
    failed: BTreeMap<ProjectRef, Diagnostic>,
    /// The calls that are sure to be made.
    graph: Graph,
}

/// One recipe to look at.
struct Step {
    node: Node,
    /// The call that leads there.
    from: Option<Origin>,
    /// The word of the command line that names it.
    typed: Option<String>,
}

#[derive(Clone)]
struct Origin {
    span: Span,
    written: Word,
    /// The file it stands in, where it used an alias.
    imported: Option<Arc<File>>,
}

impl Walk<'_, '_> {
    /// Returns the targets that were asked for.
    async fn asked(&mut self, requests: &[TargetRequest]) -> Vec<Asked> {
        let mut asked = Vec::new();
        for TargetRequest { wanted, args, typed } in requests {
            let targets = match wanted {
                WantedTarget::One(target) => {
                    asked.push(((target.clone(), args.clone()), typed.clone()));
                    continue;
                }
                WantedTarget::Each { project, glob, name } => {
                    let (project, glob, name) = (project.clone(), glob.clone(), name.clone());
                    let pattern = Pattern { project, glob, name, via: Via::default() };
                    match self.program.fitting(&pattern, None, typed.as_deref()).await {
                        Ok((targets, found)) => {
                            self.errors.extend(found);
                            targets
                        }
                        Err(error) => {
                            self.errors.push(error);
                            Vec::new()
                        }
                    }
                }
            };
            asked.extend(targets.into_iter().map(|target| ((target, args.clone()), None)));
        }
        asked
    }

    /// Looks at one recipe and returns those it calls.
    async fn step(&mut self, Step { node, from, typed }: Step) -> Vec<Step> {
        let at = from.as_ref().map(|from| from.span);
        let imported = |error: Diagnostic| {
            let caller = from.as_ref().and_then(|from| from.imported.as_ref());
            match caller.and_then(|caller| caller.import_of(node.project())) {
                Some(span) => error.with_label(span, "imported here"),
                None => error,
            }
        };
        if let Some(known) = self.failed.get(node.project()) {
            self.errors.extend(relocate(known, at).map(imported));
            return Vec::new();
        }
        let file = match self.program.load(node.project(), at).await {
            Ok((file, fresh)) => {
                self.errors.extend(fresh);
                file
            }
            Err(error) => {
                self.failed.insert(node.project().clone(), error.clone());
                self.errors.push(imported(error));
                return Vec::new();
            }
        };
        let body = match &node {
            Node::Target(target) => file.recipe(&target.name),
            Node::Function(function) => file.function(&function.name).map(|recipe| recipe.body.as_slice()),
        };
        if body.is_none() {
            // Inside a file that is checked whole every call was checked as it was read.
            let checked = file.is_checked_whole() && at.is_some_and(|span| span.source == file.source.id);
            if !file.broken && !checked {
                let written = from.as_ref().map(|from| from.written.raw.as_str());
                self.errors.push(unknown(&file, &node, at, written.or(typed.as_deref())));
            }
            return Vec::new();
        }
        if !self.reached.insert(node.clone()) {
            return Vec::new();
        }
        self.follow(&file, node).await
    }

    /// Returns what a recipe calls.
    async fn follow(&mut self, file: &Arc<File>, node: Node) -> Vec<Step> {
        if !file.is_checked_whole() {
            let own = |refusal: &&Refusal| refusal.recipe == node.name() && !refusal.conditional;
            for refusal in file.refused.iter().filter(own) {
                self.errors.push(self.program.explain(refusal, file).await);
            }
        }
        let mut steps = Vec::new();
        let mut sure = Vec::new();
        // The base recipe is below every target.
        if let (Node::Target(target), Some(first)) = (&node, file.buildfile.base.first())
            && target.name != BASE
        {
            let base = Node::Target(TargetRef { project: file.project.clone(), name: BASE.to_owned() });
            steps.push(Step { node: base.clone(), from: None, typed: None });
            sure.push((base, first.span));
        }
        for need in needs(file.body(node.name()).unwrap_or_default()) {
            if need.conditional && !file.is_checked_whole() {
                continue;
            }
            let mut callees = Vec::new();
            match need.callee {
                Callee::Target(target) => callees.push(Node::Target(target.clone())),
                Callee::Function(function) => {
                    callees.push(Node::Function(function.clone()));
                    // A function sees the globals of its own file.
                    if function.project != file.project {
                        let name = BASE.to_owned();
                        callees.push(Node::Target(TargetRef { project: function.project.clone(), name }));
                    }
                }
                Callee::Pattern(pattern) => {
                    match self.program.fitting(pattern, Some(need.span), None).await {
                        Ok((targets, found)) => {
                            self.errors.extend(found);
                            callees.extend(targets.into_iter().map(Node::Target));
                        }
                        Err(error) => self.errors.push(error),
                    }
                }
            }
            for callee in callees {
                let imported = need.imported.then(|| Arc::clone(file));
                let from = Origin { span: need.span, written: need.written.clone(), imported };
                steps.push(Step { node: callee.clone(), from: Some(from), typed: None });
                if !need.conditional {
                    sure.push((callee, need.span));
                }
            }
        }
        self.graph.insert(node, sure);
        steps
    }
}

/// Labels an error with the place it is about; what stands on the command line has none.
fn labelled(error: Diagnostic, at: Option<Span>, text: &str) -> Diagnostic {
    match at {
        Some(span) => error.with_label(span, text),
        None => error,
    }
}

fn unknown(file: &File, node: &Node, at: Option<Span>, written: Option<&str>) -> Diagnostic {
    match node {
        Node::Target(target) => file.unknown_target(target, at, written),
        Node::Function(function) => file.unknown_function(function, at, written),
    }
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
            None => Err(file.unknown_target(target, at, None)),
        }
    }

    /// Returns a function's file after checking that the function exists.
    pub(crate) async fn function_file(
        &self,
        function: &FunctionRef,
        at: Option<Span>,
    ) -> Result<Arc<File>, Diagnostic> {
        let file = self.file(&function.project, at).await?;
        match file.function(&function.name) {
            Some(_) => Ok(file),
            None => Err(file.unknown_function(function, at, None)),
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
        Ok(self.add(project, source).await)
    }

    /// Reads a file if there is one.
    async fn load_if_there(
        &self,
        project: &ProjectRef,
        at: Option<Span>,
    ) -> Result<Option<(Arc<File>, Diagnostics)>, Diagnostic> {
        if let Some(file) = self.loaded(project) {
            return Ok(Some((file, Vec::new())));
        }
        match self.workspace.buildfile(project).await {
            Ok(source) => Ok(Some(self.add(project, source).await)),
            Err(WorldError::NotFound { .. }) => Ok(None),
            Err(cause @ (WorldError::Failed { .. } | WorldError::Step { .. })) => {
                let error = Diagnostic::error(codes::NO_BUILDFILE, cause.to_string()).with_kind(cause.kind());
                Err(labelled(error, at, "leads there").with_help(OUTSIDE_HELP))
            }
        }
    }

    async fn add(&self, project: &ProjectRef, source: Arc<rb_diag::SourceFile>) -> (Arc<File>, Diagnostics) {
        let (file, mut found) = File::parse(project, source);
        let file = Arc::new(file);
        lock(&self.files).insert(project.clone(), Arc::clone(&file));
        if file.is_checked_whole() {
            for refusal in &file.refused {
                found.push(self.explain(refusal, &file).await);
            }
            if !file.broken {
                found.extend(unknown_names(&file));
            }
        }
        (file, found)
    }

    /// Says what is wrong with a reference, and what may have been meant as far as the files tell.
    async fn explain(&self, refusal: &Refusal, file: &File) -> Diagnostic {
        let (error, span) = match &refusal.trouble {
            Trouble::Import(error) => return error.clone(),
            Trouble::Reference(error, span) => (error, *span),
        };
        let found = error.diagnostic().with_label(span, "");
        let near = match error {
            ReferenceError::UnknownAlias { text, alias, near: None } => {
                let folder = read::folder_like(self.workspace, &file.project, alias).await;
                folder
                    .map(|folder| format!("./{folder}{}", &text[dividing_plus(text).unwrap_or(text.len())..]))
            }
            ReferenceError::Function { text, function } => {
                let callee = self.loaded(&function.project);
                callee.filter(|callee| callee.function(&function.name).is_none()).and_then(|callee| {
                    let names = || callee.buildfile.targets.iter().map(|recipe| recipe.name.value.as_str());
                    replace_name(
                        text,
                        like(&function.name, names()).or_else(|| nearest(&function.name, names()))?,
                    )
                })
            }
            ReferenceError::Target { text, target } => {
                let callee = self.loaded(&target.project);
                callee.filter(|callee| callee.buildfile.target(&target.name).is_none()).and_then(|callee| {
                    let names = || callee.buildfile.functions.iter().map(|recipe| recipe.name.value.as_str());
                    replace_name(
                        text,
                        like(&target.name, names()).or_else(|| nearest(&target.name, names()))?,
                    )
                })
            }
            _ => None,
        };
        found.with_nearest(near.as_deref())
    }
}

/// Returns a reference with another name behind the plus.
fn replace_name(text: &str, name: &str) -> Option<String> {
    dividing_plus(text).map(|plus| format!("{}{name}", &text[..=plus]))
}

/// Reports every call of a file to a recipe of the same file that does not exist.
fn unknown_names(file: &File) -> Diagnostics {
    let missing = |need: file::Need<'_>| match need.callee {
        Callee::Target(target) if target.project == file.project && file.recipe(&target.name).is_none() => {
            Some(file.unknown_target(target, Some(need.span), Some(&need.written.raw)))
        }
        Callee::Function(function)
            if function.project == file.project && file.function(&function.name).is_none() =>
        {
            Some(file.unknown_function(function, Some(need.span), Some(&need.written.raw)))
        }
        Callee::Target(_) | Callee::Function(_) | Callee::Pattern(_) => None,
    };
    file.bodies().flat_map(needs).filter_map(missing).collect()
}
