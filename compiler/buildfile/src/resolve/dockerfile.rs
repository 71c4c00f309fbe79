//! A Dockerfile in the place of a build file: its stages are targets, and the `ARG`s that a stage can see are theirs.
//!
//! In: a Dockerfile's text. Out: [`StageTarget`]s, and the same as a `Buildfile<Resolved>` whose recipes declare arguments
//! and do nothing else: evaluation hands a stage to `rb_dockerfile`. **Invariant:** names of stages are small letters, as
//! Dockerfiles tell them apart by nothing else; the last stage without a name is [`DEFAULT`], unless one is called so.

use std::collections::BTreeSet;

use rb_diag::{Diagnostics, SourceFile, Spanned};
use rb_dockerfile::{ArgDefinition, Dockerfile, Instruction};
use rb_syntax::{Arg, Buildfile, Recipe, Stmt, StmtKind};

use super::Resolved;

/// What the last stage is called where it has no name.
pub(crate) const DEFAULT: &str = "default";

/// Arguments that a build sets itself.
const PREDEFINED: [&str; 8] = [
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETARCH",
    "TARGETVARIANT",
];

/// A stage that can be named.
#[derive(Debug)]
pub(crate) struct StageTarget<'a> {
    /// Its name, and where that stands; of one without a name where it begins.
    pub(crate) name: Spanned<String>,
    /// What a comment above says of it.
    pub(crate) doc: Option<&'a str>,
    /// Arguments that it or a stage that it needs declares, and those above the first stage.
    pub(crate) args: Vec<&'a ArgDefinition>,
}

/// Lists the stages that can be named, in the order of the file; of two of one name the later one is meant.
pub(crate) fn stages(file: &Dockerfile) -> Vec<StageTarget<'_>> {
    let names: Vec<Option<String>> = (0..file.stages.len()).map(|at| name_of(file, at)).collect();
    let mut targets = Vec::new();
    for (at, stage) in file.stages.iter().enumerate() {
        let is_last = at + 1 == file.stages.len();
        let name = match &names[at] {
            Some(name) if names[at + 1..].iter().flatten().all(|later| later != name) => name.clone(),
            None if is_last && names.iter().flatten().all(|name| name != DEFAULT) => DEFAULT.to_owned(),
            Some(_) | None => continue,
        };
        let span = stage.name.as_ref().map_or(stage.span, |(_, name)| name.span);
        let name = Spanned::new(name, span);
        targets.push(StageTarget { name, doc: stage.description.as_deref(), args: arguments(file, at) });
    }
    targets
}

/// Returns the stage that a name stands for, as an option of a build: none is the last one.
pub(crate) fn target(file: &Dockerfile, name: &str) -> Option<String> {
    let is_named = (0..file.stages.len()).any(|at| name_of(file, at).as_deref() == Some(name));
    (is_named || name != DEFAULT).then(|| name.to_owned())
}

/// Reads a Dockerfile as a build file.
pub(super) fn as_buildfile(source: &SourceFile) -> (Buildfile<Resolved>, Diagnostics) {
    let parsed = rb_dockerfile::parse(source);
    let declare = |arg: &ArgDefinition| {
        let (name, kind, default) = (arg.name.clone(), None, None);
        let span = name.span;
        let arg = Arg { required: false, global: false, name, kind, default };
        Stmt { kind: StmtKind::Arg(arg), span, doc: None }
    };
    let recipe = |stage: StageTarget<'_>| Recipe {
        name: stage.name,
        doc: stage.doc.map(str::to_owned),
        body: stage.args.into_iter().map(declare).collect(),
    };
    let targets = stages(&parsed.dockerfile).into_iter().map(recipe).collect();
    let buildfile = Buildfile { version: None, base: Vec::new(), targets, functions: Vec::new() };
    (buildfile, parsed.errors)
}

fn name_of(file: &Dockerfile, at: usize) -> Option<String> {
    let (_, name) = file.stages.get(at)?.name.as_ref()?;
    Some(name.value.to_lowercase())
}

/// Returns the arguments that a stage can see, each once: where it has a default.
fn arguments(file: &Dockerfile, at: usize) -> Vec<&ArgDefinition> {
    let stages = needed(file, at);
    let own = stages.into_iter().filter_map(|at| file.stages.get(at)).flat_map(|stage| &stage.steps);
    let mut args: Vec<&ArgDefinition> = Vec::new();
    for step in file.global_args.iter().chain(own) {
        let Instruction::Arg(definitions) = &step.instruction else { continue };
        for arg in definitions.iter().filter(|arg| !PREDEFINED.contains(&arg.name.value.as_str())) {
            match args.iter_mut().find(|known| known.name.value == arg.name.value) {
                Some(known) if known.default.is_none() && arg.default.is_some() => *known = arg,
                Some(_) => {}
                None => args.push(arg),
            }
        }
    }
    args
}

/// Returns a stage and those that it needs, as far as the text tells; where a variable decides, all above it.
fn needed(file: &Dockerfile, target: usize) -> BTreeSet<usize> {
    let mut needed = BTreeSet::new();
    let mut open = vec![target];
    while let Some(at) = open.pop() {
        let Some(stage) = file.stages.get(at).filter(|_| needed.insert(at)) else { continue };
        let mut names = vec![stage.base.value.as_str()];
        for step in &stage.steps {
            match &step.instruction {
                Instruction::Copy(transfer) | Instruction::Add(transfer) => {
                    names.extend(transfer.from.iter().map(|from| from.value.as_str()));
                }
                Instruction::Run(run) => {
                    let options = run.mounts.iter().flat_map(|mount| &mount.options);
                    let from = options.filter(|(key, _)| key.value == "from");
                    names.extend(
                        from.filter_map(|(_, value)| value.as_ref()).map(|value| value.value.as_str()),
                    );
                }
                _ => {}
            }
        }
        for name in names {
            if name.contains('$') {
                open.extend(0..at);
                continue;
            }
            let name = name.to_lowercase();
            let named = (0..at).rev().find(|at| name_of(file, *at).as_ref() == Some(&name));
            open.extend(named.or_else(|| name.parse().ok().filter(|number| *number < at)));
        }
    }
    needed
}

#[cfg(test)]
mod tests {
    use rb_diag::SourceMap;

    use super::*;

    fn listed(text: &str) -> Vec<String> {
        let source = SourceMap::default().add("Dockerfile", text);
        let parsed = rb_dockerfile::parse(&source);
        assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
        let show = |stage: StageTarget<'_>| {
            let arg = |arg: &&ArgDefinition| {
                let default = arg.default.as_ref().map(|default| format!("={}", default.value));
                format!(" {}{}", arg.name.value, default.unwrap_or_default())
            };
            format!("{}:{}", stage.name.value, stage.args.iter().map(arg).collect::<String>())
        };
        stages(&parsed.dockerfile).into_iter().map(show).collect()
    }

    #[test]
    fn a_stage_has_the_arguments_of_what_it_needs() {
        let text = "ARG base=alpine\nFROM $base AS Build\nARG mode=debug\nARG TARGETARCH\nFROM scratch AS other\nARG unseen\n\
                    FROM scratch AS fetch\nARG from\nFROM scratch AS app\nARG base\nCOPY --from=build /a /a\n\
                    RUN --mount=type=bind,from=2,target=/m true\n";
        assert_eq!(
            listed(text),
            [
                "build: base=alpine mode=debug",
                "other: base=alpine unseen",
                "fetch: base=alpine from",
                "app: base=alpine mode=debug from",
            ]
        );
    }

    #[test]
    fn the_last_stage_is_the_default_and_the_later_of_two_is_meant() {
        assert_eq!(
            listed("FROM a\nFROM b AS x\nARG one\nFROM c AS X\nARG two\nFROM d\n"),
            ["x: two", "default:"]
        );
        assert_eq!(listed("FROM a AS default\nFROM d\n"), ["default:"]);
        let source = SourceMap::default().add("Dockerfile", "FROM a AS x\nFROM b\n");
        let file = rb_dockerfile::parse(&source).dockerfile;
        assert_eq!((target(&file, "x"), target(&file, DEFAULT)), (Some("x".to_owned()), None));
    }

    #[test]
    fn where_a_variable_decides_all_above_is_seen() {
        let text = "FROM a AS x\nARG one\nFROM $base\nARG two\n";
        assert_eq!(listed(text), ["x: one", "default: one two"]);
    }
}
