//! Where repositories elsewhere are fetched from: `[git."HOST"]` of `config.toml`.
//!
//! In: a [`Repository`] as a reference names it, or the address that `GIT CLONE` has. Out: its address: `https://HOST/PATH.git`, or what the user says of that
//! host, which may be another scheme, a user, a port, or another place altogether.
//! And how: who is shown to it, and what git calls for ssh.
//! **Invariant:** only the user's own files have a word in this. No address holds a password; one in a file is never printed, and is shown to
//! no other origin than the one that the file names.

use std::collections::BTreeMap;

use rb_frontend::Repository;
use rb_session::{GitAccess, Secret};
use rb_sources::git::Remote;
use serde::{Deserialize, Deserializer};

/// What stands behind a repository's path where nobody says otherwise.
const SUFFIX: &str = ".git";
/// Who is shown where a token alone is named, as services of repositories take it.
const TOKEN_USER: &str = "x-access-token";

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
    /// Who is shown to it over http.
    pub(crate) user: Option<String>,
    /// The password of that user, or a token.
    pub(crate) password: Option<Password>,
    /// What git calls instead of ssh.
    pub(crate) ssh_command: Option<String>,
}

/// A password in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Password(Secret);

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::new(text)))
    }
}

impl GitHost {
    /// Fills what is not said here with what is said below.
    pub(super) fn or(self, below: Self) -> Self {
        Self {
            url: self.url.or(below.url),
            suffix: self.suffix.or(below.suffix),
            user: self.user.or(below.user),
            password: self.password.or(below.password),
            ssh_command: self.ssh_command.or(below.ssh_command),
        }
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
        if self.user.as_deref().is_some_and(|user| user.is_empty() || user.contains([':', '\n'])) {
            return Err("its user is no name");
        }
        if self.user.is_some() && self.password.is_none() {
            return Err(
                "a user is shown with a password, and there is none; the user of ssh stands in `url`",
            );
        }
        if self.password.as_ref().is_some_and(|Password(secret)| secret.as_ref().trim_ascii().is_empty()) {
            return Err("its password is empty");
        }
        if self.ssh_command.as_deref().is_some_and(|command| command.trim().is_empty()) {
            return Err("its `ssh_command` is empty");
        }
        match Remote::parse(&self.address("host.example", "owner/name")) {
            Ok((remote, None)) if remote.is_ssh() && self.password.is_some() => {
                Err("a password is for http, and its `url` says ssh")
            }
            Ok((_, None)) => Ok(()),
            Ok((_, Some(_))) => Err("it has a `#` in it"),
            Err(_) => Err("it is no address of a repository's host"),
        }
    }
}

impl GitHosts {
    /// Returns how repositories are reached, by their origins.
    pub(crate) fn access(&self) -> BTreeMap<String, GitAccess> {
        let of_host = |(host, said): (&String, &GitHost)| {
            let (remote, _) = Remote::parse(&said.address(host, "owner/name")).ok()?;
            let login = said.password.as_ref().map(|Password(password)| {
                let user = said.user.as_deref().unwrap_or(TOKEN_USER);
                Secret::new([user.as_bytes(), b":", password.as_ref().trim_ascii()].concat())
            });
            Some((remote.origin(), GitAccess { login, ssh_command: said.ssh_command.clone() }))
        };
        let mut access: BTreeMap<String, GitAccess> = self.0.iter().filter_map(of_host).collect();
        // A host over whose https nothing was said may be named by an address of ssh.
        for (host, said) in &self.0 {
            if said.url.is_none() && said.ssh_command.is_some() {
                let ssh = GitAccess { login: None, ssh_command: said.ssh_command.clone() };
                access.entry(format!("ssh://{host}/")).or_insert(ssh);
            }
        }
        access
    }

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
        GitHost { url: Some(url.to_owned()), suffix: suffix.map(ToOwned::to_owned), ..GitHost::default() }
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

    fn written(text: &str) -> GitHost {
        toml::from_str(text).expect("parses")
    }

    #[test]
    fn who_is_shown_and_what_is_called_is_said_by_origin() {
        let hosts = [
            ("token.example", "password = 'hunter2'"),
            ("own.example", "url = 'https://own.example:8443/x'\nuser = 'me'\npassword = 'hunter2'"),
            ("ssh.example", "url = 'git@other.example:'\nssh_command = 'ssh -i /k'"),
            ("both.example", "ssh_command = 'ssh -v'"),
        ];
        let hosts = GitHosts(hosts.map(|(name, text)| (name.to_owned(), written(text))).into());
        assert!(!format!("{hosts:?}").contains("hunter2"));
        let access = hosts.access();
        let login = |origin: &str| access[origin].login.as_ref().map(|login| login.as_ref().to_vec());
        assert_eq!(login("https://token.example/"), Some(b"x-access-token:hunter2".to_vec()));
        assert_eq!(login("https://own.example:8443/"), Some(b"me:hunter2".to_vec()));
        let command = |origin: &str| access[origin].ssh_command.as_deref();
        assert_eq!(command("ssh://other.example/"), Some("ssh -i /k"));
        assert_eq!(command("ssh://both.example/"), Some("ssh -v"));
        let origins: Vec<&str> = access.keys().map(String::as_str).collect();
        assert!(!origins.iter().any(|origin| origin.starts_with("http://")), "{origins:?}");
    }

    #[test]
    fn what_cannot_be_shown_or_called_is_refused() {
        for text in [
            "user = 'me'",
            "user = 'a:b'\npassword = 'x'",
            "password = ' '",
            "ssh_command = ''",
            "url = 'git@a.example:'\npassword = 'x'",
        ] {
            assert!(written(text).check().is_err(), "{text}");
        }
        assert_eq!(written("user = 'me'\npassword = 'x'\nssh_command = 'ssh -v'").check(), Ok(()));
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
