//! The user's side of a world: build files and folders below one root, and those of repositories elsewhere.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use async_trait::async_trait;
use rb_diag::{ErrorKind, SourceFile, SourceMap, nearest};
use rb_frontend::{
    FileKind, Gateway, GitFacts, HostCommand, HostOutcome, PinnedRepository, ProjectRef, Repository,
    Workspace, WorkspaceEntry, WorldError,
};

use super::BUILDFILE_NAMES;
use super::elsewhere::Elsewhere;
use super::host::Host;
use super::place::{folder_error, inside, normalise};
use super::read::{ReadError, entries, kind_of, read_regular};
use crate::settings::GitHosts;

/// Largest file a frontend reads.
const READ_LIMIT_BYTES: u64 = 16 << 20;

/// The user's side: a workspace below one root.
pub(crate) struct DiskWorkspace {
    root: PathBuf,
    cwd: PathBuf,
    sources: SourceMap,
    buildfiles: Mutex<BTreeMap<ProjectRef, Arc<SourceFile>>>,
    /// Files that hold secrets, which nothing may be made of.
    secret_files: Vec<PathBuf>,
    host: OnceLock<Host>,
    git: Mutex<BTreeMap<ProjectRef, Option<Arc<GitFacts>>>>,
    elsewhere: Elsewhere,
}

impl DiskWorkspace {
    /// Opens the workspace at `root`; names are shown relative to `cwd`.
    pub(crate) fn new(root: PathBuf, cwd: PathBuf) -> Self {
        Self {
            root,
            cwd,
            sources: SourceMap::default(),
            buildfiles: Mutex::default(),
            secret_files: Vec::new(),
            host: OnceLock::new(),
            git: Mutex::default(),
            elsewhere: Elsewhere::default(),
        }
    }

    /// Names files that hold secrets.
    pub(crate) fn with_secret_files(self, files: Vec<PathBuf>) -> Self {
        Self { secret_files: files, ..self }
    }

    /// Says where repositories elsewhere are.
    pub(crate) fn with_git_hosts(self, hosts: GitHosts) -> Self {
        Self { elsewhere: Elsewhere::new(hosts), ..self }
    }

    /// Opens the way to repositories elsewhere, for as long as the build has its gateway.
    pub(crate) fn open_elsewhere(&self, gateway: &Arc<dyn Gateway>) {
        self.elsewhere.open(gateway);
    }

    /// Opens the way to the user's machine; the first one given stays. Without it, what only reads still works.
    pub(crate) fn open_host(&self, host: impl FnOnce() -> Host) {
        self.host.get_or_init(host);
    }

    fn host(&self, what: &str) -> Result<&Host, WorldError> {
        self.host.get().ok_or_else(|| WorldError::Failed {
            kind: ErrorKind::Internal,
            message: format!("{what} needs the user's machine, and the way to it is not open"),
        })
    }

    /// Returns the map of all texts handed out.
    pub(crate) fn sources(&self) -> &SourceMap {
        &self.sources
    }

    /// Reads the build file of a project, once.
    pub(crate) fn read_buildfile(&self, project: &ProjectRef) -> Result<Arc<SourceFile>, WorldError> {
        if let Some(file) = self.buildfiles.lock().expect("no holder of this lock panics").get(project) {
            return Ok(Arc::clone(file));
        }
        if let Some(file) = project.dockerfile() {
            let path = self.place(project, file)?;
            let bytes = self.read_path(&path).map_err(|error| match error {
                WorldError::NotFound { what, help } => {
                    WorldError::NotFound { what: format!("a file {what}"), help }
                }
                other => other,
            })?;
            return self.keep_buildfile(project, self.shown(&path), bytes);
        }
        let folder = self.place(project, "")?;
        let Some(path) = BUILDFILE_NAMES.iter().map(|name| folder.join(name)).find(|path| path.is_file())
        else {
            return Err(self.no_buildfile(&folder));
        };
        let shown = self.shown(&path);
        if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
            self.place(project, name)?;
        }
        let bytes = self.read_path(&path)?;
        self.keep_buildfile(project, shown, bytes)
    }

    /// Reads the build file of a project of a repository elsewhere, once.
    async fn read_buildfile_elsewhere(&self, project: &ProjectRef) -> Result<Arc<SourceFile>, WorldError> {
        if let Some(file) = self.buildfiles.lock().expect("no holder of this lock panics").get(project) {
            return Ok(Arc::clone(file));
        }
        if let Some(file) = project.dockerfile() {
            let bytes = self.elsewhere.read(project, file, READ_LIMIT_BYTES).await?;
            return self.keep_buildfile(project, format!("{}:{file}", project.folder()), bytes);
        }
        for name in BUILDFILE_NAMES {
            match self.elsewhere.read(project, name, READ_LIMIT_BYTES).await {
                Ok(bytes) => return self.keep_buildfile(project, project.file(name), bytes),
                Err(WorldError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let help = Some(format!("looked for {}", BUILDFILE_NAMES.join(", ")));
        Err(WorldError::NotFound { what: format!("a Buildfile in `{project}`"), help })
    }

    fn keep_buildfile(
        &self,
        project: &ProjectRef,
        shown: String,
        bytes: Vec<u8>,
    ) -> Result<Arc<SourceFile>, WorldError> {
        let text = String::from_utf8(bytes).map_err(|error| {
            let line =
                error.as_bytes().iter().take(error.utf8_error().valid_up_to()).filter(|byte| **byte == b'\n');
            let message = format!("`{shown}` is not valid UTF-8 in line {}", line.count() + 1);
            WorldError::Failed { kind: ErrorKind::Input, message }
        })?;
        let file = self.sources.add(shown, text);
        let mut known = self.buildfiles.lock().expect("no holder of this lock panics");
        Ok(Arc::clone(known.entry(project.clone()).or_insert(file)))
    }

    fn no_buildfile(&self, folder: &Path) -> WorldError {
        let shown = self.shown(folder);
        let found = match entries(folder) {
            Ok(found) => found,
            Err(source) => return folder_error(&self.cwd, Path::new(&shown), &source),
        };
        let files = || found.iter().filter(|entry| entry.kind != FileKind::Directory);
        let near = BUILDFILE_NAMES
            .iter()
            .find_map(|name| nearest(name, files().map(|entry| entry.name.as_str())))
            .map(|near| format!("there is `{near}`: rename it to `Buildfile`"));
        let dockerfile = files()
            .any(|entry| entry.name == "Dockerfile")
            .then(|| {
                let shown = self.shown(folder);
                format!("there is a Dockerfile: `rb build {shown}` builds it, and `rb {shown}:Dockerfile+STAGE` a stage of it")
            });
        let searched = format!("looked for {}", BUILDFILE_NAMES.join(", "));
        WorldError::NotFound {
            what: match shown.as_str() {
                "." => "a Buildfile here".to_owned(),
                shown => format!("a Buildfile in `{shown}`"),
            },
            help: Some(near.or(dockerfile).map_or(searched.clone(), |more| format!("{searched}; {more}"))),
        }
    }

    fn read_path(&self, path: &Path) -> Result<Vec<u8>, WorldError> {
        let shown = self.shown(path);
        let failed = |kind, message| WorldError::Failed { kind, message };
        read_regular(path, READ_LIMIT_BYTES).map_err(|error| match error {
            ReadError::Io(source) if source.kind() == io::ErrorKind::NotFound => {
                WorldError::NotFound { what: format!("`{shown}`"), help: self.near(path) }
            }
            ReadError::Io(source) => {
                failed(ErrorKind::Environment, format!("`{shown}` cannot be read: {source}"))
            }
            told => failed(ErrorKind::Input, format!("`{shown}` {told}")),
        })
    }

    fn near(&self, path: &Path) -> Option<String> {
        let found = entries(path.parent()?).ok()?;
        let name = path.file_name()?.to_string_lossy();
        nearest(&name, found.iter().map(|entry| entry.name.as_str()))
            .map(|near| format!("did you mean `{near}`?"))
    }

    fn path(&self, project: &ProjectRef, path: &str) -> PathBuf {
        self.root.join(project.join(path).dir())
    }

    /// Returns where a path of a project is, and refuses one that a link leads out of the workspace.
    fn place(&self, project: &ProjectRef, path: &str) -> Result<PathBuf, WorldError> {
        if project.repository().is_some() {
            let message = format!("`{project}` is no folder of this machine");
            return Err(WorldError::Failed { kind: ErrorKind::Internal, message });
        }
        let full = self.path(project, path);
        match inside(&self.root, Path::new(project.join(path).dir())) {
            Ok(Some(_)) => Ok(full),
            Ok(None) => Err(self.leads_out(&full)),
            Err(source) => Err(folder_error(&self.cwd, Path::new(&self.shown(&full)), &source)),
        }
    }

    fn leads_out(&self, full: &Path) -> WorldError {
        let message =
            format!("`{}` lies outside of the workspace: a symbolic link leads there", self.shown(full));
        WorldError::Failed { kind: ErrorKind::Input, message }
    }

    /// Names a path as the user sees it from where they stand.
    fn shown(&self, path: &Path) -> String {
        let path = normalise(path);
        let cwd = fs::canonicalize(&self.cwd).unwrap_or_else(|_| self.cwd.clone());
        let common =
            path.components().zip(cwd.components()).take_while(|(left, right)| left == right).count();
        let up = cwd.components().count() - common;
        let rest: PathBuf = path.components().skip(common).collect();
        // Far away, the absolute path reads better than a ladder of dots.
        if common <= 1 || up > 3 {
            return path.display().to_string();
        }
        let mut shown: PathBuf = std::iter::repeat_n("..", up).collect();
        shown.push(rest);
        if shown.as_os_str().is_empty() { ".".to_owned() } else { shown.display().to_string() }
    }
}

impl DiskWorkspace {
    /// Returns whether a path is one of the files that hold secrets, by whatever name or link it is reached.
    fn is_secret(&self, path: &Path) -> bool {
        let file = |path: &Path| fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        let same =
            |secret: &PathBuf| secret == path || file(path).is_some_and(|own| file(secret) == Some(own));
        self.secret_files.iter().any(same)
    }
}

#[async_trait]
impl Workspace for DiskWorkspace {
    fn sources(&self) -> &SourceMap {
        &self.sources
    }

    fn launcher(&self) -> Option<Vec<u8>> {
        crate::launcher::own()
    }

    async fn buildfile(&self, project: &ProjectRef) -> Result<Arc<SourceFile>, WorldError> {
        match project.repository() {
            None => self.read_buildfile(project),
            Some(_) => self.read_buildfile_elsewhere(project).await,
        }
    }

    fn git_address(&self, url: &str) -> String {
        self.elsewhere.address(url)
    }

    async fn pin(&self, repository: &Repository) -> Result<Arc<PinnedRepository>, WorldError> {
        self.elsewhere.pin(repository).await
    }

    async fn read(&self, project: &ProjectRef, path: &str) -> Result<Vec<u8>, WorldError> {
        match project.repository() {
            None => self.read_path(&self.place(project, path)?),
            Some(_) => self.elsewhere.read(project, path, READ_LIMIT_BYTES).await,
        }
    }

    async fn stat(&self, project: &ProjectRef, path: &str) -> Result<Option<WorkspaceEntry>, WorldError> {
        if project.repository().is_some() {
            return self.elsewhere.stat(project, path).await;
        }
        let full = self.path(project, path);
        // The last part is looked at and not followed.
        let whole = project.join(path);
        let above = Path::new(whole.dir()).parent().unwrap_or(Path::new(""));
        if inside(&self.root, above).is_ok_and(|place| place.is_none()) {
            return Err(self.leads_out(&full));
        }
        if self.is_secret(&full) {
            let message = format!(
                "`{}` holds secrets and is not copied: `RUN --secret` lends one to a step",
                self.shown(&full)
            );
            return Err(WorldError::Failed { kind: ErrorKind::Input, message });
        }
        match fs::symlink_metadata(&full) {
            Ok(meta) => {
                let name =
                    full.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                Ok(Some(WorkspaceEntry { name, kind: kind_of(meta.file_type()) }))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(WorldError::Failed {
                kind: ErrorKind::Environment,
                message: format!("`{}` cannot be looked at: {error}", self.shown(&full)),
            }),
        }
    }

    async fn list(&self, project: &ProjectRef, dir: &str) -> Result<Vec<WorkspaceEntry>, WorldError> {
        if project.repository().is_some() {
            return self.elsewhere.list(project, dir).await;
        }
        let full = self.place(project, dir)?;
        entries(&full).map_err(|source| folder_error(&self.cwd, Path::new(&self.shown(&full)), &source))
    }

    async fn git(&self, project: &ProjectRef) -> Result<Option<Arc<GitFacts>>, WorldError> {
        if let Some(repository) = project.repository() {
            return self.elsewhere.facts(repository).await.map(Some);
        }
        let known = || self.git.lock().expect("no holder of this lock panics");
        if let Some(facts) = known().get(project) {
            return Ok(facts.clone());
        }
        let facts = self.host("git")?.git(self.root.join(project.dir())).await?.map(Arc::new);
        // Should two have asked at once, both get the first's answer.
        Ok(known().entry(project.clone()).or_insert(facts).clone())
    }

    async fn run(&self, command: &HostCommand) -> Result<HostOutcome, WorldError> {
        let folder = self.root.join(command.project.dir());
        if !Path::new(&command.cwd).is_absolute() || command.project.repository().is_some() {
            self.place(&command.project, &command.cwd)?;
        }
        self.host("a command of LOCALLY")?.run(&folder, command).await
    }
}
