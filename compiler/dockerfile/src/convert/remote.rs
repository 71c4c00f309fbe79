//! Sources of `ADD` that come from elsewhere: repositories and files of the web.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use rb_diag::Span;
use rb_llb::{CopyAction, NodeMeta, State, attr};
use rb_oci::Digest;

use super::transfer::{Common, Expanded, wrong};
use super::{Work, described};
use crate::failure::Fallible;
use crate::git_reference::GitReference;

impl Work<'_> {
    /// Returns a repository's tree, and how it is copied from there.
    pub(super) fn repository(
        &self,
        expanded: &Expanded<'_>,
        common: &Common,
        mut repository: GitReference,
        at: Span,
    ) -> Fallible<(State, CopyAction)> {
        let told = |reason: &str, help: &str| wrong(reason.to_owned(), at).with_help(help);
        if !expanded.is_add {
            return Err(told("source can't be a git ref for COPY", "ADD takes repositories"));
        }
        let keep = expanded.transfer.keep_git_dir.as_ref().map(|keep| keep.value);
        if let (Some(flag), Some(query)) = (keep, repository.keeps_git_folder)
            && flag != query
        {
            return Err(told(
                "inconsistent keep-git-dir configuration",
                "say it once: as a flag, or in the address",
            ));
        }
        repository.keeps_git_folder = repository.keeps_git_folder.or(keep);
        let checksum = expanded.checksum.clone().filter(|checksum| !checksum.is_empty());
        if let (Some(flag), Some(query)) = (&checksum, &repository.checksum)
            && flag != query
        {
            let reason = format!("checksum mismatch \"{flag}\" != \"{query}\"");
            return Err(told(&reason, "say it once: as a flag, or in the address"));
        }
        repository.checksum = repository.checksum.or(checksum);
        // Times are for build contexts.
        repository.times = None;
        let tree = repository.state(NodeMeta::named(&common.name));
        Ok((tree, common.copy("/")))
    }

    /// Returns the tree of a file of the web, and how it is copied; it is unpacked only if that is asked for.
    pub(super) fn web_file(
        &self,
        expanded: &Expanded<'_>,
        common: &Common,
        address: &str,
        at: Span,
    ) -> Fallible<(State, CopyAction)> {
        if !expanded.is_add {
            let found = wrong("source can't be a URL for COPY".to_owned(), at);
            return Err(found.with_help("ADD takes files of the web"));
        }
        let name = file_name(address);
        let mut attrs = BTreeMap::from([(attr::HTTP_FILENAME.to_owned(), name.clone())]);
        if let Some(checksum) = expanded.checksum.as_ref().filter(|checksum| !checksum.is_empty()) {
            let place = expanded.transfer.checksum.as_ref().map_or(at, |checksum| checksum.span);
            let digest: Digest = checksum.parse().map_err(|error| wrong(format!("{error}"), place))?;
            attrs.insert(attr::HTTP_CHECKSUM.to_owned(), digest.to_string());
        }
        let tree = State::source(address, attrs, None, described(common.name.clone(), ""));
        let mut copy = common.copy(&rb_llb::absolute_path("/", &name, false));
        copy.attempt_unpack = expanded.transfer.unpack.as_ref().is_some_and(|unpack| unpack.value);
        Ok((tree, copy))
    }
}

/// Returns the last part of an address's path.
fn file_name(address: &str) -> String {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let path = rest[..end].find('/').map_or("", |slash| &rest[slash..end]);
    let path = percent_decode_str(path).decode_utf8_lossy();
    match rb_path::base(&path) {
        "." | "/" => "__unnamed__".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn files_of_the_web_have_the_names_of_their_addresses() {
        for (address, name) in [
            ("https://h.io/a/f.tgz", "f.tgz"),
            ("https://h.io/a/b%20c/?x=/y", "b c"),
            ("https://h.io", "__unnamed__"),
            ("https://h.io/#x", "__unnamed__"),
        ] {
            assert_eq!(file_name(address), name, "{address}");
        }
    }
}
