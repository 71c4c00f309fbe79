//! Whole trees, compared: what local files, tars and images hold.
//!
//! In: folders and archives. Out: sorted entries, and what differs. Of local files names, kinds, modes, owners, contents,
//! link targets and hard links count, and not times, which are those of writing; a tar counts byte by byte, times
//! included, since they are cut off at its epoch; an image counts as the tree that its layers make, and its config.
//! How many layers there are does not count: an equal tree may have been made otherwise before.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde_json::Value;

/// Entries by path, each described on one line.
pub(super) type Tree = BTreeMap<Vec<u8>, String>;

/// Describes the entries of a folder; of none where there is nothing.
pub(super) fn of_folder(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut first_names = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("lists").path()).collect();
        paths.sort_unstable();
        for path in paths {
            let metadata = path.symlink_metadata().expect("is there");
            let name = path.strip_prefix(root).expect("lies below").as_os_str().as_bytes().to_vec();
            let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
            let body = if metadata.is_dir() {
                open.push(path.clone());
                "folder".to_owned()
            } else if metadata.is_symlink() {
                format!("link to {:?}", fs::read_link(&path).expect("reads"))
            } else if metadata.is_file() {
                shown(&fs::read(&path).expect("reads"))
            } else {
                "special".to_owned()
            };
            let linked = if metadata.is_dir() || metadata.nlink() == 1 { None } else { Some(metadata.ino()) };
            let mut line = format!("{mode:o} {uid}:{gid} {body}");
            if let Some(number) = linked {
                let first = first_names.entry(number).or_insert_with(|| name.clone());
                write!(line, " linked as {}", first.escape_ascii()).expect("in memory");
            }
            tree.insert(name, line);
        }
    }
    tree
}

/// Describes the entries of a tar.
pub(super) fn of_tar(reader: impl Read) -> Tree {
    let mut tree = Tree::new();
    for_each(reader, |path, line, _| {
        tree.insert(path, line);
    });
    tree
}

/// Describes the tree of the one image in a layout that is packed as a tar, and its config without the layers.
pub(super) fn of_image(archive: &Path) -> (Tree, Value) {
    let mut blobs = BTreeMap::new();
    let mut archive = tar::Archive::new(File::open(archive).expect("opens"));
    for entry in archive.entries().expect("reads") {
        let mut entry = entry.expect("reads");
        let path = entry.path_bytes().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("reads");
        blobs.insert(String::from_utf8(path).expect("are digests"), bytes);
    }
    let json = |path: &str| serde_json::from_slice::<Value>(&blobs[path]).expect("is JSON");
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().expect("a digest");
        format!("blobs/sha256/{}", digest.trim_start_matches("sha256:"))
    };
    let manifest = json(&blob(&json("index.json")["manifests"][0]));
    let mut tree = Tree::new();
    for layer in manifest["layers"].as_array().expect("a list") {
        let mut above = Vec::new();
        for_each(flate2::read::GzDecoder::new(&blobs[&blob(layer)][..]), |path, line, linked| {
            above.push((path, line, linked));
        });
        // What a layer removes is of the layers below it.
        for (path, ..) in &above {
            let (folder, name) = split(path);
            if name == b".wh..wh..opq" {
                tree.retain(|path, _| !is_below(path, folder));
            } else if let Some(name) = name.strip_prefix(b".wh.") {
                let gone = [folder, name].concat();
                tree.retain(|path, _| *path != gone && !is_below(path, &[&gone[..], b"/"].concat()));
            }
        }
        for (path, line, linked) in above {
            if split(&path).1.starts_with(b".wh.") {
                continue;
            }
            if !line.contains("Directory") {
                tree.retain(|below, _| !is_below(below, &[&path[..], b"/"].concat()));
            }
            // The content of a hard link is that of its first name.
            let line = linked.and_then(|first| tree.get(&first).cloned()).unwrap_or(line);
            tree.insert(path, line);
        }
    }
    let mut config = json(&blob(&manifest["config"]));
    for layers in ["rootfs", "history"] {
        config.as_object_mut().expect("an object").remove(layers);
    }
    (tree, config)
}

/// Returns what differs, in words; `None` where nothing does.
pub(super) fn difference(cached: &Tree, clean: &Tree) -> Option<String> {
    let mut text = String::new();
    for path in cached.keys().chain(clean.keys().filter(|path| !cached.contains_key(*path))) {
        let (old, new) = (cached.get(path), clean.get(path));
        if old != new {
            writeln!(text, "    {}\n      cached: {old:?}\n      clean:  {new:?}", path.escape_ascii())
                .expect("in memory");
        }
    }
    (!text.is_empty()).then_some(text)
}

fn for_each(reader: impl Read, mut each: impl FnMut(Vec<u8>, String, Option<Vec<u8>>)) {
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries().expect("reads") {
        let mut entry = entry.expect("reads");
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("reads");
        let attributes: Vec<String> = entry.pax_extensions().ok().flatten().map_or_else(Vec::new, |found| {
            let found = found.filter_map(Result::ok).map(|one| (one.key_bytes(), one.value_bytes()));
            found
                .filter(|(key, _)| key.starts_with(b"SCHILY."))
                .map(|(key, value)| format!("{}={}", key.escape_ascii(), value.escape_ascii()))
                .collect()
        });
        let header = entry.header();
        let kind = header.entry_type();
        let target = entry.link_name_bytes().map(|target| target.into_owned());
        let line = format!(
            "{kind:?} {:o} {}:{} at {} {} {} {attributes:?}",
            header.mode().expect("a mode"),
            header.uid().expect("an id"),
            header.gid().expect("an id"),
            header.mtime().expect("a time"),
            target.as_deref().unwrap_or_default().escape_ascii(),
            shown(&bytes),
        );
        let mut path = entry.path_bytes().into_owned();
        while path.last() == Some(&b'/') {
            path.pop();
        }
        each(path, line, target.filter(|_| kind == tar::EntryType::Link));
    }
}

/// Content, so that a difference can be seen and read.
fn shown(bytes: &[u8]) -> String {
    if bytes.len() <= 400 {
        return format!("\"{}\"", bytes.escape_ascii());
    }
    format!("{} bytes, {}", bytes.len(), rb_oci::Digest::of(bytes))
}

/// Folder, with a slash at its end, and name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    path.split_at(path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1))
}

fn is_below(path: &[u8], folder: &[u8]) -> bool {
    path.len() > folder.len() && path.starts_with(folder)
}
