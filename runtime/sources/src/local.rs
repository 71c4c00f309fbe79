//! A folder of the user's as a source: what is in it, and a digest of that.
//!
//! In: a folder, patterns, and the stat cache of an earlier look, in the store. Out: a [`LocalTree`]: every entry with its digest,
//! sorted, and the content key of it all. Nothing is copied here: the step that wants files reads them straight from
//! the user's tree and checks them against these digests as it copies; where to look it knows from the walk.
//! **Invariant:** the key says names, kinds, (normalised) modes, contents and link targets; never times, owners or
//! absolute paths. A digest belongs to the bytes that lay under the stamp next to it: what changes while it is read is
//! an error. Sockets are passed over, as BuildKit does; other special files are an error.

mod walk;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Bound;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rb_snapshot::patterns::PatternMatcher;
use rb_snapshot::{ContentDigest, ContentKey, Counted, Listing, Metadata, Tally};
use rb_store::{FileStamp, StatCache, StatChange, Store};
use rustix::fs::Mode;

use self::walk::{Found, Look, Walk, failure, open_folder, stamp};
use crate::SourceError;
use crate::files;
use crate::filter::Filter;

/// What to look at.
#[derive(Debug, Clone)]
pub struct LocalRequest {
    /// Absolute path of the folder.
    pub folder: PathBuf,
    /// Keep only what fits; everything if empty.
    pub include: Vec<String>,
    /// Leave out what fits, in order, with `!` for exceptions.
    pub exclude: Vec<String>,
    /// 0644 or 0755 by the owner's executable bit.
    pub normalise_modes: bool,
}

/// A look at a folder.
#[derive(Debug, Clone)]
pub struct LocalTree {
    /// Absolute path of the folder.
    pub folder: PathBuf,
    /// Whether modes were normalised.
    pub normalise_modes: bool,
    /// All that was kept, by path within the folder.
    pub entries: BTreeMap<PathBuf, LocalEntry>,
    /// The same, as they looked.
    pub listing: Listing,
    /// Key of the whole.
    pub content: ContentKey,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalEntry {
    /// A folder with its permission bits.
    Directory {
        /// Permission bits.
        mode: u32,
    },
    /// A file.
    File {
        /// Permission bits.
        mode: u32,
        /// Size.
        size_bytes: u64,
        /// blake3 of its bytes.
        digest: [u8; 32],
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: PathBuf,
    },
}

/// A digest, and how it came about.
#[derive(Debug, PartialEq, Eq)]
enum Digested {
    /// The file was not read.
    Known([u8; 32]),
    /// The file was read, since it is not what the cache knows.
    Outdated([u8; 32]),
    /// The file was read, since the cache does not know it.
    New([u8; 32]),
}

/// Coarsest time stamps of file systems in use.
const COARSEST_STAMP_NS: i64 = 2_000_000_000;
/// So few files of so few bytes are read faster than the cache is.
const FEW_FILES: usize = 64;
const FEW_BYTES: u64 = 1 << 20;
/// How much of a key is hashed at once.
const PIECE_BYTES: usize = 64 << 10;

/// Names a folder in the stat cache. Unlike a lossy conversion, this keeps different folders apart.
fn cache_key(folder: &Path) -> String {
    format!("{folder:?}")
}

impl LocalTree {
    /// Forgets what is remembered of a file, so that the next look reads it.
    pub fn forget(&self, store: &Store, path: &Path) -> Result<(), SourceError> {
        let path = path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes().to_vec();
        Ok(store.update_stat_cache(&cache_key(&self.folder), &[], &[path])?)
    }

    /// Returns the key of a part: what is at `base` and below it, as seen from there, and is taken. No file is read.
    pub fn key_of_part(&self, base: &Path, is_taken: impl Fn(&Path) -> bool) -> ContentKey {
        let below = self.entries.range::<Path, _>((Bound::Included(base), Bound::Unbounded));
        let part = below
            .take_while(|(path, _)| path.starts_with(base))
            .filter(|(path, _)| is_taken(path))
            .map(|(path, entry)| (path.strip_prefix(base).unwrap_or(path), entry));
        content_key(part)
    }
}

/// Walks a folder and digests what it holds. Files unchanged since the last look are not read.
///
/// `tally` hears of the files that are read; of how many there will be, where none is known from an earlier look.
/// `Changed` for what changes meanwhile, `SpecialFile` for pipes and devices, `Read` for what cannot be read.
pub fn scan(store: &Store, request: &LocalRequest, tally: &Tally) -> Result<LocalTree, SourceError> {
    look(store, request, None, tally).map(|(tree, _)| tree)
}

/// As [`scan`], of which only what fits `content` is in the tree, with the folders that lead there; files of the rest are not read.
/// All of it is in the list, as [`list`] has it.
pub fn scan_named(
    store: &Store,
    request: &LocalRequest,
    content: &[String],
    tally: &Tally,
) -> Result<(LocalTree, Vec<Named>), SourceError> {
    look(store, request, Some(&PatternMatcher::new(content)?), tally)
}

fn look(
    store: &Store,
    request: &LocalRequest,
    content: Option<&PatternMatcher>,
    tally: &Tally,
) -> Result<(LocalTree, Vec<Named>), SourceError> {
    let filter = Filter::new(&request.include, &request.exclude)?;
    // What was touched just before the walk may be touched again without a new stamp.
    let started_ns = i64::try_from(store.clock().now().as_nanos()).unwrap_or(i64::MAX);
    let folder = open_folder(&request.folder)?;
    let cache_key = cache_key(&request.folder);
    // The whole folder wants the whole cache, which is loaded meanwhile; a part may turn out not to be worth it.
    let whole = request.include.is_empty() && content.is_none();
    let (found, loaded) = rayon::join(
        || Walk::new(request, &filter).run(&folder),
        || whole.then(|| store.stat_cache(&cache_key)).transpose(),
    );
    let (mut found, loaded) = (found?, loaded?);
    let mut named = Vec::new();
    if let Some(content) = content {
        let mut each = wanted(&found).into_iter();
        found.retain(|_| each.next().unwrap_or(true));
        named = names(&found);
        for found in &mut found {
            if let Look::Directory { kept, .. } = &mut found.look {
                *kept = content.matches(&found.path);
            }
        }
        found.retain(|found| matches!(found.look, Look::Directory { .. }) || content.matches(&found.path));
    }
    let files = || found.iter().filter(|found| matches!(found.look, Look::File { .. }));
    let size_bytes: u64 = found.iter().map(|found| found.size_bytes()).sum();
    let few = files().count() <= FEW_FILES && size_bytes <= FEW_BYTES;
    let cache = match loaded {
        _ if few => StatCache::default(),
        Some(cache) => cache,
        None => store.stat_cache(&cache_key)?,
    };
    if cache.is_empty() {
        tally.expect(files().count() as u64, size_bytes);
    }
    let digests = found
        .par_iter()
        .map(|found| match &found.look {
            Look::File { stamp, .. } => digest(&folder, request, &found.path, stamp, &cache, tally).map(Some),
            Look::Directory { .. } | Look::Symlink { .. } => Ok(None),
        })
        .collect::<Result<Vec<_>, _>>()?;
    if !few {
        let changes = changes(&found, &digests, started_ns);
        let known = digests.iter().flatten().filter(|digest| !matches!(digest, Digested::New(_))).count();
        // A look at a part of the folder knows nothing of the rest.
        let gone = if whole && cache.len() > known {
            let there: BTreeSet<&[u8]> = files().map(|found| found.path.as_os_str().as_bytes()).collect();
            let filtered = |path: &[u8]| !filter.keeps(Path::new(OsStr::from_bytes(path)));
            cache.paths_without(|path| there.contains(path) || filtered(path))
        } else {
            Vec::new()
        };
        if !(changes.is_empty() && gone.is_empty()) {
            store.update_stat_cache(&cache_key, &changes, &gone)?;
        }
    }
    let (entries, listing) = entries(found, digests);
    let content = content_key(entries.iter().map(|(path, entry)| (path.as_path(), entry)));
    let folder = request.folder.clone();
    let tree = LocalTree { folder, normalise_modes: request.normalise_modes, entries, listing, content };
    Ok((tree, named))
}

/// One entry of a folder that was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Path within the folder.
    pub path: PathBuf,
    /// Permission bits; normalised where that was asked for.
    pub mode: u32,
    /// When it changed last, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// What it is.
    pub kind: ListedKind,
}

/// What a listed entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListedKind {
    /// A folder.
    Directory,
    /// A file of so many bytes.
    File(u64),
    /// A symbolic link to somewhere.
    Symlink(PathBuf),
}

/// One entry of a folder of which the names are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The entry.
    pub listed: Listed,
    /// An earlier name of the same file.
    pub same: Option<PathBuf>,
}

/// Lists entries, and which of them are one file.
fn names(found: &[Found]) -> Vec<Named> {
    let mut first: HashMap<(u64, u64), &Path> = HashMap::new();
    let mut named = Vec::with_capacity(found.len());
    for found in found {
        let Metadata { device, inode, links, .. } = found.metadata;
        let same = match found.look {
            Look::File { .. } | Look::Symlink { .. } if links > 1 => {
                let known = first.get(&(device, inode)).copied();
                first.entry((device, inode)).or_insert(&found.path);
                known.map(Path::to_owned)
            }
            _ => None,
        };
        named.push(Named { listed: found.listed(), same });
    }
    named
}

/// Lists what [`scan`] would take, in the order of paths, and reads no file.
pub fn list(request: &LocalRequest) -> Result<Vec<Listed>, SourceError> {
    let filter = Filter::new(&request.include, &request.exclude)?;
    let found = Walk::new(request, &filter).run(&open_folder(&request.folder)?)?;
    let wanted = wanted(&found);
    Ok(found.iter().zip(wanted).filter(|(_, wanted)| *wanted).map(|(found, _)| found.listed()).collect())
}

/// What to remember: files that were read, and whose next change will show in their stamps.
fn changes(found: &[Found], digests: &[Option<Digested>], started_ns: i64) -> Vec<StatChange> {
    let change = |(found, digested): (&Found, &Option<Digested>)| {
        let (Look::File { stamp, .. }, Some(Digested::New(digest) | Digested::Outdated(digest))) =
            (&found.look, digested)
        else {
            return None;
        };
        let newest = stamp.changed_ns.max(stamp.modified_ns);
        (newest.saturating_add(COARSEST_STAMP_NS) <= started_ns).then(|| StatChange {
            path: found.path.as_os_str().as_bytes().to_vec(),
            stamp: *stamp,
            digest: *digest,
        })
    };
    found.iter().zip(digests).filter_map(change).collect()
}

/// Puts all together, without folders that are there only because something in them might have been kept.
fn entries(
    mut found: Vec<Found>,
    mut digests: Vec<Option<Digested>>,
) -> (BTreeMap<PathBuf, LocalEntry>, Listing) {
    if found.iter().any(|found| matches!(found.look, Look::Directory { kept: false, .. })) {
        let wanted = wanted(&found);
        let mut each = wanted.iter().copied();
        found.retain(|_| each.next().unwrap_or(true));
        let mut each = wanted.iter().copied();
        digests.retain(|_| each.next().unwrap_or(true));
    }
    let listed = found.iter().map(|found| (found.path.clone(), found.metadata)).collect();
    let target = |found: &Found| match &found.look {
        Look::Symlink { target } => Some((found.path.clone(), target.clone())),
        Look::Directory { .. } | Look::File { .. } => None,
    };
    let listing = Listing::with_targets(listed, found.iter().filter_map(target).collect());
    let entry = |(found, digested): (Found, Option<Digested>)| {
        let entry = match (found.look, digested) {
            (
                Look::File { mode, stamp },
                Some(Digested::Known(digest) | Digested::New(digest) | Digested::Outdated(digest)),
            ) => LocalEntry::File { mode, size_bytes: stamp.size_bytes, digest },
            (Look::Directory { mode, .. }, _) => LocalEntry::Directory { mode },
            (Look::Symlink { target }, _) => LocalEntry::Symlink { target },
            (Look::File { .. }, None) => return None,
        };
        Some((found.path, entry))
    };
    (found.into_iter().zip(digests).filter_map(entry).collect(), listing)
}

/// Says of each entry whether it stays: a folder that only led through it does if something in it does.
fn wanted(found: &[Found]) -> Vec<bool> {
    let mut wanted = vec![true; found.len()];
    // What is in a folder comes right after it: so from the last to the first, those inside before those around.
    let mut next: Option<&Path> = None;
    for (found, wanted) in found.iter().zip(&mut wanted).rev() {
        if let Look::Directory { kept: false, .. } = found.look {
            *wanted = next.is_some_and(|next| next.starts_with(&found.path));
        }
        if *wanted {
            next = Some(&found.path);
        }
    }
    wanted
}

/// Returns a file's digest, from the cache or by reading it.
fn digest(
    folder: &OwnedFd,
    request: &LocalRequest,
    path: &Path,
    expected: &FileStamp,
    cache: &StatCache,
    tally: &Tally,
) -> Result<Digested, SourceError> {
    let name = path.as_os_str().as_bytes();
    if let Some(known) = cache.get(name, expected) {
        return Ok(Digested::Known(known));
    }
    let read = |source: io::Error| failure(request, path, source);
    let opened = rustix::fs::openat(folder.as_fd(), path, files::SAFE, Mode::empty())
        .map_err(|error| read(error.into()))?;
    let opened = File::from(opened);
    let still_the_same = || {
        let now = rustix::fs::fstat(&opened).map_err(|error| read(error.into()))?;
        if stamp(&Metadata::of(&now)) == *expected {
            Ok(())
        } else {
            Err(SourceError::Changed { path: path.to_owned() })
        }
    };
    // Before: it may be a device by now. After: it may have been written to as it was read.
    still_the_same()?;
    let content = (&opened).take(expected.size_bytes.saturating_add(1));
    let digest =
        ContentDigest::of_content(Counted::new(content, tally), expected.size_bytes).map_err(read)?;
    still_the_same()?;
    tally.add(1, 0);
    let digest = *digest.as_bytes();
    Ok(if cache.contains(name) { Digested::Outdated(digest) } else { Digested::New(digest) })
}

fn content_key<'a>(entries: impl Iterator<Item = (&'a Path, &'a LocalEntry)>) -> ContentKey {
    let mut hasher = blake3::Hasher::new();
    // What comes in small pieces costs several times as much.
    let mut piece = Vec::with_capacity(PIECE_BYTES * 2);
    let field = |piece: &mut Vec<u8>, bytes: &[u8]| {
        piece.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        piece.extend_from_slice(bytes);
    };
    field(&mut piece, b"rb local tree 1");
    for (path, entry) in entries {
        field(&mut piece, path.as_os_str().as_bytes());
        match entry {
            LocalEntry::Directory { mode } => field(&mut piece, format!("d{mode:o}").as_bytes()),
            LocalEntry::File { mode, size_bytes: _, digest } => {
                field(&mut piece, format!("f{mode:o}").as_bytes());
                field(&mut piece, digest);
            }
            LocalEntry::Symlink { target } => {
                field(&mut piece, b"l");
                field(&mut piece, target.as_os_str().as_bytes());
            }
        }
        if piece.len() >= PIECE_BYTES {
            hasher.update(&piece);
            piece.clear();
        }
    }
    hasher.update(&piece);
    ContentKey::from_bytes(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests;
