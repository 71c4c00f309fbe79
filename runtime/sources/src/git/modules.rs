//! Submodules: what `.gitmodules` of a commit says, for the paths where the commit really has another one.
//!
//! **Invariant:** a path leads nowhere but into the tree, and a name into no other repository's folder. What a
//! submodule is to be updated with is not listened to; only that it is not to be updated at all is.
//! Source: gitmodules(5).

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::GitError;
use super::refs::is_commit;
use super::repository::Repository;

/// A commit of another repository in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Submodule {
    pub(super) name: String,
    /// Where it is in the tree.
    pub(super) path: PathBuf,
    /// As written: relative to the repository that holds it, or an address.
    pub(super) url: String,
    pub(super) commit: String,
}

const FILE: &str = ".gitmodules";
/// More than any project has.
const MOST: usize = 10_000;

/// Returns the submodules of a commit, by path.
pub(super) fn of(repository: &Repository<'_>, commit: &str) -> Result<Vec<Submodule>, GitError> {
    match entry(repository, commit, FILE)? {
        Some((mode, _)) if mode == "100644" || mode == "100755" => {}
        // A link could lead to a file of somebody's machine; git does not follow it either.
        _ => return Ok(Vec::new()),
    }
    let blob = format!("--blob={commit}:{FILE}");
    let words = ["config", &blob, "--no-includes", "-z", "--get-regexp", r"^submodule\."];
    let said = repository.run(&words)?;
    match said.code {
        0 => {}
        1 => return Ok(Vec::new()),
        _ => return Err(repository.git().failure(&repository.words(&words), &said)),
    }
    let mut found = Vec::new();
    for (name, said) in read(&String::from_utf8_lossy(&said.out)) {
        let (Some(path), Some(url)) = (said.path, said.url) else { continue };
        if said.update.as_deref() == Some("none") {
            continue;
        }
        let remote = repository.git().remote.to_string();
        let shown = format!("submodule {}", name.escape_debug());
        let refused = |reason: &str| GitError::Entry {
            remote: remote.clone(),
            entry: shown.clone(),
            reason: reason.to_owned(),
        };
        let path = inside(&path).ok_or_else(|| refused("is not a path inside of it"))?;
        let text = path.to_str().ok_or_else(|| refused("has no text as its path"))?;
        match entry(repository, commit, text)? {
            Some((mode, commit)) if mode == "160000" && is_commit(&commit) => {
                let inner = inside(&name).is_some_and(|clean| clean.as_os_str() == name.as_str());
                if !inner || name.starts_with('-') {
                    return Err(refused("has a name that leads elsewhere"));
                }
                found.push(Submodule { name, path, url, commit });
            }
            // It names what is no submodule, or not any more.
            _ => {}
        }
        if found.len() > MOST {
            return Err(refused("is one of too many"));
        }
    }
    found.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(found)
}

/// Returns mode and object of a path in a commit.
fn entry(
    repository: &Repository<'_>,
    commit: &str,
    path: &str,
) -> Result<Option<(String, String)>, GitError> {
    let said = repository.ask(&["ls-tree", "-z", "--full-tree", commit, "--", path])?;
    let line = said.split('\0').find(|line| line.split_once('\t').is_some_and(|(_, found)| found == path));
    Ok(line.and_then(|line| {
        let mut words = line.split_once('\t')?.0.split(' ');
        let mode = words.next()?.to_owned();
        Some((mode, words.nth(1)?.to_owned()))
    }))
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    path: Option<String>,
    url: Option<String>,
    update: Option<String>,
}

/// Reads `submodule.NAME.KEY\nVALUE\0`; of a key that is there twice the last counts.
fn read(text: &str) -> BTreeMap<String, Said> {
    let mut found: BTreeMap<String, Said> = BTreeMap::new();
    for line in text.split('\0') {
        let Some((key, value)) = line.split_once('\n') else { continue };
        let Some((name, key)) = key.strip_prefix("submodule.").and_then(|rest| rest.rsplit_once('.')) else {
            continue;
        };
        let said = found.entry(name.to_owned()).or_default();
        match key {
            "path" => said.path = Some(value.to_owned()),
            "url" => said.url = Some(value.to_owned()),
            "update" => said.update = Some(value.to_owned()),
            _ => {}
        }
    }
    found
}

/// Returns a path without `.` and double slashes, unless it leads out, is the root, or goes through a repository's own
/// folder.
pub(super) fn inside(text: &str) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in Path::new(text).components() {
        match part {
            Component::Normal(name) if !is_git_folder(name.as_encoded_bytes()) => clean.push(name),
            Component::CurDir => {}
            _ => return None,
        }
    }
    (!clean.as_os_str().is_empty() && !text.contains('\0')).then_some(clean)
}

/// Tells whether a name is that of a repository's own folder, on whatever file system.
pub(super) fn is_git_folder(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b".git")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_submodules_is_read() {
        let text = "submodule.a.b.path\nx/y\0submodule.a.b.url\n../c\0submodule.a.b.url\n../d\0submodule.e.update\nnone\0other\n1\0";
        let found = read(text);
        let said = |path: Option<&str>, url: Option<&str>, update: Option<&str>| Said {
            path: path.map(ToOwned::to_owned),
            url: url.map(ToOwned::to_owned),
            update: update.map(ToOwned::to_owned),
        };
        assert_eq!(found.get("a.b"), Some(&said(Some("x/y"), Some("../d"), None)));
        assert_eq!(found.get("e"), Some(&said(None, None, Some("none"))));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn paths_lead_inside() {
        for (text, clean) in [("a/b", "a/b"), ("./a//b/", "a/b"), ("a.git", "a.git")] {
            assert_eq!(inside(text), Some(clean.into()), "{text}");
        }
        for text in ["", ".", "/a", "../a", "a/../b", ".git", "a/.GIT/hooks", "a\0b"] {
            assert_eq!(inside(text), None, "{text}");
        }
    }
}
