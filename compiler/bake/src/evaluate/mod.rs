//! Expressions to values.
//!
//! In: an expression, the names of the place it stands in, and a [`World`] that knows the file's variables, functions and
//! blocks. Out: a value, or what is wrong and where. Nothing is looked up before it is needed: what a condition does not
//! choose need not exist. The rules are those of HCL's specification; where that leaves room, of its reference
//! implementation.

mod call;
mod operate;
mod template;
mod traverse;
mod types;

use std::collections::BTreeMap;

use hcl_edit::expr::{Expression as Hcl, ForExpr, Object, ObjectKey};
use rb_diag::{Diagnostic, Span};

use crate::codes;
use crate::functions::Outside;
use crate::node::{Node, Said};
use crate::syntax::{At, Expression};
use crate::value::{Kind, Value, convert, parse_number, unify};

pub(crate) use traverse::index_of;
pub(crate) use types::{parse_kind, require_kind};

/// What an expression can name beside the names of its own place.
pub(crate) trait World {
    /// Returns the value of a variable of the file, if there is one.
    fn variable(&self, name: &str, span: Span) -> Result<Option<Value>, Diagnostic>;
    /// Returns a block of this kind, or one attribute of it; `None` if `kind` is no kind of block.
    fn block(
        &self,
        kind: &str,
        name: Option<&str>,
        attribute: Option<&str>,
        span: Span,
    ) -> Option<Result<Value, Diagnostic>>;
    /// Calls a function of the file, if there is one.
    fn call(&self, name: &str, values: &[Value], span: Span) -> Option<Result<Value, Diagnostic>>;
    /// Returns all names that could have been meant.
    fn names(&self) -> Vec<String>;
    /// What functions learn of the machine.
    fn outside(&self) -> &dyn Outside;
}

/// Names of a place, and of the places around it.
#[derive(Debug, Default)]
pub(crate) struct Scope<'s> {
    pub(crate) names: BTreeMap<String, Value>,
    pub(crate) around: Option<&'s Self>,
}

impl Scope<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        self.names.get(name).or_else(|| self.around?.get(name))
    }
}

/// Makes an error about a place.
pub(crate) fn fault(code: &'static str, message: impl Into<String>, span: Span) -> Diagnostic {
    Diagnostic::error(code, message).with_label(span, "")
}

/// Makes an error about a value.
pub(crate) fn unfit(message: impl Into<String>, span: Span) -> Diagnostic {
    fault(codes::VALUE, message, span)
}

/// Evaluates an expression.
pub(crate) fn evaluate(
    world: &dyn World,
    expression: &Expression,
    scope: &Scope<'_>,
) -> Result<Value, Diagnostic> {
    match expression {
        Expression::Hcl(expression, at) => Place { world, scope, at: *at }.value(expression),
        Expression::Json(node) => from_node(world, node, scope),
    }
}

/// Evaluates a value of JSON: each text is a template.
fn from_node(world: &dyn World, node: &Node, scope: &Scope<'_>) -> Result<Value, Diagnostic> {
    match &node.said {
        Said::Null => Ok(Value::Null(Kind::Any)),
        Said::Bool(value) => Ok(Value::Bool(*value)),
        Said::Number(text) => parse_number(text)
            .map(Value::Number)
            .ok_or_else(|| unfit(format!("`{text}` is no number"), node.span)),
        Said::Text(text) => from_text(world, text, node.span, scope),
        Said::List(nodes) => {
            nodes.iter().map(|node| from_node(world, node, scope)).collect::<Result<_, _>>().map(Value::Tuple)
        }
        Said::Map(entries) => {
            let mut object = BTreeMap::new();
            for (name, node) in entries {
                let key = from_text(world, &name.value, name.span, scope)?;
                let Ok(Value::Text(key)) = convert(key, &Kind::Text) else {
                    return Err(unfit("a name has to be a text", name.span));
                };
                object.insert(key, from_node(world, node, scope)?);
            }
            Ok(Value::Object(object))
        }
    }
}

fn from_text(world: &dyn World, text: &str, span: Span, scope: &Scope<'_>) -> Result<Value, Diagnostic> {
    if !text.contains("${") && !text.contains("%{") {
        return Ok(Value::text(text));
    }
    let template = hcl_edit::parser::parse_template(text).map_err(|error| {
        Diagnostic::error(codes::SYNTAX, "this text is no template of HCL")
            .with_label(span, error.message().replace('\n', "; "))
            .with_help("write `$${` and `%%{` for `${` and `%{` themselves")
    })?;
    Place { world, scope, at: At { source: span.source, within: Some(span) } }.template(&template)
}

/// Where an expression is evaluated.
#[derive(Clone, Copy)]
struct Place<'e> {
    world: &'e dyn World,
    scope: &'e Scope<'e>,
    at: At,
}

impl Place<'_> {
    fn value(self, expression: &Hcl) -> Result<Value, Diagnostic> {
        let span = self.at.span(expression);
        match expression {
            Hcl::Null(_) => Ok(Value::Null(Kind::Any)),
            Hcl::Bool(value) => Ok(Value::Bool(*value.value())),
            Hcl::Number(number) => {
                let text = number.to_string();
                let number = parse_number(text.trim());
                number.map(Value::Number).ok_or_else(|| unfit(format!("`{text}` is no number"), span))
            }
            Hcl::String(text) => Ok(Value::text(text.value())),
            Hcl::Array(array) => {
                array.iter().map(|element| self.value(element)).collect::<Result<_, _>>().map(Value::Tuple)
            }
            Hcl::Object(object) => self.object(object),
            Hcl::StringTemplate(template) => self.elements(template.iter().collect()),
            Hcl::HeredocTemplate(heredoc) => self.template(&heredoc.template),
            Hcl::Parenthesis(inner) => self.value(inner.inner()),
            Hcl::Variable(name) => self.variable(name.value().as_str(), span),
            Hcl::Conditional(conditional) => {
                let yes = self.condition(&conditional.cond_expr, "a condition")?;
                let (chosen, other) = if yes {
                    (&conditional.true_expr, &conditional.false_expr)
                } else {
                    (&conditional.false_expr, &conditional.true_expr)
                };
                let value = self.value(chosen)?;
                // The other side decides of the type as well, where it has a value at all.
                let Ok(other) = self.value(other) else { return Ok(value) };
                let shared = unify(&[value.kind(), other.kind()]).ok_or_else(|| {
                    let (one, two) = (value.kind().name(), other.kind().name());
                    unfit(
                        format!("both results of a condition must be of one type: {one} and {two} are not"),
                        span,
                    )
                })?;
                convert(value, &shared).map_err(|why| unfit(why, span))
            }
            Hcl::FuncCall(call) => self.call(call, span),
            Hcl::Traversal(traversal) => self.traverse(&traversal.expr, &traversal.operators, span),
            Hcl::UnaryOp(operation) => self.unary(operation),
            Hcl::BinaryOp(operation) => self.binary(operation, span),
            Hcl::ForExpr(each) => self.each(each),
        }
    }

    fn variable(self, name: &str, span: Span) -> Result<Value, Diagnostic> {
        if let Some(value) = self.scope.get(name) {
            return Ok(value.clone());
        }
        if let Some(value) = self.world.block(name, None, None, span) {
            return value;
        }
        self.world.variable(name, span)?.ok_or_else(|| {
            let names = self.world.names();
            fault(codes::UNKNOWN_VARIABLE, format!("there is no variable `{name}`"), span)
                .with_nearest(rb_diag::nearest(name, names.iter().map(String::as_str)))
        })
    }

    /// Evaluates what has to be true or false.
    fn condition(self, expression: &Hcl, what: &str) -> Result<bool, Diagnostic> {
        let span = self.at.span(expression);
        match convert(self.value(expression)?, &Kind::Bool) {
            Ok(Value::Bool(value)) => Ok(value),
            Ok(_) => Err(unfit(format!("{what} must not be null"), span)),
            Err(why) => Err(unfit(format!("{what} must be true or false: {why}"), span)),
        }
    }

    fn object(self, object: &Object) -> Result<Value, Diagnostic> {
        let mut made = BTreeMap::new();
        for (key, value) in object {
            let (name, span) = match key {
                ObjectKey::Ident(name) => (Value::text(name.value().as_str()), self.at.span(name)),
                // A bare name is a name; only in parentheses is it a variable.
                ObjectKey::Expression(Hcl::Variable(name)) => {
                    (Value::text(name.value().as_str()), self.at.span(name))
                }
                ObjectKey::Expression(null @ Hcl::Null(_)) => (Value::text("null"), self.at.span(null)),
                ObjectKey::Expression(expression) => (self.value(expression)?, self.at.span(expression)),
            };
            made.insert(text(name, span, "a key")?, self.value(value.expr())?);
        }
        Ok(Value::Object(made))
    }

    fn each(self, each: &ForExpr) -> Result<Value, Diagnostic> {
        let pairs = self.pairs(&each.intro.collection_expr)?;
        let key_name = each.intro.key_var.as_ref().map(|name| name.value().as_str());
        let value_name = each.intro.value_var.value().as_str();
        let mut values = Vec::new();
        let mut object: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for (key, value) in pairs {
            let mut names = BTreeMap::from([(value_name.to_owned(), value)]);
            if let Some(name) = key_name {
                names.insert(name.to_owned(), key);
            }
            let scope = Scope { names, around: Some(self.scope) };
            let place = Place { scope: &scope, ..self };
            if let Some(cond) = &each.cond
                && !place.condition(&cond.expr, "the `if` of a `for`")?
            {
                continue;
            }
            let value = place.value(&each.value_expr)?;
            let Some(key) = &each.key_expr else {
                values.push(value);
                continue;
            };
            let key_span = self.at.span(key);
            let name = text(place.value(key)?, key_span, "a key")?;
            let entry = object.entry(name.clone()).or_default();
            if !entry.is_empty() && !each.grouping {
                return Err(unfit(format!("the key `{name}` comes twice"), key_span)
                    .with_help("write `...` after the value to collect the values of each key"));
            }
            entry.push(value);
        }
        if each.key_expr.is_none() {
            return Ok(Value::Tuple(values));
        }
        let single = |mut values: Vec<Value>| values.pop().unwrap_or(Value::Null(Kind::Any));
        let made = object
            .into_iter()
            .map(|(name, values)| (name, if each.grouping { Value::Tuple(values) } else { single(values) }));
        Ok(Value::Object(made.collect()))
    }

    /// Evaluates what a loop goes over.
    fn pairs(self, expression: &Hcl) -> Result<Vec<(Value, Value)>, Diagnostic> {
        let value = self.value(expression)?;
        value.pairs().ok_or_else(|| {
            let is = if value.is_null() { "null".to_owned() } else { format!("a {}", value.kind().name()) };
            unfit(
                format!("a loop goes over a list, a map or the like, and this is {is}"),
                self.at.span(expression),
            )
        })
    }
}

/// Returns a value as a text.
fn text(value: Value, span: Span, what: &str) -> Result<String, Diagnostic> {
    match convert(value, &Kind::Text) {
        Ok(Value::Text(text)) => Ok(text),
        Ok(_) => Err(unfit(format!("{what} must not be null"), span)),
        Err(why) => Err(unfit(format!("{what} must be a text: {why}"), span)),
    }
}
