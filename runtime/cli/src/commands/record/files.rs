//! The files of a folder as a record keeps them, and what differs between two such lists.
//!
//! In: the entries of a folder as they entered a key. Out: lines of JSON, compressed: `{"format":1,"depth":3}`, then
//! `[path, "f", mode, size, digest]`, `[path, "d", mode]`, `[path, "l", target]` and, of a folder whose entries are left out,
//! `[path, "…", count, digest]`. Of digests the first 16 digits are kept: enough to tell two files apart.
//! **Invariant:** a list has at most [`MOST_PATHS`] entries. Folders are folded level by level from the deepest, so that a list
//! which is folded deeper than another can be compared with it once that is folded, too.

use std::cmp::Ordering;

use rb_api::{FileEntry, FileKind};
use rb_oci::Hasher;
use serde_json::{Value, json};

/// So many entries are kept one by one.
const MOST_PATHS: usize = 20_000;

/// So much of a list is read at most: it may come from elsewhere.
const MOST_BYTES: usize = 64 << 20;

/// What is known of the files of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::commands) struct Files {
    /// Sorted by path, each path once.
    entries: Vec<(String, Entry)>,
    /// What lies deeper than so many levels is folded.
    depth: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Folder { mode: u32 },
    File { mode: u32, size_bytes: u64, digest: Short },
    Link { target: String },
    Folded { count: u64, digest: Short },
}

/// The first 8 bytes of a digest, shown as 16 digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Short([u8; 8]);

impl Short {
    fn of(digest: &[u8; 32]) -> Self {
        let mut short = [0; 8];
        short.copy_from_slice(&digest[..8]);
        Self(short)
    }

    fn read(digits: &str) -> Option<Self> {
        let mut short = [0; 8];
        hex::decode_to_slice(digits, &mut short).ok()?;
        Some(Self(short))
    }

    fn digits(self) -> String {
        hex::encode(self.0)
    }
}

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::commands) struct FileChange {
    pub(in crate::commands) path: String,
    pub(in crate::commands) kind: ChangeKind,
    pub(in crate::commands) was: Option<String>,
    pub(in crate::commands) now: Option<String>,
}

/// How it differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::commands) enum ChangeKind {
    /// Its bytes, or where a link points.
    Content,
    /// It may be run, or may no longer.
    Executable,
    /// Other permission bits.
    Mode,
    /// It was not there.
    Added,
    /// It is no longer there.
    Removed,
    /// A file became a folder, or the like.
    Type,
    /// Something in a folder whose entries are not kept.
    Inside,
}

impl Files {
    /// Takes the entries of a folder.
    pub(in crate::commands) fn of(entries: Vec<FileEntry>) -> Self {
        let entry = |entry: FileEntry| {
            let kept = match entry.kind {
                FileKind::Directory { mode } => Entry::Folder { mode },
                FileKind::File { mode, size_bytes, digest } => {
                    Entry::File { mode, size_bytes, digest: Short::of(&digest) }
                }
                FileKind::Symlink { target } => Entry::Link { target },
            };
            (entry.path, kept)
        };
        let mut files = Self { entries: entries.into_iter().map(entry).collect(), depth: None };
        files.sort();
        files.bound(MOST_PATHS);
        files
    }

    /// Sorts the entries; of two of one path the later stays.
    fn sort(&mut self) {
        self.entries.sort_by(|(left, _), (right, _)| left.cmp(right));
        self.entries.dedup_by(|later, earlier| {
            let is_again = later.0 == earlier.0;
            if is_again {
                std::mem::swap(later, earlier);
            }
            is_again
        });
    }

    fn deepest(&self) -> usize {
        self.entries.iter().map(|(path, _)| level(path)).max().unwrap_or_default()
    }

    /// Folds the deepest folders until no more than `most` entries are left.
    fn bound(&mut self, most: usize) {
        while self.entries.len() > most {
            let deepest = self.deepest();
            if deepest == 0 {
                return;
            }
            self.fold_to(deepest - 1);
        }
    }

    /// Folds what lies deeper than so many levels.
    fn fold_to(&mut self, depth: usize) {
        let mut line = Vec::new();
        for deepest in (depth + 1..=self.deepest()).rev() {
            let (deep, mut kept): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.entries).into_iter().partition(|(path, _)| level(path) == deepest);
            // What lies in one folder and goes stands side by side.
            let folders = deep.chunk_by(|(left, _), (right, _)| parent(left) == parent(right));
            let folded: Vec<(String, Entry)> = folders
                .map(|inside| {
                    let path = inside.first().map_or("", |(path, _)| parent(path));
                    let (mut count, mut hasher) = (0, Hasher::default());
                    let mut add = |path: &str, entry: &Entry| {
                        line.clear();
                        entry.write(path, &mut line);
                        hasher.update(&line);
                    };
                    for (path, entry) in inside {
                        count += if let Entry::Folded { count, .. } = entry { *count } else { 1 };
                        add(path, entry);
                    }
                    if let Ok(own) = kept.binary_search_by(|(kept, _)| kept.as_str().cmp(path)) {
                        add(path, &kept[own].1);
                    }
                    let digest = Short::of(hasher.finish().0.as_bytes());
                    (path.to_owned(), Entry::Folded { count, digest })
                })
                .collect();
            // It stands for the folder.
            kept.extend(folded);
            self.entries = kept;
            self.sort();
        }
        self.depth = Some(self.depth.map_or(depth, |known| known.min(depth)));
    }

    /// Writes the list.
    pub(in crate::commands) fn to_bytes(&self) -> Vec<u8> {
        let mut text = json!({ "format": 1, "depth": self.depth }).to_string().into_bytes();
        for (path, entry) in &self.entries {
            text.push(b'\n');
            entry.write(path, &mut text);
        }
        zstd::bulk::compress(&text, 1).expect("memory takes all that is written to it")
    }

    /// Reads a list; nothing of what is none of ours.
    pub(in crate::commands) fn read(bytes: &[u8]) -> Option<Self> {
        let text = zstd::bulk::decompress(bytes, MOST_BYTES).ok()?;
        let text = String::from_utf8(text).ok()?;
        let mut lines = text.lines();
        let head: Value = lines.next()?.parse().ok()?;
        if head["format"] != 1 {
            return None;
        }
        let depth = head["depth"].as_u64().and_then(|depth| usize::try_from(depth).ok());
        let mut files = Self { entries: lines.map(Entry::read).collect::<Option<_>>()?, depth };
        files.sort();
        Some(files)
    }

    /// Returns what differs, by path.
    pub(in crate::commands) fn changes(was: &Self, now: &Self) -> Vec<FileChange> {
        let (mut was, mut now) = (was.clone(), now.clone());
        if let Some(depth) = now.depth {
            was.fold_to(depth);
        }
        if let Some(depth) = was.depth {
            now.fold_to(depth);
        }
        let (mut was, mut now) = (was.entries.into_iter().peekable(), now.entries.into_iter().peekable());
        let mut changes = Vec::new();
        loop {
            let order = match (was.peek(), now.peek()) {
                (Some((was, _)), Some((now, _))) => was.cmp(now),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => break,
            };
            let was = if order.is_le() { was.next() } else { None };
            let now = if order.is_ge() { now.next() } else { None };
            let (path, change) = match (was, now) {
                (Some((path, was)), Some((_, now))) => (path, Entry::change(&was, &now)),
                (Some((path, was)), None) => (path, Some((ChangeKind::Removed, Some(was.told()), None))),
                (None, Some((path, now))) => (path, Some((ChangeKind::Added, None, Some(now.told())))),
                (None, None) => break,
            };
            changes.extend(change.map(|(kind, was, now)| FileChange { path, kind, was, now }));
        }
        // A folder that came with its files, or went with them, is told by these.
        let all = changes.clone();
        changes.retain(|change| {
            let is_folder = change.was.as_deref().or(change.now.as_deref()) == Some(FOLDER);
            let inside = format!("{}/", change.path);
            !(is_folder
                && all.iter().any(|other| other.kind == change.kind && other.path.starts_with(&inside)))
        });
        changes
    }
}

const FOLDER: &str = "folder";

type Told = (ChangeKind, Option<String>, Option<String>);

impl Entry {
    /// Writes the line of this entry.
    fn write(&self, path: &str, line: &mut Vec<u8>) {
        let written = match self {
            Self::Folder { mode } => serde_json::to_writer(line, &(path, "d", mode)),
            Self::File { mode, size_bytes, digest } => {
                serde_json::to_writer(line, &(path, "f", mode, size_bytes, digest.digits()))
            }
            Self::Link { target } => serde_json::to_writer(line, &(path, "l", target)),
            Self::Folded { count, digest } => {
                serde_json::to_writer(line, &(path, "…", count, digest.digits()))
            }
        };
        written.expect("memory takes all that is written to it");
    }

    fn read(line: &str) -> Option<(String, Self)> {
        let line: Value = line.parse().ok()?;
        let text = |at: usize| line[at].as_str().map(str::to_owned);
        let mode = || line[2].as_u64().and_then(|mode| u32::try_from(mode).ok());
        let entry = match line[1].as_str()? {
            "d" => Self::Folder { mode: mode()? },
            "f" => {
                Self::File { mode: mode()?, size_bytes: line[3].as_u64()?, digest: Short::read(&text(4)?)? }
            }
            "l" => Self::Link { target: text(2)? },
            "…" => Self::Folded { count: line[2].as_u64()?, digest: Short::read(&text(3)?)? },
            _ => return None,
        };
        Some((text(0)?, entry))
    }

    fn told(&self) -> String {
        match self {
            Self::Folder { .. } => FOLDER.to_owned(),
            Self::File { digest, .. } => digest.digits(),
            Self::Link { target } => format!("-> {target}"),
            Self::Folded { count, digest } => format!("{count} entries, {}", digest.digits()),
        }
    }

    fn change(was: &Self, now: &Self) -> Option<Told> {
        if was == now {
            return None;
        }
        let told = |kind| Some((kind, Some(was.told()), Some(now.told())));
        let modes = |was: u32, now: u32| {
            let kind = if (was ^ now) & 0o111 == 0 { ChangeKind::Mode } else { ChangeKind::Executable };
            Some((kind, Some(format!("{was:04o}")), Some(format!("{now:04o}"))))
        };
        match (was, now) {
            (Self::File { digest: was, .. }, Self::File { digest: now, .. }) if was != now => {
                told(ChangeKind::Content)
            }
            (Self::File { mode: was, .. }, Self::File { mode: now, .. })
            | (Self::Folder { mode: was }, Self::Folder { mode: now }) => modes(*was, *now),
            (Self::Link { .. }, Self::Link { .. }) => told(ChangeKind::Content),
            (Self::Folded { .. }, _) | (_, Self::Folded { .. }) => told(ChangeKind::Inside),
            _ => told(ChangeKind::Type),
        }
    }
}

/// Returns the folder that a path lies in; of one at the top, nothing.
fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Returns how many folders lead to a path, itself counted; none to the top.
fn level(path: &str) -> usize {
    if path.is_empty() { 0 } else { 1 + path.matches('/').count() }
}

#[cfg(test)]
mod tests {
    use rb_oci::Digest;

    use super::*;

    fn file(path: &str, mode: u32, content: &str) -> FileEntry {
        let digest = *Digest::of(content).as_bytes();
        FileEntry { path: path.to_owned(), kind: FileKind::File { mode, size_bytes: 1, digest } }
    }

    fn told(was: &[FileEntry], now: &[FileEntry]) -> Vec<(String, ChangeKind)> {
        let changes = Files::changes(&Files::of(was.to_vec()), &Files::of(now.to_vec()));
        changes.into_iter().map(|change| (change.path, change.kind)).collect()
    }

    #[test]
    fn what_differs_is_named() {
        let link = |target: &str| FileEntry {
            path: "l".to_owned(),
            kind: FileKind::Symlink { target: target.to_owned() },
        };
        let folder =
            |path: &str| FileEntry { path: path.to_owned(), kind: FileKind::Directory { mode: 0o755 } };
        let was =
            [file("a", 0o644, "1"), file("b", 0o644, "1"), file("gone", 0o644, "1"), link("x"), folder("t")];
        let now = [
            file("a", 0o644, "2"),
            file("b", 0o755, "1"),
            link("y"),
            folder("d"),
            file("d/new", 0o644, "1"),
            file("t", 0o644, "1"),
        ];
        let expected = [
            ("a", ChangeKind::Content),
            ("b", ChangeKind::Executable),
            ("d/new", ChangeKind::Added),
            ("gone", ChangeKind::Removed),
            ("l", ChangeKind::Content),
            ("t", ChangeKind::Type),
        ];
        assert_eq!(told(&was, &now), expected.map(|(path, kind)| (path.to_owned(), kind)));
        assert_eq!(told(&now, &now), []);
    }

    #[test]
    fn a_list_comes_back_as_it_was_written() {
        let mut files =
            Files::of(vec![file("a\n\"b", 0o644, "1"), file("d/e/f", 0o755, "2"), file("d/g", 0o644, "3")]);
        assert_eq!(Files::read(&files.to_bytes()).as_ref(), Some(&files));
        files.bound(2);
        assert_eq!(Files::read(&files.to_bytes()).as_ref(), Some(&files));
        assert_eq!(Files::read(b"nothing"), None);
    }

    #[test]
    fn lists_folded_to_different_levels_compare() {
        let entries = |word: &str| {
            let mut all = vec![file("top", 0o644, "1")];
            for folder in 0..4 {
                all.extend((0..4).map(|at| file(&format!("x/{folder}/{at}/deep"), 0o644, "1")));
            }
            all.push(file("x/2/0/deep", 0o644, word));
            all
        };
        let folded = |word: &str, most: usize| {
            let mut files = Files::of(entries(word));
            files.bound(most);
            files
        };
        for (one, two) in [(17, 17), (17, 10), (10, 17), (17, 2), (10, 2), (1, 17)] {
            assert_eq!(Files::changes(&folded("1", one), &folded("1", two)), [], "{one} {two}");
            let changes = Files::changes(&folded("1", one), &folded("2", two));
            assert_eq!(changes.len(), 1, "{one} {two}: {changes:?}");
            assert!("x/2/0/deep".starts_with(&changes[0].path), "{changes:?}");
        }
    }
}
