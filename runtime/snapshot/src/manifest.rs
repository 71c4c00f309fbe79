//! What the files of a finished layer are, kept beside it: so that the next layer like it takes over what is unchanged.
//!
//! In: the diff that the layer was committed with. Out: `manifest`, a file next to its directory: path, size, digest,
//! mode, owner, time and attributes of every regular file, and a checksum. It goes when the snapshot goes. What cannot
//! be read, or is torn, counts as not there.
//!
//! A layer that takes files over ([`Reuse`]) links them: another name for the same inode, at the same path.
//! **Invariants:** a file is linked only where a copy would have given the same bytes, mode, owner, time and
//! attributes; files with several names in their layer are not, so that names are links of one another only within a
//! layer; and since every name of an inode stands at the same path, no stack of layers shows two of them.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::beneath;
use crate::content::ContentDigest;
use crate::diff::{Change, ChangeKind, Diff};
use crate::error::{Context as _, Result};
use crate::known::KnownFile;
use crate::metadata::ExtendedAttributes;

/// Moves when the layout below does.
const MAGIC: &[u8] = b"rb manifest 1\n";
const CHECKSUM_BYTES: usize = 32;

/// The regular files of a layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Whether files have the times of what they were copied from, rather than one that is given to all.
    pub keeps_times: bool,
    /// Sorted by path.
    files: Vec<(PathBuf, ManifestFile)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ManifestFile {
    known: KnownFile,
    /// It has several names in its layer.
    linked: bool,
}

/// A finished layer whose unchanged files a copy takes over.
pub struct Reuse {
    pub(crate) directory: OwnedFd,
    /// Those that another layer may have too.
    files: HashMap<PathBuf, KnownFile>,
    /// One of them was not what it is said to be.
    pub(crate) changed: AtomicBool,
}

impl Manifest {
    /// Lists the regular files among the changes.
    pub fn of(diff: &Diff, keeps_times: bool) -> Self {
        let mut files: Vec<(PathBuf, ManifestFile)> = Vec::with_capacity(diff.changes.len());
        for Change { path, kind, metadata } in &diff.changes {
            let Some(metadata) = metadata else { continue };
            let (size_bytes, digest, linked) = match kind {
                ChangeKind::File { size_bytes, digest } => (*size_bytes, *digest, false),
                ChangeKind::HardLink { to } => match files.binary_search_by(|(path, _)| path.cmp(to)) {
                    Ok(index) => {
                        let first = &mut files[index].1;
                        first.linked = true;
                        (first.known.size_bytes, first.known.digest, true)
                    }
                    Err(_) => continue,
                },
                _ => continue,
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
        Self { keeps_times, files }
    }

    /// Returns path, digest and time of last modification of each file, sorted by path.
    pub fn files(&self) -> impl Iterator<Item = (&Path, ContentDigest, i64)> {
        self.files.iter().map(|(path, file)| (path.as_path(), file.known.digest, file.known.modified_ns))
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
        bytes.push(u8::from(self.keeps_times));
        for (path, ManifestFile { known, linked }) in &self.files {
            put(&mut bytes, path.as_os_str().as_bytes());
            bytes.push(u8::from(*linked));
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
        let keeps_times = rest.flag()?;
        let mut files = Vec::with_capacity(rest.0.len() / 96);
        while !rest.0.is_empty() {
            let path = PathBuf::from(OsStr::from_bytes(rest.sized()?));
            let linked = rest.flag()?;
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
        Some(Self { keeps_times, files })
    }
}

impl Reuse {
    /// Opens the layer at `directory`, whose files are those of `manifest`; `None` if it is gone.
    pub(crate) fn new(directory: &Path, manifest: Manifest) -> Result<Option<Self>> {
        let directory = match beneath::open_host_directory(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.on_host("open the layer", directory)?,
        };
        let files = manifest.files.into_iter();
        let files = files.filter(|(_, file)| !file.linked).map(|(path, file)| (path, file.known)).collect();
        Ok(Some(Self { directory, files, changed: AtomicBool::new(false) }))
    }

    /// Says whether a file that was to be taken over was not what the layer is said to have.
    pub fn is_changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed)
    }

    /// Returns what the layer has at `path`, if another layer may have it too.
    pub(crate) fn get(&self, path: &Path) -> Option<&KnownFile> {
        self.files.get(path)
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

    fn flag(&mut self) -> Option<bool> {
        Some(self.array::<1>()? != [0])
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
        Manifest { keeps_times: true, files: files.into() }
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
