//! What the tests of this crate share: a store with snapshots, and trees in it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::path::Path;

use rb_snapshot::{ContentKey, DriverKind, SnapshotId, Snapshots, Xattrs};
use rb_store::Store;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

pub(crate) struct Fixture {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) snapshots: Snapshots,
}

impl Fixture {
    pub(crate) fn new(driver: DriverKind) -> Self {
        let directory = tempfile::tempdir().expect("temp dir");
        let store = Store::open(&directory.path().join("state")).expect("opens");
        let snapshots = Snapshots::with_xattrs(store.clone(), driver, Xattrs::Trusted);
        Self { directory, store, snapshots }
    }

    /// Commits what `write` does to the upper directory.
    pub(crate) fn commit(&self, parent: Option<SnapshotId>, write: impl FnOnce(&Path)) -> SnapshotId {
        let active = self.snapshots.prepare(parent).expect("prepares");
        write(active.upper());
        let diff = rb_snapshot::diff(&active).expect("reads");
        let salt = ContentKey::from_bytes([parent.map_or(0, |id| u8::try_from(id.0).expect("fits")); 32]);
        self.snapshots.commit(active, &diff, salt).expect("commits").0
    }
}

/// Writes a file of some mode, owned by root.
pub(crate) fn file(root: &Path, path: &str, content: impl AsRef<[u8]>, mode: u32) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("has a parent")).expect("makes");
    fs::write(&path, content).expect("writes");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmods");
}

/// Sets the time of a file or link.
pub(crate) fn touch(path: &Path, seconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: 123 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("touches");
}

/// A tree with everything that a layer can hold, made in an order that `shuffle` decides.
pub(crate) fn odd_tree(root: &Path, shuffle: bool) {
    let long = format!("long/{}/{}", "d".repeat(120), "f".repeat(200));
    let mut files = vec![
        ("a-b", "before a/b in bytes", 0o644),
        ("a/b", "#!/bin/sh\n", 0o755),
        ("a/c/deep", "", 0o600),
        ("a.txt", "x", 0o444),
        ("héllo/wörld", "ünïcode", 0o644),
        ("setuid", "s", 0o4755),
        (long.as_str(), "long", 0o644),
    ];
    if shuffle {
        files.reverse();
    }
    for (path, content, mode) in files {
        file(root, path, content, mode);
    }
    let big: Vec<u8> = (0..700_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
    file(root, "big", &big, 0o644);
    symlink("../a/b", root.join("a/link")).expect("links");
    symlink("/".repeat(150), root.join("far")).expect("links");
    fs::hard_link(root.join("big"), root.join("a/big-too")).expect("links");
    lchown(root.join("a/b"), Some(3_000_000), Some(12)).expect("chowns");
    lchown(root.join("a/link"), Some(7), Some(8)).expect("chowns");
    fs::create_dir(root.join("empty")).expect("makes");
    fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o1777)).expect("chmods");
    rustix::fs::mknodat(CWD, root.join("pipe"), rustix::fs::FileType::Fifo, 0o640.into(), 0).expect("makes");
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(root.join("a.txt"), "user.note", b"\0v=\n\xff", flags).expect("sets");
}

/// One entry of a tar with its PAX records.
#[derive(Debug)]
pub(crate) struct TarEntry {
    pub(crate) header: tar::Header,
    pub(crate) path: Vec<u8>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) records: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) content: Vec<u8>,
}

impl TarEntry {
    pub(crate) fn name(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }

    pub(crate) fn record(&self, key: &str) -> Option<&[u8]> {
        self.records.get(key.as_bytes()).map(Vec::as_slice)
    }

    pub(crate) fn modified(&self) -> u64 {
        self.header.mtime().expect("is a number")
    }
}

/// Reads a tar. The `tar` crate finds the entries; it would cut records at line feeds in their values, so those are
/// taken by their length here.
pub(crate) fn read_tar(bytes: &[u8]) -> Vec<TarEntry> {
    let mut archive = tar::Archive::new(bytes);
    let mut entries = Vec::new();
    let mut records = BTreeMap::new();
    for entry in archive.entries().expect("is a tar").raw(true) {
        let mut entry = entry.expect("is an entry");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("reads");
        let header = entry.header().clone();
        if header.entry_type() == tar::EntryType::XHeader {
            records = read_records(&content);
            continue;
        }
        let records = std::mem::take(&mut records);
        let path = records.get(&b"path"[..]).cloned().unwrap_or_else(|| header.path_bytes().into_owned());
        let in_header = header.link_name_bytes().map(|name| name.into_owned());
        let link = records.get(&b"linkpath"[..]).cloned().or(in_header);
        entries.push(TarEntry { header, path, link, records, content });
    }
    entries
}

fn read_records(mut bytes: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut records = BTreeMap::new();
    while let Some(space) = bytes.iter().position(|byte| *byte == b' ') {
        let length: usize =
            std::str::from_utf8(&bytes[..space]).expect("is text").parse().expect("is a number");
        let (record, rest) = bytes.split_at(length);
        let (end, record) = record[space + 1..].split_last().expect("is not empty");
        assert_eq!(*end, b'\n');
        let equals = record.iter().position(|byte| *byte == b'=').expect("has a value");
        records.insert(record[..equals].to_vec(), record[equals + 1..].to_vec());
        bytes = rest;
    }
    assert!(bytes.is_empty());
    records
}
