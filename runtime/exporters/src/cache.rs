//! Caches: a manifest whose layers are those of many trees, and layouts that hold one.
//!
//! In: layers among the blobs, and a config that says what finds them. Out: a manifest among the blobs; or a layout on the disk in
//! which a name stands for it. A layout that is there is added to: blobs first, each under its name only when it is whole, the
//! index last and in one step. So whoever is ended half-way leaves the cache that was there, and a blob is written once. Who adds to
//! a layout has it alone meanwhile (flock(2) of its folder): two of them lose nothing of each other's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use rb_oci::cache::CACHE_CONFIG;
use rb_oci::{Descriptor, Digest, MediaType, MediaTypes};
use rb_snapshot::{Counted, Tally};
use rb_store::{Store, descriptor_digest};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Context as _;
use crate::image::write_manifest;
use crate::layout::add::put;
use crate::layout::{Document, LAYOUT, MAX_DEPTH, MAX_MANIFEST_BYTES, REF_NAME, blob_name};
use crate::place::{follow, settle};
use crate::{ExportError, Precious, Result, check_oci_layout};

/// Writes the manifest of a cache. Returns its descriptor; config and manifest are in the store.
pub fn export_cache(store: &Store, layers: &[Descriptor], config: &Value) -> Result<Descriptor> {
    let json = serde_json::to_vec(config).map_err(ExportError::Spec)?;
    if json.len() as u64 > MAX_MANIFEST_BYTES {
        return Err(ExportError::LargeCache {
            size_bytes: json.len() as u64,
            limit_bytes: MAX_MANIFEST_BYTES,
        });
    }
    write_manifest(store, &MediaType::from(CACHE_CONFIG), &json, layers, MediaTypes::Oci, &Default::default())
}

/// Says whether a layout has a blob already.
pub fn layout_has(dest: &Path, descriptor: &Descriptor) -> Result<bool> {
    let path = dest.join(blob_name(&descriptor_digest(descriptor)?));
    Ok(fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == descriptor.size()))
}

/// Adds a manifest with all it names to the layout at `dest`, in which `tag` stands for it from then on; makes one where nothing
/// is. Blobs of `suspect` are written whatever is there. With `reset`, what no name of the layout leads to is removed.
pub fn add_to_layout(
    store: &Store,
    tag: &str,
    manifest: &Descriptor,
    dest: &Path,
    suspect: &BTreeSet<Digest>,
    reset: bool,
    tally: &Tally,
) -> Result<()> {
    let open = |digest: &Digest| Ok(Box::new(store.blob_reader(digest)?) as Box<dyn io::Read>);
    add(&open, tag, manifest, dest, suspect, reset, tally)
}

/// The same of blobs that lie in a folder under their digests, proved before; what `dest` has of them need not be there.
pub fn add_folder_to_layout(
    blobs: &Path,
    tag: &str,
    manifest: &Descriptor,
    dest: &Path,
    reset: bool,
) -> Result<()> {
    let open = |digest: &Digest| {
        let place = blobs.join(digest.hex());
        let file = match File::open(&place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => File::open(dest.join(blob_name(digest))),
            opened => opened,
        };
        Ok(Box::new(file.context("read", &place)?) as Box<dyn io::Read>)
    };
    add(&open, tag, manifest, dest, &BTreeSet::new(), reset, &Tally::default())
}

/// Opens a blob that is to be written.
type Open<'a> = &'a dyn Fn(&Digest) -> Result<Box<dyn io::Read>>;

fn add(
    open_blob: Open<'_>,
    tag: &str,
    manifest: &Descriptor,
    dest: &Path,
    suspect: &BTreeSet<Digest>,
    reset: bool,
    tally: &Tally,
) -> Result<()> {
    let dest = settle(&follow(dest)?, None, &Precious::default())?;
    if !dest.exists() {
        fs::create_dir_all(&dest).context("create", &dest)?;
    }
    // Let go when it is closed, also of who is killed. Whoever adds the same is done soon.
    let folder = File::open(&dest).context("open", &dest)?;
    folder.lock().context("lock", &dest)?;
    check_oci_layout(&dest)?;
    // First, so that what is left of who was killed is a layout.
    let mark = dest.join("oci-layout");
    if !mark.is_file() {
        put(&mark, |file| file.write_all(LAYOUT).context("write", &mark))?;
    }
    let blobs = dest.join("blobs/sha256");
    fs::create_dir_all(&blobs).context("create", &blobs)?;
    let path = dest.join("index.json");
    let mut entries = entries(&path)?;
    let mut bytes = Vec::new();
    let read = open_blob(&descriptor_digest(manifest)?)?.take(MAX_MANIFEST_BYTES).read_to_end(&mut bytes);
    read.context("read", &dest)?;
    let document: Document = serde_json::from_slice(&bytes).map_err(ExportError::Spec)?;
    let mut open = Vec::new();
    // An index of layers names them as manifests.
    for part in document.layers.iter().chain(&document.manifests).chain(&document.config).chain([manifest]) {
        if suspect.contains(&descriptor_digest(part)?) || !layout_has(&dest, part)? {
            open.push(part);
        }
    }
    // Sizes may be somebody else's words.
    tally.expect(0, open.iter().fold(0, |sum: u64, part| sum.saturating_add(part.size())));
    for part in open {
        let digest = descriptor_digest(part)?;
        let path = dest.join(blob_name(&digest));
        put(&path, |file| {
            let actual =
                io::copy(&mut Counted::new(open_blob(&digest)?, tally), file).context("write", &path)?;
            match part.size() {
                expected if expected == actual => Ok(()),
                expected => Err(ExportError::Size { digest, expected, actual }),
            }
        })?;
    }
    entries.retain(|entry| entry["annotations"][REF_NAME] != *tag);
    entries.push(json!({
        "mediaType": manifest.media_type().to_string(),
        "digest": manifest.digest().to_string(),
        "size": manifest.size(),
        "annotations": { REF_NAME: tag },
    }));
    let index = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::ImageIndex.to_string(),
        "manifests": entries,
    });
    put(&path, |file| {
        file.write_all(index.to_string().as_bytes()).context("write", &path)?;
        file.sync_all().context("write", &path)
    })?;
    if reset { remove_unnamed(&dest, &index) } else { Ok(()) }
}

/// Returns the entries of a layout's index; none where there is none. One that says something else is an error: what it is the index
/// of is not ours to replace.
fn entries(path: &Path) -> Result<Vec<Value>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context("read", path),
    };
    let mut bytes = Vec::new();
    file.take(MAX_MANIFEST_BYTES).read_to_end(&mut bytes).context("read", path)?;
    let wrong = |source| ExportError::Json { what: path.display().to_string(), source };
    let mut index: BTreeMap<String, Value> = serde_json::from_slice(&bytes).map_err(wrong)?;
    let manifests = index.remove("manifests").unwrap_or_else(|| json!([]));
    let manifests = Vec::<Value>::deserialize(manifests).map_err(wrong)?;
    // Each is a descriptor, too; as it was written it has fields that we do not know.
    for entry in &manifests {
        Descriptor::deserialize(entry).map_err(wrong)?;
    }
    Ok(manifests)
}

/// Removes blobs that nothing in the index leads to.
fn remove_unnamed(dest: &Path, index: &Value) -> Result<()> {
    let mut named = BTreeSet::new();
    let root: Document = serde_json::from_value(index.clone()).map_err(ExportError::Spec)?;
    name_all(dest, &root, MAX_DEPTH, &mut named)?;
    let folder = dest.join("blobs/sha256");
    for entry in fs::read_dir(&folder).context("list", &folder)? {
        let path = entry.context("list", &folder)?.path();
        let digest = path.file_name().and_then(|name| format!("sha256:{}", name.to_str()?).parse().ok());
        // What another process is writing has no digest for a name.
        if digest.is_some_and(|digest: Digest| !named.contains(&digest)) {
            fs::remove_file(&path).context("remove", &path)?;
        }
    }
    Ok(())
}

fn name_all(dest: &Path, document: &Document, depth: u32, named: &mut BTreeSet<Digest>) -> Result<()> {
    for part in document.config.iter().chain(&document.layers) {
        named.insert(descriptor_digest(part)?);
    }
    for child in &document.manifests {
        let digest = descriptor_digest(child)?;
        if depth == 0 {
            return Err(ExportError::TooDeep(digest));
        }
        if !named.insert(digest) {
            continue;
        }
        let path: PathBuf = dest.join(blob_name(&digest));
        let mut bytes = Vec::new();
        let file = match File::open(&path) {
            Ok(file) => file,
            // It leads nowhere as it is.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).context("read", &path),
        };
        file.take(MAX_MANIFEST_BYTES).read_to_end(&mut bytes).context("read", &path)?;
        if let Ok(inner) = serde_json::from_slice::<Document>(&bytes) {
            name_all(dest, &inner, depth - 1, named)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(store: &Store, layer: &str) -> Descriptor {
        let digest = store.put_blob(layer.as_bytes()).expect("keeps");
        let media_type = MediaType::ImageLayer;
        let layer = crate::image::describe(&media_type, &digest, layer.len() as u64).expect("a descriptor");
        export_cache(store, &[layer], &json!({"rb.cache.v2": {}})).expect("writes")
    }

    fn blobs(dest: &Path) -> usize {
        fs::read_dir(dest.join("blobs/sha256")).expect("lists").count()
    }

    #[test]
    fn a_layout_is_added_to_by_name() {
        let root = tempfile::tempdir().expect("a folder");
        let store = Store::open(&root.path().join("store")).expect("opens");
        let dest = root.path().join("cache");
        let add = |tag: &str, layer: &str, reset| {
            add_to_layout(
                &store,
                tag,
                &cache(&store, layer),
                &dest,
                &BTreeSet::new(),
                reset,
                &Tally::default(),
            )
            .expect("adds");
        };
        add("latest", "one", false);
        // Manifest, config, layer.
        assert_eq!(blobs(&dest), 3);
        add("latest", "one", false);
        assert_eq!(blobs(&dest), 3);
        add("other", "two", false);
        assert_eq!(blobs(&dest), 5, "the config is the same");
        add("latest", "three", false);
        assert_eq!(blobs(&dest), 7, "what nothing leads to stays");
        let names: Vec<_> = entries(&dest.join("index.json")).expect("reads");
        let names: Vec<_> = names.iter().map(|entry| entry["annotations"][REF_NAME].clone()).collect();
        assert_eq!(names, ["other", "latest"]);
        add("latest", "three", true);
        assert_eq!(blobs(&dest), 5, "those of both names stay");
    }

    #[test]
    fn who_adds_to_a_layout_at_once_loses_nothing_of_the_other() {
        let root = tempfile::tempdir().expect("a folder");
        let store = Store::open(&root.path().join("store")).expect("opens");
        let dest = root.path().join("cache");
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let (store, dest) = (&store, &dest);
                scope.spawn(move || {
                    for round in 0..5 {
                        let manifest = cache(store, &format!("{writer} {round}"));
                        let tag = format!("tag-{writer}");
                        add_to_layout(
                            store,
                            &tag,
                            &manifest,
                            dest,
                            &BTreeSet::new(),
                            true,
                            &Tally::default(),
                        )
                        .expect("adds");
                    }
                });
            }
        });
        assert_eq!(entries(&dest.join("index.json")).expect("reads").len(), 4);
        // A manifest and a layer of each, and the config that all have.
        assert_eq!(blobs(&dest), 9);
    }

    #[test]
    fn an_index_that_is_none_is_left() {
        let root = tempfile::tempdir().expect("a folder");
        let store = Store::open(&root.path().join("store")).expect("opens");
        let dest = root.path().join("cache");
        add_to_layout(
            &store,
            "latest",
            &cache(&store, "x"),
            &dest,
            &BTreeSet::new(),
            false,
            &Tally::default(),
        )
        .expect("adds");
        let index = dest.join("index.json");
        for text in ["[]", "1", "{", r#"{"manifests": 1}"#, r#"{"manifests": [{"digest": "no"}]}"#] {
            fs::write(&index, text).expect("writes");
            let added = add_to_layout(
                &store,
                "latest",
                &cache(&store, "y"),
                &dest,
                &BTreeSet::new(),
                true,
                &Tally::default(),
            );
            assert!(matches!(added, Err(ExportError::Json { .. })), "{text}: {added:?}");
            assert_eq!(fs::read_to_string(&index).expect("reads"), text);
            assert_eq!(blobs(&dest), 3, "{text}");
        }
    }

    #[test]
    fn what_is_no_layout_is_left() {
        let root = tempfile::tempdir().expect("a folder");
        let store = Store::open(&root.path().join("store")).expect("opens");
        let dest = root.path().join("mine");
        fs::create_dir(&dest).expect("makes");
        fs::write(dest.join("file"), "mine").expect("writes");
        let added = add_to_layout(
            &store,
            "latest",
            &cache(&store, "x"),
            &dest,
            &BTreeSet::new(),
            true,
            &Tally::default(),
        );
        assert!(matches!(added, Err(ExportError::InTheWay(_))), "{added:?}");
        assert_eq!(fs::read_dir(&dest).expect("lists").count(), 1);
    }
}
