//! One recipe while it is evaluated.

use std::collections::BTreeMap;
use std::sync::Arc;

use rb_frontend::{SavedArtifact, SavedImage, TargetKey, TargetOutput};
use rb_llb::{NodeMeta, State};
use rb_oci::{History, ImageConfig};
use rb_syntax::Stmt;

use super::variables::Variables;
use super::{Evaluated, File};
use crate::describe::describe;
use crate::resolve::{BASE, Resolved};

/// What the statements of a recipe have made so far.
pub(super) struct Frame {
    pub(super) file: Arc<File>,
    pub(super) key: TargetKey,
    pub(super) variables: Variables,
    pub(super) state: State,
    pub(super) config: ImageConfig,
    /// Some FROM came before.
    pub(super) based: bool,
    pub(super) on_host: bool,
    /// CMD was given after the last FROM, so ENTRYPOINT leaves it.
    pub(super) command_set: bool,
    pub(super) artifact_tree: State,
    pub(super) artifacts: Vec<SavedArtifact>,
    pub(super) images: Vec<SavedImage>,
    pub(super) builds: Vec<Arc<TargetOutput>>,
}

impl Frame {
    /// Starts from nothing.
    pub(super) fn new(file: Arc<File>, key: TargetKey) -> Self {
        let config = ImageConfig::scratch(&key.platform);
        Self {
            file,
            key,
            variables: Variables::default(),
            state: State::scratch(),
            config,
            based: false,
            on_host: false,
            command_set: false,
            artifact_tree: State::scratch(),
            artifacts: Vec::new(),
            images: Vec::new(),
            builds: Vec::new(),
        }
    }

    /// Starts from what the file's base recipe left.
    pub(super) fn on_base(file: Arc<File>, key: TargetKey, base: &Evaluated) -> Self {
        let mut frame = Self::new(file, key);
        frame.variables.global = base.globals.clone();
        frame.start_from(base);
        frame.based = base.based;
        frame
    }

    /// Puts the filesystem and the config of another target in place of this one's.
    pub(super) fn start_from(&mut self, callee: &Evaluated) {
        self.start(callee.output.state.clone(), callee.output.config.clone(), callee.output.on_host);
    }

    /// Puts a new base in place; what the recipe declared and saved stays.
    pub(super) fn start(&mut self, state: State, config: ImageConfig, on_host: bool) {
        self.state = state;
        self.config = config;
        self.on_host = on_host;
        self.based = true;
        self.command_set = false;
    }

    /// Returns whether this is the base recipe.
    pub(super) fn is_base(&self) -> bool {
        self.key.target.name == BASE
    }

    /// Returns the directory that relative paths start from.
    pub(super) fn cwd(&self) -> &str {
        self.config.config.working_dir.as_deref().unwrap_or("/")
    }

    /// Returns how a statement's vertex is shown, and where it stands.
    pub(super) fn meta(&self, stmt: &Stmt<Resolved>) -> NodeMeta {
        let name = format!("{} | {}", self.key, describe(stmt).replace('\n', " "));
        NodeMeta { name: Some(name), span: Some(stmt.span), ..NodeMeta::default() }
    }

    /// Notes a statement in the image's history: with a layer where it changed files.
    pub(super) fn remember(&mut self, stmt: &Stmt<Resolved>, layer: Layer) {
        self.config.history.push(History {
            created_by: Some(describe(stmt)),
            empty_layer: layer == Layer::None,
            ..History::default()
        });
    }

    pub(super) fn finish(self) -> Evaluated {
        let is_base = self.is_base();
        let Self {
            file: _,
            key,
            variables,
            state,
            config,
            based,
            on_host,
            command_set: _,
            artifact_tree,
            artifacts,
            images,
            builds,
        } = self;
        let platform = key.platform.clone();
        let output =
            TargetOutput { key, state, config, platform, artifact_tree, artifacts, images, builds, on_host };
        let globals = if is_base { variables.global } else { BTreeMap::new() };
        Evaluated { output: Arc::new(output), globals, based }
    }
}

/// Whether a statement made a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    One,
    None,
}
