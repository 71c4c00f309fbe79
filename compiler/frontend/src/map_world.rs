//! A world made of maps, for tests: files and images are given, and what nobody gave does not exist.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rb_diag::{ErrorKind, SourceFile, SourceMap};
use rb_llb::{Op, State};
use rb_oci::{Digest, ImageConfig};

use crate::{
    Answer, Effect, FileKind, Gateway, GitFacts, HostCommand, HostOutcome, ImageLocation, ImageRequest,
    PinnedRepository, PlannedOutput, ProjectRef, Query, Repository, RepositoryRequest, ResolvedImage,
    SavedArtifact, Workspace, WorkspaceEntry, World, WorldError,
};

/// Files by path from the workspace's root (of a repository elsewhere behind its name, `a.com/b/c:v1/folder/file`), images by location as text, what commands answer, and a source map for
/// the texts. It writes down what was asked of it, in order.
#[derive(Debug, Default)]
pub struct MapWorld {
    sources: SourceMap,
    files: BTreeMap<String, Vec<u8>>,
    symlinks: BTreeSet<String>,
    unreadable: BTreeSet<String>,
    images: BTreeMap<String, ImageConfig>,
    git: Option<Arc<GitFacts>>,
    commands: BTreeMap<String, HostOutcome>,
    built: BTreeMap<String, Vec<u8>>,
    asked: Mutex<Vec<String>>,
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

    /// Sets what git knows of every folder.
    #[must_use]
    pub fn with_git(mut self, facts: GitFacts) -> Self {
        self.git = Some(Arc::new(facts));
        self
    }

    /// Sets how a command ends that has to run for an answer, in a step or on the host: the text behind `sh -c`, or the
    /// words of an exec form with a space between two.
    #[must_use]
    pub fn with_command(mut self, command: &str, exit_code: i32, stdout: &str) -> Self {
        let outcome = HostOutcome { exit_code, stdout: stdout.as_bytes().to_vec() };
        self.commands.insert(command.to_owned(), outcome);
        self
    }

    /// Adds a file that is found in whatever is made by copying, and by commands without an answer of their own, by its absolute
    /// path there; its folders come to exist with it.
    #[must_use]
    pub fn with_built_file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.built.insert(path.to_owned(), content.into());
        self
    }

    /// Returns what was run and settled, in order: `run COMMAND`, `host COMMAND`, `read PATH`, `make LABEL`, `write …`,
    /// `place …`.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, what: String) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// Finds the outcome of a command by how its arguments end.
    fn outcome(&self, args: &[String]) -> Result<(String, HostOutcome), WorldError> {
        let text = args.join(" ");
        let ends = |command: &str| text.strip_suffix(command).is_some_and(|before| before.ends_with(' '));
        let found = self
            .commands
            .iter()
            .filter(|(command, _)| ends(command))
            .max_by_key(|(command, _)| command.len());
        let found = found.map(|(command, outcome)| (command.clone(), outcome.clone()));
        found.ok_or_else(|| missing(format!("an answer of the command {args:?}")))
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

    /// Answers a question about files that are made.
    fn answer_built(&self, query: &Query) -> Result<Answer, WorldError> {
        let below = |path: &str| format!("{}/", path.trim_end_matches('/'));
        let is_folder = |path: &str| self.built.keys().any(|file| file.starts_with(&below(path)));
        let not_there = |path: &str| missing(format!("`{path}`"));
        Ok(match query {
            Query::ReadFile { path, .. } | Query::ReadStart { path, .. } => {
                self.note(format!("read {path}"));
                Answer::File(self.built.get(path).cloned().ok_or_else(|| not_there(path))?)
            }
            Query::Exists { path } => Answer::Exists(self.built.contains_key(path) || is_folder(path)),
            Query::Stat { path } => {
                let name = path.rsplit('/').next().unwrap_or_default().to_owned();
                let of = |kind| Some(WorkspaceEntry { name, kind });
                Answer::Stat(match (self.built.contains_key(path), is_folder(path)) {
                    (true, _) => of(FileKind::File),
                    (false, true) => of(FileKind::Directory),
                    (false, false) => None,
                })
            }
            Query::List { path } if is_folder(path) => {
                let inside = self.built.keys().filter_map(|file| file.strip_prefix(&below(path)));
                let entry = |rest: &str| match rest.split_once('/') {
                    Some((name, _)) => WorkspaceEntry { name: name.to_owned(), kind: FileKind::Directory },
                    None => WorkspaceEntry { name: rest.to_owned(), kind: FileKind::File },
                };
                Answer::List(inside.map(entry).collect::<BTreeSet<_>>().into_iter().collect())
            }
            Query::List { path } => return Err(not_there(path)),
            // Texts of a test have no owners and no times.
            Query::Details { path, .. } => return Err(not_there(path)),
            Query::Newest { .. } => Answer::Moment(None),
        })
    }

    fn kind(&self, path: &str) -> FileKind {
        if self.symlinks.contains(path) { FileKind::Symlink } else { FileKind::File }
    }

    fn check(&self, path: &str) -> Result<(), WorldError> {
        if !self.unreadable.contains(path) {
            return Ok(());
        }
        let message = format!("cannot read `{path}`: input/output error");
        Err(WorldError::Failed { kind: ErrorKind::Environment, message })
    }
}

fn missing(what: String) -> WorldError {
    WorldError::NotFound { what, help: None }
}

#[async_trait]
impl Workspace for MapWorld {
    fn sources(&self) -> &SourceMap {
        &self.sources
    }

    fn launcher(&self) -> Option<Vec<u8>> {
        None
    }

    async fn buildfile(&self, project: &ProjectRef) -> Result<Arc<SourceFile>, WorldError> {
        if let Some(file) = project.dockerfile() {
            let path = project.file(file);
            self.check(&path)?;
            let content = self.files.get(&path).ok_or_else(|| missing(format!("a file `{path}`")))?;
            return Ok(self.sources.add(path, String::from_utf8_lossy(content).into_owned()));
        }
        for name in ["Buildfile", "Earthfile", "build.earth"] {
            let path = project.file(name);
            self.check(&path)?;
            if let Some(content) = self.files.get(&path) {
                return Ok(self.sources.add(path, String::from_utf8_lossy(content).into_owned()));
            }
        }
        Err(missing(match project.file("").as_str() {
            "" => "a Buildfile here".to_owned(),
            dir => format!("a Buildfile in `{dir}`"),
        }))
    }

    async fn read(&self, project: &ProjectRef, path: &str) -> Result<Vec<u8>, WorldError> {
        let full = project.file(path);
        self.check(&full)?;
        self.files.get(&full).cloned().ok_or_else(|| missing(format!("`{path}`")))
    }

    async fn stat(&self, project: &ProjectRef, path: &str) -> Result<Option<WorkspaceEntry>, WorldError> {
        let full = project.file(path);
        self.check(&full)?;
        let name = full.rsplit('/').next().unwrap_or_default().to_owned();
        if self.files.contains_key(&full) {
            return Ok(Some(WorkspaceEntry { name, kind: self.kind(&full) }));
        }
        let folder = full.is_empty() || !self.children(&full).is_empty();
        Ok(folder.then_some(WorkspaceEntry { name, kind: FileKind::Directory }))
    }

    async fn list(&self, project: &ProjectRef, dir: &str) -> Result<Vec<WorkspaceEntry>, WorldError> {
        let full = project.file(dir);
        self.check(&full)?;
        Ok(self.children(&full).into_iter().collect())
    }

    fn git_address(&self, url: &str) -> String {
        url.to_owned()
    }

    async fn pin(&self, repository: &Repository) -> Result<Arc<PinnedRepository>, WorldError> {
        let commit = Digest::of(format!("commit of {repository}")).hex()[..40].to_owned();
        Ok(Arc::new(PinnedRepository { url: format!("https://{}.git", repository.place()), commit }))
    }

    async fn git(&self, _project: &ProjectRef) -> Result<Option<Arc<GitFacts>>, WorldError> {
        Ok(self.git.clone())
    }

    async fn run(&self, command: &HostCommand) -> Result<HostOutcome, WorldError> {
        let (text, outcome) = self.outcome(&command.args)?;
        self.note(format!("host {text}"));
        Ok(outcome)
    }
}

#[async_trait]
impl Gateway for MapWorld {
    async fn resolve_image(&self, request: &ImageRequest) -> Result<ResolvedImage, WorldError> {
        let (name, scheme) = match &request.location {
            ImageLocation::Registry(name) => (name.clone(), "docker-image"),
            ImageLocation::OciLayout { project, path, tag } => {
                let dir = project.file(path);
                (
                    tag.iter().fold(format!("oci-layout:{dir}"), |name, tag| format!("{name}:{tag}")),
                    "oci-layout",
                )
            }
            ImageLocation::OciStore { store, digest } => {
                (format!("oci-layout:{store}@{digest}"), "oci-layout")
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

    async fn resolve_repository(&self, request: &RepositoryRequest) -> Result<GitFacts, WorldError> {
        Err(missing(format!("the repository `{}`", request.shown)))
    }

    async fn query(&self, state: &State, query: Query) -> Result<Answer, WorldError> {
        let failed = |message: String| WorldError::Failed { kind: ErrorKind::Internal, message };
        let definition = state.marshal(&self.sources).map_err(|error| failed(error.to_string()))?;
        let graph = definition.graph().map_err(|error| failed(error.to_string()))?;
        let root = graph.root().ok_or_else(|| failed("nothing was asked".to_owned()))?;
        let (command, outcome) = match &graph.vertex(&root.vertex).op {
            Op::Exec(exec) => match self.outcome(&exec.meta.args) {
                Ok(found) => found,
                Err(_) if !self.built.is_empty() => return self.answer_built(&query),
                Err(error) => return Err(error),
            },
            _ if !self.built.is_empty() => return self.answer_built(&query),
            _ => return Err(failed("a world of maps answers for commands alone".to_owned())),
        };
        let Query::ReadFile { path, .. } = query else {
            return Err(failed(format!("a world of maps cannot answer {query:?}")));
        };
        // One file holds the exit code, the other what was printed.
        if path.ends_with("exit") {
            self.note(format!("run {command}"));
            return Ok(Answer::File(format!("{}\n", outcome.exit_code).into_bytes()));
        }
        Ok(Answer::File(outcome.stdout))
    }

    async fn settle(&self, effects: &[Effect]) -> Result<(), WorldError> {
        let told = |verb: &str, artifact: &SavedArtifact| {
            let local = artifact.local.as_ref().map_or("nowhere", |local| &local.path);
            format!("{verb} {} to {local}", artifact.path)
        };
        for effect in effects {
            self.note(match effect {
                Effect::Make { label, .. } => format!("make {label}"),
                Effect::Write(PlannedOutput::Image { image, .. }) => {
                    format!("write image {}", image.names.join(" "))
                }
                Effect::Write(PlannedOutput::Artifact { artifact, .. }) => told("write", artifact),
                Effect::Place { artifact, .. } => told("place", artifact),
            });
        }
        Ok(())
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
