//! Images that are added to a layout which is there: other names stay, a name that is given again moves.
//!
//! Blobs come first, each under its name only when it is whole, the index last and in one step: who is ended half-way leaves the
//! layout that was there, with blobs that nothing names. A blob that is there is read, and written again only if it is damaged.
//! What the index says of other images is kept as it is written. Who adds has the layout alone meanwhile (flock(2) of its folder,
//! as [`crate::add_to_layout`]).
//! **Invariant:** an index that cannot be read is an error, and nothing is changed then.
//! Source: BuildKit's client/ociindex, for what it takes for the same name.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use rb_snapshot::{Counted, Tally};
use rb_store::Store;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{IMAGE_NAME, LAYOUT, Layout, MAX_MANIFEST_BYTES, REF_NAME, blob_name};
use crate::error::Context as _;
use crate::place::Beside;
use crate::{ExportError, Result};

/// Locks a folder until the file is dropped, also of who is killed.
pub(super) fn lock(folder: &Path) -> Result<File> {
    let file = File::open(folder).context("open", folder)?;
    file.lock().context("lock", folder)?;
    Ok(file)
}

/// Adds images to the layout in a folder.
pub(super) fn add(store: &Store, layout: &Layout, dest: &Path, tally: &Tally) -> Result<()> {
    let _alone = lock(dest)?;
    let mark = dest.join("oci-layout");
    check_mark(&bounded(&mark)?, &mark)?;
    let path = dest.join("index.json");
    let mut index = Index::read(&path)?;
    tally.expect(0, layout.size_bytes);
    let blobs = dest.join("blobs/sha256");
    fs::create_dir_all(&blobs).context("create", &blobs)?;
    for digest in &layout.blobs {
        let path = dest.join(blob_name(digest));
        let size_bytes = store.blob_size(digest)?.unwrap_or_default();
        if is_whole(&path, digest, size_bytes)? {
            continue;
        }
        put(&path, |file| {
            io::copy(&mut Counted::new(store.blob_reader(digest)?, tally), file).context("write", &path)?;
            Ok(())
        })?;
    }
    index.add(&layout.manifests)?;
    let text = index.text();
    put(&path, |file| {
        file.write_all(text.as_bytes()).context("write", &path)?;
        file.sync_all().context("write", &path)
    })
}

/// An index of a layout, each part as it is written.
struct Index {
    /// What stands beside the entries, by name.
    fields: BTreeMap<String, Box<RawValue>>,
    entries: Vec<Box<RawValue>>,
}

impl Index {
    /// Reads the index of a layout. Each entry has to be a descriptor; what it has beside that is kept.
    fn read(path: &Path) -> Result<Self> {
        let wrong = |source| ExportError::Json { what: path.display().to_string(), source };
        let bytes = bounded(path)?;
        serde_json::from_slice::<super::Document>(&bytes).map_err(wrong)?;
        let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(&bytes).map_err(wrong)?;
        if fields.get("schemaVersion").is_none_or(|version| version.get() != "2") {
            return Err(ExportError::NoLayout(path.to_owned()));
        }
        let entries = fields.remove("manifests");
        let entries = entries.map_or_else(|| Ok(Vec::new()), |text| serde_json::from_str(text.get()));
        Ok(Self { fields, entries: entries.map_err(wrong)? })
    }

    /// Adds images behind the others; one that is called the same goes.
    fn add(&mut self, images: &[super::Named]) -> Result<()> {
        let added = images.iter().map(serde_json::value::to_raw_value);
        let added = added.collect::<std::result::Result<Vec<_>, _>>().map_err(ExportError::Spec)?;
        let taken: Vec<_> = added.iter().map(|entry| names(entry)).collect();
        self.entries.retain(|entry| !taken.contains(&names(entry)));
        self.entries.extend(added);
        Ok(())
    }

    /// Returns it as we write it: of the same images the same text.
    fn text(&self) -> String {
        let field = |name: &str| self.fields.get(name).map(|value| format!("\"{name}\":{value}"));
        let entries: Vec<&str> = self.entries.iter().map(|entry| entry.get()).collect();
        let rest = self.fields.keys().filter(|name| !["schemaVersion", "mediaType"].contains(&name.as_str()));
        let rest = rest
            .filter_map(|name| Some(format!("{}:{}", Value::from(name.as_str()), self.fields.get(name)?)));
        let fields: Vec<String> = [field("schemaVersion"), field("mediaType")]
            .into_iter()
            .flatten()
            .chain([format!("\"manifests\":[{}]", entries.join(","))])
            .chain(rest)
            .collect();
        format!("{{{}}}", fields.join(","))
    }
}

/// Returns what an entry is called; two that are called nothing are the same, too.
fn names(entry: &RawValue) -> [Option<String>; 2] {
    let entry: Value = serde_json::from_str(entry.get()).unwrap_or_default();
    [IMAGE_NAME, REF_NAME].map(|key| entry["annotations"][key].as_str().map(ToOwned::to_owned))
}

/// Reads a small file of a layout.
fn bounded(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).context("read", path)?;
    file.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut bytes).context("read", path)?;
    if bytes.len() as u64 > MAX_MANIFEST_BYTES {
        return Err(ExportError::NoLayout(path.to_owned()));
    }
    Ok(bytes)
}

fn check_mark(bytes: &[u8], path: &Path) -> Result<()> {
    let ours: Value = serde_json::from_slice(LAYOUT).map_err(ExportError::Spec)?;
    let wrong = |source| ExportError::Json { what: path.display().to_string(), source };
    let mark: Value = serde_json::from_slice(bytes).map_err(wrong)?;
    if mark["imageLayoutVersion"] == ours["imageLayoutVersion"] {
        return Ok(());
    }
    Err(ExportError::NoLayout(path.to_owned()))
}

/// Tells whether a blob is there and is what its name says.
fn is_whole(path: &Path, digest: &rb_oci::Digest, size_bytes: u64) -> Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).context("read", path),
    };
    let metadata = file.metadata().context("look at", path)?;
    if !metadata.is_file() || metadata.len() != size_bytes {
        return Ok(false);
    }
    let mut hasher = rb_oci::Hasher::default();
    let mut buffer = vec![0; 1 << 18];
    let mut file = file;
    loop {
        match file.read(&mut buffer).context("read", path)? {
            0 => return Ok(hasher.finish().0 == *digest),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// Writes a file beside its place, and gives it its name.
pub(crate) fn put(path: &Path, write: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let beside = Beside::new(path)?;
    let mut file = File::create_new(beside.path()).context("create", path)?;
    write(&mut file)?;
    beside.put()
}
