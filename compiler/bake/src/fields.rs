//! `key=value,key=value`: one line of comma-separated fields, with quotes.

/// Splits a line at a separator; a field in quotes may hold the separator, and a quote written twice.
pub(crate) fn split(line: &str, separator: char) -> Result<Vec<String>, String> {
    let line = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() {
        return Err("nothing stands here".to_owned());
    }
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let end = rest.find(separator);
            let field = &rest[..end.unwrap_or(rest.len())];
            if field.contains('"') {
                return Err(format!("a quote stands inside of `{field}`"));
            }
            fields.push(field.to_owned());
            match end {
                Some(end) => rest = &rest[end + separator.len_utf8()..],
                None => return Ok(fields),
            }
            continue;
        };
        let mut field = String::new();
        rest = quoted;
        loop {
            let end = rest.find('"').ok_or("a quote is not closed")?;
            field.push_str(&rest[..end]);
            rest = &rest[end + 1..];
            let Some(after) = rest.strip_prefix('"') else { break };
            field.push('"');
            rest = after;
        }
        fields.push(field);
        match rest.strip_prefix(separator) {
            Some(after) => rest = after,
            None if rest.is_empty() => return Ok(fields),
            None => return Err(format!("`{rest}` stands behind a closing quote")),
        }
    }
}

/// Reads a boolean as flags take it.
pub fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_are_split() {
        for (line, wanted) in [
            ("a", vec!["a"]),
            ("a=1,b=2", vec!["a=1", "b=2"]),
            ("a,,b", vec!["a", "", "b"]),
            ("\"a,b\",c", vec!["a,b", "c"]),
            ("\"a\"\"b\"", vec!["a\"b"]),
        ] {
            assert_eq!(
                split(line, ',').as_deref(),
                Ok(wanted.iter().map(|field| (*field).to_owned()).collect::<Vec<_>>().as_slice()),
                "{line}"
            );
        }
        assert!(split("", ',').is_err() && split("a\"b", ',').is_err() && split("\"a", ',').is_err());
    }

    proptest! {
        #[test]
        fn what_is_quoted_comes_back(fields in proptest::collection::vec("[^\r\n]{0,8}", 1..5)) {
            let quoted: Vec<_> = fields.iter().map(|field| format!("\"{}\"", field.replace('"', "\"\""))).collect();
            prop_assert_eq!(split(&quoted.join(","), ','), Ok(fields));
        }
    }
}
