//! What a project offers: its targets with their arguments and outputs, for `rb ls`.

use rb_diag::{Diagnostics, Severity};
use rb_frontend::{ProjectRef, World};
use rb_syntax::{Arg, Buildfile, Parsed, Recipe, Stmt, StmtKind};

use crate::resolve;

/// One target as users see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetSummary {
    /// Name without `+`.
    pub name: String,
    /// Its doc comment.
    pub doc: Option<String>,
    /// ARGs it takes: its own, then the file's global ones.
    pub args: Vec<ArgSummary>,
    /// Names of images, as written.
    pub saves_images: Vec<String>,
    /// Names of artifacts, or their sources where no name was given, as written.
    pub saves_artifacts: Vec<String>,
}

/// One ARG of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgSummary {
    /// Name.
    pub name: String,
    /// Default as written.
    pub default: Option<String>,
    /// It must be given.
    pub required: bool,
    /// It belongs to the file, not to one target.
    pub global: bool,
}

/// Lists the targets of a project in the order of the file. Nothing they refer to is read.
pub async fn list_targets(
    world: &dyn World,
    project: &ProjectRef,
) -> Result<Vec<TargetSummary>, Diagnostics> {
    let source = resolve::read(world.workspace(), project, None).await.map_err(|error| vec![error])?;
    let parse = rb_syntax::parse(&source);
    let errors: Diagnostics =
        parse.diagnostics.into_iter().filter(|found| found.severity == Severity::Error).collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(parse.buildfile.targets.iter().map(|recipe| summary(&parse.buildfile, recipe)).collect())
}

fn summary(file: &Buildfile<Parsed>, recipe: &Recipe<Parsed>) -> TargetSummary {
    let own = args(&recipe.body).filter(|arg| !arg.global);
    let global = args(&file.base).filter(|arg| arg.global);
    let mut summary = TargetSummary {
        name: recipe.name.value.clone(),
        doc: recipe.doc.clone(),
        args: Vec::new(),
        saves_images: Vec::new(),
        saves_artifacts: Vec::new(),
    };
    for arg in own.chain(global) {
        if summary.args.iter().all(|have| have.name != arg.name.value) {
            summary.args.push(ArgSummary {
                name: arg.name.value.clone(),
                default: arg.default.as_ref().map(|word| word.raw.clone()),
                required: arg.required,
                global: arg.global,
            });
        }
    }
    for stmt in &recipe.body {
        match &stmt.kind {
            StmtKind::SaveImage(save) => {
                summary.saves_images.extend(save.names.iter().map(|name| name.raw.clone()));
            }
            StmtKind::SaveArtifact(save) => {
                let name = save.destination.as_ref().unwrap_or(&save.source);
                summary.saves_artifacts.push(name.raw.clone());
            }
            StmtKind::From(_)
            | StmtKind::Run(_)
            | StmtKind::Copy(_)
            | StmtKind::Arg(_)
            | StmtKind::Env { .. }
            | StmtKind::Workdir(_)
            | StmtKind::Entrypoint(_)
            | StmtKind::Cmd(_)
            | StmtKind::Build(_) => {}
        }
    }
    summary
}

fn args(body: &[Stmt<Parsed>]) -> impl Iterator<Item = &Arg> {
    body.iter().filter_map(|stmt| match &stmt.kind {
        StmtKind::Arg(arg) => Some(arg),
        _ => None,
    })
}
