//! A tar, written entry by entry: ustar headers, with PAX records for what does not fit them.
//!
//! PAX: names that are long or not ASCII, large ids, sizes and times, extended attributes (`SCHILY.xattr.`, as Go, star
//! and GNU tar read them). Names are bytes and written as they are. Source: POSIX pax, "pax Header Block";
//! OCI image-spec layer.md.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rb_snapshot::Tally;
use tar::{EntryType, Header};

use crate::error::Context as _;
use crate::{ExportError, Result};

/// Largest number in an eight-byte octal field.
const MAX_OCTAL_7: u64 = 0o777_7777;

/// Largest number in a twelve-byte octal field.
const MAX_OCTAL_11: u64 = 0o777_7777_7777;

/// One entry's header, without its content.
pub(crate) struct Node<'a> {
    /// Relative, without trailing slash.
    pub(crate) path: &'a Path,
    pub(crate) kind: NodeKind<'a>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since 1970.
    pub(crate) modified: i64,
    pub(crate) xattrs: &'a BTreeMap<OsString, Vec<u8>>,
}

/// For entries without attributes.
pub(crate) static NO_XATTRS: BTreeMap<OsString, Vec<u8>> = BTreeMap::new();

/// What an entry is.
#[derive(Clone, Copy)]
pub(crate) enum NodeKind<'a> {
    Directory,
    File { size_bytes: u64 },
    HardLink { to: &'a Path },
    Symlink { target: &'a Path },
    Fifo,
    CharDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
}

/// Writes a tar. Needs [`TarStream::finish`].
pub(crate) struct TarStream<'a, W: Write> {
    out: W,
    tally: Option<&'a Tally>,
}

impl<'a, W: Write> TarStream<'a, W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, tally: None }
    }

    /// Has the content of files counted.
    pub(crate) fn counted(self, tally: Option<&'a Tally>) -> Self {
        Self { tally, ..self }
    }

    /// Writes an entry without content.
    pub(crate) fn entry(&mut self, node: &Node<'_>) -> Result<()> {
        let (header, records) = encode(node)?;
        if !records.is_empty() {
            let extension = extension_header(node, records.len() as u64);
            self.write(extension.as_bytes())?;
            self.write(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.write(header.as_bytes())
    }

    /// Writes a file, whose kind says how many bytes `content` has.
    pub(crate) fn file(&mut self, node: &Node<'_>, content: &mut dyn Read) -> Result<()> {
        self.entry(node)?;
        let NodeKind::File { size_bytes } = node.kind else { return Ok(()) };
        let mut buffer = vec![0; 64 << 10];
        let mut actual = 0_u64;
        // One read beyond the end sees both a file that shrank and one that grew.
        loop {
            let count = content.read(&mut buffer).context("read", node.path)?;
            actual += count as u64;
            if count == 0 || actual > size_bytes {
                break;
            }
            self.write(&buffer[..count])?;
            if let Some(tally) = self.tally {
                tally.add(0, count as u64);
            }
        }
        if actual != size_bytes {
            return Err(ExportError::Changed { path: node.path.to_owned(), expected: size_bytes, actual });
        }
        self.pad(size_bytes)
    }

    /// Writes the end of the archive. Returns the output.
    pub(crate) fn finish(mut self) -> Result<W> {
        self.write(&[0; 1024])?;
        Ok(self.out)
    }

    fn pad(&mut self, size_bytes: u64) -> Result<()> {
        let rest = (size_bytes % 512) as usize;
        if rest > 0 { self.write(&[0; 512][rest..]) } else { Ok(()) }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(ExportError::Write)
    }
}

/// Returns the header, and the PAX records for what it cannot hold.
fn encode(node: &Node<'_>) -> Result<(Header, Vec<u8>)> {
    let mut records = BTreeMap::<Vec<u8>, Vec<u8>>::new();
    let mut record = |key: &str, value: &[u8]| records.insert(key.as_bytes().to_vec(), value.to_vec());
    let mut header = Header::new_ustar();

    let mut name = node.path.as_os_str().as_bytes().to_vec();
    if matches!(node.kind, NodeKind::Directory) {
        name.push(b'/');
    }
    let fields = header.as_ustar_mut().ok_or_else(|| unrepresentable(node.path, "its header"))?;
    if !put_text(&mut fields.name, &name) {
        record("path", &name);
    }
    let (kind, size_bytes) = match node.kind {
        NodeKind::Directory => (EntryType::Directory, 0),
        NodeKind::File { size_bytes } => (EntryType::Regular, size_bytes),
        NodeKind::HardLink { .. } => (EntryType::Link, 0),
        NodeKind::Symlink { .. } => (EntryType::Symlink, 0),
        NodeKind::Fifo => (EntryType::Fifo, 0),
        NodeKind::CharDevice { .. } => (EntryType::Char, 0),
        NodeKind::BlockDevice { .. } => (EntryType::Block, 0),
    };
    if let NodeKind::HardLink { to: target } | NodeKind::Symlink { target } = node.kind {
        let target = target.as_os_str().as_bytes();
        if !put_text(&mut fields.linkname, target) {
            record("linkpath", target);
        }
    }
    let mut number = |key: &str, value: u64, most: u64| {
        if value <= most {
            return value;
        }
        record(key, value.to_string().as_bytes());
        0
    };
    header.set_uid(number("uid", node.uid.into(), MAX_OCTAL_7));
    header.set_gid(number("gid", node.gid.into(), MAX_OCTAL_7));
    header.set_size(number("size", size_bytes, MAX_OCTAL_11));
    match u64::try_from(node.modified) {
        Ok(seconds) => header.set_mtime(number("mtime", seconds, MAX_OCTAL_11)),
        Err(_before_1970) => {
            record("mtime", node.modified.to_string().as_bytes());
            header.set_mtime(0);
        }
    }
    header.set_mode(node.mode & 0o7777);
    header.set_entry_type(kind);
    if let NodeKind::CharDevice { major, minor } | NodeKind::BlockDevice { major, minor } = node.kind {
        if u64::from(major.max(minor)) > MAX_OCTAL_7 {
            return Err(unrepresentable(node.path, "its device number"));
        }
        let place =
            |source| ExportError::Io { action: "describe device", path: node.path.to_owned(), source };
        header.set_device_major(major).map_err(place)?;
        header.set_device_minor(minor).map_err(place)?;
    }
    header.set_cksum();

    // A hard link's attributes are those of the file it names.
    if !matches!(node.kind, NodeKind::HardLink { .. }) {
        for (name, value) in node.xattrs.iter().filter(|(name, _)| is_portable(name.as_bytes())) {
            if name.as_bytes().contains(&b'=') {
                return Err(unrepresentable(node.path, "an extended attribute with `=` in its name"));
            }
            records.insert([b"SCHILY.xattr.", name.as_bytes()].concat(), value.clone());
        }
    }
    Ok((header, encode_records(&records)))
}

/// Says whether an attribute belongs to the file rather than to this machine's overlay or security policy.
fn is_portable(name: &[u8]) -> bool {
    const LOCAL: [&[u8]; 6] = [
        b"trusted.overlay.",
        b"user.overlay.",
        b"security.selinux",
        b"security.ima",
        b"security.evm",
        b"security.SMACK64",
    ];
    !LOCAL.iter().any(|prefix| name.starts_with(prefix))
}

/// Puts `text` into a header field. `false`: the field holds an ASCII approximation only.
fn put_text(field: &mut [u8; 100], text: &[u8]) -> bool {
    let ascii: Vec<u8> = text.iter().copied().filter(|byte| byte.is_ascii() && *byte != 0).collect();
    let count = ascii.len().min(field.len());
    field[..count].copy_from_slice(&ascii[..count]);
    count == text.len()
}

/// The header of the records themselves; readers ignore its name.
fn extension_header(node: &Node<'_>, size_bytes: u64) -> Header {
    let mut header = Header::new_ustar();
    if let Some(fields) = header.as_ustar_mut() {
        let base = node.path.file_name().unwrap_or_default();
        put_text(&mut fields.name, &[b"PaxHeaders.0/", base.as_bytes()].concat());
    }
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_mode(0o644);
    header.set_size(size_bytes);
    header.set_entry_type(EntryType::XHeader);
    header.set_cksum();
    header
}

/// `<length> <key>=<value>\n` each, where the length counts its own digits.
pub(crate) fn encode_records(records: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        bytes.extend_from_slice(format!("{length} ").as_bytes());
        bytes.extend_from_slice(key);
        bytes.push(b'=');
        bytes.extend_from_slice(value);
        bytes.push(b'\n');
    }
    bytes
}

pub(crate) fn unrepresentable(path: &Path, what: &'static str) -> ExportError {
    ExportError::Unrepresentable { path: PathBuf::from(path), what }
}

#[cfg(test)]
mod tests;
