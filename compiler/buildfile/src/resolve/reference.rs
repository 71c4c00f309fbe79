//! A reference's text → the target, function or project it means.
//!
//! One set of functions for references that stand in the file and for those that evaluation fills in, so that both
//! are refused alike. In a text quotes and variables are gone, but a plus that does not divide is still `\+`.
//! How a place is read, in this order: empty is the same file; `//` counts from the workspace's root (`VERSION 1`);
//! `/` and `~/` name places of one machine; a leading `.` is a path; a `/` or `:` makes it remote; what is left is an
//! alias. In a file of a repository elsewhere, its root stands for the workspace's, and no path leads out of it.
//! Source: earthly-language section 2.

use rb_diag::{Diagnostic, nearest};
use rb_frontend::{FunctionRef, ProjectRef, Repository, RepositoryError, TargetRef};
use rb_syntax::Edition;

use super::{Imports, Pattern, Via};
use crate::{codes, glob};

/// What a reference to a target means.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Meaning {
    /// One target.
    Target {
        /// Which.
        target: TargetRef,
        /// Flags of the import whose alias was used.
        via: Via,
    },
    /// One target of each folder that fits.
    Pattern(Pattern),
}

/// A text is not a reference that this version knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReferenceError {
    #[error("`{text}` is not a reference to a {wanted}")]
    NoPlus { text: String, wanted: &'static str },
    #[error("`{name}` cannot be the name of a {wanted}")]
    BadName { name: String, wanted: &'static str },
    #[error("`{text}` names a function, and only DO calls functions")]
    Function { text: String, function: FunctionRef },
    #[error("`{text}` names a target, and DO calls functions")]
    Target { text: String, target: TargetRef },
    #[error("`{text}` names a place of this machine only")]
    Absolute { text: String },
    #[error("`{text}` counts from the workspace's root, as VERSION 1 alone does")]
    FromRoot { text: String },
    #[error("`{text}` is not a remote reference: {trouble}")]
    BadRemote { text: String, trouble: RepositoryError },
    #[error("`{text}` leads out of {repository}")]
    OutOfRepository { text: String, repository: Repository },
    #[error("nothing imports `{alias}`")]
    UnknownAlias { text: String, alias: String, near: Option<String> },
    #[error("`{text}` is a pattern, and {place} takes one folder")]
    Pattern { text: String, place: &'static str },
    #[error("`{text}` is a pattern that is not supported: {trouble}")]
    BadPattern { text: String, trouble: &'static str },
    #[error("`{text}` names a target, and IMPORT takes its folder")]
    ImportOfTarget { text: String, place: String },
    #[error("`{text}` is not a path, and an alias cannot be imported again")]
    ImportOfAlias { text: String },
}

impl ReferenceError {
    pub(crate) fn diagnostic(&self) -> Diagnostic {
        Diagnostic::error(self.code(), self.to_string()).with_help(self.help())
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NoPlus { .. }
            | Self::BadName { .. }
            | Self::BadRemote { .. }
            | Self::OutOfRepository { .. } => codes::BAD_REFERENCE,
            Self::Function { .. } | Self::Target { .. } => codes::WRONG_KIND,
            Self::Absolute { .. } => codes::ABSOLUTE_REFERENCE,
            Self::FromRoot { .. } => codes::REFERENCE_LATER,
            Self::UnknownAlias { .. } => codes::UNKNOWN_ALIAS,
            Self::Pattern { .. } | Self::BadPattern { .. } => codes::BAD_PATTERN,
            Self::ImportOfTarget { .. } | Self::ImportOfAlias { .. } => codes::BAD_IMPORT,
        }
    }

    fn help(&self) -> String {
        match self {
            Self::NoPlus { wanted: "function", .. } => {
                "write `+FUNCTION`, `./folder+FUNCTION` or `alias+FUNCTION`".to_owned()
            }
            Self::NoPlus { .. } => "write `+target`, `./folder+target` or `alias+target`".to_owned(),
            Self::BadName { wanted: "function", .. } => {
                "a function's name has upper-case letters, digits, `.` and `_`, a letter first".to_owned()
            }
            Self::BadName { wanted: "stage", .. } => {
                "a stage's name has letters, digits, `.`, `_` and `-`".to_owned()
            }
            Self::BadName { .. } => {
                "a name starts with a lower-case letter and goes on with letters, digits, `.` and `-`".to_owned()
            }
            Self::Function { text, .. } => format!("write `DO {text}`"),
            Self::Target { text, .. } => {
                format!("write `BUILD {text}` or `FROM {text}`, or name a function in upper case")
            }
            Self::Absolute { .. } => {
                "a build must mean the same on every machine: write a path relative to this file, such as `../lib+build`"
                    .to_owned()
            }
            Self::FromRoot { text } => {
                format!("write a path relative to this file, such as `./{}`", text.trim_start_matches('/'))
            }
            Self::OutOfRepository { .. } => {
                "a repository elsewhere is all that its files know; name another one by its host".to_owned()
            }
            Self::BadRemote { text, .. } => {
                format!("write `host/path/project:tag`, or for a folder of this tree `./{text}`")
            }
            Self::UnknownAlias { near: Some(near), .. } => format!("did you mean `{near}`?"),
            Self::UnknownAlias { text, .. } if glob::is_pattern(text) => format!("a path is written `./{text}`"),
            Self::UnknownAlias { text, alias, .. } => {
                format!("write `IMPORT ./{alias}` above, or `./{text}` for the folder beside this file")
            }
            Self::Pattern { .. } => "name the folder".to_owned(),
            Self::BadPattern { .. } => "`*`, `?` and `[a-z]` stand for parts of one folder's name".to_owned(),
            Self::ImportOfTarget { place, .. } if place.is_empty() => {
                "targets of this file need no import: call them by `+name`".to_owned()
            }
            Self::ImportOfTarget { place, .. } => format!("write `IMPORT {place}`"),
            Self::ImportOfAlias { text } => format!("for a folder beside this file, write `IMPORT ./{text}`"),
        }
    }
}

/// Returns what a reference to a target means in a file of `project`.
pub(crate) fn parse_reference(
    text: &str,
    project: &ProjectRef,
    edition: Edition,
    imports: &Imports,
) -> Result<Meaning, ReferenceError> {
    let (place, name) = divide(text, "target")?;
    let place = parse_place(text, &place, project, edition, imports)?;
    if let Place::Project(project, _) | Place::Pattern(project, _) = &place
        && project.dockerfile().is_some()
    {
        return stage(place, &name);
    }
    if is_function_name(&name) {
        let text = text.to_owned();
        return Err(match place {
            Place::Project(project, _) => {
                ReferenceError::Function { text, function: FunctionRef { project, name } }
            }
            Place::Pattern(..) => ReferenceError::BadName { name, wanted: "target" },
        });
    }
    if !is_target_name(&name) {
        return Err(ReferenceError::BadName { name, wanted: "target" });
    }
    Ok(match place {
        Place::Project(project, via) => Meaning::Target { target: TargetRef { project, name }, via },
        Place::Pattern(project, glob) => {
            Meaning::Pattern(Pattern { project, glob, name, via: Via::default() })
        }
    })
}

/// Returns what a stage's name means; how it is written says nothing.
fn stage(place: Place, name: &str) -> Result<Meaning, ReferenceError> {
    if !rb_syntax::is_stage_name(name) {
        return Err(ReferenceError::BadName { name: name.to_owned(), wanted: "stage" });
    }
    let name = name.to_ascii_lowercase();
    Ok(match place {
        Place::Project(project, via) => Meaning::Target { target: TargetRef { project, name }, via },
        Place::Pattern(project, glob) => {
            Meaning::Pattern(Pattern { project, glob, name, via: Via::default() })
        }
    })
}

/// Returns what a reference to a function means in a file of `project`.
pub(crate) fn parse_function(
    text: &str,
    project: &ProjectRef,
    edition: Edition,
    imports: &Imports,
) -> Result<(FunctionRef, Via), ReferenceError> {
    let (place, name) = divide(text, "function")?;
    let (project, via) = match parse_place(text, &place, project, edition, imports)? {
        Place::Project(project, via) => (project, via),
        Place::Pattern(..) => return Err(ReferenceError::Pattern { text: text.to_owned(), place: "DO" }),
    };
    if is_function_name(&name) {
        return Ok((FunctionRef { project, name }, via));
    }
    Err(match is_target_name(&name) {
        true => ReferenceError::Target { text: text.to_owned(), target: TargetRef { project, name } },
        false => ReferenceError::BadName { name, wanted: "function" },
    })
}

/// Returns what an IMPORT's path means in a file of `project`.
pub(crate) fn parse_project(
    text: &str,
    project: &ProjectRef,
    edition: Edition,
) -> Result<ProjectRef, ReferenceError> {
    if let Some(plus) = dividing_plus(text) {
        let place = text[..plus].to_owned();
        return Err(ReferenceError::ImportOfTarget { text: text.to_owned(), place });
    }
    let place = text.replace("\\+", "+");
    match parse_place(text, &place, project, edition, &Imports::new()) {
        Ok(Place::Project(..)) if place.is_empty() => {
            Err(ReferenceError::NoPlus { text: text.to_owned(), wanted: "project" })
        }
        Ok(Place::Project(project, _)) => Ok(project),
        Ok(Place::Pattern(..)) => Err(ReferenceError::Pattern { text: text.to_owned(), place: "IMPORT" }),
        Err(ReferenceError::UnknownAlias { text, .. }) => Err(ReferenceError::ImportOfAlias { text }),
        Err(error) => Err(error),
    }
}

/// Returns the alias of an IMPORT that names none: the last part of its path, without a tag.
pub(crate) fn default_alias(text: &str) -> Option<String> {
    let text = text.replace("\\+", "+");
    let text = rb_syntax::dockerfile_of(&text).map_or(text.as_str(), |(folder, _)| folder);
    let path = match text.starts_with(['.', '/', '~']) {
        true => text,
        false => text.split(':').next().unwrap_or_default(),
    };
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    (!["", ".", "..", "~"].contains(&last)).then(|| last.to_owned())
}

/// Returns the alias that a reference uses, if it is of that form.
pub(super) fn alias_of(text: &str) -> Option<&str> {
    let place = &text[..dividing_plus(text)?];
    let is_alias = !place.is_empty() && !place.starts_with(['.', '/']) && !place.contains(['/', ':']);
    is_alias.then_some(place)
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

fn divide(text: &str, wanted: &'static str) -> Result<(String, String), ReferenceError> {
    let plus = dividing_plus(text).ok_or_else(|| ReferenceError::NoPlus { text: text.to_owned(), wanted })?;
    Ok((text[..plus].replace("\\+", "+"), text[plus + 1..].replace("\\+", "+")))
}

/// Where a reference leads.
enum Place {
    Project(ProjectRef, Via),
    /// Where the pattern starts, and the pattern.
    Pattern(ProjectRef, String),
}

fn parse_place(
    text: &str,
    place: &str,
    project: &ProjectRef,
    edition: Edition,
    imports: &Imports,
) -> Result<Place, ReferenceError> {
    let shown = || text.to_owned();
    if let Some((folder, file)) = rb_syntax::dockerfile_of(place) {
        let folder = if folder.is_empty() { "." } else { folder };
        return Ok(match parse_place(text, folder, project, edition, imports)? {
            Place::Project(project, via) => Place::Project(project.with_dockerfile(file), via),
            Place::Pattern(project, glob) => Place::Pattern(project.with_dockerfile(file), glob),
        });
    }
    match place {
        "" => Ok(Place::Project(project.clone(), Via::default())),
        path if path.starts_with("//") => match edition {
            Edition::One => parse_path(text, path.trim_start_matches('/'), &project.root(), edition),
            Edition::Earthly06 | Edition::Earthly07 | Edition::Earthly08 => {
                Err(ReferenceError::FromRoot { text: shown() })
            }
        },
        path if path.starts_with('/') || path.starts_with("~/") => {
            Err(ReferenceError::Absolute { text: shown() })
        }
        path if path.starts_with('.') => parse_path(text, path, project, edition),
        path if path.contains(['/', ':']) => match Repository::parse(path) {
            Ok((repository, folder)) => {
                let root = ProjectRef::Remote { repository, dir: String::new() };
                parse_path(text, &folder, &root, edition)
            }
            Err(trouble) => Err(ReferenceError::BadRemote { text: shown(), trouble }),
        },
        alias => match imports.get(alias) {
            Some(imported) => {
                Ok(Place::Project(imported.project.clone(), Via { imported: true, ..imported.via }))
            }
            None => {
                let name = dividing_plus(text).map_or("", |plus| &text[plus..]);
                let near = nearest(alias, imports.names()).map(|near| format!("{near}{name}"));
                Err(ReferenceError::UnknownAlias { text: shown(), alias: alias.to_owned(), near })
            }
        },
    }
}

/// Reads a path of the tree, which may be a pattern from some part on.
fn parse_path(
    text: &str,
    path: &str,
    project: &ProjectRef,
    edition: Edition,
) -> Result<Place, ReferenceError> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let first = parts.iter().position(|part| glob::is_pattern(part));
    let (plain, pattern) = parts.split_at(first.unwrap_or(parts.len()));
    let folder = project.join(&plain.join("/"));
    if let Some(repository) = folder.repository().filter(|_| folder.dir().starts_with("..")) {
        let (text, repository) = (text.to_owned(), repository.clone());
        return Err(ReferenceError::OutOfRepository { text, repository });
    }
    if pattern.is_empty() {
        return Ok(Place::Project(folder, Via::default()));
    }
    let refused = |trouble| Err(ReferenceError::BadPattern { text: text.to_owned(), trouble });
    if pattern.contains(&"..") {
        return refused("`..` stands behind a pattern");
    }
    // Earthly's words for it, which people search for.
    if edition < Edition::One && pattern.iter().any(|part| part.contains("**")) {
        return refused("globstar (**) pattern not yet supported");
    }
    if pattern.iter().any(|part| part.contains("**") && *part != "**") {
        return refused("`**` is a part of its own, between two `/`");
    }
    Ok(Place::Pattern(folder, pattern.join("/")))
}

fn is_target_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|next| next.is_ascii_alphanumeric() || ".-_".contains(next))
}

fn is_function_name(name: &str) -> bool {
    let tail = |next: char| next.is_ascii_uppercase() || next.is_ascii_digit() || "._".contains(next);
    name.starts_with(|first: char| first.is_ascii_uppercase()) && name.chars().all(tail)
}

#[cfg(test)]
mod tests;
