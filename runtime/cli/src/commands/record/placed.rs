//! Which node of an engine a build went to, on its way into the record.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rb_remote::{FailedNode, Heard, Hears, Placement};

use super::document::{FailedOn, PartOn, PlacedOn};
use crate::report;
use crate::settings::{Display, ProgressMode};

/// What was heard so far.
#[derive(Clone, Default)]
pub(in crate::commands) struct Placed(Arc<Mutex<Option<PlacedOn>>>);

impl Placed {
    /// Returns who hears: nodes that fail are told at once, unless nothing is to be told.
    pub(in crate::commands) fn hears(&self, display: Display) -> Hears {
        let placed = self.clone();
        Arc::new(move |heard| {
            // Of the last one the build says why it ended.
            if let Heard::Failed(FailedNode { node, why, is_last: false, .. }) = &heard
                && display.mode != ProgressMode::Quiet
            {
                report::tell(&format!("warning: node `{node}` failed, and the next is tried: {why}\n"));
            }
            placed.take(heard);
        })
    }

    /// Notes the engine of a build, where that is one daemon.
    pub(in crate::commands) fn at(&self, engine: String) {
        self.lock().get_or_insert_default().engine = engine;
    }

    fn take(&self, heard: Heard) {
        let mut placed = self.lock();
        let known = placed.get_or_insert_default();
        match heard {
            Heard::Placed(Placement { engine, node, address, why, part: Some(part) }) => {
                known.engine = engine;
                known.parts.insert(part, PartOn { node, address, why });
            }
            Heard::Placed(Placement { engine, node, address, why, part: None }) => {
                known.engine = engine;
                (known.node, known.address, known.why) = (Some(node), Some(address), Some(why));
            }
            Heard::Failed(FailedNode { engine, node, why, is_last: _ }) => {
                known.engine = engine;
                known.failed.push(FailedOn { node, why });
            }
        }
    }

    /// Returns what was heard, and begins anew.
    pub(super) fn taken(&self) -> Option<PlacedOn> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<PlacedOn>> {
        // Each change is whole, whoever panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
