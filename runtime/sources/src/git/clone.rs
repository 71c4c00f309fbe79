//! A commit with its repository: the files as `git clone --depth=1` leaves them, with `.git`.
//!
//! In: a commit of a repository that is kept. Out: a folder of ours to be copied from. The repository in it holds this
//! commit alone, names where it came from without what was shown there, and has submodules in `.git/modules`, as git
//! lays them. What differs from one time to the next (logs, times in the index) is left out.
//! **Invariant:** nothing is written but in that folder, whatever the repository holds.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::call::Git;
use super::modules::{self, Submodule};
use super::refs::Pinned;
use super::repository::{Repository, failed};
use super::tree::{DEEPEST, time_of, within};
use super::{Connection, GitError, Remote};

/// Clones of one request.
pub(super) struct Cloning<'a> {
    pub(super) connection: &'a Connection<'a>,
    pub(super) skip_submodules: bool,
}

/// A clone: its files and its repository.
struct Place {
    files: PathBuf,
    git_dir: PathBuf,
}

impl Cloning<'_> {
    /// Makes the clone in `folder`, which is there and empty. Returns the time of the commit, nanoseconds since 1970.
    pub(super) fn run(&self, remote: &Remote, pinned: &Pinned, folder: &Path) -> Result<i64, GitError> {
        let place = Place { files: folder.to_owned(), git_dir: folder.join(".git") };
        self.fill(remote, pinned, &place, 0)
    }

    fn fill(&self, remote: &Remote, pinned: &Pinned, place: &Place, depth: usize) -> Result<i64, GitError> {
        let repository =
            Repository::open(self.connection, remote, &pinned.commit, self.connection.bundle_at(depth))?;
        let commit = repository.bring(pinned)?;
        let time = time_of(&repository, &commit)?;
        let modules = if self.skip_submodules { Vec::new() } else { modules::of(&repository, &commit)? };
        let kept = format!("refs/rb-keep/{commit}");
        repository.ask(&["update-ref", &kept, &commit])?;

        let local = Git { connection: self.connection, remote, local: true };
        let format = if commit.len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" };
        let separate = format!("--separate-git-dir={}", place.git_dir.display());
        let mut init = vec!["init", "--quiet", "--template=", format];
        init.extend((depth > 0).then_some(separate.as_str()));
        let init: Vec<&OsStr> = init.into_iter().chain(["--"]).map(OsStr::new).collect();
        local.ask(&[&init[..], &[place.files.as_os_str()]].concat())?;
        let run = |words: &[&OsStr]| place.run(&local, words);
        let named = match &pinned.reference {
            Some(name) if name.starts_with("refs/heads/") || name.starts_with("refs/tags/") => {
                format!("+{kept}:{name}")
            }
            _ => kept,
        };
        let fetch =
            ["fetch", "--quiet", "--depth=1", "--no-tags", "--update-head-ok", "--no-write-fetch-head", "--"];
        run(&[&fetch.map(OsStr::new)[..], &[repository.path().as_os_str(), named.as_ref()]].concat())?;
        drop(repository);
        let url = remote.to_string();
        for (key, value) in [
            ("remote.origin.url", url.as_str()),
            ("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"),
        ] {
            run(&["config", key, value].map(OsStr::new))?;
        }
        run(&["checkout", "--quiet", "--force", "--detach", &commit].map(OsStr::new))?;
        // The index anew, without the times of this folder's files.
        run(&["read-tree", &commit].map(OsStr::new))?;
        for left in ["logs", "ORIG_HEAD", "FETCH_HEAD"] {
            let path = place.git_dir.join(left);
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            // Mostly there is none.
            drop(removed);
        }
        for module in &modules {
            self.submodule(remote, module, place, &local, depth)
                .map_err(|error| within(remote, module, error))?;
        }
        Ok(time)
    }

    fn submodule(
        &self,
        remote: &Remote,
        module: &Submodule,
        above: &Place,
        local: &Git<'_>,
        depth: usize,
    ) -> Result<(), GitError> {
        let refused = |reason: &str| GitError::Entry {
            remote: remote.to_string(),
            entry: module.path.display().to_string(),
            reason: reason.to_owned(),
        };
        if depth >= DEEPEST {
            return Err(refused(&format!("is a submodule in {DEEPEST} others")));
        }
        let mut files = above.files.clone();
        for part in module.path.iter() {
            files.push(part);
            let kind =
                fs::symlink_metadata(&files).map_err(|error| failed("look at", &files, error))?.file_type();
            if !kind.is_dir() {
                return Err(refused("lies behind what is no folder"));
            }
        }
        let place = Place { git_dir: above.git_dir.join("modules").join(&module.name), files };
        let parent = place.git_dir.parent().unwrap_or(&place.git_dir);
        fs::create_dir_all(parent).map_err(|error| failed("create", parent, error))?;
        let inner = remote.submodule(&module.url)?;
        let pinned = Pinned { commit: module.commit.clone(), reference: None };
        self.fill(&inner, &pinned, &place, depth + 1)?;

        // Where it lies now is not where it will lie: both ways are relative.
        let link = place.files.join(".git");
        let text = format!("gitdir: {}\n", relative(&place.files, &place.git_dir).display());
        fs::write(&link, text).map_err(|error| failed("write", &link, error))?;
        let back = relative(&place.git_dir, &place.files);
        let git_dir = format!("--git-dir={}", place.git_dir.display());
        local.ask(&[git_dir.as_ref(), "config".as_ref(), "core.worktree".as_ref(), back.as_os_str()])?;
        for (key, value) in [("url", inner.to_string()), ("active", "true".to_owned())] {
            let key = format!("submodule.{}.{key}", module.name);
            above.run(local, &["config", &key, &value].map(OsStr::new))?;
        }
        Ok(())
    }
}

impl Place {
    /// Runs git in it.
    fn run(&self, git: &Git<'_>, words: &[&OsStr]) -> Result<(), GitError> {
        let git_dir = format!("--git-dir={}", self.git_dir.display());
        let files = format!("--work-tree={}", self.files.display());
        git.ask(&[&[git_dir.as_ref(), files.as_ref()], words].concat()).map(drop)
    }
}

/// Returns the way from one folder to another one of ours.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let common = from.iter().zip(to.iter()).take_while(|(left, right)| left == right).count();
    let up = from.iter().skip(common).map(|_| OsStr::new(".."));
    up.chain(to.iter().skip(common)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_relative() {
        let way = |from: &str, to: &str| relative(Path::new(from), Path::new(to)).display().to_string();
        assert_eq!(way("/t/a/b", "/t/.git/modules/x"), "../../.git/modules/x");
        assert_eq!(way("/t/.git/modules/x", "/t/a/b"), "../../../a/b");
    }
}
