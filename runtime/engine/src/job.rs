//! What all ops of one job share: the client, the options, and the last lines that its commands wrote.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use rb_api::{AllowedDevices, Course, PullPolicy};
use rb_oci::Digest;
use rb_session::Session;

use crate::names::Names;
use crate::ops::Nesting;
use crate::packing::Packing;
use crate::parts::Parts;
use crate::pinned::PinnedImage;
use crate::value::Tree;

/// One job, as its ops see it.
pub(crate) struct JobContext {
    pub(crate) parts: Arc<Parts>,
    pub(crate) session: Arc<dyn Session>,
    pub(crate) no_cache: bool,
    pub(crate) allowed_binds: Vec<PathBuf>,
    /// Whether steps may run without isolation.
    pub(crate) allow_insecure: bool,
    /// Whether steps may ask for this machine's network.
    pub(crate) allow_host_network: bool,
    /// Which devices steps may ask for.
    pub(crate) allowed_devices: AllowedDevices,
    /// How far it goes.
    pub(crate) course: Course,
    /// What names of images stand for; asked once each.
    pub(crate) images: Names,
    /// What was asked of others but registries.
    pub(crate) asked: crate::ops::Asked,
    /// Layers that are packed ahead.
    pub(crate) packing: Arc<Packing>,
    /// Where more of this job is solved; the job's own, so that this does not keep it.
    nesting: OnceLock<Weak<Nesting>>,
    tails: Mutex<BTreeMap<Digest, LogTail>>,
    /// What commands left that failed, by their vertices.
    left: Mutex<BTreeMap<Digest, Tree>>,
    /// Images of which something was not unpacked when a look came upon them, by their vertices.
    packed: Mutex<BTreeMap<Digest, Arc<PinnedImage>>>,
}

impl JobContext {
    pub(crate) fn new(
        parts: Arc<Parts>,
        session: Arc<dyn Session>,
        no_cache: bool,
        allowed_binds: Vec<PathBuf>,
    ) -> Self {
        let images = Names::default();
        Self {
            parts,
            session,
            no_cache,
            allowed_binds,
            allow_insecure: false,
            allow_host_network: false,
            allowed_devices: AllowedDevices::default(),
            course: Course::Stop,
            images,
            asked: Default::default(),
            packing: Arc::default(),
            nesting: OnceLock::new(),
            tails: Mutex::default(),
            left: Mutex::default(),
            packed: Mutex::default(),
        }
    }

    /// Says when registries are asked.
    pub(crate) fn with_pull(mut self, pull: PullPolicy) -> Self {
        self.images.pull = pull;
        self
    }

    /// Says whether steps may run without isolation; they may not unless told so.
    pub(crate) fn with_insecure(mut self, allow: bool) -> Self {
        self.allow_insecure = allow;
        self
    }

    /// Says whether steps may ask for this machine's network; they may not unless told so.
    pub(crate) fn with_host_network(mut self, allow: bool) -> Self {
        self.allow_host_network = allow;
        self
    }

    /// Says which devices steps may ask for; none unless told so.
    pub(crate) fn with_devices(mut self, allowed: AllowedDevices) -> Self {
        self.allowed_devices = allowed;
        self
    }

    /// Says how far it goes.
    pub(crate) fn on_course(mut self, course: Course) -> Self {
        self.course = course;
        self
    }

    /// Says where more of this job is solved; once.
    pub(crate) fn nest(&self, nesting: &Arc<Nesting>) {
        self.nesting.get_or_init(|| Arc::downgrade(nesting));
    }

    /// Returns where more of this job is solved, as long as somebody wants it.
    pub(crate) fn nesting(&self) -> Option<Arc<Nesting>> {
        self.nesting.get()?.upgrade()
    }

    /// Keeps the end of what a vertex's command wrote.
    pub(crate) fn keep_tail(&self, vertex: Digest, tail: LogTail) {
        self.tails.lock().expect("no holder panics").insert(vertex, tail);
    }

    /// Notes what the command of a vertex left that failed.
    pub(crate) fn note_left(&self, vertex: Digest, tree: Tree) {
        self.left.lock().expect("no holder panics").insert(vertex, tree);
    }

    /// Returns what the command of a vertex left, if it failed in this job.
    pub(crate) fn left(&self, vertex: &Digest) -> Option<Tree> {
        self.left.lock().expect("no holder panics").get(vertex).cloned()
    }

    /// Notes that something of the image of a vertex is not unpacked.
    pub(crate) fn note_packed(&self, vertex: Digest, image: Arc<PinnedImage>) {
        self.packed.lock().expect("no holder panics").insert(vertex, image);
    }

    /// Returns the images of which that was noted, by their vertices.
    pub(crate) fn packed(&self) -> BTreeMap<Digest, Arc<PinnedImage>> {
        self.packed.lock().expect("no holder panics").clone()
    }

    /// Takes the last lines that a vertex's command wrote.
    pub(crate) fn take_tail(&self, vertex: &Digest) -> Vec<String> {
        self.tails
            .lock()
            .expect("no holder panics")
            .remove(vertex)
            .map(LogTail::into_lines)
            .unwrap_or_default()
    }
}

/// The last lines of a stream, in bounded memory.
#[derive(Debug, Default)]
pub(crate) struct LogTail {
    lines: VecDeque<Vec<u8>>,
    open: bool,
}

impl LogTail {
    const LINES: usize = 40;
    const LINE_BYTES: usize = 4096;

    /// Adds what was written next.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let ends = bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
        // Of a flood only the end can matter: what is behind as many ends of lines.
        let bytes = match ends.take(Self::LINES + 1).enumerate().find(|(count, _)| *count == Self::LINES) {
            Some((_, end)) => {
                self.lines.clear();
                self.open = false;
                bytes.get(end + 1..).unwrap_or_default()
            }
            None => bytes,
        };
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if !self.open {
                if self.lines.len() == Self::LINES {
                    self.lines.pop_front();
                }
                self.lines.push_back(Vec::new());
            }
            self.open = !piece.ends_with(b"\n");
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            if let Some(line) = self.lines.back_mut() {
                let room = Self::LINE_BYTES.saturating_sub(line.len());
                line.extend_from_slice(&text[..text.len().min(room)]);
            }
        }
    }

    /// Returns the lines, oldest first.
    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines
            .iter()
            .map(|line| String::from_utf8_lossy(line).trim_end_matches('\r').to_owned())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::LogTail;

    #[test]
    fn keeps_the_last_lines_however_they_arrive() {
        let mut tail = LogTail::default();
        for number in 0..100 {
            tail.push(format!("line {number}").as_bytes());
            tail.push(b"!\n");
        }
        tail.push(b"end");
        let lines = tail.into_lines();
        assert_eq!(lines.len(), LogTail::LINES);
        assert_eq!(lines.last().map(String::as_str), Some("end"));
        assert_eq!(lines.first().map(String::as_str), Some("line 61!"));
    }

    #[test]
    fn a_large_piece_gives_the_same_as_its_lines() {
        let text: String = (0..100).map(|number| format!("line {number}\n")).collect();
        for end in ["", "open"] {
            let text = format!("begun {text}{end}");
            let (mut whole, mut by_line) = (LogTail::default(), LogTail::default());
            whole.push(b"before\nnot ended ");
            whole.push(text.as_bytes());
            text.split_inclusive('\n').for_each(|line| by_line.push(line.as_bytes()));
            assert_eq!(whole.into_lines(), by_line.into_lines());
        }
    }

    #[test]
    fn one_endless_line_stays_bounded() {
        let mut tail = LogTail::default();
        for _ in 0..1000 {
            tail.push(&[b'x'; 1000]);
        }
        assert_eq!(tail.into_lines().first().map(String::len), Some(LogTail::LINE_BYTES));
    }
}
