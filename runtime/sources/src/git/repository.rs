//! What is kept of repositories elsewhere: one bare repository each, shared by all builds and processes.
//!
//! ```text
//! git/<hex>          a bare repository; its `description` is the address, or which bundle it was made of
//! git/<hex>.lock     held by flock(2) while a process adds to it or reads it
//! git/<hex>.new      one that is being made
//! ```
//!
//! In: a commit. Out: that it is here, with all its files: fetched without its history where the host allows that, and
//! never twice. What a fetch that was killed left is removed before the next one.
//! **Invariant:** nothing in a repository that is kept is run or followed: no hooks, no configuration but ours, no
//! references to others.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rb_oci::Digest;

use super::call::{Git, Said};
use super::refs::{Pinned, is_commit};
use super::{BundleFile, Connection, GitError, Remote, bundle};

/// How often it is asked whether another has finished.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// What git says where the host knows nothing of git.
const PLAIN_FILES: &str = "does not support shallow";

/// Is in a repository that has all of its bundle.
const IMPORTED: &str = "imported";

/// A repository that is kept, held by us.
pub(super) struct Repository<'a> {
    git: Git<'a>,
    path: PathBuf,
    git_dir: String,
    sha256: bool,
    bundle: Option<BundleFile<'a>>,
    _lock: File,
}

impl<'a> Repository<'a> {
    /// Takes the repository of `remote`, or of a bundle, of the kind that `commit` is of; waits for another who has it.
    pub(super) fn open(
        connection: &'a Connection<'a>,
        remote: &'a Remote,
        commit: &str,
        bundle: Option<BundleFile<'a>>,
    ) -> Result<Self, GitError> {
        let sha256 = commit.len() == 64;
        let of = match bundle {
            Some(bundle) => format!("bundle {}\n{sha256}", bundle.digest),
            None => format!("{remote}\n{sha256}"),
        };
        let hex = Digest::of(of).hex();
        let path = connection.folder.join(&hex[..32]);
        let lock = lock(connection, &path.with_extension("lock"))?;
        let git_dir = format!("--git-dir={}", path.display());
        let git = Git { connection, remote, local: false };
        let repository = Self { git, path, git_dir, sha256, bundle, _lock: lock };
        if repository.path.join("HEAD").exists() {
            repository.sweep();
        } else {
            repository.make()?;
        }
        Ok(repository)
    }

    fn make(&self) -> Result<(), GitError> {
        let made = self.path.with_extension("new");
        remove(&made)?;
        let format = if self.sha256 { "--object-format=sha256" } else { "--object-format=sha1" };
        let words = ["init", "--quiet", "--bare", "--template=", format, "--"].map(OsStr::new);
        self.git.ask(&[&words[..], &[made.as_os_str()]].concat())?;
        let info = made.join("info");
        fs::create_dir_all(&info).map_err(|error| failed("create", &info, error))?;
        // Files are checked out as they are, whatever the repository says of archives.
        let about = match self.bundle {
            Some(bundle) => format!("bundle {}", bundle.digest),
            None => self.git.remote.to_string(),
        };
        for (path, text) in [
            (info.join("attributes"), "* -export-ignore -export-subst\n".to_owned()),
            (made.join("description"), format!("{about}\n")),
        ] {
            fs::write(&path, text).map_err(|error| failed("write", &path, error))?;
        }
        fs::rename(&made, &self.path).map_err(|error| failed("create", &self.path, error))
    }

    /// Removes what a process left that was killed. What cannot be removed is told by the fetch that it disturbs.
    fn sweep(&self) {
        fn walk(folder: &Path, is_left: &dyn Fn(&str) -> bool) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if is_folder {
                    walk(&entry.path(), is_left);
                } else if entry.file_name().to_str().is_some_and(is_left) {
                    drop(fs::remove_file(entry.path()));
                }
            }
        }
        let is_lock = |name: &str| name.ends_with(".lock");
        for name in ["shallow.lock", "packed-refs.lock", "config.lock", "HEAD.lock"] {
            drop(fs::remove_file(self.path.join(name)));
        }
        walk(&self.path.join("refs"), &is_lock);
        walk(&self.path.join("objects/pack"), &|name| name.starts_with("tmp_"));
    }

    /// Makes the repository anew: what is kept is damaged.
    pub(super) fn begin_anew(&self) -> Result<(), GitError> {
        tracing::warn!(remote = %self.git.remote, "what is kept of a repository is damaged: it is fetched again");
        remove(&self.path)?;
        self.make()
    }

    /// Returns where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns git for it.
    pub(super) fn git(&self) -> &Git<'a> {
        &self.git
    }

    /// Returns the words for git that run a command in it.
    pub(super) fn words<'w>(&'w self, words: &[&'w str]) -> Vec<&'w OsStr> {
        [self.git_dir.as_str()].into_iter().chain(words.iter().copied()).map(OsStr::new).collect()
    }

    /// Runs a command in it; any exit code is an answer.
    pub(super) fn run(&self, words: &[&str]) -> Result<Said, GitError> {
        self.git.run(&self.words(words))
    }

    /// Runs a command in it and returns what it prints, as text.
    pub(super) fn ask(&self, words: &[&str]) -> Result<String, GitError> {
        let said = self.git.ask(&self.words(words))?;
        Ok(String::from_utf8_lossy(&said).trim_end_matches('\n').to_owned())
    }

    /// Returns the commit that an object is or names, if it is here.
    fn peel(&self, object: &str) -> Result<Option<String>, GitError> {
        let said = self.run(&["rev-parse", "--verify", "--quiet", &format!("{object}^{{commit}}")])?;
        let commit = String::from_utf8_lossy(&said.out).trim().to_owned();
        Ok((said.code == 0 && is_commit(&commit)).then_some(commit))
    }

    /// Brings a commit here, and returns it: of a tag object the commit that it names.
    pub(super) fn bring(&self, pinned: &Pinned) -> Result<String, GitError> {
        let Pinned { commit, reference } = pinned;
        if let Some(bundle) = self.bundle {
            self.import(bundle)?;
            let reason = || format!("there is no commit {commit} in it");
            return self
                .peel(commit)?
                .ok_or_else(|| GitError::Bundle { digest: *bundle.digest, reason: reason() });
        }
        if let Some(found) = self.peel(commit)? {
            return Ok(found);
        }
        // What is here is said to the host, so that only what changed comes.
        let name = reference.as_deref().unwrap_or(commit);
        let to = format!("refs/rb/{}", &Digest::of(name).hex()[..16]);
        let mut ways = vec![vec!["--depth=1".to_owned(), format!("+{commit}:{to}")]];
        ways.extend(reference.iter().map(|name| vec!["--depth=1".to_owned(), format!("+{name}:{to}")]));
        let mut all =
            vec!["+refs/heads/*:refs/rb-heads/*".to_owned(), "+refs/tags/*:refs/rb-tags/*".to_owned()];
        if self.path.join("shallow").exists() {
            all.insert(0, "--unshallow".to_owned());
        }
        ways.push(all);
        for way in ways {
            match self.fetch(&way) {
                // The host does not give what it did not name; or the branch is gone.
                Err(GitError::NoReference { .. }) => continue,
                done => done?,
            }
            if let Some(found) = self.peel(commit)? {
                return Ok(found);
            }
        }
        let remote = self.git.remote.to_string();
        Err(GitError::NoReference { remote, what: format!("commit {commit}"), near: Vec::new() })
    }

    /// Brings all of a bundle here, under the names that it has there. What it rests on has to be in it.
    pub(super) fn import(&self, file: BundleFile<'_>) -> Result<(), GitError> {
        let done = self.path.join(IMPORTED);
        if done.exists() {
            return Ok(());
        }
        (self.git.connection.room)()?;
        let local = Git { connection: self.git.connection, remote: self.git.remote, local: true };
        let fetch = [
            "fetch",
            "--progress",
            "--no-tags",
            "--force",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--",
        ];
        let words = [self.words(&fetch), vec![file.path.as_os_str(), "+refs/*:refs/*".as_ref()]].concat();
        local.ask(&words).map_err(|error| bundle::unusable(file, error))?;
        fs::write(&done, "").map_err(|error| failed("write", &done, error))
    }

    /// Brings a commit here with all that led to it, and returns it.
    pub(super) fn bring_whole(&self, pinned: &Pinned) -> Result<String, GitError> {
        if self.bundle.is_some() {
            return self.bring(pinned);
        }
        let Pinned { commit, reference } = pinned;
        let whole = || Ok(self.peel(commit)?.filter(|found| self.is_whole(found)));
        if let Some(found) = whole()? {
            return Ok(found);
        }
        let name = reference.as_deref().unwrap_or(commit);
        let to = format!("refs/rb/{}", &Digest::of(name).hex()[..16]);
        let all = ["+refs/heads/*:refs/rb-heads/*", "+refs/tags/*:refs/rb-tags/*"].map(ToOwned::to_owned);
        let mut ways = vec![vec![format!("+{commit}:{to}")]];
        ways.extend(reference.iter().map(|name| vec![format!("+{name}:{to}")]));
        ways.push(all.to_vec());
        for mut way in ways {
            if self.path.join("shallow").exists() {
                way.insert(0, "--unshallow".to_owned());
            }
            match self.fetch(&way) {
                // As in `bring`.
                Err(GitError::NoReference { .. }) => continue,
                done => done?,
            }
            if let Some(found) = whole()? {
                return Ok(found);
            }
        }
        let remote = self.git.remote.to_string();
        Err(GitError::NoReference {
            remote,
            what: format!("commit {commit} with its history"),
            near: Vec::new(),
        })
    }

    /// Tells whether all that led to a commit is here: whatever is missing, somewhere the history was cut off.
    fn is_whole(&self, commit: &str) -> bool {
        let Ok(cuts) = fs::read_to_string(self.path.join("shallow")) else { return true };
        let cuts: HashSet<&str> = cuts.lines().collect();
        self.ask(&["rev-list", commit]).is_ok_and(|found| !found.lines().any(|commit| cuts.contains(commit)))
    }

    /// Brings the tag of a name here, as `to`.
    ///
    /// # Errors
    /// `NoReference` if it does not lead to this commit any more.
    pub(super) fn bring_tag(&self, name: &str, to: &str, commit: &str) -> Result<(), GitError> {
        if self.bundle.is_some() {
            self.ask(&["update-ref", to, name])?;
        } else {
            // Also where one is here: it may have been signed since.
            self.fetch(&["--depth=1".to_owned(), format!("+{name}:{to}")])?;
        }
        if self.peel(to)?.as_deref() == Some(commit) {
            return Ok(());
        }
        let what = format!("tag `{name}` for the commit {commit}");
        Err(GitError::NoReference { remote: self.git.remote.to_string(), what, near: Vec::new() })
    }

    /// Returns the bytes of an object of a kind.
    pub(super) fn object(&self, kind: &str, name: &str) -> Result<Vec<u8>, GitError> {
        self.git.ask(&self.words(&["cat-file", kind, name]))
    }

    /// Fetches; with all history where the host has plain files, of which no part can be asked for.
    fn fetch(&self, way: &[String]) -> Result<(), GitError> {
        match self.fetch_by(way) {
            Err(GitError::Failed { said, .. }) if said.contains(PLAIN_FILES) => {
                let is_depth = |word: &&String| word.starts_with("--depth=") || *word == "--unshallow";
                self.fetch_by(&way.iter().filter(|word| !is_depth(word)).cloned().collect::<Vec<_>>())
            }
            done => done,
        }
    }

    fn fetch_by(&self, way: &[String]) -> Result<(), GitError> {
        (self.git.connection.room)()?;
        let remote = self.git.remote.to_string();
        let (flags, names): (Vec<&str>, Vec<&str>) =
            way.iter().map(String::as_str).partition(|word| word.starts_with("--"));
        let fetch = [
            "fetch",
            "--progress",
            "--no-tags",
            "--force",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
        ];
        let words = [&fetch[..], &flags, &["--", &remote], &names].concat();
        self.git.ask_host(&self.words(&words)).map(drop)
    }
}

fn lock(connection: &Connection<'_>, path: &Path) -> Result<File, GitError> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(|error| failed("open", path, error))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if connection.programs.is_stopped() => {
                return Err(GitError::Stopped);
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(ASK_AGAIN),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(error)) => return Err(failed("lock", path, error)),
        }
    }
}

fn remove(path: &Path) -> Result<(), GitError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, error)),
        _ => Ok(()),
    }
}

pub(super) fn failed(action: &'static str, path: &Path, source: io::Error) -> GitError {
    GitError::Io { action, path: path.to_owned(), source }
}
