//! Evaluate: each target key once, statement by statement, into a [`TargetOutput`].
//!
//! In: a [`Program`] and the request. Out: a [`BuildPlan`], or the first error with the trail of how the build got
//! there. How: a target is evaluated in a [`Frame`] that starts from what the base recipe left; a call evaluates the
//! callee first and takes its output from the memo afterwards. Keys are evaluated in the order of the text.
//! **Invariant:** a [`TargetKey`] is evaluated at most once, and its output is a function of the key, the files and
//! the world's answers.

mod arguments;
mod artifacts;
mod base;
mod commands;
mod driver;
mod files;
mod frame;
mod plan;
mod variables;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rb_diag::{Diagnostic, Diagnostics, ErrorKind, Span};
use rb_frontend::{BuildPlan, BuildRequest, TargetKey, TargetOutput, TargetRef, World, WorldError};
use rb_syntax::{Call, Edition, Word};

use crate::codes;
use crate::resolve::{BASE, File, Program, Reference, Resolved, parse_reference};
use crate::word::{Escapes, Template, WordError, WordErrorKind};
use driver::Memo;
use frame::Frame;

type Fallible<T> = Result<T, Diagnostic>;

/// What evaluation of one key gives.
#[derive(Debug, Clone)]
struct Evaluated {
    output: Arc<TargetOutput>,
    /// Global ARGs, of a base recipe only.
    globals: BTreeMap<String, String>,
    /// Some FROM stood in it, so that statements can work on its filesystem.
    based: bool,
}

struct Evaluator<'w> {
    world: &'w dyn World,
    program: Program<'w>,
    memo: Memo,
    warnings: Mutex<Diagnostics>,
}

/// Evaluates what was asked for.
pub(crate) async fn evaluate(
    world: &dyn World,
    program: Program<'_>,
    request: &BuildRequest,
) -> Result<BuildPlan, Diagnostics> {
    let evaluator = Evaluator { world, program, memo: Memo::default(), warnings: Mutex::default() };
    evaluator.request(request).await.map_err(|error| vec![error])
}

impl Evaluator<'_> {
    async fn request(&self, request: &BuildRequest) -> Fallible<BuildPlan> {
        let file = self.program.loaded(&request.target.project).ok_or_else(|| {
            let message = format!("the build file of {} was not read", request.target);
            Diagnostic::error(codes::WORKSPACE, message).with_kind(ErrorKind::Internal)
        })?;
        for name in request.args.keys() {
            self.check_argument(&file, &request.target, name, None)?;
        }
        let args = arguments::reaching(&file, &request.target.name, request.args.clone());
        let key = TargetKey { target: request.target.clone(), args, platform: request.platform.clone() };
        let evaluated = self.drive(key).await?;
        let mut warnings = self.program.take_warnings();
        warnings.append(&mut self.warnings.lock().expect("no holder of this lock panics"));
        plan::plan(&evaluated.output, warnings)
    }

    fn warn(&self, warning: Diagnostic) {
        self.warnings.lock().expect("no holder of this lock panics").push(warning);
    }

    async fn recipe(&self, key: &TargetKey, at: Option<Span>) -> Fallible<Evaluated> {
        let file = self.program.target_file(&key.target, at).await?;
        let mut frame = if key.target.name == BASE || file.buildfile.base.is_empty() {
            Frame::new(Arc::clone(&file), key.clone())
        } else {
            let target = TargetRef { project: key.target.project.clone(), name: BASE.to_owned() };
            let args = arguments::of_base(&file, key.args.clone());
            let base = self.target(TargetKey { target, args, platform: key.platform.clone() }, at).await?;
            Frame::on_base(Arc::clone(&file), key.clone(), &base)
        };
        for stmt in file.recipe(&key.target.name).unwrap_or_default() {
            self.execute(&mut frame, stmt).await?;
        }
        Ok(frame.finish())
    }

    /// Evaluates what a call means, once for each set of arguments it names.
    async fn call(&self, frame: &Frame, call: &Call<Resolved>, matrix: Matrix) -> Fallible<Vec<Evaluated>> {
        let target = match &call.target {
            Reference::Settled { target, .. } => target.clone(),
            Reference::Dynamic(word) => self.reference(frame, word)?,
        };
        let file = self.program.target_file(&target, Some(call.span)).await?;
        let mut evaluated = Vec::new();
        for explicit in self.call_arguments(frame, call, &file, &target, matrix)? {
            let args = arguments::passed(frame, &file, &target.name, explicit);
            let key = TargetKey { target: target.clone(), args, platform: frame.key.platform.clone() };
            evaluated.push(self.target(key, Some(call.span)).await?);
        }
        Ok(evaluated)
    }

    async fn call_one(&self, frame: &Frame, call: &Call<Resolved>) -> Fallible<Evaluated> {
        let evaluated = self.call(frame, call, Matrix::Refused).await?;
        let message = "a call that names no argument twice gave no target";
        let bug = || Diagnostic::error(codes::REPEATED_ARGUMENT, message).with_kind(ErrorKind::Internal);
        evaluated.into_iter().next().ok_or_else(bug)
    }

    fn reference(&self, frame: &Frame, word: &Word) -> Fallible<TargetRef> {
        let text = self.expand(frame, word, Escapes::KeepPlus)?;
        parse_reference(&text, &frame.key.target.project)
            .map_err(|error| error.diagnostic().with_label(word.span, format!("this is `{text}`")))
    }

    /// Fills in a word's variables.
    fn expand(&self, frame: &Frame, word: &Word, escapes: Escapes) -> Fallible<String> {
        if !word.raw.contains(['$', '\\', '\'', '"', '{']) {
            return Ok(word.raw.clone());
        }
        let place = |range: std::ops::Range<usize>| part_of(word, range);
        let template = Template::parse(&word.raw).map_err(|error| word_error(word, error))?;
        if let Some(range) = template.expression.clone().filter(|_| frame.file.edition == Edition::One) {
            let message = "expressions in `{{ … }}` come later";
            let error = Diagnostic::error(codes::LATER, message).with_label(place(range), "starts here");
            return Err(error.with_help("single quotes keep the braces as they are: '{{'"));
        }
        let lookup = |name: &str| frame.variables.get(name, &frame.config.config);
        let expanded = template.expand(escapes, &lookup).map_err(|error| word_error(word, error))?;
        for (name, range) in expanded.unknown {
            let found = unknown_variable(frame, &name, place(range));
            match found.severity {
                rb_diag::Severity::Error => return Err(found),
                rb_diag::Severity::Warning => self.warn(found),
            }
        }
        Ok(expanded.text)
    }
}

/// Whether a call may name an argument twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Matrix {
    /// BUILD: once for each combination of values.
    Allowed,
    /// FROM and COPY take one tree.
    Refused,
}

fn unknown_variable(frame: &Frame, name: &str, at: Span) -> Diagnostic {
    if name == "HOME" {
        let message =
            "`$HOME` is not known without running a command, and this version runs none for a value";
        return Diagnostic::error(codes::SHELL_OUT, message)
            .with_label(at, "no ENV defines it")
            .with_help("write `ENV HOME=/root` above, or the path itself");
    }
    let message = format!("nothing defines `${name}`");
    let found = match frame.file.edition {
        Edition::One => Diagnostic::error(codes::UNKNOWN_VARIABLE, message),
        Edition::Earthly06 | Edition::Earthly07 | Edition::Earthly08 => {
            Diagnostic::warning(codes::UNKNOWN_VARIABLE, message)
        }
    };
    let found = found.with_label(at, "this is empty");
    let near = rb_diag::nearest(name, frame.variables.names(&frame.config.config));
    match near {
        Some(near) => found.with_help(format!("did you mean `${near}`?")),
        None => found
            .with_help(format!("declare it with `ARG {name}`, or write `${{{name}:-}}` if it may be empty")),
    }
}

fn word_error(word: &Word, error: WordError) -> Diagnostic {
    let at = part_of(word, error.range.clone());
    let text = error.to_string();
    match error.kind {
        WordErrorKind::Command { .. } => {
            let written = word.raw.get(error.range).unwrap_or("$(…)");
            let message =
                format!("`{written}` would have to run to know this value, and this version runs none");
            Diagnostic::error(codes::SHELL_OUT, message).with_label(at, "a command").with_help(
                "pass the value as an ARG, or run the command in a RUN step, where the shell has it",
            )
        }
        WordErrorKind::Required { .. } => {
            Diagnostic::error(codes::REQUIRED_VARIABLE, text).with_label(at, "")
        }
        WordErrorKind::OpenQuote
        | WordErrorKind::OpenBrace
        | WordErrorKind::OpenCommand
        | WordErrorKind::NoName
        | WordErrorKind::Operator { .. } => Diagnostic::error(codes::BAD_EXPANSION, text)
            .with_label(at, "")
            .with_help("a `$` or a quote that is meant as such is written `\\$`, `\\'` or `\\\"`"),
    }
}

/// Returns where some bytes of a word stand. Where lines were joined only the whole word is known.
fn part_of(word: &Word, range: std::ops::Range<usize>) -> Span {
    if (word.span.end - word.span.start) as usize != word.raw.len() {
        return word.span;
    }
    let at = |offset: usize| word.span.start + offset as u32;
    Span { source: word.span.source, start: at(range.start), end: at(range.end) }
}

/// Says that the outside could not answer.
fn world_error(code: &'static str, error: &WorldError, at: Span) -> Diagnostic {
    let found = Diagnostic::error(code, error.to_string()).with_kind(error.kind()).with_label(at, "");
    match error {
        WorldError::NotFound { help: Some(help), .. } => found.with_help(help.clone()),
        WorldError::NotFound { help: None, .. } | WorldError::Failed { .. } | WorldError::Step { .. } => {
            found
        }
    }
}
