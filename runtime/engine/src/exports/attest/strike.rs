//! What nobody is to read, struck out of a predicate.
//!
//! In: a predicate, and the secrets that the build was lent. Out: the same without their values, and without user and password of
//! addresses. Values of variables whose names say that they are secret are struck out where they are read ([`variable`]), for
//! there the name is known.

use rb_llb::STRUCK;
use rb_session::Secret;
use serde_json::Value;

/// What stands in the place of a user or password.
const MASKED: &str = "xxxxx";
/// A shorter value is more likely part of something else.
const SHORTEST_BYTES: usize = 4;

/// Values that are struck out.
#[derive(Default)]
pub(super) struct Strike(Vec<String>);

impl Strike {
    /// Adds a secret, and each line of it that is long enough.
    pub(super) fn add(&mut self, secret: Option<Secret>) {
        let Some(secret) = secret else { return };
        let text = String::from_utf8_lossy(secret.as_ref()).into_owned();
        let lines = text.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_BYTES);
        self.0.extend(lines.map(ToOwned::to_owned));
        // The longest first: one may hold another.
        self.0.sort_by_key(|value| std::cmp::Reverse(value.len()));
        self.0.dedup();
    }

    /// Strikes them out of every text of a value.
    pub(super) fn strike(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.strike(value)),
            Value::Object(map) => map.values_mut().for_each(|value| self.strike(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Strikes them out of a text.
    pub(super) fn text(&self, text: &str) -> String {
        let mut struck = without_credentials(text);
        for secret in &self.0 {
            if struck.contains(secret.as_str()) {
                struck = struck.replace(secret.as_str(), STRUCK);
            }
        }
        struck
    }

    /// Tells whether a text holds one of them.
    pub(super) fn is_in(&self, text: &[u8]) -> bool {
        let text = String::from_utf8_lossy(text);
        self.0.iter().any(|secret| text.contains(secret.as_str()))
    }
}

/// Strikes the value of `NAME=value` out, where the name says that it is secret.
pub(super) fn variable(line: &str) -> String {
    match line.split_once('=') {
        Some((name, _)) if rb_llb::is_secret(name) => format!("{name}={STRUCK}"),
        _ => line.to_owned(),
    }
}

/// Masks user and password of all addresses of the web in a text; who is asked by ssh is part of its address.
pub(super) fn without_credentials(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, behind) = rest.split_at(at + 3);
        masked.push_str(before);
        let is_ssh = before.ends_with("ssh://");
        let end =
            behind.find(|at: char| "/?#\"'`\\<>".contains(at) || at.is_whitespace()).unwrap_or(behind.len());
        let (authority, after) = behind.split_at(end);
        match authority.rsplit_once('@') {
            Some((user, host)) if !is_ssh || user.contains(':') => {
                masked.push_str(MASKED);
                if user.contains(':') {
                    masked.push(':');
                    masked.push_str(MASKED);
                }
                masked.push('@');
                masked.push_str(host);
            }
            _ => masked.push_str(authority),
        }
        rest = after;
    }
    masked.push_str(rest);
    masked
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn credentials_are_masked() {
        for (text, expected) in [
            ("https://me:pass@example.com/a?b", "https://xxxxx:xxxxx@example.com/a?b"),
            ("https://token@example.com", "https://xxxxx@example.com"),
            ("ssh://git@example.com/a", "ssh://git@example.com/a"),
            ("curl http://a:b@c/ http://d/e@f", "curl http://xxxxx:xxxxx@c/ http://d/e@f"),
            ("git@example.com:a/b", "git@example.com:a/b"),
            ("no address", "no address"),
        ] {
            assert_eq!(without_credentials(text), expected);
        }
    }

    #[test]
    fn secrets_are_struck_out_wherever_they_stand() {
        let mut strike = Strike::default();
        strike.add(Some(Secret::new("s3cret\nabc\nlonger s3cret\n")));
        let mut value = json!({ "a": ["x s3cret y", 1, { "b": "longer s3cret" }], "c": "abc" });
        strike.strike(&mut value);
        assert_eq!(value, json!({ "a": ["x *** y", 1, { "b": "***" }], "c": "abc" }));
        assert!(strike.is_in(b"RUN echo s3cret") && !strike.is_in(b"RUN echo"));
        assert_eq!(variable("NPM_TOKEN=x"), "NPM_TOKEN=***");
        assert_eq!(variable("PATH=/bin"), "PATH=/bin");
    }
}
