//! What an evaluated target means for the engine: what must be made, and what is written.
//!
//! Only BUILD carries outputs: those of the target that was asked for and of all that a chain of BUILDs reaches. What a
//! WAIT has written already is not written again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rb_diag::{Diagnostic, Diagnostics, ErrorKind};
use rb_frontend::{BuildPlan, PlannedOutput, SavedImage, TargetKey, TargetOutput};
use rb_llb::State;

use super::Fallible;
use crate::codes;

/// Which output of which evaluation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OutputId {
    key: TargetKey,
    kind: OutputKind,
    index: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum OutputKind {
    Image,
    Artifact,
}

impl OutputId {
    pub(super) fn image(key: &TargetKey, index: usize) -> Self {
        Self { key: key.clone(), kind: OutputKind::Image, index }
    }

    pub(super) fn artifact(key: &TargetKey, index: usize) -> Self {
        Self { key: key.clone(), kind: OutputKind::Artifact, index }
    }
}

/// Walks from the target that was asked for along its BUILDs, callees first, each key once.
pub(super) fn plan(
    target: &Arc<TargetOutput>,
    settled: &BTreeSet<OutputId>,
    mut warnings: Diagnostics,
) -> Fallible<BuildPlan> {
    warnings.sort_by_key(|warning| warning.labels.first().map(|label| label.span));
    warnings.dedup();
    let mut plan = BuildPlan { target: Arc::clone(target), roots: Vec::new(), outputs: Vec::new(), warnings };
    let mut names = ImageNames::default();
    for target in callees_first(std::slice::from_ref(target)) {
        let outputs = outputs(target, &mut names)?;
        plan.roots.extend(outputs.roots);
        plan.outputs.extend(
            outputs.outputs.into_iter().filter(|(id, _)| !settled.contains(id)).map(|(_, output)| output),
        );
    }
    Ok(plan)
}

/// Walks BUILDs with a stack of its own: a build may be nested deeper than ours goes.
pub(super) fn callees_first(roots: &[Arc<TargetOutput>]) -> Vec<&TargetOutput> {
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    for root in roots {
        if !seen.insert(&root.key) {
            continue;
        }
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
    }
    order
}

/// What one target contributes.
pub(super) struct Outputs {
    /// Filesystems that must be made, with their label.
    pub(super) roots: Vec<(String, State)>,
    pub(super) outputs: Vec<(OutputId, PlannedOutput)>,
}

/// Collects what one target contributes; images that another one has given already are left out.
pub(super) fn outputs(target: &TargetOutput, names: &mut ImageNames) -> Fallible<Outputs> {
    let label = target.key.to_string();
    let mut found = Outputs { roots: Vec::new(), outputs: Vec::new() };
    if !target.state.is_scratch() {
        found.roots.push((label.clone(), target.state.clone()));
    }
    // An artifact that nobody takes must still be there to be saved.
    if target.artifacts.iter().any(|artifact| artifact.local.is_none()) {
        found.roots.push((label.clone(), target.artifact_tree.clone()));
    }
    for (at, image) in target.images.iter().enumerate() {
        if names.add(image)? {
            let output = PlannedOutput::Image { label: label.clone(), image: image.clone() };
            found.outputs.push((OutputId::image(&target.key, at), output));
        }
    }
    for (at, artifact) in target.artifacts.iter().enumerate().filter(|(_, artifact)| artifact.local.is_some())
    {
        let output = PlannedOutput::Artifact { label: label.clone(), artifact: artifact.clone() };
        found.outputs.push((OutputId::artifact(&target.key, at), output));
    }
    Ok(found)
}

/// Names of images within one build, or one WAIT.
#[derive(Default)]
pub(super) struct ImageNames {
    seen: BTreeMap<String, SavedImage>,
}

impl ImageNames {
    /// Notes the names of an image; returns whether one of them is new. Two keys of one target may give one image; two
    /// images must not take one name, unless they are of different platforms.
    pub(super) fn add(&mut self, image: &SavedImage) -> Fallible<bool> {
        let mut is_new = false;
        for name in &image.names {
            let config = &image.config;
            let slot = format!("{name}@{}/{}/{:?}", config.os, config.architecture, config.variant);
            match self.seen.get(&slot) {
                Some(first) => check_same(name, first, image)?,
                None => {
                    is_new = true;
                    self.seen.insert(slot, image.clone());
                }
            }
        }
        Ok(is_new)
    }
}

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
