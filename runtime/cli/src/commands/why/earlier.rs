//! With which earlier builds targets are compared: each with the last one that built it.
//!
//! In: the records of a workspace ([`past`]), and targets. Out: [`Earlier`], and the reasons by it. Targets that were built
//! together last are compared with that one build. Where they were not, each step is compared with the last build of the target
//! that needs it, and what several need with the newest of these.
//! **Invariant:** with a record that keeps no parts of keys nothing is compared; that there is one is told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rb_expression::glob;
use rb_frontend::{ProjectRef, WantedTarget};
use rb_store::BuildFile;

use super::super::past::{self, DOCKERFILE, Past};
use super::super::record::Lists;
use super::super::record::document::Document;
use super::cause::Cause;
use super::explain::{Reason, Which};
use crate::report::Failure;

/// Earlier builds, and the targets that are compared with them.
#[derive(Default)]
pub(super) struct Earlier {
    /// The newest first; each target once.
    builds: Vec<(Past, BTreeSet<String>)>,
    /// Targets of which only records are left that keep no parts, and the newest of these.
    bare: BTreeMap<String, String>,
}

impl Earlier {
    /// Finds the last builds of some targets in a workspace; of those before one, if that is named.
    pub(super) fn of(
        root: &Path,
        workspace: &Path,
        targets: &[String],
        before: Option<&BuildFile>,
    ) -> Result<Self, Failure> {
        let mut found = Self::default();
        for targets in alternatives(targets) {
            found = Self::of_all(root, workspace, targets, before)?;
            if !found.builds.is_empty() {
                break;
            }
        }
        Ok(found)
    }

    fn of_all(
        root: &Path,
        workspace: &Path,
        targets: &[String],
        before: Option<&BuildFile>,
    ) -> Result<Self, Failure> {
        let mut found = Self::default();
        let mut left: BTreeSet<&String> = targets.iter().collect();
        let mut records = past::of_workspace(root, workspace, before)?;
        while !left.is_empty()
            && let Some(past) = records.next()
        {
            if !past.keeps_parts() {
                for target in past.built() {
                    found.bare.entry(target.to_owned()).or_insert_with(|| past.id());
                }
                continue;
            }
            let (here, others): (BTreeSet<&String>, BTreeSet<&String>) =
                left.into_iter().partition(|target| past.has(std::slice::from_ref(*target)));
            left = others;
            if !here.is_empty() {
                found.builds.push((past, here.into_iter().cloned().collect()));
            }
        }
        Ok(found)
    }

    /// One build, whatever it built; one that keeps no parts is refused.
    pub(super) fn one(past: Past) -> Result<Self, Failure> {
        check_parts(&past)?;
        Ok(Self { builds: vec![(past, BTreeSet::new())], ..Self::default() })
    }

    /// Returns the builds, the newest first.
    pub(super) fn builds(&self) -> impl ExactSizeIterator<Item = &Past> {
        self.builds.iter().map(|(past, _)| past)
    }

    /// Returns a build of one of these targets whose record keeps no parts.
    pub(super) fn bare(&self, targets: &[String]) -> Option<&str> {
        targets.iter().find_map(|target| self.bare.get(target)).map(String::as_str)
    }

    /// Tells whether there are only records that keep no parts.
    pub(super) fn is_bare(&self) -> bool {
        self.builds.is_empty() && !self.bare.is_empty()
    }

    /// Explains what was heard just now, or a record, by these builds.
    pub(super) fn reasons(
        &self,
        root: &Path,
        (now, lists): (&Document, &Lists),
        which: Which,
    ) -> Vec<Reason> {
        let compare = |was| super::compare(root, was, (now, lists), which);
        let reasons = match self.builds.as_slice() {
            [] => compare(None),
            [(one, _)] => compare(Some(&one.document)),
            several => {
                let owners = self.owners(now);
                let each = several.iter().enumerate().map(|(at, (past, _))| {
                    let mut reasons = compare(Some(&past.document));
                    reasons.iter_mut().for_each(|reason| {
                        reason.steps.retain(|step| owners.get(*step) == Some(&at));
                    });
                    reasons
                });
                join(each.flatten())
            }
        };
        self.told_apart(now, reasons)
    }

    /// Returns of each vertex by which build it is explained.
    fn owners(&self, now: &Document) -> Vec<usize> {
        let mut owners: Vec<Option<usize>> = vec![None; now.steps.len()];
        for (build, (_, targets)) in self.builds.iter().enumerate() {
            let steps = now.steps.iter().enumerate();
            let mut open: Vec<usize> =
                steps.filter(|(_, step)| targets.contains(step.target())).map(|(at, _)| at).collect();
            while let Some(at) = open.pop() {
                let Some(owner @ None) = owners.get_mut(at) else { continue };
                *owner = Some(build);
                open.extend(now.steps[at].inputs.iter().filter_map(|(input, _)| *input));
            }
        }
        // What no target needs that has steps of its own: BUILDs alone lead there.
        let built: Vec<BTreeSet<&str>> = self.builds.iter().map(|(past, _)| past.built().collect()).collect();
        let last = |target: &str| built.iter().position(|built| built.contains(target)).unwrap_or(0);
        let owners = owners.into_iter().zip(&now.steps);
        owners.map(|(owner, step)| owner.unwrap_or_else(|| last(step.target()))).collect()
    }

    /// Tells what was never built from what was, by a record that does not say of what.
    fn told_apart(&self, now: &Document, reasons: Vec<Reason>) -> Vec<Reason> {
        let mut told = Vec::with_capacity(reasons.len());
        for reason in reasons {
            if reason.cause != Cause::NeverBuilt || self.bare.is_empty() {
                told.push(reason);
                continue;
            }
            let mut by_build: BTreeMap<Option<&String>, Vec<usize>> = BTreeMap::new();
            for at in reason.steps {
                let build = now.steps.get(at).and_then(|step| self.bare.get(step.target()));
                by_build.entry(build).or_default().push(at);
            }
            told.extend(by_build.into_iter().map(|(build, steps)| Reason {
                cause: build.map_or(Cause::NeverBuilt, |build| Cause::NoParts { build: build.clone() }),
                origin: if steps.contains(&reason.origin) { reason.origin } else { steps[0] },
                steps,
            }));
        }
        told
    }
}

/// Returns what to look for, the best first: of a Dockerfile the same stage, and any where that was never built; else all targets.
pub(super) fn alternatives(targets: &[String]) -> impl Iterator<Item = &[String]> {
    let is_dockerfiles = targets.first().is_some_and(|name| name.starts_with(DOCKERFILE));
    targets.chunks(if is_dockerfiles { 1 } else { targets.len().max(1) })
}

/// Joins the reasons of several comparisons: a cause that is the same is one.
fn join(reasons: impl Iterator<Item = Reason>) -> Vec<Reason> {
    let mut joined: Vec<Reason> = Vec::new();
    for mut reason in reasons.filter(|reason| !reason.steps.is_empty()) {
        match joined.iter_mut().find(|known| known.cause == reason.cause) {
            Some(known) => {
                known.steps.append(&mut reason.steps);
                known.steps.sort_unstable();
                known.origin = known.origin.min(reason.origin);
            }
            None => joined.push(reason),
        }
    }
    joined.sort_by_key(|reason| reason.origin);
    joined
}

/// Refuses a record with which nothing can be compared.
pub(super) fn check_parts(past: &Past) -> Result<(), Failure> {
    if past.keeps_parts() {
        return Ok(());
    }
    let message = format!("the record of build {} keeps no parts of what its steps depended on", past.id());
    let help =
        "an older rb wrote it, or nothing of it came so far: compare with a later build, `rb history ls`";
    Err(Failure::input(message, Some(help.to_owned())))
}

/// Returns the targets that words of the command line mean, as records name them: those that are named, and of those in
/// some records which fit a pattern.
pub(super) fn meant<'p>(wanted: &[WantedTarget], records: impl Iterator<Item = &'p Document>) -> Vec<String> {
    let one = |wanted: &WantedTarget| match wanted {
        WantedTarget::One(target) => Some(target.to_string()),
        WantedTarget::Each { .. } => None,
    };
    let mut found: BTreeSet<String> = wanted.iter().filter_map(one).collect();
    if found.len() < wanted.len() {
        for document in records {
            let steps = document.steps.iter().filter(|step| step.step).map(|step| step.target());
            let targets = steps.chain(document.targets.iter().map(String::as_str));
            let fit = targets.filter(|target| wanted.iter().any(|wanted| fits(wanted, target)));
            found.extend(fit.map(ToOwned::to_owned));
        }
    }
    found.into_iter().collect()
}

/// Returns what a word means where no project says what it is: of a pattern what fits, else what is written.
pub(super) fn as_written<'p>(word: &str, records: impl Iterator<Item = &'p Document>) -> Vec<String> {
    let (folder, name) = word.rsplit_once('+').unwrap_or((word, ""));
    let glob = folder.trim_start_matches("./").trim_end_matches('/').to_owned();
    if !glob::is_pattern(&glob) {
        return vec![word.to_owned()];
    }
    let project = ProjectRef::Local { dir: String::new() };
    meant(&[WantedTarget::Each { project, glob, name: name.to_owned() }], records)
}

/// Tells whether a target, as records name it, is one that a pattern means.
fn fits(wanted: &WantedTarget, target: &str) -> bool {
    let WantedTarget::Each { project, glob, name } = wanted else { return false };
    let Some((folder, called)) = target.rsplit_once('+') else { return false };
    // Of a repository elsewhere the revision stands behind the folder.
    let inside = project.join("*").to_string();
    let below = || {
        let (before, behind) = inside.rsplit_once('*')?;
        folder.strip_prefix(before)?.strip_suffix(behind)
    };
    called == name && below().is_some_and(|path| !path.is_empty() && glob::matches_path(glob, path))
}

#[cfg(test)]
mod tests;
