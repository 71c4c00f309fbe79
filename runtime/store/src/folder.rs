//! Folders of the state directory: what is in one, and how a file is written and gets its name in it for good.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use crate::error::Context as _;
use crate::{Result, StoreError};

/// Returns what is in a folder, in no order, without what is not named in UTF-8; nothing where there is no folder.
pub(crate) fn named_entries(directory: &Path) -> Result<Vec<(String, fs::DirEntry)>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(StoreError::io("list", directory, source)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.context("list", directory)?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry));
        }
    }
    Ok(found)
}

/// Writes what fits of `bytes` to the `file` at `path`.
pub(crate) fn write_to(mut file: &File, path: &Path, bytes: &[u8]) -> io::Result<usize> {
    // Who writes knows no path: it goes along.
    let named = |error: io::Error| io::Error::new(error.kind(), StoreError::io("write", path, error));
    file.write(bytes).map_err(named)
}

/// Makes the bytes of a `file` durable, then its new name. One that is there is replaced: that heals a damaged one.
pub(crate) fn rename_durably(file: &File, from: &Path, to: &Path) -> Result<()> {
    file.sync_all().context("sync", from)?;
    fs::rename(from, to).context("create", to)?;
    sync_directory(to.parent().unwrap_or(Path::new("/")))
}

/// Makes the names in a folder durable.
pub(crate) fn sync_directory(path: &Path) -> Result<()> {
    File::open(path).and_then(|directory| directory.sync_all()).context("sync", path)
}
