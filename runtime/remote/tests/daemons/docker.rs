//! Docker's own daemon, played by a server that speaks its upgrade, before a real buildkitd.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use rb_api::{Engine as _, SolveRequest};
use rb_frontend::{Answer, Query};
use rb_session::LocalSession;
use rb_wire::control::BytesMessage;
use rb_wire::control::control_client::ControlClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataKey, MetadataValue};

use crate::real::{Context, Daemon, base, local_export, marshalled, root, run};
use crate::support::{Told, engine, options};

/// Serves connections at `socket` as Docker does; BuildKit is at `buildkit`.
fn serve(socket: &Path, buildkit: PathBuf) {
    let listener = UnixListener::bind(socket).expect("binds");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let buildkit = buildkit.clone();
            // A client that goes away is no fault of the server's.
            tokio::spawn(async move { drop(one(stream, buildkit).await) });
        }
    });
}

/// Reads the head of a request: its first line, and its headers in small letters.
async fn head(stream: &mut UnixStream) -> io::Result<(String, Vec<(String, String)>)> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") && bytes.len() < 1 << 14 {
        bytes.push(stream.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default().to_owned();
    let header = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        Some((name.to_ascii_lowercase(), value.to_owned()))
    };
    Ok((first, lines.filter_map(header).collect()))
}

async fn one(mut stream: UnixStream, buildkit: PathBuf) -> io::Result<()> {
    let (first, headers) = head(&mut stream).await?;
    let has = |name: &str, value: &str| {
        headers.iter().any(|(key, text)| key == name && text.eq_ignore_ascii_case(value))
    };
    if !has("connection", "upgrade") || !has("upgrade", "h2c") || !has("host", "docker") {
        return stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
    }
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    match first.as_str() {
        "POST /grpc HTTP/1.1" => {
            stream.write_all(switch).await?;
            let mut there = UnixStream::connect(buildkit).await?;
            tokio::io::copy_bidirectional(&mut stream, &mut there).await.map(drop)
        }
        "POST /session HTTP/1.1" => {
            stream.write_all(switch).await?;
            session(stream, &headers, buildkit).await
        }
        _ => stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await,
    }
}

/// Hands the bytes of a session on, as Docker does inside.
async fn session(mut stream: UnixStream, headers: &[(String, String)], buildkit: PathBuf) -> io::Result<()> {
    let dial = tower::service_fn(move |_| {
        let buildkit = buildkit.clone();
        async move { UnixStream::connect(buildkit).await.map(TokioIo::new) }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://buildkit");
    let channel = endpoint.connect_with_connector(dial).await.map_err(io::Error::other)?;
    let (sender, receiver) = mpsc::channel(8);
    let mut request = Request::new(ReceiverStream::new(receiver));
    for (name, value) in headers.iter().filter(|(name, _)| name.starts_with("x-docker-expose-session-")) {
        let name: MetadataKey<Ascii> = name.parse().map_err(io::Error::other)?;
        let value: MetadataValue<Ascii> = value.parse().map_err(io::Error::other)?;
        request.metadata_mut().append(name, value);
    }
    let mut answers =
        ControlClient::new(channel).session(request).await.map_err(io::Error::other)?.into_inner();
    let (mut reader, mut writer) = stream.split();
    let forth = async {
        let mut piece = vec![0; 1 << 14];
        while let Ok(length @ 1..) = reader.read(&mut piece).await {
            let data = Bytes::copy_from_slice(&piece[..length]);
            if sender.send(BytesMessage { data }).await.is_err() {
                return;
            }
        }
    };
    let back = async {
        while let Ok(Some(message)) = answers.message().await {
            if writer.write_all(&message.data).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = forth => {}
        () = back => {}
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_buildkit_in_docker_builds_what_its_client_lends() {
    let Some(daemon) = Daemon::start() else { return };
    let (context, folder) = (Context::new(), tempfile::tempdir().expect("a folder"));
    let socket = folder.path().join("docker.sock");
    serve(&socket, daemon.socket());
    let engine = engine(&socket, &folder.path().join("scratch"));
    assert!(!engine.about().await.expect("answers").workers.is_empty());
    let told = Told::default();
    let job = engine.job(options(Arc::new(context.session())), told.sink());
    let made = run(&base(), "echo made here; busybox cp /src/a.txt /out");
    let read = Query::ReadFile { path: "/out".into(), limit_bytes: 9 };
    assert_eq!(job.query(marshalled(&made), read).await.expect("answers"), Answer::File(b"a\n".to_vec()));
    let exports = vec![local_export("/out", &folder.path().join("got"))];
    let request = SolveRequest { roots: vec![root(&made)], exports, ..SolveRequest::default() };
    job.solve(request).await.expect("is exported");
    assert_eq!(fs::read(folder.path().join("got")).expect("reads"), b"a\n");
    assert!(told.log().contains("made here"));
}

#[tokio::test]
async fn one_without_buildkit_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("docker.sock");
    let listener = UnixListener::bind(&socket).expect("binds");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            head(&mut stream).await.ok();
            stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await.ok();
        }
    });
    let error = engine(&socket, folder.path()).about().await.expect_err("has none");
    assert!(error.to_string().contains("Docker answers `404 Not Found`"), "{error}");
    let job = engine(&socket, folder.path())
        .job(options(Arc::new(LocalSession::default())), Told::default().sink());
    assert!(job.query(marshalled(&base()), Query::List { path: "/".into() }).await.is_err());
}
