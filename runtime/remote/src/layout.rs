//! An OCI layout in a folder, made of the archive in which a daemon sends it.
//!
//! **Invariant:** nothing but a layout's own files is written, and each blob has the digest that names it; the index comes last.

use std::fs;
use std::io::{self, Read, Write as _};
use std::path::Path;

use rb_oci::{Digest, Hasher};

use crate::error::RemoteError;

/// Longest index.
const INDEX_BYTES: u64 = 4 << 20;

/// Writes the layout that an archive holds; returns its size in bytes.
pub(crate) fn unpack(archive: &mut dyn Read, folder: &Path) -> Result<u64, RemoteError> {
    let disk = |source| RemoteError::Disk { what: format!("the OCI layout `{}`", folder.display()), source };
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(disk)?;
    let mut index = None;
    let mut sum = 0;
    let mut entries = tar::Archive::new(archive);
    for entry in entries.entries().map_err(disk)? {
        let mut entry = entry.map_err(disk)?;
        let path = entry.path().map_err(disk)?.to_string_lossy().into_owned();
        let kind = entry.header().entry_type();
        let path = path.trim_end_matches('/');
        match (path, path.strip_prefix("blobs/sha256/")) {
            ("blobs" | "blobs/sha256", _) if kind.is_dir() => {}
            // Both are written by us, and the second is docker's.
            ("oci-layout" | "manifest.json", _) if kind.is_file() => {}
            ("index.json", _) if kind.is_file() => {
                let mut bytes = Vec::new();
                entry.by_ref().take(INDEX_BYTES + 1).read_to_end(&mut bytes).map_err(disk)?;
                if bytes.len() as u64 > INDEX_BYTES {
                    return Err(RemoteError::answer("the index of the layout is too long"));
                }
                index = Some(bytes);
            }
            (_, Some(hex)) if kind.is_file() => sum += blob(&mut entry, hex, &blobs, &disk)?,
            _ => return Err(RemoteError::answer(format!("`{path}` has no place in an OCI layout"))),
        }
    }
    let index = index.ok_or_else(|| RemoteError::answer("the layout has no index"))?;
    put(folder, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).map_err(disk)?;
    put(folder, "index.json", &index).map_err(disk)?;
    Ok(sum)
}

fn blob(
    content: &mut dyn Read,
    hex: &str,
    blobs: &Path,
    disk: &dyn Fn(io::Error) -> RemoteError,
) -> Result<u64, RemoteError> {
    let expected: Digest =
        format!("sha256:{hex}").parse().map_err(|_| RemoteError::answer("a blob is named by no digest"))?;
    let mut file = tempfile::NamedTempFile::new_in(blobs).map_err(disk)?;
    let mut hasher = Hasher::default();
    let mut piece = vec![0; 128 << 10];
    loop {
        match content.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => {
                hasher.update(&piece[..length]);
                file.write_all(&piece[..length]).map_err(disk)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(disk(error)),
        }
    }
    let (actual, size_bytes) = hasher.finish();
    if actual != expected {
        return Err(RemoteError::answer(format!("the blob {expected} has the digest {actual}")));
    }
    keep(file, &blobs.join(expected.hex())).map_err(disk)?;
    Ok(size_bytes)
}

fn put(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    keep(file, &folder.join(name))
}

fn keep(file: tempfile::NamedTempFile, at: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.persist(at).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            let bytes = path.as_bytes();
            header.as_old_mut().name[..bytes.len()].copy_from_slice(bytes);
            header.set_cksum();
            tar.append(&header, *content).expect("appends");
        }
        tar.into_inner().expect("ends")
    }

    #[test]
    fn a_layout_comes_out_and_lies_do_not() {
        let hex = Digest::of("blob").hex();
        let (good, bad) =
            (format!("blobs/sha256/{hex}"), format!("blobs/sha256/{}", Digest::of("other").hex()));
        let folder = tempfile::tempdir().expect("a folder");
        let files: [(&str, &[u8]); 3] = [(&good, b"blob"), ("manifest.json", b"[]"), ("index.json", b"{}")];
        assert_eq!(unpack(&mut archive(&files).as_slice(), folder.path()).expect("a layout"), 4);
        assert_eq!(fs::read(folder.path().join(&good)).expect("is there"), b"blob");
        assert_eq!(fs::read(folder.path().join("index.json")).expect("is there"), b"{}");
        for (path, reason) in [
            (bad.as_str(), "has the digest"),
            ("blobs/sha256/../../x", "named by no digest"),
            ("../x", "has no place"),
            ("/etc/x", "has no place"),
            ("x", "has no place"),
        ] {
            let error = unpack(&mut archive(&[(path, b"blob")]).as_slice(), folder.path()).expect_err(path);
            assert!(error.to_string().contains(reason), "{error}");
        }
        let error = unpack(&mut archive(&files[..1]).as_slice(), folder.path()).expect_err("no index");
        assert!(error.to_string().contains("no index"));
        let names = fs::read_dir(folder.path().join("blobs/sha256")).expect("lists").count();
        assert_eq!(names, 1, "nothing half made stays");
    }
}
