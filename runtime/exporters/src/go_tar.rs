//! Tars as Go writes them, entry by entry: what the tools of buildpacks make of the same entries, down to the bytes.
//!
//! In: entries in the order in which they are to stand. Out: a tar, or a packed layer among the blobs of the store. Names are
//! written as they are given, so an absolute one keeps its `/` and a directory gets none at its end; no names of users; numbers,
//! the checksum and the splitting of long names as Go's archive/tar has them, with PAX records only for what ustar cannot hold.
//! **Invariant:** equal entries give equal bytes.
//! Source: Go archive/tar, "Writer"; POSIX pax, "ustar Interchange Format".

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rb_oci::Compression;
use rb_store::Store;

use crate::error::Context as _;
use crate::layer::{Layer, Packing, Sink, settle, sink, threads};
use crate::tar_stream::{encode_records, unrepresentable};
use crate::{ExportError, Result};

/// The time of all that buildpacks' tools write: 1980-01-01T00:00:01Z.
pub const CNB_TIME: i64 = 315_532_801;

/// One entry.
#[derive(Clone, Debug)]
pub struct GoEntry {
    /// Its name, as it is written.
    pub path: PathBuf,
    /// What it is.
    pub kind: GoKind,
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub modified: i64,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GoKind {
    /// A directory.
    Directory,
    /// A file of so many bytes.
    File(u64),
    /// A symlink to this.
    Symlink(PathBuf),
    /// The same file as this entry.
    HardLink(PathBuf),
    /// A pipe.
    Fifo,
    /// A character device of these numbers.
    CharDevice(u32, u32),
    /// A block device of these numbers.
    BlockDevice(u32, u32),
}

impl GoEntry {
    /// Describes an entry of root's, of the usual time.
    pub fn new(path: impl Into<PathBuf>, kind: GoKind, mode: u32) -> Self {
        Self { path: path.into(), kind, mode, uid: 0, gid: 0, modified: CNB_TIME }
    }

    /// Gives it an owner.
    #[must_use]
    pub fn owned(self, uid: u32, gid: u32) -> Self {
        Self { uid, gid, ..self }
    }
}

/// A tar under way.
pub struct GoTar<W: Write> {
    out: W,
}

impl<W: Write> GoTar<W> {
    /// Begins one.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// Writes an entry without content.
    pub fn entry(&mut self, entry: &GoEntry) -> Result<()> {
        let (header, records) = encode(entry)?;
        if !records.is_empty() {
            let size = records.len() as u64;
            self.write(&extension_header(&entry.path, size))?;
            self.write(&records)?;
            self.pad(size)?;
        }
        self.write(&header)
    }

    /// Writes a file, whose kind says how many bytes `content` has.
    pub fn file(&mut self, entry: &GoEntry, content: &mut dyn Read) -> Result<()> {
        self.entry(entry)?;
        let GoKind::File(size) = entry.kind else { return Ok(()) };
        let mut buffer = vec![0; 64 << 10];
        let mut actual = 0_u64;
        // One read beyond the end sees both a file that shrank and one that grew.
        loop {
            let count = content.read(&mut buffer).context("read", &entry.path)?;
            actual += count as u64;
            if count == 0 || actual > size {
                break;
            }
            self.write(&buffer[..count])?;
        }
        if actual != size {
            return Err(ExportError::Changed { path: entry.path.clone(), expected: size, actual });
        }
        self.pad(size)
    }

    /// Writes the end. Returns the output.
    pub fn finish(mut self) -> Result<W> {
        self.write(&[0; 1024])?;
        Ok(self.out)
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let rest = (size % 512) as usize;
        if rest > 0 { self.write(&[0; 512][rest..]) } else { Ok(()) }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(ExportError::Write)
    }
}

/// A layer under way, into a blob of the store.
pub struct GoLayer {
    tar: GoTar<Sink<'static>>,
    packing: Packing<'static>,
}

impl GoLayer {
    /// Begins one; it is gone again unless it is finished.
    pub fn begin(store: &Store) -> Result<Self> {
        let packing = Packing { compression: Compression::default(), ..Packing::default() };
        Ok(Self { tar: GoTar::new(sink(store, packing, threads())?), packing })
    }

    /// Returns what entries are written to.
    pub fn tar(&mut self) -> &mut GoTar<impl Write + use<>> {
        &mut self.tar
    }

    /// Ends it.
    pub fn finish(self) -> Result<Layer> {
        settle(self.tar.finish()?, self.packing)
    }
}

/// Returns the header, and the PAX records for what it cannot hold.
fn encode(entry: &GoEntry) -> Result<([u8; 512], Vec<u8>)> {
    let mut records = BTreeMap::<Vec<u8>, Vec<u8>>::new();
    let mut header = [0; 512];
    let name = entry.path.as_os_str().as_bytes();
    let (flag, link, size, device) = match &entry.kind {
        GoKind::Directory => (b'5', None, 0, (0, 0)),
        GoKind::File(size) => (b'0', None, *size, (0, 0)),
        GoKind::Symlink(target) => (b'2', Some(target), 0, (0, 0)),
        GoKind::HardLink(target) => (b'1', Some(target), 0, (0, 0)),
        GoKind::Fifo => (b'6', None, 0, (0, 0)),
        GoKind::CharDevice(major, minor) => (b'3', None, 0, (*major, *minor)),
        GoKind::BlockDevice(major, minor) => (b'4', None, 0, (*major, *minor)),
    };
    // A name that is split has a record, too, if there are records anyway.
    let (mut is_ustar, mut front, mut rest) = (true, &b""[..], name);
    if !fits(name, 100) {
        records.insert(b"path".to_vec(), name.to_vec());
        match split(name) {
            Some(parts) => (front, rest) = parts,
            None => is_ustar = false,
        }
    }
    if let Some(target) = link {
        let target = target.as_os_str().as_bytes();
        if !fits(target, 100) {
            records.insert(b"linkpath".to_vec(), target.to_vec());
            is_ustar = false;
        }
        put_text(&mut header[157..257], &ascii(target));
    }
    if name.contains(&0) || link.is_some_and(|target| target.as_os_str().as_bytes().contains(&0)) {
        return Err(unrepresentable(&entry.path, "a NUL byte in its name"));
    }
    let modified = u64::try_from(entry.modified)
        .map_err(|_before_1970| unrepresentable(&entry.path, "a time before 1970"))?;
    for (key, value, field) in [
        ("uid", u64::from(entry.uid), 108..116),
        ("gid", u64::from(entry.gid), 116..124),
        ("size", size, 124..136),
        ("mtime", modified, 136..148),
    ] {
        if !octal(&mut header[field.clone()], value) {
            records.insert(key.as_bytes().to_vec(), value.to_string().into_bytes());
            is_ustar = false;
            octal(&mut header[field], 0);
        }
    }
    octal(&mut header[100..108], u64::from(entry.mode & 0o7777));
    header[156] = flag;
    // No record holds these.
    if !octal(&mut header[329..337], u64::from(device.0))
        || !octal(&mut header[337..345], u64::from(device.1))
    {
        return Err(unrepresentable(&entry.path, "a device of such a number"));
    }
    if is_ustar {
        records.clear();
        put_text(&mut header[..100], rest);
        put_text(&mut header[345..500], front);
    } else {
        put_text(&mut header[..100], &ascii(name));
    }
    finish(&mut header);
    Ok((header, encode_records(&records)))
}

/// The header of the records themselves, in a folder beside the entry.
fn extension_header(path: &Path, size: u64) -> [u8; 512] {
    let mut header = [0; 512];
    let folder = path.parent().unwrap_or(Path::new(""));
    let name = folder.join("PaxHeaders.0").join(path.file_name().unwrap_or_default());
    let mut name = ascii(name.as_os_str().as_bytes());
    name.truncate(100);
    while name.last() == Some(&b'/') {
        name.pop();
    }
    put_text(&mut header[..100], &name);
    for field in [100..108, 108..116, 116..124, 136..148] {
        octal(&mut header[field], 0);
    }
    octal(&mut header[124..136], size);
    header[156] = b'x';
    finish(&mut header);
    header
}

/// Writes what says that it is ustar, and the checksum.
fn finish(header: &mut [u8; 512]) {
    header[257..263].copy_from_slice(b"ustar\0");
    header[263..265].copy_from_slice(b"00");
    header[148..156].fill(b' ');
    let sum: u64 = header.iter().copied().map(u64::from).sum();
    octal(&mut header[148..155], sum);
}

fn fits(text: &[u8], most: usize) -> bool {
    text.len() <= most && text.is_ascii()
}

fn ascii(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(u8::is_ascii).collect()
}

/// Puts text into a field, and no more than fits; what is cut must not look like the name of a folder.
fn put_text(field: &mut [u8], text: &[u8]) {
    let count = text.len().min(field.len());
    field[..count].copy_from_slice(&text[..count]);
    if text.len() > count && field.last() == Some(&b'/') {
        let end = field.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        field[end] = 0;
    }
}

/// Writes digits up to a NUL at the end of the field; `false` if the number has too many.
fn octal(field: &mut [u8], value: u64) -> bool {
    let digits = field.len() - 1;
    let text = format!("{value:0digits$o}");
    if text.len() > digits {
        return false;
    }
    field[..digits].copy_from_slice(text.as_bytes());
    field[digits] = 0;
    true
}

/// Splits a name into a prefix and the rest, at the last slash that leaves both short enough.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if !name.is_ascii() {
        return None;
    }
    let end = if name.len() > 156 {
        156
    } else if name.last() == Some(&b'/') {
        name.len() - 1
    } else {
        name.len()
    };
    let at = name[..end].iter().rposition(|byte| *byte == b'/').filter(|at| *at > 0)?;
    let (front, rest) = (&name[..at], &name[at + 1..]);
    (!rest.is_empty() && rest.len() <= 100 && front.len() <= 155).then_some((front, rest))
}

#[cfg(test)]
mod tests;
