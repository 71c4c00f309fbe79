//! `$NAME`, `${NAME}`, `${NAME:-default}` and the like in the values of a compose file.

use rb_diag::Diagnostic;

use super::{Around, refused};
use crate::node::{Node, Said};

/// One value holds so many variables in braces at most; they may stand within one another.
const MOST: usize = 200;

/// Puts variables into all values; keys stay as they are.
pub(super) fn all(node: Node, around: &Around<'_>) -> Result<Node, Diagnostic> {
    let lookup = |name: &str| around.variable(name);
    walk(node, &lookup)
}

fn walk(node: Node, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Node, Diagnostic> {
    let said = match node.said {
        Said::Text(text) if text.contains('$') => {
            if text.matches("${").count() > MOST {
                return Err(refused(format!("a value holds at most {MOST} variables"), node.span));
            }
            Said::Text(substitute(&text, lookup).map_err(|why| refused(why, node.span))?)
        }
        Said::List(nodes) => {
            Said::List(nodes.into_iter().map(|node| walk(node, lookup)).collect::<Result<_, _>>()?)
        }
        Said::Map(entries) => {
            let entry = |(name, node)| walk(node, lookup).map(|node| (name, node));
            Said::Map(entries.into_iter().map(entry).collect::<Result<_, _>>()?)
        }
        other => other,
    };
    Ok(Node { said, ..node })
}

/// Puts variables into a text; `$$` is a dollar sign.
pub(super) fn substitute(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut made = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        made.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            made.push('$');
            rest = after;
        } else if let Some(inner) = after.strip_prefix('{') {
            let end = closing(inner).ok_or_else(|| format!("`${after}` is not closed"))?;
            made.push_str(&braced(&inner[..end], lookup)?);
            rest = &inner[end + 1..];
        } else {
            let length = name_length(after);
            if length == 0 {
                return Err(format!("`${after}` names no variable; a dollar sign is written `$$`"));
            }
            made.push_str(&lookup(&after[..length]).unwrap_or_default());
            rest = &after[length..];
        }
    }
    made.push_str(rest);
    Ok(made)
}

/// Returns where the brace is that closes what was opened before the text.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'{' if at > 0 && bytes[at - 1] == b'$' => depth += 1,
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn name_length(text: &str) -> usize {
    let fits = |(at, letter): &(usize, char)| {
        letter.is_ascii_alphabetic() || *letter == '_' || (*at > 0 && letter.is_ascii_digit())
    };
    text.char_indices().take_while(fits).count()
}

/// Evaluates what stands within braces.
fn braced(inner: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let length = name_length(inner);
    let (name, rest) = inner.split_at(length);
    if name.is_empty() {
        return Err(format!("`${{{inner}}}` names no variable"));
    }
    let value = lookup(name);
    if rest.is_empty() {
        return Ok(value.unwrap_or_default());
    }
    let filled = value.clone().filter(|value| !value.is_empty());
    let (operator, word) = ["?", "-", "+"]
        .iter()
        .flat_map(|operator| [format!(":{operator}"), (*operator).to_owned()])
        .find_map(|operator| rest.strip_prefix(operator.as_str()).map(|word| (operator.clone(), word)))
        .ok_or_else(|| {
            format!("`${{{inner}}}` is no form of a variable: `:-`, `-`, `:?`, `?`, `:+` and `+` are")
        })?;
    let present = if operator.starts_with(':') { filled } else { value };
    let word = || substitute(word, lookup);
    match (operator.trim_start_matches(':'), present) {
        ("-", Some(value)) | ("?", Some(value)) => Ok(value),
        ("-", None) => word(),
        ("?", None) => {
            let word = word()?;
            let told = if word.is_empty() { "it has no value".to_owned() } else { word };
            Err(format!("the variable `{name}` is required: {told}"))
        }
        (_, Some(_)) => word(),
        (_, None) => Ok(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_have_their_forms() {
        let lookup = |name: &str| match name {
            "A" => Some("a".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (text, wanted) in [
            ("$A-${A}", "a-a"),
            ("$$A", "$A"),
            ("${B}", ""),
            ("${B:-x}${EMPTY:-y}${EMPTY-z}", "xy"),
            ("${B:-${A:-n}}", "a"),
            ("${A:+yes}${B:+no}${EMPTY+set}", "yesset"),
            ("${A:?needed}", "a"),
        ] {
            assert_eq!(substitute(text, &lookup).as_deref(), Ok(wanted), "{text}");
        }
        for text in ["${B:?needed}", "${", "$", "${A!}", "${1}"] {
            assert!(substitute(text, &lookup).is_err(), "{text}");
        }
    }
}
