//! Takes a file over from an earlier layer instead of copying it: another name for the same inode.
//!
//! **Invariant:** what is linked has the bytes, mode, owner, time and attributes that a copy would have; it is looked at when
//! it is linked, so that nobody changes it in between. What is left to the end (`continuing`) is looked at then.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::AtFlags;

use crate::beneath;
use crate::content::ContentDigest;
use crate::editor::Editor;
use crate::error::{Context as _, Result};
use crate::known::KnownFile;
use crate::place::{Into, Shared};
use crate::reuse::Reuse;
use crate::upper::UpperDirectory;
use crate::view::Entry;

/// One directory of the layer whose unchanged files are taken over, as far as its snapshots have it.
pub(crate) struct Reused<'a> {
    reuse: &'a Reuse,
    whole: Option<OwnedFd>,
    edited: Option<OwnedFd>,
}

impl<'a> Reused<'a> {
    /// Opens the directory at `path`.
    pub(crate) fn new(reuse: &'a Reuse, path: &Path) -> Self {
        // One that a snapshot does not have has nothing to take over.
        let open = |directory| beneath::open_directory_beneath(directory, path).ok();
        let edited = reuse.edited().and_then(|part| open(part.directory()));
        Self { reuse, whole: open(reuse.whole().directory()), edited }
    }
}

impl Shared<'_> {
    /// Takes the file over from the earlier layer, if it has there what copying would make of it; returns the length of its
    /// content. What cannot be linked is to be copied: there may be too many names, or the layer is being removed.
    pub(crate) fn take_over(
        &self,
        into: &Into<'_>,
        name: &OsStr,
        entry: &Entry,
        path: &Path,
        expected: ContentDigest,
    ) -> Result<Option<u64>> {
        let Some(reused) = &into.reused else { return Ok(None) };
        let reuse = reused.reuse;
        let metadata = &entry.metadata;
        let alike = |earlier: &KnownFile| {
            earlier.digest == expected
                && earlier.mode == self.placing.mode_of(metadata)
                && earlier.owner == self.owner(metadata)
                && earlier.modified_ns == self.modified_ns(metadata)
        };
        let whole = reuse.whole().get(path).filter(|(_, known)| alike(known));
        let (index, known, directory) = match (whole, &reused.whole) {
            (Some((index, known)), Some(directory)) => (Some(index), known, directory),
            (Some(_) | None, _) => {
                let edited = reuse.edited().and_then(|part| part.get(path));
                match (edited.filter(|(_, known)| alike(known)), &reused.edited) {
                    (Some((_, known)), Some(directory)) => (None, known, directory),
                    (Some(_) | None, _) => return Ok(None),
                }
            }
        };
        let same_attributes = if self.placing.normalise {
            known.xattrs.is_empty()
        } else {
            metadata.hard_link_group().is_none()
                && self.unchanged(entry, self.source.xattrs(entry))? == known.xattrs
        };
        if !same_attributes {
            return Ok(None);
        }
        if let Some(index) = index
            && self.editor.leave_out(reuse, index)
        {
            return Ok(Some(known.size_bytes));
        }
        let linked = self.editor.link(into.directory, directory, name, path, known)?;
        if linked == Linked::Changed {
            reuse.note_changed();
        }
        Ok((linked == Linked::Done).then_some(known.size_bytes))
    }
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Linked {
    Done,
    /// There are too many names, or the file is gone.
    Refused,
    /// It is not what it is said to be.
    Changed,
}

impl Editor<'_> {
    /// Gives the file `name` of `earlier`, said to be `known`, the same name in `directory`.
    pub(crate) fn link(
        &self,
        directory: &UpperDirectory,
        earlier: &OwnedFd,
        name: &OsStr,
        path: &Path,
        known: &KnownFile,
    ) -> Result<Linked> {
        // Noted before it is true: the other way round, somebody might write to it in between.
        self.known().share(path, known.clone());
        if let Err(error) = rustix::fs::linkat(earlier, name, directory, name, AtFlags::empty()) {
            tracing::debug!(path = %path.display(), %error, "copied, since it cannot be linked");
            self.known().remove(path);
            return Ok(Linked::Refused);
        }
        // What the earlier layer is said to have, and what it has: somebody may have changed it since it was finished.
        let there = beneath::metadata_at(directory.as_fd(), name).within("look up", path)?;
        if there.is_some_and(|there| known.fits(&there)) {
            self.known().set_look(path, there);
            return Ok(Linked::Done);
        }
        directory.unlink(name).within("remove", path)?;
        self.known().remove(path);
        Ok(Linked::Changed)
    }
}
