//! `--keep-going`: all that does not need what failed is made, and what went well is written.
//!
//! In: a plan, as far as there is one, and what could not be planned. Out: what was written, and every failure once. How:
//! all filesystems are made at once, side by side; then the outputs of one target after the other are written, callees
//! first. **Invariant:** nothing of a target is written or pushed unless its own filesystems and artifacts are made, and
//! all that it BUILDs went well: what was to be tested and failed is not pushed.

use std::collections::{BTreeMap, BTreeSet};

use rb_api::SolveResult;
use rb_frontend::{BuildPlan, TargetOutput};

use super::after;
use super::build::{self, Planned, Started};
use super::exports::{Asked, Wanted};
use super::targets::{Done, Order};
use super::workbench::Workbench;
use crate::args::TargetCall;
use crate::report::{Failure, callers_by_build};

/// Plans and solves all that can be. Returns what came of it, and the failures.
pub(super) async fn solve(
    started: &Started<'_>,
    order: &Order<'_>,
    bench: &Workbench,
) -> Result<(Done, Vec<Failure>), Failure> {
    let Planned { plan, failures: found, stopped: _ } = started.plan_all().await?;
    let mut failures = Vec::new();
    add_failures(&mut failures, found);
    let wanted_of = |fits: &(dyn Fn(&str) -> bool + Sync)| -> Result<Wanted, Failure> {
        let mut wanted = started.wanted_of(&plan, fits)?;
        (order.choose)(started.build, &plan, &mut wanted, fits)?;
        Ok(wanted)
    };
    let all = wanted_of(&|_| true)?;
    if let Err(failure) = build::solve(started.job.as_ref(), all.roots_alone()).await {
        add_failures(&mut failures, each(failure));
    }
    let mut result = SolveResult {
        roots: Vec::new(),
        exports: Vec::new(),
        pushed: Vec::new(),
        caches: Vec::new(),
        summary: started.job.summary(),
    };
    let (mut loads, mut notes, mut broken) = (Vec::new(), Vec::new(), BTreeSet::new());
    for unit in units(&plan) {
        if unit.incomplete || unit.builds.iter().any(|label| broken.contains(label)) {
            broken.insert(unit.label);
            continue;
        }
        let is_it = |label: &str| label == unit.label;
        let first = result.exports.len();
        let Asked { request, loads: unit_loads, notes: mut unit_notes } = wanted_of(&is_it)?.asked();
        match build::solve(started.job.as_ref(), request).await {
            Ok(mut solved) => {
                started.hold_back(&plan, &is_it);
                started.note_saved(&plan, &is_it);
                notes.append(&mut unit_notes);
                result.exports.append(&mut solved.exports);
                result.pushed.append(&mut solved.pushed);
                loads.extend(unit_loads.into_iter().map(|at| first + at));
            }
            Err(failure) => {
                add_failures(&mut failures, each(failure));
                broken.insert(unit.label);
            }
        }
    }
    result.summary = started.job.summary();
    let count = result.exports.len();
    let result = started.with_effects(result);
    let loaded = match after::load(bench, order.output, &result, (count, &loads), notes).await {
        Ok(loaded) => loaded,
        // That nothing is there to be handed over follows from what failed.
        Err(_) if count == 0 && !failures.is_empty() => after::Loaded::default(),
        Err(failure) => {
            failures.push(failure);
            after::Loaded::default()
        }
    };
    let well = plan.targets.iter().filter(|target| !broken.contains(&target.key.to_string())).count();
    let title = match plan.asked {
        _ if failures.is_empty() => TargetCall::title(order.calls),
        1 => format!("a part of {}", TargetCall::title(order.calls)),
        asked => format!("{well} of {asked} targets"),
    };
    let callers = callers_by_build(&plan.targets);
    let failures = failures.into_iter().map(|failure| failure.built_for(&callers)).collect();
    let (held, left_out) = (started.gateway.held_back(), plan.held.clone());
    Ok((Done { result, loaded, held, left_out, title }, failures))
}

/// What of a plan is written together, or not at all.
struct Unit {
    /// The target, as shown; of several platforms of one all together.
    label: String,
    /// What it BUILDs.
    builds: BTreeSet<String>,
    incomplete: bool,
}

/// Returns the units of a plan, callees first. Walks with a stack of its own, as deep as BUILDs go.
fn units(plan: &BuildPlan) -> Vec<Unit> {
    let mut order: Vec<Unit> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut open: Vec<(&TargetOutput, usize)> = Vec::new();
    for root in plan.beside.iter().chain(&plan.targets) {
        if seen.insert(&root.key) {
            open.push((root, 0));
        }
        while let Some((target, next)) = open.last_mut() {
            if let Some(callee) = target.builds.get(*next) {
                *next += 1;
                if seen.insert(&callee.key) {
                    open.push((callee, 0));
                }
                continue;
            }
            let label = target.key.to_string();
            let at = *places.entry(label.clone()).or_insert_with(|| {
                order.push(Unit { label, builds: BTreeSet::new(), incomplete: false });
                order.len() - 1
            });
            if let Some(unit) = order.get_mut(at) {
                unit.builds.extend(target.builds.iter().map(|callee| callee.key.to_string()));
                unit.builds.remove(&unit.label);
                unit.incomplete |= target.incomplete;
            }
            open.pop();
        }
    }
    order
}

/// Adds failures that are not there yet: what several targets need fails once.
pub(super) fn add_failures(failures: &mut Vec<Failure>, more: Vec<Failure>) {
    for failure in more {
        let known = failure
            .vertex()
            .is_some_and(|vertex| failures.iter().any(|other| other.vertex() == Some(vertex)));
        if !known {
            failures.push(failure);
        }
    }
}

fn each(failure: Failure) -> Vec<Failure> {
    match failure {
        Failure::Several(failures) => failures,
        failure => vec![failure],
    }
}
