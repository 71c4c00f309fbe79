//! Places outside the store: written beside, then renamed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
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

/// Removes folders that killed processes left beside `dest` when they were making it, however young: who makes one has a lock that the
/// caller has now.
pub(crate) fn remove_left(dest: &Path) {
    let mut left = Left::default();
    let folder = dest.parent().unwrap_or(Path::new("."));
    left.folders.insert(folder.to_owned(), left_since(folder, Duration::ZERO, fs::Metadata::is_dir));
    if let Some(name) = dest.file_name() {
        left.remove(dest, &prefix(name));
    }
}

/// Returns what names of half-made things begin with.
fn prefix(name: &OsStr) -> String {
    format!(".{}.rb-", name.to_string_lossy().chars().take(40).collect::<String>())
}

/// Lists what killed processes left in a folder.
fn left_in(folder: &Path) -> BTreeMap<String, Vec<PathBuf>> {
    left_since(folder, YOUNG, |_| true)
}

fn left_since(
    folder: &Path,
    age: Duration,
    is_wanted: impl Fn(&fs::Metadata) -> bool,
) -> BTreeMap<String, Vec<PathBuf>> {
    let us = rustix::process::geteuid().as_raw();
    let mut left = BTreeMap::<String, Vec<PathBuf>>::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some((prefix, process)) = name.to_str().and_then(made) else { continue };
        let Ok(metadata) = entry.metadata() else { continue };
        let is_old = metadata.modified().ok().and_then(|time| time.elapsed().ok()) >= Some(age);
        let is_dead = rustix::process::test_kill_process(process) == Err(Errno::SRCH);
        if metadata.uid() == us && is_old && is_dead && is_wanted(&metadata) {
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
        let prefix = prefix(name);
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

    /// Gives it the mode and owner of what it will take the place of, where something is there. An owner that may not be given is
    /// left: it is ours then.
    pub(crate) fn take_over_mode(&self) -> Result<()> {
        let Ok(old) = fs::symlink_metadata(&self.dest) else { return Ok(()) };
        if let Err(error) = std::os::unix::fs::lchown(&self.path, Some(old.uid()), Some(old.gid())) {
            tracing::debug!(path = %self.dest.display(), %error, "the owner is not kept");
        }
        let mode = fs::Permissions::from_mode(old.mode() & 0o777);
        fs::set_permissions(&self.path, mode).context("change the mode of", &self.path)
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

/// Writes a file of one piece that its user named: a link at `dest` is followed, a file there is replaced and hands its owner and
/// mode on, and nothing is there under its name before all of it is. Returns its size.
pub fn write_archive(dest: &Path, write: impl FnOnce(&File) -> Result<()>) -> Result<u64> {
    check_archive(dest)?;
    let dest = settle(&follow(dest)?, None, &Precious::default())?;
    let beside = Beside::new(&dest)?;
    let file = File::create_new(beside.path()).context("create", beside.path())?;
    beside.take_over_mode()?;
    write(&file).map_err(|error| error.in_file(&dest))?;
    let size_bytes = file.metadata().context("look at", &dest)?.len();
    beside.put()?;
    Ok(size_bytes)
}

/// Refuses a place that a file of one piece is not written to, and makes nothing.
pub fn check_archive(dest: &Path) -> Result<()> {
    refuse_what_is_no_file(dest)?;
    let dest = check(&follow(dest)?, None, &Precious::default())?;
    match fs::symlink_metadata(&dest) {
        Ok(metadata) if metadata.is_dir() => Err(ExportError::IsDirectory(dest)),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Returns where a link at `dest` leads, also where nothing is yet; `dest` itself where no link is.
pub(crate) fn follow(dest: &Path) -> Result<PathBuf> {
    /// As many as the kernel follows. Source: path_resolution(7).
    const MOST_LINKS: usize = 40;
    let mut place = dest.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(target) = fs::read_link(&place) else { return Ok(place) };
        // What is there is known by its true path, which has no `..` at its end.
        if let Ok(real) = fs::canonicalize(&place) {
            return Ok(real);
        }
        place = split(&place)?.0.join(target);
    }
    Err(std::io::Error::from(Errno::LOOP)).context("resolve", dest)
}

/// Refuses to take the place of a device, pipe or socket, or of a link to one such as `/dev/stdout`.
pub(crate) fn refuse_what_is_no_file(dest: &Path) -> Result<()> {
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
    let (parent, _) = split(dest)?;
    as_user(|| fs::create_dir_all(parent)).flatten().context("create", parent)?;
    // Once more: a link may have come in between.
    check(dest, within, precious)
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
    fn an_archive_goes_where_a_link_leads_and_is_as_private_as_what_it_replaces() {
        let root = tempfile::tempdir().expect("temp dir");
        let real = fs::canonicalize(root.path()).expect("resolves");
        let at = |name: &str| real.join(name);
        let put = |name: &str, text: &str| {
            write_archive(&at(name), |mut file| {
                std::io::Write::write_all(&mut file, text.as_bytes()).map_err(ExportError::Write)
            })
        };
        fs::create_dir(at("store")).expect("makes");
        for (link, target) in
            [("link", "store/there"), ("chain", "link"), ("new", "store/none"), ("far", "new")]
        {
            symlink(target, at(link)).expect("links");
        }
        fs::write(at("store/there"), "old").expect("writes");
        fs::set_permissions(at("store/there"), fs::Permissions::from_mode(0o600)).expect("chmods");
        assert_eq!(put("chain", "three").expect("writes"), 5);
        assert_eq!(fs::read_to_string(at("store/there")).expect("reads"), "three");
        assert_eq!(fs::metadata(at("store/there")).expect("stats").mode() & 0o7777, 0o600);
        put("far", "new").expect("writes");
        assert_eq!(fs::read_to_string(at("store/none")).expect("reads"), "new");
        assert!(["link", "chain", "new", "far"].iter().all(|link| at(link).is_symlink()));
        assert_eq!(fs::read_dir(at("store")).expect("lists").count(), 2);
        // What fails leaves all as it was.
        let failed = write_archive(&at("chain"), |_| Err(ExportError::Write(Errno::NOSPC.into())));
        assert!(matches!(failed, Err(ExportError::Io { path, .. }) if path == at("store/there")));
        assert_eq!(fs::read_dir(at("store")).expect("lists").count(), 2);
        symlink("loop", at("loop")).expect("links");
        symlink("store", at("folder")).expect("links");
        assert!(matches!(put("loop", ""), Err(ExportError::Io { action: "resolve", .. })));
        assert!(matches!(put("folder", ""), Err(ExportError::IsDirectory(path)) if path == at("store")));
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
    fn what_becomes_a_link_meanwhile_leads_nowhere_else() {
        let root = tempfile::tempdir().expect("temp dir");
        let outside = tempfile::tempdir().expect("temp dir");
        let within = fs::canonicalize(root.path()).expect("resolves");
        let (folder, link) = (within.join("folder"), within.join("link"));
        fs::create_dir(&folder).expect("makes");
        symlink(outside.path(), &link).expect("links");
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    rustix::fs::renameat_with(CWD, &folder, CWD, &link, RenameFlags::EXCHANGE)
                        .expect("exchanges");
                }
            });
            let places: Vec<_> =
                (0..3000).map(|_| settle(&folder.join("x"), Some(&within), &Precious::default())).collect();
            is_over.store(true, Ordering::Relaxed);
            for place in places.into_iter().flatten() {
                assert!(place.starts_with(&within), "{}", place.display());
            }
        });
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
    fn a_folder_that_was_being_made_under_a_lock_goes_at_once() {
        let root = tempfile::tempdir().expect("temp dir");
        let mut child = std::process::Command::new("true").spawn().expect("starts");
        let dead = child.id();
        child.wait().expect("ends");
        let living = format!(".dest.rb-{}-0", std::process::id());
        let left = format!(".dest.rb-{dead}-0");
        for name in [&left, &living, &format!(".other.rb-{dead}-0")] {
            fs::create_dir_all(root.path().join(name).join("blobs/sha256")).expect("makes");
        }
        let file = format!(".dest.rb-{dead}-1");
        fs::write(root.path().join(&file), "").expect("writes");
        remove_left(&root.path().join("dest"));
        assert!(!root.path().join(&left).exists());
        for name in [&living, &file, &format!(".other.rb-{dead}-0")] {
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
