//! `KEY=value` of `ENV` and `LABEL`, and names of `ARG`.
//!
//! In: the words of the instruction. Out: keys and values as written, with quotes, escapes and variables.
//! Source of the rules: BuildKit's frontend/dockerfile/parser/line_parsers.go, `parseWords` and `parseNameVal`.

use rb_diag::Diagnostic;

use super::instructions::Words;
use super::keyword::Keyword;
use super::report::{Report, shown};
use crate::lines::{Comment, Part};
use crate::{ArgDefinition, Pair, codes, go};

/// Reads `KEY=value …`, or `KEY value` as it was written before. What is right is returned also where a part is wrong.
pub(super) fn read(line: Words<'_>, escape: char, report: &mut Report) -> Option<Vec<Pair>> {
    let words = words(line.rest, escape);
    let Some(first) = words.first() else {
        line.tell_missing(report);
        return None;
    };
    if !first.text().contains('=') {
        return old_pair(line, report).map(|pair| vec![pair]);
    }
    let mut pairs = Vec::new();
    for word in words {
        match word.text().find('=') {
            Some(0) => report.add(blank(word, line.keyword)),
            Some(at) => pairs.push(Pair {
                key: word.slice(0..at).word(),
                value: word.from(at + 1).word(),
                legacy: false,
            }),
            None => {
                let message = format!(
                    "Syntax error - can't find = in {}. Must be of the form: name=value",
                    go::quote(&shown(word.text()))
                );
                let error = Diagnostic::error(codes::BAD_PAIR, message)
                    .with_label(word.span(), "neither key nor value");
                report.add(error.with_help("values with blanks stand in quotes: `KEY=\"a value\"`"));
            }
        }
    }
    (!pairs.is_empty()).then_some(pairs)
}

fn old_pair(line: Words<'_>, report: &mut Report) -> Option<Pair> {
    let name = line.keyword;
    let (key, value) = line.rest.split_blank();
    let Some(value) = value else {
        let error = Diagnostic::error(codes::BAD_PAIR, format!("{name} must have two arguments"));
        let error = error.with_label(key.span(), "a key without a value");
        report.add(error.with_help(format!("write `{name} {}=VALUE`", shown(key.text()))));
        return None;
    };
    Some(Pair { key: key.word(), value: value.word(), legacy: true })
}

/// Reads `NAME[=default] …`.
pub(super) fn definitions(
    line: Words<'_>,
    escape: char,
    comments: &[Comment],
    report: &mut Report,
) -> Option<Vec<ArgDefinition>> {
    let words = words(line.rest, escape);
    if words.is_empty() {
        line.tell_missing(report);
        return None;
    }
    let mut definitions = Vec::new();
    for word in words {
        let (name, default) = match word.text().find('=') {
            Some(0) => {
                report.add(blank(word, line.keyword));
                continue;
            }
            Some(at) => (word.slice(0..at), Some(word.from(at + 1).word())),
            None => (word, None),
        };
        let description = description(comments, name.text());
        definitions.push(ArgDefinition { name: name.word(), default, description });
    }
    (!definitions.is_empty()).then_some(definitions)
}

/// Returns what a comment above says of a name.
pub(super) fn description(comments: &[Comment], name: &str) -> Option<String> {
    let mut texts = comments.iter().filter_map(|comment| comment.text.strip_prefix(name)?.strip_prefix(' '));
    texts.next().map(str::to_owned)
}

fn blank(word: Part<'_>, name: Keyword) -> Diagnostic {
    Diagnostic::error(codes::BAD_PAIR, format!("{name} names can not be blank"))
        .with_label(word.span(), "no name before `=`")
        .with_help(format!("write `{name} NAME{}`", shown(word.text())))
}

/// Parts words at blanks that are neither quoted nor escaped; quotes and escapes stay in them.
fn words(rest: Part<'_>, escape: char) -> Vec<Part<'_>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut end = 0;
    let mut quote = None;
    let mut characters = rest.text().char_indices();
    while let Some((at, character)) = characters.next() {
        if quote.is_none() && character.is_whitespace() {
            words.extend(start.take().map(|start| rest.slice(start..end)));
            continue;
        }
        let start = *start.get_or_insert(at);
        end = at + character.len_utf8();
        if character == escape && quote != Some('\'') {
            // One at the very end escapes nothing and is left out.
            end = match characters.next() {
                Some((at, escaped)) => at + escaped.len_utf8(),
                None => at.max(start),
            };
        } else if quote == Some(character) {
            quote = None;
        } else if quote.is_none() && matches!(character, '\'' | '"') {
            quote = Some(character);
        }
    }
    words.extend(start.map(|start| rest.slice(start..end)).filter(|word| !word.is_empty()));
    words
}
