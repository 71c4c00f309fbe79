//! `Buildfile<Parsed>` → `Buildfile<Resolved>`: the same tree with its references settled by their text.
//!
//! How: recipe by recipe, statement by statement, with the aliases that hold at that place. A reference with a
//! variable in it stays a word, and so does one whose alias variables decide: an IMPORT of a `$` path, or one that
//! stands in a block that may be passed over. What is refused is written down with its recipe and stays a word too,
//! so that evaluation refuses it by the same rules if it comes there.

use std::collections::BTreeSet;

use rb_diag::{Diagnostic, Span};
use rb_expression::{Answer, Question, Value};
use rb_frontend::ProjectRef;
use rb_syntax::{
    Base, Branch, Buildfile, Call, CopySource, CopyStmt, Do, Edition, FileSource, For, FromBuildpacks,
    FromDockerfile, FromStmt, If, Import, Later, Parsed, Recipe, Stmt, StmtKind, Try, Word,
};

use super::imports::needs_alias;
use super::reference::alias_of;
use super::{
    BASE, FunctionReference, Imported, Imports, Meaning, ProjectReference, Reference, ReferenceError,
    Resolved, Via, default_alias, parse_function, parse_project, parse_reference,
};
use crate::word::{self, Escapes, Expressions, Template};

/// A reference or import that cannot be.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) trouble: Trouble,
    /// The recipe it stands in: a target, a function or [`BASE`].
    pub(super) recipe: String,
    /// It stands in a block that may be passed over.
    pub(super) conditional: bool,
}

#[derive(Debug)]
pub(super) enum Trouble {
    /// Of a reference's text.
    Reference(ReferenceError, Span),
    /// Of an alias.
    Import(Diagnostic),
}

/// Settles every reference.
pub(super) fn resolve(
    buildfile: Buildfile<Parsed>,
    project: &ProjectRef,
    edition: Edition,
) -> (Buildfile<Resolved>, Vec<Refusal>) {
    let mut tree = Tree {
        project,
        edition,
        recipe: BASE.to_owned(),
        scope: Scope::default(),
        conditional: false,
        refused: Vec::new(),
    };
    let base = tree.body(buildfile.base);
    let global = std::mem::take(&mut tree.scope);
    let mut recipes = |recipes: Vec<Recipe<Parsed>>| -> Vec<Recipe<Resolved>> {
        let recipe = |recipe: Recipe<Parsed>| {
            tree.scope = Scope::within(&global);
            tree.recipe.clone_from(&recipe.name.value);
            Recipe { name: recipe.name, doc: recipe.doc, body: tree.body(recipe.body) }
        };
        recipes.into_iter().map(recipe).collect()
    };
    let targets = recipes(buildfile.targets);
    let functions = recipes(buildfile.functions);
    (Buildfile { version: buildfile.version, base, targets, functions }, tree.refused)
}

/// Returns a word's text if no variable decides it.
pub(super) fn constant(word: &Word, edition: Edition, escapes: Escapes) -> Option<String> {
    let expressions = match edition {
        Edition::One => Expressions::On,
        Edition::Earthly06 | Edition::Earthly07 | Edition::Earthly08 => Expressions::Off,
    };
    // A word that is not well formed is left for evaluation, which says so with the right place.
    let template = Template::parse(&word.raw, expressions).ok().filter(Template::is_constant)?;
    template.expand(escapes, &NoVariables).ok().map(|expanded| expanded.text)
}

/// What a word sees that needs nothing.
struct NoVariables;

impl word::Scope for NoVariables {
    fn variable(&self, _name: &str) -> Option<String> {
        None
    }

    fn value(&self, _name: &str) -> Option<Value> {
        None
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn output(&self, _command: &str) -> Option<String> {
        None
    }

    fn answer(&self, _question: &Question) -> Option<Answer> {
        None
    }
}

/// The aliases that hold at one place.
#[derive(Debug, Clone, Default)]
struct Scope {
    imports: Imports,
    own: Open,
    file: Open,
}

/// Aliases that are there, or may be there, and stand for something that only evaluation knows.
#[derive(Debug, Clone, Default)]
struct Open {
    names: BTreeSet<String>,
    /// Some alias is itself unknown.
    any: bool,
}

impl Scope {
    fn within(global: &Self) -> Self {
        Self { imports: Imports::within(&global.imports), own: Open::default(), file: global.own.clone() }
    }

    /// Returns whether only evaluation can tell what an alias stands for.
    fn is_open(&self, alias: &str) -> bool {
        if self.own.names.contains(alias) {
            return true;
        }
        if self.imports.has_own(alias) {
            return false;
        }
        let settled = self.imports.get(alias).is_some();
        self.own.any || self.file.names.contains(alias) || (self.file.any && !settled)
    }

    /// Takes over what a block that may be passed over has left in its own scope.
    fn leave(&mut self, block: Self) {
        let fresh = block.imports.own_names().filter(|name| !self.imports.has_own(name));
        self.own.names.extend(fresh.map(str::to_owned));
        self.own.names.extend(block.own.names);
        self.own.any |= block.own.any;
    }
}

struct Tree<'a> {
    project: &'a ProjectRef,
    edition: Edition,
    recipe: String,
    scope: Scope,
    conditional: bool,
    refused: Vec<Refusal>,
}

impl Tree<'_> {
    fn body(&mut self, body: Vec<Stmt<Parsed>>) -> Vec<Stmt<Resolved>> {
        let stmt = |stmt: Stmt<Parsed>| Stmt { kind: self.kind(stmt.kind), span: stmt.span, doc: stmt.doc };
        body.into_iter().map(stmt).collect()
    }

    /// Settles a block of which at most one way through `bodies` is taken.
    fn block(&mut self, body: Vec<Stmt<Parsed>>, left: &mut Vec<Scope>) -> Vec<Stmt<Resolved>> {
        let before = self.scope.clone();
        let conditional = std::mem::replace(&mut self.conditional, true);
        let body = self.body(body);
        self.conditional = conditional;
        left.push(std::mem::replace(&mut self.scope, before));
        body
    }

    fn leave(&mut self, left: Vec<Scope>) {
        left.into_iter().for_each(|scope| self.scope.leave(scope));
    }

    fn kind(&mut self, kind: StmtKind<Parsed>) -> StmtKind<Resolved> {
        match kind {
            StmtKind::From(stmt) => StmtKind::From(self.from(stmt)),
            StmtKind::Build(call) => StmtKind::Build(self.call(call, None)),
            StmtKind::Copy(copy) => StmtKind::Copy(self.copy(copy)),
            StmtKind::Do(stmt) => StmtKind::Do(self.function_call(stmt)),
            StmtKind::Import(import) => StmtKind::Import(self.import(import)),
            StmtKind::If(stmt) => StmtKind::If(self.branches(stmt)),
            StmtKind::For(stmt) => {
                let For { variable, separators, flags, items, body } = stmt;
                let mut left = Vec::new();
                let body = self.block(body, &mut left);
                self.leave(left);
                StmtKind::For(For { variable, separators, flags, items, body })
            }
            StmtKind::Wait(body) => StmtKind::Wait(self.body(body)),
            StmtKind::Try(Try { body, catch, finally }) => {
                let body = self.body(body);
                let mut left = Vec::new();
                let catch = catch.map(|body| self.block(body, &mut left));
                self.leave(left);
                StmtKind::Try(Try { body, catch, finally: finally.map(|body| self.body(body)) })
            }
            StmtKind::Later(later) => {
                let mut left = Vec::new();
                let blocks = later.blocks.into_iter().map(|body| self.block(body, &mut left)).collect();
                self.leave(left);
                StmtKind::Later(Later { name: later.name, keyword: later.keyword, text: later.text, blocks })
            }
            StmtKind::Locally(stmt) => StmtKind::Locally(stmt),
            StmtKind::Run(run) => StmtKind::Run(run),
            StmtKind::Arg(arg) => StmtKind::Arg(arg),
            StmtKind::Let(assignment) => StmtKind::Let(assignment),
            StmtKind::Set(assignment) => StmtKind::Set(assignment),
            StmtKind::Env(assignments) => StmtKind::Env(assignments),
            StmtKind::Workdir(dir) => StmtKind::Workdir(dir),
            StmtKind::User(user) => StmtKind::User(user),
            StmtKind::Entrypoint(command) => StmtKind::Entrypoint(command),
            StmtKind::Cmd(command) => StmtKind::Cmd(command),
            StmtKind::Shell(words) => StmtKind::Shell(words),
            StmtKind::Expose(ports) => StmtKind::Expose(ports),
            StmtKind::Volume(paths) => StmtKind::Volume(paths),
            StmtKind::Label(labels) => StmtKind::Label(labels),
            StmtKind::Healthcheck(check) => StmtKind::Healthcheck(check),
            StmtKind::StopSignal(signal) => StmtKind::StopSignal(signal),
            StmtKind::Host(entry) => StmtKind::Host(entry),
            StmtKind::GitClone(clone) => StmtKind::GitClone(clone),
            StmtKind::Cache(cache) => StmtKind::Cache(cache),
            StmtKind::SaveArtifact(save) => StmtKind::SaveArtifact(save),
            StmtKind::SaveImage(save) => StmtKind::SaveImage(save),
            StmtKind::Project(name) => StmtKind::Project(name),
        }
    }

    fn branches(&mut self, stmt: If<Parsed>) -> If<Resolved> {
        let mut left = Vec::new();
        let branches = stmt
            .branches
            .into_iter()
            .map(|branch| Branch { condition: branch.condition, body: self.block(branch.body, &mut left) })
            .collect();
        let otherwise = stmt.otherwise.map(|body| self.block(body, &mut left));
        self.leave(left);
        If { branches, otherwise }
    }

    fn from(&mut self, stmt: FromStmt<Parsed>) -> FromStmt<Resolved> {
        let base = match stmt.base {
            Base::Target(call) => Base::Target(self.call(call, Some("FROM"))),
            Base::Scratch => Base::Scratch,
            Base::Image(word) => Base::Image(word),
            Base::Host { binds, fingerprints } => Base::Host { binds, fingerprints },
            Base::Dockerfile(from) => {
                let FromDockerfile { context, file, target, args, allow_privileged } = *from;
                let owner = "FROM DOCKERFILE";
                let (context, file) =
                    (self.file_source(context, owner), file.map(|file| self.file_source(file, owner)));
                Base::Dockerfile(Box::new(FromDockerfile { context, file, target, args, allow_privileged }))
            }
            Base::Buildpacks(from) => {
                let FromBuildpacks { app, builder, buildpacks, environment, descriptor, run_image, launcher } =
                    *from;
                let owner = "FROM BUILDPACKS";
                let app = self.file_source(app, owner);
                let descriptor = descriptor.map(|file| self.file_source(file, owner));
                let buildpacks = buildpacks.into_iter().map(|one| self.file_source(one, owner)).collect();
                let launcher = launcher.map(|file| self.file_source(file, owner));
                let from =
                    FromBuildpacks { app, builder, buildpacks, environment, descriptor, run_image, launcher };
                Base::Buildpacks(Box::new(from))
            }
        };
        FromStmt { base, platform: stmt.platform }
    }

    fn file_source(&mut self, source: FileSource<Parsed>, owner: &'static str) -> FileSource<Resolved> {
        match source {
            FileSource::Path(path) => FileSource::Path(path),
            FileSource::Artifact { call, path } => {
                FileSource::Artifact { call: self.call(call, Some(owner)), path }
            }
        }
    }

    fn copy(&mut self, copy: CopyStmt<Parsed>) -> CopyStmt<Resolved> {
        let CopyStmt {
            sources,
            destination,
            dir,
            parents,
            link,
            if_exists,
            keep_times,
            keep_owner,
            symlink_no_follow,
            chmod,
            chown,
        } = copy;
        let source = |source| match source {
            CopySource::Path(path) => CopySource::Path(path),
            CopySource::Heredoc(heredoc) => CopySource::Heredoc(heredoc),
            CopySource::Artifact { call, path } => CopySource::Artifact { call: self.call(call, None), path },
        };
        let sources = sources.into_iter().map(source).collect();
        CopyStmt {
            sources,
            destination,
            dir,
            parents,
            link,
            if_exists,
            keep_times,
            keep_owner,
            symlink_no_follow,
            chmod,
            chown,
        }
    }

    /// Settles a call; `single` is the command's name where that takes one target only.
    fn call(&mut self, call: Call<Parsed>, single: Option<&'static str>) -> Call<Resolved> {
        let Call { target, span, args, platforms, pass_args, allow_privileged, auto_skip } = call;
        let target = self.reference(target, single);
        Call { target, span, args, platforms, pass_args, allow_privileged, auto_skip }
    }

    fn function_call(&mut self, stmt: Do<Parsed>) -> Do<Resolved> {
        let Do { function, span, args, pass_args, allow_privileged } = stmt;
        Do { function: self.function(function), span, args, pass_args, allow_privileged }
    }

    fn reference(&mut self, word: Word, single: Option<&'static str>) -> Reference {
        let Some(text) = self.settled_text(&word) else { return Reference::Dynamic(word) };
        let error = match parse_reference(&text, self.project, self.edition, &self.scope.imports) {
            Ok(Meaning::Target { target, via }) => return Reference::Settled { target, via, written: word },
            Ok(Meaning::Pattern(pattern)) => match single {
                None => return Reference::Pattern { pattern, written: word },
                Some(place) => ReferenceError::Pattern { text, place },
            },
            Err(error) => error,
        };
        self.refuse(Trouble::Reference(error, word.span));
        Reference::Dynamic(word)
    }

    fn function(&mut self, word: Word) -> FunctionReference {
        let Some(text) = self.settled_text(&word) else { return FunctionReference::Dynamic(word) };
        match parse_function(&text, self.project, self.edition, &self.scope.imports) {
            Ok((function, via)) => FunctionReference::Settled { function, via, written: word },
            Err(error) => {
                self.refuse(Trouble::Reference(error, word.span));
                FunctionReference::Dynamic(word)
            }
        }
    }

    /// Returns a reference's text where it can be settled before evaluation.
    fn settled_text(&self, word: &Word) -> Option<String> {
        let text = constant(word, self.edition, Escapes::KeepPlus)?;
        let open = alias_of(&text).is_some_and(|alias| self.scope.is_open(alias));
        (!open).then_some(text)
    }

    fn import(&mut self, import: Import<Parsed>) -> Import<Resolved> {
        let Import { project: word, span, alias, pass_args, allow_privileged } = import;
        let text = constant(&word, self.edition, Escapes::KeepPlus);
        let name = match (&alias, &text) {
            (Some(alias), _) => Some(alias.value.clone()),
            (None, Some(text)) => default_alias(text),
            (None, None) => last_part(&word.raw),
        };
        let project = match text.as_deref().map(|text| parse_project(text, self.project, self.edition)) {
            Some(Ok(project)) => {
                let via = Via { pass_args, allow_privileged, imported: true };
                self.add(
                    name,
                    Imported { project: project.clone(), via, span },
                    text.as_deref().unwrap_or_default(),
                );
                ProjectReference::Settled { project, written: word }
            }
            Some(Err(error)) => {
                self.refuse(Trouble::Reference(error, word.span));
                self.suspend(name);
                ProjectReference::Dynamic(word)
            }
            None => {
                self.suspend(name);
                ProjectReference::Dynamic(word)
            }
        };
        Import { project, span, alias, pass_args, allow_privileged }
    }

    fn add(&mut self, alias: Option<String>, imported: Imported, text: &str) {
        let at = imported.span;
        let added = match alias {
            // One of a block that may have been passed over may be there already.
            Some(alias) if self.scope.own.names.contains(&alias) => Ok(()),
            Some(alias) => self.scope.imports.add(&alias, imported),
            None => Err(needs_alias(text, at)),
        };
        if let Err(error) = added {
            self.refuse(Trouble::Import(error));
        }
    }

    /// Notes an alias whose project is not known.
    fn suspend(&mut self, alias: Option<String>) {
        match alias {
            Some(alias) => {
                self.scope.own.names.insert(alias);
            }
            None => self.scope.own.any = true,
        }
    }

    fn refuse(&mut self, trouble: Trouble) {
        let refusal = Refusal { trouble, recipe: self.recipe.clone(), conditional: self.conditional };
        self.refused.push(refusal);
    }
}

/// Returns the last part of a path with variables, if there are none in that part.
fn last_part(raw: &str) -> Option<String> {
    let last = raw.rsplit('/').next().filter(|last| *last != raw)?;
    let plain = |next: char| next.is_ascii_alphanumeric() || "-_.".contains(next);
    last.chars().all(plain).then(|| default_alias(&format!("./{last}"))).flatten()
}
