//! References: names of images, as people write them and as registries know them.
//!
//! In: `busybox`, `ghcr.io/a/b:1.0`, `localhost:5000/x@sha256:…`. Out: a [`Reference`] with its host filled in, and
//! a reason in words for what is none. No IO.
//! **Invariant:** the parts of a reference can stand in a URL's path as they are: a repository has no `..`, no empty
//! part, no upper case, and a tag no `/`. What is shown parses to the same reference.
//! Source: distribution/reference (grammar, normalisation and its test tables); BuildKit for the form in LLB.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Digest;

/// The host of images that name none.
const DEFAULT_HOST: &str = "docker.io";
/// An old name of the same.
const LEGACY_HOST: &str = "index.docker.io";
/// The namespace on it of repositories that name none.
const OFFICIAL: &str = "library/";
const REPOSITORY_LIMIT_BYTES: usize = 255;
const TAG_LIMIT_BYTES: usize = 128;
const HOST_LIMIT_BYTES: usize = 255;
/// The tag of references that name neither tag nor digest.
const DEFAULT_TAG: &str = "latest";

/// A repository of a registry: `docker.io/library/busybox`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    host: String,
    path: String,
}

/// An image of a registry, by tag, by digest or by both; the digest then decides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    repository: Repository,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text is not the name of an image.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not the name of an image: {reason}")]
pub struct ReferenceError {
    text: String,
    reason: String,
}

impl Repository {
    /// Parses a name without tag and digest, and fills in what docker fills in.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        Self::split(text).map_err(|reason| ReferenceError::new(text, reason))
    }

    /// Returns the registry's host with its port, if it has one: `docker.io`, `localhost:5000`, `[::1]:5000`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the name on the registry: `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the shortest name that means the same: `busybox`.
    pub fn familiar(&self) -> String {
        if self.host != DEFAULT_HOST {
            return self.to_string();
        }
        let short = self.path.strip_prefix(OFFICIAL).filter(|rest| !rest.contains('/'));
        let short = short.filter(|short| !is_identifier(short)).unwrap_or(&self.path);
        // The short form must not be taken for something else: what begins like a host, for one.
        if Self::split(short).as_ref() == Ok(self) { short.to_owned() } else { self.to_string() }
    }

    /// Returns the image with a tag.
    pub fn with_tag(&self, tag: &str) -> Result<Reference, ReferenceError> {
        check_tag(tag).map_err(|reason| ReferenceError::new(&format!("{self}:{tag}"), reason))?;
        Ok(Reference { repository: self.clone(), tag: Some(tag.to_owned()), digest: None })
    }

    /// Returns the image with a digest.
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference { repository: self.clone(), tag: None, digest: Some(digest) }
    }

    fn split(text: &str) -> Result<Self, String> {
        if is_identifier(text) {
            return Err("64 hex digits are the id of an image, which no registry knows; a digest is written `name@sha256:…`".to_owned());
        }
        let (host, path) = match split_host(text) {
            Some((LEGACY_HOST, path)) => (DEFAULT_HOST, path),
            Some((host, path)) => (host, path),
            None => (DEFAULT_HOST, text),
        };
        check_host(host)?;
        check_path(path)?;
        let path = match host == DEFAULT_HOST && !path.contains('/') {
            true => format!("{OFFICIAL}{path}"),
            false => path.to_owned(),
        };
        if path.len() > REPOSITORY_LIMIT_BYTES {
            return Err(format!("its repository is longer than {REPOSITORY_LIMIT_BYTES} characters"));
        }
        Ok(Self { host: host.to_owned(), path })
    }
}

/// Tells whether a name says by itself which registry it is of, as `ghcr.io/a` does and `busybox` does not.
pub fn names_host(text: &str) -> bool {
    split_host(text).is_some()
}

/// What precedes the first slash is a host if it looks like one; docker does so too.
fn split_host(text: &str) -> Option<(&str, &str)> {
    text.split_once('/').filter(|(first, _)| {
        first.contains(['.', ':', '['])
            || *first == "localhost"
            || first.bytes().any(|b| b.is_ascii_uppercase())
    })
}

impl Reference {
    /// Returns the repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Returns the tag; none where only a digest is named.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest, which decides where there is one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Returns what a registry is asked for: the digest, or else the tag.
    pub fn identifier(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.as_deref().unwrap_or(DEFAULT_TAG).to_owned(),
        }
    }

    /// Returns the same name, pinned to a digest; a tag stays, for people.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// Returns the shortest name that means the same, with tag and digest: `busybox:latest`.
    pub fn familiar(&self) -> String {
        self.named(self.repository.familiar())
    }

    fn named(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }

    fn split(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("it is empty".to_owned());
        }
        if let Some(odd) = text.chars().find(|character| !character.is_ascii_graphic()) {
            return Err(format!("it contains {odd:?}"));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return Err(format!("a name has no `{scheme}://`; write `{rest}`"));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(parse_digest(digest)?)),
            None => (text, None),
        };
        // A colon behind the last slash starts a tag; one before it, a port.
        let after_slash = name.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match name[after_slash..].find(':') {
            Some(colon) => (&name[..after_slash + colon], Some(&name[after_slash + colon + 1..])),
            None => (name, None),
        };
        let repository = Repository::split(name)?;
        tag.map_or(Ok(()), check_tag)?;
        let tag = tag.or(digest.is_none().then_some(DEFAULT_TAG)).map(ToOwned::to_owned);
        Ok(Self { repository, tag, digest })
    }
}

impl ReferenceError {
    fn new(text: &str, reason: String) -> Self {
        Self { text: text.chars().take(300).flat_map(char::escape_debug).collect(), reason }
    }

    /// Returns why it is none.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

fn parse_digest(text: &str) -> Result<Digest, String> {
    if let Some(other) = text.strip_prefix("sha512:").or_else(|| text.strip_prefix("sha384:")) {
        let algorithm = &text[..text.len() - other.len() - 1];
        return Err(format!("its digest is a {algorithm}, and only sha256 is supported"));
    }
    text.parse().map_err(|_| "what follows `@` is not `sha256:` and 64 lower-case hex digits".to_owned())
}

/// Whether a name is all hex digits of a sha256: the id of a local image.
fn is_identifier(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn check_host(host: &str) -> Result<(), String> {
    let refused = |reason: &str| Err(format!("its host `{host}` {reason}"));
    if host.len() > HOST_LIMIT_BYTES {
        return Err(format!("its host is longer than {HOST_LIMIT_BYTES} characters"));
    }
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else {
                return refused("has a `[` without `]`");
            };
            let plain = address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':');
            if !plain || address.parse::<std::net::Ipv6Addr>().is_err() {
                return refused("is not an IPv6 address");
            }
            match after.strip_prefix(':') {
                Some(port) => (None, Some(port)),
                None if after.is_empty() => (None, None),
                None => return refused("has something between `]` and its port"),
            }
        }
        None => match host.split_once(':') {
            Some((name, port)) => (Some(name), Some(port)),
            None => (Some(host), None),
        },
    };
    if port
        .is_some_and(|port| !port.bytes().all(|byte| byte.is_ascii_digit()) || port.parse::<u16>().is_err())
    {
        return refused("has a port that is not a number up to 65535");
    }
    for part in name.into_iter().flat_map(|name| name.split('.')) {
        let letters = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if part.is_empty() || !letters || part.starts_with('-') || part.ends_with('-') {
            return refused("is not a host name: letters, digits and inner `-`, in parts between dots");
        }
    }
    Ok(())
}

fn check_path(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err("it names no repository".to_owned());
    }
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(format!("a repository is written in lower case: `{}`", path.to_ascii_lowercase()));
    }
    for part in path.split('/') {
        if part.is_empty() {
            return Err("a part of its repository between slashes is empty".to_owned());
        }
        let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if let Some(odd) = part.bytes().find(|byte| !alphanumeric(*byte) && !b"._-".contains(byte)) {
            return Err(format!("`{}` cannot be in a repository's name", char::from(odd).escape_debug()));
        }
        let word = |part: &str| {
            part.bytes().next().is_some_and(alphanumeric)
                && part.bytes().next_back().is_some_and(alphanumeric)
        };
        if !word(part) {
            return Err(format!("`{part}` begins or ends with something other than a letter or digit"));
        }
        // Between words stand one dot, one or two underscores, or any number of dashes.
        for separator in part.split(|letter: char| letter.is_ascii_alphanumeric()) {
            if !matches!(separator, "" | "." | "_" | "__") && !separator.bytes().all(|byte| byte == b'-') {
                return Err(format!("`{separator}` in `{part}` does not separate words"));
            }
        }
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<(), String> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if tag.is_empty() {
        return Err("its tag is empty".to_owned());
    }
    if tag.len() > TAG_LIMIT_BYTES {
        return Err(format!("its tag is longer than {TAG_LIMIT_BYTES} characters"));
    }
    if !tag.bytes().next().is_some_and(word) || !tag.bytes().all(|byte| word(byte) || b".-".contains(&byte)) {
        return Err(format!(
            "its tag `{tag}` is not letters, digits, `_`, `.` and `-`, beginning with none of the last two"
        ));
    }
    Ok(())
}

impl fmt::Display for Repository {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.host, self.path)
    }
}

impl FromStr for Repository {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.named(self.repository.to_string()))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::split(text).map_err(|reason| ReferenceError::new(text, reason))
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
