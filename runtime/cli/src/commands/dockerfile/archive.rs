//! A tar that comes in place of a folder: told by its first bytes, and kept as it is until the engine unpacks it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// So many of the first bytes tell: a header of a tar.
const START_BYTES: u64 = 512;

/// How what is packed begins: bzip2, gzip, xz, zstd.
const MAGIC: [&[u8]; 4] =
    [b"BZh", &[0x1f, 0x8b, 0x08], &[0xfd, b'7', b'z', b'X', b'Z', 0], &[0x28, 0xb5, 0x2f, 0xfd]];

/// Reads the first bytes.
pub(super) fn peek(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    from.take(START_BYTES).read_to_end(&mut start)?;
    Ok(start)
}

/// Tells whether something is a tar, or packed, by its first bytes.
pub(super) fn is_archive(start: &[u8]) -> bool {
    if MAGIC.iter().any(|magic| start.starts_with(magic)) {
        return true;
    }
    let mut tar = tar::Archive::new(start);
    let first = tar.entries().ok().and_then(|mut entries| entries.next());
    matches!(first, Some(Ok(_)))
}

/// Keeps it in a file.
pub(super) fn keep(mut from: impl Read, path: &Path) -> io::Result<()> {
    io::copy(&mut from, &mut File::create_new(path)?).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_told_by_their_beginning() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        header.set_mode(0o644);
        tar.append_data(&mut header, "Dockerfile", &b"x\n"[..]).expect("in memory");
        let tar = tar.into_inner().expect("in memory");
        assert!(
            is_archive(&tar[..512]) && is_archive(b"BZh91AY") && is_archive(&[0x28, 0xb5, 0x2f, 0xfd, 0])
        );
        let long = "FROM scratch\n".repeat(100);
        for text in ["", "FROM scratch\n", "B", &long[..512]] {
            assert!(!is_archive(text.as_bytes()), "{text}");
        }
        let start = peek(&mut &tar[..]).expect("in memory");
        assert_eq!(start.len(), 512);
    }
}
