//! Who holds a piece: which process over a state directory has which of its locks.
//!
//! In: the state directory, and what the kernel tells of the files that processes have open (proc_pid_fdinfo(5), "lock"). Out: of a
//! place of the file of leases, or of a locked file, the processes that have it. It decides nothing: what belongs to other users or to another
//! process namespace shows no locks here, and is known to be held all the same.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::leases::{self, Place};
use crate::{Process, Result, living};

/// So many words of a command line are told, and so much of each.
const WORDS: usize = 4;
const LONGEST: usize = 60;

/// A process that needs a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its id.
    pub process: u32,
    /// Its command line without options and values, which may be secret: `rb +app`.
    pub command: String,
    /// Since when it has the state directory open, in seconds since 1970.
    pub since_unix: i64,
}

/// The processes over a state directory, and the locks of each.
pub(super) struct Holders {
    all: Vec<(Process, Holder, Vec<Held>)>,
    leases: Option<u64>,
}

/// A lock: the file, and the first and last place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    inode: u64,
    first: u64,
    last: u64,
}

impl Holders {
    /// Looks at all processes over the state directory at `root`, but this one.
    pub(super) fn look(root: &Path) -> Result<Self> {
        let mut all = Vec::new();
        for process in living(root)?.into_iter().filter(|process| process.id != std::process::id()) {
            let own = fs::metadata(root.join("locks").join(&process.name)).ok();
            let held = held_by(process.id);
            // Of another namespace the number means somebody else.
            let Some(own) = own.filter(|own| held.iter().any(|held| held.inode == own.ino())) else {
                continue;
            };
            let command = fs::read(format!("/proc/{}/cmdline", process.id)).unwrap_or_default();
            let holder = Holder {
                process: process.id,
                command: in_words(&String::from_utf8_lossy(&command)),
                since_unix: own.mtime(),
            };
            all.push((process, holder, held));
        }
        let leases = fs::metadata(root.join(leases::FILE)).ok().map(|file| file.ino());
        Ok(Self { all, leases })
    }

    /// Returns who has a lease on a place.
    pub(super) fn of_place(&self, place: Place) -> Vec<Holder> {
        let number = place.number();
        self.with(|held| Some(held.inode) == self.leases && (held.first..=held.last).contains(&number))
    }

    /// Returns who has locked a file.
    pub(super) fn of_file(&self, path: &Path) -> Vec<Holder> {
        let Ok(file) = fs::metadata(path) else { return Vec::new() };
        self.with(|held| held.inode == file.ino())
    }

    /// Returns the process of this name.
    pub(super) fn named(&self, name: &str) -> Vec<Holder> {
        let is_it = self.all.iter().filter(|(process, ..)| process.name == name);
        is_it.map(|(_, holder, _)| holder.clone()).collect()
    }

    fn with(&self, fits: impl Fn(&Held) -> bool) -> Vec<Holder> {
        let having = self.all.iter().filter(|(.., held)| held.iter().any(&fits));
        having.map(|(_, holder, _)| holder.clone()).collect()
    }
}

/// Returns the locks of a process, as far as we may see them.
fn held_by(process: u32) -> Vec<Held> {
    let Ok(files) = fs::read_dir(format!("/proc/{process}/fdinfo")) else { return Vec::new() };
    let texts = files.flatten().filter_map(|file| fs::read_to_string(file.path()).ok());
    texts.flat_map(|text| text.lines().filter_map(held).collect::<Vec<_>>()).collect()
}

/// Reads a line such as `lock: 1: OFDLCK ADVISORY  READ -1 fe:00:1310747 12 12`.
fn held(line: &str) -> Option<Held> {
    let mut words = line.strip_prefix("lock:")?.split_whitespace().skip(5);
    let inode = words.next()?.rsplit(':').next()?.parse().ok()?;
    let first = words.next()?.parse().ok()?;
    let last = match words.next()? {
        "EOF" => u64::MAX,
        last => last.parse().ok()?,
    };
    Some(Held { inode, first, last })
}

/// Returns what of a command line may be told.
fn in_words(line: &str) -> String {
    let mut words = line.split('\0').filter(|word| !word.is_empty());
    let program = words.next().map(|path| path.rsplit('/').next().unwrap_or(path));
    let plain = words.filter(|word| !word.starts_with('-') && !word.contains('='));
    let shown = program.into_iter().chain(plain).take(WORDS);
    let short =
        |word: &str| -> String { word.chars().filter(|letter| !letter.is_control()).take(LONGEST).collect() };
    shown.map(short).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_read() {
        let read = |line| held(line).map(|Held { inode, first, last }| (inode, first, last));
        assert_eq!(read("lock:\t1: OFDLCK ADVISORY  READ -1 fe:00:1310747 12 13"), Some((1_310_747, 12, 13)));
        assert_eq!(read("lock:\t1: FLOCK  ADVISORY  WRITE 42 00:1f:7 0 EOF"), Some((7, 0, u64::MAX)));
        for line in ["pos:\t0", "lock:", "lock:\t1: FLOCK  ADVISORY  WRITE 42 x 0 EOF"] {
            assert_eq!(read(line), None, "{line}");
        }
    }

    #[test]
    fn options_and_values_of_a_command_are_not_told() {
        for (line, told) in [
            ("/usr/bin/rb\0--secret\0TOKEN=hush\0-P\0+app\0--KEY=hush\0", "rb +app"),
            ("rb\0run\0+app\0sh\0-c\0hush\0", "rb run +app sh"),
            ("", ""),
        ] {
            assert_eq!(in_words(line), told);
        }
    }
}
