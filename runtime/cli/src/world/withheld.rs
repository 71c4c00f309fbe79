//! What a build that only looks did not do, in the words that the frontend was told.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};

/// The words, each once.
#[derive(Debug, Default)]
pub(crate) struct Withheld(Mutex<BTreeSet<String>>);

impl Withheld {
    /// Notes that something was not done, and returns the words for it.
    pub(crate) fn note(&self, message: String) -> String {
        self.words().insert(message.clone());
        message
    }

    /// Tells whether these are words for something that was not done.
    pub(crate) fn has(&self, message: &str) -> bool {
        self.words().contains(message)
    }

    fn words(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().expect("no holder of this lock panics")
    }
}
