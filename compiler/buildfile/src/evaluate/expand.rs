//! Words → texts and values: variables, `{{ … }}`, and `$(…)`.
//!
//! Expanding a word is pure; where it needs what only a command or a file can tell it stops and says so, the world is
//! asked, and the word is expanded again with the answer. Source: earthly-language 3.13, 3.14.

use std::collections::BTreeMap;
use std::ops::Range;

use rb_diag::{Diagnostic, Severity, Span};
use rb_expression::{Answer, Question, Value};
use rb_frontend::TargetRef;
use rb_syntax::{Edition, Toggle, Word};

use super::frame::Frame;
use super::{Evaluator, Fallible};
use crate::codes;
use crate::lower::DEFAULT_PATH;
use crate::resolve::{Meaning, parse_reference};
use crate::word::{self, Escapes, Expressions, Template, WordError, WordErrorKind};

/// What expanding sees.
struct Names<'a> {
    frame: &'a Frame,
    outputs: BTreeMap<String, String>,
    files: BTreeMap<Question, Answer>,
}

impl<'a> Names<'a> {
    fn new(frame: &'a Frame) -> Self {
        Self { frame, outputs: BTreeMap::new(), files: BTreeMap::new() }
    }
}

impl word::Scope for Names<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        let known = self.frame.variable(name).map(|value| value.to_string());
        // A step always has a PATH, so a word may add to it.
        let path = || (name == "PATH" && self.frame.locally.is_none()).then(|| DEFAULT_PATH.to_owned());
        known.or_else(path)
    }

    fn value(&self, name: &str) -> Option<Value> {
        self.frame.variable(name)
    }

    fn names(&self) -> Vec<String> {
        self.frame.scope.variables.names(&self.frame.config.config)
    }

    fn output(&self, command: &str) -> Option<String> {
        self.outputs.get(command).cloned()
    }

    fn answer(&self, question: &Question) -> Option<Answer> {
        self.files.get(question).cloned()
    }
}

impl Evaluator<'_> {
    /// Fills in a word's variables, expressions and commands.
    pub(super) async fn expand(&self, frame: &Frame, word: &Word, escapes: Escapes) -> Fallible<String> {
        if !word.raw.contains(['$', '\\', '\'', '"', '{']) {
            return Ok(word.raw.clone());
        }
        let template = template(frame, word)?;
        let mut names = Names::new(frame);
        loop {
            match template.expand(escapes, &names) {
                Ok(expanded) => {
                    self.check_known(frame, word, expanded.unknown)?;
                    return Ok(expanded.text);
                }
                Err(stop) => self.answer(frame, word, &mut names, stop).await?,
            }
        }
    }

    /// Returns what a word means as a value: a word that is one `{{ … }}` keeps its type, any other is a string.
    pub(super) async fn value(&self, frame: &Frame, word: &Word) -> Fallible<Value> {
        let template = template(frame, word)?;
        if !template.single_expression() {
            return self.expand(frame, word, Escapes::Remove).await.map(Value::String);
        }
        let mut names = Names::new(frame);
        loop {
            match template.value(&names) {
                Ok(value) => return Ok(value),
                Err(stop) => self.answer(frame, word, &mut names, stop).await?,
            }
        }
    }

    /// Returns whether a word is one `{{ … }}` as a whole.
    pub(super) fn is_expression(frame: &Frame, word: &Word) -> bool {
        word.raw.contains("{{") && template(frame, word).is_ok_and(|template| template.single_expression())
    }

    /// Finds out what made a word stop.
    async fn answer(
        &self,
        frame: &Frame,
        word: &Word,
        names: &mut Names<'_>,
        stop: word::Stop,
    ) -> Fallible<()> {
        match stop {
            word::Stop::Command { command, range } => {
                let output = self.output(frame, &command, part_of(word, range)).await?;
                names.outputs.insert(command, output);
            }
            word::Stop::File { question, range } => {
                let answer = self.file_answer(frame, &question, part_of(word, range)).await?;
                names.files.insert(question, answer);
            }
            word::Stop::Error(error) => return Err(word_error(word, error)),
        }
        Ok(())
    }

    fn check_known(&self, frame: &Frame, word: &Word, unknown: Vec<(String, Range<usize>)>) -> Fallible<()> {
        for (name, range) in unknown {
            // Near names take time, and nobody reads a thousand warnings.
            if frame.edition() < Edition::One && self.has_many_warnings() {
                return Ok(());
            }
            let found = unknown_variable(frame, &name, part_of(word, range));
            match found.severity {
                Severity::Error => return Err(found),
                Severity::Warning => self.warn(found),
            }
        }
        Ok(())
    }

    /// Returns whether a flag is on.
    pub(super) async fn toggle(&self, frame: &Frame, toggle: &Toggle) -> Fallible<bool> {
        let word = match toggle {
            Toggle::Off => return Ok(false),
            Toggle::On => return Ok(true),
            Toggle::Word(word) => word,
        };
        match self.expand(frame, word, Escapes::Remove).await?.as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" | "" => Ok(false),
            other => {
                let message = format!("`{other}` is neither `true` nor `false`");
                Err(Diagnostic::error(codes::BAD_FLAG, message)
                    .with_label(word.span, "")
                    .with_help("write `=true` or `=false`, or drop the value"))
            }
        }
    }

    /// Settles a reference whose variables are known only now.
    pub(super) async fn reference(&self, frame: &Frame, word: &Word) -> Fallible<Meaning> {
        let text = self.expand(frame, word, Escapes::KeepPlus).await?;
        let scope = &frame.scope;
        parse_reference(&text, &scope.file.project, scope.file.edition, &scope.imports)
            .map_err(|error| error.diagnostic().with_label(word.span, format!("this is `{text}`")))
    }
}

/// Returns the target a name of a recipe stands for, in messages.
pub(super) fn place(frame: &Frame) -> String {
    match &frame.scope.function {
        Some(function) => format!("function `{}`", function.name),
        None => TargetRef::to_string(&frame.key.target),
    }
}

fn template(frame: &Frame, word: &Word) -> Fallible<Template> {
    let expressions = match frame.edition() {
        Edition::One => Expressions::On,
        Edition::Earthly06 | Edition::Earthly07 | Edition::Earthly08 => Expressions::Off,
    };
    Template::parse(&word.raw, expressions).map_err(|error| word_error(word, error))
}

fn unknown_variable(frame: &Frame, name: &str, at: Span) -> Diagnostic {
    let message = format!("nothing defines `${name}`");
    let found = match frame.edition() {
        Edition::One => Diagnostic::error(codes::UNKNOWN_VARIABLE, message),
        Edition::Earthly06 | Edition::Earthly07 | Edition::Earthly08 => {
            Diagnostic::warning(codes::UNKNOWN_VARIABLE, message)
        }
    };
    let found = found.with_label(at, "this is empty");
    let names = frame.scope.variables.names(&frame.config.config);
    match rb_diag::nearest(name, names.iter().map(String::as_str)) {
        Some(near) => found.with_help(format!("did you mean `${near}`?")),
        None => found
            .with_help(format!("declare it with `ARG {name}`, or write `${{{name}:-}}` if it may be empty")),
    }
}

fn word_error(word: &Word, error: WordError) -> Diagnostic {
    let at = part_of(word, error.range.clone());
    let text = error.to_string();
    match error.kind {
        WordErrorKind::TooLong { .. } => Diagnostic::error(codes::BAD_EXPANSION, text)
            .with_label(word.span, "grows to that")
            .with_help("keep large texts in files"),
        WordErrorKind::Required { name, .. } => {
            let help =
                format!("give `{name}` a value above, or pass `--{name}=…` to the recipe that declares it");
            Diagnostic::error(codes::REQUIRED_VARIABLE, text).with_label(at, "").with_help(help)
        }
        WordErrorKind::Expression(error) => {
            let found = Diagnostic::error(codes::BAD_EXPRESSION, text).with_label(at, "");
            found.with_help(
                error
                    .help()
                    .unwrap_or_else(|| "the operands have no such value; see what each of them is".into()),
            )
        }
        _ => Diagnostic::error(codes::BAD_EXPANSION, text)
            .with_label(at, "")
            .with_help("a `$` or a quote that is meant as such is written `\\$`, `\\'` or `\\\"`"),
    }
}

/// Returns where some bytes of a word stand. Where lines were joined only the whole word is known.
pub(super) fn part_of(word: &Word, range: Range<usize>) -> Span {
    if (word.span.end - word.span.start) as usize != word.raw.len() {
        return word.span;
    }
    let at = |offset: usize| word.span.start + offset as u32;
    Span { source: word.span.source, start: at(range.start), end: at(range.end) }
}
