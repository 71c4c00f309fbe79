//! Addresses of repositories: URLs, `user@host:path`, and what submodules write relative to them.
//!
//! **Invariant:** an address names a host and a path, and is spoken to by http, https, ssh or git: none names a file of
//! this machine or a program, and none begins like an option. A user and password of http stand apart and are never
//! shown.

use std::fmt;

use percent_encoding::percent_decode_str;
use rb_session::Secret;

use super::GitError;

/// The longest address that is taken.
const MOST_BYTES: usize = 4 << 10;

/// How a repository is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
    Ssh,
    Git,
}

impl Scheme {
    fn of(text: &str) -> Option<Self> {
        Some(match text {
            "http" => Self::Http,
            "https" => Self::Https,
            "ssh" | "git+ssh" | "ssh+git" => Self::Ssh,
            "git" => Self::Git,
            _ => return None,
        })
    }

    fn text(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Ssh => "ssh",
            Self::Git => "git",
        }
    }
}

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    pub(crate) scheme: Scheme,
    /// `git@` of ssh; empty elsewhere.
    user: String,
    /// `host` or `host:port`.
    pub(crate) authority: String,
    /// Without a `/` at its beginning where it is written `user@host:path`.
    path: String,
    is_short: bool,
    /// `user:password` of http.
    pub(crate) login: Option<Secret>,
}

impl fmt::Display for Remote {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, user, authority, path, is_short, login: _ } = self;
        if *is_short {
            return write!(out, "{user}{authority}:{path}");
        }
        write!(out, "{}://{user}{authority}{path}", scheme.text())
    }
}

impl Remote {
    /// Parses an address; one that names no scheme is of https. Returns what stands behind a `#`, too.
    ///
    /// # Errors
    /// `Address` says what is wrong with it.
    pub fn parse(text: &str) -> Result<(Self, Option<&str>), GitError> {
        let (address, fragment) =
            text.split_once('#').map_or((text, None), |(address, rest)| (address, Some(rest)));
        let refused = |reason: &str| GitError::Address { text: shown(address), reason: reason.to_owned() };
        if address.len() > MOST_BYTES {
            return Err(refused("it is longer than any"));
        }
        if address.chars().any(|letter| letter.is_control() || letter.is_whitespace()) {
            return Err(refused("it has blanks or control characters in it"));
        }
        let remote = match address.split_once("://") {
            Some((scheme, rest)) => {
                let scheme = Scheme::of(&scheme.to_ascii_lowercase())
                    .ok_or_else(|| refused("a build reads repositories by https, http, ssh and git alone"))?;
                Self::of_url(scheme, rest).map_err(refused)?
            }
            None => match short(address) {
                Some((user, host, path)) => Self {
                    scheme: Scheme::Ssh,
                    user: format!("{user}@"),
                    authority: host.to_owned(),
                    path: path.to_owned(),
                    is_short: true,
                    login: None,
                },
                None => Self::of_url(Scheme::Https, address).map_err(refused)?,
            },
        };
        remote.check().map_err(refused)?;
        Ok((remote, fragment))
    }

    fn of_url(scheme: Scheme, rest: &str) -> Result<Self, &'static str> {
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => return Err("it names no path on its host"),
        };
        let path = path.split('?').next().unwrap_or_default().to_owned();
        let (user, authority) = match authority.rsplit_once('@') {
            Some((user, host)) => (user, host),
            None => ("", authority),
        };
        let (user, login) = match scheme {
            _ if user.is_empty() => (String::new(), None),
            Scheme::Ssh | Scheme::Git if user.contains(':') => {
                return Err("it has a password in it, which ssh does not take");
            }
            Scheme::Ssh | Scheme::Git => (format!("{user}@"), None),
            Scheme::Http | Scheme::Https => {
                (String::new(), Some(Secret::new(percent_decode_str(user).collect::<Vec<u8>>())))
            }
        };
        let authority = authority.to_ascii_lowercase();
        Ok(Self { scheme, user, authority, path, is_short: false, login })
    }

    fn check(&self) -> Result<(), &'static str> {
        let host = self.host();
        let odd = |letter: char| !(letter.is_ascii_alphanumeric() || "._-:".contains(letter));
        if host.is_empty() || host.starts_with(['-', '.']) || host.contains(odd) {
            return Err("its host is none");
        }
        let port = self.authority.rsplit_once(':').map_or("", |(_, port)| port);
        if !self.authority.ends_with(']') && !port.chars().all(|letter| letter.is_ascii_digit()) {
            return Err("its port is none");
        }
        let odd = |letter: char| !(letter.is_ascii_alphanumeric() || "._-@+".contains(letter));
        if self.user.starts_with('-') || self.user.contains(odd) {
            return Err("its user is none");
        }
        if self.path.trim_matches('/').is_empty() || self.path.starts_with('-') {
            return Err("it names no path on its host");
        }
        Ok(())
    }

    /// Returns the host without its port.
    pub fn host(&self) -> &str {
        match self.authority.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => self.authority.split(':').next().unwrap_or_default(),
        }
    }

    /// Tells whether ssh speaks to it.
    pub fn is_ssh(&self) -> bool {
        self.scheme == Scheme::Ssh
    }

    /// Returns `scheme://host:port/`: what may see the same credentials.
    pub fn origin(&self) -> String {
        format!("{}://{}/", self.scheme.text(), self.authority)
    }

    /// Returns the repository that a submodule of this one names.
    pub(crate) fn submodule(&self, url: &str) -> Result<Self, GitError> {
        let refused = |reason: &str| GitError::Address { text: shown(url), reason: reason.to_owned() };
        if !(url.starts_with("./") || url.starts_with("../")) {
            if !url.contains("://") && short(url).is_none() {
                return Err(refused("it is a path of somebody's machine, or no address"));
            }
            let (remote, fragment) = Self::parse(url)?;
            return if fragment.is_some() { Err(refused("it has a `#` in it")) } else { Ok(remote) };
        }
        let mut path = self.path.trim_end_matches('/').to_owned();
        for part in url.split('/').filter(|part| !matches!(*part, "" | ".")) {
            if part == ".." {
                let Some((above, _)) = path.rsplit_once('/').or((!path.is_empty()).then_some(("", "")))
                else {
                    return Err(refused("it leads above the root of its host"));
                };
                path = above.to_owned();
            } else {
                path =
                    if path.is_empty() && self.is_short { part.to_owned() } else { format!("{path}/{part}") };
            }
        }
        let remote = Self { path, ..self.clone() };
        remote.check().map_err(refused)?;
        Ok(remote)
    }
}

/// Splits `user@host:path`.
fn short(text: &str) -> Option<(&str, &str, &str)> {
    let (user, rest) = text.split_once('@')?;
    let (host, path) = rest.split_once(':')?;
    let plain = !user.is_empty() && !user.contains(['/', ':']) && !host.is_empty() && !host.contains('/');
    plain.then_some((user, host, path))
}

/// Shows an address without what may be a password in it.
fn shown(text: &str) -> String {
    let text: String = text.chars().filter(|letter| !letter.is_control()).take(300).collect();
    match text.split_once("://") {
        Some((scheme, rest)) => {
            let host = rest.split('/').next().unwrap_or_default();
            match host.rsplit_once('@') {
                Some((user, _)) if user.contains(':') => format!("{scheme}://{}", &rest[user.len() + 1..]),
                _ => text,
            }
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        for (text, shown, fragment) in [
            ("github.com/a/b.git", "https://github.com/a/b.git", None),
            ("github.com/a/b#main:dir", "https://github.com/a/b", Some("main:dir")),
            ("HTTPS://Host.example:8443/a?x=1", "https://host.example:8443/a", None),
            ("http://u:p%40w@h/a", "http://h/a", None),
            ("git@github.com:a/b.git#v1", "git@github.com:a/b.git", Some("v1")),
            ("ssh://git@h:22/a", "ssh://git@h:22/a", None),
            ("git://h/a", "git://h/a", None),
            ("http://[::1]:80/a", "http://[::1]:80/a", None),
        ] {
            let (remote, found) = Remote::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((remote.to_string().as_str(), found), (shown, fragment), "{text}");
        }
        let (remote, _) = Remote::parse("https://u:p%40w@h/a").expect("an address");
        assert_eq!(remote.login.as_ref().map(AsRef::as_ref), Some(b"u:p@w".as_slice()));
        assert!(!format!("{remote:?}").contains("p@w"));
    }

    #[test]
    fn what_is_no_address_is_refused_without_its_password() {
        for text in [
            "file:///etc",
            "ext::sh -c x",
            "/srv/git/a",
            "./a",
            "-oProxyCommand=x@h:a",
            "ssh://-oProxyCommand=x/a",
            "ssh://-x@h/a",
            "git@-x:a",
            "ssh://u:hunter2@h/a",
            "https://u:hunter2@/a",
            "https://h",
            "https://h/",
            "https://h:x/a",
            "https://h/a\nb",
            "git@h:-x",
            "",
        ] {
            let error = Remote::parse(text).expect_err(text).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn submodules_are_beside_or_elsewhere_and_never_here() {
        let of = |parent: &str, url: &str| {
            let (parent, _) = Remote::parse(parent).expect("an address");
            parent.submodule(url).map(|remote| remote.to_string()).ok()
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(of("https://h/a/b.git", "../c.git"), some("https://h/a/c.git"));
        assert_eq!(of("https://h/a/b.git", "./c"), some("https://h/a/b.git/c"));
        assert_eq!(of("git@h:a/b.git", "../../c/d"), some("git@h:c/d"));
        assert_eq!(of("https://h/a", "https://other/x"), some("https://other/x"));
        assert_eq!(of("https://h/a", "git@other:x"), some("git@other:x"));
        for url in [
            "../../../x",
            "file:///etc",
            "/etc",
            "-x",
            "ext::sh -c id",
            "etc",
            "../..",
            "https://h/a#b",
            "C:\\x",
        ] {
            assert_eq!(of("https://h/a/b", url), None, "{url}");
        }
    }
}
