//! The client's side of a build, as the engine sees it.
//!
//! In: names that stand in LLB (`local://NAME`, the store of an `oci-layout://`). Out: what the client lends under
//! them. An in-process build lends folders ([`LocalSession`]); what a client does not lend does not exist for the
//! engine, so a definition from elsewhere cannot name a path of this machine.
//! **Invariant:** a [`Secret`] is never printed, and its bytes are wiped when nobody holds it any more.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

mod bucket;
mod git;
mod redact;
mod ssh;
mod upload;

pub use bucket::{ActionsCache, AzureContainer, AzureKey, Bucket, ObjectNames, S3Bucket};
pub use git::GitAccess;
pub use redact::Redactor;
pub use ssh::{DEFAULT_SSH, LentAgent, SshAgent, SshKey, SshKeyError};
pub use upload::Upload;

/// What the engine may ask of the client of a job.
pub trait Session: Send + Sync {
    /// Returns the folder lent as `local://name`.
    fn local(&self, name: &str) -> Option<LocalDir>;
    /// Returns the folder of the OCI layout lent as store `name`.
    fn oci_layout(&self, name: &str) -> Option<PathBuf>;
    /// Returns the secret `id`.
    fn secret(&self, id: &str) -> Option<Secret>;
    /// Returns the ssh agent `id`.
    fn ssh(&self, id: &str) -> Option<SshAgent>;
    /// Returns what is sent as `id`: `http://buildkit-session/ID` in a definition. Most clients send nothing.
    fn upload(&self, _id: &str) -> Option<Upload> {
        None
    }
    /// Returns what is said of a host of git repositories, by their origin: `scheme://host:port/`. Most clients say nothing.
    fn git_access(&self, _origin: &str) -> GitAccess {
        GitAccess::default()
    }
    /// Returns what sets the caches of this client's workspace apart from those of others: caches whose id begins with
    /// `//` belong to one workspace. It decides where they lie and enters no key.
    fn cache_scope(&self) -> String;
}

/// Bytes that nobody but a step may see. Clones share them.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<Zeroizing<Vec<u8>>>);

impl Secret {
    /// Takes `bytes`, without a copy.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Arc::new(Zeroizing::new(bytes.into())))
    }
}

impl AsRef<[u8]> for Secret {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret")
    }
}

/// A folder of the client's tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalDir {
    /// Absolute path.
    pub path: PathBuf,
    /// Whether modes are normalised as they enter: 0644, or 0755 by the owner's executable bit, as git sees them, so
    /// that umask and checkout do not reach keys. A Buildfile's context is; a Dockerfile's keeps its modes.
    pub normalise_modes: bool,
    /// Files in it that are not lent along.
    pub hidden: Vec<HiddenFile>,
}

/// A file of the client's own, in a folder that is lent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HiddenFile {
    /// `/`-separated path in the folder.
    pub path: String,
    /// Whether it is lent to who asks for it by its name. What holds secrets is not.
    pub by_name: bool,
}

/// The session of a build in the client's own process.
#[derive(Debug, Clone, Default)]
pub struct LocalSession {
    locals: BTreeMap<String, LocalDir>,
    layouts: BTreeMap<String, PathBuf>,
    secrets: BTreeMap<String, Secret>,
    agents: BTreeMap<String, SshAgent>,
    uploads: BTreeMap<String, Upload>,
    git: BTreeMap<String, GitAccess>,
    cache_scope: String,
}

impl LocalSession {
    /// Lends a folder as `local://name`.
    #[must_use]
    pub fn with_local(mut self, name: impl Into<String>, dir: LocalDir) -> Self {
        self.locals.insert(name.into(), dir);
        self
    }

    /// Lends an OCI layout as store `name`.
    #[must_use]
    pub fn with_oci_layout(mut self, name: impl Into<String>, path: PathBuf) -> Self {
        self.layouts.insert(name.into(), path);
        self
    }

    /// Lends a secret as `id`.
    #[must_use]
    pub fn with_secret(mut self, id: impl Into<String>, secret: Secret) -> Self {
        self.secrets.insert(id.into(), secret);
        self
    }

    /// Lends an ssh agent as `id`.
    #[must_use]
    pub fn with_ssh(mut self, id: impl Into<String>, agent: SshAgent) -> Self {
        self.agents.insert(id.into(), agent);
        self
    }

    /// Sends a file as `id`.
    #[must_use]
    pub fn with_upload(mut self, id: impl Into<String>, upload: Upload) -> Self {
        self.uploads.insert(id.into(), upload);
        self
    }

    /// Says how the git repositories of an origin are reached.
    #[must_use]
    pub fn with_git_access(mut self, origin: impl Into<String>, access: GitAccess) -> Self {
        self.git.insert(origin.into(), access);
        self
    }

    /// Sets its caches apart.
    #[must_use]
    pub fn with_cache_scope(mut self, scope: impl Into<String>) -> Self {
        self.cache_scope = scope.into();
        self
    }
}

impl Session for LocalSession {
    fn local(&self, name: &str) -> Option<LocalDir> {
        self.locals.get(name).cloned()
    }

    fn oci_layout(&self, name: &str) -> Option<PathBuf> {
        self.layouts.get(name).cloned()
    }

    fn secret(&self, id: &str) -> Option<Secret> {
        self.secrets.get(id).cloned()
    }

    fn ssh(&self, id: &str) -> Option<SshAgent> {
        self.agents.get(id).cloned()
    }

    fn upload(&self, id: &str) -> Option<Upload> {
        self.uploads.get(id).cloned()
    }

    fn git_access(&self, origin: &str) -> GitAccess {
        self.git.get(origin).cloned().unwrap_or_default()
    }

    fn cache_scope(&self) -> String {
        self.cache_scope.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lends_only_what_was_given() {
        let dir = LocalDir { path: PathBuf::from("/src"), normalise_modes: true, hidden: Vec::new() };
        let session = LocalSession::default().with_local("context", dir.clone());
        assert_eq!(session.local("context"), Some(dir));
        assert_eq!(session.local("/etc"), None);
        assert_eq!(session.oci_layout("context"), None);
    }

    #[test]
    fn a_secret_is_lent_and_never_printed() {
        let session = LocalSession::default().with_secret("token", Secret::new("hunter2"));
        assert_eq!(session.secret("token").as_ref().map(AsRef::as_ref), Some(b"hunter2".as_slice()));
        assert_eq!(session.secret("other"), None);
        assert!(!format!("{session:?}").contains("hunter2") && !format!("{session:?}").contains("104"));
    }
}
