//! Progress as GitHub Actions shows it: one foldable group per step.
//!
//! Groups cannot be nested nor interleaved, so one step at a time has the floor: its lines come as they are written. What
//! others say meanwhile is held back, the last [`MOST_HELD`] of each, and follows when the floor is free, in the order
//! they began. What is no step's output (cached steps, plumbing) stands between the groups.
//! **Invariant:** what a build prints is no workflow command: commands are stopped but for our own lines, by a word that
//! nobody can know. Source: GitHub Docs, "Workflow commands for GitHub Actions".

use std::collections::BTreeMap;
use std::time::Instant;

use rb_api::{Event, EventKind};
use rb_oci::Digest;

use super::plain::{Plain, not_shown};
use super::queue::Skipped;
use super::{Renderer, Size};
use crate::report::github::{Stopped, escaped_data};

/// So much output of a step that has to wait is held back.
const MOST_HELD: usize = 1 << 20;

/// GitHub shows its logs in no terminal: any width will do.
const COLUMNS: usize = 200;

/// The renderer.
pub(super) struct GitHub {
    plain: Plain,
    stopped: Stopped,
    has_begun: bool,
    /// Whose group is open.
    floor: Option<Digest>,
    /// Steps that have begun and not had the floor, in that order.
    held: Vec<(Digest, Held)>,
    /// What the groups of steps are called.
    titles: BTreeMap<Digest, String>,
    /// Lines that stand between groups, held back while one is open.
    between: Vec<u8>,
}

/// What a step that has to wait has said.
#[derive(Debug, Default)]
struct Held {
    text: Vec<u8>,
    skipped: Skipped,
    has_ended: bool,
}

impl Held {
    fn add(&mut self, text: &[u8]) {
        self.text.extend_from_slice(text);
        if self.text.len() > 2 * MOST_HELD {
            let cut = self.text.len() - MOST_HELD;
            let end =
                self.text.iter().skip(cut).position(|byte| *byte == b'\n').map_or(cut, |at| cut + at + 1);
            let rest = self.text.split_off(end);
            self.skipped.add(&std::mem::replace(&mut self.text, rest));
        }
    }
}

impl GitHub {
    pub(super) fn new(verbose: bool) -> Self {
        Self {
            plain: Plain::new(false, COLUMNS).verbose(verbose),
            stopped: Stopped::new(),
            has_begun: false,
            floor: None,
            held: Vec::new(),
            titles: BTreeMap::new(),
            between: Vec::new(),
        }
    }

    /// Says something as ourselves: commands count for this line alone.
    fn command(&self, line: &str, out: &mut Vec<u8>) {
        self.stopped.go_on(out);
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
        self.stopped.stop(out);
    }

    fn open(&mut self, vertex: Digest, out: &mut Vec<u8>) {
        let title = self.titles.get(&vertex).map_or("", String::as_str);
        self.command(&format!("::group::{}", escaped_data(title)), out);
        self.floor = Some(vertex);
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        self.command("::endgroup::", out);
        self.floor = None;
        out.append(&mut self.between);
    }

    /// Gives the floor on: what has ended is told whole, then the oldest that runs has it.
    fn give_on(&mut self, out: &mut Vec<u8>) {
        while self.floor.is_none() && !self.held.is_empty() {
            let (vertex, Held { text, skipped, has_ended }) = self.held.remove(0);
            self.open(vertex, out);
            if skipped.bytes > 0 {
                out.extend_from_slice(format!("{}\n", not_shown(skipped)).as_bytes());
            }
            out.extend_from_slice(&text);
            if has_ended {
                self.close(out);
            }
        }
    }

    /// Puts text of a step where it belongs now.
    fn place(&mut self, vertex: &Digest, text: &[u8], out: &mut Vec<u8>) {
        if self.floor == Some(*vertex) {
            out.extend_from_slice(text);
        } else if let Some((_, held)) = self.held.iter_mut().find(|(known, _)| known == vertex) {
            held.add(text);
        } else if self.floor.is_some() {
            self.between.extend_from_slice(text);
        } else {
            out.extend_from_slice(text);
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if !self.has_begun {
            self.has_begun = true;
            self.stopped.stop(out);
        }
    }
}

impl Renderer for GitHub {
    fn event(&mut self, event: &Event, now: Instant, out: &mut Vec<u8>) {
        self.begin(out);
        let vertex = event.vertex;
        let mut text = Vec::new();
        self.plain.event(event, now, &mut text);
        let step = self.plain.steps.get(&vertex).filter(|step| step.counted);
        match (&event.kind, step.map(|step| step.what.clone())) {
            (EventKind::Started, Some(what)) => {
                let title = format!("{} | {what}", self.plain.steps.prefix(&vertex));
                self.titles.insert(vertex, title);
                // The title says what the first line does.
                let mut held = Held::default();
                held.text.extend(text.split_inclusive(|byte| *byte == b'\n').skip(1).flatten());
                self.held.push((vertex, held));
                self.give_on(out);
            }
            (EventKind::Done { .. } | EventKind::Failed { .. } | EventKind::Cancelled, Some(_)) => {
                self.place(&vertex, &text, out);
                if self.floor == Some(vertex) {
                    self.close(out);
                } else if let Some((_, held)) = self.held.iter_mut().find(|(known, _)| *known == vertex) {
                    held.has_ended = true;
                }
                self.give_on(out);
            }
            (_, _) => self.place(&vertex, &text, out),
        }
    }

    fn skipped(&mut self, vertex: &Digest, skipped: Skipped, now: Instant, out: &mut Vec<u8>) {
        let mut text = Vec::new();
        self.plain.skipped(vertex, skipped, now, &mut text);
        self.place(vertex, &text, out);
    }

    fn frame(&mut self, now: Instant, _size: Size, out: &mut Vec<u8>) {
        let floor = self.floor;
        self.plain.beat(now, |step| floor == Some(step.vertex), out);
    }

    fn finish(&mut self, _now: Instant, _size: Size, out: &mut Vec<u8>) {
        for (vertex, text) in self.plain.rests() {
            self.place(&vertex, &text, out);
        }
        self.held.iter_mut().for_each(|(_, held)| held.has_ended = true);
        if self.floor.is_some() {
            self.close(out);
        }
        self.give_on(out);
        out.append(&mut self.between);
        if self.has_begun {
            self.stopped.go_on(out);
            self.has_begun = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rb_api::{CacheKey, LogStream};

    use super::*;

    fn shown(events: &[(&str, EventKind)]) -> String {
        let mut github = GitHub::new(false);
        let (now, mut out) = (Instant::now(), Vec::new());
        for (vertex, kind) in events {
            github.event(&Event { vertex: Digest::of(vertex), kind: kind.clone() }, now, &mut out);
        }
        github.finish(now, Size { columns: 80, rows: 24 }, &mut out);
        let word = github.stopped.word().to_owned();
        assert_eq!(word.len(), 32);
        String::from_utf8(out).expect("UTF-8").replace(&word, "WORD")
    }

    #[test]
    fn steps_at_once_are_groups_one_after_the_other() {
        let added = |name: &str| EventKind::Added { name: name.to_owned(), step: true, inputs: Vec::new() };
        let log = |text: &str| EventKind::Log { stream: LogStream::Stdout, bytes: text.to_owned().into() };
        let done = || EventKind::Done { duration: Duration::from_secs(1) };
        let text = shown(&[
            ("a", added("+a | RUN 100%")),
            ("b", added("+b | RUN two")),
            ("c", added("+c | RUN three")),
            ("d", added("+d | COPY . .")),
            ("a", EventKind::Started),
            ("b", EventKind::Started),
            ("c", EventKind::Started),
            ("b", log("of b\n::set-output name=x::y\n")),
            ("a", log("of a\n")),
            ("d", EventKind::Cached { key: CacheKey::Fast, from: None }),
            ("c", log("of c\n")),
            ("b", done()),
            ("a", EventKind::Failed { message: "exit code 1".to_owned() }),
            ("c", log("more of c")),
        ]);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn what_has_to_wait_is_bounded() {
        let mut held = Held::default();
        for _ in 0..5 {
            held.add(&b"line\n".repeat(MOST_HELD / 5));
        }
        assert!(held.text.len() <= 2 * MOST_HELD && held.text.starts_with(b"line\n"));
        assert!(held.skipped.lines > 0);
    }

    #[test]
    fn where_nothing_happened_nothing_is_said() {
        assert_eq!(shown(&[]), "");
    }
}
