//! Files of variables: `.env` and those of `env_file`.

use std::collections::BTreeMap;

use super::interpolate::substitute;

/// Reads `NAME=value` lines: comments, `export`, quotes; what is not in single quotes may name other variables.
pub(super) fn parse(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, String> {
    let mut made: BTreeMap<String, String> = BTreeMap::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    while !rest.is_empty() {
        let line = rest.lines().next().unwrap_or_default();
        let trimmed = line.trim_start();
        let next = rest.find('\n').map_or("", |at| &rest[at + 1..]);
        if trimmed.is_empty() || trimmed.starts_with('#') {
            rest = next;
            continue;
        }
        let assignment = trimmed.strip_prefix("export ").unwrap_or(trimmed).trim_start();
        let Some((name, value)) = assignment.split_once(['=', ':']) else {
            // A name alone takes its value from the environment.
            let name = assignment.trim();
            if let Some(value) = lookup(name) {
                made.insert(name.to_owned(), value);
            }
            rest = next;
            continue;
        };
        let name = name.trim();
        let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '-');
        if name.is_empty() || !name.chars().all(fits) {
            return Err(format!("`{name}` is no name of a variable"));
        }
        let value = value.trim_start();
        // The value goes on in `rest`, as a quoted one may have several lines.
        let from = rest.len() - next.len() - line_end(rest, next) - value.len();
        let body = &rest[from..];
        let known = |name: &str| lookup(name).or_else(|| made.get(name).cloned());
        let (value, after) = if let Some(quoted) = body.strip_prefix('\'') {
            let end = quoted.find('\'').ok_or_else(|| format!("the quote of `{name}` is not closed"))?;
            (quoted[..end].to_owned(), &quoted[end + 1..])
        } else if let Some(quoted) = body.strip_prefix('"') {
            let (value, length) =
                unquote(quoted).ok_or_else(|| format!("the quote of `{name}` is not closed"))?;
            (substitute(&value, &known)?, &quoted[length..])
        } else {
            let value = value.split(" #").next().unwrap_or_default().trim_end();
            (substitute(value, &known)?, body)
        };
        made.insert(name.to_owned(), value);
        rest = after.find('\n').map_or("", |at| &after[at + 1..]);
    }
    Ok(made)
}

/// Returns how long the end of the first line is.
fn line_end(rest: &str, next: &str) -> usize {
    let line = &rest[..rest.len() - next.len()];
    line.len() - line.trim_end_matches(['\n', '\r']).len()
}

/// Reads a text up to its closing quote, with escapes; returns it and its length with the quote.
fn unquote(text: &str) -> Option<(String, usize)> {
    let mut made = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((made, at + 1)),
            '\\' => match letters.next()?.1 {
                'n' => made.push('\n'),
                'r' => made.push('\r'),
                't' => made.push('\t'),
                '$' => made.push_str("$$"),
                other => made.push(other),
            },
            letter => made.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let text = "# no\nA=1\nexport B = two words # note\nC='$A'\nD=\"x\\n${A}\n y\"\n\nE=${A}-${OUT}\r\nOUT\nF=\n";
        let made = parse(text, &|name| (name == "OUT").then(|| "out".to_owned())).expect("it is well formed");
        let wanted = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "$A"),
            ("D", "x\n1\n y"),
            ("E", "1-out"),
            ("F", ""),
            ("OUT", "out"),
        ];
        assert_eq!(
            made.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>(),
            wanted
        );
        assert!(parse("A='x", &|_| None).is_err() && parse("a b=c", &|_| None).is_err());
    }
}
