//! Aliases: what IMPORT makes of a project's path, and where it holds.
//!
//! An alias of the base recipe holds in the whole file; one of a target or function holds there from its line on and
//! hides one of the file. Nothing is inherited from other files. Source: earthly-language 2.5.

use std::collections::BTreeMap;
use std::sync::Arc;

use rb_diag::{Diagnostic, Span};
use rb_frontend::ProjectRef;

use super::Via;
use crate::codes;

/// What an alias stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Imported {
    pub(crate) project: ProjectRef,
    /// Flags of the IMPORT.
    pub(crate) via: Via,
    /// Where the IMPORT's reference stands.
    pub(crate) span: Span,
}

/// The aliases of one scope over those of the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Imports {
    own: BTreeMap<String, Imported>,
    /// Those of the file; none in the base recipe's own scope.
    file: Option<Arc<BTreeMap<String, Imported>>>,
}

impl Imports {
    /// Returns a scope without aliases.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Returns a recipe's scope over that of its file's base recipe; `global` may also be another recipe of the file,
    /// of which nothing but the file's aliases is taken.
    pub(crate) fn within(global: &Self) -> Self {
        let file = global.file.clone().unwrap_or_else(|| Arc::new(global.own.clone()));
        Self { own: BTreeMap::new(), file: Some(file) }
    }

    /// Adds an alias. One that this scope has already is refused; one of the file is hidden.
    pub(crate) fn add(&mut self, alias: &str, imported: Imported) -> Result<(), Diagnostic> {
        check_alias(alias, imported.span)?;
        match self.own.get(alias) {
            Some(first) => Err(duplicate(alias, imported.span, first.span)),
            None => {
                self.own.insert(alias.to_owned(), imported);
                Ok(())
            }
        }
    }

    /// Returns what an alias stands for here.
    pub(crate) fn get(&self, alias: &str) -> Option<&Imported> {
        self.own.get(alias).or_else(|| self.file.as_ref()?.get(alias))
    }

    /// Returns all aliases that hold here, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let hidden = |name: &&String| !self.own.contains_key(*name);
        let file = self.file.iter().flat_map(|file| file.keys());
        let mut names: Vec<&str> = self.own.keys().chain(file.filter(hidden)).map(String::as_str).collect();
        names.sort_unstable();
        names.into_iter()
    }

    /// Returns the aliases of this scope itself, sorted.
    pub(super) fn own_names(&self) -> impl Iterator<Item = &str> {
        self.own.keys().map(String::as_str)
    }

    /// Returns whether this scope itself has the alias.
    pub(super) fn has_own(&self, alias: &str) -> bool {
        self.own.contains_key(alias)
    }
}

/// Checks that references can use an alias.
fn check_alias(alias: &str, at: Span) -> Result<(), Diagnostic> {
    let trouble = match alias {
        "" => "it is empty",
        alias if alias.contains(['/', ':']) => "it has a `/` or `:`, as a remote reference has",
        alias if alias.starts_with(['.', '~']) => "it starts as a path does",
        alias if alias.contains(['+', '\\']) => "it has a `+` or `\\`",
        alias if alias.contains(char::is_whitespace) => "it has a space",
        _ => return Ok(()),
    };
    Err(Diagnostic::error(codes::BAD_IMPORT, format!("`{alias}` cannot be an alias: {trouble}"))
        .with_label(at, "imported here")
        .with_help("write `AS name`, with a plain word for the name"))
}

/// Says that a scope has an alias already.
fn duplicate(alias: &str, again: Span, first: Span) -> Diagnostic {
    Diagnostic::error(codes::DUPLICATE_IMPORT, format!("import `{alias}` already exists in this scope"))
        .with_label(again, "again here")
        .with_label(first, "first here")
        .with_help("give one of them another name with `AS`")
}

/// Says that an IMPORT's path ends in nothing that could be an alias.
pub(super) fn needs_alias(text: &str, at: Span) -> Diagnostic {
    Diagnostic::error(codes::BAD_IMPORT, format!("`{text}` has no last part that could be the alias"))
        .with_label(at, "imported here")
        .with_help(format!("write `IMPORT {text} AS name`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imported(dir: &str) -> Imported {
        Imported {
            project: ProjectRef::Local { dir: dir.to_owned() },
            via: Via::default(),
            span: Span::default(),
        }
    }

    #[test]
    fn a_local_alias_hides_one_of_the_file_and_is_not_given_twice() {
        let mut global = Imports::new();
        global.add("lib", imported("a")).expect("is new");
        global.add("zlib", imported("z")).expect("is new");
        assert_eq!(global.add("lib", imported("b")).expect_err("is there").code, codes::DUPLICATE_IMPORT);
        let mut local = Imports::within(&global);
        assert_eq!(local.get("lib"), Some(&imported("a")));
        local.add("lib", imported("b")).expect("hides");
        local.add("app", imported("c")).expect("is new");
        assert_eq!(local.get("lib"), Some(&imported("b")));
        assert_eq!(local.names().collect::<Vec<_>>(), ["app", "lib", "zlib"]);
        assert_eq!(global.get("lib"), Some(&imported("a")));
        assert_eq!(Imports::within(&local).names().collect::<Vec<_>>(), ["lib", "zlib"]);
    }

    #[test]
    fn an_alias_is_a_plain_word() {
        for alias in ["", "a/b", "a:b", ".a", "~", "a+b", "a b"] {
            assert_eq!(Imports::new().add(alias, imported("a")).expect_err(alias).code, codes::BAD_IMPORT);
        }
    }
}
