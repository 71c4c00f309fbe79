//! Archives of the user's, unpacked into a folder of a tree.

use std::io::{Seek as _, Write as _};
use std::path::Path;

use rb_snapshot::{DriverKind, Editor, Follow, Snapshots, View};
use rb_sources::SourceError;
use rb_sources::unpack::{ArchiveTarget, Ownership, archive};
use rb_store::Store;

/// An entry: name, kind as a tar says it, text or target.
type Entry<'a> = (&'a str, tar::EntryType, &'a str);

const FILE: tar::EntryType = tar::EntryType::Regular;
const FOLDER: tar::EntryType = tar::EntryType::Directory;
const LINK: tar::EntryType = tar::EntryType::Symlink;
const SECOND: tar::EntryType = tar::EntryType::Link;

fn tar_of(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, text) in entries {
        let mut header = tar::Header::new_ustar();
        // Names that the crate would refuse to write are what this is about.
        header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(if *kind == FOLDER { 0o755 } else { 0o640 });
        header.set_mtime(7);
        let is_file = *kind == FILE;
        if !is_file && !text.is_empty() {
            header.as_ustar_mut().unwrap().linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        header.set_size(if is_file { text.len() as u64 } else { 0 });
        header.set_cksum();
        builder.append(&header, if is_file { text.as_bytes() } else { b"" }).unwrap();
    }
    builder.into_inner().unwrap()
}

struct Unpacked {
    result: Result<bool, SourceError>,
    view: View,
    _folder: tempfile::TempDir,
    _active: rb_snapshot::Active,
}

impl Unpacked {
    fn text(&self, path: &str) -> Option<String> {
        let entry = self.view.lookup(path, Follow::No).unwrap()?;
        Some(std::io::read_to_string(self.view.open(&entry).ok()?).unwrap())
    }

    fn refused(&self) -> String {
        match &self.result {
            Err(error @ SourceError::Archive { .. }) => error.to_string(),
            other => panic!("expected a refusal, got {other:?}"),
        }
    }
}

/// Unpacks into /to, in a tree that has links in it.
fn unpack(bytes: &[u8]) -> Unpacked {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let snapshots = Snapshots::new(store.clone(), DriverKind::Overlay).unwrap();
    let active = snapshots.prepare(None).unwrap();
    let editor = Editor::new(&active).unwrap();
    editor.mkdir("/to/inside", 0o755, true, None, None).unwrap();
    editor.mkdir("/etc", 0o755, true, None, None).unwrap();
    editor.mkfile("/etc/passwd", 0o644, b"root", None, None).unwrap();
    editor.symlink("/etc", "/to/out", None, None).unwrap();
    editor.symlink("inside", "/to/in", None, None).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    let target = ArchiveTarget {
        editor: &editor,
        folder: Path::new("/to"),
        owner: None,
        timestamp: None,
        ownership: Ownership::RootOnly,
    };
    let result = archive(&store, file, Path::new("a.tar"), target, &|| false);
    let view = editor.view();
    drop(editor);
    Unpacked { result, view, _folder: folder, _active: active }
}

#[test]
fn every_packing_is_told_by_its_content() {
    let plain = tar_of(&[("d/", FOLDER, ""), ("d/file", FILE, "text"), (".wh.file", FILE, "plain")]);
    let mut bz2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bz2.write_all(&plain).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&plain).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
    let packed = [plain, gzip.finish().unwrap(), bz2.finish().unwrap(), xz.finish().unwrap(), zstd];
    for (number, bytes) in packed.iter().enumerate() {
        let done = unpack(bytes);
        assert!(done.result.as_ref().is_ok_and(|is_archive| *is_archive), "{number}");
        assert_eq!(done.text("/to/d/file").as_deref(), Some("text"), "{number}");
        assert_eq!(done.text("/to/.wh.file").as_deref(), Some("plain"), "{number}");
        // What is cut short is an error once it looked like an archive.
        if number > 0 {
            let cut = unpack(&bytes[..bytes.len() - 5]).result;
            // Some formats give nothing of a block that is not whole: of that it shows not that it is an archive.
            let is_told = matches!(cut, Err(SourceError::Archive { .. }));
            assert!(is_told || (number > 1 && matches!(cut, Ok(false))), "{number}: {cut:?}");
        }
    }
}

#[test]
fn what_is_no_archive_is_left_alone() {
    for bytes in
        [&b""[..], b"text", &[0; 1024], b"BZh9nonsense", b"\xfd7zXZ\0nonsense", b"\x1f\x8b\x08\0nonsense"]
    {
        let done = unpack(bytes);
        assert!(done.result.as_ref().is_ok_and(|is_archive| !is_archive), "{bytes:?}");
    }
}

#[test]
fn nothing_leaves_the_folder() {
    for entry in [
        ("../file", FILE, "x"),
        ("a/../../etc/passwd", FILE, "x"),
        ("out/passwd", FILE, "x"),
        ("out/new/file", FILE, "x"),
        ("second", SECOND, "../etc/passwd"),
        ("second", SECOND, "out/passwd"),
        ("null", tar::EntryType::new(b'N'), ""),
    ] {
        let done = unpack(&tar_of(&[entry]));
        let said = done.refused();
        assert!(said.contains(entry.0), "{said}");
        assert_eq!(done.text("/etc/passwd").as_deref(), Some("root"), "{entry:?}");
    }
    let done = unpack(&tar_of(&[("own", LINK, "/etc"), ("own/passwd", FILE, "x")]));
    assert!(done.refused().contains("own/passwd"));
    assert_eq!(done.text("/etc/passwd").as_deref(), Some("root"));
}

#[test]
fn links_within_the_folder_are_followed() {
    let done =
        unpack(&tar_of(&[("in/file", FILE, "text"), ("second", SECOND, "in/file"), ("/abs", FILE, "x")]));
    assert!(done.result.is_ok(), "{:?}", done.result);
    assert_eq!(done.text("/to/inside/file").as_deref(), Some("text"));
    assert_eq!(done.text("/to/second").as_deref(), Some("text"));
    assert_eq!(done.text("/to/abs").as_deref(), Some("x"));
}
