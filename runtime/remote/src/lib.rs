//! Builds on a BuildKit daemon: an [`Engine`] whose work is done elsewhere.
//!
//! In: an [`Address`], and what the client lends. Out: jobs, as the engine of this process has them. A job is a session at the
//! daemon, a build that stays open for a frontend's questions, and a build for each export: what people call solving is a call of
//! BuildKit's gateway, so that a graph may grow and an image may have several platforms.
//! What a job asks for goes as it is, but for a mark on folders of the client ([`prepare`]). How it differs from the bundled runtime: keys
//! of results are digests of definitions, a look at the cache is refused, what only the bundled runtime does is refused by name,
//! caches of steps are the daemon's own for all of its clients. An engine of several daemons ([`nodes`]) chooses one for each job ([`placement`]).
//! **Invariants:** nothing is sent that a session does not lend; nothing that the daemon says is believed beyond its bounds: paths, lengths
//! and names are checked, blobs are proved by their digests.

mod address;
mod build;
mod caches;
mod connect;
#[doc(hidden)]
pub mod decoders;
mod docker;
mod error;
mod exports;
pub mod guest;
pub mod inside;
mod job;
mod known;
mod layout;
mod nodes;
mod parted;
mod parts;
mod placement;
mod prepare;
mod proof;
mod query;
mod receive;
mod resolve;
mod results;
mod session;
mod statements;
mod vertices;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use rb_api::{Engine, EventSink, Job, JobOptions, SolveError};
use rb_exporters::Precious;
use rb_oci::{Digest, Reference};
use rb_registry::Credentials;
use rb_wire::control::{InfoRequest, ListWorkersRequest, WorkerRecord};
use tokio::sync::OnceCell;
use tonic::Code;

pub use address::{Address, AddressError};
pub use connect::Certificates;
pub use error::RemoteError;
pub use job::cannot_look;
pub use known::Clock;
pub use nodes::{FailedNode, Heard, Hears, NodeOptions, NodesEngine, Placement};
pub use proof::Proof;

use build::{Daemon, answered};
use job::{RemoteJob, Shared};

/// Most letters of a name that a daemon gives to what it is.
const SHOWN_LETTERS: usize = 200;

/// What an engine elsewhere needs of this machine.
#[derive(Clone)]
pub struct RemoteOptions {
    /// Where it is.
    pub address: Address,
    /// What proves who is who, where it is reached by TCP.
    pub certificates: Certificates,
    /// Who knows the user's credentials for registries.
    pub credentials: Arc<dyn Credentials>,
    /// A folder for what is on its way; made if it is not there.
    pub scratch: PathBuf,
    /// Directories that no export replaces.
    pub precious: Precious,
    /// Where images go that are not pushed; without it they are refused.
    pub images: Option<Arc<dyn ImageStore>>,
}

/// Takes images that come back, and lends those that are here.
#[async_trait]
pub trait ImageStore: Send + Sync {
    /// Finds the image that the store has under a name.
    fn known(&self, name: &Reference) -> Result<Option<KnownImage>, SolveError>;

    /// Writes that image as an OCI layout into a folder that is not there yet.
    fn write_layout(&self, name: &Reference, folder: &Path) -> Result<(), SolveError>;

    /// Loads an image from an archive and names it. Returns the size of its configs and layers.
    fn load(&self, archive: &mut dyn Read, names: &[String]) -> Result<u64, SolveError>;

    /// Puts an index at registries, which have the images that it lists.
    async fn push_index(
        &self,
        names: &[Reference],
        media_type: &str,
        index: Vec<u8>,
    ) -> Result<(), SolveError>;
}

/// An image of the store of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownImage {
    /// Its manifest or index.
    pub digest: Digest,
    /// The registry that its name names has had its layers: the daemon need not get them from here.
    pub is_of_registry: bool,
}

/// A daemon as an engine. It is connected to when it is needed first.
#[derive(Clone)]
pub struct RemoteEngine {
    options: Arc<RemoteOptions>,
    daemon: Arc<OnceCell<Daemon>>,
}

/// What a daemon says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Its version; none of one that does not tell.
    pub version: Option<String>,
    /// What it runs on, a line for each worker: platforms, the first its own.
    pub workers: Vec<Worker>,
}

/// One worker of a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Platforms that it builds for, `os/architecture[/variant]`.
    pub platforms: Vec<String>,
    /// How it runs steps and keeps layers: `runc`, `overlayfs`.
    pub labels: Vec<(String, String)>,
}

impl RemoteEngine {
    /// Makes an engine; nothing is connected to yet.
    pub fn new(options: RemoteOptions) -> Self {
        Self { options: Arc::new(options), daemon: Arc::default() }
    }

    /// Returns where it is.
    pub fn address(&self) -> &Address {
        &self.options.address
    }

    async fn daemon(&self) -> Result<Daemon, RemoteError> {
        let connect = || async {
            job::scratch(&self.options.scratch)?;
            connect::connect(&self.options.address, &self.options.certificates).await
        };
        self.daemon.get_or_try_init(connect).await.cloned()
    }

    /// Asks the daemon what it is.
    pub async fn about(&self) -> Result<About, RemoteError> {
        let daemon = self.daemon().await?;
        let asked = async {
            let workers =
                daemon.control().list_workers(ListWorkersRequest::default()).await?.into_inner().record;
            let version = match daemon.control().info(InfoRequest {}).await {
                Ok(info) => info.into_inner().buildkit_version.map(|version| version.version),
                // Older than the question.
                Err(status) if status.code() == Code::Unimplemented => None,
                Err(status) => return Err(status.into()),
            };
            Ok((workers, version))
        };
        let (workers, version) = answered(self.address(), "it did not say what it is", asked).await?;
        Ok(About::of(version, workers))
    }
}

impl About {
    /// Reads what a daemon says; people are shown it as it is.
    pub(crate) fn of(version: Option<String>, workers: Vec<WorkerRecord>) -> Self {
        let worker = |record: WorkerRecord| {
            let platforms =
                record.platforms.iter().map(|told| shown(&resolve::platform_of(told).to_string()));
            let labels = record.labels.iter().map(|(name, value)| (shown(name), shown(value)));
            Worker { platforms: platforms.collect(), labels: labels.collect() }
        };
        Self { version: version.as_deref().map(shown), workers: workers.into_iter().map(worker).collect() }
    }
}

/// Returns what a line may show of a daemon's words: they are short, and move no cursor.
fn shown(words: &str) -> String {
    words.chars().filter(|letter| !letter.is_control()).take(SHOWN_LETTERS).collect()
}

#[async_trait]
impl Engine for RemoteEngine {
    fn job(&self, options: JobOptions, events: EventSink) -> Arc<dyn Job> {
        Arc::new(RemoteJob::new(self.clone(), Shared::new(options, events)))
    }

    async fn idle(&self) {
        // Calls end as they are dropped, and the daemon's work with them.
    }
}
