//! What a build of a workspace lends to the engine.
//!
//! Frontends name a project's folder `context`, or `context/<dir>` below the workspace's root
//! ([`rb_buildfile::local_name`]), and an OCI layout by its path from the root. Only names of that form exist.
//! **Invariant:** names are the same on every machine; the absolute paths stay here.

use std::path::{Path, PathBuf};

use rb_session::{LocalDir, Session};

/// The session of a build whose files lie in one workspace.
#[derive(Debug, Clone)]
pub(crate) struct WorkspaceSession {
    root: PathBuf,
}

impl WorkspaceSession {
    /// Lends what lies below `root`, and what is reached from it by `..`.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn folder(&self, dir: &str) -> Option<PathBuf> {
        if Path::new(dir).is_absolute() {
            return None;
        }
        let path = if dir.is_empty() { self.root.clone() } else { self.root.join(dir) };
        path.is_dir().then_some(path)
    }
}

impl Session for WorkspaceSession {
    fn local(&self, name: &str) -> Option<LocalDir> {
        let rest = name.strip_prefix("context")?;
        let dir =
            if rest.is_empty() { rest } else { rest.strip_prefix('/').filter(|dir| !dir.is_empty())? };
        self.folder(dir).map(|path| LocalDir { path, normalise_modes: true })
    }

    fn oci_layout(&self, name: &str) -> Option<PathBuf> {
        self.folder(name)
    }
}

#[cfg(test)]
mod tests {
    use rb_frontend::ProjectRef;

    use super::*;

    #[test]
    fn lends_the_names_that_frontends_give() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir_all(dir.path().join("ws/a/b")).expect("makes folders");
        std::fs::create_dir_all(dir.path().join("lib")).expect("makes folders");
        let session = WorkspaceSession::new(dir.path().join("ws"));
        for project in ["", "a/b", "../lib"] {
            let name = rb_buildfile::local_name(&ProjectRef::Local { dir: project.to_owned() });
            let lent = session.local(&name).expect("lent");
            assert!(lent.normalise_modes);
            assert!(lent.path.is_dir(), "{name}");
        }
        for name in ["", "context/", "contexts", "context//etc", "context/nowhere", "/etc"] {
            assert_eq!(session.local(name), None, "{name}");
        }
        assert_eq!(session.oci_layout("a"), Some(dir.path().join("ws/a")));
        assert_eq!(session.oci_layout("/etc"), None);
    }
}
