//! Records of builds: one file each, opaque to the store, the newest kept.
//!
//! In: bytes, and when the build began. Out: a file under `builds/`, named by that time, so that names sort by age. A
//! file is whole or not there; it is not synced, since nothing depends on it. With each one that is put the oldest go,
//! beyond [`MOST_BUILDS`] or [`MOST_BYTES`].

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::time::Duration;

use crate::error::Context as _;
use crate::folder::named_entries;
use crate::{Result, Store, StoreError};

/// So many records are kept.
pub const MOST_BUILDS: usize = 100;

/// So many bytes of them are kept, and the newest in any case.
pub const MOST_BYTES: u64 = 20 << 20;

/// What a record's file ends in.
const ENDING: &str = ".json";

/// A record of a build, by its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildFile {
    /// What [`Store::build`] takes.
    pub name: String,
    /// Its length.
    pub size_bytes: u64,
}

impl Store {
    /// Puts the record of a build that `began` at this time since 1970, and drops the oldest ones. Returns its name. A
    /// handle that puts two of one millisecond keeps the second.
    pub fn put_build(&self, began: Duration, bytes: &[u8]) -> Result<String> {
        let directory = self.builds_dir();
        // Where the state directory was removed meanwhile, nothing is to be made.
        match DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(StoreError::io("create", &directory, error));
            }
            Ok(()) | Err(_) => {}
        }
        let half = self.temp_path();
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half);
        file.and_then(|mut file| file.write_all(bytes)).context("write", &half)?;
        let name = format!("{}{ENDING}", self.build_name(began));
        let path = directory.join(&name);
        fs::rename(&half, &path).context("create", &path)?;
        self.drop_old_builds()?;
        Ok(name)
    }

    /// Returns what a build of this handle is called that began at this time since 1970.
    pub(crate) fn build_name(&self, began: Duration) -> String {
        // Fifteen digits last for 30 000 years.
        format!("{:015}-{}", began.as_millis(), self.process_name())
    }

    /// Returns the records of builds, the newest first.
    pub fn builds(&self) -> Result<Vec<BuildFile>> {
        let mut found = Vec::new();
        for (name, entry) in named_entries(&self.builds_dir())? {
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

    /// Returns the record of this name; `None` where there is none, any more.
    pub fn build(&self, name: &str) -> Result<Option<Vec<u8>>> {
        if !is_name(name) {
            return Ok(None);
        }
        let path = self.builds_dir().join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::io("read", &path, source)),
        }
    }

    fn builds_dir(&self) -> PathBuf {
        self.root().join("builds")
    }

    fn drop_old_builds(&self) -> Result<()> {
        let mut bytes = 0_u64;
        for (place, build) in self.builds()?.into_iter().enumerate() {
            bytes = bytes.saturating_add(build.size_bytes);
            if place == 0 || place < MOST_BUILDS && bytes <= MOST_BYTES {
                continue;
            }
            let path = self.builds_dir().join(&build.name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::io("remove", &path, error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
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
        let mode = fs::metadata(store.builds_dir().join(&old)).expect("is there").permissions().mode();
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
        fs::write(store.builds_dir().join("notes"), "mine").expect("writes");
        let large = vec![b'x'; usize::try_from(MOST_BYTES).expect("fits") + 1];
        let newest = put(&store, 1000, &large);
        let listed = store.builds().expect("lists");
        assert_eq!(listed.into_iter().map(|build| build.name).collect::<Vec<_>>(), [newest]);
        assert!(store.builds_dir().join("notes").exists(), "what is not ours stays");
    }
}
