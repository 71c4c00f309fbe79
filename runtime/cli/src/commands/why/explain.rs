//! From two records to reasons: what of one build's keys is not as it was, and which steps that reaches.
//!
//! In: the record of now and one of an earlier time. Out: [`Reason`]s, each once, with the steps that run because of it. Vertices
//! are walked inputs first: a step whose own parts differ has a cause; another has those of what it works on, so each chain
//! ends where something was changed. What the engine knows for certain (evicted, told not to look) counts before all that.
//! What a build did with what a failed command left is compared with nothing: it is not done so where that does not fail.

use std::collections::{BTreeMap, BTreeSet};

use rb_api::{KeyPart, Miss, PartKind};
use rb_expression::glob;
use rb_llb::extension::LEFT_SCHEME;
use rb_oci::Digest;

use super::super::record::document::{Document, RecordStep, Verdict};
use super::super::record::files::{ChangeKind, Files};
use super::cause::{self, Cause};
use super::pairs::Pairs;

/// Names of ignore files: what changes in one shows as a rule.
pub(super) const IGNORE_FILES: [&str; 3] = [".rbignore", ".earthlyignore", ".earthignore"];

/// What the name of one for a Dockerfile ends with.
pub(super) const DOCKERIGNORE: &str = ".dockerignore";

/// A record, and the lists that go with it.
pub(in crate::commands) struct Side<'a> {
    pub(in crate::commands) document: &'a Document,
    /// Returns the files of a folder by their digest, if they are kept.
    pub(in crate::commands) files: &'a dyn Fn(&Digest) -> Option<Files>,
}

/// A cause, where it came in, and what runs because of it: places of steps of the later record.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::commands) struct Reason {
    pub(in crate::commands) cause: Cause,
    pub(in crate::commands) origin: usize,
    pub(in crate::commands) steps: Vec<usize>,
}

/// Which steps are to be explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands) enum Which {
    /// Those that ran, or had to.
    Ran,
    /// Those that would run, of a build that only looked.
    Would,
    /// Those whose keys differ, whether they ran or not.
    Differ,
}

/// Explains the steps of one record by an earlier one; without one, all were never built.
pub(in crate::commands) fn explain(was: Option<&Side<'_>>, now: &Side<'_>, which: Which) -> Vec<Reason> {
    let nothing = Document::default();
    let before = was.map_or(&nothing, |was| was.document);
    let mut walk = Walk {
        was: before,
        now: now.document,
        pairs: Pairs::of(before, now.document),
        targets: before.steps.iter().map(RecordStep::target).collect(),
        failed: before.steps.iter().filter(is_failed).map(RecordStep::target).collect(),
        lists: (was.map(|was| was.files), now.files),
        after: (after_failure(before), after_failure(now.document)),
        causes: BTreeMap::new(),
        found: Vec::new(),
        roots: Vec::with_capacity(now.document.steps.len()),
        which,
    };
    for at in 0..now.document.steps.len() {
        walk.visit(at);
    }
    let Walk { roots, found, .. } = walk;
    let mut reasons: Vec<Reason> =
        found.into_iter().map(|(cause, origin)| Reason { cause, origin, steps: Vec::new() }).collect();
    for (at, step) in now.document.steps.iter().enumerate().filter(|(_, step)| step.step) {
        let is_meant = is_meant(step, which);
        for cause in roots[at].iter().filter(|_| is_meant) {
            reasons[*cause].steps.push(at);
        }
    }
    reasons.retain(|reason| !reason.steps.is_empty());
    for reason in reasons.iter_mut().filter(|reason| reason.cause == Cause::NeverBuilt) {
        // A step that is new here may have been found all the same, as another made it.
        if !reason.steps.contains(&reason.origin) {
            reason.origin = reason.steps[0];
        }
    }
    reasons
}

/// Tells whether a step is to be explained.
pub(super) fn is_meant(step: &RecordStep, which: Which) -> bool {
    match (which, step.verdict) {
        (Which::Differ, _) | (_, Verdict::Ran | Verdict::Failed) | (Which::Would, Verdict::Cancelled) => true,
        (Which::Ran, Verdict::Cancelled) => step.miss.is_some(),
        (Which::Ran | Which::Would, Verdict::Cached | Verdict::NotNeeded) => false,
    }
}

type FilesOf<'a> = &'a dyn Fn(&Digest) -> Option<Files>;

struct Walk<'a> {
    was: &'a Document,
    now: &'a Document,
    pairs: Pairs,
    /// What was built then.
    targets: BTreeSet<&'a str>,
    /// What was built then, and broke off.
    failed: BTreeSet<&'a str>,
    lists: (Option<FilesOf<'a>>, FilesOf<'a>),
    /// Of each vertex of both builds, whether it works on what a failed command left.
    after: (Vec<bool>, Vec<bool>),
    causes: BTreeMap<Cause, usize>,
    /// Causes, and where each came in first.
    found: Vec<(Cause, usize)>,
    /// Of each vertex that was visited, its causes.
    roots: Vec<BTreeSet<usize>>,
    which: Which,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, at: usize) {
        let (now, which) = (self.now, self.which);
        let step = &now.steps[at];
        if self.after.1[at] {
            self.roots.push(BTreeSet::new());
            return;
        }
        // A source is looked at in each build and stored in none.
        let certain =
            step.miss.as_ref().filter(|_| step.step && which != Which::Differ).and_then(Cause::certain);
        if let Some(cause) = certain {
            let root = self.root(cause, at);
            self.roots.push([root].into());
            return;
        }
        let own = self.own(at);
        let mut roots: BTreeSet<usize> = BTreeSet::new();
        // A statement that takes other files now says so itself.
        let says_itself = !own.is_empty() && step.step;
        for (place, (input, output)) in step.inputs.iter().enumerate() {
            let Some(input) = input.filter(|input| *input < at) else { continue };
            if says_itself && !now.steps[input].step && !is_internal(now, &now.steps[input]) {
                continue;
            }
            roots.extend(self.of_input(at, place, (input, *output)));
        }
        // What a build would have come to that broke off is not new for that.
        let is_cut_off = !roots.is_empty() && self.failed.contains(step.target());
        for cause in own.into_iter().filter(|cause| !is_cut_off || *cause != Cause::NewStep) {
            roots.insert(self.root(cause, at));
        }
        let is_known = roots.iter().any(|root| self.found[*root].0 != Cause::Unknown);
        let is_told = which != Which::Differ && step.step && step.miss.is_some() && is_meant(step, which);
        if is_told && !is_known {
            let cause = self.without_difference(at);
            // Of two things that nobody knows the first is told.
            if cause != Cause::Unknown || roots.is_empty() {
                roots = [self.root(cause, at)].into();
            }
        }
        self.roots.push(roots);
    }

    fn root(&mut self, cause: Cause, at: usize) -> usize {
        let found = &mut self.found;
        *self.causes.entry(cause.clone()).or_insert_with(|| {
            found.push((cause, at));
            found.len() - 1
        })
    }

    /// Returns why a step ran whose key is as it was.
    fn without_difference(&self, at: usize) -> Cause {
        let step = &self.now.steps[at];
        if matches!(step.miss, Some(Miss::IgnoreCache { .. })) {
            return Cause::NoCache;
        }
        if self.is_after(at) {
            return Cause::Unfinished;
        }
        match self.pairs.was[at].map(|was| &self.was.steps[was]) {
            None => self.unknown_step(step),
            Some(was) => match was.verdict {
                Verdict::Failed => Cause::Failed { message: was.message.clone() },
                Verdict::Cancelled | Verdict::NotNeeded => Cause::Unfinished,
                Verdict::Ran | Verdict::Cached => Cause::Unknown,
            },
        }
    }

    /// Tells whether a step was done with what a failed command left.
    fn is_after(&self, at: usize) -> bool {
        self.pairs.was[at].is_some_and(|was| self.after.0[was])
    }

    fn unknown_step(&self, step: &RecordStep) -> Cause {
        if self.targets.contains(step.target()) { Cause::NewStep } else { Cause::NeverBuilt }
    }

    /// Returns what of a vertex itself is not as it was.
    fn own(&self, at: usize) -> Vec<Cause> {
        let step = &self.now.steps[at];
        let Some(was) = self.pairs.was[at].map(|was| &self.was.steps[was]) else {
            // Of one that waits for others nobody has asked yet whether it was built.
            let is_asked = self.which != Which::Would || step.miss.is_some();
            let cause = Some(self.unknown_step(step)).filter(|cause| is_asked || *cause != Cause::NeverBuilt);
            return cause.into_iter().filter(|_| step.step).collect();
        };
        // Of a source that a look would have to fetch nothing more is known.
        let is_unfetched = self.which == Which::Would && step.verdict == Verdict::Cancelled;
        if !step.step && !was.own.is_empty() && step.own.is_empty() && is_unfetched {
            return vec![Cause::Elsewhere { source: step.what().to_owned() }];
        }
        // A record of an earlier version knows no parts.
        if was.own.is_empty() || step.own.is_empty() || self.is_after(at) {
            return Vec::new();
        }
        let parts =
            |document: &'a Document, places: &'a [usize]| document.parts_at(places).collect::<Vec<_>>();
        let (old, new) = (parts(self.was, &was.own), parts(self.now, &step.own));
        let mut causes = cause::of_parts(&old, &new);
        let value = |parts: &[&KeyPart], kind| {
            parts.iter().find(|part| part.kind == kind).map(|part| part.value.clone())
        };
        if value(&old, PartKind::Layers) != value(&new, PartKind::Layers) {
            let image = |document: &'a Document, step: &'a RecordStep| {
                let part = document.parts_at(&step.about).find(|part| part.kind == PartKind::Image);
                part.map_or_else(String::new, |part| format!("{}@{}", part.name, part.value))
            };
            causes.push(Cause::Image { was: image(self.was, was), now: image(self.now, step) });
        }
        if was.files.is_some() && step.files.is_some() && was.files != step.files {
            causes.extend(self.of_files(was, step));
        }
        causes
    }

    /// Returns which files of a folder differ, or by which rule.
    fn of_files(&self, was: &RecordStep, now: &RecordStep) -> Vec<Cause> {
        let old = was.files.as_ref().and_then(|digest| self.lists.0.and_then(|list| list(digest)));
        let new = now.files.as_ref().and_then(|digest| (self.lists.1)(digest));
        let (old_rules, new_rules) = (rules_of(self.was, was), rules_of(self.now, now));
        let added = new_rules.difference(&old_rules).map(|rule| (*rule, true));
        let rules: Vec<Rule<'_>> =
            added.chain(old_rules.difference(&new_rules).map(|rule| (*rule, false))).collect();
        let (Some(old), Some(new)) = (old, new) else { return vec![Cause::Files] };
        let mut by_rule: BTreeMap<Rule<'_>, Vec<String>> = BTreeMap::new();
        let mut causes = Vec::new();
        for change in Files::changes(&old, &new) {
            let by = match change.kind {
                ChangeKind::Removed => rule_for(&rules, &change.path, true),
                ChangeKind::Added => rule_for(&rules, &change.path, false),
                ChangeKind::Content
                | ChangeKind::Executable
                | ChangeKind::Mode
                | ChangeKind::Type
                | ChangeKind::Inside => None,
            };
            let name = change.path.rsplit('/').next().unwrap_or_default();
            match by {
                Some(rule) => by_rule.entry(rule).or_default().push(change.path),
                // Its lines are told instead.
                None if is_ignore_file(name) && !rules.is_empty() => {}
                None => causes.push(Cause::of_file(change)),
            }
        }
        let rules = by_rule.into_iter().map(|((pattern, added), paths)| Cause::IgnoreRule {
            pattern: pattern.to_owned(),
            added,
            paths,
        });
        causes.extend(rules);
        // The lists are the same as far as they go.
        if causes.is_empty() { vec![Cause::Files] } else { causes }
    }

    /// Returns the causes that an input brings to its user.
    fn of_input(&mut self, at: usize, place: usize, (input, output): (usize, u32)) -> BTreeSet<usize> {
        let (now, was) = (self.now, self.was);
        let (step, source) = (&now.steps[at], &now.steps[input]);
        if is_internal(now, source) {
            let has_changed = !self.own(input).is_empty();
            return if has_changed {
                let place = mounted_at(now, step, place);
                [self.root(Cause::MountContent { place }, at)].into()
            } else {
                BTreeSet::new()
            };
        }
        if !self.roots[input].is_empty() {
            return self.roots[input].clone();
        }
        if self.is_after(at) {
            return BTreeSet::new();
        }
        // Nothing below differs: it may be that something else lies there now.
        let Some(before) = self.pairs.was[at].map(|before| &was.steps[before]) else {
            return BTreeSet::new();
        };
        let Some((Some(old), old_output)) = before.inputs.get(place).copied() else { return BTreeSet::new() };
        let is_same = self.pairs.was[input] == Some(old) && old_output == output;
        let Some(old_step) = was.steps.get(old).filter(|_| !is_same) else { return BTreeSet::new() };
        let cause = match self.pairs.is_still.get(old) {
            Some(false) if old_step.step => Cause::StepGone { name: old_step.what().to_owned() },
            _ => Cause::OtherInput { was: old_step.what().to_owned(), now: source.what().to_owned() },
        };
        [self.root(cause, at)].into()
    }
}

fn is_ignore_file(name: &str) -> bool {
    IGNORE_FILES.contains(&name) || name.ends_with(DOCKERIGNORE)
}

/// Returns the patterns by which files are left out.
fn rules_of<'a>(document: &'a Document, step: &'a RecordStep) -> BTreeSet<&'a str> {
    let about = document.parts_at(&step.about);
    about.filter(|part| part.kind == PartKind::Exclude).map(|part| part.name.as_str()).collect()
}

/// Tells of each vertex whether it works on what a command left that failed.
fn after_failure(document: &Document) -> Vec<bool> {
    let mut after: Vec<bool> = Vec::with_capacity(document.steps.len());
    for step in &document.steps {
        let is_left = |part: &KeyPart| part.kind == PartKind::Definition && part.name == LEFT_SCHEME;
        let inputs = step.inputs.iter().filter_map(|(input, _)| after.get((*input)?));
        let is_after = document.parts_at(&step.about).any(is_left) || inputs.into_iter().any(|after| *after);
        after.push(is_after);
    }
    after
}

fn is_failed(step: &&RecordStep) -> bool {
    step.verdict == Verdict::Failed
}

/// Tells whether a frontend has made a vertex for its own use out of nothing: a script, a heredoc. The files of a context are
/// somebody's.
fn is_internal(document: &Document, step: &RecordStep) -> bool {
    let is_made = || document.parts_at(&step.own).any(|part| part.kind == PartKind::Action);
    !step.step && step.inputs.is_empty() && step.name.contains("[internal] ") && is_made()
}

/// Returns where an input of a command is mounted.
fn mounted_at(document: &Document, step: &RecordStep, input: usize) -> String {
    let word = format!("input {input}");
    let mount = document.parts_at(&step.own).find(|part| {
        matches!(part.kind, PartKind::Mount | PartKind::Cache)
            && part.value.split(", ").any(|text| text == word)
    });
    mount.map_or_else(|| format!("input {}", input + 1), |part| part.name.clone())
}

/// A line of an ignore file, and whether it came or went.
type Rule<'a> = (&'a str, bool);

/// Returns the rule among those that changed which leaves a path out now, or lets it in: one that the path fits, or a folder above
/// it.
fn rule_for<'a>(rules: &[Rule<'a>], path: &str, leaves_out: bool) -> Option<Rule<'a>> {
    let fits = |(rule, came): &&Rule<'a>| {
        let (pattern, is_exception) =
            rule.strip_prefix('!').map_or((*rule, false), |pattern| (pattern, true));
        let mut above = path.match_indices('/').filter_map(|(at, _)| path.get(..at)).chain([path]);
        (*came != is_exception) == leaves_out && above.any(|path| glob::matches_path(pattern, path))
    };
    rules.iter().find(fits).copied()
}

#[cfg(test)]
mod tests;
