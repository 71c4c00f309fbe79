//! Progress as lines: `+target | output`.
//!
//! A step is announced as it begins (`+app | --> RUN make`) or is found (`+app | *cached* --> RUN make`), and where that is
//! asked for a line follows that says why (`+app | (runs: never built before)`); each line
//! of its output follows as it comes. One that is silent for long says that it is still there, and how far it is, so that neither people nor
//! a CI that ends silent jobs take it for dead. Targets stand right-aligned, as wide as the widest so far. Nothing is drawn
//! over, so it suits files and pipes.

use std::time::{Duration, Instant};

use rb_api::{Event, EventKind};
use rb_oci::Digest;

use super::amount::forms;
use super::queue::Skipped;
use super::steps::{Status, Step, Steps};
use super::text::{clean, human_bytes, human_count, human_duration, is_plain, overwritten, width};
use super::{Renderer, Size};

/// Work that is no step is worth a line if it took this long.
const LONG_SECONDS: f64 = 1.0;

/// A step that said nothing for this long is told to be still there; later ones after each [`AGAIN`].
const SILENCE: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_secs(60);

/// Targets are padded to at most so many cells, and to a quarter of the terminal.
const PAD_CELLS: usize = 24;

/// The renderer.
pub(super) struct Plain {
    pub(super) steps: Steps,
    colours: bool,
    verbose: bool,
    pad: usize,
    most_pad: usize,
    /// When the oldest silence was looked for.
    last_beat: Option<Instant>,
}

impl Plain {
    pub(super) fn new(colours: bool, columns: usize) -> Self {
        let most_pad = PAD_CELLS.min(columns / 4);
        let steps = Steps::default();
        Self { steps, colours, verbose: false, pad: 0, most_pad, last_beat: None }
    }

    /// Says whether it tells why steps run.
    pub(super) fn verbose(self, verbose: bool) -> Self {
        Self { verbose, ..self }
    }

    /// Appends a line for each running step that was silent for long and that `chosen` picks.
    pub(super) fn beat(&mut self, now: Instant, chosen: impl Fn(&Step) -> bool, out: &mut Vec<u8>) {
        if self.last_beat.is_some_and(|last| now.saturating_duration_since(last) < Duration::from_secs(1)) {
            return;
        }
        self.last_beat = Some(now);
        let mut silent = Vec::new();
        for step in self.steps.iter_mut() {
            let Some(since) = step.at_work() else { continue };
            let limit = if step.beats == 0 { SILENCE } else { AGAIN };
            let is_running = matches!(step.status, Status::Running(_));
            let is_told = step.counted && is_running || step.progress.is_some();
            if is_told && now.saturating_duration_since(step.heard) >= limit && chosen(step) {
                (step.heard, step.beats) = (now, step.beats + 1);
                let who = if step.target.is_empty() { String::new() } else { format!("--> {}: ", step.what) };
                let at = if is_running { "running" } else { "getting ready" };
                let elapsed = human_duration(now.saturating_duration_since(since));
                let far = step.progress.as_ref().and_then(|progress| forms(progress).into_iter().next());
                let far = far.map_or_else(String::new, |far| format!(" ({far})"));
                silent.push((step.vertex, format!("{who}still {at} after {elapsed}{far}")));
            }
        }
        let Style { dim, end, .. } = Style::of(self.colours);
        for (vertex, text) in silent {
            self.line(&vertex, &format!("{dim}{text}{end}"), out);
        }
    }

    /// Takes the unfinished lines of all steps.
    pub(super) fn rests(&mut self) -> Vec<(Digest, Vec<u8>)> {
        let style = Style::of(self.colours);
        let held = self.steps.iter_mut().filter_map(|step| Some((step.vertex, step.lines().rest()?)));
        let held: Vec<(Digest, Vec<u8>)> = held.collect();
        held.into_iter()
            .map(|(vertex, rest)| {
                let mut text = Vec::new();
                style.output(&self.steps.prefix(&vertex), self.pad, &rest, &mut text);
                (vertex, text)
            })
            .collect()
    }

    /// Appends a line of ours.
    fn line(&mut self, vertex: &Digest, text: &str, out: &mut Vec<u8>) {
        let prefix = self.steps.prefix(vertex);
        self.pad = self.pad.max(width(&prefix).min(self.most_pad));
        Style::of(self.colours).line(&prefix, self.pad, text, out);
    }
}

struct Style {
    prefix: &'static str,
    dim: &'static str,
    end: &'static str,
}

impl Style {
    fn of(colours: bool) -> Self {
        if colours {
            Self { prefix: "\u{1b}[36m", dim: "\u{1b}[2m", end: "\u{1b}[0m" }
        } else {
            Self { prefix: "", dim: "", end: "" }
        }
    }

    fn line(&self, prefix: &str, pad: usize, text: &str, out: &mut Vec<u8>) {
        out.extend(std::iter::repeat_n(b' ', pad.saturating_sub(width(prefix))));
        for part in [self.prefix, prefix, " |", self.end, " ", text] {
            out.extend_from_slice(part.as_bytes());
        }
        if text.contains('\u{1b}') {
            out.extend_from_slice(self.end.as_bytes());
        }
        out.truncate(out.trim_ascii_end().len());
        out.push(b'\n');
    }

    fn output(&self, prefix: &str, pad: usize, line: &[u8], out: &mut Vec<u8>) {
        let line = overwritten(line);
        // Most lines are: worth not being looked at character by character.
        match std::str::from_utf8(line) {
            Ok(text) if is_plain(text) => self.line(prefix, pad, text, out),
            _ => self.line(prefix, pad, &clean(&String::from_utf8_lossy(line), !self.end.is_empty()), out),
        }
    }
}

impl Renderer for Plain {
    fn event(&mut self, event: &Event, now: Instant, out: &mut Vec<u8>) {
        let style = Style::of(self.colours);
        let vertex = event.vertex;
        let step = self.steps.take(event, now);
        if let EventKind::Log { bytes, .. } = &event.kind {
            let mut lines = std::mem::take(step.lines());
            step.beats = 0;
            let prefix = self.steps.prefix(&vertex);
            self.pad = self.pad.max(width(&prefix).min(self.most_pad));
            lines.push(bytes, |line| style.output(&prefix, self.pad, line, out));
            if let Some(step) = self.steps.get(&vertex) {
                *step.lines() = lines;
            }
            return;
        }
        if matches!(event.kind, EventKind::Done { .. } | EventKind::Failed { .. } | EventKind::Cancelled)
            && let Some(rest) = step.lines().rest()
        {
            let prefix = self.steps.prefix(&vertex);
            style.output(&prefix, self.pad, &rest, out);
        }
        let Some(step) = self.steps.get(&vertex) else { return };
        let Style { dim, end, .. } = style;
        let what = &step.what;
        let text = match &event.kind {
            EventKind::Started if step.counted => format!("--> {what}"),
            EventKind::Cached { .. } if step.counted => format!("{dim}*cached* --> {what}{end}"),
            EventKind::Failed { .. } if step.counted => format!("*failed* --> {what}"),
            EventKind::Done { duration } if !step.counted && duration.as_secs_f64() >= LONG_SECONDS => {
                format!("{dim}{what} took {}{end}", human_duration(*duration))
            }
            EventKind::Started
            | EventKind::Cached { .. }
            | EventKind::Failed { .. }
            | EventKind::Done { .. }
            | EventKind::Added { .. }
            | EventKind::Keyed { .. }
            | EventKind::Missed { .. }
            | EventKind::Shared { .. }
            | EventKind::Log { .. }
            | EventKind::Progress(_)
            | EventKind::Cancelled => return,
        };
        let is_reason = matches!(event.kind, EventKind::Started | EventKind::Cached { .. });
        let why =
            (self.verbose && is_reason && !step.why.is_empty()).then(|| format!("{dim}({}){end}", step.why));
        self.line(&vertex, &text, out);
        if let Some(why) = why {
            self.line(&vertex, &why, out);
        }
    }

    fn skipped(&mut self, vertex: &Digest, skipped: Skipped, _now: Instant, out: &mut Vec<u8>) {
        let style = Style::of(self.colours);
        // What was held back of the line before is shown; what follows begins somewhere in a line.
        if let Some(rest) = self.steps.get(vertex).and_then(|step| step.lines().rest()) {
            let prefix = self.steps.prefix(vertex);
            style.output(&prefix, self.pad, &rest, out);
        }
        self.line(vertex, &format!("{}{}{}", style.dim, not_shown(skipped), style.end), out);
    }

    fn frame(&mut self, now: Instant, _size: Size, out: &mut Vec<u8>) {
        self.beat(now, |_| true, out);
    }

    fn finish(&mut self, _now: Instant, _size: Size, out: &mut Vec<u8>) {
        self.rests().into_iter().for_each(|(_, text)| out.extend(text));
    }
}

/// Says that output is left out.
pub(super) fn not_shown(skipped: Skipped) -> String {
    let lines = match skipped.lines {
        1 => "1 line".to_owned(),
        lines => format!("{} lines", human_count(lines)),
    };
    format!("… {lines} ({}) not shown; `rb logs` has them", human_bytes(skipped.bytes))
}

#[cfg(test)]
mod tests;
