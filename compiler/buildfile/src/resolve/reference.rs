//! A reference's text → the target it means.
//!
//! One function for references that stand in the file and for those that evaluation fills in, so that both are
//! refused alike. Source: earthly-language section 2.

use rb_diag::Diagnostic;
use rb_frontend::{ProjectRef, TargetRef};

use crate::codes;

/// A text is not a reference to a target that this version knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReferenceError {
    #[error("`{text}` is not a reference to a target")]
    NoPlus { text: String },
    #[error("`{name}` cannot be the name of a target")]
    BadName { name: String },
    #[error("`{name}` is the name of a function, and functions come later")]
    Function { name: String },
    #[error("`{text}` names a place of this machine only")]
    Absolute { text: String },
    #[error("`{text}` counts from the repository's root, and such references come later")]
    FromRoot { text: String },
    #[error("`{text}` is a remote reference, and remote references come later")]
    Remote { text: String },
    #[error("`{text}` has an import's alias, and imports come later")]
    Alias { text: String, alias: String },
    #[error("`{text}` is a pattern, and patterns in references come later")]
    Pattern { text: String },
}

impl ReferenceError {
    pub(crate) fn diagnostic(&self) -> Diagnostic {
        let (code, help) = match self {
            Self::NoPlus { .. } => {
                (codes::BAD_REFERENCE, "write `+target`, `./folder+target` or `../folder+target`".to_owned())
            }
            Self::BadName { .. } => (
                codes::BAD_REFERENCE,
                "a name starts with a lower-case letter and goes on with letters, digits, `.` and `-`".to_owned(),
            ),
            Self::Function { .. } => (codes::REFERENCE_LATER, "call a target, in lower case".to_owned()),
            Self::Absolute { .. } => (
                codes::ABSOLUTE_REFERENCE,
                "a build must mean the same on every machine: write a path relative to this file, such as `../lib+build`"
                    .to_owned(),
            ),
            Self::FromRoot { text } => (
                codes::REFERENCE_LATER,
                format!("write a path relative to this file, such as `./{}`", text.trim_start_matches('/')),
            ),
            Self::Remote { text } => {
                (codes::REFERENCE_LATER, format!("for a folder of this tree, write `./{text}`"))
            }
            Self::Alias { alias, .. } => {
                (codes::REFERENCE_LATER, format!("for a folder beside this file, write `./{alias}+…`"))
            }
            Self::Pattern { .. } => (codes::REFERENCE_LATER, "name each folder".to_owned()),
        };
        Diagnostic::error(code, self.to_string()).with_help(help)
    }
}

/// Returns what a reference means in a file of `project`. In `text` quotes and variables are gone, but a plus that
/// does not divide is still written `\+`.
pub(crate) fn parse_reference(text: &str, project: &ProjectRef) -> Result<TargetRef, ReferenceError> {
    let shown = || text.to_owned();
    let Some(plus) = dividing_plus(text) else {
        return Err(ReferenceError::NoPlus { text: shown() });
    };
    let place = text[..plus].replace("\\+", "+");
    let name = text[plus + 1..].replace("\\+", "+");
    let project = match place.as_str() {
        "" => project.clone(),
        path if path.starts_with("//") => return Err(ReferenceError::FromRoot { text: shown() }),
        path if path.starts_with('/') || path.starts_with("~/") => {
            return Err(ReferenceError::Absolute { text: shown() });
        }
        path if path.contains(['*', '?', '[']) => return Err(ReferenceError::Pattern { text: shown() }),
        path if path.starts_with('.') => project.join(path),
        path if path.contains(['/', ':']) => return Err(ReferenceError::Remote { text: shown() }),
        alias => return Err(ReferenceError::Alias { text: shown(), alias: alias.to_owned() }),
    };
    let tail = |rest: &str| rest.chars().all(|next| next.is_ascii_alphanumeric() || ".-_".contains(next));
    if name.starts_with(|first: char| first.is_ascii_uppercase()) && tail(&name) {
        return Err(ReferenceError::Function { name });
    }
    if !(name.starts_with(|first: char| first.is_ascii_lowercase()) && tail(&name)) {
        return Err(ReferenceError::BadName { name });
    }
    Ok(TargetRef { project, name })
}

/// Returns where the first plus stands that is not escaped.
pub(crate) fn dividing_plus(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, character)| {
        let divides = character == '+' && !escaped;
        escaped = character == '\\' && !escaped;
        divides.then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, ReferenceError> {
        let project = ProjectRef::Local { dir: "a/b".to_owned() };
        parse_reference(text, &project).map(|target| target.to_string())
    }

    #[test]
    fn knows_the_local_forms() {
        for (text, expected) in [
            ("+t", "./a/b+t"),
            ("./c+t", "./a/b/c+t"),
            (".+t", "./a/b+t"),
            ("../c+t-1.x", "./a/c+t-1.x"),
            ("../..+t", "+t"),
            ("../../../x+t", "../x+t"),
            (r"./c\+\++t", "./a/b/c+++t"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses_the_others_by_name() {
        let refused = |text: &str| parse(text).expect_err(text).diagnostic().code;
        for text in ["t", "./a", "+", "+9", "+a b"] {
            assert_eq!(refused(text), codes::BAD_REFERENCE, "{text}");
        }
        for text in ["/abs+t", "~/x+t"] {
            assert_eq!(refused(text), codes::ABSOLUTE_REFERENCE, "{text}");
        }
        for text in ["github.com/a/b+t", "github.com/a/b:v1+t", "lib+t", "./*+t", "//lib+t", "+FUNCTION"] {
            assert_eq!(refused(text), codes::REFERENCE_LATER, "{text}");
        }
    }
}
