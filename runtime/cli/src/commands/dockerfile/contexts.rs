//! Further contexts: `--build-context NAME=…`.
//!
//! Folders and OCI layouts of this machine are lent by names; images, repositories and tars elsewhere the frontend finds for
//! itself. Of a layout the digest is what the frontend is told: its tag is looked up here, as BuildKit's client does.

use std::path::{Path, PathBuf};

use rb_diag::chain;
use rb_oci::Digest;
use rb_oci::index::digest_of;

use super::context::{Lent, is_address};
use crate::args::NamedContext;
use crate::report::Failure;

/// Lends them.
pub(super) fn lend(lent: &mut Lent, cwd: &Path, contexts: &[NamedContext]) -> Result<(), Failure> {
    contexts.iter().try_for_each(|context| one(lent, cwd, context))
}

fn one(lent: &mut Lent, cwd: &Path, NamedContext { name, context }: &NamedContext) -> Result<(), Failure> {
    let option = format!("context:{name}");
    if is_address(context) || context.starts_with("docker-image://") {
        lent.tell(&option, context);
        return Ok(());
    }
    let failed = |what: String, help: &str| {
        Failure::input(format!("--build-context {name}={context}: {what}"), Some(help.to_owned()))
    };
    if let Some(rest) = context.strip_prefix("oci-layout://") {
        let (path, wanted, digest) = layout(rest);
        let folder = cwd.join(path);
        let digest = match digest {
            Some(digest) => digest,
            None => {
                // What carries one name alone may be called anything.
                let found = rb_sources::layout::entry(&folder, Some(wanted))
                    .or_else(|error| rb_sources::layout::entry(&folder, None).map_err(|_| error));
                let found = found.map_err(|error| failed(chain(&error), "write oci-layout://DIR:TAG"))?;
                digest_of(&found).map_err(|error| failed(chain(&error), "another layout"))?
            }
        };
        let store = store_name(name);
        lent.lend_layout(&store, folder);
        lent.tell(&option, format!("oci-layout://{store}@{digest}"));
        return Ok(());
    }
    if let Some((scheme, _)) = context.split_once("://") {
        let help =
            "a folder, docker-image://NAME, oci-layout://DIR, or an address of http, https, git or ssh";
        return Err(failed(format!("`{scheme}://` is unknown"), help));
    }
    let folder = cwd.join(context);
    if !folder.is_dir() {
        let what = if folder.exists() { "it is no folder" } else { "there is no such folder" };
        return Err(failed(
            what.to_owned(),
            "a folder, docker-image://NAME, oci-layout://DIR, or an address",
        ));
    }
    let folder = std::fs::canonicalize(&folder)
        .map_err(|error| Failure::environment(&format!("`{context}` cannot be read"), &error))?;
    // The two names that are taken.
    let local =
        if matches!(name.as_str(), "context" | "dockerfile") { format!("_{name}") } else { name.clone() };
    lent.lend(&local, folder);
    lent.tell(&option, format!("local:{local}"));
    Ok(())
}

/// Splits `DIR[:TAG][@DIGEST]`.
fn layout(text: &str) -> (PathBuf, &str, Option<Digest>) {
    let digest = text.rsplit_once('@').and_then(|(path, digest)| Some((path, digest.parse().ok()?)));
    let (path, digest) = digest.map_or((text, None), |(path, digest)| (path, Some(digest)));
    match path.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
        Some((path, tag)) => (path.into(), tag, digest),
        None => (path.into(), "latest", digest),
    }
}

/// Returns the name that a layout is lent by: one that a reference may have.
fn store_name(name: &str) -> String {
    Digest::of(name).hex().chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_have_tags_and_digests() {
        let digest = Digest::of("x");
        let at = |text: &str| layout(text).0.display().to_string();
        assert_eq!(layout("../a:1").1, "1");
        assert_eq!(
            (at("../a:1"), at("a.b/c"), at("/x:y/z")),
            ("../a".into(), "a.b/c".into(), "/x:y/z".into())
        );
        assert_eq!(layout("a").1, "latest");
        assert_eq!(layout(&format!("a:1@{digest}")), ("a".into(), "1", Some(digest)));
        assert_eq!(layout("a@b"), ("a@b".into(), "latest", None));
    }
}
