//! Progress as BuildKit's own stream, for programs that read that of `docker buildx build --progress=rawjson`.
//!
//! In: events. Out: lines of JSON, each a `SolveStatus`: `vertexes` (what is built), `statuses` (how far a vertex is with one
//! thing), `logs` (bytes in base64), `warnings`; times are RFC 3339 in UTC. A vertex is told whole each time something of it
//! changes: begun, found in the cache, done, failed; with the vertices that it needs. What readers do not need to show it is left
//! out: `progressGroup`.
//! **Invariant:** a vertex is told before anything else is said of it, and what began of it ends with it.
//! Source: BuildKit, client/graph.go, and util/progress/progressui for what readers make of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use humantime::format_rfc3339_nanos;
use rb_api::{Event, EventKind, LogStream, Progress};
use rb_oci::Digest;
use serde_json::{Map, Value, json};

use super::amount::is_complete;
use super::queue::Skipped;
use super::{Renderer, Size};

/// What BuildKit says of a vertex that nobody wants any more; readers know it by these words.
const CANCELLED: &str = "context canceled";

/// The renderer.
pub(super) struct RawJson {
    start: Instant,
    /// What time it was then, since 1970.
    wall: Duration,
    vertices: BTreeMap<Digest, Vertex>,
}

/// What was told of a vertex.
#[derive(Debug, Default)]
struct Vertex {
    name: String,
    inputs: Vec<Digest>,
    started: Option<String>,
    completed: Option<String>,
    is_cached: bool,
    error: Option<String>,
    /// What it is at, since when, and the last that was told of it.
    open: Option<(Progress, String)>,
}

impl Vertex {
    fn line(&self, digest: &Digest) -> Value {
        let mut line = Map::new();
        line.insert("digest".to_owned(), json!(digest));
        if !self.inputs.is_empty() {
            line.insert("inputs".to_owned(), json!(self.inputs));
        }
        let texts = [
            ("name", Some(&self.name)),
            ("started", self.started.as_ref()),
            ("completed", self.completed.as_ref()),
        ];
        for (key, text) in texts {
            line.extend(text.filter(|text| !text.is_empty()).map(|text| (key.to_owned(), json!(text))));
        }
        if self.is_cached {
            line.insert("cached".to_owned(), json!(true));
        }
        line.extend(self.error.as_ref().map(|error| ("error".to_owned(), json!(error))));
        Value::Object(line)
    }

    /// Ends it, and what it was at.
    fn end(&mut self, digest: &Digest, now: &str, out: &mut Vec<u8>) {
        self.close(digest, now, out);
        self.completed = Some(now.to_owned());
        write(out, "vertexes", self.line(digest));
    }

    /// Ends what it is at.
    fn close(&mut self, digest: &Digest, now: &str, out: &mut Vec<u8>) {
        if let Some((progress, started)) = self.open.take() {
            write(out, "statuses", status(digest, &progress, &started, now, true));
        }
    }
}

fn status(vertex: &Digest, progress: &Progress, started: &str, now: &str, is_done: bool) -> Value {
    let mut line = json!({
        "id": progress.doing, "vertex": vertex, "current": progress.current, "timestamp": now, "started": started,
    });
    if let Some(total) = progress.total.filter(|total| *total > 0) {
        line["total"] = json!(total);
    }
    if is_done {
        line["completed"] = json!(now);
    }
    line
}

fn write(out: &mut Vec<u8>, key: &str, value: Value) {
    out.extend_from_slice(line(key, value).as_bytes());
}

fn line(key: &str, value: Value) -> String {
    format!("{}\n", json!({ key: [value] }))
}

impl RawJson {
    /// Begins at an instant, at which it is `wall` since 1970.
    pub(super) fn new(start: Instant, wall: Duration) -> Self {
        Self { start, wall, vertices: BTreeMap::new() }
    }

    fn time(&self, at: Instant) -> String {
        format_rfc3339_nanos(UNIX_EPOCH + self.wall + at.saturating_duration_since(self.start)).to_string()
    }

    fn log(&mut self, vertex: &Digest, stream: u8, bytes: &[u8], now: &str, out: &mut Vec<u8>) {
        self.begin(vertex, now, out);
        let log =
            json!({ "vertex": vertex, "stream": stream, "data": STANDARD.encode(bytes), "timestamp": now });
        write(out, "logs", log);
    }

    /// Says that a vertex is at work, if it is not known to be or to have been.
    fn begin(&mut self, digest: &Digest, now: &str, out: &mut Vec<u8>) -> &mut Vertex {
        let vertex = self.vertices.entry(*digest).or_default();
        if vertex.started.is_none() {
            vertex.started = Some(now.to_owned());
            write(out, "vertexes", vertex.line(digest));
        }
        vertex
    }
}

impl Renderer for RawJson {
    fn event(&mut self, event: &Event, now: Instant, out: &mut Vec<u8>) {
        let (digest, now) = (&event.vertex, &*self.time(now));
        match &event.kind {
            EventKind::Added { name, step: _, inputs } => {
                let vertex = self.vertices.entry(*digest).or_default();
                vertex.name.clone_from(name);
                vertex.inputs.clone_from(inputs);
                write(out, "vertexes", vertex.line(digest));
            }
            EventKind::Keyed { .. } | EventKind::Missed { .. } | EventKind::Shared { .. } => {}
            EventKind::Started => {
                self.begin(digest, now, out);
            }
            EventKind::Cached { .. } => {
                let vertex = self.vertices.entry(*digest).or_default();
                vertex.started.get_or_insert_with(|| now.to_owned());
                vertex.is_cached = true;
                vertex.end(digest, now, out);
            }
            EventKind::Log { stream, bytes } => {
                let stream = match stream {
                    LogStream::Stdout => 1,
                    LogStream::Stderr => 2,
                };
                self.log(digest, stream, bytes, now, out);
            }
            EventKind::Progress(progress) => {
                let vertex = self.begin(digest, now, out);
                if vertex.open.as_ref().is_some_and(|(open, _)| open.doing != progress.doing) {
                    vertex.close(digest, now, out);
                }
                let started = vertex.open.take().map_or_else(|| now.to_owned(), |(_, started)| started);
                let is_done = is_complete(progress);
                write(out, "statuses", status(digest, progress, &started, now, is_done));
                // One that ended is not ended again with its vertex.
                vertex.open = (!is_done && vertex.completed.is_none()).then(|| (progress.clone(), started));
            }
            EventKind::Done { .. } => self.begin(digest, now, out).end(digest, now, out),
            EventKind::Failed { message } => {
                let vertex = self.begin(digest, now, out);
                vertex.error = Some(message.clone());
                vertex.end(digest, now, out);
            }
            EventKind::Cancelled => {
                // Of what never began there is nothing to be seen.
                if let Some(vertex) = self.vertices.get_mut(digest).filter(|vertex| vertex.started.is_some())
                {
                    vertex.error = Some(CANCELLED.to_owned());
                    vertex.end(digest, now, out);
                }
            }
        }
    }

    fn skipped(&mut self, vertex: &Digest, skipped: Skipped, now: Instant, out: &mut Vec<u8>) {
        let Skipped { lines, bytes } = skipped;
        let now = self.time(now);
        let told = format!("[{lines} lines, {bytes} bytes are left out here; `rb logs` has them]\n");
        self.log(vertex, 2, told.as_bytes(), &now, out);
    }

    fn finish(&mut self, _now: Instant, _size: Size, _out: &mut Vec<u8>) {}
}

/// A warning as BuildKit's stream has it.
#[derive(Debug, Default)]
pub(crate) struct RawWarning<'a> {
    /// In one line.
    pub(crate) short: String,
    /// More about it.
    pub(crate) detail: Option<&'a str>,
    /// Where still more stands.
    pub(crate) url: Option<String>,
    /// The file it is about, its text, and the line in it.
    pub(crate) place: Option<(&'a str, &'a str, u32)>,
}

impl RawWarning<'_> {
    /// Returns the line. It belongs to no vertex of the build: one that stands for the look at the file is told with it.
    pub(crate) fn line(&self) -> String {
        let warning = self.value();
        let Some((file, ..)) = &self.place else { return self::line("warnings", warning) };
        let name = format!("[internal] check {file}");
        let told =
            json!({ "vertexes": [{ "digest": warning["vertex"], "name": name }], "warnings": [warning] });
        format!("{told}\n")
    }

    /// Returns the warning alone.
    pub(crate) fn value(&self) -> Value {
        let Self { short, detail, url, place } = self;
        let mut warning = json!({ "level": 1, "short": STANDARD.encode(short) });
        if let Some(detail) = detail {
            warning["detail"] = json!([STANDARD.encode(detail)]);
        }
        if let Some(url) = url {
            warning["url"] = json!(url);
        }
        let Some((file, text, line)) = place else { return warning };
        warning["vertex"] = json!(Digest::of(format!("warnings of {file}")));
        warning["sourceInfo"] =
            json!({ "filename": file, "data": STANDARD.encode(text), "language": "Dockerfile" });
        warning["range"] = json!([{ "start": { "line": line }, "end": { "line": line } }]);
        warning
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rb_api::CacheKey;

    fn lines(events: Vec<(u64, EventKind)>) -> Vec<Value> {
        let start = Instant::now();
        let mut raw = RawJson::new(start, Duration::from_secs(1_000_000_000));
        let mut out = Vec::new();
        for (millis, kind) in events {
            raw.event(
                &Event { vertex: Digest::of("v"), kind },
                start + Duration::from_millis(millis),
                &mut out,
            );
        }
        let text = String::from_utf8(out).expect("UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn added() -> EventKind {
        EventKind::Added { name: "[a 1/2] RUN x".to_owned(), step: true, inputs: vec![Digest::of("base")] }
    }

    /// As `+0.007` of the second that tests begin in.
    fn at(millis: u64) -> String {
        format!("2001-09-09T01:46:40.{millis:03}000000Z")
    }

    #[test]
    fn a_step_is_told_as_buildkit_tells_it() {
        let log = |stream, bytes: &'static [u8]| EventKind::Log { stream, bytes: bytes.into() };
        let told = lines(vec![
            (0, added()),
            (1, EventKind::Started),
            (2, log(LogStream::Stdout, b"a\xff\n")),
            (3, log(LogStream::Stderr, b"b")),
            (4, EventKind::Done { duration: Duration::from_millis(3) }),
        ]);
        let vertex = json!(Digest::of("v"));
        let named = |more: Value| {
            let mut line =
                json!({ "digest": vertex, "inputs": [Digest::of("base")], "name": "[a 1/2] RUN x" });
            line.as_object_mut().expect("is one").extend(more.as_object().expect("is one").clone());
            json!({ "vertexes": [line] })
        };
        let log = |stream, data, millis| json!({ "logs": [{ "vertex": vertex, "stream": stream, "data": data, "timestamp": at(millis) }] });
        assert_eq!(
            told,
            [
                named(json!({})),
                named(json!({ "started": at(1) })),
                log(1, "Yf8K", 2),
                log(2, "Yg==", 3),
                named(json!({ "started": at(1), "completed": at(4) })),
            ]
        );
    }

    #[test]
    fn what_a_vertex_is_at_ends_with_it_or_with_the_next() {
        let far = |doing, current, total| EventKind::Progress(Progress::bytes(doing, current, total));
        let told = lines(vec![
            (0, added()),
            (1, far("fetching", 1, Some(4))),
            (2, far("fetching", 4, Some(4))),
            (3, far("unpacking", 1, None)),
            (4, far("copying", 7, None)),
            (5, EventKind::Cached { key: CacheKey::Fast, from: None }),
        ]);
        // What is looked at before it begins is work for those who look on.
        assert_eq!(told[1]["vertexes"][0]["started"], json!(at(1)));
        let status = |at: usize| {
            let status = &told[at]["statuses"][0];
            let is_done = status["completed"] == status["timestamp"];
            (status["id"].as_str().unwrap_or_default(), status["current"].as_u64(), is_done)
        };
        let of: Vec<_> = (2..8).map(status).collect();
        assert_eq!(
            of,
            [
                ("fetching", Some(1), false),
                ("fetching", Some(4), true),
                ("unpacking", Some(1), false),
                ("unpacking", Some(1), true),
                ("copying", Some(7), false),
                ("copying", Some(7), true),
            ]
        );
        assert_eq!(told[2]["statuses"][0]["total"], 4);
        assert_eq!(told[3]["statuses"][0]["started"], json!(at(1)));
        let end = &told[8]["vertexes"][0];
        assert_eq!((&end["cached"], &end["completed"]), (&json!(true), &json!(at(5))));
        assert_eq!(told.len(), 9);
    }

    #[test]
    fn failures_have_their_words_and_what_never_began_no_end() {
        let told = lines(vec![(0, added()), (1, EventKind::Failed { message: "exit code 3".to_owned() })]);
        assert_eq!(told.last().expect("told")["vertexes"][0]["error"], "exit code 3");
        let told = lines(vec![(0, added()), (1, EventKind::Cancelled)]);
        assert_eq!(told.len(), 1);
        let told = lines(vec![(0, added()), (1, EventKind::Started), (2, EventKind::Cancelled)]);
        assert_eq!(told.last().expect("told")["vertexes"][0]["error"], CANCELLED);
    }

    #[test]
    fn warnings_name_file_and_line() {
        let place = Some(("a/Dockerfile", "from x\n", 1));
        let warning =
            RawWarning { short: "S".to_owned(), detail: Some("D"), url: Some("U".to_owned()), place };
        let line: Value = warning.line().parse().expect("JSON");
        let told = &line["warnings"][0];
        assert_eq!(
            (&told["short"], &told["detail"], &told["url"]),
            (&json!("Uw=="), &json!(["RA=="]), &json!("U"))
        );
        assert_eq!(told["range"][0]["start"]["line"], 1);
        assert_eq!(told["sourceInfo"]["data"], "ZnJvbSB4Cg==");
        assert_eq!(told["vertex"], line["vertexes"][0]["digest"]);
        let bare = RawWarning { short: "S".to_owned(), ..RawWarning::default() }.line();
        assert_eq!(
            bare.parse::<Value>().expect("JSON"),
            json!({ "warnings": [{ "level": 1, "short": "Uw==" }] })
        );
    }
}
