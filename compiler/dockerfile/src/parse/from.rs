//! `FROM`: what a stage begins with.
//!
//! In: the words of the instruction. Out: a stage without steps, its name in lower case.
//! Source of the rules: BuildKit's frontend/dockerfile/instructions/parse.go, `parseFrom`.

use rb_diag::{Diagnostic, Span};

use super::flags::Flags;
use super::report::{Report, shown};
use super::statement::Statement;
use super::{keyword::Keyword, pairs};
use crate::checks::Control;
use crate::lines::Part;
use crate::{Stage, Word, codes, go};

/// Reads it; the stage's name is returned as typed, too.
pub(super) fn read(statement: Statement<'_>, report: &mut Report) -> Option<(Stage, Option<String>)> {
    let flags = Flags::read(statement.flags, Keyword::From, report);
    let words = statement.rest.fields();
    let (base, name) = match words.as_slice() {
        [base] => (base, None),
        [base, word, name] if word.text().eq_ignore_ascii_case("as") => {
            (base, Some((word.word(), stage_name(*name, report)?)))
        }
        words => {
            report.add(bad_form(words, statement.word.span()));
            return None;
        }
    };
    let description = name.as_ref().and_then(|(_, name)| pairs::description(statement.comments, &name.value));
    let typed = words.get(2).map(|name| name.text().to_owned());
    let stage = Stage {
        span: statement.span,
        keyword: statement.word.word(),
        code: statement.whole.text().to_owned(),
        base: base.word(),
        platform: flags.value("platform"),
        name,
        description,
        check: Control::of_comments(statement.comments.iter().map(|comment| comment.text.as_str())),
        steps: Vec::new(),
    };
    Some((stage, typed))
}

/// Says what is wrong with words that are no base, or a base, `AS` and a name.
fn bad_form(words: &[Part<'_>], keyword: Span) -> Diagnostic {
    let error = Diagnostic::error(codes::BAD_FROM, "FROM requires either one or three arguments");
    match words {
        [] => error
            .with_label(keyword, "no image behind this")
            .with_help("write `FROM IMAGE`; `scratch` is an empty one"),
        [_, word] if word.text().eq_ignore_ascii_case("as") => {
            error.with_label(word.span(), "no name behind this").with_help("write `FROM IMAGE AS NAME`")
        }
        [_, word, ..] if !word.text().eq_ignore_ascii_case("as") => error
            .with_label(word.span(), "only `AS` may follow the image")
            .with_help("write `FROM IMAGE AS NAME`; comments stand on lines of their own"),
        words => error
            .with_label(words.last().map_or(keyword, |word| word.span()), "nothing may follow the name")
            .with_help("write `FROM IMAGE AS NAME`; comments stand on lines of their own"),
    }
}

fn stage_name(written: Part<'_>, report: &mut Report) -> Option<Word> {
    let name = written.text().to_lowercase();
    let is_plain = |character: char| {
        character.is_ascii_lowercase() || character.is_ascii_digit() || matches!(character, '-' | '_' | '.')
    };
    if name.starts_with(|first: char| first.is_ascii_lowercase()) && name.chars().all(is_plain) {
        return Some(Word::new(name, written.span()));
    }
    let message = format!(
        "invalid name for build stage: {}, name can't start with a number or contain symbols",
        go::quote(&shown(written.text()))
    );
    let error = Diagnostic::error(codes::BAD_FROM, message).with_label(written.span(), "");
    report.add(error.with_help("a name is a letter, then letters, digits, `-`, `_` and `.`"));
    None
}
