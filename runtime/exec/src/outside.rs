//! Commands on the user's own machine, outside of every sandbox and namespace: LOCALLY, git, credential helpers.
//!
//! [`enter_runtime`](crate::enter_runtime()) takes this process into namespaces of its own, and there is no way back. So
//! before that a copy of it is forked, the [doorman](doorman), which stays. In: a [`HostCommand`]. Out: its output as it
//! comes and how it ended, or an [`ExecError`] that says why it did not start.
//!
//! How, in order: [`Outside::run`] makes pipes and a line (a pair of sockets) and passes their far ends to the doorman
//! (`SCM_RIGHTS`), which forks one [keeper](keeper) a command. The request goes down the line ([`wire`]); the keeper
//! starts the command, waits, and answers how it ended. The command reads and writes the pipes itself, so what it is
//! given on standard input passes through no other process.
//!
//! **What always holds.** Neither doorman nor keepers hold a descriptor of this process but their own sockets and pipes,
//! and they stand in a session of their own, which signals of the terminal do not reach. A line that is hung up, by a
//! [`KillSwitch`] or by the end of this process, ends its command and all that descends from it. What a command leaves
//! running when it ends by itself is left, as a shell would: it is the user's machine.

mod doorman;
mod keeper;
mod wire;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rb_sys::process::{self, Forked};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::error::ExecError;
use crate::kill::{KillSwitch, Reach};
use crate::run::{ExitStatus, Stream};
use wire::Answer;

/// One command on the user's own machine.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HostCommand {
    /// Program and arguments. A program without a `/` is looked for in the command's own PATH.
    pub args: Vec<OsString>,
    /// Variables over those of the user; PWD is set to `cwd`.
    pub env: Vec<(OsString, OsString)>,
    /// Whether the user's own variables are left out.
    pub env_clear: bool,
    /// Working directory, absolute.
    pub cwd: PathBuf,
    /// What it reads on its standard input; where that is nothing, the input is `/dev/null`. It may be a secret, and is
    /// never printed.
    pub stdin: Vec<u8>,
}

impl fmt::Debug for HostCommand {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { args, env, env_clear, cwd, stdin } = self;
        out.debug_struct("HostCommand")
            .field("args", args)
            .field("env", env)
            .field("env_clear", env_clear)
            .field("cwd", cwd)
            .field("stdin_bytes", &stdin.len())
            .finish()
    }
}

/// The way out. Share it; commands may run at once. Dropping it ends the doorman.
#[derive(Debug)]
pub struct Outside {
    /// `None` once it is being closed.
    door: Option<OwnedFd>,
    doorman: Option<Forked>,
}

impl Outside {
    /// Leaves the doorman outside. To be called before [`enter_runtime`](crate::enter_runtime()) and before any thread
    /// exists.
    ///
    /// # Errors
    /// `Threads` if it is too late for that.
    pub fn start() -> Result<Self, ExecError> {
        let failed = |source| setup("leave a process outside of sandboxes", source);
        let count = process::thread_count().map_err(failed)?;
        if count != 1 {
            return Err(ExecError::Threads { count });
        }
        // Packets, so that requests of several threads stay whole.
        let (door, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|error| failed(error.into()))?;
        let us = rustix::process::getpid();
        let doorman = process::fork_apart(far, |far| doorman::serve(far, us)).map_err(failed)?;
        Ok(Self { door: Some(door), doorman: Some(doorman) })
    }

    /// Runs a command and returns when it has ended. Blocks; calls `sink` from this thread as output arrives.
    ///
    /// `kill` ends it, with all that descends from it, from any other thread; the status is then that of signal 9. The
    /// same happens if this process ends. What another user's processes (`sudo`) do then is not in our power.
    ///
    /// # Errors
    /// `NotFoundOutside`, `InterpreterNotFound`, `NotExecutable` and `Cwd` tell of the command; `Cancelled`, that it
    /// was not started because of `kill`; `Outside`, that the doorman is gone.
    pub fn run(
        &self,
        command: &HostCommand,
        kill: &KillSwitch,
        sink: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<ExitStatus, ExecError> {
        check(command)?;
        if kill.is_killed() {
            return Err(ExecError::Cancelled);
        }
        let failed = |error: Errno| setup("prepare a command outside of sandboxes", error.into());
        let (line, far) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(failed)?;
        let (stdout, stdout_far) = output_pipe().map_err(failed)?;
        let (stderr, stderr_far) = output_pipe().map_err(failed)?;
        let (stdin, stdin_far) = input(&command.stdin).map_err(failed)?;
        let door = self.door.as_ref().ok_or_else(|| gone(Errno::PIPE.into()))?;
        wire::send_files(door, [&far, &stdin_far, &stdout_far, &stderr_far]).map_err(gone)?;
        drop((far, stdin_far, stdout_far, stderr_far));

        let line = Arc::new(line);
        let Some(registration) = kill.register(Reach::Line(Arc::clone(&line))) else {
            return Err(ExecError::Cancelled); // the line closes, and nothing was started
        };
        // Where this fails, nobody reads: there is an answer already, or there will be none.
        let told = wire::write_request(&line, command);
        carry(&line, Feed { pipe: stdin, rest: &command.stdin }, stdout, stderr, sink)
            .map_err(|source| setup("read what a command outside of sandboxes says", source))?;
        let answer = wire::read_answer(&line).map_err(|error| told.err().unwrap_or(error));
        drop(registration);
        match answer {
            Ok(answer) => outcome(command, answer),
            Err(_) if kill.is_killed() => Err(ExecError::Cancelled),
            Err(source) => Err(gone(source)),
        }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // Hangs up, which is what the doorman waits for.
        self.door = None;
        if let Some(doorman) = self.doorman.take() {
            // Should the kernel not let us wait, it ends without us.
            doorman.wait().ok();
        }
    }
}

fn setup(action: &str, source: io::Error) -> ExecError {
    ExecError::Setup { action: action.to_owned(), source }
}

fn gone(source: io::Error) -> ExecError {
    ExecError::Outside { source }
}

/// Refuses what no kernel would take.
fn check(command: &HostCommand) -> Result<(), ExecError> {
    if command.args.first().is_none_or(|program| program.is_empty()) {
        return Err(ExecError::NoCommand);
    }
    let holds_nul = |text: &OsString| text.as_bytes().contains(&0);
    for (what, found) in [
        ("an argument", command.args.iter().any(holds_nul)),
        (
            "an environment variable",
            command.env.iter().any(|(name, value)| holds_nul(name) || holds_nul(value)),
        ),
        ("the working directory", command.cwd.as_os_str().as_bytes().contains(&0)),
    ] {
        if found {
            return Err(ExecError::Nul { what });
        }
    }
    if !command.cwd.is_absolute() {
        // The doorman stands in `/`, so a relative path would silently mean another folder.
        let source = io::Error::new(io::ErrorKind::InvalidInput, "it is not an absolute path");
        return Err(ExecError::Cwd { cwd: command.cwd.display().to_string(), source });
    }
    Ok(())
}

fn outcome(command: &HostCommand, answer: Answer) -> Result<ExitStatus, ExecError> {
    let program = || command.args.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match answer {
        Answer::Exited(code) => Ok(ExitStatus::Exited(code)),
        Answer::Signaled(signal) => Ok(ExitStatus::Signaled(signal)),
        Answer::NoCwd(errno) => Err(ExecError::Cwd {
            cwd: command.cwd.display().to_string(),
            source: io::Error::from_raw_os_error(errno),
        }),
        Answer::NotFound => Err(ExecError::NotFoundOutside { program: program() }),
        Answer::NoInterpreter => Err(ExecError::InterpreterNotFound { program: program() }),
        Answer::NotExecuted(errno) => {
            Err(ExecError::NotExecutable { program: program(), source: io::Error::from_raw_os_error(errno) })
        }
        Answer::Failed(errno) => {
            Err(setup("start a command outside of sandboxes", io::Error::from_raw_os_error(errno)))
        }
    }
}

/// Returns our end, which does not block, and the command's, which does.
fn output_pipe() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let (ours, far) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&ours, OFlags::NONBLOCK)?;
    Ok((ours, far))
}

/// Returns our end of a command's standard input, which does not block, if there is anything to say, and the command's.
fn input(bytes: &[u8]) -> rustix::io::Result<(Option<OwnedFd>, OwnedFd)> {
    if bytes.is_empty() {
        // Some programs do another thing where their input is a pipe, be it an empty one.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        return Ok((None, rustix::fs::open("/dev/null", flags, Mode::empty())?));
    }
    let (far, ours) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&ours, OFlags::NONBLOCK)?;
    Ok((Some(ours), far))
}

/// What a command is still to be given.
struct Feed<'a> {
    /// Where it goes; `None` once all is said or nobody reads.
    pipe: Option<OwnedFd>,
    rest: &'a [u8],
}

impl Feed<'_> {
    /// Writes what fits.
    fn advance(&mut self) -> io::Result<()> {
        let Some(pipe) = &self.pipe else { return Ok(()) };
        match rustix::io::write(pipe, self.rest) {
            Ok(length) => self.rest = self.rest.get(length..).unwrap_or_default(),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // A command need not read what it is given.
            Err(Errno::PIPE) => self.rest = &[],
            Err(error) => return Err(error.into()),
        }
        if self.rest.is_empty() {
            self.pipe = None;
        }
        Ok(())
    }
}

const BUFFER_BYTES: usize = 64 << 10;

/// How long output is still awaited once the command has ended, while something it left running could write.
const GRACE: Duration = Duration::from_millis(100);

/// Hands on input and output until `line` has an answer, then what was written before that, and for a moment what comes after it
/// (`cmd > >(tee log)`).
fn carry(
    line: &OwnedFd,
    mut feed: Feed<'_>,
    stdout: OwnedFd,
    stderr: OwnedFd,
    sink: &mut dyn FnMut(Stream, &[u8]),
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut pipes = vec![(Stream::Stdout, stdout), (Stream::Stderr, stderr)];
    // Once the command has ended: until when to wait, and how much was in the pipes already.
    let mut last: Option<(Instant, u64)> = None;
    loop {
        let mut waited: Vec<PollFd<'_>> =
            pipes.iter().map(|(_, pipe)| PollFd::new(pipe, PollFlags::IN)).collect();
        let timeout = match last {
            None => {
                waited.extend(feed.pipe.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
                waited.push(PollFd::new(line, PollFlags::IN));
                None
            }
            Some((until, owed)) => {
                let left = until.saturating_duration_since(Instant::now());
                if pipes.is_empty() || (left.is_zero() && owed == 0) {
                    return Ok(());
                }
                Some(Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() })
            }
        };
        match poll(&mut waited, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<bool> = waited.iter().map(|polled| !polled.revents().is_empty()).collect();
        if last.is_none() && ready.last() == Some(&true) {
            let owed =
                pipes.iter().map(|(_, pipe)| rustix::io::ioctl_fionread(pipe)).sum::<Result<u64, _>>()?;
            last = Some((Instant::now() + GRACE, owed));
            feed.pipe = None;
            continue;
        }
        if feed.pipe.is_some() && ready.get(pipes.len()) == Some(&true) {
            feed.advance()?;
        }
        let mut at = ready.into_iter();
        let mut failure = None;
        // One buffer each, so that both streams move.
        pipes.retain(|(stream, pipe)| {
            if !at.next().unwrap_or(false) {
                return true;
            }
            match rustix::io::read(pipe, &mut buffer) {
                Ok(0) => false,
                Ok(length) => {
                    if let Some((_, owed)) = &mut last {
                        *owed = owed.saturating_sub(length as u64);
                    }
                    sink(*stream, buffer.get(..length).unwrap_or_default());
                    true
                }
                Err(Errno::AGAIN | Errno::INTR) => true,
                Err(error) => {
                    failure = Some(error);
                    false
                }
            }
        });
        if let Some(error) = failure {
            return Err(error.into());
        }
    }
}
