//! Which vertex of an earlier build is the one of this build, as people see it.
//!
//! In: two records. Out: [`Pairs`]. Steps are matched target by target, one that was called with other arguments with the one
//! that was left over, and within a target by what they do: what is the same stays the same, and between two of these a step
//! that begins with the same word is the changed one. What people do not count (sources, plumbing) is matched by who uses it.

use std::collections::BTreeMap;

use super::super::record::document::{Document, RecordStep};
use crate::progress::bare_target;

/// Longer stretches that differ are matched by their order alone.
const MOST_CELLS: usize = 4_000_000;

/// Places of steps in one record by those in the other.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::commands) struct Pairs {
    /// Of each vertex now, the one that it was.
    pub(in crate::commands) was: Vec<Option<usize>>,
    /// Of each vertex then, whether it is one now.
    pub(super) is_still: Vec<bool>,
}

impl Pairs {
    /// Matches the vertices of two records.
    pub(in crate::commands) fn of(was: &Document, now: &Document) -> Self {
        let mut pairs = Self { was: vec![None; now.steps.len()], is_still: vec![false; was.steps.len()] };
        let (before, after) = (by_label(was), by_label(now));
        let mut left: BTreeMap<&str, Vec<&[usize]>> = BTreeMap::new();
        for (label, steps) in
            before.iter().filter(|(label, _)| !after.iter().any(|(other, _)| other == label))
        {
            left.entry(bare_target(label)).or_default().push(steps);
        }
        let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
        for (label, steps) in &after {
            let same = before.iter().find(|(other, _)| other == label).map(|(_, steps)| steps.as_slice());
            let old = same.or_else(|| {
                let next = taken.entry(bare_target(label)).or_default();
                *next += 1;
                left.get(bare_target(label))?.get(*next - 1).copied()
            });
            if let Some(old) = old {
                pairs.align(was, now, old, steps);
            }
        }
        pairs.pair_inputs(was, now);
        pairs
    }

    fn pair(&mut self, was: usize, now: usize) {
        self.was[now] = Some(was);
        self.is_still[was] = true;
    }

    fn align(&mut self, was: &Document, now: &Document, old: &[usize], new: &[usize]) {
        let what = |document: &Document, at: usize| document.steps[at].what().to_owned();
        let (old_words, new_words): (Vec<String>, Vec<String>) =
            (old.iter().map(|at| what(was, *at)).collect(), new.iter().map(|at| what(now, *at)).collect());
        let same = common(&old_words, &new_words);
        let mut from = (0, 0);
        for to in same.into_iter().chain([(old.len(), new.len())]) {
            // Between two that are the same: by their first words, in order.
            let mut next = from.0;
            for at in from.1..to.1 {
                let first = |words: &str| words.split(' ').next().unwrap_or_default().to_owned();
                let found = (next..to.0).find(|old| first(&old_words[*old]) == first(&new_words[at]));
                if let Some(found) = found {
                    self.pair(old[found], new[at]);
                    next = found + 1;
                }
            }
            if let (Some(old), Some(new)) = (old.get(to.0), new.get(to.1)) {
                self.pair(*old, *new);
            }
            from = (to.0 + 1, to.1 + 1);
        }
    }

    /// Matches what is not counted by its users, which stand behind it; and steps that several targets share, which have the name of
    /// the one that came first.
    fn pair_inputs(&mut self, was: &Document, now: &Document) {
        for at in (0..now.steps.len()).rev() {
            let Some(before) = self.was[at] else { continue };
            let (old, new) = (&was.steps[before].inputs, &now.steps[at].inputs);
            for ((old, _), (new, _)) in old.iter().zip(new) {
                let (Some(old), Some(new)) = (*old, *new) else { continue };
                let (Some(before), Some(after)) = (was.steps.get(old), now.steps.get(new)) else { continue };
                // An input stands before its user; a record that says otherwise is none of ours.
                if self.was[new].is_some() || new >= at {
                    continue;
                }
                let is_source = !before.step && !after.step && !self.is_still[old];
                let is_shared = before.step && after.step && before.what() == after.what();
                if is_shared || (is_source && is_alike(was, before, now, after)) {
                    self.pair(old, new);
                }
            }
        }
    }
}

/// Tells whether two sources, say, are of one name or of one kind; of one that was only looked for, no kind is known.
fn is_alike(was: &Document, before: &RecordStep, now: &Document, after: &RecordStep) -> bool {
    let kind =
        |document: &Document, step: &RecordStep| document.parts_at(&step.own).next().map(|part| part.kind);
    before.what() == after.what() || kind(was, before) == kind(now, after)
}

/// Returns the counted steps by target with arguments, each in its order.
fn by_label(document: &Document) -> Vec<(String, Vec<usize>)> {
    let mut found: Vec<(String, Vec<usize>)> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, step) in document.steps.iter().enumerate().filter(|(_, step)| step.step) {
        let place = *places.entry(step.label()).or_insert_with(|| {
            found.push((step.label().to_owned(), Vec::new()));
            found.len() - 1
        });
        found[place].1.push(at);
    }
    found
}

/// Returns the places of a longest common subsequence.
fn common(old: &[String], new: &[String]) -> Vec<(usize, usize)> {
    let head = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let rest = old.len().min(new.len()) - head;
    let tail = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(old, new)| old == new).count();
    let mut found: Vec<(usize, usize)> = (0..head).map(|at| (at, at)).collect();
    let (a, b) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
    if a.len().saturating_mul(b.len()) <= MOST_CELLS {
        let width = b.len() + 1;
        let mut longest = vec![0_u32; (a.len() + 1) * width];
        for (i, one) in a.iter().enumerate().rev() {
            for (j, other) in b.iter().enumerate().rev() {
                longest[i * width + j] = if one == other {
                    longest[(i + 1) * width + j + 1] + 1
                } else {
                    longest[(i + 1) * width + j].max(longest[i * width + j + 1])
                };
            }
        }
        let (mut i, mut j) = (0, 0);
        while i < a.len() && j < b.len() {
            if a[i] == b[j] {
                found.push((head + i, head + j));
                (i, j) = (i + 1, j + 1);
            } else if longest[(i + 1) * width + j] >= longest[i * width + j + 1] {
                i += 1;
            } else {
                j += 1;
            }
        }
    }
    found.extend((0..tail).rev().map(|back| (old.len() - 1 - back, new.len() - 1 - back)));
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rb_oci::Digest;

    use super::super::super::record::document::Verdict;
    use super::*;

    fn document(names: &[&str]) -> Document {
        let step = |name: &&str| RecordStep::of(*name, Digest::of(name), Verdict::Ran);
        Document { steps: names.iter().map(step).collect(), ..Document::default() }
    }

    fn paired(was: &[&str], now: &[&str]) -> Vec<Option<usize>> {
        Pairs::of(&document(was), &document(now)).was
    }

    #[test]
    fn a_changed_step_is_the_one_between_those_that_are_the_same() {
        let was = ["+t | COPY a", "+t | RUN one", "+t | RUN two", "+t | RUN three"];
        assert_eq!(
            paired(&was, &["+t | COPY a", "+t | RUN one", "+t | RUN zwei", "+t | RUN three"]),
            [Some(0), Some(1), Some(2), Some(3)]
        );
        assert_eq!(
            paired(&was, &["+t | COPY a", "+t | WORKDIR /x", "+t | RUN one", "+t | RUN three"]),
            [Some(0), None, Some(1), Some(3)]
        );
    }

    #[test]
    fn a_step_that_targets_share_is_found_by_who_works_on_it() {
        let chain = |names: &[&str]| {
            let mut document = document(names);
            for at in 1..names.len() {
                document.steps[at].inputs.push((Some(at - 1), 0));
            }
            document
        };
        let was = chain(&["./a+t | WORKDIR /w", "./b+t | COPY f", "./b+t | RUN x"]);
        let pairs = |names: &[&str]| Pairs::of(&was, &chain(names)).was;
        assert_eq!(
            pairs(&["./b+t | WORKDIR /w", "./b+t | COPY f", "./b+t | RUN y"]),
            [Some(0), Some(1), Some(2)]
        );
        assert_eq!(pairs(&["./b+t | WORKDIR /v", "./b+t | COPY f"]), [None, Some(1)]);
    }

    #[test]
    fn a_target_with_other_arguments_is_the_one_that_was_left() {
        let was = ["+a --X=1 | RUN x", "+a --X=2 | RUN x", "+b | RUN x"];
        let now = ["+a --X=2 | RUN x", "+a --X=3 | RUN x", "+c | RUN x"];
        assert_eq!(paired(&was, &now), [Some(1), Some(0), None]);
    }

    proptest! {
        #[test]
        fn what_is_common_is_in_order_and_the_same(
            old in prop::collection::vec("[ab]", 0..12),
            new in prop::collection::vec("[ab]", 0..12),
        ) {
            let found = common(&old, &new);
            prop_assert!(found.iter().all(|(i, j)| old[*i] == new[*j]));
            prop_assert!(found.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 < two[1].1));
        }
    }
}
