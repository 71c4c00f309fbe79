//! Packed folders of strangers, read entry by entry: what a .tgz of a buildpack or a layer of a package holds.
//!
//! In: bytes of a tar, plain or packed by gzip or zstd. Out: its entries in their order, each with its content, handed to
//! whoever wants them. **Invariant:** every name and every hard link's target leads into the folder and nowhere else; the number
//! of entries, their names and their contents are bounded; devices, pipes and sockets are refused.

use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use crate::SourceError;
use crate::archive::{Archive, Limits, MemberKind};
use crate::bundle::{refused, shown, unpacking};
use crate::unpack::inside;

/// What a packed folder may hold: no buildpack has a tenth of it.
const LIMITS: Limits = Limits { entries: 500_000, content_bytes: 32 << 30, name_bytes: 64 << 20 };

/// An entry of a packed folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedEntry {
    /// Relative, without `.` and `..`; empty for the folder itself.
    pub path: PathBuf,
    /// What it is.
    pub kind: PackedKind,
    /// Permissions.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Seconds since 1970.
    pub modified: i64,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackedKind {
    /// A directory.
    Directory,
    /// A file of so many bytes.
    File(u64),
    /// A symlink, wherever it leads.
    Symlink(PathBuf),
    /// The same file as this entry.
    HardLink(PathBuf),
}

/// Why reading a packed folder ended.
#[derive(Debug, thiserror::Error)]
pub enum PackedError<E> {
    /// It is not as it should be.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Who was handed an entry wants no more.
    #[error(transparent)]
    Taken(E),
}

/// Reads all entries. `each` may read as much of the content as it wants.
pub fn entries<E>(
    input: impl Read,
    each: &mut dyn FnMut(&PackedEntry, &mut dyn Read) -> Result<(), E>,
) -> Result<(), PackedError<E>> {
    let damaged = |error: io::Error| refused(format!("it is damaged: {error}"));
    let mut archive = Archive::new(unpacking(input).map_err(damaged)?, LIMITS);
    while let Some(member) = archive.next_member().map_err(damaged)? {
        let name = shown(&String::from_utf8_lossy(&member.name));
        let wrong = |reason: &str| refused(format!("entry `{name}` {reason}"));
        let path = inside(&member.name).map_err(wrong)?;
        let target = |to: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(to));
        let kind = match &member.kind {
            MemberKind::Directory => PackedKind::Directory,
            MemberKind::File => PackedKind::File(archive.content_bytes()),
            MemberKind::Symlink(to) => PackedKind::Symlink(target(to)),
            MemberKind::HardLink(to) => PackedKind::HardLink(inside(to).map_err(wrong)?),
            MemberKind::Fifo | MemberKind::CharDevice { .. } | MemberKind::BlockDevice { .. } => {
                return Err(wrong("is a device or a pipe").into());
            }
            MemberKind::Other(_) => return Err(wrong("is neither file, folder nor link").into()),
        };
        let id = |id: u64| u32::try_from(id).map_err(|_| wrong("has an owner that no system knows"));
        let entry = PackedEntry {
            path,
            kind,
            mode: member.mode,
            owner: (id(member.uid)?, id(member.gid)?),
            modified: member.modified_ns.div_euclid(1_000_000_000),
        };
        let taken = each(&entry, &mut archive);
        // What is wrong with the archive is told as that.
        if let Some(reason) = archive.take_fault() {
            return Err(refused(format!("it is damaged: {reason}")).into());
        }
        taken.map_err(PackedError::Taken)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tar::{Builder, EntryType, Header};

    use super::*;

    fn packed(name: &str, kind: EntryType, link: &str, content: &[u8]) -> Vec<u8> {
        let mut header = Header::new_ustar();
        let fields = header.as_ustar_mut().expect("ustar");
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_mtime(5);
        header.set_size(content.len() as u64);
        header.set_cksum();
        let mut builder = Builder::new(Vec::new());
        builder.append(&header, content).expect("writes");
        builder.into_inner().expect("ends")
    }

    fn read(bytes: &[u8]) -> Result<Vec<(PackedEntry, Vec<u8>)>, PackedError<io::Error>> {
        let mut all = Vec::new();
        entries(bytes, &mut |entry, content| {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes)?;
            all.push((entry.clone(), bytes));
            Ok(())
        })?;
        Ok(all)
    }

    #[test]
    fn entries_are_told_as_they_are() {
        let all = read(&packed("./bin/build", EntryType::Regular, "", b"hello")).expect("reads");
        let [(entry, content)] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!(
            (entry.path.as_path(), content.as_slice()),
            (std::path::Path::new("bin/build"), &b"hello"[..])
        );
        assert_eq!((&entry.kind, entry.mode, entry.modified), (&PackedKind::File(5), 0o755, 5));
        let all = read(&packed("/a/", EntryType::Directory, "", b"")).expect("reads");
        assert_eq!(
            (all[0].0.path.as_path(), &all[0].0.kind),
            (std::path::Path::new("a"), &PackedKind::Directory)
        );
    }

    #[test]
    fn what_leads_out_is_refused() {
        for bytes in [
            packed("../x", EntryType::Regular, "", b""),
            packed("a/../../x", EntryType::Directory, "", b""),
            packed("x", EntryType::Link, "../../etc/passwd", b""),
            packed("x", EntryType::Char, "", b""),
            packed("x", EntryType::Fifo, "", b""),
            packed("x", EntryType::Regular, "", b"hello")[..514].to_vec(),
            b"no archive at all".to_vec(),
        ] {
            assert!(
                matches!(read(&bytes), Err(PackedError::Source(SourceError::Bundle { .. }))),
                "{bytes:?}"
            );
        }
    }
}
