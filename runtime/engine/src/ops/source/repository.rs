//! Repositories elsewhere whose build files a frontend reads: which commit they stand for, and what git knows of it.
//!
//! In: a [`RepositoryRequest`], as a source of git has it. Out: [`GitFacts`]; the commit is here then, with its files. It is
//! asked about once a job, as sources are.

use std::sync::Arc;

use rb_frontend::{GitFacts, RepositoryRequest};
use rb_solver::OpError;
use rb_sources::SourceError;
use rb_sources::git::{self, Commit, GitRequest, Pinned};

use super::git::{Who, pin, with_git};
use crate::fetch::Listener;
use crate::job::JobContext;

/// Digits of a commit's short form.
const SHORT: usize = 8;

/// Finds the commit that a request stands for, and brings it here.
pub(crate) async fn resolve(
    job: &Arc<JobContext>,
    request: &RepositoryRequest,
    listener: &Listener,
) -> Result<GitFacts, OpError> {
    let identifier = request.identifier.strip_prefix("git://").unwrap_or(&request.identifier);
    let request =
        GitRequest::parse(identifier, &request.attrs).map_err(|error| crate::op_error(error.into()))?;
    let who = Who::Frontend(listener);
    let pinned = pin(who, job, &request).await?;
    let (asked, wanted) = (request.clone(), pinned.clone());
    let commit = with_git(who, job, &request, move |_, connection| {
        Ok(git::commit(connection, &asked, &wanted).map_err(SourceError::Git)?)
    });
    let commit = commit.await?;
    job.asked.note_read(&pinned.commit);
    job.asked.note_read(&commit.hash);
    Ok(facts(commit, &pinned))
}

/// Puts together what git knows; where it came from, who asked knows.
fn facts(commit: Commit, pinned: &Pinned) -> GitFacts {
    let reference = pinned.reference.as_deref().unwrap_or_default();
    let named = |kind: &str| reference.strip_prefix(kind).map(ToOwned::to_owned);
    let last = reference.rsplit('/').next().filter(|last| !last.is_empty());
    GitFacts {
        short_hash: commit.hash.get(..SHORT).unwrap_or(&commit.hash).to_owned(),
        hash: commit.hash,
        // What git says of a commit that is checked out without a branch.
        branch: named("refs/heads/").unwrap_or_else(|| "HEAD".to_owned()),
        tag: named("refs/tags/").unwrap_or_default(),
        refs: last.map(ToOwned::to_owned).into_iter().collect(),
        commit_timestamp: commit.committed,
        author_timestamp: commit.authored,
        author: commit.author_email.clone(),
        author_email: commit.author_email,
        author_name: commit.author_name,
        co_authors: rb_frontend::co_authors(&commit.body),
        ..GitFacts::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_branch_a_tag_or_neither() {
        let of = |reference: Option<&str>| {
            let commit = Commit { hash: "0123456789".to_owned(), ..Commit::default() };
            let pinned = Pinned { commit: commit.hash.clone(), reference: reference.map(ToOwned::to_owned) };
            let facts = facts(commit, &pinned);
            (facts.short_hash, facts.branch, facts.tag, facts.refs.join(" "))
        };
        let is = |branch: &str, tag: &str, refs: &str| {
            ("01234567".to_owned(), branch.to_owned(), tag.to_owned(), refs.to_owned())
        };
        assert_eq!(of(Some("refs/heads/a/b")), is("a/b", "", "b"));
        assert_eq!(of(Some("refs/tags/v1")), is("HEAD", "v1", "v1"));
        assert_eq!(of(None), is("HEAD", "", ""));
    }
}
