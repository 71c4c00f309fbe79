//! What nobody is to see, struck out of failures.
//!
//! In: a failure, and values of arguments whose names say that they are secret. Out: the same failure without them, but for the
//! user's own files and what a command wrote. Which values those are is told while builds begin ([`keep`]); one gate, where failures
//! are told, asks for them.

use std::sync::{Mutex, PoisonError};

use rb_api::{CacheVerdict, SolveError};
use rb_diag::{Diagnostic, Label};
use rb_llb::Struck;

use super::{About, Failure};

/// Of all builds of this process.
static KEPT: Mutex<Vec<Struck>> = Mutex::new(Vec::new());

/// Takes values that no failure of this process shall show.
pub(crate) fn keep(struck: &Struck) {
    if !struck.is_empty() {
        KEPT.lock().unwrap_or_else(PoisonError::into_inner).push(struck.clone());
    }
}

impl Failure {
    /// Strikes out what is kept.
    #[must_use]
    pub(crate) fn without_secrets(self) -> Self {
        let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner).clone();
        kept.iter().fold(self, Self::struck)
    }

    fn struck(self, by: &Struck) -> Self {
        let boxed = |failure: Box<Self>| Box::new(failure.struck(by));
        match self {
            Self::Diagnostics { items, sources } => Self::Diagnostics {
                items: items.into_iter().map(|item| diagnostic(by, item)).collect(),
                sources,
            },
            Self::Solve { error, definitions } => {
                Self::Solve { error: Box::new(solve_error(by, *error)), definitions }
            }
            Self::Said { kind, message, help } => {
                Self::Said { kind, message: text(by, message), help: help.map(|help| text(by, help)) }
            }
            Self::With { failure, about: About { trail, log } } => {
                let trail = trail.into_iter().map(|line| text(by, line)).collect();
                Self::With { failure: boxed(failure), about: About { trail, log } }
            }
            Self::Several(failures) => {
                Self::Several(failures.into_iter().map(|failure| failure.struck(by)).collect())
            }
            other @ (Self::Interrupted(_) | Self::Unheard) => other,
        }
    }
}

fn text(by: &Struck, text: String) -> String {
    if by.is_in(&text) { by.text(&text).into_owned() } else { text }
}

fn diagnostic(by: &Struck, item: Diagnostic) -> Diagnostic {
    let label = |Label { span, text: said }| Label { span, text: text(by, said) };
    Diagnostic {
        message: text(by, item.message),
        labels: item.labels.into_iter().map(label).collect(),
        help: item.help.map(|help| text(by, help)),
        trail: item.trail.into_iter().map(|line| text(by, line)).collect(),
        ..item
    }
}

fn solve_error(by: &Struck, error: SolveError) -> SolveError {
    let help = |help: Option<String>| help.map(|help| text(by, help));
    match error {
        SolveError::Vertex { vertex, name, kind, message, help: said, log_tail } => SolveError::Vertex {
            vertex,
            name: text(by, name),
            kind,
            message: text(by, message),
            help: help(said),
            log_tail,
        },
        SolveError::Job { kind, message, help: said } => {
            SolveError::Job { kind, message: text(by, message), help: help(said) }
        }
        SolveError::NoSuchFile { path } => SolveError::NoSuchFile { path: text(by, path) },
        SolveError::Withheld { vertex, name, reason } => {
            let verdict = |CacheVerdict { miss, text: said }| CacheVerdict { miss, text: text(by, said) };
            SolveError::Withheld { vertex, name: text(by, name), reason: reason.map(verdict) }
        }
        SolveError::Several(errors) => {
            SolveError::Several(errors.into_iter().map(|error| solve_error(by, error)).collect())
        }
        SolveError::Cancelled => SolveError::Cancelled,
    }
}

#[cfg(test)]
mod tests {
    use rb_diag::ErrorKind;

    use super::*;

    #[test]
    fn no_failure_shows_a_value() {
        let by = Struck::of([("API_TOKEN", "s3cr3t")]);
        let said = || "no s3cr3t here".to_owned();
        let job = SolveError::Job { kind: ErrorKind::Input, message: said(), help: Some(said()) };
        let solve =
            Failure::Solve { error: Box::new(SolveError::Several(vec![job])), definitions: Vec::new() };
        let item = Diagnostic::error("rb::test", said()).with_help(said()).with_trail(said());
        let items = [item].into_iter().collect();
        let about = About { trail: vec![said()], log: None };
        let failures = vec![
            Failure::Diagnostics { items, sources: rb_diag::SourceMap::default() },
            Failure::With { failure: Box::new(solve), about },
            Failure::input(said(), Some(said())),
        ];
        let told = format!("{:?}", Failure::Several(failures).struck(&by));
        assert!(!told.contains("s3cr3t") && told.matches("no *** here").count() == 8, "{told}");
    }
}
