//! What a build of a workspace lends to the engine.
//!
//! Frontends name a project's folder `context`, or `context/<dir>` below the workspace's root
//! ([`rb_buildfile::local_name`]; what a Dockerfile takes files from [`rb_buildfile::dockerfile_context`]), and an OCI layout by its path from the root. Only names of that form exist, and none
//! that a symlink leads out of the workspace. The user's own files (`.secret`, `.arg`, `.env`) are not lent along.
//! **Invariant:** names are the same on every machine; the absolute paths stay here.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rb_oci::Digest;
use rb_session::{GitAccess, HiddenFile, LocalDir, Secret, Session, SshAgent};

use crate::settings::given::OwnFile;
use crate::world::inside;

/// The session of a build whose files lie in one workspace.
#[derive(Debug, Clone)]
pub(crate) struct WorkspaceSession {
    root: PathBuf,
    secrets: BTreeMap<String, Secret>,
    own_files: Vec<OwnFile>,
    agents: BTreeMap<String, SshAgent>,
    git: BTreeMap<String, GitAccess>,
}

impl WorkspaceSession {
    /// Lends what lies below `root`, which has no links, and what is reached from it by `..`; and these secrets.
    pub(crate) fn new(root: PathBuf, secrets: BTreeMap<String, Secret>, own_files: Vec<OwnFile>) -> Self {
        Self { root, secrets, own_files, agents: BTreeMap::new(), git: BTreeMap::new() }
    }

    /// Lends these ssh agents, too.
    pub(crate) fn with_agents(self, agents: BTreeMap<String, SshAgent>) -> Self {
        Self { agents, ..self }
    }

    /// Reaches git repositories so, by their origins.
    pub(crate) fn with_git_access(self, git: BTreeMap<String, GitAccess>) -> Self {
        Self { git, ..self }
    }

    fn folder(&self, dir: &str) -> Option<PathBuf> {
        if Path::new(dir).is_absolute() {
            return None;
        }
        inside(&self.root, Path::new(dir)).ok().flatten().filter(|path| path.is_dir())
    }

    /// Returns the user's own files in a folder.
    fn hidden(&self, folder: &Path) -> Vec<HiddenFile> {
        let hidden = |file: &OwnFile| {
            let path = file.path.strip_prefix(folder).ok()?.to_str()?.to_owned();
            Some(HiddenFile { path, by_name: !file.secret })
        };
        self.own_files.iter().filter_map(hidden).collect()
    }
}

impl Session for WorkspaceSession {
    fn local(&self, name: &str) -> Option<LocalDir> {
        // A Dockerfile's context keeps its modes.
        let (name, normalise_modes) =
            name.strip_prefix("dockerfile-").map_or((name, true), |context| (context, false));
        let rest = name.strip_prefix("context")?;
        let dir =
            if rest.is_empty() { rest } else { rest.strip_prefix('/').filter(|dir| !dir.is_empty())? };
        let path = self.folder(dir)?;
        Some(LocalDir { hidden: self.hidden(&path), path, normalise_modes })
    }

    fn oci_layout(&self, name: &str) -> Option<PathBuf> {
        self.folder(name)
    }

    fn secret(&self, id: &str) -> Option<Secret> {
        self.secrets.get(id).cloned()
    }

    fn ssh(&self, id: &str) -> Option<SshAgent> {
        self.agents.get(id).cloned()
    }

    fn git_access(&self, origin: &str) -> GitAccess {
        self.git.get(origin).cloned().unwrap_or_default()
    }

    fn cache_scope(&self) -> String {
        Digest::of(self.root.as_os_str().as_bytes()).hex()
    }
}

#[cfg(test)]
mod tests {
    use rb_frontend::ProjectRef;

    use super::*;

    fn lending(root: PathBuf, own_files: Vec<OwnFile>) -> WorkspaceSession {
        WorkspaceSession::new(root, BTreeMap::from([("A".to_owned(), Secret::new("hunter2"))]), own_files)
    }

    #[test]
    fn lends_the_names_that_frontends_give() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir_all(dir.path().join("ws/a/b")).expect("makes folders");
        std::fs::create_dir_all(dir.path().join("lib")).expect("makes folders");
        let session = lending(dir.path().join("ws"), Vec::new());
        for project in ["", "a/b", "../lib"] {
            let name = rb_buildfile::local_name(&ProjectRef::Local { dir: project.to_owned() });
            let lent = session.local(&name).expect("lent");
            assert!(lent.normalise_modes);
            assert!(lent.path.is_dir(), "{name}");
            let name = rb_buildfile::dockerfile_context(&ProjectRef::Local { dir: project.to_owned() });
            let as_it_is = session.local(&name).expect("lent");
            assert_eq!((as_it_is.path, as_it_is.normalise_modes), (lent.path, false), "{name}");
        }
        for name in [
            "",
            "dockerfile",
            "dockerfile-",
            "context/",
            "contexts",
            "context//etc",
            "context/nowhere",
            "/etc",
        ] {
            assert_eq!(session.local(name), None, "{name}");
        }
        assert_eq!(session.oci_layout("a"), Some(dir.path().join("ws/a")));
        assert_eq!(session.oci_layout("/etc"), None);
    }

    #[test]
    fn own_files_stay_and_links_lead_nowhere() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir_all(dir.path().join("ws/sub")).expect("makes folders");
        std::fs::create_dir_all(dir.path().join("other")).expect("makes folders");
        std::os::unix::fs::symlink("../other", dir.path().join("ws/link")).expect("links");
        let file = |name: &str, secret| OwnFile { path: dir.path().join("ws").join(name), secret };
        let session =
            lending(dir.path().join("ws"), vec![file("sub/.secret", true), file("sub/.env", false)]);
        let hidden = |name: &str| session.local(name).expect("lent").hidden;
        let expected = |prefix: &str| {
            let at = |name: &str, by_name| HiddenFile { path: format!("{prefix}{name}"), by_name };
            vec![at(".secret", false), at(".env", true)]
        };
        assert_eq!(hidden("context"), expected("sub/"));
        assert_eq!(hidden("context/sub"), expected(""));
        assert_eq!(session.local("context/link"), None);
        assert_eq!(session.secret("A").as_ref().map(AsRef::as_ref), Some(b"hunter2".as_slice()));
        assert_eq!(session.secret("HOME"), None);
        assert!(!format!("{session:?}").contains("hunter2"));
        let elsewhere = lending(dir.path().join("other"), Vec::new());
        assert_ne!(session.cache_scope(), elsewhere.cache_scope());
    }
}
