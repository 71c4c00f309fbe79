//! What is kept of each build: what was asked for, and of each step whether it ran, and why.
//!
//! In: the events of a build's jobs, on their way to the progress. Out: one JSON document in the store
//! ([`rb_store::Store::put_build`]), written once, when the build has ended, however it did; and what its steps wrote, as
//! they do ([`logs`]). Its form is that of [`document::Document`].
//!
//! **Invariant:** no secret is in the record, and no output of a command; of secrets their ids are. Values of arguments and
//! variables are, so that `rb why` can tell which one changed, but for those whose names say that they are secret. A record that
//! cannot be written ends no build.

pub(super) mod document;
pub(super) mod files;
mod heard;
mod logs;
mod placed;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rb_api::{EventKind, EventSink};
use rb_store::{BuildList, Store};
use serde_json::json;

use crate::args::TargetCall;
use crate::report::Failure;
use document::{Document, FORMAT, OfApp, OfDockerfile};
use files::Files;
use heard::{Heard, cut, lock, milliseconds};
pub(super) use heard::{Listener, Lists};
use logs::{Ended, StepLogs};
pub(super) use placed::Placed;

/// What `rb` was asked for, as others may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    command: &'static str,
    target: String,
    /// Names of the target's arguments.
    args: Vec<String>,
    /// The targets that are named, as steps have them.
    targets: Vec<String>,
    dockerfile: Option<OfDockerfile>,
    app: Option<OfApp>,
}

impl Asked {
    /// A command on a target.
    pub(super) fn of_target(command: &'static str, call: &TargetCall) -> Self {
        let args = call.args.keys().cloned().collect();
        Self { command, target: call.word.clone(), args, targets: Vec::new(), dockerfile: None, app: None }
    }

    /// A command on targets.
    pub(super) fn of_targets(command: &'static str, calls: &[TargetCall]) -> Self {
        let words: Vec<&str> = calls.iter().map(|call| call.word.as_str()).collect();
        let names: BTreeSet<&String> = calls.iter().flat_map(|call| call.args.keys()).collect();
        let args = names.into_iter().cloned().collect();
        Self {
            command,
            target: cut(&words.join(" ")),
            args,
            targets: Vec::new(),
            dockerfile: None,
            app: None,
        }
    }

    /// A command on something else.
    pub(super) fn of(command: &'static str, what: impl Into<String>) -> Self {
        Self {
            command,
            target: what.into(),
            args: Vec::new(),
            targets: Vec::new(),
            dockerfile: None,
            app: None,
        }
    }

    /// Says which targets these are, as steps have them.
    pub(super) fn naming(self, targets: Vec<String>) -> Self {
        Self { targets, ..self }
    }

    /// Says of which Dockerfile it is, and the names of the arguments that it is given.
    pub(super) fn of_dockerfile(self, dockerfile: OfDockerfile, args: Vec<String>) -> Self {
        Self { dockerfile: Some(dockerfile), args, ..self }
    }

    /// Says of which app it is, which buildpacks build.
    pub(super) fn of_app(self, app: OfApp) -> Self {
        Self { app: Some(app), ..self }
    }

    /// Whether it runs what a build file says, or a program.
    pub(super) fn runs_steps(&self) -> bool {
        matches!(self.command, "build" | "resume" | "run" | "solve" | "compile")
    }

    /// Whether another build may be compared with it: not with one of which a step did not begin from the beginning.
    pub(super) fn is_compared(&self) -> bool {
        self.command != "resume"
    }

    /// Returns it as one line: `rb +app`, `rb run +app`.
    pub(super) fn title(&self) -> String {
        match self.command {
            "build" => format!("rb {}", self.target),
            command => format!("rb {command} {}", self.target),
        }
    }
}

/// Hears of one build and writes its record.
pub(super) struct Recorder {
    asked: Asked,
    began: Instant,
    /// The same since 1970.
    started: Duration,
    /// The root of what is built, if files of one are.
    workspace: Option<PathBuf>,
    heard: Arc<Mutex<Heard>>,
    logs: Arc<StepLogs>,
    placed: Placed,
    /// What the last record that was written is called.
    written: Mutex<Option<String>>,
}

impl Recorder {
    /// Begins to listen; what is kept lies in `store`.
    pub(super) fn new(asked: Asked, store: &Store) -> Self {
        let started = store.clock().now();
        let head = json!({
            "format": FORMAT, "command": asked.command, "target": asked.target, "args": asked.args,
            "started_unix_ms": milliseconds(started),
        });
        let logs = Arc::new(StepLogs::new(store.clone(), started, head));
        let placed = Placed::default();
        let (heard, written) = (Arc::default(), Mutex::default());
        Self { asked, began: Instant::now(), started, workspace: None, heard, logs, placed, written }
    }

    /// Says where it is heard which node builds.
    pub(super) fn placed(self, placed: Placed) -> Self {
        Self { placed, ..self }
    }

    /// Says what the root of the files is that are built.
    pub(super) fn in_workspace(self, root: Option<&Path>) -> Self {
        Self { workspace: root.map(Path::to_owned), ..self }
    }

    /// Returns what was heard so far, as its record would have it.
    pub(super) fn so_far(&self) -> (Document, Lists) {
        lock(&self.heard).document(self.began)
    }

    /// Returns what the last record that was written is called; none if none is kept.
    pub(super) fn written(&self) -> Option<String> {
        self.written.lock().expect("no holder of this lock panics").clone()
    }

    /// Returns where the events of a job go: here, and on to `next`.
    pub(super) fn sink(&self, next: EventSink) -> EventSink {
        lock(&self.heard).has_job = true;
        let (heard, logs) = (Arc::clone(&self.heard), Arc::clone(&self.logs));
        Arc::new(move |event| {
            let vertex = event.vertex;
            match &event.kind {
                EventKind::Log { bytes, .. } => logs.write(vertex, bytes, || lock(&heard).name(&vertex)),
                EventKind::Done { .. } => logs.end(&vertex, &Ended::Done),
                EventKind::Failed { message } => logs.end(&vertex, &Ended::Failed(message)),
                EventKind::Cancelled => logs.end(&vertex, &Ended::Cancelled),
                EventKind::Added { .. }
                | EventKind::Keyed { .. }
                | EventKind::Cached { .. }
                | EventKind::Missed { .. }
                | EventKind::Shared { .. }
                | EventKind::Started
                | EventKind::Progress(_) => {}
            }
            if !matches!(event.kind, EventKind::Log { .. }) {
                lock(&heard).take(&event, Instant::now());
            }
            next(event);
        })
    }

    /// Writes the record of a build that has ended so, and adds to a failure where its log is; does nothing, if there was
    /// no job since the last one.
    pub(super) fn write<T>(&self, store: &Store, ended: Result<T, Failure>) -> Result<T, Failure> {
        let heard = std::mem::take(&mut *lock(&self.heard));
        if !heard.has_job {
            return ended;
        }
        let (document, lists) = self.document(&heard, ended.as_ref().err());
        self.logs.close(&document.outcome, document.exit_code);
        let make: Vec<_> =
            lists.values().map(|list| (list.digest, move || Files::of(list.entries()).to_bytes())).collect();
        let lists: Vec<BuildList<'_>> =
            make.iter().map(|(digest, bytes)| BuildList { digest: *digest, bytes }).collect();
        let bytes = serde_json::to_vec(&document).expect("plain data serialises");
        match store.put_build_with(self.started, &bytes, &lists) {
            Ok(name) => *self.written.lock().expect("no holder of this lock panics") = Some(name),
            Err(error) => tracing::warn!(%error, "the record of this build is not kept"),
        }
        ended.map_err(|failure| match failure.is_of_a_command() {
            true => {
                let log = self.logs.failed(&failure.message());
                failure.logged(log)
            }
            false => failure,
        })
    }

    fn document(&self, heard: &Heard, failure: Option<&Failure>) -> (Document, Lists) {
        let outcome = match failure {
            None | Some(Failure::Unheard) => "done",
            Some(Failure::Interrupted(_)) => "interrupted",
            Some(
                Failure::Diagnostics { .. }
                | Failure::Solve { .. }
                | Failure::Said { .. }
                | Failure::With { .. }
                | Failure::Several(_),
            ) => "failed",
        };
        let (steps, lists) = heard.document(self.began);
        let document = Document {
            command: self.asked.command.to_owned(),
            target: self.asked.target.clone(),
            args: self.asked.args.clone(),
            targets: self.asked.targets.clone(),
            workspace: self.workspace.as_ref().map(|root| root.to_string_lossy().into_owned()),
            dockerfile: self.asked.dockerfile.clone(),
            app: self.asked.app.clone(),
            placed: self.placed.taken(),
            started_unix_ms: milliseconds(self.started),
            duration_ms: milliseconds(self.began.elapsed()),
            outcome: outcome.to_owned(),
            exit_code: failure.map_or(0, Failure::exit_code),
            ..steps
        };
        (document, lists)
    }
}

#[cfg(test)]
mod tests;
