//! What was found, in the form that was asked for.
//!
//! In: a JSON value. Out: the same as JSON, YAML or TOML. YAML is written with all texts in quotes, so that none is taken for
//! something else; in TOML, which has no null, keys without a value are left out.

use serde_json::Value;

use crate::args::PackFormat;
use crate::report::Failure;

/// Returns a value in a form for programs; none for the form for people.
pub(super) fn structured(value: &Value, format: PackFormat) -> Result<Option<String>, Failure> {
    Ok(Some(match format {
        PackFormat::HumanReadable => return Ok(None),
        PackFormat::Json => format!("{value:#}\n"),
        PackFormat::Yaml => {
            let mut out = String::new();
            yaml(value, 0, &mut out);
            out
        }
        PackFormat::Toml => {
            let value = toml_of(value).unwrap_or(toml::Value::Table(toml::Table::new()));
            toml::to_string(&value)
                .map_err(|error| Failure::environment("cannot be written as TOML", &error))?
        }
    }))
}

/// Writes a value from the beginning of a line on, and ends it.
fn yaml(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    let below = |value: &Value| match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    match value {
        Value::Object(fields) if below(value) => {
            for (key, value) in fields {
                out.push_str(&format!("{indent}{}:", Value::String(key.clone())));
                if below(value) {
                    out.push('\n');
                    yaml(value, depth + 1, out);
                } else {
                    out.push_str(&format!(" {value}\n"));
                }
            }
        }
        Value::Array(items) if below(value) => {
            for item in items {
                if below(item) {
                    out.push_str(&format!("{indent}-\n"));
                    yaml(item, depth + 1, out);
                } else {
                    out.push_str(&format!("{indent}- {item}\n"));
                }
            }
        }
        other => out.push_str(&format!("{indent}{other}\n")),
    }
}

fn toml_of(value: &Value) -> Option<toml::Value> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(truth) => toml::Value::Boolean(*truth),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => toml::Value::Integer(whole),
            None => toml::Value::Float(number.as_f64()?),
        },
        Value::String(text) => toml::Value::String(text.clone()),
        Value::Array(items) => toml::Value::Array(items.iter().filter_map(toml_of).collect()),
        Value::Object(fields) => {
            let fields = fields.iter().filter_map(|(key, value)| Some((key.clone(), toml_of(value)?)));
            toml::Value::Table(fields.collect())
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_value_in_three_forms() {
        let value = json!({"name": "a: b", "none": null, "list": [{"id": "x"}, "yes"], "empty": [], "n": 1});
        let of = |format| structured(&value, format).expect("is written").expect("for programs");
        assert_eq!(
            of(PackFormat::Yaml),
            "\"empty\": []\n\"list\":\n  -\n    \"id\": \"x\"\n  - \"yes\"\n\"n\": 1\n\"name\": \"a: b\"\n\"none\": null\n"
        );
        let plain = json!({"name": "a: b", "none": null, "list": [{"id": "x"}], "n": 1});
        let text = structured(&plain, PackFormat::Toml).expect("is written").expect("for programs");
        let back: toml::Table = toml::from_str(&text).expect("is TOML");
        assert_eq!((back["name"].as_str(), back.contains_key("none")), (Some("a: b"), false));
        assert_eq!(back["list"][0]["id"].as_str(), Some("x"));
        assert!(of(PackFormat::Json).contains("\"n\": 1"));
    }
}
