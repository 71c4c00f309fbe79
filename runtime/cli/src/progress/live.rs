//! Progress as a view that redraws itself: a heading, one line per running step, the oldest first, and what waits.
//!
//! ```text
//! +app  12.3s  3 running, 4 done, 10 cached, 2 waiting
//!   +app RUN cargo build --release  11.9s  Compiling serde v1.0
//!   +web RUN npm ci                  2.0s  added 17 packages
//!   waiting: +web RUN npm test, +app COPY +web/dist .
//! ```
//! At the end the view is gone; what ran stays, the longest steps of it. Why steps run is told above it, where that is asked
//! for, and stays.
//! A frame goes to the first line of the one before, writes each line and wipes the rest of it. Lines are kept one cell
//! shorter than the terminal and one row fewer, so that nothing scrolls; after the terminal was made narrower, the
//! old lines are counted in the rows they now take, as terminals wrap them again.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use rb_api::{Event, EventKind};
use rb_oci::Digest;

use super::steps::{Status, Step, Steps};
use super::text::{fit, human_duration, width};
use super::{Renderer, Size, amount};

/// The renderer.
pub(super) struct Live {
    title: String,
    colours: bool,
    start: Instant,
    steps: Steps,
    /// Widths in cells of the lines of the last frame.
    drawn: Vec<usize>,
    verbose: bool,
    /// Lines that stay, above the next frame: why steps run.
    said: Vec<String>,
}

impl Live {
    pub(super) fn new(title: &str, colours: bool, start: Instant) -> Self {
        let (title, steps) = (title.to_owned(), Steps::default());
        Self { title, colours, start, steps, drawn: Vec::new(), verbose: false, said: Vec::new() }
    }

    /// Says whether it tells why steps run.
    pub(super) fn verbose(self, verbose: bool) -> Self {
        Self { verbose, ..self }
    }

    /// Notes why a step runs, or how it was found.
    fn note(&mut self, vertex: &Digest) {
        if let Some(step) = self.steps.get(vertex)
            && step.counted
            && !step.why.is_empty()
        {
            let line = format!("{} ({})", named(&step.target, step), step.why);
            self.said.push(line);
        }
    }

    /// Appends the lines that stay; the place of the last frame is behind the cursor.
    fn say(&mut self, size: Size, out: &mut Vec<u8>) {
        for line in std::mem::take(&mut self.said) {
            let line = fit(&line, size.columns.saturating_sub(1));
            out.extend_from_slice(format!("{line}\u{1b}[K\n").as_bytes());
        }
    }

    /// Returns the lines of a frame, each at most `columns - 1` cells wide.
    fn lines(&self, now: Instant, size: Size) -> Vec<String> {
        let room = size.columns.saturating_sub(1);
        let counts = self.steps.counts();
        let elapsed = human_duration(now.saturating_duration_since(self.start));
        let mut heading = format!("{}  {elapsed}", self.title);
        let parts = [
            (counts.running, "running"),
            (counts.done, "done"),
            (counts.cached, "cached"),
            (counts.waiting, "waiting"),
            (counts.failed, "failed"),
        ];
        for (at, (count, word)) in parts.into_iter().filter(|(count, _)| *count > 0).enumerate() {
            let separator = if at == 0 { "  " } else { ", " };
            let _infallible = write!(heading, "{separator}{count} {word}");
        }
        let mut lines = vec![fit(&heading, room).into_owned()];
        let at_work = |step| Some((step, Step::at_work(step)?));
        let mut running: Vec<(&Step, Instant)> = self.steps.iter().filter_map(at_work).collect();
        running.sort_by_key(|(_, since)| *since);
        let most = size.rows.saturating_sub(2).max(1);
        let shown = if running.len() > most { most.saturating_sub(1) } else { running.len() };
        lines.extend(running.iter().take(shown).map(|(step, since)| {
            let target = self.steps.called(step);
            step_line(&target, step, *since, now, room)
        }));
        if shown < running.len() {
            lines.push(fit(&format!("  and {} more", running.len() - shown), room).into_owned());
        } else if shown < most
            && let Some(line) = self.waiting(room)
        {
            lines.push(line);
        }
        lines
    }

    /// Returns the line of what waits, if something does and there is room for a name.
    fn waiting(&self, room: usize) -> Option<String> {
        const MOST: usize = 20;
        // What has said why it waits has a line of its own.
        let is_silent = |step: &&Step| step.status == Status::Waiting && step.last_line.is_empty();
        let waiting = self.steps.iter().filter(|step| step.counted).filter(is_silent);
        let names: Vec<String> =
            waiting.take(MOST).map(|step| named(&self.steps.called(step), step)).collect();
        let line = format!("  waiting: {}", names.join(", "));
        (!names.is_empty() && room >= 30).then(|| fit(&line, room).into_owned())
    }

    /// Returns a line for each of the steps that ran longest, in the order they were added.
    fn ran(&self, room: usize) -> Vec<String> {
        const MOST: usize = 10;
        let mut ran: Vec<(usize, &Step, Duration)> = Vec::new();
        for (at, step) in self.steps.iter().enumerate() {
            if let Status::Done(duration) = step.status
                && step.counted
            {
                ran.push((at, step, duration));
            }
        }
        ran.sort_by_key(|(_, _, duration)| std::cmp::Reverse(*duration));
        let more = ran.len().saturating_sub(MOST);
        ran.truncate(MOST);
        ran.sort_by_key(|(at, _, _)| *at);
        let names: Vec<String> =
            ran.iter().map(|(_, step, _)| named(&self.steps.called(step), step)).collect();
        let longest = names.iter().map(|name| width(name)).max().unwrap_or_default();
        let for_name = longest.min(room.saturating_sub(10));
        let mut lines: Vec<String> = names
            .iter()
            .zip(&ran)
            .map(|(name, (_, _, duration))| {
                let name = fit(name, for_name);
                let pad = for_name.saturating_sub(width(&name));
                let line = format!("  {name}{:pad$}  {:>6}", "", human_duration(*duration));
                fit(&line, room).into_owned()
            })
            .collect();
        if more > 0 {
            lines.push(fit(&format!("  and {more} shorter ones"), room).into_owned());
        }
        lines
    }

    /// Appends the way back to the first line of the last frame.
    fn go_back(&self, size: Size, out: &mut Vec<u8>) {
        let columns = size.columns.max(1);
        let rows: usize = self.drawn.iter().map(|cells| cells.div_ceil(columns).max(1)).sum();
        if rows > 0 {
            out.extend_from_slice(format!("\u{1b}[{}A\r", rows.min(size.rows)).as_bytes());
        }
    }
}

/// Returns a step's name: what it does, and for which target.
fn named(target: &str, step: &Step) -> String {
    if target.is_empty() { step.what.clone() } else { format!("{target} {}", step.what) }
}

/// Returns the line of a running step: name, time, how far it is, last output; the name gets at most half of a wide line, and what
/// is said of how far it is leaves it as much.
fn step_line(target: &str, step: &Step, since: Instant, now: Instant, room: usize) -> String {
    let name = named(target, step);
    let elapsed = human_duration(now.saturating_duration_since(since));
    let mut tail = format!("  {elapsed:>5}");
    if let Some(progress) = &step.progress {
        let least = width(&name).min(room / 2);
        let spare = room.saturating_sub(2 + width(&tail) + least + 2);
        if let Some(form) = amount::forms(progress).into_iter().find(|form| width(form) <= spare) {
            let _infallible = write!(tail, "  {form}");
        }
    }
    let for_name = room.saturating_sub(2 + width(&tail));
    let for_name = if step.last_line.is_empty() || room < 60 { for_name } else { for_name.min(room / 2) };
    let mut line = format!("  {}{tail}", fit(&name, for_name));
    let left = room.saturating_sub(width(&line));
    if left > 10 && !step.last_line.is_empty() {
        let _infallible = write!(line, "  {}", fit(&step.last_line, left - 2));
    }
    fit(&line, room).into_owned()
}

impl Renderer for Live {
    fn event(&mut self, event: &Event, now: Instant, _out: &mut Vec<u8>) {
        self.steps.take(event, now);
        if self.verbose && matches!(event.kind, EventKind::Started | EventKind::Cached { .. }) {
            self.note(&event.vertex);
        }
    }

    fn frame(&mut self, now: Instant, size: Size, out: &mut Vec<u8>) {
        let lines = self.lines(now, size);
        self.go_back(size, out);
        self.say(size, out);
        for (at, line) in lines.iter().enumerate() {
            let (style, end) = match (self.colours, at) {
                (false, _) => ("", ""),
                (true, 0) => ("\u{1b}[1m", "\u{1b}[0m"),
                (true, _) => ("\u{1b}[36m", "\u{1b}[0m"),
            };
            out.extend_from_slice(format!("{style}{line}{end}\u{1b}[K\n").as_bytes());
        }
        // What the last frame had beyond this one.
        out.extend_from_slice(b"\x1b[J");
        self.drawn = lines.iter().map(|line| width(line)).collect();
    }

    fn wipe(&mut self, size: Size, out: &mut Vec<u8>) {
        if !self.drawn.is_empty() {
            self.go_back(size, out);
            out.extend_from_slice(b"\x1b[J");
            self.drawn.clear();
        }
    }

    fn finish(&mut self, _now: Instant, size: Size, out: &mut Vec<u8>) {
        self.wipe(size, out);
        self.say(size, out);
        for line in self.ran(size.columns.saturating_sub(1)) {
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use rb_api::{CacheKey, CacheVerdict, LogStream, Miss, Progress};

    use super::*;

    fn at_work() -> (Live, Instant) {
        let start = Instant::now();
        let mut live = Live::new("+image", false, start);
        let mut tell = |vertex: &str, kind: EventKind| {
            live.event(&Event { vertex: Digest::of(vertex), kind }, start, &mut Vec::new());
        };
        for (vertex, name, step) in [
            ("a", "+deps | RUN cargo fetch", true),
            ("b", "+app | RUN cargo build --release --locked --features tls,http2,metrics", true),
            ("c", "+web | RUN npm ci", true),
            ("d", "context", false),
            ("e", "+app | COPY . .", true),
            ("f", "+deps --MODE=release | COPY --dir src tests .", true),
        ] {
            tell(vertex, EventKind::Added { name: name.to_owned(), step, inputs: Vec::new() });
        }
        tell("a", EventKind::Cached { key: CacheKey::Fast, from: None });
        for vertex in ["b", "c", "d", "f"] {
            tell(vertex, EventKind::Started);
        }
        let log =
            "\u{1b}[32mCompiling\u{1b}[0m 日本語テキスト v1.0.0 (registry+https://example.org/index)\n\n";
        tell("b", EventKind::Log { stream: LogStream::Stderr, bytes: log.to_owned().into() });
        tell("d", EventKind::Progress(Progress::bytes("fetching", 4_200_000, Some(16_000_000))));
        let files = Some((1_204, Some(20_000)));
        let copied = Progress { files, ..Progress::bytes("copying", 12_345_678, Some(200_000_000)) };
        tell("f", EventKind::Progress(copied));
        (live, start + Duration::from_millis(12_340))
    }

    fn view(columns: usize, rows: usize) -> String {
        let (live, now) = at_work();
        let lines = live.lines(now, Size { columns, rows });
        assert!(lines.iter().all(|line| width(line) < columns), "{lines:?}");
        lines.join("\n")
    }

    #[test]
    fn at_40_columns() {
        insta::assert_snapshot!(view(40, 24));
    }

    #[test]
    fn at_80_columns() {
        insta::assert_snapshot!(view(80, 24));
    }

    #[test]
    fn at_200_columns() {
        insta::assert_snapshot!(view(200, 24));
    }

    #[test]
    fn at_any_size_nothing_overflows() {
        for columns in 1..120 {
            for rows in 1..6 {
                let (live, now) = at_work();
                let lines = live.lines(now, Size { columns, rows });
                assert!(lines.iter().all(|line| width(line) < columns.max(1)), "{columns}: {lines:?}");
                assert!(lines.len() <= rows.max(2), "{rows}: {lines:?}");
            }
        }
    }

    #[test]
    fn a_low_terminal_shows_what_fits() {
        insta::assert_snapshot!(view(80, 4), @r"
        +image  12.3s  3 running, 1 cached, 1 waiting
          +app RUN cargo build --release --locke…  12.3s  Compiling 日本語テキスト v1.…
          and 3 more
        ");
    }

    #[test]
    fn who_is_waited_for_is_said() {
        let (mut live, now) = at_work();
        let text = "waiting for process 42, which is making the same\n";
        let said = EventKind::Log { stream: LogStream::Stderr, bytes: text.into() };
        live.event(&Event { vertex: Digest::of("e"), kind: said }, now, &mut Vec::new());
        let lines = live.lines(now + Duration::from_secs(3), Size { columns: 100, rows: 24 });
        let last = lines.last().map(String::as_str);
        assert_eq!(last, Some("  +app COPY . .   3.0s  waiting for process 42, which is making the same"));
    }

    #[test]
    fn frames_are_drawn_over_each_other_and_wiped() {
        let (mut live, now) = at_work();
        let size = Size { columns: 80, rows: 24 };
        let mut first = Vec::new();
        live.frame(now, size, &mut first);
        assert!(!String::from_utf8_lossy(&first).contains('A'), "nothing above the first frame is touched");
        let mut second = Vec::new();
        live.frame(now, size, &mut second);
        assert!(second.starts_with(b"\x1b[6A\r+image"));
        let mut end = Vec::new();
        live.finish(now, size, &mut end);
        assert_eq!(end, b"\x1b[6A\r\x1b[J");
    }

    #[test]
    fn what_is_fetched_before_a_step_runs_is_seen_and_gone_when_it_does() {
        let start = Instant::now();
        let mut live = Live::new("+app", false, start);
        let mut tell = |kind: EventKind| {
            live.event(&Event { vertex: Digest::of("a"), kind }, start, &mut Vec::new());
            live.lines(start, Size { columns: 80, rows: 24 }).join("\n")
        };
        let fetched = |bytes| EventKind::Progress(Progress::bytes("fetching\u{1b}[2J", bytes, Some(16)));
        tell(EventKind::Added { name: "+app | RUN make".to_owned(), step: true, inputs: Vec::new() });
        assert_eq!(tell(fetched(4)), "+app  0.00s  1 waiting\n  +app RUN make  0.00s  fetching: 4 B of 16 B");
        assert_eq!(tell(fetched(16)), "+app  0.00s  1 waiting\n  +app RUN make  0.00s");
        tell(fetched(5));
        assert_eq!(tell(EventKind::Started), "+app  0.00s  1 running\n  +app RUN make  0.00s");
    }

    #[test]
    fn reasons_stay_above_the_frames() {
        let start = Instant::now();
        let mut live = Live::new("+app", false, start).verbose(true);
        let reason = CacheVerdict { miss: Miss::NeverSeen, text: "never built before".to_owned() };
        let name = "+app | RUN make".to_owned();
        let size = Size { columns: 80, rows: 24 };
        for kind in [
            EventKind::Added { name, step: true, inputs: Vec::new() },
            EventKind::Missed { reason },
            EventKind::Started,
        ] {
            live.event(&Event { vertex: Digest::of("a"), kind }, start, &mut Vec::new());
        }
        let mut frames = [Vec::new(), Vec::new()];
        frames.iter_mut().for_each(|out| live.frame(start, size, out));
        let [first, second] = frames.map(|out| String::from_utf8(out).expect("UTF-8"));
        assert!(first.starts_with("+app RUN make (runs: never built before)\u{1b}[K\n+app  "), "{first}");
        assert!(second.starts_with("\u{1b}[2A\r+app  "), "{second}");
    }

    #[test]
    fn what_ran_stays_the_longest_steps_of_it() {
        let (mut live, now) = at_work();
        for (number, seconds) in (0..14).map(|number| (number, number % 7)) {
            let vertex = Digest::of(format!("more {number}"));
            let name = format!("+more --NUMBER={number} | RUN step {number}");
            let duration = Duration::from_secs(seconds);
            for kind in [
                EventKind::Added { name, step: number != 6, inputs: Vec::new() },
                EventKind::Done { duration },
            ] {
                live.event(&Event { vertex, kind }, now, &mut Vec::new());
            }
        }
        insta::assert_snapshot!(live.ran(60).join("\n"));
        assert!(live.ran(60).iter().chain(&live.ran(12)).all(|line| width(line) <= 60));
        assert!(live.ran(12).iter().all(|line| width(line) <= 12));
    }

    #[test]
    fn a_hundred_running_steps_fit_a_terminal() {
        let start = Instant::now();
        let mut live = Live::new("+all", false, start);
        for number in 0..100_u64 {
            let vertex = Digest::of(number.to_string());
            let at = start + Duration::from_millis(100 - number);
            let name = format!("+all --N={number} | RUN work {number}");
            for kind in [EventKind::Added { name, step: true, inputs: Vec::new() }, EventKind::Started] {
                live.event(&Event { vertex, kind }, at, &mut Vec::new());
            }
        }
        let lines = live.lines(start + Duration::from_secs(9), Size { columns: 80, rows: 24 });
        assert_eq!(lines.len(), 23);
        assert!(lines.get(1).is_some_and(|line| line.contains("RUN work 99")), "the oldest first: {lines:?}");
        assert_eq!(lines.last().map(String::as_str), Some("  and 79 more"));
    }

    #[test]
    fn a_terminal_made_narrower_has_wrapped_the_old_lines() {
        let (mut live, now) = at_work();
        live.frame(now, Size { columns: 80, rows: 24 }, &mut Vec::new());
        let rows: usize = live.drawn.iter().map(|cells| cells.div_ceil(40)).sum();
        let mut next = Vec::new();
        live.frame(now, Size { columns: 40, rows: 24 }, &mut next);
        assert!(next.starts_with(format!("\u{1b}[{rows}A\r").as_bytes()));
    }
}
