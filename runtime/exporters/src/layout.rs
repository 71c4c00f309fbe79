//! OCI layouts: images with all they need, as a directory or one archive.
//!
//! Names go into `index.json`, as `io.containerd.image.name` and, the tag alone, `org.opencontainers.image.ref.name`.
//! An archive also holds Docker's `manifest.json`, so that `docker load` and `podman load` read it. Each blob
//! is verified as it is copied. A layout that is there is added to ([`add`]). Source: OCI image-spec image-layout.md; moby image/tarexport.

pub(crate) mod add;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use rb_oci::{Descriptor, Digest, MediaType, Platform};
use rb_snapshot::{Counted, Tally};
use rb_store::{Store, descriptor_digest};
use serde::{Deserialize, Serialize};

use crate::error::Context as _;
use crate::place::{self, Beside, follow, settle, write_archive};
use crate::tar_stream::{NO_XATTRS, Node, NodeKind, TarStream};
use crate::{ExportError, Precious, Result};

pub(crate) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

const IMAGE_NAME: &str = "io.containerd.image.name";
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Largest manifest or index.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// Index in index in index: nobody needs more.
pub(crate) const MAX_DEPTH: u32 = 4;

/// What a manifest or an index names.
#[derive(Deserialize)]
pub(crate) struct Document {
    #[serde(default)]
    pub(crate) manifests: Vec<Descriptor>,
    pub(crate) config: Option<Descriptor>,
    #[serde(default)]
    pub(crate) layers: Vec<Descriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u32,
    media_type: MediaType,
    manifests: &'a [Named],
}

/// A descriptor with its annotations in order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    media_type: MediaType,
    digest: Digest,
    size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<serde_json::Value>,
}

/// One image of Docker's `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DockerImage {
    config: String,
    pub(crate) repo_tags: BTreeSet<String>,
    layers: Vec<String>,
    #[serde(skip)]
    pub(crate) config_digest: Digest,
    #[serde(skip)]
    pub(crate) layer_digests: Vec<Digest>,
    /// Of the manifest.
    #[serde(skip)]
    digest: Digest,
}

/// Everything a layout consists of, without the blobs' bytes.
struct Layout {
    index: Vec<u8>,
    /// What the index names.
    manifests: Vec<Named>,
    docker_manifest: Vec<u8>,
    blobs: BTreeSet<Digest>,
    /// Of the blobs.
    size_bytes: u64,
}

/// Writes images as an OCI layout directory, in place of an empty directory that is there. A layout is added to: other names stay, a
/// name that is given again moves.
///
/// A link at `dest` is followed; a folder that is replaced hands its mode on. `tally` hears how far it is.
pub fn write_oci_layout(
    store: &Store,
    images: &[(Option<String>, Descriptor)],
    dest: &Path,
    tally: &Tally,
) -> Result<()> {
    write_oci_layout_without(store, images, &BTreeSet::new(), dest, tally)
}

/// Writes the same without the blobs of `known`, which need not be in the store either: a layout for who has these already.
pub fn write_oci_layout_without(
    store: &Store,
    images: &[(Option<String>, Descriptor)],
    known: &BTreeSet<Digest>,
    dest: &Path,
    tally: &Tally,
) -> Result<()> {
    let layout = plan(store, images, known)?;
    check_oci_layout(dest)?;
    let dest = settle(&follow(dest)?, None, &Precious::default())?;
    // Two that make the same layout do so one after the other.
    let making = add::lock(dest.parent().unwrap_or(Path::new("/")))?;
    check_oci_layout(&dest)?;
    place::remove_left(&dest);
    if dest.join("oci-layout").is_file() {
        drop(making);
        return add::add(store, &layout, &dest, tally);
    }
    let beside = Beside::new(&dest)?;
    tally.expect(0, layout.size_bytes);
    let blobs = beside.path().join("blobs/sha256");
    fs::create_dir_all(&blobs).context("create", &blobs)?;
    for digest in &layout.blobs {
        let path = blobs.join(digest.hex());
        let mut file = File::create_new(&path).context("create", &path)?;
        io::copy(&mut Counted::new(store.blob_reader(digest)?, tally), &mut file).context("write", &path)?;
    }
    for (name, bytes) in [("oci-layout", LAYOUT), ("index.json", &layout.index)] {
        let path = beside.path().join(name);
        fs::write(&path, bytes).context("write", &path)?;
    }
    beside.take_over_mode()?;
    beside.put_directory()
}

/// Writes images as an archive that OCI tools, `docker load` and `podman load` read. `tally` hears how far it is.
pub fn write_oci_tar(
    store: &Store,
    images: &[(Option<String>, Descriptor)],
    out: impl Write,
    tally: &Tally,
) -> Result<()> {
    write_oci_tar_without(store, images, &BTreeSet::new(), out, tally)
}

/// Writes the same without the blobs of `known`: an archive for who has these already.
pub fn write_oci_tar_without(
    store: &Store,
    images: &[(Option<String>, Descriptor)],
    known: &BTreeSet<Digest>,
    out: impl Write,
    tally: &Tally,
) -> Result<()> {
    let layout = plan(store, images, known)?;
    tally.expect(0, layout.size_bytes);
    let mut stream = TarStream::new(BufWriter::with_capacity(256 << 10, out)).counted(Some(tally));
    for directory in ["blobs", "blobs/sha256"] {
        stream.entry(&node(Path::new(directory), NodeKind::Directory, 0o755))?;
    }
    for digest in &layout.blobs {
        put_blob(&mut stream, store, digest)?;
    }
    for (name, bytes) in [
        ("index.json", &layout.index[..]),
        ("manifest.json", &layout.docker_manifest),
        ("oci-layout", LAYOUT),
    ] {
        put_bytes(&mut stream, Path::new(name), bytes)?;
    }
    stream.finish()?.flush().map_err(ExportError::Write)
}

/// Writes a blob into an archive, verified.
pub(crate) fn put_blob<W: Write>(
    stream: &mut TarStream<'_, W>,
    store: &Store,
    digest: &Digest,
) -> Result<()> {
    let path = PathBuf::from(blob_name(digest));
    let size_bytes = store.blob_size(digest)?.ok_or(rb_store::StoreError::UnknownBlob(*digest))?;
    stream.file(&node(&path, NodeKind::File { size_bytes }, 0o444), &mut store.blob_reader(digest)?)
}

/// Writes a small file into an archive.
pub(crate) fn put_bytes<W: Write>(
    stream: &mut TarStream<'_, W>,
    path: &Path,
    mut bytes: &[u8],
) -> Result<()> {
    let kind = NodeKind::File { size_bytes: bytes.len() as u64 };
    stream.file(&node(path, kind, 0o444), &mut bytes)
}

/// Writes images as an archive file, in place of a file that is there: see [`write_archive`].
pub fn write_oci_tar_file(
    store: &Store,
    images: &[(Option<String>, Descriptor)],
    dest: &Path,
    tally: &Tally,
) -> Result<()> {
    let write = |file: &File| {
        write_oci_tar(store, images, file, tally)?;
        file.sync_all().context("write", dest)
    };
    write_archive(dest, write).map(drop)
}

fn node<'a>(path: &'a Path, kind: NodeKind<'a>, mode: u32) -> Node<'a> {
    Node { path, kind, mode, uid: 0, gid: 0, modified: 0, xattrs: &NO_XATTRS }
}

/// Refuses a place that [`write_oci_layout`] does not write to, and makes nothing.
pub fn check_oci_layout(dest: &Path) -> Result<()> {
    let dest = place::check(&follow(dest)?, None, &Precious::default())?;
    let metadata = match fs::symlink_metadata(&dest) {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(error) => return Err(error).context("look at", &dest),
    };
    let is_layout = || dest.join("oci-layout").is_file();
    let is_empty = || fs::read_dir(&dest).map(|mut entries| entries.next().is_none());
    if metadata.is_dir() && (is_layout() || is_empty().context("list", &dest)?) {
        return Ok(());
    }
    Err(ExportError::InTheWay(dest))
}

/// Says what a layout of these images consists of, without the blobs of `known`.
fn plan(store: &Store, images: &[(Option<String>, Descriptor)], known: &BTreeSet<Digest>) -> Result<Layout> {
    let mut blobs = BTreeSet::new();
    let mut manifests = Vec::new();
    let mut docker = BTreeMap::<Digest, DockerImage>::new();
    let mut order = Vec::new();
    for (name, descriptor) in images {
        collect(store, descriptor, MAX_DEPTH, known, &mut blobs)?;
        manifests.push(named(name.as_deref(), descriptor)?);
        let Some(image) = docker_image(store, descriptor)? else { continue };
        let image = docker.entry(image.digest).or_insert_with(|| {
            order.push(image.digest);
            image
        });
        image.repo_tags.extend(name.as_deref().and_then(tagged));
    }
    let mut size_bytes = 0;
    for digest in &blobs {
        size_bytes += store.blob_size(digest)?.unwrap_or_default();
    }
    let docker: Vec<_> = order.iter().filter_map(|digest| docker.get(digest)).collect();
    let index = Index { schema_version: 2, media_type: MediaType::ImageIndex, manifests: &manifests };
    Ok(Layout {
        index: serde_json::to_vec(&index).map_err(ExportError::Spec)?,
        manifests,
        docker_manifest: serde_json::to_vec(&docker).map_err(ExportError::Spec)?,
        size_bytes,
        blobs,
    })
}

/// Adds a manifest or index and all it names that is not known.
fn collect(
    store: &Store,
    descriptor: &Descriptor,
    depth: u32,
    known: &BTreeSet<Digest>,
    blobs: &mut BTreeSet<Digest>,
) -> Result<()> {
    let digest = descriptor_digest(descriptor)?;
    if depth == 0 {
        return Err(ExportError::TooDeep(digest));
    }
    let Document { manifests, config, layers } = read(store, &digest)?;
    if !known.contains(&digest) {
        blobs.insert(digest);
    }
    manifests.iter().try_for_each(|child| collect(store, child, depth - 1, known, blobs))?;
    for part in config.iter().chain(&layers) {
        let digest = descriptor_digest(part)?;
        if known.contains(&digest) {
            continue;
        }
        if !store.has_blob(&digest)? {
            return Err(rb_store::StoreError::UnknownBlob(digest).into());
        }
        blobs.insert(digest);
    }
    Ok(())
}

fn read(store: &Store, digest: &Digest) -> Result<Document> {
    let bytes = store.read_blob(digest, MAX_MANIFEST_BYTES)?;
    serde_json::from_slice(&bytes)
        .map_err(|source| ExportError::Json { what: format!("manifest {digest}"), source })
}

fn named(name: Option<&str>, descriptor: &Descriptor) -> Result<Named> {
    let mut annotations: BTreeMap<String, String> =
        descriptor.annotations().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    if let Some(name) = name {
        annotations.insert(IMAGE_NAME.to_owned(), name.to_owned());
        annotations.extend(
            tagged(name)
                .and_then(|name| name.rsplit_once(':').map(|(_, tag)| tag.to_owned()))
                .map(|tag| (REF_NAME.to_owned(), tag)),
        );
    }
    let platform = descriptor.platform().as_ref().map(serde_json::to_value).transpose();
    Ok(Named {
        media_type: descriptor.media_type().clone(),
        digest: descriptor_digest(descriptor)?,
        size: descriptor.size(),
        annotations,
        platform: platform.map_err(ExportError::Spec)?,
    })
}

/// Returns a name with its tag, `latest` by default; `None` for one that is a digest.
pub(crate) fn tagged(name: &str) -> Option<String> {
    let last = name.rsplit('/').next().unwrap_or(name);
    match (last.contains('@'), last.contains(':')) {
        (true, _) => None,
        (false, true) => Some(name.to_owned()),
        (false, false) => Some(format!("{name}:latest")),
    }
}

/// Docker's view of an image: its manifest, or of an index the one for this machine, else the first.
pub(crate) fn docker_image(store: &Store, descriptor: &Descriptor) -> Result<Option<DockerImage>> {
    let mut digest = descriptor_digest(descriptor)?;
    let mut document = read(store, &digest)?;
    for _ in 0..MAX_DEPTH {
        let host = Platform::host();
        let fits = |child: &&Descriptor| {
            child.platform().as_ref().is_some_and(|platform| {
                platform.os().to_string() == host.os
                    && platform.architecture().to_string() == host.architecture
            })
        };
        let children = &document.manifests;
        let Some(child) = children.iter().find(fits).or(children.first()) else { break };
        digest = descriptor_digest(child)?;
        document = read(store, &digest)?;
    }
    let Some(config) = document.config else { return Ok(None) };
    let config_digest = descriptor_digest(&config)?;
    let digests = document.layers.iter().map(descriptor_digest);
    let layer_digests = digests.collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(Some(DockerImage {
        config: blob_name(&config_digest),
        repo_tags: BTreeSet::new(),
        layers: layer_digests.iter().map(blob_name).collect(),
        config_digest,
        layer_digests,
        digest,
    }))
}

pub(crate) fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

#[cfg(test)]
mod tests;
