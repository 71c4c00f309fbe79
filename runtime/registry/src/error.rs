//! Why a registry did not give or take something, and who has to act.
//!
//! **Invariant:** what a registry says is shown without control characters and shortened; tokens, passwords and the
//! queries of URLs, which may hold such, are never part of an error.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rb_diag::ErrorKind;
use rb_oci::Digest;

use crate::CredentialError;

/// Something could not be pulled, pushed or asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registry does not know us, or not enough.
    #[error("{host} wants to know who asks for {name}{}", quoted(said))]
    Unauthorized {
        /// The registry.
        host: String,
        /// What was asked for.
        name: String,
        /// What it said.
        said: String,
        /// Whether nothing was known that we could have shown.
        anonymous: bool,
    },
    /// The registry knows us and refuses.
    #[error("{host} denies access to {name}{}", quoted(said))]
    Denied {
        /// The registry.
        host: String,
        /// What was asked for.
        name: String,
        /// What it said.
        said: String,
    },
    /// The registry has no such thing.
    #[error("not found: {name}{}", quoted(said))]
    NotFound {
        /// What was asked for.
        name: String,
        /// What the registry said.
        said: String,
    },
    /// The registry refuses for another reason.
    #[error("{host} refuses {name}: HTTP status {status}{}", quoted(said))]
    Refused {
        /// The registry.
        host: String,
        /// What was asked for.
        name: String,
        /// HTTP status.
        status: u16,
        /// What it said.
        said: String,
    },
    /// A service that keeps objects refuses.
    #[error("{host} refuses {name}: HTTP status {status}{}; look at {attributes}", word(code))]
    Object {
        /// The service.
        host: String,
        /// The object.
        name: String,
        /// HTTP status.
        status: u16,
        /// The word that says why, or nothing.
        code: String,
        /// What of the options it may be about.
        attributes: &'static str,
    },
    /// The registry cannot now: it is overloaded, broken, or we asked too often.
    #[error("{host} {}{}{}", busy(*status), wants(*retry_after), quoted(said))]
    Busy {
        /// The registry.
        host: String,
        /// HTTP status.
        status: u16,
        /// What it said.
        said: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// No connection, or one that broke or stood still.
    #[error("cannot reach {host}: {reason}")]
    Unreachable {
        /// The registry or its token service.
        host: String,
        /// Why not.
        reason: String,
    },
    /// Its certificate is not trusted.
    #[error("{host} cannot be trusted: {reason}")]
    Untrusted {
        /// The registry or its token service.
        host: String,
        /// What is wrong with its certificate.
        reason: String,
    },
    /// What came is not what it should be; nothing of it was used.
    #[error("{host} sent a wrong {what}: {reason}")]
    Content {
        /// The registry.
        host: String,
        /// `manifest docker.io/library/busybox:latest`, `blob sha256:…`.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// A file of the web is another one than its checksum says; whoever wrote that has to look.
    #[error("{url} is another file: its digest is {digest}, and {expected} is wanted")]
    Changed {
        /// Where it came from.
        url: String,
        /// Of what came.
        digest: Digest,
        /// What was asked for.
        expected: Digest,
    },
    /// The registry leads where we do not go.
    #[error("{host} {reason}")]
    Misled {
        /// The registry.
        host: String,
        /// Where.
        reason: String,
    },
    /// The image is not for the platform.
    #[error("{name} has no image for {wanted}; it has {}", if have.is_empty() { "none".to_owned() } else { have.join(", ") })]
    Platform {
        /// The image.
        name: String,
        /// The platform.
        wanted: String,
        /// Platforms it is for.
        have: Vec<String>,
    },
    /// The image is older than verified manifests.
    #[error("{name} is an image of Docker's old schema 1, which cannot be verified")]
    Schema1 {
        /// The image.
        name: String,
    },
    /// Credentials could not be looked up.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// An option is of no use.
    #[error("the option {option} cannot be used: {reason}")]
    Options {
        /// Which.
        option: String,
        /// Why.
        reason: String,
    },
    /// What is pushed or pulled cannot be read or written on this side.
    #[error("cannot {action} {what}")]
    Local {
        /// `read` or `write`.
        action: &'static str,
        /// The blob.
        what: String,
        /// Why not.
        #[source]
        source: Arc<io::Error>,
    },
}

impl RegistryError {
    /// Returns who has to act.
    pub fn kind(&self) -> ErrorKind {
        match self {
            // What a registry sends is nothing that the user wrote: who runs it, or what lies before it, has to act.
            Self::Busy { .. }
            | Self::Unreachable { .. }
            | Self::Local { .. }
            | Self::Content { .. }
            | Self::Misled { .. } => ErrorKind::Environment,
            Self::Credentials(error) => error.kind(),
            Self::Refused { status, .. } | Self::Object { status, .. } if *status >= 500 => {
                ErrorKind::Environment
            }
            Self::Unauthorized { .. }
            | Self::Denied { .. }
            | Self::NotFound { .. }
            | Self::Refused { .. }
            | Self::Object { .. }
            | Self::Untrusted { .. }
            | Self::Changed { .. }
            | Self::Platform { .. }
            | Self::Schema1 { .. }
            | Self::Options { .. } => ErrorKind::Input,
        }
    }

    /// Returns what to do about it where something was to be pushed: what helps who pulls does not.
    pub fn help_to_push(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } => Some(
                "where only a proxy is reached: HTTPS_PROXY, or `https_proxy` below `[network]` in ~/.config/rb/config.toml"
                    .to_owned(),
            ),
            _ => self.help(),
        }
    }

    /// Returns what to do where it is about a bucket, which nobody logs in to.
    pub fn help_for_bucket(&self) -> Option<String> {
        match self {
            Self::Busy { status: 429, .. } => {
                Some("wait: the service takes no more calls of this account for now".to_owned())
            }
            Self::Unauthorized { .. } | Self::Denied { .. } => None,
            _ => self.help_to_push(),
        }
    }

    /// Returns what to do about it, where that can be said.
    pub fn help(&self) -> Option<String> {
        match self {
            // Docker's registry says so of repositories that do not exist as well.
            Self::Unauthorized { host, anonymous: true, .. } if host == "docker.io" => {
                Some(format!("look at the name: it may not exist; if it is private: `rb login {host}`"))
            }
            Self::Unauthorized { host, anonymous: true, .. } => Some(format!("run `rb login {host}`")),
            Self::Unauthorized { host, .. } => {
                Some(format!("the credentials for {host} do not suffice or are outdated: `rb login {host}`"))
            }
            Self::Denied { host, .. } => {
                Some(format!("ask for access there, or `rb login {host}` as somebody who has it"))
            }
            Self::Untrusted { host, .. } => Some(format!(
                "if it is signed by an authority of your own, name that: `--ca FILE`, or as `ca` of the registry {host} in the \
                 settings"
            )),
            Self::Busy { status: 429, host, .. } => {
                Some(format!("wait, or `rb login {host}`: known users may ask more often"))
            }
            Self::Unreachable { host, .. } => Some(format!(
                "where only a proxy or a mirror is reached: HTTPS_PROXY, or `[registry.\"{host}\"] mirrors = [\"HOST\"]` in \
                 ~/.config/rb/config.toml; what is here already needs no registry with `--pull=missing`"
            )),
            Self::Content { host, .. } | Self::Misled { host, .. } => Some(format!(
                "ask who runs {host}, or a proxy or mirror before it; nothing of what it sent is kept"
            )),
            Self::Changed { .. } => {
                Some("if it was to change, write its new checksum; nothing of what came is kept".to_owned())
            }
            Self::Schema1 { .. } => Some("push it again with a current tool, or use a newer tag".to_owned()),
            Self::Credentials(error) => error.help.clone(),
            _ => None,
        }
    }

    /// Whether the same request may succeed when it is made again.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Unreachable { .. })
    }

    pub(crate) fn content(host: &str, what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Content { host: host.to_owned(), what: what.into(), reason: reason.into() }
    }

    pub(crate) fn misled(host: &str, reason: impl Into<String>) -> Self {
        Self::Misled { host: host.to_owned(), reason: reason.into() }
    }

    pub(crate) fn unreachable(host: &str, reason: impl Into<String>) -> Self {
        Self::Unreachable { host: host.to_owned(), reason: reason.into() }
    }

    pub(crate) fn local(action: &'static str, what: impl Into<String>, source: io::Error) -> Self {
        Self::Local { action, what: what.into(), source: Arc::new(source) }
    }
}

/// Shows a stranger's text: one line, no control or direction characters, at most 300 of them.
pub(crate) fn clean(text: &str) -> String {
    let odd = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let words: String =
        text.chars().take(2000).map(|letter| if odd(letter) { ' ' } else { letter }).collect();
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn word(code: &str) -> String {
    if code.is_empty() { String::new() } else { format!(" ({code})") }
}

fn quoted(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!("; it says: {said}") }
}

fn busy(status: u16) -> String {
    match status {
        429 => "was asked too often".to_owned(),
        _ => format!("is in trouble: HTTP status {status}"),
    }
}

fn wants(retry_after: Option<Duration>) -> String {
    retry_after
        .map_or_else(String::new, |wait| format!(" and wants to be left alone for {} s", wait.as_secs()))
}

/// Reads the errors of a registry's JSON; other text is shown where it is not a web page.
pub(crate) fn said(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        #[serde(default)]
        errors: Vec<One>,
        // A token service's own words.
        details: Option<String>,
        error_description: Option<String>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        code: Option<String>,
        message: Option<String>,
        detail: Option<serde_json::Value>,
    }
    let text = String::from_utf8_lossy(body);
    let Ok(errors) = serde_json::from_slice::<Errors>(body) else {
        let page = text.trim_start().starts_with('<');
        return if page { String::new() } else { clean(&text) };
    };
    let one = |one: &One| {
        let (code, message) =
            (one.code.as_deref().unwrap_or_default(), one.message.as_deref().unwrap_or_default());
        let detail =
            one.detail.as_ref().and_then(serde_json::Value::as_str).filter(|detail| *detail != message);
        let parts = [Some(code.to_lowercase()), Some(message.to_owned()), detail.map(ToOwned::to_owned)];
        parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
    };
    let mut lines: Vec<String> = errors.errors.iter().take(3).map(one).collect();
    lines.extend(errors.details);
    lines.extend(errors.error_description);
    clean(&lines.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_says_is_cleaned() {
        let json = br#"{"errors":[{"code":"DENIED","message":"no\u001b[31m\n way","detail":{"a":1}}]}"#;
        assert_eq!(said(json), "denied: no [31m way");
        assert_eq!(said(b"<html><body>oh</body>"), "");
        assert_eq!(said(b"slow\r\ndown"), "slow down");
        assert_eq!(
            said(br#"{"details":"incorrect username or password"}"#),
            "incorrect username or password"
        );
        assert_eq!(clean(&"x".repeat(5000)).chars().count(), 301);
        assert_eq!(clean("a\u{202e}b"), "a b");
    }
}
