//! `rb plan`: what a build would run, why, what that takes by earlier builds, and what it would pull.
//!
//! In: a look at how things are now ([`foresight`]), and the records of earlier builds ([`times`]). Out: a [`Plan`], as text or
//! JSON ([`show`]). It is the look of `--dry-run` and the words of `rb why`; what is added is arithmetic ([`schedule`], [`pulls`]).
//! **Invariant:** nothing runs, and nothing is written or pulled. What would run for certain, and what runs or not by what comes of
//! other steps, is told apart, in each sum too; what is not known is counted as such.

mod pulls;
mod schedule;
mod show;
mod times;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::Path;

use rb_api::{Course, Fate, Miss, Outlook};
use rb_oci::Digest;

use super::build::Build;
use super::foresight::{self, Foresight, Heard};
use super::gateway::Settling;
use super::record::Asked;
use super::record::document::Document;
use super::targets::Order;
use super::why::{self, Cause};
use super::{again, dockerfile};
use crate::args::{CourseOptions, OutputOptions, PlanArgs, TargetCall};
use crate::habits::refuse_option;
use crate::report::{self, Failure};
use crate::settings::Settings;
use pulls::Pulls;
use schedule::{Estimate, Task, estimate};
use times::{Times, Took};

/// What a build would do, and what that takes.
#[derive(Debug)]
struct Plan {
    /// What would run or may, in order.
    steps: Vec<Step>,
    /// How many steps would not.
    cached: usize,
    estimate: Estimate,
    /// So many steps may run at once.
    jobs: NonZeroUsize,
    pulls: Pulls,
}

/// A step that would run, or may.
#[derive(Debug, PartialEq)]
struct Step {
    name: String,
    vertex: Digest,
    /// It would run; otherwise it depends on what comes of others.
    is_sure: bool,
    /// Why it runs, or what it depends on.
    why: String,
    miss: Option<Miss>,
    causes: Vec<Cause>,
    /// What has to be made first for it to be known; none where that is an image.
    after: Option<String>,
    took: Option<Took>,
    /// The steps of the plan that it works on, by place.
    needs: Vec<usize>,
    place: Option<(String, u32)>,
}

/// What is known of vertices beside their outlook.
struct Known<'a> {
    /// How they work on each other.
    document: &'a Document,
    /// How long they took, by places of the document.
    took: &'a [Option<Took>],
    /// Why they would run, or may.
    causes: &'a BTreeMap<Digest, Vec<Cause>>,
    /// Of which something is written.
    written: &'a BTreeSet<Digest>,
}

/// Looks, and prints what was seen.
pub(super) fn execute(settings: &Settings, plan: &PlanArgs) -> Result<u8, Failure> {
    refuse_option("plan", &plan.words)?;
    let calls = plan.calls()?;
    if let Some(call) = calls.iter().find(|call| !TargetCall::is_target(call.word.as_ref())) {
        return Err(again::no_target("plan", &call.word, &settings.cwd));
    }
    let order = Order {
        settings,
        calls: &calls,
        output: &OutputOptions::default(),
        course: CourseOptions::default(),
        settling: if settings.no_output { Settling::Make } else { Settling::Write },
        choose: &|_, _, _, _| Ok(()),
    };
    let build = Build::find(settings, &calls)?.on_course(Course::Look);
    let (mut seen, heard) = foresight::look(&order, &build, Asked::of_targets("plan", &calls))?;
    seen.explain(&settings.state_directory, build.root(), &build.names(), &heard)?;
    tell(settings, build.root(), (seen, &heard), plan.json)
}

/// Looks at the build of a Dockerfile, and prints what was seen.
pub(super) fn of_dockerfile(order: &dockerfile::Order, as_json: bool) -> Result<u8, Failure> {
    let (seen, heard) = dockerfile::look(order, "plan")?;
    tell(order.settings(), order.workspace(), (seen, &heard), as_json)
}

/// Prints what was seen.
fn tell(
    settings: &Settings,
    workspace: &Path,
    (seen, heard): (Foresight, &Heard),
    as_json: bool,
) -> Result<u8, Failure> {
    let (document, _) = heard;
    let coming: BTreeSet<Digest> = coming(&seen.outlooks).map(|outlook| outlook.vertex).collect();
    let is_coming = |at: &usize| coming.contains(&document.steps[*at].vertex);
    let places: Vec<usize> = (0..document.steps.len()).filter(is_coming).collect();
    let times = Times::read(&settings.state_directory, workspace, document, &places)?;
    let Foresight { outlooks, written, causes, .. } = &seen;
    let heard = Known { document, took: &times.of(document), causes, written };
    let made = Plan::of(outlooks, &heard, settings.jobs);
    let text = match as_json {
        true => format!("{:#}\n", show::as_json(&made, &seen)),
        false => show::as_text(&made, &seen.stops(), &seen.outputs(&settings.cwd)),
    };
    report::print(text.as_bytes())?;
    seen.end()
}

/// Returns the steps that would run or may.
fn coming(outlooks: &[Outlook]) -> impl Iterator<Item = &Outlook> {
    outlooks
        .iter()
        .filter(|outlook| outlook.step && matches!(outlook.fate, Fate::Runs(_) | Fate::Unknown { after: _ }))
}

impl Plan {
    /// Makes a plan of what was seen.
    fn of(outlooks: &[Outlook], known: &Known<'_>, jobs: NonZeroUsize) -> Self {
        let Known { document, took, causes, written } = *known;
        let planned: BTreeMap<Digest, usize> =
            coming(outlooks).enumerate().map(|(at, outlook)| (outlook.vertex, at)).collect();
        let places: BTreeMap<Digest, usize> =
            document.steps.iter().enumerate().map(|(at, step)| (step.vertex, at)).collect();
        let needs = needs(document, &planned);
        let mut steps: Vec<Step> = Vec::with_capacity(planned.len());
        for outlook in coming(outlooks) {
            let at = places.get(&outlook.vertex).copied();
            let needs = needs.get(steps.len()).cloned().unwrap_or_default();
            let causes = causes.get(&outlook.vertex).cloned().unwrap_or_default();
            let mut step = Step {
                name: outlook.name.clone(),
                vertex: outlook.vertex,
                is_sure: false,
                why: foresight::words(&outlook.fate).1,
                miss: None,
                causes,
                after: None,
                took: at.and_then(|at| took.get(at).copied().flatten()),
                needs,
                place: at.and_then(|at| document.steps[at].place.clone()),
            };
            match &outlook.fate {
                Fate::Runs(reason) => {
                    (step.is_sure, step.miss) = (true, Some(reason.miss.clone()));
                }
                Fate::Unknown { after } => {
                    step.after.clone_from(after);
                    let own = step.own_causes(&steps);
                    if !own.is_empty() {
                        step.why = format!("{}; {}", step.why, why::in_words(&own));
                    }
                }
                Fate::Cached(_) | Fate::NotNeeded | Fate::Fails(_) => {}
            }
            steps.push(step);
        }
        let tasks: Vec<Task> = steps.iter().map(Step::task).collect();
        let all = outlooks.iter().filter(|outlook| outlook.step);
        Self {
            cached: all.filter(|outlook| matches!(outlook.fate, Fate::Cached(_) | Fate::NotNeeded)).count(),
            estimate: estimate(&tasks, jobs),
            jobs,
            pulls: Pulls::of(outlooks, document, written),
            steps,
        }
    }
}

impl Step {
    fn task(&self) -> Task {
        let milliseconds = self.took.map(|took| took.milliseconds);
        Task { needs: self.needs.clone(), milliseconds, is_sure: self.is_sure }
    }

    /// Returns what the steps that it works on do not have as a cause.
    fn own_causes(&self, before: &[Self]) -> Vec<Cause> {
        let below: BTreeSet<&Cause> =
            self.needs.iter().filter_map(|at| before.get(*at)).flat_map(|step| &step.causes).collect();
        self.causes.iter().filter(|cause| !below.contains(cause)).cloned().collect()
    }
}

/// Returns of each planned step those that it works on, be it by way of others that are not planned; by places in the plan.
fn needs(document: &Document, planned: &BTreeMap<Digest, usize>) -> Vec<Vec<usize>> {
    let mut needs = vec![Vec::new(); planned.len()];
    // Of each vertex the planned ones that are nearest, itself included.
    let mut nearest: Vec<BTreeSet<usize>> = Vec::with_capacity(document.steps.len());
    for (at, step) in document.steps.iter().enumerate() {
        // An input stands before its user.
        let inputs = step.inputs.iter().filter_map(|(input, _)| input.filter(|input| *input < at));
        let below: BTreeSet<usize> = inputs.flat_map(|input| nearest[input].iter().copied()).collect();
        nearest.push(match planned.get(&step.vertex) {
            Some(place) => {
                // What is planned stands in the order of the document.
                needs[*place] = below.into_iter().filter(|below| below < place).collect();
                [*place].into()
            }
            None => below,
        });
    }
    needs
}

#[cfg(test)]
mod tests;
