//! One recipe while it is evaluated.
//!
//! A [`Frame`] holds what a target's statements have made so far; its [`Scope`] says what names mean. A function works
//! on its caller's frame with a scope of its own, so what it makes flows back and what it declares does not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rb_diag::Diagnostic;
use rb_expression::Value;
use rb_frontend::{ProjectRef, SavedArtifact, SavedImage, TargetKey, TargetOutput};
use rb_llb::{HostAddress, NodeMeta, State};
use rb_oci::{History, ImageConfig, Platform};
use rb_syntax::{Edition, Stmt};

use super::arguments::Args;
use super::attempt::Trying;
use super::caches::CacheMount;
use super::functions::CALLED_FROM;
use super::scripts::Copied;
use super::variables::Variables;
use super::{Evaluated, Fallible, File};
use crate::describe::{describe, title};
use crate::resolve::{BASE, Imports, Resolved};

/// What names mean in a recipe or function.
pub(super) struct Scope {
    /// Where its text stands.
    pub(super) file: Arc<File>,
    /// Its variables.
    pub(super) variables: Variables,
    /// Aliases of projects.
    pub(super) imports: Imports,
    /// Values for its ARGs from whoever called it.
    pub(super) overrides: Args,
    /// Of the arguments of the file's base recipe those that have values.
    pub(super) file_args: Args,
    /// The function whose text this is.
    pub(super) function: Option<Function>,
    /// Its text may do what a stranger's may not.
    pub(super) trusted: bool,
}

/// A function and how it was called.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: String,
    /// How many functions this one is called through, itself counted.
    pub(super) depth: usize,
    /// What the DO names.
    pub(super) explicit: Args,
    /// What reached the caller reaches it too.
    pub(super) pass_args: bool,
    /// Where it and its callers are called, innermost first.
    pub(super) calls: Vec<String>,
}

impl Scope {
    /// Starts a scope in which only globals are known.
    pub(super) fn new(file: Arc<File>, overrides: Args, trusted: bool) -> Self {
        Self {
            file,
            variables: Variables::default(),
            imports: Imports::within(&Imports::default()),
            overrides,
            file_args: Args::new(),
            function: None,
            trusted,
        }
    }
}

/// What the statements of a recipe have made so far.
pub(super) struct Frame {
    /// What is evaluated.
    pub(super) key: TargetKey,
    /// What names mean at this point.
    pub(super) scope: Scope,
    /// How many blocks and functions are open.
    pub(super) nesting: usize,
    /// Its outputs are written: it was asked for, or reached by BUILD alone.
    pub(super) loud: bool,
    /// A `RUN --push` was left out, here or below, that would run if this were reached by BUILD alone.
    pub(super) silenced: bool,
    /// Arguments that reached the target and were looked at, found or not.
    pub(super) reads: BTreeSet<String>,
    pub(super) state: State,
    pub(super) config: ImageConfig,
    /// What its steps run on.
    pub(super) platform: Platform,
    /// Some FROM or LOCALLY came before.
    pub(super) based: bool,
    pub(super) on_host: bool,
    /// LOCALLY came before: where its commands run, relative to the project's folder or absolute.
    pub(super) locally: Option<String>,
    /// CMD was given after the last FROM, so ENTRYPOINT leaves it.
    pub(super) command_set: bool,
    /// Directories that later steps share with other builds (CACHE).
    pub(super) caches: Vec<CacheMount>,
    /// Names that later steps know (HOST).
    pub(super) hosts: Vec<HostAddress>,
    /// What COPY took from the project.
    pub(super) copied: Vec<Copied>,
    pub(super) artifact_tree: State,
    pub(super) artifacts: Vec<SavedArtifact>,
    pub(super) images: Vec<SavedImage>,
    pub(super) builds: Vec<Arc<TargetOutput>>,
    /// Why something that it BUILDs or takes could not be evaluated, and the build goes on.
    pub(super) lacks: Option<Arc<Diagnostic>>,
    /// How many WAITs are open: what they wait for has to be there.
    pub(super) waiting: usize,
    /// Where something may fail that is then dealt with.
    pub(super) trying: Option<Trying>,
    /// Something has failed, and what is saved of it is written: nobody can come to it later.
    pub(super) rescuing: bool,
}

impl Frame {
    /// Starts from nothing.
    pub(super) fn new(file: Arc<File>, key: TargetKey, loud: bool) -> Self {
        let config = ImageConfig::scratch(&key.platform);
        let mut scope = Scope::new(file, key.args.clone(), key.trusted);
        if key.target.name == BASE {
            // What the base recipe imports, the whole file has.
            scope.imports = Imports::default();
        }
        Self {
            scope,
            platform: key.platform.clone(),
            key,
            nesting: 0,
            loud,
            silenced: false,
            reads: BTreeSet::new(),
            state: State::scratch(),
            config,
            based: false,
            on_host: false,
            locally: None,
            command_set: false,
            caches: Vec::new(),
            hosts: Vec::new(),
            copied: Vec::new(),
            artifact_tree: State::scratch(),
            artifacts: Vec::new(),
            images: Vec::new(),
            builds: Vec::new(),
            lacks: None,
            waiting: 0,
            trying: None,
            rescuing: false,
        }
    }

    /// Starts from what the file's base recipe left: its filesystem, globals and imports.
    pub(super) fn on_base(file: Arc<File>, key: TargetKey, loud: bool, args: Args, base: &Evaluated) -> Self {
        let mut frame = Self::new(file, key, loud);
        frame.scope.file_args = args;
        frame.scope.variables.global = base.globals.clone();
        frame.scope.imports = Imports::within(&base.imports);
        frame.reads.extend(base.reads.iter().cloned());
        frame.lacks.clone_from(&base.lacks);
        if base.based {
            frame.start_from(base);
        }
        frame
    }

    /// Puts the filesystem, the config and the platform of another target in place of this one's.
    pub(super) fn start_from(&mut self, callee: &Evaluated) {
        let output = &callee.output;
        self.start(output.state.clone(), output.config.clone(), output.on_host);
        self.platform = output.platform.clone();
        self.hosts.clone_from(&callee.hosts);
        self.locally = callee.locally.clone();
    }

    /// Puts a new base in place; what the recipe declared and saved stays.
    pub(super) fn start(&mut self, state: State, config: ImageConfig, on_host: bool) {
        self.state = state;
        self.config = config;
        self.on_host = on_host;
        self.based = true;
        self.locally = None;
        self.command_set = false;
        self.caches.clear();
        self.hosts.clear();
        self.copied.clear();
    }

    /// Returns whether this is the base recipe's own text.
    pub(super) fn is_base(&self) -> bool {
        self.key.target.name == BASE && self.scope.function.is_none()
    }

    /// Returns the edition that the statements are written in.
    pub(super) fn edition(&self) -> Edition {
        self.scope.file.edition
    }

    /// Returns whether ARG, LET and SET are those of `VERSION 0.8`: `--arg-scope-and-set` gives an older edition these.
    pub(super) fn has_let(&self) -> bool {
        self.edition() >= Edition::Earthly08 || self.has_flag("arg-scope-and-set")
    }

    /// Returns whether every ARG of the base recipe is global, as before `VERSION 0.7`.
    pub(super) fn has_implicit_globals(&self) -> bool {
        self.edition() == Edition::Earthly06 && !self.has_flag("explicit-global")
    }

    /// Returns whether every CACHE is persisted, as before `VERSION 0.8`.
    pub(super) fn persists_caches(&self) -> bool {
        self.edition() < Edition::Earthly08 && !self.has_flag("cache-persist-option")
    }

    fn has_flag(&self, name: &str) -> bool {
        let version = self.scope.file.buildfile.version.as_ref();
        version.is_some_and(|version| version.flags.iter().any(|flag| flag.value == name))
    }

    /// Returns the project whose folder COPY and AS LOCAL start from: the target's, also in a function of another one.
    pub(super) fn project(&self) -> &ProjectRef {
        &self.key.target.project
    }

    /// Returns the directory that relative paths start from.
    pub(super) fn cwd(&self) -> &str {
        self.config.config.working_dir.as_deref().unwrap_or("/")
    }

    /// Returns what a variable's value is as text.
    pub(super) fn variable(&self, name: &str) -> Option<Value> {
        self.scope.variables.get(name, &self.config.config)
    }

    /// Returns how a statement's vertex is shown, and where it stands.
    pub(super) fn meta(&self, stmt: &Stmt<Resolved>) -> NodeMeta {
        let name = format!("{} | {}", self.key, title(stmt));
        let description = self.calls();
        NodeMeta { name: Some(name), span: Some(stmt.span), description, ..NodeMeta::default() }
    }

    /// Returns the project that a path is in, and the path there: `//` begins at the root (`VERSION 1`).
    pub(super) fn path_of(&self, text: &str) -> (ProjectRef, String) {
        match text.strip_prefix("//") {
            Some(rest) if self.edition() == Edition::One => (self.project().root(), rest.to_owned()),
            _ => (self.project().clone(), text.to_owned()),
        }
    }

    /// Returns what a vertex notes of the functions that it stands in: nothing where it stands in none.
    pub(super) fn calls(&self) -> BTreeMap<String, String> {
        let function = self.scope.function.iter();
        function.map(|function| (CALLED_FROM.to_owned(), function.calls.join("\n"))).collect()
    }

    /// Notes a statement in the image's history: with a layer where it changed files.
    pub(super) fn remember(&mut self, stmt: &Stmt<Resolved>, layer: Layer) {
        self.config.history.push(History {
            created_by: Some(describe(stmt)),
            empty_layer: layer == Layer::None,
            ..History::default()
        });
    }

    /// Notes what something that it BUILDs or takes lacks. Where `needed`, what could not be evaluated for that counts as failed
    /// here: what is tried deals with it, and what follows a WAIT needs it.
    pub(super) fn lack(&mut self, callee: &Evaluated, needed: bool) -> Fallible<()> {
        match &callee.lacks {
            Some(error) if needed => Err(Diagnostic::clone(error)),
            Some(error) => {
                self.lacks.get_or_insert_with(|| Arc::clone(error));
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(super) fn finish(self) -> Evaluated {
        let is_base = self.is_base();
        let Self {
            key,
            scope,
            nesting: _,
            loud: _,
            silenced,
            reads,
            state,
            config,
            platform,
            based,
            on_host,
            locally,
            command_set: _,
            caches: _,
            hosts,
            copied: _,
            artifact_tree,
            artifacts,
            images,
            builds,
            lacks,
            waiting: _,
            trying: _,
            rescuing: _,
        } = self;
        let output = TargetOutput {
            key,
            state,
            config,
            platform,
            artifact_tree,
            artifacts,
            images,
            builds,
            on_host,
            incomplete: lacks.is_some(),
        };
        let (globals, imports) = match is_base {
            true => (scope.variables.global, scope.imports),
            false => (BTreeMap::new(), Imports::default()),
        };
        Evaluated {
            output: Arc::new(output),
            globals,
            imports,
            reads,
            based,
            silenced,
            hosts,
            locally,
            lacks,
        }
    }
}

/// Whether a statement made a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    One,
    None,
}
