//! Takes a file over from an earlier layer instead of copying it: another name for the same inode.
//!
//! **Invariant:** what is linked has the bytes, mode, owner, time and attributes that a copy would have; it is looked at when
//! it is linked, so that nobody changes it in between.

use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::atomic::Ordering;

use rustix::fs::AtFlags;

use crate::beneath;
use crate::content::ContentDigest;
use crate::error::{Context as _, Result};
use crate::known::KnownFile;
use crate::place::{Into, Shared};
use crate::view::Entry;

impl Shared<'_> {
    /// Links the file from the earlier layer, if it has there what copying would make of it; returns the length of its
    /// content. What cannot be linked is to be copied: there may be too many names, or the layer is being removed.
    pub(crate) fn link_reused(
        &self,
        into: &Into<'_>,
        name: &OsStr,
        entry: &Entry,
        path: &Path,
        expected: ContentDigest,
    ) -> Result<Option<u64>> {
        let Some((reuse, earlier)) = &into.reused else { return Ok(None) };
        let metadata = &entry.metadata;
        let alike = |earlier: &&KnownFile| {
            earlier.digest == expected
                && earlier.mode == self.placing.mode_of(metadata)
                && earlier.owner == self.owner(metadata)
                && earlier.modified_ns == self.modified_ns(metadata)
        };
        let Some(known) = reuse.get(path).filter(alike) else { return Ok(None) };
        let same_attributes = if self.placing.normalise {
            known.xattrs.is_empty()
        } else {
            metadata.hard_link_group().is_none()
                && self.unchanged(entry, self.source.xattrs(entry))? == known.xattrs
        };
        if !same_attributes {
            return Ok(None);
        }
        // Noted before it is true: the other way round, somebody might write to it in between.
        self.editor.known().share(path, known.clone());
        if let Err(error) = rustix::fs::linkat(earlier, name, into.directory, name, AtFlags::empty()) {
            tracing::debug!(path = %path.display(), %error, "copied, since it cannot be linked");
            self.editor.known().remove(path);
            return Ok(None);
        }
        // What the earlier layer is said to have, and what it has: somebody may have changed it since it was finished.
        let there = beneath::metadata_at(into.directory.as_fd(), name).within("look up", path)?;
        if there.is_some_and(|there| known.fits(&there)) {
            self.editor.known().set_look(path, there);
            return Ok(Some(known.size_bytes));
        }
        reuse.changed.store(true, Ordering::Relaxed);
        into.directory.unlink(name).within("remove", path)?;
        self.editor.known().remove(path);
        Ok(None)
    }
}
