//! From one type to another: what HCL converts by itself, and the type that several values can share.

use std::collections::BTreeMap;

use super::{Kind, Value, parse_number, written};

/// Converts a value to a type, or says why it cannot be.
pub(crate) fn convert(value: Value, kind: &Kind) -> Result<Value, String> {
    if *kind == Kind::Any || value.kind() == *kind {
        return Ok(value);
    }
    if let Value::Null(of) = &value {
        // Also nothing is of a type, if one was given to it.
        let fits = *of == Kind::Any || !kind.is_primitive() || of.is_primitive();
        return if fits { Ok(Value::Null(kind.clone())) } else { Err(mismatch(&value, kind)) };
    }
    match kind {
        Kind::Any => Ok(value),
        Kind::Bool | Kind::Number | Kind::Text => to_primitive(value, kind),
        Kind::List(element) => {
            let (element, values) = elements(value, element, kind)?;
            Ok(Value::List(element, values))
        }
        Kind::Set(element) => {
            let (element, values) = elements(value, element, kind)?;
            Ok(Value::set(element, values))
        }
        Kind::Map(element) => {
            let entries = match value {
                Value::Map(_, entries) | Value::Object(entries) => entries,
                other => return Err(mismatch(&other, kind)),
            };
            let element = shared(element, entries.values())?;
            let entries = entries
                .into_iter()
                .map(|(name, value)| {
                    let value =
                        convert(value, &element).map_err(|why| format!("element \"{name}\": {why}"))?;
                    Ok((name, value))
                })
                .collect::<Result<BTreeMap<_, _>, String>>()?;
            Ok(Value::Map(element, entries))
        }
        Kind::Tuple(kinds) => {
            let values = match value {
                Value::Tuple(values) | Value::List(_, values) if values.len() == kinds.len() => values,
                other => return Err(mismatch(&other, kind)),
            };
            values
                .into_iter()
                .zip(kinds)
                .map(|(value, kind)| convert(value, kind))
                .collect::<Result<_, _>>()
                .map(Value::Tuple)
        }
        Kind::Object(attributes) => to_object(value, attributes, kind),
    }
}

fn to_object(
    value: Value,
    attributes: &BTreeMap<String, (Kind, bool)>,
    kind: &Kind,
) -> Result<Value, String> {
    let mut entries = match value {
        Value::Map(_, entries) | Value::Object(entries) => entries,
        other => return Err(mismatch(&other, kind)),
    };
    let mut made = BTreeMap::new();
    for (name, (kind, optional)) in attributes {
        let value = match entries.remove(name) {
            Some(value) => convert(value, kind).map_err(|why| format!("attribute \"{name}\": {why}"))?,
            None if *optional => Value::Null(kind.clone()),
            None => return Err(format!("attribute \"{name}\" is required")),
        };
        made.insert(name.clone(), value);
    }
    Ok(Value::Object(made))
}

fn elements(value: Value, element: &Kind, kind: &Kind) -> Result<(Kind, Vec<Value>), String> {
    let values = match value {
        Value::List(_, values) | Value::Set(_, values) | Value::Tuple(values) => values,
        other => return Err(mismatch(&other, kind)),
    };
    let element = shared(element, values.iter())?;
    let values = values
        .into_iter()
        .enumerate()
        .map(|(at, value)| convert(value, &element).map_err(|why| format!("element {at}: {why}")))
        .collect::<Result<_, _>>()?;
    Ok((element, values))
}

/// Returns the wanted type of elements, or the one that all share where any will do.
fn shared<'a>(wanted: &Kind, values: impl Iterator<Item = &'a Value>) -> Result<Kind, String> {
    if *wanted != Kind::Any {
        return Ok(wanted.clone());
    }
    let kinds: Vec<_> = values.map(Value::kind).collect();
    unify(&kinds).ok_or_else(|| "all elements must be of one type".to_owned())
}

fn to_primitive(value: Value, kind: &Kind) -> Result<Value, String> {
    match (value, kind) {
        (Value::Bool(value), Kind::Text) => Ok(Value::text(value.to_string())),
        (Value::Number(value), Kind::Text) => Ok(Value::Text(written(&value))),
        (Value::Text(text), Kind::Number) => {
            parse_number(&text).map(Value::Number).ok_or_else(|| "a number is required".to_owned())
        }
        (Value::Text(text), Kind::Bool) => match text.as_str() {
            "true" | "1" => Ok(Value::Bool(true)),
            "false" | "0" => Ok(Value::Bool(false)),
            _ => Err("a bool is required".to_owned()),
        },
        (other, kind) => Err(mismatch(&other, kind)),
    }
}

fn mismatch(value: &Value, kind: &Kind) -> String {
    let article = if matches!(kind, Kind::Object(_)) { "an" } else { "a" };
    format!("{article} {} is required, not a {}", kind.name(), value.kind().name())
}

/// Reads a plain text, as the environment has it, as a text, a number or a boolean.
pub(crate) fn primitive(name: &str, text: &str, kind: &Kind) -> Result<Value, String> {
    match kind {
        Kind::Text => Ok(Value::text(text)),
        Kind::Bool => match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => Err(format!("`{name}` is a bool, and `{text}` is none")),
        },
        Kind::Number => parse_number(text.strip_prefix('+').unwrap_or(text))
            .map(Value::Number)
            .ok_or_else(|| format!("`{name}` is a number, and `{text}` is none")),
        Kind::Any | Kind::List(_) | Kind::Set(_) | Kind::Map(_) | Kind::Tuple(_) | Kind::Object(_) => {
            Err(format!("`{name}` is a {}, which no plain text can be", kind.name()))
        }
    }
}

/// Returns the type that values of all these types can be converted to without loss, if there is one.
pub(crate) fn unify(kinds: &[Kind]) -> Option<Kind> {
    let mut known = kinds.iter().filter(|kind| **kind != Kind::Any);
    let Some(first) = known.next() else { return Some(Kind::Any) };
    if known.clone().all(|kind| kind == first) {
        return Some(first.clone());
    }
    let all: Vec<&Kind> = kinds.iter().filter(|kind| **kind != Kind::Any).collect();
    if all.iter().all(|kind| matches!(kind, Kind::Object(_))) {
        return unify_objects(&all);
    }
    if all.iter().all(|kind| matches!(kind, Kind::Tuple(_))) {
        return unify_tuples(&all);
    }
    if all.iter().all(|kind| matches!(kind, Kind::Map(_) | Kind::Object(_))) {
        return unify(&members(&all)).map(|kind| Kind::Map(Box::new(kind)));
    }
    if all.iter().all(|kind| matches!(kind, Kind::List(_) | Kind::Set(_) | Kind::Tuple(_))) {
        let element = Box::new(unify(&members(&all))?);
        let set = all.iter().all(|kind| matches!(kind, Kind::Set(_)));
        return Some(if set { Kind::Set(element) } else { Kind::List(element) });
    }
    let text = all.iter().any(|kind| **kind == Kind::Text) && all.iter().all(|kind| kind.is_primitive());
    text.then_some(Kind::Text)
}

/// Returns the types of all members of collections.
fn members(kinds: &[&Kind]) -> Vec<Kind> {
    let mut members = Vec::new();
    for kind in kinds {
        match kind {
            Kind::List(element) | Kind::Set(element) | Kind::Map(element) => {
                members.push((**element).clone());
            }
            Kind::Tuple(kinds) => members.extend(kinds.iter().cloned()),
            Kind::Object(kinds) => members.extend(kinds.values().map(|(kind, _)| kind.clone())),
            Kind::Any | Kind::Bool | Kind::Number | Kind::Text => {}
        }
    }
    members
}

fn unify_objects(kinds: &[&Kind]) -> Option<Kind> {
    let objects: Vec<_> = kinds
        .iter()
        .filter_map(|kind| if let Kind::Object(attributes) = kind { Some(attributes) } else { None })
        .collect();
    let same = objects.windows(2).all(|pair| pair[0].keys().eq(pair[1].keys()));
    if !same {
        return unify(&members(kinds)).map(|kind| Kind::Map(Box::new(kind)));
    }
    let names = objects.first()?.keys();
    names
        .map(|name| {
            let each: Vec<Kind> = objects.iter().map(|object| object[name].0.clone()).collect();
            Some((name.clone(), (unify(&each)?, false)))
        })
        .collect::<Option<_>>()
        .map(Kind::Object)
}

fn unify_tuples(kinds: &[&Kind]) -> Option<Kind> {
    let tuples: Vec<_> = kinds
        .iter()
        .filter_map(|kind| if let Kind::Tuple(kinds) = kind { Some(kinds) } else { None })
        .collect();
    let length = tuples.first()?.len();
    if tuples.iter().any(|tuple| tuple.len() != length) {
        return unify(&members(kinds)).map(|kind| Kind::List(Box::new(kind)));
    }
    (0..length)
        .map(|at| unify(&tuples.iter().map(|tuple| tuple[at].clone()).collect::<Vec<_>>()))
        .collect::<Option<_>>()
        .map(Kind::Tuple)
}
