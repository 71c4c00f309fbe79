//! Images into a layout that is there, or into a new one.
//!
//! In: an [`ImageTree`] and where it lies. Out: its blobs among those of the layout, and its line in `index.json`, in place of
//! the one of the same name. **Invariant:** each file appears by rename, whole and proven, and the index last: who reads the
//! layout meanwhile finds the old or the new image. Source: OCI image-layout.md.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use rb_exporters::ExportError;
use rb_oci::index::JSON_LIMIT_BYTES;
use rb_oci::{Digest, Hasher};
use rb_registry::BlobSource;
use serde_json::{Value, json};

use super::content::{Content, digest_of};
use super::tree::{ImageTree, is_foreign};
use crate::error::EngineError;

const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Adds an image. Blocking.
pub(super) fn add(
    content: &dyn Content,
    tree: &ImageTree,
    folder: &Path,
    name: Option<&str>,
) -> Result<(), EngineError> {
    let refused = |reason: String, help: Option<String>| EngineError::Image {
        what: format!("`{}`", folder.display()),
        reason,
        help,
    };
    let failed = |source: io::Error| {
        EngineError::Export(ExportError::Io { action: "write", path: folder.to_owned(), source })
    };
    let unread = |error: io::Error| refused(format!("cannot be read: {error}"), None);
    let is_layout = folder.join("oci-layout").is_file();
    if folder.exists() && !is_layout && !is_unfinished(folder) {
        return Err(refused(
            "is there, and is no OCI layout".to_owned(),
            Some("name another folder".to_owned()),
        ));
    }
    let mut index = if is_layout { read_index(folder).map_err(unread)? } else { empty_index() };
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(failed)?;
    for (digest, descriptor) in tree.blobs.iter().filter(|(_, blob)| !is_foreign(blob)) {
        let path = blobs.join(digest.hex());
        if fs::metadata(&path).is_ok_and(|found| found.len() == descriptor.size()) {
            continue;
        }
        let source = content.blob(descriptor)?;
        put_blob(&*source, digest, &path).map_err(|error| match super::content::behind(&error) {
            Some(behind) => behind,
            None if error.kind() == io::ErrorKind::InvalidData => {
                refused(format!("cannot take blob {digest}: {error}"), None)
            }
            None => failed(error),
        })?;
        source.taken();
    }
    for (descriptor, bytes) in &tree.documents {
        put(&blobs.join(digest_of(descriptor)?.hex()), bytes).map_err(failed)?;
    }
    let root = tree.root();
    let mut entry = json!({
        "mediaType": root.media_type().to_string(), "digest": digest_of(root)?, "size": root.size(),
    });
    if let Some(name) = name {
        entry["annotations"] = json!(BTreeMap::from([(REF_NAME, name)]));
    }
    let entries = index["manifests"].as_array_mut();
    let entries = entries.ok_or_else(|| refused("has an index without manifests".to_owned(), None))?;
    let called = |entry: &Value| entry["annotations"][REF_NAME].as_str().map(ToOwned::to_owned);
    match name {
        Some(name) => entries.retain(|entry| called(entry).as_deref() != Some(name)),
        None => entries.retain(|old| called(old).is_some() || old["digest"] != entry["digest"]),
    }
    entries.push(entry);
    put(&folder.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#).map_err(failed)?;
    put(&folder.join("index.json"), index.to_string().as_bytes()).map_err(failed)
}

/// Whether a folder holds nothing, or what a copy leaves that was broken off: blobs, each of them proven.
fn is_unfinished(folder: &Path) -> bool {
    fs::read_dir(folder)
        .is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == "blobs")))
}

fn empty_index() -> Value {
    json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []})
}

fn read_index(folder: &Path) -> io::Result<Value> {
    let mut bytes = Vec::new();
    match File::open(folder.join("index.json")) {
        Ok(file) => file.take(JSON_LIMIT_BYTES + 1).read_to_end(&mut bytes)?,
        // What a copy leaves that was broken off before its last file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(empty_index()),
        Err(error) => return Err(error),
    };
    if bytes.len() as u64 > JSON_LIMIT_BYTES {
        return Err(io::Error::other("its index is larger than 4 MiB"));
    }
    Ok(serde_json::from_slice(&bytes)?)
}

/// Writes beside, and renames what proved true.
fn put_blob(source: &dyn BlobSource, digest: &Digest, path: &Path) -> io::Result<()> {
    let beside = path.with_extension(format!("rb-{}", std::process::id()));
    let written = (|| {
        let mut file = File::create(&beside)?;
        let mut hasher = Hasher::default();
        let mut reader = source.open(0)?;
        let mut piece = vec![0; 128 << 10];
        loop {
            let count = reader.read(&mut piece)?;
            if count == 0 {
                break;
            }
            hasher.update(&piece[..count]);
            file.write_all(&piece[..count])?;
        }
        let found = hasher.finish().0;
        if found != *digest {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("its content has digest {found}"),
            ));
        }
        fs::rename(&beside, path)
    })();
    if written.is_err() {
        // The error that is told is the one that made it useless.
        fs::remove_file(&beside).ok();
    }
    written
}

fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension(format!("rb-{}", std::process::id()));
    let written = fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // As above.
        fs::remove_file(&beside).ok();
    }
    written
}
