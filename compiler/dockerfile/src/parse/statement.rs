//! An instruction in its parts: keyword, flags, words, heredocs.
//!
//! In: a joined line, and the reader behind it. Out: a [`Statement`]; the reader stands behind its heredocs.

use rb_diag::Span;

use super::flags::{self, RawFlag};
use super::heredocs;
use super::json::{Form, form};
use super::keyword::Keyword;
use super::report::Report;
use crate::Heredoc;
use crate::lines::{Comment, Joined, Part, Reader};

/// An instruction in its parts.
pub(super) struct Statement<'a> {
    /// From the first to the last line, heredocs included.
    pub(super) span: Span,
    /// All of it, without blanks around.
    pub(super) whole: Part<'a>,
    /// Its first word, as typed.
    pub(super) word: Part<'a>,
    pub(super) flags: Vec<RawFlag<'a>>,
    /// Words behind the flags, without blanks around.
    pub(super) rest: Part<'a>,
    /// Everything behind the first word, to the very end of the line.
    pub(super) to_end: Part<'a>,
    pub(super) heredocs: Vec<Heredoc>,
    pub(super) comments: &'a [Comment],
    pub(super) escape: char,
}

impl<'a> Statement<'a> {
    /// Reads the instruction of a line with its heredocs.
    pub(super) fn read(line: &'a Joined, reader: &mut Reader<'_>, escape: char, report: &mut Report) -> Self {
        let mut statement = Self::split(line.part(), escape, &line.comments);
        if statement.takes_heredocs() {
            statement.heredocs = heredocs::read(line.part(), reader, report);
        }
        statement.span = Span { end: reader.end_of_last_line(), ..line.span };
        statement
    }

    /// Reads the instruction that a trigger keeps; its heredocs are those of the trigger.
    pub(super) fn inner(&self) -> Self {
        let inner = Self::split(self.rest, self.escape, &[]);
        Self { span: self.span, heredocs: self.heredocs.clone(), ..inner }
    }

    fn split(line: Part<'a>, escape: char, comments: &'a [Comment]) -> Self {
        let whole = line.trim();
        let (word, behind) = whole.split_blank();
        let behind = behind.unwrap_or_else(|| word.from(word.text().len()));
        let (flags, rest) = flags::split(behind, escape);
        let start =
            line.text().len() - line.text().trim_start().len() + (whole.text().len() - behind.text().len());
        Self {
            span: whole.span(),
            whole,
            word,
            flags,
            rest: rest.trim(),
            to_end: line.from(start),
            heredocs: Vec::new(),
            comments,
            escape,
        }
    }

    /// Returns whether `<<NAME` in it opens a heredoc: in a command for a shell, and among files that are copied.
    fn takes_heredocs(&self) -> bool {
        match Keyword::read(self.word.text()) {
            Some(Keyword::Onbuild) => {
                let inner = self.inner();
                Keyword::read(inner.word.text()) != Some(Keyword::Onbuild) && inner.takes_heredocs()
            }
            Some(Keyword::Run | Keyword::Copy | Keyword::Add) => matches!(form(self.rest), Form::Plain),
            _ => false,
        }
    }
}
