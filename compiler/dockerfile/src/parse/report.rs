//! Where what is found in one file gathers.

use rb_diag::{Diagnostic, Diagnostics, nearest};

use crate::checks::Finding;
use crate::codes;

/// More errors than this are not listed: nobody reads them, and a hostile file must not fill memory.
const MAX_ERRORS: usize = 1000;

/// A name longer than this is near to none.
const MAX_NAME: usize = 64;

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    errors: Diagnostics,
    more: usize,
    /// Something is wrong that makes other lines part of it, or parts of it other lines.
    pub(crate) swallows: bool,
    /// Empty lines within instructions, which are told before everything else.
    pub(crate) empty_lines: Vec<Finding>,
    pub(crate) findings: Vec<Finding>,
}

impl Report {
    /// Adds an error.
    pub(crate) fn add(&mut self, error: Diagnostic) {
        self.add_with(|| error);
    }

    /// Adds an error that takes long to make; it is not made if it would not be listed.
    pub(crate) fn add_with(&mut self, error: impl FnOnce() -> Diagnostic) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(error());
        } else {
            self.more += 1;
        }
    }

    /// Returns how many errors there are.
    pub(crate) fn count(&self) -> usize {
        self.errors.len() + self.more
    }

    /// Returns how many of them are not listed.
    pub(crate) fn unlisted(&self) -> usize {
        self.more
    }

    /// Returns the errors in the order of the text, and the findings.
    pub(crate) fn finish(mut self) -> (Diagnostics, Vec<Finding>) {
        self.errors.sort_by_key(|found| found.labels.first().map(|label| label.span.start));
        if self.more > 0 {
            let message = format!("{} more errors are not listed", self.more);
            self.errors
                .push(Diagnostic::error(codes::TOO_MANY_ERRORS, message).with_help("mend the first ones"));
        }
        self.empty_lines.append(&mut self.findings);
        (self.errors, self.empty_lines)
    }
}

/// Adds to an error what to type instead: a near name, or all names there are.
pub(crate) fn with_names<'a>(
    error: Diagnostic,
    name: &str,
    what: &str,
    names: impl IntoIterator<Item = &'a str> + Clone,
) -> Diagnostic {
    let near = if name.len() > MAX_NAME { None } else { nearest(name, names.clone()) };
    match near {
        Some(near) => error.with_nearest(Some(near)),
        None => {
            let names: Vec<&str> = names.into_iter().collect();
            error.with_help(format!("{what}: {}", names.join(", ")))
        }
    }
}

/// Returns a text as a message may show it: on one line, not too long.
pub(crate) fn shown(text: &str) -> String {
    const MAX_CHARACTERS: usize = 48;
    let plain = |character: char| if character.is_control() { ' ' } else { character };
    let mut shown: String = text.chars().take(MAX_CHARACTERS).map(plain).collect();
    if text.chars().nth(MAX_CHARACTERS).is_some() {
        shown.push('…');
    }
    shown
}
