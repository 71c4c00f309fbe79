//! What git knows of a folder.

/// Facts of the repository that a project's folder lies in; empty where git has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitFacts {
    /// Full hash of the commit.
    pub hash: String,
    /// Its first eight digits.
    pub short_hash: String,
    /// The branch that is checked out.
    pub branch: String,
    /// A tag of the commit.
    pub tag: String,
    /// References that point at the commit.
    pub refs: Vec<String>,
    /// URL of the remote `origin`.
    pub origin_url: String,
    /// The same without credentials.
    pub origin_url_scrubbed: String,
    /// `organisation/repository` of that URL.
    pub project_name: String,
    /// When the commit was made, in seconds since 1970.
    pub commit_timestamp: String,
    /// When its change was written, in seconds since 1970.
    pub author_timestamp: String,
    /// Who wrote it, as Earthly's EARTHLY_GIT_AUTHOR says it.
    pub author: String,
    /// Address of who wrote it.
    pub author_email: String,
    /// Name of who wrote it.
    pub author_name: String,
    /// Addresses behind `Co-authored-by:`.
    pub co_authors: Vec<String>,
}
