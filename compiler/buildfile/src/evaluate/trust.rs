//! What targets and functions of repositories elsewhere may do, and where on the user's disk they do it.
//!
//! A stranger's recipe runs in sandboxes and writes below the folder that the user stands in. What reaches further takes
//! `--allow-privileged` of the command line and of every call that leads into a repository from outside of it.
//! Source: earthly-language 2.9.

use rb_diag::{Diagnostic, Span};
use rb_frontend::{ProjectRef, Repository};

use super::frame::{Frame, Scope};
use super::{Evaluator, Fallible};
use crate::codes;

impl Evaluator<'_> {
    /// Returns whether what a scope calls in `project` is trusted; `allowed` is what the call says.
    pub(super) fn trusts(&self, scope: &Scope, project: &ProjectRef, allowed: bool) -> bool {
        match project.repository() {
            None => true,
            same if same == scope.file.project.repository() => scope.trusted,
            Some(_) => scope.trusted && allowed && self.request.options.allow_privileged,
        }
    }

    /// Returns whether a target that the command line names is trusted.
    pub(super) fn trusts_asked(&self, project: &ProjectRef) -> bool {
        project.repository().is_none() || self.request.options.allow_privileged
    }

    /// Returns the project whose folder stands for a recipe's on the user's disk: its own, or the one the user stands in.
    pub(super) fn place_on_disk(&self, frame: &Frame) -> ProjectRef {
        let own = frame.project().folder();
        match own.repository() {
            None => own.clone(),
            Some(_) => ProjectRef::Local { dir: String::new() }.join(&self.request.options.here),
        }
    }
}

/// Refuses what only who is trusted may do.
pub(super) fn check(frame: &Frame, what: &str, at: Span) -> Fallible<()> {
    match frame.scope.file.project.repository().filter(|_| !frame.scope.trusted) {
        None => Ok(()),
        Some(repository) => Err(refused(what, repository, at)),
    }
}

/// Refuses a function of `project` where statements run on the user's machine, unless it is trusted.
pub(super) fn check_function(frame: &Frame, project: &ProjectRef, trusted: bool, at: Span) -> Fallible<()> {
    match project.repository().filter(|_| frame.locally.is_some() && !trusted) {
        None => Ok(()),
        Some(repository) => Err(refused("a function in LOCALLY", repository, at)),
    }
}

pub(super) fn refused(what: &str, repository: &Repository, at: Span) -> Diagnostic {
    Diagnostic::error(codes::NOT_ALLOWED, format!("{what} is not for recipes of {repository}"))
        .with_label(at, "reaches out of the sandbox")
        .with_help(
            "if you trust that repository, say so where it is called or imported, `--allow-privileged`, and to rb: \
             `rb --allow-privileged` (`-P`)",
        )
}
