//! The space in heredocs: what `~` takes away, and the indentation that `<<-` does.
//!
//! The two belong together: in a heredoc each line is a piece of its own, so `~}` reaches no further than the end of its
//! line, and a line that lost its beginning has no indentation that counts. The parser takes each literal as a whole, so
//! this goes over the literals of a file again, as they stand in its text, before anything is evaluated.
//! Source: hcl hclsyntax, the order of trimming and flushing of template parts.

use std::collections::VecDeque;

use hcl_edit::Span as _;
use hcl_edit::structure::Body;
use hcl_edit::template::{Directive, Element, HeredocTemplate, Strip, Template};
use hcl_edit::visit_mut::{VisitMut, visit_heredoc_template_mut};

/// Settles the space in all heredocs of a file.
pub(crate) fn settle(text: &str, body: &mut Body) {
    Settle { text }.visit_body_mut(body);
}

struct Settle<'t> {
    text: &'t str,
}

impl VisitMut for Settle<'_> {
    fn visit_heredoc_template_mut(&mut self, heredoc: &mut HeredocTemplate) {
        let written = heredoc.span().and_then(|span| self.text.get(span)).unwrap_or_default();
        let indented = written.starts_with("<<-");
        let mut pieces = Vec::new();
        self.collect(&heredoc.template, &mut pieces);
        trim(&mut pieces);
        if indented {
            flush(&mut pieces);
        }
        put(&mut heredoc.template, &mut pieces.into());
        visit_heredoc_template_mut(self, heredoc);
    }
}

/// A piece of a heredoc, in the order of the text.
enum Piece {
    /// A line of a literal, or the part of one.
    Line(String),
    /// The end of a literal.
    End,
    /// `${…}` or `%{…}`.
    Sequence(Strip),
}

impl Settle<'_> {
    fn collect(&self, template: &Template, pieces: &mut Vec<Piece>) {
        for element in template {
            match element {
                Element::Literal(literal) => {
                    let written = literal.span().and_then(|span| self.text.get(span));
                    let literal = written.map_or_else(
                        || literal.value().clone(),
                        |written| written.replace("$${", "${").replace("%%{", "%{"),
                    );
                    pieces.extend(literal.split_inclusive('\n').map(|line| Piece::Line(line.to_owned())));
                    pieces.push(Piece::End);
                }
                Element::Interpolation(interpolation) => pieces.push(Piece::Sequence(interpolation.strip)),
                Element::Directive(directive) => match &**directive {
                    Directive::If(directive) => {
                        pieces.push(Piece::Sequence(directive.if_expr.strip));
                        self.collect(&directive.if_expr.template, pieces);
                        if let Some(other) = &directive.else_expr {
                            pieces.push(Piece::Sequence(other.strip));
                            self.collect(&other.template, pieces);
                        }
                        pieces.push(Piece::Sequence(directive.endif_expr.strip));
                    }
                    Directive::For(directive) => {
                        pieces.push(Piece::Sequence(directive.for_expr.strip));
                        self.collect(&directive.for_expr.template, pieces);
                        pieces.push(Piece::Sequence(directive.endfor_expr.strip));
                    }
                },
            }
        }
    }
}

/// Takes away the space beside sequences that ask for it: of one line before, and of one line after.
fn trim(pieces: &mut [Piece]) {
    for at in 0..pieces.len() {
        let Piece::Sequence(strip) = pieces[at] else { continue };
        if strip.strip_start()
            && let [.., Piece::Line(line), Piece::End] = &mut pieces[..at]
        {
            line.truncate(line.trim_end().len());
        }
        if strip.strip_end()
            && let Some(Piece::Line(line)) = pieces.get_mut(at + 1)
        {
            *line = line.trim_start().to_owned();
        }
    }
}

/// Takes away the indentation that all lines share.
fn flush(pieces: &mut [Piece]) {
    let mut begins = true;
    let mut least: Option<usize> = None;
    let mut indented = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        let line = match piece {
            Piece::End => continue,
            Piece::Line(line) => line.as_str(),
            Piece::Sequence(_) => "",
        };
        if begins {
            let spaces = line.chars().take_while(|letter| letter.is_whitespace()).count();
            // A blank line says nothing of the others.
            if !(line.ends_with('\n') && line.trim_start().is_empty()) {
                least = Some(least.map_or(spaces, |least| least.min(spaces)));
                indented.push(at);
            }
        }
        begins = line.ends_with('\n');
    }
    let least = least.unwrap_or(0);
    for at in indented {
        if let Piece::Line(line) = &mut pieces[at] {
            *line = line.chars().skip(least).collect();
        }
    }
}

/// Puts the literals back to their places; what `~` asks for is done.
fn put(template: &mut Template, pieces: &mut VecDeque<Piece>) {
    for element in template.iter_mut() {
        match element {
            Element::Literal(literal) => {
                let mut all = String::new();
                while let Some(Piece::Line(line)) = pieces.pop_front() {
                    all.push_str(&line);
                }
                *literal.value_mut() = all;
            }
            Element::Interpolation(interpolation) => {
                pieces.pop_front();
                interpolation.strip = Strip::None;
            }
            Element::Directive(directive) => match &mut **directive {
                Directive::If(directive) => {
                    pieces.pop_front();
                    directive.if_expr.strip = Strip::None;
                    put(&mut directive.if_expr.template, pieces);
                    if let Some(other) = &mut directive.else_expr {
                        pieces.pop_front();
                        other.strip = Strip::None;
                        put(&mut other.template, pieces);
                    }
                    pieces.pop_front();
                    directive.endif_expr.strip = Strip::None;
                }
                Directive::For(directive) => {
                    pieces.pop_front();
                    directive.for_expr.strip = Strip::None;
                    put(&mut directive.for_expr.template, pieces);
                    pieces.pop_front();
                    directive.endfor_expr.strip = Strip::None;
                }
            },
        }
    }
}
