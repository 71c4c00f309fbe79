//! Text of strangers made fit for a terminal, and numbers for people.
//!
//! Output of commands may hold anything: broken UTF-8, cursor movements, lines without end. Here it is split into
//! lines, cleaned, and cut to a width in cells.

use std::borrow::Cow;
use std::time::Duration;

use unicode_width::UnicodeWidthChar;

/// A line longer than this is broken.
const LINE_LIMIT_BYTES: usize = 64 << 10;

/// Splits a stream of bytes into lines. Keeps an unfinished line for later.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    held: Vec<u8>,
}

impl Lines {
    /// Takes bytes and gives every finished line, without its end.
    pub(crate) fn push(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8])) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (head, tail) = rest.split_at(end);
            rest = tail.get(1..).unwrap_or_default();
            if self.held.is_empty() {
                line(head);
            } else {
                self.held.extend_from_slice(head);
                line(&std::mem::take(&mut self.held));
            }
        }
        self.held.extend_from_slice(rest);
        while self.held.len() > LINE_LIMIT_BYTES {
            let tail = self.held.split_off(LINE_LIMIT_BYTES);
            line(&std::mem::replace(&mut self.held, tail));
        }
    }

    /// Returns the unfinished line, if there is one.
    pub(crate) fn rest(&mut self) -> Option<Vec<u8>> {
        (!self.held.is_empty()).then(|| std::mem::take(&mut self.held))
    }
}

/// Returns what a terminal would show of a line that overwrites itself by carriage returns.
pub(crate) fn overwritten(line: &[u8]) -> &[u8] {
    line.rsplit(|byte| *byte == b'\r').find(|part| !part.is_empty()).unwrap_or_default()
}

/// Drops control characters and escape sequences, except, where `keep_colours`, those that colour. Tabs become spaces
/// only where colours are dropped too: a line to be measured must not hold any.
pub(crate) fn clean(text: &str, keep_colours: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match character {
            '\u{1b}' => escape(&mut rest, keep_colours, &mut out),
            '\t' if keep_colours => out.push('\t'),
            '\t' => out.push_str("    "),
            character if character.is_control() || turns_round(character) => {}
            character => out.push(character),
        }
    }
    out
}

/// Returns whether a text is printable ASCII alone, which [`clean`] leaves as it is.
pub(super) fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Returns whether a character changes the direction of what follows, so that a text shows as another one.
pub(crate) fn turns_round(character: char) -> bool {
    matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Reads one escape sequence behind its ESC. Source: ECMA-48, sections 5.4 and 5.6.
fn escape(rest: &mut std::str::Chars<'_>, keep_colours: bool, out: &mut String) {
    match rest.next() {
        Some('[') => {
            let start = rest.as_str();
            let Some(end) = start.find(|character: char| ('\u{40}'..='\u{7e}').contains(&character)) else {
                *rest = "".chars();
                return;
            };
            let (body, tail) = start.split_at(end + 1);
            *rest = tail.chars();
            let digits = body
                .strip_suffix('m')
                .filter(|body| body.bytes().all(|byte| byte.is_ascii_digit() || byte == b';'));
            if keep_colours && digits.is_some() {
                out.push_str("\u{1b}[");
                out.push_str(body);
            }
        }
        // Strings (titles, links): up to BEL or ESC \.
        Some(']' | 'P' | '_' | '^' | 'X') => {
            let text = rest.as_str();
            let bell = text.find('\u{7}').map(|at| at + 1);
            let terminator = text.find("\u{1b}\\").map(|at| at + 2);
            let end = match (bell, terminator) {
                (Some(bell), Some(terminator)) => bell.min(terminator),
                (end, None) | (None, end) => end.unwrap_or(text.len()),
            };
            *rest = text.get(end..).unwrap_or_default().chars();
        }
        // An intermediate byte has one more behind it: `ESC ( B`.
        Some(' '..='/') => {
            rest.next();
        }
        Some(_) | None => {}
    }
}

/// Returns how many cells a text without control characters takes.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(|character| character.width().unwrap_or_default()).sum()
}

/// Cuts a text to `cells`, with `…` where something is missing.
pub(crate) fn fit(text: &str, cells: usize) -> Cow<'_, str> {
    if width(text) <= cells {
        return Cow::Borrowed(text);
    }
    let mut used = 0;
    let room = cells.saturating_sub(1);
    let kept = text.chars().take_while(|character| {
        used += character.width().unwrap_or_default();
        used <= room
    });
    let mut out: String = kept.collect();
    if cells > 0 {
        out.push('…');
    }
    Cow::Owned(out)
}

/// Breaks a text into lines of at most `cells` where there are spaces, but not within backquotes, since what stands there is
/// to be copied; lines behind the first begin with `indent`. What has no place to break is longer.
pub(crate) fn fill(text: &str, cells: usize, indent: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, line) in text.split('\n').enumerate() {
        let mut used = 0;
        if at > 0 {
            out.push('\n');
            out.push_str(indent);
            used = width(indent);
        }
        let mut quoted = false;
        let words = line.split(move |character| {
            quoted ^= character == '`';
            character == ' ' && !quoted
        });
        for (at, word) in words.enumerate() {
            let needs = width(word);
            if at > 0 && used + 1 + needs > cells {
                out.truncate(out.trim_end_matches(' ').len());
                out.push('\n');
                out.push_str(indent);
                used = width(indent);
            } else if at > 0 {
                out.push(' ');
                used += 1;
            }
            out.push_str(word);
            used += needs;
        }
    }
    out
}

/// Formats a number for people: `1,234,567`.
pub(super) fn human_count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Formats a duration for people: `0.03s`, `4.2s`, `3m07s`, `2h05m`.
pub(crate) fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 if duration < Duration::from_millis(100) => format!("{:.2}s", duration.as_secs_f64()),
        0..60 => format!("{:.1}s", duration.as_secs_f64()),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Formats a number of bytes for people, in powers of 1000: `17 B`, `4.2 kB`, `1.5 GB`.
pub(crate) fn human_bytes(bytes: u64) -> String {
    in_units(bytes, 1000.0, ["kB", "MB", "GB", "TB", "PB"])
}

/// Formats an amount of memory in the powers of 1024 in which it is typed: `100.0 MiB`.
pub(crate) fn human_memory(bytes: u64) -> String {
    in_units(bytes, 1024.0, ["KiB", "MiB", "GiB", "TiB", "PiB"])
}

fn in_units(bytes: u64, base: f64, units: [&str; 5]) -> String {
    let mut value = bytes as f64;
    if value < base {
        return format!("{bytes} B");
    }
    value /= base;
    let mut unit = 0;
    // What would be rounded up to the next unit belongs to it.
    while value >= base - 0.05 && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    format!("{value:.1} {}", units.get(unit).copied().unwrap_or_default())
}

/// Splits the name of a step into the target it is of, or the stage, and what it does: `+app --A=1 | RUN make` at its ` | `; of
/// a Dockerfile's `[linux/arm64 build 2/5] RUN make` the stage is `[linux/arm64 build`, so that it is no target's name and has no
/// number: steps are the same ones where one more stands above them. The first is "" where there is none.
pub(crate) fn divided(name: &str) -> (&str, &str) {
    of_stage(name).or_else(|| name.split_once(" | ")).unwrap_or(("", name))
}

fn of_stage(name: &str) -> Option<(&str, &str)> {
    let (before, what) = name.strip_prefix('[').and_then(|_| name.split_once("] "))?;
    let number = before.rsplit([' ', '[']).next()?;
    let (at, all) = number.split_once('/')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let stage = before.strip_suffix(number)?.trim_end();
    (is_number(at) && is_number(all)).then_some((stage, what))
}

/// Returns a target without its arguments. Folders may have spaces in their names; a stage of a Dockerfile has no arguments.
pub(crate) fn bare_target(label: &str) -> &str {
    if label.starts_with('[') {
        return label;
    }
    let name = label.find('+').unwrap_or(0);
    let end = label.get(name..).and_then(|rest| rest.find(' '));
    end.and_then(|end| label.get(..name + end)).unwrap_or(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_ends_before_its_arguments_and_not_in_its_folder() {
        for (label, bare) in [
            ("+a --X=1 2", "+a"),
            ("./my app+a --X=+b", "./my app+a"),
            ("./my app+a", "./my app+a"),
            ("words without", "words"),
            ("", ""),
        ] {
            assert_eq!(bare_target(label), bare);
        }
    }

    #[test]
    fn names_of_steps_have_a_target_or_a_stage() {
        for (name, expected) in [
            ("+app --A=1 | RUN make", ("+app --A=1", "RUN make")),
            ("[build 2/5] RUN [ -e x ] | y", ("[build", "RUN [ -e x ] | y")),
            ("[build 12/15] COPY a b", ("[build", "COPY a b")),
            ("[build  2/15] COPY a b", ("[build", "COPY a b")),
            ("[linux/arm64 stage-1 1/1] COPY a /", ("[linux/arm64 stage-1", "COPY a /")),
            ("[2/5] RUN x", ("[", "RUN x")),
            ("[internal] load build context", ("", "[internal] load build context")),
            ("[context base] OCI load", ("", "[context base] OCI load")),
            ("[a/b] x", ("", "[a/b] x")),
            ("[half", ("", "[half")),
            ("look up alpine", ("", "look up alpine")),
        ] {
            assert_eq!(divided(name), expected);
        }
        assert_eq!(bare_target("[linux/arm64 build"), "[linux/arm64 build");
    }

    fn lines(pieces: &[&[u8]]) -> (Vec<String>, Option<String>) {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        for piece in pieces {
            lines.push(piece, |line| out.push(String::from_utf8_lossy(line).into_owned()));
        }
        (out, lines.rest().map(|rest| String::from_utf8_lossy(&rest).into_owned()))
    }

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let expected = (["ab", "", "c"].map(str::to_owned).to_vec(), Some("d".to_owned()));
        assert_eq!(lines(&[b"ab\n\nc\nd"]), expected);
        assert_eq!(lines(&[b"a", b"b\n", b"\nc", b"\n", b"d"]), expected);
        let (out, rest) = lines(&[&vec![b'x'; 3 * LINE_LIMIT_BYTES]]);
        assert_eq!((out.len(), rest.map(|rest| rest.len())), (2, Some(LINE_LIMIT_BYTES)));
    }

    #[test]
    fn escapes_go_and_colours_may_stay() {
        let text =
            "\u{1b}[31mred\u{1b}[0m\u{1b}[2K\u{1b}]0;title\u{7} a\u{8}b\tc\u{1b}(B\u{1b}]8;;x\u{1b}\\link";
        assert_eq!(clean(text, false), "red ab    clink");
        assert_eq!(clean(text, true), "\u{1b}[31mred\u{1b}[0m ab\tclink");
        assert_eq!(clean("a\u{1b}[12;3", true), "a");
        assert_eq!(clean("a\u{1b}", true), "a");
    }

    #[test]
    fn a_line_that_overwrites_itself_shows_its_end() {
        assert_eq!(overwritten(b"10%\r50%\r100%"), b"100%");
        assert_eq!(overwritten(b"crlf\r"), b"crlf");
        assert_eq!(overwritten(b"\r"), b"");
    }

    #[test]
    fn fit_counts_cells_not_characters() {
        assert_eq!(fit("abc", 3), "abc");
        assert_eq!(fit("abcd", 3), "ab…");
        assert_eq!(fit("日本語", 6), "日本語");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("日本語", 4), "日…");
        assert_eq!(fit("abc", 0), "");
        for cells in 0..12 {
            assert!(width(&fit("a日b本\u{301}c語d", cells)) <= cells, "{cells}");
        }
    }

    #[test]
    fn lines_break_at_spaces_and_not_in_what_is_to_be_copied() {
        let text = "set it, or type `rb logs --failed +app` now";
        assert_eq!(fill(text, 99, "  "), text);
        assert_eq!(fill(text, 20, "  "), "set it, or type\n  `rb logs --failed +app`\n  now");
        assert_eq!(fill("a\nb  c", 5, "> "), "a\n> b\n> c");
        assert_eq!(fill("", 5, "> "), "");
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(human_count), ["0", "999", "1,000", "1,234,567"]);
        let duration = |milliseconds| human_duration(Duration::from_millis(milliseconds));
        assert_eq!(
            [30, 840, 59_900, 187_000, 7_500_000].map(duration),
            ["0.03s", "0.8s", "59.9s", "3m07s", "2h05m"]
        );
        assert_eq!(
            [17, 999, 4_200, 999_999, 1_500_000_000].map(human_bytes),
            ["17 B", "999 B", "4.2 kB", "1.0 MB", "1.5 GB"]
        );
        assert_eq!(
            [17, 1023, (1 << 20) - 1, 100 << 20, 3 << 29].map(human_memory),
            ["17 B", "1023 B", "1.0 MiB", "100.0 MiB", "1.5 GiB"]
        );
    }
}
