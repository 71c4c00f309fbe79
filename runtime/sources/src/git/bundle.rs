//! Bundles: a repository in one file, as what a source is read from, and as what comes of it.
//!
//! In: attributes of a source; a bundle as a file, where commits come from one. Out: a repository that is kept of it, or a new bundle:
//! the file `bundle` with the whole history of one commit under one name, so that whoever has it needs nothing else.
//! **Invariant:** a repository that is made of a bundle holds what is in that bundle and nothing else, whatever is known of the
//! address that the source names. So a bundle that rests on commits which it lacks is refused, on every machine.
//! Source: git-bundle(1), gitformat-bundle(5); BuildKit's git source, its `git.bundle` and `git.checkoutbundle`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

use rb_llb::{SourceOp, attr};
use rb_oci::{Digest, Reference};
use rb_snapshot::{Editor, LayerEntry, LayerMetadata};

use super::call::Git;
use super::refs::{Pinned, is_commit};
use super::repository::{Repository, failed};
use super::tree::time_of;
use super::{Connection, GitError, GitRequest, Remote};
use crate::SourceError;
use crate::unpack::Ownership;

/// What a bundle is called in its tree.
const NAME: &str = "bundle";
/// Who may read and write it: what BuildKit gives it.
const MODE: u32 = 0o666;
/// What a commit is called in a bundle that has no name for it.
const NAMELESS: &str = "refs/heads/main";
/// Where blobs come from.
const SCHEMES: [&str; 2] = ["docker-image+blob", "oci-layout+blob"];

/// The bundle that commits come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleName {
    /// The blob as a source of its own.
    pub source: SourceOp,
    /// What it is.
    pub digest: Digest,
}

/// A bundle that is here.
#[derive(Debug, Clone, Copy)]
pub struct BundleFile<'a> {
    /// What it is.
    pub digest: &'a Digest,
    /// Where it is; absolute.
    pub path: &'a Path,
}

impl BundleName {
    /// Reads the attributes of a source.
    pub(super) fn parse(attrs: &BTreeMap<String, String>) -> Result<Option<Self>, SourceError> {
        let Some(identifier) = attrs.get(attr::GIT_BUNDLE).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let wrong = |reason: String| SourceError::Attribute { name: attr::GIT_BUNDLE.to_owned(), reason };
        let (scheme, name) = identifier.split_once("://").unwrap_or((identifier, ""));
        if !SCHEMES.contains(&scheme) {
            return Err(wrong(format!(
                "`{}` is neither `{}` nor `{}`",
                scheme.escape_debug(),
                SCHEMES[0],
                SCHEMES[1]
            )));
        }
        let reference: Reference = name.parse().map_err(|error| wrong(format!("{error}")))?;
        let digest = reference.digest().ok_or_else(|| wrong("it names no digest".to_owned()))?;
        let about = [attr::OCI_SESSION, attr::OCI_STORE];
        let about = attrs.iter().filter(|(name, _)| about.contains(&name.as_str()));
        let attrs = about.map(|(name, value)| (name.clone(), value.clone())).collect();
        Ok(Some(Self { source: SourceOp { identifier: identifier.clone(), attrs }, digest }))
    }
}

/// Returns the name that a commit has in the bundle that is made of it: a tag stays one if it was named as such, all else is a branch.
pub(super) fn name_of(request: &GitRequest, pinned: &Pinned) -> String {
    let named = match request.reference.as_str() {
        "" => pinned.reference.as_deref().unwrap_or_default(),
        named => named,
    };
    if named.is_empty() || is_commit(named) {
        return NAMELESS.to_owned();
    }
    if named.starts_with("refs/tags/") {
        return named.to_owned();
    }
    let name = named.strip_prefix("refs/").unwrap_or(named);
    format!("refs/heads/{}", name.strip_prefix("heads/").unwrap_or(name))
}

/// Tells whether the commits of a bundle are named by sha256.
pub(super) fn is_sha256(
    connection: &Connection<'_>,
    remote: &Remote,
    bundle: BundleFile<'_>,
) -> Result<bool, GitError> {
    let git = Git { connection, remote, local: true };
    let words = ["ls-remote", "--"].map(OsStr::new);
    let said = git
        .ask(&[&words[..], &[bundle.path.as_os_str()]].concat())
        .map_err(|error| unusable(bundle, error))?;
    let said = String::from_utf8_lossy(&said);
    let first = said.lines().next().and_then(|line| line.split_once('\t')).map(|(commit, _)| commit);
    match first.filter(|commit| is_commit(commit)) {
        Some(commit) => Ok(commit.len() == 64),
        None => Err(GitError::Bundle { digest: *bundle.digest, reason: "there is nothing in it".to_owned() }),
    }
}

/// Says of git's error that the bundle is at fault.
pub(super) fn unusable(bundle: BundleFile<'_>, error: GitError) -> GitError {
    let said = match error {
        GitError::NotFound { said, .. } | GitError::Failed { said, .. } => said,
        // It ends too early.
        GitError::Unreachable { said, .. } => said,
        GitError::NoReference { .. } => "it is not whole".to_owned(),
        other => return other,
    };
    // Where it lies is of no interest.
    let reason = said.replace(&bundle.path.display().to_string(), "it");
    GitError::Bundle { digest: *bundle.digest, reason }
}

/// Writes the bundle of a commit into a layer that is on nothing; `folder` is ours and empty.
pub(super) fn write(
    connection: &Connection<'_>,
    request: &GitRequest,
    pinned: &Pinned,
    folder: &Path,
    editor: &Editor<'_>,
    ownership: Ownership,
) -> Result<(), SourceError> {
    let (path, modified_ns) = make(connection, request, pinned, folder)?;
    let mut file = File::open(&path).map_err(|error| failed("open", &path, error))?;
    let owner = match ownership {
        Ownership::Kept => Some((0, 0)),
        Ownership::RootOnly => None,
    };
    let metadata = LayerMetadata { mode: MODE, owner, modified_ns, ..LayerMetadata::default() };
    Ok(editor.apply(NAME.as_ref(), LayerEntry::File(&mut file), &metadata)?)
}

fn make(
    connection: &Connection<'_>,
    request: &GitRequest,
    pinned: &Pinned,
    folder: &Path,
) -> Result<(PathBuf, i64), GitError> {
    let remote = &request.remote;
    let repository = Repository::open(connection, remote, &pinned.commit, connection.bundle)?;
    let commit = repository.bring_whole(pinned)?;
    let time = time_of(&repository, &commit)?;
    let kept = format!("refs/rb-keep/{commit}");
    repository.ask(&["update-ref", &kept, &commit])?;

    // In a repository of its own, where the commit may have the name that it is to have.
    let (git_dir, path) = (folder.join("git"), folder.join(NAME));
    let local = Git { connection, remote, local: true };
    let format = if commit.len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" };
    let init = ["init", "--quiet", "--bare", "--template=", format, "--"].map(OsStr::new);
    local.ask(&[&init[..], &[git_dir.as_os_str()]].concat())?;
    let name = name_of(request, pinned);
    let git_dir = format!("--git-dir={}", git_dir.display());
    let run = |words: &[&OsStr]| local.ask(&[&[git_dir.as_ref()], words].concat());
    let fetch = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--"].map(OsStr::new);
    let named = format!("+{kept}:{name}");
    run(&[&fetch[..], &[repository.path().as_os_str(), named.as_ref()]].concat())?;
    drop(repository);
    (connection.room)()?;
    // In one thread, so that the same packs give the same bytes.
    let create = ["-c", "pack.threads=1", "bundle", "create", "--quiet"].map(OsStr::new);
    run(&[&create[..], &[path.as_os_str(), name.as_ref()]].concat())?;
    Ok((path, time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attrs(more: &[(&str, &str)]) -> BTreeMap<String, String> {
        more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_bundle_is_a_blob() {
        let hex = "a".repeat(64);
        let blob = format!("oci-layout+blob://not/real@sha256:{hex}");
        let found = BundleName::parse(&attrs(&[
            (attr::GIT_BUNDLE, &blob),
            (attr::OCI_STORE, "s"),
            ("git.mtime", "commit"),
        ]));
        let found = found.expect("is one").expect("is there");
        assert_eq!((found.digest.hex(), found.source.identifier.as_str()), (hex.clone(), blob.as_str()));
        assert_eq!(found.source.attrs, attrs(&[(attr::OCI_STORE, "s")]));
        assert_eq!(BundleName::parse(&attrs(&[])).expect("is none"), None);
        for text in [
            "x",
            "https://a/b",
            "docker-image+blob://a/b:c",
            "docker-image+blob://",
            "oci-layout://a@sha256:1",
        ] {
            assert!(BundleName::parse(&attrs(&[(attr::GIT_BUNDLE, text)])).is_err(), "{text}");
        }
    }

    #[test]
    fn names_in_bundles_are_branches_unless_they_are_tags() {
        let commit = "1".repeat(40);
        let name = |reference: &str, found: Option<&str>| {
            let request =
                GitRequest::parse(&format!("example.com/a#{reference}"), &BTreeMap::new()).expect("is one");
            name_of(&request, &Pinned { commit: commit.clone(), reference: found.map(ToOwned::to_owned) })
        };
        assert_eq!(name("", Some("refs/heads/trunk")), "refs/heads/trunk");
        assert_eq!(name("", None), "refs/heads/main");
        assert_eq!(name(&commit, None), "refs/heads/main");
        assert_eq!(name("v1", Some("refs/tags/v1")), "refs/heads/v1");
        assert_eq!(name("refs/tags/v1", Some("refs/tags/v1")), "refs/tags/v1");
        assert_eq!(name("refs/heads/a/b", Some("refs/heads/a/b")), "refs/heads/a/b");
        assert_eq!(name("heads/a", Some("refs/heads/a")), "refs/heads/a");
    }
}
