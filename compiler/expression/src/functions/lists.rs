//! Functions of lists, some of which take strings as lists of characters.

use std::cmp::Ordering;
use std::collections::HashSet;

use super::Arguments;
use crate::limits::check_items;
use crate::operators::order;
use crate::{ExpressionErrorKind, Stop, Value};

type Outcome = Result<Value, Stop>;

fn count(number: usize) -> i64 {
    i64::try_from(number).expect("nothing in memory is longer")
}

/// Returns the error where neither a string nor a list stands, with what it should rather be.
fn neither(arguments: &Arguments<'_>, found: &Value) -> Stop {
    arguments.wrong_type(0, "string or a list", found)
}

pub(super) fn len(arguments: &Arguments<'_>) -> Outcome {
    match arguments.value(0) {
        Value::String(text) => Ok(Value::Int(count(text.chars().count()))),
        Value::List(items) => Ok(Value::Int(count(items.len()))),
        other => Err(neither(arguments, other)),
    }
}

pub(super) fn slice(arguments: &Arguments<'_>) -> Outcome {
    let start = arguments.number(1)?;
    let end = if arguments.values.len() == 3 { arguments.number(2)? } else { i64::MAX };
    match arguments.value(0) {
        Value::String(text) => {
            let (skip, take) = part(start, end, text.chars().count());
            Ok(Value::String(text.chars().skip(skip).take(take).collect()))
        }
        Value::List(items) => {
            let (skip, take) = part(start, end, items.len());
            Ok(Value::List(items.iter().skip(skip).take(take).cloned().collect()))
        }
        other => Err(neither(arguments, other)),
    }
}

/// Returns how many items to skip and to take; what lies outside is cut off.
fn part(start: i64, end: i64, length: usize) -> (usize, usize) {
    let length = count(length);
    let place = |index: i64| {
        let index = if index < 0 { index.saturating_add(length) } else { index };
        usize::try_from(index.clamp(0, length)).expect("at most the length")
    };
    (place(start), place(end).saturating_sub(place(start)))
}

pub(super) fn reverse(arguments: &Arguments<'_>) -> Outcome {
    match arguments.value(0) {
        Value::String(text) => Ok(Value::String(text.chars().rev().collect())),
        Value::List(items) => Ok(Value::List(items.iter().rev().cloned().collect())),
        other => Err(neither(arguments, other)),
    }
}

pub(super) fn first(arguments: &Arguments<'_>) -> Outcome {
    let first = arguments.list(0)?.first().cloned();
    first.ok_or_else(|| arguments.error(ExpressionErrorKind::NoItem { index: 0, length: 0 }))
}

pub(super) fn last(arguments: &Arguments<'_>) -> Outcome {
    let last = arguments.list(0)?.last().cloned();
    last.ok_or_else(|| arguments.error(ExpressionErrorKind::NoItem { index: -1, length: 0 }))
}

pub(super) fn sort(arguments: &Arguments<'_>) -> Outcome {
    let mut items = arguments.list(0)?.to_vec();
    ordered(arguments, &items)?;
    items.sort_by(|left, right| order(left, right).unwrap_or(Ordering::Equal));
    Ok(Value::List(items))
}

/// Checks that the values are all numbers or all strings.
fn ordered(arguments: &Arguments<'_>, values: &[Value]) -> Result<(), Stop> {
    let Some(first) = values.first() else { return Ok(()) };
    // One alone has to have an order too.
    match values.iter().find(|value| order(first, value).is_none()) {
        None => Ok(()),
        Some(misfit) => {
            let (left, right) = (first.type_name(), misfit.type_name());
            Err(arguments.error(ExpressionErrorKind::Operands { operator: "<", left, right }))
        }
    }
}

pub(super) fn unique(arguments: &Arguments<'_>) -> Outcome {
    let mut seen = HashSet::new();
    Ok(Value::List(arguments.list(0)?.iter().filter(|item| seen.insert(*item)).cloned().collect()))
}

pub(super) fn range(arguments: &Arguments<'_>) -> Outcome {
    let first = arguments.number(0)?;
    let (start, end) = if arguments.values.len() == 2 { (first, arguments.number(1)?) } else { (0, first) };
    let length = if start < end { start.abs_diff(end) } else { 0 };
    check_items(usize::try_from(length).unwrap_or(usize::MAX)).map_err(|kind| arguments.error(kind))?;
    Ok(Value::List((start..end).map(Value::Int).collect()))
}

pub(super) fn min(arguments: &Arguments<'_>) -> Outcome {
    extreme(arguments, Ordering::Less)
}

pub(super) fn max(arguments: &Arguments<'_>) -> Outcome {
    extreme(arguments, Ordering::Greater)
}

fn extreme(arguments: &Arguments<'_>, wanted: Ordering) -> Outcome {
    let values = arguments.spread();
    ordered(arguments, values)?;
    let better = |left, right| if order(right, left) == Some(wanted) { right } else { left };
    let found = values.iter().reduce(better).cloned();
    found.ok_or_else(|| arguments.error(ExpressionErrorKind::NoItem { index: 0, length: 0 }))
}
