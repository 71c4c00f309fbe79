//! What waits to be shown, between the threads that work and the one that writes.
//!
//! In: events, at whatever pace. Out: items in order, taken all at once. Output of commands is kept up to
//! [`MOST_BYTES`]; what comes while as much is waiting is counted and left out of the view but for its last piece, so
//! that the end of a flood is always seen. Logs on disk hear of everything before it comes here.
//! Of the progress of a vertex the latest is kept.
//! **Invariant:** putting never waits for the screen; nothing but output and progress is ever left out.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Instant;

use bytes::Bytes;
use rb_api::{Event, EventKind, LogStream};
use rb_oci::Digest;

/// So much output waits at most.
const MOST_BYTES: usize = 4 << 20;

/// What an event weighs beside its bytes.
const EVENT_BYTES: usize = 128;

/// Something to show.
#[derive(Debug)]
pub(super) enum Item {
    /// An event, and when it came.
    Event(Event, Instant),
    /// Output that is not shown.
    Skipped {
        /// Whose.
        vertex: Digest,
        /// How much.
        skipped: Skipped,
        /// When the last of it came.
        at: Instant,
    },
}

/// Output that is left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Skipped {
    /// Ends of lines in it.
    pub(super) lines: u64,
    /// Its length.
    pub(super) bytes: u64,
}

impl Skipped {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.lines += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.bytes += bytes.len() as u64;
    }
}

/// Output of one vertex that came while too much was waiting.
#[derive(Debug)]
struct Lag {
    skipped: Skipped,
    /// Its last piece.
    last: (LogStream, Bytes),
    at: Instant,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    items: Vec<Item>,
    waiting_bytes: usize,
    lags: BTreeMap<Digest, Lag>,
    /// Where the progress of each vertex waits.
    progress: BTreeMap<Digest, usize>,
}

impl Queue {
    /// Puts an event; returns whether the queue was empty.
    pub(super) fn put(&mut self, event: Event, at: Instant) -> bool {
        let was_empty = self.items.is_empty();
        match &event.kind {
            EventKind::Log { stream, bytes } => {
                let is_full = self.waiting_bytes >= MOST_BYTES;
                match self.lags.entry(event.vertex) {
                    Entry::Occupied(mut lag) => {
                        let lag = lag.get_mut();
                        lag.skipped.add(&lag.last.1);
                        (lag.last, lag.at) = ((*stream, bytes.clone()), at);
                        return was_empty;
                    }
                    Entry::Vacant(place) if is_full => {
                        let (skipped, last) = (Skipped::default(), (*stream, bytes.clone()));
                        place.insert(Lag { skipped, last, at });
                        return was_empty;
                    }
                    Entry::Vacant(_) => self.waiting_bytes += bytes.len() + EVENT_BYTES,
                }
            }
            EventKind::Done { .. } | EventKind::Failed { .. } | EventKind::Cancelled => {
                if let Some(lag) = self.lags.remove(&event.vertex) {
                    self.end_lag(event.vertex, lag);
                }
            }
            EventKind::Added { .. }
            | EventKind::Keyed { .. }
            | EventKind::Cached { .. }
            | EventKind::Missed { .. }
            | EventKind::Shared { .. } => {}
            // What is told of it afterwards stays behind it.
            EventKind::Started => drop(self.progress.remove(&event.vertex)),
            EventKind::Progress(_) => match self.progress.entry(event.vertex) {
                Entry::Occupied(place) => {
                    if let Some(item) = self.items.get_mut(*place.get()) {
                        *item = Item::Event(event, at);
                    }
                    return was_empty;
                }
                Entry::Vacant(place) => {
                    place.insert(self.items.len());
                }
            },
        }
        self.items.push(Item::Event(event, at));
        was_empty
    }

    /// Takes all that waits, in order.
    pub(super) fn take(&mut self) -> Vec<Item> {
        for (vertex, lag) in std::mem::take(&mut self.lags) {
            self.end_lag(vertex, lag);
        }
        self.waiting_bytes = 0;
        self.progress.clear();
        std::mem::take(&mut self.items)
    }

    /// Tells whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn end_lag(&mut self, vertex: Digest, Lag { skipped, last: (stream, bytes), at }: Lag) {
        if skipped.bytes > 0 {
            self.items.push(Item::Skipped { vertex, skipped, at });
        }
        self.items.push(Item::Event(Event { vertex, kind: EventKind::Log { stream, bytes } }, at));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rb_api::Progress;

    use super::*;

    fn log(vertex: &str, bytes: &'static [u8]) -> Event {
        let kind = EventKind::Log { stream: LogStream::Stdout, bytes: Bytes::from_static(bytes) };
        Event { vertex: Digest::of(vertex), kind }
    }

    fn told(items: Vec<Item>) -> Vec<String> {
        let words = |item| match item {
            Item::Event(Event { kind: EventKind::Log { bytes, .. }, .. }, _) => {
                format!("log {}", bytes.len())
            }
            Item::Event(Event { kind: EventKind::Done { .. }, .. }, _) => "done".to_owned(),
            Item::Event(..) => "event".to_owned(),
            Item::Skipped { skipped, .. } => format!("skipped {} {}", skipped.lines, skipped.bytes),
        };
        items.into_iter().map(words).collect()
    }

    #[test]
    fn of_progress_the_latest_is_kept() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let far = |bytes| EventKind::Progress(Progress::bytes("copying", bytes, None));
        for (vertex, kind) in [
            ("a", far(1)),
            ("b", far(2)),
            ("a", far(3)),
            ("a", EventKind::Started),
            ("a", far(4)),
            ("b", far(5)),
            ("a", far(6)),
        ] {
            queue.put(Event { vertex: Digest::of(vertex), kind }, now);
        }
        let far = |item: &Item| match item {
            Item::Event(Event { kind: EventKind::Progress(progress), .. }, _) => progress.current,
            _ => 0,
        };
        assert_eq!(queue.take().iter().map(far).collect::<Vec<_>>(), [3, 5, 0, 6]);
        let kind = EventKind::Progress(Progress::bytes("copying", 7, None));
        queue.put(Event { vertex: Digest::of("a"), kind }, now);
        assert_eq!(queue.take().iter().map(far).collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn a_flood_is_counted_and_its_end_is_kept() {
        static PIECE: [u8; 1 << 20] = [b'\n'; 1 << 20];
        let (mut queue, now) = (Queue::default(), Instant::now());
        for _ in 0..10 {
            queue.put(log("a", &PIECE), now);
        }
        queue.put(log("b", b"other\n"), now);
        queue.put(log("a", b"end\n"), now);
        let done = EventKind::Done { duration: Duration::ZERO };
        queue.put(Event { vertex: Digest::of("a"), kind: done }, now);
        queue.put(Event { vertex: Digest::of("b"), kind: EventKind::Started }, now);
        let kept = MOST_BYTES >> 20;
        let left_out = (10 - kept) << 20;
        let mut expected = vec![format!("log {}", 1 << 20); kept];
        expected.push(format!("skipped {left_out} {left_out}"));
        expected.extend(["log 4", "done", "event", "log 6"].map(str::to_owned));
        assert_eq!(told(queue.take()), expected);
        assert!(queue.is_empty());
        queue.put(log("a", b"more\n"), now);
        assert_eq!(told(queue.take()), ["log 5"]);
    }
}
