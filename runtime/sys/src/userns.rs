//! Entering a user namespace, in which this process is root over the ids mapped into it.
//!
//! Subordinate ids can only be mapped from outside, so a helper process is forked first, stays outside, runs
//! `newuidmap` and `newgidmap` (or writes the maps itself, where this process may) and ends.
//!
//! Source: user_namespaces(7), newuidmap(1).

use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::{process, rights};

/// `count` ids from `inside` on are those from `outside` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// First id in the namespace.
    pub inside: u32,
    /// First id in the namespace of before.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// How ids are mapped into the new namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdMapPlan {
    /// Root inside is this user outside, nobody else exists; setgroups(2) is denied.
    Single {
        /// Effective user id of this process.
        uid: u32,
        /// Effective group id of this process.
        gid: u32,
    },
    /// The setuid programs of shadow map the ranges.
    Programs {
        /// Path of `newuidmap`.
        newuidmap: PathBuf,
        /// Path of `newgidmap`.
        newgidmap: PathBuf,
        /// User ids.
        uids: Vec<IdRange>,
        /// Group ids.
        gids: Vec<IdRange>,
    },
    /// A copy of this process that stays outside writes the maps: needs `CAP_SETUID` and `CAP_SETGID`.
    Direct {
        /// User ids.
        uids: Vec<IdRange>,
        /// Group ids.
        gids: Vec<IdRange>,
    },
}

/// The namespace could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum UsernsError {
    /// unshare(2) with `CLONE_NEWUSER` needs a process with one thread.
    #[error("{count} threads are running")]
    Threads {
        /// How many.
        count: usize,
    },
    /// The kernel refuses the namespace; nothing has changed.
    #[error("cannot create a user namespace")]
    Unshare(#[source] io::Error),
    /// The process is in the namespace, without a map: [`map_single`] can still be called.
    #[error("cannot map ids: {message}")]
    Map {
        /// What the mapping program or the kernel said.
        message: String,
    },
    /// The namespace gives no power over mounts (a security module such as AppArmor took it).
    #[error("the user namespace has no power over mounts")]
    Powerless(#[source] io::Error),
    /// A pipe, fork or file failed.
    #[error("cannot prepare a user namespace")]
    Io(#[from] io::Error),
}

/// Moves this process into a new user namespace and a new mount namespace owned by it, with ids mapped by `plan`.
/// Must be called while there is one thread. Children inherit both namespaces.
pub fn enter(plan: &IdMapPlan) -> Result<(), UsernsError> {
    let count = process::thread_count()?;
    if count != 1 {
        return Err(UsernsError::Threads { count });
    }
    match plan {
        IdMapPlan::Single { uid, gid } => {
            rights::borrow();
            unshare()?;
            map_single(*uid, *gid)?;
        }
        IdMapPlan::Programs { .. } => {
            rights::borrow();
            map_from_outside(plan)?;
        }
        // Who may map ids is root of some kind already.
        IdMapPlan::Direct { .. } => map_from_outside(plan)?,
    }
    process::shield_mounts().map_err(UsernsError::Powerless)
}

/// Maps root, and nobody else, to the user and group this process is outside.
pub fn map_single(uid: u32, gid: u32) -> Result<(), UsernsError> {
    let write = |path: &str, text: String| {
        std::fs::write(path, text).map_err(|error| UsernsError::Map { message: format!("{path}: {error}") })
    };
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// Makes the mounts of the namespace private to it; part of [`enter`], to be repeated after [`map_single`] mended a
/// failed map.
pub fn shield_mounts() -> Result<(), UsernsError> {
    process::shield_mounts().map_err(UsernsError::Powerless)
}

fn unshare() -> Result<(), UsernsError> {
    // SAFETY: unshare(2) takes flags only.
    if unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) } != 0 {
        return Err(UsernsError::Unshare(io::Error::last_os_error()));
    }
    Ok(())
}

/// Forks the helper, enters the namespace, lets the helper map and waits for its word.
fn map_from_outside(plan: &IdMapPlan) -> Result<(), UsernsError> {
    let (mut signal_in, mut signal_out) = io::pipe()?;
    let (mut word_in, mut word_out) = io::pipe()?;
    let pid = std::process::id();
    let helper = process::fork(|| help(plan, pid, &mut signal_in, &mut word_out))?;
    drop((signal_in, word_out));
    let entered = unshare();
    signal_out.write_all(if entered.is_ok() { ENTERED } else { REFUSED })?;
    let mut message = String::new();
    word_in.read_to_string(&mut message)?;
    let code = helper.wait()?;
    entered?;
    if code == 0 { Ok(()) } else { Err(UsernsError::Map { message: message.trim().to_owned() }) }
}

const ENTERED: &[u8] = b"+";
const REFUSED: &[u8] = b"-";

/// The helper's life: waits until the parent `pid` is in its namespace, maps, says what went wrong on `word`.
fn help(plan: &IdMapPlan, pid: u32, signal: &mut io::PipeReader, word: &mut io::PipeWriter) -> i32 {
    // Ends with the parent; without that it would wait forever, as it holds a copy of the pipe's other end.
    if rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).is_err() {
        return 1;
    }
    let mut byte = [0];
    if !matches!(signal.read(&mut byte), Ok(1)) || byte != ENTERED {
        return 0;
    }
    let result = match plan {
        IdMapPlan::Programs { newuidmap, newgidmap, uids, gids } => {
            run_mapper(newuidmap, pid, uids).and_then(|()| run_mapper(newgidmap, pid, gids))
        }
        IdMapPlan::Direct { uids, gids } => {
            write_map(pid, "uid_map", uids).and_then(|()| write_map(pid, "gid_map", gids))
        }
        IdMapPlan::Single { .. } => Ok(()),
    };
    match result {
        Ok(()) => 0,
        Err(message) => {
            // If the parent is gone there is nobody to tell.
            word.write_all(message.as_bytes()).ok();
            1
        }
    }
}

fn run_mapper(program: &std::path::Path, pid: u32, ranges: &[IdRange]) -> Result<(), String> {
    let mut command = Command::new(program);
    command.arg(pid.to_string()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    for range in ranges {
        command.args([range.inside, range.outside, range.count].map(|number| number.to_string()));
    }
    let output = command.output().map_err(|error| format!("{}: {error}", program.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{} failed: {}", program.display(), said.trim()))
}

fn write_map(pid: u32, file: &str, ranges: &[IdRange]) -> Result<(), String> {
    let path = format!("/proc/{pid}/{file}");
    let lines: String =
        ranges.iter().map(|range| format!("{} {} {}\n", range.inside, range.outside, range.count)).collect();
    std::fs::write(&path, lines).map_err(|error| format!("{path}: {error}"))
}
