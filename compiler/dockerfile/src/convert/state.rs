//! A stage while its instructions are converted.

use std::collections::{BTreeMap, BTreeSet};

use rb_diag::Span;
use rb_oci::{ImageConfig, Platform};

use super::names::Names;
use crate::arguments::Declared;
use crate::filesystem::Filesystem;
use crate::image::{self, env_pair};
use crate::lost::Lost;
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
    /// Where the image's config has each variable: by name, the first line of a name.
    pub(super) env_places: BTreeMap<String, usize>,
    /// A `WORKDIR` stands above.
    pub(super) has_workdir: bool,
    pub(super) names: Names,
    /// Where instructions stand of which only the last one counts.
    pub(super) last: Last,
    /// What the stage's own instructions take from outside.
    pub(crate) parameters: Parameters,
    /// Variables whose values are not known, since something above is wrong.
    pub(super) lost: Lost,
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
            env_places: BTreeMap::new(),
            has_workdir: false,
            names: Names::default(),
            last: Last::default(),
            parameters: Parameters::default(),
            lost: Lost::default(),
        }
    }

    /// Returns what a stage begins as that starts from this one. Triggers are for it, and not for those after it.
    pub(super) fn inherited(&self) -> Self {
        let mut image = self.image.clone();
        image.config.on_build.clear();
        let (names, last, parameters) = (Names::default(), Last::default(), Parameters::default());
        Self { image, names, last, parameters, ..self.clone() }
    }

    /// Sets a variable in the image's config, in place where it is there.
    pub(super) fn set_env(&mut self, name: &str, value: &str) {
        let (line, env) = (format!("{name}={value}"), &mut self.image.config.env);
        match self.env_places.get(name).and_then(|place| env.get_mut(*place)) {
            Some(there) => *there = line,
            None => {
                self.env_places.insert(name.to_owned(), env.len());
                env.push(line);
            }
        }
    }

    /// Returns the value of an argument that stands above, the last one.
    pub(crate) fn argument(&self, name: &str) -> Option<&str> {
        self.build_args.iter().rev().find_map(
            |(known, value)| {
                if known == name { value.as_deref() } else { None }
            },
        )
    }

    /// Takes over what the config says of commands.
    pub(super) fn begin(&mut self, options: &Options) {
        image::ensure_path(&mut self.image);
        // Triggers of the base run here.
        self.image.config.on_build.clear();
        self.env_places.clear();
        for (place, line) in self.image.config.env.iter().enumerate() {
            let (name, value) = env_pair(line);
            self.files.environment.set(name, value);
            if line.contains('=') {
                self.env_places.entry(name.to_owned()).or_insert(place);
            }
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
