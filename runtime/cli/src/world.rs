//! The user's tree on this machine's disk, and the world made of it.
//!
//! In: a target as typed. Out: a [`Place`]: the workspace's root and the target in it; and [`SystemWorld`], the two
//! doors of a frontend. The root is the nearest folder above the target's own that holds `.git`; without one it is
//! the target's own folder, and references such as `../lib+x` lead out of it.
//! **Invariant:** answers are stable within one job (build files are read once), nothing over 16 MiB is read, and
//! no answer holds an absolute path. Reads are short and local, so they are made in place.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use rb_diag::{ErrorKind, SourceFile, SourceMap, nearest};
use rb_frontend::{
    Answer, FileKind, Gateway, ImageRequest, ProjectRef, Query, ResolvedImage, TargetRef, Workspace,
    WorkspaceEntry, World, WorldError,
};
use rb_llb::State;
use rustix::fs::{Mode, OFlags};

/// Names of build files, in the order they are looked for.
pub(crate) const BUILDFILE_NAMES: [&str; 3] = ["Buildfile", "Earthfile", "build.earth"];

/// Largest file a frontend reads.
const READ_LIMIT_BYTES: u64 = 16 << 20;

/// A target found on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The workspace's root: absolute, symlinks resolved.
    pub(crate) root: PathBuf,
    /// The project's folder in it.
    pub(crate) project: ProjectRef,
}

impl Place {
    /// Finds the workspace of a folder, which may be relative to `cwd`.
    pub(crate) fn of(cwd: &Path, dir: &Path) -> Result<Self, WorldError> {
        let shown = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        let folder = fs::canonicalize(cwd.join(dir)).map_err(|source| folder_error(cwd, shown, &source))?;
        if !folder.is_dir() {
            let message = format!("`{}` is not a folder", shown.display());
            return Err(WorldError::Failed { kind: ErrorKind::Input, message });
        }
        let root = folder.ancestors().find(|above| above.join(".git").exists()).unwrap_or(&folder).to_owned();
        let inside = folder.strip_prefix(&root).unwrap_or(Path::new(""));
        let dir = inside.to_str().ok_or_else(|| WorldError::Failed {
            kind: ErrorKind::Input,
            message: format!("the path `{}` is not valid UTF-8", inside.display()),
        })?;
        Ok(Self { project: ProjectRef::Local { dir: dir.to_owned() }, root })
    }

    /// Finds the target `[DIR]+name`.
    pub(crate) fn of_target(cwd: &Path, word: &str) -> Result<(Self, TargetRef), WorldError> {
        let (dir, name) = word.rsplit_once('+').unwrap_or((word, ""));
        if name.is_empty() {
            let message = format!("`{word}` names no target: write `{dir}+NAME`");
            return Err(WorldError::Failed { kind: ErrorKind::Input, message });
        }
        let place = Self::of(cwd, Path::new(dir))?;
        let target = TargetRef { project: place.project.clone(), name: name.to_owned() };
        Ok((place, target))
    }
}

/// A missing folder, with the nearest one beside it.
fn folder_error(cwd: &Path, dir: &Path, source: &io::Error) -> WorldError {
    if source.kind() != io::ErrorKind::NotFound {
        let message = format!("folder `{}` cannot be entered: {source}", dir.display());
        return WorldError::Failed { kind: ErrorKind::Environment, message };
    }
    // The first missing part is the one to name.
    let parts: Vec<PathBuf> = dir.ancestors().map(Path::to_owned).collect();
    let missing = parts.iter().rev().find(|part| !cwd.join(part).exists()).map_or(dir, PathBuf::as_path);
    let above = missing.parent().unwrap_or(Path::new(""));
    let names: Vec<String> = entries(&cwd.join(above))
        .unwrap_or_default()
        .into_iter()
        .filter(|entry| entry.kind == FileKind::Directory)
        .map(|entry| entry.name)
        .collect();
    let name = missing.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let near = nearest(&name, names.iter().map(String::as_str));
    WorldError::NotFound {
        what: format!("folder `{}`", missing.display()),
        help: near.map(|near| format!("did you mean `{}`?", above.join(near).display())),
    }
}

/// Reads a folder, sorted by name. Names that are not UTF-8 cannot be said in a build file and are left out.
fn entries(folder: &Path) -> io::Result<Vec<WorkspaceEntry>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push(WorkspaceEntry { name, kind: kind_of(entry.file_type()?) });
        }
    }
    found.sort();
    Ok(found)
}

fn kind_of(kind: fs::FileType) -> FileKind {
    if kind.is_symlink() {
        FileKind::Symlink
    } else if kind.is_dir() {
        FileKind::Directory
    } else if kind.is_file() {
        FileKind::File
    } else {
        FileKind::Other
    }
}

/// Why a file is not read; all but the first are said behind the file's name.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("cannot be read")]
    Io(#[source] io::Error),
    #[error("is a folder")]
    Folder,
    #[error("is not a regular file")]
    NotRegular,
    #[error("is larger than {} MiB", limit >> 20)]
    TooLarge { limit: u64 },
}

/// Reads a regular file of at most `limit` bytes. Pipes and devices are refused, as they would have us wait for ever.
pub(crate) fn read_regular(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    let regular = |kind: fs::FileType| match kind_of(kind) {
        FileKind::File => Ok(()),
        FileKind::Directory => Err(ReadError::Folder),
        FileKind::Symlink | FileKind::Other => Err(ReadError::NotRegular),
    };
    // Opening a device may do something, so look first; and it may have become another since, so look again.
    regular(fs::metadata(path).map_err(ReadError::Io)?.file_type())?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| ReadError::Io(error.into()))?;
    let file = fs::File::from(file);
    regular(file.metadata().map_err(ReadError::Io)?.file_type())?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(ReadError::Io)?;
    if bytes.len() as u64 > limit { Err(ReadError::TooLarge { limit }) } else { Ok(bytes) }
}

/// The user's side: a workspace below one root.
#[derive(Debug)]
pub(crate) struct DiskWorkspace {
    root: PathBuf,
    cwd: PathBuf,
    sources: SourceMap,
    buildfiles: Mutex<BTreeMap<ProjectRef, Arc<SourceFile>>>,
}

impl DiskWorkspace {
    /// Opens the workspace at `root`; names are shown relative to `cwd`.
    pub(crate) fn new(root: PathBuf, cwd: PathBuf) -> Self {
        Self { root, cwd, sources: SourceMap::default(), buildfiles: Mutex::default() }
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
        let folder = self.root.join(project.dir());
        let Some(path) = BUILDFILE_NAMES.iter().map(|name| folder.join(name)).find(|path| path.is_file())
        else {
            return Err(self.no_buildfile(&folder));
        };
        let shown = self.shown(&path);
        let bytes = self.read_path(&path)?;
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
            .then(|| "there is a Dockerfile, which rb does not build yet".to_owned());
        let searched = format!("looked for {}", BUILDFILE_NAMES.join(", "));
        WorldError::NotFound {
            what: format!("a Buildfile in `{shown}`"),
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

/// Resolves `..` by the text of an absolute path.
pub(crate) fn normalise(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}

#[async_trait]
impl Workspace for DiskWorkspace {
    async fn buildfile(&self, project: &ProjectRef) -> Result<Arc<SourceFile>, WorldError> {
        self.read_buildfile(project)
    }

    async fn read(&self, project: &ProjectRef, path: &str) -> Result<Vec<u8>, WorldError> {
        self.read_path(&self.path(project, path))
    }

    async fn stat(&self, project: &ProjectRef, path: &str) -> Result<Option<WorkspaceEntry>, WorldError> {
        let full = self.path(project, path);
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
        let full = self.path(project, dir);
        entries(&full).map_err(|source| folder_error(&self.cwd, Path::new(&self.shown(&full)), &source))
    }
}

/// The engine's side where there is no engine, for what only reads.
pub(crate) struct NoEngine;

impl NoEngine {
    fn asked<T>(what: &str) -> Result<T, WorldError> {
        let message = format!("{what} needs an engine, and none is there");
        Err(WorldError::Failed { kind: ErrorKind::Internal, message })
    }
}

#[async_trait]
impl Gateway for NoEngine {
    async fn resolve_image(&self, _request: &ImageRequest) -> Result<ResolvedImage, WorldError> {
        Self::asked("an image")
    }

    async fn query(&self, _state: &State, _query: Query) -> Result<Answer, WorldError> {
        Self::asked("a query")
    }
}

/// The world of a build in this process: the disk and an engine's gateway.
pub(crate) struct SystemWorld {
    /// The user's side.
    pub(crate) workspace: Arc<DiskWorkspace>,
    /// The engine's side.
    pub(crate) gateway: Arc<dyn Gateway>,
}

impl World for SystemWorld {
    fn workspace(&self) -> &dyn Workspace {
        self.workspace.as_ref()
    }

    fn gateway(&self) -> &dyn Gateway {
        self.gateway.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().expect("below the folder")).expect("makes folders");
            fs::write(path, "VERSION 1\n").expect("writes");
        }
        dir
    }

    fn message(result: Result<impl std::fmt::Debug, WorldError>) -> (String, String) {
        match result.expect_err("must fail") {
            error @ WorldError::NotFound { .. } => {
                let WorldError::NotFound { help, .. } = &error else { unreachable!() };
                (error.to_string(), help.clone().unwrap_or_default())
            }
            error => (error.to_string(), String::new()),
        }
    }

    #[test]
    fn the_root_is_where_git_is() {
        let dir = tree(&[".git/HEAD", "a/b/Buildfile"]);
        let (place, target) = Place::of_target(dir.path(), "a/b+t").expect("found");
        assert_eq!(place.root, dir.path().canonicalize().expect("exists"));
        assert_eq!(target.to_string(), "./a/b+t");
        let (same, _) = Place::of_target(&dir.path().join("a"), "./b/../b/+t").expect("found");
        assert_eq!(same, place);
    }

    #[test]
    fn without_git_the_root_is_the_targets_folder() {
        let dir = tree(&["app/Buildfile", "lib/Buildfile"]);
        let (place, target) = Place::of_target(dir.path(), "app+t").expect("found");
        assert!(place.root.ends_with("app"));
        assert_eq!(target.to_string(), "+t");
        let workspace = DiskWorkspace::new(place.root, dir.path().to_owned());
        let lib = workspace.read_buildfile(&target.project.join("../lib")).expect("reads the neighbour");
        assert_eq!(lib.name, "lib/Buildfile");
    }

    #[test]
    fn a_build_file_is_read_once() {
        let dir = tree(&["Buildfile"]);
        let workspace = DiskWorkspace::new(dir.path().to_owned(), dir.path().to_owned());
        let root = ProjectRef::Local { dir: String::new() };
        let first = workspace.read_buildfile(&root).expect("reads");
        fs::write(dir.path().join("Buildfile"), "VERSION 0.8\n").expect("writes");
        let second = workspace.read_buildfile(&root).expect("reads");
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(first.name, "Buildfile");
    }

    #[test]
    fn errors_name_the_nearest() {
        let dir = tree(&["services/api/buildfile", "x/Dockerfile", "y/z"]);
        let (text, help) = message(Place::of_target(dir.path(), "./servces/api+t"));
        assert_eq!(text, "folder `./servces` does not exist");
        assert_eq!(help, "did you mean `./services`?");
        let workspace = DiskWorkspace::new(dir.path().to_owned(), dir.path().to_owned());
        let at = |dir: &str| message(workspace.read_buildfile(&ProjectRef::Local { dir: dir.to_owned() }));
        assert_eq!(at("services/api").0, "a Buildfile in `services/api` does not exist");
        assert!(at("services/api").1.contains("there is `buildfile`"), "{}", at("services/api").1);
        assert!(at("x").1.contains("Dockerfile"));
        assert_eq!(at("y").1, "looked for Buildfile, Earthfile, build.earth");
        assert_eq!(at("sevices").1, "did you mean `services`?");
    }

    #[test]
    fn what_would_block_is_not_read() {
        let dir = tree(&["file"]);
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR, 0)
            .expect("makes a pipe");
        let read = |path: &Path, limit| read_regular(path, limit).map_err(|error| error.to_string());
        assert_eq!(read(&pipe, 10), Err("is not a regular file".to_owned()));
        assert_eq!(read(dir.path(), 10), Err("is a folder".to_owned()));
        assert_eq!(read(Path::new("/dev/zero"), 10), Err("is not a regular file".to_owned()));
        assert_eq!(read(&dir.path().join("file"), 10), Ok(b"VERSION 1\n".to_vec()));
        assert_eq!(read(&dir.path().join("file"), 9), Err("is larger than 0 MiB".to_owned()));
    }

    #[test]
    fn what_is_no_target_or_no_text_is_an_error() {
        let dir = tree(&["Buildfile"]);
        assert_eq!(message(Place::of_target(dir.path(), "./+")).0, "`./+` names no target: write `./+NAME`");
        assert_eq!(message(Place::of_target(dir.path(), "Buildfile+t")).0, "`Buildfile` is not a folder");
        fs::write(dir.path().join("Buildfile"), b"VERSION 1\n\xff").expect("writes");
        let workspace = DiskWorkspace::new(dir.path().to_owned(), dir.path().to_owned());
        let root = ProjectRef::Local { dir: String::new() };
        assert_eq!(message(workspace.read_buildfile(&root)).0, "`Buildfile` is not valid UTF-8 in line 2");
        fs::File::create(dir.path().join("Buildfile"))
            .and_then(|file| file.set_len(17 << 20))
            .expect("writes");
        assert_eq!(message(workspace.read_buildfile(&root)).0, "`Buildfile` is larger than 16 MiB");
    }
}
