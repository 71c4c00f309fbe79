//! From a word as written to a [`Template`].
//!
//! In: text. Out: segments, or the first mistake and where it is. The whole word is read before any of it is filled
//! in, so that a later part may ask the outside in between.

use rb_expression::Expression;

use super::split::part_end;
use super::{Expressions, Operator, Segment, Template, WordError, WordErrorKind, is_name_character};

/// How deep `${x:-${y:-…}}` may nest.
const DEEPEST: usize = 64;

impl Template {
    /// Takes a word apart.
    pub(crate) fn parse(raw: &str, expressions: Expressions) -> Result<Self, WordError> {
        let mut reader = Reader { raw, at: 0, depth: 0, expressions };
        let segments = reader.segments(None)?;
        Ok(Self { segments, length: raw.len() })
    }
}

/// What a backslash can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quoting {
    /// Escape any character.
    Bare,
    /// Escape `"`, `$`, `\` and the start of an expression.
    Double,
}

struct Reader<'a> {
    raw: &'a str,
    at: usize,
    depth: usize,
    expressions: Expressions,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.raw[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn error<T>(&self, start: usize, kind: WordErrorKind) -> Result<T, WordError> {
        Err(WordError { kind, range: start..self.at })
    }

    /// Returns whether an expression starts here.
    fn at_expression(&self) -> bool {
        self.expressions == Expressions::On && self.raw[self.at..].starts_with("{{")
    }

    /// Reads to the end, or to an unquoted `until`, which is left for the caller.
    fn segments(&mut self, until: Option<char>) -> Result<Vec<Segment>, WordError> {
        let mut segments = Vec::new();
        while let Some(next) = self.peek() {
            if Some(next) == until {
                break;
            }
            match next {
                '\'' => self.single_quoted(&mut segments)?,
                '"' => self.double_quoted(&mut segments)?,
                _ => self.part(&mut segments, Quoting::Bare)?,
            }
        }
        Ok(segments)
    }

    /// Reads one escape, variable, command, expression or character.
    fn part(&mut self, segments: &mut Vec<Segment>, quoting: Quoting) -> Result<(), WordError> {
        let start = self.at;
        if self.at_expression() {
            segments.push(self.expression()?);
            return Ok(());
        }
        match self.next() {
            Some('\\') => match self.peek() {
                Some(next) if quoting == Quoting::Bare || "\"$\\".contains(next) || self.at_expression() => {
                    self.at += next.len_utf8();
                    segments.push(Segment::Escaped(next));
                }
                _ => push(segments, '\\'),
            },
            Some('$') => self.dollar(start, segments)?,
            Some(next) => push(segments, next),
            None => {}
        }
        Ok(())
    }

    fn single_quoted(&mut self, segments: &mut Vec<Segment>) -> Result<(), WordError> {
        let start = self.at;
        self.at += 1;
        // An empty literal, so that '' is a word.
        segments.push(Segment::Literal(String::new()));
        loop {
            match self.next() {
                Some('\'') => return Ok(()),
                Some(next) => push(segments, next),
                None => return self.error(start, WordErrorKind::OpenQuote),
            }
        }
    }

    fn double_quoted(&mut self, segments: &mut Vec<Segment>) -> Result<(), WordError> {
        let start = self.at;
        self.at += 1;
        segments.push(Segment::Literal(String::new()));
        loop {
            match self.peek() {
                Some('"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(_) => self.part(segments, Quoting::Double)?,
                None => return self.error(start, WordErrorKind::OpenQuote),
            }
        }
    }

    fn expression(&mut self) -> Result<Segment, WordError> {
        let start = self.at;
        let Some(end) = rb_expression::end(self.raw, start) else {
            self.at = self.raw.len();
            return self.error(start, WordErrorKind::OpenExpression);
        };
        self.at = end;
        match Expression::parse(&self.raw[start + 2..end - 2]) {
            Ok(expression) => Ok(Segment::Expression { expression: Box::new(expression), range: start..end }),
            Err(error) => Err(WordError::of_expression(error, start)),
        }
    }

    fn dollar(&mut self, start: usize, segments: &mut Vec<Segment>) -> Result<(), WordError> {
        match self.peek() {
            Some('(') => {
                let Some(end) = part_end(self.raw, start) else {
                    self.at = self.raw.len();
                    return self.error(start, WordErrorKind::OpenCommand);
                };
                self.at = end;
                let command = self.raw[start + 2..end - 1].to_owned();
                segments.push(Segment::Command { command, range: start..end });
            }
            Some('{') => {
                self.at += 1;
                let segment = self.braced(start)?;
                segments.push(segment);
            }
            Some(first) if is_name_character(first) => {
                let name = self.name();
                segments.push(Segment::Variable { name, operator: None, range: start..self.at });
            }
            _ => push(segments, '$'),
        }
        Ok(())
    }

    fn name(&mut self) -> String {
        let start = self.at;
        while self.peek().is_some_and(is_name_character) {
            self.at += 1;
        }
        self.raw[start..self.at].to_owned()
    }

    fn braced(&mut self, start: usize) -> Result<Segment, WordError> {
        let name = self.name();
        if name.is_empty() {
            return self.error(start, WordErrorKind::NoName);
        }
        let operator = match self.peek() {
            Some('}') => None,
            None => return self.error(start, WordErrorKind::OpenBrace),
            Some(_) => {
                let operator = self.operator()?;
                self.depth += 1;
                if self.depth > DEEPEST {
                    return self.error(start, WordErrorKind::TooDeep { limit: DEEPEST });
                }
                let word = self.segments(Some('}'))?;
                self.depth -= 1;
                Some((operator, word))
            }
        };
        if self.next() != Some('}') {
            return self.error(start, WordErrorKind::OpenBrace);
        }
        Ok(Segment::Variable { name, operator, range: start..self.at })
    }

    fn operator(&mut self) -> Result<Operator, WordError> {
        let start = self.at;
        let or_empty = self.peek() == Some(':');
        if or_empty {
            self.at += 1;
        }
        let first = self.next();
        let doubled = |this: &mut Self| {
            let doubled = this.peek() == first;
            this.at += usize::from(doubled);
            doubled
        };
        Ok(match first {
            Some('-') => Operator::Default { or_empty },
            Some('+') => Operator::Alternative { or_empty },
            Some('?') => Operator::Required { or_empty },
            Some('#') if !or_empty => Operator::CutStart { longest: doubled(self) },
            Some('%') if !or_empty => Operator::CutEnd { longest: doubled(self) },
            _ => {
                let operator = self.raw[start..self.at].to_owned();
                return self.error(start, WordErrorKind::Operator { operator });
            }
        })
    }
}

fn push(segments: &mut Vec<Segment>, character: char) {
    match segments.last_mut() {
        Some(Segment::Literal(text)) => text.push(character),
        _ => segments.push(Segment::Literal(character.to_string())),
    }
}
