//! What a client says of hosts of git repositories.

use crate::Secret;

/// How one host is reached; where nothing is said, as usual.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitAccess {
    /// `user:password`, for who speaks http.
    pub login: Option<Secret>,
    /// What git calls instead of ssh, as a shell reads it.
    pub ssh_command: Option<String>,
}
