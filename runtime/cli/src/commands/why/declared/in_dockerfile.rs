//! The same of a Dockerfile: the line of an ARG or ENV of the step's stage or of one below it, or of a global ARG; the line of an
//! ignore file, the Dockerfile's own or the context's.

use std::path::{Path, PathBuf};

use rb_api::PartKind;
use rb_diag::{SourceFile, SourceMap, Span};
use rb_dockerfile::{Dockerfile, Instruction, Stage, Step, parse};

use super::super::super::record::document::RecordStep;
use super::super::cause::Cause;
use super::super::explain::DOCKERIGNORE;
use super::line_of;

/// Returns the file and line that a cause is written in; paths of files are seen from `root`.
pub(super) fn place(root: &Path, context: &Path, step: &RecordStep, cause: &Cause) -> Option<(String, u32)> {
    match cause {
        Cause::Part { kind: kind @ (PartKind::Env | PartKind::Arg), name, .. } => {
            let (file, line) = step.place.as_ref()?;
            let text = std::fs::read_to_string(root.join(file)).ok()?;
            let line = declaration(&text, *line, *kind, name)?;
            Some((file.clone(), line))
        }
        Cause::IgnoreRule { pattern, .. } => rule(root, context, step, pattern),
        _ => None,
    }
}

/// Finds the last ARG or ENV of a name that holds on a line.
fn declaration(text: &str, line: u32, kind: PartKind, name: &str) -> Option<u32> {
    let sources = SourceMap::default();
    let source = sources.add("Dockerfile".to_owned(), text.to_owned());
    let Dockerfile { global_args, stages, .. } = parse(&source).dockerfile;
    let at = |span: Span| source.position(span.start).line;
    let mut own = stages.iter().rposition(|stage| at(stage.span) <= line);
    while let Some(number) = own {
        let stage = stages.get(number)?;
        let above = stage.steps.iter().filter(|step| at(step.span) < line);
        if let Some(found) = above.rev().find_map(|step| named(&source, step, kind, name)) {
            return Some(found);
        }
        own = base(&stages[..number], stage);
    }
    global_args.iter().rev().find_map(|step| named(&source, step, kind, name))
}

/// Returns the line of an instruction that gives a name its value.
fn named(source: &SourceFile, step: &Step, kind: PartKind, name: &str) -> Option<u32> {
    let span = match (&step.instruction, kind) {
        (Instruction::Arg(definitions), PartKind::Arg) => {
            definitions.iter().find(|definition| definition.name.value == name)?.name.span
        }
        (Instruction::Env(pairs), PartKind::Env) => {
            pairs.iter().rfind(|pair| pair.key.value == name)?.key.span
        }
        _ => return None,
    };
    Some(source.position(span.start).line)
}

/// Returns the place of the stage that one starts from.
fn base(before: &[Stage], stage: &Stage) -> Option<usize> {
    let is_it = |other: &Stage| {
        other.name.as_ref().is_some_and(|(_, name)| name.value.eq_ignore_ascii_case(&stage.base.value))
    };
    before.iter().rposition(is_it)
}

/// Finds a rule in the ignore file that counts.
fn rule(root: &Path, context: &Path, step: &RecordStep, pattern: &str) -> Option<(String, u32)> {
    let own = step.place.as_ref().map(|(file, _)| PathBuf::from(format!("{file}{DOCKERIGNORE}")));
    let of_context = context.join(DOCKERIGNORE);
    let of_context = of_context.strip_prefix(root).map(Path::to_owned).unwrap_or(of_context);
    let path = own.filter(|own| root.join(own).is_file()).unwrap_or(of_context);
    line_of(root, &path, pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_on_a_line_is_found() {
        let text = "ARG G=1\nFROM a AS one\nARG A=1 \\\n    B=2\nENV e 1\nENV F=1 \\\n  e=3\nRUN x\n\
                    FROM b AS two\narg A=2\nRUN x\nFROM one\nRUN x\n";
        let at = |line, kind, name| declaration(text, line, kind, name);
        assert_eq!(at(8, PartKind::Arg, "A"), Some(3));
        assert_eq!(at(8, PartKind::Arg, "B"), Some(4));
        assert_eq!(at(8, PartKind::Env, "e"), Some(7));
        assert_eq!(at(5, PartKind::Env, "e"), None);
        assert_eq!(at(11, PartKind::Arg, "A"), Some(10));
        assert_eq!(at(11, PartKind::Arg, "B"), None);
        assert_eq!(at(11, PartKind::Arg, "G"), Some(1));
        // Of the stage that it starts from.
        assert_eq!(at(13, PartKind::Arg, "A"), Some(3));
        assert_eq!(at(13, PartKind::Arg, "none"), None);
    }

    #[test]
    fn the_ignore_file_of_the_dockerfile_counts_before_that_of_the_context() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let app = root.path().join("app");
        std::fs::create_dir(&app).expect("makes folders");
        std::fs::write(app.join(".dockerignore"), "# x\n/out/\n").expect("writes");
        let mut step = RecordStep::of(
            "[a 1/1] COPY . .",
            rb_oci::Digest::of("x"),
            super::super::super::super::record::document::Verdict::Ran,
        );
        step.place = Some(("app/Dockerfile".to_owned(), 2));
        let at = |step: &RecordStep| rule(root.path(), &app, step, "out");
        assert_eq!(at(&step), Some(("app/.dockerignore".to_owned(), 2)));
        std::fs::write(app.join("Dockerfile.dockerignore"), "out\n").expect("writes");
        assert_eq!(at(&step), Some(("app/Dockerfile.dockerignore".to_owned(), 1)));
    }
}
