//! Opening a path that must stay within a directory (openat2(2)).
//!
//! In: a directory, a path, how it is to be resolved. Out: a descriptor. The kernel gives up with `EAGAIN` when a path
//! crossed `..` while anything on the machine was renamed or mounted, since it could not tell whether the path had
//! left the directory. That says nothing about the path, so it is asked again, here and by [`child`](crate::child)ren.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::path::Arg;

/// How often a path is tried before the kernel's answer is believed.
pub(crate) const TRIES: usize = 1000;

/// Opens `path` below `directory`, resolved as `resolve` says. Creates nothing.
///
/// `AGAIN` only if the machine's mounts and names did not hold still in a thousand tries.
pub fn open_resolved(
    directory: impl AsFd,
    path: impl Arg,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let directory = directory.as_fd();
    path.into_with_c_str(|path| {
        let mut tries = 1;
        loop {
            match rustix::fs::openat2(directory, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) if tries < TRIES => std::thread::yield_now(),
                answer => return answer,
            }
            tries += 1;
        }
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Renames without pause until told to stop.
    pub(crate) fn rename_until(stop: &AtomicBool, scratch: &std::path::Path) {
        let (one, other) = (scratch.join("one"), scratch.join("other"));
        std::fs::create_dir(&one).unwrap();
        while !stop.load(Ordering::Relaxed) {
            std::fs::rename(&one, &other).unwrap();
            std::fs::rename(&other, &one).unwrap();
        }
    }

    #[test]
    fn a_path_that_climbs_is_opened_however_much_is_renamed() {
        let scratch = tempfile::tempdir().unwrap();
        let inner = scratch.path().join("root/inner");
        std::fs::create_dir_all(&inner).unwrap();
        symlink("../../../../inner/../inner", scratch.path().join("root/climb")).unwrap();
        let directory = std::fs::File::open(scratch.path().join("root")).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| rename_until(&stop, scratch.path()));
            for _ in 0..20_000 {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let opened = open_resolved(&directory, "climb", flags, ResolveFlags::IN_ROOT);
                if let Err(error) = opened {
                    stop.store(true, Ordering::Relaxed);
                    panic!("{error}");
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn other_answers_come_at_once() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = std::fs::File::open(scratch.path()).unwrap();
        let open = |path: &str| open_resolved(&directory, path, OFlags::PATH, ResolveFlags::BENEATH);
        assert_eq!(open("missing").unwrap_err(), Errno::NOENT);
        assert_eq!(open("../escape").unwrap_err(), Errno::XDEV);
    }
}
