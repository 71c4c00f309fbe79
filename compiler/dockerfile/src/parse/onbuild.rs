//! `ONBUILD`: an instruction that is kept for those who build on the image.
//!
//! In: the instruction behind the keyword. Out: its text, which the image's config keeps, and the same, read.
//! Source of the rules: BuildKit's frontend/dockerfile/instructions/parse.go, `parseOnBuild`.

use rb_diag::Diagnostic;

use super::flags::Flags;
use super::keyword::Keyword;
use super::read_step;
use super::report::Report;
use super::statement::Statement;
use crate::{Onbuild, Word, codes};

pub(super) fn read(statement: Statement<'_>, report: &mut Report) -> Option<Onbuild> {
    let inner = statement.inner();
    Flags::read(statement.flags, Keyword::Onbuild, report);
    if statement.rest.is_empty() {
        let message = "ONBUILD requires at least one argument";
        report.add(Keyword::Onbuild.missing(statement.word.span(), message));
        return None;
    }
    let place = inner.word.span();
    let keyword = Keyword::read_or_tell(inner.word, report)?;
    let refused = match keyword {
        Keyword::Onbuild => "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned(),
        Keyword::Maintainer | Keyword::From => format!("{keyword} isn't allowed as an ONBUILD trigger"),
        _ => {
            // The line goes on to its very end, blanks included, as it is kept in the image.
            let mut text = statement.to_end.text().to_owned();
            for heredoc in &statement.heredocs {
                text.push_str(&format!("\n{}{}", heredoc.raw, heredoc.name));
            }
            let text = Word::new(text, statement.rest.span());
            return Some(Onbuild { text, step: Box::new(read_step(keyword, inner, report)?) });
        }
    };
    let error = Diagnostic::error(codes::BAD_ONBUILD, refused).with_label(place, "");
    report.add(error.with_help("a trigger is any other instruction"));
    None
}
