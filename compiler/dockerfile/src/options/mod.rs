//! The options of a build, as BuildKit's Dockerfile frontend takes them.
//!
//! In: `name=value` pairs. Out: [`Options`], or everything that is wrong with them at once, each error with the option's
//! name. What only a caller knows, such as its platform or states it hands in, are fields without an option.
//! Source: BuildKit's `frontend/dockerui`, names and meaning.

mod read;
mod values;

use std::collections::BTreeMap;
use std::sync::Arc;

use rb_diag::SourceFile;
use rb_llb::{HostAddress, LinuxResources, NetworkMode, State, Ulimit};
use rb_oci::{ImageConfig, Platform};

/// What a Dockerfile is built with.
#[derive(Clone, Debug)]
pub struct Options {
    /// `filename`: the Dockerfile's path in the folder that holds it.
    pub filename: String,
    /// What the Dockerfile is called where people see it; none is its path in the folder that holds it. Not an option.
    pub shown: Option<String>,
    /// Text of the ignore file that counts instead of those beside the Dockerfile and in the context. Not an option.
    pub ignore: Option<String>,
    /// Steps say which of their variables are ARGs, beside what BuildKit's frontend says of them. Not an option.
    pub tells_arguments: bool,
    /// `target`: the stage to build; none is the last one.
    pub target: Option<String>,
    /// `platform`: what the result is to run on, one of each; none is what the base image says, or else
    /// [`Options::build_platform`].
    pub platforms: Vec<Platform>,
    /// What steps run on without emulation: `BUILDPLATFORM`. Not an option: the engine's own.
    pub build_platform: Platform,
    /// `multi-platform`: the result is an index even of one platform.
    pub multi_platform: bool,
    /// `build-arg:NAME`, by name.
    pub build_args: BTreeMap<String, String>,
    /// `label:NAME`, by name.
    pub labels: BTreeMap<String, String>,
    /// `add-hosts`: lines for `/etc/hosts`.
    pub add_hosts: Vec<HostAddress>,
    /// `hostname`: what steps take their host to be called.
    pub hostname: Option<String>,
    /// `force-network-mode`: the network of steps that choose none.
    pub network: NetworkMode,
    /// `cgroup-parent`: parent of the steps' cgroups.
    pub cgroup_parent: Option<String>,
    /// `shm-size`: size of `/dev/shm` in bytes; 0 is the engine's choice.
    pub shm_size_bytes: i64,
    /// Folders of the client that every RUN sees. Not an option.
    pub volumes: Vec<Volume>,
    /// `ulimit`: limits of the steps' processes.
    pub ulimits: Vec<Ulimit>,
    /// `memory`, `memswap`, `cpushares`, `cpuperiod`, `cpuquota`, `cpusetcpus`, `cpusetmems`.
    pub resources: Option<LinuxResources>,
    /// `image-resolve-mode`: where images are looked for.
    pub resolve_mode: ResolveMode,
    /// `no-cache`: stages whose steps run again.
    pub no_cache: NoCache,
    /// `context`, or what `contextkey` names: where the files come from, if not from the client.
    pub context: Option<String>,
    /// `contextsubdir`: the folder of it that counts.
    pub context_sub_dir: Option<String>,
    /// `dockerfilekey`: the client's folder that holds the Dockerfile, wherever the context is from.
    pub dockerfile_folder: Option<String>,
    /// `context:NAME[::PLATFORM]`, by what follows the colon.
    pub named_contexts: BTreeMap<String, String>,
    /// `sharedkey:localdir:NAME`, by name.
    pub shared_keys: BTreeMap<String, String>,
    /// `local-sessionid:NAME`, by name: the session that lends the client's folder.
    pub local_sessions: BTreeMap<String, String>,
    /// The session that lends every other folder; none leaves it to the engine. Not an option.
    pub session: Option<String>,
    /// States that the caller hands in, by name: `context` and `dockerfile` stand for those folders, others for
    /// `input:NAME`. Not options.
    pub inputs: BTreeMap<String, Input>,
    /// The client's folder that is the context, if not the one it calls `context`: who plans several builds on one session names
    /// each folder. Not an option.
    pub lent_context: Option<LentContext>,
    /// The Dockerfile, where the caller has read it. Not an option.
    pub given: Option<Given>,
    /// Whose file it is: titles of its steps begin with that. Not an option.
    pub owner: Option<String>,
    /// `build-arg:BUILDKIT_CACHE_MOUNT_NS`: what the names of cache mounts begin with.
    pub cache_namespace: String,
    /// `build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR`: the context keeps its `.git`.
    pub keep_git_dir: bool,
    /// `build-arg:BUILDKIT_DOCKERFILE_CHECK`: instead of the file's own `# check=`.
    pub check: Option<String>,
    /// `cache-imports`, `cache-from`: where results of others are looked for.
    pub cache_imports: Vec<CacheImport>,
    /// `attest:KIND`, by kind: what is to be said about the image, as it was written.
    pub attestations: BTreeMap<String, String>,
    /// `requestid`: a question about the file instead of a build.
    pub request: Option<String>,
    /// `source` and `cmdline`: the frontend's image, and the whole line that named it.
    pub frontend: Option<String>,
    /// Every stage counts, not only those that the target needs. Not an option: checks without a target ask so.
    pub all_stages: bool,
}

/// A folder of the client, or a file in one, that every RUN sees. What is written into it is forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// The name that the folder is lent by.
    pub lent: String,
    /// What of it is shown: `/`, or the path of a file.
    pub path: String,
    /// Where steps see it, absolute.
    pub target: String,
    /// Steps cannot write there.
    pub readonly: bool,
    /// What it is called where people see it.
    pub shown: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            filename: "Dockerfile".to_owned(),
            shown: None,
            ignore: None,
            tells_arguments: false,
            target: None,
            platforms: Vec::new(),
            build_platform: Platform::host(),
            multi_platform: false,
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            add_hosts: Vec::new(),
            hostname: None,
            network: NetworkMode::default(),
            cgroup_parent: None,
            shm_size_bytes: 0,
            volumes: Vec::new(),
            ulimits: Vec::new(),
            resources: None,
            resolve_mode: ResolveMode::default(),
            no_cache: NoCache::default(),
            context: None,
            context_sub_dir: None,
            dockerfile_folder: None,
            named_contexts: BTreeMap::new(),
            shared_keys: BTreeMap::new(),
            local_sessions: BTreeMap::new(),
            session: None,
            inputs: BTreeMap::new(),
            lent_context: None,
            given: None,
            owner: None,
            cache_namespace: String::new(),
            keep_git_dir: false,
            check: None,
            cache_imports: Vec::new(),
            attestations: BTreeMap::new(),
            request: None,
            frontend: None,
            all_stages: false,
        }
    }
}

impl Options {
    /// Hands in a state by name, see [`Options::inputs`].
    #[must_use]
    pub fn with_input(mut self, name: &str, state: State) -> Self {
        self.inputs.insert(name.to_owned(), Input { state, config: None });
        self
    }
}

/// A folder of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LentContext {
    /// Name under which it is lent.
    pub name: String,
    /// Sets this look at the folder apart from others of the same build.
    pub unique: Option<String>,
}

/// A Dockerfile that the caller has read.
#[derive(Clone, Debug)]
pub struct Given {
    /// The file.
    pub dockerfile: Arc<SourceFile>,
    /// Text of the ignore file that counts for the client's folder; empty where there is none.
    pub ignore: String,
}

/// A state that the caller hands in.
#[derive(Clone, Debug)]
pub struct Input {
    /// The tree.
    pub state: State,
    /// What its containers run with, if it is an image.
    pub config: Option<ImageConfig>,
}

/// Where images are looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResolveMode {
    /// The engine's choice.
    #[default]
    Default,
    /// In the registry, even where one is here.
    Pull,
    /// Here first.
    Local,
}

impl ResolveMode {
    /// Returns the word for it in LLB.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Pull => "pull",
            Self::Local => "local",
        }
    }
}

/// Stages whose steps run again, though their results are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NoCache {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// Those of these names, in any case.
    Stages(Vec<String>),
}

impl NoCache {
    /// Tells whether a stage is one of them; a stage without a name has the name "".
    pub fn covers(&self, stage: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Stages(names) => names.iter().any(|name| name.eq_ignore_ascii_case(stage)),
        }
    }
}

/// Where results of others are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheImport {
    /// `registry`, `local`, `gha`, …
    pub kind: String,
    /// Its options.
    pub attrs: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests;
