//! Archives of the user's, unpacked into a folder of a tree that is being made.
//!
//! In: a file, opened. Out: what it holds, if it is an archive: a tar, plain or packed by gzip, bzip2, xz or zstd, told
//! by its content alone. Entries replace what is in the way; two directories are merged; names that layers give a
//! meaning (`.wh.…`) have none here.
//! **Invariant:** nothing is written outside of the folder, whatever the archive or a link in the tree says.
//! Source: the behaviour of moby/go-archive's Unpack, which BuildKit's file backend calls.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rb_diag::ErrorKind;
use rb_snapshot::{Editor, LayerEntry};
use rb_store::Store;

use super::{ASK_EVERY_BYTES, LAYER_BYTES, LIMITS, Ownership, entry, inside, metadata_of};
use crate::SourceError;
use crate::archive::{Archive, MemberKind};
use crate::unpacked::{Formats, Unpacked};

/// Where an archive goes.
#[derive(Clone, Copy)]
pub struct ArchiveTarget<'a> {
    /// Writes the tree.
    pub editor: &'a Editor<'a>,
    /// The folder; it is made (0755) if it is not there.
    pub folder: &'a Path,
    /// Who owns all that is made; without it, who the archive says.
    pub owner: Option<(u32, u32)>,
    /// The time of the folder, if it is made: nanoseconds since 1970.
    pub timestamp: Option<i64>,
    /// How the archive's owners are taken over.
    pub ownership: Ownership,
}

/// Unpacks `file`, which is called `path` in errors; `false` if it is no archive, and then nothing is done. `stopped`
/// is asked on the way.
///
/// `Archive` if it is damaged, or holds what must not be unpacked.
pub fn archive(
    store: &Store,
    file: File,
    path: &Path,
    target: ArchiveTarget<'_>,
    stopped: &dyn Fn() -> bool,
) -> Result<bool, SourceError> {
    let file = Arc::new(file);
    let unread = |source| SourceError::Read { path: path.to_owned(), source };
    let start = || Unpacked::start_as(Formats::Archive, FromStart { file: Arc::clone(&file), at: 0 });
    // Whatever is wrong with its beginning: then it is a file like any other.
    if !matches!(Archive::new(start().map_err(unread)?, LIMITS).next_member(), Ok(Some(_))) {
        return Ok(false);
    }
    let ArchiveTarget { editor, folder, owner, timestamp, .. } = target;
    editor.mkdir(folder, 0o755, true, owner, timestamp)?;
    let found = editor.view().lookup(folder, rb_snapshot::Follow::Yes)?;
    let folder = found.map(|entry| entry.path).unwrap_or_default();
    let mut trouble = None;
    let inner = start().map_err(unread)?;
    let mut careful = Careful { inner, store, stopped, trouble: &mut trouble, read_bytes: 0, asked_bytes: 0 };
    let written = write(Archive::new(&mut careful, LIMITS), &folder, path, target);
    let done = written.and_then(|()| {
        // What stands behind the end of the archive says whether it is whole.
        let rest = io::copy(&mut careful, &mut io::sink()).map(drop);
        rest.map_err(|error| SourceError::Archive { path: path.to_owned(), reason: error.to_string() })
    });
    // What is not the archive's fault passes through readers that take every failure for a bad archive.
    trouble.map_or(done, Err)?;
    Ok(true)
}

/// Reads a file from its start, wherever others are in it.
struct FromStart {
    file: Arc<File>,
    at: u64,
}

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

fn write<R: Read>(
    mut archive: Archive<R>,
    folder: &Path,
    path: &Path,
    target: ArchiveTarget<'_>,
) -> Result<(), SourceError> {
    let damaged = |reason: String| SourceError::Archive { path: path.to_owned(), reason };
    let mut writer = target.editor.layer_writer_within(folder);
    while let Some(member) = archive.next_member().map_err(|error| damaged(error.to_string()))? {
        let refused = |reason: &str| {
            let name: String = String::from_utf8_lossy(&member.name).chars().take(200).collect();
            damaged(format!("entry `{name}` {reason}"))
        };
        let name = inside(&member.name).map_err(refused)?;
        if name.as_os_str().is_empty() && member.kind == MemberKind::Directory {
            // The folder itself stays as it is.
            continue;
        }
        let mut metadata = metadata_of(&member, target.ownership).map_err(refused)?;
        metadata.owner = target.owner.or(metadata.owner);
        let entry = match entry(&member, &mut archive).map_err(refused)? {
            LayerEntry::HardLink(to) => LayerEntry::HardLink(folder.join(to)),
            entry => entry,
        };
        let applied = writer.apply(&place(folder, &name), entry, &metadata);
        if let Some(reason) = archive.take_fault() {
            return Err(damaged(reason));
        }
        match applied {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Input => {
                return Err(refused(&format!("cannot be unpacked: {error}")));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(writer.finish()?)
}

fn place(folder: &Path, name: &Path) -> PathBuf {
    if name.as_os_str().is_empty() { folder.to_owned() } else { folder.join(name) }
}

/// Asks on the way whether there is room, and whether anybody still wants it.
struct Careful<'a> {
    inner: Unpacked,
    store: &'a Store,
    stopped: &'a dyn Fn() -> bool,
    trouble: &'a mut Option<SourceError>,
    read_bytes: u64,
    asked_bytes: u64,
}

impl Read for Careful<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut fail = |error: SourceError| {
            let failed = io::Error::other(error.to_string());
            *self.trouble = Some(error);
            failed
        };
        if (self.stopped)() {
            return Err(fail(SourceError::Stopped));
        }
        if self.read_bytes - self.asked_bytes >= ASK_EVERY_BYTES {
            self.asked_bytes = self.read_bytes;
            self.store.check_space().map_err(|error| fail(error.into()))?;
        }
        let count = self.inner.read(buffer)?;
        self.read_bytes += count as u64;
        if self.read_bytes > LAYER_BYTES {
            return Err(io::Error::other("it unpacks to more than any real archive"));
        }
        Ok(count)
    }
}
