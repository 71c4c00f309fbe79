//! The parts of the runtime that ops work with.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use rb_exec::Privileges;
use rb_exporters::Precious;
use rb_oci::Digest;
use rb_registry::Registry;
use rb_snapshot::Snapshots;
use rb_store::Store;
use tokio::sync::Semaphore;

use crate::admission::Admission;
use crate::claims::Claims;
use crate::host::HostPrograms;
use crate::network::{Networks, StepNetwork};
use crate::ops::{OfBuild, Resumption, StepTerms, Turns};
use crate::shared::Shared;
use crate::value::Tree;

/// Store, snapshots, caches, and what this process may do.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) snapshots: Snapshots,
    /// What is being run, by whichever process.
    pub(crate) claims: Claims,
    pub(crate) privileges: Privileges,
    /// Where images come from and go to.
    pub(crate) registry: Registry,
    /// How commands reach the network.
    pub(crate) network: StepNetwork,
    /// Those commands run in.
    pub(crate) networks: Networks,
    /// On which terms they run, unless they say so themselves.
    pub(crate) steps: StepTerms,
    /// The user's own machine, where it is lent.
    pub(crate) host: OnceLock<Arc<dyn HostPrograms>>,
    /// What no export replaces.
    pub(crate) precious: Precious,
    /// Room for layers that are unpacked at once.
    pub(crate) unpacking: Semaphore,
    /// What steps may take of memory together, if that is limited.
    pub(crate) admission: Option<Arc<Admission>>,
    /// Who waits for which cache.
    pub(crate) caches: Turns,
    /// The build that this process does, for steps of it that fail.
    pub(crate) build: OnceLock<OfBuild>,
    /// Roots of jobs that lie on `FROM @host`, by their keys: they become no image.
    pub(crate) on_host: Mutex<BTreeMap<Digest, Tree>>,
    /// What caches elsewhere have.
    pub(crate) shared: Shared,
    /// Steps that failed before and are gone on with.
    pub(crate) resumption: OnceLock<Resumption>,
}
