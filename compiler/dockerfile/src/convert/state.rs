//! A stage while its instructions are converted.

use std::collections::{BTreeMap, BTreeSet};

use rb_diag::Span;
use rb_oci::{ImageConfig, Platform};

use super::names::Names;
use crate::arguments::Declared;
use crate::filesystem::Filesystem;
use crate::image::{self, env_pair};
use crate::options::Options;
use crate::paths;

/// A stage: its files, what commands in them run with, and its config.
#[derive(Clone, Debug)]
pub(crate) struct StageState {
    pub(crate) files: Filesystem,
    pub(crate) image: ImageConfig,
    /// The config of the base image as it came.
    pub(crate) original: Option<ImageConfig>,
    /// What its steps run on.
    pub(crate) platform: Platform,
    /// `ARG`s so far, with their values; those of the base come first.
    pub(super) build_args: Vec<(String, Option<String>)>,
    /// A `WORKDIR` stands above.
    pub(super) has_workdir: bool,
    pub(super) names: Names,
    /// Where instructions stand of which only the last one counts.
    pub(super) last: Last,
    /// What the stage's own instructions take from outside.
    pub(crate) parameters: Parameters,
}

/// What instructions take from outside.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parameters {
    /// Arguments that the stage declares with a value of its own.
    pub(crate) declared: BTreeMap<String, Declared>,
    /// Arguments that it names.
    pub(crate) arguments: BTreeSet<String>,
    /// Secrets by id, with where they are first asked for, and whether they have to be there.
    pub(crate) secrets: BTreeMap<String, (Span, bool)>,
    /// Agents, likewise.
    pub(crate) agents: BTreeMap<String, (Span, bool)>,
}

/// Instructions of a stage of which only the last one counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Last {
    pub(super) cmd: Option<Span>,
    pub(super) entrypoint: Option<Span>,
    pub(super) healthcheck: Option<Span>,
}

impl StageState {
    pub(super) fn new(
        files: Filesystem,
        image: ImageConfig,
        original: Option<ImageConfig>,
        platform: Platform,
    ) -> Self {
        Self {
            files,
            image,
            original,
            platform,
            build_args: Vec::new(),
            has_workdir: false,
            names: Names::default(),
            last: Last::default(),
            parameters: Parameters::default(),
        }
    }

    /// Returns what a stage begins as that starts from this one. Triggers are for it, and not for those after it.
    pub(super) fn inherited(&self) -> Self {
        let mut image = self.image.clone();
        image.config.on_build.clear();
        let (names, last, parameters) = (Names::default(), Last::default(), Parameters::default());
        Self { image, names, last, parameters, ..self.clone() }
    }

    /// Takes over what the config says of commands.
    pub(super) fn begin(&mut self, options: &Options) {
        image::ensure_path(&mut self.image);
        // Triggers of the base run here.
        self.image.config.on_build.clear();
        for line in &self.image.config.env {
            let (name, value) = env_pair(line);
            self.files.environment.set(name, value);
        }
        if let Some(hostname) = &options.hostname {
            self.files.hostname.clone_from(hostname);
        }
        if let Some(folder) = self.image.config.working_dir.clone().filter(|folder| !folder.is_empty()) {
            let folder = paths::absolute("/", &folder);
            self.image.config.working_dir = Some(folder.clone());
            self.files.folder = folder;
        }
        if let Some(user) = self.image.config.user.as_ref().filter(|user| !user.is_empty()) {
            self.files.user.clone_from(user);
        }
        self.files.network = options.network;
    }
}
