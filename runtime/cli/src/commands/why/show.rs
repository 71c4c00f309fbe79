//! What was explained, as people read it, and as programs do.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::past::Past;
use super::super::record::document::{PlacedOn, RecordStep};
use super::super::table::utc;
use super::explain::Reason;
use super::{Compared, Looked, Mode, UNABLE, declared};
use crate::progress::{clean, fit};

/// So many steps of a reason are shown, and so much of each.
const MOST_STEPS: usize = 20;
const STEP_CELLS: usize = 90;

/// So many builds are named with which something was compared.
const MOST_BUILDS: usize = 3;

impl Compared {
    /// Says where a reason came in: what brought it, and the line.
    fn brought_by(&self, reason: &Reason) -> (String, Option<(String, u32)>) {
        let step = self.statement(reason);
        let declared = self.files.as_ref().and_then(|files| files.place(step, &reason.cause));
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

    pub(super) fn text(&self, word: &str) -> String {
        let mut out = format!("{word}: {}\n", self.title());
        for (name, text) in self.placed().into_iter().flat_map(PlacedOn::lines) {
            out.push_str(&format!("  {name} {}\n", clean(&text, false)));
        }
        for reason in &self.reasons {
            let (what, place) = self.brought_by(reason);
            out.push_str(&format!("\n{}\n", reason.cause.words()));
            let at =
                place.map_or_else(String::new, |(file, line)| format!("{}:{line}: ", clean(&file, false)));
            let given = declared::given(&self.now, &self.now.steps[reason.origin], &reason.cause);
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
        for (place, names) in self.known_elsewhere() {
            out.push_str(&format!("\nfrom the cache {}\n", clean(place, false)));
            for name in names.iter().take(MOST_STEPS) {
                out.push_str(&format!("  {}\n", fit(&clean(name, false), STEP_CELLS)));
            }
            if let Some(more) = names.len().checked_sub(MOST_STEPS).filter(|more| *more > 0) {
                out.push_str(&format!("  … and {more} more\n"));
            }
        }
        for stop in &self.stops {
            out.push_str(&format!("\nstops here: {stop}\n"));
        }
        out
    }

    /// Returns the steps whose results caches elsewhere had, by cache.
    fn known_elsewhere(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for step in self.now.steps.iter().filter(|step| step.step) {
            if let Some(place) = &step.from {
                found.entry(place).or_default().push(&step.name);
            }
        }
        found
    }

    /// Returns where the build went that is explained.
    fn placed(&self) -> Option<&PlacedOn> {
        self.record.as_ref()?.document.placed.as_ref()
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

    pub(super) fn json(&self, word: &str) -> Value {
        let known = |past: &Past| json!({ "id": past.id(), "started_unix_ms": past.document.started_unix_ms, "imported": past.document.imported });
        let reasons = self.reasons.iter().map(|reason| {
            let (what, place) = self.brought_by(reason);
            let mut value = json!(reason.cause);
            value["text"] = json!(reason.cause.words());
            value["by"] = json!(what);
            value["file"] = json!(place.as_ref().map(|(file, _)| file));
            value["line"] = json!(place.map(|(_, line)| line));
            value["given_as"] =
                json!(declared::given(&self.now, &self.now.steps[reason.origin], &reason.cause));
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
            "reasons": reasons.collect::<Vec<_>>(), "from_caches": self.known_elsewhere(), "stopped": stopped,
            "placed": self.placed(),
        })
    }
}
