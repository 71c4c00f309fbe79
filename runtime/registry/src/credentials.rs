//! Who we are to a registry.

use async_trait::async_trait;
use rb_diag::ErrorKind;
use rb_session::Secret;

/// What proves to a registry who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A name and a password or access token, for basic authentication and for a token service.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token that a token service takes (OAuth2).
    IdentityToken(Secret),
    /// A bearer token for the registry itself.
    RegistryToken(Secret),
}

/// Looks credentials up.
#[async_trait]
pub trait Credentials: Send + Sync {
    /// Returns what is known for a registry's host (`ghcr.io`, `localhost:5000`, `docker.io`); none means anonymous.
    async fn get(&self, host: &str) -> Result<Option<Credential>, CredentialError>;
}

/// Credentials could not be looked up, which is not the same as there being none.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("cannot look up the credentials for {host}: {reason}")]
pub struct CredentialError {
    /// For which registry.
    pub host: String,
    /// Why not. Holds nothing secret.
    pub reason: String,
    /// Who has to act.
    pub kind: ErrorKind,
    /// What to do.
    pub help: Option<String>,
}

impl CredentialError {
    /// Returns who has to act.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

/// Knows none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anonymous;

#[async_trait]
impl Credentials for Anonymous {
    async fn get(&self, _host: &str) -> Result<Option<Credential>, CredentialError> {
        Ok(None)
    }
}
