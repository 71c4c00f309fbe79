//! What one file of settings says, checked, and how two are joined.
//!
//! In: what [`parse`](super::written::parse) found in each. Out: one [`Said`], in which the nearer file wins, key by key; only the
//! table of an engine counts as a whole.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use rb_registry::HostOptions;

use super::Network;
use crate::args::IsolationChoice;
use crate::settings::engine::{EngineName, KnownEngine};
use crate::settings::git::GitHost;
use crate::settings::memory::MemoryBudget;
use crate::settings::snapshotter::SnapshotterChoice;
use crate::settings::space::CacheSpace;

/// What one file says, checked.
#[derive(Default)]
pub(super) struct Said {
    pub(super) jobs: Option<NonZeroUsize>,
    pub(super) root: Option<PathBuf>,
    pub(super) snapshotter: Option<SnapshotterChoice>,
    pub(super) network: Network,
    pub(super) runtime: Option<String>,
    pub(super) memory_budget: Option<MemoryBudget>,
    pub(super) isolation: Option<IsolationChoice>,
    pub(super) emulators: BTreeMap<String, PathBuf>,
    pub(super) device_folders: Option<Vec<PathBuf>>,
    pub(super) hosts: BTreeMap<String, SaidOfHost>,
    pub(super) git: BTreeMap<String, GitHost>,
    pub(super) cache: CacheSpace,
    pub(super) engine: Option<EngineName>,
    pub(super) engines: BTreeMap<String, KnownEngine>,
}

#[derive(Default)]
pub(super) struct SaidOfHost {
    pub(super) mirrors: Option<Vec<String>>,
    pub(super) http: Option<bool>,
    pub(super) insecure: Option<bool>,
    pub(super) ca: Option<Vec<PathBuf>>,
    /// Certificate and key.
    pub(super) keypair: Option<(PathBuf, PathBuf)>,
}

impl Said {
    /// Fills what is not said here with what is said below.
    pub(super) fn or(self, below: Self) -> Self {
        let mut emulators = below.emulators;
        emulators.extend(self.emulators);
        let mut hosts = below.hosts;
        for (host, said) in self.hosts {
            let other = hosts.remove(&host).unwrap_or_default();
            let joined = SaidOfHost {
                mirrors: said.mirrors.or(other.mirrors),
                http: said.http.or(other.http),
                insecure: said.insecure.or(other.insecure),
                ca: said.ca.or(other.ca),
                keypair: said.keypair.or(other.keypair),
            };
            hosts.insert(host, joined);
        }
        let mut git = below.git;
        for (host, said) in self.git {
            let other = git.remove(&host).unwrap_or_default();
            git.insert(host, said.or(other));
        }
        // The certificates of one place prove nothing at another: a table counts as a whole.
        let mut engines = below.engines;
        engines.extend(self.engines);
        Self {
            jobs: self.jobs.or(below.jobs),
            root: self.root.or(below.root),
            snapshotter: self.snapshotter.or(below.snapshotter),
            network: Network {
                http_proxy: self.network.http_proxy.or(below.network.http_proxy),
                https_proxy: self.network.https_proxy.or(below.network.https_proxy),
                no_proxy: self.network.no_proxy.or(below.network.no_proxy),
                ca: self.network.ca.or(below.network.ca),
                steps: self.network.steps.or(below.network.steps),
            },
            runtime: self.runtime.or(below.runtime),
            memory_budget: self.memory_budget.or(below.memory_budget),
            isolation: self.isolation.or(below.isolation),
            emulators,
            device_folders: self.device_folders.or(below.device_folders),
            hosts,
            git,
            cache: self.cache.or(below.cache),
            engine: self.engine.or(below.engine),
            engines,
        }
    }
}

impl SaidOfHost {
    /// What is not said is as usual.
    pub(super) fn into_options(self) -> HostOptions {
        let Self { mirrors, http, insecure, ca, keypair } = self;
        HostOptions {
            mirrors: mirrors.unwrap_or_default(),
            plain_http: http.unwrap_or_default(),
            skip_verify: insecure.unwrap_or_default(),
            ca: ca.unwrap_or_default(),
            client_certificate: keypair,
        }
    }
}
