//! Reading folders and files of the user's.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use rb_frontend::{FileKind, WorkspaceEntry};
use rustix::fs::{Mode, OFlags};

/// Reads a folder, sorted by name. Names that are not UTF-8 cannot be said in a build file and are left out.
pub(super) fn entries(folder: &Path) -> io::Result<Vec<WorkspaceEntry>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push(WorkspaceEntry { name, kind: kind_of(entry.file_type()?) });
        }
    }
    found.sort();
    Ok(found)
}

pub(super) fn kind_of(kind: fs::FileType) -> FileKind {
    if kind.is_symlink() {
        FileKind::Symlink
    } else if kind.is_dir() {
        FileKind::Directory
    } else if kind.is_file() {
        FileKind::File
    } else {
        FileKind::Other
    }
}

/// Why a file is not read; all but the first are said behind the file's name.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("cannot be read")]
    Io(#[source] io::Error),
    #[error("is a folder")]
    Folder,
    #[error("is not a regular file")]
    NotRegular,
    #[error("is larger than {} MiB", limit >> 20)]
    TooLarge { limit: u64 },
}

/// Reads a regular file of at most `limit` bytes. Pipes and devices are refused, as they would have us wait for ever.
pub(crate) fn read_regular(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    let regular = |kind: fs::FileType| match kind_of(kind) {
        FileKind::File => Ok(()),
        FileKind::Directory => Err(ReadError::Folder),
        FileKind::Symlink | FileKind::Other => Err(ReadError::NotRegular),
    };
    // Opening a device may do something, so look first; and it may have become another since, so look again.
    regular(fs::metadata(path).map_err(ReadError::Io)?.file_type())?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| ReadError::Io(error.into()))?;
    let file = fs::File::from(file);
    regular(file.metadata().map_err(ReadError::Io)?.file_type())?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(ReadError::Io)?;
    if bytes.len() as u64 > limit { Err(ReadError::TooLarge { limit }) } else { Ok(bytes) }
}
