//! Layouts and layers made by hand, and what a snapshot shows.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use rb_oci::{Digest, Platform};
use rb_snapshot::{DriverKind, FileType, Follow, Snapshots, View};
use rb_sources::layout::{self, LayoutImage, Wanted};
use rb_sources::unpack::{self, Ownership};
use rb_store::{SnapshotId, Store};
use serde_json::{Value, json};
use tar::{EntryType, Header};
use tempfile::TempDir;

pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub(crate) fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

/// A layout in a folder of its own.
pub(crate) struct Layout {
    pub(crate) folder: TempDir,
}

impl Layout {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("rb-layout-").tempdir().unwrap();
        fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        fs::write(folder.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.path().join("blobs/sha256").join(digest.hex())
    }

    /// Stores a blob; returns its descriptor.
    pub(crate) fn put(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        fs::write(self.blob(&digest), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
    }

    pub(crate) fn put_json(&self, media_type: &str, value: &Value) -> Value {
        self.put(media_type, &serde_json::to_vec(value).unwrap())
    }

    pub(crate) fn index(&self, manifests: &[Value]) {
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        fs::write(self.path().join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
    }

    /// Stores an index; returns its descriptor.
    pub(crate) fn put_index(&self, manifests: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        self.put_json(INDEX, &index)
    }

    /// Stores an image; returns the descriptor of its manifest. `layers` are blobs with their uncompressed tars.
    pub(crate) fn put_image(&self, platform: &str, layers: &[(Value, Vec<u8>)]) -> Value {
        let parts: Vec<&str> = platform.split('/').collect();
        let diff_ids: Vec<String> = layers.iter().map(|(_, tar)| Digest::of(tar).to_string()).collect();
        let config = json!({
            "os": parts[0], "architecture": parts[1], "variant": parts.get(2),
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.put_json("application/vnd.oci.image.config.v1+json", &config);
        let layers: Vec<&Value> = layers.iter().map(|(descriptor, _)| descriptor).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.put_json(MANIFEST, &manifest)
    }

    /// Makes the layout hold one image of these layers.
    pub(crate) fn hold(&self, tars: &[Vec<u8>]) -> LayoutImage {
        let layers: Vec<(Value, Vec<u8>)> =
            tars.iter().map(|tar| (self.put(LAYER, &gzip(tar)), tar.clone())).collect();
        self.index(&[self.put_image("linux/amd64", &layers)]);
        layout::find(self.path(), &Wanted::Tag(None), &amd64()).unwrap()
    }
}

pub(crate) fn with(mut descriptor: Value, key: &str, value: Value) -> Value {
    descriptor[key] = value;
    descriptor
}

pub(crate) fn named(descriptor: Value, name: &str) -> Value {
    with(descriptor, "annotations", json!({"org.opencontainers.image.ref.name": name}))
}

pub(crate) fn on(descriptor: Value, os: &str, architecture: &str, variant: Option<&str>) -> Value {
    let mut platform = json!({"os": os, "architecture": architecture});
    if let Some(variant) = variant {
        platform["variant"] = variant.into();
    }
    with(descriptor, "platform", platform)
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// A tar written by hand: names and links go into it as they are.
#[derive(Default)]
pub(crate) struct Tar(pub(crate) Vec<u8>);

impl Tar {
    pub(crate) fn header(kind: u8, name: &str, size_bytes: u64) -> Header {
        let mut header = Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(size_bytes);
        header.set_entry_type(EntryType::new(kind));
        header
    }

    #[must_use]
    pub(crate) fn raw(mut self, mut header: Header, data: &[u8]) -> Self {
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    #[must_use]
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.raw(Self::header(b'x', "pax", data.len() as u64), &data)
    }

    #[must_use]
    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        self.raw(Self::header(b'0', name, content.len() as u64), content.as_bytes())
    }

    #[must_use]
    pub(crate) fn dir(self, name: &str) -> Self {
        self.raw(Self::header(b'5', name, 0), b"")
    }

    #[must_use]
    pub(crate) fn link(self, kind: u8, name: &str, target: &str) -> Self {
        let mut header = Self::header(kind, name, 0);
        header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
        self.raw(header, b"")
    }

    #[must_use]
    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.link(b'2', name, target)
    }

    #[must_use]
    pub(crate) fn hard(self, name: &str, target: &str) -> Self {
        self.link(b'1', name, target)
    }

    #[must_use]
    pub(crate) fn device(self, kind: u8, name: &str, major: u32, minor: u32) -> Self {
        let mut header = Self::header(kind, name, 0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self.raw(header, b"")
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A store of its own.
pub(crate) struct Machine {
    pub(crate) snapshots: Snapshots,
    _folder: TempDir,
}

impl Machine {
    pub(crate) fn new(driver: DriverKind) -> Self {
        let folder = tempfile::Builder::new().prefix("rb-sources-").tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        Self { snapshots: Snapshots::new(store, driver).unwrap(), _folder: folder }
    }

    pub(crate) fn store(&self) -> &Store {
        self.snapshots.store()
    }

    pub(crate) fn unpack(&self, tars: &[Vec<u8>]) -> Result<Unpacked, rb_sources::SourceError> {
        let layout = Layout::new();
        self.unpack_image(&layout.hold(tars))
    }

    pub(crate) fn unpack_image(&self, image: &LayoutImage) -> Result<Unpacked, rb_sources::SourceError> {
        let (id, _) = unpack::image(&self.snapshots, image, Ownership::Kept)?;
        Ok(Unpacked { id: id.unwrap(), view: self.snapshots.view(id).unwrap() })
    }
}

/// What became of an image.
pub(crate) struct Unpacked {
    pub(crate) id: SnapshotId,
    pub(crate) view: View,
}

impl Unpacked {
    pub(crate) fn entry(&self, path: &str) -> rb_snapshot::Entry {
        self.view.lookup(path, Follow::No).unwrap().unwrap_or_else(|| panic!("no `{path}`"))
    }

    pub(crate) fn bytes(&self, path: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.view.open(&self.entry(path)).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// Everything by path: `/` for a directory, `-> target` for a link, text for a file.
    pub(crate) fn tree(&self) -> BTreeMap<String, String> {
        let mut tree = BTreeMap::new();
        for entry in self.view.walk("").unwrap() {
            let entry = entry.unwrap();
            let text = match entry.metadata.file_type {
                FileType::Directory => "/".to_owned(),
                FileType::Symlink => format!("-> {}", self.view.read_link(&entry).unwrap().display()),
                FileType::File => {
                    let mut text = String::new();
                    self.view.open(&entry).unwrap().read_to_string(&mut text).unwrap();
                    text
                }
                other => format!("{other:?}"),
            };
            if !entry.path.as_os_str().is_empty() {
                tree.insert(entry.path.to_string_lossy().into_owned(), text);
            }
        }
        tree
    }
}

pub(crate) fn tree(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}
