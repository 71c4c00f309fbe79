//! One build file as resolved: its recipes, what each needs, and what to say of names it does not have.

use std::sync::Arc;

use rb_diag::{Diagnostic, Severity, SourceFile, Span, nearest};
use rb_frontend::{FunctionRef, ProjectRef, TargetRef};
use rb_syntax::{Buildfile, Edition, Recipe, Stage, Stmt, StmtKind, Word};

use super::dockerfile;
use super::reference::dividing_plus;
use super::tree::{self, Refusal};
use super::walk::walk;
use super::{BASE, FunctionReference, Pattern, ProjectReference, Reference, Resolved, calls, statements};
use crate::codes;

/// One build file.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) project: ProjectRef,
    pub(crate) source: Arc<SourceFile>,
    pub(crate) edition: Edition,
    pub(crate) buildfile: Buildfile<Resolved>,
    /// Its text has errors, so what is missing in the tree may only be misread.
    pub(super) broken: bool,
    /// References and imports that cannot be.
    pub(super) refused: Vec<Refusal>,
}

/// What a call leads to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Callee<'a> {
    Target(&'a TargetRef),
    Pattern(&'a Pattern),
    Function(&'a FunctionRef),
}

/// One call of a recipe.
#[derive(Debug, Clone, Copy)]
pub(super) struct Need<'a> {
    pub(super) callee: Callee<'a>,
    pub(super) span: Span,
    /// It stands in a block that may be passed over.
    pub(super) conditional: bool,
    pub(super) written: &'a Word,
    /// It used an alias.
    pub(super) imported: bool,
}

/// The edition of a file; one without a VERSION line is read by our own rules.
pub(crate) fn edition<S: Stage>(buildfile: &Buildfile<S>) -> Edition {
    buildfile.version.as_ref().map_or(Edition::One, |version| version.edition)
}

impl File {
    /// Reads a text. What is wrong with the text itself comes along.
    pub(super) fn parse(project: &ProjectRef, source: Arc<SourceFile>) -> (Self, Vec<Diagnostic>) {
        if project.dockerfile().is_some() {
            let (buildfile, errors) = dockerfile::as_buildfile(&source);
            let (project, broken) = (project.clone(), !errors.is_empty());
            return (
                Self { project, source, edition: Edition::One, buildfile, broken, refused: Vec::new() },
                errors,
            );
        }
        let parse = rb_syntax::parse(&source);
        let broken = parse.diagnostics.iter().any(|found| found.severity == Severity::Error);
        let edition = edition(&parse.buildfile);
        let (buildfile, refused) = tree::resolve(parse.buildfile, project, edition);
        (Self { project: project.clone(), source, edition, buildfile, broken, refused }, parse.diagnostics)
    }

    /// Returns the statements of a target, or of the base recipe.
    pub(crate) fn recipe(&self, name: &str) -> Option<&[Stmt<Resolved>]> {
        match name {
            BASE if self.project.dockerfile().is_none() => Some(&self.buildfile.base),
            name => self.buildfile.target(name).map(|recipe| recipe.body.as_slice()),
        }
    }

    /// Finds a function by name.
    pub(crate) fn function(&self, name: &str) -> Option<&Recipe<Resolved>> {
        self.buildfile.function(name)
    }

    /// Returns the statements of a recipe of any kind; names of targets and of functions are never the same.
    pub(super) fn body(&self, name: &str) -> Option<&[Stmt<Resolved>]> {
        self.recipe(name).or_else(|| self.function(name).map(|recipe| recipe.body.as_slice()))
    }

    /// Returns the bodies of all recipes, the base recipe's first.
    pub(super) fn bodies(&self) -> impl Iterator<Item = &[Stmt<Resolved>]> {
        let recipes = self.buildfile.targets.iter().chain(&self.buildfile.functions);
        std::iter::once(self.buildfile.base.as_slice()).chain(recipes.map(|recipe| recipe.body.as_slice()))
    }

    /// Returns whether every recipe is checked, and not only those that are reached: Earthly never looks at others, so
    /// there are Earthfiles that have leftovers in them.
    pub(super) fn is_checked_whole(&self) -> bool {
        self.edition == Edition::One
    }

    /// Returns where some recipe imports a project.
    pub(super) fn import_of(&self, project: &ProjectRef) -> Option<Span> {
        self.bodies().flat_map(statements).find_map(|stmt| match &stmt.kind {
            StmtKind::Import(import) => match &import.project {
                ProjectReference::Settled { project: imported, .. } if imported == project => {
                    Some(import.span)
                }
                ProjectReference::Settled { .. } | ProjectReference::Dynamic(_) => None,
            },
            _ => None,
        })
    }

    /// Says that a target does not exist; `written` is the reference to it, to spell a near one alike.
    pub(super) fn unknown_target(
        &self,
        target: &TargetRef,
        at: Option<Span>,
        written: Option<&str>,
    ) -> Diagnostic {
        let names = || self.buildfile.targets.iter().map(|recipe| recipe.name.value.as_str());
        let functions = self.buildfile.functions.iter().map(|recipe| recipe.name.value.as_str());
        let message = format!("there is no target `{}` in {}", target.name, self.source.name);
        let error = label(Diagnostic::error(codes::UNKNOWN_TARGET, message), at, "no such target");
        let spell = |name: &str| spell(&target.project, name, written);
        if let Some(near) = nearest(&target.name, names()) {
            return error.with_help(format!("did you mean `{}`?", spell(near)));
        }
        if let Some(function) = like(&target.name, functions) {
            return error.with_help(format!("`DO {}` calls the function", spell(function)));
        }
        match names().take(8).map(|name| format!("`+{name}`")).collect::<Vec<_>>() {
            all if all.is_empty() => error.with_help("the file has no targets"),
            all => error.with_help(format!("it has {}", all.join(", "))),
        }
    }

    /// Says that a function does not exist.
    pub(super) fn unknown_function(
        &self,
        function: &FunctionRef,
        at: Option<Span>,
        written: Option<&str>,
    ) -> Diagnostic {
        let names = || self.buildfile.functions.iter().map(|recipe| recipe.name.value.as_str());
        let targets = self.buildfile.targets.iter().map(|recipe| recipe.name.value.as_str());
        let message = format!("there is no function `{}` in {}", function.name, self.source.name);
        let error = label(Diagnostic::error(codes::UNKNOWN_FUNCTION, message), at, "no such function");
        let spell = |name: &str| spell(&function.project, name, written);
        if let Some(near) = nearest(&function.name, names()) {
            return error.with_help(format!("did you mean `{}`?", spell(near)));
        }
        if let Some(target) = like(&function.name, targets) {
            let target = spell(target);
            return error.with_help(format!("`BUILD {target}` or `FROM {target}` calls the target"));
        }
        match names().take(8).map(|name| format!("`+{name}`")).collect::<Vec<_>>() {
            all if all.is_empty() => error.with_help("the file has no functions"),
            all => error.with_help(format!("it has {}", all.join(", "))),
        }
    }
}

/// Returns what a recipe calls, in order, as far as it is settled.
pub(super) fn needs(body: &[Stmt<Resolved>]) -> impl Iterator<Item = Need<'_>> {
    walk(body).flat_map(|(stmt, conditional)| {
        let target = calls(stmt).filter_map(move |call| {
            let (callee, written, imported) = match &call.target {
                Reference::Settled { target, via, written } => {
                    (Callee::Target(target), written, via.imported)
                }
                Reference::Pattern { pattern, written } => {
                    (Callee::Pattern(pattern), written, pattern.via.imported)
                }
                Reference::Dynamic(_) => return None,
            };
            Some(Need { callee, span: call.span, conditional, written, imported })
        });
        let function = match &stmt.kind {
            StmtKind::Do(call) => match &call.function {
                FunctionReference::Settled { function, via, written } => Some(Need {
                    callee: Callee::Function(function),
                    span: call.span,
                    conditional,
                    written,
                    imported: via.imported,
                }),
                FunctionReference::Dynamic(_) => None,
            },
            _ => None,
        };
        target.chain(function)
    })
}

fn label(error: Diagnostic, at: Option<Span>, text: &str) -> Diagnostic {
    match at {
        Some(span) => error.with_label(span, text),
        None => error,
    }
}

/// Returns the name that differs in nothing but case and dividers.
pub(super) fn like<'a>(name: &str, mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |name: &str| name.replace(['-', '_', '.'], "").to_ascii_lowercase();
    names.find(|other| plain(other) == plain(name))
}

/// Writes a reference to `name` as the one at hand is written; without one, from the workspace's root.
fn spell(project: &ProjectRef, name: &str, written: Option<&str>) -> String {
    let plain = written.filter(|raw| !raw.contains(['"', '\'', '$']));
    match plain.and_then(|raw| Some(&raw[..dividing_plus(raw)?])) {
        Some(place) => format!("{place}+{name}"),
        None => TargetRef { project: project.clone(), name: name.to_owned() }.to_string(),
    }
}
