//! Projects of repositories elsewhere, as a workspace sees them.
//!
//! In: a [`Repository`] as a reference names it, the user's word on its host, and the gateway of the build. Out: the commit
//! that it stands for, asked once a build, and the files of that commit: those of the very source that COPY reads from.
//! **Invariant:** nothing of this machine is read for them, and no path leads out of the repository.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use rb_buildfile::{repository_source, tree_elsewhere};
use rb_diag::ErrorKind;
use rb_frontend::{
    Answer, Gateway, GitFacts, PinnedRepository, ProjectRef, Query, Repository, RepositoryRequest,
    WorkspaceEntry, WorldError,
};
use tokio::sync::OnceCell;

use super::origin::scrub;
use crate::settings::GitHosts;

/// What a repository stands for in this build.
#[derive(Clone)]
struct Found {
    pinned: Arc<PinnedRepository>,
    facts: Arc<GitFacts>,
}

/// Repositories elsewhere.
#[derive(Default)]
pub(super) struct Elsewhere {
    hosts: GitHosts,
    /// The engine's side of the build that goes on; it does not live for this.
    gateway: Mutex<Option<Weak<dyn Gateway>>>,
    found: Mutex<BTreeMap<Repository, Arc<OnceCell<Found>>>>,
}

impl Elsewhere {
    /// Knows what the user says of hosts.
    pub(super) fn new(hosts: GitHosts) -> Self {
        Self { hosts, ..Self::default() }
    }

    /// Opens the way to repositories.
    pub(super) fn open(&self, gateway: &Arc<dyn Gateway>) {
        *self.gateway.lock().expect("no holder of this lock panics") = Some(Arc::downgrade(gateway));
    }

    fn gateway(&self) -> Result<Arc<dyn Gateway>, WorldError> {
        let gateway = self.gateway.lock().expect("no holder of this lock panics");
        gateway.as_ref().and_then(Weak::upgrade).ok_or_else(|| WorldError::Failed {
            kind: ErrorKind::Internal,
            message: "a repository elsewhere needs an engine, and none is there".to_owned(),
        })
    }

    /// Returns where a repository is fetched from that is named by its address.
    pub(super) fn address(&self, url: &str) -> String {
        self.hosts.instead_of(url).unwrap_or_else(|| url.to_owned())
    }

    /// Returns the commit that a repository stands for.
    pub(super) async fn pin(&self, repository: &Repository) -> Result<Arc<PinnedRepository>, WorldError> {
        self.find(repository).await.map(|found| found.pinned)
    }

    /// Returns what git knows of a repository.
    pub(super) async fn facts(&self, repository: &Repository) -> Result<Arc<GitFacts>, WorldError> {
        self.find(repository).await.map(|found| found.facts)
    }

    async fn find(&self, repository: &Repository) -> Result<Found, WorldError> {
        let cell = {
            let mut found = self.found.lock().expect("no holder of this lock panics");
            Arc::clone(found.entry(repository.clone()).or_default())
        };
        cell.get_or_try_init(|| self.ask(repository)).await.cloned()
    }

    async fn ask(&self, repository: &Repository) -> Result<Found, WorldError> {
        let url = self.hosts.address(repository);
        let (identifier, attrs) = repository_source(&url, repository.reference());
        let request = RepositoryRequest { identifier, attrs, shown: repository.to_string() };
        let facts = self.gateway()?.resolve_repository(&request).await?;
        let facts = GitFacts {
            origin_url_scrubbed: scrub(&url),
            origin_url: url.clone(),
            project_name: repository.path().to_owned(),
            ..facts
        };
        let pinned = Arc::new(PinnedRepository { url, commit: facts.hash.clone() });
        Ok(Found { pinned, facts: Arc::new(facts) })
    }

    /// Asks one thing about a path of a project; what does not exist is named as people know it.
    async fn query(
        &self,
        project: &ProjectRef,
        path: &str,
        query: impl FnOnce(String) -> Query,
    ) -> Result<Answer, WorldError> {
        let full = project.join(path);
        let outside = || WorldError::Failed {
            kind: ErrorKind::Input,
            message: format!("`{path}` lies outside of the repository that `{project}` is in"),
        };
        let repository = full.repository().filter(|_| !full.dir().starts_with("..")).ok_or_else(outside)?;
        let pinned = self.pin(repository).await?;
        let state = tree_elsewhere(repository, &pinned);
        let answer = self.gateway()?.query(&state, query(format!("/{}", full.dir()))).await;
        answer.map_err(|error| match error {
            WorldError::NotFound { help, .. } => {
                WorldError::NotFound { what: format!("`{}`", project.file(path)), help }
            }
            other @ (WorldError::Failed { .. } | WorldError::Step { .. }) => other,
        })
    }

    /// Reads a file whole.
    pub(super) async fn read(
        &self,
        project: &ProjectRef,
        path: &str,
        limit_bytes: u64,
    ) -> Result<Vec<u8>, WorldError> {
        match self.query(project, path, |path| Query::ReadFile { path, limit_bytes }).await? {
            Answer::File(bytes) => Ok(bytes),
            other => Err(unfitting(&other)),
        }
    }

    /// Returns what stands at a path, not following a symlink at its end.
    pub(super) async fn stat(
        &self,
        project: &ProjectRef,
        path: &str,
    ) -> Result<Option<WorkspaceEntry>, WorldError> {
        match self.query(project, path, |path| Query::Stat { path }).await? {
            Answer::Stat(entry) => Ok(entry),
            other => Err(unfitting(&other)),
        }
    }

    /// Lists a folder, sorted by name.
    pub(super) async fn list(
        &self,
        project: &ProjectRef,
        dir: &str,
    ) -> Result<Vec<WorkspaceEntry>, WorldError> {
        match self.query(project, dir, |path| Query::List { path }).await? {
            Answer::List(entries) => Ok(entries),
            other => Err(unfitting(&other)),
        }
    }
}

fn unfitting(answer: &Answer) -> WorldError {
    let message = format!("a question about a repository was answered with {answer:?}");
    WorldError::Failed { kind: ErrorKind::Internal, message }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use rb_frontend::{Effect, FileKind, ImageRequest, ResolvedImage};
    use rb_llb::State;

    use super::*;

    /// Answers of one repository; it writes down what it is asked.
    #[derive(Default)]
    struct Host(Mutex<Vec<String>>);

    #[async_trait]
    impl Gateway for Host {
        async fn resolve_image(&self, _request: &ImageRequest) -> Result<ResolvedImage, WorldError> {
            Err(WorldError::NotFound { what: "an image".to_owned(), help: None })
        }

        async fn resolve_repository(&self, request: &RepositoryRequest) -> Result<GitFacts, WorldError> {
            self.0.lock().expect("no panics").push(request.identifier.clone());
            Ok(GitFacts { hash: "a".repeat(40), branch: "main".to_owned(), ..GitFacts::default() })
        }

        async fn query(&self, _state: &State, query: Query) -> Result<Answer, WorldError> {
            self.0.lock().expect("no panics").push(format!("{query:?}"));
            match query {
                Query::ReadFile { path, .. } if path == "/d/f" => Ok(Answer::File(b"x".to_vec())),
                Query::Stat { .. } => {
                    Ok(Answer::Stat(Some(WorkspaceEntry { name: "f".to_owned(), kind: FileKind::File })))
                }
                Query::List { .. } => Ok(Answer::List(Vec::new())),
                _ => Err(WorldError::NotFound { what: "/d/g".to_owned(), help: None }),
            }
        }

        async fn settle(&self, _effects: &[Effect]) -> Result<(), WorldError> {
            Ok(())
        }
    }

    #[test]
    fn a_repository_is_asked_about_once_and_read_at_its_commit() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let (repository, dir) = Repository::parse("a.example/b/c/d:v1").expect("parses");
        let project = ProjectRef::Remote { repository: repository.clone(), dir };
        let elsewhere = Elsewhere::default();
        runtime.block_on(async {
            assert_eq!(elsewhere.pin(&repository).await.expect_err("no engine").kind(), ErrorKind::Internal);
            let host = Arc::new(Host::default());
            let gateway: Arc<dyn Gateway> = Arc::clone(&host) as _;
            elsewhere.open(&gateway);
            assert_eq!(elsewhere.read(&project, "f", 9).await.expect("is there"), b"x");
            assert!(elsewhere.stat(&project, "f").await.expect("answers").is_some());
            assert!(elsewhere.list(&project, "").await.expect("answers").is_empty());
            let missing = elsewhere.read(&project, "g", 9).await.expect_err("is not there");
            assert_eq!(missing.to_string(), "`a.example/b/c:v1/d/g` does not exist");
            let out = elsewhere.read(&project, "../../x", 9).await.expect_err("leads out");
            assert!(out.to_string().contains("lies outside of the repository"), "{out}");
            let facts = elsewhere.facts(&repository).await.expect("known");
            assert_eq!(
                (facts.project_name.as_str(), facts.origin_url.as_str()),
                ("b/c", "https://a.example/b/c.git")
            );
            let asked = host.0.lock().expect("no panics").clone();
            assert_eq!(asked[0], "git://a.example/b/c.git#v1");
            assert_eq!(asked.iter().filter(|asked| asked.starts_with("git://")).count(), 1);
            drop((gateway, host));
            assert!(elsewhere.read(&project, "f", 9).await.is_err(), "the build has ended");
        });
    }
}
