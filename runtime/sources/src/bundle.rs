//! Archives of images: what `docker save`, `podman save` and `skopeo copy` write, read into the store.
//!
//! In: the bytes of a tar, plain or packed with gzip or zstd, in one pass and in any order of its entries. Out: images, each
//! with the names that the archive gives it, and all their blobs in the store. An archive with an `index.json` is an OCI
//! layout; one with a `manifest.json` alone is Docker's, and gets a manifest of ours around the very config and layers.
//! **Invariant:** names of entries are never used as paths; what an image names is there with the size and digest it says,
//! and nothing gets a name here. Counts and sizes are bounded, whatever the archive says.
//! Source: OCI image-layout.md; moby image/tarexport; containers/image docker/archive.

mod docker;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use rb_oci::index::{Document, INDEX_DEPTH, JSON_LIMIT_BYTES, LAYERS, MANIFESTS, is_index};
use rb_oci::{Descriptor, Digest, ImageIndex, ImageManifest};
use rb_store::Store;

use crate::archive::{Archive, Limits, Member, MemberKind};
use crate::{SourceError, unpack};

/// An image of an archive.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundled {
    /// What the archive calls it; maybe nothing.
    pub names: Vec<String>,
    /// Its manifest or index, which is in the store with all it names.
    pub descriptor: Descriptor,
}

/// What an archive may hold: it has few entries, since layers are one each.
const LIMITS: Limits = Limits { entries: 100_000, content_bytes: 1 << 40, name_bytes: 16 << 20 };
/// Links that lead to one another.
const LINKS: usize = 8;
const BUFFER_BYTES: usize = 128 << 10;

const INDEX: &str = "index.json";
const MANIFEST: &str = "manifest.json";
/// Files that are no blobs.
const DOCUMENTS: [&str; 4] = [INDEX, MANIFEST, "oci-layout", "repositories"];

pub(crate) fn refused(reason: impl Into<String>) -> SourceError {
    SourceError::Bundle { reason: reason.into() }
}

/// Reads an archive into the store.
pub fn load(store: &Store, input: impl Read) -> Result<Vec<Bundled>, SourceError> {
    load_named(store, input, Names::Relative)
}

/// Reads a package of buildpacks, which is an archive of a layout; that of others may have names that begin with `/`.
pub fn load_package(store: &Store, input: impl Read) -> Result<Vec<Bundled>, SourceError> {
    load_named(store, input, Names::Rooted)
}

/// How entries may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    Relative,
    Rooted,
}

fn load_named(store: &Store, input: impl Read, names: Names) -> Result<Vec<Bundled>, SourceError> {
    let contents = Contents::read(store, input, names)?;
    if let Some(bytes) = contents.documents.get(INDEX) {
        return of_layout(store, bytes);
    }
    match contents.documents.get(MANIFEST) {
        Some(bytes) => docker::images(store, &contents, bytes),
        None => Err(refused("it has neither `index.json` nor `manifest.json`")),
    }
}

/// Reads all images of a layout in a folder into the store.
pub fn load_folder(store: &Store, folder: &Path) -> Result<Vec<Bundled>, SourceError> {
    let bytes = crate::layout::index_of(folder)?;
    let index: ImageIndex =
        serde_json::from_slice(&bytes).map_err(|error| refused(format!("`{INDEX}`: {error}")))?;
    let mut seen = BTreeSet::new();
    let mut open: Vec<(Descriptor, usize)> =
        index.manifests().iter().map(|entry| (entry.clone(), INDEX_DEPTH)).collect();
    while let Some((entry, depth)) = open.pop() {
        if !seen.insert(crate::layout::digest_of(&entry)?) || seen.len() > MANIFESTS {
            continue;
        }
        match unpack::keep_blob(store, folder, &entry) {
            Ok(()) => {}
            // What is missing and should not be is told when all is here.
            Err(SourceError::MissingBlob { .. }) => continue,
            Err(error) => return Err(error),
        }
        let digest = crate::layout::digest_of(&entry)?;
        let bytes = document(store, &digest)?;
        let malformed = |error: serde_json::Error| SourceError::Blob { digest, reason: error.to_string() };
        if is_index(&entry) && depth > 0 {
            let inside: ImageIndex = serde_json::from_slice(&bytes).map_err(malformed)?;
            open.extend(inside.manifests().iter().map(|entry| (entry.clone(), depth - 1)));
        } else if !is_index(&entry) {
            let manifest: ImageManifest = serde_json::from_slice(&bytes).map_err(malformed)?;
            for part in std::iter::once(manifest.config()).chain(manifest.layers()).take(LAYERS + 1) {
                match unpack::keep_blob(store, folder, part) {
                    Ok(()) | Err(SourceError::MissingBlob { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    of_layout(store, &bytes)
}

/// Returns what unpacks a stream, as its first bytes say.
pub(crate) fn unpacking<'a>(input: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
    Ok(match Packing::of(input.fill_buf()?) {
        Packing::Plain => Box::new(input),
        Packing::Gzip => Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(input))),
        Packing::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
    })
}

/// Returns the program that packed a stream in a way that is not read here, as its first bytes say.
fn foreign(start: &[u8]) -> Option<&'static str> {
    match start {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some("xz"),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some("bzip2"),
        [b'L', b'Z', b'I', b'P', ..] => Some("lzip"),
        [0x04, 0x22, 0x4d, 0x18, ..] => Some("lz4"),
        _ => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    pub(crate) fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

/// What an archive holds: documents in memory, everything else as blobs in the store.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    documents: BTreeMap<String, Vec<u8>>,
    files: BTreeMap<String, (Digest, u64)>,
    /// Names that stand for others.
    links: BTreeMap<String, String>,
}

impl Contents {
    fn read(store: &Store, input: impl Read, names: Names) -> Result<Self, SourceError> {
        let damaged = |error: io::Error| refused(format!("it is damaged: {error}"));
        let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
        if let Some(packing) = foreign(input.fill_buf().map_err(damaged)?) {
            return Err(SourceError::Packing { packing });
        }
        let mut archive = Archive::new(unpacking(input).map_err(damaged)?, LIMITS);
        let mut contents = Self::default();
        while let Some(member) = archive.next_member().map_err(damaged)? {
            let name = entry_name(&member, names)?;
            let taken = contents.documents.contains_key(&name)
                || contents.files.contains_key(&name)
                || contents.links.contains_key(&name);
            match &member.kind {
                MemberKind::Directory => {}
                // The same name twice is how an archive shows one thing to one reader and another to the next.
                _ if taken => return Err(refused(format!("entry `{}` is there twice", shown(&name)))),
                MemberKind::File if DOCUMENTS.contains(&name.as_str()) => {
                    let mut bytes = Vec::new();
                    (&mut archive).take(JSON_LIMIT_BYTES + 1).read_to_end(&mut bytes).map_err(damaged)?;
                    if bytes.len() as u64 > JSON_LIMIT_BYTES {
                        return Err(refused(format!("`{name}` is larger than 4 MiB")));
                    }
                    contents.documents.insert(name, bytes);
                }
                // What docker wrote beside each layer, before it wrote `manifest.json`.
                MemberKind::File if name.ends_with("/VERSION") || name.ends_with("/json") => {}
                MemberKind::File => {
                    let kept = keep(store, &name, &mut archive)?;
                    contents.files.insert(name, kept);
                }
                MemberKind::Symlink(target) => {
                    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                    let target = joined(folder, target).ok_or_else(|| leads_out(&name))?;
                    contents.links.insert(name, target);
                }
                MemberKind::HardLink(target) => {
                    let target = joined("", target).ok_or_else(|| leads_out(&name))?;
                    contents.links.insert(name, target);
                }
                MemberKind::Fifo
                | MemberKind::CharDevice { .. }
                | MemberKind::BlockDevice { .. }
                | MemberKind::Other(_) => {
                    return Err(refused(format!(
                        "entry `{}` is neither file, folder nor link",
                        shown(&name)
                    )));
                }
            }
        }
        Ok(contents)
    }

    /// Finds a file by its name, also through links.
    pub(crate) fn file(&self, name: &str) -> Result<(Digest, u64), SourceError> {
        let missing = || refused(format!("it has no file `{}`, which its manifest names", shown(name)));
        let mut at = joined("", name.as_bytes()).ok_or_else(missing)?;
        for _ in 0..LINKS {
            if let Some(found) = self.files.get(&at) {
                return Ok(*found);
            }
            at = self.links.get(&at).ok_or_else(missing)?.clone();
        }
        Err(refused(format!("the link `{}` leads to too many others", shown(name))))
    }
}

fn leads_out(name: &str) -> SourceError {
    refused(format!("the link `{}` leads out of it", shown(name)))
}

/// A stranger's name for people: one short line.
pub(crate) fn shown(name: &str) -> String {
    name.chars().take(200).flat_map(char::escape_debug).collect()
}

/// Returns the name of an entry as others refer to it.
fn entry_name(member: &Member, names: Names) -> Result<String, SourceError> {
    let text = String::from_utf8_lossy(&member.name).into_owned();
    let text = match names {
        Names::Relative => text,
        Names::Rooted => text.trim_start_matches('/').to_owned(),
    };
    // One that leads elsewhere is no image of anybody's.
    let leads_away = || refused(format!("entry `{}` leads out of it", shown(&text)));
    if text.starts_with('/') || text.split('/').any(|part| part == "..") {
        return Err(leads_away());
    }
    joined("", text.as_bytes()).ok_or_else(leads_away)
}

/// Joins two names in the archive; none where that leads out of it.
fn joined(folder: &str, name: &[u8]) -> Option<String> {
    let name = String::from_utf8_lossy(name).into_owned();
    if name.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Writes a file into the store; one in the place of a blob must be that blob.
fn keep(store: &Store, name: &str, content: &mut impl Read) -> Result<(Digest, u64), SourceError> {
    let expected = match name.strip_prefix("blobs/sha256/") {
        Some(hex) => {
            let digest = format!("sha256:{hex}").parse::<Digest>();
            Some(digest.map_err(|_| refused(format!("entry `{}` is no blob", shown(name))))?)
        }
        None => None,
    };
    let mut writer = store.blob_writer()?;
    io::copy(content, &mut writer).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            refused(format!("it is damaged: {error}"))
        }
        _ => SourceError::Read { path: name.into(), source: error },
    })?;
    writer.commit(expected).map_err(|error| match (error, expected) {
        (rb_store::StoreError::DigestMismatch { actual, .. }, Some(digest)) => {
            SourceError::Blob { digest, reason: format!("its content has digest {actual}") }
        }
        (error, _) => error.into(),
    })
}

/// Reads a document of the store.
pub(crate) fn document(store: &Store, digest: &Digest) -> Result<Vec<u8>, SourceError> {
    store.read_blob(digest, JSON_LIMIT_BYTES).map_err(|error| match error {
        rb_store::StoreError::UnknownBlob(digest) => {
            SourceError::Blob { digest, reason: "it is missing in the archive".to_owned() }
        }
        error => error.into(),
    })
}

/// Returns the images of an archive that is a layout.
fn of_layout(store: &Store, bytes: &[u8]) -> Result<Vec<Bundled>, SourceError> {
    let index: ImageIndex =
        serde_json::from_slice(bytes).map_err(|error| refused(format!("`{INDEX}`: {error}")))?;
    if index.manifests().len() > MANIFESTS {
        return Err(refused("its index names more than a thousand images"));
    }
    let mut images: Vec<Bundled> = Vec::new();
    let mut left = MANIFESTS;
    for entry in index.manifests() {
        if !check(store, entry, INDEX_DEPTH, &mut left)? {
            let digest = crate::layout::digest_of(entry)?;
            return Err(SourceError::Blob { digest, reason: "it is missing in the archive".to_owned() });
        }
        let names = crate::layout::full_names(entry);
        match images.iter_mut().find(|image| image.descriptor.digest() == entry.digest()) {
            Some(image) => image.names.extend(names),
            None => {
                let mut descriptor = entry.clone();
                descriptor.set_annotations(None);
                images.push(Bundled { names, descriptor });
            }
        }
    }
    for image in &mut images {
        image.names.sort();
        image.names.dedup();
    }
    Ok(images)
}

/// Checks that a manifest is there with all it names. False where the manifest itself is not: an index may name platforms
/// that nobody saved, but not those alone.
fn check(store: &Store, entry: &Descriptor, depth: usize, left: &mut usize) -> Result<bool, SourceError> {
    let digest = crate::layout::digest_of(entry)?;
    let wrong = |digest, reason: &str| Err(SourceError::Blob { digest, reason: reason.to_owned() });
    *left = match left.checked_sub(1) {
        Some(left) => left,
        None => return wrong(digest, "it comes after a thousand others in the indexes of one archive"),
    };
    let Some(size) = store.blob_size(&digest)? else { return Ok(false) };
    if size != entry.size() {
        return wrong(digest, &format!("it is {size} bytes, its descriptor says {}", entry.size()));
    }
    let bytes = document(store, &digest)?;
    let malformed = |error: serde_json::Error| SourceError::Blob { digest, reason: error.to_string() };
    let found = Document::of(&bytes);
    match (is_index(entry), found) {
        (true, Ok(Document::Index)) => {
            if depth == 0 {
                return wrong(digest, "indexes lie too deep in one another");
            }
            let inside: ImageIndex = serde_json::from_slice(&bytes).map_err(malformed)?;
            let mut any = inside.manifests().is_empty();
            for entry in inside.manifests() {
                any |= check(store, entry, depth - 1, left)?;
            }
            Ok(any)
        }
        (false, Ok(Document::Manifest)) => {
            let manifest: ImageManifest = serde_json::from_slice(&bytes).map_err(malformed)?;
            if manifest.layers().len() > LAYERS {
                return wrong(digest, "it has more layers than can be");
            }
            for part in std::iter::once(manifest.config()).chain(manifest.layers()) {
                let blob = crate::layout::digest_of(part)?;
                match store.blob_size(&blob)? {
                    Some(size) if size == part.size() => {}
                    Some(size) => {
                        return wrong(
                            blob,
                            &format!("it is {size} bytes, its descriptor says {}", part.size()),
                        );
                    }
                    // Layers that may not be passed on lie elsewhere.
                    None if part.urls().as_ref().is_some_and(|urls| !urls.is_empty()) => {}
                    None => return wrong(blob, "it is missing in the archive"),
                }
            }
            Ok(true)
        }
        (_, Ok(_)) => wrong(digest, "it is not what its media type says"),
        (_, Err(error)) => wrong(digest, &error.to_string()),
    }
}

#[cfg(test)]
mod tests;
