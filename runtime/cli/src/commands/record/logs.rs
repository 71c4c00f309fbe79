//! What the steps of a build write, whole, on the disk.
//!
//! In: the events of a build. Out: a folder of the store ([`rb_store::Store::begin_logs`]) with a file a step, its bytes as
//! they came, and `index`, lines of JSON that say whose they are:
//!
//! ```text
//! {"format": 1, "command": "build", "target": "+app", "args": ["TAG"], "started_unix_ms": …}
//! {"log": 1, "name": "+app | RUN make", "vertex": "sha256:…"}         as it begins to write; the file is `1.log`
//! {"log": 1, "ended": "done" | "failed" | "cancelled", "message": "…", "bytes": 123, "cut": false}
//! {"outcome": "done" | "failed" | "interrupted", "exit_code": 0}      as the build ends
//! ```
//!
//! Steps that write nothing are not in it, and a build in which none did has no folder. The thread that reads a step's
//! output writes it, straight to the file: what is lost is what a step has not got rid of when `rb` is killed, and a step
//! waits for a disk that is slower than it, as it would for a file of its own. Secrets are hidden before it comes here.
//! **Invariant:** a log that cannot be written ends no build: it is cut there, and says so.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rb_oci::Digest;
use rb_store::Store;
use serde_json::{Value, json};

use crate::progress::bare_target;
use crate::report::FailedLog;

/// The disk is asked for room each time so much was written.
const ASK_EVERY_BYTES: u64 = 32 << 20;

/// Of a log's end so much is read for its last lines.
const TAIL_BYTES: u64 = 16 << 10;
const TAIL_LINES: usize = 40;

/// So many steps that are done are remembered.
const MOST_DONE: usize = 50;

/// How a step that wrote something ended.
pub(super) enum Ended<'a> {
    Done,
    Failed(&'a str),
    Cancelled,
}

/// The logs of one build.
pub(super) struct StepLogs {
    store: Store,
    began: Duration,
    /// First line of the index.
    head: Value,
    shelf: Mutex<Shelf>,
}

/// What is open.
#[derive(Default)]
struct Shelf {
    /// The folder and its index; none before a step wrote something, or where it cannot be made.
    index: Option<(PathBuf, File)>,
    broken: bool,
    count: usize,
    open: BTreeMap<Digest, Arc<Mutex<Log>>>,
    /// Those that failed having written something.
    failed: Vec<Known>,
    /// The last that were done.
    done: VecDeque<Known>,
}

/// What is known of a log that is closed.
struct Known {
    name: String,
    path: PathBuf,
    size_bytes: u64,
}

/// One step's.
struct Log {
    number: usize,
    name: String,
    path: PathBuf,
    file: File,
    size_bytes: u64,
    cut: bool,
}

impl StepLogs {
    /// Keeps logs of a build that `began` at this time since 1970.
    pub(super) fn new(store: Store, began: Duration, head: Value) -> Self {
        Self { store, began, head, shelf: Mutex::default() }
    }

    /// Writes what a step has written; `name` is asked for at its first words.
    pub(super) fn write(&self, vertex: Digest, bytes: &[u8], name: impl FnOnce() -> String) {
        let Some(log) = self.log(vertex, name) else { return };
        let mut log = log.lock().expect("no holder of this lock panics");
        log.write(bytes, &self.store);
    }

    /// Notes the end of a step.
    pub(super) fn end(&self, vertex: &Digest, ended: &Ended<'_>) {
        let mut shelf = self.shelf();
        let Some(log) = shelf.open.remove(vertex) else { return };
        let log = log.lock().expect("no holder of this lock panics");
        let (word, message) = match ended {
            Ended::Done => ("done", None),
            Ended::Failed(message) => ("failed", Some(message)),
            Ended::Cancelled => ("cancelled", None),
        };
        let known = Known { name: log.name.clone(), path: log.path.clone(), size_bytes: log.size_bytes };
        match ended {
            Ended::Failed(_) => shelf.failed.push(known),
            Ended::Done => {
                shelf.done.push_back(known);
                if shelf.done.len() > MOST_DONE {
                    shelf.done.pop_front();
                }
            }
            Ended::Cancelled => {}
        }
        shelf.note(&json!({
            "log": log.number, "ended": word, "message": message, "bytes": log.size_bytes, "cut": log.cut,
        }));
    }

    /// Notes the end of the build. What comes later belongs to another.
    pub(super) fn close(&self, outcome: &str, exit_code: u8) {
        let mut shelf = self.shelf();
        shelf.note(&json!({ "outcome": outcome, "exit_code": exit_code }));
        shelf.open.clear();
    }

    /// Returns what is to be told of the steps that failed, if one did; else of a question to a step (`$(…)`) that gave an
    /// answer which the build could not take, by the command that `said` quotes.
    pub(super) fn failed(&self, said: &str) -> Option<FailedLog> {
        let shelf = self.shelf();
        let target = |known: &Known| {
            let (target, _) = known.name.split_once(" | ")?;
            Some(bare_target(target)).filter(|target| target.contains('+')).map(str::to_owned)
        };
        let asked = |known: &&Known| {
            let label = known.name.split_once(" | ").map_or("", |(_, label)| label);
            let command = label.strip_prefix("$(").and_then(|label| label.strip_suffix(')'));
            command.is_some_and(|command| said.contains(&format!("`{command}`")))
        };
        let (last, command) = match shelf.failed.last() {
            Some(last) => match target(last).filter(|_| shelf.failed.len() == 1) {
                Some(target) => (last, format!("rb logs --failed {target}")),
                None => (last, "rb logs --failed".to_owned()),
            },
            None => {
                let last = shelf.done.iter().rev().find(asked)?;
                (last, format!("rb logs {}", target(last)?))
            }
        };
        let size_bytes = match shelf.failed.is_empty() {
            true => last.size_bytes,
            false => shelf.failed.iter().map(|failed| failed.size_bytes).sum(),
        };
        Some(FailedLog { command, size_bytes, tail: tail(&last.path).unwrap_or_default() })
    }

    /// Returns the log of a step, begun if need be.
    fn log(&self, vertex: Digest, name: impl FnOnce() -> String) -> Option<Arc<Mutex<Log>>> {
        let mut shelf = self.shelf();
        if let Some(log) = shelf.open.get(&vertex) {
            return Some(Arc::clone(log));
        }
        if shelf.broken {
            return None;
        }
        match self.begin(&mut shelf, vertex, name()) {
            Ok(log) => Some(log),
            Err(error) => {
                tracing::warn!(error = rb_diag::chain(error.as_ref()), "what steps write is not kept");
                shelf.broken = true;
                None
            }
        }
    }

    fn begin(
        &self,
        shelf: &mut Shelf,
        vertex: Digest,
        name: String,
    ) -> Result<Arc<Mutex<Log>>, Box<dyn std::error::Error>> {
        let folder = match &shelf.index {
            Some((folder, _)) => folder.clone(),
            None => {
                let folder = self.store.begin_logs(self.began)?;
                let mut options = OpenOptions::new();
                let index = options.append(true).create(true).mode(0o600).open(folder.join("index"))?;
                shelf.index = Some((folder.clone(), index));
                shelf.note(&self.head);
                folder
            }
        };
        let number = shelf.count + 1;
        let path = folder.join(format!("{number}.log"));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        shelf.count = number;
        shelf.note(&json!({ "log": number, "name": name, "vertex": vertex.to_string() }));
        let log = Arc::new(Mutex::new(Log { number, name, path, file, size_bytes: 0, cut: false }));
        shelf.open.insert(vertex, Arc::clone(&log));
        Ok(log)
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().expect("no holder of this lock panics")
    }
}

impl Shelf {
    /// Adds a line to the index, in one piece.
    fn note(&mut self, line: &Value) {
        if let Some((_, index)) = &mut self.index
            && let Err(error) = index.write_all(format!("{line}\n").as_bytes())
        {
            tracing::warn!(%error, "the index of the logs lacks a line");
        }
    }
}

impl Log {
    fn write(&mut self, bytes: &[u8], store: &Store) {
        let asked = self.size_bytes / ASK_EVERY_BYTES;
        if self.cut {
            return;
        }
        let is_written = self.file.write_all(bytes).is_ok();
        self.size_bytes += bytes.len() as u64;
        let is_full = || self.size_bytes / ASK_EVERY_BYTES > asked && store.check_space().is_err();
        if !is_written || is_full() {
            self.cut = true;
            let said =
                self.file.write_all("\n… cut here by rb: little room is left on the disk\n".as_bytes());
            tracing::warn!(path = %self.path.display(), told = said.is_ok(), "a log is cut: no room");
        }
    }
}

/// Returns the last lines of a file.
fn tail(path: &Path) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = text.lines().collect();
    if length > TAIL_BYTES && lines.len() > 1 {
        lines.remove(0);
    }
    let first = lines.len().saturating_sub(TAIL_LINES);
    Ok(lines.into_iter().skip(first).map(|line| line.trim_end_matches('\r').to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).expect("reads");
        text.lines().map(|line| line.parse().expect("JSON")).collect()
    }

    #[test]
    fn each_step_has_a_file_and_the_index_says_whose() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(root.path()).expect("opens");
        let logs = StepLogs::new(store, Duration::from_millis(7), json!({ "format": 1 }));
        logs.close("done", 0);
        assert_eq!(std::fs::read_dir(root.path().join("logs")).expect("lists").count(), 0);
        let (a, b) = (Digest::of("a"), Digest::of("b"));
        for piece in ["one\ntw", "o\n"] {
            logs.write(a, piece.as_bytes(), || "+app --X=1 | RUN a".to_owned());
        }
        logs.write(b, b"\xff\x00raw", || "context".to_owned());
        assert_eq!(logs.failed(""), None);
        logs.end(&a, &Ended::Failed("exit code 1"));
        logs.end(&Digest::of("silent"), &Ended::Done);
        logs.close("failed", 1);
        let folder = rb_store::logs(root.path()).expect("lists").remove(0).path;
        assert_eq!(std::fs::read(folder.join("1.log")).expect("reads"), b"one\ntwo\n");
        assert_eq!(std::fs::read(folder.join("2.log")).expect("reads"), b"\xff\x00raw");
        let told = lines(&folder.join("index"));
        let words: Vec<Value> = told
            .iter()
            .map(|line| json!([line["log"], line["name"], line["ended"], line["bytes"], line["outcome"]]))
            .collect();
        assert_eq!(
            words,
            [
                json!([null, null, null, null, null]),
                json!([1, "+app --X=1 | RUN a", null, null, null]),
                json!([2, "context", null, null, null]),
                json!([1, null, "failed", 8, null]),
                json!([null, null, null, null, "failed"]),
            ]
        );
        let failed = logs.failed("").expect("one did");
        assert_eq!((&*failed.command, failed.size_bytes), ("rb logs --failed +app", 8));
        assert_eq!(failed.tail, ["one", "two"]);
    }

    #[test]
    fn a_question_without_an_answer_is_found_by_its_command() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(root.path()).expect("opens");
        let logs = StepLogs::new(store, Duration::ZERO, json!({}));
        for (name, text) in [("+a | $(false; x)", "why\n"), ("+b | RUN y", "other\n")] {
            let vertex = Digest::of(name);
            logs.write(vertex, text.as_bytes(), || name.to_owned());
            logs.end(&vertex, &Ended::Done);
        }
        let found = logs.failed("`false; x` ended with exit code 1").expect("it was asked");
        assert_eq!((&*found.command, found.tail), ("rb logs +a", vec!["why".to_owned()]));
        assert_eq!(logs.failed("`y` ended with exit code 1"), None);
    }

    #[test]
    fn the_end_of_a_long_log_is_read_alone() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("log");
        let text: String = (0..100_000).map(|number| format!("line {number}\r\n")).collect();
        std::fs::write(&path, text).expect("writes");
        let lines = tail(&path).expect("reads");
        assert_eq!(lines.len(), TAIL_LINES);
        assert_eq!(lines.last().map(String::as_str), Some("line 99999"));
    }
}
