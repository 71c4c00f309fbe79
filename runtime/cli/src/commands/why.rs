//! `rb why`: why steps of a target would run, or did.
//!
//! In: a look at how things are now, or the record of a build, and the record of an earlier one ([`super::past`]). Out: the
//! [`explain::Reason`]s, each with what runs because of it. `--expect-cached` and `--dry-run` tell the same in the same words
//! ([`told`]). **Invariant:** nothing runs. What the records do not tell is said to be unknown.

mod cause;
mod declared;
mod explain;
mod pairs;

use std::collections::BTreeMap;
use std::path::Path;

use rb_api::Course;
use rb_oci::Digest;
use serde_json::{Value, json};

use super::build::Build;
use super::foresight;
use super::gateway::Settling;
use super::past::{self, Past};
use super::record::document::{Document, RecordStep};
use super::record::files::Files;
use super::record::{Asked, Listener, Lists};
use super::table::utc;
use super::targets::Order;
use super::workbench::Workbench;
use crate::args::{CourseOptions, OutputOptions, TargetCall, WhyArgs};
use crate::habits::refuse_option;
use crate::progress::{Progress, clean, fit};
use crate::report::{self, Failure};
use crate::settings::{Display, ProgressMode, Settings};
use explain::{Reason, Side, Which, explain};

/// So many steps of a reason are shown, and so much of each.
const MOST_STEPS: usize = 20;
const STEP_CELLS: usize = 90;

/// Explains, and prints that.
pub(super) fn execute(settings: &Settings, why: &WhyArgs) -> Result<u8, Failure> {
    refuse_option("why", &why.words)?;
    let (call, step) = why.asked()?;
    if !why.words.first().is_some_and(|word| TargetCall::is_target(word)) {
        let help = format!("targets are written with a `+`: `rb why +{}`", call.word);
        return Err(Failure::input(format!("`{}` is not a target", call.word), Some(help)));
    }
    let root = settings.state_directory.as_path();
    let found = if let [was, now] = why.between.as_slice() {
        Compared::between(root, was, now, names(settings, &call)?)?
    } else {
        Compared::here(settings, why, &call)?
    };
    let found = found.of_step(step.as_deref())?;
    let text = if why.json { format!("{:#}\n", found.json(&call.word)) } else { found.text(&call.word) };
    report::print(text.as_bytes())?;
    Ok(0)
}

/// Returns the words that `--expect-cached` and `--dry-run` tell of vertices: why they would run, by what differs from the last
/// build of some targets.
pub(super) fn told(
    root: &Path,
    workspace: &Path,
    targets: &[String],
    (now, lists): &(Document, Lists),
) -> Result<BTreeMap<Digest, String>, Failure> {
    let was = past::of_targets(root, workspace, targets)?.next();
    let reasons = compare(root, was.as_ref().map(|was| &was.document), (now, lists), Which::Would);
    let mut told: BTreeMap<Digest, String> = BTreeMap::new();
    for Reason { cause, steps, .. } in &reasons {
        for step in steps.iter().filter_map(|at| now.steps.get(*at)) {
            let words = told.entry(step.vertex).or_default();
            let and = if words.is_empty() { "" } else { "; " };
            words.push_str(&format!("{and}{}", cause.words()));
        }
    }
    Ok(told)
}

/// Explains what was heard just now, or a record, by an earlier one.
fn compare(
    root: &Path,
    was: Option<&Document>,
    (now, lists): (&Document, &Lists),
    which: Which,
) -> Vec<Reason> {
    let kept = |digest: &Digest| past::list(root, digest);
    let current = |digest: &Digest| match lists.get(digest) {
        Some(list) => Some(Files::of(&list.entries())),
        None => past::list(root, digest),
    };
    let side = was.map(|document| Side { document, files: &kept });
    explain(side.as_ref(), &Side { document: now, files: &current }, which)
}

/// Returns the targets that a word names, as records do.
fn names(settings: &Settings, call: &TargetCall) -> Result<Vec<String>, Failure> {
    // The project may be elsewhere, where the record comes from elsewhere.
    match Build::find(settings, std::slice::from_ref(call)) {
        Ok(build) => Ok(build.names()),
        Err(_) => Ok(vec![call.word.clone()]),
    }
}

/// What was compared, and what came of it.
struct Compared {
    mode: Mode,
    was: Option<Past>,
    /// The later record; none of a look.
    record: Option<Past>,
    now: Document,
    reasons: Vec<Reason>,
    /// There was a look before, by which nothing would run.
    looked: bool,
    /// What ends the look before all is known, as people know it.
    stops: Vec<String>,
    /// The root of the files, where they are as they were for `now`.
    files: Option<std::path::PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// How things are now with the last build.
    Now,
    /// How things are now with a build that was named.
    Since,
    /// The last build with the one before.
    Last,
    /// Two builds.
    Between,
}

impl Compared {
    fn between(root: &Path, was: &str, now: &str, targets: Vec<String>) -> Result<Self, Failure> {
        let (was, now) = (past::find(root, was)?, past::find(root, now)?);
        for past in [&was, &now] {
            if !past.has(&targets) {
                let message = format!("build {} has no step of `{}`", past.id(), targets.join(" "));
                let help = format!("`rb history show {}` shows what it has", past.id());
                return Err(Failure::input(message, Some(help)));
            }
        }
        let reasons = compare(root, Some(&was.document), (&now.document, &Lists::new()), Which::Differ);
        let document = now.document.clone();
        Ok(Self {
            mode: Mode::Between,
            was: Some(was),
            record: Some(now),
            now: document,
            reasons,
            looked: false,
            stops: Vec::new(),
            files: None,
        })
    }

    fn here(settings: &Settings, why: &WhyArgs, call: &TargetCall) -> Result<Self, Failure> {
        let root = settings.state_directory.as_path();
        let build = Build::find(settings, std::slice::from_ref(call))?.on_course(Course::Look);
        let since = why.since.as_deref().map(|word| past::find(root, word)).transpose()?;
        if !why.last {
            let look = look(settings, &build, call)?;
            let targets = [build.names(), look.names].concat();
            let was = match since {
                Some(since) => Some(since),
                None => past::of_targets(root, build.root(), &targets)?.next(),
            };
            let which = if why.since.is_some() { Which::Differ } else { Which::Would };
            let reasons =
                compare(root, was.as_ref().map(|was| &was.document), (&look.now, &look.lists), which);
            if !reasons.is_empty() || !look.stops.is_empty() || why.since.is_some() {
                let files = Some(build.root().to_owned());
                let (now, stops) = (look.now, look.stops);
                let mode = if why.since.is_some() { Mode::Since } else { Mode::Now };
                return Ok(Self { mode, was, record: None, now, reasons, looked: true, stops, files });
            }
        }
        Self::last(root, &build, why.last)
    }

    /// Explains the last build, or the last that ran something.
    fn last(root: &Path, build: &Build<'_>, any: bool) -> Result<Self, Failure> {
        let targets = build.names();
        let mut records = past::of_targets(root, build.root(), &targets)?;
        let ran = |past: &Past| {
            past.document.steps.iter().any(|step| step.step && explain::is_meant(step, Which::Ran))
        };
        let Some(last) = records.find(|past| any || ran(past)) else {
            let message = format!("no build of `{}` is kept that ran something", targets.join(" "));
            return Err(Failure::input(message, Some("`rb history ls` lists what is kept".to_owned())));
        };
        let was = records.next();
        let before = was.as_ref().map(|was| &was.document);
        let reasons = compare(root, before, (&last.document, &Lists::new()), Which::Ran);
        let now = last.document.clone();
        let (mode, record, stops) = (Mode::Last, Some(last), Vec::new());
        Ok(Self { mode, was, record, now, reasons, looked: !any, stops, files: None })
    }

    /// Leaves the reasons of a step alone, named by words of it.
    fn of_step(mut self, words: Option<&str>) -> Result<Self, Failure> {
        let Some(words) = words else { return Ok(self) };
        let is_it = |step: &RecordStep| step.step && step.name.contains(words);
        if !self.now.steps.iter().any(is_it) {
            let message = format!("no step has `{words}` in it");
            return Err(Failure::input(message, Some("`rb --dry-run +TARGET` lists the steps".to_owned())));
        }
        let now = &self.now;
        for reason in &mut self.reasons {
            reason.steps.retain(|at| now.steps.get(*at).is_some_and(is_it));
        }
        self.reasons.retain(|reason| !reason.steps.is_empty());
        Ok(self)
    }

    /// Says where a reason came in: what brought it, and the line.
    fn brought_by(&self, reason: &Reason) -> (String, Option<(String, u32)>) {
        let step = self.statement(reason);
        let declared = self.files.as_deref().and_then(|root| declared::place(root, step, &reason.cause));
        (clean(step.what(), false), declared.or_else(|| step.place.clone()))
    }

    /// Returns the step that brought a reason in. Files of a folder may be there for several, and go by the name of any: the first
    /// that takes them is it.
    fn statement(&self, reason: &Reason) -> &RecordStep {
        let (steps, origin) = (&self.now.steps, reason.origin);
        let takes =
            |step: &&RecordStep| step.step && step.inputs.iter().any(|(input, _)| *input == Some(origin));
        let source = &steps[origin];
        let meant = reason.steps.iter().filter_map(|at| steps.get(*at)).chain(steps);
        let found = meant.into_iter().find(takes).filter(|_| !source.step && source.files.is_some());
        found.unwrap_or(source)
    }

    fn text(&self, word: &str) -> String {
        let mut out = format!("{word}: {}\n", self.title());
        for reason in &self.reasons {
            let (what, place) = self.brought_by(reason);
            out.push_str(&format!("\n{}\n", reason.cause.words()));
            let at =
                place.map_or_else(String::new, |(file, line)| format!("{}:{line}: ", clean(&file, false)));
            let given = declared::given(&self.now.steps[reason.origin], &reason.cause);
            let given = given.map_or_else(String::new, |given| format!(", given as {given}"));
            out.push_str(&format!("  brought in by {at}{}{given}\n", fit(&what, STEP_CELLS)));
            let steps = reason.steps.iter().filter_map(|at| self.now.steps.get(*at));
            let runs = match self.mode {
                Mode::Now => "would run",
                Mode::Last => "ran",
                Mode::Since | Mode::Between => "differs",
            };
            for step in steps.take(MOST_STEPS) {
                out.push_str(&format!("  {runs}: {}\n", fit(&clean(&step.name, false), STEP_CELLS)));
            }
            if let Some(more) = reason.steps.len().checked_sub(MOST_STEPS).filter(|more| *more > 0) {
                out.push_str(&format!("  … and {more} more\n"));
            }
        }
        for stop in &self.stops {
            out.push_str(&format!("\nstops here: {stop}\n"));
        }
        out
    }

    fn title(&self) -> String {
        let known = |past: &Past| {
            let seconds = i64::try_from(past.document.started_unix_ms / 1000).unwrap_or_default();
            let from = if past.document.imported { ", imported" } else { "" };
            format!("{} of {} UTC{from}", past.id(), utc(seconds))
        };
        let was = self
            .was
            .as_ref()
            .map_or_else(|| "no earlier build".to_owned(), |was| format!("build {}", known(was)));
        let mut steps: Vec<usize> =
            self.reasons.iter().flat_map(|reason| reason.steps.iter().copied()).collect();
        steps.sort_unstable();
        steps.dedup();
        let count = |verb: &str| match steps.len() {
            0 => format!("no step {verb}"),
            1 => format!("1 step {verb}"),
            more => format!("{more} steps {}", if verb == "differs" { "differ" } else { verb }),
        };
        match (self.mode, &self.record) {
            (Mode::Now, _) => format!("{}, compared with {was}", count("would run")),
            (Mode::Since, _) => format!("{}, compared with {was}", count("differs")),
            (Mode::Last, Some(now)) => {
                let first = if self.looked { "nothing would run now; " } else { "" };
                format!("{first}{} in build {}, compared with {was}", count("ran"), known(now))
            }
            (Mode::Between, Some(now)) => {
                format!("{} in build {}, compared with {was}", count("differs"), known(now))
            }
            (Mode::Last | Mode::Between, None) => was,
        }
    }

    fn json(&self, word: &str) -> Value {
        let known = |past: &Past| json!({ "id": past.id(), "started_unix_ms": past.document.started_unix_ms, "imported": past.document.imported });
        let reasons = self.reasons.iter().map(|reason| {
            let (what, place) = self.brought_by(reason);
            let mut value = json!(reason.cause);
            value["text"] = json!(reason.cause.words());
            value["by"] = json!(what);
            value["file"] = json!(place.as_ref().map(|(file, _)| file));
            value["line"] = json!(place.map(|(_, line)| line));
            value["given_as"] = json!(declared::given(&self.now.steps[reason.origin], &reason.cause));
            let names = reason.steps.iter().filter_map(|at| self.now.steps.get(*at)).map(|step| &step.name);
            value["steps"] = json!(names.collect::<Vec<_>>());
            value
        });
        let mode = match self.mode {
            Mode::Now => "now",
            Mode::Since => "since",
            Mode::Last => "last",
            Mode::Between => "between",
        };
        json!({
            "format": 1, "target": word, "compared": mode,
            "was": self.was.as_ref().map(known), "now": self.record.as_ref().map(known),
            "reasons": reasons.collect::<Vec<_>>(), "stopped": self.stops,
        })
    }
}

/// What a look has seen.
struct Look {
    now: Document,
    lists: Lists,
    /// The targets that it came to, as records name them.
    names: Vec<String>,
    stops: Vec<String>,
}

fn look(settings: &Settings, build: &Build<'_>, call: &TargetCall) -> Result<Look, Failure> {
    let bench = Workbench::open(settings, Asked::of_target("why", call), Some(build.root()))?;
    let quiet = Display { mode: ProgressMode::Quiet, ..settings.display };
    let mut progress = Progress::start(quiet, &call.word);
    let listener = Listener::default();
    let output = OutputOptions::default();
    let order = Order {
        settings,
        calls: std::slice::from_ref(call),
        output: &output,
        course: CourseOptions::default(),
        settling: Settling::Write,
        choose: &|_, _, _, _| Ok(()),
    };
    let seen = bench.run(async {
        let events = listener.sink(progress.sink());
        foresight::foresee(&build.start_heard(&bench, &progress, order.settling, events), &order).await
    });
    progress.finish();
    bench.close();
    let (names, stops) = seen?.planned()?;
    let (now, lists) = listener.document();
    Ok(Look { now, lists, names, stops })
}
