//! A case: one file with a Dockerfile, its context, and how it is built.
//!
//! ```text
//! # What it shows, in a sentence.
//! build --target prod .
//! differs no layers in a config
//! -- Dockerfile --
//! FROM alpine
//! -- bin/run 0755 --
//! -- current -> bin/run --
//! -- empty/ --
//! ```
//!
//! `build` is what is typed behind `rb`; without, it is `build .`; several lines are one. `differs` names a row of the table at the
//! top of `compiler/dockerfile`. A file ends where the next begins. Behind its name stand its mode and how its lines become bytes: `crlf`; `bom`;
//! `chomp`, without the last newline; `tar`, an archive of `PATH MODE TEXT` in each line, packed if its name ends in `gz`.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rb_oci::Digest;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

/// The time of every folder and link, in seconds since 1970.
const TIME: i64 = 1_500_000_000;

/// A case as it is written.
#[derive(Debug)]
pub(super) struct Case {
    /// Its path without the ending.
    pub(super) name: String,
    /// What is typed behind `rb build`, the context last.
    pub(super) words: Vec<String>,
    /// The rows of the table of differences that it is an example of.
    pub(super) differs: Vec<String>,
    files: Vec<File>,
}

#[derive(Debug)]
struct File {
    /// With a slash at its end it is a folder.
    path: String,
    link: Option<String>,
    mode: u32,
    as_bytes: BTreeSet<String>,
    text: String,
}

/// Reads all cases below a folder whose names hold a text, in the order of their names.
pub(super) fn read_all(folder: &Path, holding: &str) -> Vec<Case> {
    let mut paths = Vec::new();
    walk(folder, &mut paths);
    paths.sort();
    let name = |path: &Path| {
        let below = path.strip_prefix(folder).expect("lies in it").with_extension("");
        below.to_string_lossy().into_owned()
    };
    let read = |path: &PathBuf| parse(name(path), &fs::read_to_string(path).expect("reads a case"));
    paths.iter().filter(|path| name(path).contains(holding)).map(read).collect()
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("lists") {
        let path = entry.expect("lists").path();
        if path.is_dir() {
            walk(&path, paths);
        } else if path.extension().is_some_and(|ending| ending == "case") {
            paths.push(path);
        }
    }
}

fn parse(name: String, text: &str) -> Case {
    let (mut words, mut differs, mut files): (Vec<String>, _, Vec<File>) =
        (Vec::new(), Vec::new(), Vec::new());
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end_matches('\n');
        if let Some(head) = bare.strip_prefix("-- ").and_then(|rest| rest.strip_suffix(" --")) {
            files.push(file(head));
        } else if let Some(last) = files.last_mut() {
            last.text.push_str(line);
        } else if let Some(more) = bare.strip_prefix("build ") {
            words.extend(more.split(' ').map(ToOwned::to_owned));
        } else if let Some(row) = bare.strip_prefix("differs ") {
            differs.push(row.to_owned());
        } else {
            assert!(bare.starts_with("# ") || bare.is_empty(), "{name}: what is `{bare}`?");
        }
    }
    if words.is_empty() {
        words.push(".".to_owned());
    }
    assert!(!files.is_empty(), "{name}: no files");
    Case { name, words, differs, files }
}

fn file(head: &str) -> File {
    let (path, link) = match head.split_once(" -> ") {
        Some((path, to)) => (path, Some(to.to_owned())),
        None => (head, None),
    };
    // A name may have blanks: what is said of it stands at the end.
    let is_mode = |word: &str| word.starts_with('0') && word.len() == 4;
    let is_said = |word: &str| is_mode(word) || ["bom", "chomp", "crlf", "tar"].contains(&word);
    let (mut path, mut mode, mut as_bytes) = (path, None, BTreeSet::new());
    while let Some((before, word)) = path.rsplit_once(' ').filter(|(_, word)| is_said(word)) {
        if is_mode(word) {
            mode = Some(u32::from_str_radix(word, 8).expect("is a mode"));
        } else {
            as_bytes.insert(word.to_owned());
        }
        path = before;
    }
    let usual = if path.ends_with('/') { 0o755 } else { 0o644 };
    File { path: path.to_owned(), link, mode: mode.unwrap_or(usual), as_bytes, text: String::new() }
}

impl Case {
    /// What is typed for each platform, where there are several.
    pub(super) fn platforms(&self) -> Vec<Vec<String>> {
        let Some(at) = self.words.iter().position(|word| word.contains(',') && word.starts_with("linux/"))
        else {
            return Vec::new();
        };
        let with = |platform: &str| {
            let mut words = self.words.clone();
            platform.clone_into(&mut words[at]);
            words
        };
        self.words[at].split(',').map(with).collect()
    }

    /// Writes the folder that the build is begun in.
    pub(super) fn write(&self, folder: &Path) {
        make_folder(folder);
        for file in &self.files {
            let path = folder.join(&file.path);
            let above = path.parent().expect("lies in the folder");
            let missing: Vec<&Path> = above.ancestors().take_while(|above| !above.exists()).collect();
            missing.into_iter().rev().for_each(make_folder);
            if let Some(to) = &file.link {
                symlink(to, &path).expect("links");
            } else if file.path.ends_with('/') {
                make_folder(&path);
                fs::set_permissions(&path, fs::Permissions::from_mode(file.mode)).expect("sets a mode");
            } else {
                fs::write(&path, file.bytes()).expect("writes");
                set_time(&path, time_of(&file.bytes()));
                fs::set_permissions(&path, fs::Permissions::from_mode(file.mode)).expect("sets a mode");
            }
        }
        set_times(folder);
    }
}

fn make_folder(path: &Path) {
    if !path.exists() {
        fs::create_dir(path).expect("makes a folder");
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("sets a mode");
}

/// Gives folders and links below a folder their time, and the folder last.
fn set_times(path: &Path) {
    let is_link = path.is_symlink();
    if path.is_dir() && !is_link {
        fs::read_dir(path).expect("lists").for_each(|entry| set_times(&entry.expect("lists").path()));
    }
    if path.is_dir() || is_link {
        set_time(path, TIME);
    }
}

fn set_time(path: &Path, seconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("sets times");
}

/// The time of a file, another for other bytes: BuildKit takes a file of another case's context for this one if size and time agree.
fn time_of(bytes: &[u8]) -> i64 {
    let hex = &Digest::of(bytes).hex()[..7];
    TIME + i64::from_str_radix(hex, 16).expect("is a number") % 100_000_000
}

impl File {
    fn bytes(&self) -> Vec<u8> {
        let has = |word: &str| self.as_bytes.contains(word);
        if has("tar") {
            return self.archive();
        }
        let mut text = self.text.clone();
        if has("chomp") {
            text.truncate(text.trim_end_matches('\n').len());
        }
        if has("crlf") {
            text = text.replace('\n', "\r\n");
        }
        if has("bom") {
            text.insert(0, '\u{feff}');
        }
        text.into_bytes()
    }

    fn archive(&self) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for line in self.text.lines() {
            let mut words = line.splitn(3, ' ');
            let (path, mode) = (words.next().expect("a path"), words.next().expect("a mode"));
            let text = words.next().unwrap_or_default();
            let mut header = tar::Header::new_ustar();
            header.set_mode(u32::from_str_radix(mode, 8).expect("is a mode"));
            header.set_mtime(TIME.unsigned_abs());
            header.set_uid(0);
            header.set_gid(0);
            let is_folder = path.ends_with('/');
            header.set_entry_type(if is_folder {
                tar::EntryType::Directory
            } else {
                tar::EntryType::Regular
            });
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, path, text.as_bytes()).expect("in memory");
        }
        let plain = tar.into_inner().expect("in memory");
        if !self.path.ends_with("gz") {
            return plain;
        }
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&plain).expect("in memory");
        packed.finish().expect("in memory")
    }
}
