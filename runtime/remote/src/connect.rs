//! The way to a daemon: a socket, Docker's own, a host by TCP with or without certificates, or a program that leads there.
//!
//! In: an [`Address`]. Out: a gRPC channel over one connection, on which BuildKit has answered. **Invariants:** who does not answer within
//! a time that people wait is told; a program that was started ends with its connection.

use std::io;
use std::os::unix::net::UnixStream as BlockingStream;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::address::{Address, Way};
use crate::build::Daemon;
use crate::docker;
use crate::error::{RemoteError, is_broken};
use crate::proof::Proof;

/// How long it may take until BuildKit has answered.
const ANSWER: Duration = Duration::from_secs(10);
/// The same behind a program, which may have to ask for a key, and begins by looking for a pod.
const ANSWER_OF_PROGRAM: Duration = Duration::from_secs(40);
/// How often it is looked whether the other side is there, and how long that may take.
const ALIVE_EVERY: Duration = Duration::from_secs(20);
const ALIVE_WITHIN: Duration = Duration::from_secs(20);
/// Much is on its way at once: a folder is sent over one stream.
const WINDOW_BYTES: u32 = 4 << 20;

/// What proves who is who over TCP; all in PEM.
#[derive(Clone, Default)]
pub struct Certificates {
    /// Who signs for the daemon; none is whom the system trusts, and without anything here nothing is encrypted.
    pub authority: Option<Vec<u8>>,
    /// Our certificate and its key.
    pub own: Option<(Vec<u8>, Vec<u8>)>,
    /// The name that the daemon proves to have, where it is not that of its address.
    pub name: Option<String>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Certificates").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Certificates {
    fn is_empty(&self) -> bool {
        self.authority.is_none() && self.own.is_none()
    }

    /// Tells whether they make sense by themselves: a certificate goes with its own key. `address` is where they are for.
    pub fn check(&self, address: &Address) -> Result<(), RemoteError> {
        if self.is_empty() {
            return Ok(());
        }
        let checked = Endpoint::from_static("https://localhost").tls_config(tls(self));
        let wrong = |error| RemoteError::Certificates {
            address: address.to_string(),
            reason: rb_diag::chain(&error),
        };
        checked.map(drop).map_err(wrong)
    }
}

/// Connects.
pub(crate) async fn connect(address: &Address, certificates: &Certificates) -> Result<Daemon, RemoteError> {
    let (limit, docker) = match address.way() {
        Way::Program(_) => (ANSWER_OF_PROGRAM, None),
        Way::Docker(path) => (ANSWER, Some(path.clone())),
        Way::Tcp { .. } | Way::Socket(_) => (ANSWER, None),
    };
    let said: Said = Arc::default();
    match tokio::time::timeout(limit, answering(address, certificates, limit, &said)).await {
        Ok(channel) => Ok(Daemon { channel: channel?, docker }),
        Err(_) => {
            let reason = with_said(format!("nobody answers within {} seconds", limit.as_secs()), &said);
            Err(RemoteError::Connect { address: address.to_string(), reason, is_bare: false })
        }
    }
}

async fn answering(
    address: &Address,
    certificates: &Certificates,
    limit: Duration,
    said: &Said,
) -> Result<Channel, RemoteError> {
    let failed =
        |reason: String| RemoteError::Connect { address: address.to_string(), reason, is_bare: false };
    let endpoint = match address.way() {
        Way::Tcp { host, port } => {
            let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            let scheme = if certificates.is_empty() { "http" } else { "https" };
            Endpoint::from_shared(format!("{scheme}://{host}:{port}"))
        }
        // The daemon does not look at the name.
        Way::Socket(_) | Way::Docker(_) | Way::Program(_) => Endpoint::from_shared("http://localhost"),
    };
    let mut endpoint = endpoint
        .map_err(|error| failed(rb_diag::chain(&error)))?
        .connect_timeout(limit)
        .http2_keep_alive_interval(ALIVE_EVERY)
        .keep_alive_timeout(ALIVE_WITHIN)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    let connected = match address.way() {
        Way::Tcp { .. } => {
            if !certificates.is_empty() {
                endpoint = endpoint.tls_config(tls(certificates)).map_err(|error| {
                    RemoteError::Certificates { address: address.to_string(), reason: rb_diag::chain(&error) }
                })?;
            }
            endpoint.connect().await
        }
        Way::Socket(path) => {
            let path = path.clone();
            let dial = tower::service_fn(move |_| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            });
            endpoint.connect_with_connector(dial).await
        }
        Way::Docker(path) => {
            let path = path.clone();
            let dial = tower::service_fn(move |_| {
                docker::dial(path.clone(), docker::SERVICES, tonic::metadata::MetadataMap::new())
            });
            endpoint.connect_with_connector(dial).await
        }
        Way::Program(words) => {
            let words = words.clone();
            let hears = Arc::clone(said);
            let dial = tower::service_fn(move |_| {
                let piped = Piped::start(&words, &hears);
                async move { piped.map(TokioIo::new) }
            });
            endpoint.connect_with_connector(dial).await
        }
    };
    let unproved = |error: &(dyn std::error::Error + 'static)| match address.way() {
        Way::Tcp { host, .. } if !certificates.is_empty() => Proof::missing(error, host)
            .map(|proof| RemoteError::Proof { address: address.to_string(), proof }),
        Way::Tcp { .. } | Way::Socket(_) | Way::Docker(_) | Way::Program(_) => None,
    };
    let channel = match connected {
        Ok(channel) => channel,
        Err(error) => {
            heard(address, said).await;
            let words = || failed(with_said(rb_diag::chain(&error), said));
            return Err(unproved(&error).unwrap_or_else(words));
        }
    };
    // Who speaks something else, a program that ends at once, and who refuses our certificate, have connected for a moment: whether
    // BuildKit answers shows only when asked.
    let mut client = rb_wire::control::control_client::ControlClient::new(channel.clone());
    match client.list_workers(rb_wire::control::ListWorkersRequest::default()).await {
        Ok(_) => Ok(channel),
        Err(status) => {
            heard(address, said).await;
            let hung_up = || {
                // Who we are is looked at after the handshake, and the alert that says no is lost with the connection.
                let is_shown = matches!(address.way(), Way::Tcp { .. }) && !certificates.is_empty();
                let address = address.to_string();
                let proof = Proof::HungUp { shown: certificates.own.is_some() };
                (is_broken(&status) && is_shown).then_some(RemoteError::Proof { address, proof })
            };
            let is_bare =
                is_broken(&status) && matches!(address.way(), Way::Tcp { .. }) && certificates.is_empty();
            Err(unproved(&status).or_else(hung_up).unwrap_or_else(|| {
                let words = crate::error::said(&status);
                let reason = with_said(format!("no BuildKit answers there: {words}"), said);
                RemoteError::Connect { address: address.to_string(), reason, is_bare }
            }))
        }
    }
}

/// Waits a moment for what a program says that has ended: its words come by another way than the end.
async fn heard(address: &Address, said: &Said) {
    for _ in 0..25 {
        let is_heard = !said.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        if is_heard || !matches!(address.way(), Way::Program(_)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn with_said(reason: String, said: &Said) -> String {
    let said = said.lock().unwrap_or_else(PoisonError::into_inner);
    // Who speaks to a terminal ends its lines with a return, too.
    let words: String = String::from_utf8_lossy(&said)
        .chars()
        .filter(|letter| !letter.is_control() || *letter == '\n')
        .collect();
    let words = words.trim();
    if words.is_empty() { reason } else { format!("{words} ({reason})") }
}

fn tls(certificates: &Certificates) -> ClientTlsConfig {
    let mut config = ClientTlsConfig::new();
    config = match &certificates.authority {
        Some(authority) => config.ca_certificate(Certificate::from_pem(authority)),
        None => config.with_native_roots(),
    };
    if let Some((certificate, key)) = &certificates.own {
        config = config.identity(Identity::from_pem(certificate, key));
    }
    match &certificates.name {
        Some(name) => config.domain_name(name),
        None => config,
    }
}

/// The last that a program said on its error stream.
type Said = Arc<Mutex<Vec<u8>>>;

/// So much of it is kept.
const SAID_BYTES: usize = 2_000;

/// A program whose standard input and output are a connection.
struct Piped {
    stream: UnixStream,
    child: Child,
}

impl Piped {
    fn start(words: &[String], said: &Said) -> io::Result<Self> {
        let (ours, theirs) = BlockingStream::pair()?;
        ours.set_nonblocking(true)?;
        let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs.try_clone()?)))
            .stdout(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("`{program}` cannot be run: {error}")))?;
        if let Some(mut stderr) = child.stderr.take() {
            let said = Arc::clone(said);
            std::thread::Builder::new().name("engine's words".to_owned()).spawn(move || {
                let mut piece = [0; 512];
                while let Ok(length @ 1..) = io::Read::read(&mut stderr, &mut piece) {
                    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                    let room = SAID_BYTES.saturating_sub(said.len());
                    said.extend_from_slice(&piece[..length.min(room)]);
                }
            })?;
        }
        Ok(Self { stream: UnixStream::from_std(ours)?, child })
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl AsyncRead for Piped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Piped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
