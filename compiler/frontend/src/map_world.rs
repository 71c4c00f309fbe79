//! A world made of maps, for tests: files and images are given, and what nobody gave does not exist.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use rb_diag::{ErrorKind, SourceFile, SourceMap};
use rb_llb::State;
use rb_oci::{Digest, ImageConfig};

use crate::{
    Answer, FileKind, Gateway, ImageLocation, ImageRequest, ProjectRef, Query, ResolvedImage, Workspace,
    WorkspaceEntry, World, WorldError,
};

/// Files by path from the workspace's root, images by location as text, and a source map for their texts.
#[derive(Debug, Default)]
pub struct MapWorld {
    sources: SourceMap,
    files: BTreeMap<String, Vec<u8>>,
    symlinks: BTreeSet<String>,
    unreadable: BTreeSet<String>,
    images: BTreeMap<String, ImageConfig>,
}

impl MapWorld {
    /// Adds a file; its folders come to exist with it.
    #[must_use]
    pub fn with_file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.to_owned(), content.into());
        self
    }

    /// Adds a symbolic link. Where it leads is never asked, so nothing can be found beneath it.
    #[must_use]
    pub fn with_symlink(mut self, path: &str) -> Self {
        self.symlinks.insert(path.to_owned());
        self.with_file(path, "")
    }

    /// Makes every question about a path fail as a broken disk would.
    #[must_use]
    pub fn with_unreadable(mut self, path: &str) -> Self {
        self.unreadable.insert(path.to_owned());
        self
    }

    /// Adds an image under the text that names it (`alpine:3.20`, `oci-layout:dir:tag`). Its digest is the sha256 of
    /// `fake:<name>|<platform>`.
    #[must_use]
    pub fn with_image(mut self, name: &str, config: ImageConfig) -> Self {
        self.images.insert(name.to_owned(), config);
        self
    }

    /// Returns the map that owns the texts this world handed out.
    pub fn sources(&self) -> &SourceMap {
        &self.sources
    }

    fn children(&self, dir: &str) -> BTreeSet<WorkspaceEntry> {
        let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        self.files
            .keys()
            .filter_map(|path| path.strip_prefix(&prefix))
            .map(|rest| match rest.split_once('/') {
                Some((name, _)) => WorkspaceEntry { name: name.to_owned(), kind: FileKind::Directory },
                None => WorkspaceEntry { name: rest.to_owned(), kind: self.kind(&format!("{prefix}{rest}")) },
            })
            .collect()
    }

    fn kind(&self, path: &str) -> FileKind {
        if self.symlinks.contains(path) { FileKind::Symlink } else { FileKind::File }
    }

    fn check(&self, path: &ProjectRef) -> Result<(), WorldError> {
        if !self.unreadable.contains(path.dir()) {
            return Ok(());
        }
        let message = format!("cannot read `{}`: input/output error", path.dir());
        Err(WorldError::Failed { kind: ErrorKind::Environment, message })
    }
}

fn missing(what: String) -> WorldError {
    WorldError::NotFound { what, help: None }
}

#[async_trait]
impl Workspace for MapWorld {
    async fn buildfile(&self, project: &ProjectRef) -> Result<Arc<SourceFile>, WorldError> {
        for name in ["Buildfile", "Earthfile", "build.earth"] {
            self.check(&project.join(name))?;
            let path = project.join(name).dir().to_owned();
            if let Some(content) = self.files.get(&path) {
                return Ok(self.sources.add(path, String::from_utf8_lossy(content).into_owned()));
            }
        }
        Err(missing(format!("a Buildfile in `{}`", project.dir())))
    }

    async fn read(&self, project: &ProjectRef, path: &str) -> Result<Vec<u8>, WorldError> {
        self.check(&project.join(path))?;
        self.files.get(project.join(path).dir()).cloned().ok_or_else(|| missing(format!("`{path}`")))
    }

    async fn stat(&self, project: &ProjectRef, path: &str) -> Result<Option<WorkspaceEntry>, WorldError> {
        let full = project.join(path);
        self.check(&full)?;
        let name = full.dir().rsplit('/').next().unwrap_or_default().to_owned();
        if self.files.contains_key(full.dir()) {
            return Ok(Some(WorkspaceEntry { name, kind: self.kind(full.dir()) }));
        }
        let folder = full.dir().is_empty() || !self.children(full.dir()).is_empty();
        Ok(folder.then_some(WorkspaceEntry { name, kind: FileKind::Directory }))
    }

    async fn list(&self, project: &ProjectRef, dir: &str) -> Result<Vec<WorkspaceEntry>, WorldError> {
        self.check(&project.join(dir))?;
        Ok(self.children(project.join(dir).dir()).into_iter().collect())
    }
}

#[async_trait]
impl Gateway for MapWorld {
    async fn resolve_image(&self, request: &ImageRequest) -> Result<ResolvedImage, WorldError> {
        let (name, scheme) = match &request.location {
            ImageLocation::Registry(name) => (name.clone(), "docker-image"),
            ImageLocation::OciLayout { project, path, tag } => {
                let dir = project.join(path).dir().to_owned();
                (
                    tag.iter().fold(format!("oci-layout:{dir}"), |name, tag| format!("{name}:{tag}")),
                    "oci-layout",
                )
            }
        };
        let config = self.images.get(&name).cloned().ok_or_else(|| missing(format!("image `{name}`")))?;
        let digest = Digest::of(format!("fake:{name}|{}", request.platform));
        let place = name.trim_start_matches("oci-layout:");
        Ok(ResolvedImage {
            identifier: format!("{scheme}://{place}@{digest}"),
            attrs: BTreeMap::new(),
            digest,
            config,
        })
    }

    async fn query(&self, _state: &State, query: Query) -> Result<Answer, WorldError> {
        let message = format!("a world of maps runs nothing, so it cannot answer {query:?}");
        Err(WorldError::Failed { kind: ErrorKind::Internal, message })
    }
}

impl World for MapWorld {
    fn workspace(&self) -> &dyn Workspace {
        self
    }

    fn gateway(&self) -> &dyn Gateway {
        self
    }
}
