//! What lies at an address, for those who look for other files there than a Dockerfile, as bake files are.

use rb_diag::Diagnostic;
use rb_frontend::Gateway;
use rb_llb::State;

use super::{Context, Place};
use crate::git_reference::GitReference;
use crate::options::Options;

/// What lies at an address.
#[derive(Clone, Debug)]
pub enum Elsewhere {
    /// A repository, or a folder of one.
    Repository(State),
    /// An archive of the web, unpacked.
    Archive(State),
    /// A file of the web, and its path in the tree.
    File(State, String),
}

/// Finds out what lies at the address of a repository, or of a file of the web. The gateway is asked for the first bytes of
/// such a file.
pub async fn elsewhere(gateway: &dyn Gateway, address: &str) -> Result<Elsewhere, Diagnostic> {
    let options = Options { context: Some(address.to_owned()), ..Options::default() };
    let context = Context::find(gateway, &options).await?;
    let state = match context.place {
        Place::Elsewhere(state) => state,
        Place::Client(folder) => folder.state(&options, &["/".to_owned()].into()),
    };
    Ok(match context.filename.as_str() {
        _ if context.repository.is_some() => Elsewhere::Repository(state),
        name if name == super::REMOTE_FILE => Elsewhere::File(state, format!("/{name}")),
        _ => Elsewhere::Archive(state),
    })
}

/// Returns the address of a folder below what an address of a repository means; none where it is of no repository.
///
/// Source: buildx, how it finds contexts of bake files in a repository.
pub fn below(address: &str, folder: &str) -> Option<String> {
    let there = GitReference::parse_context(address).ok()??;
    let folder = rb_llb::absolute_path(&format!("/{}", there.folder), folder, false);
    let folder = folder.trim_matches('/');
    if folder.is_empty() {
        return Some(address.to_owned());
    }
    let (base, fragment) = address.split_once('#').unwrap_or((address, ""));
    let (base, query) = base.split_once('?').map_or((base, None), |(base, query)| (base, Some(query)));
    let is_folder = |pair: &&str| pair.split('=').next() == Some("subdir");
    let kept: Vec<&str> =
        query.iter().flat_map(|query| query.split('&')).filter(|pair| !is_folder(pair)).collect();
    let query = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
    let reference = fragment.split(':').next().unwrap_or_default();
    Some(format!("{base}{query}#{reference}:{folder}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_a_repository_have_addresses() {
        for (address, folder, expected) in [
            ("https://h.io/a/b.git", "app", Some("https://h.io/a/b.git#:app")),
            ("https://h.io/a/b.git#v1", "./app/", Some("https://h.io/a/b.git#v1:app")),
            ("https://h.io/a/b.git#v1:sub", "../app", Some("https://h.io/a/b.git#v1:app")),
            ("https://h.io/a/b.git#v1:sub", "app", Some("https://h.io/a/b.git#v1:sub/app")),
            ("https://h.io/a/b.git?tag=v1&subdir=sub", "app", Some("https://h.io/a/b.git?tag=v1#:sub/app")),
            ("git@h.io:a/b", ".", Some("git@h.io:a/b")),
            ("github.com/a/b", "app", Some("github.com/a/b#:app")),
            ("https://h.io/x.tar.gz", "app", None),
        ] {
            assert_eq!(below(address, folder).as_deref(), expected, "{address} {folder}");
        }
    }
}
