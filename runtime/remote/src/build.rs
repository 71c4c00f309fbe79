//! One build at a daemon: opened, asked, ended.
//!
//! A build without a frontend is one whose frontend is the client: as long as its call lasts, questions about it are answered on the
//! same connection, each marked with its name. **Invariant:** dropping a build cancels its call, and so all of its work that nobody
//! else wants.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rb_wire::MAX_MESSAGE_BYTES;
use rb_wire::control::control_client::ControlClient;
use rb_wire::control::{self, ListWorkersRequest, StatusRequest};
use rb_wire::gateway::llb_bridge_client::LlbBridgeClient;
use rb_wire::gateway::{self, PingRequest, PongResponse, ReturnRequest};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::Address;
use crate::error::{RemoteError, is_broken, is_of_machine, said};
use crate::vertices::Vertices;

/// Metadata that says which build a question is about.
const BUILD_ID: &str = "buildkit-controlapi-buildid";

/// How long a daemon has to answer what needs no work.
const ANSWER: Duration = Duration::from_secs(20);

/// How often who works and says nothing is asked whether it is there.
const STILL_THERE: Duration = Duration::from_secs(20);

/// How long it may be that nothing is told of a build that has something to do: what it is to do comes first.
const BEGIN: Duration = Duration::from_secs(30);

/// How long the rest of a status stream is waited for.
const REST: Duration = Duration::from_secs(2);

/// A connection.
#[derive(Clone)]
pub(crate) struct Daemon {
    pub(crate) channel: Channel,
    /// The socket of Docker's own daemon, which takes sessions at a place of their own.
    pub(crate) docker: Option<PathBuf>,
}

impl Daemon {
    pub(crate) fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Whether it answers within a time, whatever it says.
    pub(crate) async fn is_there(&self, limit: Duration) -> bool {
        let mut control = self.control();
        let asked = control.list_workers(ListWorkersRequest::default());
        match tokio::time::timeout(limit, asked).await {
            Ok(Ok(_)) => true,
            Ok(Err(status)) => !is_broken(&status),
            Err(_) => false,
        }
    }

    pub(crate) fn bridge(&self) -> LlbBridgeClient<Channel> {
        LlbBridgeClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }
}

/// How the call of a build ended.
type Outcome = Result<BTreeMap<String, String>, Status>;

/// A build under way.
pub(crate) struct Build {
    daemon: Daemon,
    name: String,
    outcome: watch::Receiver<Option<Outcome>>,
    solving: JoinHandle<()>,
    hearing: JoinHandle<()>,
    /// Something was told of it.
    told: Arc<AtomicBool>,
    /// A call failed as its connection broke.
    broke: AtomicBool,
    /// What is wrong with the daemon's machine, as it says.
    sick: OnceLock<String>,
}

/// Waits for the answer to what needs no work; who says nothing is no daemon to wait for.
pub(crate) async fn answered<T>(
    address: &Address,
    what: &'static str,
    question: impl Future<Output = Result<T, RemoteError>>,
) -> Result<T, RemoteError> {
    let silent = |_| Err(RemoteError::Silent { address: address.to_string(), what, limit: ANSWER });
    tokio::time::timeout(ANSWER, question).await.unwrap_or_else(silent)
}

impl Drop for Build {
    fn drop(&mut self) {
        self.solving.abort();
        self.hearing.abort();
    }
}

impl Build {
    /// Opens a build; `request` says what is to be done with its result.
    pub(crate) async fn open(
        daemon: &Daemon,
        mut request: control::SolveRequest,
        vertices: &Arc<Vertices>,
    ) -> Result<Self, RemoteError> {
        let name = random_name()?;
        request.r#ref.clone_from(&name);
        let (ended, outcome) = watch::channel(None);
        let mut control = daemon.control();
        let solving = tokio::spawn(async move {
            let outcome = control.solve(request).await;
            // Who opened it may be gone.
            ended.send(Some(outcome.map(|response| response.into_inner().exporter_response))).ok();
        });
        let (mut control, asked, vertices) = (daemon.control(), name.clone(), Arc::clone(vertices));
        let told: Arc<AtomicBool> = Arc::default();
        let tells = Arc::clone(&told);
        let hearing = tokio::spawn(async move {
            let stream = control.status(StatusRequest { r#ref: asked.clone() }).await;
            let mut stream = match stream {
                Ok(stream) => stream.into_inner(),
                Err(status) => return tracing::debug!(%status, "nothing is told of a build"),
            };
            loop {
                match stream.message().await {
                    Ok(Some(status)) => {
                        tells.store(true, Ordering::Relaxed);
                        vertices.hear(&asked, status);
                    }
                    Ok(None) => return,
                    Err(status) => return tracing::debug!(%status, "no more is told of a build"),
                }
            }
        });
        let (broke, sick) = (AtomicBool::new(false), OnceLock::new());
        Ok(Self { daemon: daemon.clone(), name, outcome, solving, hearing, told, broke, sick })
    }

    /// Returns the build whose frontend this process is: the connection is its own, and nobody else tells of its end.
    pub(crate) fn of_frontend(daemon: Daemon) -> Self {
        let (told, outcome) = watch::channel(None);
        let solving = tokio::spawn(async move {
            std::future::pending::<()>().await;
            drop(told);
        });
        let hearing = tokio::spawn(async {});
        let (told, broke, sick) = (Arc::default(), AtomicBool::new(false), OnceLock::new());
        Self { daemon, name: String::new(), outcome, solving, hearing, told, broke, sick }
    }

    /// Asks what the daemon is able to do; a build that could not be opened says so.
    pub(crate) async fn ping(&self) -> Result<PongResponse, Status> {
        let request = self.about(PingRequest {});
        self.call(async { self.daemon.bridge().ping(request).await }).await
    }

    /// Marks a question with the build that it is about.
    pub(crate) fn about<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if !self.name.is_empty()
            && let Ok(name) = MetadataValue::try_from(&self.name)
        {
            request.metadata_mut().insert(BUILD_ID, name);
        }
        request
    }

    pub(crate) fn bridge(&self) -> LlbBridgeClient<Channel> {
        self.daemon.bridge()
    }

    /// Waits for the answer to what is work: who works tells of it.
    pub(crate) async fn work<T>(
        &self,
        question: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Status> {
        let idle = async {
            tokio::time::sleep(BEGIN).await;
            if self.told.load(Ordering::Relaxed) || self.name.is_empty() {
                std::future::pending::<()>().await;
            }
            Status::unavailable(format!("nothing was told of a build within {} seconds", BEGIN.as_secs()))
        };
        self.call(async {
            tokio::select! {
                answer = question => answer,
                status = idle => Err(status),
            }
        })
        .await
    }

    /// Waits until the daemon does not even say that it is there.
    async fn silence(&self) -> Status {
        // Who started this process is there as long as its connection is.
        if self.name.is_empty() {
            std::future::pending::<()>().await;
        }
        loop {
            tokio::time::sleep(STILL_THERE).await;
            if !self.daemon.is_there(ANSWER).await {
                return Status::unavailable(format!(
                    "it does not answer within {} seconds",
                    ANSWER.as_secs()
                ));
            }
        }
    }

    /// Waits for an answer, for the end of the build, which explains why there is none, or until the daemon is not there.
    pub(crate) async fn call<T>(
        &self,
        question: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Status> {
        let mut outcome = self.outcome.clone();
        let ended = async {
            match outcome.wait_for(Option::is_some).await.as_deref() {
                Ok(Some(Err(status))) => status.clone(),
                Ok(_) | Err(_) => Status::aborted("the build ended"),
            }
        };
        let answer = tokio::select! {
            answer = question => answer.map(Response::into_inner),
            status = ended => Err(status),
            status = self.silence() => Err(status),
        };
        match &answer {
            Err(status) if is_broken(status) => self.broke.store(true, Ordering::Relaxed),
            Err(status) if is_of_machine(status) => drop(self.sick.get_or_init(|| said(status))),
            Err(_) | Ok(_) => {}
        }
        answer
    }

    /// Returns what is wrong with the daemon's machine, once it has said so.
    pub(crate) fn sick(&self) -> Option<&str> {
        self.sick.get().map(String::as_str)
    }

    /// Whether a call failed as its connection broke.
    pub(crate) fn broke(&self) -> bool {
        self.broke.load(Ordering::Relaxed)
    }

    /// Says what came of the build, and waits until it has been exported. Where nothing of it comes here, nothing that comes may hold
    /// the connection up: the daemon is asked whether it is there.
    pub(crate) async fn finish(mut self, result: gateway::Result, comes_here: bool) -> Outcome {
        let (daemon, mut outcome) = (self.daemon.clone(), self.outcome.clone());
        let name = self.name.clone();
        let silence = async {
            loop {
                tokio::time::sleep(STILL_THERE).await;
                if !comes_here && !name.is_empty() && !daemon.is_there(ANSWER).await {
                    return;
                }
            }
        };
        tokio::select! {
            ended = self.finished(result) => ended,
            () = silence => match outcome.borrow_and_update().clone() {
                Some(ended) => ended,
                None => Err(Status::unavailable(format!("it does not answer within {} seconds", ANSWER.as_secs()))),
            },
        }
    }

    async fn finished(&mut self, result: gateway::Result) -> Outcome {
        let request = self.about(ReturnRequest { result: Some(result), error: None });
        let mut bridge = self.bridge();
        // The build may end before this is answered.
        let returned = bridge.r#return(request).await;
        if let Err(status) = returned
            && self.outcome.borrow().is_none()
        {
            return Err(status);
        }
        let outcome = match self.outcome.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            Ok(None) | Err(_) => Err(Status::aborted("the build ended")),
        };
        if tokio::time::timeout(REST, &mut self.hearing).await.is_err() {
            tracing::debug!("a status stream outlasts its build");
        }
        outcome
    }
}

/// Returns a name that nobody can guess: who knows that of a session may use it.
pub(crate) fn random_name() -> Result<String, RemoteError> {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0; 16];
    let failed = |_| RemoteError::answer("this machine gives no random numbers");
    ring::rand::SystemRandom::new().fill(&mut bytes).map_err(failed)?;
    Ok(hex::encode(bytes))
}
