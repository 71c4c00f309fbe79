//! Lines of a file made fit for a narrow terminal, which would break them and the marks below them anywhere.
//!
//! In: a [`Snippet`] and a width. Out: the same with long lines cut around what is marked, and what is said of places that has no
//! room beside its mark. **Invariant:** a place marks what it did, as far as that is still there.

use std::ops::Range;

use unicode_width::UnicodeWidthChar as _;

use super::fancy::Snippet;

/// What stands for what is cut.
const CUT: char = '…';

/// What miette draws between a mark and what is said of it: `╰── `.
const BRANCH_CELLS: usize = 4;

/// A line that stays, by bytes of the old text, and where it begins in the new one.
struct Line {
    kept: Range<usize>,
    /// Where what is kept begins in the new text.
    begins: usize,
}

/// Cuts the lines of a snippet to `columns`. Returns it, and texts that have to be said elsewhere.
pub(super) fn narrowed(snippet: Snippet, columns: usize) -> (Snippet, Vec<String>) {
    let gutter = snippet.text.lines().count().to_string().len() + 4;
    let room = columns.saturating_sub(gutter + 1).max(10);
    let mut text = String::with_capacity(snippet.text.len());
    let (mut lines, mut start): (Vec<Line>, usize) = (Vec::new(), 0);
    for line in snippet.text.split_inclusive('\n') {
        let body = line.trim_end_matches(['\n', '\r']);
        let marked = snippet.labels.iter().map(|(range, _)| range.start).find(|at| {
            let end = start + body.len();
            (start..=end).contains(at)
        });
        let kept = keep(body, marked.map(|at| at - start), room);
        if kept.start > 0 {
            text.push(CUT);
        }
        lines.push(Line { kept: start + kept.start..start + kept.end, begins: text.len() });
        text.push_str(&body[kept.clone()]);
        if kept.end < body.len() {
            text.push(CUT);
        }
        text.push_str(&line[body.len()..]);
        start += line.len();
    }
    let place = |at: usize| {
        let line = lines.iter().take_while(|line| line.kept.start <= at).last().or(lines.first());
        line.map_or(at, |line| line.begins + at.clamp(line.kept.start, line.kept.end) - line.kept.start)
    };
    let mut notes = Vec::new();
    let mut labels = Vec::new();
    for (range, said) in snippet.labels {
        let range = place(range.start)..place(range.end);
        let before =
            text.get(..range.start).and_then(|before| before.rsplit('\n').next()).unwrap_or_default();
        let marked = text.get(range.clone()).unwrap_or_default();
        // The branch grows from the middle of the mark.
        let needs = gutter + cells(before) + cells(marked) / 2 + BRANCH_CELLS + cells(&said);
        if needs >= columns && !said.is_empty() {
            notes.push(said);
            labels.push((range, String::new()));
        } else {
            labels.push((range, said));
        }
    }
    (Snippet { name: snippet.name, text, labels }, notes)
}

/// Returns what of a line is shown: its beginning, or if what is marked lies far behind that, what is around it.
fn keep(line: &str, marked: Option<usize>, room: usize) -> Range<usize> {
    if cells(line) <= room {
        return 0..line.len();
    }
    let column = marked.and_then(|at| line.get(..at)).map_or(0, cells);
    let (skipped, room) = if column < room / 2 { (0, room - 1) } else { (column - room / 4, room - 2) };
    let (mut used, mut kept) = (0, line.len()..line.len());
    for (at, character) in line.char_indices() {
        if used >= skipped && kept.start == line.len() {
            kept.start = at;
        }
        used += width(character);
        if used > skipped + room && kept.start < line.len() {
            kept.end = at;
            break;
        }
    }
    kept
}

fn width(character: char) -> usize {
    // miette's own, unless told otherwise.
    if character == '\t' { 4 } else { character.width().unwrap_or_default() }
}

fn cells(text: &str) -> usize {
    text.chars().map(width).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn snippet(text: &str, marked: &str) -> Snippet {
        let start = text.find(marked).expect("is in the text");
        let labels = vec![(start..start + marked.len(), "what is wrong with it".to_owned())];
        Snippet { name: "Buildfile".to_owned(), text: text.to_owned(), labels }
    }

    fn shown(text: &str, marked: &str, columns: usize) -> (String, String, Vec<String>) {
        let (cut, notes) = narrowed(snippet(text, marked), columns);
        let marked = cut.text[cut.labels[0].0.clone()].to_owned();
        (cut.text, marked, notes)
    }

    #[test]
    fn what_fits_stays() {
        let text = "VERSION 1\nt:\n    RUN a\n";
        assert_eq!(shown(text, "RUN a", 80), (text.to_owned(), "RUN a".to_owned(), Vec::new()));
    }

    #[test]
    fn long_lines_are_cut_around_what_is_marked() {
        let text = format!("t:\n    RUN {}\n    COPY {} lost\n", "x".repeat(60), "y".repeat(60));
        let (cut, marked, notes) = shown(&text, &format!("RUN {}", "x".repeat(60)), 40);
        assert_eq!(cut.lines().nth(1), Some(format!("    RUN {}…", "x".repeat(25)).as_str()));
        assert_eq!(marked, format!("RUN {}", "x".repeat(25)));
        assert_eq!(notes, ["what is wrong with it"]);
        let (cut, marked, notes) = shown(&text, "lost", 50);
        assert_eq!((marked.as_str(), notes.len()), ("lost", 0), "{cut}");
        assert!(cut.lines().nth(2).is_some_and(|line| line.starts_with("…yyy")), "{cut}");
    }

    proptest! {
        #[test]
        fn nothing_is_wider_than_there_is_room(
            text in "([a-zäß日\t ]{0,90}\n){1,6}", from in 0_usize..400, length in 0_usize..200, columns in 20_usize..100,
        ) {
            let place = |at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let range = place(from)..place(from + length);
            let (whole, labels) = (text.clone(), vec![(range, "said".to_owned())]);
            let (cut, _) = narrowed(Snippet { name: String::new(), text: whole, labels }, columns);
            prop_assert!(cut.text.lines().all(|line| cells(line) < columns));
            prop_assert_eq!(cut.text.lines().count(), text.lines().count());
            prop_assert!(cut.text.get(cut.labels[0].0.clone()).is_some());
        }
    }
}
