//! Maps, objects, and what all collections share.

use std::collections::BTreeMap;

use super::{Call, Function, MANY, function, not};
use crate::evaluate::index_of;
use crate::value::{Kind, Value, convert};

pub(super) const FUNCTIONS: &[Function] = &[
    function("contains", 2, 2, |call| {
        let values = call.elements(0)?;
        Ok(Value::Bool(values.iter().any(|value| value.equals(&call.values[1]))))
    }),
    function("hasindex", 2, 2, |call| {
        let value = call.get(0)?;
        if value.elements().is_none() && value.entries().is_none() {
            return Err(not(0, "a collection"));
        }
        Ok(Value::Bool(index_of(value, &call.values[1]).is_ok()))
    }),
    function("index", 2, 2, |call| index_of(call.get(0)?, &call.values[1])),
    function("keys", 1, 1, |call| {
        let keys = entries(call, 0)?.keys().map(Value::text).collect();
        Ok(if matches!(call.get(0)?, Value::Map(..)) {
            Value::List(Kind::Text, keys)
        } else {
            Value::Tuple(keys)
        })
    }),
    function("length", 1, 1, |call| {
        let value = call.get(0)?;
        let length = match value {
            Value::Map(_, entries) => entries.len(),
            _ => call.elements(0).map_err(|_| not(0, "a list, a set, a tuple or a map"))?.len(),
        };
        Ok(Value::number(length as u64))
    }),
    function("lookup", 3, 3, lookup),
    function("merge", 0, MANY, merge),
    function("values", 1, 1, |call| {
        let values = entries(call, 0)?.values().cloned().collect();
        Ok(match call.get(0)? {
            Value::Map(kind, _) => Value::List(kind.clone(), values),
            _ => Value::Tuple(values),
        })
    }),
    function("zipmap", 2, 2, zipmap),
];

fn entries<'c>(call: &'c Call<'_>, at: usize) -> Result<&'c BTreeMap<String, Value>, String> {
    call.get(at)?.entries().ok_or_else(|| not(at, "a map or an object"))
}

fn lookup(call: &Call<'_>) -> Result<Value, String> {
    let found = entries(call, 0)?.get(&call.text(1)?).cloned();
    let other = call.get(2)?.clone();
    match call.get(0)? {
        Value::Map(kind, _) => {
            let other = convert(other, kind).map_err(|why| format!("argument 3: {why}"))?;
            Ok(found.unwrap_or(other))
        }
        _ => Ok(found.unwrap_or(other)),
    }
}

fn merge(call: &Call<'_>) -> Result<Value, String> {
    let mut merged = BTreeMap::new();
    let mut kinds = Vec::new();
    for (at, value) in call.values.iter().enumerate() {
        kinds.push(value.kind());
        if !value.is_null() {
            merged.extend(entries(call, at)?.clone());
        }
    }
    match kinds.first() {
        Some(Kind::Map(kind)) if kinds.windows(2).all(|pair| pair[0] == pair[1]) => {
            Ok(Value::Map((**kind).clone(), merged))
        }
        _ => Ok(Value::Object(merged)),
    }
}

fn zipmap(call: &Call<'_>) -> Result<Value, String> {
    let keys = call.texts(0)?;
    let values = call.elements(1)?;
    if keys.len() != values.len() {
        return Err(format!("{} keys and {} values do not fit together", keys.len(), values.len()));
    }
    let made = keys.into_iter().zip(values.iter().cloned()).collect();
    Ok(match call.get(1)? {
        Value::List(kind, _) => Value::Map(kind.clone(), made),
        _ => Value::Object(made),
    })
}
