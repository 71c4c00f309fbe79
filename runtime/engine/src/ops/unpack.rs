//! Copies that unpack archives: of what a copy names, each file that is an archive is unpacked, and all else is copied.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};

use rb_llb::CopyAction;
use rb_snapshot::{ContentDigest, CopyOptions, Editor, FileType, Follow, SnapshotError};
use rb_sources::local::{LocalEntry, LocalTree};
use rb_sources::unpack::{self, ArchiveTarget};

use super::mounts;
use crate::error::EngineError;
use crate::parts::Parts;
use crate::value::Value;

/// Does a copy that may unpack.
pub(super) fn copy(
    parts: &Parts,
    editor: &Editor<'_>,
    source: &Value,
    copy: &CopyAction,
    options: &CopyOptions<'_>,
    stopped: &dyn Fn() -> bool,
) -> Result<(), EngineError> {
    let view = mounts::view(parts, source)?;
    let found = if copy.allow_wildcard { view.glob(&copy.src)? } else { vec![PathBuf::from(&copy.src)] };
    if found.is_empty() && !copy.allow_empty_wildcard {
        return Err(SnapshotError::NoMatch { pattern: copy.src.clone() }.into());
    }
    for src in found {
        let entry = view.lookup(&src, Follow::Yes)?;
        let file = entry.filter(|entry| entry.metadata.file_type == FileType::File);
        if let Some(entry) = file {
            let opened = match source {
                Value::Tree(_) => view.open(&entry)?,
                Value::Local(local) => taken(parts, local, &entry.path, view.open(&entry)?)?,
            };
            let target = ArchiveTarget {
                editor,
                folder: Path::new(&copy.dest),
                owner: options.owner,
                timestamp: options.timestamp,
                ownership: crate::pinned::ownership(parts),
            };
            if unpack::archive(&parts.store, opened, &entry.path, target, stopped)? {
                continue;
            }
        }
        // What was matched may look like a pattern.
        let options = CopyOptions { allow_wildcard: false, ..options.clone() };
        let name = src
            .to_str()
            .ok_or_else(|| SnapshotError::BadPath { path: src.clone(), reason: "its name is not UTF-8" })?;
        mounts::copy_from(editor, parts, source, name, &copy.dest, options)?;
    }
    Ok(())
}

/// Takes a user's file as it was looked at: a copy without a name, so that nobody writes to it while it is unpacked.
fn taken(parts: &Parts, local: &LocalTree, path: &Path, mut file: File) -> Result<File, EngineError> {
    let changed = || SnapshotError::ChangedDuringBuild { path: path.to_owned() };
    let expected = match local.entries.get(path) {
        Some(LocalEntry::File { digest, .. }) => ContentDigest::from_bytes(*digest),
        Some(_) | None => return Err(changed().into()),
    };
    let place = parts.store.temp_path();
    let mut copied = || -> std::io::Result<File> {
        let mut copy = File::options().read(true).write(true).create_new(true).open(&place)?;
        std::fs::remove_file(&place)?;
        std::io::copy(&mut file, &mut copy)?;
        copy.flush()?;
        copy.rewind()?;
        Ok(copy)
    };
    let unread = |source| SnapshotError::Io { action: "copy", path: path.to_owned(), source };
    let mut copy = copied().map_err(unread)?;
    if ContentDigest::of_file(&copy).map_err(unread)? != expected {
        local.forget(&parts.store, path)?;
        return Err(changed().into());
    }
    copy.rewind().map_err(unread)?;
    Ok(copy)
}
