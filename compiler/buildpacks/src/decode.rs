//! Reading files and labels of strangers: bounded, and with an error that says where.
//!
//! In: a name to speak of it by, and its bytes. Out: any type that serde can fill, or [`DecodeError`]. Keys that a type does
//! not name are passed over, as the lifecycle does. Depth of nesting is bounded by the `toml` and `serde_json` libraries.

use serde::de::DeserializeOwned;

/// What a file may have in bytes.
pub const FILE_BYTES: usize = 1 << 20;
/// What a label may have in bytes: those of a builder name every module it holds.
pub const LABEL_BYTES: usize = 8 << 20;

/// A file or label cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It is larger than anything sensible.
    #[error("{name} has {size} bytes: at most {limit} are read")]
    TooLarge {
        /// The file or label.
        name: String,
        /// What it has.
        size: usize,
        /// What it may have.
        limit: usize,
    },
    /// It is not UTF-8.
    #[error("{name} is not text")]
    NotText {
        /// The file or label.
        name: String,
    },
    /// It does not parse, or a key has another type.
    #[error("{name}{}: {message}", shown_place(*line, *column))]
    Malformed {
        /// The file or label.
        name: String,
        /// From 1; 0 if unknown.
        line: usize,
        /// From 1, in characters; 0 if unknown.
        column: usize,
        /// One line.
        message: String,
    },
}

/// Reads TOML.
pub(crate) fn toml<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, DecodeError> {
    let text = text(name, bytes, FILE_BYTES)?;
    ::toml::from_str(text).map_err(|error| {
        let (line, column) = error.span().map_or((0, 0), |span| place(text, span.start));
        malformed(name, line, column, error.message())
    })
}

/// Reads JSON.
pub(crate) fn json<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, DecodeError> {
    let text = text(name, bytes, LABEL_BYTES)?;
    serde_json::from_str(text)
        .map_err(|error| malformed(name, error.line(), error.column(), &error.to_string()))
}

/// Makes an error of one place.
pub(crate) fn malformed(name: &str, line: usize, column: usize, message: &str) -> DecodeError {
    let message = message.lines().next().unwrap_or_default().chars().take(400).collect();
    DecodeError::Malformed { name: name.to_owned(), line, column, message }
}

/// Takes bytes as text, if they are not too many.
pub(crate) fn text<'b>(name: &str, bytes: &'b [u8], limit: usize) -> Result<&'b str, DecodeError> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLarge { name: name.to_owned(), size: bytes.len(), limit });
    }
    std::str::from_utf8(bytes).map_err(|_| DecodeError::NotText { name: name.to_owned() })
}

/// Shows a place behind the name of a file, as far as it is known.
fn shown_place(line: usize, column: usize) -> String {
    match (line, column) {
        (0, _) => String::new(),
        (line, 0) => format!(":{line}"),
        (line, column) => format!(":{line}:{column}"),
    }
}

fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    (line, before.rsplit('\n').next().unwrap_or_default().chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_where() {
        let error = toml::<::toml::Table>("order.toml", b"a = 1\nb = = 2\n").expect_err("not TOML");
        assert!(error.to_string().starts_with("order.toml:2:"), "{error}");
        assert_eq!(malformed("a", 0, 0, "b").to_string(), "a: b");
        let large = vec![b'#'; FILE_BYTES + 1];
        assert!(matches!(toml::<::toml::Table>("x", &large), Err(DecodeError::TooLarge { .. })));
        assert!(matches!(toml::<::toml::Table>("x", b"\xff"), Err(DecodeError::NotText { .. })));
        let deep = "[".repeat(100_000);
        assert!(toml::<::toml::Table>("x", format!("a = {deep}").as_bytes()).is_err());
        assert!(json::<serde_json::Value>("x", deep.as_bytes()).is_err());
    }
}
