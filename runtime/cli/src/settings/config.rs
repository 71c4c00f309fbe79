//! `config.toml`: what the user, and below that the machine, sets for every `rb`.
//!
//! In: the [`Environment`], which says where the files are. Out: a [`Config`]; without files all defaults, with a wrong
//! one all its errors. The user's file is `$RB_CONFIG`, else `rb/config.toml` in `$XDG_CONFIG_HOME` or `~/.config`; what it
//! does not say, `/etc/rb/config.toml` may, key by key. Its keys stand in [`keys`](super::keys); those of a registry have the names of
//! buildkitd.toml.
//! Places are told in the message, as `FILE:line:column`; the text is not shown, as a proxy's address may hold a password.

mod said;
mod written;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use rb_diag::{Diagnostic, Diagnostics, ErrorKind, chain};
use rb_registry::HostOptions;
use serde::Deserialize;

use self::said::Said;
use self::written::parse;
use super::engine::{EngineName, KnownEngine};
use super::git::GitHosts;
use super::memory::MemoryBudget;
use super::snapshotter::SnapshotterChoice;
use super::space::CacheSpace;
use crate::args::{IsolationChoice, StepNetworkChoice};
use crate::codes::{BAD_VALUE, UNREADABLE};
use crate::environment::Environment;
use crate::world::{ReadError, read_regular};

/// The machine's file.
const SYSTEM_FILE: &str = "/etc/rb/config.toml";

/// Largest file that is read.
pub(super) const LIMIT_BYTES: u64 = 1 << 20;

/// What the files set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Config {
    /// The files that were read, the strongest first.
    pub(crate) files: Vec<PathBuf>,
    /// Steps at once.
    pub(crate) jobs: Option<NonZeroUsize>,
    /// State directory, absolute.
    pub(crate) root: Option<PathBuf>,
    /// How roots of steps are made of layers.
    pub(crate) snapshotter: Option<SnapshotterChoice>,
    /// Proxies.
    pub(crate) network: Network,
    /// Runtime of steps: a name, or an absolute path.
    pub(crate) runtime: Option<String>,
    /// What steps that run at once may take of memory together.
    pub(crate) memory_budget: Option<MemoryBudget>,
    /// What steps run in.
    pub(crate) isolation: Option<IsolationChoice>,
    /// Emulators by OCI's name of the machine that they stand in for, absolute.
    pub(crate) emulators: BTreeMap<String, PathBuf>,
    /// Folders where devices are described, absolute.
    pub(crate) device_folders: Option<Vec<PathBuf>>,
    /// Registries by their names in images.
    pub(crate) hosts: BTreeMap<String, HostOptions>,
    /// Hosts of repositories by their names in references.
    pub(crate) git: GitHosts,
    /// How much the state directory may hold.
    pub(crate) cache: CacheSpace,
    /// The engine that builds.
    pub(crate) engine: Option<EngineName>,
    /// Engines by name.
    pub(crate) engines: BTreeMap<String, KnownEngine>,
}

/// Proxies, each over that of the environment; an empty one means none. And authorities for every host.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Network {
    pub(crate) http_proxy: Option<String>,
    pub(crate) https_proxy: Option<String>,
    pub(crate) no_proxy: Option<String>,
    /// PEM files, beside this file or absolute.
    pub(crate) ca: Option<Vec<PathBuf>>,
    /// Network of steps that ask for none.
    pub(crate) steps: Option<StepNetworkChoice>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Addresses of proxies may hold passwords.
        out.write_str("Network")
    }
}

/// Reads the files.
pub(crate) fn load(environment: &Environment) -> Result<Config, Diagnostics> {
    let (own, required) = own_file(environment);
    load_from(own.as_deref(), required, Path::new(SYSTEM_FILE), environment.home())
}

/// Reads the files for what changes the user's: RB_CONFIG may name one that is not there yet.
pub(super) fn load_to_change(environment: &Environment) -> Result<Config, Diagnostics> {
    let own = own_file(environment).0;
    load_from(own.as_deref(), false, Path::new(SYSTEM_FILE), environment.home())
}

/// Returns where files are looked for, the strongest first.
pub(super) fn places(environment: &Environment) -> Vec<PathBuf> {
    own_file(environment).0.into_iter().chain([PathBuf::from(SYSTEM_FILE)]).collect()
}

/// Returns where the user's file is, and whether it has to be there.
pub(super) fn own_file(environment: &Environment) -> (Option<PathBuf>, bool) {
    match environment.path("RB_CONFIG").map(|path| environment.cwd.join(path)) {
        Some(path) => (Some(path), true),
        None => (usual_place(environment), false),
    }
}

/// Returns where the user's file is looked for if nobody names another.
fn usual_place(environment: &Environment) -> Option<PathBuf> {
    // The XDG specification has relative paths ignored.
    let folder = environment.path("XDG_CONFIG_HOME").filter(|folder| folder.is_absolute());
    let folder = folder.or_else(|| environment.home().map(|home| home.join(".config")));
    folder.filter(|folder| folder.is_absolute()).map(|folder| folder.join("rb/config.toml"))
}

fn load_from(
    own: Option<&Path>,
    required: bool,
    system: &Path,
    home: Option<&Path>,
) -> Result<Config, Diagnostics> {
    let mut config = Config::default();
    let mut errors = Vec::new();
    let mut all = Said::default();
    for (file, required) in own.map(|file| (file, required)).into_iter().chain([(system, false)]) {
        match read(file, required, home) {
            Ok(Some(said)) => {
                config.files.push(file.to_owned());
                all = all.or(said);
            }
            Ok(None) => {}
            Err(found) => errors.extend(found),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    config.jobs = all.jobs;
    config.root = all.root;
    config.snapshotter = all.snapshotter;
    config.network = all.network;
    config.runtime = all.runtime;
    config.memory_budget = all.memory_budget;
    config.isolation = all.isolation;
    config.emulators = all.emulators;
    config.device_folders = all.device_folders;
    config.git = GitHosts(all.git);
    config.cache = all.cache;
    config.engine = all.engine;
    config.engines = all.engines;
    config.hosts = all.hosts.into_iter().map(|(host, said)| (host, said.into_options())).collect();
    Ok(config)
}

fn read(file: &Path, required: bool, home: Option<&Path>) -> Result<Option<Said>, Diagnostics> {
    let shown = file.display();
    let bytes = match read_regular(file, LIMIT_BYTES) {
        Ok(bytes) => bytes,
        Err(ReadError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            if !required {
                return Ok(None);
            }
            let error = Diagnostic::error(UNREADABLE, format!("`{shown}` is not there"));
            return Err(vec![error.with_help("RB_CONFIG names it: set another path, or none")]);
        }
        Err(error) => {
            let kind =
                if matches!(error, ReadError::Io(_)) { ErrorKind::Environment } else { ErrorKind::Input };
            let message = format!("`{shown}` {}", chain(&error));
            return Err(vec![Diagnostic::error(UNREADABLE, message).with_kind(kind)]);
        }
    };
    match String::from_utf8(bytes) {
        Ok(text) => parse(file, &text, home).map(Some),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let message = format!("`{shown}` is not UTF-8: byte {at} belongs to no character");
            Err(vec![Diagnostic::error(BAD_VALUE, message).with_help("write it in UTF-8")])
        }
    }
}

#[cfg(test)]
mod tests;
