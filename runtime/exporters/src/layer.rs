//! Layers: a snapshot's own changes as a tar that is the same on every machine.
//!
//! In: the diff of a snapshot, and a compression. Out: a blob, its descriptor and its DiffID, remembered in the store under
//! the snapshot and under the DiffID, so that nothing is compressed twice. Entries are sorted bytewise by path, so a directory comes before what is in it. Deletions become
//! `.wh.<name>`, a directory that hides what is below it is followed by its `.wh..wh..opq`. Times are cut to seconds
//! and clamped to the epoch. Sockets are left out, as a tar cannot hold them; so is the root directory itself.
//! Source: OCI image-spec layer.md.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, Read as _, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rb_oci::{Compression, Descriptor, Digest, Hasher, MediaTypes};
use rb_snapshot::{
    Change, ChangeKind, Counted, Diff, Entry, FileType, Follow, SnapshotId, Snapshots, Tally, View,
};
use rb_store::{LayerRow, Store};

use crate::compress::{Encoder, decoder};
use crate::image::describe;
use crate::tar_stream::{NO_XATTRS, Node, NodeKind, TarStream, unrepresentable};
use crate::{Epoch, ExportError, Result};

/// Changes whenever the same snapshot would be packed into other bytes.
const PACKING: u32 = 2;

const WHITEOUT: &[u8] = b".wh.";

/// A packed layer, among the blobs of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The compressed blob.
    pub descriptor: Descriptor,
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
}

/// How layers are packed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Packing<'a> {
    /// The compression of what is packed here.
    pub compression: Compression,
    /// A layer that came compressed in another way is compressed anew; otherwise it stays as it came.
    pub force: bool,
    /// Set from elsewhere, it ends the work with [`ExportError::Cancelled`].
    pub cancelled: Option<&'a AtomicBool>,
    /// Is told how many bytes there are to pack, and how far it is.
    pub tally: Option<&'a Tally>,
}

/// Returns how many threads pack a layer. The kernel is asked only where one is packed: it takes a dozen calls to say.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Packs what a snapshot changed against its parent, with what it continues; `None` where that is nothing. A snapshot that was unpacked from
/// a layer gives that very layer while its blob is there. Uses all cores.
pub fn pack_layer(
    store: &Store,
    snapshots: &Snapshots,
    id: SnapshotId,
    epoch: Epoch,
    packing: Packing<'_>,
) -> Result<Option<Layer>> {
    if let Some(original) = store.layer(&Store::original_layer_key(id))? {
        let layer = Layer { descriptor: original.descriptor, diff_id: original.diff_id };
        return repack(store, layer, packing, threads()).map(Some);
    }
    // The row of the snapshot tells the DiffID, of whichever compression its blob is.
    let key = Digest::of(format!("layer of snapshot {id}: packing {PACKING}, epoch {}", epoch.0));
    if let Some(row) = store.layer(&key)?
        && let Some(packed) = store.layer(&packed_key(&row.diff_id, packing.compression))?
    {
        return Ok(Some(Layer { descriptor: packed.descriptor, diff_id: packed.diff_id }));
    }
    let diff = snapshots.diff_of(id)?;
    if !diff.changes.iter().any(is_packed) {
        return Ok(None);
    }
    let threads = threads();
    let view = snapshots.layer_view(id)?;
    let layer = pack_diff(store, &diff, &view, epoch, packing, threads)?;
    let row = LayerRow { diff_id: layer.diff_id, descriptor: layer.descriptor.clone() };
    store.put_layer(&key, &row)?;
    store.put_layer(&packed_key(&layer.diff_id, packing.compression), &row)?;
    Ok(Some(layer))
}

/// Returns the key of the layer with a DiffID in the compression that is made here.
fn packed_key(diff_id: &Digest, compression: Compression) -> Digest {
    let how = match compression {
        Compression::Uncompressed => "uncompressed".to_owned(),
        Compression::Gzip { level } => format!("gzip {level}"),
        Compression::Zstd { level } => format!("zstd {level}"),
    };
    Digest::of(format!("layer {diff_id}: packing {PACKING}, {how}"))
}

/// Gives a layer that came from elsewhere another compression, where that is asked for and it has another one.
fn repack(store: &Store, layer: Layer, packing: Packing<'_>, threads: usize) -> Result<Layer> {
    let Some(from) = Compression::of_media_type(layer.descriptor.media_type()) else { return Ok(layer) };
    if !packing.force || from.is_alike(packing.compression) {
        return Ok(layer);
    }
    let key = packed_key(&layer.diff_id, packing.compression);
    if let Some(row) = store.layer(&key)? {
        return Ok(Layer { descriptor: row.descriptor, diff_id: row.diff_id });
    }
    let digest = rb_store::descriptor_digest(&layer.descriptor)?;
    let unreadable = |source| ExportError::Layer { digest, source };
    let nobody = Tally::default();
    let tally = packing.tally.unwrap_or(&nobody);
    tally.expect(0, layer.descriptor.size());
    let mut blob = Counted::new(store.blob_reader(&digest)?, tally);
    let mut out = sink(store, packing, threads)?;
    let mut plain = decoder(from, &mut blob).map_err(unreadable)?;
    let mut buffer = vec![0; 128 << 10];
    loop {
        match plain.read(&mut buffer).map_err(unreadable)? {
            0 => break,
            count => out.write_all(&buffer[..count]).map_err(ExportError::Write)?,
        }
    }
    drop(plain);
    // What a decoder leaves unread decides whether the blob is whole.
    io::copy(&mut blob, &mut io::sink()).map_err(unreadable)?;
    let repacked = settle(out, packing)?;
    if repacked.diff_id != layer.diff_id {
        return Err(ExportError::DiffId { layer: digest, expected: layer.diff_id, actual: repacked.diff_id });
    }
    let row = LayerRow { diff_id: repacked.diff_id, descriptor: repacked.descriptor.clone() };
    store.put_layer(&key, &row)?;
    Ok(repacked)
}

/// Packs a diff whose files are read from `view`.
pub(crate) fn pack_diff(
    store: &Store,
    diff: &Diff,
    view: &View,
    epoch: Epoch,
    packing: Packing<'_>,
    threads: usize,
) -> Result<Layer> {
    if let Some(tally) = packing.tally {
        tally.expect(0, diff.changes.iter().map(content_bytes).sum());
    }
    let mut stream = TarStream::new(sink(store, packing, threads)?).counted(packing.tally);
    let written = write_diff(&mut stream, diff, view, epoch).and_then(|()| stream.finish());
    written.and_then(|out| settle(out, packing)).map_err(|error| match packing.cancelled {
        Some(cancelled) if cancelled.load(Ordering::Relaxed) => ExportError::Cancelled,
        Some(_) | None => error,
    })
}

/// A tar on its way into a blob of the store.
pub(crate) type Sink<'a> = Hashed<'a, Encoder<rb_store::BlobWriter>>;

pub(crate) fn sink<'a>(store: &Store, packing: Packing<'a>, threads: usize) -> Result<Sink<'a>> {
    let out = Encoder::new(packing.compression, store.blob_writer()?, threads);
    Ok(Hashed { hasher: Hasher::default(), out, cancelled: packing.cancelled })
}

pub(crate) fn settle(sink: Sink<'_>, packing: Packing<'_>) -> Result<Layer> {
    let Hashed { hasher, out, cancelled: _ } = sink;
    let blob = out.finish().map_err(ExportError::Write)?;
    let (digest, size_bytes) = blob.commit(None)?;
    let media_type = packing.compression.media_type(MediaTypes::Oci);
    Ok(Layer { descriptor: describe(&media_type, &digest, size_bytes)?, diff_id: hasher.finish().0 })
}

/// Passes bytes on and hashes them, until it is told to stop.
pub(crate) struct Hashed<'a, W> {
    hasher: Hasher,
    out: W,
    cancelled: Option<&'a AtomicBool>,
}

impl<W: Write> Write for Hashed<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.cancelled.is_some_and(|cancelled| cancelled.load(Ordering::Relaxed)) {
            return Err(io::Error::other("no longer wanted"));
        }
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn is_packed(change: &Change) -> bool {
    let is_root = change.path.as_os_str().is_empty();
    match change.kind {
        ChangeKind::Socket => false,
        ChangeKind::OpaqueDir => true,
        ChangeKind::Dir
        | ChangeKind::File { .. }
        | ChangeKind::Symlink { .. }
        | ChangeKind::HardLink { .. }
        | ChangeKind::Fifo
        | ChangeKind::CharDevice { .. }
        | ChangeKind::BlockDevice { .. }
        | ChangeKind::Whiteout => !is_root,
    }
}

/// Returns how many bytes of content are packed of a change.
fn content_bytes(change: &Change) -> u64 {
    if let ChangeKind::File { size_bytes, .. } = change.kind { size_bytes } else { 0 }
}

fn write_diff<W: Write>(stream: &mut TarStream<'_, W>, diff: &Diff, view: &View, epoch: Epoch) -> Result<()> {
    let mut changes: Vec<&Change> = diff.changes.iter().filter(|change| is_packed(change)).collect();
    changes.sort_by(|a, b| a.path.as_os_str().cmp(b.path.as_os_str()));
    let linked: BTreeSet<&Path> = changes.iter().filter_map(|change| link_target(change)).collect();
    // Of the names of one file, the first in our order carries the content.
    let mut leaders = BTreeMap::<&Path, &Path>::new();
    for change in changes {
        if change.kind == ChangeKind::Whiteout {
            stream.entry(&marker(&whiteout_path(&change.path)?, epoch))?;
            continue;
        }
        refuse_reserved_name(&change.path)?;
        let group = link_target(change).unwrap_or(&change.path);
        let leader = leaders.get(group).copied();
        if leader.is_none() && linked.contains(group) {
            leaders.insert(group, &change.path);
        }
        if !change.path.as_os_str().is_empty() {
            write_change(stream, change, leader, view, epoch)?;
        }
        if change.kind == ChangeKind::OpaqueDir {
            stream.entry(&marker(&change.path.join(".wh..wh..opq"), epoch))?;
        }
    }
    Ok(())
}

fn link_target(change: &Change) -> Option<&Path> {
    if let ChangeKind::HardLink { to } = &change.kind { Some(to) } else { None }
}

fn write_change<W: Write>(
    stream: &mut TarStream<'_, W>,
    change: &Change,
    leader: Option<&Path>,
    view: &View,
    epoch: Epoch,
) -> Result<()> {
    let entry =
        view.lookup(&change.path, Follow::No)?.ok_or_else(|| ExportError::NotFound(change.path.clone()))?;
    match &change.metadata {
        Some(metadata) => write_entry(stream, view, &entry, &change.path, leader, &metadata.xattrs, epoch),
        None => write_entry(stream, view, &entry, &change.path, leader, &view.xattrs(&entry)?, epoch),
    }
}

/// Writes one entry of a tree under the name `path`; `leader` is the earlier name of the same file.
pub(crate) fn write_entry<W: Write>(
    stream: &mut TarStream<'_, W>,
    view: &View,
    entry: &Entry,
    path: &Path,
    leader: Option<&Path>,
    xattrs: &BTreeMap<OsString, Vec<u8>>,
    epoch: Epoch,
) -> Result<()> {
    let metadata = &entry.metadata;
    let (major, minor) = metadata.device_number;
    let target: PathBuf;
    let kind = match (leader, metadata.file_type) {
        (Some(to), _) => NodeKind::HardLink { to },
        (None, FileType::Directory) => NodeKind::Directory,
        (None, FileType::File) => NodeKind::File { size_bytes: metadata.size_bytes },
        (None, FileType::Symlink) => {
            target = view.read_link(entry)?;
            NodeKind::Symlink { target: &target }
        }
        (None, FileType::Fifo) => NodeKind::Fifo,
        (None, FileType::CharDevice) => NodeKind::CharDevice { major, minor },
        (None, FileType::BlockDevice) => NodeKind::BlockDevice { major, minor },
        (None, FileType::Socket) => return Ok(()),
    };
    let modified = metadata.modified_ns.div_euclid(1_000_000_000).min(epoch.0);
    let node =
        Node { path, kind, mode: metadata.mode, uid: metadata.uid, gid: metadata.gid, modified, xattrs };
    if matches!(kind, NodeKind::File { .. }) {
        return stream.file(&node, &mut view.open(entry)?);
    }
    stream.entry(&node)
}

/// An empty file that says something about its directory.
fn marker(path: &Path, epoch: Epoch) -> Node<'_> {
    let kind = NodeKind::File { size_bytes: 0 };
    Node { path, kind, mode: 0, uid: 0, gid: 0, modified: epoch.0, xattrs: &NO_XATTRS }
}

fn whiteout_path(path: &Path) -> Result<PathBuf> {
    refuse_reserved_name(path)?;
    let name = [WHITEOUT, path.file_name().unwrap_or_default().as_bytes()].concat();
    Ok(path.with_file_name(OsString::from_vec(name)))
}

/// Refuses a file whose name readers of layers would take for a deletion.
fn refuse_reserved_name(path: &Path) -> Result<()> {
    match path.file_name().is_some_and(|name| name.as_bytes().starts_with(WHITEOUT)) {
        true => Err(unrepresentable(path, "a name that begins with `.wh.`")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;
