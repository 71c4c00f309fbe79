//! How long steps took, by the records of earlier builds.
//!
//! In: records of a workspace, the newest first, not read before they are needed. Out: of a step the median of its last runs. A
//! step is the one of an earlier build that has its name (target, arguments, what it does) and stands in the same place among those
//! of that name, as the engine knows it again. Where it never ran, one that differs in the arguments of its target alone stands
//! in for it; else the step that stood in its place, as `rb why` matches them: a command that was edited takes about as long as
//! before.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::past::{self, Past};
use super::super::record::document::{Document, RecordStep, Verdict};
use super::super::why::Pairs;
use crate::progress::bare_target;
use crate::report::Failure;

/// So many runs of a step count, the last ones.
pub(super) const MOST_RUNS: usize = 5;

/// How long a step took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Took {
    /// The median.
    pub(super) milliseconds: u64,
    /// Of so many runs.
    pub(super) runs: usize,
    /// Its target had other arguments then, or another command stood in its place.
    pub(super) is_alike: bool,
}

/// What a step is known by from build to build.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    /// The target with its arguments.
    label: String,
    what: String,
    /// How many of this name stand before it.
    number: usize,
}

impl Identity {
    /// The same without the arguments.
    fn alike(&self) -> Self {
        Self { label: bare_target(&self.label).to_owned(), ..self.clone() }
    }
}

/// How long steps took.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// Of each the last runs, the last one first.
    same: BTreeMap<Identity, Vec<u64>>,
    alike: BTreeMap<Identity, Vec<u64>>,
    /// What stood in the place of steps that are new, by places of the document that is asked for.
    before: BTreeMap<usize, Identity>,
}

impl Times {
    /// Reads as many records of a workspace as it takes to know of the steps at these places of a document.
    pub(super) fn read(
        root: &Path,
        workspace: &Path,
        document: &Document,
        places: &[usize],
    ) -> Result<Self, Failure> {
        let all = identities(document);
        let wanted: Vec<&Identity> = places.iter().filter_map(|at| all.get(*at)?.as_ref()).collect();
        let mut times = Self::default();
        for file in past::files(root)? {
            let has_all = |identity: &&Identity| {
                times.same.get(*identity).is_some_and(|known| known.len() == MOST_RUNS)
            };
            if wanted.iter().all(has_all) {
                break;
            }
            if let Some(past) = Past::read(root, &file).filter(|past| past.is_near(workspace)) {
                let past = past.seen_from(workspace).document;
                times.match_new(&past, document, &all, places);
                times.note(&past);
            }
        }
        Ok(times)
    }

    /// Finds what stood in a record in the place of steps that are not in it.
    fn match_new(&mut self, was: &Document, now: &Document, all: &[Option<Identity>], places: &[usize]) {
        let is_new = |at: &&usize| {
            let known = |identity: &Identity| {
                self.same.contains_key(identity) || self.alike.contains_key(&identity.alike())
            };
            !self.before.contains_key(at) && !all.get(**at).is_some_and(|one| one.as_ref().is_some_and(known))
        };
        let open: Vec<usize> = places.iter().filter(is_new).copied().collect();
        if open.is_empty() {
            return;
        }
        let (pairs, old) = (Pairs::of(was, now), identities(was));
        for at in open {
            let before = pairs.was.get(at).copied().flatten().and_then(|was| old.get(was).cloned().flatten());
            if let Some(before) = before.filter(|before| all[at].as_ref() != Some(before)) {
                self.before.insert(at, before);
            }
        }
    }

    /// Adds what a record says that is older than those before.
    fn note(&mut self, document: &Document) {
        for (step, identity) in document.steps.iter().zip(identities(document)) {
            let (Some(identity), Verdict::Ran, Some(took)) = (identity, step.verdict, step.duration_ms)
            else {
                continue;
            };
            let alike = self.alike.entry(identity.alike()).or_default();
            for known in [alike, self.same.entry(identity).or_default()] {
                if known.len() < MOST_RUNS {
                    known.push(took);
                }
            }
        }
    }

    /// Returns how long the steps of a document took, by place; none of what never ran.
    pub(super) fn of(&self, document: &Document) -> Vec<Option<Took>> {
        let known = |identity: &Identity| {
            let same = self.same.get(identity).map(|known| (known, false));
            same.or_else(|| Some((self.alike.get(&identity.alike())?, true)))
        };
        let took = |(at, identity): (usize, Option<Identity>)| {
            let before = || Some((known(self.before.get(&at)?)?.0, true));
            let (known, is_alike) = known(&identity?).or_else(before)?;
            Some(Took { milliseconds: median(known)?, runs: known.len(), is_alike })
        };
        identities(document).into_iter().enumerate().map(took).collect()
    }
}

/// Returns what steps are known by, by place; none of what people do not count.
fn identities<'a>(document: &'a Document) -> Vec<Option<Identity>> {
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    let mut identity = |step: &'a RecordStep| {
        let number = numbers.entry(&step.name).or_default();
        *number += 1;
        let (label, what) = (step.label().to_owned(), step.what().to_owned());
        Identity { label, what, number: *number - 1 }
    };
    document.steps.iter().map(|step| step.step.then(|| identity(step))).collect()
}

fn median(known: &[u64]) -> Option<u64> {
    let mut sorted = known.to_vec();
    sorted.sort_unstable();
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(u64::midpoint(upper, *sorted.get(middle.checked_sub(1)?)?))
}

#[cfg(test)]
mod tests {
    use rb_oci::Digest;

    use super::*;

    fn document(steps: &[(&str, Verdict, Option<u64>)]) -> Document {
        let step = |(name, verdict, took): &(&str, Verdict, Option<u64>)| RecordStep {
            duration_ms: *took,
            ..RecordStep::of(*name, Digest::of(name), *verdict)
        };
        Document { steps: steps.iter().map(step).collect(), ..Document::default() }
    }

    fn told(records: &[Document], name: &str) -> Vec<Option<Took>> {
        let mut times = Times::default();
        records.iter().for_each(|record| times.note(record));
        times.of(&document(&[(name, Verdict::Cancelled, None)]))
    }

    #[test]
    fn a_median_of_the_last_runs() {
        for (known, expected) in [
            (&[][..], None),
            (&[7], Some(7)),
            (&[9, 1], Some(5)),
            (&[9, 1, 2], Some(2)),
            (&[u64::MAX, u64::MAX], Some(u64::MAX)),
        ] {
            assert_eq!(median(known), expected, "{known:?}");
        }
        let run = |took| document(&[("+a | RUN x", Verdict::Ran, Some(took))]);
        let records: Vec<Document> = [10, 20, 30, 40, 50, 6000, 7000].map(run).to_vec();
        let expected = Took { milliseconds: 30, runs: MOST_RUNS, is_alike: false };
        assert_eq!(told(&records, "+a | RUN x"), [Some(expected)]);
    }

    #[test]
    fn only_what_ran_to_its_end_has_a_time() {
        let record = document(&[
            ("+a | RUN x", Verdict::Failed, Some(3)),
            ("+a | RUN x", Verdict::Cached, None),
            ("+b | RUN x", Verdict::Ran, Some(4)),
        ]);
        assert_eq!(told(std::slice::from_ref(&record), "+a | RUN x"), [None]);
        assert_eq!(told(&[record], "+a | RUN y"), [None]);
    }

    #[test]
    fn several_of_one_name_are_told_apart_by_their_order() {
        let record = document(&[
            ("+a | RUN x", Verdict::Ran, Some(1)),
            ("+a | RUN y", Verdict::Ran, Some(2)),
            ("+a | RUN x", Verdict::Ran, Some(3)),
        ]);
        let mut times = Times::default();
        times.note(&record);
        let took: Vec<_> =
            times.of(&record).into_iter().map(|took| took.map(|took| took.milliseconds)).collect();
        assert_eq!(took, [Some(1), Some(2), Some(3)]);
    }

    #[test]
    fn what_stood_in_its_place_stands_in_for_a_step_that_was_edited() {
        let was = document(&[
            ("+a | COPY f", Verdict::Ran, Some(1)),
            ("+a | RUN x", Verdict::Ran, Some(70)),
            ("+a | RUN z", Verdict::Ran, Some(3)),
        ]);
        let now = document(&[
            ("+a | COPY f", Verdict::Cached, None),
            ("+a | RUN y", Verdict::Cancelled, None),
            ("+a | RUN z", Verdict::Cancelled, None),
            ("+b | RUN y", Verdict::Cancelled, None),
        ]);
        let (all, mut times) = (identities(&now), Times::default());
        // What is the same in between does not hide it.
        for record in [&now, &was] {
            times.match_new(record, &now, &all, &[1, 2, 3]);
            times.note(record);
        }
        let took = |milliseconds, is_alike| Some(Took { milliseconds, runs: 1, is_alike });
        assert_eq!(times.of(&now)[1..], [took(70, true), took(3, false), None]);
    }

    #[test]
    fn other_arguments_stand_in_where_nothing_better_is_known() {
        let records = [
            document(&[("+a --N=1 | RUN x", Verdict::Ran, Some(1))]),
            document(&[("+a --N=2 | RUN x", Verdict::Ran, Some(9))]),
        ];
        let took = |milliseconds, runs, is_alike| [Some(Took { milliseconds, runs, is_alike })];
        assert_eq!(told(&records, "+a --N=1 | RUN x"), took(1, 1, false));
        assert_eq!(told(&records, "+a --N=3 | RUN x"), took(5, 2, true));
        assert_eq!(told(&records, "+a | RUN x"), took(5, 2, true));
        assert_eq!(told(&records, "+b --N=1 | RUN x"), [None]);
    }
}
