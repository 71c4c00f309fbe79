//! Parser directives: `# syntax=`, `# escape=` and `# check=` before everything else.
//!
//! In: a file. Out: what they say, and where the rest of the file starts. The first line that is no directive ends them;
//! a `#!` line may stand above, after which the escape sign stays a backslash, as with BuildKit.
//! **Invariant:** the rest starts at the start of a line, or at the end of the file.
//! Source of the rules: BuildKit's frontend/dockerfile/parser/directives.go.

use rb_diag::{Diagnostic, Diagnostics, SourceFile, Span};
use rb_oci::Reference;

use crate::lines::{Line, Reader};
use crate::{Directives, Word, codes};

/// The escape sign of a file that names none.
const ESCAPE: char = '\\';

/// What stands at the start of a file.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) directives: Directives,
    /// Where instructions and comments may start.
    pub(crate) end: usize,
    pub(crate) errors: Diagnostics,
    /// Which sign escapes cannot be told.
    pub(crate) hides_escape: bool,
}

/// Reads the directives of a file.
pub(crate) fn read(file: &SourceFile) -> Head {
    let start = if file.text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let directives = Directives { syntax: None, escape: ESCAPE, check: None };
    let mut head = Head { directives, end: start, errors: Diagnostics::new(), hides_escape: false };
    let mut reader = Reader::new(file, start, ESCAPE);
    let has_shebang = file.text.get(start..).is_some_and(|text| text.starts_with("#!"));
    if has_shebang {
        reader.next_line();
    }
    let mut seen = Vec::new();
    // Behind blanks `escape` counts alone, as with BuildKit, which looks for the others in lines as they stand.
    let mut as_they_stand = true;
    while let Some(line) = reader.next_line() {
        let Some((name, value)) = directive(&line, "#", file) else { break };
        as_they_stand &= !line.text.starts_with(char::is_whitespace);
        // Behind `#!` they are comments, too.
        head.end = if has_shebang { start } else { line.start + line.text.len() };
        match name.as_str() {
            "syntax" if as_they_stand => head.directives.syntax = Some(first_word(&value)),
            "check" if as_they_stand => head.directives.check = Some(first_word(&value)),
            _ => {}
        }
        if seen.contains(&name) {
            head.hides_escape |= name == "escape";
            let message = format!("only one {name} parser directive can be used");
            let error =
                Diagnostic::error(codes::BAD_DIRECTIVE, message).with_label(value.span, "the second one");
            head.errors.push(error.with_help("take one of them away"));
        } else if name == "escape" && !has_shebang {
            head.read_escape(&value);
        }
        seen.push(name);
    }
    head
}

impl Head {
    fn read_escape(&mut self, value: &Word) {
        match value.value.as_str() {
            "\\" => self.directives.escape = '\\',
            "`" => self.directives.escape = '`',
            other => {
                self.hides_escape = true;
                let message = format!("invalid escape token '{other}' does not match ` or \\");
                let error = Diagnostic::error(codes::BAD_DIRECTIVE, message)
                    .with_label(value.span, "not a sign that escapes");
                self.errors
                    .push(error.with_help("write `# escape=\\` or, for paths of Windows, `` # escape=` ``"));
            }
        }
    }
}

/// The name of this frontend, which means no image.
const OWN_NAME: &str = "dockerfile.v0";

/// Tells whether this crate stands for the image of a frontend.
pub fn is_own_frontend(image: &str) -> bool {
    let is_dockerfiles = image.parse::<Reference>().is_ok_and(|reference| {
        let path = format!("/{}", reference.repository().path());
        path.ends_with("/docker/dockerfile") || path.ends_with("/docker/dockerfile-upstream")
    });
    is_dockerfiles || image == OWN_NAME
}

/// Checks that a file is a Dockerfile, and no other language whose frontend is an image.
///
/// `given` is the build argument `BUILDKIT_SYNTAX`, which takes the directive's place. Images of the Dockerfile frontend,
/// from whichever registry, are never run: this crate is in their place.
pub(crate) fn check_frontend(file: &SourceFile, given: Option<&str>) -> Result<(), Diagnostic> {
    let given = given.and_then(|given| given.split_whitespace().next()).map(|word| (word.to_owned(), None));
    let written = || detect_syntax(file).map(|word| (word.value, Some(word.span)));
    let Some((image, place)) = given.or_else(written) else { return Ok(()) };
    if is_own_frontend(&image) {
        return Ok(());
    }
    let message = format!("the frontend `{image}` is not part of rb");
    let error = Diagnostic::error(codes::UNKNOWN_FRONTEND, message)
        .with_help("if this is a Dockerfile, take the line `syntax=` or BUILDKIT_SYNTAX away");
    Err(place
        .into_iter()
        .fold(error, |error, span| error.with_label(span, "another language than Dockerfiles")))
}

/// Returns the image of the frontend that a file asks for, in whatever language the file is written.
///
/// Besides `# syntax=` it is found as `// syntax=`, and as the field `syntax` of a JSON object.
fn detect_syntax(file: &SourceFile) -> Option<Word> {
    read(file).directives.syntax.or_else(|| slashes(file)).or_else(|| json(file))
}

fn slashes(file: &SourceFile) -> Option<Word> {
    let mut reader = Reader::new(file, 0, ESCAPE);
    std::iter::from_fn(|| reader.next_line())
        .skip_while(|line| line.start == 0 && line.text.starts_with("#!"))
        .take_while(|line| !line.text.starts_with(char::is_whitespace))
        .map_while(|line| directive(&line, "//", file))
        .find(|(name, _)| name == "syntax")
        .map(|(_, value)| first_word(&value))
}

fn json(file: &SourceFile) -> Option<Word> {
    let value: serde_json::Value = serde_json::from_str(file.text.trim_start_matches('\u{feff}')).ok()?;
    let syntax = value.get("syntax")?.as_str()?;
    // A name has no sign that JSON would write in another way.
    let start = file.text.find(&format!("\"{syntax}\""))? + 1;
    let span = Span { start: start as u32, end: (start + syntax.len()) as u32, ..file.span() };
    Some(Word::new(syntax.to_owned(), span))
}

/// Reads `# name=value`, if the line is one and the name is known; the name is given in lower case.
fn directive(line: &Line<'_>, sign: &str, file: &SourceFile) -> Option<(String, Word)> {
    let text = line.content().trim_start().strip_prefix(sign)?;
    let (name, value) = assignment(text)?;
    let start = line.start + line.content().trim_end().len() - value.len();
    let span = Span { start: start as u32, end: (start + value.len()) as u32, ..file.span() };
    Some((name, Word::new(value.to_owned(), span)))
}

/// Reads `name = value` of a directive.
pub(crate) fn assignment(text: &str) -> Option<(String, &str)> {
    let (name, value) = text.split_once('=')?;
    let name = name.trim().to_lowercase();
    let value = value.trim();
    (matches!(name.as_str(), "syntax" | "escape" | "check") && !value.is_empty()).then_some((name, value))
}

/// Returns the first word: what follows is a remark.
fn first_word(value: &Word) -> Word {
    let word = value.value.split(' ').next().unwrap_or_default();
    Word::new(word.to_owned(), Span { end: value.span.start + word.len() as u32, ..value.span })
}

#[cfg(test)]
mod tests {
    use rb_diag::SourceId;

    use super::*;

    #[test]
    fn frontends_other_than_this_are_refused() {
        let check = |text: &str, given| {
            let file = SourceFile::new(SourceId(0), "Dockerfile", text);
            check_frontend(&file, given).map_err(|error| error.message)
        };
        for text in [
            "FROM a\n",
            "# syntax=docker/dockerfile:1\n",
            "# syntax = docker.io/docker/dockerfile-upstream:master-labs  remark\n",
            "# syntax=localhost:5000/hub/docker/dockerfile:1\n",
            "# syntax=dockerfile.v0\n",
            "# a comment\n# syntax=other/language\n",
            "  # syntax=other/language\nFROM a\n",
            " # escape=`\n# syntax=other/language\nFROM a\n",
        ] {
            assert_eq!(check(text, None), Ok(()), "{text}");
        }
        let refused = Err("the frontend `other/language` is not part of rb".to_owned());
        for text in [
            "# syntax=other/language\nx\n",
            "#!/x\n//syntax=other/language\nx\n",
            "{\"syntax\": \"other/language\"}",
        ] {
            assert_eq!(check(text, None), refused, "{text}");
            let file = SourceFile::new(SourceId(0), "Dockerfile", text);
            let found = detect_syntax(&file).map(|word| file.slice(word.span).to_owned());
            assert_eq!(found.as_deref(), Some("other/language"), "{text}");
            assert_eq!(check(text, Some("dockerfile.v0")), Ok(()), "{text}");
        }
        assert_eq!(check("FROM a\n", Some("other/language x")), refused);
    }
}
