//! Commands of `RUN`, `CMD`, `ENTRYPOINT`, `IF` and others: a text for the shell, or the exec form.

use rb_diag::{Diagnostic, Spanned};

use super::Reader;
use crate::commands::Command;
use crate::entries::Part;
use crate::{CommandLine, Word, codes};

impl Reader<'_> {
    /// Reads the one part that is the command.
    pub(crate) fn command_line(&mut self, parts: Vec<Part>) -> Option<CommandLine> {
        let line = parts.into_iter().find_map(|part| match part {
            Part::Text(text) => Some(CommandLine::Shell(text)),
            Part::Exec(strings) => Some(CommandLine::Exec(strings.into_iter().map(string).collect())),
            Part::Heredoc(script) => Some(CommandLine::Script(script)),
            Part::Word(_) | Part::Call { .. } | Part::FlagsEnd | Part::Key(_) | Part::Equals => None,
        });
        let name = self.command.name();
        // An empty ENTRYPOINT or CMD takes away what the image had.
        let may_be_empty = matches!(self.command, Command::Entrypoint | Command::Cmd);
        match line {
            Some(CommandLine::Exec(words)) if words.is_empty() && !may_be_empty => {
                let example = format!("`{name} [\"test\", \"-d\", \"src\"]`");
                self.missing(&format!("`{name}` needs a command"), &example);
                None
            }
            Some(line) => {
                if let CommandLine::Shell(text) = &line
                    && looks_like_exec(&text.raw)
                {
                    let message = "this is no JSON array of strings, so the shell gets it as it stands";
                    let diagnostic = Diagnostic::warning(codes::EXEC_FORM, message).with_label(text.span, "");
                    self.report.push(
                        diagnostic.with_help(format!("for the exec form write `{name} [\"a\", \"b\"]`")),
                    );
                }
                Some(line)
            }
            None => {
                let decides = matches!(self.command, Command::If | Command::ElseIf);
                let example = if decides { "test -d src" } else { "make all" };
                self.missing(&format!("`{name}` needs a command"), &format!("`{name} {example}`"));
                None
            }
        }
    }
}

/// Returns whether a text is rather a mistyped array than the shell's `[ … ]` or `[[ … ]]`.
///
/// The shell's has a blank behind the bracket, so a quote there tells; with a blank, commas behind quotes do.
fn looks_like_exec(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('[') else { return false };
    if rest.starts_with(['"', '\'']) {
        return true;
    }
    rest.trim_start().starts_with(['"', '\''])
        && rest.ends_with(']')
        && (rest.contains("\",") || rest.contains("',"))
}

/// Decodes a JSON string, quotes included, that the grammar has found well formed.
pub(crate) fn string(word: Word) -> Spanned<String> {
    let inner = word.raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')).unwrap_or_default();
    let mut units: Vec<u16> = Vec::with_capacity(inner.len());
    let mut characters = inner.chars();
    let mut buffer = [0; 2];
    while let Some(character) = characters.next() {
        let plain = if character == '\\' {
            match characters.next() {
                Some('b') => '\u{8}',
                Some('f') => '\u{C}',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('u') => {
                    let digits: String = characters.by_ref().take(4).collect();
                    units.extend(u16::from_str_radix(&digits, 16));
                    continue;
                }
                Some(other) => other,
                None => continue,
            }
        } else {
            character
        };
        units.extend_from_slice(plain.encode_utf16(&mut buffer));
    }
    // Half a surrogate pair becomes U+FFFD, as in Go.
    Spanned::new(String::from_utf16_lossy(&units), word.span)
}

#[cfg(test)]
mod tests {
    use rb_diag::Span;

    use super::*;

    #[test]
    fn json_strings_are_decoded() {
        let decode = |raw: &str| string(Word { raw: raw.to_owned(), span: Span::default() }).value;
        assert_eq!(decode(r#""a\"b\\\/\n\t""#), "a\"b\\/\n\t");
        assert_eq!(decode(r#""\u00e9\ud83d\ude00ö😀""#), "é😀ö😀");
        assert_eq!(decode(r#""\ud83dx""#), "\u{FFFD}x");
    }

    #[test]
    fn the_shells_own_brackets_are_not_arrays() {
        for shell in
            ["[ -f x ] && y", "[[ -f x ]]", r#"[ "$x" = "y" ]"#, r#"[ "$x" = "y" ] && echo "a","b""#, "[]"]
        {
            assert!(!looks_like_exec(shell), "{shell}");
        }
        for array in [r#"["a" "b"]"#, "['a', 'b']", r#"[ "a", b ]"#, r#"["a", "b"] c"#] {
            assert!(looks_like_exec(array), "{array}");
        }
    }
}
