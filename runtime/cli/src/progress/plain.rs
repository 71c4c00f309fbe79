//! Progress as lines: `+target | output`.
//!
//! A step is announced as it begins (`+app | --> RUN make`) or is found (`+app | *cached* --> RUN make`); each line
//! of its output follows as it comes. Nothing is drawn over, so it suits files and pipes.

use std::time::Instant;

use rb_api::{Event, EventKind};

use super::steps::Steps;
use super::text::{clean, human_duration, overwritten};
use super::{Renderer, Size};

/// Work that is no step is worth a line if it took this long.
const LONG_SECONDS: f64 = 1.0;

/// The renderer.
pub(super) struct Plain {
    steps: Steps,
    colours: bool,
}

impl Plain {
    pub(super) fn new(colours: bool) -> Self {
        Self { steps: Steps::default(), colours }
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

    fn line(&self, prefix: &str, text: &str, out: &mut Vec<u8>) {
        let reset = if text.contains('\u{1b}') { self.end } else { "" };
        let line = format!("{}{prefix} |{} {text}{reset}", self.prefix, self.end);
        out.extend_from_slice(line.trim_end().as_bytes());
        out.push(b'\n');
    }

    fn output(&self, prefix: &str, line: &[u8], out: &mut Vec<u8>) {
        let text = clean(&String::from_utf8_lossy(overwritten(line)), !self.end.is_empty());
        self.line(prefix, &text, out);
    }
}

impl Renderer for Plain {
    fn event(&mut self, event: &Event, now: Instant, out: &mut Vec<u8>) {
        let step = self.steps.take(event, now);
        let style = Style::of(self.colours);
        let prefix = step.prefix().to_owned();
        if let EventKind::Log { bytes, .. } = &event.kind {
            step.lines().push(bytes, |line| style.output(&prefix, line, out));
            return;
        }
        if matches!(event.kind, EventKind::Done { .. } | EventKind::Failed { .. } | EventKind::Cancelled)
            && let Some(rest) = step.lines().rest()
        {
            style.output(&prefix, &rest, out);
        }
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
            | EventKind::Missed { .. }
            | EventKind::Shared { .. }
            | EventKind::Log { .. }
            | EventKind::Progress { .. }
            | EventKind::Cancelled => return,
        };
        style.line(&prefix, &text, out);
    }

    fn finish(&mut self, _now: Instant, _size: Size, out: &mut Vec<u8>) {
        let style = Style::of(self.colours);
        for step in self.steps.iter_mut() {
            if let Some(rest) = step.lines().rest() {
                style.output(step.prefix(), &rest, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rb_api::{CacheKey, LogStream};
    use rb_oci::Digest;

    use super::*;

    fn shown(colours: bool, events: &[(&str, EventKind)]) -> String {
        let mut plain = Plain::new(colours);
        let mut out = Vec::new();
        let now = Instant::now();
        for (vertex, kind) in events {
            plain.event(&Event { vertex: Digest::of(vertex), kind: kind.clone() }, now, &mut out);
        }
        plain.finish(now, Size { columns: 80, rows: 24 }, &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    fn added(name: &str, step: bool) -> EventKind {
        EventKind::Added { name: name.to_owned(), step }
    }

    fn log(text: &str) -> EventKind {
        EventKind::Log { stream: LogStream::Stdout, bytes: text.to_owned().into() }
    }

    #[test]
    fn steps_and_their_output() {
        let done = |milliseconds| EventKind::Done { duration: Duration::from_millis(milliseconds) };
        let text = shown(
            false,
            &[
                ("a", added("+app | COPY . .", true)),
                ("b", added("+app | RUN make", true)),
                ("c", added("context", false)),
                ("c", EventKind::Started),
                ("c", done(1500)),
                ("a", EventKind::Cached { key: CacheKey::Fast }),
                ("b", EventKind::Shared { with: Digest::of("d") }),
                ("b", EventKind::Started),
                ("b", log("one\ntw")),
                ("b", log("o\n\u{1b}[1mbold\u{1b}[0m 10%\r100%\nno end")),
                ("b", EventKind::Failed { message: "exit code 2".to_owned() }),
            ],
        );
        insta::assert_snapshot!(text, @r"
        context | context took 1.5s
        +app | *cached* --> COPY . .
        +app | --> RUN make
        +app | one
        +app | two
        +app | 100%
        +app | no end
        +app | *failed* --> RUN make
        ");
    }

    #[test]
    fn colours_of_a_command_end_with_its_line() {
        let text = shown(true, &[("b", added("+app | RUN make", true)), ("b", log("\u{1b}[31mred\nnext\n"))]);
        let expected = "\u{1b}[36m+app |\u{1b}[0m \u{1b}[31mred\u{1b}[0m\n\u{1b}[36m+app |\u{1b}[0m next\n";
        assert_eq!(text, expected);
    }
}
