//! Where the findings of one file gather.

use rb_diag::{Diagnostic, Diagnostics};

use crate::codes;

/// More errors than this are not listed: nobody reads them, and a hostile file must not fill memory.
const MAX_DIAGNOSTICS: usize = 1000;

/// The findings so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    found: Diagnostics,
    more: usize,
}

impl Report {
    /// Adds a finding.
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        if self.found.len() < MAX_DIAGNOSTICS {
            self.found.push(diagnostic);
        } else {
            self.more += 1;
        }
    }

    /// Returns the findings in the order of the text.
    pub(crate) fn finish(mut self) -> Diagnostics {
        self.found.sort_by_key(|found| found.labels.first().map(|label| label.span.start));
        if self.more > 0 {
            let message = format!("{} more errors are not listed", self.more);
            self.found
                .push(Diagnostic::error(codes::TOO_MANY_ERRORS, message).with_help("mend the first ones"));
        }
        self.found
    }
}

/// Returns `text` as a message may show it: on one line, without control characters, not too long.
pub(crate) fn shown(text: &str) -> String {
    const MAX_CHARACTERS: usize = 48;
    let mut shown: String =
        text.chars().take(MAX_CHARACTERS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MAX_CHARACTERS).is_some() {
        shown.push('…');
    }
    shown
}

/// Returns the candidate that `name` most likely misspells; a name longer than any candidate could be has none.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > 64 { None } else { rb_diag::nearest(name, candidates) }
}
