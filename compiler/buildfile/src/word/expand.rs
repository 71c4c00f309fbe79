//! From a [`Template`] and a [`Scope`] to a text or a value.
//!
//! In: segments. Out: [`Expanded`], or the first thing that stands in its way. Left to right; of `${x:-a}` and
//! `${x:+a}` the word is looked at only where it counts.

use std::ops::Range;

use rb_expression::{Answer, Expression, ExpressionError, Question, Value, glob};

use super::{
    Escapes, Expanded, Operator, SHELL_VARIABLES, Scope, Segment, Stop, Template, WordError, WordErrorKind,
};

/// The longest text that a word may come to.
const MAX_BYTES: usize = 1 << 20;

impl Template {
    /// Makes the text.
    pub(crate) fn expand(&self, escapes: Escapes, scope: &dyn Scope) -> Result<Expanded, Stop> {
        let mut expansion = Expansion { escapes, scope, expanded: Expanded::default() };
        expansion.segments(&self.segments)?;
        Ok(expansion.expanded)
    }

    /// Computes the value of a word that is a [`Self::single_expression`]. Panics for any other.
    pub(crate) fn value(&self, scope: &dyn Scope) -> Result<Value, Stop> {
        let (expression, range) = self.only_expression().expect("the word is a single expression");
        evaluate(expression, range, scope)
    }
}

impl WordError {
    /// Makes a word's error of an expression's. `start` is where its `{{` stands.
    pub(super) fn of_expression(error: ExpressionError, start: usize) -> Self {
        Self { range: in_word(start, &error.range), kind: WordErrorKind::Expression(error) }
    }
}

/// Maps a place in an expression into the word that has its `{{` at `start`.
fn in_word(start: usize, range: &Range<usize>) -> Range<usize> {
    let inside = start + "{{".len();
    inside + range.start..inside + range.end
}

fn evaluate(expression: &Expression, range: &Range<usize>, scope: &dyn Scope) -> Result<Value, Stop> {
    expression.evaluate(&Seen(scope)).map_err(|stop| match stop {
        rb_expression::Stop::Ask { question, range: at } => {
            Stop::File { question, range: in_word(range.start, &at) }
        }
        rb_expression::Stop::Error(error) => Stop::Error(WordError::of_expression(error, range.start)),
    })
}

/// A word's scope as its expressions see it.
struct Seen<'a>(&'a dyn Scope);

impl rb_expression::Scope for Seen<'_> {
    fn variable(&self, name: &str) -> Option<Value> {
        self.0.value(name)
    }

    fn answer(&self, question: &Question) -> Option<Answer> {
        self.0.answer(question)
    }

    fn names(&self) -> Vec<String> {
        self.0.names()
    }
}

/// A text being made.
struct Expansion<'a> {
    escapes: Escapes,
    scope: &'a dyn Scope,
    expanded: Expanded,
}

impl Expansion<'_> {
    fn segments(&mut self, segments: &[Segment]) -> Result<(), Stop> {
        for segment in segments {
            match segment {
                Segment::Literal(text) => self.expanded.text.push_str(text),
                Segment::Escaped(character) => {
                    let keep = match self.escapes {
                        Escapes::Remove => false,
                        Escapes::KeepPlus => *character == '+',
                        Escapes::KeepPattern => "*?[\\".contains(*character),
                    };
                    if keep {
                        self.expanded.text.push('\\');
                    }
                    self.expanded.text.push(*character);
                }
                Segment::Variable { name, operator, range } => {
                    let text = self.variable(name, operator.as_ref(), range)?;
                    self.expanded.text.push_str(&text);
                }
                Segment::Command { command, range } => {
                    let text = self.output(command, range)?;
                    self.expanded.text.push_str(&text);
                }
                Segment::Expression { expression, range } => {
                    let value = evaluate(expression, range, self.scope)?;
                    self.expanded.text.push_str(&value.to_string());
                }
            }
            if self.expanded.text.len() > MAX_BYTES {
                // Values that are put together of values grow fast.
                let kind = WordErrorKind::TooLong { limit: MAX_BYTES };
                return Err(WordError { kind, range: 0..0 }.into());
            }
        }
        Ok(())
    }

    fn output(&self, command: &str, range: &Range<usize>) -> Result<String, Stop> {
        let stop = || Stop::Command { command: command.to_owned(), range: range.clone() };
        self.scope.output(command).ok_or_else(stop)
    }

    fn variable(
        &mut self,
        name: &str,
        operator: Option<&(Operator, Vec<Segment>)>,
        range: &Range<usize>,
    ) -> Result<String, Stop> {
        let value = match self.scope.variable(name) {
            None if SHELL_VARIABLES.contains(&name) => Some(self.output(&format!("echo ${name}"), range)?),
            value => value,
        };
        let Some((operator, word)) = operator else {
            if value.is_none() {
                self.expanded.unknown.push((name.to_owned(), range.clone()));
            }
            return Ok(value.unwrap_or_default());
        };
        let counts = |or_empty: bool| value.as_ref().is_some_and(|value| !(or_empty && value.is_empty()));
        Ok(match *operator {
            Operator::Default { or_empty } if counts(or_empty) => value.unwrap_or_default(),
            Operator::Default { .. } => self.word(word)?,
            Operator::Alternative { or_empty } if counts(or_empty) => self.word(word)?,
            Operator::Alternative { .. } => String::new(),
            Operator::Required { or_empty } if counts(or_empty) => value.unwrap_or_default(),
            Operator::Required { .. } => {
                let message = match self.word(word)? {
                    message if message.is_empty() => "it is required here".to_owned(),
                    message => message,
                };
                let kind = WordErrorKind::Required { name: name.to_owned(), message };
                return Err(WordError { kind, range: range.clone() }.into());
            }
            Operator::CutStart { longest } => {
                let pattern = self.word(word)?;
                let value = value.unwrap_or_default();
                let mut ends = boundaries(&value);
                let fits = glob::matcher(&pattern);
                let cut = |end: &usize| fits(&value[..*end]);
                let end = if longest { ends.rfind(cut) } else { ends.find(cut) };
                value[end.unwrap_or(0)..].to_owned()
            }
            Operator::CutEnd { longest } => {
                let pattern = self.word(word)?;
                let value = value.unwrap_or_default();
                let mut starts = boundaries(&value);
                let fits = glob::matcher(&pattern);
                let cut = |start: &usize| fits(&value[*start..]);
                let start = if longest { starts.find(cut) } else { starts.rfind(cut) };
                value[..start.unwrap_or(value.len())].to_owned()
            }
        })
    }

    /// Makes the text of the word in `${x:-word}`.
    fn word(&mut self, word: &[Segment]) -> Result<String, Stop> {
        let before = std::mem::take(&mut self.expanded.text);
        self.segments(word)?;
        Ok(std::mem::replace(&mut self.expanded.text, before))
    }
}

fn boundaries(text: &str) -> impl DoubleEndedIterator<Item = usize> + '_ {
    text.char_indices().map(|(at, _)| at).chain(std::iter::once(text.len()))
}
