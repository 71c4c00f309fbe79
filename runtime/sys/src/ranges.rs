//! Locks on single places of a file, which need not have that many bytes.
//!
//! They belong to the open file (its description), not to the process: two that one process opened exclude each other, and the
//! kernel gives them up when the last descriptor of it is closed, however the process ends. So one file holds as many locks as
//! there are places, at no room on the disk and one descriptor.
//! Source: fcntl(2), "Open file description locks (non-POSIX)".

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

/// How a place is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// With others.
    Shared,
    /// By this open file alone.
    Alone,
}

/// The last place that can be locked.
pub const LAST: u64 = i64::MAX as u64 - 1;

/// Locks a place, which is at most [`LAST`]; waits for those who exclude it. The file is open for reading and writing.
pub fn lock(file: &File, place: u64, hold: Hold) -> io::Result<()> {
    loop {
        match set(file, place, kind(hold), libc::F_OFD_SETLKW) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Locks a place if nobody excludes it; says whether it did.
pub fn try_lock(file: &File, place: u64, hold: Hold) -> io::Result<bool> {
    match set(file, place, kind(hold), libc::F_OFD_SETLK) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Gives a place up; one that is not locked is no error.
pub fn unlock(file: &File, place: u64) -> io::Result<()> {
    set(file, place, libc::F_UNLCK, libc::F_OFD_SETLK)
}

fn kind(hold: Hold) -> libc::c_int {
    match hold {
        Hold::Shared => libc::F_RDLCK,
        Hold::Alone => libc::F_WRLCK,
    }
}

fn set(file: &File, place: u64, kind: libc::c_int, command: libc::c_int) -> io::Result<()> {
    let out_of_range = || io::Error::from(io::ErrorKind::InvalidInput);
    // SAFETY: flock of fcntl(2) is made of integers, for which zeros are values.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind.try_into().map_err(|_| out_of_range())?;
    lock.l_whence = libc::SEEK_SET.try_into().map_err(|_| out_of_range())?;
    lock.l_start = place.try_into().map_err(|_| out_of_range())?;
    lock.l_len = 1;
    // SAFETY: fcntl(2) with these commands reads one flock, which lives on this stack, and keeps no pointer to it.
    let answer = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw const lock) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(path: &std::path::Path) -> File {
        File::options().read(true).write(true).create(true).truncate(false).open(path).expect("opens")
    }

    #[test]
    fn places_are_shared_or_had_alone_and_each_for_itself() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("places");
        let (one, two) = (opened(&path), opened(&path));
        for place in [0, 7, LAST] {
            lock(&one, place, Hold::Shared).expect("locks");
            assert!(try_lock(&two, place, Hold::Shared).expect("asks"));
            unlock(&two, place).expect("gives up");
            assert!(!try_lock(&two, place, Hold::Alone).expect("asks"), "{place}");
        }
        assert!(try_lock(&two, 8, Hold::Alone).expect("asks"), "its neighbour is free");
        assert!(!try_lock(&one, 8, Hold::Shared).expect("asks"));
        drop(one);
        assert!(try_lock(&two, 7, Hold::Alone).expect("asks"), "a closed file holds nothing");
        assert_eq!(two.metadata().expect("stats").len(), 0);
    }

    #[test]
    fn who_waits_gets_it_when_it_is_given_up() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("places");
        let (one, two) = (opened(&path), opened(&path));
        lock(&one, 3, Hold::Alone).expect("locks");
        std::thread::scope(|threads| {
            let waiting = threads.spawn(|| lock(&two, 3, Hold::Shared));
            unlock(&one, 3).expect("gives up");
            waiting.join().expect("ends").expect("locks");
        });
        assert!(!try_lock(&one, 3, Hold::Alone).expect("asks"));
        assert!(lock(&one, u64::MAX, Hold::Shared).is_err());
    }
}
