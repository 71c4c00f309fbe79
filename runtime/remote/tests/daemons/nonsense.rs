//! What a daemon tells that makes no sense: of its vertices, and of itself.

use rb_wire::control::{self, StatusResponse};

/// What no daemon tells: no digests, times of before, endless names, signs that move a cursor.
pub(crate) fn status() -> StatusResponse {
    let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: -7 });
    let vertex = |digest: &str| control::Vertex {
        digest: digest.to_owned(),
        name: "\u{1b}[2J".repeat(10_000),
        started: time(i64::MAX),
        completed: time(i64::MIN),
        ..control::Vertex::default()
    };
    let known = rb_oci::Digest::of("x").to_string();
    let status = |vertex: &str| control::VertexStatus {
        vertex: vertex.to_owned(),
        current: i64::MIN,
        total: -1,
        ..control::VertexStatus::default()
    };
    let log = |vertex: &str| control::VertexLog {
        vertex: vertex.to_owned(),
        stream: i64::MIN,
        msg: vec![b'x'; 1 << 20].into(),
        ..control::VertexLog::default()
    };
    StatusResponse {
        vertexes: vec![vertex(""), vertex("sha256:"), vertex(&known)],
        statuses: vec![status("x"), status(&known)],
        logs: vec![log("../x"), log(&known)],
        warnings: vec![control::VertexWarning { vertex: known.clone(), ..Default::default() }],
    }
}

/// A worker that would clear the screen of who is shown it.
pub(crate) fn worker() -> control::WorkerRecord {
    let label = ("org.mobyproject.buildkit.worker.executor".to_owned(), "\u{1b}[2J".repeat(10_000));
    let platform = control::Platform { os: "\r".to_owned(), ..control::Platform::default() };
    control::WorkerRecord { labels: [label].into(), platforms: vec![platform], ..Default::default() }
}

/// A version that would name the window of who is shown it.
pub(crate) fn version() -> control::BuildkitVersion {
    control::BuildkitVersion { version: "1\u{1b}]0;x\u{7}".to_owned(), ..Default::default() }
}
