//! ARG, LET, SET, and the arguments of calls.
//!
//! Source: earthly-language 3.1 to 3.7, 3.12, 3.17, 3.18.

use std::collections::{BTreeMap, BTreeSet};

use rb_diag::{Diagnostic, Span, nearest};
use rb_expression::Value;
use rb_frontend::TargetRef;
use rb_syntax::{Arg, ArgType, Assignment, CallArg, Do, Edition, Recipe};

use super::builtins::Builtin;
use super::call::Matrix;
use super::expand::place;
use super::frame::Frame;
use super::variables::{Kind, Variable};
use super::{Evaluator, Fallible, File};
use crate::codes;
use crate::resolve::Resolved;
use crate::word::Escapes;

/// Arguments by name.
pub(super) type Args = BTreeMap<String, String>;

impl Evaluator<'_> {
    /// Checks that a target takes an argument of this name.
    pub(super) fn check_argument(
        &self,
        file: &File,
        target: &TargetRef,
        name: &str,
        at: Option<Span>,
    ) -> Fallible<()> {
        if Builtin::of(name).is_some() {
            return Err(Self::refuse_builtin(name, at));
        }
        if file.edition == Edition::One {
            return check_declared(&target.to_string(), self.facts(file).known(&target.name), name, at);
        }
        let facts = self.facts(file);
        if !facts.passes_everything() && !facts.anywhere().any(|known| known == name) {
            let message = format!("nothing in {} declares the argument `{name}`", file.source.name);
            let near = nearest(name, facts.anywhere()).map(|near| format!("--{near}"));
            let warning = Diagnostic::warning(codes::UNUSED_ARGUMENT, message);
            let help = format!("drop it, or declare it with `ARG {name}`");
            self.warn(labelled(warning, at, "has no effect").with_help(help).with_nearest(near.as_deref()));
        }
        Ok(())
    }

    /// Returns the sets of arguments that a call names: one, or with repeated names every combination.
    pub(super) async fn call_arguments(
        &self,
        frame: &Frame,
        args: &[CallArg],
        callee: &File,
        target: &TargetRef,
        matrix: Matrix,
    ) -> Fallible<Vec<Args>> {
        for arg in args {
            self.check_argument(callee, target, &arg.name.value, Some(arg.name.span))?;
        }
        self.combinations(frame, args, matrix).await
    }

    /// Returns the arguments that a DO names, checked against what the function declares.
    pub(super) async fn function_arguments(
        &self,
        frame: &Frame,
        call: &Do<Resolved>,
        file: &File,
        recipe: &Recipe<Resolved>,
    ) -> Fallible<Args> {
        let facts = self.facts(file);
        for arg in &call.args {
            let (name, at) = (arg.name.value.as_str(), Some(arg.name.span));
            if Builtin::of(name).is_some() {
                return Err(Self::refuse_builtin(name, at));
            }
            if file.edition == Edition::One {
                check_declared(
                    &format!("function `{}`", recipe.name.value),
                    facts.own(&recipe.name.value),
                    name,
                    at,
                )?;
            } else if !facts.passes_everything()
                && !facts.known(&recipe.name.value).any(|known| known == name)
            {
                let message =
                    format!("function `{}` does not declare the argument `{name}`", recipe.name.value);
                let near = nearest(name, facts.own(&recipe.name.value)).map(|near| format!("--{near}"));
                let warning = Diagnostic::warning(codes::UNUSED_ARGUMENT, message);
                let help = format!("drop it, or declare it in the function with `ARG {name}`");
                self.warn(
                    labelled(warning, at, "has no effect").with_help(help).with_nearest(near.as_deref()),
                );
            }
        }
        let mut sets = self.combinations(frame, &call.args, Matrix::Refused).await?;
        Ok(sets.pop().unwrap_or_default())
    }

    async fn combinations(&self, frame: &Frame, args: &[CallArg], matrix: Matrix) -> Fallible<Vec<Args>> {
        const MAX_SETS: usize = 10_000;
        let mut by_name: Vec<(&CallArg, Vec<String>)> = Vec::new();
        for arg in args {
            let value = self.call_value(frame, arg).await?;
            match by_name.iter_mut().find(|(first, _)| first.name.value == arg.name.value) {
                None => by_name.push((arg, vec![value])),
                Some((_, values)) if matrix == Matrix::Allowed => values.push(value),
                Some((first, _)) => {
                    let message = format!("the argument `{}` is given twice", arg.name.value);
                    return Err(Diagnostic::error(codes::REPEATED_ARGUMENT, message)
                        .with_label(arg.name.span, "again here")
                        .with_label(first.name.span, "first here")
                        .with_help("only BUILD calls a target once for each value"));
                }
            }
        }
        let mut sets = vec![Args::new()];
        for (arg, values) in by_name {
            if sets.len().saturating_mul(values.len()) > MAX_SETS {
                let message = format!("the values of this call make more than {MAX_SETS} combinations");
                return Err(Diagnostic::error(codes::REPEATED_ARGUMENT, message)
                    .with_label(arg.name.span, "too many with this one")
                    .with_help("take fewer values, or write several BUILDs"));
            }
            let with = |set: &Args, value: &String| {
                let mut set = set.clone();
                set.insert(arg.name.value.clone(), value.clone());
                set
            };
            sets = sets.iter().flat_map(|set| values.iter().map(move |value| with(set, value))).collect();
        }
        Ok(sets)
    }

    pub(super) async fn call_value(&self, frame: &Frame, arg: &CallArg) -> Fallible<String> {
        match &arg.value {
            Some(word) => self.expand(frame, word, Escapes::Remove).await,
            None => match frame.variable(&arg.name.value) {
                Some(value) => Ok(value.to_string()),
                None => {
                    let message =
                        format!("nothing defines `{}`, whose value is to be passed", arg.name.value);
                    Err(Diagnostic::error(codes::UNKNOWN_VARIABLE, message)
                        .with_label(arg.name.span, "")
                        .with_help(format!("write `--{}=value`", arg.name.value)))
                }
            },
        }
    }

    /// `ARG …`
    pub(super) async fn argument(&self, frame: &mut Frame, arg: &Arg) -> Fallible<()> {
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
        if let Some(before) = frame.scope.variables.local.get(name) {
            return redeclared(frame, arg, before.kind);
        }
        if arg.global && frame.scope.variables.global.contains_key(name) {
            return redeclared(frame, arg, Kind::Global);
        }
        let (value, kind) = match Builtin::of(name) {
            Some(builtin) => {
                refuse_default(arg)?;
                (Value::String(self.builtin(frame, builtin, at).await?), Kind::Builtin)
            }
            None => (self.argument_value(frame, arg).await?, Kind::Arg),
        };
        // Before 0.7 every ARG of the base recipe was global.
        if arg.global || (frame.is_base() && frame.has_implicit_globals()) {
            frame.scope.variables.global.insert(name.clone(), value.clone());
        }
        // Since 0.8 a global one is global in its own recipe too, so that an ENV beats it there as everywhere.
        if !(arg.global && frame.has_let()) {
            frame.scope.variables.local.insert(name.clone(), Variable { value, kind });
        }
        Ok(())
    }

    async fn argument_value(&self, frame: &mut Frame, arg: &Arg) -> Fallible<Value> {
        let name = &arg.name.value;
        // What a DO names does not come from outside.
        let handed = match &frame.scope.function {
            Some(function) => function.pass_args && !function.explicit.contains_key(name),
            None => true,
        };
        if handed {
            frame.reads.insert(name.clone());
        }
        let given = frame.scope.overrides.get(name).cloned();
        let (value, from) = match (given, &arg.default) {
            (Some(value), _) => (Value::String(value), None),
            (None, Some(default)) => (self.value(frame, default).await?, Some(default.span)),
            (None, None) => (Value::String(String::new()), None),
        };
        let text = value.to_string();
        if arg.required && text.is_empty() {
            return Err(Diagnostic::error(codes::REQUIRED_ARGUMENT, format!("`{name}` needs a value"))
                .with_label(arg.name.span, "required")
                .with_help(format!("pass `--{name}=…` to {}", place(frame))));
        }
        match &arg.kind {
            None => Ok(value),
            // An argument that nobody gave a value has none of any type.
            Some(_) if text.is_empty() && arg.default.is_none() => Ok(Value::String(text)),
            Some(kind) => typed(&text, &kind.value).ok_or_else(|| wrong_type(arg, &kind.value, &text, from)),
        }
    }

    /// `LET NAME=value`
    pub(super) async fn declare(&self, frame: &mut Frame, stmt: &Assignment) -> Fallible<()> {
        let (name, at) = (&stmt.name.value, stmt.name.span);
        if !frame.has_let() {
            return Err(Diagnostic::error(codes::EDITION, "LET is of VERSION 0.8 and later")
                .with_label(at, "")
                .with_help("write `VERSION 0.8` or `VERSION 1` at the top, or use ARG"));
        }
        if Builtin::of(name).is_some() {
            let message = format!("`{name}` is set by rb itself and cannot be a variable");
            return Err(Diagnostic::error(codes::BUILTIN_ARGUMENT, message)
                .with_label(at, "built in")
                .with_help("choose another name"));
        }
        if frame.scope.variables.local.get(name).is_some_and(|before| before.kind == Kind::Let) {
            return Err(Diagnostic::error(codes::REDECLARED_ARGUMENT, format!("`{name}` is declared twice"))
                .with_label(at, "again here")
                .with_help(format!("`SET {name} = …` gives it another value")));
        }
        let value = self.value(frame, &stmt.value).await?;
        let variables = &mut frame.scope.variables;
        let before = variables.local.insert(name.clone(), Variable { value, kind: Kind::Let });
        if let Some(Variable { value, kind: Kind::Arg }) = before {
            variables.hidden.insert(name.clone(), value);
        }
        Ok(())
    }

    /// `SET NAME=value`
    pub(super) async fn assign(&self, frame: &mut Frame, stmt: &Assignment) -> Fallible<()> {
        let (name, at) = (&stmt.name.value, stmt.name.span);
        let refuse = |message: String, help: String| {
            Err(Diagnostic::error(codes::BAD_SET, message).with_label(at, "").with_help(help))
        };
        let variables = &frame.scope.variables;
        let global = variables.global.contains_key(name).then_some(Kind::Global);
        match variables.local.get(name).map(|variable| variable.kind).or(global) {
            Some(Kind::Let) => {}
            Some(Kind::Arg | Kind::Builtin | Kind::Global) => {
                return refuse(
                    format!("`{name}` is an ARG, and an ARG never changes"),
                    format!("`LET {name} = ${name}` makes a variable of it that SET can change"),
                );
            }
            Some(Kind::Loop) => {
                return refuse(
                    format!("`{name}` is the variable of a FOR, which sets it itself"),
                    format!("copy it: `LET copy = ${name}`"),
                );
            }
            None => {
                let lets =
                    frame.scope.variables.local.iter().filter(|(_, variable)| variable.kind == Kind::Let);
                let help = match nearest(name, lets.map(|(name, _)| name.as_str())) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("declare it first: `LET {name} = …`"),
                };
                return refuse(format!("`{name}` is not declared here"), help);
            }
        }
        let value = self.value(frame, &stmt.value).await?;
        frame.scope.variables.local.insert(name.clone(), Variable { value, kind: Kind::Let });
        Ok(())
    }
}

fn labelled(found: Diagnostic, at: Option<Span>, text: &str) -> Diagnostic {
    match at {
        Some(span) => found.with_label(span, text),
        None => found,
    }
}

fn check_declared<'a>(
    callee: &str,
    known: impl Iterator<Item = &'a str>,
    name: &str,
    at: Option<Span>,
) -> Fallible<()> {
    let known: BTreeSet<&str> = known.collect();
    if known.contains(name) {
        return Ok(());
    }
    let message = format!("{callee} does not declare the argument `{name}`");
    let error = labelled(Diagnostic::error(codes::UNKNOWN_ARGUMENT, message), at, "not declared there");
    Err(match nearest(name, known.iter().copied()) {
        Some(near) => error.with_help(format!("did you mean `--{near}`?")),
        None if known.is_empty() => {
            error.with_help(format!("it takes no arguments; `ARG {name}` would declare it"))
        }
        None => {
            let names = known.iter().map(|name| format!("`--{name}`")).collect::<Vec<_>>();
            error.with_help(format!("it takes {}; `ARG {name}` would declare it", names.join(", ")))
        }
    })
}

/// A second ARG of a name: old editions keep the first value without a word.
fn redeclared(frame: &Frame, arg: &Arg, before: Kind) -> Fallible<()> {
    if !frame.has_let() {
        return Ok(());
    }
    let name = &arg.name.value;
    let error = Diagnostic::error(codes::REDECLARED_ARGUMENT, format!("`{name}` is declared twice"))
        .with_label(arg.name.span, "again here");
    Err(match before {
        Kind::Let => error.with_help(format!("it is a LET; `SET {name} = …` changes it")),
        Kind::Loop => error.with_help("it is the variable of a FOR; choose another name"),
        Kind::Arg | Kind::Builtin if arg.global => {
            error.with_help(format!("did you mean `ARG --global {name}` for the first one?"))
        }
        Kind::Arg | Kind::Builtin | Kind::Global => {
            error.with_help("a recipe has one ARG of a name; drop the second one")
        }
    })
}

fn refuse_default(arg: &Arg) -> Fallible<()> {
    let Some(default) = &arg.default else { return Ok(()) };
    let name = &arg.name.value;
    let message = format!("`{name}` is set by rb itself and has no default");
    Err(Diagnostic::error(codes::BUILTIN_ARGUMENT, message)
        .with_label(default.span, "never used")
        .with_help(format!("write `ARG {name}`")))
}

/// Reads a text as a type; `None` where it is none of its values.
fn typed(text: &str, kind: &ArgType) -> Option<Value> {
    match kind {
        ArgType::String => Some(Value::String(text.to_owned())),
        ArgType::Bool => text.parse().ok().map(Value::Bool),
        ArgType::Int => text.parse().ok().map(Value::Int),
        ArgType::Enum(values) => {
            values.iter().any(|value| value == text).then(|| Value::String(text.to_owned()))
        }
        ArgType::Path => {
            let inside = crate::lower::paths::inside(text).is_ok();
            inside.then(|| Value::String(text.to_owned()))
        }
        ArgType::List => {
            let items = text.split(|next: char| next == ',' || next.is_whitespace());
            Some(Value::List(
                items.filter(|item| !item.is_empty()).map(|item| Value::String(item.to_owned())).collect(),
            ))
        }
    }
}

fn wrong_type(arg: &Arg, kind: &ArgType, text: &str, from: Option<Span>) -> Diagnostic {
    let name = &arg.name.value;
    let (wanted, help) = match kind {
        ArgType::Bool => {
            ("`true` or `false`".to_owned(), format!("write `--{name}=true` or `--{name}=false`"))
        }
        ArgType::Int => ("a whole number".to_owned(), format!("write digits, such as `--{name}=8`")),
        ArgType::Path => (
            "a path in the project".to_owned(),
            "write a path relative to this file's folder that stays in it".to_owned(),
        ),
        ArgType::Enum(values) => {
            let all = values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
            let help = match nearest(text, values.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it takes {all}"),
            };
            (format!("one of {all}"), help)
        }
        ArgType::String | ArgType::List => ("a text".to_owned(), "write a text".to_owned()),
    };
    Diagnostic::error(codes::WRONG_TYPE, format!("`{name}` takes {wanted}, not `{text}`"))
        .with_label(
            from.unwrap_or(arg.name.span),
            if from.is_some() { "its default" } else { "declared here" },
        )
        .with_help(help)
}
