//! Containers of a frontend: what one sees, and what is said of its process.
//!
//! In: a container as the wire has it, and messages about its process. Out: a command on the job of the build, and messages of what it
//! writes and how it ends. One process per container: a second one would have to join the first.
//! **Invariants:** there is a bounded number of containers, and of bytes on their way; a process ends with its container, with the stream
//! it was started on, and with the frontend.
//! Source: BuildKit's `frontend/gateway/gateway.go`, "ExecProcess".

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use rb_api::{Job, LogStream, ProcessOrder, ProcessOrders, ProcessRequest};
use rb_llb::extension::is_extension;
use rb_llb::{
    CacheSharing, Definition, ExecMeta, ExecOp, HostAddress, Mount, MountKind, NetworkMode, Op, OpPlatform,
    SecretEnv, SecretMount, SecurityMode, SshMount,
};
use rb_wire::control;
use rb_wire::gateway::exec_message::Input;
use rb_wire::gateway::{self, ExecMessage, InitMessage, NewContainerRequest};
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::caps::signal;
use crate::resolve::platform_of;

/// Most containers of one frontend.
const MOST_CONTAINERS: usize = 200;
/// Messages that wait at most, each way.
const WAITING: usize = 32;
/// What a process is said to have ended with that has not begun.
const UNKNOWN_CODE: u32 = 255;

/// What is sent back.
pub(super) type Said = Pin<Box<dyn Stream<Item = Result<ExecMessage, Status>> + Send>>;

/// The containers of one frontend.
#[derive(Default)]
pub(super) struct Containers {
    all: Mutex<BTreeMap<String, Container>>,
}

struct Container {
    op: ExecOp,
    platform: Option<OpPlatform>,
    inputs: Vec<Definition>,
    /// Dropped with the container.
    there: watch::Sender<()>,
    has_started: bool,
}

impl Containers {
    /// Makes one; `inputs` are the trees that its mounts name, each once and in their order.
    pub(super) fn make(&self, request: NewContainerRequest, inputs: Inputs) -> Result<(), Status> {
        let id = request.container_id.clone();
        let container = Container {
            platform: request
                .platform
                .as_ref()
                .filter(|told| !told.architecture.is_empty())
                .map(|told| OpPlatform::from(&platform_of(told))),
            op: op(request, &inputs)?,
            inputs: inputs.trees,
            there: watch::Sender::new(()),
            has_started: false,
        };
        let mut all = self.lock();
        if all.contains_key(&id) {
            return Err(Status::already_exists(format!("container {id} already exists")));
        }
        if all.len() >= MOST_CONTAINERS {
            return Err(Status::resource_exhausted("a frontend that makes so many containers is not taken"));
        }
        all.insert(id, container);
        Ok(())
    }

    /// Ends what runs in one, and forgets it.
    pub(super) fn release(&self, id: &str) -> Result<(), Status> {
        self.lock().remove(id).map(drop).ok_or_else(|| gone(id))
    }

    /// Takes a container for a process.
    pub(super) fn start(&self, init: &InitMessage) -> Result<Started, Status> {
        let mut all = self.lock();
        let id = &init.container_id;
        let container = all.get_mut(id).ok_or_else(|| gone(id))?;
        if container.has_started {
            return Err(Status::unimplemented("a container has one process here: make another container"));
        }
        let mut op = container.op.clone();
        let meta = init.meta.clone().unwrap_or_default();
        if meta.args.is_empty() {
            return Err(Status::invalid_argument("a process needs a command"));
        }
        op.meta = ExecMeta {
            args: meta.args,
            env: meta.env,
            cwd: if meta.cwd.is_empty() { "/".to_owned() } else { meta.cwd },
            user: meta.user,
            remove_mount_stubs_recursive: meta.remove_mount_stubs_recursive,
            ..op.meta
        };
        op.security = match init.security {
            0 => SecurityMode::Sandbox,
            1 => SecurityMode::Insecure,
            _ => return Err(Status::invalid_argument("no such security mode")),
        };
        let variables = init.secret_env.iter();
        op.secret_env = variables
            .map(|secret| SecretEnv {
                id: secret.id.clone(),
                name: secret.name.clone(),
                optional: secret.optional,
            })
            .collect();
        if is_extension(&Op::Exec(op.clone())) {
            return Err(Status::permission_denied("such a container is not for frontends of images"));
        }
        container.has_started = true;
        let (platform, inputs) = (container.platform.clone(), container.inputs.clone());
        Ok(Started { op, platform, inputs, there: container.there.subscribe() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Container>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gone(id: &str) -> Status {
    Status::not_found(format!("container {id:?} previously released or not created"))
}

/// A container, taken for a process.
pub(super) struct Started {
    op: ExecOp,
    platform: Option<OpPlatform>,
    inputs: Vec<Definition>,
    there: watch::Receiver<()>,
}

/// Trees that mounts name.
#[derive(Default)]
pub(super) struct Inputs {
    /// Where each name is.
    pub(super) places: BTreeMap<String, usize>,
    pub(super) trees: Vec<Definition>,
}

fn op(request: NewContainerRequest, inputs: &Inputs) -> Result<ExecOp, Status> {
    let wrong = |words: String| Status::invalid_argument(words);
    let hosts = request.extra_hosts.into_iter().map(|told| HostAddress { host: told.host, ip: told.ip });
    let meta = ExecMeta { hostname: request.hostname, extra_hosts: hosts.collect(), ..ExecMeta::default() };
    let network = match request.network {
        0 => NetworkMode::Sandbox,
        1 => NetworkMode::Host,
        2 => NetworkMode::None,
        other => return Err(wrong(format!("no such network mode: {other}"))),
    };
    let mounts = request.mounts.into_iter().map(|told| mount(told, inputs)).collect::<Result<Vec<_>, _>>()?;
    // What is an output can be written to; nobody takes it.
    let written = (0..).zip(mounts).map(|(number, mount)| {
        let is_written = mount.kind == MountKind::Bind && !mount.readonly;
        Mount { output: is_written.then_some(number), ..mount }
    });
    let mounts: Vec<Mount> = written.collect();
    if mounts.iter().filter(|mount| mount.dest == "/").count() != 1 {
        return Err(wrong("a container needs one mount at /".to_owned()));
    }
    Ok(ExecOp { meta, mounts, network, ..ExecOp::default() })
}

fn mount(told: gateway::Mount, inputs: &Inputs) -> Result<Mount, Status> {
    let kind = match told.kind {
        0 => MountKind::Bind,
        1 => {
            let secret = told.secret.unwrap_or_default();
            let gateway::LentOption { id, uid, gid, mode, optional } = secret;
            MountKind::Secret(SecretMount { id, uid, gid, mode, optional })
        }
        2 => {
            let gateway::LentOption { id, uid, gid, mode, optional } = told.ssh.unwrap_or_default();
            MountKind::Ssh(SshMount { id, uid, gid, mode, optional })
        }
        3 => {
            let cache = told.cache.unwrap_or_default();
            let sharing = match cache.sharing {
                0 => CacheSharing::Shared,
                1 => CacheSharing::Private,
                2 => CacheSharing::Locked,
                other => return Err(Status::invalid_argument(format!("no such way to share: {other}"))),
            };
            MountKind::Cache { id: cache.id, sharing }
        }
        4 => MountKind::Tmpfs { size_bytes: told.tmpfs.unwrap_or_default().size.max(0) },
        other => return Err(Status::invalid_argument(format!("no such mount: {other}"))),
    };
    let dest = rb_llb::absolute_path("/", &told.dest, false);
    let input = inputs.places.get(&told.result_id).copied();
    let selector = told.selector;
    Ok(Mount { input, selector, dest, readonly: told.readonly, kind, ..Mount::default() })
}

/// What is done with the messages of one stream.
pub(super) struct Talk {
    pub(super) job: Arc<dyn Job>,
    pub(super) containers: Arc<Containers>,
    /// Ends with the frontend.
    pub(super) guest: watch::Receiver<()>,
}

/// A process that was started, as its messages reach it.
struct Running {
    orders: mpsc::Sender<ProcessOrder>,
    /// What it reads.
    stdin: Option<mpsc::Sender<Bytes>>,
}

impl Running {
    /// One that has not begun, and does nothing about what it is told.
    fn none() -> Self {
        Self { orders: mpsc::channel(1).0, stdin: None }
    }
}

impl Talk {
    /// Begins to listen; returns what is said.
    pub(super) fn begin(self, heard: Streaming<ExecMessage>) -> Said {
        let (say, said) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            if let Err(status) = self.listen(heard, &say).await {
                // Who is gone hears no more.
                say.send(Err(status)).await.ok();
            }
        });
        Box::pin(ReceiverStream::new(said))
    }

    /// Does what is said until nothing more comes; then what was started here is killed.
    async fn listen(
        self,
        mut heard: Streaming<ExecMessage>,
        say: &mpsc::Sender<Result<ExecMessage, Status>>,
    ) -> Result<(), Status> {
        let mut all: BTreeMap<String, Running> = BTreeMap::new();
        while let Some(ExecMessage { process_id, input }) = heard.message().await? {
            if process_id.is_empty() {
                return Err(Status::invalid_argument("ProcessID required"));
            }
            let unknown = || Status::not_found(format!("IO for process {process_id:?} not found"));
            match input {
                Some(Input::Init(init)) => {
                    if all.contains_key(&process_id) {
                        return Err(Status::already_exists(format!("Process {process_id} already exists")));
                    }
                    let running = match self.start(&process_id, init, say) {
                        Ok(running) => running,
                        Err(status) => {
                            refuse(&process_id, &status, say).await;
                            Running::none()
                        }
                    };
                    all.insert(process_id, running);
                }
                Some(Input::File(told)) => {
                    let running = all.get_mut(&process_id).ok_or_else(unknown)?;
                    if told.eof {
                        running.stdin = None;
                    } else if let Some(stdin) = &running.stdin {
                        // It may have ended, or have closed its input.
                        stdin.send(told.data).await.ok();
                    }
                }
                Some(Input::Resize(size)) => {
                    let cells = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
                    let order = ProcessOrder::Resize { columns: cells(size.cols), rows: cells(size.rows) };
                    all.get(&process_id).ok_or_else(unknown)?.orders.send(order).await.ok();
                }
                Some(Input::Signal(told)) => {
                    let number = signal(&told.name);
                    let number = number
                        .ok_or_else(|| Status::invalid_argument(format!("Unknown signal {}", told.name)))?;
                    let order = ProcessOrder::Signal(number);
                    all.get(&process_id).ok_or_else(unknown)?.orders.send(order).await.ok();
                }
                Some(Input::Started(_) | Input::Exit(_) | Input::Done(_)) | None => {
                    return Err(Status::invalid_argument("a message that is not for this side"));
                }
            }
        }
        Ok(())
    }

    /// Starts a process, which tells of itself from then on.
    fn start(
        &self,
        process: &str,
        init: InitMessage,
        say: &mpsc::Sender<Result<ExecMessage, Status>>,
    ) -> Result<Running, Status> {
        let Started { op, platform, inputs, there } = self.containers.start(&init)?;
        let wants = |fd: u32| init.fds.contains(&fd);
        let (stdin, input) = match wants(0) {
            true => feed().map(|(feed, input)| (Some(feed), Some(input)))?,
            false => (None, None),
        };
        let (orders, ordered) = mpsc::channel(WAITING);
        let of = |input: Input| ExecMessage { process_id: process.to_owned(), input: Some(input) };
        let (out, id) = (say.clone(), process.to_owned());
        let (to_stdout, to_stderr) = (wants(1), wants(2));
        let hear = move |stream, bytes: &[u8]| {
            let (fd, is_wanted) = match stream {
                LogStream::Stdout => (1, to_stdout),
                LogStream::Stderr => (2, to_stderr),
            };
            if is_wanted {
                let data = Bytes::copy_from_slice(bytes);
                let file = gateway::FdMessage { fd, eof: false, data };
                // Who is gone hears no more.
                out.blocking_send(Ok(ExecMessage { process_id: id.clone(), input: Some(Input::File(file)) }))
                    .ok();
            }
        };
        let request = ProcessRequest {
            name: format!("container {}", init.container_id),
            op,
            platform,
            inputs,
            stdin: input,
            terminal: init.tty.then_some((80, 24)),
            hear: Box::new(hear),
            orders: Box::new(Orders { ordered, there, guest: self.guest.clone() }),
        };
        let ends = [(1, to_stdout), (2, to_stderr)].into_iter().filter(|(_, is_wanted)| *is_wanted);
        let ends: Vec<_> = ends
            .map(|(fd, _)| of(Input::File(gateway::FdMessage { fd, eof: true, data: Bytes::new() })))
            .collect();
        let (started, done) =
            (of(Input::Started(gateway::StartedMessage {})), of(Input::Done(gateway::DoneMessage {})));
        let (job, say, process) = (Arc::clone(&self.job), say.clone(), process.to_owned());
        tokio::spawn(async move {
            say.send(Ok(started)).await.ok();
            let exit = exit_of(job.process(request).await);
            let exit = ExecMessage { process_id: process, input: Some(Input::Exit(exit)) };
            for message in ends.into_iter().chain([exit, done]) {
                say.send(Ok(message)).await.ok();
            }
        });
        Ok(Running { orders, stdin })
    }
}

/// Tells that a process has not begun. Who started it waits for a beginning before it hears of an end; and the others on the stream go on.
async fn refuse(process: &str, status: &Status, say: &mpsc::Sender<Result<ExecMessage, Status>>) {
    let exit = gateway::ExitMessage { code: UNKNOWN_CODE, error: Some(error(status.message().to_owned())) };
    let told =
        [Input::Started(gateway::StartedMessage {}), Input::Exit(exit), Input::Done(gateway::DoneMessage {})];
    for input in told {
        let message = ExecMessage { process_id: process.to_owned(), input: Some(input) };
        // Who is gone hears no more.
        say.send(Ok(message)).await.ok();
    }
}

fn error(message: String) -> control::Status {
    control::Status { code: Code::Unknown as i32, message, details: Vec::new() }
}

fn exit_of(ended: Result<i32, rb_api::SolveError>) -> gateway::ExitMessage {
    let (code, message) = match ended {
        Ok(0) => return gateway::ExitMessage::default(),
        Ok(code) => (u32::try_from(code).unwrap_or(UNKNOWN_CODE), format!("exit code: {code}")),
        Err(error) => (UNKNOWN_CODE, rb_diag::chain(&error)),
    };
    gateway::ExitMessage { code, error: Some(error(message)) }
}

/// Returns a way to what a process reads.
fn feed() -> Result<(mpsc::Sender<Bytes>, std::os::fd::OwnedFd), Status> {
    let failed = |error: std::io::Error| Status::internal(format!("a pipe: {error}"));
    let (mut into, from) = pipe::pipe().map_err(failed)?;
    let input = from.into_blocking_fd().map_err(failed)?;
    let (feed, mut fed) = mpsc::channel::<Bytes>(WAITING);
    tokio::spawn(async move {
        while let Some(bytes) = fed.recv().await {
            // It reads no more.
            if into.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    Ok((feed, input))
}

/// Orders until stream, container or frontend is gone.
struct Orders {
    ordered: mpsc::Receiver<ProcessOrder>,
    there: watch::Receiver<()>,
    guest: watch::Receiver<()>,
}

#[async_trait]
impl ProcessOrders for Orders {
    async fn next(&mut self) -> Option<ProcessOrder> {
        tokio::select! {
            order = self.ordered.recv() => order,
            // Nothing is ever said there.
            _ = self.there.changed() => None,
            _ = self.guest.changed() => None,
        }
    }
}
