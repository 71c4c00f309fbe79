use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::JoinHandle;

use super::*;

/// Answers one request after another, and returns what it was asked.
fn daemon(socket: &Path, answers: Vec<(&'static str, String)>) -> JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(socket).expect("listens");
    std::thread::spawn(move || {
        let mut asked = Vec::new();
        for (status, body) in answers {
            let (stream, _) = listener.accept().expect("accepts");
            let mut input = BufReader::new(&stream);
            let mut line = String::new();
            input.read_line(&mut line).expect("reads");
            asked.push(line.trim_end().to_owned());
            let mut chunked = false;
            loop {
                line.clear();
                input.read_line(&mut line).expect("reads");
                chunked |= line.starts_with("Transfer-Encoding");
                if line == "\r\n" {
                    break;
                }
            }
            while chunked {
                line.clear();
                input.read_line(&mut line).expect("reads");
                let size = usize::from_str_radix(line.trim(), 16).expect("a size");
                let mut chunk = vec![0; size + 2];
                input.read_exact(&mut chunk).expect("reads");
                chunked = size > 0;
            }
            write!(&stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
                .expect("writes");
        }
        asked
    })
}

#[test]
fn it_is_asked_for_the_layers_it_has() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let socket = dir.path().join("docker.sock");
    let (a, b) = (Digest::of("a"), Digest::of("b"));
    let asked = daemon(
        &socket,
        vec![
            ("200 OK", r#"{"DriverStatus":[["Backing Filesystem","extfs"]]}"#.to_owned()),
            ("200 OK", r#"[{"Id":"sha256:1"},{"Id":"sha256:2"}]"#.to_owned()),
            ("200 OK", format!(r#"{{"RootFS":{{"Type":"layers","Layers":["{a}","{b}"]}}}}"#)),
            ("404 Not Found", r#"{"message":"no such image"}"#.to_owned()),
            ("200 OK", r#"{"DriverStatus":[["driver-type","io.containerd.snapshotter.v1"]]}"#.to_owned()),
        ],
    );
    let known = Daemon::new(socket.clone()).known_layers().expect("answers");
    assert_eq!(known, chain_ids(&[a, b]).into_iter().collect());
    assert!(Daemon::new(socket).known_layers().expect("answers").is_empty(), "containerd wants all");
    let asked = asked.join().expect("answered");
    assert_eq!(asked[3], "GET /images/sha256:2/json HTTP/1.1");
}

#[test]
fn sockets_are_looked_for_where_they_are() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(dir.path().join("docker.sock"), "").expect("writes");
    let places = |loader, host: Option<&str>| LoadPlaces {
        loader,
        docker_host: host.map(str::to_owned),
        runtime_directory: Some(dir.path().to_owned()),
        containerd_address: None,
    };
    let found = socket(&places(None, Some("unix:///x/d.sock"))).expect("is one");
    assert_eq!(found, Some("/x/d.sock".into()));
    assert_eq!(socket(&places(None, Some("tcp://x"))).expect("is none of ours"), None);
    socket(&places(Some(Loader::Docker), Some("tcp://x"))).expect_err("is refused by name");
    if !Path::new(SOCKET).exists() {
        assert_eq!(socket(&places(None, None)).expect("looks"), Some(dir.path().join("docker.sock")));
    }
}

#[test]
fn what_it_refuses_is_told_in_its_words() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("docker.sock");
    let asked = daemon(&path, vec![("500 Internal Server Error", r#"{"message":"no room"}"#.to_owned())]);
    let error = Daemon::new(path.clone()).known_layers().expect_err("is refused");
    assert!(error.to_string().contains("no room"), "{error}");
    asked.join().expect("answered");
    let error = Daemon::new(dir.path().join("none")).known_layers().expect_err("is not there");
    assert!(matches!(error, EngineError::Docker { .. }) && error.help().is_some(), "{error}");
}
