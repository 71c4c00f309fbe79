//! Progress as one JSON object per line, for programs.
//!
//! Every line has `event`, `vertex` and `at_ms` (since the start); further fields by event: `name` and `step`
//! (`added`), `key` (`cached`: `fast`, `content` or `slow`), `reason` and `miss` (`missed`: in words, and as an object with
//! `why` and what belongs to that, see [`rb_api::Miss`]), `with` (`shared`), `stream` and `text` (`log`; bytes that are not UTF-8 become U+FFFD), `doing` (`copying`,
//! `packing layer 2 of 6`), `current` and `total` in bytes, and where files are counted `files` and `total_files` (`progress`; totals
//! are null where they are not known), `duration_ms` (`done`), `message` (`failed`), `lines` and `bytes` (`skipped`: output that came faster
//! than it was read here; its log on disk is whole). Lines of other kinds: [`crate::report`].

use std::time::Instant;

use rb_api::{Event, EventKind, LogStream, Progress};
use rb_oci::Digest;
use serde_json::{Value, json};

use super::queue::Skipped;
use super::{Renderer, Size};

/// The renderer.
pub(super) struct Json {
    start: Instant,
}

impl Json {
    pub(super) fn new(start: Instant) -> Self {
        Self { start }
    }

    fn line(&self, name: &str, vertex: &Digest, more: Value, now: Instant, out: &mut Vec<u8>) {
        let mut line = json!({
            "event": name,
            "vertex": vertex.to_string(),
            "at_ms": now.saturating_duration_since(self.start).as_millis() as u64,
        });
        if let (Value::Object(line), Value::Object(more)) = (&mut line, more) {
            line.extend(more);
        }
        out.extend_from_slice(line.to_string().as_bytes());
        out.push(b'\n');
    }
}

impl Renderer for Json {
    fn event(&mut self, event: &Event, now: Instant, out: &mut Vec<u8>) {
        let (name, more) = match &event.kind {
            EventKind::Added { name, step, inputs: _ } => ("added", json!({ "name": name, "step": step })),
            EventKind::Keyed { .. } => return,
            EventKind::Cached { key, from } => {
                let mut more = json!({ "key": key });
                if let Some(from) = from {
                    more["from"] = json!(from.as_ref());
                }
                ("cached", more)
            }
            EventKind::Missed { reason } => ("missed", json!({ "reason": reason.text, "miss": reason.miss })),
            EventKind::Shared { with } => ("shared", json!({ "with": with })),
            EventKind::Started => ("started", json!({})),
            EventKind::Log { stream, bytes } => {
                let stream = match stream {
                    LogStream::Stdout => "stdout",
                    LogStream::Stderr => "stderr",
                };
                ("log", json!({ "stream": stream, "text": String::from_utf8_lossy(bytes) }))
            }
            EventKind::Progress(Progress { doing, current, total, files }) => {
                let mut more = json!({ "doing": doing, "current": current, "total": total });
                if let Some((done, all)) = files {
                    (more["files"], more["total_files"]) = (json!(done), json!(all));
                }
                ("progress", more)
            }
            EventKind::Done { duration } => ("done", json!({ "duration_ms": duration.as_millis() as u64 })),
            EventKind::Failed { message } => ("failed", json!({ "message": message })),
            EventKind::Cancelled => ("cancelled", json!({})),
        };
        self.line(name, &event.vertex, more, now, out);
    }

    fn skipped(&mut self, vertex: &Digest, skipped: Skipped, now: Instant, out: &mut Vec<u8>) {
        let Skipped { lines, bytes } = skipped;
        self.line("skipped", vertex, json!({ "lines": lines, "bytes": bytes }), now, out);
    }

    fn finish(&mut self, _now: Instant, _size: Size, _out: &mut Vec<u8>) {}
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use rb_api::{CacheKey, CacheVerdict, Miss};

    #[test]
    fn each_event_is_one_line_of_json() {
        let start = Instant::now();
        let mut json = Json::new(start);
        let mut out = Vec::new();
        let vertex = Digest::of("v");
        for kind in [
            EventKind::Added { name: "+a | RUN x".to_owned(), step: true, inputs: Vec::new() },
            EventKind::Missed {
                reason: CacheVerdict {
                    miss: Miss::Gone { because: None, at_unix: Some(7) },
                    text: "gone".to_owned(),
                },
            },
            EventKind::Cached { key: CacheKey::Slow, from: None },
            EventKind::Log { stream: LogStream::Stderr, bytes: b"a\nb\xff".to_vec().into() },
            EventKind::Progress(Progress::bytes("unpacking", 5, None)),
            EventKind::Progress(Progress {
                files: Some((1, Some(2))),
                ..Progress::bytes("copying", 5, Some(6))
            }),
            EventKind::Done { duration: Duration::from_millis(12) },
        ] {
            json.event(&Event { vertex, kind }, start + Duration::from_millis(7), &mut out);
        }
        let text = String::from_utf8(out).expect("UTF-8");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let common = json!({ "vertex": vertex.to_string(), "at_ms": 7 });
        for (line, expected) in lines.iter().zip([
            json!({ "event": "added", "name": "+a | RUN x", "step": true }),
            json!({
                "event": "missed", "reason": "gone",
                "miss": { "why": "gone", "because": null, "at_unix": 7 },
            }),
            json!({ "event": "cached", "key": "slow" }),
            json!({ "event": "log", "stream": "stderr", "text": "a\nb\u{fffd}" }),
            json!({ "event": "progress", "doing": "unpacking", "current": 5, "total": null }),
            json!({
                "event": "progress", "doing": "copying", "current": 5, "total": 6, "files": 1, "total_files": 2,
            }),
            json!({ "event": "done", "duration_ms": 12 }),
        ]) {
            let mut expected = expected;
            if let (Value::Object(expected), Value::Object(common)) = (&mut expected, common.clone()) {
                expected.extend(common);
            }
            assert_eq!(*line, expected);
        }
        assert_eq!(lines.len(), 7);
    }
}
