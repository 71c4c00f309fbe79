//! Layers of an image, unpacked into snapshots: one per layer, each on the one below.
//!
//! In: a pinned image. Out: its uppermost snapshot, with the image's chain id as content key, so that nothing is
//! hashed twice and an image unpacked before is found. Blobs are read once: decompressed, compared with digest, size
//! and diff id, and unpacked in the same pass.
//! **Invariant:** nothing is kept of a layer that does not prove true, and no entry leads out of the tree.
//! Source: OCI image-spec layer.md; config.md, "Layer ChainID".

use std::io::{self, BufReader, Read};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;
use rb_diag::ErrorKind;
use rb_oci::{Descriptor, Digest, Hasher, MediaType};
use rb_snapshot::{ContentKey, Editor, LayerEntry, LayerMetadata, Snapshots, View};
use rb_store::{LayerRow, SnapshotId, Store};

use crate::SourceError;
use crate::archive::{Archive, Limits, Member, MemberKind};
use crate::layout::{self, LayoutImage};

/// How a layer's owners are taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// As the layer says.
    Kept,
    /// Everything belongs to root: the only user that a process without subordinate ids knows.
    RootOnly,
}

/// What one layer may hold. Content is written with holes, so that what is bounded here is mostly time.
const LIMITS: Limits = Limits { entries: 5_000_000, content_bytes: 1 << 40, name_bytes: 512 << 20 };
/// Bytes of one uncompressed layer.
const LAYER_BYTES: u64 = LIMITS.content_bytes + LIMITS.entries * 1024;
/// What the kernel takes of a path, without its NUL.
const PATH_BYTES: usize = 4095;
const BUFFER_BYTES: usize = 128 << 10;

/// Unpacks what of an image is not unpacked yet. Returns its uppermost snapshot and content key.
pub fn image(
    snapshots: &Snapshots,
    image: &LayoutImage,
    ownership: Ownership,
) -> Result<(Option<SnapshotId>, ContentKey), SourceError> {
    let store = snapshots.store();
    let mut below = (None, ContentKey::empty());
    let mut chain: Option<Digest> = None;
    for (descriptor, diff_id) in &image.layers {
        let id = match chain {
            None => *diff_id,
            Some(chain) => Digest::of(format!("{chain} {diff_id}")),
        };
        chain = Some(id);
        let content = content_key(&id, ownership);
        let snapshot = match store.snapshot_by_content(content.as_bytes())? {
            Some(snapshot) => snapshot,
            None => layer(snapshots, image, descriptor, *diff_id, below.0, content, ownership)?,
        };
        below = (Some(snapshot), content);
    }
    Ok(below)
}

fn content_key(chain: &Digest, ownership: Ownership) -> ContentKey {
    match ownership {
        Ownership::Kept => ContentKey::from_bytes(*chain.as_bytes()),
        Ownership::RootOnly => ContentKey::from_bytes(*Digest::of(format!("root only {chain}")).as_bytes()),
    }
}

/// Unpacks one layer. Its blob is kept, so that an image made on it exports the very layer it came from.
fn layer(
    snapshots: &Snapshots,
    image: &LayoutImage,
    descriptor: &Descriptor,
    diff_id: Digest,
    parent: Option<SnapshotId>,
    content: ContentKey,
    ownership: Ownership,
) -> Result<SnapshotId, SourceError> {
    let store = snapshots.store();
    let digest = keep_blob(store, image, descriptor)?;
    let blob = store.blob_reader(&digest)?;
    let blob = BufReader::with_capacity(BUFFER_BYTES, blob);
    let packed: Box<dyn Read> = match packing(descriptor.media_type()) {
        Some(Packing::Plain) => Box::new(blob),
        Some(Packing::Gzip) => Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(blob))),
        None => {
            let media_type = descriptor.media_type().to_string();
            return Err(SourceError::MediaType { digest, media_type });
        }
    };
    let mut tar = Proved { inner: packed, hasher: Hasher::default() };
    let active = snapshots.prepare(parent)?;
    unpack(Archive::new(&mut tar, LIMITS), &Editor::new(&active)?, digest, ownership)?;
    let damaged = |error: io::Error| SourceError::Blob { digest, reason: error.to_string() };
    // What stands behind the end of the archive counts too.
    io::copy(&mut tar, &mut io::sink()).map_err(damaged)?;
    let (found, _) = tar.hasher.finish();
    if found != diff_id {
        let reason = format!("its content has diff id {found}, the image's config says {diff_id}");
        return Err(SourceError::Blob { digest, reason });
    }
    let size_bytes = occupied(active.upper())?;
    let snapshot = snapshots.commit_as(active, size_bytes, content)?;
    let row = LayerRow { diff_id, descriptor: descriptor.clone() };
    store.put_layer(&Store::original_layer_key(snapshot), &row)?;
    Ok(snapshot)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
}

/// Tells how layers of a media type are packed; none for those that are not known.
fn packing(media_type: &MediaType) -> Option<Packing> {
    match media_type {
        MediaType::ImageLayer | MediaType::ImageLayerNonDistributable => Some(Packing::Plain),
        MediaType::ImageLayerGzip | MediaType::ImageLayerNonDistributableGzip => Some(Packing::Gzip),
        MediaType::Other(name) => match name.as_str() {
            "application/vnd.docker.image.rootfs.diff.tar" => Some(Packing::Plain),
            "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Some(Packing::Gzip),
            _ => None,
        },
        _ => None,
    }
}

/// What the files in a directory occupy, each counted once. Reads none of them.
fn occupied(directory: &Path) -> Result<u64, SourceError> {
    let mut counted = std::collections::BTreeSet::new();
    let mut size_bytes = 0;
    for entry in View::of_directory(directory).walk("")? {
        let metadata = entry?.metadata;
        let once = metadata.is_directory()
            || metadata.links == 1
            || counted.insert((metadata.device, metadata.inode));
        size_bytes += if once { metadata.allocated_bytes } else { 0 };
    }
    Ok(size_bytes)
}

/// Copies a layer's blob into the store, verified, unless it is there.
fn keep_blob(store: &Store, image: &LayoutImage, descriptor: &Descriptor) -> Result<Digest, SourceError> {
    let digest = layout::digest_of(descriptor)?;
    if let Some(size_bytes) = store.blob_size(&digest)? {
        if size_bytes == descriptor.size() {
            return Ok(digest);
        }
        let reason = format!("it is {size_bytes} bytes, its descriptor says {}", descriptor.size());
        return Err(SourceError::Blob { digest, reason });
    }
    let mut writer = store.blob_writer()?;
    io::copy(&mut layout::open_blob(&image.folder, descriptor)?, &mut writer).map_err(|error| match error
        .kind()
    {
        io::ErrorKind::InvalidData => SourceError::Blob { digest, reason: error.to_string() },
        _ => SourceError::Read { path: layout::blob_path(&image.folder, &digest), source: error },
    })?;
    writer.commit(Some(digest))?;
    Ok(digest)
}

/// Hashes what is read of an uncompressed layer, and bounds it.
struct Proved<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Proved<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        if self.hasher.size_bytes() > LAYER_BYTES {
            return Err(io::Error::other("it unpacks to more than any real layer"));
        }
        Ok(count)
    }
}

fn unpack<R: Read>(
    mut archive: Archive<R>,
    editor: &Editor<'_>,
    layer: Digest,
    ownership: Ownership,
) -> Result<(), SourceError> {
    let damaged = |reason: String| SourceError::Blob { digest: layer, reason };
    let mut writer = editor.layer_writer();
    while let Some(member) = archive.next_member().map_err(|error| damaged(error.to_string()))? {
        let refused = |reason: String| {
            let mut entry = String::from_utf8_lossy(&member.name).into_owned();
            if let Some((end, _)) = entry.char_indices().nth(200) {
                entry.replace_range(end.., "…");
            }
            SourceError::Entry { layer, entry, reason }
        };
        let path = inside(&member.name).map_err(|reason| refused(reason.to_owned()))?;
        let said = whiteout(&path).map_err(|reason| refused(reason.to_owned()))?;
        let metadata = metadata_of(&member, ownership).map_err(|reason| refused(reason.to_owned()))?;
        let applied = match said {
            Said::Nothing => continue,
            Said::Gone(path) => writer.apply(&path, LayerEntry::Whiteout, &metadata),
            Said::Opaque(path) => writer.apply(&path, LayerEntry::Opaque, &metadata),
            Said::There => {
                let entry = entry(&member, &mut archive).map_err(|reason| refused(reason.to_owned()))?;
                writer.apply(&path, entry, &metadata)
            }
        };
        if let Some(reason) = archive.take_fault() {
            return Err(damaged(reason));
        }
        applied.map_err(|error| match error.kind() {
            ErrorKind::Input => refused(format!("cannot be unpacked: {error}")),
            ErrorKind::Build | ErrorKind::Environment | ErrorKind::Internal => error.into(),
        })?;
    }
    Ok(writer.finish()?)
}

fn entry<'a, R: Read>(member: &Member, archive: &'a mut Archive<R>) -> Result<LayerEntry<'a>, &'static str> {
    Ok(match &member.kind {
        MemberKind::File => LayerEntry::File(archive),
        MemberKind::Directory => LayerEntry::Directory,
        MemberKind::Symlink(target) if target.is_empty() => return Err("is a symlink to nothing"),
        MemberKind::Symlink(target) if target.contains(&0) => return Err("is a symlink to a NUL byte"),
        MemberKind::Symlink(target) if target.len() > PATH_BYTES => {
            return Err("is a symlink to too long a path");
        }
        MemberKind::Symlink(target) => {
            LayerEntry::Symlink(std::ffi::OsString::from_vec(target.clone()).into())
        }
        MemberKind::HardLink(target) => {
            LayerEntry::HardLink(inside(target).map_err(|_| "is a link out of the tree")?)
        }
        MemberKind::Fifo => LayerEntry::Fifo,
        MemberKind::CharDevice { major, minor } => LayerEntry::CharDevice { major: *major, minor: *minor },
        MemberKind::BlockDevice { major, minor } => LayerEntry::BlockDevice { major: *major, minor: *minor },
        MemberKind::Other(_) => return Err("is of a kind that layers do not have"),
    })
}

/// Returns a path of an archive without `.` and leading `/`, or what is wrong with it.
fn inside(name: &[u8]) -> Result<PathBuf, &'static str> {
    if name.contains(&0) {
        return Err("has a NUL byte in its name");
    }
    if name.len() > PATH_BYTES {
        return Err("has a name of more than 4095 bytes");
    }
    let mut clean = PathBuf::new();
    for part in Path::new(std::ffi::OsStr::from_bytes(name)).components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err("leads out of the tree"),
        }
    }
    Ok(clean)
}

/// What the name of an entry says, whatever kind the entry is of.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// It is an ordinary one.
    There,
    /// The path is deleted.
    Gone(PathBuf),
    /// The directory hides what is below it.
    Opaque(PathBuf),
    /// It is aufs's own bookkeeping.
    Nothing,
}

fn whiteout(path: &Path) -> Result<Said, &'static str> {
    let Some((name, parent)) = path.file_name().zip(path.parent()) else { return Ok(Said::There) };
    if name == ".wh..wh..opq" {
        return Ok(Said::Opaque(parent.to_owned()));
    }
    if path.iter().any(|part| part.as_bytes().starts_with(b".wh..wh.")) {
        return Ok(Said::Nothing);
    }
    if parent.iter().any(|part| part.as_bytes().starts_with(b".wh.")) {
        return Err("lies in something that is said to be deleted");
    }
    match name.as_bytes().strip_prefix(b".wh.") {
        None => Ok(Said::There),
        Some(b"" | b"." | b"..") => Err("says that nothing in particular is deleted"),
        Some(name) => Ok(Said::Gone(parent.join(std::ffi::OsStr::from_bytes(name)))),
    }
}

fn metadata_of(member: &Member, ownership: Ownership) -> Result<LayerMetadata, &'static str> {
    let owner = match (ownership, u32::try_from(member.uid), u32::try_from(member.gid)) {
        (Ownership::RootOnly, _, _) => None,
        // The largest number means "unchanged" to the kernel.
        (Ownership::Kept, Ok(uid), Ok(gid)) if uid != u32::MAX && gid != u32::MAX => Some((uid, gid)),
        (Ownership::Kept, _, _) => return Err("belongs to someone whose number does not fit 32 bits"),
    };
    Ok(LayerMetadata {
        mode: member.mode,
        owner,
        modified_ns: member.modified_ns,
        xattrs: member.xattrs.clone(),
    })
}

#[cfg(test)]
mod tests;
