//! Texts. Lengths and places count what readers see as one letter.

use regex::{Captures, Regex};
use unicode_segmentation::UnicodeSegmentation as _;

use super::{Call, Function, MANY, function, not};
use crate::value::{Kind, Value};

pub(super) const FUNCTIONS: &[Function] = &[
    function("chomp", 1, 1, |call| Ok(Value::text(call.text(0)?.trim_end_matches(['\n', '\r'])))),
    function("indent", 2, 2, |call| {
        let spaces = usize::try_from(call.whole(0)?).ok().filter(|spaces| *spaces <= 10_000);
        let spaces = spaces.ok_or_else(|| not(0, "a number of spaces"))?;
        Ok(Value::text(call.text(1)?.replace('\n', &format!("\n{}", " ".repeat(spaces)))))
    }),
    function("join", 2, MANY, |call| {
        let mut all = Vec::new();
        for at in 1..call.values.len() {
            all.extend(call.texts(at)?);
        }
        Ok(Value::text(all.join(&call.text(0)?)))
    }),
    function("lower", 1, 1, |call| Ok(Value::text(call.text(0)?.to_lowercase()))),
    function("regex", 2, 2, |call| {
        let regex = regex(call, 0)?;
        let text = call.text(1)?;
        let found = regex.captures(&text).ok_or("the pattern fits no part of the text")?;
        Ok(captured(&regex, &found))
    }),
    function("regex_replace", 3, 3, |call| {
        Ok(Value::text(regex(call, 1)?.replace_all(&call.text(0)?, call.text(2)?.as_str())))
    }),
    function("regexall", 2, 2, |call| {
        let regex = regex(call, 0)?;
        let text = call.text(1)?;
        let all: Vec<_> = regex.captures_iter(&text).map(|found| captured(&regex, &found)).collect();
        let kind = all.first().map_or(Kind::Any, Value::kind);
        Ok(Value::List(kind, all))
    }),
    function("replace", 3, 3, |call| Ok(Value::text(call.text(0)?.replace(&call.text(1)?, &call.text(2)?)))),
    function("reverse", 1, 1, |call| {
        Ok(Value::text(call.text(0)?.graphemes(true).rev().collect::<String>()))
    }),
    function("split", 2, 2, |call| {
        let (separator, text) = (call.text(0)?, call.text(1)?);
        if separator.is_empty() {
            return Ok(Value::texts(text.chars()));
        }
        Ok(Value::texts(text.split(&separator)))
    }),
    function("strlen", 1, 1, |call| Ok(Value::number(call.text(0)?.graphemes(true).count() as u64))),
    function("substr", 3, 3, substr),
    function("title", 1, 1, |call| Ok(Value::text(title(&call.text(0)?)))),
    function("trim", 2, 2, |call| {
        let letters: Vec<char> = call.text(1)?.chars().collect();
        Ok(Value::text(call.text(0)?.trim_matches(letters.as_slice())))
    }),
    function("trimprefix", 2, 2, |call| {
        let (text, start) = (call.text(0)?, call.text(1)?);
        Ok(Value::text(text.strip_prefix(&start).unwrap_or(&text)))
    }),
    function("trimspace", 1, 1, |call| Ok(Value::text(call.text(0)?.trim()))),
    function("trimsuffix", 2, 2, |call| {
        let (text, end) = (call.text(0)?, call.text(1)?);
        Ok(Value::text(text.strip_suffix(&end).unwrap_or(&text)))
    }),
    function("upper", 1, 1, |call| Ok(Value::text(call.text(0)?.to_uppercase()))),
];

fn substr(call: &Call<'_>) -> Result<Value, String> {
    let text = call.text(0)?;
    let letters: Vec<&str> = text.graphemes(true).collect();
    let (offset, length) = (call.whole(1)?, call.whole(2)?);
    let total = i64::try_from(letters.len()).unwrap_or(i64::MAX);
    let start = if offset < 0 { offset.saturating_add(total).max(0) } else { offset.min(total) };
    let end = if length < 0 { total } else { start.saturating_add(length).min(total) };
    let part = start as usize..end as usize;
    Ok(Value::text(letters[part].concat()))
}

/// Makes the first letter of each word a capital.
fn title(text: &str) -> String {
    let mut made = String::new();
    let mut inside = false;
    for letter in text.chars() {
        if inside {
            made.push(letter);
        } else {
            made.extend(letter.to_uppercase());
        }
        inside = if letter.is_ascii() {
            letter.is_ascii_alphanumeric() || letter == '_'
        } else {
            letter.is_alphanumeric() || !letter.is_whitespace()
        };
    }
    made
}

fn regex(call: &Call<'_>, at: usize) -> Result<Regex, String> {
    let regex = Regex::new(&call.text(at)?).map_err(|error| format!("argument {}: {error}", at + 1))?;
    let groups: Vec<_> = regex.capture_names().skip(1).collect();
    if groups.iter().any(Option::is_some) && groups.iter().any(Option::is_none) {
        return Err("a pattern has either groups with names or groups without".to_owned());
    }
    Ok(regex)
}

/// Returns what a pattern found: its groups, or all of it if it has none.
fn captured(regex: &Regex, found: &Captures<'_>) -> Value {
    let group =
        |at: usize| found.get(at).map_or(Value::Null(Kind::Text), |group| Value::text(group.as_str()));
    let names: Vec<_> = regex.capture_names().enumerate().skip(1).collect();
    if names.is_empty() {
        return group(0);
    }
    if names.iter().all(|(_, name)| name.is_some()) {
        let named = names.iter().filter_map(|(at, name)| Some(((*name)?.to_owned(), group(*at))));
        return Value::Object(named.collect());
    }
    Value::Tuple(names.iter().map(|(at, _)| group(*at)).collect())
}
