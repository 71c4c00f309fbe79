//! Images in an OCI layout folder of the user's: find, verify, read.
//!
//! In: a folder, a tag and a platform. Out: a [`LayoutImage`]: manifest digest, config, layers.
//! **Invariant:** nothing is believed that its digest does not prove; sizes, depths and counts are bounded before
//! anything is read; only regular files are opened, so that no link, pipe or device of a stranger's folder has an effect.
//! Source: OCI image-layout.md, image-index.md, manifest.md.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rb_oci::index::{
    self, Document, INDEX_DEPTH, JSON_LIMIT_BYTES, LAYERS, MANIFESTS, closest, config_platform, is_index,
    named_platform,
};
use rb_oci::{Descriptor, Digest, Hasher, ImageConfig, ImageIndex, ImageManifest, Platform};

use crate::SourceError;
use crate::files::open_regular;

/// An image of a layout, pinned.
#[derive(Debug, Clone)]
pub struct LayoutImage {
    /// The layout's folder.
    pub folder: PathBuf,
    /// Digest of the manifest.
    pub digest: Digest,
    /// Its config.
    pub config: ImageConfig,
    /// Its layers, lowest first, each with the digest of its uncompressed tar.
    pub layers: Vec<(Descriptor, Digest)>,
}

/// Which image of a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The only image, or the one with this name.
    Tag(Option<String>),
    /// The manifest or index with this digest.
    Digest(Digest),
}

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// Returns what a name stands for in the layout at `folder`, or its only image: a manifest or an index.
pub fn entry(folder: &Path, name: Option<&str>) -> Result<Descriptor, SourceError> {
    let index: ImageIndex = layout_file(folder, "index.json")?;
    let wanted = Wanted::Tag(name.map(ToOwned::to_owned));
    let mut entries = named(folder, index.manifests(), &wanted)?;
    entries.dedup_by_key(|entry| entry.digest().to_string());
    match entries.as_slice() {
        [only] => Ok(only.clone()),
        _ => {
            let have = entries.iter().map(|entry| entry.digest().to_string()).collect();
            Err(SourceError::SeveralImages { path: folder.to_owned(), have })
        }
    }
}

/// Finds an image for a platform in the layout at `folder`.
pub fn find(folder: &Path, wanted: &Wanted, platform: &Platform) -> Result<LayoutImage, SourceError> {
    #[derive(serde::Deserialize)]
    struct Mark {
        #[serde(rename = "imageLayoutVersion")]
        version: String,
    }
    let Mark { version } = layout_file(folder, "oci-layout")?;
    if !version.starts_with("1.") {
        let reason = format!("its version is `{version}`, and only 1.0.0 is known");
        return Err(SourceError::NotALayout { path: folder.to_owned(), reason });
    }
    let index: ImageIndex = layout_file(folder, "index.json")?;
    let entries = named(folder, index.manifests(), wanted)?;
    choose(folder, entries, platform)
}

/// Finds an image for a platform behind a manifest or index whose blobs lie in `folder`. None if blobs that tell are not
/// there; of an index no more is read than it takes.
pub fn known(
    folder: &Path,
    root: &Descriptor,
    platform: &Platform,
) -> Result<Option<LayoutImage>, SourceError> {
    match choose(folder, vec![root.clone()], platform) {
        Ok(image) => Ok(Some(image)),
        Err(SourceError::MissingBlob { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads one of the two files that make a folder a layout.
fn layout_file<T: serde::de::DeserializeOwned>(folder: &Path, name: &str) -> Result<T, SourceError> {
    serde_json::from_slice(&layout_bytes(folder, name)?).map_err(|error| SourceError::NotALayout {
        path: folder.to_owned(),
        reason: format!("`{name}`: {error}"),
    })
}

/// Returns the bytes of a layout's index.
pub(crate) fn index_of(folder: &Path) -> Result<Vec<u8>, SourceError> {
    layout_bytes(folder, "index.json")
}

fn layout_bytes(folder: &Path, name: &str) -> Result<Vec<u8>, SourceError> {
    let path = folder.join(name);
    let not_a_layout = |reason: String| SourceError::NotALayout { path: folder.to_owned(), reason };
    let file = match open_regular(&path) {
        Ok(file) => file,
        Err(error) => {
            return Err(match error.kind() {
                io::ErrorKind::NotFound => not_a_layout(format!("it has no file `{name}`")),
                io::ErrorKind::InvalidInput | io::ErrorKind::NotADirectory => {
                    not_a_layout(format!("`{name}`: {error}"))
                }
                _ => SourceError::Read { path, source: error },
            });
        }
    };
    let mut bytes = Vec::new();
    let read = file.take(JSON_LIMIT_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|source| SourceError::Read { path, source })?;
    if bytes.len() as u64 > JSON_LIMIT_BYTES {
        return Err(not_a_layout(format!("`{name}` is larger than 4 MiB")));
    }
    Ok(bytes)
}

/// Opens the blob of a descriptor; the reader fails at its end when size or digest differ.
pub fn open_blob(folder: &Path, descriptor: &Descriptor) -> Result<VerifiedReader<File>, SourceError> {
    let digest = digest_of(descriptor)?;
    let path = blob_path(folder, &digest);
    let file = open_regular(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => SourceError::MissingBlob { digest, folder: folder.to_owned() },
        io::ErrorKind::InvalidInput => SourceError::Blob { digest, reason: error.to_string() },
        _ => SourceError::Read { path, source: error },
    })?;
    Ok(VerifiedReader { inner: file, hasher: Hasher::default(), digest, left: descriptor.size() })
}

/// Returns the digest of a descriptor, if it is one that we can check.
pub fn digest_of(descriptor: &Descriptor) -> Result<Digest, SourceError> {
    index::digest_of(descriptor).map_err(|_| {
        let text = descriptor.digest().to_string();
        SourceError::Blob { digest: Digest::of(&text), reason: format!("`{text}` is not a sha256 digest") }
    })
}

/// A reader that proves what it read: size and sha256 are compared at the end of the stream.
#[derive(Debug)]
pub struct VerifiedReader<R> {
    inner: R,
    hasher: Hasher,
    digest: Digest,
    left: u64,
}

impl<R: Read> Read for VerifiedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let invalid = |message: String| io::Error::new(io::ErrorKind::InvalidData, message);
        self.left = self
            .left
            .checked_sub(count as u64)
            .ok_or_else(|| invalid(format!("blob {} is longer than its descriptor says", self.digest)))?;
        self.hasher.update(&buffer[..count]);
        if count == 0 && !buffer.is_empty() {
            if self.left != 0 {
                return Err(invalid(format!("blob {} ends {} bytes early", self.digest, self.left)));
            }
            if self.hasher.clone().finish().0 != self.digest {
                return Err(invalid(format!("blob {} has other bytes than its digest says", self.digest)));
            }
        }
        Ok(count)
    }
}

/// Returns where a layout has a blob.
pub fn blob_path(folder: &Path, digest: &Digest) -> PathBuf {
    folder.join("blobs").join("sha256").join(digest.hex())
}

/// Reads a blob to its end: an error where it is not what its descriptor says.
pub fn prove_blob(folder: &Path, descriptor: &Descriptor) -> Result<(), SourceError> {
    let digest = digest_of(descriptor)?;
    let read = io::copy(&mut open_blob(folder, descriptor)?, &mut io::sink());
    read.map(|_| ()).map_err(|error| SourceError::Blob { digest, reason: error.to_string() })
}

/// Reads a small blob whole and verified.
fn read_blob(folder: &Path, descriptor: &Descriptor) -> Result<Vec<u8>, SourceError> {
    let digest = digest_of(descriptor)?;
    if descriptor.size() > JSON_LIMIT_BYTES {
        let reason = format!("{} bytes are too many for a manifest or config", descriptor.size());
        return Err(SourceError::Blob { digest, reason });
    }
    let mut bytes = Vec::new();
    open_blob(folder, descriptor)?
        .read_to_end(&mut bytes)
        .map_err(|error| SourceError::Blob { digest, reason: error.to_string() })?;
    Ok(bytes)
}

fn parse<T: serde::de::DeserializeOwned>(digest: Digest, bytes: &[u8]) -> Result<T, SourceError> {
    serde_json::from_slice(bytes).map_err(|error| SourceError::Blob { digest, reason: error.to_string() })
}

/// Reads an index; the same bytes must not pass for a manifest elsewhere.
fn read_index(folder: &Path, descriptor: &Descriptor) -> Result<ImageIndex, SourceError> {
    let (digest, bytes) = (digest_of(descriptor)?, read_blob(folder, descriptor)?);
    expect_document(digest, &bytes, Document::Index)?;
    parse(digest, &bytes)
}

/// Refuses what is not, or not only, what its place says.
fn expect_document(digest: Digest, bytes: &[u8], expected: Document) -> Result<(), SourceError> {
    let refused = |reason: String| Err(SourceError::Blob { digest, reason });
    match Document::of(bytes) {
        Ok(found) if found == expected => Ok(()),
        Ok(Document::Index) => refused("it is an index, and a manifest was expected".to_owned()),
        Ok(Document::Manifest) => refused("it is a manifest, and an index was expected".to_owned()),
        Ok(Document::Schema1) => refused("it is a manifest of Docker's old schema 1".to_owned()),
        Err(error) => refused(error.to_string()),
    }
}

fn names(descriptor: &Descriptor) -> impl Iterator<Item = &String> {
    let annotations = descriptor.annotations().as_ref();
    [CONTAINERD_NAME, REF_NAME].into_iter().filter_map(move |key| annotations?.get(key))
}

/// Returns the whole names that a layout's index gives an image; a tag alone is none.
pub fn full_names(descriptor: &Descriptor) -> Vec<String> {
    names(descriptor).filter(|name| name.contains([':', '/'])).cloned().collect()
}

/// Keeps the entries of the layout's index that the user can mean: those of one image.
fn named(folder: &Path, all: &[Descriptor], wanted: &Wanted) -> Result<Vec<Descriptor>, SourceError> {
    let (entries, wanted): (Vec<Descriptor>, _) = match wanted {
        Wanted::Tag(None) => (all.to_vec(), "at all".to_owned()),
        Wanted::Tag(Some(tag)) => {
            let suffix = format!(":{tag}");
            let fits = |name: &String| name == tag || name.ends_with(&suffix);
            (all.iter().filter(|entry| names(entry).any(fits)).cloned().collect(), format!("called `{tag}`"))
        }
        // It may lie behind an index of the layout.
        Wanted::Digest(digest) => {
            let text = digest.to_string();
            let fits = |entry: &Descriptor| entry.digest().to_string() == text;
            (descend(folder, all.to_vec(), fits)?, format!("with digest {digest}"))
        }
    };
    let have = || {
        let called = |entry: &Descriptor| {
            names(entry).next().map_or_else(|| entry.digest().to_string(), |name| format!("`{name}`"))
        };
        all.iter().map(called).collect::<BTreeSet<_>>().into_iter().collect()
    };
    let several: BTreeSet<_> = entries.iter().filter_map(|entry| names(entry).next()).collect();
    if entries.is_empty() {
        return Err(SourceError::NoSuchImage { path: folder.to_owned(), wanted, have: have() });
    }
    let digests: BTreeSet<_> = entries.iter().map(|entry| entry.digest().to_string()).collect();
    if several.len() > 1 && digests.len() > 1 {
        return Err(SourceError::SeveralImages { path: folder.to_owned(), have: have() });
    }
    Ok(entries)
}

/// Goes through descriptors and, unless they fit themselves, what is in indexes among them; returns those that fit.
///
/// Every index is read once for each platform that it is named with.
fn descend(
    folder: &Path,
    start: Vec<Descriptor>,
    fits: impl Fn(&Descriptor) -> bool,
) -> Result<Vec<Descriptor>, SourceError> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    let mut open: Vec<_> = start.into_iter().rev().map(|entry| (entry, INDEX_DEPTH)).collect();
    while let Some((entry, depth)) = open.pop() {
        let digest = digest_of(&entry)?;
        // One manifest may stand for several platforms.
        if !seen.insert((digest, entry.platform().is_some(), named_platform(&entry))) {
            continue;
        }
        let refused = |reason: &str| SourceError::Blob { digest, reason: reason.to_owned() };
        if seen.len() > MANIFESTS {
            return Err(refused("it comes after a thousand others in the indexes of one image"));
        }
        if fits(&entry) {
            found.push(entry);
        } else if is_index(&entry) {
            if depth == 0 {
                return Err(refused("indexes lie too deep in one another"));
            }
            let inside = read_index(folder, &entry)?;
            open.extend(inside.manifests().iter().rev().map(|entry| (entry.clone(), depth - 1)));
        }
    }
    Ok(found)
}

/// Picks the manifest for a platform: one for that very platform before one for an older processor of its kind. Where
/// no platform is named, the config tells; but a manifest that is all there is to choose from is what the user means.
fn choose(folder: &Path, entries: Vec<Descriptor>, platform: &Platform) -> Result<LayoutImage, SourceError> {
    let manifests = descend(folder, entries, |entry| !is_index(entry))?;
    if let [only] = manifests.as_slice()
        && only.platform().is_none()
    {
        return Ok(load(folder, only)?.1);
    }
    let mut found = Vec::new();
    for manifest in manifests {
        let platform = match manifest.platform() {
            Some(_) => named_platform(&manifest),
            None => config_platform(&load(folder, &manifest)?.1.config),
        };
        found.extend(platform.map(|platform| (platform, manifest)));
    }
    let have = found.iter().map(|(platform, _)| platform.to_string()).collect();
    match closest(platform, found) {
        Some(manifest) => Ok(load(folder, &manifest)?.1),
        None => {
            let wanted = format!("for {platform}");
            Err(SourceError::NoSuchImage { path: folder.to_owned(), wanted, have })
        }
    }
}

/// Reads the manifest and config of a descriptor, verified.
pub fn load(folder: &Path, descriptor: &Descriptor) -> Result<(ImageManifest, LayoutImage), SourceError> {
    let (digest, bytes) = (digest_of(descriptor)?, read_blob(folder, descriptor)?);
    let refused = |reason: String| SourceError::Blob { digest, reason };
    expect_document(digest, &bytes, Document::Manifest)?;
    let manifest: ImageManifest = parse(digest, &bytes)?;
    let config: ImageConfig = parse(digest_of(manifest.config())?, &read_blob(folder, manifest.config())?)?;
    let (layers, diff_ids) = (manifest.layers(), &config.rootfs.diff_ids);
    if layers.len() != diff_ids.len() {
        let (layers, named) = (layers.len(), diff_ids.len());
        return Err(refused(format!("it has {layers} layers and its config names {named}")));
    }
    if layers.len() > LAYERS {
        return Err(refused(format!("it has {} layers, and no more than {LAYERS} can be", layers.len())));
    }
    let layers = layers.iter().cloned().zip(diff_ids.iter().copied()).collect();
    let image = LayoutImage { folder: folder.to_owned(), digest, config, layers };
    Ok((manifest, image))
}
