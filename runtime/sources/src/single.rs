//! A tree of one file: what comes of a URL, or of one blob of an image.
//!
//! In: a name, a mode, an owner and the blob. Out: the tree, and what it is recognised by: neither the URL nor the
//! time.

use rb_oci::{Digest, Hasher};
use rb_snapshot::{Editor, LayerEntry, LayerMetadata};
use rb_store::Store;

use crate::SourceError;
use crate::unpack::Ownership;

/// A file, and what it is called in its tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SingleFile {
    /// One name, safe as such.
    pub name: String,
    /// Permission bits.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// Nanoseconds since 1970.
    pub modified_ns: i64,
    /// The blob.
    pub digest: Digest,
}

/// Who may read a file whose source does not say.
pub(crate) const DEFAULT_MODE: u32 = 0o600;

impl SingleFile {
    /// Returns what the tree is recognised by.
    pub fn key(&self) -> Digest {
        let Self { name, mode, owner: (user, group), modified_ns: _, digest } = self;
        let mut hasher = Hasher::default();
        hasher.update(digest.as_bytes());
        for number in [mode, user, group] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(name.as_bytes());
        hasher.finish().0
    }

    /// Writes the tree; its blob is in the store, and is proved as it is read.
    pub fn write(&self, store: &Store, editor: &Editor<'_>, ownership: Ownership) -> Result<(), SourceError> {
        let mut blob = store.blob_reader(&self.digest)?;
        let owner = match (ownership, self.owner) {
            (Ownership::RootOnly, (0, 0)) => None,
            (Ownership::Kept | Ownership::RootOnly, owner) => Some(owner),
        };
        let metadata = LayerMetadata {
            mode: self.mode,
            owner,
            modified_ns: self.modified_ns,
            ..LayerMetadata::default()
        };
        Ok(editor.apply(self.name.as_ref(), LayerEntry::File(&mut blob), &metadata)?)
    }
}

/// Returns the last part of a path if it can be a name.
pub(crate) fn safe_name(path: &str) -> Option<&str> {
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let odd = |letter: char| letter.is_control();
    (!matches!(name, "" | "." | "..") && !name.contains(odd) && name.len() <= 255).then_some(name)
}

/// Parses a number as Go's `ParseInt` with base 0 does: `0755`, `0o755`, `0x1ed`, `493`.
fn parse_number(text: &str) -> Option<u32> {
    let (digits, base) = match text.strip_prefix('0') {
        None | Some("") => (text, 10),
        Some(rest) => match rest.as_bytes().first() {
            Some(b'x' | b'X') => (&rest[1..], 16),
            Some(b'o' | b'O') => (&rest[1..], 8),
            Some(b'b' | b'B') => (&rest[1..], 2),
            _ => (rest, 8),
        },
    };
    if digits.starts_with('+') { None } else { u32::from_str_radix(digits, base).ok() }
}

/// Reads a number among attributes; `default` where it is not said.
pub(crate) fn number(
    attrs: &std::collections::BTreeMap<String, String>,
    name: &str,
    default: u32,
) -> Result<u32, SourceError> {
    let Some(text) = attrs.get(name) else { return Ok(default) };
    // The largest number means "unchanged" to the kernel.
    parse_number(text).filter(|number| *number != u32::MAX).ok_or_else(|| SourceError::Attribute {
        name: name.to_owned(),
        reason: format!("`{}` is no number", text.escape_debug()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_does() {
        for (text, number) in
            [("0", 0), ("0755", 0o755), ("0o644", 0o644), ("0x10", 16), ("0b11", 3), ("493", 493)]
        {
            assert_eq!(parse_number(text), Some(number), "{text}");
        }
        for text in ["", "-1", "+1", "08", "0x", "0+7", "1.0", "99999999999"] {
            assert_eq!(parse_number(text), None, "{text}");
        }
    }

    #[test]
    fn names_are_one_part_of_a_path() {
        for (path, name) in [("a", Some("a")), ("/x/b.tar", Some("b.tar")), ("a/", Some("a"))] {
            assert_eq!(safe_name(path), name, "{path}");
        }
        for path in ["", "/", "..", "a/..", ".", "a\nb", "\0"] {
            assert_eq!(safe_name(path), None, "{path:?}");
        }
    }
}
