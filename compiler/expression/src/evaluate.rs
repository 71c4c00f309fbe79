//! Tree → value.
//!
//! **Invariant:** what is not needed is not evaluated: the sides of `and`, `or` and `if` that are not taken and the
//! fallback of `default` ask no questions and have no errors. Every value is admitted by [`Work`] before it is used.

use std::ops::Range;

use crate::error::nearest;
use crate::functions::{Arguments, Body};
use crate::limits::Work;
use crate::operators::{self, compare, compute};
use crate::tree::{Kind, Node, Operator};
use crate::{ExpressionError, ExpressionErrorKind, Scope, Stop, Value};

/// Computes the value of a tree.
pub(crate) fn evaluate(root: &Node, scope: &dyn Scope) -> Result<Value, Stop> {
    Evaluator { scope, work: Work::new() }.value(root)
}

struct Evaluator<'a> {
    scope: &'a dyn Scope,
    work: Work,
}

fn at(range: &Range<usize>) -> impl FnOnce(ExpressionErrorKind) -> Stop {
    let range = range.clone();
    move |kind| Stop::Error(ExpressionError { kind, range })
}

impl Evaluator<'_> {
    fn value(&self, node: &Node) -> Result<Value, Stop> {
        let value = match &node.kind {
            Kind::Text(text) => Value::String(text.clone()),
            Kind::Number(number) => Value::Int(operators::signed(*number, false).map_err(at(&node.range))?),
            Kind::Bool(truth) => Value::Bool(*truth),
            Kind::List(items) => Value::List(self.values(items)?),
            Kind::Variable(name, range) => self.variable(name).map_err(at(range))?,
            Kind::Index(list, index) => self.item(list, index)?,
            Kind::Not(operand) => Value::Bool(!self.truth(operand, "not")?),
            Kind::Negate(operand) => Value::Int(self.negated(operand, &node.range)?),
            // Paid for operator by operator.
            Kind::Row(first, rest) => return self.row(first, rest),
            Kind::Compare(comparison, left, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                Value::Bool(compare(*comparison, &left, &right).map_err(at(&node.range))?)
            }
            Kind::All(items) => Value::Bool(self.all(items, "and", true)?),
            // One is true, unless all are false.
            Kind::Any(items) => Value::Bool(!self.all(items, "or", false)?),
            Kind::If { arms, otherwise } => {
                for arm in arms {
                    if self.truth(&arm.condition, "if")? {
                        return self.value(&arm.value);
                    }
                }
                return self.value(otherwise);
            }
            Kind::Default(value, fallback) => match self.value(value) {
                Err(Stop::Error(error)) if error.kind.is_absence() => return self.value(fallback),
                value => return value,
            },
            Kind::Call(function, nodes) => match function.body {
                Body::Plain(run) => run(&Arguments {
                    function,
                    values: self.values(nodes)?,
                    ranges: nodes.iter().map(|node| node.range.clone()).collect(),
                    range: node.range.clone(),
                    scope: self.scope,
                    work: &self.work,
                })?,
                Body::Default => unreachable!("`default` has a node of its own"),
            },
        };
        self.work.admit(value).map_err(at(&node.range))
    }

    fn values(&self, nodes: &[Node]) -> Result<Vec<Value>, Stop> {
        nodes.iter().map(|node| self.value(node)).collect()
    }

    fn variable(&self, name: &str) -> Result<Value, ExpressionErrorKind> {
        self.scope.variable(name).ok_or_else(|| {
            let names = self.scope.names();
            let words = ["true", "false"].into_iter().chain(names.iter().map(String::as_str));
            let near = nearest(name, words).map(str::to_owned);
            ExpressionErrorKind::UnknownVariable { name: name.to_owned(), near }
        })
    }

    /// Returns a condition's answer; `place` is what asks.
    fn truth(&self, node: &Node, place: &'static str) -> Result<bool, Stop> {
        let value = self.value(node)?;
        value.truth().ok_or_else(|| wrong_type(format!("what `{place}` asks for"), "bool", &value, node))
    }

    /// Returns whether all items say `wanted`; stops at the first that does not. `place` is the operator between them.
    fn all(&self, items: &[Node], place: &'static str, wanted: bool) -> Result<bool, Stop> {
        for item in items {
            if self.truth(item, place)? != wanted {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn negated(&self, operand: &Node, range: &Range<usize>) -> Result<i64, Stop> {
        if let Kind::Number(number) = operand.kind {
            return operators::signed(number, true).map_err(at(range));
        }
        match self.value(operand)? {
            Value::Int(number) => number
                .checked_neg()
                .ok_or(ExpressionErrorKind::Overflow { operation: "-" })
                .map_err(at(range)),
            other => Err(wrong_type("what follows `-`".to_owned(), "number", &other, operand)),
        }
    }

    fn row(&self, first: &Node, rest: &[(Operator, Node)]) -> Result<Value, Stop> {
        rest.iter().try_fold(self.value(first)?, |left, (operator, node)| {
            let right = self.value(node)?;
            compute(*operator, left, right, &self.work).map_err(at(&(first.range.start..node.range.end)))
        })
    }

    fn item(&self, list: &Node, index: &Node) -> Result<Value, Stop> {
        let mut items = match self.value(list)? {
            Value::List(items) => items,
            other => return Err(wrong_type("what `[…]` picks from".to_owned(), "list", &other, list)),
        };
        let number = match self.value(index)? {
            Value::Int(number) => number,
            other => {
                return Err(wrong_type("what is between `[` and `]`".to_owned(), "number", &other, index));
            }
        };
        let length = items.len();
        match operators::position(number, length) {
            Some(position) => Ok(items.swap_remove(position)),
            None => Err(at(&index.range)(ExpressionErrorKind::NoItem { index: number, length })),
        }
    }
}

fn wrong_type(place: String, expected: &'static str, found: &Value, node: &Node) -> Stop {
    at(&node.range)(ExpressionErrorKind::WrongType { place, expected, found: found.type_name() })
}
