//! JSON as the lifecycle writes it, so that labels and files are equal byte for byte.
//!
//! In: values of ours, metadata in TOML. Out: text. Go sorts the keys of maps, writes `<`, `>` and `&` as escapes, and whole
//! numbers without a fraction.

use serde::Serialize;
use serde_json::{Map, Number, Value};

/// A value has no form in JSON.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// JSON has neither infinities nor NaN.
    #[error("the metadata has a number that JSON cannot hold")]
    NotFinite,
    /// It could not be written.
    #[error("cannot be written as JSON")]
    Write(#[from] serde_json::Error),
}

/// Writes a value.
pub fn text(value: &impl Serialize) -> Result<String, JsonError> {
    let plain = serde_json::to_string(value)?;
    let mut text = String::with_capacity(plain.len());
    // Outside of strings none of these stands in JSON.
    for letter in plain.chars() {
        match letter {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => text.push_str(&format!("\\u{:04x}", letter as u32)),
            other => text.push(other),
        }
    }
    Ok(text)
}

/// Returns metadata in TOML as JSON.
pub fn of_toml(value: &toml::Value) -> Result<Value, JsonError> {
    Ok(match value {
        toml::Value::String(text) => Value::String(text.clone()),
        toml::Value::Integer(number) => Value::Number((*number).into()),
        toml::Value::Float(number) => float(*number)?,
        toml::Value::Boolean(truth) => Value::Bool(*truth),
        toml::Value::Datetime(time) => Value::String(time.to_string()),
        toml::Value::Array(items) => Value::Array(items.iter().map(of_toml).collect::<Result<_, _>>()?),
        toml::Value::Table(table) => Value::Object(of_table(table)?),
    })
}

/// Returns a table as an object.
pub fn of_table(table: &toml::Table) -> Result<Map<String, Value>, JsonError> {
    table.iter().map(|(key, value)| Ok((key.clone(), of_toml(value)?))).collect()
}

/// Returns metadata in JSON as TOML: what is `null` is left out, and so is all of a value that is nothing else.
pub fn to_toml(value: &Value) -> Option<toml::Value> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(truth) => toml::Value::Boolean(*truth),
        Value::Number(number) => match number.as_i64() {
            Some(number) => toml::Value::Integer(number),
            None => toml::Value::Float(number.as_f64()?),
        },
        Value::String(text) => toml::Value::String(text.clone()),
        Value::Array(items) => toml::Value::Array(items.iter().filter_map(to_toml).collect()),
        Value::Object(fields) => {
            let fields = fields.iter().filter_map(|(key, value)| Some((key.clone(), to_toml(value)?)));
            toml::Value::Table(fields.collect())
        }
    })
}

/// A whole number is written without a fraction, as Go does.
fn float(number: f64) -> Result<Value, JsonError> {
    let whole = number as i64;
    if number.fract() == 0.0 && number.abs() < 9e15 && (whole != 0 || number.is_sign_positive()) {
        return Ok(Value::Number(whole.into()));
    }
    Number::from_f64(number).map(Value::Number).ok_or(JsonError::NotFinite)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_writes_it() {
        let table: toml::Table =
            toml::from_str("z='<a&b>'\na=[1, 2.0, 2.5, true]\nt=1979-05-27T07:32:00Z\n").expect("TOML");
        let value = of_toml(&toml::Value::Table(table)).expect("finite");
        let want = r#"{"a":[1,2,2.5,true],"t":"1979-05-27T07:32:00Z","z":"\u003ca\u0026b\u003e"}"#;
        assert_eq!(text(&value).expect("writes"), want);
        assert!(matches!(of_toml(&toml::Value::Float(f64::NAN)), Err(JsonError::NotFinite)));
    }

    #[test]
    fn and_back() {
        let value = serde_json::json!({"a": [1, 2.5, null, "x"], "b": null, "c": {"d": true}});
        let table = to_toml(&value).expect("is something");
        assert_eq!(table, toml::from_str::<toml::Value>("a=[1, 2.5, 'x']\n[c]\nd=true\n").expect("TOML"));
        assert_eq!(to_toml(&Value::Null), None);
    }
}
