//! Caches that a power cut may have torn: found by a mark that stands beside them while they are not on the disk.
//!
//! A step marks each cache before it writes to it, and what syncs the file system takes the mark away afterwards. A mark of an
//! earlier boot says that nobody saw to it that the content reached the disk: the cache begins anew, since a tool that finds a
//! file of the right name and time in it does not look at its bytes.
//!
//! `NAME.unwritten` holds the boot and a number that no other use has; or no boot at all, where the disk did not take what was
//! written. **Invariants:** a mark is on the disk before the step it is for begins; it is taken away only if nobody used the
//! cache between a moment before the sync and now.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::syncfs;

/// What a mark's name ends in.
const ENDING: &str = "unwritten";

/// What a mark says of a cache that the disk did not take: that is no boot's name.
const LOST: &str = "lost\n";

fn path_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.{ENDING}"))
}

/// Marks a cache as used by whoever holds its lock. `made` is a path that nobody else gets.
pub(super) fn mark(folder: &Path, name: &str, made: &Path) -> io::Result<()> {
    let path = path_of(folder, name);
    let was_marked = path.exists();
    // By rename, so that a mark is whole; the name that was made up for it tells this use from all others.
    let number = made.file_name().unwrap_or_default().to_string_lossy();
    let mut file = File::create(made)?;
    file.write_all(format!("{} {number}\n", rb_store::boot_id()).as_bytes())?;
    // Who made the one that is there had its name written through before it gave up its turn.
    if !was_marked {
        file.sync_data()?;
    }
    fs::rename(made, &path)?;
    if was_marked { Ok(()) } else { File::open(folder)?.sync_all() }
}

/// Says whether a cache was used and did not reach the disk: in an earlier boot, or the disk failed.
pub(super) fn is_torn(folder: &Path, name: &str) -> io::Result<bool> {
    match fs::read(path_of(folder, name)) {
        // The cut may have left a mark without its text.
        Ok(text) => Ok(!is_of_this_boot(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_of_this_boot(text: &[u8]) -> bool {
    text.strip_prefix(rb_store::boot_id().as_bytes()).is_some_and(|rest| rest.starts_with(b" "))
}

/// Takes the mark of a cache away.
pub(super) fn unmark(folder: &Path, name: &str) -> io::Result<()> {
    match fs::remove_file(path_of(folder, name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes the caches below `caches` that nobody uses through to the disk and takes their marks away. `directory` is any
/// directory of their file system.
pub(crate) fn settle(caches: &Path, directory: &File) -> io::Result<()> {
    let marked: Vec<Marked> = marks_below(caches)?.into_iter().filter_map(Marked::read).collect();
    if marked.is_empty() {
        return Ok(());
    }
    let synced = syncfs(directory);
    for mark in marked {
        let Some(_alone) = mark.free() else { continue };
        if !fs::read(&mark.path).is_ok_and(|text| text == mark.text) {
            continue;
        }
        match synced {
            Ok(()) => fs::remove_file(&mark.path)?,
            // The kernel reports what it could not write once, and takes it for written then.
            Err(_) => fs::write(&mark.path, LOST)?,
        }
    }
    Ok(synced?)
}

/// A mark of this boot, as it stood while nobody used its cache.
struct Marked {
    path: PathBuf,
    text: Vec<u8>,
}

impl Marked {
    fn read(path: PathBuf) -> Option<Self> {
        let text = fs::read(&path).ok()?;
        let mark = Self { path, text };
        // What an earlier boot did not write through is lost: no sync brings it back.
        (is_of_this_boot(&mark.text) && mark.free().is_some()).then_some(mark)
    }

    /// Returns the cache's lock if nobody uses it. Who wants it meanwhile tries again in a moment.
    fn free(&self) -> Option<File> {
        let lock = File::open(self.path.with_extension("lock")).ok()?;
        lock.try_lock().ok().map(|()| lock)
    }
}

/// Finds all marks: `<id>/<seed>/NAME.unwritten`.
fn marks_below(caches: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for id in entries(caches)? {
        for seed in entries(&id)? {
            let marks = entries(&seed)?;
            found.extend(marks.into_iter().filter(|path| path.extension().is_some_and(|end| end == ENDING)));
        }
    }
    Ok(found)
}

/// Lists a folder; nothing is in what is no folder or is gone.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of caches with one that was used, and its lock.
    fn used() -> (tempfile::TempDir, PathBuf, File) {
        let root = tempfile::tempdir().expect("a temporary folder");
        let folder = root.path().join("id/seed");
        fs::create_dir_all(&folder).expect("makes");
        let lock = File::create(folder.join("common.lock")).expect("makes");
        lock.lock_shared().expect("locks");
        again(&folder, 1);
        (root, folder, lock)
    }

    /// Marks the cache for a use.
    fn again(folder: &Path, number: u32) {
        mark(folder, "common", &folder.join(format!("../{number}"))).expect("marks");
    }

    fn is_marked(folder: &Path) -> bool {
        folder.join("common.unwritten").exists()
    }

    fn settled(root: &tempfile::TempDir, folder: &Path) -> bool {
        settle(root.path(), &File::open(root.path()).expect("opens")).expect("syncs");
        !is_marked(folder)
    }

    #[test]
    fn a_mark_stays_while_the_cache_is_used_and_goes_with_a_sync() {
        let (root, folder, lock) = used();
        assert!(!is_torn(&folder, "common").expect("reads"));
        assert!(!settled(&root, &folder), "it is in use");
        lock.unlock().expect("unlocks");
        assert!(settled(&root, &folder));
        assert!(!is_torn(&folder, "common").expect("reads"));
        assert!(fs::read_dir(&folder).expect("lists").count() == 1, "only the lock is left");
    }

    #[test]
    fn a_use_that_ended_during_the_sync_keeps_its_mark() {
        let (_root, folder, lock) = used();
        lock.unlock().expect("unlocks");
        let seen = Marked::read(folder.join("common.unwritten")).expect("is free");
        again(&folder, 2);
        assert_ne!(fs::read(&seen.path).expect("reads"), seen.text);
    }

    #[test]
    fn a_mark_of_another_boot_or_without_text_is_a_torn_cache() {
        let (root, folder, lock) = used();
        for text in [&b"earlier 7.0\n"[..], LOST.as_bytes(), b"", b"\xff\xfe\0"] {
            fs::write(folder.join("common.unwritten"), text).expect("writes");
            assert!(is_torn(&folder, "common").expect("reads"), "{text:?}");
            lock.unlock().expect("unlocks");
            assert!(!settled(&root, &folder), "no sync brings back what is lost");
        }
        unmark(&folder, "common").expect("removes");
        unmark(&folder, "common").expect("has nothing to do");
        assert!(!is_torn(&folder, "common").expect("reads"));
    }
}
