//! Records of builds: one file each, opaque to the store, the newest kept; and lists that go with them.
//!
//! In: bytes, and when the build began. Out: a file under `builds/`, named by that time, so that names sort by age. A
//! file is whole or not there; it is not synced, since nothing depends on it. With each one that is put the oldest go,
//! beyond [`MOST_BUILDS`] or [`MOST_BYTES`]. A list is a file beside its record; that of another record with the same digest is
//! linked, so that builds of one folder share the list of its files.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rb_oci::Digest;

use crate::error::Context as _;
use crate::folder::named_entries;
use crate::{Result, Store, StoreError};

/// So many records are kept.
pub const MOST_BUILDS: usize = 100;

/// So many bytes of them are kept, their lists included, and the newest in any case.
pub const MOST_BYTES: u64 = 20 << 20;

/// What a record's file ends in.
const ENDING: &str = ".json";

/// What the file of a list ends in.
const LIST_ENDING: &str = ".list";

/// A record of a build, by its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildFile {
    /// What [`Store::build`] takes.
    pub name: String,
    /// Its length.
    pub size_bytes: u64,
}

impl BuildFile {
    /// Returns when the build began, since 1970.
    pub fn began(&self) -> Duration {
        let digits = self.name.split_once('-').map_or("", |(began, _)| began);
        Duration::from_millis(digits.parse().unwrap_or_default())
    }
}

/// A list that goes with a record.
pub struct BuildList<'a> {
    /// Stands for it: equal digests mean equal lists.
    pub digest: Digest,
    /// Makes its bytes; not asked where another record has it.
    pub bytes: &'a dyn Fn() -> Vec<u8>,
}

impl Store {
    /// Puts the record of a build that `began` at this time since 1970, and drops the oldest ones. Returns its name. A
    /// handle that puts two of one millisecond keeps the second.
    pub fn put_build(&self, began: Duration, bytes: &[u8]) -> Result<String> {
        self.put_build_with(began, bytes, &[])
    }

    /// Puts a record as [`Self::put_build`] does, and lists beside it. Who reads meanwhile may find the record without them.
    pub fn put_build_with(&self, began: Duration, bytes: &[u8], lists: &[BuildList<'_>]) -> Result<String> {
        let directory = self.root().join("builds");
        // Where the state directory was removed meanwhile, nothing is to be made.
        match DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(StoreError::io("create", &directory, error));
            }
            Ok(()) | Err(_) => {}
        }
        let build = self.build_name(began);
        let name = format!("{build}{ENDING}");
        self.put_file(&directory.join(&name), bytes)?;
        for list in lists {
            let path = directory.join(list_name(&build, &list.digest));
            let ending = list_name("", &list.digest);
            let known = named_entries(&directory)?.into_iter().find(|(name, _)| name.ends_with(&ending));
            // One that another process drops meanwhile is made anew.
            if !known
                .is_some_and(|(_, known)| known.path() == path || fs::hard_link(known.path(), &path).is_ok())
            {
                self.put_file(&path, &(list.bytes)())?;
            }
        }
        drop_old_builds(self.root())?;
        Ok(name)
    }

    fn put_file(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let half = self.temp_path();
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half);
        file.and_then(|mut file| file.write_all(bytes)).context("write", &half)?;
        fs::rename(&half, path).context("create", path)
    }

    /// Returns what a build of this handle is called that began at this time since 1970.
    pub(crate) fn build_name(&self, began: Duration) -> String {
        // Fifteen digits last for 30 000 years.
        format!("{:015}-{}", began.as_millis(), self.process_name())
    }

    /// Returns the records of builds, the newest first.
    pub fn builds(&self) -> Result<Vec<BuildFile>> {
        builds(self.root())
    }

    /// Returns the record of this name; `None` where there is none, any more.
    pub fn build(&self, name: &str) -> Result<Option<Vec<u8>>> {
        build(self.root(), name)
    }
}

/// Returns the records of builds in a state directory, the newest first; it is not opened.
pub fn builds(root: &Path) -> Result<Vec<BuildFile>> {
    let mut found = Vec::new();
    for (name, entry) in named_entries(&root.join("builds"))? {
        if !is_name(&name) {
            continue;
        }
        // One that another process drops meanwhile is none.
        match entry.metadata() {
            Ok(metadata) if metadata.is_file() => {
                found.push(BuildFile { name, size_bytes: metadata.len() });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(StoreError::io("stat", &entry.path(), source)),
        }
    }
    found.sort_by(|one, other| other.name.cmp(&one.name));
    Ok(found)
}

/// Returns the record of this name in a state directory, which is not opened; `None` where there is none, any more.
pub fn build(root: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    if !is_name(name) {
        return Ok(None);
    }
    read(&root.join("builds").join(name))
}

/// Returns the list of this digest, whichever record it goes with; `None` where there is none, any more.
pub fn build_list(root: &Path, digest: &Digest) -> Result<Option<Vec<u8>>> {
    let ending = list_name("", digest);
    for (name, entry) in named_entries(&root.join("builds"))? {
        // One that another process drops meanwhile may have gone with a record and be there with the next.
        if name.ends_with(&ending)
            && let Some(bytes) = read(&entry.path())?
        {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// Removes a record, with its lists, from a state directory, which is not opened; says whether it was there.
pub fn remove_build(root: &Path, name: &str) -> Result<bool> {
    if !is_name(name) {
        return Ok(false);
    }
    let directory = root.join("builds");
    // The record goes last: a list without one would never go.
    for path in lists_of(&named_entries(&directory)?, name) {
        remove(&path)?;
    }
    remove(&directory.join(name))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::io("read", path, source)),
    }
}

fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(StoreError::io("remove", path, source)),
    }
}

fn drop_old_builds(root: &Path) -> Result<()> {
    let entries = named_entries(&root.join("builds"))?;
    let (mut bytes, mut counted) = (0_u64, BTreeSet::new());
    for (place, build) in builds(root)?.into_iter().enumerate() {
        bytes = bytes.saturating_add(build.size_bytes);
        for list in lists_of(&entries, &build.name) {
            // What several records share is counted with the newest.
            match fs::metadata(&list) {
                Ok(metadata) if counted.insert(metadata.ino()) => {
                    bytes = bytes.saturating_add(metadata.len());
                }
                Ok(_) | Err(_) => {}
            }
        }
        if place == 0 || place < MOST_BUILDS && bytes <= MOST_BYTES {
            continue;
        }
        remove_build(root, &build.name)?;
    }
    Ok(())
}

/// Returns what a list of a build is called.
fn list_name(build: &str, digest: &Digest) -> String {
    format!("{build}.{}{LIST_ENDING}", digest.hex())
}

/// Returns the lists among the entries of the folder that go with a record.
fn lists_of(entries: &[(String, fs::DirEntry)], record: &str) -> Vec<PathBuf> {
    let build = record.strip_suffix(ENDING).unwrap_or(record);
    let is_its = |name: &str| {
        name.strip_prefix(build).is_some_and(|rest| rest.starts_with('.') && rest.ends_with(LIST_ENDING))
    };
    entries.iter().filter(|(name, _)| is_its(name)).map(|(_, entry)| entry.path()).collect()
}

/// Tells whether a file is named as [`Store::put_build`] names them; other files are left alone.
fn is_name(name: &str) -> bool {
    name.strip_suffix(ENDING).is_some_and(is_build_name)
}

/// Tells whether this is a name of [`Store::build_name`].
pub(crate) fn is_build_name(name: &str) -> bool {
    let Some((began, process)) = name.split_once('-') else { return false };
    began.len() >= 15 && began.bytes().all(|byte| byte.is_ascii_digit()) && crate::locks::is_name(process)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn put(store: &Store, second: u64, bytes: &[u8]) -> String {
        store.put_build(Duration::from_secs(second), bytes).expect("puts")
    }

    #[test]
    fn what_is_put_is_found_the_newest_first() {
        let root = tempfile::tempdir().expect("temp dir");
        let store = Store::open(root.path()).expect("opens");
        assert_eq!(store.builds().expect("lists"), []);
        let (old, new) = (put(&store, 9, b"old"), put(&store, 10, b"newer"));
        let listed = store.builds().expect("lists");
        assert_eq!(listed.iter().map(|build| &build.name).collect::<Vec<_>>(), [&new, &old]);
        assert_eq!(store.build(&old).expect("reads").as_deref(), Some(&b"old"[..]));
        for stranger in ["../rb.db", "", "000000000009000-1-z.json", "x.json"] {
            assert_eq!(store.build(stranger).expect("is none"), None, "{stranger}");
        }
        let mode =
            fs::metadata(store.root().join("builds").join(&old)).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(root.path().join("tmp")).expect("lists").count(), 0);
    }

    #[test]
    fn the_oldest_go_by_number_and_by_size() {
        let root = tempfile::tempdir().expect("temp dir");
        let store = Store::open(root.path()).expect("opens");
        for second in 0..(MOST_BUILDS as u64 + 5) {
            put(&store, second, b"x");
        }
        let listed = store.builds().expect("lists");
        assert_eq!(listed.len(), MOST_BUILDS);
        assert!(listed.iter().all(|build| !build.name.starts_with("000000000000000-")));
        fs::write(store.root().join("builds").join("notes"), "mine").expect("writes");
        let large = vec![b'x'; usize::try_from(MOST_BYTES).expect("fits") + 1];
        let newest = put(&store, 1000, &large);
        let listed = store.builds().expect("lists");
        assert_eq!(listed.into_iter().map(|build| build.name).collect::<Vec<_>>(), [newest]);
        assert!(store.root().join("builds").join("notes").exists(), "what is not ours stays");
    }

    #[test]
    fn a_list_is_made_once_and_goes_with_its_last_record() {
        let root = tempfile::tempdir().expect("temp dir");
        let store = Store::open(root.path()).expect("opens");
        let digest = Digest::of("files");
        let put = |second: u64, text: &'static str| {
            let bytes = move || text.as_bytes().to_vec();
            let list = BuildList { digest, bytes: &bytes };
            store.put_build_with(Duration::from_secs(second), b"{}", &[list]).expect("puts")
        };
        let (first, second) = (put(1, "once"), put(2, "not asked for"));
        let found = || build_list(root.path(), &digest).expect("reads");
        assert_eq!(found().as_deref(), Some(&b"once"[..]));
        assert!(remove_build(root.path(), &first).expect("removes"));
        assert!(!remove_build(root.path(), &first).expect("is gone"));
        assert_eq!(found().as_deref(), Some(&b"once"[..]));
        assert!(remove_build(root.path(), &second).expect("removes"));
        assert_eq!(found(), None);
        assert_eq!(fs::read_dir(root.path().join("builds")).expect("lists").count(), 0);
        assert!(!remove_build(root.path(), "../rb.db").expect("is none"));
    }

    #[test]
    fn lists_count_once_towards_the_bound() {
        let root = tempfile::tempdir().expect("temp dir");
        let store = Store::open(root.path()).expect("opens");
        let large = || vec![b'x'; usize::try_from(MOST_BYTES / 2).expect("fits")];
        let put = |second: u64, name: &str| {
            let list = BuildList { digest: Digest::of(name), bytes: &large };
            store.put_build_with(Duration::from_secs(second), b"{}", &[list]).expect("puts");
        };
        (1..=4).for_each(|second| put(second, "same"));
        assert_eq!(store.builds().expect("lists").len(), 4);
        put(5, "other");
        put(6, "third");
        assert_eq!(store.builds().expect("lists").len(), 1);
        assert_eq!(build_list(root.path(), &Digest::of("same")).expect("reads"), None);
    }
}
