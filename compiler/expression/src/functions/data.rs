//! Entries of JSON and TOML texts.
//!
//! A path is names and places with dots in between; the empty path is the whole text. Numbers with a fraction, and
//! objects, have no value in expressions.

use serde_json::Value as Json;

use super::Arguments;
use super::texts::shown;
use crate::{ExpressionErrorKind, Stop, Value};

type Outcome = Result<Value, Stop>;

/// What reading costs per byte of text, its tree included.
const BYTES_PER_BYTE: usize = 8;

pub(super) fn json(arguments: &Arguments<'_>) -> Outcome {
    let text = arguments.text(0)?;
    arguments.charge(text.len() * BYTES_PER_BYTE)?;
    let whole =
        serde_json::from_str(text).map_err(|error| arguments.bad(0, format!("it is no JSON: {error}")))?;
    entry(arguments, &whole, "JSON")
}

pub(super) fn toml(arguments: &Arguments<'_>) -> Outcome {
    let text = arguments.text(0)?;
    arguments.charge(text.len() * BYTES_PER_BYTE)?;
    let table: toml::Table = toml::from_str(text).map_err(|error| {
        let line = error
            .span()
            .and_then(|span| text.get(..span.start))
            .map_or(1, |before| before.split('\n').count());
        arguments.bad(0, format!("it is no TOML: {} at line {line}", error.message().replace('\n', ", ")))
    })?;
    entry(arguments, &as_json(toml::Value::Table(table)), "TOML")
}

/// Makes JSON of TOML: dates become their text, numbers that are none become null.
fn as_json(value: toml::Value) -> Json {
    match value {
        toml::Value::String(text) => Json::String(text),
        toml::Value::Integer(number) => Json::from(number),
        toml::Value::Float(number) => Json::from(number),
        toml::Value::Boolean(truth) => Json::Bool(truth),
        toml::Value::Datetime(time) => Json::String(time.to_string()),
        toml::Value::Array(items) => items.into_iter().map(as_json).collect(),
        toml::Value::Table(table) => table.into_iter().map(|(name, value)| (name, as_json(value))).collect(),
    }
}

fn entry(arguments: &Arguments<'_>, whole: &Json, format: &'static str) -> Outcome {
    let path = arguments.text(1)?;
    let parts = path.split('.').filter(|_| !path.is_empty());
    let found = parts.clone().try_fold(whole, |value, part| match value {
        Json::Object(entries) => entries.get(part),
        Json::Array(items) => part.parse::<usize>().ok().and_then(|at| items.get(at)),
        _ => None,
    });
    match found {
        None | Some(Json::Null) => {
            Err(arguments.error_at(1, ExpressionErrorKind::NoEntry { path: shown(path), format }))
        }
        Some(found) => value_of(found).map_err(|reason| arguments.bad(1, reason)),
    }
}

fn value_of(json: &Json) -> Result<Value, String> {
    Ok(match json {
        Json::String(text) => Value::String(text.clone()),
        Json::Bool(truth) => Value::Bool(*truth),
        Json::Number(number) => Value::Int(
            number
                .as_i64()
                .ok_or_else(|| format!("{number} is there, and only whole numbers of 64 bits are known"))?,
        ),
        Json::Array(items) => Value::List(items.iter().map(value_of).collect::<Result<_, _>>()?),
        Json::Null => return Err("an empty entry (null) is there".to_owned()),
        Json::Object(entries) => {
            let names: Vec<String> =
                entries.keys().take(5).map(|name| format!("`{}`", shown(name))).collect();
            let more = if entries.len() > names.len() { ", …" } else { "" };
            return Err(match names.is_empty() {
                true => "an object without entries is there".to_owned(),
                false => format!("an object is there, name one of its entries: {}{more}", names.join(", ")),
            });
        }
    })
}
