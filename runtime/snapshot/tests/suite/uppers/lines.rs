//! Trees written down line by line: as file calls show them, as a view does, and as an upper directory lies there.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rb_snapshot::{ContentDigest, FileType, Follow, View};

use super::layers::everything;

/// What is later than this was written by the test.
pub(super) const NOW_FROM_NS: i64 = 1_700_000_000_000_000_000;

pub(super) type Lines = BTreeMap<PathBuf, String>;

pub(super) fn time_of(modified_ns: i64) -> String {
    if modified_ns > NOW_FROM_NS { "now".to_owned() } else { modified_ns.to_string() }
}

pub(super) fn content(bytes: &[u8]) -> String {
    format!("{} bytes {}", bytes.len(), ContentDigest::of(bytes).as_bytes()[0])
}

/// Writes down what file calls show, and overlay's marks where `marks`.
pub(super) fn lines_on_disk(root: &Path, marks: bool) -> Lines {
    let mut lines = Lines::new();
    let mut groups: HashMap<(u64, u64), PathBuf> = HashMap::new();
    for path in everything(root) {
        let full = root.join("").join(&path);
        let metadata = fs::symlink_metadata(&full).unwrap();
        let kind = metadata.file_type();
        let number = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
        let mut line = if kind.is_dir() {
            "directory".to_owned()
        } else if kind.is_symlink() {
            format!("symlink {:?}", fs::read_link(&full).unwrap())
        } else if kind.is_file() {
            format!("file {}", content(&fs::read(&full).unwrap()))
        } else if kind.is_fifo() {
            "fifo".to_owned()
        } else if number == (0, 0) {
            lines.insert(path, "whiteout".to_owned());
            continue;
        } else {
            format!("device {number:?}")
        };
        let modified_ns = metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec();
        line += &format!(
            " {:o} {}:{} {}",
            metadata.mode() & 0o7777,
            metadata.uid(),
            metadata.gid(),
            time_of(modified_ns)
        );
        for (name, value) in attributes_on_disk(&full) {
            let own = name.to_str().is_some_and(|name| name.contains(".overlay."));
            if !own || (marks && name.to_str().is_some_and(|name| name.ends_with("opaque"))) {
                line += &format!(" {}={value:?}", name.display());
            }
        }
        if metadata.nlink() > 1 && !kind.is_dir() {
            let first = groups.entry((metadata.dev(), metadata.ino())).or_insert_with(|| path.clone());
            line += &format!(" = {first:?}");
        }
        lines.insert(path, line);
    }
    alone(lines)
}

/// Writes down what a view shows.
pub(super) fn lines_of(view: &View) -> Lines {
    let mut lines = Lines::new();
    let mut groups: HashMap<(u64, u64), PathBuf> = HashMap::new();
    for entry in view.walk("").unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata;
        let mut line = match metadata.file_type {
            FileType::Directory => "directory".to_owned(),
            FileType::File => {
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut view.open(&entry).unwrap(), &mut bytes).unwrap();
                assert_eq!(bytes.len() as u64, metadata.size_bytes);
                format!("file {}", content(&bytes))
            }
            FileType::Symlink => format!("symlink {:?}", view.read_link(&entry).unwrap()),
            FileType::Fifo => "fifo".to_owned(),
            FileType::Socket => "socket".to_owned(),
            FileType::CharDevice | FileType::BlockDevice => format!("device {:?}", metadata.device_number),
        };
        line += &format!(
            " {:o} {}:{} {}",
            metadata.mode,
            metadata.uid,
            metadata.gid,
            time_of(metadata.modified_ns)
        );
        for (name, value) in view.xattrs(&entry).unwrap() {
            line += &format!(" {}={value:?}", name.display());
        }
        if metadata.links > 1 && !metadata.is_directory() {
            let first = groups.entry((metadata.device, metadata.inode)).or_insert_with(|| entry.path.clone());
            line += &format!(" = {first:?}");
        }
        lines.insert(entry.path, line);
    }
    alone(lines)
}

/// A file that shares nothing with another of the same tree says nothing of it: its further names may be gone or in
/// another layer.
pub(super) fn alone(mut lines: Lines) -> Lines {
    let firsts: Vec<String> =
        lines.values().filter_map(|line| Some(line.split_once(" = ")?.1.to_owned())).collect();
    for line in lines.values_mut() {
        if let Some((body, first)) = line.clone().split_once(" = ")
            && firsts.iter().filter(|other| *other == first).count() == 1
        {
            *line = body.to_owned();
        }
    }
    lines
}

pub(super) fn attributes_on_disk(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let mut list = Vec::with_capacity(4096);
    let count = rustix::fs::llistxattr(path, rustix::buffer::spare_capacity(&mut list));
    if count.is_err() {
        return BTreeMap::new();
    }
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names
        .filter_map(|name| {
            let mut value = Vec::with_capacity(4096);
            let read = rustix::fs::lgetxattr(
                path,
                CString::new(name).unwrap(),
                rustix::buffer::spare_capacity(&mut value),
            );
            read.ok().map(|_| (OsString::from_vec(name.to_vec()), value))
        })
        .collect()
}

/// An upper directory as it lies there, without marks below which nothing shows.
pub(super) fn lines_of_upper(upper: &Path, lowers: &View) -> Lines {
    let mut lines = lines_on_disk(upper, true);
    let mut opaque: Vec<PathBuf> = Vec::new();
    for (path, line) in &mut lines {
        let Some((body, _)) =
            line.split_once(" trusted.overlay.opaque").or(line.split_once(" user.overlay.opaque"))
        else {
            continue;
        };
        let hidden = opaque.iter().any(|above| path.starts_with(above));
        let below = lowers.lookup(path, Follow::No).unwrap();
        if !hidden && below.is_some_and(|below| below.metadata.is_directory()) {
            opaque.push(path.clone());
            // Attributes are sorted, and of the mark only one form is looked for.
            *line = format!("{body} opaque");
        } else {
            *line =
                line.replace(" trusted.overlay.opaque=[121]", "").replace(" user.overlay.opaque=[121]", "");
        }
    }
    lines
}
