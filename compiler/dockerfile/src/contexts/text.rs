//! The text of a Dockerfile or an ignore file.
//!
//! In: its bytes. Out: text, or where it is none. Remarks may be in any encoding, as old files have them: nothing of theirs is built.

use std::fmt;

/// A byte that belongs to no character.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoText {
    /// From 1 on.
    line: usize,
    /// In bytes, from 1 on.
    column: usize,
}

impl fmt::Display for NoText {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "byte {} of line {} belongs to no character", self.column, self.line)
    }
}

/// Reads text. What is no UTF-8 in a remark becomes U+FFFD; where there may be a heredoc, whose lines may begin as remarks do, it is
/// refused.
pub(super) fn decode(bytes: Vec<u8>) -> Result<String, NoText> {
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return Ok(text),
        Err(error) => error.into_bytes(),
    };
    let has_heredoc = bytes.windows(2).any(|pair| pair == b"<<");
    for (line, text) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if let Err(error) = str::from_utf8(text)
            && (has_heredoc || !text.trim_ascii_start().starts_with(b"#"))
        {
            return Err(NoText { line: line + 1, column: error.valid_up_to() + 1 });
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remarks_are_in_any_encoding() {
        let decode = |bytes: &[u8]| decode(bytes.to_vec());
        assert_eq!(decode(b"# caf\xe9\nFROM a\n").as_deref(), Ok("# caf\u{fffd}\nFROM a\n"));
        assert_eq!(decode("ENV A=é".as_bytes()).as_deref(), Ok("ENV A=é"));
        assert_eq!(decode(b"FROM a\nENV A=\xe9"), Err(NoText { line: 2, column: 7 }));
        assert_eq!(decode(b"COPY <<X /\n# caf\xe9\nX\n"), Err(NoText { line: 2, column: 6 }));
    }
}
