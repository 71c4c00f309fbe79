//! A frontend that is somebody else's program: the daemon's side of what it asks, answered by a job of this process.
//!
//! The program is the client on the standard streams that it was started with; [`crate::inside`] is such a program. In: a [`Job`], and the
//! other ends of those streams. Out: what the program returns at its end ([`Returned`]): trees as definitions, and configs. What it asks
//! for is made on the same job as all else, so that it is cached, told of and cancelled with it.
//! Containers that it asks for are commands of that job ([`containers`]); other frontends are run by whoever runs this one ([`nested`]).
//! What is not there is refused with BuildKit's own code for that: a second process in a container, files of a container while it runs,
//! patterns that look into folders. **Invariant:** what comes is bounded: messages, definitions, how many trees
//! there are, what is read of one file. A program that ends without a word is an error.

mod caps;
mod containers;
mod nested;
mod served;

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream as BlockingStream;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use rb_api::{Job, SolveError};
use rb_diag::ErrorKind;
use rb_llb::Definition;
use rb_oci::{ImageConfig, Platform};
use rb_wire::MAX_MESSAGE_BYTES;
use rb_wire::gateway;
use rb_wire::gateway::llb_bridge_server::LlbBridgeServer;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tonic::Status;

use crate::error::RemoteError;
use served::Served;

pub use nested::Nested;

/// One tree of a result.
#[derive(Clone, Debug)]
pub struct ReturnedTree {
    /// What it is for.
    pub platform: Platform,
    /// Its graph; one without ops is the empty tree.
    pub definition: Definition,
    /// What its containers run with; none of a tree that is no image.
    pub config: Option<ImageConfig>,
    /// The config of its base as it came.
    pub base: Option<ImageConfig>,
}

/// What a frontend has returned.
#[derive(Clone, Debug)]
pub struct Returned {
    /// Its trees.
    pub trees: Vec<ReturnedTree>,
    /// They are named by their platforms, also where there is one only.
    pub is_index: bool,
    /// What it says in answer to a question: [`ANSWERS`], as far as it gave them.
    pub answers: BTreeMap<String, Bytes>,
    /// What was unusual.
    pub warnings: Vec<String>,
}

/// Why a frontend has returned nothing.
#[derive(Clone, Debug)]
pub enum Failed {
    /// A step that it had made failed; its graph has the lines that it is about.
    Step(Box<(SolveError, Definition)>),
    /// It says what is wrong, or has said nothing.
    Said {
        /// Who has to act.
        kind: ErrorKind,
        /// Its words.
        message: String,
    },
}

/// Names under which an answer to a question is returned: as data, as text, how it ended, and by which rules it is written.
pub const ANSWERS: [&str; 4] = ["result.json", "result.txt", "result.statuscode", "version"];

/// Makes of a graph that the program asks for the one that is meant on this job; an error is in words.
pub type Rewrite = Arc<dyn Fn(Definition) -> Result<Definition, String> + Send + Sync>;

/// What a program is given beside its options.
#[derive(Clone, Default)]
pub struct Given {
    /// Trees that its user hands in, by name.
    pub inputs: BTreeMap<String, Definition>,
    /// What is done with its graphs before they are solved; nothing takes them as they are.
    pub rewrite: Option<Rewrite>,
    /// The job only looks: trees are not made before they are read.
    pub only_looks: bool,
    /// Where it is heard what it asks of other frontends; without that it may not.
    pub frontends: Option<mpsc::Sender<Nested>>,
    /// The job runs commands for frontends.
    pub has_containers: bool,
}

/// Reads what is said of a container and of its process, without running it.
pub(crate) fn container(request: gateway::NewContainerRequest, process: gateway::InitMessage) {
    let containers = containers::Containers::default();
    let id = request.container_id.clone();
    let inputs = containers::Inputs::default();
    if containers.make(request, inputs).is_ok() {
        let process = gateway::InitMessage { container_id: id.clone(), ..process };
        let first = containers.start(&process);
        assert!(first.is_err() || containers.start(&process).is_err(), "a container has one process");
        assert!(containers.release(&id).is_ok() && containers.release(&id).is_err());
    }
}

/// Reads what is returned; `find` has trees by their names.
pub(crate) fn returned(
    result: gateway::Result,
    find: &dyn Fn(&str) -> Result<Definition, Status>,
) -> Result<Vec<ReturnedTree>, Status> {
    served::returned(&Platform::host(), result, find)
}

/// What is answered to one program.
pub struct Guest {
    state: Arc<Mutex<State>>,
    /// Dropped with this: then its containers end.
    _there: watch::Sender<()>,
}

/// What is known of one program so far.
#[derive(Default)]
struct State {
    /// Trees, by the numbers that are their names.
    trees: Vec<Definition>,
    /// Bytes of their ops.
    bytes: usize,
    ended: Option<Result<Ended, String>>,
    /// The first step that failed.
    failed: Option<(SolveError, Definition)>,
    warnings: Vec<String>,
}

/// Trees, whether they are named by platforms, and answers by name.
type Ended = (Vec<ReturnedTree>, bool, BTreeMap<String, Bytes>);

/// Most warnings that are kept.
const MOST_WARNINGS: usize = 100;

impl State {
    /// Keeps warnings, as many as there is room for.
    fn warn(&mut self, warnings: impl IntoIterator<Item = String>) {
        let room = MOST_WARNINGS.saturating_sub(self.warnings.len());
        self.warnings.extend(warnings.into_iter().take(room));
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Guest {
    /// Begins to answer; `native` is what steps run on. Returns what serves until it is dropped, and the program's end of the connection.
    pub fn open(
        job: Arc<dyn Job>,
        native: Platform,
        given: Given,
    ) -> Result<(Self, impl Future<Output = Result<(), RemoteError>>, BlockingStream), RemoteError> {
        let failed = |source| RemoteError::Disk { what: "a pair of sockets".to_owned(), source };
        let (ours, theirs) = BlockingStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        let streams = UnixStream::from_std(ours).map_err(failed)?;
        let state: Arc<Mutex<State>> = Arc::default();
        let (there, guest) = watch::channel(());
        let containers = Arc::default();
        let served = Served { job, native, given, state: Arc::clone(&state), containers, guest };
        let service = LlbBridgeServer::new(served)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        // One connection, and no end of the list: the server is ended from outside.
        let one = stream::once(async { Ok::<_, std::io::Error>(streams) }).chain(stream::pending());
        let serving = async move {
            let served = tonic::transport::Server::builder()
                .initial_stream_window_size(4 << 20)
                .initial_connection_window_size(16 << 20)
                .add_service(service)
                .serve_with_incoming(one)
                .await;
            served.map_err(|error| RemoteError::answer(rb_diag::chain(&error)))
        };
        Ok((Self { state, _there: there }, serving, theirs))
    }

    /// Returns what came of it, once the program has ended with this code.
    pub fn result(self, exit_code: i32) -> Result<Returned, Failed> {
        let mut state = lock(&self.state);
        let warnings = std::mem::take(&mut state.warnings);
        match state.ended.take() {
            Some(Ok((trees, is_index, answers))) if exit_code == 0 => {
                Ok(Returned { trees, is_index, answers, warnings })
            }
            Some(Err(message)) => Err(match state.failed.take() {
                // Of a step that failed the engine tells better.
                Some(failed) if message.contains(&failed.0.to_string()) => Failed::Step(Box::new(failed)),
                Some(_) | None => Failed::Said { kind: ErrorKind::Input, message },
            }),
            Some(Ok(_)) | None => Err(match state.failed.take() {
                // That is why it gave up.
                Some(failed) => Failed::Step(Box::new(failed)),
                None => Failed::Said {
                    kind: ErrorKind::Environment,
                    message: format!("it ended with code {exit_code}, and returned no result"),
                },
            }),
        }
    }
}
