//! The user's side where it is at another machine: what a build's client lends to a daemon, asked of that daemon.
//!
//! In: the name of the folder that holds the build file, and the gateway of the build. Out: a [`Workspace`] whose root is the
//! build's context. **Invariant:** nothing of this machine is read; a question fetches no more of a folder than it is about; a build file
//! is read once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use rb_diag::{ErrorKind, SourceFile, SourceMap};
use rb_frontend::{
    Answer, Gateway, GitFacts, HostCommand, HostOutcome, PinnedRepository, ProjectRef, Query, Repository,
    Workspace, WorkspaceEntry, World, WorldError,
};
use rb_llb::{NodeMeta, State, attr, json_list};

use super::BUILDFILE_NAMES;
use super::elsewhere::Elsewhere;
use crate::settings::GitHosts;

/// Largest file a frontend reads.
const READ_LIMIT_BYTES: u64 = 16 << 20;

/// Where the build file of the root is.
#[derive(Clone, Debug)]
pub(crate) struct RootFile {
    /// The tree that holds it.
    pub(crate) tree: RootTree,
    /// Its path there.
    pub(crate) name: String,
}

/// A tree that holds a build file.
#[derive(Clone, Debug)]
pub(crate) enum RootTree {
    /// A folder of the client, by its name there.
    Lent(String),
    /// A tree from elsewhere.
    Tree(State),
}

/// A workspace that a client lends.
pub(crate) struct LentWorkspace {
    sources: SourceMap,
    root: RootFile,
    /// What git knows of the context, as the client tells it.
    facts: Option<Arc<GitFacts>>,
    buildfiles: Mutex<BTreeMap<ProjectRef, Arc<SourceFile>>>,
    elsewhere: Elsewhere,
    gateway: Arc<dyn Gateway>,
}

/// Which part of a folder a question is about.
#[derive(Clone, Copy)]
enum Part {
    /// Files, through links.
    Files,
    /// One name, without what is in it.
    Name,
    /// The names in a folder.
    Names,
}

impl LentWorkspace {
    /// Opens it; texts are kept in `sources`.
    pub(crate) fn new(
        gateway: Arc<dyn Gateway>,
        sources: SourceMap,
        root: RootFile,
        facts: Option<GitFacts>,
    ) -> Self {
        let elsewhere = Elsewhere::new(GitHosts::default());
        elsewhere.open(&gateway);
        let facts = facts.map(Arc::new);
        Self { sources, root, facts, buildfiles: Mutex::default(), elsewhere, gateway }
    }

    async fn ask(&self, state: &State, query: Query) -> Result<Answer, WorldError> {
        self.gateway.query(state, query).await
    }

    /// Returns what of the context a question is about.
    fn part(&self, path: &str, part: Part) -> State {
        let list = |items: &[String]| json_list(items);
        let attrs: Vec<(&str, String)> = match part {
            Part::Files => vec![(attr::LOCAL_FOLLOW_PATHS, list(&[path.to_owned()]))],
            Part::Name => {
                let path = escaped(path);
                vec![
                    (attr::LOCAL_INCLUDE_PATTERNS, list(std::slice::from_ref(&path))),
                    (attr::LOCAL_EXCLUDE_PATTERNS, list(&[format!("{path}/*")])),
                ]
            }
            Part::Names => {
                let below = if path.is_empty() { String::new() } else { format!("{}/", escaped(path)) };
                vec![
                    (attr::LOCAL_INCLUDE_PATTERNS, list(&[format!("{below}*")])),
                    (attr::LOCAL_EXCLUDE_PATTERNS, list(&[format!("{below}*/*")])),
                ]
            }
        };
        let attrs = attrs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let shown = if path.is_empty() { "." } else { path };
        State::source("local://context", attrs, None, NodeMeta::named(format!("[internal] look at {shown}")))
    }

    /// Returns the tree that holds the root's build file, and the paths in it that it may have.
    fn root_file(&self) -> (State, Vec<String>) {
        let names = if self.root.name.is_empty() {
            BUILDFILE_NAMES.iter().map(|name| (*name).to_owned()).collect()
        } else {
            vec![self.root.name.clone()]
        };
        let tree = match &self.root.tree {
            RootTree::Tree(tree) => tree.clone(),
            RootTree::Lent(folder) => {
                let attrs = [(attr::LOCAL_FOLLOW_PATHS.to_owned(), json_list(&names))].into();
                let shown = format!("[internal] load build definition from {}", names[0]);
                State::source(format!("local://{folder}"), attrs, None, NodeMeta::named(shown))
            }
        };
        (tree, names)
    }

    async fn bytes(&self, state: &State, path: &str) -> Result<Vec<u8>, WorldError> {
        let query = Query::ReadFile { path: format!("/{path}"), limit_bytes: READ_LIMIT_BYTES };
        match self.ask(state, query).await {
            Ok(Answer::File(bytes)) => Ok(bytes),
            Ok(other) => Err(unfitting(&other)),
            Err(WorldError::NotFound { .. }) => {
                Err(WorldError::NotFound { what: format!("`{path}`"), help: None })
            }
            Err(error) => Err(error),
        }
    }

    async fn read_buildfile(&self, project: &ProjectRef) -> Result<(String, Vec<u8>), WorldError> {
        let (looks_at, named): (Option<State>, Vec<String>) = match project.dockerfile() {
            Some(file) => (None, vec![inside(project, file)?]),
            None if project.repository().is_none() && project.dir().is_empty() => {
                let (tree, names) = self.root_file();
                (Some(tree), names)
            }
            None => {
                let names = BUILDFILE_NAMES.iter().map(|name| inside(project, name));
                (None, names.collect::<Result<_, _>>()?)
            }
        };
        for name in &named {
            let read = match (&looks_at, project.repository()) {
                (Some(tree), _) => self.bytes(tree, name).await,
                (None, None) => self.bytes(&self.part(name, Part::Files), name).await,
                (None, Some(_)) => {
                    let file = project.dockerfile().map(ToOwned::to_owned);
                    let file = file.unwrap_or_else(|| name.rsplit('/').next().unwrap_or(name).to_owned());
                    self.elsewhere.read(project, &file, READ_LIMIT_BYTES).await
                }
            };
            match read {
                Ok(bytes) => {
                    let shown = match project.repository() {
                        None => name.clone(),
                        Some(_) => project.file(name.rsplit('/').next().unwrap_or(name)),
                    };
                    return Ok((shown, bytes));
                }
                Err(WorldError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let what = match project.to_string().as_str() {
            "" => "a Buildfile in the build context".to_owned(),
            shown => format!("a Buildfile in `{shown}`"),
        };
        Err(WorldError::NotFound { what, help: Some(format!("looked for {}", named.join(", "))) })
    }
}

/// Returns a path of a project from the root of the context, and refuses one that leads out of it.
fn inside(project: &ProjectRef, path: &str) -> Result<String, WorldError> {
    let full = project.join(path);
    if full.dir().split('/').any(|part| part == "..") {
        let message = format!("`{}` lies outside of the build context", full.dir());
        return Err(WorldError::Failed { kind: ErrorKind::Input, message });
    }
    Ok(full.dir().to_owned())
}

/// Writes a path as the pattern that fits it alone.
fn escaped(path: &str) -> String {
    path.chars()
        .flat_map(|letter| {
            matches!(letter, '*' | '?' | '[' | ']' | '\\').then_some('\\').into_iter().chain([letter])
        })
        .collect()
}

fn unfitting(answer: &Answer) -> WorldError {
    let message = format!("a question about the build context was answered with {answer:?}");
    WorldError::Failed { kind: ErrorKind::Internal, message }
}

#[async_trait]
impl Workspace for LentWorkspace {
    fn sources(&self) -> &SourceMap {
        &self.sources
    }

    fn launcher(&self) -> Option<Vec<u8>> {
        crate::launcher::own()
    }

    async fn buildfile(&self, project: &ProjectRef) -> Result<Arc<SourceFile>, WorldError> {
        let known = || self.buildfiles.lock().expect("no holder of this lock panics");
        if let Some(file) = known().get(project) {
            return Ok(Arc::clone(file));
        }
        let (shown, bytes) = self.read_buildfile(project).await?;
        let text = String::from_utf8(bytes).map_err(|_| WorldError::Failed {
            kind: ErrorKind::Input,
            message: format!("`{shown}` is not valid UTF-8"),
        })?;
        // Should two have asked at once, both get the first's answer.
        let mut known = known();
        let file = known.entry(project.clone()).or_insert_with(|| self.sources.add(shown, text));
        Ok(Arc::clone(file))
    }

    async fn read(&self, project: &ProjectRef, path: &str) -> Result<Vec<u8>, WorldError> {
        if project.repository().is_some() {
            return self.elsewhere.read(project, path, READ_LIMIT_BYTES).await;
        }
        let full = inside(project, path)?;
        self.bytes(&self.part(&full, Part::Files), &full).await
    }

    async fn stat(&self, project: &ProjectRef, path: &str) -> Result<Option<WorkspaceEntry>, WorldError> {
        if project.repository().is_some() {
            return self.elsewhere.stat(project, path).await;
        }
        let full = inside(project, path)?;
        let part = if full.is_empty() { Part::Names } else { Part::Name };
        match self.ask(&self.part(&full, part), Query::Stat { path: format!("/{full}") }).await? {
            Answer::Stat(entry) => Ok(entry),
            other => Err(unfitting(&other)),
        }
    }

    async fn list(&self, project: &ProjectRef, dir: &str) -> Result<Vec<WorkspaceEntry>, WorldError> {
        if project.repository().is_some() {
            return self.elsewhere.list(project, dir).await;
        }
        let full = inside(project, dir)?;
        match self.ask(&self.part(&full, Part::Names), Query::List { path: format!("/{full}") }).await? {
            Answer::List(entries) => Ok(entries),
            other => Err(unfitting(&other)),
        }
    }

    fn git_address(&self, url: &str) -> String {
        self.elsewhere.address(url)
    }

    async fn pin(&self, repository: &Repository) -> Result<Arc<PinnedRepository>, WorldError> {
        self.elsewhere.pin(repository).await
    }

    async fn git(&self, project: &ProjectRef) -> Result<Option<Arc<GitFacts>>, WorldError> {
        match project.repository() {
            Some(repository) => self.elsewhere.facts(repository).await.map(Some),
            None => Ok(self.facts.clone()),
        }
    }

    async fn run(&self, command: &HostCommand) -> Result<HostOutcome, WorldError> {
        let message = format!(
            "`{}` runs on the machine of who builds (LOCALLY), and a frontend is not there",
            command.label
        );
        Err(WorldError::Failed { kind: ErrorKind::Input, message })
    }
}

/// The world of a frontend inside of a daemon.
pub(crate) struct LentWorld {
    /// The client's side.
    pub(crate) workspace: LentWorkspace,
    /// The daemon's side.
    pub(crate) gateway: Arc<dyn Gateway>,
}

impl World for LentWorld {
    fn workspace(&self) -> &dyn Workspace {
        &self.workspace
    }

    fn gateway(&self) -> &dyn Gateway {
        self.gateway.as_ref()
    }
}
