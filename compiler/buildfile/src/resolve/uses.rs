//! Whether what a call takes is there: artifacts of COPY, a filesystem for FROM.
//!
//! Checked in files of `VERSION 1`, and reported only where it is certain: a name that a variable decides, a function
//! that is not known yet or a command of a later version could each save what is asked for, and then evaluation has
//! the word. What a block saves counts as saved, whether or not the block is evaluated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rb_diag::{Diagnostic, Diagnostics, nearest};
use rb_frontend::{ProjectRef, TargetRef};
use rb_syntax::{Base, Call, CopySource, Edition, SaveArtifact, Stmt, StmtKind};

use super::tree::constant;
use super::{BASE, File, FunctionReference, Reference, Resolved, statements};
use crate::lower::paths;
use crate::word::Escapes;
use crate::{codes, glob};

type Files = BTreeMap<ProjectRef, Arc<File>>;

/// What a target gives, as far as its text tells.
#[derive(Debug, Default)]
struct Gives {
    /// Paths of artifacts; a pattern's is the folder its files go to.
    artifacts: Vec<String>,
    /// There may be others.
    more_artifacts: bool,
    /// Something in it starts a filesystem, or may.
    based: bool,
}

/// Checks all calls of all files that are checked whole.
pub(super) fn check(files: &Files) -> Diagnostics {
    let mut errors = Vec::new();
    let mut known = BTreeMap::new();
    for file in files.values().filter(|file| file.is_checked_whole() && !file.broken) {
        for stmt in file.bodies().flat_map(statements) {
            match &stmt.kind {
                StmtKind::From(from) => {
                    if let Base::Target(call) = &from.base
                        && let Some((target, gives)) = gives_of(files, call, &mut known)
                        && !gives.based
                    {
                        errors.push(no_filesystem(target).with_label(call.span, "nothing to start from"));
                    }
                }
                StmtKind::Copy(copy) if !copy.if_exists => {
                    for source in &copy.sources {
                        let CopySource::Artifact { call, path } = source else { continue };
                        let Some(path) = constant(path, file.edition, Escapes::KeepPattern) else { continue };
                        if let Some((target, gives)) = gives_of(files, call, &mut known)
                            && !gives.more_artifacts
                            && let Err(error) = check_artifact(target, &gives.artifacts, &path)
                        {
                            errors.push(error.with_label(call.span, "no such artifact"));
                        }
                    }
                }
                _ => {}
            }
        }
    }
    errors
}

/// Returns what a settled call's target gives; `None` where its file or the target is not there.
fn gives_of<'a, 'k>(
    files: &Files,
    call: &'a Call<Resolved>,
    known: &'k mut BTreeMap<TargetRef, Option<Gives>>,
) -> Option<(&'a TargetRef, &'k Gives)> {
    let Reference::Settled { target, .. } = &call.target else { return None };
    let gives = known.entry(target.clone()).or_insert_with(|| gives(files, target));
    Some((target, gives.as_ref()?))
}

fn gives(files: &Files, target: &TargetRef) -> Option<Gives> {
    let file = files.get(&target.project).filter(|file| !file.broken)?;
    let body = file.recipe(&target.name)?;
    let mut gives = Gives::default();
    if target.project.dockerfile().is_some() {
        // All that lies in a stage may be taken from it.
        return Some(Gives { based: true, more_artifacts: true, ..gives });
    }
    collect(files, file, body, &mut gives);
    if !gives.based && target.name != BASE {
        let mut base = Gives::default();
        collect(files, file, &file.buildfile.base, &mut base);
        gives.based = base.based;
    }
    Some(gives)
}

/// Adds what a recipe gives, the functions it calls included.
fn collect(files: &Files, file: &Arc<File>, body: &[Stmt<Resolved>], gives: &mut Gives) {
    let mut seen = BTreeSet::new();
    let mut open = vec![(file, body)];
    while let Some((file, body)) = open.pop() {
        for stmt in statements(body) {
            match &stmt.kind {
                StmtKind::From(_) | StmtKind::Locally(_) => gives.based = true,
                StmtKind::Later(_) => {
                    gives.based = true;
                    gives.more_artifacts = true;
                }
                StmtKind::SaveArtifact(save) => match saved(save, file.edition) {
                    Some(path) => gives.artifacts.push(path),
                    None => gives.more_artifacts = true,
                },
                StmtKind::Do(call) => {
                    let called = match &call.function {
                        FunctionReference::Settled { function, .. } => function,
                        FunctionReference::Dynamic(_) => {
                            gives.based = true;
                            gives.more_artifacts = true;
                            continue;
                        }
                    };
                    let file = files.get(&called.project).filter(|file| !file.broken);
                    match file.and_then(|file| Some((file, file.function(&called.name)?))) {
                        Some((file, recipe)) if seen.insert(called) => open.push((file, &recipe.body)),
                        Some(_) => {}
                        None => {
                            gives.based = true;
                            gives.more_artifacts = true;
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

/// Returns where a SAVE ARTIFACT puts its file; `None` where only evaluation knows.
fn saved(save: &SaveArtifact, edition: Edition) -> Option<String> {
    let source = constant(&save.source, edition, Escapes::KeepPattern)?;
    let name = match &save.destination {
        Some(word) => constant(word, edition, Escapes::Remove)?,
        None => "./".to_owned(),
    };
    let path = paths::absolute("/", &name);
    if glob::is_pattern(&source) || !paths::names_directory(&name) {
        return Some(path);
    }
    // `.` and `..` at the end are the working directory's business.
    let last = source.split('/').rfind(|part| !part.is_empty() && *part != ".")?;
    (last != "..").then(|| paths::absolute(&path, last))
}

/// Checks a path against what a target saves; what lies in a saved folder is known only when it is built.
fn check_artifact(target: &TargetRef, artifacts: &[String], path: &str) -> Result<(), Diagnostic> {
    let path = paths::absolute("/", path);
    let wanted: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let fits = |saved: &String| {
        let have = saved.split('/').filter(|part| !part.is_empty());
        have.zip(&wanted).all(|(have, wanted)| glob::matches(wanted, have))
    };
    if artifacts.iter().any(fits) {
        return Ok(());
    }
    let shown = path.trim_start_matches('/');
    let names = || artifacts.iter().map(|saved| saved.trim_start_matches('/'));
    if artifacts.is_empty() {
        let error = Diagnostic::error(codes::UNKNOWN_ARTIFACT, format!("{target} saves no artifacts"));
        return Err(match shown {
            "" | "*" => error.with_help("add `SAVE ARTIFACT path` to it"),
            shown => error.with_help(format!("add `SAVE ARTIFACT {shown}` to it")),
        });
    }
    let error = Diagnostic::error(codes::UNKNOWN_ARTIFACT, format!("{target} saves no artifact `{shown}`"));
    Err(match nearest(shown, names()) {
        Some(near) => error.with_help(format!("did you mean `{target}/{near}`?")),
        None => {
            let names = names().map(|name| format!("`{name}`")).collect::<Vec<_>>();
            error.with_help(format!("it saves {}", names.join(", ")))
        }
    })
}

fn no_filesystem(target: &TargetRef) -> Diagnostic {
    Diagnostic::error(
        codes::WRONG_KIND,
        format!("{target} has no FROM, so there is no filesystem to start from"),
    )
    .with_help(format!("give {target} a FROM, or call it with `BUILD {target}`"))
}
