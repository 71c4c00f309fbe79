//! What was asked of others in a job, each once: all that name the same thing see the same answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use rb_solver::OpError;
use rb_sources::git;
use tokio::sync::OnceCell;

use super::http::Known;

/// The answers of one job.
#[derive(Default)]
pub(crate) struct Asked {
    pub(super) files: Once<Known>,
    pub(super) commits: Once<git::Pinned>,
    /// Commits whose files the frontend reads.
    read: Mutex<BTreeSet<String>>,
}

impl Asked {
    /// Notes that the frontend reads the files of a commit: a job that only looks makes that tree, too.
    pub(super) fn note_read(&self, commit: &str) {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(commit.to_owned());
    }

    /// Tells whether the frontend reads the files of a commit.
    pub(super) fn is_read(&self, commit: &str) -> bool {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).contains(commit)
    }
}

/// Answers by what was asked.
pub(super) struct Once<T>(Mutex<BTreeMap<String, Arc<OnceCell<T>>>>);

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Once<T> {
    /// Returns the answer; who comes first asks. One that was cancelled leaves the asking to the next.
    pub(super) async fn get(
        &self,
        cancelled: impl Future<Output = ()>,
        question: String,
        ask: impl Future<Output = Result<T, OpError>>,
    ) -> Result<T, OpError> {
        let cell = {
            // Every change of the map is a single step.
            let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(cells.entry(question).or_default())
        };
        tokio::select! {
            answer = cell.get_or_try_init(|| ask) => answer.cloned(),
            () = cancelled => Err(OpError::cancelled()),
        }
    }
}
