//! A daemon that lies as it is told to, over BuildKit's own API.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rb_diag::SourceMap;
use rb_llb::{MkdirAction, NodeMeta, State};
use rb_wire::control::control_server::{Control, ControlServer};
use rb_wire::control::{self, BytesMessage, StatusResponse};
use rb_wire::files::packet::Type;
use rb_wire::files::{Packet, Stat};
use rb_wire::filesend::file_send_client::FileSendClient;
use rb_wire::gateway::llb_bridge_server::{LlbBridge, LlbBridgeServer};
use rb_wire::gateway::{self, result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::cache_writer::CacheLie;
use crate::nonsense;

/// What a daemon does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Nothing.
    None,
    /// The call of a build fails at once.
    Refuses,
    /// A tree has no name.
    NoTree,
    /// A file is longer than was asked for.
    LongFile,
    /// A folder lists a path that leads out.
    BadName,
    /// It exports, and sends nothing.
    SendsNothing,
    /// It sends a tree with a path that leads out.
    SendsOut,
    /// It sends a file through a link of its own.
    SendsThroughLink,
    /// It sends more of a file than it told.
    SendsMore,
    /// It stops in the middle.
    HangsUp,
    /// Its packets are none.
    SendsNonsense,
    /// It says nothing more, and leaves the stream open.
    HalfOpen,
    /// An answer is longer than any may be.
    GiantAnswer,
    /// So is a packet.
    GiantPacket,
    /// Entries of a tree come in another order.
    OutOfOrder,
    /// A path begins at the top of this machine.
    Absolute,
    /// A file shares its name with one of this machine.
    SharesOutside,
    /// Content comes that nobody asked for.
    Unasked,
    /// A blob has another digest than its name.
    WrongBlob,
    /// A layout holds a file that is none of its own.
    StrangeFile,
    /// What it tells of its vertices makes no sense.
    TellsNonsense,
    /// It says that what the user wrote fails.
    Fails,
    /// It goes away as it is to make a tree.
    DiesSolving,
    /// It goes away as it is to export.
    DiesExporting,
    /// It says that it is there, and answers nothing else.
    Mute,
    /// It begins builds, and does nothing.
    Idle,
    /// Its disk is full.
    Full,
    /// It has too much to do.
    Overrun,
    /// It does not read.
    NeverReads,
    /// It writes a cache, and lies about that.
    Cache(CacheLie),
}

#[derive(Clone)]
pub(crate) struct Daemon {
    lie: Lie,
    /// Trees that it was to make.
    solves: Arc<AtomicUsize>,
    is_dead: Arc<AtomicBool>,
    /// What was returned of a build whose result is to be exported.
    returned: watch::Sender<u32>,
    client: watch::Sender<Option<Channel>>,
    /// What the client said, where that is of interest.
    noted: watch::Sender<Option<Code>>,
}

type Stream<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl Control for Daemon {
    async fn solve(
        &self,
        request: Request<control::SolveRequest>,
    ) -> Result<Response<control::SolveResponse>, Status> {
        if self.lie == Lie::Refuses {
            return Err(Status::permission_denied("no builds today"));
        }
        let caches = request.get_ref().cache.iter().flat_map(|cache| &cache.exports);
        let dest = caches.filter_map(|cache| cache.attrs.get("dest").cloned()).next();
        if request.get_ref().exporters.is_empty() && dest.is_none() {
            std::future::pending::<()>().await;
        }
        let mut returned = self.returned.subscribe();
        returned.wait_for(|count| *count > 0).await.map_err(|_| Status::aborted("gone"))?;
        if let (Lie::Cache(lie), Some(dest)) = (self.lie, dest) {
            let exporter_response = self.write_cache(lie, &dest).await?;
            return Ok(Response::new(control::SolveResponse { exporter_response }));
        }
        match self.lie {
            Lie::SendsNothing => {}
            Lie::HalfOpen => {
                let daemon = self.clone();
                tokio::spawn(async move { daemon.send().await });
                // It has begun by then.
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Lie::WrongBlob | Lie::StrangeFile => self.send_layout().await?,
            _ => self.send().await?,
        }
        Ok(Response::new(control::SolveResponse::default()))
    }

    type StatusStream = Stream<StatusResponse>;

    async fn status(
        &self,
        _request: Request<control::StatusRequest>,
    ) -> Result<Response<Self::StatusStream>, Status> {
        if matches!(self.lie, Lie::Mute | Lie::Idle) {
            std::future::pending::<()>().await;
        }
        let (sender, receiver) = mpsc::channel(1);
        if self.lie == Lie::TellsNonsense {
            sender.send(Ok(nonsense::status())).await.map_err(|_| Status::aborted("gone"))?;
        }
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    type SessionStream = Stream<BytesMessage>;

    async fn session(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (mut reader, mut writer) = tokio::io::split(theirs);
        let mut incoming = request.into_inner();
        let (sender, receiver) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Ok(Some(message)) = incoming.message().await {
                if writer.write_all(&message.data).await.is_err() {
                    return;
                }
            }
        });
        tokio::spawn(async move {
            let mut piece = vec![0; 1 << 14];
            while let Ok(length @ 1..) = reader.read(&mut piece).await {
                let data = Bytes::copy_from_slice(&piece[..length]);
                if sender.send(Ok(BytesMessage { data })).await.is_err() {
                    return;
                }
            }
        });
        let mut pipe = Some(hyper_util::rt::TokioIo::new(ours));
        let dial = tower::service_fn(move |_| {
            let pipe = pipe.take().ok_or_else(|| std::io::Error::other("there is one only"));
            async move { pipe }
        });
        let client = self.client.clone();
        tokio::spawn(async move {
            let channel =
                tonic::transport::Endpoint::from_static("http://client").connect_with_connector(dial).await;
            client.send_replace(channel.ok());
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn list_workers(
        &self,
        _request: Request<control::ListWorkersRequest>,
    ) -> Result<Response<control::ListWorkersResponse>, Status> {
        if self.is_dead.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let record = if self.lie == Lie::TellsNonsense { vec![nonsense::worker()] } else { Vec::new() };
        Ok(Response::new(control::ListWorkersResponse { record }))
    }

    async fn info(
        &self,
        _request: Request<control::InfoRequest>,
    ) -> Result<Response<control::InfoResponse>, Status> {
        if self.lie == Lie::Mute {
            std::future::pending::<()>().await;
        }
        if self.lie == Lie::TellsNonsense {
            return Ok(Response::new(control::InfoResponse { buildkit_version: Some(nonsense::version()) }));
        }
        Err(Status::unimplemented("older than that"))
    }
}

impl Daemon {
    /// Counts the trees that it was to make.
    pub(crate) fn solves(&self) -> usize {
        self.solves.load(Ordering::Relaxed)
    }

    /// Waits for the client's own services.
    pub(crate) async fn client(&self) -> Result<Channel, Status> {
        let mut client = self.client.subscribe();
        let client = client.wait_for(Option::is_some).await.map_err(|_| Status::aborted("gone"))?;
        client.clone().ok_or_else(|| Status::aborted("gone"))
    }

    pub(crate) fn note(&self, code: Code) {
        self.noted.send_replace(Some(code));
    }

    /// Returns what the client said.
    pub(crate) fn noted(&self) -> Option<Code> {
        *self.noted.borrow()
    }

    /// Answers nothing more.
    fn dies(&self) -> Status {
        self.is_dead.store(true, Ordering::Relaxed);
        Status::unavailable("on its way down")
    }

    /// Plays the sending end of a tree.
    async fn send(&self) -> Result<(), Status> {
        use prost::Message as _;
        let mut client = self.client.subscribe();
        let channel = client.wait_for(Option::is_some).await.map_err(|_| Status::aborted("gone"))?.clone();
        let (packets, receiver) = mpsc::channel::<Bytes>(32);
        let file = |path: &str, size| Stat { path: path.to_owned(), mode: 0o644, size, ..Stat::default() };
        let link =
            Stat { path: "d".into(), mode: (1 << 27) | 0o777, linkname: "/etc".into(), ..Stat::default() };
        let stats = match self.lie {
            Lie::SendsOut => vec![file("../evil", 1)],
            Lie::SendsThroughLink => vec![link, file("d/evil", 1)],
            Lie::OutOfOrder => vec![file("b", 1), file("a", 1)],
            Lie::Absolute => vec![file("/etc/evil", 1)],
            Lie::SharesOutside => vec![Stat { linkname: "../../etc/hostname".into(), ..file("f", 0) }],
            _ => vec![file("f", 3)],
        };
        for stat in stats.into_iter().map(Some).chain([None]) {
            let packet = Packet { r#type: Type::Stat.into(), stat, ..Packet::default() };
            packets.send(packet.encode_to_vec().into()).await.ok();
        }
        match self.lie {
            Lie::HangsUp => drop(packets),
            Lie::SendsNonsense => drop(packets.send(Bytes::from_static(b"\xff\xff\xff")).await),
            Lie::HalfOpen => {
                let answers = FileSendClient::new(channel.clone().expect("is there"))
                    .diff_copy(ReceiverStream::new(receiver))
                    .await;
                std::future::pending::<()>().await;
                drop((answers, packets));
                return Ok(());
            }
            Lie::GiantPacket => {
                let packet =
                    Packet { r#type: Type::Data.into(), data: vec![0; 17 << 20].into(), ..Packet::default() };
                packets.send(packet.encode_to_vec().into()).await.ok();
            }
            Lie::Unasked => {
                let packet =
                    Packet { r#type: Type::Data.into(), id: 7, data: "x".into(), ..Packet::default() };
                packets.send(packet.encode_to_vec().into()).await.ok();
            }
            _ => {
                let content = if self.lie == Lie::SendsMore { "abcd" } else { "abc" };
                for data in [content, ""] {
                    let packet = Packet { r#type: Type::Data.into(), data: data.into(), ..Packet::default() };
                    packets.send(packet.encode_to_vec().into()).await.ok();
                }
                let farewell = Packet { r#type: Type::Fin.into(), ..Packet::default() };
                packets.send(farewell.encode_to_vec().into()).await.ok();
            }
        }
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let mut answers =
            FileSendClient::new(channel.expect("is there")).diff_copy(stream).await?.into_inner();
        while answers.message().await?.is_some() {}
        Ok(())
    }

    /// Sends an OCI layout that is none.
    async fn send_layout(&self) -> Result<(), Status> {
        use prost::Message as _;
        let mut client = self.client.subscribe();
        let channel = client.wait_for(Option::is_some).await.map_err(|_| Status::aborted("gone"))?.clone();
        let name = match self.lie {
            Lie::StrangeFile => "etc/evil".to_owned(),
            _ => format!("blobs/sha256/{}", rb_oci::Digest::of("other").hex()),
        };
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(4);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, name, &b"blob"[..])
            .map_err(|error| Status::internal(error.to_string()))?;
        let data = archive.into_inner().map_err(|error| Status::internal(error.to_string()))?;
        let message = Bytes::from(BytesMessage { data: data.into() }.encode_to_vec());
        let stream = tokio_stream::iter([message]);
        let mut answers =
            FileSendClient::new(channel.expect("is there")).diff_copy(stream).await?.into_inner();
        while answers.message().await?.is_some() {}
        Ok(())
    }
}

#[tonic::async_trait]
impl LlbBridge for Daemon {
    async fn ping(
        &self,
        _request: Request<gateway::PingRequest>,
    ) -> Result<Response<gateway::PongResponse>, Status> {
        if matches!(self.lie, Lie::Refuses | Lie::Mute) {
            std::future::pending::<()>().await;
        }
        Ok(Response::new(gateway::PongResponse::default()))
    }

    async fn resolve_source_meta(
        &self,
        _request: Request<gateway::ResolveSourceMetaRequest>,
    ) -> Result<Response<gateway::ResolveSourceMetaResponse>, Status> {
        Ok(Response::new(gateway::ResolveSourceMetaResponse::default()))
    }

    async fn resolve_image_config(
        &self,
        _request: Request<gateway::ResolveImageConfigRequest>,
    ) -> Result<Response<gateway::ResolveImageConfigResponse>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn solve(
        &self,
        request: Request<gateway::SolveRequest>,
    ) -> Result<Response<gateway::SolveResponse>, Status> {
        assert!(
            request.metadata().get("buildkit-controlapi-buildid").is_some(),
            "each question says which build it is about"
        );
        self.solves.fetch_add(1, Ordering::Relaxed);
        match self.lie {
            Lie::DiesSolving => return Err(self.dies()),
            Lie::Idle => std::future::pending().await,
            Lie::Full => {
                return Err(Status::unknown("failed to prepare x: mkdir /x: no space left on device"));
            }
            Lie::Overrun => return Err(Status::resource_exhausted("too many builds")),
            Lie::Fails => return Err(failing(&request.into_inner().definition.unwrap_or_default())),
            _ => {}
        }
        let tree = gateway::Ref { id: "tree".into(), def: None };
        let result = (self.lie != Lie::NoTree).then(|| result::Result::Ref(tree));
        let result = Some(gateway::Result { result, ..gateway::Result::default() });
        Ok(Response::new(gateway::SolveResponse { result }))
    }

    async fn read_file(
        &self,
        request: Request<gateway::ReadFileRequest>,
    ) -> Result<Response<gateway::ReadFileResponse>, Status> {
        let range = request.into_inner().range.unwrap_or_default();
        let length = match self.lie {
            Lie::LongFile => usize::try_from(range.length).unwrap_or(0) + 1,
            Lie::GiantAnswer => 17 << 20,
            Lie::NeverReads => std::future::pending().await,
            _ => 3,
        };
        Ok(Response::new(gateway::ReadFileResponse { data: vec![b'x'; length].into() }))
    }

    async fn read_dir(
        &self,
        _request: Request<gateway::ReadDirRequest>,
    ) -> Result<Response<gateway::ReadDirResponse>, Status> {
        let path = if self.lie == Lie::BadName { "../etc" } else { "b" };
        let stat = |path: &str| Stat { path: path.to_owned(), mode: 0o644, ..Stat::default() };
        Ok(Response::new(gateway::ReadDirResponse { entries: vec![stat(path), stat("a")] }))
    }

    async fn stat_file(
        &self,
        _request: Request<gateway::StatFileRequest>,
    ) -> Result<Response<gateway::StatFileResponse>, Status> {
        Err(Status::unknown("lstat /x: no such file or directory"))
    }

    async fn evaluate(
        &self,
        _request: Request<gateway::EvaluateRequest>,
    ) -> Result<Response<gateway::EvaluateResponse>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn inputs(
        &self,
        _request: Request<gateway::InputsRequest>,
    ) -> Result<Response<gateway::InputsResponse>, Status> {
        Ok(Response::new(gateway::InputsResponse::default()))
    }

    async fn new_container(
        &self,
        _request: Request<gateway::NewContainerRequest>,
    ) -> Result<Response<gateway::NewContainerResponse>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn release_container(
        &self,
        _request: Request<gateway::ReleaseContainerRequest>,
    ) -> Result<Response<gateway::ReleaseContainerResponse>, Status> {
        Err(Status::unimplemented("no"))
    }

    type ExecProcessStream = ReceiverStream<Result<gateway::ExecMessage, Status>>;

    async fn exec_process(
        &self,
        _request: Request<Streaming<gateway::ExecMessage>>,
    ) -> Result<Response<Self::ExecProcessStream>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn warn(
        &self,
        _request: Request<gateway::WarnRequest>,
    ) -> Result<Response<gateway::WarnResponse>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn r#return(
        &self,
        _request: Request<gateway::ReturnRequest>,
    ) -> Result<Response<gateway::ReturnResponse>, Status> {
        if self.lie == Lie::DiesExporting {
            return Err(self.dies());
        }
        self.returned.send_modify(|count| *count += 1);
        Ok(Response::new(gateway::ReturnResponse {}))
    }
}

/// Says that the first vertex of a definition failed.
fn failing(definition: &[u8]) -> Status {
    use prost::Message as _;
    let definition = rb_llb::Definition::from_bytes(definition).expect("decodes");
    let digest = rb_oci::Digest::of(&definition.ops[0]);
    let vertex = control::Detail {
        type_url: "github.com/moby/buildkit/errdefs.Vertex+json".to_owned(),
        value: format!(r#"{{"digest":"{digest}"}}"#).into(),
    };
    let details = control::Status { code: 2, message: "failed".into(), details: vec![vertex] };
    Status::with_details(tonic::Code::Unknown, "no such file", details.encode_to_vec().into())
}

pub(crate) fn serve(lie: Lie, socket: &Path) -> Daemon {
    let listener = UnixListener::bind(socket).expect("binds");
    let daemon = Daemon {
        lie,
        solves: Arc::default(),
        is_dead: Arc::default(),
        returned: watch::channel(0).0,
        client: watch::channel(None).0,
        noted: watch::channel(None).0,
    };
    let served = daemon.clone();
    let incoming = futures_util::stream::unfold(listener, |listener| async {
        Some((listener.accept().await.map(|(stream, _)| stream), listener))
    });
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(ControlServer::new(daemon.clone()))
            .add_service(LlbBridgeServer::new(daemon))
            .serve_with_incoming(incoming),
    );
    served
}

pub(crate) fn definition() -> rb_llb::Definition {
    let state = State::scratch()
        .mkdir(MkdirAction { path: "/a".into(), ..MkdirAction::default() }, NodeMeta::default());
    state.marshal(&SourceMap::default()).expect("marshals")
}
