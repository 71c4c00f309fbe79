//! The user's own machine, as a frontend sees it: commands of LOCALLY, and what git knows.
//!
//! In: a [`HostCommand`] and the folder it starts from. Out: how it ended, while events show its output as a step of its
//! own. Both go through [`Outside`], as `rb` itself lives in the sandboxes' namespaces.
//! **Invariant:** whoever stops waiting ends the command, and all that descends from it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rb_api::{Event, EventKind, EventSink, LogStream};
use rb_diag::{ErrorKind, chain};
use rb_exec::{ExecError, ExitStatus, KillSwitch, Outside, Stream};
use rb_frontend::{GitFacts, HostCommand, HostOutcome, WorldError};
use rb_oci::Digest;

use super::{Withheld, git};
use crate::commands::anew;

/// Largest output that is handed to a frontend.
const CAPTURE_LIMIT_BYTES: usize = 1 << 20;

/// The way to the user's machine, and who is told of what runs there.
pub(crate) struct Host {
    outside: Arc<Outside>,
    events: EventSink,
    /// How many commands there were.
    count: AtomicU64,
    /// Where commands are noted instead of run.
    withheld: Option<Arc<Withheld>>,
}

/// Throws the switch when the future that holds it is dropped.
struct KillOnDrop(KillSwitch);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.kill();
    }
}

impl Host {
    /// Runs commands through `outside` and tells `events` of them.
    pub(crate) fn new(outside: Arc<Outside>, events: EventSink) -> Self {
        Self { outside, events, count: AtomicU64::new(0), withheld: None }
    }

    /// Runs no command.
    pub(crate) fn withholding(self, withheld: Option<Arc<Withheld>>) -> Self {
        Self { withheld, ..self }
    }

    /// Asks git about a folder.
    pub(super) async fn git(&self, dir: PathBuf) -> Result<Option<GitFacts>, WorldError> {
        let outside = Arc::clone(&self.outside);
        blocking(move || git::facts(&outside, &dir)).await?
    }

    /// Runs a command that starts from `folder`.
    pub(super) async fn run(&self, folder: &Path, command: &HostCommand) -> Result<HostOutcome, WorldError> {
        anew::forbid();
        let HostCommand { label, args, env, project: _, cwd, capture } = command;
        if let Some(withheld) = &self.withheld {
            let message = withheld.note(format!("`{label}` would run on this machine"));
            return Err(WorldError::Failed { kind: ErrorKind::Build, message });
        }
        let inner = rb_exec::HostCommand {
            args: args.iter().map(Into::into).collect(),
            env: env
                .iter()
                .map(|variable| variable.split_once('=').unwrap_or((variable, "")))
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            env_clear: false,
            // Joining nothing would leave a slash at the end.
            cwd: if cwd.is_empty() { folder.to_owned() } else { folder.join(cwd) },
            stdin: Vec::new(),
        };
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let step = Step {
            vertex: Digest::of(format!("host command {number}: {label}")),
            label: label.clone(),
            capture: *capture,
            events: Arc::clone(&self.events),
        };
        let outside = Arc::clone(&self.outside);
        let kill = KillOnDrop(KillSwitch::new());
        let switch = kill.0.clone();
        blocking(move || step.run(&|sink| outside.run(&inner, &switch, sink), &switch)).await?
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, WorldError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| WorldError::Failed {
        kind: ErrorKind::Internal,
        message: format!("a command outside of sandboxes was lost: {error}"),
    })
}

/// One command, as people see it.
struct Step {
    vertex: Digest,
    label: String,
    capture: bool,
    events: EventSink,
}

/// Takes output.
type Sink<'a> = &'a mut dyn FnMut(Stream, &[u8]);

impl Step {
    fn tell(&self, kind: EventKind) {
        (self.events)(Event { vertex: self.vertex, kind });
    }

    /// Runs the command by `start`, which takes its output's sink, and tells of it.
    fn run(
        &self,
        start: &dyn Fn(Sink<'_>) -> Result<ExitStatus, ExecError>,
        kill: &KillSwitch,
    ) -> Result<HostOutcome, WorldError> {
        let began = Instant::now();
        self.tell(EventKind::Added { name: self.label.clone(), step: true, inputs: Vec::new() });
        self.tell(EventKind::Started);
        let mut captured = Vec::new();
        let mut sink = |stream: Stream, bytes: &[u8]| {
            if self.capture && stream == Stream::Stdout {
                captured.extend_from_slice(bytes);
                if captured.len() > CAPTURE_LIMIT_BYTES {
                    kill.kill();
                }
                return;
            }
            let stream = match stream {
                Stream::Stdout => LogStream::Stdout,
                Stream::Stderr => LogStream::Stderr,
            };
            self.tell(EventKind::Log { stream, bytes: bytes.to_vec().into() });
        };
        let ended = start(&mut sink);
        let failed = match ended {
            _ if captured.len() > CAPTURE_LIMIT_BYTES => {
                let limit = CAPTURE_LIMIT_BYTES >> 20;
                (ErrorKind::Build, format!("`{}` printed more than {limit} MiB", self.label))
            }
            _ if kill.is_killed() => {
                self.tell(EventKind::Cancelled);
                let message = format!("`{}` was cancelled", self.label);
                return Err(WorldError::Failed { kind: ErrorKind::Build, message });
            }
            Ok(status) => {
                // A question may have any answer; a command that ends so ends the build.
                self.tell(match status.code() {
                    code if code != 0 && !self.capture => {
                        EventKind::Failed { message: format!("the command ended with exit code {code}") }
                    }
                    _ => EventKind::Done { duration: began.elapsed() },
                });
                return Ok(HostOutcome { exit_code: status.code(), stdout: captured });
            }
            Err(error) => (error.kind(), chain(&error)),
        };
        let (kind, message) = failed;
        self.tell(EventKind::Failed { message: message.clone() });
        Err(WorldError::Failed { kind, message })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn run(
        capture: bool,
        start: &dyn Fn(Sink<'_>, &KillSwitch) -> Result<ExitStatus, ExecError>,
    ) -> (Result<HostOutcome, WorldError>, Vec<String>) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&told);
        let events: EventSink = Arc::new(move |event: Event| {
            let line = match event.kind {
                EventKind::Log { stream, bytes } => {
                    format!("{stream:?} {}", String::from_utf8_lossy(&bytes))
                }
                EventKind::Done { .. } => "Done".to_owned(),
                other => format!("{other:?}"),
            };
            list.lock().expect("nobody panics").push(line);
        });
        let step = Step { vertex: Digest::of("x"), label: "+t | RUN x".to_owned(), capture, events };
        let kill = KillSwitch::new();
        let ended = step.run(&|sink| start(sink, &kill), &kill);
        let told = told.lock().expect("nobody panics").split_off(2);
        (ended, told)
    }

    #[test]
    fn output_is_shown_or_kept() {
        let start = |sink: Sink<'_>, _: &KillSwitch| {
            sink(Stream::Stdout, b"out");
            sink(Stream::Stderr, b"err");
            Ok(ExitStatus::Exited(3))
        };
        let (ended, told) = run(false, &start);
        assert_eq!(ended.expect("ran"), HostOutcome { exit_code: 3, stdout: Vec::new() });
        // The exit code ends the build; as an answer it would not.
        let failed = "Failed { message: \"the command ended with exit code 3\" }";
        assert_eq!(told, ["Stdout out", "Stderr err", failed]);
        let (ended, told) = run(true, &start);
        assert_eq!(ended.expect("ran"), HostOutcome { exit_code: 3, stdout: b"out".to_vec() });
        assert_eq!(told, ["Stderr err", "Done"]);
    }

    #[test]
    fn what_did_not_end_by_itself_is_an_error() {
        let (ended, told) = run(true, &|sink, kill| {
            sink(Stream::Stdout, &vec![b'x'; CAPTURE_LIMIT_BYTES]);
            assert!(!kill.is_killed());
            sink(Stream::Stdout, b"x");
            assert!(kill.is_killed());
            Ok(ExitStatus::Signaled(9))
        });
        let error = ended.expect_err("too much");
        assert_eq!(error.to_string(), "`+t | RUN x` printed more than 1 MiB");
        assert_eq!(told, ["Failed { message: \"`+t | RUN x` printed more than 1 MiB\" }"]);
        let (ended, told) = run(false, &|_, kill| {
            kill.kill();
            Ok(ExitStatus::Signaled(9))
        });
        assert_eq!(
            (ended.expect_err("cancelled").kind(), told),
            (ErrorKind::Build, vec!["Cancelled".to_owned()])
        );
        let (ended, _) = run(false, &|_, _| Err(ExecError::NotFoundOutside { program: "x".to_owned() }));
        assert_eq!(ended.expect_err("missing").to_string(), "`x` was not found on this machine");
    }
}
