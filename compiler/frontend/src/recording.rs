//! A gateway that makes answers up and keeps what was asked: what would a frontend send to an engine?
//!
//! Files come from a function, images from a rule: each exists but for those that are said not to, its digest is the sha256 of
//! `fake:<reference>|<platform>`,
//! and its config is that of a small image with a shell. Nothing runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rb_diag::{ErrorKind, SourceMap};
use rb_llb::{Definition, Op, State};
use rb_oci::{Digest, ImageConfig, Platform, RootFs};

use crate::{
    Answer, Effect, Gateway, GitFacts, ImageLocation, ImageRequest, Query, RepositoryRequest, ResolvedImage,
    WorldError,
};

/// Reads a file: the identifier of the source that holds it, and its path there.
pub type FileReader = Box<dyn Fn(&str, &str) -> Option<Vec<u8>> + Send + Sync>;

/// Answers by rule.
pub struct RecordingGateway {
    sources: SourceMap,
    read: FileReader,
    configs: BTreeMap<String, ImageConfig>,
    missing: BTreeSet<String>,
    moments: BTreeMap<String, i64>,
    asked: Mutex<Asked>,
}

/// What was asked.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Trees that something was read of, each once, in order.
    pub solved: Vec<Definition>,
    /// Images that were looked up, by identifier and platform.
    pub images: BTreeMap<(String, Platform), Digest>,
}

impl RecordingGateway {
    /// Makes a gateway; `sources` are those that spans of states point into.
    pub fn new(sources: SourceMap, read: FileReader) -> Self {
        Self {
            sources,
            read,
            configs: BTreeMap::new(),
            missing: BTreeSet::new(),
            moments: BTreeMap::new(),
            asked: Mutex::default(),
        }
    }

    /// Gives an image another config, by its full reference: `docker.io/library/busybox:latest`.
    #[must_use]
    pub fn with_config(mut self, reference: &str, config: ImageConfig) -> Self {
        self.configs.insert(reference.to_owned(), config);
        self
    }

    /// Says of an image, by its full reference, that there is none.
    #[must_use]
    pub fn without_image(mut self, reference: &str) -> Self {
        self.missing.insert(reference.to_owned());
        self
    }

    /// Says when the files of a source were changed, in seconds since 1970.
    #[must_use]
    pub fn with_moment(mut self, identifier: &str, seconds: i64) -> Self {
        self.moments.insert(identifier.to_owned(), seconds);
        self
    }

    /// Returns the config that every other image has.
    pub fn usual_config(platform: &Platform) -> ImageConfig {
        config(platform)
    }

    /// Returns what was asked so far.
    pub fn asked(&self) -> Asked {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for RecordingGateway {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("RecordingGateway").field("asked", &self.lock()).finish_non_exhaustive()
    }
}

/// Returns the config that every image has.
fn config(platform: &Platform) -> ImageConfig {
    let mut config = ImageConfig::scratch(platform);
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    config.config.env.push(path.to_owned());
    config.config.cmd = Some(vec!["/bin/sh".to_owned()]);
    let mut layer = [0; 32];
    layer[31] = 1;
    config.rootfs = RootFs { diff_ids: vec![Digest::from_bytes(layer)], ..RootFs::default() };
    config
}

fn failed(message: String) -> WorldError {
    WorldError::Failed { kind: ErrorKind::Internal, message }
}

#[async_trait]
impl Gateway for RecordingGateway {
    async fn resolve_image(&self, request: &ImageRequest) -> Result<ResolvedImage, WorldError> {
        let name = match &request.location {
            ImageLocation::Registry(name) => format!("docker-image://{name}"),
            ImageLocation::OciLayout { project, path, tag } => {
                let path = project.file(path);
                tag.iter().fold(format!("oci-layout://{path}"), |name, tag| format!("{name}:{tag}"))
            }
            ImageLocation::OciStore { store, digest } => format!("oci-layout://{store}@{digest}"),
        };
        let reference = name.split_once("://").map_or("", |(_, reference)| reference);
        if self.missing.contains(reference) {
            return Err(WorldError::NotFound { what: format!("the image `{reference}`"), help: None });
        }
        let digest = Digest::of(format!("fake:{reference}|{}", request.platform));
        self.lock().images.insert((name.clone(), request.platform.clone()), digest);
        let identifier = format!("{name}@{digest}");
        let config = self.configs.get(reference).cloned().unwrap_or_else(|| config(&request.platform));
        Ok(ResolvedImage { identifier, attrs: BTreeMap::new(), digest, config })
    }

    async fn resolve_repository(&self, request: &RepositoryRequest) -> Result<GitFacts, WorldError> {
        let what = format!("the repository `{}`", request.shown);
        Err(WorldError::NotFound { what, help: Some("nothing is fetched here".to_owned()) })
    }

    async fn query(&self, state: &State, query: Query) -> Result<Answer, WorldError> {
        let definition = state.marshal(&self.sources).map_err(|error| failed(error.to_string()))?;
        let graph = definition.graph().map_err(|error| failed(error.to_string()))?;
        let root = graph.root().ok_or_else(|| failed("nothing was asked".to_owned()))?;
        let identifier = match &graph.vertex(&root.vertex).op {
            Op::Source(source) => source.identifier.clone(),
            _ => String::new(),
        };
        {
            let mut asked = self.lock();
            if !asked.solved.iter().any(|known| known.ops == definition.ops) {
                asked.solved.push(definition);
            }
        }
        let (path, most) = match query {
            Query::ReadFile { path, .. } => (path, usize::MAX),
            Query::ReadStart { path, length_bytes } => {
                (path, usize::try_from(length_bytes).unwrap_or(usize::MAX))
            }
            Query::Newest { .. } => return Ok(Answer::Moment(self.moments.get(&identifier).copied())),
            other => return Err(failed(format!("a recording cannot answer {other:?}"))),
        };
        let found = (self.read)(&identifier, path.trim_start_matches('/'));
        let mut bytes =
            found.ok_or_else(|| WorldError::NotFound { what: format!("`{path}`"), help: None })?;
        bytes.truncate(most);
        Ok(Answer::File(bytes))
    }

    async fn settle(&self, _: &[Effect]) -> Result<(), WorldError> {
        Ok(())
    }
}
