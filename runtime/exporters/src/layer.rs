//! Layers: a snapshot's own changes as a tar that is the same on every machine.
//!
//! In: the diff of a snapshot. Out: a gzip blob, its descriptor and its DiffID, remembered in the store so that no layer is
//! packed twice. Entries are sorted bytewise by path, so a directory comes before what is in it. Deletions become
//! `.wh.<name>`, a directory that hides what is below it is followed by its `.wh..wh..opq`. Times are cut to seconds
//! and clamped to the epoch. Sockets are left out, as a tar cannot hold them; so is the root directory itself.
//! Source: OCI image-spec layer.md.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rb_oci::{Descriptor, Digest, Hasher, MediaType};
use rb_snapshot::{Change, ChangeKind, Diff, Entry, FileType, Follow, SnapshotId, Snapshots, View};
use rb_store::{LayerRow, Store};

use crate::gzip::{LEVEL, ParallelGzip};
use crate::image::describe;
use crate::tar_stream::{NO_XATTRS, Node, NodeKind, TarStream, unrepresentable};
use crate::{Epoch, ExportError, Result};

/// Changes whenever the same snapshot would be packed into other bytes.
const PACKING: u32 = 1;

const WHITEOUT: &[u8] = b".wh.";

/// A packed layer, among the blobs of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The compressed blob.
    pub descriptor: Descriptor,
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
}

/// Packs what a snapshot changed against its parent; `None` where that is nothing. A snapshot that was unpacked from
/// a layer gives that very layer while its blob is there. Uses all cores.
pub fn pack_layer(
    store: &Store,
    snapshots: &Snapshots,
    id: SnapshotId,
    epoch: Epoch,
) -> Result<Option<Layer>> {
    let key =
        Digest::of(format!("layer of snapshot {id}: packing {PACKING}, gzip {LEVEL}, epoch {}", epoch.0));
    for known in [Store::original_layer_key(id), key] {
        if let Some(LayerRow { diff_id, descriptor }) = store.layer(&known)? {
            return Ok(Some(Layer { descriptor, diff_id }));
        }
    }
    let diff = snapshots.diff_of(id)?;
    if !diff.changes.iter().any(is_packed) {
        return Ok(None);
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let view = View::of_directory(snapshots.directory(id));
    let layer = pack_diff(store, &diff, &view, epoch, threads)?;
    store.put_layer(&key, &LayerRow { diff_id: layer.diff_id, descriptor: layer.descriptor.clone() })?;
    Ok(Some(layer))
}

/// Packs a diff whose files are read from `view`.
pub(crate) fn pack_diff(
    store: &Store,
    diff: &Diff,
    view: &View,
    epoch: Epoch,
    threads: usize,
) -> Result<Layer> {
    let gzip = ParallelGzip::new(store.blob_writer()?, threads);
    let mut stream = TarStream::new(Hashed { hasher: Hasher::default(), out: gzip });
    write_diff(&mut stream, diff, view, epoch)?;
    let Hashed { hasher, out } = stream.finish()?;
    let blob = out.finish().map_err(ExportError::Write)?;
    let (digest, size_bytes) = blob.commit(None)?;
    let descriptor = describe(&MediaType::ImageLayerGzip, &digest, size_bytes)?;
    Ok(Layer { descriptor, diff_id: hasher.finish().0 })
}

/// Passes bytes on and hashes them.
struct Hashed<W> {
    hasher: Hasher,
    out: W,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
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

fn write_diff<W: Write>(stream: &mut TarStream<W>, diff: &Diff, view: &View, epoch: Epoch) -> Result<()> {
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
    stream: &mut TarStream<W>,
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
    stream: &mut TarStream<W>,
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
