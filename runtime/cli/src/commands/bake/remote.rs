//! Bake files of a repository, of an archive or of a file of the web.
//!
//! In: an address and names of files in what lies there. Out: their texts, and where paths in them lead ([`Place`]): into the
//! repository by its address, so that a context is the same one as if it had been typed; into a folder that an archive was
//! unpacked to. All is fetched by the engine, which the build goes on with. Source: buildx, how it reads files elsewhere.

use std::path::Path;
use std::sync::Arc;

use rb_api::{Course, Job, PlatformImage};
use rb_bake::DEFAULT_FILES;
use rb_diag::{SourceFile, SourceMap};
use rb_dockerfile::Elsewhere;
use rb_frontend::{Answer, Gateway as _, Query, WorldError};
use rb_llb::State;
use rb_oci::ImageConfig;
use rb_session::{LocalSession, Secret, Session};

use super::files::{self, LIMIT};
use super::passed;
use crate::commands::build;
use crate::commands::exports::Wanted;
use crate::commands::gateway::{BuildGateway, Settling};
use crate::commands::scratch::Scratch;
use crate::commands::workbench::Workbench;
use crate::output_spec::OutputSpec;
use crate::progress::Progress;
use crate::report::Failure;
use crate::settings::Settings;

/// Variables whose values are lent to git, and the secrets that they are.
const SECRETS: [(&str, &str); 2] =
    [("BUILDX_BAKE_GIT_AUTH_TOKEN", "GIT_AUTH_TOKEN"), ("BUILDX_BAKE_GIT_AUTH_HEADER", "GIT_AUTH_HEADER")];

/// Where paths of bake files lead.
#[derive(Debug)]
pub(super) enum Place {
    /// Here: the file is alone where it is.
    Here,
    /// Into a repository, which has this address.
    Repository(String),
    /// Into a folder.
    Folder(Scratch),
}

impl Place {
    /// Returns where a path leads, as `rb build` has it.
    pub(super) fn at(&self, path: &str) -> String {
        match self {
            Self::Here => path.to_owned(),
            Self::Repository(address) => {
                rb_dockerfile::below(address, path).unwrap_or_else(|| address.clone())
            }
            Self::Folder(folder) => {
                let path = path.trim_start_matches('/');
                folder.path().join(if path == "." { "" } else { path }).display().to_string()
            }
        }
    }

    /// Returns the folder of this machine that all of it is in, if there is one.
    pub(super) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(folder) => Some(folder.path()),
            Self::Here | Self::Repository(_) => None,
        }
    }
}

/// What was fetched.
pub(super) struct Remote {
    pub(super) files: Vec<Arc<SourceFile>>,
    pub(super) place: Place,
}

/// Tells whether a word is the address of bake files.
pub(super) fn is_address(word: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "git@", "github.com/"]
        .iter()
        .any(|start| word.starts_with(start))
}

/// Fetches files: those that are named of what lies at an address, else those with the usual names.
pub(super) fn fetch(
    bench: &Workbench,
    settings: &Settings,
    address: &str,
    names: &[String],
    sources: &SourceMap,
) -> Result<Remote, Failure> {
    let mut progress = Progress::start(settings.display, address);
    let fetched = bench.run_first(async {
        let session: Arc<dyn Session> = Arc::new(session(settings));
        let job = build::open_job(settings, bench, session, progress.sink(), Course::Stop);
        Fetching::of(settings, job, sources).all(address, names).await
    });
    progress.finish();
    fetched
}

/// Returns what git may ask for.
fn session(settings: &Settings) -> LocalSession {
    let mut session = LocalSession::default();
    for (variable, id) in SECRETS {
        if let Some(value) = passed(variable).filter(|value| !value.is_empty()) {
            session = session.with_secret(id, Secret::new(value));
        }
    }
    for (id, agent) in &settings.agents {
        session = session.with_ssh(id, agent.clone());
    }
    session
}

struct Fetching<'a> {
    settings: &'a Settings,
    job: Arc<dyn Job>,
    gateway: BuildGateway,
    sources: &'a SourceMap,
}

impl<'a> Fetching<'a> {
    fn of(settings: &'a Settings, job: Arc<dyn Job>, sources: &'a SourceMap) -> Self {
        let root = settings.cwd.clone();
        let gateway = BuildGateway::new(Arc::clone(&job), sources.clone(), root, Settling::Nothing);
        Self { settings, job, gateway, sources }
    }

    async fn all(&self, address: &str, names: &[String]) -> Result<Remote, Failure> {
        let found = rb_dockerfile::elsewhere(&self.gateway, address).await;
        let found = found.map_err(|item| {
            let wrong = Failure::Diagnostics { items: vec![item], sources: self.sources.clone() };
            self.of_steps().unwrap_or(wrong)
        })?;
        match found {
            Elsewhere::Repository(state) => {
                let files = self.files(&state, address, names).await?;
                Ok(Remote { files, place: Place::Repository(address.to_owned()) })
            }
            Elsewhere::Archive(state) => {
                let files = self.files(&state, address, names).await?;
                let folder = Scratch::new()?;
                self.unpack(&state, folder.path()).await?;
                Ok(Remote { files, place: Place::Folder(folder) })
            }
            Elsewhere::File(state, path) => {
                if let Some(name) = names.first() {
                    let help = Some("a file of this machine is named with `cwd://`".to_owned());
                    return Err(Failure::input(
                        format!("`{address}` is a file, and `{name}` cannot be in it"),
                        help,
                    ));
                }
                let bytes = self.read(&state, &path).await?;
                let bytes = bytes.ok_or_else(|| nowhere(address, "a bake file"))?;
                let name = crate::world::scrub(address);
                Ok(Remote { files: vec![files::text(&name, bytes, self.sources)?], place: Place::Here })
            }
        }
    }

    async fn files(
        &self,
        state: &State,
        address: &str,
        names: &[String],
    ) -> Result<Vec<Arc<SourceFile>>, Failure> {
        let usual = names.is_empty();
        let usual_names: Vec<String> = DEFAULT_FILES.iter().map(|name| (*name).to_owned()).collect();
        let mut found = Vec::new();
        for name in if usual { &usual_names } else { names } {
            let path = rb_llb::absolute_path("/", name, false);
            match self.read(state, &path).await? {
                Some(bytes) => found.push(files::text(name, bytes, self.sources)?),
                None if usual => {}
                None => return Err(nowhere(address, &format!("`{name}`"))),
            }
        }
        if found.is_empty() {
            return Err(nowhere(address, &format!("a bake file (one of {})", DEFAULT_FILES.join(", "))));
        }
        Ok(found)
    }

    async fn read(&self, state: &State, path: &str) -> Result<Option<Vec<u8>>, Failure> {
        let query = Query::ReadFile { path: path.to_owned(), limit_bytes: LIMIT };
        match self.gateway.query(state, query).await {
            Ok(Answer::File(bytes)) => Ok(Some(bytes)),
            Ok(_) | Err(WorldError::NotFound { .. }) => Ok(None),
            Err(error) => {
                let said = Failure::Said { kind: error.kind(), message: rb_diag::chain(&error), help: None };
                Err(self.of_steps().unwrap_or(said))
            }
        }
    }

    async fn unpack(&self, state: &State, folder: &Path) -> Result<(), Failure> {
        let mut wanted = Wanted::default();
        let root = wanted.root("bake files", state, self.sources)?;
        let spec = OutputSpec::Local { dest: folder.to_owned(), delete: false, split: None };
        let images = vec![PlatformImage { root, config: ImageConfig::default() }];
        wanted.output(&spec, images, None, &self.settings.cwd)?;
        build::solve(self.job.as_ref(), wanted.asked().request).await.map(drop)
    }

    /// Returns how the step that brings it failed, if one did.
    fn of_steps(&self) -> Option<Failure> {
        let mut failures = self.gateway.failures();
        (!failures.is_empty()).then(|| failures.remove(0))
    }
}

fn nowhere(address: &str, what: &str) -> Failure {
    let help = Some("name it as it is called there: `rb bake ADDRESS -f FILE`".to_owned());
    Failure::input(format!("{} does not hold {what}", crate::world::scrub(address)), help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_where_the_files_are() {
        let repository = Place::Repository("https://h.io/a.git#v1".to_owned());
        assert_eq!(repository.at("app"), "https://h.io/a.git#v1:app");
        assert_eq!(repository.at("."), "https://h.io/a.git#v1");
        let folder = Place::Folder(Scratch::new().expect("is made"));
        let inside = folder.folder().expect("is one").to_owned();
        assert_eq!(folder.at("app"), inside.join("app").display().to_string());
        assert_eq!(folder.at("/app"), inside.join("app").display().to_string());
        assert_eq!(Place::Here.at("../app"), "../app");
    }

    #[test]
    fn addresses_are_told_from_targets() {
        for word in ["https://h.io/a.git", "git@h.io:a", "github.com/a/b", "http://h/x.hcl"] {
            assert!(is_address(word), "{word}");
        }
        assert!(!is_address("app") && !is_address("lib-*"));
    }
}
