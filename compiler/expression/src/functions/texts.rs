//! Functions of strings, and between types.

use sha2::{Digest as _, Sha256};

use super::Arguments;
use crate::limits::{MAX_ITEMS, check_text};
use crate::{ExpressionErrorKind, Stop, Value, operators};

type Outcome = Result<Value, Stop>;

fn string(text: impl Into<String>) -> Outcome {
    Ok(Value::String(text.into()))
}

fn strings<'a>(texts: impl Iterator<Item = &'a str>) -> Outcome {
    // One more than allowed is enough to be refused.
    Ok(Value::List(texts.take(MAX_ITEMS + 1).map(|text| Value::String(text.to_owned())).collect()))
}

pub(super) fn upper(arguments: &Arguments<'_>) -> Outcome {
    string(arguments.text(0)?.to_uppercase())
}

pub(super) fn lower(arguments: &Arguments<'_>) -> Outcome {
    string(arguments.text(0)?.to_lowercase())
}

pub(super) fn trim(arguments: &Arguments<'_>) -> Outcome {
    string(arguments.text(0)?.trim())
}

pub(super) fn replace(arguments: &Arguments<'_>) -> Outcome {
    let (text, from, to) = (arguments.text(0)?, arguments.text(1)?, arguments.text(2)?);
    if from.is_empty() {
        return Err(arguments.bad(1, "it is empty"));
    }
    // The result is measured before it is made: it may be as long as text times `to`.
    let count = text.matches(from).count();
    let length = (text.len() - count * from.len()).saturating_add(count.saturating_mul(to.len()));
    check_text(length).map_err(|kind| arguments.error(kind))?;
    string(text.replace(from, to))
}

pub(super) fn split(arguments: &Arguments<'_>) -> Outcome {
    let text = arguments.text(0)?;
    if arguments.values.len() == 1 {
        return strings(text.split_whitespace());
    }
    match arguments.text(1)? {
        "" => Err(arguments.bad(1, "it is empty")),
        separator => strings(text.split(separator)),
    }
}

pub(super) fn join(arguments: &Arguments<'_>) -> Outcome {
    let (items, separator) = (arguments.list(0)?, arguments.text(1)?);
    let mut joined = String::new();
    for (at, item) in items.iter().enumerate() {
        joined.push_str(if at == 0 { "" } else { separator });
        joined.push_str(&item.to_string());
        check_text(joined.len()).map_err(|kind| arguments.error(kind))?;
    }
    string(joined)
}

pub(super) fn lines(arguments: &Arguments<'_>) -> Outcome {
    strings(arguments.text(0)?.lines())
}

pub(super) fn contains(arguments: &Arguments<'_>) -> Outcome {
    let (whole, part) = (arguments.value(0), arguments.value(1));
    operators::contains(whole, part).map(Value::Bool).ok_or_else(|| {
        let (left, right) = (part.type_name(), whole.type_name());
        arguments.error(ExpressionErrorKind::Operands { operator: "in", left, right })
    })
}

pub(super) fn starts_with(arguments: &Arguments<'_>) -> Outcome {
    Ok(Value::Bool(arguments.text(0)?.starts_with(arguments.text(1)?)))
}

pub(super) fn ends_with(arguments: &Arguments<'_>) -> Outcome {
    Ok(Value::Bool(arguments.text(0)?.ends_with(arguments.text(1)?)))
}

pub(super) fn strip_prefix(arguments: &Arguments<'_>) -> Outcome {
    let text = arguments.text(0)?;
    string(text.strip_prefix(arguments.text(1)?).unwrap_or(text))
}

pub(super) fn strip_suffix(arguments: &Arguments<'_>) -> Outcome {
    let text = arguments.text(0)?;
    string(text.strip_suffix(arguments.text(1)?).unwrap_or(text))
}

pub(super) fn sha256(arguments: &Arguments<'_>) -> Outcome {
    string(hex::encode(Sha256::digest(arguments.text(0)?)))
}

pub(super) fn int(arguments: &Arguments<'_>) -> Outcome {
    let text = match arguments.value(0) {
        Value::Int(number) => return Ok(Value::Int(*number)),
        Value::String(text) => text,
        other => return Err(arguments.wrong_type(0, "string or a number", other)),
    };
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(arguments.bad(0, format!("`{}` is no whole number", shown(text))));
    }
    text.parse().map(Value::Int).map_err(|_| arguments.error_at(0, ExpressionErrorKind::NumberTooLarge))
}

pub(super) fn string_of(arguments: &Arguments<'_>) -> Outcome {
    string(arguments.value(0).to_string())
}

pub(super) fn bool_of(arguments: &Arguments<'_>) -> Outcome {
    let text = match arguments.value(0) {
        Value::Bool(truth) => return Ok(Value::Bool(*truth)),
        Value::String(text) => text,
        other => return Err(arguments.wrong_type(0, "string or a bool", other)),
    };
    text.parse()
        .map(Value::Bool)
        .map_err(|_| arguments.bad(0, format!("`{}` is neither `true` nor `false`", shown(text))))
}

/// Cuts a text to what fits into a message.
pub(super) fn shown(text: &str) -> String {
    const LONG: usize = 40;
    match text.char_indices().nth(LONG) {
        Some((end, _)) => format!("{}…", text[..end].escape_debug()),
        None => text.escape_debug().to_string(),
    }
}
