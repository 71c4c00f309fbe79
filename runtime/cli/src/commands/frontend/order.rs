//! What a build's client has said to the frontend, and what it means to a Buildfile.
//!
//! In: options as BuildKit's Dockerfile frontend takes them. Out: an [`Order`], or everything that cannot be meant, by name: nothing is
//! passed over that a user could wait for.

use std::collections::BTreeMap;

use rb_api::PullPolicy;
use rb_diag::{Diagnostic, ErrorKind, SourceMap};
use rb_dockerfile::{Elsewhere, NoCache, Options, ResolveMode, elsewhere};
use rb_frontend::{Gateway, GitFacts};
use rb_llb::{CopyAction, NodeMeta, State};
use rb_oci::Platform;
use rb_remote::inside::{Given, Ground, Images, Refusal};

use crate::environment::Called;
use crate::world::{RootFile, RootTree, scrub};

/// What clients say of a repository that the context lies in; of the rest of these options nothing is asked.
const OF_REPOSITORY: &str = "vcs:";
/// Arguments that clients give to every build; a Buildfile has not to declare them.
const OF_ALL_BUILDS: [&str; 12] = [
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "SOURCE_DATE_EPOCH",
    "BUILDKIT_INLINE_CACHE",
];

/// A build as it was asked for.
pub(super) struct Order {
    pub(super) given: Given,
    pub(super) images: Images,
    pub(super) file: RootFile,
    pub(super) facts: Option<GitFacts>,
    pub(super) target: Option<String>,
    /// A question in place of a build.
    pub(super) request: Option<String>,
    pub(super) args: BTreeMap<String, String>,
    pub(super) defaults: BTreeMap<String, String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) platforms: Vec<Platform>,
    pub(super) native: Platform,
    pub(super) is_index: bool,
}

impl Order {
    /// Reads it. Where the context is at an address, the gateway is asked what lies there.
    pub(super) async fn read(
        gateway: &dyn Gateway,
        called: &Called,
        inputs: &[String],
        native: Platform,
    ) -> Result<Self, Refusal> {
        let of_repository = |name: &String| name.starts_with(OF_REPOSITORY);
        let pairs: BTreeMap<String, String> = called
            .options
            .iter()
            .filter(|(name, _)| !of_repository(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let start = Options { build_platform: native.clone(), ..Options::default() };
        let findings = |found: Vec<Diagnostic>| Refusal::of_findings(&found, &SourceMap::default());
        let options = Options::read(&pairs, start).map_err(findings)?;
        refuse(&options, inputs)?;
        let name = pairs.get("filename").filter(|name| !name.is_empty()).cloned().unwrap_or_default();
        let lent = options.dockerfile_folder.clone();
        let mut file =
            RootFile { tree: RootTree::Lent(lent.clone().unwrap_or_else(|| "dockerfile".to_owned())), name };
        let mut context = Ground::Lent("context".to_owned());
        if let Some(address) = &options.context {
            let whole = match elsewhere(gateway, address).await.map_err(|found| findings(vec![found]))? {
                Elsewhere::Repository(tree) | Elsewhere::Archive(tree) => tree,
                Elsewhere::File(tree, path) => {
                    file.name = path.trim_start_matches('/').to_owned();
                    tree
                }
            };
            if lent.is_none() {
                file.tree = RootTree::Tree(whole.clone());
            }
            context = Ground::Tree(folder_of(whole, options.context_sub_dir.as_deref()));
        }
        let (defaults, args) = options
            .build_args
            .into_iter()
            .partition(|(name, _)| OF_ALL_BUILDS.contains(&name.as_str()) || name.starts_with("BUILDKIT_"));
        let caches = options.cache_imports.into_iter().map(|cache| (cache.kind, cache.attrs));
        let pull = match options.resolve_mode {
            ResolveMode::Default => PullPolicy::Newest,
            ResolveMode::Pull => PullPolicy::Always,
            ResolveMode::Local => PullPolicy::Missing,
        };
        let platforms = if options.platforms.is_empty() { vec![native.clone()] } else { options.platforms };
        Ok(Self {
            given: Given {
                context,
                session: called.session.clone(),
                sessions: options.local_sessions,
                no_cache: options.no_cache == NoCache::All,
                hosts: options.add_hosts,
                hostname: options.hostname,
                network: options.network,
                cgroup_parent: options.cgroup_parent,
                ulimits: options.ulimits,
                resources: options.resources,
            },
            images: Images { named: options.named_contexts, pull, caches: caches.collect() },
            file,
            facts: facts(&called.options),
            target: options.target.filter(|target| !target.is_empty()),
            request: options.request,
            args,
            defaults,
            labels: options.labels,
            is_index: options.multi_platform || platforms.len() > 1,
            platforms,
            native,
        })
    }
}

/// Refuses what would come out otherwise than it was asked for.
fn refuse(options: &Options, inputs: &[String]) -> Result<(), Refusal> {
    let mut wrong = Vec::new();
    let mut unless = |is_meant: bool, what: &str| {
        if !is_meant {
            wrong.push(what.to_owned());
        }
    };
    unless(options.shm_size_bytes == 0, "`shm-size`: a Buildfile's steps mount what they need");
    unless(
        !matches!(options.no_cache, NoCache::Stages(_)),
        "`no-cache` of single stages: leave the names out",
    );
    unless(
        !options.attestations.contains_key("sbom"),
        "`attest:sbom`: a Buildfile's image is not scanned here",
    );
    unless(inputs.is_empty(), "a build context that another build makes: name a folder or an address");
    if wrong.is_empty() {
        return Ok(());
    }
    let message = format!("rb's frontend does not take this: {}", wrong.join("; "));
    Err(Refusal::new(ErrorKind::Input, message))
}

fn folder_of(tree: State, folder: Option<&str>) -> State {
    let Some(folder) = folder else { return tree };
    let copy = CopyAction {
        src: rb_llb::absolute_path("/", folder, false),
        dest: "/".to_owned(),
        dir_copy_contents: true,
        ..CopyAction::default()
    };
    State::scratch().copy(&tree, copy, NodeMeta::default())
}

/// Returns what the client says of the repository that the context lies in.
fn facts(options: &BTreeMap<String, String>) -> Option<GitFacts> {
    let hash = options.get("vcs:revision").map(|revision| revision.trim_end_matches("-dirty"));
    let hash = hash.filter(|hash| hash.len() >= 40 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    let origin_url = options.get("vcs:source").cloned().unwrap_or_default();
    Some(GitFacts {
        hash: hash.to_owned(),
        short_hash: hash[..8].to_owned(),
        origin_url_scrubbed: scrub(&origin_url),
        origin_url,
        ..GitFacts::default()
    })
}
