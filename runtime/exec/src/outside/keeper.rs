//! The process that starts one command, waits for it, and ends all that descends from it when the line is hung up.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, pidfd_open};

use super::HostCommand;
use super::wire::{self, Answer};

/// How often adopted processes that have ended are laid to rest while the command runs.
const REAPING: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// How long ending a tree may take. What is left then cannot be killed: another user's, or stuck in the kernel.
const PATIENCE: Duration = Duration::from_millis(500);

/// Between two looks at what is left of a tree.
const PAUSE: Duration = Duration::from_millis(2);

/// The keeper's life. Returns its exit code.
pub(super) fn keep(line: &OwnedFd, streams: [OwnedFd; 3], master: &OwnedFd) -> i32 {
    let answer = match wire::read_request(line) {
        Ok(Some(command)) => match start(&command, streams) {
            Ok(child) => watch(line, master, child),
            Err(answer) => answer,
        },
        // Hung up before anything was started.
        Ok(None) => return 0,
        Err(error) => Answer::Failed(error.raw_os_error().unwrap_or_default()),
    };
    // If nobody listens, nobody misses it.
    wire::write_answer(line, answer).ok();
    0
}

fn start(command: &HostCommand, streams: [OwnedFd; 3]) -> Result<Pid, Answer> {
    let HostCommand { args, env, env_clear, cwd, stdin: _ } = command;
    // What loses its parent becomes a child of this process instead of the first one's, and so can be found.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(failed)?;
    rustix::process::chdir(cwd).map_err(|error| Answer::NoCwd(error.raw_os_error()))?;
    let [program, arguments @ ..] = args.as_slice() else { return Err(Answer::NotFound) };
    let [stdin, stdout, stderr] = streams.map(Stdio::from);
    let mut command = Command::new(program);
    command.args(arguments).stdin(stdin).stdout(stdout).stderr(stderr).process_group(0);
    if *env_clear {
        command.env_clear();
    }
    command.env("PWD", cwd).envs(env.iter().map(|(name, value)| (name, value)));
    let spawned = command.spawn();
    let child = spawned.map_err(|error| {
        let errno = error.raw_os_error().unwrap_or_default();
        // Only a path says where to look; names were looked for in the command's PATH.
        let exists = program.as_bytes().contains(&b'/') && Path::new(program).exists();
        match Errno::from_raw_os_error(errno) {
            Errno::NOENT if exists => Answer::NoInterpreter,
            Errno::NOENT | Errno::NOTDIR => Answer::NotFound,
            Errno::NOMEM | Errno::AGAIN | Errno::MFILE | Errno::NFILE => Answer::Failed(errno),
            _ => Answer::NotExecuted(errno),
        }
    })?;
    // Our copies of the pipes' ends go with `command`.
    Ok(Pid::from_child(&child))
}

fn failed(error: Errno) -> Answer {
    Answer::Failed(error.raw_os_error())
}

/// Waits until the command `child` has ended, or ends it.
fn watch(line: &OwnedFd, master: &OwnedFd, child: Pid) -> Answer {
    // It may have ended, but was not waited for, so its number is still its own.
    let process = match pidfd_open(child, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(error) => {
            end_tree(child);
            return failed(error);
        }
    };
    let mut ended = None;
    loop {
        let mut waited = [&process, line, master].map(|file| PollFd::new(file, PollFlags::IN));
        match poll(&mut waited, Some(&REAPING)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                end_tree(child);
                return failed(error);
            }
        }
        let [_, hung_up, master_ended] = waited.map(|polled| !polled.revents().is_empty());
        // What ended by itself before is told as that.
        reap(child, &mut ended);
        if let Some(status) = ended {
            return told(status);
        }
        // Nothing is ever sent after the request.
        if hung_up || master_ended {
            end_tree(child);
            return Answer::Signaled(Signal::KILL.as_raw());
        }
    }
}

fn told(status: WaitStatus) -> Answer {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Answer::Exited(code),
        (None, signal) => Answer::Signaled(signal.unwrap_or_default()),
    }
}

/// Lays to rest all children that have ended, and keeps the end of the command. Returns whether others are left.
fn reap(command: Pid, ended: &mut Option<WaitStatus>) -> bool {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == command => *ended = Some(status),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return true,
            // There are no children.
            Err(_) => return false,
        }
    }
}

/// Kills the command, its group and all that descends from this process, as far as the kernel allows.
///
/// Whatever is forked while its parent is being killed becomes a child of ours and is found at the next look.
fn end_tree(command: Pid) {
    let until = Instant::now() + PATIENCE;
    let mut ended = None;
    // Not waited for yet, so the group is still the command's.
    rustix::process::kill_process_group(command, Signal::KILL).ok();
    loop {
        for pid in descendants(rustix::process::getpid()) {
            // It has ended meanwhile, or is another user's.
            rustix::process::kill_process(pid, Signal::KILL).ok();
        }
        if !reap(command, &mut ended) || Instant::now() >= until {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Returns all processes that descend from `ancestor`. Source: proc_pid_stat(5).
fn descendants(ancestor: Pid) -> Vec<Pid> {
    let mut children: BTreeMap<i32, Vec<Pid>> = BTreeMap::new();
    // Without /proc there remains the group.
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(number) else { continue };
        let Ok(stat) = std::fs::read(entry.path().join("stat")) else { continue };
        if let Some(parent) = parent(&stat) {
            children.entry(parent.as_raw_pid()).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut waiting = vec![ancestor];
    while let Some(pid) = waiting.pop() {
        // Each is taken once, so a look that caught numbers in motion ends all the same.
        let mut below = children.remove(&pid.as_raw_pid()).unwrap_or_default();
        found.extend_from_slice(&below);
        waiting.append(&mut below);
    }
    found
}

fn number(text: &str) -> Option<Pid> {
    text.parse().ok().and_then(Pid::from_raw)
}

/// Reads the parent out of `pid (name) state parent …`, where the name may hold anything.
fn parent(stat: &[u8]) -> Option<Pid> {
    let behind_name = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(behind_name + 1..)?).ok()?;
    number(rest.split_ascii_whitespace().nth(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_found_behind_any_name() {
        assert_eq!(parent(b"7 (sh) S 42 7 7 0"), number("42"));
        assert_eq!(parent(b"7 (a) S 1 (\xff) R 43 7 7 0"), number("43"));
        assert_eq!(parent(b"1 (init) S 0 1 1 0"), None);
        assert_eq!(parent(b"7 sh"), None);
    }

    #[test]
    fn descendants_are_found() {
        let mut child = Command::new("sh").args(["-c", "sleep 60; true"]).spawn().unwrap();
        let pid = Pid::from_child(&child);
        let deadline = Instant::now() + Duration::from_secs(10);
        let below = loop {
            let below = descendants(pid);
            if !below.is_empty() || Instant::now() > deadline {
                break below;
            }
        };
        assert_eq!(below.len(), 1);
        assert!(descendants(rustix::process::getpid()).contains(&pid));
        rustix::process::kill_process(below[0], Signal::KILL).unwrap();
        child.wait().unwrap();
    }
}
