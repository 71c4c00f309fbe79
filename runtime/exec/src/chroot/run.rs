//! Runs a command in a chroot: starts it below its keeper, carries its output, waits for its end, takes out what was put in.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rb_sys::child::{Child, Ended, Failure, Namespaces};
use rustix::net::{AddressFamily, RecvFlags, Shutdown, SocketFlags, SocketType};
use rustix::process::{Pid, Signal};

use super::refuse;
use crate::error::ExecError;
use crate::kill::{KillSwitch, Reach};
use crate::output::{Clock, carry};
use crate::plan::{self, ChrootPlan, Source};
use crate::room;
use crate::run::{ExecOutcome, ExitStatus, STREAMS, Stream, failed_step, not_executed, waiting};
use crate::spec::Spec;

/// As [`run`](crate::run()), in a chroot.
pub(crate) fn run(
    spec: &Spec,
    kill: &KillSwitch,
    log: &mut dyn FnMut(Stream, &[u8]),
) -> Result<ExecOutcome, ExecError> {
    let started = Instant::now();
    if kill.is_killed() {
        return Err(ExecError::Cancelled);
    }
    refuse(spec)?;
    let place = room::enter();
    let (line, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(|error| waiting(error.into()))?;
    let line = Arc::new(line);
    // What was laid goes last, when no process is left.
    let ChrootPlan { mut laid, program, labels, output, candidates } = plan::chroot(spec, theirs)?;
    let child = program
        .spawn(Namespaces::default())
        .map_err(|source| ExecError::Setup { action: "start the keeper of a command".to_owned(), source })?;
    let mut kept = Kept { child, line: Arc::clone(&line) };
    // Also closes our writing ends of the pipes.
    drop(program);
    let Some(registration) = kill.register(Reach::Line(Arc::clone(&line))) else {
        return Err(ExecError::Cancelled); // dropping what is kept ends it
    };
    drop(place);
    let mut clock = Clock::of(spec, Some(line));
    let pipes = match output {
        Source::Pipes(pipes) => STREAMS.into_iter().zip(pipes).collect(),
        Source::Inherited | Source::Terminal(_) => Vec::new(),
    };
    carry(&kept.child, pipes, &mut clock, log).map_err(waiting)?;
    kept.child.wait().map_err(waiting)?;
    drop(registration);
    if let Some(failure) = kept.child.failure().map_err(waiting)? {
        let name = spec.args.first().map(String::as_str).unwrap_or_default();
        return Err(match failure {
            Failure::Execute(errno) => {
                let absolute = |path: &String| {
                    if path.starts_with('/') { path.clone() } else { format!("{}/{path}", spec.cwd) }
                };
                let found = candidates.iter().any(|path| laid.tree.exists(&absolute(path)).unwrap_or(false));
                not_executed(name, errno, found)
            }
            Failure::Step(step, errno) => failed_step(spec, labels.get(step), errno),
        });
    }
    let Some(ended) = kept.told().map_err(waiting)? else {
        // What it kept has other parents now, and its root still tells whose it was.
        kill_in(laid.root()).map_err(waiting)?;
        return Err(ExecError::KeeperKilled);
    };
    let status = match ended {
        Ended::Exited(code) => ExitStatus::Exited(code),
        Ended::Signaled(signal) => ExitStatus::Signaled(signal),
    };
    let timed_out = clock.is_up();
    match laid.take_out() {
        // That we ended it is what it is told by. If it ended itself, or another did, it hides nothing by that.
        Err(ExecError::Forbidden { .. }) if timed_out || kill.is_killed() => {}
        out => out?,
    }
    Ok(ExecOutcome { status, duration: started.elapsed(), timed_out, out_of_memory: false })
}

/// A keeper and the line to it. Dropping it ends all that is kept, and waits for it.
struct Kept {
    child: Child,
    line: Arc<OwnedFd>,
}

impl Kept {
    /// Returns what the keeper told of the command's end; nothing if it could not any more.
    fn told(&self) -> io::Result<Option<Ended>> {
        let mut status = [0; 4];
        let read = rustix::net::recv(&*self.line, &mut status[..], RecvFlags::DONTWAIT);
        match read {
            Ok((4, _)) => Ok(Some(Ended::told(status))),
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // It may have ended by itself.
        rustix::net::shutdown(&*self.line, Shutdown::Write).ok();
        self.child.wait().ok();
    }
}

/// Kills every process whose root is this one, until there is none; of other users' only those that this process may look at.
fn kill_in(root: &OwnedFd) -> io::Result<()> {
    let root = rustix::fs::fstat(root)?;
    let is_in = |process: &Path| {
        std::fs::metadata(process.join("root"))
            .is_ok_and(|found| (found.dev(), found.ino()) == (root.st_dev, root.st_ino))
    };
    loop {
        let mut found = false;
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
            if let Some(pid) = pid.filter(|_| is_in(&entry.path())) {
                found = true;
                rustix::process::kill_process(pid, Signal::KILL).ok();
            }
        }
        if !found {
            return Ok(());
        }
        std::thread::yield_now();
    }
}
