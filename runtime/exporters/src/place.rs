//! Places outside the store: written beside, then renamed.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use crate::error::Context as _;
use crate::{ExportError, Precious, Result};

/// Something half-made beside its destination; removed when dropped before [`Beside::put`].
pub(crate) struct Beside {
    path: PathBuf,
    dest: PathBuf,
}

impl Beside {
    /// Names a place in the directory of `dest`, which must exist, where nothing is yet.
    pub(crate) fn new(dest: &Path) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = dest.file_name().ok_or_else(|| ExportError::NoName(dest.to_owned()))?;
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let mut temporary = OsString::from(".");
            temporary.push(name.to_string_lossy().chars().take(40).collect::<String>());
            temporary.push(format!(".rb-{}-{number}", std::process::id()));
            let path = dest.with_file_name(temporary);
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
    let name = dest.file_name().ok_or_else(|| ExportError::NoName(dest.to_owned()))?;
    let parent = match dest.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let existing = parent
        .ancestors()
        .map(|ancestor| if ancestor.as_os_str().is_empty() { Path::new(".") } else { ancestor })
        .find(|ancestor| fs::symlink_metadata(ancestor).is_ok())
        .unwrap_or(Path::new("/"));
    let real = fs::canonicalize(existing).context("resolve", existing)?;
    let rest = parent.strip_prefix(existing).unwrap_or(Path::new(""));
    precious.check_place(&real.join(rest).join(name))?;
    if let Some(within) = within {
        let root = fs::canonicalize(within).context("resolve", within)?;
        let climbs = rest.components().any(|part| !matches!(part, std::path::Component::Normal(_)));
        if climbs || !real.starts_with(&root) || root.starts_with(real.join(rest).join(name)) {
            return Err(ExportError::Escapes { path: dest.to_owned(), root });
        }
    }
    fs::create_dir_all(parent).context("create", parent)?;
    let dest = fs::canonicalize(parent).context("resolve", parent)?.join(name);
    precious.check_place(&dest)?;
    Ok(dest)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

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
