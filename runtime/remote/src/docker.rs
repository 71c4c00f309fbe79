//! Docker's own daemon, which has BuildKit in it: its socket speaks HTTP/1.1, and a request that asks for it becomes a connection.
//!
//! `POST /grpc` leads to BuildKit's services, `POST /session` to a session of a client, whose headers stand in the request. Source: docker's
//! API as its own client for builds uses it.
//! **Invariant:** nothing but an answer 101 is taken for a connection.

use std::io;
use std::path::{Path, PathBuf};

use hyper::header::{CONNECTION, HOST, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tonic::metadata::MetadataMap;

/// Where Docker's daemon listens unless somebody has it listen elsewhere.
pub(crate) const USUAL_SOCKET: &str = "/var/run/docker.sock";

/// Where its BuildKit answers.
pub(crate) const SERVICES: &str = "/grpc";
/// Where a client lends what it has.
pub(crate) const SESSION: &str = "/session";

/// What a connection becomes.
const PROTOCOL: &str = "h2c";

/// Tells whether a socket is Docker's by its name: what listens there speaks another protocol than BuildKit's own daemon.
pub(crate) fn is_its_socket(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "docker.sock")
}

/// Connects to a place of the daemon, with the metadata of a session as headers.
pub(crate) async fn dial(
    socket: PathBuf,
    place: &'static str,
    metadata: MetadataMap,
) -> io::Result<Upgraded> {
    upgraded(UnixStream::connect(socket).await?, place, metadata).await
}

/// Asks for such a connection on a stream.
pub(crate) async fn upgraded(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    place: &'static str,
    metadata: MetadataMap,
) -> io::Result<Upgraded> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // It ends with the connection that comes of it.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to Docker ended");
        }
    });
    let mut request = Request::post(place).body(String::new()).map_err(io::Error::other)?;
    *request.headers_mut() = metadata.into_headers();
    for (name, value) in [(HOST, "docker"), (CONNECTION, "Upgrade"), (UPGRADE, PROTOCOL)] {
        request.headers_mut().insert(name, hyper::header::HeaderValue::from_static(value));
    }
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    match response.status() {
        StatusCode::SWITCHING_PROTOCOLS => hyper::upgrade::on(response).await.map_err(io::Error::other),
        status => Err(io::Error::other(format!("Docker answers `{status}` to `POST {place}`"))),
    }
}
