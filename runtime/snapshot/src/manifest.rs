//! What the files of a finished layer are, kept beside it: so that the next layer like it takes over what is unchanged.
//!
//! In: the diff that the snapshot was committed with. Out: `manifest`, a file next to its directory: path, size, digest,
//! mode, owner, time and attributes of every regular file, the paths of all else and of what was deleted, and a
//! checksum. It goes when the snapshot goes. What cannot be read, or is torn, counts as not there.
//!
//! A snapshot that continues the layer below (`continuing`) lists what is its own; [`Manifest::over`] says what both have.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use crate::content::ContentDigest;
use crate::diff::{Change, ChangeKind, Diff};
use crate::error::{Context as _, Result};
use crate::known::KnownFile;
use crate::listing::compare_paths;
use crate::metadata::ExtendedAttributes;

/// Moves when the layout below does.
const MAGIC: &[u8] = b"rb manifest 1\n";
const CHECKSUM_BYTES: usize = 32;

/// Bits of the first byte. Of a manifest that an older program wrote, the second is not set.
const KEEPS_TIMES: u8 = 1;
const LISTS_ALL: u8 = 2;

/// What stands at a path, in a byte.
const FILE: u8 = 0;
const FILE_OF_SEVERAL_NAMES: u8 = 1;
const GONE: u8 = 2;
const DIRECTORY: u8 = 3;
const OTHER: u8 = 4;

/// The regular files of a layer, and where it has something else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Whether files have the times of what they were copied from, rather than one that is given to all.
    pub keeps_times: bool,
    /// Sorted by path.
    pub(crate) files: Vec<(PathBuf, ManifestFile)>,
    /// Whether it says more than which files there are.
    pub(crate) lists_all: bool,
    /// All that is no regular file, sorted by path, with whether it is a directory.
    pub(crate) others: Vec<(PathBuf, bool)>,
    /// What was deleted of what lies below.
    pub(crate) gone: Vec<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ManifestFile {
    pub(crate) known: KnownFile,
    /// It has several names in its layer.
    pub(crate) linked: bool,
}

impl Manifest {
    /// Lists what the snapshot itself changed.
    pub fn of(diff: &Diff, keeps_times: bool) -> Self {
        let changes = diff.own();
        let mut files: Vec<(PathBuf, ManifestFile)> = Vec::with_capacity(changes.len());
        let (mut others, mut gone) = (Vec::new(), Vec::new());
        for Change { path, kind, metadata } in changes {
            let Some(metadata) = metadata else {
                gone.push(path.clone());
                continue;
            };
            let (size_bytes, digest, linked) = match kind {
                ChangeKind::File { size_bytes, digest } => (*size_bytes, *digest, false),
                ChangeKind::HardLink { to } => match files.binary_search_by(|(path, _)| path.cmp(to)) {
                    Ok(index) => {
                        let first = &mut files[index].1;
                        first.linked = true;
                        (first.known.size_bytes, first.known.digest, true)
                    }
                    // Of what is no regular file.
                    Err(_) => {
                        others.push((path.clone(), false));
                        continue;
                    }
                },
                kind => {
                    others.push((path.clone(), matches!(kind, ChangeKind::Dir | ChangeKind::OpaqueDir)));
                    continue;
                }
            };
            let known = KnownFile {
                size_bytes,
                digest,
                mode: metadata.mode,
                owner: (metadata.uid, metadata.gid),
                modified_ns: metadata.modified_ns,
                xattrs: metadata.xattrs.clone(),
            };
            files.push((path.clone(), ManifestFile { known, linked }));
        }
        Self { keeps_times, files, lists_all: true, others, gone }
    }

    /// Lists what two snapshots have together: this one, and `below` which it continues.
    pub(crate) fn over(self, below: Self) -> Self {
        let Self { keeps_times, mut files, lists_all, mut others, gone } = self;
        // What hides what is at the same path, and below it; a directory hides only what is none.
        let no_directories = others.iter().filter(|(_, is_directory)| !is_directory).map(|(path, _)| path);
        let hiding: HashSet<&OsStr> = files
            .iter()
            .map(|(path, _)| path)
            .chain(no_directories)
            .chain(&gone)
            .map(|path| path.as_os_str())
            .collect();
        let directories: HashSet<&OsStr> = others.iter().map(|(path, _)| path.as_os_str()).collect();
        let is_hidden = |path: &Path| path.ancestors().any(|path| hiding.contains(path.as_os_str()));
        let shown = |path: &Path| !is_hidden(path) && !directories.contains(path.as_os_str());
        let below_files: Vec<_> = below.files.into_iter().filter(|(path, _)| shown(path)).collect();
        let below_others: Vec<_> = below.others.into_iter().filter(|(path, _)| shown(path)).collect();
        files.extend(below_files);
        others.extend(below_others);
        files.sort_by(|(left, _), (right, _)| compare_paths(left, right));
        others.sort_by(|(left, _), (right, _)| compare_paths(left, right));
        Self { keeps_times, files, lists_all: lists_all && below.lists_all, others, gone: below.gone }
    }

    /// Returns the index of the file at `path`.
    pub(crate) fn find(&self, path: &Path) -> Option<usize> {
        self.files.binary_search_by(|(file, _)| compare_paths(file, path)).ok()
    }

    /// Returns path, digest and time of last modification of each file, sorted by path.
    pub fn files(&self) -> impl Iterator<Item = (&Path, ContentDigest, i64)> {
        self.files.iter().map(|(path, file)| (path.as_path(), file.known.digest, file.known.modified_ns))
    }

    /// Returns what is known of each file.
    pub(crate) fn into_known(self) -> impl Iterator<Item = (PathBuf, KnownFile)> {
        self.files.into_iter().map(|(path, file)| (path, file.known))
    }

    /// Reads the manifest at `path`; `None` if there is none that is whole.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>> {
        match fs::read(path) {
            Ok(bytes) => Ok(Self::decode(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).on_host("read", path),
        }
    }

    /// Writes the manifest to `path`.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, self.encode()).on_host("write", path)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MAGIC.len() + self.files.len() * 128);
        bytes.extend_from_slice(MAGIC);
        let flag = |is: bool, flag| if is { flag } else { 0 };
        bytes.push(flag(self.keeps_times, KEEPS_TIMES) | flag(self.lists_all, LISTS_ALL));
        for (path, ManifestFile { known, linked }) in &self.files {
            put(&mut bytes, path.as_os_str().as_bytes());
            bytes.push(if *linked { FILE_OF_SEVERAL_NAMES } else { FILE });
            bytes.extend_from_slice(&known.size_bytes.to_le_bytes());
            bytes.extend_from_slice(known.digest.as_bytes());
            for number in [known.mode, known.owner.0, known.owner.1] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            bytes.extend_from_slice(&known.modified_ns.to_le_bytes());
            bytes.extend_from_slice(&length(known.xattrs.len()));
            for (name, value) in &known.xattrs {
                put(&mut bytes, name.as_bytes());
                put(&mut bytes, value);
            }
        }
        for (path, is_directory) in &self.others {
            put(&mut bytes, path.as_os_str().as_bytes());
            bytes.push(if *is_directory { DIRECTORY } else { OTHER });
        }
        for path in &self.gone {
            put(&mut bytes, path.as_os_str().as_bytes());
            bytes.push(GONE);
        }
        let checksum = ContentDigest::of(&bytes);
        bytes.extend_from_slice(checksum.as_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_BYTES)?)?;
        if ContentDigest::of(body).as_bytes() != checksum {
            return None;
        }
        let mut rest = Bytes(body.strip_prefix(MAGIC)?);
        let [flags] = rest.array()?;
        let mut files = Vec::with_capacity(rest.0.len() / 96);
        let (mut others, mut gone) = (Vec::new(), Vec::new());
        while !rest.0.is_empty() {
            let path = PathBuf::from(OsStr::from_bytes(rest.sized()?));
            let linked = match rest.array()? {
                [FILE] => false,
                [FILE_OF_SEVERAL_NAMES] => true,
                [GONE] => {
                    gone.push(path);
                    continue;
                }
                [kind @ (DIRECTORY | OTHER)] => {
                    others.push((path, kind == DIRECTORY));
                    continue;
                }
                [_] => return None,
            };
            let size_bytes = u64::from_le_bytes(rest.array()?);
            let digest = ContentDigest::from_bytes(rest.array()?);
            let mode = u32::from_le_bytes(rest.array()?);
            let owner = (u32::from_le_bytes(rest.array()?), u32::from_le_bytes(rest.array()?));
            let modified_ns = i64::from_le_bytes(rest.array()?);
            let mut xattrs = ExtendedAttributes::new();
            for _ in 0..u32::from_le_bytes(rest.array()?) {
                let name = OsString::from_vec(rest.sized()?.to_vec());
                xattrs.insert(name, rest.sized()?.to_vec());
            }
            let known = KnownFile { size_bytes, digest, mode, owner, modified_ns, xattrs };
            files.push((path, ManifestFile { known, linked }));
        }
        let (keeps_times, lists_all) = (flags & KEEPS_TIMES != 0, flags & LISTS_ALL != 0);
        Some(Self { keeps_times, files, lists_all, others, gone })
    }
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("names and attributes are short: the kernel says so").to_le_bytes()
}

fn put(bytes: &mut Vec<u8>, field: &[u8]) {
    bytes.extend_from_slice(&length(field.len()));
    bytes.extend_from_slice(field);
}

/// What is left to decode.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let count = u32::from_le_bytes(self.array()?);
        self.take(usize::try_from(count).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let known = |size_bytes: u64, xattrs: &[(&str, &[u8])]| KnownFile {
            size_bytes,
            digest: ContentDigest::of(size_bytes.to_le_bytes()),
            mode: 0o4755,
            owner: (7, 8),
            modified_ns: -5,
            xattrs: xattrs.iter().map(|(name, value)| (OsString::from(name), value.to_vec())).collect(),
        };
        let files = [
            (PathBuf::from("a/b"), ManifestFile { known: known(1, &[]), linked: false }),
            (
                PathBuf::from(""),
                ManifestFile { known: known(2, &[("user.a", b"\0"), ("user.b", b"")]), linked: true },
            ),
            (
                PathBuf::from(OsStr::from_bytes(b"a\n\xff")),
                ManifestFile { known: known(u64::MAX, &[]), linked: false },
            ),
        ];
        let others = vec![(PathBuf::from("a"), true), (PathBuf::from("b"), false)];
        let gone = vec![PathBuf::from("gone")];
        Manifest { keeps_times: true, files: files.into(), lists_all: true, others, gone }
    }

    #[test]
    fn what_is_written_is_read_and_nothing_torn_is() {
        let bytes = manifest().encode();
        assert_eq!(Manifest::decode(&bytes), Some(manifest()));
        for end in 0..bytes.len() {
            assert_eq!(Manifest::decode(&bytes[..end]), None, "{end}");
        }
        for index in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[index] ^= 1;
            assert_eq!(Manifest::decode(&bytes), None, "{index}");
        }
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Manifest::read(&directory.path().join("manifest")).unwrap(), None);
    }
}
