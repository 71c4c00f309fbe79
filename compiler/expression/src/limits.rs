//! Limits: how long, deep and large may it get, and how much work may it be?
//!
//! **Invariant:** every value an expression makes is paid for out of one purse ([`Work`]) before or as it is made, so
//! time and memory of an evaluation are bounded whatever the text says.

use std::cell::Cell;

use crate::{ExpressionErrorKind, Value};

/// Longest expression, in bytes.
pub(crate) const MAX_EXPRESSION_BYTES: usize = 64 << 10;
/// How deeply brackets, operators within operands, and lists in lists may be nested.
pub(crate) const MAX_DEPTH: usize = 64;
/// Longest text, in bytes.
pub(crate) const MAX_TEXT_BYTES: usize = 1 << 20;
/// Longest list, in items.
pub(crate) const MAX_ITEMS: usize = 100_000;
/// What one evaluation may cost, in bytes made or looked at.
const MAX_WORK: usize = 64 << 20;
/// What a value costs apart from its text.
const VALUE_BYTES: usize = 32;

/// The purse of one evaluation.
pub(crate) struct Work {
    left: Cell<usize>,
}

impl Work {
    pub(crate) fn new() -> Self {
        Self { left: Cell::new(MAX_WORK) }
    }

    /// Takes `bytes` out of the purse.
    pub(crate) fn charge(&self, bytes: usize) -> Result<(), ExpressionErrorKind> {
        let left = self.left.get().checked_sub(bytes).ok_or(ExpressionErrorKind::TooMuchWork)?;
        self.left.set(left);
        Ok(())
    }

    /// Refuses a value that is too large or deep, and charges for it.
    pub(crate) fn admit(&self, value: Value) -> Result<Value, ExpressionErrorKind> {
        self.charge(cost(&value, 0)?)?;
        Ok(value)
    }
}

/// Refuses a text of so many bytes if that is too long.
pub(crate) fn check_text(bytes: usize) -> Result<(), ExpressionErrorKind> {
    if bytes > MAX_TEXT_BYTES { Err(ExpressionErrorKind::TextTooLong) } else { Ok(()) }
}

/// Refuses a list of so many items if that is too long.
pub(crate) fn check_items(items: usize) -> Result<(), ExpressionErrorKind> {
    if items > MAX_ITEMS { Err(ExpressionErrorKind::ListTooLong) } else { Ok(()) }
}

fn cost(value: &Value, depth: usize) -> Result<usize, ExpressionErrorKind> {
    match value {
        Value::String(text) => check_text(text.len()).map(|()| VALUE_BYTES + text.len()),
        Value::Int(_) | Value::Bool(_) => Ok(VALUE_BYTES),
        Value::List(_) if depth == MAX_DEPTH => Err(ExpressionErrorKind::TooDeep),
        Value::List(items) => {
            check_items(items.len())?;
            items.iter().try_fold(VALUE_BYTES, |sum, item| Ok(sum + cost(item, depth + 1)?))
        }
    }
}
