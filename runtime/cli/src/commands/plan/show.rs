//! A plan as people read it, and as programs do.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::foresight::Foresight;
use super::super::why::Cause;
use super::schedule::Span;
use super::times::Took;
use super::{Plan, Step};
use crate::progress::{clean, fit, human_bytes, human_duration};

/// So much of a step is shown.
const STEP_CELLS: usize = 90;

/// Shows a plan, with where targets stop, and what would be written.
pub(super) fn as_text(plan: &Plan, stops: &[String], outputs: &[String]) -> String {
    let mut out = String::new();
    for step in &plan.steps {
        let word = if step.is_sure { "will run" } else { "may run" };
        let name = clean(&step.name, false);
        out.push_str(&format!("{word:<8}  {:>6}  {}", time(step.took), fit(&name, STEP_CELLS)));
        out.push_str(&format!("  ({})\n", clean(&step.why, false)));
    }
    for stop in stops {
        out.push_str(&format!("stops here: {stop}\n"));
    }
    for line in outputs {
        out.push_str(&format!("{}\n", clean(line, false)));
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out.push_str(&sums(plan));
    out
}

/// Says how long a step takes: `?` of one that never ran, `~` before what other arguments, or another command, took.
fn time(took: Option<Took>) -> String {
    let Some(Took { milliseconds, is_alike, .. }) = took else { return "?".to_owned() };
    format!("{}{}", if is_alike { "~" } else { "" }, duration(milliseconds))
}

fn duration(milliseconds: u64) -> String {
    human_duration(Duration::from_millis(milliseconds))
}

/// Says the sums, a line each.
fn sums(plan: &Plan) -> String {
    let Plan { steps, cached, estimate, jobs, pulls } = plan;
    let sure = steps.iter().filter(|step| step.is_sure).count();
    let mut out = format!("steps  {sure} will run, {} may run, {cached} cached\n", steps.len() - sure);
    if !steps.is_empty() && estimate.untimed == steps.len() {
        out.push_str("work   not known\nend    not known\n");
    } else if !steps.is_empty() {
        let elapsed = between(estimate.elapsed, duration);
        out.push_str(&format!("work   {}\n", between(estimate.work, duration)));
        out.push_str(&format!("end    after {elapsed} with --jobs {jobs}"));
        let last = estimate.chain.last().and_then(|at| steps.get(*at));
        if let Some(last) = last.filter(|_| estimate.chain.len() > 1) {
            let (count, name) = (estimate.chain.len(), clean(&last.name, false));
            let chain = duration(estimate.chain_milliseconds);
            out.push_str(&format!(
                "; the longest chain takes {chain}: {count} steps up to {}",
                fit(&name, STEP_CELLS)
            ));
        }
        out.push('\n');
    }
    let bytes = pulls.bytes();
    let untold = pulls.untold().map(|pull| clean(&pull.name, false)).collect::<Vec<_>>();
    let known = if bytes.most == 0 { "nothing".to_owned() } else { between(bytes, human_bytes) };
    out.push_str(&match untold.as_slice() {
        [] => format!("pull   {known}\n"),
        all if bytes.most == 0 => format!("pull   not known: the size of {}\n", all.join(", ")),
        all => format!("pull   {known}, and not known: the size of {}\n", all.join(", ")),
    });
    for note in notes(plan) {
        out.push_str(&format!("{note}\n"));
    }
    out
}

/// Says a number, or the two that it lies between.
fn between(span: Span, words: fn(u64) -> String) -> String {
    let (least, most) = (words(span.least), words(span.most));
    if least == most { most } else { format!("{least} to {most}") }
}

/// Says what the sums leave out, and what they stand on.
fn notes(plan: &Plan) -> Vec<String> {
    let Plan { steps, estimate, .. } = plan;
    let mut notes = Vec::new();
    match estimate.untimed {
        0 => {}
        1 => notes.push("1 step was never timed (?) and is in no sum".to_owned()),
        more => notes.push(format!("{more} steps were never timed (?) and are in no sum")),
    }
    if steps.iter().any(|step| step.took.is_some_and(|took| took.is_alike)) {
        notes.push("~ is the time with other arguments, or of what stood there before".to_owned());
    }
    if steps.iter().any(|step| !step.is_sure) {
        notes.push("of two numbers the first is without what may run".to_owned());
    }
    notes
}

/// Shows a plan for programs.
pub(super) fn as_json(plan: &Plan, seen: &Foresight) -> Value {
    let Plan { steps, cached, estimate, jobs, pulls } = plan;
    let sure = steps.iter().filter(|step| step.is_sure).count();
    let pulled = pulls.0.iter().map(|pull| {
        json!({
            "name": pull.name, "fate": if pull.is_sure { "will_pull" } else { "may_pull" },
            "bytes": pull.bytes(), "layers": pull.layers.as_ref().map(BTreeMap::len),
        })
    });
    let pulled: Vec<Value> = pulled.collect();
    let untold: Vec<&str> = pulls.untold().map(|pull| pull.name.as_str()).collect();
    let bytes = pulls.bytes();
    json!({
        "format": 1,
        "complete": seen.is_complete(),
        "steps": steps.iter().map(step).collect::<Vec<_>>(),
        "pulls": pulled,
        "summary": {
            "will_run": sure, "may_run": steps.len() - sure, "cached": cached,
            "jobs": jobs,
            "work_seconds": seconds_of(estimate.work),
            "elapsed_seconds": seconds_of(estimate.elapsed),
            "chain": estimate.chain, "chain_seconds": seconds(estimate.chain_milliseconds),
            "untimed": estimate.untimed,
            "pull_bytes": { "least": bytes.least, "most": bytes.most }, "pull_unknown": untold,
        },
        "stopped": seen.stopped(),
        "outputs": seen.outputs(Path::new("")),
    })
}

fn step(step: &Step) -> Value {
    let causes = step.causes.iter().map(|cause: &Cause| {
        let mut value = json!(cause);
        value["text"] = json!(cause.words());
        value
    });
    let (file, line) = step.place.clone().unzip();
    json!({
        "name": step.name, "vertex": step.vertex.to_string(),
        "fate": if step.is_sure { "will_run" } else { "may_run" },
        "text": step.why, "causes": causes.collect::<Vec<_>>(), "miss": step.miss,
        "after": step.after, "needs": step.needs,
        "seconds": step.took.map(|took| seconds(took.milliseconds)),
        "runs": step.took.map_or(0, |took| took.runs),
        "other_arguments": step.took.is_some_and(|took| took.is_alike),
        "file": file, "line": line,
    })
}

fn seconds_of(span: Span) -> Value {
    json!({ "least": seconds(span.least), "most": seconds(span.most) })
}

fn seconds(milliseconds: u64) -> f64 {
    Duration::from_millis(milliseconds).as_secs_f64()
}
