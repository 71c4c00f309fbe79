//! Whether a `SAVE ARTIFACT --always` can mean anything where it stands.
//!
//! It covers the statements above it in its own block, or in its own function. Where none of these runs anything, the flag
//! does nothing, which who writes it below a command that fails outside does not expect.

use rb_diag::{Diagnostic, Diagnostics};
use rb_syntax::{Stmt, StmtKind};

use super::walk::blocks;
use super::{File, Resolved, statements};
use crate::codes;

/// Warns of each `--always` of a file that covers nothing. Directly in a target's recipe it does no harm.
pub(super) fn check(file: &File) -> Diagnostics {
    let functions = file.buildfile.functions.iter().map(|recipe| (recipe.body.as_slice(), Some("function")));
    let targets = file.buildfile.targets.iter().map(|recipe| (recipe.body.as_slice(), None));
    let mut open: Vec<_> = functions.chain(targets).collect();
    let mut found = Vec::new();
    while let Some((body, place)) = open.pop() {
        let mut covers = false;
        for stmt in body {
            match (&stmt.kind, place) {
                (StmtKind::SaveArtifact(save), Some(place)) if save.always && !covers => {
                    found.push(covers_nothing(stmt, place));
                }
                _ => {}
            }
            open.extend(blocks(stmt).0.into_iter().map(|body| (body, Some("block"))));
            covers |= statements(std::slice::from_ref(stmt)).any(runs);
        }
    }
    found
}

fn runs(stmt: &Stmt<Resolved>) -> bool {
    matches!(
        &stmt.kind,
        StmtKind::Run(_)
            | StmtKind::Copy(_)
            | StmtKind::Build(_)
            | StmtKind::Do(_)
            | StmtKind::GitClone(_)
            | StmtKind::Later(_)
    )
}

fn covers_nothing(stmt: &Stmt<Resolved>, place: &str) -> Diagnostic {
    let message =
        format!("`--always` does nothing here: nothing that runs stands above it in its own {place}");
    Diagnostic::warning(codes::IDLE_ALWAYS, message)
        .with_label(stmt.span, format!("not saved if a command above this {place} fails"))
        .with_help("write it directly in the target's recipe, below the command that may fail")
}
