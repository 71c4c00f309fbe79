//! What lies elsewhere, by its text.

/// Whether a text is the address of something elsewhere: of http, of git, or a git repository by its usual names.
pub(crate) fn is_remote(text: &str) -> bool {
    let http = text.starts_with("http://") || text.starts_with("https://");
    let git = ["git://", "ssh://", "git@", "github.com/"].iter().any(|start| text.starts_with(start));
    http || git
}
