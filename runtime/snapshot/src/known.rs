//! What the editor knows of the files that it wrote, so that nobody reads them again to hash them.
//!
//! In: files as they were written, with the digest of exactly those bytes. Out: content of an entry of the upper
//! directory, for the diff. Also which of them are names of a file of another, finished layer: such a file is never
//! written to.
//! **Invariant:** an answer is given only for a file whose metadata is still what it was; whatever writes to files
//! other than by a checked copy makes all forgotten.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::content::{Body, Content, ContentDigest};
use crate::metadata::{ExtendedAttributes, FileType, Metadata};
use crate::view::Entry;

/// Files of one upper directory, by canonical path.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    files: HashMap<PathBuf, KnownFile>,
    shared: HashSet<PathBuf>,
}

/// A file whose content is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownFile {
    pub(crate) size_bytes: u64,
    pub(crate) digest: ContentDigest,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) modified_ns: i64,
    pub(crate) xattrs: ExtendedAttributes,
}

impl KnownFile {
    /// Says whether a file with this metadata can be the one that is known.
    pub(crate) fn fits(&self, metadata: &Metadata) -> bool {
        metadata.file_type == FileType::File
            && self.size_bytes == metadata.size_bytes
            && self.mode == metadata.mode
            && self.owner == (metadata.uid, metadata.gid)
            && self.modified_ns == metadata.modified_ns
    }
}

impl Known {
    /// Adds a file that was just written, or, if `shared`, is linked from another layer.
    pub(crate) fn add(&self, path: &Path, file: KnownFile, shared: bool) {
        let mut tables = self.tables();
        if shared {
            tables.shared.insert(path.to_owned());
        } else {
            tables.shared.remove(path);
        }
        tables.files.insert(path.to_owned(), file);
    }

    /// Forgets all contents: something is about to be written that is not told here.
    pub(crate) fn forget(&self) {
        self.tables().files.clear();
    }

    /// Says whether the file at `path` may be one of another layer.
    pub(crate) fn is_shared(&self, path: &Path) -> bool {
        self.tables().shared.contains(path)
    }

    /// Notes that what is at `path` belongs to this layer alone.
    pub(crate) fn own(&self, path: &Path) {
        self.tables().shared.remove(path);
    }

    /// Returns the content of `entry`, if it is known.
    pub(crate) fn content(&self, entry: &Entry) -> Option<Content> {
        let tables = self.tables();
        let file = tables.files.get(&entry.path).filter(|file| file.fits(&entry.metadata))?;
        let body = Body::File { size_bytes: file.size_bytes, digest: file.digest };
        Some(Content { body, xattrs: file.xattrs.clone(), marks: Vec::new() })
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // Every change is a single step, so a panicked holder leaves them whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
