//! Where repositories elsewhere are fetched from: `[git."HOST"]` of `config.toml`.
//!
//! In: a [`Repository`] as a reference names it, or the address that `GIT CLONE` has. Out: its address: `https://HOST/PATH.git`, or what the user says of that
//! host, which may be another scheme, a user, a port, or another place altogether.
//! **Invariant:** only the user's own files have a word in this, and no address holds a password: tokens are secrets.

use std::collections::BTreeMap;

use rb_frontend::Repository;
use rb_sources::git::Remote;
use serde::Deserialize;

/// What stands behind a repository's path where nobody says otherwise.
const SUFFIX: &str = ".git";

/// What is said of hosts, by their names in references.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GitHosts(pub(crate) BTreeMap<String, GitHost>);

/// What is said of one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct GitHost {
    /// What a repository's path is put behind.
    pub(crate) url: Option<String>,
    /// What is put behind that.
    pub(crate) suffix: Option<String>,
}

impl GitHost {
    /// Fills what is not said here with what is said below.
    pub(super) fn or(self, below: Self) -> Self {
        Self { url: self.url.or(below.url), suffix: self.suffix.or(below.suffix) }
    }

    /// Returns the address of a repository, by its path on `host`.
    fn address(&self, host: &str, path: &str) -> String {
        let suffix = self.suffix.as_deref().unwrap_or(SUFFIX);
        match self.url.as_deref() {
            None => format!("https://{host}/{path}{suffix}"),
            // `git@host:`
            Some(url) if url.ends_with([':', '/']) => format!("{url}{path}{suffix}"),
            Some(url) => format!("{url}/{path}{suffix}"),
        }
    }

    /// Says what is wrong with it.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let url = self.url.as_deref().unwrap_or_default();
        let login = url.split_once("://").and_then(|(scheme, rest)| {
            let authority = rest.split('/').next().unwrap_or_default();
            let is_http = scheme.to_ascii_lowercase().starts_with("http");
            authority.rsplit_once('@').filter(|(who, _)| is_http || who.contains(':'))
        });
        if login.is_some() {
            return Err("it holds a password or token");
        }
        match Remote::parse(&self.address("host.example", "owner/name")) {
            Ok((_, None)) => Ok(()),
            Ok((_, Some(_))) => Err("it has a `#` in it"),
            Err(_) => Err("it is no address of a repository's host"),
        }
    }
}

impl GitHosts {
    /// Returns where a repository is fetched from.
    pub(crate) fn address(&self, repository: &Repository) -> String {
        let host = repository.host();
        self.0.get(host).cloned().unwrap_or_default().address(host, repository.path())
    }

    /// Returns where a repository is fetched from whose address is at a host of which the user says something; not one that
    /// names a port or a password.
    pub(crate) fn instead_of(&self, url: &str) -> Option<String> {
        let (host, path) = match url.split_once("://") {
            Some((scheme, rest)) => {
                let (authority, path) = rest.split_once('/')?;
                let host = if scheme == "ssh" {
                    authority.strip_prefix("git@").unwrap_or(authority)
                } else {
                    authority
                };
                (host, path)
            }
            None => match url.strip_prefix("git@") {
                Some(rest) => rest.split_once(':')?,
                None => url.split_once('/')?,
            },
        };
        let path = path.trim_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        let said = self.0.get(host).filter(|_| !path.is_empty() && !path.contains(['?', '#']))?;
        Some(said.address(host, path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(url: &str, suffix: Option<&str>) -> GitHost {
        GitHost { url: Some(url.to_owned()), suffix: suffix.map(ToOwned::to_owned) }
    }

    #[test]
    fn addresses_are_those_of_the_host_unless_the_user_says_otherwise() {
        let hosts = [
            ("one.example", host("ssh://git@one.example:2222", None)),
            ("two.example", host("git@two.example:", Some(""))),
            ("three.example", host("http://mirror.example/of/three/", None)),
        ];
        let hosts = GitHosts(hosts.map(|(name, said)| (name.to_owned(), said)).into());
        for (text, address) in [
            ("github.com/a/b:v1", "https://github.com/a/b.git"),
            ("zero.example/a/b/c.git/folder", "https://zero.example/a/b/c.git"),
            ("one.example/a/b", "ssh://git@one.example:2222/a/b.git"),
            ("two.example/a/b", "git@two.example:a/b"),
            ("three.example/a/b", "http://mirror.example/of/three/a/b.git"),
        ] {
            let (repository, _) = Repository::parse(text).expect(text);
            assert_eq!(hosts.address(&repository), address, "{text}");
        }
        for url in [
            "https://one.example/a/b",
            "https://one.example/a/b.git",
            "ssh://git@one.example/a/b.git",
            "git@one.example:a/b.git",
            "one.example/a/b",
        ] {
            assert_eq!(hosts.instead_of(url).as_deref(), Some("ssh://git@one.example:2222/a/b.git"), "{url}");
        }
        for url in [
            "https://zero.example/a/b",
            "https://me:secret@one.example/a/b",
            "https://one.example:8443/a/b",
            "https://one.example/",
            "one.example",
        ] {
            assert_eq!(hosts.instead_of(url), None, "{url}");
        }
    }

    #[test]
    fn what_is_no_place_of_repositories_is_refused() {
        for url in [
            "https://t0ken@a.example/",
            "ssh://git:pass@a.example/",
            "file:///srv",
            "a b",
            "https://a.example/#",
        ] {
            assert!(host(url, None).check().is_err(), "{url}");
        }
        for url in ["https://a.example:8443", "ssh://git@a.example/", "git@a.example:", "a.example/x"] {
            assert_eq!(host(url, None).check(), Ok(()), "{url}");
        }
    }
}
