//! Content keys: when are two trees the same?
//!
//! In: sorted entries. Out: a blake3 hash of their names, types, modes, owners, extended attributes, contents, link
//! targets, device numbers and hard links. Times stay outside, and so does whatever belongs to the machine the tree
//! lies on.
//! **Invariant:** equal keys mean equal trees, on every machine and under either driver.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::beneath;
use crate::error::{Context as _, Result};
use crate::metadata::{ExtendedAttributes, FileType, Metadata};
use crate::tally::{Counted, Tally};
use crate::view::{Entry, View};

/// Moves when the encoding below does, so that older keys are missed knowingly.
const SCHEMA: &[u8] = b"rb content 1";

const BUFFER_BYTES: usize = 128 * 1024;

/// Identifies the content of a tree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentKey([u8; 32]);

/// The blake3 hash of the bytes of one file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentDigest([u8; 32]);

impl ContentKey {
    /// The key of the tree that holds nothing.
    pub fn empty() -> Self {
        Encoder::new(b"empty").finish()
    }

    /// Takes 32 bytes that already are a key.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the key in the form cache keys are made of.
    pub fn to_digest(&self) -> rb_oci::Digest {
        rb_oci::Digest::from_bytes(self.0)
    }
}

impl ContentDigest {
    /// Hashes `bytes`.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(blake3::hash(bytes.as_ref()).into())
    }

    /// Hashes what is left to read of `file`.
    pub fn of_file(file: &File) -> io::Result<Self> {
        Self::of_content(file, file.metadata()?.len())
    }

    /// Hashes what is left to read of a file of about this size. Little of the stack is used: this is at the bottom of what runs on
    /// all cores, where a thread that waits takes up more of the same.
    pub fn of_content(mut content: impl io::Read, size_bytes: u64) -> io::Result<Self> {
        let mut hasher = ContentHasher::default();
        let size_bytes = usize::try_from(size_bytes).unwrap_or(BUFFER_BYTES);
        let mut buffer = vec![0; size_bytes.saturating_add(1).min(BUFFER_BYTES)];
        loop {
            match content.read(&mut buffer) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(count) => hasher.update(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes 32 bytes that already are a digest.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Hashes one file piece by piece.
#[derive(Default)]
pub(crate) struct ContentHasher(blake3::Hasher);

impl ContentHasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(&self) -> ContentDigest {
        ContentDigest(self.0.finalize().into())
    }
}

/// What stands at a path, as far as it decides content. Directories have neither size nor content here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Directory,
    File { size_bytes: u64, digest: ContentDigest },
    Symlink { target: PathBuf },
    Fifo,
    Socket,
    CharDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
}

/// What was read of an entry.
pub(crate) struct Content {
    pub(crate) body: Body,
    pub(crate) xattrs: ExtendedAttributes,
    /// Names of overlay's own attributes, of a file.
    pub(crate) marks: Vec<String>,
}

/// Reads `entry`: its attributes and, for files and links, its content. `tally` counts the bytes of files.
pub(crate) fn read(view: &View, entry: &Entry, tally: &Tally) -> Result<Content> {
    let (major, minor) = entry.metadata.device_number;
    let body = match entry.metadata.file_type {
        FileType::File => {
            let file = view.open(entry)?;
            let counted = Counted::new(&file, tally);
            let digest =
                ContentDigest::of_content(counted, entry.metadata.size_bytes).within("read", &entry.path)?;
            let (xattrs, marks) =
                beneath::attributes_and_marks(file.as_fd()).within("read the attributes of", &entry.path)?;
            let body = Body::File { size_bytes: entry.metadata.size_bytes, digest };
            return Ok(Content { body, xattrs, marks });
        }
        FileType::Directory => Body::Directory,
        FileType::Symlink => Body::Symlink { target: view.read_link(entry)? },
        FileType::Fifo => Body::Fifo,
        FileType::Socket => Body::Socket,
        FileType::CharDevice => Body::CharDevice { major, minor },
        FileType::BlockDevice => Body::BlockDevice { major, minor },
    };
    Ok(Content { body, xattrs: view.xattrs(entry)?, marks: Vec::new() })
}

/// Hashes entries, named as the first of them sees them; `tally` hears of the files that are read.
pub(crate) fn of_entries(view: &View, entries: &[Entry], tally: &Tally) -> Result<ContentKey> {
    let base = entries.first().map_or(Path::new(""), |start| &start.path);
    let links = hard_links(entries);
    let is_read = |(index, entry): &(usize, &Entry)| {
        entry.metadata.file_type == FileType::File && !links.contains_key(index)
    };
    tally.expect(
        0,
        entries.iter().enumerate().filter(is_read).map(|(_, entry)| entry.metadata.size_bytes).sum(),
    );
    let bodies = entries
        .par_iter()
        .enumerate()
        .map(|(index, entry)| match links.get(&index) {
            Some(_) => Ok(None),
            None => read(view, entry, tally).map(Some),
        })
        .collect::<Result<Vec<_>>>()?;
    let relative = |entry: &Entry| entry.path.strip_prefix(base).unwrap_or(&entry.path).to_owned();
    let mut encoder = Encoder::new(b"subtree");
    for (index, (entry, body)) in entries.iter().zip(&bodies).enumerate() {
        match (links.get(&index), body) {
            (Some(first), _) => encoder.hard_link(&relative(entry), &relative(&entries[*first])),
            (None, Some(Content { body, xattrs, .. })) => {
                encoder.entry(&relative(entry), Owned::of(&entry.metadata), body, xattrs);
            }
            (None, None) => {}
        }
    }
    Ok(encoder.finish())
}

/// For every entry that is another name of an earlier one: the index of that one.
pub(crate) fn hard_links(entries: &[Entry]) -> HashMap<usize, usize> {
    let mut first: HashMap<(u64, u64), usize> = HashMap::new();
    let mut links = HashMap::new();
    for (index, entry) in entries.iter().enumerate() {
        if let Some(group) = entry.metadata.hard_link_group() {
            let earliest = *first.entry(group).or_insert(index);
            if earliest != index {
                links.insert(index, earliest);
            }
        }
    }
    links
}

/// Mode and owner.
#[derive(Clone, Copy)]
pub(crate) struct Owned {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Owned {
    fn of(metadata: &Metadata) -> Self {
        Self { mode: metadata.mode, uid: metadata.uid, gid: metadata.gid }
    }
}

/// How much is hashed at once: what comes in small pieces costs several times as much.
const PIECE_BYTES: usize = 64 * 1024;

/// Turns entries into one hash. Every field has its length or a fixed size, so that no two lists encode alike.
pub(crate) struct Encoder {
    hasher: blake3::Hasher,
    /// What is yet to be hashed.
    piece: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(purpose: &[u8]) -> Self {
        let mut encoder = Self { hasher: blake3::Hasher::new(), piece: Vec::new() };
        encoder.bytes(SCHEMA);
        encoder.bytes(purpose);
        encoder
    }

    pub(crate) fn parent(&mut self, key: ContentKey) {
        self.bytes(&key.0);
    }

    pub(crate) fn entry(&mut self, path: &Path, owned: Owned, body: &Body, xattrs: &ExtendedAttributes) {
        let tag = match body {
            Body::Directory => b"d",
            Body::File { .. } => b"f",
            Body::Symlink { .. } => b"l",
            Body::Fifo => b"p",
            Body::Socket => b"s",
            Body::CharDevice { .. } => b"c",
            Body::BlockDevice { .. } => b"b",
        };
        self.bytes(tag);
        self.bytes(path.as_os_str().as_bytes());
        // The kernel gives every symlink mode 0777; it means nothing.
        self.number(u64::from(if matches!(body, Body::Symlink { .. }) { 0 } else { owned.mode }));
        self.number(u64::from(owned.uid));
        self.number(u64::from(owned.gid));
        match body {
            Body::File { size_bytes, digest } => {
                self.number(*size_bytes);
                self.bytes(&digest.0);
            }
            Body::Symlink { target } => self.bytes(target.as_os_str().as_bytes()),
            Body::CharDevice { major, minor } | Body::BlockDevice { major, minor } => {
                self.number(u64::from(*major));
                self.number(u64::from(*minor));
            }
            Body::Directory | Body::Fifo | Body::Socket => {}
        }
        self.number(xattrs.len() as u64);
        for (name, value) in xattrs {
            self.bytes(name.as_encoded_bytes());
            self.bytes(value);
        }
    }

    pub(crate) fn hard_link(&mut self, path: &Path, to: &Path) {
        self.bytes(b"h");
        self.bytes(path.as_os_str().as_bytes());
        self.bytes(to.as_os_str().as_bytes());
    }

    pub(crate) fn mark(&mut self, tag: &[u8], path: &Path) {
        self.bytes(tag);
        self.bytes(path.as_os_str().as_bytes());
    }

    pub(crate) fn finish(mut self) -> ContentKey {
        self.hasher.update(&self.piece);
        ContentKey(self.hasher.finalize().into())
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.add(bytes);
    }

    fn number(&mut self, number: u64) {
        self.add(&number.to_le_bytes());
    }

    fn add(&mut self, bytes: &[u8]) {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.hasher.update(&self.piece);
            self.piece.clear();
        }
    }
}

fn hexadecimal(bytes: &[u8; 32], out: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
}

impl fmt::Debug for ContentKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal(&self.0, out)
    }
}

impl fmt::Debug for ContentDigest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal(&self.0, out)
    }
}
