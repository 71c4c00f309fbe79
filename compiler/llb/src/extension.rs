//! What only our own runtime does. Nothing else in a definition needs it.
//!
//! The host source (`host://…`) is a read-only base made of the machine's own toolchain. Its vertex asks for the
//! capability [`CAP_HOST`], which no other engine has, so another engine refuses it before it starts.
//!
//! The [`Terms`] of a command are texts of its description, which other engines pass over: there it runs once, for as long as
//! it likes. They change no result, so they are in no digest.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{LlbError, Op, VertexMeta};

/// Scheme of the host source.
pub const HOST_SCHEME: &str = "host";

/// Capability that a vertex with a host source asks for.
pub const CAP_HOST: &str = "rb.source.host";

/// Scheme of the source that is what a command of the same job left as it failed; the digest of its vertex follows.
pub const LEFT_SCHEME: &str = "left";

/// Capability that a vertex with such a source asks for.
pub const CAP_LEFT: &str = "rb.source.left";

/// Prefix of attributes that name a path of the host to show, numbered from 0.
pub const HOST_BIND_PREFIX: &str = "host.bind.";

/// Prefix of attributes that hold a command whose output is part of the key, numbered from 0.
pub const HOST_FINGERPRINT_PREFIX: &str = "host.fingerprint.";

/// Key of [`VertexMeta::description`]: how many milliseconds an attempt may take.
pub const EXEC_TIMEOUT: &str = "rb.exec.timeout-ms";

/// Key of [`VertexMeta::description`]: how often a command that failed is run again.
pub const EXEC_RETRIES: &str = "rb.exec.retries";

/// Key of [`VertexMeta::description`]: which variables of a command are the recipe's own and no ENV, `NAME=ARG` or `NAME=LET`, a
/// line each.
pub const EXEC_VARIABLES: &str = "rb.exec.variables";

/// Key of [`VertexMeta::description`]: the command has effects elsewhere (`RUN --push`), so whoever has it run sends it once.
pub const EXEC_PUSH: &str = "rb.exec.push";

/// Key of [`VertexMeta::description`]: where a tree is mounted that a command changes, and that is known by its content all the same.
/// `contentCache` says so of trees that are not changed alone: other engines refuse it of others.
pub const EXEC_BY_CONTENT: &str = "rb.exec.by-content";

/// Tells whether a vertex is a command with effects elsewhere.
pub fn pushes(meta: &VertexMeta) -> bool {
    meta.description.contains_key(EXEC_PUSH)
}

/// Start of ids of caches that hold hints: what is found in one changes no result, so which one it is, is in no key. No folder
/// of a workspace is called so.
pub const HINT_CACHE: &str = "///hint/";

/// On which terms a command runs. Of equal vertices the terms of the last count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// How long an attempt may take.
    pub timeout: Option<Duration>,
    /// How often it is tried again.
    pub retries: u32,
}

impl Terms {
    /// Adds them to a description.
    pub fn describe(&self, description: &mut BTreeMap<String, String>) {
        let timeout = self.timeout.map(|timeout| (EXEC_TIMEOUT, timeout.as_millis().to_string()));
        let retries = (self.retries > 0).then(|| (EXEC_RETRIES, self.retries.to_string()));
        let both = timeout.into_iter().chain(retries);
        description.extend(both.map(|(key, value)| (key.to_owned(), value)));
    }

    /// Reads those of a vertex.
    ///
    /// # Errors
    /// They are no numbers.
    pub fn of(meta: &VertexMeta) -> Result<Self, LlbError> {
        let number = |key: &str| -> Result<Option<u64>, LlbError> {
            let parse = |text: &String| {
                text.parse().map_err(|_| LlbError::Invalid("the terms of a command are no numbers"))
            };
            meta.description.get(key).map(parse).transpose()
        };
        let retries = number(EXEC_RETRIES)?.unwrap_or(0);
        Ok(Self {
            timeout: number(EXEC_TIMEOUT)?.map(Duration::from_millis),
            retries: u32::try_from(retries).unwrap_or(u32::MAX),
        })
    }
}

/// Returns the name of the attribute of bind `number`.
pub fn host_bind(number: usize) -> String {
    format!("{HOST_BIND_PREFIX}{number}")
}

/// Returns the name of the attribute of fingerprint `number`.
pub fn host_fingerprint(number: usize) -> String {
    format!("{HOST_FINGERPRINT_PREFIX}{number}")
}

/// Returns the binds and the fingerprints among a host source's attributes, each in the order of its numbers.
pub fn host_attributes(attrs: &BTreeMap<String, String>) -> (Vec<String>, Vec<String>) {
    let numbered = |prefix: &str| {
        let numbered = |(name, value): (&String, &String)| {
            Some((name.strip_prefix(prefix)?.parse::<usize>().ok()?, value.clone()))
        };
        let found: BTreeMap<usize, String> = attrs.iter().filter_map(numbered).collect();
        found.into_values().collect()
    };
    (numbered(HOST_BIND_PREFIX), numbered(HOST_FINGERPRINT_PREFIX))
}

/// Tells whether only our own runtime can solve `op`.
pub fn is_extension(op: &Op) -> bool {
    match op {
        Op::Source(source) => [HOST_SCHEME, LEFT_SCHEME].contains(&source.scheme().0),
        Op::Exec(_) | Op::File(_) | Op::Build(_) | Op::Merge(_) | Op::Diff(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SourceOp;

    #[test]
    fn terms_come_back_as_they_were_described() {
        let terms = Terms { timeout: Some(Duration::from_millis(1500)), retries: 3 };
        let mut meta = VertexMeta::default();
        terms.describe(&mut meta.description);
        assert_eq!(Terms::of(&meta), Ok(terms));
        assert_eq!(Terms::of(&VertexMeta::default()), Ok(Terms::default()));
        meta.description.insert(EXEC_RETRIES.to_owned(), "often".to_owned());
        assert!(Terms::of(&meta).is_err());
    }

    #[test]
    fn only_our_own_sources_are_extensions() {
        let source = |identifier: &str| {
            Op::Source(SourceOp { identifier: identifier.to_owned(), ..SourceOp::default() })
        };
        assert!(is_extension(&source("host://")) && is_extension(&source("left://sha256:0")));
        assert!(!is_extension(&source("docker-image://host")));
        assert!(!is_extension(&Op::Merge(crate::MergeOp::default())));
    }
}
