//! One directory of a merged tree: the directories of the layers that show through one another at a path.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use crate::beneath;
use crate::known::Files;
use crate::listing::Listing;
use crate::metadata::{FileType, Metadata};
use crate::overlay;

/// Where in a view something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Located {
    pub(crate) metadata: Metadata,
    /// Index of the layer, counted from the lowest.
    pub(crate) layer: usize,
}

/// A merged directory, held open. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Directory {
    /// Topmost first; empty for the root of a view without layers.
    parts: Vec<Part>,
    /// An ordinary directory, in which nothing means a whiteout.
    plain: bool,
    /// What is known of it beforehand.
    told: Option<Told>,
}

/// What is known of an ordinary tree beforehand, and where in it a directory is.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    by: By,
    here: PathBuf,
}

#[derive(Clone, Debug)]
enum By {
    /// Nothing else shows.
    Listing(Listing),
    /// Those who wrote some of its files.
    Writers(Arc<Files>),
}

impl Told {
    /// Of a tree of which nothing but what is listed shows, files and links as they are listed.
    pub(crate) fn by_listing(listing: Listing) -> Self {
        Self { by: By::Listing(listing), here: PathBuf::new() }
    }

    /// Of a tree in which some files look as is known.
    pub(crate) fn by_writers(files: Arc<Files>) -> Self {
        Self { by: By::Writers(files), here: PathBuf::new() }
    }

    /// What is known of a name. `is_file` says that a listing of the disk calls it a regular file.
    fn said(&self, name: &OsStr, is_file: bool) -> Option<Said> {
        match &self.by {
            // Whether it is there still shows when it is opened.
            By::Listing(listing) => {
                Some(listing.get(&self.here.join(name)).map_or(Said::Nothing, |metadata| Said::Is(*metadata)))
            }
            By::Writers(files) if is_file => files.look(&self.here.join(name)).map(Said::Is),
            By::Writers(_) => None,
        }
    }

    fn below(&self, name: &OsStr) -> Self {
        Self { by: self.by.clone(), here: self.here.join(name) }
    }

    /// All that shows below a path, if that is known.
    pub(crate) fn all_below(&self, path: &Path) -> Option<&[(PathBuf, Metadata)]> {
        match &self.by {
            By::Listing(listing) => Some(listing.below(path)),
            By::Writers(_) => None,
        }
    }

    /// Tells whether a directory is listed at a path.
    pub(crate) fn lists_directory(&self, path: &Path) -> bool {
        match &self.by {
            By::Listing(listing) => listing.get(path).is_some_and(Metadata::is_directory),
            By::Writers(_) => false,
        }
    }

    /// All that shows here, if that is known.
    fn inside(&self) -> Option<impl Iterator<Item = (&OsStr, &Metadata)>> {
        match &self.by {
            By::Listing(listing) => Some(listing.inside(&self.here)),
            By::Writers(_) => None,
        }
    }

    /// Where a link points, if that is known.
    fn target(&self, name: &OsStr) -> Option<PathBuf> {
        match &self.by {
            By::Listing(listing) => listing.target(&self.here.join(name)).map(Path::to_owned),
            By::Writers(_) => None,
        }
    }
}

#[derive(Clone, Debug)]
struct Part {
    layer: usize,
    file: Arc<OwnedFd>,
}

/// What a layer says about one name.
enum Said {
    /// Nothing: look further down.
    Nothing,
    /// It is gone: look no further.
    Gone,
    Is(Metadata),
}

impl Directory {
    /// The root of a view; `roots` are its layers, lowest first.
    pub(crate) fn root(roots: &[Arc<OwnedFd>], plain: bool, told: Option<Told>) -> Self {
        let parts =
            roots.iter().enumerate().rev().map(|(layer, file)| Part { layer, file: Arc::clone(file) });
        Self { parts: parts.collect(), plain, told }
    }

    /// The topmost of the directories, and its layer.
    pub(crate) fn top(&self) -> Option<(BorrowedFd<'_>, usize)> {
        self.parts.first().map(|part| (part.file.as_fd(), part.layer))
    }

    /// The directory of `layer`, if that layer has one here.
    pub(crate) fn part(&self, layer: usize) -> Option<BorrowedFd<'_>> {
        self.parts.iter().find(|part| part.layer == layer).map(|part| part.file.as_fd())
    }

    /// Where the directory itself is, for the root and after [`Self::child`].
    pub(crate) fn located(&self) -> io::Result<Located> {
        match self.top() {
            Some((file, layer)) => Ok(Located { metadata: beneath::metadata_of(file)?, layer }),
            None => Ok(Located { metadata: Metadata::empty_root(), layer: usize::MAX }),
        }
    }

    /// Looks `name` up in the merged directory.
    pub(crate) fn child(&self, name: &OsStr) -> io::Result<Option<Located>> {
        for part in &self.parts {
            match self.ask(part, name, false)? {
                Said::Nothing => {}
                Said::Gone => return Ok(None),
                Said::Is(metadata) => return Ok(Some(Located { metadata, layer: part.layer })),
            }
        }
        Ok(None)
    }

    /// Opens the merged directory `name`; `None` if it is nothing or no directory.
    pub(crate) fn child_directory(&self, name: &OsStr) -> io::Result<Option<Self>> {
        let mut parts = Vec::new();
        for part in &self.parts {
            match self.ask(part, name, false)? {
                Said::Nothing => continue,
                Said::Is(metadata) if metadata.is_directory() => {}
                Said::Gone | Said::Is(_) => break,
            }
            if self.plain {
                match beneath::open_passage(part.file.as_fd(), name) {
                    Ok(file) => parts.push(Part { layer: part.layer, file: Arc::new(file) }),
                    Err(error) if is_no_directory_now(&error) => {}
                    Err(error) => return Err(error),
                }
                continue;
            }
            let file = Arc::new(beneath::open_directory(part.file.as_fd(), name)?);
            let opaque = overlay::is_opaque(file.as_fd())?;
            parts.push(Part { layer: part.layer, file });
            if opaque {
                break;
            }
        }
        let told = self.told.as_ref().map(|told| told.below(name));
        Ok((!parts.is_empty()).then_some(Self { parts, plain: self.plain, told }))
    }

    /// Lists the merged directory, sorted by name.
    pub(crate) fn list(&self) -> io::Result<BTreeMap<OsString, Located>> {
        if let (Some(listed), Some((_, layer))) = (self.told.as_ref().and_then(Told::inside), self.top()) {
            let located = |(name, metadata): (&OsStr, &Metadata)| {
                (name.to_owned(), Located { metadata: *metadata, layer })
            };
            return Ok(listed.map(located).collect());
        }
        let mut seen: BTreeMap<OsString, Option<Located>> = BTreeMap::new();
        for part in &self.parts {
            for (name, is_file) in beneath::names_and_kinds(part.file.as_fd())? {
                if seen.contains_key(&name) {
                    continue;
                }
                match self.ask(part, &name, is_file)? {
                    // Removed since it was listed.
                    Said::Nothing => {}
                    Said::Gone => {
                        seen.insert(name, None);
                    }
                    Said::Is(metadata) => {
                        seen.insert(name, Some(Located { metadata, layer: part.layer }));
                    }
                }
            }
        }
        Ok(seen.into_iter().filter_map(|(name, located)| Some((name, located?))).collect())
    }

    /// Reads the target of the symlink `name` in `layer`.
    pub(crate) fn link_target(&self, layer: usize, name: &OsStr) -> io::Result<PathBuf> {
        match self.told.as_ref().and_then(|told| told.target(name)) {
            Some(target) => Ok(target),
            None => beneath::link_target(self.part(layer).ok_or(Errno::NOENT)?, name),
        }
    }

    fn ask(&self, part: &Part, name: &OsStr, is_file: bool) -> io::Result<Said> {
        if let Some(said) = self.told.as_ref().and_then(|told| told.said(name, is_file)) {
            return Ok(said);
        }
        let Some(metadata) = beneath::metadata_at(part.file.as_fd(), name)? else {
            return Ok(Said::Nothing);
        };
        if self.plain {
            return Ok(Said::Is(metadata));
        }
        let gone = metadata.is_whiteout()
            || (metadata.file_type == FileType::File
                && metadata.size_bytes == 0
                && overlay::is_attribute_whiteout(part.file.as_fd(), name)?);
        Ok(if gone { Said::Gone } else { Said::Is(metadata) })
    }
}

/// Tells whether what was a directory is none any more.
fn is_no_directory_now(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}
