//! ARG, and the arguments of calls.
//!
//! Which arguments reach a target. In Earthfiles: those the call names, and within one file all that reached the
//! caller. In `VERSION 1` a call passes what it names, and of what reached the caller only arguments of the base
//! recipe, which belong to the file as a whole; a target's key keeps only arguments that it or the base recipe
//! declares, so that two calls that differ in nothing the target reads are one evaluation.

use std::collections::{BTreeMap, BTreeSet};

use rb_diag::{Diagnostic, Span, nearest};
use rb_frontend::TargetRef;
use rb_syntax::{Arg, Call, CallArg, Edition, Stmt, StmtKind};

use super::frame::Frame;
use super::variables::Builtin;
use super::{Evaluator, Fallible, File, Matrix};
use crate::codes;
use crate::resolve::{BASE, Resolved};
use crate::word::Escapes;

/// Arguments by name.
pub(super) type Args = BTreeMap<String, String>;

/// Names that some statements declare.
fn declared(body: &[Stmt<Resolved>]) -> impl Iterator<Item = &str> {
    body.iter().filter_map(|stmt| match &stmt.kind {
        StmtKind::Arg(arg) => Some(arg.name.value.as_str()),
        StmtKind::From(_)
        | StmtKind::Run(_)
        | StmtKind::Copy(_)
        | StmtKind::Env { .. }
        | StmtKind::Workdir(_)
        | StmtKind::Entrypoint(_)
        | StmtKind::Cmd(_)
        | StmtKind::SaveArtifact(_)
        | StmtKind::SaveImage(_)
        | StmtKind::Build(_) => None,
    })
}

/// Names that a target or its file's base recipe declares.
fn known<'a>(file: &'a File, target: &str) -> BTreeSet<&'a str> {
    declared(&file.buildfile.base).chain(declared(file.recipe(target).unwrap_or_default())).collect()
}

/// Names that anything in a file declares.
fn known_anywhere(file: &File) -> BTreeSet<&str> {
    let bodies = file.buildfile.targets.iter().map(|recipe| recipe.body.as_slice());
    std::iter::once(file.buildfile.base.as_slice()).chain(bodies).flat_map(declared).collect()
}

/// Keeps of some arguments those that belong into the key of a target.
pub(super) fn reaching(file: &File, target: &str, mut args: Args) -> Args {
    if target == BASE {
        return of_base(file, args);
    }
    if file.edition == Edition::One {
        let known = known(file, target);
        args.retain(|name, _| known.contains(name.as_str()));
    }
    args
}

/// Keeps of some arguments those that the base recipe reads; it passes none on.
pub(super) fn of_base(file: &File, mut args: Args) -> Args {
    let known: BTreeSet<&str> = declared(&file.buildfile.base).collect();
    args.retain(|name, _| known.contains(name.as_str()));
    args
}

/// Adds to what a call names what reaches the callee by itself.
pub(super) fn passed(frame: &Frame, callee: &File, target: &str, explicit: Args) -> Args {
    if callee.project != frame.file.project {
        return reaching(callee, target, explicit);
    }
    let inherited = match callee.edition {
        Edition::One => of_base(callee, frame.key.args.clone()),
        Edition::Earthly06 | Edition::Earthly07 | Edition::Earthly08 => frame.key.args.clone(),
    };
    reaching(callee, target, inherited.into_iter().chain(explicit).collect())
}

impl Evaluator<'_> {
    /// Checks that a target takes an argument of this name.
    pub(super) fn check_argument(
        &self,
        file: &File,
        target: &TargetRef,
        name: &str,
        at: Option<Span>,
    ) -> Fallible<()> {
        let label = |found: Diagnostic, text: &str| match at {
            Some(span) => found.with_label(span, text),
            None => found,
        };
        if Builtin::of(name).is_some() {
            let message = format!("`{name}` is set by rb itself and cannot be passed");
            return Err(label(Diagnostic::error(codes::BUILTIN_ARGUMENT, message), "built in"));
        }
        if file.edition == Edition::One {
            let known = known(file, &target.name);
            if known.contains(name) {
                return Ok(());
            }
            let error = Diagnostic::error(
                codes::UNKNOWN_ARGUMENT,
                format!("{target} does not declare the argument `{name}`"),
            );
            let error = label(error, "not declared there");
            return Err(match nearest(name, known.iter().copied()) {
                Some(near) => error.with_help(format!("did you mean `--{near}`?")),
                None if known.is_empty() => {
                    error.with_help(format!("it takes no arguments; `ARG {name}` would declare it"))
                }
                None => {
                    let names = known.iter().map(|name| format!("`--{name}`")).collect::<Vec<_>>();
                    error.with_help(format!("it takes {}; `ARG {name}` would declare it", names.join(", ")))
                }
            });
        }
        let known = known_anywhere(file);
        if !known.contains(name) {
            let warning = Diagnostic::warning(
                codes::UNUSED_ARGUMENT,
                format!("nothing in {} declares the argument `{name}`", file.source.name),
            );
            let near = nearest(name, known.iter().copied()).map(|near| format!("--{near}"));
            self.warn(label(warning, "has no effect").with_nearest(near.as_deref()));
        }
        Ok(())
    }

    /// Returns the sets of arguments that a call names: one, or with repeated names every combination.
    pub(super) fn call_arguments(
        &self,
        frame: &Frame,
        call: &Call<Resolved>,
        callee: &File,
        target: &TargetRef,
        matrix: Matrix,
    ) -> Fallible<Vec<Args>> {
        let mut sets = vec![Args::new()];
        let mut names: Vec<&CallArg> = Vec::new();
        for arg in &call.args {
            self.check_argument(callee, target, &arg.name.value, Some(arg.name.span))?;
            let first = names.iter().find(|first| first.name.value == arg.name.value);
            if let Some(first) = first.filter(|_| matrix == Matrix::Refused) {
                let message = format!("the argument `{}` is given twice", arg.name.value);
                return Err(Diagnostic::error(codes::REPEATED_ARGUMENT, message)
                    .with_label(arg.name.span, "again here")
                    .with_label(first.name.span, "first here")
                    .with_help("only BUILD calls a target once for each value"));
            }
            if first.is_none() {
                names.push(arg);
            }
        }
        for name in names {
            let same = call.args.iter().filter(|arg| arg.name.value == name.name.value);
            let values: Vec<String> =
                same.map(|arg| self.expand(frame, &arg.value, Escapes::Remove)).collect::<Fallible<_>>()?;
            let with = |set: &Args, value: &String| {
                let mut set = set.clone();
                set.insert(name.name.value.clone(), value.clone());
                set
            };
            sets = sets.iter().flat_map(|set| values.iter().map(move |value| with(set, value))).collect();
        }
        Ok(sets)
    }

    /// `ARG …`
    pub(super) fn argument(&self, frame: &mut Frame, arg: &Arg) -> Fallible<()> {
        let (name, at) = (&arg.name.value, arg.name.span);
        if arg.global && !frame.is_base() {
            return Err(Diagnostic::error(codes::GLOBAL_OUTSIDE_BASE, "ARG --global inside a target")
                .with_label(at, "only for this target")
                .with_help("move it above the first target, or drop `--global`"));
        }
        if arg.required && arg.default.is_some() {
            let message = format!("`{name}` is required, so its default is never used");
            return Err(Diagnostic::error(codes::BAD_ARGUMENT, message)
                .with_label(at, "required")
                .with_help("drop `--required` or the default"));
        }
        if frame.variables.local.contains_key(name) {
            return match frame.file.edition {
                // Old editions keep the first value without a word.
                Edition::Earthly06 | Edition::Earthly07 => Ok(()),
                Edition::Earthly08 | Edition::One => {
                    Err(Diagnostic::error(codes::REDECLARED_ARGUMENT, format!("`{name}` is declared twice"))
                        .with_label(at, "again here")
                        .with_help("a recipe has one ARG of a name; drop the second one"))
                }
            };
        }
        let value = match Builtin::of(name) {
            Some(builtin) => builtin_value(frame, arg, builtin)?,
            None => self.argument_value(frame, arg)?,
        };
        // Before 0.7 every ARG of the base recipe was global.
        if arg.global || (frame.is_base() && frame.file.edition == Edition::Earthly06) {
            frame.variables.global.insert(name.clone(), value.clone());
        }
        frame.variables.local.insert(name.clone(), value);
        Ok(())
    }

    fn argument_value(&self, frame: &Frame, arg: &Arg) -> Fallible<String> {
        let name = &arg.name.value;
        let value = match (frame.key.args.get(name), &arg.default) {
            (Some(value), _) => value.clone(),
            (None, Some(default)) => self.expand(frame, default, Escapes::Remove)?,
            (None, None) => String::new(),
        };
        if arg.required && value.is_empty() {
            return Err(Diagnostic::error(codes::REQUIRED_ARGUMENT, format!("`{name}` needs a value"))
                .with_label(arg.name.span, "required")
                .with_help(format!("pass `--{name}=…` to {}", frame.key.target)));
        }
        Ok(value)
    }
}

fn builtin_value(frame: &Frame, arg: &Arg, builtin: Builtin) -> Fallible<String> {
    let name = &arg.name.value;
    if let Some(default) = &arg.default {
        let message = format!("`{name}` is set by rb itself and has no default");
        return Err(Diagnostic::error(codes::BUILTIN_ARGUMENT, message)
            .with_label(default.span, "never used")
            .with_help(format!("write `ARG {name}`")));
    }
    builtin.value(&frame.key).ok_or_else(|| {
        let message = format!("the built-in argument `{name}` comes later");
        Diagnostic::error(codes::LATER, message).with_label(arg.name.span, "")
    })
}
