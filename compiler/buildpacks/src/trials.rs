//! Plan trials: which alternatives of which modules fit together?
//!
//! In: the modules of a group that passed, each with the alternatives of its build plan. Out: those that stay, and the plan;
//! or why no trial went well. Alternatives are tried depth first, the last module's varying fastest. In a trial, what asks for
//! something that neither it nor a module before it offers, and what offers something that neither it nor a module after it
//! asks for, fails the trial if it is required, and is taken out if it is not; this is repeated until nothing changes. Only
//! with its last alternative is an optional module optional.
//! **Invariant:** the result does not depend on the order in which names are looked at. Work is bounded by [`TrialLimits`].
//! Source: buildpack spec, "Phase 1: Detection"; the lifecycle's resolver, of which the plan's order is by chance: here it is
//! by name.

use std::collections::BTreeMap;

use crate::explain::{Trial, TrialStep, Unfit};
use crate::{BuildPlan, GroupElement, ModuleKey, ModuleKind, Plan, PlanEntry, PlanSections, Require};

/// How many steps of one trial are kept for the explanation.
const STEPS: usize = 64;

/// How much may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrialLimits {
    /// Trials of one group.
    pub trials: u64,
    /// Entries of build plans that are looked at, over all trials of all groups.
    pub entries: u64,
    /// Trials of one group that are kept for the explanation.
    pub kept: usize,
}

impl Default for TrialLimits {
    fn default() -> Self {
        Self { trials: 1 << 16, entries: 50_000_000, kept: 64 }
    }
}

/// A module that passed detection.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// Which.
    pub key: &'a ModuleKey,
    /// Whether the group may do without it.
    pub optional: bool,
    /// What it said.
    pub plan: &'a BuildPlan,
}

/// How the trials of a group ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Tried {
    /// A trial went well.
    Fits {
        /// The candidates that stay, as indices.
        stay: Vec<usize>,
        /// What is asked of whom.
        plan: Plan,
        /// The failed trials before it, as far as they are kept, and the one that went well.
        trials: Vec<Trial>,
        /// How many there were.
        count: u64,
    },
    /// None did.
    NoneFits {
        /// The trials, as far as they are kept.
        trials: Vec<Trial>,
        /// How many there were.
        count: u64,
    },
    /// There are more than may be tried.
    TooMany {
        /// How many were tried.
        count: u64,
    },
}

/// Tries all alternatives of a group until one fits.
pub fn try_plans(candidates: &[Candidate<'_>], limits: TrialLimits) -> Tried {
    try_within(candidates, limits, &mut limits.entries.clone())
}

/// The same, with what several groups may look at together.
pub(crate) fn try_within(candidates: &[Candidate<'_>], limits: TrialLimits, budget: &mut u64) -> Tried {
    let sizes: Vec<usize> = candidates.iter().map(|one| one.plan.alternatives().len()).collect();
    let mut chosen = vec![0; candidates.len()];
    let (mut kept, mut count) = (Vec::new(), 0);
    loop {
        if count == limits.trials {
            return Tried::TooMany { count };
        }
        count += 1;
        let mut trial = Trial { number: count, alternatives: chosen.clone(), steps: Vec::new(), fits: false };
        let Some(end) = try_one(candidates, &chosen, &mut trial, budget) else {
            return Tried::TooMany { count };
        };
        trial.fits = end.is_some();
        if kept.len() < limits.kept || trial.fits {
            kept.push(trial);
        }
        if let Some((stay, plan)) = end {
            return Tried::Fits { stay, plan, trials: kept, count };
        }
        if !advance(&mut chosen, &sizes) {
            return Tried::NoneFits { trials: kept, count };
        }
    }
}

/// Goes on to the next choice; false if there is none.
fn advance(chosen: &mut [usize], sizes: &[usize]) -> bool {
    for (place, size) in chosen.iter_mut().zip(sizes).rev() {
        *place += 1;
        if *place < *size {
            return true;
        }
        *place = 0;
    }
    false
}

/// A candidate with one of its alternatives.
struct Choice<'a> {
    index: usize,
    key: &'a ModuleKey,
    optional: bool,
    sections: &'a PlanSections,
}

/// What is known of one name.
#[derive(Default)]
struct Dependency<'a> {
    /// Places of those that offer it to someone.
    providers: Vec<usize>,
    requires: Vec<&'a Require>,
    /// Places of those that ask for it before anyone offers it.
    early: Vec<usize>,
    /// Places of those that offer it and have not been asked yet.
    extra: Vec<usize>,
}

type Fit = (Vec<usize>, Plan);

/// Makes one trial. The outer `None` says that the budget is used up, the inner one that the trial failed.
fn try_one(
    candidates: &[Candidate<'_>],
    chosen: &[usize],
    trial: &mut Trial,
    budget: &mut u64,
) -> Option<Option<Fit>> {
    let choice = |(index, candidate): (usize, &Candidate<'_>)| (index, candidate.plan.alternatives().len());
    let mut choices: Vec<Choice<'_>> = Vec::with_capacity(candidates.len());
    for ((index, alternatives), (candidate, chosen)) in
        candidates.iter().enumerate().map(choice).zip(candidates.iter().zip(chosen))
    {
        let optional = candidate.optional && chosen + 1 == alternatives;
        let sections = &candidate.plan.alternatives()[*chosen];
        choices.push(Choice { index, key: candidate.key, optional, sections });
    }
    loop {
        let entries: usize =
            choices.iter().map(|one| one.sections.requires.len() + one.sections.provides.len() + 1).sum();
        *budget = budget.checked_sub(entries as u64)?;
        let dependencies = dependencies(&choices);
        let mut removed = vec![false; choices.len()];
        for (early, why) in [(true, Unfit::Requires as fn(String) -> Unfit), (false, Unfit::ProvidesUnused)] {
            for (name, dependency) in &dependencies {
                for place in if early { &dependency.early } else { &dependency.extra } {
                    let choice = &choices[*place];
                    if !choice.optional || (!removed[*place] && trial.steps.len() < STEPS) {
                        let unfit = why((*name).to_owned());
                        trial.steps.push(TrialStep {
                            module: choice.key.clone(),
                            unfit,
                            removed: choice.optional,
                        });
                    }
                    if !choice.optional {
                        return Some(None);
                    }
                    removed[*place] = true;
                }
            }
        }
        if !removed.contains(&true) {
            return Some((!choices.is_empty()).then(|| fit(&choices, dependencies)));
        }
        let mut places = removed.into_iter();
        choices.retain(|_| places.next() != Some(true));
    }
}

fn dependencies<'a>(choices: &[Choice<'a>]) -> BTreeMap<&'a str, Dependency<'a>> {
    let mut all: BTreeMap<&str, Dependency<'_>> = BTreeMap::new();
    for (place, choice) in choices.iter().enumerate() {
        for provide in &choice.sections.provides {
            all.entry(&provide.name).or_default().extra.push(place);
        }
        for require in &choice.sections.requires {
            let dependency = all.entry(&require.name).or_default();
            dependency.providers.append(&mut dependency.extra);
            if dependency.providers.is_empty() {
                dependency.early.push(place);
            } else {
                dependency.requires.push(require);
            }
        }
    }
    all
}

fn fit(choices: &[Choice<'_>], dependencies: BTreeMap<&str, Dependency<'_>>) -> Fit {
    let provider = |place: &usize| GroupElement {
        id: choices[*place].key.id.clone(),
        version: choices[*place].key.version.clone(),
        extension: choices[*place].key.kind == ModuleKind::Extension,
        ..GroupElement::default()
    };
    let entries = dependencies.into_values().map(|dependency| PlanEntry {
        providers: dependency.providers.iter().map(provider).collect(),
        requires: dependency.requires.into_iter().cloned().collect(),
    });
    (choices.iter().map(|choice| choice.index).collect(), Plan { entries: entries.collect() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Makes a plan of words: `+a` provides, `-a` requires, `|` begins an alternative.
    fn plan(words: &str) -> BuildPlan {
        let table = |prefix: &str, words: &str| {
            let line = |word: &str| {
                let kind = if word.starts_with('+') { "provides" } else { "requires" };
                format!("[[{prefix}{kind}]]\nname='{}'\n", &word[1..])
            };
            words.split_whitespace().map(line).collect::<String>()
        };
        let mut parts = words.split('|');
        let mut text = table("", parts.next().unwrap_or_default());
        for part in parts {
            text += "[[or]]\n";
            text += &table("or.", part);
        }
        BuildPlan::parse(text.as_bytes(), ModuleKind::Buildpack).expect("a plan")
    }

    fn tried(group: &[(&str, bool, &str)], limits: TrialLimits) -> Tried {
        let keys: Vec<ModuleKey> = group.iter().map(|(id, ..)| ModuleKey::buildpack(*id, "1")).collect();
        let plans: Vec<BuildPlan> = group.iter().map(|(.., words)| plan(words)).collect();
        let candidates: Vec<_> = (0..group.len())
            .map(|index| Candidate { key: &keys[index], optional: group[index].1, plan: &plans[index] })
            .collect();
        try_plans(&candidates, limits)
    }

    fn stay(group: &[(&str, bool, &str)]) -> Option<(String, u64)> {
        match tried(group, TrialLimits::default()) {
            Tried::Fits { stay, count, .. } => {
                Some((stay.iter().map(|index| group[*index].0).collect(), count))
            }
            Tried::NoneFits { .. } => None,
            Tried::TooMany { count } => panic!("too many: {count}"),
        }
    }

    #[test]
    fn who_asks_must_come_after_who_offers() {
        assert_eq!(stay(&[("a", false, "+x"), ("b", false, "-x")]), Some(("ab".into(), 1)));
        assert_eq!(stay(&[("a", false, "-x"), ("b", false, "+x")]), None);
        assert_eq!(stay(&[("a", false, "+x -x")]), Some(("a".into(), 1)));
        assert_eq!(stay(&[("a", false, "+x"), ("b", false, "")]), None);
        assert_eq!(stay(&[("a", true, "+x"), ("b", false, "")]), Some(("b".into(), 1)));
        assert_eq!(stay(&[("a", true, "+x")]), None);
    }

    #[test]
    fn taking_one_out_may_take_out_others() {
        let group = [("a", true, "+x -nothing"), ("b", true, "+y -x"), ("c", true, "-y"), ("d", false, "")];
        assert_eq!(stay(&group), Some(("d".into(), 1)));
    }

    #[test]
    fn only_the_last_alternative_of_an_optional_one_is_optional() {
        assert_eq!(stay(&[("a", true, "+x | +y"), ("b", false, "-x")]), Some(("ab".into(), 1)));
        assert_eq!(stay(&[("a", true, "+x | +y"), ("b", false, "")]), Some(("b".into(), 2)));
    }

    #[test]
    fn the_last_varies_fastest() {
        let group = [("a", false, "+p | +q | +r | +s"), ("b", false, "-1 | -2 | -3 | -s")];
        assert_eq!(stay(&group), Some(("ab".into(), 16)));
        let Tried::Fits { trials, .. } = tried(&group, TrialLimits::default()) else { panic!("fits") };
        assert_eq!((trials[1].alternatives.as_slice(), trials.len()), (&[0, 1][..], 16));
        assert_eq!(trials[0].steps[0].unfit, Unfit::Requires("1".into()));
    }

    #[test]
    fn what_does_not_end_is_refused() {
        let choice = "| | | | | | | -nothing";
        let group: Vec<_> =
            ["a", "b", "c", "d", "e", "f", "g"].iter().map(|id| (*id, false, choice)).collect();
        let bad = [("z", false, "-never")];
        let all = [&group[..], &bad[..]].concat();
        assert_eq!(tried(&all, TrialLimits::default()), Tried::TooMany { count: 1 << 16 });
        let few = TrialLimits { entries: 100, ..TrialLimits::default() };
        assert!(matches!(tried(&all, few), Tried::TooMany { count } if count < 20));
    }

    proptest! {
        /// What stays needs nothing that is not offered before it, and offers nothing that nobody asks for; what is required
        /// stays.
        #[test]
        fn what_stays_fits(
            group in prop::collection::vec(("[a-z]", any::<bool>(), "([+-][xyz] ?){0,3}(\\|([+-][xyz] ?){0,3}){0,2}"), 1..6)
        ) {
            let group: Vec<(&str, bool, &str)> = group.iter().map(|(id, optional, plan)| (id.as_str(), *optional, plan.as_str())).collect();
            if let Tried::Fits { stay, plan, trials, .. } = tried(&group, TrialLimits::default()) {
                prop_assert!(!stay.is_empty() && stay.is_sorted());
                let required = |(index, (_, optional, _)): (usize, &(&str, bool, &str))| *optional || stay.contains(&index);
                prop_assert!(group.iter().enumerate().all(required));
                for entry in &plan.entries {
                    prop_assert!(!entry.providers.is_empty() && !entry.requires.is_empty());
                    prop_assert!(entry.requires.iter().all(|require| require.name == entry.requires[0].name));
                }
                let last = trials.last().expect("the one that fits");
                let asked: usize = stay.iter().map(|index| {
                    let words = group[*index].2.split('|').nth(last.alternatives[*index]).unwrap_or_default();
                    words.split_whitespace().filter(|word| word.starts_with('-')).count()
                }).sum();
                prop_assert_eq!(asked, plan.entries.iter().map(|entry| entry.requires.len()).sum::<usize>());
            }
        }
    }
}
