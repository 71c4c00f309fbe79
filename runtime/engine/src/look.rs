//! What a build would do, as far as the cache tells: the outlook of each vertex that a job has met.
//!
//! In: what the watch of a job that only looks has heard of every vertex, questions of the frontend included, and what
//! failed. Out: [`Outlook`]s, inputs first. The solver says what is found and what would run; what nobody can say yet, and
//! because of what, is settled here, and what of images is not here.

use std::collections::BTreeMap;

use rb_api::{CacheKey, Fate, Outlook};
use rb_oci::Digest;
use rb_solver::{Failure, MissReason};

use crate::error::EngineError;
use crate::fetch;
use crate::job::JobContext;
use crate::solve::failure_error;
use crate::watch::{Ended, Standing, Watch, verdict};

/// Layers with their sizes in bytes, by the vertices of their images.
type Absent = BTreeMap<Digest, BTreeMap<Digest, u64>>;

/// Returns which layers of the images that the job came upon a pull would bring.
pub(crate) fn absent(job: &JobContext) -> Result<Absent, EngineError> {
    let packed = job.packed().into_iter();
    packed.map(|(vertex, image)| Ok((vertex, fetch::absent(&job.parts, &image)?))).collect()
}

/// Returns what would become of every vertex.
pub(crate) fn outlooks(
    watch: &Watch,
    failures: Vec<Failure>,
    mut absent: Absent,
    job: &JobContext,
) -> Vec<Outlook> {
    let mut failures: BTreeMap<Digest, Failure> =
        failures.into_iter().map(|failure| (failure.vertex, failure)).collect();
    // Of what would be made, and of what depends on it: the name of what has to be made first.
    let mut after: BTreeMap<Digest, String> = BTreeMap::new();
    // What looks nothing up runs, whatever comes of what it works on.
    let anew = || verdict(MissReason::IgnoreCache { inherited_from: None }, |_| None);
    let outlook = |Standing { vertex, name, inputs, step, missed, ended }: Standing| {
        let runs = step && job.no_cache;
        let fate = match (ended, missed) {
            (None, _) => Fate::NotNeeded,
            // A source that was looked at, or plumbing.
            (Some(Ended::Executed), _) => Fate::Cached(CacheKey::Fast),
            (Some(Ended::Cached(key)), _) => Fate::Cached(key),
            (Some(Ended::Failed), _) => {
                after.insert(vertex, name.clone());
                match failures.remove(&vertex) {
                    Some(failure) => Fate::Fails(failure_error(failure, job, watch)),
                    None => Fate::Unknown { after: None },
                }
            }
            (Some(Ended::Withheld), Some(reason)) => {
                after.insert(vertex, name.clone());
                Fate::Runs(reason)
            }
            (Some(Ended::Withheld), None) => {
                after.insert(vertex, name.clone());
                if runs { Fate::Runs(anew()) } else { Fate::Unknown { after: None } }
            }
            (Some(Ended::Cancelled), _) => {
                let first = inputs.iter().find_map(|input| after.get(input)).cloned();
                let is_known = first.is_some();
                after.extend(first.clone().map(|first| (vertex, first)));
                if runs && is_known { Fate::Runs(anew()) } else { Fate::Unknown { after: first } }
            }
        };
        let absent = absent.remove(&vertex).unwrap_or_default();
        Outlook { vertex, name, step, fate, absent }
    };
    watch.standings().into_iter().map(outlook).collect()
}
