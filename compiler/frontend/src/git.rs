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

/// Returns the addresses of `Co-authored-by: NAME <ADDRESS>` in the body of a commit's message, each once.
pub fn co_authors(body: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in body.lines() {
        let Some(who) = line.trim().strip_prefix("Co-authored-by: ") else { continue };
        let address = who
            .rsplit_once(' ')
            .and_then(|(_, last)| last.strip_prefix('<'))
            .and_then(|last| last.strip_suffix('>'));
        if let Some(address) = address.filter(|address| !address.is_empty())
            && !found.iter().any(|known| known == address)
        {
            found.push(address.to_owned());
        }
    }
    found
}
