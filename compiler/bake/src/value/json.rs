//! Values and JSON.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::{Kind, Value, convert, parse_number, written};

/// Returns JSON as a value: arrays are tuples, objects are objects.
fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null(Kind::Any),
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(value) => {
            parse_number(&value.to_string()).map_or_else(|| Value::text(value.to_string()), Value::Number)
        }
        Json::String(value) => Value::text(value),
        Json::Array(values) => Value::Tuple(values.iter().map(from_json).collect()),
        Json::Object(values) => Value::Object(
            values.iter().map(|(name, value)| (name.clone(), from_json(value))).collect::<BTreeMap<_, _>>(),
        ),
    }
}

/// Reads a JSON text as a value of a type.
pub(crate) fn parse_as(text: &str, kind: &Kind) -> Result<Value, String> {
    let json: Json = serde_json::from_str(text).map_err(|error| error.to_string())?;
    convert(from_json(&json), kind)
}

/// Writes a value as JSON that may stand in a page: `<`, `>` and `&` by their numbers. Numbers keep all their digits.
pub(crate) fn encode(value: &Value) -> String {
    let joined = |parts: Vec<String>, open: char, close: char| format!("{open}{}{close}", parts.join(","));
    match value {
        Value::Null(_) => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => written(value),
        Value::Text(text) => quoted(text),
        Value::List(_, values) | Value::Set(_, values) | Value::Tuple(values) => {
            joined(values.iter().map(encode).collect(), '[', ']')
        }
        Value::Map(_, entries) | Value::Object(entries) => {
            let entry = |(name, value): (&String, &Value)| format!("{}:{}", quoted(name), encode(value));
            joined(entries.iter().map(entry).collect(), '{', '}')
        }
    }
}

fn quoted(text: &str) -> String {
    let mut made = String::new();
    for letter in Json::String(text.to_owned()).to_string().chars() {
        match letter {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                made.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            letter => made.push(letter),
        }
    }
    made
}
