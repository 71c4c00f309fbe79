//! One entry of a tree, and how the wire writes it.
//!
//! A mode on the wire is Go's, not the kernel's: the kind of a file and its special bits are high bits of their own.

use std::cmp::Ordering;

use prost::Message as _;

use crate::files::Stat;

/// Bits of a mode of Go's.
const DIRECTORY: u32 = 1 << 31;
const SYMLINK: u32 = 1 << 27;
const DEVICE: u32 = 1 << 26;
const PIPE: u32 = 1 << 25;
const SOCKET: u32 = 1 << 24;
const SETUID: u32 = 1 << 23;
const SETGID: u32 = 1 << 22;
const CHARACTER_DEVICE: u32 = 1 << 21;
const STICKY: u32 = 1 << 20;
const IRREGULAR: u32 = 1 << 19;
/// Those that tell what something is: without any of them it is a file.
const KIND: u32 = DIRECTORY | SYMLINK | DEVICE | PIPE | SOCKET | CHARACTER_DEVICE | IRREGULAR;

/// Special bits of the kernel's modes, and Go's.
const SPECIAL: [(u32, u32); 3] = [(0o4000, SETUID), (0o2000, SETGID), (0o1000, STICKY)];

/// One entry of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path from the top of the tree, `/` between its parts.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// Permission and special bits, as the kernel has them.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When it was changed last, in nanoseconds since 1970.
    pub modified_ns: i64,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Directory,
    /// A file.
    File {
        /// Its length.
        size_bytes: u64,
    },
    /// Another name of a file that came before.
    HardLink {
        /// Path of that.
        to: String,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: String,
    },
    /// A device, pipe or socket.
    Special,
}

impl Entry {
    /// Writes it as the wire has it. Extended attributes are not sent.
    pub fn to_stat(&self) -> Stat {
        let special = SPECIAL.iter().filter(|(kernel, _)| self.mode & kernel != 0).map(|(_, go)| go);
        let mode = special.fold(self.mode & 0o777, |mode, bit| mode | bit);
        let (kind, size, linkname) = match &self.kind {
            Kind::Directory => (DIRECTORY, 0, String::new()),
            Kind::File { size_bytes } => (0, i64::try_from(*size_bytes).unwrap_or(i64::MAX), String::new()),
            Kind::HardLink { to } => (0, 0, to.clone()),
            Kind::Symlink { target } => {
                (SYMLINK, i64::try_from(target.len()).unwrap_or(i64::MAX), target.clone())
            }
            Kind::Special => (IRREGULAR, 0, String::new()),
        };
        Stat {
            path: self.path.clone(),
            mode: mode | kind,
            uid: self.uid,
            gid: self.gid,
            size,
            mod_time: self.modified_ns,
            linkname,
            ..Stat::default()
        }
    }

    /// Reads what the wire has, without believing it; `None` where a length is below nothing.
    pub fn of_stat(stat: Stat) -> Option<Self> {
        let special = SPECIAL.iter().filter(|(_, go)| stat.mode & go != 0).map(|(kernel, _)| kernel);
        let mode = special.fold(stat.mode & 0o777, |mode, bit| mode | bit);
        let kind = match stat.mode & KIND {
            DIRECTORY => Kind::Directory,
            SYMLINK => Kind::Symlink { target: stat.linkname },
            0 if !stat.linkname.is_empty() => Kind::HardLink { to: stat.linkname },
            0 => Kind::File { size_bytes: u64::try_from(stat.size).ok()? },
            _ => Kind::Special,
        };
        Some(Self { path: stat.path, kind, mode, uid: stat.uid, gid: stat.gid, modified_ns: stat.mod_time })
    }
}

/// Writes the list that is kept of a tree of which only names are taken: of each entry its length, in four bytes, the low ones first,
/// and the entry. Source: fsutil's `receive.go`, "metadata".
pub fn to_list(entries: impl IntoIterator<Item = Entry>) -> Vec<u8> {
    let mut list = Vec::new();
    for entry in entries {
        let stat = entry.to_stat().encode_to_vec();
        let length = u32::try_from(stat.len()).unwrap_or(u32::MAX);
        list.extend_from_slice(&length.to_le_bytes());
        list.extend_from_slice(&stat);
    }
    list
}

/// Orders paths as the wire wants them: part by part, each by its bytes.
pub fn compare(left: &str, right: &str) -> Ordering {
    left.split('/').map(str::as_bytes).cmp(right.split('/').map(str::as_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_those_of_go() {
        let entry = |kind, mode| Entry { path: "a".into(), kind, mode, uid: 1, gid: 2, modified_ns: 3 };
        for (entry, mode) in [
            (entry(Kind::Directory, 0o1777), 0x8010_01ff),
            (entry(Kind::File { size_bytes: 7 }, 0o4755), 0x0080_01ed),
            (entry(Kind::Symlink { target: "/x".into() }, 0o777), 0x0800_01ff),
            (entry(Kind::HardLink { to: "b".into() }, 0o2644), 0x0040_01a4),
        ] {
            let stat = entry.to_stat();
            assert_eq!(stat.mode, mode, "{entry:?}");
            assert_eq!(Entry::of_stat(stat), Some(entry));
        }
        let device = Stat { mode: DEVICE | CHARACTER_DEVICE | 0o666, ..Stat::default() };
        assert_eq!(Entry::of_stat(device).map(|entry| entry.kind), Some(Kind::Special));
        assert_eq!(Entry::of_stat(Stat { size: -1, ..Stat::default() }), None);
    }

    #[test]
    fn a_list_is_made_of_lengths_and_entries() {
        let entry =
            |path: &str, kind| Entry { path: path.into(), kind, mode: 0o755, uid: 0, gid: 0, modified_ns: 1 };
        let list = to_list([
            entry("d", Kind::Directory),
            entry("d/f", Kind::File { size_bytes: 300 }),
            entry("d/g", Kind::HardLink { to: "d/f".into() }),
        ]);
        let expected: [&[u8]; 6] = [
            b"\x0b\0\0\0",
            b"\x0a\x01d\x10\xed\x83\x80\x80\x08\x30\x01",
            b"\x0d\0\0\0",
            b"\x0a\x03d/f\x10\xed\x03\x28\xac\x02\x30\x01",
            b"\x0f\0\0\0",
            b"\x0a\x03d/g\x10\xed\x03\x30\x01\x3a\x03d/f",
        ];
        assert_eq!(list, expected.concat());
        assert!(to_list([]).is_empty());
    }

    #[test]
    fn what_is_in_a_folder_follows_it() {
        let mut paths = ["a.b", "a/b", "a", "a/b/c", "a-b"];
        paths.sort_by(|left, right| compare(left, right));
        assert_eq!(paths, ["a", "a/b", "a/b/c", "a-b", "a.b"]);
    }
}
