//! What is told of vertices, and when.

use rb_llb::{ExecOp, SecretEnv};
use rb_session::LocalSession;

use super::*;

fn heard(pieces: Vec<StatusResponse>) -> (Vec<String>, Vertices) {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let sink = Arc::clone(&told);
    let vertices = Vertices::new(
        Arc::new(move |event: Event| {
            let text = match event.kind {
                EventKind::Added { name, .. } => format!("added {name}"),
                EventKind::Started => "started".to_owned(),
                EventKind::Cached { .. } => "cached".to_owned(),
                EventKind::Done { duration } => format!("done {}", duration.as_secs()),
                EventKind::Failed { message } => format!("failed {message}"),
                EventKind::Log { bytes, .. } => format!("log {}", String::from_utf8_lossy(&bytes)),
                EventKind::Progress(progress) => format!("{} {}", progress.doing, progress.current),
                other => format!("{other:?}"),
            };
            sink.lock().expect("nobody panics").push(text);
        }),
        Arc::new(LocalSession::default()),
        false,
    );
    pieces.into_iter().for_each(|piece| vertices.hear("one", piece));
    (told.lock().expect("nobody panics").clone(), vertices)
}

fn vertex(cached: bool, started: Option<i64>, completed: Option<i64>, error: &str) -> StatusResponse {
    let time = |seconds| Timestamp { seconds, nanos: 0 };
    let vertex = Vertex {
        digest: Digest::of("a").to_string(),
        name: "RUN x".into(),
        cached,
        started: started.map(time),
        completed: completed.map(time),
        error: error.into(),
        ..Vertex::default()
    };
    StatusResponse { vertexes: vec![vertex], ..StatusResponse::default() }
}

#[test]
fn a_vertex_is_added_once_and_ends_once() {
    let run = vec![
        vertex(false, None, None, ""),
        vertex(false, Some(5), None, ""),
        vertex(false, Some(5), None, ""),
        vertex(false, Some(5), Some(7), ""),
        vertex(true, Some(8), Some(8), ""),
    ];
    assert_eq!(heard(run).0, ["added RUN x", "started", "done 2"]);
    assert_eq!(heard(vec![vertex(true, Some(1), Some(1), "")]).0, ["added RUN x", "cached"]);
    assert_eq!(heard(vec![vertex(false, Some(9), Some(1), "")]).0, ["added RUN x", "started", "done 0"]);
    let (told, vertices) =
        heard(vec![vertex(false, Some(1), Some(1), "boom"), vertex(false, None, None, "again")]);
    assert_eq!(told, ["added RUN x", "failed boom"]);
    assert!(vertices.has_failed(&Digest::of("a")));
}

#[test]
fn last_lines_are_kept_however_they_come_and_strangers_are_passed_over() {
    let log = |vertex: &str, text: &'static str| StatusResponse {
        logs: vec![VertexLog {
            vertex: vertex.to_owned(),
            stream: 1,
            msg: text.into(),
            ..VertexLog::default()
        }],
        ..StatusResponse::default()
    };
    let digest = Digest::of("a").to_string();
    let mut pieces = vec![log("nonsense", "x")];
    pieces.extend((0..50).map(|_| log(&digest, "line\n")));
    pieces.extend([log(&digest, "la"), log(&digest, "st")]);
    let (told, vertices) = heard(pieces);
    assert_eq!(told.len(), 53);
    // The daemon says it once more in the next build.
    vertices.hear("two", log(&digest, "line\n"));
    let tail = vertices.failed(&Digest::of("a"), "gone").tail;
    assert_eq!((tail.len(), tail.last().map(String::as_str)), (TAIL_LINES, Some("last")));
}

#[test]
fn values_of_secrets_are_struck_out_however_they_come() {
    let told: Arc<Mutex<String>> = Arc::default();
    let sink = Arc::clone(&told);
    let hears = move |event: Event| {
        if let EventKind::Log { bytes, .. } = event.kind {
            sink.lock().expect("nobody panics").push_str(&String::from_utf8_lossy(&bytes));
        }
    };
    let session = LocalSession::default().with_secret("token", Secret::new("hunter2"));
    let vertices = Vertices::new(Arc::new(hears), Arc::new(session), false);
    let wanted = SecretEnv { id: "token".into(), name: "TOKEN".into(), optional: false };
    vertices.note_secrets(&Op::Exec(ExecOp { secret_env: vec![wanted], ..ExecOp::default() }));
    for text in ["said hun", "ter2 and hunt", "er2\nhunte"] {
        let log = VertexLog {
            vertex: Digest::of("a").to_string(),
            stream: 1,
            msg: Bytes::from_static(text.as_bytes()),
            ..VertexLog::default()
        };
        vertices.hear("one", StatusResponse { logs: vec![log], ..StatusResponse::default() });
    }
    assert_eq!(*told.lock().expect("nobody panics"), "said *** and ***\n");
    vertices.hear("one", vertex(false, Some(1), Some(2), ""));
    assert_eq!(*told.lock().expect("nobody panics"), "said *** and ***\nhunte");
    assert_eq!(vertices.failed(&Digest::of("a"), "late").tail, ["said *** and ***", "hunte"]);
}
