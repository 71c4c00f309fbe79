//! `FROM`: what a stage begins with.
//!
//! In: the words of the instruction. Out: a stage without steps, its name in lower case. One that is wrong is a stage, too, so
//! that what follows is looked at.
//! Source of the rules: BuildKit's frontend/dockerfile/instructions/parse.go, `parseFrom`.

use rb_diag::{Diagnostic, Span};

use super::flags::Flags;
use super::report::{Report, shown};
use super::statement::Statement;
use super::{keyword::Keyword, pairs};
use crate::checks::Control;
use crate::lines::Part;
use crate::{Stage, Word, codes, go};

/// What was read.
pub(super) struct From {
    pub(super) stage: Stage,
    /// The stage's name as typed.
    pub(super) typed: Option<String>,
    /// It may have a name, which cannot be told.
    pub(super) hides_name: bool,
}

/// Reads it.
pub(super) fn read(statement: Statement<'_>, report: &mut Report) -> From {
    let before = report.count();
    let flags = Flags::read(statement.flags, Keyword::From, report);
    let words = statement.rest.fields();
    let mut hides_name = false;
    let (base, name) = match words.as_slice() {
        [base] => (base.word(), None),
        [base, word, name] if word.text().eq_ignore_ascii_case("as") => {
            (base.word(), Some((word.word(), stage_name(*name, report))))
        }
        words => {
            report.add(bad_form(words, statement.word.span()));
            hides_name = true;
            (Word::new(String::new(), statement.word.span()), None)
        }
    };
    let description = name.as_ref().and_then(|(_, name)| pairs::description(statement.comments, &name.value));
    let typed = name.as_ref().and_then(|_| words.get(2)).map(|name| name.text().to_owned());
    let stage = Stage {
        span: statement.span,
        keyword: statement.word.word(),
        code: statement.whole.text().to_owned(),
        base,
        platform: flags.value("platform"),
        name,
        description,
        check: Control::of_comments(statement.comments.iter().map(|comment| comment.text.as_str())),
        is_wrong: report.count() > before,
        torn_at: None,
        steps: Vec::new(),
    };
    From { stage, typed, hides_name }
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

/// Returns the name of a stage, and tells if it can be none.
fn stage_name(written: Part<'_>, report: &mut Report) -> Word {
    let name = written.text().to_lowercase();
    let is_plain = |character: char| {
        character.is_ascii_lowercase() || character.is_ascii_digit() || matches!(character, '-' | '_' | '.')
    };
    if name.starts_with(|first: char| first.is_ascii_lowercase()) && name.chars().all(is_plain) {
        return Word::new(name, written.span());
    }
    let message = format!(
        "invalid name for build stage: {}, name can't start with a number or contain symbols",
        go::quote(&shown(written.text()))
    );
    let error = Diagnostic::error(codes::BAD_FROM, message).with_label(written.span(), "");
    report.add(error.with_help("a name is a letter, then letters, digits, `-`, `_` and `.`"));
    Word::new(name, written.span())
}
