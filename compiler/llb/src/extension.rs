//! What only our own runtime does. Nothing else in a definition needs it.
//!
//! The host source (`host://…`) is a read-only base made of the machine's own toolchain. Its vertex asks for the
//! capability [`CAP_HOST`], which no other engine has, so another engine refuses it before it starts.

use std::collections::BTreeMap;

use crate::Op;

/// Scheme of the host source.
pub const HOST_SCHEME: &str = "host";

/// Capability that a vertex with a host source asks for.
pub const CAP_HOST: &str = "rb.source.host";

/// Prefix of attributes that name a path of the host to show, numbered from 0.
pub const HOST_BIND_PREFIX: &str = "host.bind.";

/// Prefix of attributes that hold a command whose output is part of the key, numbered from 0.
pub const HOST_FINGERPRINT_PREFIX: &str = "host.fingerprint.";

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
        Op::Source(source) => source.scheme().0 == HOST_SCHEME,
        Op::Exec(_) | Op::File(_) | Op::Build(_) | Op::Merge(_) | Op::Diff(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SourceOp;

    #[test]
    fn only_the_host_source_is_an_extension() {
        let source = |identifier: &str| {
            Op::Source(SourceOp { identifier: identifier.to_owned(), ..SourceOp::default() })
        };
        assert!(is_extension(&source("host://")));
        assert!(!is_extension(&source("docker-image://host")));
        assert!(!is_extension(&Op::Merge(crate::MergeOp::default())));
    }
}
