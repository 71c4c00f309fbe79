//! What an evaluated target means for the engine: what must be made, and what is written.
//!
//! Only BUILD carries outputs: those of the target that was asked for and of all that a chain of BUILDs reaches. What a
//! WAIT has written already is not written again.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rb_diag::{Diagnostic, Diagnostics, ErrorKind};
use rb_frontend::{BuildPlan, PlannedOutput, SavedArtifact, SavedImage, TargetKey, TargetOutput, Untaken};
use rb_llb::State;
use rb_oci::Platform;
use rb_oci::index::config_platform;

use super::Fallible;
use super::driver::Driven;
use crate::codes;
use crate::lower::paths;

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

/// Walks from the targets that were asked for along their BUILDs, callees first, each key once. Where outputs are `withheld`,
/// they may be in one another's way. `beside` are BUILDs of targets that could not be evaluated themselves.
pub(super) fn plan(
    driven: Driven,
    beside: Vec<Arc<TargetOutput>>,
    settled: &BTreeSet<OutputId>,
    held: Vec<String>,
    untaken: Vec<Untaken>,
    (mut warnings, withheld): (Diagnostics, bool),
) -> Fallible<BuildPlan> {
    warnings.sort_by_key(|warning| warning.labels.first().map(|label| label.span));
    warnings.dedup();
    let Driven { targets, asked, failures } = driven;
    let targets: Vec<_> = targets.into_iter().map(|evaluated| evaluated.output).collect();
    if !withheld {
        check_places(&targets)?;
    }
    let all = [beside.as_slice(), targets.as_slice()].concat();
    let mut names = ImageNames { withheld, ..ImageNames::default() };
    let (mut roots, mut written) = (Vec::new(), Vec::new());
    for target in callees_first(&all) {
        let found = outputs(target, &mut names)?;
        roots.extend(found.roots);
        written.extend(found.outputs.into_iter().filter(|(id, _)| !settled.contains(id)));
    }
    let outputs = written.into_iter().map(|(_, output)| output).collect();
    Ok(BuildPlan { targets, asked, beside, roots, outputs, held, warnings, failures, untaken })
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

/// Checks that no two of the targets that were asked for, and no target for two platforms, write different things to one
/// place: which of them came last would be an accident. Else the order of a target's statements decides.
fn check_places(targets: &[Arc<TargetOutput>]) -> Fallible<()> {
    let mut seen: BTreeMap<String, Vec<(usize, &SavedArtifact, &TargetOutput)>> = BTreeMap::new();
    for (asked, target) in targets.iter().enumerate() {
        for target in callees_first(std::slice::from_ref(target)) {
            for artifact in target.artifacts.iter().filter(|artifact| !artifact.many) {
                let Some(local) = &artifact.local else { continue };
                let place = match local.into {
                    true => {
                        format!("{}/{}", local.path.trim_end_matches('/'), paths::base_name(&artifact.path))
                    }
                    false => local.path.clone(),
                };
                let known = seen.entry(place.clone()).or_default();
                for &(by, first, of) in known.iter() {
                    let platforms =
                        of.key.target == target.key.target && of.key.platform != target.key.platform;
                    if (by != asked || platforms) && !is_same(first, artifact)? {
                        return Err(same_place(&place, (first, of), (artifact, target), platforms));
                    }
                }
                known.push((asked, artifact, target));
            }
        }
    }
    Ok(())
}

fn same_place(
    place: &str,
    (first, of): (&SavedArtifact, &TargetOutput),
    (second, target): (&SavedArtifact, &TargetOutput),
    platforms: bool,
) -> Diagnostic {
    let (one, two) = (&of.key, &target.key);
    let (message, help) = match platforms {
        true => (
            format!(
                "`{place}` is written by {one} for {} and, with other content, for {}",
                one.platform, two.platform
            ),
            "give each platform a place of its own: `ARG TARGETARCH`, and `$TARGETARCH` in the path",
        ),
        false => (
            format!("`{place}` is written by {one} and, with other content, by {two}"),
            "build one after the other, or give each a place of its own",
        ),
    };
    let error = Diagnostic::error(codes::SAME_PLACE, message).with_label(second.span, "also here");
    let error = if first.span == second.span { error } else { error.with_label(first.span, "here") };
    error.with_help(help)
}

fn is_same(one: &SavedArtifact, two: &SavedArtifact) -> Fallible<bool> {
    let digest = |artifact: &SavedArtifact| {
        artifact.state.digest().map_err(|error| super::internal(&error.to_string()))
    };
    Ok(one.path == two.path && digest(one)? == digest(two)?)
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
    /// None of the images is written under its name.
    withheld: bool,
    seen: BTreeMap<(String, Option<Platform>), SavedImage>,
}

impl ImageNames {
    /// Notes the names of an image; returns whether one of them is new. Two keys of one target may give one image; two
    /// images must not take one name, unless they are for different platforms.
    pub(super) fn add(&mut self, image: &SavedImage) -> Fallible<bool> {
        let mut is_new = false;
        let platform = config_platform(&image.config);
        for name in &image.names {
            match self.seen.entry((name.clone(), platform.clone())) {
                Entry::Occupied(_) if self.withheld => {}
                Entry::Occupied(first) => check_same(name, platform.as_ref(), first.get(), image)?,
                Entry::Vacant(slot) => {
                    is_new = true;
                    slot.insert(image.clone());
                }
            }
        }
        Ok(is_new)
    }
}

fn check_same(
    name: &str,
    platform: Option<&Platform>,
    first: &SavedImage,
    second: &SavedImage,
) -> Fallible<()> {
    let broken = |error: rb_llb::LlbError| {
        Diagnostic::error(codes::DUPLICATE_IMAGE, error.to_string()).with_kind(ErrorKind::Internal)
    };
    let same = first.state.digest().map_err(broken)? == second.state.digest().map_err(broken)?;
    if same && first.config == second.config {
        return Ok(());
    }
    let of = platform.map_or_else(String::new, |platform| format!(" for {platform}"));
    let message = format!("two different images{of} are named `{name}`");
    let error = Diagnostic::error(codes::DUPLICATE_IMAGE, message).with_label(second.span, "also here");
    let error = if first.span == second.span { error } else { error.with_label(first.span, "here") };
    Err(error.with_help("give each its own name, for example with an ARG in it"))
}
