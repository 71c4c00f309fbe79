//! Findings as text: rule, page, sentence and the lines around, in the order of the file.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use rb_diag::SourceFile;

use super::Report;

const RULE: &str = "--------------------";

/// How many characters of a line are shown.
const LONGEST: usize = 1000;

pub(super) fn text(report: &Report<'_>) -> String {
    let mut text = match report.findings.len() {
        0 if report.errors.is_empty() => return "Check complete, no warnings found.\n".to_owned(),
        0 => String::new(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        count => format!("Check complete, {count} warnings have been found!\n"),
    };
    let mut findings: Vec<_> =
        report.findings.iter().map(|finding| (finding, report.lines(finding.span))).collect();
    findings
        .sort_by_key(|(_, place)| place.as_ref().map(|(file, lines)| (file.name.clone(), *lines.start())));
    for (finding, place) in findings {
        let page = finding.rule.url().map_or_else(String::new, |url| format!(" - {url}"));
        let _ = writeln!(text, "\nWARNING: {}{page}\n{}", finding.rule.name(), plain(&finding.message));
        if let Some((file, lines)) = place {
            add_lines(&mut text, &file, lines);
        }
    }
    text
}

/// Adds lines of a file with some around: two of a single line, one of several.
pub(super) fn add_lines(text: &mut String, file: &SourceFile, marked: RangeInclusive<u32>) {
    let around = if marked.start() == marked.end() { 2 } else { 1 };
    let first = marked.start().saturating_sub(around).max(1);
    let _ = writeln!(text, "{}:{}\n{RULE}", file.name, marked.start());
    let lines = (1..).zip(file.text.split('\n'));
    let wanted = first..=marked.end().saturating_add(around);
    for (number, line) in lines.skip(first as usize - 1).take_while(|(number, _)| wanted.contains(number)) {
        let mark = if marked.contains(&number) { ">>>" } else { "   " };
        let _ = writeln!(text, " {number:3} | {mark} {}", plain(line));
    }
    let _ = writeln!(text, "{RULE}");
}

/// Returns a line as a terminal may be given it.
fn plain(line: &str) -> String {
    let shown = |character: char| match character {
        '\t' => '\t',
        control if control.is_control() || turns_round(control) => char::REPLACEMENT_CHARACTER,
        other => other,
    };
    let mut rest = line.trim_end_matches('\r').chars();
    let mut plain: String = rest.by_ref().take(LONGEST).map(shown).collect();
    if rest.next().is_some() {
        plain.push('…');
    }
    plain
}

/// Tells whether a character changes the direction of what follows, so that a text shows as another one.
fn turns_round(character: char) -> bool {
    matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
