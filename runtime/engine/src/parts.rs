//! The parts of the runtime that ops work with.

use rb_exec::Privileges;
use rb_exporters::Precious;
use rb_registry::Registry;
use rb_snapshot::Snapshots;
use rb_store::Store;
use tokio::sync::Semaphore;

use crate::claims::Claims;
use crate::network::StepNetwork;
use crate::ops::Turns;

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
    /// What no export replaces.
    pub(crate) precious: Precious,
    /// Room for layers that are unpacked at once.
    pub(crate) unpacking: Semaphore,
    /// Who waits for which cache.
    pub(crate) caches: Turns,
}
