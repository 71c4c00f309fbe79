//! The client's side of a build, as the engine sees it.
//!
//! In: names that stand in LLB (`local://NAME`, the store of an `oci-layout://`). Out: what the client lends under
//! them. An in-process build lends folders ([`LocalSession`]); what a client does not lend does not exist for the
//! engine, so a definition from elsewhere cannot name a path of this machine.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the engine may ask of the client of a job.
pub trait Session: Send + Sync {
    /// Returns the folder lent as `local://name`.
    fn local(&self, name: &str) -> Option<LocalDir>;
    /// Returns the folder of the OCI layout lent as store `name`.
    fn oci_layout(&self, name: &str) -> Option<PathBuf>;
}

/// A folder of the client's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalDir {
    /// Absolute path.
    pub path: PathBuf,
    /// Whether modes are normalised as they enter: 0644, or 0755 by the owner's executable bit, as git sees them, so
    /// that umask and checkout do not reach keys. A Buildfile's context is; a Dockerfile's keeps its modes.
    pub normalise_modes: bool,
}

/// The session of a build in the client's own process.
#[derive(Debug, Clone, Default)]
pub struct LocalSession {
    locals: BTreeMap<String, LocalDir>,
    layouts: BTreeMap<String, PathBuf>,
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
}

impl Session for LocalSession {
    fn local(&self, name: &str) -> Option<LocalDir> {
        self.locals.get(name).cloned()
    }

    fn oci_layout(&self, name: &str) -> Option<PathBuf> {
        self.layouts.get(name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lends_only_what_was_given() {
        let dir = LocalDir { path: PathBuf::from("/src"), normalise_modes: true };
        let session = LocalSession::default().with_local("context", dir.clone());
        assert_eq!(session.local("context"), Some(dir));
        assert_eq!(session.local("/etc"), None);
        assert_eq!(session.oci_layout("context"), None);
    }
}
