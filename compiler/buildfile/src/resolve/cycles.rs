//! Targets that need each other, found before anything is evaluated.
//!
//! Every call that stands in a recipe is made whenever the recipe is evaluated, so a chain of calls back to its
//! start never ends, whatever arguments it carries. What variables decide is caught by the evaluator.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rb_diag::{Diagnostic, Diagnostics, Span};
use rb_frontend::{ProjectRef, TargetRef};

use super::File;
use crate::codes;

/// Reports each cycle among `reached` once, at the call that closes it.
pub(super) fn find(files: &BTreeMap<ProjectRef, Arc<File>>, reached: &BTreeSet<TargetRef>) -> Diagnostics {
    let mut errors = Vec::new();
    let mut done = BTreeSet::new();
    for start in reached {
        // Depth first, with the path on a stack of our own: a file may hold thousands of targets in one chain.
        let mut path: Vec<(TargetRef, Vec<(TargetRef, Span)>)> = Vec::new();
        // The targets on the path again, to ask for one of them.
        let mut on_path = BTreeSet::new();
        if done.insert(start.clone()) {
            on_path.insert(start.clone());
            path.push((start.clone(), needs(files, start)));
        }
        while let Some((_, open)) = path.last_mut() {
            let Some((next, span)) = open.pop() else {
                if let Some((target, _)) = path.pop() {
                    on_path.remove(&target);
                }
                continue;
            };
            if on_path.contains(&next) {
                let at = path.iter().position(|(target, _)| *target == next).unwrap_or_default();
                let names =
                    path[at..].iter().map(|(target, _)| target).chain([&next]).map(ToString::to_string);
                errors.push(cycle(&names.collect::<Vec<_>>()).with_label(span, "closes the circle"));
            } else if done.insert(next.clone()) {
                let open = needs(files, &next);
                on_path.insert(next.clone());
                path.push((next, open));
            }
        }
    }
    errors
}

/// Says that a chain of targets leads back to its start.
pub(crate) fn cycle(names: &[String]) -> Diagnostic {
    Diagnostic::error(codes::CYCLE, format!("targets need each other: {}", names.join(" → ")))
        .with_help("move what both need into a third target")
}

/// What a target needs, last first.
fn needs(files: &BTreeMap<ProjectRef, Arc<File>>, target: &TargetRef) -> Vec<(TargetRef, Span)> {
    let file = files.get(&target.project);
    let mut needs = file.map(|file| file.needs(&target.name)).unwrap_or_default();
    needs.reverse();
    needs
}
