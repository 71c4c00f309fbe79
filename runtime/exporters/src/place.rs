//! Places outside the store: written beside, then renamed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rb_sys::rights::as_user;
use rustix::fs::{Access, AtFlags, CWD, RenameFlags, accessat};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::error::Context as _;
use crate::{ExportError, Precious, Result};

/// What is younger may be that of a process that cannot be seen from here: in another container, on another machine.
const YOUNG: Duration = Duration::from_secs(60);

/// Something half-made beside its destination; removed when dropped before [`Beside::put`].
pub(crate) struct Beside {
    path: PathBuf,
    dest: PathBuf,
}

/// What killed processes left in folders: each folder is listed once.
#[derive(Default)]
pub(crate) struct Left {
    /// By folder, and in it by what their names begin with.
    folders: BTreeMap<PathBuf, BTreeMap<String, Vec<PathBuf>>>,
}

impl Left {
    /// Removes what killed processes left beside `dest` when they were making it: what is named so, belongs to us, and whose
    /// process is dead. What cannot be removed stays.
    fn remove(&mut self, dest: &Path, prefix: &str) {
        let folder = dest.parent().unwrap_or(Path::new("."));
        if !self.folders.contains_key(folder) {
            self.folders.insert(folder.to_owned(), left_in(folder));
        }
        let left = self.folders.get_mut(folder).and_then(|left| left.remove(prefix));
        for path in left.unwrap_or_default() {
            tracing::debug!(path = %path.display(), "removes what a dead process left");
            if let Err(error) = rb_store::remove_tree(&path) {
                tracing::warn!(path = %path.display(), %error, "what a dead process left stays");
            }
        }
    }
}

/// Lists what killed processes left in a folder.
fn left_in(folder: &Path) -> BTreeMap<String, Vec<PathBuf>> {
    let us = rustix::process::geteuid().as_raw();
    let mut left = BTreeMap::<String, Vec<PathBuf>>::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some((prefix, process)) = name.to_str().and_then(made) else { continue };
        let Ok(metadata) = entry.metadata() else { continue };
        let is_old = metadata.modified().ok().and_then(|time| time.elapsed().ok()) > Some(YOUNG);
        let is_dead = rustix::process::test_kill_process(process) == Err(Errno::SRCH);
        if metadata.uid() == us && is_old && is_dead {
            left.entry(prefix.to_owned()).or_default().push(entry.path());
        }
    }
    left
}

impl Beside {
    /// Names a place in the directory of `dest`, which must exist, where nothing is yet.
    pub(crate) fn new(dest: &Path) -> Result<Self> {
        Self::among(dest, &mut Left::default())
    }

    /// The same, for one of many.
    pub(crate) fn among(dest: &Path, left: &mut Left) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = dest.file_name().ok_or_else(|| ExportError::NoName(dest.to_owned()))?;
        refuse_what_is_no_file(dest)?;
        let (folder, _) = split(dest)?;
        let may = as_user(|| accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS));
        may.and_then(|may| Ok(may?)).context("write to", folder)?;
        let prefix = format!(".{}.rb-", name.to_string_lossy().chars().take(40).collect::<String>());
        left.remove(dest, &prefix);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = dest.with_file_name(format!("{prefix}{}-{number}", std::process::id()));
            // Taken: a killed process of our number left it.
            if fs::symlink_metadata(&path).is_err() {
                return Ok(Self { path, dest: dest.to_owned() });
            }
        }
    }

    /// Returns where to write.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name, in place of a file or link there. Never follows a link.
    pub(crate) fn put(self) -> Result<()> {
        fs::rename(&self.path, &self.dest).context("create", &self.dest)
    }

    /// Gives a directory its name; what was there, if anything, is removed afterwards.
    pub(crate) fn put_directory(self) -> Result<()> {
        match rustix::fs::renameat_with(CWD, &self.path, CWD, &self.dest, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(()), // dropping removes the old one
            Err(Errno::NOENT) => self.put(),
            Err(Errno::INVAL | Errno::NOSYS) => {
                // A file system that cannot exchange: for a moment nothing is there.
                let old = Self::new(&self.dest)?;
                fs::rename(&self.dest, old.path()).context("replace", &self.dest)?;
                self.put()
            }
            Err(error) => Err(error).context("replace", &self.dest),
        }
    }
}

/// Refuses to take the place of a device, pipe or socket, or of a link to one such as `/dev/stdout`.
pub fn refuse_what_is_no_file(dest: &Path) -> Result<()> {
    match fs::metadata(dest) {
        Ok(found) if !found.is_file() && !found.is_dir() => Err(ExportError::NoFile(dest.to_owned())),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Reads `.NAME.rb-PID-N`, and returns what stands before the numbers; nothing else is a name of ours.
fn made(name: &str) -> Option<(&str, Pid)> {
    let end = name.rfind(".rb-").filter(|_| name.starts_with('.'))? + ".rb-".len();
    Some((&name[..end], maker(&name[end..])?))
}

/// Reads `PID-N`.
fn maker(text: &str) -> Option<Pid> {
    let (process, number) = text.split_once('-')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(process) && is_number(number)).then(|| process.parse().ok().and_then(Pid::from_raw)).flatten()
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Err(error) = rb_store::remove_tree(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a temporary file stays");
        }
    }
}

/// Makes the parent of `dest` and returns `dest` with that parent's true path. With `within`, everything must lie in that
/// directory, symlinks resolved, and `dest` must not contain it. In the state directory nothing is made.
pub(crate) fn settle(dest: &Path, within: Option<&Path>, precious: &Precious) -> Result<PathBuf> {
    check(dest, within, precious)?;
    let (parent, name) = split(dest)?;
    as_user(|| fs::create_dir_all(parent)).flatten().context("create", parent)?;
    let dest = fs::canonicalize(parent).context("resolve", parent)?.join(name);
    precious.check_place(&dest)?;
    Ok(dest)
}

/// Refuses what [`settle`] refuses, and makes nothing. Returns `dest` with the true path of what is there of its parent.
pub(crate) fn check(dest: &Path, within: Option<&Path>, precious: &Precious) -> Result<PathBuf> {
    let (parent, name) = split(dest)?;
    let existing = parent
        .ancestors()
        .map(|ancestor| if ancestor.as_os_str().is_empty() { Path::new(".") } else { ancestor })
        .find(|ancestor| fs::symlink_metadata(ancestor).is_ok())
        .unwrap_or(Path::new("/"));
    let real = fs::canonicalize(existing).context("resolve", existing)?;
    let rest = parent.strip_prefix(existing).unwrap_or(Path::new(""));
    let place = real.join(rest).join(name);
    precious.check_place(&place)?;
    if let Some(within) = within {
        let root = fs::canonicalize(within).context("resolve", within)?;
        let climbs = rest.components().any(|part| !matches!(part, std::path::Component::Normal(_)));
        if climbs || !real.starts_with(&root) || root.starts_with(&place) {
            return Err(ExportError::Escapes { path: dest.to_owned(), root });
        }
    }
    Ok(place)
}

/// Splits a destination into folder and name.
fn split(dest: &Path) -> Result<(&Path, &OsStr)> {
    let name = dest.file_name().ok_or_else(|| ExportError::NoName(dest.to_owned()))?;
    Ok(match dest.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => (parent, name),
        Some(_) | None => (Path::new("."), name),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_no_file_keeps_its_place() {
        let root = tempfile::tempdir().expect("temp dir");
        let at = |name: &str| root.path().join(name);
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(CWD, at("pipe"), rustix::fs::FileType::Fifo, mode, 0).expect("makes");
        symlink("/dev/null", at("null")).expect("links");
        symlink("nowhere", at("dangling")).expect("links");
        fs::write(at("file"), "").expect("writes");
        for (name, fits) in
            [("pipe", false), ("null", false), ("dangling", true), ("file", true), ("none", true)]
        {
            let made = Beside::new(&at(name));
            assert_eq!(made.is_ok(), fits, "{name}");
            assert!(fits || matches!(made, Err(ExportError::NoFile(_))), "{name}");
        }
    }

    #[test]
    fn stays_within() {
        let root = tempfile::tempdir().expect("temp dir");
        let outside = tempfile::tempdir().expect("temp dir");
        let (within, inner) = (root.path(), root.path().join("a"));
        symlink(outside.path(), root.path().join("out")).expect("links");
        symlink("a", root.path().join("in")).expect("links");
        let settle = |path: &str| settle(&within.join(path), Some(within), &Precious::default());
        let real = fs::canonicalize(within).expect("resolves");
        assert_eq!(settle("a/b/c").expect("is inside"), real.join("a/b/c"));
        assert!(inner.join("b").is_dir());
        assert_eq!(settle("in/x").expect("is inside"), real.join("a/x"));
        for path in ["../x", "out/x", "out/new/x", "new/../../x", "..", "", "."] {
            let error = settle(path).expect_err(path);
            assert!(matches!(error, ExportError::Escapes { .. } | ExportError::NoName(_)), "{path}: {error}");
        }
        assert_eq!(fs::read_dir(outside.path()).expect("lists").count(), 0);
    }

    #[test]
    fn what_a_dead_process_left_goes_once_it_is_old() {
        let root = tempfile::tempdir().expect("temp dir");
        let dest = root.path().join("dest");
        let mut child = std::process::Command::new("true").spawn().expect("starts");
        let dead = child.id();
        child.wait().expect("ends");
        let old = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
        let make = |name: &str| fs::write(root.path().join(name), "").expect("writes");
        let age = |name: &str| {
            fs::File::open(root.path().join(name)).and_then(|file| file.set_times(old)).expect("sets times");
        };
        let names = [
            format!(".dest.rb-{dead}-0"),
            // Living, young, that of another place, and names that are not ours.
            format!(".dest.rb-{}-999", std::process::id()),
            format!(".dest.rb-{dead}-1"),
            format!(".dest2.rb-{dead}-0"),
            format!(".dest.rb-{dead}-0x"),
            format!(".dest.rb-{dead}"),
            ".dest.rb-+1-0".to_owned(),
        ];
        for (number, name) in names.iter().enumerate() {
            make(name);
            if number != 2 {
                age(name);
            }
        }
        let folder = format!(".dest.rb-{dead}-7");
        fs::create_dir_all(root.path().join(&folder).join("deep")).expect("makes");
        age(&folder);
        drop(Beside::new(&dest).expect("has a name"));
        assert!(!root.path().join(&folder).exists() && !root.path().join(&names[0]).exists());
        for name in &names[1..] {
            assert!(root.path().join(name).exists(), "{name}");
        }
    }

    #[test]
    fn a_folder_is_listed_once() {
        let root = tempfile::tempdir().expect("temp dir");
        let mut child = std::process::Command::new("true").spawn().expect("starts");
        let dead = child.id();
        child.wait().expect("ends");
        let leave = |name: &str| {
            let path = root.path().join(format!(".{name}.rb-{dead}-0"));
            let file = fs::File::create(&path).expect("creates");
            let old = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
            file.set_times(old).expect("sets times");
            path
        };
        let before = ["one", "two"].map(leave);
        let mut left = Left::default();
        let one = Beside::among(&root.path().join("one"), &mut left).expect("has a name");
        let late = leave("three");
        let others = ["two", "three"].map(|name| Beside::among(&root.path().join(name), &mut left));
        assert!(others.iter().all(Result::is_ok));
        assert!(before.iter().all(|path| !path.exists()), "what was left stays");
        assert!(late.exists(), "the folder was listed again");
        drop(one);
    }

    #[test]
    fn a_directory_is_exchanged_and_nothing_stays() {
        let root = tempfile::tempdir().expect("temp dir");
        let dest = root.path().join("dest");
        for round in 0..2 {
            let beside = Beside::new(&dest).expect("has a name");
            fs::create_dir(beside.path()).expect("makes");
            fs::write(beside.path().join(format!("{round}")), "").expect("writes");
            beside.put_directory().expect("puts");
            assert!(dest.join(format!("{round}")).exists());
        }
        assert_eq!(fs::read_dir(&dest).expect("lists").count(), 1);
        assert_eq!(fs::read_dir(root.path()).expect("lists").count(), 1);
    }
}
