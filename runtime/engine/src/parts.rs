//! The parts of the runtime that ops work with.

use rb_exec::Privileges;
use rb_snapshot::Snapshots;
use rb_store::Store;

/// Store, snapshots, and what this process may do.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) snapshots: Snapshots,
    pub(crate) privileges: Privileges,
}
