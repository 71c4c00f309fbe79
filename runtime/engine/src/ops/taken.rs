//! What of an input an op takes, as a digest: its slow key.
//!
//! In: an input, and parts of it as copies and mounts name them. Out: the digest of just these. Of a tree of the store files are read. A
//! look at a user's folder has digested its files already, and its listing says what was where: none is read again.
//! **Invariant:** a copy out of the folder goes by the same listing and is checked against the same digests, so it takes what
//! the digest here says, or fails. Who takes the whole folder has the key of the whole folder.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Component, Path};

use rb_llb::{CopyAction, ExecOp, FileActionKind, FileOp};
use rb_oci::{Digest, Hasher};
use rb_snapshot::{Follow, Part, Tally, View};

use super::mounts;
use crate::error::EngineError;
use crate::parts::Parts;
use crate::value::{Tree, Value};

/// An input that is read in part.
pub(super) struct Input<'a> {
    value: &'a Value,
    view: View,
    /// Hears how much is read.
    tally: &'a Tally,
}

impl<'a> Input<'a> {
    pub(super) fn new(parts: &Parts, value: &'a Value, tally: &'a Tally) -> Result<Self, EngineError> {
        Ok(Self { value, view: mounts::view(parts, value)?, tally })
    }

    /// Returns the key of a user's folder, if one of these paths is the folder itself.
    pub(super) fn whole_folder<'p>(&self, mut paths: impl Iterator<Item = &'p str>) -> Option<Digest> {
        let is_root =
            |path: &str| Path::new(path).components().all(|name| !matches!(name, Component::Normal(_)));
        (matches!(self.value, Value::Local(_)) && paths.any(is_root)).then(|| self.value.key())
    }

    /// Digests a part.
    pub(super) fn digest(&self, part: &Part<'_>) -> Result<[u8; 32], EngineError> {
        let taken = self.view.taken(part)?;
        let key = match (self.value, taken.first()) {
            (Value::Local(local), Some(start)) => {
                let paths: HashSet<&OsStr> = taken.iter().map(|entry| entry.path.as_os_str()).collect();
                local.key_of_part(&start.path, |path| paths.contains(path.as_os_str()))
            }
            _ => self.view.content_digest_of(&taken, self.tally)?,
        };
        Ok(*key.as_bytes())
    }

    /// As [`Self::digest`]; zeros if nothing is there.
    fn digest_if_there(&self, part: &Part<'_>) -> Result<[u8; 32], EngineError> {
        match self.view.lookup(part.path, part.follow)? {
            Some(_) => self.digest(part),
            None => Ok([0; 32]),
        }
    }
}

/// Digests what copies take of an input, which has an index.
pub(super) fn by_copies(op: &FileOp, index: usize, input: &Input<'_>) -> Result<Digest, EngineError> {
    let actions = op.actions.iter().filter(|action| action.secondary_input == Some(index));
    let copies: Vec<&CopyAction> = actions
        .filter_map(|action| match &action.kind {
            FileActionKind::Copy(copy) => Some(copy),
            _ => None,
        })
        .collect();
    let unfiltered = copies.iter().filter(|copy| !is_filtered(copy));
    if let Some(key) = input.whole_folder(unfiltered.map(|copy| copy.src.as_str())) {
        return Ok(key);
    }
    let mut hasher = Hasher::default();
    for copy in copies {
        let paths =
            if copy.allow_wildcard { input.view.glob(&copy.src)? } else { vec![copy.src.clone().into()] };
        hasher.update(&(paths.len() as u64).to_le_bytes());
        let follow = if copy.follow_symlink { Follow::Yes } else { Follow::No };
        for path in paths {
            put(&mut hasher, &path);
            let (include, exclude) = (&copy.include_patterns, &copy.exclude_patterns);
            let part = Part { path: &path, follow, include, exclude };
            hasher.update(&input.digest_if_there(&part)?);
            if copy.attempt_unpack && follow == Follow::No {
                // An archive is unpacked through a link, whether or not a copy would follow it.
                hasher.update(&input.digest_if_there(&Part { follow: Follow::Yes, ..part })?);
            }
        }
        // What has to be among all that is copied may lead elsewhere by a link that is not copied.
        for required in copy.required_paths.iter().filter(|_| is_filtered(copy)) {
            if let Some(entry) = input.view.lookup(required, Follow::No)? {
                put(&mut hasher, &entry.path);
            }
        }
    }
    Ok(hasher.finish().0)
}

/// Digests what the mounts of a command show of an input, which has an index.
pub(super) fn by_mounts(op: &ExecOp, index: usize, input: &Input<'_>) -> Result<Digest, EngineError> {
    let selectors = || {
        let mounts = op.mounts.iter().filter(|mount| mount.input == Some(index));
        mounts.map(|mount| if mount.selector.is_empty() { "/" } else { mount.selector.as_str() })
    };
    if let Some(key) = input.whole_folder(selectors()) {
        return Ok(key);
    }
    let mut hasher = Hasher::default();
    for selector in selectors() {
        let part = Part { path: Path::new(selector), follow: Follow::Yes, include: &[], exclude: &[] };
        hasher.update(&input.digest(&part)?);
    }
    if let Value::Tree(Tree { host: Some(host), .. }) = input.value {
        hasher.update(host.key.as_bytes());
    }
    Ok(hasher.finish().0)
}

/// Tells whether a copy takes only some of what is in a folder.
fn is_filtered(copy: &CopyAction) -> bool {
    !(copy.include_patterns.is_empty() && copy.exclude_patterns.is_empty())
}

fn put(hasher: &mut Hasher, path: &Path) {
    let name = path.as_os_str().as_encoded_bytes();
    hasher.update(&(name.len() as u64).to_le_bytes());
    hasher.update(name);
}
