//! Repositories elsewhere, as references name them: `host/path/project[/folder][:reference]`.
//!
//! Where the repository ends and its folder begins is told by the text alone: at the first part that ends in `.git`, else
//! behind the third part, as the hosts that most people use have it.
//! **Invariant:** what is parsed holds nothing but names: no scheme, user, port or option, and no way out of it.

use std::fmt;

/// Most bytes of a reference.
const MOST_BYTES: usize = 1 << 10;

/// Parts of a repository's place where none ends in `.git`: a host, who owns it, its name.
const USUAL_PARTS: usize = 3;

/// A repository elsewhere, at a branch, tag or commit. Shown as `host/path/project[:reference]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    /// `host/path/project`, as it is written.
    place: String,
    /// Branch, tag or commit; empty for the branch that is checked out there.
    reference: String,
}

/// Why a text names no repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RepositoryError {
    /// `https://…`
    #[error("it has a scheme, and the host stands first")]
    Scheme,
    /// `git@host:…`
    #[error("it has a user, and the host stands first")]
    User,
    /// `name:tag`
    #[error("it has a tag, but no path")]
    NoPath,
    /// `folder/project`
    #[error("its first part is no host, which would have a dot in it")]
    NoHost,
    /// `host//project`
    #[error("a part of its path is empty")]
    EmptyPart,
    /// `host/../project`
    #[error("its path has a `.` or `..`")]
    Dots,
    /// `host/path/project:`
    #[error("its tag is empty")]
    EmptyTag,
    /// A blank, or what has a meaning of its own in an address.
    #[error("it has a character that no address of a repository has")]
    Character,
    /// Longer than any.
    #[error("it is longer than any")]
    Length,
}

impl Repository {
    /// Parses a reference without its target. Returns the folder in the repository, too, as it is written.
    ///
    /// # Errors
    /// `RepositoryError` says what is wrong with it.
    pub fn parse(text: &str) -> Result<(Self, String), RepositoryError> {
        let (path, tag) = match text.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (text, None),
        };
        let plain = |text: &str, more: &str| {
            text.chars()
                .all(|letter| letter.is_alphanumeric() || "._-+/~".contains(letter) || more.contains(letter))
        };
        let parts: Vec<&str> = path.trim_end_matches('/').split('/').collect();
        let (host, rest) = parts.split_first().map_or(("", &[][..]), |(host, rest)| (*host, rest));
        if tag.is_some_and(|tag| tag.starts_with("//")) {
            return Err(RepositoryError::Scheme);
        }
        if path.contains('@') {
            return Err(RepositoryError::User);
        }
        if rest.is_empty() {
            return Err(RepositoryError::NoPath);
        }
        if parts.contains(&"") {
            return Err(RepositoryError::EmptyPart);
        }
        if parts.iter().any(|part| [".", ".."].contains(part)) {
            return Err(RepositoryError::Dots);
        }
        if tag == Some("") {
            return Err(RepositoryError::EmptyTag);
        }
        // A folder may be a pattern; what else is in the text reaches git.
        if !plain(path, "*?[]^!") || !tag.is_none_or(|tag| plain(tag, "")) || host.starts_with('-') {
            return Err(RepositoryError::Character);
        }
        let is_host = host == "localhost" || host.trim_matches('.').contains('.');
        if !is_host || !host.chars().all(|letter| letter.is_ascii_alphanumeric() || ".-_".contains(letter)) {
            return Err(RepositoryError::NoHost);
        }
        if text.len() > MOST_BYTES {
            return Err(RepositoryError::Length);
        }
        let end = parts.iter().position(|part| part.len() > 4 && part.ends_with(".git"));
        let (place, folder) = match end.filter(|at| *at > 0) {
            Some(at) => parts.split_at(at + 1),
            None => parts.split_at(parts.len().min(USUAL_PARTS)),
        };
        let place = place.join("/");
        if !plain(&place, "") {
            return Err(RepositoryError::Character);
        }
        Ok((Self { place, reference: tag.unwrap_or_default().to_owned() }, folder.join("/")))
    }

    /// Returns `host/path/project`.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Returns the host's name.
    pub fn host(&self) -> &str {
        self.place.split_once('/').map_or(self.place.as_str(), |(host, _)| host)
    }

    /// Returns what stands behind the host, without `.git`.
    pub fn path(&self) -> &str {
        let path = self.place.split_once('/').map_or("", |(_, path)| path);
        path.strip_suffix(".git").unwrap_or(path)
    }

    /// Returns the branch, tag or commit; empty for the branch that is checked out there.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// Returns how a folder in it is written: `host/path/project[/folder][:reference]`.
    pub fn with_folder(&self, dir: &str) -> String {
        let mut text = self.place.clone();
        if !dir.is_empty() {
            text.push('/');
            text.push_str(dir);
        }
        if !self.reference.is_empty() {
            text.push(':');
            text.push_str(&self.reference);
        }
        text
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.with_folder(""))
    }
}

/// What a repository elsewhere stands for in one build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedRepository {
    /// Where it is fetched from.
    pub url: String,
    /// All digits of the commit.
    pub commit: String,
}

/// Which repository, for what: identifier and attributes of a source op, as they name a branch or tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryRequest {
    /// `git://host/path#reference`
    pub identifier: String,
    /// Attributes of the source op.
    pub attrs: std::collections::BTreeMap<String, String>,
    /// What it is called where people see it.
    pub shown: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_repository_ends_where_its_text_says() {
        for (text, place, folder, reference) in [
            ("github.com/org/repo", "github.com/org/repo", "", ""),
            ("github.com/org/repo:v1", "github.com/org/repo", "", "v1"),
            ("github.com/org/repo/a/b:feature/x", "github.com/org/repo", "a/b", "feature/x"),
            ("github.com/org/repo.git/a", "github.com/org/repo.git", "a", ""),
            ("git.example.org/group/sub/repo.git/a:main", "git.example.org/group/sub/repo.git", "a", "main"),
            ("git.example.org/repo.git/a", "git.example.org/repo.git", "a", ""),
            ("git.example.org/repo", "git.example.org/repo", "", ""),
            ("localhost/a/b/services/*", "localhost/a/b", "services/*", ""),
        ] {
            let (repository, found) = Repository::parse(text).expect(text);
            assert_eq!(
                (repository.place(), found.as_str(), repository.reference()),
                (place, folder, reference)
            );
        }
        let (deep, folder) = Repository::parse("git.example.org/group/sub/repo.git/a:main").expect("parses");
        assert_eq!((deep.host(), deep.path()), ("git.example.org", "group/sub/repo"));
        assert_eq!(deep.with_folder(&folder), "git.example.org/group/sub/repo.git/a:main");
    }

    #[test]
    fn what_is_no_repository_is_told() {
        for (text, expected) in [
            ("https://a.com/b/c", RepositoryError::Scheme),
            ("git@github.com:a/b", RepositoryError::User),
            ("lib:v1", RepositoryError::NoPath),
            ("sub/dir", RepositoryError::NoHost),
            ("./a/b", RepositoryError::Dots),
            ("a.com//b", RepositoryError::EmptyPart),
            ("a.com/../b", RepositoryError::Dots),
            ("a.com/b:", RepositoryError::EmptyTag),
            ("a.com/b c/d", RepositoryError::Character),
            ("a.com/b/c#d", RepositoryError::Character),
            ("a.com/b/c:v1:x", RepositoryError::Character),
            ("a.com/*/c", RepositoryError::Character),
            ("-a.com/b/c", RepositoryError::Character),
        ] {
            assert_eq!(Repository::parse(text), Err(expected), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_holds_names_alone(text in "[a-z.:/@#*\\-+ ~]{0,40}") {
            if let Ok((repository, folder)) = Repository::parse(&text) {
                let place = repository.place();
                prop_assert!(!place.contains(['@', '#', ':', ' ', '*']) && !place.starts_with(['-', '/', '.']));
                prop_assert!(!repository.reference().contains(['#', ':', ' ', '*']));
                prop_assert!(folder.split('/').all(|part| ![".", ".."].contains(&part)));
                let again = Repository::parse(&repository.with_folder(&folder)).expect("is one still");
                prop_assert_eq!(again, (repository, folder));
            }
        }
    }
}
