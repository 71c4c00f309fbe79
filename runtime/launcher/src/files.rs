//! Folders and files of layers. **Invariant:** what is listed comes by name, and what is read is bounded.

use std::ffi::OsString;
use std::fs::FileType;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::error::FileError;

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError { doing, path, source }
}

/// Lists a folder by name; nothing where there is none. A link is a link, wherever it leads.
pub(crate) fn list(folder: &Path) -> Result<Vec<(OsString, FileType)>, FileError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("open", folder)(error)),
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed("readdirent", folder))?;
        all.push((entry.file_name(), entry.file_type().map_err(failed("lstat", &entry.path()))?));
    }
    all.sort_unstable_by(|left, right| left.0.cmp(&right.0));
    Ok(all)
}

/// Lists the folders of a folder.
pub(crate) fn folders(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let all = list(folder)?.into_iter().filter(|(_, kind)| kind.is_dir());
    Ok(all.map(|(name, _)| folder.join(name)).collect())
}

/// Lists what is no folder of a folder.
pub(crate) fn others(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let all = list(folder)?.into_iter().filter(|(_, kind)| !kind.is_dir());
    Ok(all.map(|(name, _)| folder.join(name)).collect())
}

/// Tells whether something is there, and whether it is a folder. Follows links.
pub(crate) fn look(path: &Path) -> Result<Option<std::fs::Metadata>, FileError> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("stat", path)(error)),
    }
}

/// Reads a file of so many bytes at most.
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>, FileError> {
    let file = std::fs::File::open(path).map_err(failed("open", path))?;
    limited(file, most).map_err(failed("read", path))
}

/// Reads all there is, and refuses more than so many bytes.
pub(crate) fn limited(source: impl io::Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let got = source.take(most + 1).read_to_end(&mut bytes)?;
    if got as u64 > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {most} bytes")));
    }
    Ok(bytes)
}
