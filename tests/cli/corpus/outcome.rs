//! What came of a build, as lines that can be compared and digested.
//!
//! In: a tar of the files, and an archive of the image as an OCI layout. Out: for each path its kind, mode, owner, content,
//! link, attributes and further names; for each platform its config. Times count where the case says `SOURCE_DATE_EPOCH`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use rb_oci::Digest;
use serde_json::{Value, json};

/// What stands under each path, and the configs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) tree: BTreeMap<String, String>,
    pub(super) configs: BTreeMap<String, String>,
}

impl Outcome {
    /// Reads what a build wrote: the image, and for each platform a tar of its files.
    pub(super) fn read(trees: &[PathBuf], image: &Path, with_times: bool) -> Self {
        let mut tree = BTreeMap::new();
        for (number, path) in trees.iter().enumerate() {
            let of = read_tree(path, with_times).into_iter();
            tree.extend(of.map(|(path, told)| (format!("{number}/{path}"), told)));
        }
        Self { tree, configs: read_configs(image, with_times) }
    }

    /// One line for the record: digests of both.
    pub(super) fn line(&self) -> String {
        let short = |of: &BTreeMap<String, String>| {
            let text: String = of.iter().map(|(key, value)| format!("{key} {value}\n")).collect();
            Digest::of(text.as_bytes()).hex()[..24].to_owned()
        };
        format!("{} {}", short(&self.tree), short(&self.configs))
    }

    /// Tells all of it, for who looks for what is not as it was.
    pub(super) fn shown(&self) -> String {
        self.tree.iter().chain(&self.configs).map(|(key, value)| format!("    {key}: {value}\n")).collect()
    }

    /// Tells the first differences.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        let told: Vec<String> = [(&self.tree, &other.tree), (&self.configs, &other.configs)]
            .into_iter()
            .flat_map(|(ours, theirs)| {
                let keys: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
                keys.into_iter()
                    .filter(|key| ours.get(*key) != theirs.get(*key))
                    .map(|key| {
                        let none = "nothing".to_owned();
                        let (a, b) = (ours.get(key).unwrap_or(&none), theirs.get(key).unwrap_or(&none));
                        format!("    {key}\n      rb       {a}\n      BuildKit {b}")
                    })
                    .collect::<Vec<_>>()
            })
            .collect();
        (!told.is_empty()).then(|| {
            let more = told.len().saturating_sub(8);
            let rest = if more > 0 { format!("\n    and {more} more") } else { String::new() };
            told.into_iter().take(8).collect::<Vec<_>>().join("\n") + &rest
        })
    }
}

fn read_tree(path: &Path, with_times: bool) -> BTreeMap<String, String> {
    let file = std::fs::File::open(path).expect("is there");
    let mut archive = tar::Archive::new(std::io::BufReader::new(file));
    let mut tree = BTreeMap::new();
    // By the name that the archive has the file under.
    let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in archive.entries().expect("is a tar") {
        let mut entry = entry.expect("is whole");
        let name = bare(&entry.path_bytes());
        if name.is_empty() {
            continue;
        }
        if entry.header().entry_type() == tar::EntryType::Link {
            let to = bare(&entry.link_name_bytes().expect("leads somewhere"));
            names.entry(to.clone()).or_insert_with(|| [to].into()).insert(name);
            continue;
        }
        let told = tell(&mut entry, with_times);
        tree.insert(name, told);
    }
    // One file has one set of names, whichever comes first.
    for (first, names) in names {
        let told = format!("{} names={names:?}", tree[&first]);
        tree.extend(names.into_iter().map(|name| (name, told.clone())));
    }
    tree
}

fn bare(path: &[u8]) -> String {
    String::from_utf8_lossy(path).trim_start_matches("./").trim_matches('/').to_owned()
}

/// Tells all that an entry says but its name.
fn tell(entry: &mut tar::Entry<'_, impl Read>, with_times: bool) -> String {
    let header = entry.header().clone();
    let kind = header.entry_type();
    let mut told = format!(
        "{} {}:{}",
        kind.as_byte().escape_ascii(),
        header.uid().expect("a number"),
        header.gid().expect("a number")
    );
    if !kind.is_symlink() {
        told += &format!(" {:04o}", header.mode().expect("a mode") & 0o7777);
    }
    if let Some(to) = entry.link_name_bytes() {
        told += &format!(" -> {}", String::from_utf8_lossy(&to));
    }
    if kind.is_character_special() || kind.is_block_special() {
        let number = |number: std::io::Result<Option<u32>>| number.expect("a number").unwrap_or_default();
        told += &format!(" {},{}", number(header.device_major()), number(header.device_minor()));
    }
    let extensions = entry.pax_extensions().expect("are whole");
    let attributes: BTreeSet<String> = extensions
        .into_iter()
        .flatten()
        .map(|extension| extension.expect("is whole"))
        .filter(|extension| extension.key_bytes().starts_with(b"SCHILY.xattr."))
        .map(|extension| {
            format!("{}={}", extension.key_bytes().escape_ascii(), extension.value_bytes().escape_ascii())
        })
        .collect();
    if !attributes.is_empty() {
        told += &format!(" {attributes:?}");
    }
    if with_times {
        told += &format!(" @{}", header.mtime().expect("a number"));
    }
    if kind.is_file() {
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("is whole");
        told += &content(&bytes);
    }
    told
}

/// Tells what is in a file; that of busybox is another in each release of Debian.
fn content(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.len() <= 4000 => format!(" {text:?}"),
        _ if bytes.starts_with(b"\x7fELF") => " a program".to_owned(),
        _ => format!(" {}", Digest::of(bytes)),
    }
}

/// Reads the config of each platform of an archive, a line for each field.
fn read_configs(path: &Path, with_times: bool) -> BTreeMap<String, String> {
    let file = std::fs::File::open(path).expect("is there");
    let mut archive = tar::Archive::new(std::io::BufReader::new(file));
    let mut files = BTreeMap::new();
    for entry in archive.entries().expect("is a tar") {
        let mut entry = entry.expect("is whole");
        let name = bare(&entry.path_bytes());
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("is whole");
        files.insert(name, bytes);
    }
    let json = |path: &str| -> Value { serde_json::from_slice(&files[path]).expect("is JSON") };
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().expect("is a digest").replace(':', "/");
        json(&format!("blobs/{digest}"))
    };
    let mut told = BTreeMap::new();
    let mut documents = vec![json("index.json")];
    while let Some(document) = documents.pop() {
        match document["manifests"].as_array() {
            Some(manifests) => documents.extend(manifests.iter().map(blob)),
            None => tell_config(&blob(&document["config"]), with_times, &mut told),
        }
    }
    told
}

fn tell_config(config: &Value, with_times: bool, told: &mut BTreeMap<String, String>) {
    let mut config = config.clone();
    without_empty_layers(&mut config);
    // Bytes of a layer depend on times, and on who packs it.
    config["rootfs"]["diff_ids"] = json!(config["rootfs"]["diff_ids"].as_array().map_or(0, Vec::len));
    if !with_times {
        let without = |object: &mut Value| object.as_object_mut().and_then(|object| object.remove("created"));
        without(&mut config);
        config["history"].as_array_mut().into_iter().flatten().for_each(|entry| {
            without(entry);
        });
    }
    let text = |name: &str| config[name].as_str().unwrap_or("-").to_owned();
    let platform =
        format!("{}/{}{}", text("os"), text("architecture"), config["variant"].as_str().unwrap_or(""));
    flatten(&platform, &config, told);
}

/// Takes out layers that hold nothing, as the row "a step that changes nothing" of the table in `compiler/dockerfile` says.
///
/// Of the marks of steps that may have a layer only the number is compared: BuildKit packs an empty layer where one changed
/// nothing, and `rb` none. That it marks the right lines is a test of its own (`dockerfile::results`).
fn without_empty_layers(config: &mut Value) {
    let empty = json!(Digest::of([0; 1024]));
    let diffs = config["rootfs"]["diff_ids"].as_array().cloned().unwrap_or_default();
    let history = config["history"].as_array_mut().into_iter().flatten();
    let mut lines = 0;
    for entry in history {
        lines += usize::from(entry["empty_layer"] != json!(true));
        let by = entry["created_by"].as_str().unwrap_or_default();
        if ["RUN ", "COPY ", "ADD ", "WORKDIR "].iter().any(|step| by.starts_with(step)) {
            entry.as_object_mut().and_then(|entry| entry.remove("empty_layer"));
        }
    }
    assert_eq!(lines, diffs.len(), "a line of the history for each layer");
    config["rootfs"]["diff_ids"] = diffs.into_iter().filter(|diff| *diff != empty).collect();
}

/// A line for each value that is no object; histories have one for each entry.
fn flatten(path: &str, value: &Value, told: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            fields.iter().for_each(|(key, value)| flatten(&format!("{path} {key}"), value, told));
        }
        Value::Array(entries) if entries.iter().any(Value::is_object) => {
            for (number, entry) in entries.iter().enumerate() {
                flatten(&format!("{path} {number:03}"), entry, told);
            }
        }
        other => drop(told.insert(path.to_owned(), other.to_string())),
    }
}
