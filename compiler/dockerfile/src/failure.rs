//! From what the outside says to diagnostics.

use rb_diag::{Diagnostic, Span};
use rb_frontend::WorldError;

/// What can be told of at most one thing.
pub(crate) type Fallible<T> = Result<T, Diagnostic>;

/// Tells that the outside could not answer; `at` is what asked, if it stands in the file.
pub(crate) fn world(code: &'static str, error: &WorldError, at: Option<Span>) -> Diagnostic {
    let found = Diagnostic::error(code, error.to_string()).with_kind(error.kind());
    let found = at.into_iter().fold(found, |found, at| found.with_label(at, ""));
    match error {
        WorldError::NotFound { help: Some(help), .. } => found.with_help(help),
        WorldError::NotFound { help: None, .. } | WorldError::Failed { .. } | WorldError::Step { .. } => {
            found
        }
    }
}
