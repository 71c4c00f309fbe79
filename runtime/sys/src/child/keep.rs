//! The keeper: who stays between a command and this process, and ends what the command leaves behind.
//!
//! For commands that have no process namespace, whose end would end all. The child becomes a subreaper (prctl(2)) and forks;
//! the new process goes on with the steps, the keeper waits. When the command has ended, or the line was hung up (this
//! process wants that, or is gone), the keeper kills every child it has, and those that become its children by that,
//! until none is left; then it writes on the line how the command ended (wait(2)'s status, four bytes) and exits.
//!
//! **Invariants:** those of `interpret`: raw calls, nothing allocated. When the keeper has exited by itself, nothing that
//! descends from the command is left.
//! Source: PR_SET_CHILD_SUBREAPER(2const), getdents(2), proc_pid_stat(5), signalfd(2).

use std::ffi::{c_int, c_long};
use std::os::fd::RawFd;

use super::call::{call, close};

/// Size of the kernel's signal set in bytes.
const SIGNAL_SET: usize = 8;

/// How long the keeper sleeps, if nothing wakes it, before it looks for processes again. In nanoseconds.
const PAUSE_NS: i64 = 2_000_000;

/// Which of two processes goes on.
pub(super) enum Fork {
    /// The one that is to become the command.
    Command,
    /// The keeper, when nothing is left to keep: it has only to exit.
    Keeper,
}

/// Forks the command off. `line` is the keeper's end of a pair of sockets, `processes` an own description of `/proc`.
pub(super) fn keep(line: RawFd, processes: RawFd) -> Result<Fork, c_int> {
    let no = 0 as c_long;
    call!(libc::SYS_prctl, libc::PR_SET_CHILD_SUBREAPER as c_long, 1 as c_long, no, no, no)?;
    let ended: u64 = 1 << (libc::SIGCHLD - 1);
    let flags = (libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) as c_long;
    // All signals are blocked here, and stay so in the keeper.
    let wakes = call!(libc::SYS_signalfd4, -1 as c_long, &raw const ended, SIGNAL_SET, flags)? as RawFd;
    // fork(2), which not every machine has as a call of its own.
    let command = call!(libc::SYS_clone, libc::SIGCHLD as c_long, no, no, no, no)?;
    if command == 0 {
        close(wakes);
        return Ok(Fork::Command);
    }
    let mut keeper = Keeper { command, ended: None };
    while keeper.reap() && keeper.ended.is_none() && !wait(line, wakes, None) {}
    // Those of the line are not waited for any more: it may have been hung up, and would wake for ever.
    loop {
        kill_children(processes);
        if !keeper.reap() {
            break;
        }
        wait(-1, wakes, Some(PAUSE_NS));
    }
    if let Some(status) = keeper.ended {
        // If nobody listens any more, nobody misses it; SIGPIPE is blocked.
        let _ = call!(libc::SYS_write, line as c_long, &raw const status, size_of::<c_int>());
    }
    Ok(Fork::Keeper)
}

struct Keeper {
    command: c_long,
    ended: Option<c_int>,
}

impl Keeper {
    /// Lays to rest all children that have ended. Returns whether others are left.
    fn reap(&mut self) -> bool {
        loop {
            let mut status: c_int = 0;
            let how = (libc::WNOHANG | libc::__WALL) as c_long;
            match call!(libc::SYS_wait4, -1 as c_long, &raw mut status, how, 0 as c_long) {
                Ok(0) => return true,
                Ok(pid) if pid == self.command => self.ended = Some(status),
                Ok(_) | Err(libc::EINTR) => {}
                // There are no children.
                Err(_) => return false,
            }
        }
    }
}

/// Sleeps until a child ends, the line is hung up, or the time is up. Returns whether it is the line.
fn wait(line: RawFd, wakes: RawFd, pause_ns: Option<i64>) -> bool {
    let poll = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut waited = [poll(line), poll(wakes)];
    // The kernel writes into it what was left.
    let mut pause = [0i64, pause_ns.unwrap_or_default()];
    let time = if pause_ns.is_some() { pause.as_mut_ptr() } else { std::ptr::null_mut() };
    let mask = std::ptr::null::<u64>();
    // That it fails means that it is tried again.
    let _ = call!(libc::SYS_ppoll, waited.as_mut_ptr(), waited.len() as c_long, time, mask, SIGNAL_SET);
    let mut seen = [0u8; 128];
    let _ = call!(libc::SYS_read, wakes as c_long, seen.as_mut_ptr(), seen.len());
    let [line, _] = waited;
    line.revents != 0
}

/// Kills every process whose parent is this one.
fn kill_children(processes: RawFd) {
    let Ok(own) = call!(libc::SYS_getpid) else { return };
    let _ = call!(libc::SYS_lseek, processes as c_long, 0 as c_long, libc::SEEK_SET as c_long);
    let mut buffer = Entries([0; 4096]);
    loop {
        let read = call!(libc::SYS_getdents64, processes as c_long, buffer.0.as_mut_ptr(), buffer.0.len());
        let Some(mut rest) = read.ok().and_then(|length| buffer.0.get(..length as usize)) else { return };
        if rest.is_empty() {
            return;
        }
        // struct linux_dirent64: inode, offset, length of this entry, type, name with a NUL.
        while let Some([low, high]) = rest.get(16..18) {
            let length = usize::from(u16::from_ne_bytes([*low, *high]));
            let Some(name) = rest.get(19..length) else { return };
            if let Some(pid) = number(name)
                && parent_of(processes, name) == Some(own)
            {
                // It may have ended by itself, and is not waited for, so the number is still its own.
                let _ = call!(libc::SYS_kill, pid, libc::SIGKILL as c_long);
            }
            let Some(next) = rest.get(length..) else { return };
            rest = next;
        }
    }
}

/// A buffer that entries of a directory fit into as the kernel aligns them.
#[repr(C, align(8))]
struct Entries([u8; 4096]);

/// Reads the parent out of `PID/stat`: `pid (name) state parent …`, where the name may hold anything.
fn parent_of(processes: RawFd, name: &[u8]) -> Option<c_long> {
    let mut path = [0u8; 32];
    let digits = name.iter().position(|byte| *byte == 0)?;
    path.get_mut(..digits)?.copy_from_slice(name.get(..digits)?);
    // What follows stays NUL.
    path.get_mut(digits..digits + 5)?.copy_from_slice(b"/stat");
    path.get(digits + 5)?;
    let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as c_long;
    let file = call!(libc::SYS_openat, processes as c_long, path.as_ptr(), flags, 0 as c_long).ok()?;
    let mut text = [0u8; 512];
    let length = call!(libc::SYS_read, file, text.as_mut_ptr(), text.len());
    close(file as RawFd);
    let text = text.get(..length.ok()? as usize)?;
    let behind = text.iter().rposition(|byte| *byte == b')')?;
    // `) S 42 `
    number(text.get(behind + 4..)?)
}

/// Reads the number that a text begins with; nothing if it begins with none.
fn number(text: &[u8]) -> Option<c_long> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    let mut found = None;
    for digit in digits {
        let so_far: c_long = found.unwrap_or(0);
        found = Some(so_far.checked_mul(10)?.checked_add(c_long::from(digit - b'0'))?);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_where_digits_do() {
        assert_eq!(number(b"42\0"), Some(42));
        assert_eq!(number(b"7 7 0"), Some(7));
        assert_eq!(number(b"self\0"), None);
        assert_eq!(number(b""), None);
        assert_eq!(number(b"99999999999999999999"), None);
    }

    #[test]
    fn a_parent_is_found_whatever_the_name() {
        use std::os::fd::AsRawFd as _;
        let processes = std::fs::File::open("/proc").unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let program = scratch.path().join(") R 1 (");
        std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
        let mut child = std::process::Command::new(&program).arg("60").spawn().unwrap();
        let name = format!("{}\0", child.id());
        let parent = parent_of(processes.as_raw_fd(), name.as_bytes());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(parent, Some(c_long::from(std::process::id())));
        assert_eq!(parent_of(processes.as_raw_fd(), b"no-such\0"), None);
    }
}
