//! What a layer is said to delete, kept beside it.
//!
//! In an upper directory a deletion shows only where there is something below to be deleted. A layer that may be laid over
//! other trees still deletes there what it deleted where it was made, and says so when it is packed: that is listed in the
//! file `deleted`, which a layer has that was laid over something, and no other. In: paths, sorted. Out: the same. A
//! list that cannot be read is an error: without it the layer would be another one.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::content::ContentDigest;
use crate::error::{Context as _, Result};

const NAME: &str = "deleted";
/// Moves when the layout below does.
const MAGIC: &[u8] = b"rb deleted 1\n";
const CHECKSUM_BYTES: usize = 32;

/// Writes the list into the directory of a snapshot.
pub(crate) fn write(directory: &Path, paths: &[&Path]) -> Result<()> {
    let mut bytes = MAGIC.to_vec();
    for path in paths {
        bytes.extend_from_slice(path.as_os_str().as_bytes());
        bytes.push(0);
    }
    let checksum = ContentDigest::of(&bytes);
    bytes.extend_from_slice(checksum.as_bytes());
    let path = directory.join(NAME);
    fs::write(&path, bytes).on_host("write", &path)
}

/// Reads the list in the directory of a snapshot; `None` where there is none.
pub(crate) fn read(directory: &Path) -> Result<Option<Vec<PathBuf>>> {
    let path = directory.join(NAME);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).on_host("read", &path),
    };
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "it is not whole");
    decode(&bytes).ok_or_else(damaged).on_host("read", &path).map(Some)
}

fn decode(bytes: &[u8]) -> Option<Vec<PathBuf>> {
    let (body, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_BYTES)?)?;
    if ContentDigest::of(body).as_bytes() != checksum {
        return None;
    }
    let paths = body.strip_prefix(MAGIC)?.split(|byte| *byte == 0).filter(|path| !path.is_empty());
    Some(paths.map(|path| PathBuf::from(OsStr::from_bytes(path))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_torn_is() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(directory.path()).unwrap(), None);
        let paths = [Path::new("a/b"), Path::new("a\n"), Path::new(OsStr::from_bytes(b"\xff"))];
        write(directory.path(), &paths).unwrap();
        assert_eq!(read(directory.path()).unwrap().unwrap(), paths);
        let bytes = fs::read(directory.path().join(NAME)).unwrap();
        for index in 0..bytes.len() {
            assert_eq!(decode(&bytes[..index]), None, "{index}");
            let mut flipped = bytes.clone();
            flipped[index] ^= 1;
            assert_eq!(decode(&flipped), None, "{index}");
        }
        fs::write(directory.path().join(NAME), &bytes[1..]).unwrap();
        assert!(read(directory.path()).is_err());
    }
}
