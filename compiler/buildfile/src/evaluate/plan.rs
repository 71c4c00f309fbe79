//! What an evaluated target means for the engine: what must be made, and what is written.
//!
//! Only BUILD carries outputs: those of the target that was asked for and of all that a chain of BUILDs reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rb_diag::{Diagnostic, Diagnostics, ErrorKind};
use rb_frontend::{BuildPlan, PlannedOutput, SavedImage, TargetOutput};

use super::Fallible;
use crate::codes;

/// Walks from the target that was asked for along its BUILDs, callees first, each key once.
pub(super) fn plan(target: &Arc<TargetOutput>, mut warnings: Diagnostics) -> Fallible<BuildPlan> {
    warnings.sort_by_key(|warning| warning.labels.first().map(|label| label.span));
    warnings.dedup();
    let mut plan = BuildPlan { target: Arc::clone(target), roots: Vec::new(), outputs: Vec::new(), warnings };
    let mut names = BTreeMap::new();
    for target in callees_first(target) {
        add(target, &mut plan, &mut names)?;
    }
    Ok(plan)
}

/// Walks BUILDs with a stack of its own: a build may be nested deeper than ours goes.
fn callees_first(root: &Arc<TargetOutput>) -> Vec<&TargetOutput> {
    let mut order = Vec::new();
    let mut seen = BTreeSet::from([&root.key]);
    let mut open = vec![(root.as_ref(), root.builds.iter())];
    while let Some((target, callees)) = open.last_mut() {
        match callees.next() {
            Some(callee) if seen.insert(&callee.key) => open.push((callee, callee.builds.iter())),
            Some(_) => {}
            None => {
                order.push(*target);
                open.pop();
            }
        }
    }
    order
}

fn add<'a>(
    target: &'a TargetOutput,
    plan: &mut BuildPlan,
    names: &mut BTreeMap<&'a str, &'a SavedImage>,
) -> Fallible<()> {
    let label = target.key.to_string();
    if !target.state.is_scratch() {
        plan.roots.push((label.clone(), target.state.clone()));
    }
    // An artifact that nobody takes must still be there to be saved.
    if target.artifacts.iter().any(|artifact| artifact.local.is_none()) {
        plan.roots.push((label.clone(), target.artifact_tree.clone()));
    }
    for image in &target.images {
        let mut is_new = false;
        for name in &image.names {
            match names.insert(name, image) {
                Some(first) => check_same(name, first, image)?,
                None => is_new = true,
            }
        }
        if is_new {
            plan.outputs.push(PlannedOutput::Image { label: label.clone(), image: image.clone() });
        }
    }
    for artifact in target.artifacts.iter().filter(|artifact| artifact.local.is_some()) {
        plan.outputs.push(PlannedOutput::Artifact { label: label.clone(), artifact: artifact.clone() });
    }
    Ok(())
}

/// Two keys of one target may give one image; two images must not take one name.
fn check_same(name: &str, first: &SavedImage, second: &SavedImage) -> Fallible<()> {
    let broken = |error: rb_llb::LlbError| {
        Diagnostic::error(codes::DUPLICATE_IMAGE, error.to_string()).with_kind(ErrorKind::Internal)
    };
    let same = first.state.digest().map_err(broken)? == second.state.digest().map_err(broken)?;
    if same && first.config == second.config {
        return Ok(());
    }
    let error = Diagnostic::error(codes::DUPLICATE_IMAGE, format!("two different images are named `{name}`"))
        .with_label(second.span, "also here");
    let error = if first.span == second.span { error } else { error.with_label(first.span, "here") };
    Err(error.with_help("give each its own name, for example with an ARG in it"))
}
