//! What a commit says of itself.
//!
//! Source: git-log(1), "PRETTY FORMATS".

use super::GitError;
use super::refs::Pinned;
use super::repository::Repository;

/// A commit, with its own words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commit {
    /// All its digits.
    pub hash: String,
    /// When it was made, in seconds since 1970.
    pub committed: String,
    /// When its change was written, in seconds since 1970.
    pub authored: String,
    /// Address of who wrote it.
    pub author_email: String,
    /// Name of who wrote it.
    pub author_name: String,
    /// Its message without the first paragraph.
    pub body: String,
}

/// The fields of [`read`], each ended by a zero byte.
const FORMAT: &str = "--format=%H%x00%ct%x00%at%x00%ae%x00%an%x00%b%x00";

/// Brings a commit here, with all its files, and reads it.
pub(super) fn of(repository: &Repository<'_>, pinned: &Pinned) -> Result<Commit, GitError> {
    let commit = repository.bring(pinned)?;
    let words = ["log", "-1", "--no-notes", "--no-color", "--no-show-signature", "--encoding=UTF-8", FORMAT];
    let said = repository.ask(&[&words[..], &[commit.as_str()]].concat())?;
    Ok(read(&said))
}

fn read(text: &str) -> Commit {
    let mut fields = text.split('\0').map(str::to_owned);
    let mut next = || fields.next().unwrap_or_default();
    Commit {
        hash: next(),
        committed: next(),
        authored: next(),
        author_email: next(),
        author_name: next(),
        body: next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_told_apart_by_zeros() {
        let commit = read("abc\x005\x004\0a@x\0A B\0body\nmore\n\0\n");
        assert_eq!((commit.hash.as_str(), commit.committed.as_str()), ("abc", "5"));
        assert_eq!((commit.author_name.as_str(), commit.body.as_str()), ("A B", "body\nmore\n"));
        assert_eq!(read(""), Commit::default());
    }
}
