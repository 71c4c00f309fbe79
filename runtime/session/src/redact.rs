//! Values of secrets struck out of what a step writes.
//!
//! In: the values, and a stream in pieces. Out: the stream with `***` in their places.
//! **Invariant:** a value that a step writes is handed on in no piece, wherever pieces break.

use crate::Secret;

/// A shorter value is more likely part of something else than a secret that slipped out.
const SHORTEST_BYTES: usize = 4;
/// The same of one line of a value of several, where words are likelier.
const SHORTEST_LINE_BYTES: usize = 8;
/// Parameters of an escape sequence; with more it is none.
const LONGEST_ESCAPE_BYTES: usize = 64;
/// As much is passed over inside of a value: what is held back stays small.
const MOST_PASSED_OVER_BYTES: usize = 1024;
/// What stands for a value.
const STRUCK: &[u8] = b"***";

/// Strikes values out of a stream, wherever its pieces break.
///
/// What may yet become a value is held back until more comes, or the end. A line break at the end of a value is not
/// part of it: shells take it away. Of a value of several lines, such as a key, each line is struck out, too: programs print
/// them one by one, or indented. Escape sequences and control bytes inside of a value are passed over, as whoever shows the
/// output takes them away.
#[derive(Debug)]
pub struct Redactor {
    /// The longest first, so that one that begins with another is struck out whole.
    values: Vec<Secret>,
    /// Bytes that one of them begins with: most of a stream is none, and goes by quickly.
    first: [bool; 256],
    held: Vec<u8>,
}

impl Redactor {
    /// Strikes out these.
    pub fn new(values: &[Secret]) -> Self {
        let whole = values.iter().filter(|value| core(value).len() >= SHORTEST_BYTES).cloned();
        let mut values: Vec<Secret> = whole.chain(values.iter().flat_map(lines)).collect();
        values.sort_by_key(|value| std::cmp::Reverse(core(value).len()));
        let mut first = [false; 256];
        for byte in values.iter().filter_map(|value| core(value).first()) {
            first[usize::from(*byte)] = true;
        }
        Self { values, first, held: Vec::new() }
    }

    /// Takes a piece and hands on what is certain.
    pub fn push(&mut self, piece: &[u8], out: &mut dyn FnMut(&[u8])) {
        if self.values.is_empty() {
            return out(piece);
        }
        self.held.extend_from_slice(piece);
        let held = std::mem::take(&mut self.held);
        let (mut at, mut clean) = (0, Vec::with_capacity(held.len()));
        while let Some(rest) = held.get(at..).filter(|rest| !rest.is_empty()) {
            let plain = rest.iter().position(|byte| self.first[usize::from(*byte)]).unwrap_or(rest.len());
            let (plain, rest) = rest.split_at(plain);
            clean.extend_from_slice(plain);
            at += plain.len();
            if rest.is_empty() {
                break;
            }
            // A value that has come as far as the stream may be longer than one that is complete.
            let (mut whole, mut is_part) = (None, false);
            for value in &self.values {
                match fit(rest, core(value)) {
                    Fit::Part => is_part = true,
                    Fit::Whole { bytes, passed_over } if whole.is_none() => {
                        whole = Some((bytes, passed_over));
                    }
                    Fit::Whole { .. } | Fit::No => {}
                }
            }
            if is_part {
                break;
            }
            match whole {
                Some((bytes, passed_over)) => {
                    clean.extend_from_slice(STRUCK);
                    clean.extend_from_slice(&passed_over);
                    at += bytes;
                }
                None => {
                    clean.extend(rest.first());
                    at += 1;
                }
            }
        }
        self.held = held.get(at..).unwrap_or_default().to_vec();
        if !clean.is_empty() {
            out(&clean);
        }
    }

    /// Hands on what was held back: the stream has ended.
    pub fn finish(mut self, out: &mut dyn FnMut(&[u8])) {
        let mut rest = std::mem::take(&mut self.held);
        // What was held for the sake of a longer value may hold a shorter one.
        while let Some(longest) = self.values.first().map(|value| core(value).len()) {
            self.values.retain(|value| core(value).len() < longest);
            let mut clean = Vec::new();
            self.push(&rest, &mut |bytes| clean.extend_from_slice(bytes));
            clean.append(&mut self.held);
            rest = clean;
        }
        if !rest.is_empty() {
            out(&rest);
        }
    }
}

/// How the beginning of a stream fits a value.
enum Fit {
    /// All of it stands there, in so many bytes, escape sequences among them.
    Whole {
        bytes: usize,
        passed_over: Vec<u8>,
    },
    /// It may, once more has come.
    Part,
    No,
}

fn fit(stream: &[u8], value: &[u8]) -> Fit {
    let (mut rest, mut passed_over) = (stream, Vec::new());
    for (number, byte) in value.iter().enumerate() {
        loop {
            match rest.split_first() {
                None => return Fit::Part,
                Some((found, behind)) if found == byte => {
                    rest = behind;
                    break;
                }
                Some(_) if number == 0 => return Fit::No,
                Some(_) => match unseen(rest) {
                    None => return Fit::Part,
                    Some(bytes) if bytes == 0 || passed_over.len() + bytes > MOST_PASSED_OVER_BYTES => {
                        return Fit::No;
                    }
                    Some(bytes) => {
                        let (sequence, behind) = rest.split_at(bytes);
                        passed_over.extend_from_slice(sequence);
                        rest = behind;
                    }
                },
            }
        }
    }
    Fit::Whole { bytes: stream.len() - rest.len(), passed_over }
}

/// Returns how many bytes at the beginning are an escape sequence or a control byte, 0 where it is text; nothing where the
/// end of a sequence is yet to come.
fn unseen(bytes: &[u8]) -> Option<usize> {
    let Some((first, behind)) = bytes.split_first() else { return Some(0) };
    match (first, behind.first()) {
        (b'\t' | b'\n' | b'\r', _) => Some(0),
        (0x1b, None) => None,
        (0x1b, Some(kind)) => {
            // `ESC [ 0 ; 31 m`, and `ESC ( B`, which `tput sgr0` writes.
            let (before, parameters) = if *kind == b'[' { (2, 0x20..=0x3f) } else { (1, 0x20..=0x2f) };
            let tail = bytes.get(before..).unwrap_or_default();
            match tail.iter().take(LONGEST_ESCAPE_BYTES).position(|byte| !parameters.contains(byte)) {
                Some(at) => Some(before + at + 1),
                None if tail.len() < LONGEST_ESCAPE_BYTES => None,
                None => Some(0),
            }
        }
        (byte, _) if byte.is_ascii_control() => Some(1),
        _ => Some(0),
    }
}

/// Returns the lines of a value of several.
fn lines(value: &Secret) -> impl Iterator<Item = Secret> {
    let several = Some(core(value)).filter(|value| value.contains(&b'\n')).unwrap_or_default();
    let lines = several.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.filter(|line| line.len() >= SHORTEST_LINE_BYTES).map(Secret::new)
}

/// A value without the line break at its end.
fn core(value: &Secret) -> &[u8] {
    let bytes = value.as_ref();
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn struck(values: &[&str], pieces: &[&str]) -> String {
        let values: Vec<Secret> = values.iter().map(|value| Secret::new(*value)).collect();
        let mut redactor = Redactor::new(&values);
        let mut all = Vec::new();
        for piece in pieces {
            redactor.push(piece.as_bytes(), &mut |bytes| all.extend_from_slice(bytes));
        }
        redactor.finish(&mut |bytes| all.extend_from_slice(bytes));
        String::from_utf8(all).expect("text")
    }

    #[test]
    fn values_are_struck_out_wherever_pieces_break() {
        let text = "a hunter2 b hunter2hunter2 hunte hunter3 hunt";
        let expected = "a *** b ****** hunte hunter3 hunt";
        for cut in 0..text.len() {
            let (left, right) = text.split_at(cut);
            assert_eq!(struck(&["hunter2\n"], &[left, right]), expected, "{cut}");
        }
        let letters: Vec<&str> = text.split("").collect();
        assert_eq!(struck(&["hunter2"], &letters), expected);
    }

    #[test]
    fn the_longest_value_wins_and_short_ones_are_left() {
        assert_eq!(struck(&["pass", "password"], &["passwo", "rd passwo", "x"]), "*** ***wox");
        assert_eq!(struck(&["pass", "password"], &["the passwor"]), "the ***wor");
        assert_eq!(struck(&["abc", ""], &["abcabc"]), "abcabc");
        assert_eq!(struck(&["aaab"], &["aa", "aaab"]), "aa***");
    }

    #[test]
    fn a_value_is_struck_out_through_colours() {
        let text =
            "\u{1b}[1mhun\u{1b}[0;31mter\u{1b}(B\u{1b}[m2! h\0u\0n\0t\0e\0r\u{0}2 hun\nter2 hun\u{1b}[1mdred";
        let expected = "\u{1b}[1m***\u{1b}[0;31m\u{1b}(B\u{1b}[m! ***\0\0\0\0\0\0 hun\nter2 hun\u{1b}[1mdred";
        for cut in 0..text.len() {
            let (left, right) = text.split_at(cut);
            assert_eq!(struck(&["hunter2"], &[left, right]), expected, "{cut}");
        }
        // What never ends is no sequence, and what ends with the stream is handed on.
        let endless = format!("hun\u{1b}[{}", "0".repeat(100));
        assert_eq!(struck(&["hunter2"], &[&endless]), endless);
        assert_eq!(struck(&["hunter2"], &["hun\u{1b}[3"]), "hun\u{1b}[3");
        let mut redactor = Redactor::new(&[Secret::new("hunter2")]);
        let mut seen = Vec::new();
        redactor.push(&[b"hun".as_slice(), &[0; 2000]].concat(), &mut |bytes| seen.extend_from_slice(bytes));
        assert_eq!(seen.len(), 2003);
    }

    #[test]
    fn lines_of_a_value_are_struck_out_one_by_one() {
        let key = "-----BEGIN KEY-----\r\nMIIEvQIBADAN\r\nBKcw\r\n-----END KEY-----\r\n";
        assert_eq!(struck(&[key], &[key]), "***\r\n");
        assert_eq!(
            struck(&[key], &["| -----BEGIN KEY-----\n| MIIEvQ", "IBADAN\n| BKcw\n| -----END KEY----"]),
            "| ***\n| ***\n| BKcw\n| -----END KEY----"
        );
        assert_eq!(struck(&["{\n  \"a\": \"hunter22\"\n}"], &["{ \"a\": \"hunter22\" }"]), "{ *** }");
    }

    #[test]
    fn what_cannot_become_a_value_is_not_held_back() {
        let mut redactor = Redactor::new(&[Secret::new("hunter2")]);
        let mut seen = Vec::new();
        redactor.push(b"> ", &mut |bytes| seen.extend_from_slice(bytes));
        assert_eq!(seen, b"> ");
    }
}
