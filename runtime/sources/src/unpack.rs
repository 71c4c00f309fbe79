//! Layers of an image, unpacked into snapshots: one per layer, each on the one below.
//!
//! In: a pinned image whose blobs are in the store, or in a layout. Out: its uppermost snapshot, with the image's chain id
//! as content key, so that an image unpacked before is found. Blobs are read once: decompressed on a thread of its own,
//! compared with digest, size and diff id, and unpacked in the same pass. How a layer is packed its first bytes say, as
//! with containerd: the diff id proves what comes out, and media types are often wrong.
//! What an entry replaces and where a path leads is decided by the layers below: [`layer`] writes one onto those. Several
//! layers of one image are written at once by [`aside`], each on nothing and laid over the others afterwards.
//! **Invariant:** nothing is kept of a layer that does not prove true, and no entry leads out of the tree.
//! Source: OCI image-spec layer.md; config.md, "Layer ChainID".

mod aside;
mod file;

use std::cell::RefCell;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use rb_diag::ErrorKind;
use rb_oci::{Descriptor, Digest, Hasher, MediaType};
use rb_snapshot::{ContentKey, Editor, LayerEntry, LayerMetadata, Snapshots};
use rb_store::{LayerRow, SnapshotId, Store, StoreError};

use crate::SourceError;
use crate::archive::{Archive, Limits, Member, MemberKind};
use crate::layout::{self, LayoutImage};
use crate::unpack::aside::Needs;
use crate::unpacked::Unpacked;

pub use aside::{Aside, Examined, Settled, aside};
pub use file::{ArchiveTarget, archive};

/// How a layer's owners are taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// As the layer says.
    Kept,
    /// Everything belongs to root: the only user that a process without subordinate ids knows.
    RootOnly,
}

/// A layer to unpack; its blob is in the store.
#[derive(Debug, Clone, Copy)]
pub struct PackedLayer<'a> {
    /// The blob.
    pub descriptor: &'a Descriptor,
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// What the snapshot is found by: see [`content_keys`].
    pub content: ContentKey,
}

/// What one layer may hold. Content is written with holes, so that what is bounded here is mostly time.
pub(crate) const LIMITS: Limits =
    Limits { entries: 5_000_000, content_bytes: 1 << 40, name_bytes: 512 << 20 };
/// Bytes of one uncompressed layer.
const LAYER_BYTES: u64 = LIMITS.content_bytes + LIMITS.entries * 1024;
/// What the kernel takes of a path, without its NUL.
const PATH_BYTES: usize = 4095;
/// How often the disk is asked whether there is room.
const ASK_EVERY_BYTES: u64 = 64 << 20;

/// Unpacks what of an image is not unpacked yet. Returns its uppermost snapshot and content key.
pub fn image(
    snapshots: &Snapshots,
    image: &LayoutImage,
    ownership: Ownership,
) -> Result<(Option<SnapshotId>, ContentKey), SourceError> {
    let store = snapshots.store();
    let (mut parent, mut top) = (None, ContentKey::empty());
    for ((descriptor, diff_id), content) in image.layers.iter().zip(content_keys(&image.layers, ownership)) {
        let snapshot = match store.snapshot_by_content(content.as_bytes())? {
            Some(snapshot) => snapshot,
            None => {
                keep_blob(store, &image.folder, descriptor)?;
                let packed = PackedLayer { descriptor, diff_id: *diff_id, content };
                layer(snapshots, packed, parent, ownership, &|| false)?
            }
        };
        (parent, top) = (Some(snapshot), content);
    }
    Ok((parent, top))
}

/// Returns what the tree up to each layer is found by: the chain id, known from the config alone.
pub fn content_keys(layers: &[(Descriptor, Digest)], ownership: Ownership) -> Vec<ContentKey> {
    let mut chain: Option<Digest> = None;
    let keys = layers.iter().map(|(_, diff_id)| {
        let id = match chain {
            None => *diff_id,
            Some(chain) => Digest::of(format!("{chain} {diff_id}")),
        };
        chain = Some(id);
        content_key(&id, ownership)
    });
    keys.collect()
}

fn content_key(chain: &Digest, ownership: Ownership) -> ContentKey {
    match ownership {
        Ownership::Kept => ContentKey::from_bytes(*chain.as_bytes()),
        Ownership::RootOnly => ContentKey::from_bytes(*Digest::of(format!("root only {chain}")).as_bytes()),
    }
}

/// Unpacks one layer onto `parent`. Its blob is kept, so that an image made on it exports the very layer it came from. `stopped` is asked
/// on the way: nothing is left then, and the error is `Stopped`. One found damaged in the store is taken away.
pub fn layer(
    snapshots: &Snapshots,
    packed: PackedLayer<'_>,
    parent: Option<SnapshotId>,
    ownership: Ownership,
    stopped: &dyn Fn() -> bool,
) -> Result<SnapshotId, SourceError> {
    let store = snapshots.store();
    let blob = store.blob_reader(&layout::digest_of(packed.descriptor)?)?;
    let active = snapshots.prepare(parent)?;
    write(store, packed, blob, &Editor::new(&active)?, ownership, stopped, None)?;
    let snapshot = snapshots.commit_as(active, packed.content)?;
    keep_row(store, snapshot, packed.diff_id, packed.descriptor)?;
    Ok(snapshot)
}

/// Remembers the blob that a snapshot was unpacked from.
fn keep_row(
    store: &Store,
    snapshot: SnapshotId,
    diff_id: Digest,
    descriptor: &Descriptor,
) -> Result<(), SourceError> {
    let row = LayerRow { diff_id, descriptor: descriptor.clone() };
    Ok(store.put_layer(&Store::original_layer_key(snapshot), &row)?)
}

/// Writes what `blob` holds, and proves that it is the layer. With `needs`, on nothing: `false` where that cannot be,
/// and then what was written is worth nothing.
fn write(
    store: &Store,
    packed: PackedLayer<'_>,
    blob: impl Read + Send + 'static,
    editor: &Editor<'_>,
    ownership: Ownership,
    stopped: &dyn Fn() -> bool,
    needs: Option<&mut Needs>,
) -> Result<bool, SourceError> {
    let PackedLayer { descriptor, diff_id, content: _ } = packed;
    let digest = layout::digest_of(descriptor)?;
    if !is_layer(descriptor.media_type()) {
        let media_type = descriptor.media_type().to_string();
        return Err(SourceError::MediaType { digest, media_type });
    }
    let trouble = RefCell::new(None);
    let inner = Unpacked::start(blob)
        .map_err(|source| SourceError::Read { path: store.blob_path(&digest), source })?;
    let mut tar =
        Proved { inner, hasher: Hasher::default(), store, stopped, trouble: &trouble, asked_bytes: 0 };
    let damaged = |error: io::Error| SourceError::Blob { digest, reason: error.to_string() };
    let unpacked = unpack(Archive::new(&mut tar, LIMITS), editor, digest, ownership, needs);
    let ended = unpacked.and_then(|is_whole| {
        if is_whole {
            // What stands behind the end of the archive counts too.
            io::copy(&mut tar, &mut io::sink()).map_err(damaged)?;
        }
        Ok(is_whole)
    });
    match ended {
        Err(error) => return Err(trouble.take().unwrap_or(error)),
        Ok(false) => return Ok(false),
        Ok(true) => {}
    }
    let (found, _) = tar.hasher.finish();
    if found != diff_id {
        let reason = format!("its content has diff id {found}, the image's config says {diff_id}");
        return Err(SourceError::Blob { digest, reason });
    }
    Ok(true)
}

/// Says whether a media type is that of a layer.
fn is_layer(media_type: &MediaType) -> bool {
    match media_type {
        MediaType::ImageLayer
        | MediaType::ImageLayerNonDistributable
        | MediaType::ImageLayerGzip
        | MediaType::ImageLayerNonDistributableGzip
        | MediaType::ImageLayerZstd
        | MediaType::ImageLayerNonDistributableZstd => true,
        MediaType::Other(name) => matches!(
            name.as_str(),
            "application/vnd.docker.image.rootfs.diff.tar"
                | "application/vnd.docker.image.rootfs.diff.tar.gzip"
                | "application/vnd.docker.image.rootfs.diff.tar.zstd"
                | "application/vnd.docker.image.rootfs.foreign.diff.tar"
                | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        ),
        _ => false,
    }
}

/// Copies a layer's blob out of the layout at `folder` into the store, verified, unless it is there.
pub fn keep_blob(store: &Store, folder: &Path, descriptor: &Descriptor) -> Result<(), SourceError> {
    if has_blob(store, descriptor)? {
        return Ok(());
    }
    let digest = layout::digest_of(descriptor)?;
    let mut writer = store.blob_writer()?;
    io::copy(&mut layout::open_blob(folder, descriptor)?, &mut writer).map_err(|error| {
        match error.kind() {
            io::ErrorKind::InvalidData => SourceError::Blob { digest, reason: error.to_string() },
            _ => SourceError::Read { path: layout::blob_path(folder, &digest), source: error },
        }
    })?;
    writer.commit(Some(digest))?;
    Ok(())
}

/// Says whether a layer's blob is in the store; one of another size is an error, since its name proves its content.
pub fn has_blob(store: &Store, descriptor: &Descriptor) -> Result<bool, SourceError> {
    let digest = layout::digest_of(descriptor)?;
    match store.blob_size(&digest)? {
        None => Ok(false),
        Some(size_bytes) if size_bytes == descriptor.size() => Ok(true),
        Some(size_bytes) => {
            let reason = format!("it is {size_bytes} bytes, its descriptor says {}", descriptor.size());
            Err(SourceError::Blob { digest, reason })
        }
    }
}

/// Hashes what is read of an uncompressed layer, and bounds it. What fails for a reason that is not the layer's is told
/// through `trouble`, since it passes through readers that take every failure for a bad archive.
struct Proved<'a> {
    inner: Unpacked,
    hasher: Hasher,
    store: &'a Store,
    stopped: &'a dyn Fn() -> bool,
    trouble: &'a RefCell<Option<SourceError>>,
    asked_bytes: u64,
}

impl Proved<'_> {
    fn fail(&self, error: SourceError) -> io::Error {
        let failed = io::Error::other(error.to_string());
        self.trouble.replace(Some(error));
        failed
    }

    fn go_on(&mut self) -> io::Result<()> {
        if (self.stopped)() {
            return Err(self.fail(SourceError::Stopped));
        }
        let size_bytes = self.hasher.size_bytes();
        if size_bytes - self.asked_bytes >= ASK_EVERY_BYTES {
            self.asked_bytes = size_bytes;
            self.store.check_space().map_err(|error| self.fail(error.into()))?;
        }
        if size_bytes > LAYER_BYTES {
            return Err(io::Error::other("it unpacks to more than any real layer"));
        }
        Ok(())
    }
}

impl Read for Proved<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.go_on()?;
        let count = self.inner.read(buffer).map_err(|error| match damage(&error) {
            Some(damage) => self.fail(damage.into()),
            None => error,
        })?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

/// Returns that a blob of the store was found damaged, if that is what an error says.
fn damage(error: &io::Error) -> Option<StoreError> {
    match error.get_ref()?.downcast_ref::<StoreError>()? {
        StoreError::CorruptBlob { expected, actual } => {
            Some(StoreError::CorruptBlob { expected: *expected, actual: *actual })
        }
        _ => None,
    }
}

/// Writes all entries; `false` where one cannot be written without what is below.
fn unpack<R: Read>(
    mut archive: Archive<R>,
    editor: &Editor<'_>,
    layer: Digest,
    ownership: Ownership,
    mut needs: Option<&mut Needs>,
) -> Result<bool, SourceError> {
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
        if let Some(needs) = needs.as_deref_mut() {
            if !needs.note(&path, &said, &member.kind) {
                return Ok(false);
            }
            if matches!(said, Said::Gone(_) | Said::Opaque(_)) {
                continue;
            }
        }
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
        match applied {
            Ok(()) => {}
            // With what is below it may be right.
            Err(error) if error.kind() == ErrorKind::Input && needs.is_some() => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Input => {
                return Err(refused(format!("cannot be unpacked: {error}")));
            }
            Err(error) => return Err(error.into()),
        }
    }
    writer.finish()?;
    Ok(true)
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
pub(crate) fn inside(name: &[u8]) -> Result<PathBuf, &'static str> {
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
