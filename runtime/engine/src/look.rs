//! What a build would do, as far as the cache tells: the outlook of each vertex that a job has met.
//!
//! In: what the watch of a job that only looks has heard of every vertex, questions of the frontend included, and what
//! failed. Out: [`Outlook`]s, inputs first. The solver says what is found and what would run; what nobody can say yet, and
//! because of what, is settled here.

use std::collections::BTreeMap;

use rb_api::{CacheKey, Fate, Outlook};
use rb_oci::Digest;
use rb_solver::Failure;

use crate::job::JobContext;
use crate::solve::failure_error;
use crate::watch::{Ended, Standing, Watch};

/// Returns what would become of every vertex.
pub(crate) fn outlooks(watch: &Watch, failures: Vec<Failure>, job: &JobContext) -> Vec<Outlook> {
    let mut failures: BTreeMap<Digest, Failure> =
        failures.into_iter().map(|failure| (failure.vertex, failure)).collect();
    // Of what would be made, and of what depends on it: the name of what has to be made first.
    let mut after: BTreeMap<Digest, String> = BTreeMap::new();
    let outlook = |Standing { vertex, name, inputs, step, missed, ended }: Standing| {
        let fate = match (ended, missed) {
            (None, _) => Fate::NotNeeded,
            // A source that was looked at, or plumbing.
            (Some(Ended::Executed), _) => Fate::Cached(CacheKey::Fast),
            (Some(Ended::Cached(key)), _) => Fate::Cached(key),
            (Some(Ended::Failed), _) => match failures.remove(&vertex) {
                Some(failure) => Fate::Fails(failure_error(failure, job, watch)),
                None => Fate::Unknown { after: None },
            },
            (Some(Ended::Withheld), Some(reason)) => {
                after.insert(vertex, name.clone());
                Fate::Runs(reason)
            }
            (Some(Ended::Withheld), None) => Fate::Unknown { after: None },
            (Some(Ended::Cancelled), _) => {
                let first = inputs.iter().find_map(|input| after.get(input)).cloned();
                after.extend(first.clone().map(|first| (vertex, first)));
                Fate::Unknown { after: first }
            }
        };
        Outlook { vertex, name, step, fate }
    };
    watch.standings().into_iter().map(outlook).collect()
}
