//! The calls of a frontend, each answered by the job.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rb_api::{Job, Root, SolveError, SolveRequest as Wanted};
use rb_frontend::{
    Answer, FileDetails, FileKind, ImageLocation, ImageRequest, Query, RepositoryRequest, ResolvedImage,
};
use rb_llb::Definition;
use rb_llb::extension::is_extension;
use rb_oci::{ImageConfig, Platform};
use rb_snapshot::patterns::PatternMatcher;
use rb_wire::control::{self, WorkerRecord};
use rb_wire::diffcopy::{Entry, Kind};
use rb_wire::files::Stat;
use rb_wire::gateway::llb_bridge_server::LlbBridge;
use rb_wire::gateway::{self, result};
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use super::containers::{self, Containers, Inputs, Talk};
use super::{ANSWERS, Given, ReturnedTree, State, caps, lock};
use crate::resolve::{self, wire_platform};

/// Most trees of one frontend.
const MOST_TREES: usize = 10_000;
/// Most bytes of their definitions together.
const MOST_BYTES: usize = 256 << 20;
/// Most that is read of one file: what fits into a message.
const MOST_OF_FILE: u64 = 15 << 20;
/// Most letters of a warning that are kept.
const WARNING_LETTERS: usize = 400;

/// One program's calls.
pub(super) struct Served {
    pub(super) job: Arc<dyn Job>,
    pub(super) native: Platform,
    pub(super) given: Given,
    pub(super) state: Arc<Mutex<State>>,
    pub(super) containers: Arc<Containers>,
    /// Ends with the program.
    pub(super) guest: watch::Receiver<()>,
}

fn wrong(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}

/// As Go says it, which frontends look for.
fn missing(path: &str) -> Status {
    Status::not_found(format!("lstat {path}: no such file or directory"))
}

impl Served {
    /// Reads a definition and refuses what is no frontend's of an image to ask for.
    pub(super) fn definition(&self, bytes: &Bytes) -> Result<Definition, Status> {
        let definition = Definition::from_bytes(bytes).map_err(|error| wrong(rb_diag::chain(&error)))?;
        let graph = definition.graph().map_err(|error| wrong(rb_diag::chain(&error)))?;
        match graph.vertices().find(|vertex| is_extension(&vertex.op)) {
            // It would show a stranger's program this machine.
            Some(vertex) => Err(Status::permission_denied(format!(
                "`{}` is not for frontends of images",
                graph.name(vertex)
            ))),
            None => match &self.given.rewrite {
                Some(rewrite) => rewrite(definition).map_err(wrong),
                None => Ok(definition),
            },
        }
    }

    /// Keeps a tree and returns its name; that of an empty one is empty.
    pub(super) fn keep(&self, definition: Definition) -> Result<String, Status> {
        if definition.is_empty() {
            return Ok(String::new());
        }
        let size: usize = definition.ops.iter().map(Bytes::len).sum();
        let mut state = lock(&self.state);
        state.bytes = state.bytes.saturating_add(size);
        if state.trees.len() >= MOST_TREES || state.bytes > MOST_BYTES {
            return Err(Status::resource_exhausted("a frontend that asks for so many trees is not taken"));
        }
        state.trees.push(definition);
        Ok((state.trees.len() - 1).to_string())
    }

    fn tree(&self, name: &str) -> Result<Definition, Status> {
        if name.is_empty() {
            return Ok(Definition::empty());
        }
        let state = lock(&self.state);
        let number = name.parse::<usize>().ok();
        number
            .and_then(|number| state.trees.get(number))
            .cloned()
            .ok_or_else(|| Status::not_found(format!("no such ref: {name}")))
    }

    /// Has a tree made.
    pub(super) async fn make(&self, definition: &Definition) -> Result<(), Status> {
        if definition.is_empty() || self.given.only_looks {
            return Ok(());
        }
        let root = Root { label: String::new(), definition: definition.clone() };
        let wanted = Wanted { roots: vec![root], ..Wanted::default() };
        self.job.solve(wanted).await.map(drop).map_err(|error| self.failed(error, definition))
    }

    async fn ask(&self, name: &str, path: &str, query: Query) -> Result<Answer, Status> {
        let definition = self.tree(name)?;
        self.job.query(definition.clone(), query).await.map_err(|error| match error {
            SolveError::NoSuchFile { .. } => missing(path),
            error => self.failed(error, &definition),
        })
    }

    /// Tells the program of a failure, and keeps the first one of a step.
    pub(super) fn failed(&self, error: SolveError, definition: &Definition) -> Status {
        let status = match &error {
            SolveError::Cancelled => Status::cancelled(error.to_string()),
            _ => Status::unknown(error.to_string()),
        };
        if matches!(error, SolveError::Vertex { .. } | SolveError::Several(_)) {
            lock(&self.state).failed.get_or_insert_with(|| (error, definition.clone()));
        }
        status
    }

    async fn image(&self, name: &str, platform: Option<&control::Platform>) -> Result<ResolvedImage, Status> {
        let platform = platform.filter(|platform| !platform.architecture.is_empty());
        let platform = platform.map_or_else(|| self.native.clone(), resolve::platform_of);
        let request = ImageRequest { location: ImageLocation::Registry(name.to_owned()), platform };
        self.job.resolve_image(&request).await.map_err(|error| Status::unknown(error.to_string()))
    }

    /// Reads what a frontend returns.
    fn returned(&self, result: gateway::Result) -> Result<Vec<ReturnedTree>, Status> {
        returned(&self.native, result, &|id| self.tree(id))
    }
}

/// Reads a result; `find` has its trees by their names.
pub(super) fn returned(
    native: &Platform,
    result: gateway::Result,
    find: &dyn Fn(&str) -> Result<Definition, Status>,
) -> Result<Vec<ReturnedTree>, Status> {
    let metadata = &result.metadata;
    let tree = |tree: &gateway::Ref, platform: Platform, of_platform: &str| {
        let own = config(metadata, &format!("containerimage.config{of_platform}"))?;
        let base = config(metadata, &format!("containerimage.base.config{of_platform}"))?;
        let platform = own.as_ref().filter(|_| of_platform.is_empty()).map_or(platform, platform_of);
        Ok::<_, Status>(ReturnedTree { platform, definition: find(&tree.id)?, config: own, base })
    };
    match result.result {
        Some(result::Result::Ref(one)) => Ok(vec![tree(&one, native.clone(), "")?]),
        Some(result::Result::Refs(several)) => {
            let listed =
                metadata.get("refs.platforms").ok_or_else(|| wrong("several trees without platforms"))?;
            let listed: Platforms = serde_json::from_slice(listed).map_err(wrong)?;
            // A list is longer than what it lists only where it names one twice.
            if listed.platforms.len() > several.refs.len() {
                return Err(wrong("more platforms than trees"));
            }
            let each = listed.platforms.into_iter().map(|listed| {
                let one = several
                    .refs
                    .get(&listed.id)
                    .ok_or_else(|| wrong(format!("no tree for `{}`", listed.id)))?;
                tree(one, listed.platform, &format!("/{}", listed.id))
            });
            each.collect()
        }
        None => Ok(vec![tree(&gateway::Ref::default(), native.clone(), "")?]),
    }
}

/// `refs.platforms`, as BuildKit writes it.
#[derive(serde::Deserialize)]
struct Platforms {
    #[serde(rename = "Platforms")]
    platforms: Vec<Listed>,
}

#[derive(serde::Deserialize)]
struct Listed {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Platform")]
    platform: Platform,
}

fn config(metadata: &BTreeMap<String, Bytes>, key: &str) -> Result<Option<ImageConfig>, Status> {
    let read =
        |bytes: &Bytes| serde_json::from_slice(bytes).map_err(|error| wrong(format!("`{key}`: {error}")));
    metadata.get(key).map(read).transpose()
}

fn platform_of(config: &ImageConfig) -> Platform {
    Platform {
        os: config.os.clone(),
        architecture: config.architecture.clone(),
        variant: config.variant.clone(),
    }
}

/// Tells of a file as the wire does.
fn stat(details: FileDetails) -> Stat {
    let FileDetails { entry, mode, uid, gid, size_bytes, modified_ns, link, attributes } = details;
    let kind = match entry.kind {
        FileKind::Directory => Kind::Directory,
        FileKind::Symlink => Kind::Symlink { target: link.unwrap_or_default() },
        FileKind::File => Kind::File { size_bytes },
        FileKind::Other => Kind::Special,
    };
    let xattrs = attributes.into_iter().map(|(name, value)| (name, Bytes::from(value))).collect();
    Stat { xattrs, ..Entry { path: entry.name, kind, mode, uid, gid, modified_ns }.to_stat() }
}

/// Returns what chooses names of a folder. One that looks into folders of it is refused: names alone are told.
fn chosen(pattern: &str) -> Result<impl Fn(&str) -> bool, Status> {
    if pattern.trim_matches('/').contains('/') {
        return Err(Status::unimplemented(format!("`{pattern}` is a pattern of more than names")));
    }
    let matcher = match pattern {
        "" => None,
        pattern => Some(PatternMatcher::new(&[pattern.trim_matches('/')]).map_err(wrong)?),
    };
    Ok(move |name: &str| matcher.as_ref().is_none_or(|matcher| matcher.matches(Path::new(name))))
}

#[tonic::async_trait]
impl LlbBridge for Served {
    async fn ping(
        &self,
        _request: Request<gateway::PingRequest>,
    ) -> Result<Response<gateway::PongResponse>, Status> {
        let worker = WorkerRecord {
            id: "rb".to_owned(),
            platforms: vec![wire_platform(&self.native)],
            ..WorkerRecord::default()
        };
        let mut frontend_caps = caps::told(&caps::FRONTEND);
        if self.given.has_containers {
            frontend_caps.extend(caps::told(&caps::CONTAINERS));
        }
        let llb_caps = caps::told(&caps::LLB);
        Ok(Response::new(gateway::PongResponse { frontend_caps, llb_caps, workers: vec![worker] }))
    }

    async fn resolve_source_meta(
        &self,
        request: Request<gateway::ResolveSourceMetaRequest>,
    ) -> Result<Response<gateway::ResolveSourceMetaResponse>, Status> {
        let request = request.into_inner();
        let source = request.source.ok_or_else(|| wrong("no source is named"))?;
        let (scheme, name) = source.identifier.split_once("://").unwrap_or_default();
        let mut response = gateway::ResolveSourceMetaResponse::default();
        match scheme {
            "docker-image" => {
                let image = self.image(name, request.platform.as_ref()).await?;
                let config = serde_json::to_vec(&image.config).map_err(wrong)?.into();
                response.image = Some(gateway::ResolvedImage { digest: image.digest.to_string(), config });
            }
            "git" => {
                let (identifier, attrs) = (source.identifier.clone(), source.attrs.clone());
                let asked = RepositoryRequest { identifier, attrs, shown: name.to_owned() };
                let facts = self
                    .job
                    .resolve_repository(&asked)
                    .await
                    .map_err(|error| Status::unknown(error.to_string()))?;
                let checksum = facts.hash;
                response.git = Some(gateway::ResolvedGit { checksum, ..gateway::ResolvedGit::default() });
            }
            // Of others there is nothing to tell before they are fetched.
            _ => {}
        }
        response.source = Some(source);
        Ok(Response::new(response))
    }

    async fn resolve_image_config(
        &self,
        request: Request<gateway::ResolveImageConfigRequest>,
    ) -> Result<Response<gateway::ResolveImageConfigResponse>, Status> {
        let request = request.into_inner();
        if request.resolver_type != 0 {
            return Err(Status::unimplemented("images of layouts are not resolved for frontends"));
        }
        let image = self.image(&request.r#ref, request.platform.as_ref()).await?;
        let config = serde_json::to_vec(&image.config).map_err(wrong)?.into();
        let digest = image.digest.to_string();
        Ok(Response::new(gateway::ResolveImageConfigResponse { digest, config, r#ref: request.r#ref }))
    }

    async fn solve(
        &self,
        request: Request<gateway::SolveRequest>,
    ) -> Result<Response<gateway::SolveResponse>, Status> {
        let request = request.into_inner();
        if !request.frontend.is_empty() {
            let result = Some(self.nested(request).await?);
            return Ok(Response::new(gateway::SolveResponse { result }));
        }
        let bytes = request.definition.filter(|bytes| !bytes.is_empty());
        let definition = bytes.as_ref().map(|bytes| self.definition(bytes)).transpose()?.unwrap_or_default();
        if request.evaluate {
            self.make(&definition).await?;
        }
        let id = self.keep(definition)?;
        let result = Some(result::Result::Ref(gateway::Ref { id, def: bytes }));
        let result = Some(gateway::Result { result, ..gateway::Result::default() });
        Ok(Response::new(gateway::SolveResponse { result }))
    }

    async fn read_file(
        &self,
        request: Request<gateway::ReadFileRequest>,
    ) -> Result<Response<gateway::ReadFileResponse>, Status> {
        let request = request.into_inner();
        let path = request.file_path.clone();
        let (offset, length) =
            request.range.map_or((0, 0), |range| (range.offset.max(0) as u64, range.length.max(0) as u64));
        let end = if length == 0 { MOST_OF_FILE } else { offset.saturating_add(length) };
        // All before it is read, too, so that this is bounded as a whole.
        let query = match end < MOST_OF_FILE {
            true => Query::ReadStart { path: absolute(&path), length_bytes: end },
            false => Query::ReadFile { path: absolute(&path), limit_bytes: MOST_OF_FILE },
        };
        match self.ask(&request.r#ref, &path, query).await? {
            Answer::File(bytes) => {
                let bytes = Bytes::from(bytes);
                let start = usize::try_from(offset).map_or(bytes.len(), |offset| offset.min(bytes.len()));
                Ok(Response::new(gateway::ReadFileResponse { data: bytes.slice(start..) }))
            }
            _ => Err(Status::internal("a file was answered with something else")),
        }
    }

    async fn read_dir(
        &self,
        request: Request<gateway::ReadDirRequest>,
    ) -> Result<Response<gateway::ReadDirResponse>, Status> {
        let request = request.into_inner();
        let is_wanted = chosen(&request.include_pattern)?;
        let query = Query::Details { path: absolute(&request.dir_path), inside: true };
        match self.ask(&request.r#ref, &request.dir_path, query).await? {
            Answer::Details(found) => {
                let wanted = found.into_iter().filter(|found| is_wanted(&found.entry.name));
                Ok(Response::new(gateway::ReadDirResponse { entries: wanted.map(stat).collect() }))
            }
            _ => Err(Status::internal("a folder was answered with something else")),
        }
    }

    async fn stat_file(
        &self,
        request: Request<gateway::StatFileRequest>,
    ) -> Result<Response<gateway::StatFileResponse>, Status> {
        let request = request.into_inner();
        let query = Query::Details { path: absolute(&request.path), inside: false };
        match self.ask(&request.r#ref, &request.path, query).await? {
            Answer::Details(found) => {
                let found = found.into_iter().next().ok_or_else(|| missing(&request.path))?;
                Ok(Response::new(gateway::StatFileResponse { stat: Some(stat(found)) }))
            }
            _ => Err(Status::internal("a path was answered with something else")),
        }
    }

    async fn evaluate(
        &self,
        request: Request<gateway::EvaluateRequest>,
    ) -> Result<Response<gateway::EvaluateResponse>, Status> {
        let definition = self.tree(&request.into_inner().r#ref)?;
        self.make(&definition).await?;
        Ok(Response::new(gateway::EvaluateResponse {}))
    }

    async fn inputs(
        &self,
        _request: Request<gateway::InputsRequest>,
    ) -> Result<Response<gateway::InputsResponse>, Status> {
        let bytes = |(name, tree): (&String, &Definition)| (name.clone(), tree.to_bytes().into());
        let definitions = self.given.inputs.iter().map(bytes).collect();
        Ok(Response::new(gateway::InputsResponse { definitions }))
    }

    async fn new_container(
        &self,
        request: Request<gateway::NewContainerRequest>,
    ) -> Result<Response<gateway::NewContainerResponse>, Status> {
        if !self.given.has_containers {
            return Err(Status::unimplemented(
                "containers of a frontend are not made on an engine elsewhere",
            ));
        }
        let request = request.into_inner();
        let mut inputs = Inputs::default();
        for mount in request.mounts.iter().filter(|mount| !mount.result_id.is_empty()) {
            if !inputs.places.contains_key(&mount.result_id) {
                let tree = self.tree(&mount.result_id)?;
                self.make(&tree).await?;
                inputs.places.insert(mount.result_id.clone(), inputs.trees.len());
                inputs.trees.push(tree);
            }
        }
        self.containers.make(request, inputs)?;
        Ok(Response::new(gateway::NewContainerResponse {}))
    }

    async fn release_container(
        &self,
        request: Request<gateway::ReleaseContainerRequest>,
    ) -> Result<Response<gateway::ReleaseContainerResponse>, Status> {
        self.containers.release(&request.into_inner().container_id)?;
        Ok(Response::new(gateway::ReleaseContainerResponse {}))
    }

    type ExecProcessStream = containers::Said;

    async fn exec_process(
        &self,
        request: Request<Streaming<gateway::ExecMessage>>,
    ) -> Result<Response<Self::ExecProcessStream>, Status> {
        let (job, containers) = (Arc::clone(&self.job), Arc::clone(&self.containers));
        let talk = Talk { job, containers, guest: self.guest.clone() };
        Ok(Response::new(talk.begin(request.into_inner())))
    }

    async fn warn(
        &self,
        request: Request<gateway::WarnRequest>,
    ) -> Result<Response<gateway::WarnResponse>, Status> {
        let short = request.into_inner().short;
        let words = String::from_utf8_lossy(&short);
        let words: String =
            words.chars().filter(|letter| !letter.is_control()).take(WARNING_LETTERS).collect();
        lock(&self.state).warn([words]);
        Ok(Response::new(gateway::WarnResponse {}))
    }

    async fn r#return(
        &self,
        request: Request<gateway::ReturnRequest>,
    ) -> Result<Response<gateway::ReturnResponse>, Status> {
        let request = request.into_inner();
        // What it did wrong is told to its user, too, whatever it makes of the answer.
        let unfit = |status: Status| format!("what it returned cannot be used: {}", status.message());
        let is_result = request.error.is_none();
        let ended = match (request.error, request.result) {
            (Some(error), _) => {
                let words = error.message.chars().filter(|letter| !letter.is_control() || *letter == '\n');
                Err(words.take(4_000).collect())
            }
            (None, Some(result)) => {
                let said = |name: &&str| Some(((*name).to_owned(), result.metadata.get(*name)?.clone()));
                let answers = ANSWERS.iter().filter_map(said).collect();
                let is_index = matches!(result.result, Some(result::Result::Refs(_)));
                self.returned(result).map(|trees| (trees, is_index, answers)).map_err(unfit)
            }
            (None, None) => Err(unfit(wrong("neither a result nor an error"))),
        };
        let refused = ended.as_ref().err().filter(|_| is_result).map(wrong);
        let mut state = lock(&self.state);
        if state.ended.is_some() {
            return Err(wrong("a result was returned before"));
        }
        state.ended = Some(ended);
        refused.map_or_else(|| Ok(Response::new(gateway::ReturnResponse {})), Err)
    }
}

fn absolute(path: &str) -> String {
    rb_llb::absolute_path("/", path, false)
}
