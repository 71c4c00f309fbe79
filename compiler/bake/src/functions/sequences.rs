//! Lists and tuples.

use super::{Call, Function, MANY, function, not};
use crate::value::{Kind, Number, Value, convert, unify};
use bigdecimal::{One, Signed, Zero};

pub(super) const FUNCTIONS: &[Function] = &[
    function("chunklist", 2, 2, chunklist),
    function("coalesce", 1, MANY, coalesce),
    function("coalescelist", 1, MANY, coalescelist),
    function("compact", 1, 1, |call| {
        let (_, values) = call.list(0, Kind::Text)?;
        let keep = |value: &Value| !value.is_null() && *value != Value::text("");
        Ok(Value::List(Kind::Text, values.into_iter().filter(keep).collect()))
    }),
    function("concat", 1, MANY, concat),
    function("distinct", 1, 1, |call| {
        let (kind, values) = call.list(0, Kind::Any)?;
        let mut kept: Vec<Value> = Vec::new();
        for value in values {
            if !kept.iter().any(|known| known.equals(&value)) {
                kept.push(value);
            }
        }
        Ok(Value::List(kind, kept))
    }),
    function("element", 2, 2, |call| {
        let values = ordered(call, 0)?;
        let at = call.whole(1)?;
        let length = i64::try_from(values.len()).unwrap_or(i64::MAX);
        let at = at.checked_rem_euclid(length).ok_or("an empty list has no element")?;
        Ok(values[usize::try_from(at).unwrap_or_default()].clone())
    }),
    function("flatten", 1, 1, |call| {
        let mut flat = Vec::new();
        flatten(call.elements(0)?, &mut flat);
        Ok(Value::Tuple(flat))
    }),
    function("indexof", 2, 2, |call| {
        let values = ordered(call, 0)?;
        let at = values.iter().position(|value| value.equals(&call.values[1]));
        at.map(|at| Value::number(at as u64)).ok_or_else(|| "the value is not in the list".to_owned())
    }),
    function("range", 1, 3, range),
    function("reverselist", 1, 1, |call| {
        let reversed = call.elements(0)?.iter().rev().cloned().collect();
        Ok(match call.get(0)? {
            Value::List(kind, _) | Value::Set(kind, _) => Value::List(kind.clone(), reversed),
            _ => Value::Tuple(reversed),
        })
    }),
    function("slice", 3, 3, slice),
    function("sort", 1, 1, |call| {
        let mut texts = call.texts(0)?;
        texts.sort();
        Ok(Value::texts(texts))
    }),
];

/// Returns the elements of what has an order.
fn ordered<'c>(call: &'c Call<'_>, at: usize) -> Result<&'c [Value], String> {
    match call.get(at)? {
        Value::List(_, values) | Value::Tuple(values) => Ok(values),
        _ => Err(not(at, "a list or a tuple")),
    }
}

fn chunklist(call: &Call<'_>) -> Result<Value, String> {
    let (kind, values) = call.list(0, Kind::Any)?;
    let size = usize::try_from(call.whole(1)?).map_err(|_| not(1, "zero or more"))?;
    let chunks = if size == 0 { vec![values.as_slice()] } else { values.chunks(size).collect() };
    let chunks = if values.is_empty() { Vec::new() } else { chunks };
    let list = |chunk: &[Value]| Value::List(kind.clone(), chunk.to_vec());
    let lists = chunks.into_iter().map(list).collect();
    Ok(Value::List(Kind::List(Box::new(kind.clone())), lists))
}

fn coalesce(call: &Call<'_>) -> Result<Value, String> {
    let kinds: Vec<_> = call.values.iter().map(Value::kind).collect();
    let kind = unify(&kinds).ok_or("all arguments must be of one type")?;
    let first = call.values.iter().find(|value| !value.is_null());
    convert(first.ok_or("all arguments are null")?.clone(), &kind)
}

fn coalescelist(call: &Call<'_>) -> Result<Value, String> {
    for (at, value) in call.values.iter().enumerate() {
        if !value.is_null() && !ordered(call, at)?.is_empty() {
            return Ok(value.clone());
        }
    }
    Err("all arguments are null or empty".to_owned())
}

fn concat(call: &Call<'_>) -> Result<Value, String> {
    let mut all = Vec::new();
    let mut kinds = Vec::new();
    for at in 0..call.values.len() {
        all.extend_from_slice(ordered(call, at)?);
        kinds.extend(call.values[at].kind().element().cloned());
    }
    // Lists make a list if their types agree; as soon as there is a tuple, all is one.
    match unify(&kinds) {
        Some(kind) if kinds.len() == call.values.len() => {
            convert(Value::Tuple(all), &Kind::List(Box::new(kind)))
        }
        _ => Ok(Value::Tuple(all)),
    }
}

fn flatten(values: &[Value], flat: &mut Vec<Value>) {
    for value in values {
        match value.elements() {
            Some(inner) => flatten(inner, flat),
            None => flat.push(value.clone()),
        }
    }
}

/// A range is at most this long.
const LONGEST: usize = 1024;

fn range(call: &Call<'_>) -> Result<Value, String> {
    let (start, end) = if call.values.len() == 1 {
        (Number::zero(), call.number(0)?)
    } else {
        (call.number(0)?, call.number(1)?)
    };
    let step = match call.values.len() {
        3 => call.number(2)?,
        _ if end < start => -Number::one(),
        _ => Number::one(),
    };
    if step.is_zero() {
        return Err("a step must not be zero".to_owned());
    }
    if (end < start) != step.is_negative() && end != start {
        return Err("the step leads away from the end".to_owned());
    }
    let mut values = Vec::new();
    let mut at = start;
    while if step.is_negative() { at > end } else { at < end } {
        if values.len() == LONGEST {
            return Err(format!("a range has at most {LONGEST} numbers"));
        }
        values.push(Value::Number(at.clone()));
        at += &step;
    }
    Ok(Value::List(Kind::Number, values))
}

fn slice(call: &Call<'_>) -> Result<Value, String> {
    let values = ordered(call, 0)?;
    let start = usize::try_from(call.whole(1)?).map_err(|_| not(1, "zero or more"))?;
    let end = usize::try_from(call.whole(2)?).map_err(|_| not(2, "zero or more"))?;
    let part = values
        .get(start..end)
        .ok_or_else(|| format!("{start} to {end} is no part of {} elements", values.len()))?;
    Ok(match call.get(0)? {
        Value::List(kind, _) => Value::List(kind.clone(), part.to_vec()),
        _ => Value::Tuple(part.to_vec()),
    })
}
