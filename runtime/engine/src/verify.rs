//! Reading all that is stored, and comparing it with what it should be: `rb cache verify`.

use rb_snapshot::SnapshotError;
use rb_store::{Progress, Verified};

use crate::LocalEngine;
use crate::error::EngineError;

impl LocalEngine {
    /// Reads database, layers and blobs, and drops what is damaged with all that builds on it, so that it is made again.
    /// `tell` hears how far that is. Takes as long as reading the state directory; blocking.
    pub fn verify(&self, tell: &mut dyn FnMut(Progress)) -> Result<Verified, EngineError> {
        let snapshots = &self.parts.snapshots;
        let verified = self.parts.store.verify::<SnapshotError>(&mut |row| snapshots.is_true(row), tell);
        Ok(verified?)
    }
}
