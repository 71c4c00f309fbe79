//! `rb why`: why steps of a target would run, or did.
//!
//! In: a look at how things are now, or the record of a build, and the record of an earlier one ([`super::past`]). Out: the
//! [`explain::Reason`]s, each with what runs because of it. `--expect-cached` and `--dry-run` tell the same in the same words
//! ([`told`]). **Invariant:** nothing runs. What the records do not tell is said to be unknown.

mod cause;
mod declared;
mod earlier;
mod explain;
mod pairs;

use std::collections::{BTreeMap, BTreeSet};
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
use super::record::{Asked, Lists};
use super::table::utc;
use super::targets::Order;
use super::workbench;
use crate::args::{CourseOptions, OutputOptions, TargetCall, WhyArgs};
use crate::habits::refuse_option;
use crate::progress::{clean, fit};
use crate::report::{self, Failure};
use crate::settings::Settings;
pub(super) use cause::Cause;
use earlier::Earlier;
use explain::{Reason, Side, Which, explain};
pub(super) use pairs::Pairs;

/// So many steps of a reason are shown, and so much of each.
const MOST_STEPS: usize = 20;
const STEP_CELLS: usize = 90;

/// So many builds are named with which something was compared.
const MOST_BUILDS: usize = 3;

/// Where to see what is kept.
const LIST: &str = "`rb history ls` lists what is kept";

/// What is said where a look cannot be taken.
const UNABLE: &str = "what would run now is not known, as the state directory lies on a read-only disk";

/// Explains, and prints that.
pub(super) fn execute(settings: &Settings, why: &WhyArgs) -> Result<u8, Failure> {
    refuse_option("why", &why.words)?;
    let (call, step) = why.asked()?;
    if !why.words.first().is_some_and(|word| TargetCall::is_target(word)) {
        let help = format!("targets are written with a `+`: `rb why +{}`", call.word);
        return Err(Failure::input(format!("`{}` is not a target", call.word), Some(help)));
    }
    let found = if let [was, now] = why.between.as_slice() {
        Compared::between(settings, (was, now), &call)?
    } else {
        Compared::here(settings, why, &call)?
    };
    let found = found.of_step(step.as_deref())?;
    let text = if why.json { format!("{:#}\n", found.json(&call.word)) } else { found.text(&call.word) };
    report::print(text.as_bytes())?;
    Ok(0)
}

/// Returns what `--expect-cached`, `--dry-run` and `rb plan` tell of vertices: why they would run, by what differs from the
/// last build of some targets.
pub(super) fn told(
    root: &Path,
    workspace: &Path,
    targets: &[String],
    (now, lists): &(Document, Lists),
) -> Result<BTreeMap<Digest, Vec<Cause>>, Failure> {
    let earlier = Earlier::of(root, workspace, targets, None)?;
    let reasons = earlier.reasons(root, (now, lists), Which::Would);
    let mut told: BTreeMap<Digest, Vec<Cause>> = BTreeMap::new();
    for Reason { cause, steps, .. } in &reasons {
        for step in steps.iter().filter_map(|at| now.steps.get(*at)) {
            told.entry(step.vertex).or_default().push(cause.clone());
        }
    }
    Ok(told)
}

/// Says that no build of a target is kept.
fn none(call: &TargetCall) -> Failure {
    let message = format!("no build of `{}` is kept that ran something", call.word);
    Failure::input(message, Some(LIST.to_owned()))
}

/// Says several causes in one line.
pub(super) fn in_words(causes: &[Cause]) -> String {
    causes.iter().map(Cause::words).collect::<Vec<_>>().join("; ")
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
        Some(list) => Some(Files::of(list.entries())),
        None => past::list(root, digest),
    };
    let side = was.map(|document| Side { document, files: &kept });
    explain(side.as_ref(), &Side { document: now, files: &current }, which)
}

/// Returns the targets that a word means, as some records name them.
fn targets_of(found: Option<&Build<'_>>, call: &TargetCall, records: [&Document; 2]) -> Vec<String> {
    match found {
        Some(build) => earlier::meant(&build.wanted_targets(), records.into_iter()),
        // The project may be elsewhere, where the record comes from elsewhere.
        None => earlier::as_written(&call.word, records.into_iter()),
    }
}

/// Leaves out steps of other targets that were built together with these.
fn retain(reasons: &mut Vec<Reason>, document: &Document, targets: &[String]) {
    let is_other = |target: &&String| !targets.contains(target);
    let others: BTreeSet<&str> = document.targets.iter().filter(is_other).map(String::as_str).collect();
    let below = |is_one: &dyn Fn(&str) -> bool| -> BTreeSet<usize> {
        let steps = document.steps.iter().enumerate();
        let mut open: Vec<usize> =
            steps.filter(|(_, step)| is_one(step.target())).map(|(at, _)| at).collect();
        let mut found = BTreeSet::new();
        while let Some(at) = open.pop() {
            if found.insert(at) {
                let inputs = document.steps.get(at).into_iter().flat_map(|step| &step.inputs);
                open.extend(inputs.filter_map(|(input, _)| *input));
            }
        }
        found
    };
    let own = below(&|target| targets.iter().any(|own| own == target));
    let others = below(&|target| others.contains(target));
    // Where they were asked for by name, all else may be what they BUILD.
    let is_asked = own.is_empty() || targets.iter().any(|target| document.targets.contains(target));
    for reason in reasons.iter_mut() {
        reason.steps.retain(|at| own.contains(at) || (is_asked && !others.contains(at)));
    }
    reasons.retain(|reason| !reason.steps.is_empty());
}

/// What was compared, and what came of it.
struct Compared {
    mode: Mode,
    was: Earlier,
    /// The later record; none of a look.
    record: Option<Past>,
    now: Document,
    reasons: Vec<Reason>,
    look: Looked,
    /// What ends the look before all is known, as people know it.
    stops: Vec<String>,
    /// The root of the files, where they are as they were for `now`.
    files: Option<std::path::PathBuf>,
}

/// What a look says of how things are now, before a record is explained.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Looked {
    /// Nobody asked for one, or it is what is explained.
    Not,
    /// Nothing would run.
    Nothing,
    /// It cannot be taken: the state directory cannot be written to.
    Unable,
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
    fn between(settings: &Settings, (was, now): (&str, &str), call: &TargetCall) -> Result<Self, Failure> {
        let root = settings.state_directory.as_path();
        let build = Build::find(settings, std::slice::from_ref(call)).ok();
        let read = |word| {
            let past = past::find(root, word)?;
            Ok::<_, Failure>(match &build {
                Some(build) => past.seen_from(build.root()),
                None => past,
            })
        };
        let (was, now) = (read(was)?, read(now)?);
        let targets = targets_of(build.as_ref(), call, [&was.document, &now.document]);
        for past in [&was, &now] {
            earlier::check_parts(past)?;
            if !past.has(&targets) {
                let message = format!("build {} has no step of `{}`", past.id(), call.word);
                let help = format!("`rb history show {}` shows what it has", past.id());
                return Err(Failure::input(message, Some(help)));
            }
        }
        let was = Earlier::one(was)?;
        let mut reasons = was.reasons(root, (&now.document, &Lists::new()), Which::Differ);
        retain(&mut reasons, &now.document, &targets);
        let document = now.document.clone();
        let (look, stops) = (Looked::Not, Vec::new());
        Ok(Self {
            mode: Mode::Between,
            was,
            record: Some(now),
            now: document,
            reasons,
            look,
            stops,
            files: None,
        })
    }

    fn here(settings: &Settings, why: &WhyArgs, call: &TargetCall) -> Result<Self, Failure> {
        let root = settings.state_directory.as_path();
        let build = Build::find(settings, std::slice::from_ref(call))?.on_course(Course::Look);
        let since = why.since.as_deref().map(|word| past::find(root, word)).transpose()?;
        let since = since.map(|past| past.seen_from(build.root()));
        if why.last {
            return Self::last(root, &build, (call, &build.names()), Looked::Not)?.ok_or_else(|| none(call));
        }
        if since.is_none() && workbench::is_read_only(root) {
            return Self::last(root, &build, (call, &build.names()), Looked::Unable)?
                .ok_or_else(|| none(call));
        }
        let look = look(settings, &build, call)?;
        let targets = [build.names(), look.names].concat();
        let (mode, which) =
            if since.is_some() { (Mode::Since, Which::Differ) } else { (Mode::Now, Which::Would) };
        let was = match since {
            Some(since) => Earlier::one(since)?,
            None => Earlier::of(root, build.root(), &targets, None)?,
        };
        let reasons = was.reasons(root, (&look.now, &look.lists), which);
        if reasons.is_empty() && look.stops.is_empty() && mode == Mode::Now {
            return match Self::last(root, &build, (call, &targets), Looked::Nothing)? {
                Some(found) => Ok(found),
                None => Ok(Self {
                    mode,
                    was,
                    record: None,
                    now: look.now,
                    reasons,
                    look: Looked::Nothing,
                    stops: look.stops,
                    files: None,
                }),
            };
        }
        let (files, now, stops) = (Some(build.root().to_owned()), look.now, look.stops);
        Ok(Self { mode, was, record: None, now, reasons, look: Looked::Not, stops, files })
    }

    /// Explains the last build; after a look, the last that ran something. Nothing where none is kept.
    fn last(
        root: &Path,
        build: &Build<'_>,
        (call, names): (&TargetCall, &[String]),
        look: Looked,
    ) -> Result<Option<Self>, Failure> {
        let wanted = build.wanted_targets();
        let records: Vec<Past> = past::of_workspace(root, build.root(), None)?.collect();
        let mut targets = earlier::meant(&wanted, records.iter().map(|past| &past.document));
        targets.extend(names.iter().cloned());
        let ran = |past: &Past| {
            past.document.steps.iter().any(|step| step.step && explain::is_meant(step, Which::Ran))
        };
        let is_it = |past: &Past| past.has(&targets) && (look == Looked::Not || ran(past));
        let Some(last) = records.into_iter().find(is_it) else {
            let known = Earlier::of(root, build.root(), &targets, None)?;
            let Some(id) = known.bare(&targets) else { return Ok(None) };
            let message = format!(
                "build {id} of `{}` is kept, and that record, of an older rb, keeps no parts",
                call.word
            );
            return Err(Failure::input(message, Some(LIST.to_owned())));
        };
        let here: Vec<String> =
            targets.into_iter().filter(|target| last.has(std::slice::from_ref(target))).collect();
        let was = Earlier::of(root, build.root(), &here, Some(&last.file))?;
        let mut reasons = was.reasons(root, (&last.document, &Lists::new()), Which::Ran);
        retain(&mut reasons, &last.document, &here);
        let (now, stops) = (last.document.clone(), Vec::new());
        Ok(Some(Self { mode: Mode::Last, was, record: Some(last), now, reasons, look, stops, files: None }))
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
        let builds: Vec<String> = self.was.builds().take(MOST_BUILDS).map(known).collect();
        let more = match self.was.builds().len().saturating_sub(MOST_BUILDS) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let was = match builds.as_slice() {
            [] if self.was.is_bare() => "no earlier build, as the records of those keep no parts".to_owned(),
            [] => "no earlier build".to_owned(),
            [one] => format!("build {one}"),
            several => format!("builds {}{more}", several.join(" and ")),
        };
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
            (Mode::Now, _) if self.look == Looked::Nothing => {
                "nothing would run now, and no build of it is kept that ran something".to_owned()
            }
            (Mode::Now, _) => format!("{}, compared with {was}", count("would run")),
            (Mode::Since, _) => format!("{}, compared with {was}", count("differs")),
            (Mode::Last, Some(now)) => {
                let first = match self.look {
                    Looked::Not => String::new(),
                    Looked::Nothing => "nothing would run now; ".to_owned(),
                    Looked::Unable => format!("{UNABLE}; "),
                };
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
        let unable = (self.look == Looked::Unable).then(|| UNABLE.to_owned());
        let stopped: Vec<&String> = self.stops.iter().chain(&unable).collect();
        json!({
            "format": 1, "target": word, "compared": mode,
            "was": self.was.builds().next().map(known), "now": self.record.as_ref().map(known),
            "others": self.was.builds().skip(1).map(known).collect::<Vec<_>>(),
            "reasons": reasons.collect::<Vec<_>>(), "stopped": stopped,
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
    let output = OutputOptions::default();
    let order = Order {
        settings,
        calls: std::slice::from_ref(call),
        output: &output,
        course: CourseOptions::default(),
        settling: Settling::Write,
        choose: &|_, _, _, _| Ok(()),
    };
    let (seen, (now, lists)) = foresight::look(&order, build, Asked::of_target("why", call))?;
    let (names, stops) = seen.planned()?;
    Ok(Look { now, lists, names, stops })
}
