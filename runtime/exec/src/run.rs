//! Runs a prepared sandbox: starts it, carries its output, waits for its end.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rb_sys::child::{Ended, Failure};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::cgroup::{self, Group};
use crate::error::ExecError;
use crate::kill::{KillSwitch, Reach};
use crate::output::{Clock, carry};
use crate::plan::{self, Label, Plan, Source};
use crate::spec::{Isolation, Network, Spec};
use crate::{chroot, forward, room, terminal};

/// A standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

impl ExitStatus {
    /// Returns the code a shell shows: that of the command, or 128 and the signal.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => 128 + signal,
        }
    }
}

/// A command that ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecOutcome {
    /// How it ended.
    pub status: ExitStatus,
    /// From the first preparation to the end, as the wall clock goes.
    pub duration: Duration,
    /// Whether it was killed because its time was up.
    pub timed_out: bool,
    /// Whether the kernel killed a process of it because the limit on memory was reached.
    pub out_of_memory: bool,
}

pub(crate) const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];
/// The code that stands for an end by SIGKILL.
const KILLED: i32 = 128 + 9;

/// Runs `spec` and returns when every process of it has ended. Blocks; calls `log` from this thread as output arrives.
///
/// `kill` ends it from any other thread; the outcome is then that of signal 9. If this process or this thread ends, so
/// does the sandbox. Nothing stays mounted, and mount points that were made are gone again when this returns.
pub fn run(
    spec: &Spec,
    kill: &KillSwitch,
    log: &mut dyn FnMut(Stream, &[u8]),
) -> Result<ExecOutcome, ExecError> {
    if spec.isolation == Isolation::Chroot {
        return chroot::run(spec, kill, log);
    }
    let started = Instant::now();
    if kill.is_killed() {
        return Err(ExecError::Cancelled);
    }
    if let Network::Member(member) = &spec.network
        && (spec.insecure || spec.runtime.is_some())
    {
        member.keep_from_others();
    }
    let place = room::enter();
    let taken = forward::take(&spec.forwards, &spec.network)?;
    // The tree comes first and so goes last: mount points are removed when nothing holds the mounts any more.
    let group = cgroup::of(spec)?;
    let Plan { mut tree, program, labels, namespaces, output, candidates, ids, mut bundle } =
        plan::prepare(spec, group.as_ref())?;
    let into = group.as_ref().and_then(Group::unified);
    let mut child = program.spawn_in(namespaces, into).map_err(|source| ExecError::Setup {
        action: "create the namespaces of a sandbox".to_owned(),
        source,
    })?;
    let process = Arc::clone(child.pidfd());
    let reach = match &bundle {
        Some(bundle) => bundle.reach(process),
        None => Reach::Process(process),
    };
    let Some(registration) = kill.register(reach) else {
        return Err(ExecError::Cancelled); // dropping the child ends it
    };
    let forwarding = taken
        .start(&child)
        .map_err(|source| ExecError::Setup { action: "forward ports to the command".to_owned(), source })?;
    // Also closes our writing ends of the pipes.
    drop(program);
    tree.let_go_of_devices();
    if let Some(ids) = ids {
        ids.map(&child)?;
    }
    drop(place);
    let mut clock = Clock::of(spec, None);
    let mut hear = |stream: Stream, bytes: &[u8]| {
        if let Some(bundle) = &mut bundle {
            bundle.hear(stream, bytes);
        }
        log(stream, bytes);
    };
    let log: &mut dyn FnMut(Stream, &[u8]) = &mut hear;
    let carried = match (output, &spec.terminal) {
        (Source::Terminal(pair), Some(own)) => terminal::carry((&child, &registration), pair, own, spec, log),
        (Source::Pipes(pipes), _) => carry(&child, STREAMS.into_iter().zip(pipes).collect(), &mut clock, log),
        (Source::Inherited | Source::Terminal(_), _) => carry(&child, Vec::new(), &mut clock, log),
    };
    carried.map_err(waiting)?;
    let ended = child.wait().map_err(waiting)?;
    let out_of_memory = group.as_ref().is_some_and(Group::ran_out_of_memory);
    drop(group);
    drop(forwarding);
    let ended_by = registration.ended_by();
    drop(registration);
    if let Some(failure) = child.failure().map_err(waiting)? {
        let name = spec.args.first().map(String::as_str).unwrap_or_default();
        return Err(match (failure, &bundle) {
            (Failure::Execute(errno), Some(bundle)) => bundle.not_executed(errno),
            (Failure::Execute(errno), None) => {
                // A path of `candidates` that is not absolute starts at the working directory.
                let absolute = |path: &String| {
                    if path.starts_with('/') { path.clone() } else { format!("{}/{path}", spec.cwd) }
                };
                let found = candidates.iter().any(|path| tree.exists(&absolute(path)).unwrap_or(false));
                not_executed(name, errno, found)
            }
            (Failure::Step(step, errno), _) => failed_step(spec, labels.get(step), errno),
        });
    }
    if let (Some(bundle), Ended::Exited(1..), None) = (&bundle, ended, ended_by) {
        let name = spec.args.first().map(String::as_str).unwrap_or_default();
        if let Some(error) = bundle.failure(name).map_err(waiting)? {
            return Err(error);
        }
    }
    let status = match ended {
        // A runtime ends by itself, whatever its command ended by.
        Ended::Exited(code) => match (&bundle, ended_by) {
            (Some(_), Some(signal)) if code == KILLED => ExitStatus::Signaled(signal.as_raw()),
            _ => ExitStatus::Exited(code),
        },
        Ended::Signaled(signal) => ExitStatus::Signaled(ended_by.map_or(signal, Signal::as_raw)),
    };
    Ok(ExecOutcome { status, duration: started.elapsed(), timed_out: clock.is_up(), out_of_memory })
}

pub(crate) fn waiting(source: io::Error) -> ExecError {
    ExecError::Setup { action: "wait for the command".to_owned(), source }
}

pub(crate) fn failed_step(spec: &Spec, label: Option<&Label>, errno: i32) -> ExecError {
    let source = io::Error::from_raw_os_error(errno);
    match label {
        Some(Label::Cwd) => ExecError::Cwd { cwd: spec.cwd.clone(), source },
        Some(Label::Step(step)) => ExecError::Step { step: step.clone(), source },
        None => ExecError::Step { step: "an unknown step".to_owned(), source },
    }
}

pub(crate) fn not_executed(program: &str, errno: i32, found: bool) -> ExecError {
    let program = program.to_owned();
    match Errno::from_raw_os_error(errno) {
        Errno::NOENT | Errno::NOTDIR if found => ExecError::InterpreterNotFound { program },
        Errno::NOENT | Errno::NOTDIR => ExecError::NotFound { program },
        error => ExecError::NotExecutable { program, source: error.into() },
    }
}
