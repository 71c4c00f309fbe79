//! What a project offers: its targets and functions with their arguments and outputs, for `rb ls` and `rb doc`.
//!
//! In: a project's build file. Out: one [`TargetSummary`] per target or function, in the order of the file. Nothing is
//! evaluated and nothing they refer to is read, so names and defaults are as written, and what stands in IF and FOR
//! counts as if it were reached.

use std::sync::Arc;

use rb_diag::{Diagnostics, Severity, SourceFile};
use rb_dockerfile::{ArgDefinition, Dockerfile};
use rb_frontend::{ProjectRef, World};
use rb_syntax::{Arg, Buildfile, Edition, Parsed, Recipe, SaveArtifact, Stmt, StmtKind};

use crate::describe::argument_type;
use crate::resolve::dockerfile::{StageTarget, stages};
use crate::resolve::{self, statements};

/// One target or function as users see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetSummary {
    /// Name without `+`.
    pub name: String,
    /// Its doc comment.
    pub doc: Option<String>,
    /// ARGs it takes: its own, then of a target the file's global ones.
    pub args: Vec<ArgSummary>,
    /// Images it saves.
    pub saves_images: Vec<ImageSummary>,
    /// Artifacts it saves.
    pub saves_artifacts: Vec<ArtifactSummary>,
    /// It is called with DO.
    pub is_function: bool,
}

/// One ARG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgSummary {
    /// Name.
    pub name: String,
    /// Its type as written, such as `enum(debug, release)`; none takes any text.
    pub kind: Option<String>,
    /// Its doc comment.
    pub doc: Option<String>,
    /// Default as written.
    pub default: Option<String>,
    /// It must be given.
    pub required: bool,
    /// It belongs to the file, not to one target.
    pub global: bool,
}

/// One name of a saved image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSummary {
    /// Name as written.
    pub name: String,
    /// The doc comment of its SAVE IMAGE.
    pub doc: Option<String>,
}

/// One saved artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactSummary {
    /// Its name, or its source where no name was given, as written.
    pub name: String,
    /// The doc comment of its SAVE ARTIFACT.
    pub doc: Option<String>,
    /// Path behind `AS LOCAL`, as written.
    pub local: Option<String>,
}

/// Lists the targets of a project in the order of the file.
pub async fn list_targets(
    world: &dyn World,
    project: &ProjectRef,
) -> Result<Vec<TargetSummary>, Diagnostics> {
    if project.dockerfile().is_some() {
        let parsed = rb_dockerfile::parse(&*source(world, project).await?);
        return if parsed.errors.is_empty() { Ok(of_stages(&parsed.dockerfile)) } else { Err(parsed.errors) };
    }
    Ok(summarise(&parse(world, project).await?).0)
}

/// Lists the functions of a project in the order of the file.
pub async fn list_functions(
    world: &dyn World,
    project: &ProjectRef,
) -> Result<Vec<TargetSummary>, Diagnostics> {
    if project.dockerfile().is_some() {
        return Ok(Vec::new());
    }
    Ok(summarise(&parse(world, project).await?).1)
}

/// Returns the targets and the functions of a file as far as it could be read, each in the order of the file.
pub fn summarise(file: &Buildfile<Parsed>) -> (Vec<TargetSummary>, Vec<TargetSummary>) {
    let targets = file.targets.iter().map(|recipe| target(file, recipe)).collect();
    (targets, file.functions.iter().map(|recipe| summary(recipe, true)).collect())
}

/// Returns the stages of a Dockerfile as targets, as far as it could be read, in the order of the file.
pub fn summarise_dockerfile(source: &SourceFile) -> Vec<TargetSummary> {
    of_stages(&rb_dockerfile::parse(source).dockerfile)
}

fn of_stages(file: &Dockerfile) -> Vec<TargetSummary> {
    let argument = |arg: &ArgDefinition| ArgSummary {
        name: arg.name.value.clone(),
        kind: None,
        doc: arg.description.clone(),
        default: arg.default.as_ref().map(|default| default.value.clone()),
        required: false,
        global: false,
    };
    let target = |stage: StageTarget<'_>| TargetSummary {
        name: stage.name.value,
        doc: stage.doc.map(str::to_owned),
        args: stage.args.into_iter().map(argument).collect(),
        saves_images: Vec::new(),
        saves_artifacts: Vec::new(),
        is_function: false,
    };
    stages(file).into_iter().map(target).collect()
}

/// Reads the build file of a project as text.
pub async fn source(world: &dyn World, project: &ProjectRef) -> Result<Arc<SourceFile>, Diagnostics> {
    resolve::read(world.workspace(), project, None).await.map_err(|error| vec![error])
}

pub(crate) async fn parse(world: &dyn World, project: &ProjectRef) -> Result<Buildfile<Parsed>, Diagnostics> {
    let source = source(world, project).await?;
    let parse = rb_syntax::parse(&source);
    let errors: Diagnostics =
        parse.diagnostics.into_iter().filter(|found| found.severity == Severity::Error).collect();
    if errors.is_empty() { Ok(parse.buildfile) } else { Err(errors) }
}

fn target(file: &Buildfile<Parsed>, recipe: &Recipe<Parsed>) -> TargetSummary {
    let mut target = summary(recipe, false);
    target.args.retain(|arg| !arg.global);
    // Before 0.7 every ARG of the base recipe was global.
    let all_are_global = resolve::edition(file) == Edition::Earthly06;
    for (stmt, arg) in args(&file.base).filter(|(_, arg)| arg.global || all_are_global) {
        add(&mut target.args, ArgSummary { global: true, ..argument(stmt, arg) });
    }
    target
}

fn summary(recipe: &Recipe<Parsed>, is_function: bool) -> TargetSummary {
    let mut summary = TargetSummary {
        name: recipe.name.value.clone(),
        doc: recipe.doc.clone(),
        args: Vec::new(),
        saves_images: Vec::new(),
        saves_artifacts: Vec::new(),
        is_function,
    };
    args(&recipe.body).for_each(|(stmt, arg)| add(&mut summary.args, argument(stmt, arg)));
    for stmt in statements(&recipe.body) {
        match &stmt.kind {
            StmtKind::SaveImage(save) => {
                let image = |name: &str| ImageSummary { name: name.to_owned(), doc: stmt.doc.clone() };
                summary.saves_images.extend(save.names.iter().map(|name| image(&name.raw)));
            }
            StmtKind::SaveArtifact(save) => summary.saves_artifacts.push(artifact(stmt, save)),
            _ => {}
        }
    }
    summary
}

/// Adds an argument unless one of that name, which hides it, is there.
fn add(args: &mut Vec<ArgSummary>, arg: ArgSummary) {
    if args.iter().all(|have| have.name != arg.name) {
        args.push(arg);
    }
}

fn argument(stmt: &Stmt<Parsed>, arg: &Arg) -> ArgSummary {
    ArgSummary {
        name: arg.name.value.clone(),
        kind: arg.kind.as_ref().map(|kind| argument_type(&kind.value)),
        doc: stmt.doc.clone(),
        default: arg.default.as_ref().map(|word| word.raw.clone()),
        required: arg.required,
        global: arg.global,
    }
}

fn artifact(stmt: &Stmt<Parsed>, save: &SaveArtifact) -> ArtifactSummary {
    ArtifactSummary {
        name: save.destination.as_ref().unwrap_or(&save.source).raw.clone(),
        doc: stmt.doc.clone(),
        local: save.local.as_ref().map(|path| path.raw.clone()),
    }
}

fn args(body: &[Stmt<Parsed>]) -> impl Iterator<Item = (&Stmt<Parsed>, &Arg)> {
    statements(body).filter_map(|stmt| match &stmt.kind {
        StmtKind::Arg(arg) => Some((stmt, arg)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use rb_diag::SourceMap;

    use super::*;

    fn file(text: &str) -> Buildfile<Parsed> {
        let parse = rb_syntax::parse(&SourceMap::default().add("Buildfile", text));
        assert!(parse.diagnostics.is_empty(), "{:?}", parse.diagnostics);
        parse.buildfile
    }

    #[test]
    fn types_docs_and_outputs_of_blocks_are_listed() {
        let file = file(
            "VERSION 1\n# mode says how\nARG --global mode: enum(debug, release)=debug\n\nbuild:\n    FROM scratch\n    \
             # level is how hard\n    ARG level: int=2\n    IF test -e /x\n        ARG mode\n        # app is the program\n        \
             SAVE ARTIFACT out/app app AS LOCAL bin/\n    END\n    # app:1 is what runs\n    SAVE IMAGE app:1\nUP:\n    FUNCTION\n    \
             ARG to\n    SAVE ARTIFACT x\n",
        );
        let build = target(&file, &file.targets[0]);
        let args: Vec<_> = build
            .args
            .iter()
            .map(|arg| (arg.name.as_str(), arg.kind.as_deref(), arg.doc.as_deref(), arg.global))
            .collect();
        assert_eq!(
            args,
            [("level", Some("int"), Some("level is how hard"), false), ("mode", None, None, false)]
        );
        let artifact = &build.saves_artifacts[0];
        assert_eq!((artifact.name.as_str(), artifact.local.as_deref()), ("app", Some("bin/")));
        assert_eq!(artifact.doc.as_deref(), Some("app is the program"));
        assert_eq!(build.saves_images[0].doc.as_deref(), Some("app:1 is what runs"));
        let up = summary(&file.functions[0], true);
        assert!(up.is_function && up.args.len() == 1 && up.saves_artifacts[0].name == "x");
    }

    #[test]
    fn globals_follow_and_in_0_6_all_of_the_base_recipe_are_global() {
        let named = |text: &str| {
            let file = file(text);
            let args = target(&file, &file.targets[0]).args;
            args.into_iter()
                .map(|arg| format!("{}{}", arg.name, if arg.global { "*" } else { "" }))
                .collect::<Vec<_>>()
        };
        let text = "ARG --global a\nARG b\nt:\n    FROM scratch\n    ARG c\n";
        assert_eq!(named(&format!("VERSION 1\n{text}")), ["c", "a*"]);
        assert_eq!(named(&format!("VERSION 0.6\n{}", text.replace("--global ", ""))), ["c", "a*", "b*"]);
    }
}
