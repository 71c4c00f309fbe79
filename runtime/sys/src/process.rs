//! This process: its threads, a fork of it, its mount namespace.

use std::io;
use std::num::NonZeroI32;
use std::os::fd::{AsRawFd as _, IntoRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use rustix::fs::{Mode, OFlags};

/// Returns how many threads this process has. Reads `/proc/self/task`.
pub fn thread_count() -> io::Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir("/proc/self/task")? {
        entry?;
        count += 1;
    }
    Ok(count)
}

/// A forked process, not yet waited for. Dropping it without [`wait`](Self::wait) leaves a zombie until this process ends.
#[derive(Debug)]
pub struct Forked {
    pid: NonZeroI32,
}

impl Forked {
    /// Waits until it ended and returns its exit code; 128 + signal if a signal ended it.
    pub fn wait(self) -> io::Result<i32> {
        let mut status = 0;
        loop {
            // SAFETY: waitpid(2) writes one int, which lives on this stack.
            let answer = unsafe { libc::waitpid(self.pid.get(), &raw mut status, 0) };
            if answer == self.pid.get() {
                break;
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        Ok(if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) })
    }
}

/// Runs `body` in a copy of this process, which exits with the number it returns.
///
/// Refuses with `WouldBlock` if there is more than one thread: in the copy, the locks of the others would stay locked.
pub fn fork(body: impl FnOnce() -> i32) -> io::Result<Forked> {
    if thread_count()? != 1 {
        return Err(io::Error::new(io::ErrorKind::WouldBlock, "other threads are running"));
    }
    // SAFETY: fork(2) in a process with one thread, as just verified and as only this thread could change: the copy
    // has all of the program's state in order, so ordinary code may run in it.
    let pid = unsafe { libc::fork() };
    match NonZeroI32::new(pid) {
        Some(pid) if pid.get() > 0 => Ok(Forked { pid }),
        Some(_) => Err(io::Error::last_os_error()),
        None => {
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(101);
            // SAFETY: _exit(2) takes any number and does not return. Destructors are the original's business.
            unsafe { libc::_exit(code) }
        }
    }
}

/// As [`fork`], with a copy that keeps `file` and no other descriptor of this process: its standard streams are
/// `/dev/null`, and it waits for nobody and makes nobody wait. `body` must not hold descriptors of its own.
pub fn fork_apart(file: OwnedFd, body: impl FnOnce(OwnedFd) -> i32) -> io::Result<Forked> {
    fork(move || match leave_all_but(file) {
        Ok(file) => body(file),
        Err(_) => 1,
    })
}

/// Closes all descriptors of this process but `file`, which is returned under another number.
fn leave_all_but(file: OwnedFd) -> io::Result<OwnedFd> {
    // Above the standard streams, which are replaced.
    let kept = rustix::io::fcntl_dupfd_cloexec(&file, FIRST_OWN)?;
    // Closed below with all the others; its number must not be closed again.
    let _number = file.into_raw_fd();
    let null = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    drop(null);
    close_range(FIRST_OWN, kept.as_raw_fd() - 1)?;
    close_range(kept.as_raw_fd() + 1, RawFd::MAX)?;
    Ok(kept)
}

/// The first descriptor behind the standard streams.
const FIRST_OWN: RawFd = 3;

fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: close_range(2) takes numbers only. Whoever owned these descriptors is in the original of this copy: what
    // runs here is `fork_apart`, whose body was promised to hold none, and no destructors run at its end.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Keeps all descriptors of this process but the standard streams from the programs that it starts from now on.
pub fn keep_from_children() -> io::Result<()> {
    // SAFETY: close_range(2) takes numbers only. With this flag it closes nothing: it marks what is open (FD_CLOEXEC).
    let answer =
        unsafe { libc::syscall(libc::SYS_close_range, FIRST_OWN, RawFd::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Moves this process into a mount namespace of its own; mounts made outside still appear in it (slave), mounts made
/// in it do not appear outside. Affects the calling thread only, so call it while it is the only one.
pub fn enter_mount_namespace() -> io::Result<()> {
    // SAFETY: unshare(2) takes flags only.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        return Err(io::Error::last_os_error());
    }
    shield_mounts()
}

/// Runs `body` on a thread with a mount namespace and a working directory of its own. Nobody else sees what it mounts, and all
/// of that goes with the thread; a mount that is to stay has to be returned detached. Takes a fraction of a millisecond.
///
/// # Errors
/// If the thread cannot be started, or may not mount; then `body` has not run.
pub fn with_own_mounts<T: Send>(body: impl FnOnce() -> T + Send) -> io::Result<T> {
    let work = || {
        // SAFETY: unshare(2) takes flags only; with these it concerns the calling thread, which is ours alone.
        if unsafe { libc::unshare(libc::CLONE_FS | libc::CLONE_NEWNS) } != 0 {
            return Err(io::Error::last_os_error());
        }
        propagate(libc::MS_PRIVATE)?;
        Ok(body())
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("mounts".to_owned()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Keeps mounts made from now on to this mount namespace, while those made outside still come in.
pub(crate) fn shield_mounts() -> io::Result<()> {
    propagate(libc::MS_SLAVE)
}

/// Says of all mounts of this namespace how they propagate.
fn propagate(how: libc::c_ulong) -> io::Result<()> {
    // SAFETY: mount(2): to change propagation, only the target (a constant) and the flags are read.
    let answer = unsafe {
        libc::mount(std::ptr::null(), c"/".as_ptr(), std::ptr::null(), libc::MS_REC | how, std::ptr::null())
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Starts `command` with `file` as its descriptor `number`, which is not one of the standard streams. This process keeps neither.
pub fn spawn_with(mut command: Command, file: OwnedFd, number: RawFd) -> io::Result<Child> {
    // If the number is free, nothing else gets it until the program runs; if it is not, what is there is this process's only.
    let _reserved = rustix::io::fcntl_dupfd_cloexec(&file, number)?;
    let place = move || {
        let done = match file.as_raw_fd() == number {
            // SAFETY: fcntl(2) with F_SETFD takes any numbers.
            true => unsafe { libc::fcntl(number, libc::F_SETFD, 0) },
            // SAFETY: dup2(2) takes any numbers.
            false => unsafe { libc::dup2(file.as_raw_fd(), number) },
        };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: between fork and exec, signal-safety(7) allows fcntl and dup2; the closure does nothing else.
    unsafe { command.pre_exec(place) };
    command.spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fork_refuses_when_there_are_threads() {
        // The test harness itself runs this in a second thread.
        assert!(thread_count().unwrap() > 1);
        assert_eq!(fork(|| 0).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_child_has_a_file_as_the_number_that_is_said() {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo here >&7; [ ! -e /proc/self/fd/8 ]"]);
        let mut child = spawn_with(command, writer.into(), 7).unwrap();
        assert_eq!(std::io::read_to_string(reader).unwrap(), "here\n");
        assert!(child.wait().unwrap().success());
    }
}
