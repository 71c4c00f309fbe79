//! Is it an archive? A context of the web is unpacked if it is, and is the Dockerfile if not.

/// What compressed files begin with: gzip, bzip2, xz, zstd.
const COMPRESSED: [&[u8]; 4] =
    [&[0x1f, 0x8b, 0x08], b"BZh", &[0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], &[0x28, 0xb5, 0x2f, 0xfd]];

/// How many bytes have to be looked at.
pub(crate) const HEAD_BYTES: u64 = 1024;

/// Tells whether a file that begins so is a tar, or compressed.
pub(crate) fn is_archive(head: &[u8]) -> bool {
    COMPRESSED.iter().any(|magic| head.starts_with(magic)) || is_tar_header(head)
}

/// A header of a tar holds the sum of its own bytes, the sum's field taken as blanks.
fn is_tar_header(head: &[u8]) -> bool {
    const FIELD: std::ops::Range<usize> = 148..156;
    let Some(header) = head.get(..512) else { return false };
    let written = String::from_utf8_lossy(&header[FIELD]).into_owned();
    let written = u32::from_str_radix(written.trim_matches([' ', '\0']), 8);
    let sum: u32 = header
        .iter()
        .enumerate()
        .map(|(at, byte)| if FIELD.contains(&at) { u32::from(b' ') } else { u32::from(*byte) })
        .sum();
    written == Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_told_from_texts() {
        let mut tar = [0; 1024];
        tar[..5].copy_from_slice(b"a.txt");
        let sum: u32 = tar[..512].iter().map(|byte| u32::from(*byte)).sum::<u32>() + 8 * u32::from(b' ');
        tar[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        assert!(is_archive(&tar));
        tar[0] = b'b';
        assert!(!is_archive(&tar));
        assert!(is_archive(&[0x1f, 0x8b, 0x08, 0]));
        assert!(!is_archive(b"FROM busybox\n") && !is_archive(&[0; 1024]) && !is_archive(b""));
    }
}
