//! What the editor knows of the files that it wrote, so that nobody reads them again to hash them, or even looks at them.
//!
//! In: files as they were written, with the digest of exactly those bytes and what they look like. Out: look and content of
//! an entry of the upper directory, for the diff. Also which of them are names of a file of another, finished layer: such
//! a file is never written to.
//! **Invariant:** a content is given only for a file that looks as it did; whatever writes to files other than by a checked
//! copy makes all forgotten, and so does a mount, and what gives a file another name makes its look forgotten.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::content::{Body, Content, ContentDigest};
use crate::metadata::{ExtendedAttributes, FileType, Metadata};
use crate::view::Entry;

/// What is known of the files of one upper directory.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<Arc<Files>>);

/// Files by canonical path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    noted: HashMap<PathBuf, Noted>,
    /// Whether there may be a file in it of which more is known than whose it is.
    any: bool,
}

#[derive(Clone, Debug, Default)]
struct Noted {
    file: Option<KnownFile>,
    /// What it looked like when it was finished.
    look: Option<Metadata>,
    /// It is one of another layer.
    shared: bool,
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
    /// Adds a file that was just written, and what it looks like.
    pub(crate) fn add(&self, path: &Path, file: KnownFile, look: Metadata) {
        self.change(|files| files.put(path, Noted { file: Some(file), look: Some(look), shared: false }));
    }

    /// Adds a file that is about to be linked from another layer.
    pub(crate) fn share(&self, path: &Path, file: KnownFile) {
        self.change(|files| files.put(path, Noted { file: Some(file), look: None, shared: true }));
    }

    /// Notes what a file that was added looks like; forgets it, since it is getting another name.
    pub(crate) fn set_look(&self, path: &Path, look: Option<Metadata>) {
        self.change(|files| {
            if let Some(noted) = files.noted.get_mut(path) {
                noted.look = look;
                files.any |= look.is_some();
            }
        });
    }

    /// Forgets all looks and contents: something is about to be written that is not told here.
    pub(crate) fn forget(&self) {
        if self.lock().any {
            self.change(|files| {
                files.any = false;
                files.noted.retain(|_, noted| {
                    *noted = Noted { shared: noted.shared, ..Noted::default() };
                    noted.shared
                });
            });
        }
    }

    /// Says whether the file at `path` may be one of another layer.
    pub(crate) fn is_shared(&self, path: &Path) -> bool {
        self.lock().noted.get(path).is_some_and(|noted| noted.shared)
    }

    /// Forgets what stood at `path`: something else is about to, which belongs to this layer alone.
    pub(crate) fn remove(&self, path: &Path) {
        self.change(|files| drop(files.noted.remove(path)));
    }

    /// Returns all that is known by now.
    pub(crate) fn files(&self) -> Arc<Files> {
        Arc::clone(&self.lock())
    }

    /// Changes what is known. Nobody who asked for it still has it, or it is copied.
    fn change<T>(&self, change: impl FnOnce(&mut Files) -> T) -> T {
        change(Arc::make_mut(&mut self.lock()))
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Files>> {
        // Every change is a single step, so a panicked holder leaves them whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    /// Files of a finished layer, whose contents are known.
    pub(crate) fn of_contents(files: impl IntoIterator<Item = (PathBuf, KnownFile)>) -> Self {
        let noted = |file| Noted { file: Some(file), ..Noted::default() };
        let noted = files.into_iter().map(|(path, file)| (path, noted(file))).collect();
        Self { noted, any: true }
    }

    fn put(&mut self, path: &Path, noted: Noted) {
        self.any = true;
        self.noted.insert(path.to_owned(), noted);
    }

    /// Returns what the regular file at `path` looks like, if that is known.
    pub(crate) fn look(&self, path: &Path) -> Option<Metadata> {
        self.noted.get(path)?.look
    }

    /// Returns the content of `entry`, if it is known.
    pub(crate) fn content(&self, entry: &Entry) -> Option<Content> {
        let file = self.noted.get(&entry.path)?.file.as_ref().filter(|file| file.fits(&entry.metadata))?;
        let body = Body::File { size_bytes: file.size_bytes, digest: file.digest };
        Some(Content { body, xattrs: file.xattrs.clone(), marks: Vec::new() })
    }
}
