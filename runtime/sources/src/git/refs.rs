//! What a name stands for: branches and tags of a repository elsewhere.
//!
//! In: a name, or none for the branch that is checked out there. Out: a [`Pinned`] commit. Nobody is asked about a name
//! that is a commit itself. Source: git-ls-remote(1); of several things with one name BuildKit's git source takes the
//! reference itself, then the branch, then the tag.

use std::ffi::OsStr;

use super::call::Git;
use super::repository::Repository;
use super::{BundleFile, Connection, GitError, GitRequest, bundle};

/// The commit that a request stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// All digits of the commit; of a tag object where the request names that.
    pub commit: String,
    /// `refs/heads/main`; none where a commit was named.
    pub reference: Option<String>,
}

/// How many near names are told.
const NEAR: usize = 3;

/// Tells whether a text is all digits of a commit.
pub(crate) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64)
        && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Refuses what git does not take as a name. Source: git-check-ref-format(1).
pub(super) fn check_name(name: &str) -> Result<(), GitError> {
    let odd = |letter: char| letter.is_control() || letter.is_whitespace() || "~^:?*[\\".contains(letter);
    let bad = name.starts_with(['-', '/', '.'])
        || name.ends_with(['/', '.'])
        || name.ends_with(".lock")
        || name.contains("..")
        || name.contains("//")
        || name.contains("/.")
        || name.contains("@{")
        || name.contains(odd)
        || name.len() > 1024;
    if bad {
        Err(GitError::Name { name: name.chars().filter(|letter| !letter.is_control()).take(200).collect() })
    } else {
        Ok(())
    }
}

/// Returns what a request stands for without asking anybody, where it says so itself.
pub(super) fn pinned(request: &GitRequest) -> Result<Option<Pinned>, GitError> {
    let GitRequest { reference, checksum, .. } = request;
    if is_commit(reference) {
        matches(request, "", &[reference])?;
        return Ok(Some(Pinned { commit: reference.clone(), reference: None }));
    }
    if let Some(checksum) = checksum.as_deref().filter(|_| request.bundle.is_some() && reference.is_empty()) {
        return Ok(Some(Pinned { commit: checksum.to_owned(), reference: None }));
    }
    match checksum.as_deref().filter(|_| request.fetch_by_commit) {
        Some(checksum) if is_commit(checksum) => {
            let reference = match reference.as_str() {
                "" => None,
                name if name.starts_with("refs/") => Some(name.to_owned()),
                name => Some(format!("refs/heads/{name}")),
            };
            Ok(Some(Pinned { commit: checksum.to_owned(), reference }))
        }
        _ => Ok(None),
    }
}

/// Asks what the name of a request stands for now.
pub(super) fn ask(git: &Git<'_>, request: &GitRequest) -> Result<Pinned, GitError> {
    let remote = git.remote.to_string();
    let words = |more: &[&str]| -> Vec<String> {
        ["ls-remote", "--symref", "--", &remote].iter().chain(more).map(|word| (*word).to_owned()).collect()
    };
    let name = request.reference.as_str();
    let peeled = format!("{name}^{{}}");
    let words = if name.is_empty() { words(&["HEAD"]) } else { words(&[name, &peeled]) };
    let said = git.ask_host(&words.iter().map(OsStr::new).collect::<Vec<_>>())?;
    let found = choose(&String::from_utf8_lossy(&said), name).ok_or_else(|| unknown(git, name))?;
    pin(request, found)
}

/// Looks into a bundle for what the name of a request stands for.
pub(super) fn ask_bundle(
    connection: &Connection<'_>,
    request: &GitRequest,
    file: BundleFile<'_>,
) -> Result<Pinned, GitError> {
    let remote = &request.remote;
    let kind = "0".repeat(if bundle::is_sha256(connection, remote, file)? { 64 } else { 40 });
    let repository = Repository::open(connection, remote, &kind, Some(file))?;
    repository.import(file)?;
    let git = Git { connection, remote, local: true };
    let words = ["ls-remote", "--symref", "--"].map(OsStr::new);
    let said = git.ask(&[&words[..], &[repository.path().as_os_str()]].concat())?;
    let name = request.reference.as_str();
    let found = choose(&String::from_utf8_lossy(&said), name).ok_or_else(|| GitError::Bundle {
        digest: *file.digest,
        reason: format!("there is no branch or tag `{name}` in it"),
    })?;
    pin(request, found)
}

/// Compares what was found with the checksum of a request.
fn pin(request: &GitRequest, found: Found) -> Result<Pinned, GitError> {
    let names: Vec<&str> =
        [Some(&found.object), found.commit.as_ref()].into_iter().flatten().map(String::as_str).collect();
    matches(request, found.reference.as_deref().unwrap_or_default(), &names)?;
    Ok(Pinned { commit: found.commit.unwrap_or(found.object), reference: found.reference })
}

/// Compares what was found with the checksum of a request.
fn matches(request: &GitRequest, name: &str, found: &[&str]) -> Result<(), GitError> {
    let Some(wanted) = &request.checksum else { return Ok(()) };
    if found.iter().any(|found| found.starts_with(wanted.as_str())) {
        return Ok(());
    }
    Err(GitError::Checksum {
        remote: request.remote.to_string(),
        name: name.to_owned(),
        found: found.last().copied().unwrap_or_default().to_owned(),
        wanted: wanted.clone(),
    })
}

#[derive(Debug, PartialEq, Eq)]
struct Found {
    object: String,
    /// Of a tag object, what it names.
    commit: Option<String>,
    reference: Option<String>,
}

/// Chooses among the lines of an answer.
fn choose(text: &str, name: &str) -> Option<Found> {
    let mut default = None;
    let mut lines = Vec::new();
    for line in text.lines() {
        let Some((value, of)) = line.split_once('\t') else { continue };
        match value.strip_prefix("ref: ") {
            Some(target) if of == "HEAD" => default = Some(target.to_owned()),
            Some(_) => {}
            None if is_commit(value) => lines.push((of, value)),
            None => {}
        }
    }
    let find = |name: &str| lines.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned());
    if name.is_empty() {
        return Some(Found { object: find("HEAD")?, commit: None, reference: default });
    }
    let rest = name.strip_prefix("refs/").unwrap_or(name);
    let candidates = [format!("refs/{rest}"), format!("refs/heads/{name}"), format!("refs/tags/{name}")];
    candidates.into_iter().find_map(|reference| {
        let object = find(&reference)?;
        let commit = find(&format!("{reference}^{{}}"));
        Some(Found { object, commit, reference: Some(reference) })
    })
}

/// Makes the error of a name that there is not, with those that are near.
fn unknown(git: &Git<'_>, name: &str) -> GitError {
    let remote = git.remote.to_string();
    let what = match name {
        "" => "branch that is checked out: it may be empty".to_owned(),
        name => format!("branch or tag `{name}`"),
    };
    let words = ["ls-remote", "--heads", "--tags", "--refs", "--", &remote].map(OsStr::new);
    let said = git.ask(&words).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let short = |line: &str| {
        let reference = line.split_once('\t')?.1;
        let short = reference.strip_prefix("refs/heads/").or_else(|| reference.strip_prefix("refs/tags/"));
        short.map(ToOwned::to_owned)
    };
    let mut near: Vec<(f64, String)> = said
        .lines()
        .filter_map(short)
        .map(|known| (strsim::jaro_winkler(&known.to_lowercase(), &name.to_lowercase()), known))
        .filter(|(score, _)| *score > 0.8)
        .collect();
    near.sort_by(|left, right| right.0.total_cmp(&left.0).then_with(|| left.1.cmp(&right.1)));
    near.dedup_by(|left, right| left.1 == right.1);
    let near = near.into_iter().take(NEAR).map(|(_, known)| known).collect();
    GitError::NoReference { remote, what, near }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_references_branches_and_tags_in_this_order() {
        let (one, two, three) = ("1".repeat(40), "2".repeat(40), "3".repeat(40));
        let text = format!(
            "ref: refs/heads/main\tHEAD\n{one}\tHEAD\n{one}\trefs/heads/main\n{two}\trefs/heads/v1\n{three}\trefs/tags/v1\n\
             {one}\trefs/tags/v1^{{}}\n{three}\trefs/tags/v2\n{two}\trefs/tags/v2^{{}}\nbad\trefs/heads/x\n{two}\trefs/remotes/v3\n"
        );
        let found = |name: &str| choose(&text, name);
        let is = |object: &str, commit: Option<&str>, reference: &str| {
            let commit = commit.map(ToOwned::to_owned);
            Some(Found { object: object.to_owned(), commit, reference: Some(reference.to_owned()) })
        };
        assert_eq!(found(""), is(&one, None, "refs/heads/main"));
        assert_eq!(found("main"), is(&one, None, "refs/heads/main"));
        assert_eq!(found("refs/heads/main"), is(&one, None, "refs/heads/main"));
        assert_eq!(found("v1"), is(&two, None, "refs/heads/v1"));
        assert_eq!(found("tags/v1"), is(&three, Some(&one), "refs/tags/v1"));
        assert_eq!(found("v2"), is(&three, Some(&two), "refs/tags/v2"));
        for none in ["v3", "x", "ain", "bad"] {
            assert_eq!(found(none), None, "{none}");
        }
    }

    #[test]
    fn names_that_git_does_not_take_are_refused() {
        for name in
            ["-x", "a..b", "a b", "a:b", "a^", "x.lock", "a//b", ".a", "a/.b", "a/", "a@{1}", "a\nb", "*"]
        {
            assert!(check_name(name).is_err(), "{name}");
        }
        for name in ["", "main", "feature/x-1", "refs/pull/1/head", "v1.0+x"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
    }
}
