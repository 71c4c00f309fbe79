//! Texts with `${…}` and `%{…}` in them.

use std::collections::BTreeMap;

use hcl_edit::template::{Directive, Element, ForDirective, IfDirective, Strip, Template};
use rb_diag::Diagnostic;

use super::{Place, Scope, text, unfit};
use crate::value::Value;

/// A text has at most about this many bytes: texts that hold others twice soon hold more than memory.
const LONGEST: usize = 1 << 24;

impl Place<'_> {
    pub(super) fn template(self, template: &Template) -> Result<Value, Diagnostic> {
        self.elements(template.iter().collect())
    }

    /// Evaluates the elements of a template; what is nothing but one interpolation keeps the type of its value.
    pub(super) fn elements(self, elements: Vec<&Element>) -> Result<Value, Diagnostic> {
        if let [Element::Interpolation(single)] = elements.as_slice() {
            return self.value(&single.expr);
        }
        self.pieces(&elements, false, false).map(Value::Text)
    }

    /// Joins elements; `after` and `before` tell whether what stands around them takes away their space.
    fn pieces(self, elements: &[&Element], after: bool, before: bool) -> Result<String, Diagnostic> {
        let mut all = String::new();
        for (at, element) in elements.iter().enumerate() {
            if all.len() > LONGEST {
                return Err(unfit("this text becomes too long", self.at.span(*element)));
            }
            match element {
                Element::Literal(literal) => {
                    let previous = at.checked_sub(1).and_then(|at| elements.get(at));
                    let strip_start = previous.map_or(after, |element| strips(element).1);
                    let strip_end = elements.get(at + 1).map_or(before, |element| strips(element).0);
                    let mut literal: &str = literal.value();
                    if strip_start {
                        literal = literal.trim_start();
                    }
                    if strip_end {
                        literal = literal.trim_end();
                    }
                    all.push_str(literal);
                }
                Element::Interpolation(interpolation) => {
                    let span = self.at.span(&interpolation.expr);
                    all.push_str(&text(
                        self.value(&interpolation.expr)?,
                        span,
                        "what `${…}` puts into a text",
                    )?);
                }
                Element::Directive(directive) => match &**directive {
                    Directive::If(directive) => all.push_str(&self.choice(directive)?),
                    Directive::For(directive) => all.push_str(&self.repetition(directive)?),
                },
            }
        }
        Ok(all)
    }

    fn choice(self, directive: &IfDirective) -> Result<String, Diagnostic> {
        let end = directive.endif_expr.strip.strip_start();
        let first = &directive.if_expr;
        if self.condition(&first.cond_expr, "the condition of `%{if}`")? {
            let before = directive.else_expr.as_ref().map_or(end, |other| other.strip.strip_start());
            return self.pieces(&first.template.iter().collect::<Vec<_>>(), first.strip.strip_end(), before);
        }
        match &directive.else_expr {
            Some(other) => {
                self.pieces(&other.template.iter().collect::<Vec<_>>(), other.strip.strip_end(), end)
            }
            None => Ok(String::new()),
        }
    }

    fn repetition(self, directive: &ForDirective) -> Result<String, Diagnostic> {
        let each = &directive.for_expr;
        let elements: Vec<_> = each.template.iter().collect();
        let mut all = String::new();
        for (key, value) in self.pairs(&each.collection_expr)? {
            let mut names = BTreeMap::from([(each.value_var.value().to_string(), value)]);
            if let Some(name) = &each.key_var {
                names.insert(name.value().to_string(), key);
            }
            let scope = Scope { names, around: Some(self.scope) };
            let place = Place { scope: &scope, ..self };
            all.push_str(&place.pieces(
                &elements,
                each.strip.strip_end(),
                directive.endfor_expr.strip.strip_start(),
            )?);
        }
        Ok(all)
    }
}

/// Whether an element takes away the space before it, and after it.
fn strips(element: &Element) -> (bool, bool) {
    let of = |first: Strip, last: Strip| (first.strip_start(), last.strip_end());
    match element {
        Element::Literal(_) => (false, false),
        Element::Interpolation(interpolation) => of(interpolation.strip, interpolation.strip),
        Element::Directive(directive) => match &**directive {
            Directive::If(directive) => of(directive.if_expr.strip, directive.endif_expr.strip),
            Directive::For(directive) => of(directive.for_expr.strip, directive.endfor_expr.strip),
        },
    }
}
