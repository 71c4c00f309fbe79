//! Addresses of git repositories in a Dockerfile and as build contexts: which repository, what of it, and how.
//!
//! In: `https://host/a/b.git#v1:sub`, `git@host:a/b?tag=v1`, `ssh://…`, `git://…`. Out: a [`GitReference`]; or that the
//! text is none; or what is wrong with one. An address of the web is a repository only if its path ends in `.git`.
//! Source: BuildKit's `util/gitutil` and `frontend/dockerfile/dfgitutil`.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use rb_llb::{NodeMeta, State, attr};

use crate::go::parse_bool;

/// A repository, and what of it is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GitReference {
    /// Where it is fetched from, without fragment and query.
    pub(crate) remote: String,
    /// Branch, tag or commit; empty is the default branch.
    pub(crate) reference: String,
    /// A folder of it; empty is all of it.
    pub(crate) folder: String,
    /// The commit that must come.
    pub(crate) checksum: Option<String>,
    /// Whether `.git` stays.
    pub(crate) keeps_git_folder: Option<bool>,
    /// Whether submodules come along; none is yes.
    pub(crate) submodules: Option<bool>,
    /// `checkout` or `commit`: what the files' times are.
    pub(crate) times: Option<String>,
    /// The commit is fetched without asking what the branch or tag stands for.
    pub(crate) fetches_commit: bool,
    /// `git://` without a scheme's protection, `ssh`, …
    scheme: Scheme,
    host: String,
    path: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Scheme {
    #[default]
    Https,
    Http,
    Git,
    Ssh,
}

impl GitReference {
    /// Reads an address of COPY or ADD; none where the text is a path or an address of something else.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, String> {
        if text.starts_with("./") || text.starts_with("../") {
            return Ok(None);
        }
        let found = match text.split_once("://") {
            Some((scheme, rest)) => from_url(scheme, rest),
            None => from_secure_copy(text),
        };
        let Some((mut found, fragment, query)) = found else { return Ok(None) };
        if matches!(found.scheme, Scheme::Http | Scheme::Https) && !found.path.ends_with(".git") {
            return Ok(None);
        }
        found.read_fragment(fragment);
        found.read_query(query).map_err(|reason| format!("`{text}`: {reason}"))?;
        Ok(Some(found))
    }

    /// Reads the address of a build context, for which `github.com/a/b` is one, too.
    pub(crate) fn parse_context(text: &str) -> Result<Option<Self>, String> {
        if !text.starts_with("github.com/") {
            return Self::parse(text);
        }
        let Some((mut found, fragment, query)) = from_url("https", text) else { return Ok(None) };
        found.read_fragment(fragment);
        found.read_query(query).map_err(|reason| format!("`{text}`: {reason}"))?;
        Ok(Some(found))
    }

    /// Returns its source.
    pub(crate) fn state(&self, meta: NodeMeta) -> State {
        let mut attrs = BTreeMap::new();
        let mut set = |name: &str, value: &str| attrs.insert(name.to_owned(), value.to_owned());
        set(attr::GIT_FULL_URL, &self.remote);
        set(attr::GIT_AUTH_TOKEN_SECRET, "GIT_AUTH_TOKEN");
        set(attr::GIT_AUTH_HEADER_SECRET, "GIT_AUTH_HEADER");
        if self.scheme == Scheme::Ssh {
            set(attr::GIT_MOUNT_SSH_SOCK, "default");
        }
        if self.keeps_git_folder == Some(true) {
            set(attr::GIT_KEEP_DIR, "true");
        }
        if self.submodules == Some(false) {
            set(attr::GIT_SKIP_SUBMODULES, "true");
        }
        if self.fetches_commit {
            set(attr::GIT_FETCH_BY_COMMIT, "true");
        }
        for (name, value) in [(attr::GIT_CHECKSUM, &self.checksum), (attr::GIT_MTIME, &self.times)] {
            value.iter().for_each(|value| drop(set(name, value)));
        }
        State::source(self.identifier(), attrs, None, meta)
    }

    /// Returns `git://host/path#reference:folder`, the same for all protocols.
    fn identifier(&self) -> String {
        let path = rb_llb::absolute_path("/", &self.path, false);
        let mut identifier = format!("git://{}{path}", self.host);
        if !self.reference.is_empty() || !self.folder.is_empty() {
            identifier.push_str(&format!("#{}", self.reference));
        }
        if !self.folder.is_empty() {
            identifier.push_str(&format!(":{}", self.folder));
        }
        identifier
    }

    /// Returns identifier and attributes of its source, for asking what it stands for.
    pub(crate) fn request(&self, shown: &str) -> rb_frontend::RepositoryRequest {
        let attrs = BTreeMap::from([(attr::GIT_FULL_URL.to_owned(), self.remote.clone())]);
        let whole = Self { folder: String::new(), ..self.clone() };
        rb_frontend::RepositoryRequest { identifier: whole.identifier(), attrs, shown: shown.to_owned() }
    }

    /// Reads `reference:folder`.
    fn read_fragment(&mut self, fragment: &str) {
        let fragment = decoded(fragment);
        let (reference, folder) = fragment.split_once(':').unwrap_or((&fragment, ""));
        self.reference = reference.to_owned();
        self.folder = rb_llb::absolute_path("/", folder, false)[1..].to_owned();
    }

    fn read_query(&mut self, query: &str) -> Result<(), String> {
        let (mut tag, mut branch) = (None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name), decoded(value));
            let flag = || match value.as_str() {
                "" => Ok(true),
                value => parse_bool(value).ok_or_else(|| format!("`{name}` is neither true nor false")),
            };
            match name.as_str() {
                "submodules" => self.submodules = Some(flag()?),
                "keep-git-dir" => self.keeps_git_folder = Some(flag()?),
                "fetch-by-commit" => self.fetches_commit = flag()?,
                _ if value.is_empty() => return Err(format!("`{name}` has no value")),
                "ref" => agree(&mut self.reference, &value, "ref")?,
                "subdir" => agree(&mut self.folder, &value, "subdir")?,
                "tag" => tag = Some(qualified(&value, "refs/tags/")),
                "branch" => branch = Some(qualified(&value, "refs/heads/")),
                "checksum" | "commit" => self.checksum = Some(value),
                "mtime" if ["checkout", "commit"].contains(&value.as_str()) => self.times = Some(value),
                "mtime" => return Err("`mtime` is neither `checkout` nor `commit`".to_owned()),
                other => {
                    let near = rb_diag::nearest(other, QUERY);
                    let hint = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
                    return Err(format!("`{other}` means nothing in its query{hint}"));
                }
            }
        }
        if tag.is_some() && branch.is_some() {
            return Err("it names a tag and a branch".to_owned());
        }
        tag.or(branch).map_or(Ok(()), |reference| agree(&mut self.reference, &reference, "ref"))
    }
}

/// What a query may name.
const QUERY: [&str; 10] = [
    "branch",
    "checksum",
    "commit",
    "fetch-by-commit",
    "keep-git-dir",
    "mtime",
    "ref",
    "subdir",
    "submodules",
    "tag",
];

/// Sets what may have been said before, then with the same value.
fn agree(have: &mut String, value: &str, what: &str) -> Result<(), String> {
    if !have.is_empty() && have != value {
        return Err(format!("its {what} is `{have}` and `{value}`"));
    }
    value.clone_into(have);
    Ok(())
}

fn qualified(name: &str, prefix: &str) -> String {
    if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Splits off `#fragment`, then `?query`.
fn split_ends(text: &str) -> (&str, &str, &str) {
    let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (text, query) = text.split_once('?').unwrap_or((text, ""));
    (text, fragment, query)
}

/// Reads what follows a scheme; none where the scheme is none that git speaks.
fn from_url<'a>(scheme: &str, rest: &'a str) -> Option<(GitReference, &'a str, &'a str)> {
    let kind = match scheme.to_ascii_lowercase().as_str() {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        "git" => Scheme::Git,
        "ssh" => Scheme::Ssh,
        _ => return None,
    };
    let (place, fragment, query) = split_ends(rest);
    let (host, path) = place.split_once('/').map_or((place, ""), |(host, path)| (host, path));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    // A repository that is named without a scheme keeps that form in what is shown, and is fetched by https.
    let remote = format!("{}://{place}", scheme.to_ascii_lowercase());
    let (host, path) = (host.to_owned(), format!("/{}", decoded(path)));
    Some((GitReference { remote, scheme: kind, host, path, ..GitReference::default() }, fragment, query))
}

/// Reads `user@host:path`, as ssh writes places.
fn from_secure_copy(text: &str) -> Option<(GitReference, &str, &str)> {
    let (place, fragment, query) = split_ends(text);
    let (user, rest) = place.split_once('@')?;
    let (host, path) = rest.split_once(':')?;
    let word = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphanumeric() || more.contains(letter))
    };
    if !word(user, "-_.") || !word(host, "-_.") || path.is_empty() {
        return None;
    }
    let (host, path) = (host.to_owned(), path.to_owned());
    let remote = place.to_owned();
    Some((
        GitReference { remote, scheme: Scheme::Ssh, host, path, ..GitReference::default() },
        fragment,
        query,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> GitReference {
        GitReference::parse(text).expect(text).expect(text)
    }

    #[test]
    fn addresses_are_repositories_where_git_would_be_asked() {
        for text in
            ["a/b", "./git@h:p", "../x", "https://example.com/f.tgz", "github.com/a/b", "ftp://h/a.git"]
        {
            assert_eq!(GitReference::parse(text), Ok(None), "{text}");
        }
        for (text, identifier, remote) in [
            ("https://h.io/a/b.git", "git://h.io/a/b.git", "https://h.io/a/b.git"),
            ("https://u:p@h.io/a.git#v1:x/../y", "git://h.io/a.git#v1:y", "https://u:p@h.io/a.git"),
            ("git@h.io:a/b.git#:x", "git://h.io/a/b.git#:x", "git@h.io:a/b.git"),
            ("ssh://git@h.io:22/a/b?ref=main", "git://h.io:22/a/b#main", "ssh://git@h.io:22/a/b"),
            ("git://h.io/a?tag=v1&subdir=d", "git://h.io/a#refs/tags/v1:d", "git://h.io/a"),
            ("https://h.io/a.git?branch=refs/heads/x", "git://h.io/a.git#refs/heads/x", "https://h.io/a.git"),
        ] {
            let found = parsed(text);
            assert_eq!((found.identifier().as_str(), found.remote.as_str()), (identifier, remote), "{text}");
        }
        let context = GitReference::parse_context("github.com/a/b#v2").unwrap().unwrap();
        assert_eq!(context.identifier(), "git://github.com/a/b#v2");
        assert_eq!(context.remote, "https://github.com/a/b");
    }

    #[test]
    fn queries_say_how() {
        let found = parsed(
            "https://h.io/a.git?keep-git-dir&submodules=false&commit=abc&mtime=commit&fetch-by-commit=1",
        );
        assert_eq!((found.keeps_git_folder, found.submodules), (Some(true), Some(false)));
        assert_eq!((found.checksum.as_deref(), found.times.as_deref()), (Some("abc"), Some("commit")));
        assert!(found.fetches_commit);
        for (text, reason) in [
            ("https://h.io/a.git?tga=1", "`tga` means nothing in its query (did you mean `tag`?)"),
            ("https://h.io/a.git?tag=1&branch=2", "it names a tag and a branch"),
            ("https://h.io/a.git?ref=1#2", "its ref is `2` and `1`"),
            ("https://h.io/a.git?ref=", "`ref` has no value"),
            ("https://h.io/a.git?mtime=now", "`mtime` is neither `checkout` nor `commit`"),
        ] {
            assert_eq!(GitReference::parse(text), Err(format!("`{text}`: {reason}")));
        }
    }
}
