//! What operators do with two values.
//!
//! Types are never converted but by `~`, which joins text forms; numbers are `i64` and checked.

use std::cmp::Ordering;

use crate::limits::{Work, check_items, check_text};
use crate::tree::{Comparison, Operator};
use crate::{ExpressionErrorKind, Value};

/// Computes `left operator right`.
pub(crate) fn compute(
    operator: Operator,
    left: Value,
    right: Value,
    work: &Work,
) -> Result<Value, ExpressionErrorKind> {
    match (operator, left, right) {
        (Operator::Join, left, right) => {
            let left = match left {
                Value::String(text) => text,
                other => other.to_string(),
            };
            append(left, &right.to_string(), work)
        }
        (Operator::Add, Value::String(left), Value::String(right)) => append(left, &right, work),
        (Operator::Add, Value::List(mut left), Value::List(right)) => {
            check_items(left.len() + right.len())?;
            left.extend(right);
            Ok(Value::List(left))
        }
        (operator, Value::Int(left), Value::Int(right)) => calculate(operator, left, right).map(Value::Int),
        (operator, left, right) => Err(operands(operator.symbol(), &left, &right)),
    }
}

fn append(mut left: String, right: &str, work: &Work) -> Result<Value, ExpressionErrorKind> {
    check_text(left.len() + right.len())?;
    work.charge(right.len())?;
    left.push_str(right);
    Ok(Value::String(left))
}

fn calculate(operator: Operator, left: i64, right: i64) -> Result<i64, ExpressionErrorKind> {
    let result = match operator {
        Operator::Divide | Operator::Remainder if right == 0 => {
            return Err(ExpressionErrorKind::DivisionByZero);
        }
        Operator::Add => left.checked_add(right),
        Operator::Subtract => left.checked_sub(right),
        Operator::Multiply => left.checked_mul(right),
        Operator::Divide => left.checked_div(right),
        Operator::Remainder => left.checked_rem(right),
        Operator::Join => unreachable!("`~` joins text forms"),
    };
    result.ok_or(ExpressionErrorKind::Overflow { operation: operator.symbol() })
}

/// Answers `left comparison right`.
pub(crate) fn compare(
    comparison: Comparison,
    left: &Value,
    right: &Value,
) -> Result<bool, ExpressionErrorKind> {
    let mismatch = || operands(comparison.symbol(), left, right);
    let order = || order(left, right).ok_or_else(mismatch);
    Ok(match comparison {
        Comparison::Equal => equal(left, right).ok_or_else(mismatch)?,
        Comparison::NotEqual => !equal(left, right).ok_or_else(mismatch)?,
        Comparison::Less => order()?.is_lt(),
        Comparison::AtMost => order()?.is_le(),
        Comparison::Greater => order()?.is_gt(),
        Comparison::AtLeast => order()?.is_ge(),
        Comparison::In => contains(right, left).ok_or_else(mismatch)?,
        Comparison::NotIn => !contains(right, left).ok_or_else(mismatch)?,
    })
}

/// Returns whether a list has an item, or a string a part; `None` where the types do not fit.
pub(crate) fn contains(whole: &Value, part: &Value) -> Option<bool> {
    match (whole, part) {
        (Value::String(whole), Value::String(part)) => Some(whole.contains(part.as_str())),
        // All items are looked at, so that a misfit shows wherever it stands.
        (Value::List(items), part) => {
            items.iter().try_fold(false, |found, item| Some(equal(item, part)? || found))
        }
        _ => None,
    }
}

/// Returns the order of two numbers or two strings, the latter by their bytes.
pub(crate) fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

/// Returns whether two values of one type are equal; `None` where the types differ, within lists too.
fn equal(left: &Value, right: &Value) -> Option<bool> {
    match (left, right) {
        (Value::String(left), Value::String(right)) => Some(left == right),
        (Value::Int(left), Value::Int(right)) => Some(left == right),
        (Value::Bool(left), Value::Bool(right)) => Some(left == right),
        (Value::List(left), Value::List(right)) => {
            let same = left.len() == right.len();
            left.iter().zip(right).try_fold(same, |same, (left, right)| Some(equal(left, right)? && same))
        }
        _ => None,
    }
}

/// Returns a number as it was written, with or without `-` before it.
pub(crate) fn signed(number: u64, negative: bool) -> Result<i64, ExpressionErrorKind> {
    let signed = if negative { 0i64.checked_sub_unsigned(number) } else { i64::try_from(number).ok() };
    signed.ok_or(ExpressionErrorKind::NumberTooLarge)
}

/// Returns the place of an index in something of `length` items; negative ones count from the end.
pub(crate) fn position(index: i64, length: usize) -> Option<usize> {
    let index = if index < 0 { index.checked_add(i64::try_from(length).ok()?)? } else { index };
    usize::try_from(index).ok().filter(|index| *index < length)
}

fn operands(operator: &'static str, left: &Value, right: &Value) -> ExpressionErrorKind {
    ExpressionErrorKind::Operands { operator, left: left.type_name(), right: right.type_name() }
}
