//! The process that was left outside: it forks a keeper for each command, and does nothing else.

use std::os::fd::OwnedFd;

use rb_sys::process;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open};

use super::{keeper, wire};

/// The doorman's life: until nobody is behind the `door` any more, or the process `master` has ended. Returns its exit
/// code.
pub(super) fn serve(door: OwnedFd, master: Pid) -> i32 {
    let Some(master) = prepare(master) else { return 1 };
    let code = attend(door, &master);
    // Their lines are hung up, so they end in a moment; not everywhere does somebody else lay them to rest.
    while rustix::process::wait(WaitOptions::empty()).is_ok() {}
    code
}

fn attend(door: OwnedFd, master: &OwnedFd) -> i32 {
    let mut door = Some(door);
    loop {
        let Some(open) = &door else { return 1 };
        // A copy of the door's other end might live on somewhere; so the end of the master is looked for as well.
        let mut waited = [PollFd::new(open, PollFlags::IN), PollFd::new(master, PollFlags::IN)];
        match poll(&mut waited, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return 1,
        }
        let [request, end] = waited.map(|polled| !polled.revents().is_empty());
        if end {
            return 0;
        }
        if !request {
            continue;
        }
        // Keepers that have ended since the last request; there are none of other kinds.
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
        let [line, stdin, stdout, stderr] = match wire::receive_files(open) {
            Ok(Some(files)) => files,
            Ok(None) => return 0,
            Err(_) => return 1,
        };
        let Ok(copy) = line.try_clone() else { continue };
        let forked = process::fork(|| {
            // A keeper that held the door would hide the doorman's end.
            door = None;
            keeper::keep(&line, [stdin, stdout, stderr], master)
        });
        if let Err(error) = forked {
            // If nobody listens, nobody misses it.
            wire::write_answer(&copy, wire::Answer::Failed(error.raw_os_error().unwrap_or_default())).ok();
        }
    }
}

/// Leaves the terminal's session and the folder it was started in, and returns a descriptor of the master, unless that
/// one has ended already.
fn prepare(master: Pid) -> Option<OwnedFd> {
    let watched = pidfd_open(master, PidfdFlags::empty()).ok()?;
    if rustix::process::getppid() != Some(master) {
        return None;
    }
    // It was forked a moment ago, so it leads no group, and may; without a session of its own, Ctrl-C would end it
    // before anybody has decided that.
    rustix::process::setsid().ok()?;
    rustix::process::chdir("/").ok()?;
    // For whoever looks at a list of processes; nothing depends on it.
    rustix::thread::set_name(c"rb-outside").ok();
    Some(watched)
}
