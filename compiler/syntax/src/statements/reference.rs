//! References to targets, functions and artifacts.
//!
//! `[project]+target`, `[project]+FUNCTION`, `[project]+target/path`; `\+` is a plus that means nothing. What only the
//! value of a word tells is left alone. Source: earthly-language, "References".

use rb_diag::Diagnostic;

use super::Reader;
use super::text::{cut, find_bare, is_open, quote_around};
use crate::report::shown;
use crate::{Word, codes};

/// Returns where the first `+` of a word stands that has no backslash before it and is not within `$(…)`.
pub(crate) fn plus(raw: &str) -> Option<usize> {
    let mut before = b' ';
    let mut depth = 0_usize;
    raw.bytes().position(|byte| {
        let escaped = before == b'\\';
        match byte {
            b'(' if before == b'$' || depth > 0 => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        // A backslash that is escaped itself escapes nothing.
        before = if escaped { b' ' } else { byte };
        byte == b'+' && !escaped && depth == 0
    })
}

/// Returns whether the text holds something that only its value tells.
fn varies(raw: &str) -> bool {
    is_open(raw) || raw.contains(['"', '\'', '\\', '*', '?', '['])
}

/// Returns what stands behind the plus.
fn behind_plus(raw: &str) -> Option<&str> {
    plus(raw).and_then(|plus| raw.get(plus + 1..))
}

/// Splits `+target/path`: the target's part ends at the first `/` behind the plus. Quotes around the whole are put
/// around the path alone.
pub(crate) fn split_artifact(word: &Word) -> (Word, Option<Word>) {
    let raw = word.raw.as_str();
    let quote = quote_around(raw);
    let (start, end) = if quote.is_some() { (1, raw.len() - 1) } else { (0, raw.len()) };
    let slash = match plus(raw) {
        Some(plus) => raw.get(plus..end).and_then(|rest| rest.find('/')).map(|slash| plus + slash),
        // `$TARGET/path`: the plus is in the variable.
        None if raw.starts_with('$') => find_bare(raw, b'/'),
        None => None,
    };
    let path = slash.map(|slash| {
        let mut path = cut(word, slash, end);
        if let Some(quote) = quote {
            path.raw = format!("{quote}{}{quote}", path.raw);
        }
        path
    });
    (cut(word, start, slash.unwrap_or(end)), path)
}

/// Returns whether a target may be called so.
pub(crate) fn is_target_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
}

/// Returns whether a function may be called so.
pub(crate) fn is_function_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_uppercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_'))
}

/// Divides `folder:Dockerfile`, the place of a Dockerfile's stages, into the folder and the file's path in it. A file is named
/// `Dockerfile` or `Containerfile`, with something before or behind it: `Dockerfile.dev`, `web.Dockerfile`.
pub fn dockerfile_of(place: &str) -> Option<(&str, &str)> {
    let (folder, file) = place.rsplit_once(':')?;
    let name = file.rsplit('/').next().unwrap_or(file).to_ascii_lowercase();
    let divides = |text: &str| text.is_empty() || text.starts_with(['.', '-', '_']);
    let ends = |text: &str| text.is_empty() || text.ends_with(['.', '-', '_']);
    let is_one = ["dockerfile", "containerfile"].iter().any(|word| {
        name.strip_prefix(word).is_some_and(divides) || name.strip_suffix(word).is_some_and(ends)
    });
    let is_below = file.split('/').all(|part| !["", ".", ".."].contains(&part));
    (is_one && is_below).then_some((folder, file))
}

/// Returns whether a stage of a Dockerfile may be called so, in any case.
pub fn is_stage_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// What a reference names.
#[derive(Clone, Copy)]
enum Named {
    Target,
    Function,
}

impl Named {
    /// Returns whether something of this kind may be called so.
    fn takes(self, name: &str) -> bool {
        match self {
            Self::Target => is_target_name(name),
            Self::Function => is_function_name(name),
        }
    }

    /// Returns the kind as messages call it, how its names are written, and one of them.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Target => {
                ("target", "names start with a small letter and hold letters, digits, `.` and `-`", "name")
            }
            Self::Function => {
                ("function", "names of functions hold capital letters, digits, `.` and `_`", "NAME")
            }
        }
    }
}

impl Reader<'_> {
    /// Reports a word that cannot name a target.
    pub(crate) fn check_target(&mut self, word: &Word) -> Option<()> {
        self.check_reference(word, Named::Target)
    }

    /// Reports a word that cannot name a function.
    pub(crate) fn check_function(&mut self, word: &Word) -> Option<()> {
        self.check_reference(word, Named::Function)
    }

    fn check_reference(&mut self, word: &Word, named: Named) -> Option<()> {
        let command = self.command.name();
        let (kind, rule, example) = named.words();
        let whole = shown(&word.raw);
        let mut refuse = |span, message: String, help: String| {
            let diagnostic = Diagnostic::error(codes::BAD_REFERENCE, message).with_label(span, "");
            self.report.push(diagnostic.with_help(help));
            None
        };
        let Some(name) = behind_plus(&word.raw) else {
            if varies(&word.raw) {
                return Some(());
            }
            let help = if named.takes(&word.raw) {
                format!("{kind}s are written with a plus: `+{whole}`")
            } else {
                format!("a {kind} is written `+{example}`, or `./folder+{example}`")
            };
            return refuse(word.span, format!("`{whole}` names no {kind}"), help);
        };
        let plus = word.raw.len() - name.len() - 1;
        let of_dockerfile = || word.raw.get(..plus).is_some_and(|place| dockerfile_of(place).is_some());
        let is_stage = matches!(named, Named::Target) && is_stage_name(name) && of_dockerfile();
        if varies(name) || named.takes(name) || is_stage {
            return Some(());
        }
        let span = cut(word, plus, word.raw.len()).span;
        if name.is_empty() {
            let message = format!("behind `+` the name of a {kind} is missing");
            return refuse(span, message, format!("write `+{example}`"));
        }
        if let Some((name, _)) = name.split_once('/') {
            let mended = format!("{}+{name}", word.raw.get(..plus).unwrap_or_default());
            let message = format!("`{command}` takes a {kind}, and `{whole}` is an artifact");
            return refuse(word.span, message, format!("name the {kind}: `{}`", shown(&mended)));
        }
        match named {
            Named::Target if is_function_name(name) => {
                let message = format!("`{command}` takes a target, and `{whole}` is a function");
                refuse(word.span, message, format!("call it: `DO {whole}`"))
            }
            Named::Function if is_target_name(name) => {
                let message = format!("`{command}` takes a function, and `{whole}` is a target");
                let help = format!("write `BUILD {whole}` to build it, `FROM {whole}` to go on from it");
                refuse(word.span, message, help)
            }
            Named::Target | Named::Function => {
                refuse(span, format!("`{}` cannot be the name of a {kind}", shown(name)), rule.to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plus_skips_escaped_ones() {
        assert_eq!(plus("./a+t"), Some(3));
        assert_eq!(plus(r"g\+\+"), None);
        assert_eq!(plus(r"c\\+t"), Some(3));
        assert_eq!(plus("a"), None);
        assert_eq!(plus("$(a +b (c)+)"), None);
        assert_eq!(plus("\"$(a +b)+c\""), Some(8));
    }

    #[test]
    fn a_colon_divides_a_folder_and_its_dockerfile() {
        for (place, expected) in [
            ("./app:Dockerfile", Some(("./app", "Dockerfile"))),
            (".:web.Dockerfile", Some((".", "web.Dockerfile"))),
            (":Containerfile", Some(("", "Containerfile"))),
            ("./a:docker/Dockerfile.dev", Some(("./a", "docker/Dockerfile.dev"))),
            ("git.example/a/b:v1:dockerfile", Some(("git.example/a/b:v1", "dockerfile"))),
            ("./app:v1", None),
            ("./app:Dockerfiles", None),
            ("./app:mydockerfile", None),
            ("./app:../Dockerfile", None),
            ("./app:/Dockerfile", None),
            ("./Dockerfile", None),
        ] {
            assert_eq!(dockerfile_of(place), expected, "{place}");
        }
        assert!(
            is_stage_name("Build_1") && is_stage_name("v1.2") && !is_stage_name("a/b") && !is_stage_name("")
        );
    }

    #[test]
    fn names_tell_targets_from_functions() {
        for target in ["a", "build-all", "go1.22", "aB"] {
            assert!(is_target_name(target) && !is_function_name(target), "{target}");
        }
        for function in ["A", "BUILD_ALL", "GO1.22"] {
            assert!(is_function_name(function) && !is_target_name(function), "{function}");
        }
        for neither in ["", "Build", "1a", "a_b", "A-B", "é", "_A"] {
            assert!(!is_target_name(neither) && !is_function_name(neither), "{neither}");
        }
    }
}
