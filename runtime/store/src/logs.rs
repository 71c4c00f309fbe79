//! Folders for what the steps of builds write: one a build, opaque to the store, the newest kept.
//!
//! In: when a build began. Out: a folder under `logs/`, named as the build's record is, so that names sort by age; what
//! is in it is the client's. With each one that is made the oldest go, beyond [`MOST_BUILDS`] or [`MOST_LOG_BYTES`], but
//! never that of a living process. Nothing is synced, since nothing depends on it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::builds::{MOST_BUILDS, is_build_name};
use crate::error::Context as _;
use crate::folder::named_entries;
use crate::processes::living;
use crate::{Result, Store};

/// So many bytes of logs are kept, and the newest build's in any case.
pub const MOST_LOG_BYTES: u64 = 1 << 30;

/// The logs of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildLogs {
    /// What the build's record is called, without its ending.
    pub name: String,
    /// The folder.
    pub path: PathBuf,
}

impl BuildLogs {
    /// Returns when the build began, since 1970.
    pub fn began(&self) -> Duration {
        let digits = self.name.split_once('-').map_or("", |(began, _)| began);
        Duration::from_millis(digits.parse().unwrap_or_default())
    }

    /// Tells whether the process that writes them lives.
    pub fn is_written(&self, root: &Path) -> Result<bool> {
        let process = self.name.split_once('-').map_or("", |(_, process)| process);
        Ok(living(root)?.iter().any(|living| living.name == process))
    }

    fn size_bytes(&self) -> u64 {
        let entries = fs::read_dir(&self.path).into_iter().flatten().filter_map(io::Result::ok);
        entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
    }
}

impl Store {
    /// Makes the folder of a build that `began` at this time since 1970, unless it is there, and drops the oldest ones.
    pub fn begin_logs(&self, began: Duration) -> Result<PathBuf> {
        let path = self.logs_dir().join(self.build_name(began));
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(path),
            made => made.context("create", &path)?,
        }
        self.drop_old_logs()?;
        Ok(path)
    }

    fn drop_old_logs(&self) -> Result<()> {
        let alive = living(self.root())?;
        let mut bytes = 0_u64;
        for (place, logs) in logs(self.root())?.into_iter().enumerate() {
            bytes = bytes.saturating_add(logs.size_bytes());
            let is_alive = alive.iter().any(|process| logs.name.ends_with(&format!("-{}", process.name)));
            if place == 0 || is_alive || place < MOST_BUILDS && bytes <= MOST_LOG_BYTES {
                continue;
            }
            self.remove_tree(&logs.path)?;
        }
        Ok(())
    }
}

/// Returns the logs of builds in a state directory, the newest first; it is not opened.
pub fn logs(root: &Path) -> Result<Vec<BuildLogs>> {
    let mut found = named_entries(&root.join("logs"))?;
    found.retain(|(name, _)| is_build_name(name));
    let logs = |(name, entry): (String, fs::DirEntry)| BuildLogs { name, path: entry.path() };
    let mut found: Vec<BuildLogs> = found.into_iter().map(logs).collect();
    found.sort_by(|one, other| other.name.cmp(&one.name));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(root: &Path) -> Vec<String> {
        logs(root).expect("lists").into_iter().map(|logs| logs.name).collect()
    }

    #[test]
    fn the_oldest_go_and_those_of_the_living_stay() {
        let root = tempfile::tempdir().expect("temp dir");
        assert_eq!(logs(&root.path().join("none")).expect("lists"), []);
        let store = Store::open(root.path()).expect("opens");
        let folder = root.path().join("logs");
        for millisecond in 0..(MOST_BUILDS + 5) {
            fs::create_dir(folder.join(format!("{millisecond:015}-1-00"))).expect("makes");
        }
        fs::write(folder.join("notes"), "mine").expect("writes");
        let own = store.begin_logs(Duration::from_millis(2)).expect("begins");
        assert_eq!(store.begin_logs(Duration::from_millis(2)).expect("is there"), own);
        let left = names(root.path());
        // The newest hundred, and its own, however old.
        assert_eq!(left.len(), MOST_BUILDS + 1);
        let kept = left.last().expect("there are some");
        assert_eq!(folder.join(kept), own);
        let listed = logs(root.path()).expect("lists").pop().expect("there are some");
        assert_eq!(listed.began(), Duration::from_millis(2));
        assert!(listed.is_written(root.path()).expect("asks") && folder.join("notes").exists());
        drop(store);
        assert!(!listed.is_written(root.path()).expect("asks"));
    }

    #[test]
    fn much_is_dropped_by_size_but_for_the_newest() {
        let root = tempfile::tempdir().expect("temp dir");
        let store = Store::open(root.path()).expect("opens");
        for millisecond in 1..4 {
            let folder = root.path().join("logs").join(format!("{millisecond:015}-1-00"));
            fs::create_dir(&folder).expect("makes");
            let file = fs::File::create(folder.join("1.log")).expect("makes");
            file.set_len(MOST_LOG_BYTES / 2 + 1).expect("a hole takes no room");
        }
        store.begin_logs(Duration::from_millis(9)).expect("begins");
        let left = names(root.path());
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(left.iter().any(|name| name.starts_with("000000000000003-")));
    }
}
