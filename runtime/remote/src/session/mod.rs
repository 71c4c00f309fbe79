//! The client's side of a build, lent to a daemon.
//!
//! In: a [`Session`](rb_session::Session). Out: a gRPC server inside of one stream of the connection that we opened: the daemon calls,
//! and what a definition names of this client it gets here: folders, secrets, agents, credentials, blobs of layouts, what is sent
//! once. Results come back the same way ([`exports`]).
//! **Invariant:** what the session does not lend does not exist for the daemon; when a [`Lent`] is dropped, nothing answers any more.

mod content;
mod exports;
mod files;
mod given;
pub(crate) mod incoming;
mod ssh;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use rb_registry::Credentials;
use rb_wire::MAX_MESSAGE_BYTES;
use rb_wire::content::content_server::ContentServer;
use rb_wire::control::BytesMessage;
use rb_wire::filesend::file_send_server::FileSendServer;
use rb_wire::filesync::auth_server::AuthServer;
use rb_wire::filesync::file_sync_server::FileSyncServer;
use rb_wire::health::health_server::HealthServer;
use rb_wire::secrets::secrets_server::SecretsServer;
use rb_wire::ssh::ssh_server::SshServer;
use rb_wire::upload::upload_server::UploadServer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};

use crate::build::{Daemon, random_name};
use crate::caches::Folders;
use crate::docker;
use crate::error::RemoteError;
use crate::vertices::Vertices;
pub(crate) use content::Images;
pub(crate) use exports::{Arriving, Exchange};
pub(crate) use files::{listed, open_new, packet};

/// What a client lends, and what it needs to do so.
#[derive(Clone)]
pub(crate) struct Lending {
    pub(crate) session: Arc<dyn rb_session::Session>,
    pub(crate) credentials: Arc<dyn Credentials>,
    /// Where sockets are made.
    pub(crate) scratch: PathBuf,
    /// Images of this machine that are lent.
    pub(crate) images: Images,
    /// Folders of caches.
    pub(crate) caches: Folders,
    /// Who hears what of folders is lent.
    pub(crate) vertices: Arc<Vertices>,
}

/// Methods that the daemon may call, as it is told of them.
const METHODS: [&str; 11] = [
    "/moby.filesync.v1.FileSync/DiffCopy",
    "/moby.filesync.v1.FileSend/DiffCopy",
    "/moby.filesync.v1.Auth/Credentials",
    "/moby.buildkit.secrets.v1.Secrets/GetSecret",
    "/moby.sshforward.v1.SSH/CheckAgent",
    "/moby.sshforward.v1.SSH/ForwardAgent",
    "/moby.upload.v1.Upload/Pull",
    "/grpc.health.v1.Health/Check",
    "/containerd.services.content.v1.Content/Info",
    "/containerd.services.content.v1.Content/Read",
    "/containerd.services.content.v1.Content/Write",
];

/// Bytes on their way between the server and the stream.
const PIPE_BYTES: usize = 1 << 20;
/// Bytes of one message of the stream.
const MESSAGE_BYTES: usize = 64 << 10;
/// Messages on their way.
const MESSAGES: usize = 16;

/// A session at a daemon.
pub(crate) struct Lent {
    pub(crate) name: String,
    pub(crate) arriving: Arriving,
    /// Why the stream broke, if it did.
    broken: Arc<Mutex<Option<Status>>>,
    serving: JoinHandle<()>,
    carrying: JoinHandle<()>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.serving.abort();
        self.carrying.abort();
    }
}

impl Lent {
    /// Lends to a daemon.
    pub(crate) fn open(daemon: &Daemon, lending: &Lending) -> Result<Self, RemoteError> {
        let name = random_name()?;
        let arriving = Arriving::default();
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let serving = tokio::spawn(serve(ours, lending.clone(), arriving.clone()));
        let broken: Arc<Mutex<Option<Status>>> = Arc::default();
        let (from_server, to_server) = tokio::io::split(theirs);
        let (messages, received) = mpsc::channel(MESSAGES);
        let request = request(&name, &lending.session.cache_scope(), Messages::new(received))?;
        let (daemon, broke) = (daemon.clone(), Arc::clone(&broken));
        let carrying = tokio::spawn(async move {
            let ended = match daemon.docker.clone() {
                // Docker takes sessions at a place of their own, as bytes.
                Some(socket) => {
                    let whole = from_server.unsplit(to_server);
                    through_docker(socket, request.into_parts().0, whole).await
                }
                None => tokio::select! {
                    () = forth(from_server, messages) => Ok(()),
                    ended = back(daemon, request, to_server) => ended,
                },
            };
            if let Err(status) = ended {
                tracing::debug!(%status, "a session broke");
                broke.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(status);
            }
        });
        Ok(Self { name, arriving, broken, serving, carrying })
    }

    /// Returns why the stream broke, if it did.
    pub(crate) fn broken(&self) -> Option<Status> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Messages on their way to the daemon.
type Messages = tokio_stream::wrappers::ReceiverStream<BytesMessage>;

/// Makes the call that carries a session.
fn request(name: &str, shared_key: &str, messages: Messages) -> Result<Request<Messages>, RemoteError> {
    let mut request = Request::new(messages);
    let value = |text: &str| {
        MetadataValue::try_from(text).map_err(|_| RemoteError::answer("the name of a session is no header"))
    };
    let metadata = request.metadata_mut();
    metadata.insert("x-docker-expose-session-uuid", value(name)?);
    metadata.insert("x-docker-expose-session-name", value("rb")?);
    metadata.insert("x-docker-expose-session-sharedkey", value(shared_key)?);
    for method in METHODS {
        metadata.append("x-docker-expose-session-grpc-method", value(method)?);
    }
    Ok(request)
}

/// Carries what the server says to the daemon, until either ends.
async fn forth(mut pipe: ReadHalf<DuplexStream>, messages: mpsc::Sender<BytesMessage>) {
    loop {
        let mut piece = BytesMut::with_capacity(MESSAGE_BYTES);
        match pipe.read_buf(&mut piece).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
        if messages.send(BytesMessage { data: piece.freeze() }).await.is_err() {
            return;
        }
    }
}

/// Carries what the daemon says to the server, until either ends.
async fn back(
    daemon: Daemon,
    request: Request<Messages>,
    mut pipe: WriteHalf<DuplexStream>,
) -> Result<(), Status> {
    let mut stream = daemon.control().session(request).await?.into_inner();
    while let Some(BytesMessage { data }) = stream.message().await? {
        pipe.write_all(&data).await.map_err(|error| Status::aborted(error.to_string()))?;
    }
    Ok(())
}

/// Carries bytes between the server and Docker, until either ends.
async fn through_docker(
    socket: PathBuf,
    metadata: tonic::metadata::MetadataMap,
    mut pipe: DuplexStream,
) -> Result<(), Status> {
    let broke = |error: std::io::Error| Status::unavailable(error.to_string());
    let there = docker::dial(socket, docker::SESSION, metadata).await.map_err(broke)?;
    let mut there = hyper_util::rt::TokioIo::new(there);
    tokio::io::copy_bidirectional(&mut pipe, &mut there).await.map(drop).map_err(broke)
}

async fn serve(pipe: DuplexStream, lending: Lending, arriving: Arriving) {
    let Lending { session, credentials, scratch, images, caches, vertices } = lending;
    let given = given::Given { session: Arc::clone(&session), credentials };
    // One connection, and no end of the list: the server is ended from outside.
    let one = stream::once(async { Ok::<_, std::io::Error>(pipe) });
    let connections = futures_util::StreamExt::chain(one, stream::pending());
    macro_rules! bounded {
        ($service:expr) => {
            $service.max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES)
        };
    }
    let served = tonic::transport::Server::builder()
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .add_service(bounded!(FileSyncServer::new(files::Folders {
            session: Arc::clone(&session),
            vertices
        })))
        .add_service(bounded!(FileSendServer::new(arriving)))
        .add_service(bounded!(AuthServer::new(given.clone())))
        .add_service(bounded!(SecretsServer::new(given.clone())))
        .add_service(bounded!(HealthServer::new(given)))
        .add_service(bounded!(SshServer::new(ssh::Agents { session: Arc::clone(&session), scratch })))
        .add_service(bounded!(UploadServer::new(content::Uploads { session: Arc::clone(&session) })))
        .add_service(bounded!(ContentServer::new(content::Layouts { session, images, caches })))
        .serve_with_incoming(connections)
        .await;
    if let Err(error) = served {
        tracing::debug!(error = rb_diag::chain(&error), "a session is no longer served");
    }
}

/// Values of a key that the daemon sent along, decoded where it says that they are encoded.
fn values(metadata: &tonic::metadata::MetadataMap, key: &str) -> Result<Vec<String>, Status> {
    let is_encoded =
        metadata.get(format!("{key}-encoded")).is_some_and(|value| value == "1" || value == "true");
    let wrong = || Status::invalid_argument(format!("`{key}` is no text"));
    let decode = |value: &MetadataValue<tonic::metadata::Ascii>| {
        let text = std::str::from_utf8(value.as_bytes()).map_err(|_| wrong())?;
        if !is_encoded {
            return Ok(text.to_owned());
        }
        let text = text.replace('+', " ");
        let decoded = percent_encoding::percent_decode_str(&text).decode_utf8();
        decoded.map(std::borrow::Cow::into_owned).map_err(|_| wrong())
    };
    metadata.get_all(key).iter().map(decode).collect()
}

/// A stream of answers that is fed from elsewhere.
pub(crate) type Fed<T> = tokio_stream::wrappers::ReceiverStream<Result<T, Status>>;

/// Pieces of a reader as messages, from a thread of its own; it ends when nobody takes them.
fn pieces<T: Send + 'static>(
    mut reader: impl std::io::Read + Send + 'static,
    mut message: impl FnMut(Bytes) -> T + Send + 'static,
) -> Fed<T> {
    let (sender, receiver) = tokio::sync::mpsc::channel(8);
    tokio::task::spawn_blocking(move || {
        let mut piece = vec![0; 256 << 10];
        loop {
            let sent = match reader.read(&mut piece) {
                Ok(0) => return,
                Ok(length) => Ok(message(Bytes::copy_from_slice(&piece[..length]))),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => Err(Status::data_loss(error.to_string())),
            };
            let is_last = sent.is_err();
            if sender.blocking_send(sent).is_err() || is_last {
                return;
            }
        }
    });
    Fed::new(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_where_they_say_so() {
        let mut metadata = tonic::metadata::MetadataMap::new();
        metadata.append("include-patterns", "a%20b".parse().expect("a value"));
        metadata.append("include-patterns", "c".parse().expect("a value"));
        assert_eq!(values(&metadata, "include-patterns").expect("texts"), ["a%20b", "c"]);
        metadata.insert("include-patterns-encoded", "1".parse().expect("a value"));
        metadata.append("include-patterns", "%C3%BC+x".parse().expect("a value"));
        assert_eq!(values(&metadata, "include-patterns").expect("texts"), ["a b", "c", "ü x"]);
        metadata.append("include-patterns", "%FF".parse().expect("a value"));
        assert!(values(&metadata, "include-patterns").is_err());
    }
}
